//! The hook's answer to an event.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::note::{self, Note};
use super::permissions::{self, Judgement, Rules};
use super::settings::{self, Scopes};
use super::wire::{self, BashInput, Decision, Event};
use super::{call, client, program, session, snapshot, through};
use crate::learned::Glance;
use crate::paths::{self, Paths};
use crate::plan::Class;
use crate::plan::classify::{Context, Judged, judge};
use crate::plan::shell::{self, Dialect, Part, Script, Word};
use crate::table::{self, HookView};

/// Milliseconds by which a given time-out is raised: connecting and a first sync take some of it.
const TRIP_MS: u64 = 10_000;

/// The client's largest time-out, unless `BASH_MAX_TIMEOUT_MS` says another.
const MAX_TIMEOUT_MS: u64 = 600_000;

/// The client's time-out where a call gives none, unless `BASH_DEFAULT_TIMEOUT_MS` says another.
const DEFAULT_TIMEOUT_MS: u64 = 120_000;

/// Permission modes in which commands run. In plan mode, and in modes yet unknown, the text stays as it is.
const MODES: [&str; 5] = ["default", "acceptEdits", "bypassPermissions", "dontAsk", "auto"];

/// The outside world, so that tests can have their own.
pub struct World<'a> {
    /// Environment variables.
    pub var: &'a dyn Fn(&str) -> Option<OsString>,
    /// Where cx keeps things; `None` without a home.
    pub paths: Option<Paths>,
    /// The administrator's settings directory.
    pub managed: PathBuf,
    /// Says whether this machine is busier than the policy's limit.
    pub busy: &'a dyn Fn(&HookView) -> bool,
    /// The session has shell functions: no text is rewritten.
    pub shims: bool,
    /// The plugin calls, which stands back where the settings have the hook as well.
    pub plugin: bool,
}

impl<'a> World<'a> {
    /// That of a process whose environment is `var`.
    pub fn of_process(var: &'a dyn Fn(&str) -> Option<OsString>) -> World<'a> {
        World {
            var,
            paths: Paths::from_vars(var).ok(),
            managed: settings::managed_dir(),
            busy: &|view| view.local_cpu() > view.busy_cpu,
            shims: false,
            plugin: false,
        }
    }
}

impl World<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.var)(name)
            .and_then(|v| v.into_string().ok())
            .filter(|v| !v.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.var)(name).filter(|v| !v.is_empty()).map(PathBuf::from)
    }

    /// The client's own directory.
    pub fn client_dir(&self) -> Option<PathBuf> {
        self.path("CLAUDE_CONFIG_DIR")
            .or_else(|| Some(self.path("HOME")?.join(".claude")))
    }

    /// The user's rules for a command in `cwd`.
    pub fn guard(&self, cwd: &Path) -> Guard {
        let scopes = Scopes {
            user: self.client_dir(),
            project: self.path("CLAUDE_PROJECT_DIR"),
            cwd: cwd.to_owned(),
            managed: self.managed.clone(),
            trust: self
                .path("CLAUDE_CONFIG_DIR")
                .or_else(|| self.path("HOME"))
                .map(|dir| dir.join(".claude.json")),
            client: client::args(self.text("CLAUDE_PID").and_then(|p| p.parse().ok())),
        };
        let headless = match &scopes.client {
            Some(args) if cfg!(target_os = "linux") => args.headless,
            Some(_) => self
                .text("CLAUDE_CODE_SESSION_ATTENDED")
                .is_some_and(|v| v == "0"),
            None => true,
        };
        let mut rules = settings::collect(&scopes);
        let home = self.path("HOME");
        let roots = std::iter::once(scopes.project.unwrap_or_else(|| cwd.to_owned())).chain(
            rules
                .directories
                .drain(..)
                .map(|d| match (d.strip_prefix("~/"), &home) {
                    (Some(below), Some(home)) => home.join(below),
                    _ => PathBuf::from(d),
                }),
        );
        Guard {
            roots: roots.filter(|r| r.is_absolute()).collect(),
            rules,
            headless,
        }
    }

    /// What the user's rules say of a text that would run in `cwd`, whoever runs it.
    pub fn judge(&self, text: &str, cwd: &Path) -> Judgement {
        let guard = self.guard(cwd);
        let inside = |path: &str| permissions::lies_inside(path, cwd, &guard.roots);
        permissions::judge(text, Shell::of(self).dialect, &guard.rules, &inside)
    }

    /// Whether everything is to stay local for now: `CX_LOCAL`, `cx off`, or a sandbox without network.
    fn switched_off(&self) -> bool {
        self.text("CX_LOCAL").is_some_and(|v| v != "0")
            || self.text("SANDBOX_RUNTIME").is_some()
            || self.paths.as_ref().is_some_and(|p| p.switched_off().is_some())
    }

    /// Whether another of cx's hooks answers this event.
    fn stands_back(&self) -> bool {
        self.plugin
            && session::settings_have_hook(
                self.client_dir().as_deref(),
                self.path("CLAUDE_PROJECT_DIR").as_deref(),
            )
    }

    fn milliseconds(&self, name: &str, default: u64) -> u64 {
        self.text(name)
            .and_then(|v| v.parse().ok())
            .filter(|n| *n > 0)
            .unwrap_or(default)
    }
}

/// What the client's own permission rules might say.
pub struct Guard {
    /// The rules of all scopes.
    pub rules: Rules,
    /// Directories in which the client works.
    roots: Vec<PathBuf>,
    /// The client runs without anybody to answer a prompt.
    headless: bool,
}

impl Guard {
    /// Whether the user's rules allow all of `text`, as it would run in `cwd`.
    pub fn covers(&self, text: &str, script: Script, cwd: &Path) -> bool {
        let inside = |path: &str| permissions::lies_inside(path, cwd, &self.roots);
        permissions::covers(&self.rules, text, &script, &inside)
    }
}

/// Whether the hook may answer `allow` in a permission mode. In plan mode and in modes yet unknown it says nothing; in auto
/// mode the client passes some rules over.
pub fn may_allow(mode: &str) -> bool {
    MODES.contains(&mode) && mode != "auto"
}

/// The answer to an event, if there is one.
pub fn answer(bytes: &[u8], world: &World<'_>) -> Option<String> {
    let event = wire::read(bytes)?;
    if event.name == "SessionStart" && world.shims {
        let path = (world.var)("PATH").unwrap_or_default();
        session::start(world.paths.as_ref()?, &path, &world.path("CLAUDE_ENV_FILE")?);
        return None;
    }
    if super::mcp::is_ours(&event.tool) {
        return super::mcp::before(bytes, &event, world);
    }
    if event.tool != "Bash" {
        return None;
    }
    match event.name.as_str() {
        "PreToolUse" => before(&event, event.input.as_ref()?, world).filter(|_| !world.stands_back()),
        "PostToolUse" | "PostToolUseFailure" if world.stands_back() => None,
        "PostToolUse" | "PostToolUseFailure" => {
            let told = after(&event, world)?;
            Some(wire::context(&event.name, &told))
        }
        _ => None,
    }
}

/// What the model is told after a call.
fn after(event: &Event<'_>, world: &World<'_>) -> Option<String> {
    let paths = world.paths.as_ref()?;
    let background = event.input.as_ref().is_some_and(|i| i.background);
    let finished = note::finish(&paths.state, &event.session, &event.tool_use, background);
    finished.reports.or_else(|| {
        let input = event.input.as_ref()?;
        (!finished.noted && !background).then(|| suggestion(event, &input.command, world))?
    })
}

/// What is said of a heavy command that ran here for long, where the config wants that: how long it took, and no guess at how long it
/// would have taken elsewhere.
fn suggestion(event: &Event<'_>, text: &str, world: &World<'_>) -> Option<String> {
    let seconds = event.duration_ms / 1000;
    if seconds == 0 || world.switched_off() || permissions::names_cx(text) {
        return None;
    }
    let view = table::hook_view(world.paths.as_ref()?);
    if view.nodes == 0 || view.suggest_after == 0 || seconds < u64::from(view.suggest_after) {
        return None;
    }
    let context = Context {
        user_rules: &view.rules,
        off: &view.off,
        aliases: &[],
    };
    let judged = judge(shell::parse(text, Shell::of(world).dialect).ok()?, &context);
    let heavy = judged.iter().find(|j| j.verdict.class == Class::Heavy)?;
    let program = heavy.part.argv.first()?.text()?;
    Some(format!(
        "local: the call took {seconds} s here. `{program}` in it can run on a node; `cx explain` with its text says why it did not."
    ))
}

fn before(event: &Event<'_>, input: &BashInput<'_>, world: &World<'_>) -> Option<String> {
    let text = input.command.as_str();
    let shell = Shell::of(world);

    // A `cx X` that the model typed would pass by the rules for X, in every mode.
    if let ControlFlow::Break(answer) = through::typed(event, input, world, &shell) {
        return answer;
    }

    if !MODES.contains(&event.mode.as_str()) || world.switched_off() {
        return None;
    }
    let view = table::hook_view(world.paths.as_ref()?);
    if !view.auto_route || !view.may_route(paths::now_ms()) {
        return None;
    }
    let mut context = Context {
        user_rules: &view.rules,
        off: &view.off,
        aliases: &[],
    };
    let script = shell::parse(text, shell.dialect).ok()?;
    let mut judged = judge(script.clone(), &context);
    let busy = OnceCell::new();
    let busy = || *busy.get_or_init(|| (world.busy)(&view));
    let cwd = Path::new(&event.cwd);
    let short = Glance::new(world.paths.as_ref()?, cwd, &judged);
    let moves = |j: &Judged| {
        view.moves(&j.verdict, &j.part.argv, cwd, &busy)
            && !(j.verdict.class == Class::Heavy && short.stays(&j.part))
    };
    if sites(&judged, &moves).is_empty() {
        return None;
    }
    let defined = world
        .client_dir()
        .map(|d| snapshot::names(&d, shell.name))
        .unwrap_or_default();
    if !defined.is_empty() {
        context.aliases = &defined;
        judged = judge(script.clone(), &context);
    }
    let sites = sites(&judged, &moves);
    if sites.is_empty() {
        return None;
    }
    if world.shims {
        // The functions see neither the deadline nor what the text assigns.
        leave_note(event, input, text, &judged, input.timeout_ms, world);
        return None;
    }

    let guard = world.guard(cwd);
    // What a deny or ask rule may concern, the client is to see as it is.
    if guard.rules.might_restrict(text).is_some() {
        return None;
    }
    let all = guard.rules.allows_all();
    let covered = !all && guard.covers(text, script.clone(), cwd);
    let bypass = event.mode == "bypassPermissions";
    // Where a prompt would mean "no", a text that no rule allows must not replace one that may be allowed.
    if (event.mode == "dontAsk" || guard.headless) && !(all || covered || bypass) {
        return None;
    }

    let plain = !assigns_path(text) && !permissions::names_cx(text) && !defined.iter().any(|n| n == "cx");
    let word = program::prefix((world.var)("PATH").as_deref(), plain)?;
    let command = shell::rewrite(text, shell.dialect, &script, &sites, &word).ok()?;
    // A rule about cx itself must not hit what the user never typed.
    if guard.rules.might_restrict(&command).is_some() {
        return None;
    }
    let timeout_ms = raised(input, world);
    leave_note(event, input, &command, &judged, timeout_ms, world);
    let gained = || {
        let parts = judged.iter().filter(|j| sites.contains(&j.part.site));
        let with_cx = |j: &Judged| {
            let words = std::iter::once(Word::from(word.trim_end())).chain(j.part.argv.iter().cloned());
            guard.rules.allows_only_with_cx(&words.collect::<Vec<_>>(), 1)
        };
        parts.into_iter().find_map(with_cx).map(through::by_cx_alone)
    };
    let reason;
    let decision = if covered && may_allow(&event.mode) {
        Some((Decision::Allow, "your rules allow what cx runs"))
    } else if all || bypass || covered {
        None
    } else {
        reason = gained();
        reason.as_deref().map(|why| (Decision::Ask, why))
    };
    Some(wire::answer(decision, Some((input, &command, timeout_ms))))
}

/// Where `cx ` goes: in front of what `moves` and may have it.
fn sites(judged: &[Judged], moves: &dyn Fn(&Judged) -> bool) -> Vec<usize> {
    let can =
        |part: &Part| part.left_alone.is_none() && part.argv.first().is_some_and(|w| w.text().is_some());
    judged
        .iter()
        .filter(|j| can(&j.part) && moves(j))
        .map(|j| j.part.site)
        .collect()
}

/// The shell that will run the command.
pub struct Shell {
    name: &'static str,
    /// Its language.
    pub dialect: Dialect,
}

impl Shell {
    /// The client takes bash or zsh from `SHELL`; for any other it looks for zsh first, then bash.
    fn of(world: &World<'_>) -> Shell {
        let bash = Shell {
            name: "bash",
            dialect: Dialect::Bash,
        };
        let zsh = Shell {
            name: "zsh",
            dialect: Dialect::Zsh,
        };
        let given = world
            .text("CLAUDE_CODE_SHELL")
            .or_else(|| world.text("SHELL"))
            .unwrap_or_default();
        let name = given.rsplit('/').next().unwrap_or_default();
        if name.contains("bash") {
            return bash;
        }
        let dirs = ["/bin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];
        if name.contains("zsh") || dirs.iter().any(|d| Path::new(d).join("zsh").exists()) {
            zsh
        } else {
            bash
        }
    }
}

/// Whether the text sets PATH, so that another `cx`, or none, may be found by its name.
fn assigns_path(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.match_indices("path").any(|(at, found)| {
        let before = lower[..at].chars().next_back();
        let after = &lower[at + found.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && (after.starts_with('=') || after.starts_with("+="))
    })
}

/// The time-out that goes back: none where none was given.
fn raised(input: &BashInput<'_>, world: &World<'_>) -> Option<u64> {
    let given = input.timeout_ms.filter(|ms| *ms > 0)?;
    let most = world
        .milliseconds("BASH_MAX_TIMEOUT_MS", MAX_TIMEOUT_MS)
        .max(given);
    Some(given.saturating_add(TRIP_MS).min(most))
}

fn leave_note(
    event: &Event<'_>,
    input: &BashInput<'_>,
    text: &str,
    judged: &[Judged],
    timeout_ms: Option<u64>,
    world: &World<'_>,
) {
    let Some(paths) = &world.paths else { return };
    let note = Note {
        at_ms: paths::now_ms(),
        tool_use_id: event.tool_use.clone(),
        timeout_ms: timeout_ms
            .unwrap_or_else(|| world.milliseconds("BASH_DEFAULT_TIMEOUT_MS", DEFAULT_TIMEOUT_MS)),
        background: input.background,
        text: call::mark(text),
        assigned: assigned(judged.iter().map(|j| &j.part)),
        ..Note::default()
    };
    // A hint only: the run does without.
    let _ = note::write(&paths.state, &event.session, &note);
}

/// Names of the variables that the text assigns.
fn assigned<'a>(parts: impl Iterator<Item = &'a Part>) -> Vec<String> {
    let mut names = Vec::new();
    for part in parts {
        names.extend(part.assignments.iter().cloned());
        let mut words = part.argv.iter().filter_map(|w| w.text());
        if words
            .next()
            .is_some_and(|w| matches!(w, "export" | "declare" | "typeset" | "readonly"))
        {
            let set = words
                .filter_map(|w| w.split_once('='))
                .map(|(name, _)| name.trim_end_matches('+'));
            names.extend(set.map(str::to_owned));
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    /// A home of its own; one that has a usable node and no rules.
    struct Env {
        dir: tempfile::TempDir,
        vars: Vec<(String, String)>,
        busy: bool,
    }

    impl Env {
        fn new() -> Env {
            let dir = tempfile::tempdir().unwrap();
            let bin = dir.path().join("bin");
            fs::create_dir(&bin).unwrap();
            std::os::unix::fs::symlink(std::env::current_exe().unwrap(), bin.join("cx")).unwrap();
            let at = |p: &str| dir.path().join(p).display().to_string();
            let vars = [
                ("HOME", at("home")),
                ("CLAUDE_PROJECT_DIR", at("project")),
                ("PATH", at("bin")),
            ];
            let mut vars: Vec<_> = vars.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            vars.push(("SHELL".into(), "/bin/bash".into()));
            // A live process whose arguments are no client's.
            vars.push(("CLAUDE_PID".into(), std::process::id().to_string()));
            let env = Env {
                dir,
                vars,
                busy: false,
            };
            env.put(CONFIG, "nodes = [\"tower\"]\n")
        }

        fn set(mut self, name: &str, value: &str) -> Env {
            self.vars.retain(|(n, _)| n != name);
            self.vars.push((name.into(), value.into()));
            self
        }

        fn put(self, path: &str, text: &str) -> Env {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn paths(&self) -> Paths {
            Paths::under(&self.dir.path().join("home"))
        }

        fn answer(&self, event: &Value) -> Option<Value> {
            let var = |name: &str| {
                self.vars
                    .iter()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| OsString::from(v))
            };
            let world = World {
                paths: Some(self.paths()),
                managed: self.dir.path().join("etc"),
                busy: &|_| self.busy,
                ..World::of_process(&var)
            };
            let text = answer(event.to_string().as_bytes(), &world)?;
            Some(serde_json::from_str::<Value>(&text).unwrap()["hookSpecificOutput"].take())
        }

        /// The rewritten command.
        fn rewrite(&self, command: &str) -> Option<String> {
            let answer = self.answer(&event(command))?;
            assert_eq!(answer.get("permissionDecision"), None, "{command}");
            Some(answer["updatedInput"]["command"].as_str().unwrap().to_owned())
        }
    }

    fn event(command: &str) -> Value {
        json!({
            "session_id": "s1", "cwd": env!("CARGO_MANIFEST_DIR"), "permission_mode": "default", "hook_event_name": "PreToolUse",
            "tool_name": "Bash", "tool_input": {"command": command, "description": "d"}, "tool_use_id": "t1",
        })
    }

    const CONFIG: &str = "home/.config/cx/config.toml";
    #[test]
    fn a_rule_about_cx_itself_keeps_the_text_as_typed() {
        let rules = r#"{"permissions":{"allow":["Bash"],"deny":["Bash(cx:*)"]}}"#;
        let env = Env::new().put("home/.claude/settings.json", rules);
        assert_eq!(env.rewrite("cargo test"), None);
    }

    #[test]
    fn heavy_parts_are_rewritten_and_nothing_else() {
        let env = Env::new();
        for (command, want) in [
            ("cargo test", Some("cx cargo test")),
            (
                "cd app && FOO=1 timeout 300 pytest -x 2>&1 | tail -20; echo $?",
                Some("cd app && FOO=1 timeout 300 cx pytest -x 2>&1 | tail -20; echo $?"),
            ),
            (
                "cargo build && cargo test",
                Some("cx cargo build && cx cargo test"),
            ),
            ("ls -l", None),
            // What the text gives it to read would be lost on a node; a loop's list must not be eaten.
            ("yes | make", None),
            ("make -f - <<< 'all:'", None),
            ("make < /dev/null", Some("cx make < /dev/null")),
            (
                "while read -r f; do pytest $f; done < list",
                Some("while read -r f; do cx pytest $f; done < list"),
            ),
            ("frobnicate", None),
            ("cargo test &&", None),
            ("cx cargo test", None),
            ("bash -c 'cargo test'", None),
            ("", None),
        ] {
            assert_eq!(env.rewrite(command).as_deref(), want, "{command}");
        }
    }

    #[test]
    fn unknown_commands_move_while_this_machine_is_busy() {
        let mut env = Env::new();
        env.busy = true;
        // Any file of the workspace will do; nobody runs it here.
        for (command, want) in [
            ("tests/run.sh --all", Some("cx tests/run.sh --all")),
            ("perl tests/run.sh", Some("cx perl tests/run.sh")),
            ("tests/run.sh deploy", None),
            ("tests/run.sh $WHERE", None),
            ("tests/nosuch.sh", None),
            ("frobnicate --all", None),
            ("source lib.sh && build_all", None),
            ("ls", None),
        ] {
            assert_eq!(env.rewrite(command).as_deref(), want, "{command}");
        }
        env.busy = false;
        assert_eq!(env.rewrite("tests/run.sh --all"), None);
    }

    #[test]
    fn switches_leave_the_text_alone() {
        for (name, value) in [("CX_LOCAL", "1"), ("SANDBOX_RUNTIME", "1")] {
            assert_eq!(Env::new().set(name, value).rewrite("cargo test"), None, "{name}");
        }
        assert!(Env::new().set("CX_LOCAL", "0").rewrite("cargo test").is_some());
        assert_eq!(
            Env::new()
                .put("home/.local/state/cx/off", "")
                .rewrite("cargo test"),
            None
        );
        for config in [
            "",
            "nodes = []\n",
            "nodes = [\"tower\"]\n[policy]\nauto_route = false\n",
            "broken = [",
        ] {
            assert_eq!(
                Env::new().put(CONFIG, config).rewrite("cargo test"),
                None,
                "{config}"
            );
        }
        for mode in ["plan", "tomorrow", ""] {
            let mut e = event("cargo test");
            e["permission_mode"] = json!(mode);
            assert_eq!(Env::new().answer(&e), None, "{mode}");
        }
        for (key, value) in [("tool_name", "Read"), ("hook_event_name", "Stop")] {
            let mut e = event("cargo test");
            e[key] = json!(value);
            assert_eq!(Env::new().answer(&e), None, "{value}");
        }
    }

    #[test]
    fn with_shims_only_a_note_is_left_and_a_typed_cx_is_still_asked_about() {
        let deny = r#"{"permissions":{"deny":["Bash(git push:*)"]}}"#;
        let env = Env::new().put("home/.claude/settings.json", deny);
        let ask = |event: &Value| {
            let var = |name: &str| {
                let found = env.vars.iter().find(|(n, _)| n == name);
                found.map(|(_, v)| OsString::from(v))
            };
            let world = World {
                paths: Some(env.paths()),
                managed: env.dir.path().join("etc"),
                shims: true,
                ..World::of_process(&var)
            };
            answer(event.to_string().as_bytes(), &world)
        };
        assert_eq!(ask(&event("FOO=1 cargo test")), None);
        assert_eq!(
            note::all(&env.paths().state, "s1").pop().unwrap().assigned,
            ["FOO"]
        );
        assert!(ask(&event("sudo cx git push")).unwrap().contains("\"ask\""));
        let there = event("cx run --on tower -- git push");
        assert!(ask(&there).unwrap().contains("\"deny\""));
    }

    #[test]
    fn the_plugin_s_hook_stands_back_where_the_settings_have_one() {
        let hooked =
            r#"{"hooks":{"PreToolUse":[{"hooks":[{"type":"command","command":"/a/cx","args":["hook"]}]}]}}"#;
        for (settings, acts) in [("{}", true), (hooked, false)] {
            let env = Env::new().put("home/.claude/settings.json", settings);
            let var = |name: &str| {
                let found = env.vars.iter().find(|(n, _)| n == name);
                found.map(|(_, v)| OsString::from(v))
            };
            let world = World {
                paths: Some(env.paths()),
                managed: env.dir.path().join("etc"),
                plugin: true,
                ..World::of_process(&var)
            };
            let ask = |event: &Value| answer(event.to_string().as_bytes(), &world).is_some();
            assert_eq!(ask(&event("cargo test")), acts);
            note::append_report(&env.paths().state, "s1", None, "[cx] x").unwrap();
            let mut after = event("cx cargo test");
            after["hook_event_name"] = json!("PostToolUse");
            assert_eq!(ask(&after), acts);
            // The settings' hook must find what the plugin's left.
            assert_eq!(env.answer(&after).is_some(), !acts);
        }
    }

    #[test]
    fn a_rule_that_might_match_leaves_the_text_alone() {
        let deny = |rule: &str| {
            let text = json!({"permissions": {"deny": [rule]}}).to_string();
            Env::new().put("home/.claude/settings.json", &text)
        };
        for rule in ["Bash(cargo test:*)", "Bash", "Bash(* --x)", "Bash(cargo:*)"] {
            assert_eq!(deny(rule).rewrite("cargo test"), None, "{rule}");
        }
        for rule in ["Bash(git push:*)", "Read(.env)", "Bash(cargo publish:*)"] {
            assert!(deny(rule).rewrite("cargo test").is_some(), "{rule}");
        }
        assert_eq!(
            Env::new()
                .put("project/.claude/settings.local.json", "{")
                .rewrite("cargo test"),
            None
        );
        assert_eq!(
            Env::new().set("CLAUDE_PID", "4294967295").rewrite("cargo test"),
            None
        );
    }

    /// What became of a command: the decision and the new text, where there are any.
    fn said(env: &Env, command: &str, mode: &str) -> (Option<String>, Option<String>) {
        let mut e = event(command);
        e["permission_mode"] = json!(mode);
        let Some(answer) = env.answer(&e) else {
            return (None, None);
        };
        let text = |v: &Value| v.as_str().map(str::to_owned);
        (
            text(&answer["permissionDecision"]),
            text(&answer["updatedInput"]["command"]),
        )
    }

    #[test]
    fn typed_cx_is_judged_by_what_it_runs() {
        let rules = r#"{"permissions":{"deny":["Bash(cargo publish:*)", "Bash(git push:*)"],"ask":["Bash(make deploy)"],"allow":["Bash(pytest:*)"]}}"#;
        let env = Env::new().put("home/.claude/settings.json", rules);
        for mode in ["default", "plan", "bypassPermissions", "dontAsk", "tomorrow"] {
            for (command, decision, text) in [
                // What stays here anyway gets its plain text back, which the client's own rules see.
                ("cx git push", None, Some("git push")),
                ("/x/cx run -- git push", None, Some("git push")),
                ("'cx' ls | tail", None, Some("ls | tail")),
                ("cx run --on tower -- cargo publish", Some("deny"), None),
                (
                    "true; A=1 timeout 5 cx cx run --on tower cargo publish --x",
                    Some("deny"),
                    None,
                ),
                ("cx run --on tower -- make deploy", Some("ask"), None),
                ("sudo cx git push", Some("ask"), None),
                ("true; cx git push (", Some("ask"), None),
                ("$(which cx) make", Some("ask"), None),
                ("cx nodes add evil --yes", Some("ask"), None),
                ("cx status", None, None),
                ("cx cargo test", None, None),
                ("git push", None, None),
                ("echo cx; git push", None, None),
                ("git commit -m 'cx push'", None, None),
            ] {
                let got = said(&env, command, mode);
                assert_eq!(
                    (got.0.as_deref(), got.1.as_deref()),
                    (decision, text),
                    "{mode}: {command}"
                );
            }
        }
        for (mode, decision) in [
            ("default", Some("allow")),
            ("plan", None),
            ("auto", None),
            ("dontAsk", Some("allow")),
        ] {
            let (got, text) = said(&env, "cx pytest -x && cx ls", mode);
            assert_eq!(
                (got.as_deref(), text.as_deref()),
                (decision, Some("cx pytest -x && ls")),
                "{mode}"
            );
        }
    }

    #[test]
    fn what_the_rules_allow_is_allowed_and_no_more() {
        let rules = r#"{"permissions":{"allow":["Bash(pytest:*)", "Bash(cx:*)"]}}"#;
        let env = Env::new().put("home/.claude/settings.json", rules);
        for (command, decision) in [
            ("pytest -x 2>&1 | tail -3", "allow"),
            ("cargo test", "ask"),
            ("pytest && cargo test", "ask"),
        ] {
            let (got, text) = said(&env, command, "default");
            assert_eq!(got.as_deref(), Some(decision), "{command}");
            assert!(text.unwrap().contains("cx "), "{command}");
        }
        assert_eq!(said(&env, "cx cargo test", "default").0.as_deref(), Some("ask"));
        assert_eq!(said(&env, "cargo test", "bypassPermissions").0, None);
        assert_eq!(said(&env, "pytest", "auto"), (None, Some("cx pytest".into())));
        assert_eq!(said(&env, "cargo test", "dontAsk"), (None, None));
    }

    #[test]
    fn where_nobody_can_be_asked_only_a_covered_rewrite_is_made() {
        let mut e = event("cargo test");
        e["permission_mode"] = json!("dontAsk");
        assert_eq!(Env::new().answer(&e), None);
        let allow = |rule: &str| json!({"permissions": {"allow": [rule]}}).to_string();
        let answer = Env::new()
            .put("home/.claude/settings.json", &allow("Bash(cargo:*)"))
            .answer(&e)
            .unwrap();
        assert_eq!(answer["permissionDecision"], "allow");
        assert_eq!(
            Env::new()
                .put("home/.claude/settings.json", &allow("Bash(make:*)"))
                .answer(&e),
            None
        );
        assert!(
            Env::new()
                .put("home/.claude/settings.json", &allow("Bash"))
                .answer(&e)
                .is_some()
        );
    }

    #[test]
    fn what_the_shell_defines_stays() {
        let snapshot = "home/.claude/shell-snapshots/snapshot-bash-1-a.sh";
        let env = Env::new().put(snapshot, "alias -- cargo='cargo --quiet'\n");
        assert_eq!(env.rewrite("cargo test"), None);
        assert!(env.rewrite("pytest").is_some());
        let absolute = Env::new()
            .put(snapshot, "alias -- cx='x'\n")
            .rewrite("pytest")
            .unwrap();
        assert!(
            absolute.starts_with('/') || absolute.starts_with('\''),
            "{absolute}"
        );
    }

    #[test]
    fn another_cx_first_on_path_means_the_absolute_path() {
        let exe = std::env::current_exe().unwrap().display().to_string();
        let env = Env::new().set("PATH", "/nowhere");
        assert_eq!(env.rewrite("cargo test").unwrap(), format!("{exe} cargo test"));
        assert_eq!(
            Env::new().rewrite("PATH=$PWD/b:$PATH pytest").unwrap(),
            format!("PATH=$PWD/b:$PATH {exe} pytest")
        );
        assert!(
            Env::new()
                .rewrite("PYTHONPATH=. pytest")
                .unwrap()
                .contains(" cx pytest")
        );
    }

    #[test]
    fn the_time_out_is_raised_only_where_one_was_given() {
        let env = Env::new();
        for (given, want) in [
            (5000, 15_000),
            (595_000, 600_000),
            (600_000, 600_000),
            (900_000, 900_000),
            (0, 0),
        ] {
            let mut e = event("cargo test");
            e["tool_input"]["timeout"] = json!(given);
            assert_eq!(env.answer(&e).unwrap()["updatedInput"]["timeout"], want);
        }
        assert_eq!(
            env.answer(&event("cargo test")).unwrap()["updatedInput"].get("timeout"),
            None
        );
    }

    #[test]
    fn the_run_finds_a_note_and_the_model_a_report() {
        let env = Env::new();
        let state = env.paths().state;
        assert_eq!(env.rewrite("ls"), None);
        assert_eq!(note::all(&state, "s1"), []);
        env.rewrite("export A=1 B; C=2 env D=3 cargo test").unwrap();
        let note = note::all(&state, "s1").pop().unwrap();
        assert_eq!(
            (note.tool_use_id.as_str(), note.timeout_ms, note.background),
            ("t1", 120_000, false)
        );
        assert_eq!(note.assigned, ["A", "C", "D"]);

        for name in ["PostToolUse", "PostToolUseFailure"] {
            let mut after = event("cx cargo test");
            after["hook_event_name"] = json!(name);
            assert_eq!(env.answer(&after), None);
            note::append_report(&state, "s1", None, "[cx] tower · ran 1s").unwrap();
            let want = json!({"hookEventName": name, "additionalContext": "[cx] tower · ran 1s"});
            assert_eq!(env.answer(&after), Some(want));
            assert_eq!(env.answer(&after), None);
        }
    }

    #[test]
    fn a_heavy_command_that_ran_here_for_long_is_mentioned_where_that_is_wanted() {
        let wanted = "nodes = ['a']\n[policy]\nsuggest_after = 60\n";
        let told = |config: &str, command: &str, ms: u64| {
            let env = Env::new().put(CONFIG, config);
            let mut after = event(command);
            after["hook_event_name"] = json!("PostToolUse");
            after["duration_ms"] = json!(ms);
            env.answer(&after).map(|a| a["additionalContext"].clone())
        };
        let said = told(wanted, "cd x && time cargo test | tail", 83_999).unwrap();
        assert!(
            said.as_str()
                .unwrap()
                .starts_with("local: the call took 83 s here. `cargo`"),
            "{said}"
        );
        for (config, command, ms) in [
            ("nodes = ['a']\n", "cargo test", 900_000),
            ("[policy]\nsuggest_after = 60\n", "cargo test", 900_000),
            (wanted, "cargo test", 59_999),
            (wanted, "sleep 900", 900_000),
            (wanted, "cx cargo test", 900_000),
        ] {
            assert_eq!(told(config, command, ms), None, "{config} {command} {ms}");
        }
        // What cx was given has a report of its own, or one that comes later.
        let env = Env::new().put(CONFIG, wanted);
        env.rewrite("cargo test").unwrap();
        let mut after = event("cargo test");
        after["hook_event_name"] = json!("PostToolUse");
        after["duration_ms"] = json!(900_000);
        assert_eq!(env.answer(&after), None);
    }
}
