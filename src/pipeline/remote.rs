//! Tries the nodes in order until one has run the command.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::eligible::{self, owners};
use crate::client::kept;
use crate::client::reach;
use crate::client::run::{self, Again, Caller, Job, Ran, RunError, Terms, Way};
use crate::client::stdio::Input;
use crate::client::tree::{self, Tree};
use crate::client::{differs, fails_there, forward, shared};
use crate::config::{NodeConfig, WhenFull};
use crate::inflight::Inflight;
use crate::learned;
use crate::node::printable;
use crate::paths;
use crate::plan::Class;
use crate::plan::learned::trips;
use crate::plan::manifest::generation;
use crate::plan::route::Route;
use crate::progress::Step;
use crate::proto::{PathMode, PathsWish};
use crate::report::{self, DETACHED, LOST, NO_NODE, Told};
use crate::request::{Detach, Ending, Outcome, Request};
use crate::table::{self, NodeClock, Table};

use super::job::{make_job, run_id, scan, scan_beside, scope};
use super::judge::{Case, decide, learned_key, local_facts, local_view, node_view};
use super::told::{note_failures, note_load, tell_history};
use super::{Door, End, detached, not_run};

/// Nodes tried with the command before it waits or runs locally.
const TRIES: usize = 3;

/// Tries the nodes in order. `reserved` counts as a run until a node is asked.
pub(super) async fn remote(
    request: &Request,
    case: &Case,
    names: &[String],
    door: &mut Door,
    mut reserved: Option<Inflight>,
) -> End {
    let mut open: Vec<NodeConfig> = names
        .iter()
        .filter_map(|n| case.config.nodes.iter().find(|c| c.name == *n).cloned())
        .collect();
    let pinned = request.demands.is_pinned();
    let limit = if pinned { reach::NAMED } else { reach::TOGETHER };
    door.told.progress(Step::Connecting(names.join(", ")));
    if let Some(ws) = &case.ws {
        let quiet = request.demands.quiet;
        detached::fetch(&case.paths, &case.config, &ws.root, quiet, &mut *door.told).await;
    }
    let read = || {
        tokio::task::spawn_blocking({
            let (ws, paths, config) = (case.ws.clone(), case.paths.clone(), case.config.clone());
            let (cwd, verdict) = (request.cwd.clone(), case.verdict.clone());
            let argv = request.argv.clone();
            let set_up = case.fit.setup.allowed().to_vec();
            move || {
                ws.map(|ws| scan(ws, &argv, &cwd, &verdict, &config, paths, &set_up))
                    .transpose()
            }
        })
    };
    let shares = |node: &str| {
        let root = case.ws.as_ref().map(|w| &w.root).filter(|_| case.fit.shared);
        root.is_some_and(|r| !shared::is_apart(&case.paths, node, r))
    };
    // What is used in place need not be read.
    let mut tree = (!case.fit.shared).then(read);
    let mut is_read = false;
    let mut job: Option<Job> = None;
    let mut why: BTreeMap<String, String> = BTreeMap::new();
    let mut full: Vec<NodeConfig> = Vec::new();
    let mut input = Input::empty();
    let mut tries = 0;
    let mut clocks = known_clocks(case);
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(800));
        let waiting = open.is_empty() && !full.is_empty();
        let mut rooms = None;
        if waiting {
            if !pinned && !may_wait(case) {
                rooms = door.rooms.clone();
                match rooms.as_ref().map(|r| r.take()) {
                    None => return End::Here(away(&why), None),
                    Some(Some(room)) => return End::Here(away(&why), Some(room)),
                    // Whatever comes free first: a slot of a node, or one here.
                    Some(None) => {}
                }
            }
            open = std::mem::take(&mut full);
        }
        if open.is_empty() || (tries >= TRIES && !waiting) {
            break;
        }
        let asked: Vec<&str> = open.iter().map(|n| n.name.as_str()).collect();
        door.told.progress(Step::Connecting(asked.join(", ")));
        let reached = tokio::select! {
            r = reach::first(&open, &clocks, &case.config, &case.paths, left) => r,
            Some(order) = door.orders.recv() => return End::Interrupted(order.signal()),
        };
        for (i, e) in &reached.failed {
            why.insert(open[*i].name.clone(), e.to_string());
        }
        note_failures(
            case,
            reached
                .failed
                .iter()
                .map(|(i, e)| (open[*i].name.as_str(), e.to_string())),
        );
        let dead: Vec<String> = reached
            .failed
            .iter()
            .map(|(i, _)| open[*i].name.clone())
            .collect();
        let Some((i, way)) = reached.way else {
            for n in &open {
                why.entry(n.name.clone())
                    .or_insert_with(|| "no answer in time".into());
            }
            break;
        };
        let node = open[i].clone();
        open.retain(|n| n.name != node.name && !dead.contains(&n.name));
        // A node met for the first time was a candidate for want of knowledge.
        let unknown = case.table.nodes.get(&node.name).is_none_or(|s| s.facts.is_none());
        if unknown && let Way::Greeted(link) = &way {
            reach::note_answer(&case.paths, link);
            if let Some(reason) = unfit(request, case, &node.name) {
                why.insert(node.name, reason);
                continue;
            }
        }
        let in_place = shares(&node.name);
        if in_place && job.is_none() {
            let j = make_job(request, case, None, door);
            input = door.input(j.stdin);
            job = Some(j);
        }
        if !in_place && let Some(reason) = &case.fit.unless_shared {
            why.insert(node.name, reason.clone());
            continue;
        }
        if let Some(ws) = case.ws.as_ref().filter(|_| !in_place) {
            way.prepare(&node.name, ws, &case.paths).await;
        }
        if !in_place && !std::mem::replace(&mut is_read, true) {
            door.told.progress(Step::Reading);
            let tree = tree.take().unwrap_or_else(read);
            let tree = tree.await.unwrap_or_else(|_| Err("the scan failed".into()));
            match tree {
                Ok(scanned) => {
                    let (tree, lines) = scanned.unzip();
                    lines.iter().flatten().for_each(|l| door.told.line(l));
                    // Who names a node knows what lies there.
                    if let Some(reason) = tree.as_ref().and_then(|t| t.stays.clone()).filter(|_| !pinned) {
                        if request.demands.require_remote {
                            door.told.line(&format!("not run: {reason}"));
                            return not_run(&reason);
                        }
                        return End::Here(reason, None);
                    }
                    let mut j = make_job(request, case, tree, door);
                    j.also = match beside(case).await {
                        Ok(trees) => trees,
                        Err(e) if pinned || request.demands.require_remote => {
                            door.told.line(&format!("not run: {e}"));
                            return not_run(&e);
                        }
                        Err(e) => return End::Here(e, None),
                    };
                    if job.is_none() {
                        input = door.input(j.stdin);
                    }
                    job = Some(j);
                }
                Err(e) if pinned || request.demands.require_remote => {
                    let reason = format!("the workspace can't be read: {e}");
                    door.told.line(&format!("not run: {reason}"));
                    return not_run(&reason);
                }
                Err(e) => return End::Here(format!("the workspace can't be read: {e}"), None),
            }
        }
        let Some(job) = &mut job else { break };
        job.id = run_id(request.demands.name.as_deref());
        let mut mark = None;
        job.shared = None;
        if in_place && let Some(ws) = &case.ws {
            match shared::Mark::make(&ws.root, &request.cwd.canonicalize().unwrap_or_default()) {
                Ok((made, proof)) => (mark, job.shared) = (Some(made), Some(proof)),
                Err(reason) => {
                    apart(case, &node.name, &reason, door);
                    open.insert(0, node);
                    continue;
                }
            }
        }
        let native = job.tree.clone();
        if is_foreign(case, &node) {
            job.tree = native.as_ref().map(|t| Arc::new(t.for_another_platform()));
        }
        // It may have been read for another node.
        let aside = in_place.then(|| (job.tree.take(), std::mem::take(&mut job.also)));
        let _flight = Inflight::enter(&case.paths, &node.name);
        drop(reserved.take());
        let allow_overload = case.config.policy.allow_overload;
        let terms = Terms {
            slots: node.slots,
            allow_overload,
            // What it reads lies on this node only.
            insist: pinned || waiting || case.fit.owner.is_some(),
            scope: scope(node.write_back),
            paths: node.paths,
            first_failure: is_first_failure(request, case, &node.name),
        };
        let forwarded = match forward::open(&node, &case.config, &case.paths).await {
            Ok(f) => f,
            Err(reason) => {
                why.insert(node.name.clone(), reason);
                continue;
            }
        };
        tries += 1;
        let mut caller = Caller {
            output: &door.output,
            input: &mut input,
            orders: &mut door.orders,
            terminal: &mut door.terminal,
            told: &mut *door.told,
            rooms: rooms.as_deref(),
        };
        let again = Again {
            node: &node,
            config: &case.config,
            paths: &case.paths,
        };
        let result = run::run(way, again, job, &terms, &mut caller).await;
        forwarded.close().await;
        drop(mark);
        if let (Err(_), Some(read)) = (&result, aside) {
            (job.tree, job.also) = read;
        }
        if result.is_err() {
            job.tree = native;
        }
        match result {
            Ok(ran) => {
                door.told.progress(Step::Running);
                if door.output.is_mid_line() && report::is_on_terminal() && !request.demands.quiet {
                    report::new_line();
                }
                let mut outcome = finished(request, case, &node, job, ran);
                door.told.report(&report::summary(&outcome));
                if let Some(why) = door.output.error() {
                    door.told.line(&format!("{}: {why}", node.name));
                    // The command could not know; a success with half its output is none.
                    if outcome.ending == Some(Ending::Code(0)) {
                        outcome.ending = Some(Ending::Code(1));
                    }
                }
                return End::Done(Box::new(outcome));
            }
            Err(RunError::NotStarted {
                why: reason,
                load,
                full: is_full,
                broken,
            }) => {
                if let Some(load) = load {
                    note_load(case, &node.name, load, None);
                }
                if broken {
                    note_failures(case, std::iter::once((node.name.as_str(), reason.clone())));
                }
                if is_full {
                    full.push(node.clone());
                }
                why.insert(node.name.clone(), reason);
            }
            Err(RunError::NoAgent) => {
                // Once more, by the way that installs it.
                clocks.remove(&node.name);
                tries -= 1;
                open.insert(0, node);
            }
            Err(RunError::NotShared { why: reason }) => {
                apart(case, &node.name, &reason, door);
                tries -= 1;
                open.insert(0, node);
            }
            Err(RunError::Interrupted(n)) => return End::Interrupted(n),
            Err(RunError::Room(room)) => return End::Here(away(&why), Some(room)),
            Err(RunError::Detached) => return goes_on(request, case, &node, job, &mut *door.told),
            Err(RunError::Lost { why: reason }) => {
                let mut text = format!(
                    "{}: lost in the middle of run {}: {reason}; whether the command ended is not known",
                    node.name, job.id
                );
                if kept::find(&case.paths, &job.id).is_ok() {
                    text.push_str(&format!(" (cx attach {} asks again)", kept::short(&job.id)));
                }
                door.told.line(&text);
                tell_history(request, Some(case), &node.name, &text, Some(LOST), None);
                return lost(&node, job, &text, None);
            }
            Err(RunError::Back { ending, why: reason }) => {
                let text = format!(
                    "{}: the command ended with {}, but what it changed did not come back: {reason}",
                    node.name,
                    ending.shell_status()
                );
                door.told.line(&text);
                tell_history(request, Some(case), &node.name, &reason, Some(LOST), None);
                return lost(&node, job, &text, Some(ending));
            }
        }
    }
    let reason = away(&why);
    if pinned || request.demands.require_remote {
        door.told.line(&format!("not run: {reason}"));
        tell_history(request, Some(case), "none", &reason, Some(NO_NODE), None);
        return not_run(&reason);
    }
    End::Here(reason, None)
}

/// Reads the other trees that go along.
async fn beside(case: &Case) -> Result<Vec<Arc<Tree>>, String> {
    if case.fit.also.is_empty() {
        return Ok(Vec::new());
    }
    let (roots, paths) = (case.fit.also.clone(), case.paths.clone());
    let (verdict, config) = (case.verdict.clone(), case.config.clone());
    let work = tokio::task::spawn_blocking(move || scan_beside(&roots, &verdict, &config, &paths));
    let read = work.await.unwrap_or_else(|_| Err("the scan failed".into()));
    read.map_err(|e| format!("a tree beside the workspace can't be read: {e}"))
}

/// Notes and tells that a tree which is said to be shared is not: it is synced as any other then.
fn apart(case: &Case, node: &str, reason: &str, door: &mut Door) {
    if let Some(ws) = &case.ws {
        shared::note_apart(&case.paths, node, &ws.root);
    }
    door.told
        .line(&format!("{node}: the tree is not shared with it ({reason})"));
}

/// The run goes on without us; says how to come back to it.
fn goes_on(request: &Request, case: &Case, node: &NodeConfig, job: &Job, told: &mut dyn Told) -> End {
    let short = kept::short(&job.id);
    let text = format!(
        "{}: run {short} goes on there (cx attach {short} waits for it, cx logs {short} shows its output, cx cancel {short} ends it)",
        node.name
    );
    told.line(&text);
    for tree in &job.also {
        told.line(&format!(
            "{}: what it changes in {} stays there",
            node.name,
            tree.ws.root.display()
        ));
    }
    // Who asked for that has what they wanted.
    let status = if job.detach == Some(Detach::AtOnce) {
        0
    } else {
        DETACHED
    };
    tell_history(request, Some(case), &node.name, &text, Some(status), None);
    let mut outcome = Outcome::own(&node.name, &text, status);
    outcome.run_id.clone_from(&job.id);
    End::Done(Box::new(outcome))
}

/// The clocks of the nodes that can be asked before they greet: those of which all is known that a decision hangs on.
fn known_clocks(case: &Case) -> HashMap<String, NodeClock> {
    let known = case.table.nodes.iter().filter(|(_, s)| s.facts.is_some());
    known
        .filter_map(|(name, s)| Some((name.clone(), s.clock.clone()?)))
        .collect()
}

/// Why a node, now that it is known, is none for this command.
fn unfit(request: &Request, case: &Case, node: &str) -> Option<String> {
    let table = Table::load(&case.paths).0;
    let ws = case.ws.as_ref();
    match decide(
        request,
        &case.paths,
        &case.config,
        &table,
        &case.verdict,
        &case.fit,
        ws,
    ) {
        Route::Nodes { candidates, .. } if candidates.iter().any(|c| c.name == node) => None,
        Route::Nodes { rejected, .. }
        | Route::Local { rejected, .. }
        | Route::Impossible { rejected, .. } => {
            rejected.into_iter().find(|r| r.name == node).map(|r| r.reason)
        }
    }
}

/// Whether programs of this machine do not run on `node`, as far as its platform is known.
fn is_foreign(case: &Case, node: &NodeConfig) -> bool {
    let is_known = |table: &Table| table.nodes.get(&node.name).is_some_and(|s| s.facts.is_some());
    // A node that was met just now has told since.
    let newer = (!is_known(&case.table)).then(|| Table::load(&case.paths).0);
    let table = newer.as_ref().unwrap_or(&case.table);
    let view = node_view(node, table.nodes.get(&node.name), paths::now_ms());
    view.is_foreign_to(&local_facts(&case.paths, table).platform)
}

/// Whether a command of this kind has not failed on `node` before, in this workspace.
fn is_first_failure(request: &Request, case: &Case, node: &str) -> bool {
    let shape = differs::shape(&case.verdict.rule, &request.argv);
    case.ws
        .as_ref()
        .is_some_and(|w| differs::is_first(&case.paths, &w.key, node, &shape))
}

/// Whether a run may wait for a slot, by the user's policy.
pub(super) fn may_wait(case: &Case) -> bool {
    match case.config.policy.when_full {
        WhenFull::Wait => true,
        WhenFull::Local => false,
        WhenFull::Auto => local_view(&case.paths, &case.table).cpu > case.config.policy.busy_cpu,
    }
}

/// One clause for why no node took it.
pub(super) fn away(why: &BTreeMap<String, String>) -> String {
    if why.is_empty() {
        return "no node took it".into();
    }
    let parts: Vec<String> = why.iter().map(|(n, w)| format!("{n}: {w}")).collect();
    format!("no node took it ({})", parts.join("; "))
}

/// What the configuration asks of a node's paths and the node can't do.
fn not_as_wished(wish: PathsWish, mode: PathMode, why: &str) -> Option<String> {
    let wish = match wish {
        PathsWish::Namespace => "namespace",
        PathsWish::Direct => "direct",
        PathsWish::Auto | PathsWish::Rewrite => return None,
    };
    let is_rewritten = mode == PathMode::Rewrite;
    is_rewritten.then(|| format!("paths = {wish:?} can't be had there: {}", printable(why, 200)))
}

pub(super) fn finished(request: &Request, case: &Case, node: &NodeConfig, job: &Job, ran: Ran) -> Outcome {
    // A tree in place says nothing of how a mirror would be shown.
    let paths = ran.paths.clone().filter(|_| job.shared.is_none());
    note_load(case, &node.name, ran.exit.load.clone(), paths);
    if let Some(ws) = &case.ws {
        let mut dirs = eligible::touched(&case.verdict.workload, &request.cwd, &ws.root);
        // What every node sets up for itself is nobody's.
        let set_up = case.fit.setup.allowed();
        dirs.retain(|d| !set_up.iter().any(|s| s.makes(&ws.root, &ws.root.join(d))));
        if eligible::uses_containers(&request.argv) {
            dirs.push(owners::CONTAINERS.into());
        }
        owners::note(&case.paths, &ws.key, &ws.root, &dirs, Some(&node.name));
    }
    let set_up = ran.set_up_note();
    let shown_otherwise = ran.paths.as_ref().filter(|_| job.shared.is_none());
    let shown_otherwise = shown_otherwise.and_then(|(mode, why)| not_as_wished(node.paths, *mode, why));
    let mut notes = ran.back.notes;
    notes.extend(set_up);
    notes.extend(shown_otherwise);
    notes.extend(case.fit.unfit.clone());
    notes.extend(case.fit.setup.untrusted.clone());
    if let Some(ws) = &case.ws {
        notes.extend(tree::left_there(&ran.exit, &ws.root, node.write_back));
    }
    if job.shared.is_some() {
        notes.push("in the shared tree".into());
    } else if job.tree.is_none() {
        notes.push("no project here: it ran in the node's home directory".into());
    }
    let failed = !matches!(ran.exit.ending, Ending::Code(0));
    if let Some(tree) = job
        .tree
        .as_ref()
        .filter(|t| failed && !t.scan.withheld.is_empty())
    {
        notes.push(format!(
            "secrets that stayed here: {}",
            tree::list(&tree.scan.withheld)
        ));
    }
    if failed
        && let Some(ws) = case
            .ws
            .as_ref()
            .filter(|_| is_first_failure(request, case, &node.name))
    {
        let mut differing = differs::look(&ran.exit.tools, &job.env, &ran.tail, &case.paths);
        let set_up = case.fit.setup.allowed();
        let is_made = |dir: &Path| set_up.iter().any(|s| s.makes(&ws.root, dir));
        let tree = job.tree.as_ref();
        let unsent = tree.map_or(&[][..], |t| &t.scan.unsent);
        // Where the compiler failed, no program was missed.
        let compiled = crate::probe::find(&ran.tail, b"could not compile").is_none();
        let tree_here = tree.filter(|_| compiled);
        let programs = tree_here.map_or_else(Vec::new, |t| t.programs_not_on(&node.name));
        differing.extend(differs::stays(&request.cwd, &ws.root, is_made, unsent, &programs));
        if !differing.is_empty() {
            notes.push(format!("differs: {}", differing.join("; ")));
        }
        let shape = differs::shape(&case.verdict.rule, &request.argv);
        differs::note(&case.paths, &ws.key, &node.name, &shape);
    }
    if let (Some(key), Some(ws), Some(tree)) = (learned_key(request, case.ws.as_ref()), &case.ws, &job.tree)
        && let Ending::Code(code) = ran.exit.ending
    {
        let at = generation(&tree.scan.manifest);
        fails_there::ran_there(&case.paths, &ws.key, key, &node.name, &at, code == 0);
    }
    let run_time = Duration::from_millis(ran.exit.ran_ms);
    let outcome = Outcome {
        place: node.name.clone(),
        reason: case.route.reason().to_owned(),
        ending: Some(ran.exit.ending),
        not_back: None,
        own_status: 0,
        run_id: job.id.clone(),
        sent: ran.sent,
        back: (ran.back.files.0 + ran.back.deleted, ran.back.files.1),
        sync_time: ran.sync_time,
        local_time: ran.work,
        run_time,
        notes,
        load: Some(ran.exit.load),
    };
    if let (Some(key), Some(ws)) = (learned_key(request, case.ws.as_ref()), &case.ws)
        // Of those that are spread over the nodes, the longest go first.
        && (case.verdict.class == Class::Heavy || request.demands.spread)
    {
        let trip = outcome.sync_time;
        let name = node.name.as_str();
        learned::note(
            &case.paths,
            &[(key, name, run_time), (trips(&ws.key), name, trip)],
        );
    }
    let status = ran.exit.ending.shell_status();
    tell_history(
        request,
        Some(case),
        &node.name,
        &outcome.reason,
        Some(status),
        Some(&outcome),
    );
    table::refresh_if_stale(&case.paths, &case.config);
    outcome
}

/// The end of a run of which no status is known, or whose changes did not come back.
fn lost(node: &NodeConfig, job: &Job, reason: &str, not_back: Option<Ending>) -> End {
    let mut outcome = Outcome::own(&node.name, reason, LOST);
    outcome.not_back = not_back;
    outcome.run_id.clone_from(&job.id);
    End::Done(Box::new(outcome))
}
