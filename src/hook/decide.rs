//! The hook's answer to an event.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::defined::Defined;
use super::note::{self, Note};
use super::permissions::{self, Ground, Judgement, Rules};
use super::settings::{self, Scopes};
use super::wire::{self, BashInput, Decision, Event};
use super::{call, client, defined, program, search_path, session, through};
use crate::cli::VERBS;
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
    /// Directories whose projects restrict what is rewritten, besides the session's own.
    pub also: Vec<PathBuf>,
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
            also: Vec::new(),
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

    /// The user's home: where there is no `HOME`, that of the account, for cx's own files as for the client's.
    fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
            .or_else(|| self.paths.as_ref().map(|p| p.home.clone()))
    }

    /// The client's own directory.
    pub fn client_dir(&self) -> Option<PathBuf> {
        self.path("CLAUDE_CONFIG_DIR")
            .or_else(|| Some(self.home()?.join(".claude")))
    }

    /// Which of the names `wanted`, and what others, mean a function or alias where the client runs a text, which is `script`, and whether
    /// PATH is another one there.
    pub(super) fn defined(
        &self,
        event: &Event<'_>,
        shell: &str,
        script: &Script,
        wanted: &[&str],
    ) -> Defined {
        let (home, client_dir) = (self.home(), self.client_dir());
        let places = defined::Places {
            home: home.as_deref(),
            client_dir: client_dir.as_deref(),
            session: &event.session,
            env_file: self.path("CLAUDE_ENV_FILE"),
            dirs: directories(Path::new(&event.cwd), script),
            shell,
        };
        places.look(&script.sources, wanted)
    }

    /// The user's rules for a command in `cwd`; those of the projects of `also` only restrict.
    pub fn guard(&self, cwd: &Path, also: &[PathBuf]) -> Guard {
        let scopes = Scopes {
            user: self.client_dir(),
            project: self.path("CLAUDE_PROJECT_DIR"),
            cwd: cwd.to_owned(),
            also: also.to_vec(),
            managed: self.managed.clone(),
            trust: self
                .path("CLAUDE_CONFIG_DIR")
                .or_else(|| self.home())
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
        let home = self.home();
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

    /// What the user's rules say of a text that would run in `cwd`, whoever runs it; the projects of `also` deny and ask too.
    pub fn judge(&self, text: &str, cwd: &Path, also: &[PathBuf]) -> Judgement {
        let guard = self.guard(cwd, also);
        guard.on_ground(cwd, false, |ground| {
            permissions::judge(text, Shell::of(self).dialect, &guard.rules, ground)
        })
    }

    /// The user's rule for the sake of which a text is left as it is: one that may concern it.
    pub fn rule_about(&self, text: &str, cwd: &Path, also: &[PathBuf]) -> Option<String> {
        self.guard(cwd, also)
            .rules
            .might_restrict(text)
            .map(str::to_owned)
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
    /// Whether the user's rules allow all of `text`, as it would run in `cwd` in that permission mode.
    pub fn covers(&self, text: &str, script: &Script, cwd: &Path, mode: &str) -> bool {
        self.on_ground(cwd, mode == "acceptEdits", |ground| {
            permissions::covers(&self.rules, text, script, ground)
        })
    }

    fn on_ground<T>(&self, cwd: &Path, edits: bool, ask: impl FnOnce(Ground<'_>) -> T) -> T {
        ask(Ground {
            inside: &|path| permissions::lies_inside(path, cwd, &self.roots),
            free: &|path| {
                let found = cwd.join(path).symlink_metadata();
                found.is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
            },
            edits,
        })
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
    let times = Glance::new(world.paths.as_ref()?, cwd, &judged);
    let moves = |j: &Judged| {
        // What goes on in the background is likely to be talked to here.
        let background = j.part.background || input.background;
        let unasked = || !background && busy() && times.takes_long(&j.part);
        view.moves(&j.verdict, &j.part.argv, cwd, &unasked)
            && !(j.verdict.class == Class::Heavy && times.stays(&j.part))
    };
    if sites(&judged, &moves).is_empty() {
        return None;
    }
    let moving = judged.iter().filter(|j| moves(j)).map(|j| &j.part);
    let mut wanted: Vec<&str> = moving
        .flat_map(|p| {
            p.wrappers
                .iter()
                .map(String::as_str)
                .chain(p.argv.first().and_then(Word::text))
        })
        .collect();
    wanted.push("cx");
    let defined = world.defined(event, shell.name, &script, &wanted);
    if !defined.names.is_empty() {
        context.aliases = &defined.names;
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

    let guard = world.guard(cwd, &world.also);
    // What a deny or ask rule may concern, or what a sandbox does not hold, the client is to see as it is.
    if guard.rules.might_restrict(text).is_some() || guard.rules.might_leave_the_sandbox(text) {
        return None;
    }
    let all = guard.rules.allows_all();
    let covered = !all && guard.covers(text, &script, cwd, &event.mode);
    let bypass = event.mode == "bypassPermissions";
    // Where a prompt would mean "no", a text that no rule allows must not replace one that may be allowed.
    if (event.mode == "dontAsk" || guard.headless) && !(all || covered || bypass) {
        return None;
    }

    // What the client may run unasked is not to be asked about for the sake of cx.
    let asked = event.mode == "auto"
        || !permissions::may_run_unasked(&guard.rules, text, &script, &sites, event.mode == "acceptEdits");
    if !(all || covered || bypass || asked) {
        return None;
    }

    let sets_path = defined.path || search_path::may_be_set(text, shell.dialect);
    let plain = !sets_path && !permissions::names_cx(text) && !defined.has("cx");
    let cx = program::prefix((world.var)("PATH").as_deref(), plain)?;
    let rewritten = || judged.iter().filter(|j| sites.contains(&j.part.site));
    // A tool may be called what a verb of cx is called.
    let is_verb = |j: &Judged| {
        let name = j.part.argv.first().and_then(Word::text);
        name.is_none_or(|n| n.starts_with('-') || VERBS.contains(&n))
    };
    let dashes = rewritten().any(is_verb);
    let word = format!("{cx}{}", if dashes { "-- " } else { "" });
    let command = shell::rewrite(text, shell.dialect, &script, &sites, &word).ok()?;
    // A rule about cx itself must not hit what the user never typed, nor let it out of the sandbox.
    if guard.rules.might_restrict(&command).is_some() || guard.rules.might_leave_the_sandbox(&command) {
        return None;
    }
    let timeout_ms = raised(input, world);
    let gained = || {
        let with_cx = |j: &Judged| {
            let mut words = vec![Word::from(cx.trim_end())];
            words.extend(dashes.then(|| Word::from("--")));
            let at = words.len();
            words.extend(j.part.argv.iter().cloned());
            guard.rules.allows_only_with_cx(&words, at)
        };
        rewritten().find_map(with_cx).map(through::by_cx_alone)
    };
    let reason;
    let decision = if covered && may_allow(&event.mode) {
        Some((Decision::Allow, "your rules allow what cx runs"))
    } else if all || bypass || covered {
        None
    } else {
        reason = gained();
        // There the client's own check decides about the command as typed, and nobody is asked.
        if reason.is_some() && event.mode == "auto" {
            return None;
        }
        reason.as_deref().map(|why| (Decision::Ask, why))
    };
    leave_note(event, input, &command, &judged, timeout_ms, world);
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
    pub name: &'static str,
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

/// The directories in which the commands of a text may run, as far as it names them.
fn directories(cwd: &Path, script: &Script) -> Vec<PathBuf> {
    let mut dirs = vec![cwd.to_owned()];
    for part in &script.parts {
        if let [program, dir, ..] = &part.argv[..]
            && matches!(program.text(), Some("cd" | "pushd"))
            && let (Some(dir), Some(last)) = (dir.text(), dirs.last())
        {
            dirs.push(last.join(dir));
        }
    }
    dirs
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
    let mut names: Vec<String> = shell::assigned(parts).into_iter().map(|a| a.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
