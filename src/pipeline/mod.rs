//! The way of a request: classify, route, sync, run, report. A newcomer reads this file first.
//!
//! All that decides is in [`crate::plan`]; here its inputs are gathered and its answers carried out. Whatever goes
//! wrong on the way, the command still runs: here, with one line that says why.

mod job;
mod judge;
mod remote;
mod told;
mod verbs;

use anyhow::Context;

use crate::client::eligible::{self, owners};
use crate::local;
use crate::node::printable;
use crate::plan::Class;
use crate::plan::route::Route;
use crate::report::{self, NO_NODE};
use crate::request::Request;
use crate::table;

use self::judge::{Case, forced_local, judge};
use self::remote::remote;
use self::told::{tell, tell_history};
pub use self::verbs::{explain, look_at_local, refresh};

/// Runs a request to its end. Returns the exit status, or does not return where the command takes this process's place.
///
/// # Errors
/// Only for a request that cannot be carried out anywhere.
pub fn run(request: Request) -> anyhow::Result<i32> {
    let case = match judge(&request) {
        Ok(case) => case,
        Err(e) => {
            let reason = printable(&format!("{e:#}"), 400);
            if request.demands.require_remote || request.demands.is_pinned() {
                report::line(&format!("not run: {reason}"));
                return Ok(NO_NODE);
            }
            return Ok(here(&request, None, &reason));
        }
    };
    match &case.route {
        Route::Local { reason, .. } if request.demands.require_remote => {
            report::line(&format!(
                "not run: it would run here ({reason}), which --require-remote forbids"
            ));
            Ok(NO_NODE)
        }
        Route::Local { reason, .. } => Ok(here(&request, Some(&case), reason)),
        Route::Impossible { reason, .. } => {
            report::line(&format!("not run: {reason}"));
            tell_history(&request, Some(&case), "none", reason, Some(NO_NODE), None);
            Ok(NO_NODE)
        }
        Route::Nodes { candidates, .. } => {
            let names: Vec<String> = candidates.iter().map(|c| c.name.clone()).collect();
            let runtime = runtime()?;
            let end = runtime.block_on(remote(&request, &case, &names));
            // Threads that read a terminal or write to a reader that has stopped must not hold the exit.
            runtime.shutdown_background();
            match end {
                End::Status(s) => Ok(s),
                End::Signal(n) => Ok(local::die_by(n)),
                End::Here(reason) => Ok(here(&request, Some(&case), &reason)),
            }
        }
    }
}

/// What is left to do after the nodes were tried.
enum End {
    Status(i32),
    Signal(i32),
    Here(String),
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

/// Runs the command in this process's place, after telling so.
fn here(request: &Request, case: Option<&Case>, reason: &str) -> i32 {
    tell(request, &format!("local: {reason}"));
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
    local::run(request)
}
