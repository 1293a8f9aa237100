//! The way of a request: classify, route, sync, run, report. A newcomer reads this file first.
//!
//! All that decides is in [`crate::plan`]; here its inputs are gathered and its answers carried out. Whatever goes
//! wrong on the way, the command still runs: here, with one line that says why.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;

use crate::client::cross;
use crate::client::eligible::{self, Fit, owners};
use crate::client::reach;
use crate::client::run::{self, Again, Caller, Job, Progress, Ran, RunError, Terms};
use crate::client::stdio::{self, Input, Output};
use crate::client::tree::{self, Tree};
use crate::config::{Config, NodeConfig, WhenFull, WriteBack};
use crate::hook::note;
use crate::inflight::Inflight;
use crate::local;
use crate::node::{Link, printable};
use crate::paths::{self, Paths};
use crate::plan::classify::{self, Context as RuleContext};
use crate::plan::route::{self, LocalView, NodeView, Route, RouteInput, Wishes};
use crate::plan::shell::{Dialect, Word};
use crate::plan::{Brings, Class, Verdict};
use crate::proto::{BackSpec, Load, MirrorKey};
use crate::report::{self, LOST, NO_NODE};
use crate::request::{Ending, Origin, Outcome, Request};
use crate::sync::{self, ScanOptions, Workspace};
use crate::table::{NodeState, Table};
use crate::{explain as explaining, history, probe, table};

/// Nodes tried with the command before it waits or runs locally.
const TRIES: usize = 3;

/// Everything that is known when a command is judged.
struct Case {
    paths: Arc<Paths>,
    config: Arc<Config>,
    table: Table,
    verdict: Verdict,
    ws: Option<Workspace>,
    fit: Fit,
    route: Route,
}

/// Runs a request to its end. Returns the exit status, or does not return where the command takes this process's place.
///
/// # Errors
/// Only for a request that cannot be carried out anywhere.
pub fn run(request: Request) -> anyhow::Result<i32> {
    let started = Instant::now();
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
            let end = runtime.block_on(remote(&request, &case, &names, started));
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

/// Classifies and routes.
fn judge(request: &Request) -> anyhow::Result<Case> {
    let paths = Arc::new(Paths::from_env()?);
    let ws = sync::find(&request.cwd, &paths.home);
    let config = Config::load(&paths)?;
    config.check_trusted(ws.as_ref().ok().map(|w| w.root.as_path()))?;
    let config = Arc::new(config);
    let words: Vec<Word> = request
        .argv
        .iter()
        .map(|a| Word::Static(a.to_string_lossy().into_owned()))
        .collect();
    let verdict = classify::classify(
        &words,
        &RuleContext {
            user_rules: &config.rules,
            off: &config.policy.off,
            aliases: &[],
        },
    );
    let no_workspace = ws.as_ref().err().cloned();
    let ws = ws.ok();
    let pinned = request.demands.is_pinned();
    let mut fit = eligible::look(
        &request.argv,
        &verdict.workload,
        &request.cwd,
        ws.as_ref(),
        &paths,
    );
    if pinned {
        // Who names a node knows what lies there.
        fit.must_be_local = None;
    } else if ws.is_none() && verdict.class != Class::Light {
        fit.must_be_local = no_workspace;
    }
    let table = Table::load(&paths).0;
    let route = decide(request, &paths, &config, &table, &verdict, &fit, ws.as_ref());
    Ok(Case {
        paths,
        config,
        table,
        verdict,
        ws,
        fit,
        route,
    })
}

/// Asks the one policy function.
fn decide(
    request: &Request,
    paths: &Paths,
    config: &Config,
    table: &Table,
    verdict: &Verdict,
    fit: &Fit,
    ws: Option<&Workspace>,
) -> Route {
    let now = crate::agent::now_ms();
    let names: Vec<&str> = config.nodes.iter().map(|n| n.name.as_str()).collect();
    let in_flight = Inflight::count(paths, &names);
    let records = tree::records(paths);
    let nodes = config
        .nodes
        .iter()
        .map(|n| {
            let mirror = ws.is_some_and(|w| !records.load(&w.key, &n.name).manifest.is_empty());
            let in_flight = in_flight.get(&n.name).copied().unwrap_or(0);
            NodeView {
                in_flight,
                mirror,
                ..node_view(n, table.nodes.get(&n.name), now)
            }
        })
        .collect();
    route::route(&RouteInput {
        verdict,
        demands: Wishes {
            on: request.demands.on.as_deref(),
            os: request.demands.os.as_deref(),
            arch: request.demands.arch.as_deref(),
        },
        typed: request.origin == Origin::Shell,
        auto_route: config.policy.auto_route,
        busy_cpu: config.policy.busy_cpu,
        allow_overload: config.policy.allow_overload,
        off: forced_local(request, paths),
        must_be_local: fit.must_be_local.clone(),
        owner: fit.owner.clone(),
        local: local_view(paths, table),
        nodes,
        seed: paths::nonce(),
    })
}

/// Why everything stays here, if it does.
fn forced_local(request: &Request, paths: &Paths) -> Option<String> {
    let set = |v: &str| std::env::var_os(v).is_some_and(|x| !x.is_empty() && x != "0");
    if set("CX_INSIDE") {
        return Some("inside a run of cx on this node".into());
    }
    if request.demands.local {
        return Some("--local".into());
    }
    if set("CX_LOCAL") {
        return Some("CX_LOCAL is set".into());
    }
    if set("SANDBOX_RUNTIME") {
        return Some("a sandbox around the caller keeps ssh away".into());
    }
    paths.switched_off()
}

fn local_view(paths: &Paths, table: &Table) -> LocalView {
    let facts = table
        .local
        .facts
        .clone()
        .unwrap_or_else(|| probe::own_facts(paths));
    let load = probe::load_kept(&paths.cache.join("cpu"), &paths.cache);
    LocalView {
        platform: facts.platform,
        cores: facts.cores,
        cpu: load.cpu,
    }
}

/// What the table and the config say of a node.
fn node_view(node: &NodeConfig, state: Option<&NodeState>, now: u64) -> NodeView {
    let state = state.cloned().unwrap_or_default();
    let overloaded = state
        .load
        .as_ref()
        .zip(state.facts.as_ref())
        .and_then(|(l, f)| table::overloaded(l, f));
    NodeView {
        name: node.name.clone(),
        tags: node.tags.clone(),
        os: node.os.clone(),
        arch: node.arch.clone(),
        slots: node.slots,
        unusable: state.usable(now).err(),
        overloaded,
        age_s: now.saturating_sub(state.seen_ms) as f64 / 1000.0,
        rtt_ms: state.rtt_ms,
        facts: state.facts,
        load: state.load,
        in_flight: 0,
        mirror: false,
    }
}

/// Runs the command in this process's place, after telling so.
fn here(request: &Request, case: Option<&Case>, reason: &str) -> i32 {
    tell(request, &format!("local: {reason}"));
    tell_history(request, case, "local", reason, None, None);
    if let Some(case) = case
        && let Some(ws) = &case.ws
    {
        let dirs = eligible::touched(&case.verdict.workload, &request.cwd, &ws.root);
        owners::note(&case.paths, &ws.key, &dirs, None);
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

/// Says one line: on stderr, or, under an agent whose output it would mix with, to the agent's hook.
fn tell(request: &Request, text: &str) {
    if request.demands.quiet {
        return;
    }
    if request.origin == Origin::Agent
        && let Ok(session) = std::env::var("CLAUDE_CODE_SESSION_ID")
        && Paths::from_env().is_ok_and(|p| note::append_report(&p.state, &session, text).is_ok())
    {
        return;
    }
    report::line(text);
}

fn tell_history(
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

/// Tries the nodes in order.
async fn remote(request: &Request, case: &Case, names: &[String], started: Instant) -> End {
    let mut signals = match signals() {
        Ok(s) => s,
        Err(e) => return End::Here(format!("signals can't be handled: {e}")),
    };
    let mut open: Vec<NodeConfig> = names
        .iter()
        .filter_map(|n| case.config.nodes.iter().find(|c| c.name == *n).cloned())
        .collect();
    let pinned = request.demands.is_pinned();
    let limit = if pinned { reach::NAMED } else { reach::TOGETHER };
    let tree = tokio::task::spawn_blocking({
        let (ws, paths, config) = (case.ws.clone(), case.paths.clone(), case.config.clone());
        let (cwd, verdict) = (request.cwd.clone(), case.verdict.clone());
        move || ws.map(|ws| scan(ws, &cwd, &verdict, &config, paths)).transpose()
    });
    let mut tree = Some(tree);
    let mut job: Option<Job> = None;
    let mut why: BTreeMap<String, String> = BTreeMap::new();
    let mut full: Vec<NodeConfig> = Vec::new();
    let output = Output::to_own();
    let mut input = Input::empty();
    let mut tries = 0;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(800));
        let waiting = open.is_empty() && !full.is_empty();
        if waiting {
            if !pinned && !may_wait(case) {
                return End::Here(away(&why));
            }
            open = std::mem::take(&mut full);
        }
        if open.is_empty() || (tries >= TRIES && !waiting) {
            break;
        }
        let reached = tokio::select! {
            r = reach::first(&open, &case.config, &case.paths, left) => r,
            Some(n) = signals.recv() => return End::Signal(n),
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
        let Some((i, link)) = reached.link else {
            for n in &open {
                why.entry(n.name.clone())
                    .or_insert_with(|| "no answer in time".into());
            }
            break;
        };
        let node = open[i].clone();
        open.retain(|n| n.name != node.name && !dead.contains(&n.name));
        note_answer(case, &link);
        if job.is_none() {
            let tree = match tree.take() {
                Some(t) => t.await.unwrap_or_else(|_| Err("the scan failed".into())),
                None => Err("the scan failed".into()),
            };
            match tree {
                Ok(tree) => {
                    let j = make_job(request, case, tree);
                    if j.stdin && stdin_is_readable() {
                        input = Input::own();
                    }
                    job = Some(j);
                }
                Err(e) if pinned || request.demands.require_remote => {
                    report::line(&format!("not run: the workspace can't be read: {e}"));
                    return End::Status(NO_NODE);
                }
                Err(e) => return End::Here(format!("the workspace can't be read: {e}")),
            }
        }
        let Some(job) = &mut job else { break };
        job.id = run_id();
        let _flight = Inflight::enter(&case.paths, &node.name);
        let allow_overload = case.config.policy.allow_overload;
        let terms = Terms {
            slots: node.slots,
            allow_overload,
            insist: pinned || waiting,
            scope: scope(node.write_back),
        };
        let mut progress = Telling { request };
        tries += 1;
        let mut caller = Caller {
            output: &output,
            input: &mut input,
            signals: &mut signals,
            progress: &mut progress,
        };
        let again = Again {
            node: &node,
            config: &case.config,
            paths: &case.paths,
        };
        let result = run::run(link, again, job, &terms, &mut caller).await;
        match result {
            Ok(ran) => return finished(request, case, &node, job, ran, started),
            Err(RunError::NotStarted {
                why: reason,
                load,
                full: is_full,
                broken,
            }) => {
                if let Some(load) = load {
                    note_load(case, &node.name, load);
                }
                if broken {
                    note_failures(case, std::iter::once((node.name.as_str(), reason.clone())));
                }
                if is_full {
                    full.push(node.clone());
                }
                why.insert(node.name.clone(), reason);
            }
            Err(RunError::Interrupted(n)) => return End::Signal(n),
            Err(RunError::Lost { why: reason }) => {
                let text = format!(
                    "{}: lost in the middle of run {}: {reason}; whether the command ended is not known",
                    node.name, job.id
                );
                report::line(&text);
                tell_history(request, Some(case), &node.name, &text, Some(LOST), None);
                return End::Status(LOST);
            }
            Err(RunError::Back { ending, why: reason }) => {
                report::line(&format!(
                    "{}: the command ended with {}, but what it changed did not come back: {reason}",
                    node.name,
                    ending.shell_status()
                ));
                tell_history(request, Some(case), &node.name, &reason, Some(LOST), None);
                return End::Status(LOST);
            }
        }
    }
    let reason = away(&why);
    if pinned || request.demands.require_remote {
        report::line(&format!("not run: {reason}"));
        tell_history(request, Some(case), "none", &reason, Some(NO_NODE), None);
        return End::Status(NO_NODE);
    }
    End::Here(reason)
}

/// Whether a run may wait for a slot, by the user's policy.
fn may_wait(case: &Case) -> bool {
    match case.config.policy.when_full {
        WhenFull::Wait => true,
        WhenFull::Local => false,
        WhenFull::Auto => local_view(&case.paths, &case.table).cpu > case.config.policy.busy_cpu,
    }
}

/// One clause for why no node took it.
fn away(why: &BTreeMap<String, String>) -> String {
    if why.is_empty() {
        return "no node took it".into();
    }
    let parts: Vec<String> = why.iter().map(|(n, w)| format!("{n}: {w}")).collect();
    format!("no node took it ({})", parts.join("; "))
}

fn scan(
    ws: Workspace,
    cwd: &Path,
    verdict: &Verdict,
    config: &Config,
    paths: Arc<Paths>,
) -> Result<Tree, String> {
    // What a killed cx left half applied comes first.
    for (root, _) in sync::recover(&paths.cache.join("incoming")).unwrap_or_default() {
        report::line(&format!(
            "finished taking in what an interrupted cx had left for {}",
            root.display()
        ));
    }
    let options = ScanOptions {
        index: Some(paths.cache.join("index").join(&ws.key)),
        ignored_limit: config.policy.ignored_limit,
        ..ScanOptions::default()
    };
    paths::private_dir(&paths.cache.join("index")).map_err(|e| e.to_string())?;
    let scan = sync::scan(&ws.root, ws.git, &options).map_err(|e| e.to_string())?;
    let dir = cwd
        .strip_prefix(&ws.root)
        .map(|d| d.as_os_str().as_bytes().to_vec())
        .unwrap_or_default();
    let key = MirrorKey {
        client: paths.client_key().map_err(|e| format!("{e:#}"))?,
        workspace: ws.key.clone(),
        name: ws.name.clone(),
    };
    let back = BackSpec {
        // What no rule knows may leave anything.
        brings: if verdict.class == Class::Heavy {
            verdict.workload.brings.clone()
        } else {
            Brings::Ignored
        },
        extra_ignore: scan.extra_ignore.clone(),
        exist_here: scan.unsent.clone(),
        limit: config.policy.back_limit,
        scope: 2,
    };
    // Without it only git's own answers differ there.
    let repository = if ws.git {
        sync::snapshot(&ws.root, &paths.cache.join("repositories"))
            .ok()
            .flatten()
    } else {
        None
    };
    Ok(Tree {
        key,
        dir,
        scan,
        back,
        repository,
        paths,
        ws,
    })
}

fn make_job(request: &Request, case: &Case, tree: Option<Tree>) -> Job {
    let session = std::env::var("CLAUDE_CODE_SESSION_ID").ok();
    let assigned = match request.origin {
        Origin::Agent => session
            .and_then(|s| note::read(&case.paths.state, &s))
            .map(|n| n.assigned)
            .unwrap_or_default(),
        _ => typed_variables(),
    };
    let rules = cross::Rules {
        pass: &case.config.env_pass,
        assigned: &assigned,
    };
    Job {
        id: String::new(),
        argv: request.argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env: cross::crossing(std::env::vars_os(), &rules),
        path_prefix: case.fit.path_prefix.clone(),
        stdin: case.verdict.workload.stdin
            || (request.origin == Origin::Shell && case.verdict.class != Class::Heavy),
        one_pipe: stdio::same_output(),
        needs: case.fit.needs.clone(),
        needs_dirs: case.fit.needs_dirs.clone(),
        tree: tree.map(Arc::new),
        link_grace: case.config.policy.link_grace,
        back_limit: case.config.policy.back_limit,
    }
}

/// Names of variables that the person typed or exported in their own terminal: what differs from the environment their shell was
/// started with.
fn typed_variables() -> Vec<String> {
    use std::io::IsTerminal;
    if !std::io::stderr().is_terminal() {
        return Vec::new();
    }
    let parent = format!("/proc/{}", std::os::unix::process::parent_id());
    let name = std::fs::read_to_string(format!("{parent}/comm")).unwrap_or_default();
    if !matches!(name.trim(), "bash" | "zsh" | "fish" | "sh" | "dash" | "ksh") {
        return Vec::new();
    }
    let before = std::fs::read(format!("{parent}/environ")).unwrap_or_default();
    if before.is_empty() {
        Vec::new()
    } else {
        cross::changed_since(&before, std::env::vars_os())
    }
}

/// A background job that reads the terminal would be stopped; its input stays unread, as long as nobody asks for it.
fn stdin_is_readable() -> bool {
    use std::os::fd::AsFd;
    let stdin = std::io::stdin();
    match rustix::termios::tcgetpgrp(stdin.as_fd()) {
        Ok(group) => group == rustix::process::getpgrp(),
        Err(_) => true,
    }
}

fn scope(w: WriteBack) -> u8 {
    match w {
        WriteBack::None => 0,
        WriteBack::Outputs => 1,
        WriteBack::All => 2,
    }
}

/// A unique id: time, process and chance.
fn run_id() -> String {
    format!(
        "{:x}-{:x}-{:x}",
        crate::agent::now_ms(),
        std::process::id(),
        paths::nonce() & 0xffff_ffff
    )
}

fn finished(request: &Request, case: &Case, node: &NodeConfig, job: &Job, ran: Ran, started: Instant) -> End {
    note_load(case, &node.name, ran.exit.load.clone());
    if let Some(ws) = &case.ws {
        let dirs = eligible::touched(&case.verdict.workload, &request.cwd, &ws.root);
        owners::note(&case.paths, &ws.key, &dirs, Some(&node.name));
    }
    let mut notes = ran.back.notes;
    let (stayed, n) = &ran.exit.stayed;
    let here: Vec<_> = stayed
        .iter()
        .filter(|p| exists(case, p.as_bytes()))
        .cloned()
        .collect();
    if !here.is_empty() && *n > 0 {
        notes.push(format!("stale here: {}", tree::list(&here)));
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
    let run_time = Duration::from_millis(ran.exit.ran_ms);
    let outcome = Outcome {
        place: node.name.clone(),
        reason: case.route.reason().to_owned(),
        ending: Some(ran.exit.ending),
        own_status: 0,
        run_id: job.id.clone(),
        sent: ran.sent,
        back: (ran.back.files.0 + ran.back.deleted, ran.back.files.1),
        sync_time: ran.sync_time,
        run_time,
        notes,
    };
    tell(request, &report::summary(&outcome));
    let status = ran.exit.ending.shell_status();
    tell_history(
        request,
        Some(case),
        &node.name,
        &outcome.reason,
        Some(status),
        Some(&outcome),
    );
    let _ = started;
    table::refresh_if_stale(&case.paths, &case.config);
    match ran.exit.ending {
        Ending::Code(c) => End::Status(c),
        Ending::Signal(n) => End::Signal(n),
    }
}

fn exists(case: &Case, path: &[u8]) -> bool {
    use std::os::unix::ffi::OsStringExt;
    case.ws
        .as_ref()
        .is_some_and(|w| w.root.join(OsString::from_vec(path.to_vec())).exists())
}

fn note_answer(case: &Case, link: &Link) {
    // The table is a help, not a need: a full disk loses no run.
    let _ = Table::update(&case.paths, |t| {
        t.nodes.entry(link.node.clone()).or_default().answered(
            &link.welcome,
            link.rtt,
            crate::agent::now_ms(),
        );
    });
}

fn note_load(case: &Case, node: &str, load: Load) {
    let _ = Table::update(&case.paths, |t| {
        let state = t.nodes.entry(node.to_owned()).or_default();
        state.load = Some(load);
        state.seen_ms = crate::agent::now_ms();
    });
}

fn note_failures<'a>(case: &Case, failed: impl Iterator<Item = (&'a str, String)>) {
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

/// Signals that end a command, as they arrive.
fn signals() -> std::io::Result<mpsc::Receiver<i32>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (tx, rx) = mpsc::channel(16);
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ] {
        let mut s = signal(kind)?;
        let tx = tx.clone();
        tokio::spawn(async move {
            while s.recv().await.is_some() {
                if tx.send(kind.as_raw_value()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(rx)
}

struct Telling<'a> {
    request: &'a Request,
}

impl Progress for Telling<'_> {
    fn waiting(&mut self, node: &str, running: u32) {
        if !self.request.demands.quiet {
            report::line(&format!("{node}: all {running} slots are taken, waiting for one"));
        }
    }
}

/// Asks all nodes at once how they are and writes the table.
///
/// # Errors
/// When the config can't be read or the table can't be written.
pub fn refresh() -> anyhow::Result<()> {
    let paths = Arc::new(Paths::from_env()?);
    let config = Arc::new(Config::load(&paths)?);
    let runtime = runtime()?;
    let links = runtime.block_on(reach::all(&config.nodes, &config, &paths, Duration::from_secs(5)));
    let now = crate::agent::now_ms();
    Table::update(&paths, |t| {
        t.nodes
            .retain(|name, _| config.nodes.iter().any(|n| n.name == *name));
        for (node, link) in config.nodes.iter().zip(&links) {
            let state = t.nodes.entry(node.name.clone()).or_default();
            match link {
                Ok(link) => state.answered(&link.welcome, link.rtt, now),
                Err(e) => state.failed(&e.to_string(), now),
            }
        }
        look_at_local(&paths, t);
    })?;
    drop(links);
    runtime.shutdown_background();
    Ok(())
}

/// Fills in what this machine is and how busy it is.
pub fn look_at_local(paths: &Paths, table: &mut Table) {
    table.local.facts = Some(probe::own_facts(paths));
    table.local.load = Some(probe::load_kept(&paths.cache.join("cpu"), &paths.cache));
    table.local.seen_ms = crate::agent::now_ms();
}

/// `cx explain`: judges each part of a command line as its run would.
///
/// # Errors
/// When the config can't be read or nothing can be written.
pub fn explain(text: &str, json: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let cwd = std::env::current_dir()?;
    let ws = sync::find(&cwd, &paths.home);
    let config = Config::load(&paths)?;
    config.check_trusted(ws.as_ref().ok().map(|w| w.root.as_path()))?;
    let table = Table::load(&paths).0;
    let context = RuleContext {
        user_rules: &config.rules,
        off: &config.policy.off,
        aliases: &[],
    };
    let judged = classify::classify_script(text, Dialect::Bash, &context);
    let decide_one = |judged: &classify::Judged| -> (String, String) {
        let verdict = &judged.verdict;
        let argv: Vec<OsString> = judged
            .part
            .argv
            .iter()
            .map(|w| match w {
                Word::Static(s) => OsString::from(s),
                Word::Flag(s) => OsString::from(s),
                Word::Dynamic => OsString::from("?"),
            })
            .collect();
        let request = Request {
            origin: Origin::Agent,
            argv,
            cwd: cwd.clone(),
            demands: Default::default(),
        };
        let mut fit = eligible::look(&request.argv, &verdict.workload, &cwd, ws.as_ref().ok(), &paths);
        if let Err(why) = &ws
            && verdict.class != Class::Light
        {
            fit.must_be_local = Some(why.clone());
        }
        match decide(&request, &paths, &config, &table, verdict, &fit, ws.as_ref().ok()) {
            Route::Nodes {
                candidates, reason, ..
            } => {
                let first = &candidates[0];
                (
                    first.name.clone(),
                    format!("{reason}; {}: {}", first.name, first.reason),
                )
            }
            Route::Local { reason, .. } | Route::Impossible { reason, .. } => ("local".into(), reason),
        }
    };
    explaining::render(text, judged.as_deref(), decide_one, json, out)?;
    Ok(0)
}
