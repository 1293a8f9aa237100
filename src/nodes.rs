//! `cx nodes`: adds, removes and lists nodes.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::time::Instant;

use crate::cli;
use crate::config::{self, Config, NodeConfig};
use crate::node::agents::{self, Build};
use crate::node::link::Install;
use crate::node::ssh::Ssh;
use crate::node::{Link, LinkError, printable};
use crate::paths::Paths;
use crate::proto::{Down, PathMode, PathsWish, Up, Welcome};
use crate::table::{NodeState, Table};

/// Checks each node, installs the agent and adds it to the config. The status is 1 if any of them failed.
///
/// # Errors
/// When the config can't be read or written.
pub fn add(aliases: &[String], yes: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let config = Config::load(&paths)?;
    let runtime = crate::pipeline::runtime()?;
    let mut failed = 0;
    for alias in aliases {
        config::valid_node_name(alias).map_err(|e| anyhow!(e))?;
        match runtime.block_on(check(alias, &config, &paths, yes, out)) {
            Ok(link) => {
                let known = config.nodes.iter().any(|n| n.name == *alias);
                if !known {
                    if !yes && !cli::confirm(&format!("Let commands run on {alias}?"), "say --yes")? {
                        writeln!(out, "{alias}: left out")?;
                        continue;
                    }
                    config::add_node(&paths, alias)?;
                }
                Table::update(&paths, |t| {
                    t.nodes.entry(alias.clone()).or_default().answered(
                        &link.welcome,
                        link.rtt,
                        link.clock(),
                        crate::agent::now_ms(),
                    );
                })?;
                let what = if known { "is in" } else { "added to" };
                writeln!(out, "{alias}: {what} {}", paths.config_file.display())?;
            }
            Err(e) => {
                failed += 1;
                writeln!(
                    std::io::stderr(),
                    "{alias}: not added: {e}\n  next: {}",
                    e.hint(alias)
                )?;
            }
        }
    }
    Ok(i32::from(failed > 0))
}

/// Logs in, looks, installs, and prints what was found.
async fn check(
    alias: &str,
    config: &Config,
    paths: &Paths,
    yes: bool,
    out: &mut dyn Write,
) -> Result<Link, LinkError> {
    let here = |e: std::io::Error| LinkError::Here(e.to_string());
    let node = config.nodes.iter().find(|n| n.name == alias).cloned();
    let node = node.unwrap_or_else(|| NodeConfig {
        name: alias.to_owned(),
        ..NodeConfig::default()
    });
    if node.embedded.is_none() {
        let ssh = Ssh::new(alias, config.ssh_config.as_deref(), paths)?;
        let uname = agents::uname(&ssh).await?;
        let (os, arch) = agents::platform_of(&uname);
        writeln!(out, "{alias}: login works without a prompt, {os} {arch}").map_err(here)?;
        let build = Build::own()?;
        if let Err(e) = agents::find(&uname, &build, paths) {
            let ask = format!("There is no agent for {os}-{arch}. Build it on {alias} with its own cargo?");
            let agreed = yes || cli::confirm(&ask, "say --yes").unwrap_or(false);
            if !agreed {
                return Err(e);
            }
            writeln!(out, "{alias}: building the agent there, which takes some minutes").map_err(here)?;
            agents::build_there(&ssh, &uname, &build, paths).await?;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(15);
    let link = Link::open(&node, config, paths, deadline, Install::Quietly).await?;
    tell(alias, &link.welcome, out).map_err(here)?;
    Ok(link)
}

fn tell(alias: &str, w: &Welcome, out: &mut dyn Write) -> std::io::Result<()> {
    let (f, l) = (&w.facts, &w.load);
    writeln!(
        out,
        "{alias}: agent installed; {} {} {}, {} cores, {:.1} GB memory, {:.1} GB disk free, {} slots",
        printable(&f.platform.os, 20),
        printable(&f.platform.arch, 20),
        printable(&f.platform.libc, 20),
        f.cores,
        gb(f.memory),
        gb(l.disk_free),
        f.slots
    )?;
    let tools: Vec<String> = f.tools.iter().map(|(n, _)| printable(n, 30)).collect();
    let tools = if tools.is_empty() {
        "none that cx knows".to_owned()
    } else {
        tools.join(" ")
    };
    writeln!(out, "{alias}: tools: {tools}")?;
    if l.disk_free < 2 << 30 {
        writeln!(
            out,
            "{alias}: little disk is left where mirrors go (~/.cache/cx there); free some before heavy use"
        )?;
    }
    Ok(())
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

/// Takes a node out of the config, and with `purge` frees what lies there.
///
/// # Errors
/// When the node is not configured, or `purge` can't reach it (it then stays configured).
pub fn remove(alias: &str, purge: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let config = Config::load(&paths)?;
    let Some(node) = config.nodes.iter().find(|n| n.name == alias).cloned() else {
        anyhow::bail!("`{alias}` is not a configured node; `cx nodes list` shows them")
    };
    let runtime = crate::pipeline::runtime()?;
    runtime.block_on(async {
        if purge {
            let deadline = Instant::now() + Duration::from_secs(15);
            let link = Link::open(&node, &config, &paths, deadline, Install::Never)
                .await
                .map_err(|e| {
                    anyhow!(
                        "{e}; nothing was removed. Without --purge the node is only taken out of the config"
                    )
                })?;
            let up = Up::Purge {
                client: Some(paths.client_key()?),
            };
            match link.ask_patiently(&up, crate::gc::SILENCE).await {
                Ok(Down::Purged(bytes)) => writeln!(out, "{alias}: freed {:.1} MB", bytes as f64 / 1e6)?,
                _ => anyhow::bail!(
                    "{alias} did not say that it freed anything; nothing was removed from the config"
                ),
            }
        }
        if node.embedded.is_none() {
            Ssh::new(alias, config.ssh_config.as_deref(), &paths)?
                .close()
                .await;
        }
        anyhow::Ok(())
    })?;
    config::remove_node(&paths, alias)?;
    Table::update(&paths, |t| {
        t.nodes.remove(alias);
    })?;
    writeln!(out, "{alias}: removed from {}", paths.config_file.display())?;
    Ok(0)
}

/// Lists the configured nodes with what the table knows of them.
///
/// # Errors
/// When the config can't be read.
pub fn list(as_json: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let config = Config::load(&paths)?;
    let table = Table::load(&paths).0;
    if as_json {
        let nodes: Vec<_> = config
            .nodes
            .iter()
            .map(|n| {
                let known = table.nodes.get(&n.name);
                let facts = known.and_then(|s| s.facts.as_ref());
                serde_json::json!({
                    "name": n.name,
                    "os": n.os.clone().or(facts.map(|f| printable(&f.platform.os, 20))),
                    "arch": n.arch.clone().or(facts.map(|f| printable(&f.platform.arch, 20))),
                    "cores": facts.map(|f| f.cores),
                    "slots": n.slots.or(facts.map(|f| f.slots)),
                    "tags": n.tags,
                    "embedded": n.embedded.is_some(),
                    "paths": shown_paths(n, known).0,
                    "paths_why": shown_paths(n, known).1,
                })
            })
            .collect();
        let all = serde_json::json!({ "version": 1, "nodes": nodes });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(0);
    }
    if config.nodes.is_empty() {
        writeln!(out, "no nodes; `cx nodes add ALIAS` adds one")?;
    }
    for n in &config.nodes {
        let known = table.nodes.get(&n.name);
        let what = known.and_then(|s| s.facts.as_ref()).map_or_else(
            || "never reached".to_owned(),
            |f| {
                format!(
                    "{} {} {} cores",
                    printable(&f.platform.os, 20),
                    printable(&f.platform.arch, 20),
                    f.cores
                )
            },
        );
        let tags = if n.tags.is_empty() {
            String::new()
        } else {
            format!("  tags {}", n.tags.join(","))
        };
        let slots = n.slots.or(known.and_then(|s| s.facts.as_ref()).map(|f| f.slots));
        let slots = slots.map_or(String::new(), |s| format!("  slots {s}"));
        let embedded = if n.embedded.is_some() { "  embedded" } else { "" };
        let (mode, why) = shown_paths(n, known);
        let why = why.map_or(String::new(), |w| format!(" ({w})"));
        writeln!(
            out,
            "{}  {what}{slots}{tags}{embedded}  paths {mode}{why}",
            n.name
        )
        .context("failed to print")?;
    }
    Ok(0)
}

/// How a tree is shown at its own path on a node, as far as known, and why not better.
fn shown_paths(node: &NodeConfig, known: Option<&NodeState>) -> (&'static str, Option<String>) {
    let facts = known.and_then(|s| s.facts.as_ref());
    let no_namespace = facts
        .and_then(|f| f.no_namespace.as_ref())
        .map(|w| printable(w, 200));
    let last = match known.and_then(|s| s.paths) {
        Some(PathMode::Namespace) => Some("namespace"),
        Some(PathMode::Direct) => Some("direct"),
        Some(PathMode::Rewrite) => Some("rewrite"),
        Some(PathMode::Same) | None => None,
    };
    let mode = match node.paths {
        PathsWish::Rewrite => "rewrite",
        _ if facts.is_none() => "unknown",
        PathsWish::Namespace if no_namespace.is_some() => "rewrite",
        PathsWish::Namespace => "namespace",
        PathsWish::Direct => last.filter(|l| *l != "namespace").unwrap_or("direct"),
        // What a run met counts for more than what ought to be.
        PathsWish::Auto => last.unwrap_or(if no_namespace.is_some() {
            "direct or rewrite"
        } else {
            "namespace"
        }),
    };
    let met = known
        .and_then(|s| s.paths_why.as_ref())
        .map(|w| printable(w, 300));
    let why = met.filter(|_| mode == "rewrite").or(no_namespace);
    (mode, why.filter(|_| mode != "namespace"))
}
