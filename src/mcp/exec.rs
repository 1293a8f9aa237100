//! Carries out what a call asks for: in a local shell with its heavy parts rewritten, or in one shell on a node.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::live::{Command, Live};
use super::ran::{Ran, State};
use super::tools::Call;
use super::{batch, keeper, shell};
use crate::client::kept;
use crate::client::run::Order;
use crate::client::stdio::Output;
use crate::client::terminal::Terminal;
use crate::config::Config;
use crate::hook;
use crate::paths::{AnyPath, Paths, now_ms};
use crate::pipeline::{self, Door, End, Placed, detached};
use crate::progress::Step;
use crate::report::{LOST, Told};
use crate::request::{Demands, Request};
use crate::room::{self, Rooms};

/// After the wish to end it, a run may take so long: TERM, KILL after two seconds, and what it changed on its way back.
const GRACE: Duration = Duration::from_secs(6);

/// How long a node may take to hear that a run's time is over, how long is waited until it is told again, and how often.
const TELL: Duration = Duration::from_secs(10);
const TELL_TIMES: u32 = 100;

/// What may end a run from outside.
#[derive(Clone)]
pub struct Ended {
    /// The caller wants no more of it.
    pub cancelled: watch::Receiver<bool>,
    /// The server ends.
    pub stop: watch::Receiver<bool>,
}

/// Waits until a flag is raised; for ever, where nobody is left to raise it.
pub async fn raised(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|f| *f).await.is_err() {
        std::future::pending().await
    }
}

/// Carries out a call: when this returns, each of its commands has its result. What a rule of a project of `also` may concern does not
/// leave this machine unasked.
pub async fn carry_out(
    call: &Call,
    cwd: PathBuf,
    also: &[PathBuf],
    live: &Arc<Live>,
    ended: Ended,
    rooms: &Arc<Rooms>,
) {
    let demands = match call {
        Call::Parallel { .. } => return batch::carry_out(cwd, live, ended, rooms).await,
        Call::Offload { node, .. } => Demands {
            on: Some(node.clone()),
            ..Demands::default()
        },
        Call::Bash { os, arch, .. } => Demands {
            os: os.clone(),
            arch: arch.clone(),
            ..Demands::default()
        },
        Call::Status => return,
    };
    let Some(command) = live.commands.first() else {
        return;
    };
    let dir = cwd.clone();
    let ran = if demands.is_pinned() {
        let demands = Demands {
            detach: live.detach(),
            name: Some(command.id.clone()),
            ..demands
        };
        let request = Arc::new(Request::script(&command.text, cwd, demands));
        let placed = pipeline::place(request.clone()).await;
        on_node(&request, placed, command, live.limits(), ended, None).await
    } else {
        let stays = matches!(
            call,
            Call::Bash {
                auto_route: false,
                ..
            }
        );
        let may_leave = (!stays).then_some(also);
        here(&command.text, &cwd, may_leave, command, live.limits(), ended).await
    };
    over(live, command, &dir, ran).await;
}

/// Says what came of a command. Where its caller was answered before and it ended sooner than it could be left to itself, its end is
/// written down first: whoever is told of it finds it also when this server is gone.
pub async fn over(live: &Live, command: &Command, cwd: &Path, ran: Ran) {
    if let (State::Ended(ending), true) = (&ran.state, live.is_left())
        && let Ok(paths) = Paths::from_env()
    {
        let (ending, took, place) = (*ending, ran.took, ran.place.clone());
        let (id, text, log) = (command.id.clone(), command.text.clone(), command.capture.path());
        let cwd = cwd.to_owned();
        let writing = tokio::task::spawn_blocking(move || {
            if kept::find(&paths, &id).is_ok() {
                return;
            }
            let own = kept::here::Own {
                id: &id,
                text: &text,
                cwd: &cwd,
                log: log.as_deref(),
                started_ms: now_ms().saturating_sub(took.as_millis() as u64),
            };
            // Without the record it is known for as long as this server lives.
            let _ = kept::here::over(&paths, &own, &place, ending);
        });
        let _ = writing.await;
    }
    command.set_ran(ran);
}

/// Why a run ended.
enum Why {
    Itself,
    TimedOut,
    Cancelled,
}

/// Lets a run go on until it ends or is to end; then it is told so, and waited for a while.
async fn until<T>(
    run: impl Future<Output = T>,
    orders: mpsc::Sender<Order>,
    timeout: Duration,
    mut ended: Ended,
) -> (Option<T>, Why) {
    let mut run = std::pin::pin!(run);
    let why = tokio::select! {
        done = &mut run => return (Some(done), Why::Itself),
        () = tokio::time::sleep(timeout) => Why::TimedOut,
        () = raised(&mut ended.cancelled) => Why::Cancelled,
        () = raised(&mut ended.stop) => Why::Cancelled,
    };
    let _ = orders.send(Order::Cancel).await;
    // What does not end by then ends with its connection.
    (tokio::time::timeout(GRACE, run).await.ok(), why)
}

fn state(why: &Why, timeout: Duration, own: State) -> State {
    match why {
        Why::Itself => own,
        Why::TimedOut => State::TimedOut(timeout.as_secs()),
        Why::Cancelled => State::Cancelled,
    }
}

/// Hears what is told of a run on a node.
struct Listener {
    place: Arc<Mutex<Option<String>>>,
    notes: Arc<Mutex<Vec<String>>>,
    /// What takes its time now.
    step: Arc<Mutex<Option<Step>>>,
}

impl Told for Listener {
    fn line(&mut self, text: &str) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text.to_owned());
    }

    fn report(&mut self, _text: &str) {
        // The outcome has all of it.
    }

    fn progress(&mut self, step: Step) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
    }

    fn started(&mut self, node: &str, _id: &str) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.to_owned());
    }
}

/// Ends a run that goes on on a node without its caller once its time is over, if this server lives until then. `timeout`, seconds, is what
/// is said to have ended it.
async fn end_late(id: String, left: Duration, timeout: Option<u64>) {
    tokio::time::sleep(left).await;
    let Ok(paths) = Paths::from_env() else { return };
    // A node that can't be told now is told later.
    for _ in 0..TELL_TIMES {
        let (Ok(record), Ok(config)) = (kept::find(&paths, &id), Config::load(&paths)) else {
            return;
        };
        if let Some(timeout) = timeout.filter(|_| record.ending.is_none()) {
            // First, so that whoever sees the end knows why.
            kept::timed_out(&paths, &record, timeout);
        }
        if record.ending.is_some() || detached::stop(&record, &config, &paths, TELL).await.is_ok() {
            return;
        }
        tokio::time::sleep(TELL).await;
    }
}

/// Runs a text in one shell on a node, for so long and left alone from that moment on; where the pipeline has it run here, in one
/// here, as soon as one of `rooms` is free.
pub async fn on_node(
    request: &Request,
    placed: Placed,
    command: &Command,
    (timeout, leave_at): (Duration, Option<Instant>),
    mut ended: Ended,
    rooms: Option<Arc<Rooms>>,
) -> Ran {
    let begun = Instant::now();
    let (orders, receiver) = mpsc::channel(4);
    let notes = Arc::new(Mutex::new(Vec::new()));
    let step = Arc::new(Mutex::new(None));
    let door = Door {
        output: Output::to(
            Box::new(command.capture.clone()),
            Box::new(command.capture.clone()),
        ),
        one_pipe: true,
        stdin: false,
        orders: receiver,
        terminal: Terminal::look(false),
        told: Box::new(Listener {
            place: command.place.clone(),
            notes: notes.clone(),
            step: step.clone(),
        }),
        rooms: rooms.clone(),
    };
    let run = pipeline::execute_placed(request, placed, door);
    let (end, why) = until(run, orders, timeout, ended.clone()).await;
    let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
    let step = step.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A node that does not answer may have started what it was told to.
    let may_run = command.is_placed() || end.is_none() && matches!(step, Some(Step::Starting(_)));
    let (id, capture) = (command.id.clone(), command.capture.clone());
    let not_begun = |state, reason: String| Ran {
        state,
        place: command.place(),
        took: begun.elapsed(),
        ..Ran::not_run(reason, command.id.clone(), command.capture.clone())
    };
    let is_over =
        matches!(&end, Some(End::Done(outcome)) if outcome.own_status != LOST || outcome.not_back.is_some());
    if !matches!(why, Why::Itself) && may_run && !is_over {
        // Nobody knows whether the node has heard of it.
        let limit = matches!(why, Why::TimedOut).then_some(timeout.as_secs());
        tokio::spawn(end_late(id.clone(), Duration::ZERO, limit));
    }
    match end {
        Some(End::Here(reason, room)) if matches!(why, Why::Itself) => {
            let left = timeout.saturating_sub(begun.elapsed());
            // That others are before it here is not its time.
            let room = match (room, rooms) {
                (None, Some(rooms)) => tokio::select! {
                    room = rooms.free() => Some(room),
                    () = raised(&mut ended.cancelled) => return not_begun(State::Cancelled, reason),
                    () = raised(&mut ended.stop) => return not_begun(State::Cancelled, reason),
                },
                (room, _) => room,
            };
            let mut ran = here(
                &request.script.clone().unwrap_or_default(),
                &request.cwd,
                None,
                command,
                (left, leave_at),
                ended,
            )
            .await;
            drop(room);
            (ran.reason, ran.is_plain) = (reason, false);
            ran.took = begun.elapsed();
            ran
        }
        Some(End::Done(outcome)) => {
            let mut ran = Ran::of(*outcome, notes, begun.elapsed(), id, capture);
            if ran.state != State::NotRun {
                if matches!(
                    (&ran.state, &why),
                    (State::NotBack(_), Why::TimedOut | Why::Cancelled)
                ) {
                    ran.notes.insert(0, ran.reason.clone());
                }
                ran.state = state(&why, timeout, ran.state);
            }
            if ran.state == State::Detached {
                let left = timeout.saturating_sub(begun.elapsed());
                tokio::spawn(end_late(ran.id.clone(), left, Some(timeout.as_secs())));
            }
            ran
        }
        // Nobody would know from its place alone that it never ran.
        _ if matches!(why, Why::TimedOut) && !may_run => Ran {
            notes,
            ..not_begun(
                State::NotStarted(timeout.as_secs()),
                step.map_or("not started".into(), |s| format!("not started: {s}")),
            )
        },
        // It was ended before it started, or did not end in time.
        _ => Ran {
            place: command.place(),
            state: match why {
                Why::TimedOut => State::Untold(timeout.as_secs()),
                Why::Cancelled | Why::Itself => State::Cancelled,
            },
            took: begun.elapsed(),
            reason: String::new(),
            is_plain: false,
            notes,
            auto_routed: false,
            id,
            capture,
        },
    }
}

/// Runs a text in one shell on this machine, for so long and left alone from that moment on, rewritten as the hook would where parts
/// of it may leave: all but what a rule of the projects of `may_leave` may concern.
pub async fn here(
    text: &str,
    cwd: &Path,
    may_leave: Option<&[PathBuf]>,
    command: &Command,
    (timeout, leave_at): (Duration, Option<Instant>),
    ended: Ended,
) -> Ran {
    let begun = Instant::now();
    // The `cx` in it finds the hook's note by this name, and leaves its reports under it.
    let session = format!("mcp-{}", command.id);
    let rewritten = match may_leave {
        Some(also) => {
            let (text, cwd, also) = (text.to_owned(), cwd.to_owned(), also.to_owned());
            let session = session.clone();
            let rewriting = tokio::task::spawn_blocking(move || {
                hook::rewritten(&text, &cwd, &also, &session, &shell::program())
            });
            rewriting.await.unwrap_or_default()
        }
        None => None,
    };
    command.set_place("local");
    let call = command.call_file();
    let mut more: Vec<(OsString, OsString)> = vec![("CLAUDE_CODE_SESSION_ID".into(), session.clone().into())];
    match (may_leave, &call) {
        (None, _) => more.push(("CX_LOCAL".into(), "1".into())),
        (Some(_), Some(call)) => more.push((room::CALL.into(), call.into())),
        (Some(_), None) => {}
    }
    let (orders, mut receiver) = mpsc::channel(4);
    let task = keeper::Task {
        id: command.id.clone(),
        shown: text.to_owned(),
        text: rewritten.unwrap_or_else(|| text.to_owned()),
        cwd: AnyPath(cwd.to_owned()),
        log: command.capture.leave_log(),
        timeout_ms: timeout.as_millis() as u64,
    };
    let env = shell::environment(more);
    let run = keeper::run(
        &task,
        env,
        &command.capture,
        &mut receiver,
        leave_at.map(Into::into),
        || _ = command.let_go.send_replace(true),
    );
    let (end, why) = until(run, orders, timeout, ended).await;
    if let Some(call) = call {
        let _ = std::fs::remove_file(call);
    }
    let reports = Paths::from_env()
        .ok()
        .and_then(|p| hook::note::finish(&p.state, &session, "", false).reports)
        .unwrap_or_default();
    let (id, capture) = (command.id.clone(), command.capture.clone());
    if let Some(Err(e)) = &end {
        let why = if cwd.is_dir() {
            format!("the shell {} can't be started: {e}", shell::program().display())
        } else {
            format!("the directory `{}` is gone", cwd.display())
        };
        return Ran::not_run(why, id, capture);
    }
    let own = match end {
        Some(Ok(ending)) => State::Ended(ending),
        _ => State::Cancelled,
    };
    let told = Reports::read(&reports);
    let took = begun.elapsed();
    // What came after the part that was on a node, or ended it, was here.
    let is_nodes = match (told.status, &own) {
        (Some(status), State::Ended(ending)) => status == ending.shell_status(),
        _ => true,
    };
    let place = if is_nodes {
        told.place
    } else {
        format!("{}+local", told.place)
    };
    let (reason, is_plain) = match (told.reason, may_leave) {
        (reason, _) if !reason.is_empty() || told.left => (reason, false),
        (_, None) => ("auto_route is false".into(), true),
        (_, Some(also)) => {
            let (text, cwd, also) = (text.to_owned(), cwd.to_owned(), also.to_owned());
            let judging = tokio::task::spawn_blocking(move || {
                let (reason, is_heavy) = pipeline::why_here(&text, &cwd)?;
                let rule = is_heavy.then(|| hook::rule_about(&text, &cwd, &also)).flatten();
                let by_rule = rule
                    .map(|r| format!("your rule {r} may concern it, and what one may concern stays here"));
                anyhow::Ok((by_rule.unwrap_or(reason), is_heavy))
            });
            match judging.await {
                Ok(Ok((reason, is_heavy))) => (reason, !is_heavy),
                Ok(Err(e)) => (crate::node::printable(&format!("{e:#}"), 400), false),
                Err(_) => Default::default(),
            }
        }
    };
    Ran {
        place,
        state: state(&why, timeout, own),
        took,
        reason,
        is_plain,
        notes: told.notes,
        auto_routed: told.left,
        id,
        capture,
    }
}

/// What the runs of a rewritten text reported.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reports {
    place: String,
    reason: String,
    notes: Vec<String>,
    left: bool,
    /// The exit status of the last of them that was on a node, as a shell shows it.
    status: Option<i32>,
}

impl Reports {
    fn read(text: &str) -> Reports {
        let mut places: Vec<&str> = Vec::new();
        let mut reports = Reports::default();
        for line in text.lines().filter(|l| !l.is_empty()) {
            if let Some(reason) = line.strip_prefix("local: ") {
                reason.clone_into(&mut reports.reason);
                continue;
            }
            // `tower · sync 12 files 0.2s · ran 18.2s · exit 1 · 2 files back`
            let parts: Vec<&str> = line.split(" · ").collect();
            if parts.len() >= 4 && parts[1].starts_with("sync ") {
                if !places.contains(&parts[0]) {
                    places.push(parts[0]);
                }
                reports.status = parts[3].split_once(' ').and_then(|(how, n)| {
                    let n: i32 = n.parse().ok()?;
                    Some(if how == "signal" { 128 + n } else { n })
                });
                reports.notes.extend(parts[4..].iter().map(|p| (*p).to_owned()));
            } else {
                reports.notes.push(line.to_owned());
            }
        }
        reports.left = !places.is_empty();
        reports.place = if places.is_empty() {
            "local".into()
        } else {
            places.join("+")
        };
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_name_the_places() {
        let one =
            Reports::read("tower · sync 12 files 0.2s · ran 18.2s · exit 1 · 2 files back · stale here: x");
        assert_eq!(
            (one.place.as_str(), one.left, one.status),
            ("tower", true, Some(1))
        );
        assert_eq!(one.notes, ["2 files back", "stale here: x"]);
        let two = Reports::read(
            "a · sync 0 files 0.0s · ran 1.0s · exit 0\nb · sync 0 files 0.0s · ran 1.0s · signal 15",
        );
        assert_eq!((two.place.as_str(), two.status), ("a+b", Some(143)));
        let here = Reports::read("local: no node has `pytest`");
        assert_eq!(
            (here.place.as_str(), here.reason.as_str(), here.left),
            ("local", "no node has `pytest`", false)
        );
        assert_eq!(Reports::read("").place, "local");
    }
}
