//! Gathers what a judgement hangs on, and asks the pure functions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::client::eligible::{self, Fit, assigned, outputs};
use crate::client::fails_there;
use crate::client::tree;
use crate::config::{Config, NodeConfig};
use crate::inflight::Inflight;
use crate::paths::{self, Paths};
use crate::plan::classify::{self, Context as RuleContext};
use crate::plan::learned::{self as plan_learned, Learned, Runtimes};
use crate::plan::route::{self, LocalView, NodeView, Route, RouteInput, Wishes};
use crate::plan::shell::Word;
use crate::plan::{Class, Verdict};
use crate::proto::{Facts, PathsWish};
use crate::request::{Origin, Request};
use crate::sync::{self, Workspace};
use crate::table::{NodeState, Table};
use crate::{learned, probe, table};

use super::{job, script};

/// Everything that is known when a command is judged.
pub(super) struct Case {
    pub paths: Arc<Paths>,
    pub config: Arc<Config>,
    pub table: Table,
    pub verdict: Verdict,
    pub ws: Option<Workspace>,
    pub fit: Fit,
    pub route: Route,
}

/// Classifies and routes.
pub(super) fn judge(request: &Request) -> anyhow::Result<Case> {
    if request.cwd.as_os_str().is_empty() {
        anyhow::bail!("the current directory is gone");
    }
    let paths = Arc::new(Paths::from_env()?);
    let ws = sync::find(&request.cwd, &paths.home);
    let config = Config::load(&paths)?;
    config.check_trusted(ws.as_ref().ok().map(|w| w.root.as_path()))?;
    let config = Arc::new(config);
    let context = RuleContext {
        user_rules: &config.rules,
        off: &config.policy.off,
        aliases: &[],
    };
    let (mut verdict, parts) = match &request.script {
        Some(text) => script::verdict(text, &context),
        None => (classify::classify(&words(&request.argv), &context), Vec::new()),
    };
    if request.script.is_none() {
        outputs::redirect(&mut verdict, &request.argv, &|name| std::env::var_os(name));
    }
    let no_workspace = ws.as_ref().err().cloned();
    let ws = ws.ok();
    let pinned = request.demands.is_pinned();
    let mut fit = match &request.script {
        Some(_) => script::look(&parts, &request.cwd, ws.as_ref(), &paths, &config),
        None => eligible::look(
            &request.argv,
            &verdict.workload,
            &request.cwd,
            ws.as_ref(),
            &paths,
            &config,
        ),
    };
    if request.script.is_some() && request.demands.on.is_some() {
        // A shell says itself what it does not find.
        (fit.needs, fit.needs_dirs) = (Vec::new(), Vec::new());
    }
    if let (Origin::Agent, Some(ws), None) = (request.origin, &ws, &fit.must_be_local) {
        let roots: Vec<PathBuf> = std::iter::once(&ws.root).chain(&fit.also).cloned().collect();
        let assigned = job::assigned_in_the_text(&paths);
        fit.must_be_local = assigned::leads_out(&assigned, std::env::vars_os(), &request.cwd, &roots);
    }
    if pinned {
        // Who names a node knows what lies there.
        (fit.must_be_local, fit.unless_shared) = (None, None);
    } else if ws.is_none() && verdict.class != Class::Light && !request.demands.spread {
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

fn words(argv: &[OsString]) -> Vec<Word> {
    argv.iter()
        .map(|a| Word::Static(a.to_string_lossy().into_owned()))
        .collect()
}

/// Asks the one policy function.
pub(super) fn decide(
    request: &Request,
    paths: &Paths,
    config: &Config,
    table: &Table,
    verdict: &Verdict,
    fit: &Fit,
    ws: Option<&Workspace>,
) -> Route {
    let fails_there = || {
        let key = learned_key(request, ws).filter(|_| !request.demands.is_pinned())?;
        fails_there::stays(paths, &ws?.key, key)
    };
    let now = crate::agent::now_ms();
    let names: Vec<&str> = config.nodes.iter().map(|n| n.name.as_str()).collect();
    let in_flight = Inflight::count(paths, &names);
    let writes_paths = verdict.workload.same_paths && !request.demands.is_pinned();
    let own = || writes_paths.then(|| "what it makes holds the paths of where it ran".to_owned());
    let identity = fit.identity.clone().or_else(own);
    let records = tree::records(paths);
    let mut nodes: Vec<NodeView> = config
        .nodes
        .iter()
        .map(|n| {
            let mirror = fit.shared || ws.is_some_and(|w| records.is_known(&w.key, &n.name));
            let in_flight = in_flight.get(&n.name).copied().unwrap_or(0);
            let mut view = NodeView {
                in_flight,
                mirror,
                ..node_view(n, table.nodes.get(&n.name), now)
            };
            let differ = n.paths == PathsWish::Rewrite && !fit.shared;
            if let Some(why) = identity.as_ref().filter(|_| differ) {
                view.unusable
                    .get_or_insert(format!("{why}, and its paths differ"));
            }
            view
        })
        .collect();
    if request.demands.spread {
        pass_by_failed(&mut nodes, table);
    }
    let runtimes = runtimes(request, paths, ws);
    route::route(&RouteInput {
        verdict,
        demands: Wishes {
            on: request.demands.on.as_deref(),
            os: request.demands.os.as_deref(),
            arch: request.demands.arch.as_deref(),
            spread: request.demands.spread,
        },
        typed: request.origin == Origin::Shell,
        unknown_may_move: runtimes.usually_long()
            && eligible::may_move_unasked(&words(&request.argv), &request.cwd),
        auto_route: config.policy.auto_route,
        busy_cpu: config.policy.busy_cpu,
        allow_overload: config.policy.allow_overload,
        off: forced_local(request, paths),
        must_be_local: fit.must_be_local.clone().or_else(fails_there),
        owner: fit.owner.clone(),
        local: local_view(paths, table),
        nodes,
        runtimes,
        seed: paths::nonce(),
    })
}

/// The key of a request among what was learned; none outside a workspace.
pub(super) fn learned_key(request: &Request, ws: Option<&Workspace>) -> Option<u64> {
    let ws = ws?;
    // The directory may be given by a path that goes through symbolic links.
    let cwd = request.cwd.canonicalize().ok()?;
    let dir = cwd.strip_prefix(&ws.root).ok()?;
    plan_learned::key(&ws.key, dir.as_os_str().as_encoded_bytes(), &words(&request.argv))
}

/// What was learned of the request's times.
fn runtimes(request: &Request, paths: &Paths, ws: Option<&Workspace>) -> Runtimes {
    let (Some(ws), Some(key)) = (ws, learned_key(request, ws)) else {
        return Runtimes::default();
    };
    let trips = plan_learned::trips(&ws.key);
    let found = Learned::read_only(&learned::text(paths), &[key, trips]);
    found.runtimes(Some(key), trips, paths::now_ms() / 1000)
}

/// What a request usually takes where it takes longest, milliseconds; `None` where nothing was learned of it.
pub fn usual_ms(request: &Request) -> Option<u32> {
    let paths = Paths::from_env().ok()?;
    let ws = sync::find(&request.cwd, &paths.home).ok()?;
    let known = runtimes(request, &paths, Some(&ws));
    known.nodes.iter().map(|(_, ms)| *ms).chain(known.here_ms).max()
}

/// Why everything stays here, if it does.
pub(super) fn forced_local(request: &Request, paths: &Paths) -> Option<String> {
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

/// What this machine is, as noted or as far as can be told at once.
pub(super) fn local_facts(paths: &Paths, table: &Table) -> Facts {
    table.local.facts.clone().unwrap_or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        probe::bare_facts(&path, &paths.cache.join("libc"))
    })
}

pub(super) fn local_view(paths: &Paths, table: &Table) -> LocalView {
    let facts = local_facts(paths, table);
    let load = probe::load_kept(&paths.cache.join("cpu"), &paths.cache);
    LocalView {
        platform: facts.platform,
        cores: facts.cores,
        cpu: load.cpu,
    }
}

/// Passes by the nodes that did not answer the last time, though their pause is over, while there is another: each of several commands
/// would wait for them.
fn pass_by_failed(nodes: &mut [NodeView], table: &Table) {
    let failed = |name: &str| table.nodes.get(name).is_some_and(|s| s.breaker.is_some());
    if nodes
        .iter()
        .any(|n| n.unusable.is_none() && n.full.is_none() && !failed(&n.name))
    {
        for node in nodes.iter_mut().filter(|n| failed(&n.name)) {
            node.unusable
                .get_or_insert_with(|| "it did not answer the last time, and others do".into());
        }
    }
}

/// What the table and the config say of a node.
pub(super) fn node_view(node: &NodeConfig, state: Option<&NodeState>, now: u64) -> NodeView {
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
        full: state.load.as_ref().and_then(table::full),
        age_s: now.saturating_sub(state.seen_ms) as f64 / 1000.0,
        rtt_ms: state.rtt_ms,
        facts: state.facts,
        load: state.load,
        in_flight: 0,
        mirror: false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_node_that_failed_is_tried_where_no_other_is() {
        let mut table = Table::default();
        let mut failed = NodeState::default();
        failed.failed("no answer", 1);
        table.nodes.insert("a".into(), failed.clone());
        table.nodes.insert("b".into(), NodeState::default());
        let paths = Paths::under(Path::new("/nowhere"));
        let config = Config::parse("nodes = ['a', 'b']", &paths).unwrap();
        let passed_by = |table: &Table| {
            let now = crate::agent::now_ms();
            let view = |n: &NodeConfig| node_view(n, table.nodes.get(&n.name), now);
            let mut nodes: Vec<NodeView> = config.nodes.iter().map(view).collect();
            assert!(nodes.iter().all(|n| n.unusable.is_none()), "its pause is over");
            pass_by_failed(&mut nodes, table);
            nodes.iter().map(|n| n.unusable.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(passed_by(&table), [true, false]);
        table.nodes.insert("b".into(), failed);
        assert_eq!(passed_by(&table), [false, false]);
    }
}
