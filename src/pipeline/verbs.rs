//! The verbs that judge or ask without running: `refresh`, `explain`.

use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::client::eligible;
use crate::client::reach;
use crate::config::Config;
use crate::paths::Paths;
use crate::plan::Class;
use crate::plan::classify::{self, Context as RuleContext};
use crate::plan::route::Route;
use crate::plan::shell::{Dialect, Word};
use crate::request::{Origin, Request};
use crate::sync;
use crate::table::Table;
use crate::{explain as explaining, probe};

use super::judge::decide;
use super::runtime;

/// Asks all nodes at once how they are, which takes at most `limit`, and writes the table.
///
/// # Errors
/// When the config can't be read or the table can't be written.
pub fn refresh(limit: Duration) -> anyhow::Result<()> {
    let paths = Arc::new(Paths::from_env()?);
    let config = Arc::new(Config::load(&paths)?);
    let runtime = runtime()?;
    let links = runtime.block_on(reach::all(&config.nodes, &config, &paths, limit));
    let now = crate::agent::now_ms();
    Table::update(&paths, |t| {
        t.nodes
            .retain(|name, _| config.nodes.iter().any(|n| n.name == *name));
        for (node, link) in config.nodes.iter().zip(&links) {
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

/// Asks the nodes as [`refresh`] does, where what is known of one that may be usable is old.
///
/// # Errors
/// As for [`refresh`].
pub fn refresh_stale(limit: Duration) -> anyhow::Result<()> {
    let paths = Paths::from_env()?;
    let config = Config::load(&paths)?;
    let table = Table::load(&paths).0;
    let now = crate::agent::now_ms();
    let is_old = |name: &str| {
        table
            .nodes
            .get(name)
            .is_none_or(|s| s.is_stale(now) && s.usable(now).is_ok())
    };
    if config.nodes.iter().any(|n| is_old(&n.name)) {
        refresh(limit)?;
    }
    Ok(())
}

/// Fills in what this machine is and how busy it is.
pub fn look_at_local(paths: &Paths, table: &mut Table) {
    table.local.facts = Some(probe::own_facts(&paths.cache.join("libc")));
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
            script: None,
            cwd: cwd.clone(),
            demands: Default::default(),
        };
        let mut fit = eligible::look(
            &request.argv,
            &verdict.workload,
            &cwd,
            ws.as_ref().ok(),
            &paths,
            &config.forward,
        );
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
