//! The verbs that judge or ask without running: `refresh`, `explain`.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::client::eligible::{self, assigned as variables, outputs};
use crate::client::reach;
use crate::config::{Config, NodeConfig};
use crate::node::link::Install;
use crate::paths::Paths;
use crate::plan::Class;
use crate::plan::classify::{self, Context as RuleContext, Judged};
use crate::plan::route::Route;
use crate::plan::shell::{self, Assignment, Dialect, Unparsed, Word};
use crate::request::{Origin, Request};
use crate::sync::{self, Workspace};
use crate::table::Table;
use crate::{explain as explaining, hook, probe};

use super::judge::decide;
use super::runtime;

/// Asks all nodes at once how they are, which takes at most `limit`, and writes the table.
///
/// # Errors
/// When the config can't be read or the table can't be written.
pub fn refresh(limit: Duration) -> anyhow::Result<()> {
    refresh_those(limit, |_| true)
}

/// Asks the nodes whose names are `wanted`.
fn refresh_those(limit: Duration, wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let paths = Arc::new(Paths::from_env()?);
    let config = Arc::new(Config::load(&paths)?);
    let nodes: Vec<NodeConfig> = config.nodes.iter().filter(|n| wanted(&n.name)).cloned().collect();
    let runtime = runtime()?;
    let links = runtime.block_on(reach::all(&nodes, &config, &paths, limit, Install::Quietly));
    let now = crate::agent::now_ms();
    Table::update(&paths, |t| {
        t.nodes
            .retain(|name, _| config.nodes.iter().any(|n| n.name == *name));
        for (node, link) in nodes.iter().zip(&links) {
            let state = t.nodes.entry(node.name.clone()).or_default();
            match link {
                Ok(link) => state.answered(&link.welcome, link.rtt, link.clock(), now),
                Err(e) => state.failed(&e.to_string(), now),
            }
        }
        look_at_local(&paths, t);
    })?;
    drop(links);
    runtime.shutdown_background();
    Ok(())
}

/// Asks the nodes as [`refresh`] does, where what is known of one that may be usable is old, or from before `doubt_ms` (milliseconds since
/// the epoch; 0: there is no doubt).
///
/// # Errors
/// As for [`refresh`].
pub fn refresh_stale(limit: Duration, doubt_ms: u64) -> anyhow::Result<()> {
    let paths = Paths::from_env()?;
    let config = Config::load(&paths)?;
    let table = Table::load(&paths).0;
    let now = crate::agent::now_ms();
    let is_old = |name: &str| {
        table
            .nodes
            .get(name)
            .is_none_or(|s| (s.is_stale(now) || s.seen_ms <= doubt_ms) && s.usable(now).is_ok())
    };
    if config.nodes.iter().any(|n| is_old(&n.name)) {
        refresh(limit)?;
    }
    Ok(())
}

/// Asks, where what is known of them is old, those nodes that answered when they were asked last, or were never asked. The others, which
/// could take all of `limit` only to fail again, are asked by a process of their own; with nothing else to hope for, all are.
///
/// # Errors
/// As for [`refresh`].
pub fn refresh_promising(limit: Duration) -> anyhow::Result<()> {
    let paths = Paths::from_env()?;
    let config = Config::load(&paths)?;
    let table = Table::load(&paths).0;
    let now = crate::agent::now_ms();
    let promising = |name: &str| table.nodes.get(name).is_none_or(|s| s.breaker.is_none());
    let is_old = |name: &str| table.nodes.get(name).is_none_or(|s| s.is_stale(now));
    if !config.nodes.iter().any(|n| promising(&n.name)) {
        return refresh_stale(limit, 0);
    }
    if config.nodes.iter().any(|n| promising(&n.name) && is_old(&n.name)) {
        refresh_those(limit, |name| promising(name) && is_old(name))?;
    }
    crate::table::refresh_if_stale(&paths, &config);
    Ok(())
}

/// Fills in what this machine is and how busy it is.
pub fn look_at_local(paths: &Paths, table: &mut Table) {
    table.local.facts = Some(probe::own_facts(&paths.cache.join("libc")));
    let mut load = probe::load_kept(&paths.cache.join("cpu"), &paths.cache);
    load.running = crate::agent::base_dir().map_or(0, |base| crate::agent::held_slots(&base));
    table.local.load = Some(load);
    table.local.seen_ms = crate::agent::now_ms();
}

/// `cx explain`: judges each part of a command line as its run would.
///
/// # Errors
/// When the config can't be read or nothing can be written.
pub fn explain(text: &str, json: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let mut bench = Bench::new(&std::env::current_dir()?)?;
    let judged = bench.classify(text);
    let fate = hook::fate::of(text, &bench.cwd);
    explaining::render(text, judged.as_deref(), |j| bench.decide(j), fate, json, out)?;
    if !json {
        for doubt in bench.config.doubts() {
            writeln!(out, "config: {doubt}")?;
        }
    }
    Ok(0)
}

/// Why a text that nothing was inserted into runs on this machine, and whether any of it is heavy.
///
/// # Errors
/// When the config can't be read.
pub fn why_here(text: &str, cwd: &Path) -> anyhow::Result<(String, bool)> {
    let mut bench = Bench::new(cwd)?;
    let judged = match bench.classify(text) {
        Ok(judged) => judged,
        Err(e) => return Ok((format!("the text is not understood: {e}"), false)),
    };
    // What weighs most says why the whole stays.
    let weight = |j: &&Judged| match j.verdict.class {
        Class::Heavy => 2,
        Class::Unknown => 1,
        Class::Light => 0,
    };
    let Some(heaviest) = judged.iter().rev().max_by_key(weight) else {
        return Ok(("there is no command in the text".into(), false));
    };
    let heavy = heaviest.verdict.class == Class::Heavy;
    let reason = match &heaviest.part.left_alone {
        Some(why) if heavy => why.clone(),
        _ => match bench.decide(heaviest) {
            (place, reason) if place == "local" => reason,
            // The hook knows less than a run that starts.
            _ => heaviest.verdict.reason.clone(),
        },
    };
    Ok((reason, heavy))
}

/// All that is needed to judge the commands of a text.
struct Bench {
    paths: Paths,
    config: Config,
    table: Table,
    cwd: PathBuf,
    ws: Result<Workspace, String>,
    /// What the text assigns to variables.
    assigned: Vec<Assignment>,
}

impl Bench {
    fn new(cwd: &Path) -> anyhow::Result<Bench> {
        let paths = Paths::from_env()?;
        let ws = sync::find(cwd, &paths.home);
        let config = Config::load(&paths)?;
        config.check_trusted(ws.as_ref().ok().map(|w| w.root.as_path()))?;
        Ok(Bench {
            table: Table::load(&paths).0,
            cwd: cwd.to_owned(),
            paths,
            config,
            ws,
            assigned: Vec::new(),
        })
    }

    fn classify(&mut self, text: &str) -> Result<Vec<Judged>, Unparsed> {
        let context = RuleContext {
            user_rules: &self.config.rules,
            off: &self.config.policy.off,
            aliases: &[],
        };
        let judged = classify::classify_script(text, Dialect::Bash, &context)?;
        self.assigned = shell::assigned(judged.iter().map(|j| &j.part));
        Ok(judged)
    }

    /// The value of a variable for the commands of the text, as far as it is known.
    fn variable(&self, name: &str) -> Option<OsString> {
        match self.assigned.iter().rev().find(|a| a.name == name) {
            Some(a) => a.value.text().map(OsString::from),
            None => std::env::var_os(name),
        }
    }

    /// Where one command would go, and why.
    fn decide(&self, judged: &Judged) -> (String, String) {
        let Bench {
            paths,
            config,
            table,
            cwd,
            ws,
            assigned,
        } = self;
        let mut verdict = judged.verdict.clone();
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
            script: None,
            cwd: cwd.clone(),
            demands: Default::default(),
        };
        outputs::redirect(&mut verdict, &request.argv, &|name| self.variable(name));
        let verdict = &verdict;
        let mut fit = eligible::look(
            &request.argv,
            &verdict.workload,
            cwd,
            ws.as_ref().ok(),
            paths,
            config,
        );
        if let Err(why) = ws
            && verdict.class != Class::Light
        {
            fit.must_be_local = Some(why.clone());
        }
        if let (Ok(ws), None) = (ws, &fit.must_be_local) {
            let roots: Vec<PathBuf> = std::iter::once(&ws.root).chain(&fit.also).cloned().collect();
            let names: Vec<String> = assigned.iter().map(|a| a.name.clone()).collect();
            let values = names.iter().filter_map(|n| Some((n.into(), self.variable(n)?)));
            fit.must_be_local = variables::leads_out(&names, values, cwd, &roots);
        }
        match decide(&request, paths, config, table, verdict, &fit, ws.as_ref().ok()) {
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
    }
}
