//! `cx doctor [NODE]`: looks for what keeps cx from working, or makes it work otherwise than one thinks.
//!
//! Each finding says what, why, and what to do next. Nothing is repaired by it.

mod project;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::reach;
use crate::config::{Config, NodeConfig};
use crate::hook::permissions::Rules;
use crate::hook::{self, program};
use crate::node::link::Install;
use crate::node::{Link, LinkError, printable};
use crate::paths::Paths;
use crate::probe;
use crate::proto::PathMode;
use crate::setup::{change, claude, edit};
use crate::sync;
use crate::table::{NodeState, Table};

/// How long a node may take to answer.
const NODE_LIMIT: Duration = Duration::from_secs(5);

/// Past this a node's clock is worth a word, milliseconds.
const CLOCK_MS: u64 = 60_000;

/// Below this a node's free disk is worth a word, bytes.
const DISK: u64 = 2 << 30;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// It works, perhaps not as one thinks.
    Warning,
    /// It can't work.
    Broken,
}

/// One finding as `--json` prints it. The keys are stable; new ones may come.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at: `config`, `ssh`, `node`, `tools`, `path`, `hook`, `rules`, `mcp`, `sandbox`, `off`, `state`.
    check: &'static str,
    what: String,
    /// Empty where all is well.
    why: String,
    /// What to do next; empty where all is well.
    next: String,
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    /// Nothing is broken.
    ok: bool,
    findings: &'a [Finding],
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, check: &'static str, what: &str, why: &str, next: &str) {
        let [what, why, next] = [what, why, next].map(|t| printable(t, 500));
        self.0.push(Finding {
            level,
            check,
            what,
            why,
            next,
        });
    }

    fn ok(&mut self, check: &'static str, what: &str) {
        self.add(Level::Ok, check, what, "", "");
    }

    fn warn(&mut self, check: &'static str, what: &str, why: &str, next: &str) {
        self.add(Level::Warning, check, what, why, next);
    }

    fn broken(&mut self, check: &'static str, what: &str, why: &str, next: &str) {
        self.add(Level::Broken, check, what, why, next);
    }
}

/// Runs all checks; with `node`, of the nodes only that one's. The status is 1 if something is broken.
///
/// # Errors
/// When there is no home, `node` is not configured, or nothing can be written.
pub fn run(node: Option<&str>, as_json: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let cwd = std::env::current_dir()?;
    let mut found = Findings::default();
    let config = check_config(&paths, &cwd, &mut found);
    if let Some(mut config) = config {
        if let Some(name) = node {
            config.nodes.retain(|n| n.name == name);
            anyhow::ensure!(
                !config.nodes.is_empty(),
                "`{name}` is not a configured node; `cx nodes list` shows them"
            );
        }
        check_nodes(config, &paths, &cwd, &mut found)?;
    }
    check_program(&mut found);
    check_client(&cwd, &mut found);
    check_state(&paths, &mut found);
    let ok = found.0.iter().all(|f| f.level != Level::Broken);
    if as_json {
        let report = Report {
            version: 1,
            ok,
            findings: &found.0,
        };
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        for f in &found.0 {
            let level = match f.level {
                Level::Ok => "ok      ",
                Level::Warning => "warning ",
                Level::Broken => "BROKEN  ",
            };
            writeln!(out, "{level}{}: {}", f.check, f.what)?;
            for (head, text) in [("why", &f.why), ("next", &f.next)] {
                if !text.is_empty() {
                    writeln!(out, "        {head}: {text}")?;
                }
            }
        }
    }
    Ok(i32::from(!ok))
}

/// The config, if cx would use it.
fn check_config(paths: &Paths, cwd: &Path, found: &mut Findings) -> Option<Config> {
    let file = paths.config_file.display().to_string();
    let workspace = sync::find(cwd, &paths.home).ok();
    let loaded = Config::load(paths).and_then(|c| {
        c.check_trusted(workspace.as_ref().map(|w| w.root.as_path()))?;
        Ok(c)
    });
    match loaded {
        Ok(config) => {
            found.ok("config", &format!("{file}: {} nodes", config.nodes.len()));
            for doubt in config.doubts() {
                let next = format!("correct it in {file}");
                found.warn("config", "a part of the config never acts", &doubt, &next);
            }
            Some(config)
        }
        Err(e) => {
            let next = format!("correct {file}; it has to be yours, and writable by nobody else");
            found.broken("config", "cx does not use the config", &format!("{e:#}"), &next);
            None
        }
    }
}

fn check_nodes(config: Config, paths: &Paths, cwd: &Path, found: &mut Findings) -> anyhow::Result<()> {
    if config.nodes.is_empty() {
        let next = "add one with `cx nodes add ALIAS`, or try `cx demo`";
        found.warn("node", "no nodes are configured", "everything runs here", next);
        return Ok(());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if config.nodes.iter().any(|n| n.embedded.is_none()) {
        match probe::find_program("ssh".as_ref(), &path) {
            Some(ssh) => found.ok("ssh", &ssh.display().to_string()),
            None => {
                let next = "install OpenSSH's client, or put it on PATH";
                found.broken("ssh", "there is no ssh on PATH", "nodes are reached by it", next);
            }
        }
    }
    let (config, paths) = (Arc::new(config), Arc::new(paths.clone()));
    let runtime = crate::pipeline::runtime()?;
    let links = runtime.block_on(reach::all(
        &config.nodes,
        &config,
        &paths,
        NODE_LIMIT,
        Install::Never,
    ));
    let known = Table::load(&paths).0;
    let tools = sync::find(cwd, &paths.home).map_or(Vec::new(), |ws| project::tools(&ws.root, &path));
    for (node, link) in config.nodes.iter().zip(&links) {
        match link {
            Ok(link) => {
                check_node(node, link, &tools, found);
                check_paths(node, known.nodes.get(&node.name), found);
            }
            // Nothing is put there by looking.
            Err(LinkError::Agent(why)) => {
                let what = format!("{} has no agent of this cx that runs", node.name);
                let next = format!(
                    "`cx nodes add {0}` installs it, as does the first run on {0}",
                    node.name
                );
                found.warn("node", &what, why, &next);
            }
            Err(e) => {
                let next = match node.embedded {
                    Some(_) => format!("take it out with `cx nodes remove {}`", node.name),
                    None => format!(
                        "try `ssh {} true`; if that works, `cx nodes add {}` again",
                        node.name, node.name
                    ),
                };
                found.broken(
                    "node",
                    &format!("{} can't be used", node.name),
                    &e.to_string(),
                    &next,
                );
            }
        }
    }
    drop(links);
    runtime.shutdown_background();
    Ok(())
}

fn check_node(node: &NodeConfig, link: &Link, needed: &[&str], found: &mut Findings) {
    let (name, facts, load) = (&node.name, &link.welcome.facts, &link.welcome.load);
    let tools: Vec<&str> = facts.tools.iter().map(|(t, _)| t.as_str()).collect();
    let gigabytes = load.disk_free as f64 / (1u64 << 30) as f64;
    found.ok(
        "node",
        &format!(
            "{name}: answers in {} ms, {} cores, {gigabytes:.1} GB disk free, tools: {}",
            link.rtt.as_millis(),
            facts.cores,
            if tools.is_empty() {
                "none that cx knows".to_owned()
            } else {
                tools.join(" ")
            }
        ),
    );
    let missing = project::missing(needed, facts);
    if !missing.is_empty() {
        let what = format!(
            "{name} lacks what this project is built with: {}",
            missing.join(", ")
        );
        let why = "commands that need it go elsewhere, or stay here";
        let next = format!("install it there, where a login shell (`ssh {name}`) finds it");
        found.warn("tools", &what, why, &next);
    }
    if load.disk_free < DISK {
        let what = format!("{name} has {gigabytes:.1} GB disk left");
        let next = format!("free some there, or collect what cx keeps with `cx gc --older 7d {name}`");
        found.warn("node", &what, "mirrors lie in ~/.cache/cx there", &next);
    }
    let off = link.clock_offset();
    if off.unsigned_abs() > CLOCK_MS {
        let way = if off > 0 { "ahead of" } else { "behind" };
        let what = format!(
            "{name}'s clock is {} s {way} this machine's",
            off.unsigned_abs() / 1000
        );
        let why = "tools there that take the time themselves write other times than here";
        found.warn("node", &what, why, "set both by NTP");
    }
}

/// Whether the last run on a node saw its tree at the path that it has here.
fn check_paths(node: &NodeConfig, known: Option<&NodeState>, found: &mut Findings) {
    if let Some(state) = known.filter(|s| s.paths == Some(PathMode::Rewrite)) {
        let what = format!("{} can't show a project at its own path", node.name);
        let why = state.paths_why.as_deref().unwrap_or("it did not say why");
        let why = format!(
            "{}; output and links are mended, paths inside of files that come home are the node's",
            printable(why, 300)
        );
        let next = "commands that need the same path go elsewhere by themselves; README, Paths, says what a node must allow";
        found.warn("paths", &what, &why, next);
    }
}

/// Whether the `cx` that a shell finds is this one: others have the name as well.
fn check_program(found: &mut Findings) {
    match program::on_path(std::env::var_os("PATH").as_deref()) {
        Some((file, true)) => found.ok("path", &format!("{} is this cx", file.display())),
        Some((file, false)) => found.warn(
            "path",
            &format!("{} is another cx", file.display()),
            "a `cx` that you or a model types starts that one (Checkmarx One's client has the name, too)",
            "put this one's directory in front on PATH",
        ),
        None => found.warn(
            "path",
            "the first cx on PATH is none that can be told",
            "there is none, or a relative directory comes before it",
            "put this one's directory on PATH, and relative ones out of it",
        ),
    }
}

/// What Claude Code makes of cx: hook, rules, servers.
fn check_client(cwd: &Path, found: &mut Findings) {
    if std::env::var_os("SANDBOX_RUNTIME").is_some_and(|v| !v.is_empty()) {
        let next = "nothing; outside of the sandbox commands move again";
        found.warn(
            "sandbox",
            "this is a sandbox",
            "everything in it stays here",
            next,
        );
    }
    let Ok(place) = claude::Place::of_process() else {
        return;
    };
    let plugin = claude::plugin_is_on(&place.settings);
    check_hook(&place.settings, plugin, found);
    if let Some(dir) = place.settings.parent() {
        let rules = hook::rules(dir, cwd);
        let files = hook::rules_by_file(dir, cwd);
        for (path, rules) in files.iter().filter(|(_, r)| r.unreadable.is_none()) {
            let (allow, ask, deny) = (rules.allow.len(), rules.ask.len(), rules.deny.len());
            if allow + ask + deny > 0 {
                let path = path.display();
                found.ok("rules", &format!("{path}: {allow} allow, {ask} ask, {deny} deny"));
            }
        }
        let mut wide: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for rule in rules.too_wide_for_cx() {
            let holds = |(path, r): &(PathBuf, Rules)| {
                let there = r.allow.iter().any(|a| a == rule);
                there.then(|| path.display().to_string())
            };
            wide.entry(rule)
                .or_insert_with(|| files.iter().filter_map(holds).collect());
        }
        for (rule, places) in wide {
            let place = match places.is_empty() {
                true => "Claude Code's arguments".to_owned(),
                false => places.join(" and "),
            };
            found.warn(
                "rules",
                &format!("the permission rule {rule} allows whatever cx can run"),
                "the client matches it against `cx COMMAND`, and then allows COMMAND unseen; the hook holds such commands back",
                &format!("take it out of {place}; name the command as well, say Bash(cx make:*)"),
            );
        }
        if rules.might_leave_the_sandbox("cx x") {
            found.warn(
                "rules",
                "the sandbox lets cx run outside of it (excludedCommands)",
                "so would what cx runs on this machine where no node answers; the hook leaves all commands as they are",
                "take cx out of sandbox.excludedCommands",
            );
        }
        if let Some(why) = &rules.unreadable {
            let why = format!("{why}; any rule might be in there, so the hook leaves commands alone");
            found.broken(
                "rules",
                "the permission rules are not known",
                &why,
                "correct that file",
            );
        }
    }
    let registered = [
        (plugin, "the plugin".to_owned()),
        (
            server_in(&place.servers).is_some(),
            place.servers.display().to_string(),
        ),
        (
            server_in(&cwd.join(".mcp.json")).is_some(),
            cwd.join(".mcp.json").display().to_string(),
        ),
    ];
    let by: Vec<&str> = registered
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, by)| by.as_str())
        .collect();
    if by.len() > 1 {
        found.warn(
            "mcp",
            &format!("the MCP server is registered more than once: {}", by.join(", ")),
            "the model sees its tools twice",
            "leave one: `claude mcp remove cx`, or the plugin off",
        );
    }
}

fn server_in(file: &Path) -> Option<String> {
    edit::server(&change::read(file).ok()??).ok()?
}

fn check_hook(settings: &Path, plugin: bool, found: &mut Findings) {
    let shown = settings.display();
    let text = change::read(settings).ok().flatten().unwrap_or_default();
    let mut programs = edit::programs(&text).unwrap_or_default();
    programs.sort();
    programs.dedup();
    if programs.is_empty() && !plugin {
        let why = format!("neither {shown} nor a plugin has it, so Claude Code's commands stay here");
        found.warn(
            "hook",
            "the hook is not installed",
            &why,
            "install it with `cx setup claude`",
        );
        return;
    }
    if plugin && !programs.is_empty() {
        let why = "the plugin's stands back behind the settings'";
        let next = "leave one: `cx setup claude --remove`, or the plugin off";
        found.warn("hook", "the hook is installed twice", why, next);
    }
    for program in programs.iter().filter(|p| !Path::new(p).is_file()) {
        let why = format!("{shown} names {program}, which is not there");
        found.broken(
            "hook",
            "the hook can't be started",
            &why,
            "run `cx setup claude` again",
        );
    }
    for program in programs
        .iter()
        .filter(|p| Path::new(p).is_file() && !same_program(Path::new(p)))
    {
        found.warn(
            "hook",
            &format!("the hook is another build of cx than this: {program}"),
            &format!("{shown} names it; what it knows and what this one does may differ"),
            "run `cx setup claude` with the cx that is to be used, or install that one anew",
        );
    }
    let off = serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|v| v["disableAllHooks"] == true);
    if off {
        let why = format!("{shown} says disableAllHooks");
        found.warn("hook", "no hook is asked", &why, "take disableAllHooks out of it");
    }
    match hook_time() {
        Ok(time) => found.ok(
            "hook",
            &format!("answers in {:.1} ms", time.as_secs_f64() * 1000.0),
        ),
        Err(why) => found.broken("hook", "the hook does not answer", &why, "install cx anew"),
    }
}

/// Whether a file is this very program: the same file, or the same bytes.
fn same_program(file: &Path) -> bool {
    let Ok(own) = std::env::current_exe() else {
        return true;
    };
    let size = |p: &Path| std::fs::metadata(p).map(|m| m.len()).ok();
    match (file.canonicalize(), own.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => true,
        _ => size(file) == size(&own) && std::fs::read(file).ok() == std::fs::read(&own).ok(),
    }
}

/// The median of some calls with a light command.
fn hook_time() -> Result<Duration, String> {
    let call =
        br#"{"hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"true"},"cwd":"/"}"#;
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let mut child = Command::new(&exe)
            .arg("hook")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(call);
        }
        let status = child.wait().map_err(|e| e.to_string())?;
        if !status.success() {
            return Err(format!("it ended with {status}"));
        }
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

fn check_state(paths: &Paths, found: &mut Findings) {
    if let Some(why) = paths.switched_off() {
        found.warn("off", "everything stays on this machine", &why, "`cx on`");
    }
    let table = paths.cache.join("table.json");
    if let (true, Some(why)) = (table.exists(), Table::load(paths).1) {
        let next = format!("nothing; or remove {}", table.display());
        found.warn("state", "the load table is of no use", &why, &next);
    }
    let sockets = std::fs::read_dir(paths.cache.join("ctl"))
        .into_iter()
        .flatten()
        .flatten();
    for entry in sockets {
        let dead = entry.file_type().is_ok_and(|t| t.is_socket())
            && UnixStream::connect(entry.path()).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
        if dead {
            let file = entry.path().display().to_string();
            let why = "the ssh that made it has ended without taking it away";
            found.warn(
                "state",
                &format!("{file} is a dead socket"),
                why,
                &format!("rm {file}"),
            );
        }
    }
}
