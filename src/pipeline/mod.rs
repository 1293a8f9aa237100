//! The way of a request: classify, route, sync, run, report. A newcomer reads this file first.
//!
//! All that decides is in [`crate::plan`]; here its inputs are gathered and its answers carried out. Whatever goes
//! wrong on the way, the command still runs: here, with one line that says why.

pub mod detached;
mod door;
mod errand;
mod job;
mod judge;
mod remote;
mod script;
mod told;
mod verbs;

use std::sync::Arc;

use anyhow::Context;

use crate::client::eligible::{self, owners};
use crate::client::fails_there;
use crate::inflight::Inflight;
use crate::learned;
use crate::local;
use crate::node::printable;
use crate::plan::Class;
use crate::plan::manifest::{Generation, generation};
use crate::plan::route::Route;
use crate::report::{NO_NODE, Told};
use crate::request::{Detach, Ending, Outcome, Request};
use crate::room::{Room, Rooms};
use crate::table;

pub use self::detached::State;
pub use self::door::Door;
use self::door::Terminal;
pub use self::errand::{pull, push};
pub use self::judge::usual_ms;
use self::judge::{Case, forced_local, judge, learned_key};
use self::remote::remote;
use self::told::tell_history;
pub use self::verbs::{explain, look_at_local, refresh, refresh_promising, refresh_stale, why_here};

/// How a request ended.
#[derive(Debug)]
pub enum End {
    /// It ran on a node, or could not be run where it had to.
    Done(Box<Outcome>),
    /// This signal, or the caller's wish, ended it before its command started.
    Interrupted(i32),
    /// It is to run here, for this reason, which was told already; in this room, where it waited for one besides a node.
    Here(String, Option<Room>),
}

/// Runs a request to its end at the terminal, or wherever this process was started from. Returns the exit status, or does not
/// return where the command takes this process's place.
///
/// # Errors
/// Only for a request that cannot be carried out anywhere.
pub fn run(request: Request) -> anyhow::Result<i32> {
    let mut told: Box<dyn Told> = Box::new(Terminal::of(&request));
    let (end, case) = match before(&request, judge(&request), &mut *told) {
        Step::End(end, case) => (end, case),
        Step::Nodes(case, names) => {
            let runtime = runtime()?;
            let end = runtime.block_on(async {
                match Door::terminal(&request) {
                    Ok(mut door) => {
                        door.rooms = Rooms::of_call();
                        let end = remote(&request, &case, &names, &mut door, None).await;
                        with_room(end, &mut door).await
                    }
                    Err(e) => End::Here(format!("signals can't be handled: {e}"), None),
                }
            });
            // Threads that read a terminal or write to a reader that has stopped must not hold the exit.
            runtime.shutdown_background();
            (end, Some(case))
        }
    };
    Ok(match end {
        End::Done(outcome) if outcome.own_status == 0 && outcome.ending.is_none() => {
            // Detached on purpose: its id is what a script wants of it.
            use std::io::Write;
            writeln!(std::io::stdout(), "{}", outcome.run_id)?;
            0
        }
        End::Done(outcome) => match outcome.ending {
            Some(Ending::Signal(n)) => local::die_by(n),
            Some(Ending::Code(c)) => c,
            None => outcome.own_status,
        },
        End::Interrupted(n) => local::die_by(n),
        End::Here(reason, room) => {
            comes_here(&request, case.as_deref(), &reason, &mut *told);
            if let Some(case) = &case
                && case.verdict.class == Class::Heavy
                && std::env::var_os("CX_INSIDE").is_none()
                && let Some(key) = learned_key(&request, case.ws.as_ref())
            {
                learned::watch_this_process(&case.paths, key);
            }
            match case.as_deref().and_then(|c| suspect(&request, c)) {
                Some((ws, key, tree)) => match local::run_and_see(&request) {
                    Ending::Code(code) => {
                        if code == 0
                            && let Some(case) = &case
                        {
                            fails_there::passed_here(&case.paths, &ws, key, &tree);
                        }
                        code
                    }
                    Ending::Signal(n) => local::die_by(n),
                },
                // The slot is this process's, and not that of all that the command leaves behind.
                None if room.is_some() => match local::run_and_see(&request) {
                    Ending::Code(code) => code,
                    Ending::Signal(n) => local::die_by(n),
                },
                None => local::run(&request),
            }
        }
    })
}

/// What comes here waits for a slot of this machine, where the door has some to give.
async fn with_room(end: End, door: &mut Door) -> End {
    match (end, door.rooms.clone()) {
        (End::Here(reason, None), Some(rooms)) => tokio::select! {
            room = rooms.free() => End::Here(reason, Some(room)),
            Some(order) = door.orders.recv() => End::Interrupted(order.signal()),
        },
        (end, _) => end,
    }
}

/// What is to be known of a command that failed on a node a while ago and runs here now: its workspace, key and tree.
fn suspect(request: &Request, case: &Case) -> Option<(String, u64, Generation)> {
    let ws = case.ws.as_ref()?;
    let key = learned_key(request, Some(ws))?;
    if std::env::var_os("CX_INSIDE").is_some() || !fails_there::is_suspect(&case.paths, &ws.key, key) {
        return None;
    }
    let (argv, cwd) = (&request.argv, &request.cwd);
    let (tree, _) = job::scan(
        ws.clone(),
        argv,
        cwd,
        &case.verdict,
        &case.config,
        case.paths.clone(),
        case.fit.setup.allowed(),
    )
    .ok()?;
    Some((ws.key.clone(), key, generation(&tree.scan.manifest)))
}

/// Runs a request to its end for a front end that is no terminal. [`End::Here`] leaves the command to the front end, which runs it
/// on this machine by its own means; everything else is done when this returns.
pub async fn execute(request: Arc<Request>, door: Door) -> End {
    let placed = place(request.clone()).await;
    execute_placed(&request, placed, door).await
}

/// A request that was judged, and counts from then on as a run on the node it will go to first: of several that are placed one
/// after the other and started together, each knows of those before it.
pub struct Placed {
    judged: anyhow::Result<Case>,
    flight: Option<Inflight>,
}

impl Placed {
    /// Whether it goes to a node first, and how many slots the nodes have that may take it.
    pub fn slots(&self) -> Option<u32> {
        let case = self.judged.as_ref().ok()?;
        let Route::Nodes { candidates, .. } = &case.route else {
            return None;
        };
        let slots = |name: &str| {
            let configured = case.config.nodes.iter().find(|n| n.name == name)?.slots;
            configured.or_else(|| Some(case.table.nodes.get(name)?.facts.as_ref()?.slots))
        };
        Some(
            candidates
                .iter()
                .map(|c| slots(&c.name).unwrap_or(1).max(1))
                .sum(),
        )
    }
}

/// Judges a request and reserves its place.
pub async fn place(request: Arc<Request>) -> Placed {
    let judging = tokio::task::spawn_blocking(move || judge(&request));
    let judged = judging
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("judging it failed")));
    let flight = match &judged {
        Ok(Case {
            route: Route::Nodes { candidates, .. },
            paths,
            ..
        }) => candidates
            .first()
            .map(|first| Inflight::enter(paths, &first.name)),
        _ => None,
    };
    Placed { judged, flight }
}

/// Runs what was placed, as [`execute`] does.
pub async fn execute_placed(request: &Request, placed: Placed, mut door: Door) -> End {
    let Placed { judged, flight } = placed;
    let (end, case) = match before(request, judged, &mut *door.told) {
        Step::End(end, case) => (end, case),
        Step::Nodes(case, names) => (
            remote(request, &case, &names, &mut door, flight).await,
            Some(case),
        ),
    };
    if let End::Here(reason, _) = &end {
        comes_here(request, case.as_deref(), reason, &mut *door.told);
    }
    end
}

/// What follows from the judgement.
enum Step {
    End(End, Option<Box<Case>>),
    Nodes(Box<Case>, Vec<String>),
}

fn before(request: &Request, judged: anyhow::Result<Case>, told: &mut dyn Told) -> Step {
    let case = match judged {
        Ok(case) => Box::new(case),
        Err(e) => {
            let reason = printable(&format!("{e:#}"), 400);
            if request.demands.require_remote || request.demands.is_pinned() {
                told.line(&format!("not run: {reason}"));
                return Step::End(not_run(&reason), None);
            }
            return Step::End(End::Here(reason, None), None);
        }
    };
    if case.verdict.class == Class::Unknown {
        // One of these rules may have been meant for it.
        for doubt in case.config.doubts() {
            told.line(&printable(&doubt, 300));
        }
    }
    let end = match &case.route {
        Route::Local { reason, .. } if request.demands.require_remote => {
            let forbids = match request.demands.detach {
                Some(Detach::AtOnce) => "and only a run on a node can be detached",
                _ => "which --require-remote forbids",
            };
            let reason = format!("it would run here ({reason}), {forbids}");
            told.line(&format!("not run: {reason}"));
            not_run(&reason)
        }
        Route::Local { reason, .. } => End::Here(reason.clone(), None),
        Route::Impossible { reason, .. } => {
            told.line(&format!("not run: {reason}"));
            tell_history(request, Some(&case), "none", reason, Some(NO_NODE), None);
            not_run(reason)
        }
        Route::Nodes { candidates, .. } => {
            let names = candidates.iter().map(|c| c.name.clone()).collect();
            return Step::Nodes(case, names);
        }
    };
    Step::End(end, Some(case))
}

fn not_run(reason: &str) -> End {
    End::Done(Box::new(Outcome::own("none", reason, NO_NODE)))
}

/// The runtime of everything that talks to nodes.
///
/// # Errors
/// When the system gives no more descriptors.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")
}

/// Tells that the command runs here, and why.
fn comes_here(request: &Request, case: Option<&Case>, reason: &str, told: &mut dyn Told) {
    told.report(&format!("local: {reason}"));
    tell_history(request, case, "local", reason, None, None);
    if let Some(case) = case
        && let Some(ws) = &case.ws
    {
        let dirs = eligible::touched(&case.verdict.workload, &request.cwd, &ws.root);
        owners::note(&case.paths, &ws.key, &ws.root, &dirs, None);
    }
    if let Some(case) = case
        && case.verdict.class == Class::Heavy
        && forced_local(request, &case.paths).is_none()
    {
        // Whoever runs here for want of a node looks for one, for the next time.
        table::refresh_if_stale(&case.paths, &case.config);
    }
}
