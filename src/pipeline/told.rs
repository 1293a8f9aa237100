//! What is noted of a run: in the history and in the load table.

use std::sync::Arc;

use crate::history;
use crate::paths::Paths;
use crate::proto::{Load, PathMode};
use crate::request::{Outcome, Request};
use crate::table::Table;

use super::judge::Case;

pub(super) fn tell_history(
    request: &Request,
    case: Option<&Case>,
    place: &str,
    reason: &str,
    status: Option<i32>,
    outcome: Option<&Outcome>,
) {
    let paths = match case {
        Some(c) => c.paths.clone(),
        None => match Paths::from_env() {
            Ok(p) => Arc::new(p),
            Err(_) => return,
        },
    };
    let entry = history::Entry::new(
        request,
        place,
        reason,
        status,
        outcome,
        case.and_then(|c| c.ws.as_ref()).map(|w| w.root.as_path()),
    );
    // A full disk must not keep the command from running.
    let _ = history::append(&paths, &entry);
}

/// Notes what a node said of itself: its load, and how it showed the tree, and why not better.
pub(super) fn note_load(case: &Case, node: &str, load: Load, paths: Option<(PathMode, String)>) {
    let _ = Table::update(&case.paths, |t| {
        let state = t.nodes.entry(node.to_owned()).or_default();
        state.load = Some(load);
        if let Some((mode, why_not)) = paths {
            state.paths = Some(mode);
            state.paths_why = Some(why_not).filter(|w| !w.is_empty());
        }
        state.seen_ms = crate::agent::now_ms();
    });
}

pub(super) fn note_failures<'a>(case: &Case, failed: impl Iterator<Item = (&'a str, String)>) {
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() {
        return;
    }
    let _ = Table::update(&case.paths, |t| {
        for (node, what) in &failed {
            t.nodes
                .entry((*node).to_owned())
                .or_default()
                .failed(what, crate::agent::now_ms());
        }
    });
}
