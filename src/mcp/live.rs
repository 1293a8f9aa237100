//! A call that is carried out, as others see it: its commands, where they run, how far it is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::capture::Capture;
use super::ran::{Ran, State};
use super::text;
use crate::paths::{self, Paths};
use crate::request::Detach;

/// How long a run on a node may take to be let go of.
const LET_GO: Duration = Duration::from_secs(3);

/// One call that is carried out, as others see it.
pub struct Live {
    /// Its commands.
    pub commands: Vec<Command>,
    /// When it was started.
    pub begun: Instant,
    timeout: Duration,
    /// When it is answered whatever it does, and what runs on a node goes on by itself.
    leave_at: Option<Instant>,
}

/// One command of a call.
pub struct Command {
    /// The run's id, and its log's name.
    pub id: String,
    /// The text.
    pub text: String,
    /// Its output.
    pub capture: Capture,
    /// The one node that it may run on, where the call names one.
    bound: Option<String>,
    /// Where it runs, once that is known.
    pub place: Arc<Mutex<Option<String>>>,
    /// Nobody has to wait for it: it goes on here whatever becomes of this server, or has ended.
    pub let_go: watch::Sender<bool>,
    /// What came of it, once that is known.
    ran: OnceLock<Ran>,
}

impl Command {
    /// The file by which what it has run here shares one slot, beside its log.
    pub fn call_file(&self) -> Option<PathBuf> {
        Some(self.capture.path()?.with_extension("room"))
    }

    /// Whether it has been started somewhere.
    pub fn is_placed(&self) -> bool {
        self.place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Where it runs, as far as known; before it was started, where it is to.
    pub fn place(&self) -> String {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place.as_ref().or(self.bound.as_ref());
        place.map_or("none", String::as_str).to_owned()
    }

    /// What came of it, if it has ended.
    pub fn ran(&self) -> Option<&Ran> {
        self.ran.get()
    }

    /// Says what came of it.
    pub fn set_ran(&self, ran: Ran) {
        let _ = self.ran.set(ran);
        self.let_go.send_replace(true);
    }

    /// Says where it runs.
    pub fn set_place(&self, to: &str) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(to.to_owned());
    }
}

/// How far a call is.
pub struct Now {
    /// Seconds since its start.
    pub seconds: f64,
    place: String,
    /// The last line of its output.
    pub line: String,
}

impl Now {
    /// `tower 42s: last line`
    pub fn message(&self) -> String {
        let Now { seconds, place, line } = self;
        if line.is_empty() {
            format!("{place} {seconds:.0}s")
        } else {
            format!("{place} {seconds:.0}s: {line}")
        }
    }
}

impl Live {
    /// A call that begins now.
    pub fn new(paths: &Paths, texts: &[String], timeout: Duration, detach_after: Option<Duration>) -> Live {
        let logs = logs(paths);
        let commands = texts.iter().map(|t| {
            // Its name for life, here and on a node: of one part, as the names of runs that people see are.
            let id = format!("m{:08x}", paths::nonce() & 0xffff_ffff);
            Command {
                capture: Capture::new(&logs, &id),
                id,
                text: t.clone(),
                bound: None,
                place: Arc::default(),
                let_go: watch::Sender::new(false),
                ran: OnceLock::new(),
            }
        });
        let begun = Instant::now();
        Live {
            commands: commands.collect(),
            begun,
            timeout,
            leave_at: detach_after.map(|after| begun + after),
        }
    }

    /// The same for a call that names the node.
    #[must_use]
    pub fn bound_to(mut self, node: &str) -> Live {
        for command in &mut self.commands {
            command.bound = Some(shown(node));
        }
        self
    }

    /// How long each of its commands may take, and when nobody waits for it any more.
    pub fn limits(&self) -> (Duration, Option<Instant>) {
        (self.timeout, self.leave_at)
    }

    /// When its runs on nodes go on without this server.
    pub fn detach(&self) -> Option<Detach> {
        self.leave_at.map(Detach::At)
    }

    /// Whether its time to be answered is past, whatever it does.
    pub fn is_left(&self) -> bool {
        self.leave_at.is_some_and(|at| at <= Instant::now())
    }

    /// Waits until nobody waits for its end any more: until its runs were let go, which takes those on nodes a while; for ever, where calls
    /// are not left.
    pub async fn left(&self) {
        let Some(at) = self.leave_at else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(at.into()).await;
        let late = Instant::now() + LET_GO;
        for command in self.commands.iter().filter(|c| c.ran().is_none()) {
            let mut let_go = command.let_go.subscribe();
            if command.is_placed() {
                // A run on a node that was let go has its result then.
                let _ = tokio::time::timeout_at(late.into(), let_go.wait_for(|yes| *yes)).await;
            }
        }
    }

    /// Whether all of it has ended.
    pub fn has_ended(&self) -> bool {
        self.commands.iter().all(|c| c.ran().is_some())
    }

    /// Its commands as they stand: those that go on are told as detached.
    pub fn so_far(&self) -> Vec<Ran> {
        let still = |c: &Command| Ran {
            place: c.place(),
            state: if c.is_placed() {
                State::Detached
            } else {
                State::Waiting
            },
            took: self.begun.elapsed(),
            reason: String::new(),
            is_plain: false,
            notes: Vec::new(),
            auto_routed: false,
            id: c.id.clone(),
            capture: c.capture.clone(),
        };
        self.commands
            .iter()
            .map(|c| c.ran().cloned().unwrap_or_else(|| still(c)))
            .collect()
    }

    /// How far it is.
    pub fn progress(&self) -> Now {
        let busy = |c: &&Command| c.ran().is_none();
        let one = self.commands.iter().find(busy);
        let line = one.map(|c| c.capture.last_line()).unwrap_or_default();
        let all = self.commands.len();
        let done = all - self.commands.iter().filter(busy).count();
        let place = one.map(Command::place).unwrap_or_default();
        Now {
            seconds: self.begun.elapsed().as_secs_f64(),
            place: if all > 1 {
                format!("{done}/{all} done, {place}")
            } else {
                place
            },
            line,
        }
    }
}

/// Where logs of calls lie.
pub fn logs(paths: &Paths) -> PathBuf {
    paths.state.join("mcp")
}

/// A command or a node's name as it may stand in a list.
pub fn shown(text: &str) -> String {
    crate::node::printable(&text::line(text), 120)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_ended_is_not_waited_for_where_another_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["on a node", "here"].map(str::to_owned);
        let live = Live::new(
            &Paths::under(dir.path()),
            &texts,
            Duration::from_secs(600),
            Some(Duration::ZERO),
        );
        for command in &live.commands {
            command.set_place("somewhere");
        }
        let [node, here] = &live.commands[..] else {
            panic!("two commands")
        };
        here.let_go.send_replace(true);
        let mut left = std::pin::pin!(live.left());
        let short = Duration::from_millis(50);
        assert!(
            tokio::time::timeout(short, &mut left).await.is_err(),
            "it may be let go any moment"
        );
        node.set_ran(Ran::not_run("", node.id.clone(), node.capture.clone()));
        assert!(tokio::time::timeout(LET_GO / 2, left).await.is_ok());
    }
}
