//! The rule table: which programs are heavy, in which forms, and what they need and do.
//!
//! A built-in rule is found by a `match` on the program's base name, so that the hook pays for no table and no
//! regular expression. What a tool needs and leaves is a `Shape`, a constant; a family's function picks the shape by
//! the arguments. The user's own rules ([`UserRule`]) come first.

mod args;
mod jvm;
mod known;
mod light;
mod native;
mod node;
mod others;
mod programs;
mod python;
mod rust;
mod targets;
mod user;

pub use known::NAMES;
pub use programs::PROGRAMS;
pub use user::{Pattern, UserClass, UserMatch, UserNeed, UserNeedTable, UserPlatform, UserRule};

use crate::plan::shell::{Word, is_the_shells};
use crate::plan::verdict::{Brings, Class, Need, PlatformTie, Verdict, Workload};

/// Runners in runners (`uv run coverage run -m pytest`) are followed this far.
const MAX_NESTING: usize = 6;

/// Which rules apply.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The user's own rules, first match first.
    pub user: &'a [UserRule],
    /// Built-in rules switched off, by name.
    pub off: &'a [String],
}

/// Tools whose targets and plugins are named by words of the user's own, among which some act on the world.
const BUILDERS: &[&str] = &[
    "python",
    "python3",
    "cmake",
    "meson",
    "ctest",
    "dotnet",
    "msbuild",
    "xcodebuild",
    "gradle",
    "gradlew",
    "mvn",
    "mvnw",
    "sbt",
    "ninja",
    "bazel",
];

/// Words that tell of acting on the world or on this machine.
const ACTING: &[&str] = &[
    "deploy",
    "publish",
    "publishing",
    "upload",
    "submit",
    "install",
    "release",
    "push",
    "ship",
    "jib",
    "wagon",
    "artifactory",
    "experimental",
    "nightly",
    "continuous",
    "migrate",
    "apply",
    "destroy",
    "flash",
    "serve",
    "server",
    "prod",
    "production",
    "staging",
    "login",
    "secret",
    "secrets",
    "start",
    "up",
    "down",
    "drop",
    "sync",
    "send",
    "provision",
    "watch",
];

/// The first word among `args` that tells of acting: a whole word of letters in it, whatever stands around it (`b:publish`,
/// `artifactoryPublish`, `-tdeploy`). Paths and assignments of properties do not count.
pub fn acting_word(args: &[Word]) -> Option<&str> {
    let text = |w: &'_ Word| w.text().map(str::to_owned);
    args.iter().enumerate().find_map(|(i, word)| {
        let word = word.text()?;
        let named = word.starts_with("/t:") || word.starts_with("-t:");
        let is_path = !named && (word.contains('/') || (word.contains('.') && !word.contains(':')));
        // `--config Release` is a way to build.
        let before = i.checked_sub(1).and_then(|i| args.get(i)).and_then(text);
        let is_configuration =
            word.eq_ignore_ascii_case("release") && before.is_some_and(|b| b.starts_with('-'));
        let acts = !is_path
            && !is_configuration
            && !word.starts_with("-D")
            && words(word).iter().any(|w| ACTING.contains(&w.as_str()));
        acts.then_some(word)
    })
}

/// The words of a name, at non-letters and where small letters turn to capitals; the flag letter of `-tdeploy` goes.
fn words(text: &str) -> Vec<String> {
    let bare = match text.strip_prefix('-') {
        Some(rest) if !rest.starts_with('-') && rest.len() > 2 => {
            &rest[rest.chars().next().map_or(0, char::len_utf8)..]
        }
        _ => text,
    };
    let mut words = vec![String::new()];
    let mut small = false;
    for c in bare.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && small) {
            words.push(String::new());
        }
        small = c.is_lowercase();
        if c.is_alphabetic() {
            words.last_mut().expect("there is one").extend(c.to_lowercase());
        }
    }
    words
}

/// More words, which in a command that no rule knows tell of acting on this machine or on others, or of running until stopped.
const ACTING_UNKNOWN: [&str; 28] = [
    "backup", "bot", "cleanup", "commit", "curl", "daemon", "db", "dev", "kill", "listen", "mysql", "port",
    "psql", "reset", "restart", "restore", "seed", "send", "service", "setup", "snapshot", "ssh", "start",
    "stop", "sync", "tunnel", "watch", "worker",
];

/// Whether a command that no rule knows may leave a busy machine unasked, as far as its words tell: nothing in them, its own name
/// included, tells of acting on the world. (That its program or script is a file of the workspace is for the caller to see.)
pub fn may_move_unasked(argv: &[Word]) -> bool {
    let name = argv
        .first()
        .and_then(Word::text)
        .map(|p| p.rsplit('/').next().unwrap_or(p).to_owned());
    let Some(name) = name else { return false };
    let stem = name.split('.').next().unwrap_or_default();
    let acts = |w: &String| ACTING.contains(&w.as_str()) || ACTING_UNKNOWN.contains(&w.as_str());
    !words(stem).iter().any(acts)
        && acting_word(&argv[1..]).is_none()
        && argv[1..].iter().all(|w| {
            // `-i`: it wants to be talked to.
            w.text().is_some_and(|t| t != "-i" && !words(t).iter().any(acts))
        })
}

/// Judges one simple command.
pub fn judge(argv: &[Word], scope: Scope) -> Verdict {
    judge_nested(argv, scope, 0)
}

fn judge_nested(argv: &[Word], scope: Scope, depth: usize) -> Verdict {
    let Some(first) = argv.first() else {
        return light("light:assignment", "there is no program in it");
    };
    let Some(program) = first.text() else {
        return unknown(
            "",
            "the program's name is known only when the shell has expanded it",
        );
    };
    if depth > MAX_NESTING {
        return unknown("", "too many runners inside one another");
    }
    let (dir, name) = match program.rsplit_once('/') {
        Some((dir, name)) => (Some(dir), name),
        None => (None, program),
    };
    if name == "cx" {
        return light("cx", "it is cx itself");
    }
    if !is_the_shells(argv)
        && let Some(rule) = scope.user.iter().find(|r| r.applies(argv))
    {
        return rule.verdict(program);
    }
    let base = plain_name(name);
    let call = Call {
        program,
        base,
        args: &argv[1..],
        scope,
        depth,
    };
    let found = match dir {
        Some(dir) if !is_place_of_tools(dir) && !is_wrapper_script(base) => {
            return unknown("", &format!("`{program}` may be any program"));
        }
        Some(dir) if !is_system(dir) => heavy_rule(&call),
        _ => heavy_rule(&call).or_else(|| light::rule(&call)),
    };
    let Some(mut verdict) = found else {
        return unknown("", &format!("no rule knows `{name}`"));
    };
    if scope.off.contains(&verdict.rule) {
        let reason = format!("the rule `{}` is switched off", verdict.rule);
        return light(&verdict.rule, &reason);
    }
    if verdict.class == Class::Heavy
        && BUILDERS.contains(&base)
        // `dotnet publish` itself only makes a directory.
        && let Some(word) = acting_word(argv.get(if base == "dotnet" { 2.. } else { 1.. }).unwrap_or_default())
    {
        let reason = format!("`{word}` may install or publish something");
        return light(&verdict.rule, &reason);
    }
    if verdict.class == Class::Heavy
        && let Some(dir) = dir
    {
        read_home_of(dir, &mut verdict.workload);
    }
    verdict
}

/// A command under judgement.
#[derive(Clone, Copy)]
struct Call<'a> {
    /// The program as typed.
    program: &'a str,
    /// Its base name without a version: `gcc` for `/usr/bin/gcc-13`.
    base: &'a str,
    /// What follows.
    args: &'a [Word],
    scope: Scope<'a>,
    depth: usize,
}

impl<'a> Call<'a> {
    /// The command as a person would say it in short: program and subcommand.
    fn says(&self, sub: &str) -> String {
        if sub.is_empty() {
            self.base.to_owned()
        } else {
            format!("{} {sub}", self.base)
        }
    }

    /// Judges the command that this one runs.
    fn inner(&self, argv: &[Word]) -> Verdict {
        judge_nested(argv, self.scope, self.depth + 1)
    }

    /// Judges the command that starts at argument `at` and that this program runs in an environment of its own:
    /// what the node must have is then this program.
    fn runs(&self, at: usize) -> Verdict {
        let mut verdict = self.inner(self.args.get(at..).unwrap_or_default());
        if verdict.class == Class::Heavy {
            verdict.workload.needs = vec![need(self.program)];
        }
        verdict
    }

    /// The same for a program that finds the inner one in PATH: both are needed.
    fn wraps(&self, at: usize) -> Verdict {
        let mut verdict = self.inner(self.args.get(at..).unwrap_or_default());
        if verdict.class == Class::Heavy {
            verdict.workload.needs.insert(0, need(self.program));
        }
        verdict
    }
}

/// The rule for heavy programs (which may still judge a form of them light).
fn heavy_rule(call: &Call) -> Option<Verdict> {
    let judged = native::rule(call)
        .or_else(|| rust::rule(call))
        .or_else(|| python::rule(call))
        .or_else(|| node::rule(call))
        .or_else(|| jvm::rule(call))
        .or_else(|| others::rule(call))?;
    if judged.class != Class::Light && only_informs(call) {
        return Some(light(&judged.rule, "it prints help or a version"));
    }
    Some(judged)
}

/// Whether the command only prints help or a version.
fn only_informs(call: &Call) -> bool {
    if let [only] = call.args {
        match only.text() {
            Some("-h" | "-?" | "-help" | "-version" | "help" | "version") => return true,
            Some("-V") if call.base != "ctest" => return true,
            Some("-v") if known::version_is_v(call.base) => return true,
            Some("-vV") if call.base == "cargo" || call.base == "rustc" => return true,
            _ => {}
        }
    }
    args::before_dashes(call.args).any(|a| a == "--help" || a == "--version" || a == "--help-all")
}

/// What a tool needs and does, before its arguments are looked at.
#[derive(Clone, Copy)]
struct Shape {
    /// The rule's name.
    rule: &'static str,
    /// What it does, to stand after the command in a reason: `type-checks the sources`.
    does: &'static str,
    /// Whether major.minor of the program must be the local one's.
    versioned: bool,
    /// Directories it reads and cannot make.
    reads: &'static [&'static str],
    /// Cache directories it leaves.
    leaves: &'static [&'static str],
    /// Outputs by their usual names.
    outputs: &'static [&'static str],
    /// Options whose value is a file that it writes.
    files: &'static [&'static str],
    /// Options whose value is a directory that it fills.
    dirs: &'static [&'static str],
    /// Where its outputs cannot be known.
    ignored: bool,
    /// Whether programs come back.
    same_platform: bool,
    /// Options that make it watch, ask or open something.
    local_if: &'static [&'static str],
}

/// A tool that only gives a verdict.
const fn shape(rule: &'static str, does: &'static str) -> Shape {
    Shape {
        rule,
        does,
        versioned: false,
        reads: &[],
        leaves: &[],
        outputs: &[],
        files: &[],
        dirs: &[],
        ignored: false,
        same_platform: false,
        local_if: &[],
    }
}

impl Shape {
    /// The verdict for `call`, whose subcommand (if any) is `sub`.
    fn verdict(&self, call: &Call, sub: &str) -> Verdict {
        if let Some(flag) = self.local_if.iter().find(|flag| args::has(call.args, &[flag])) {
            return light(
                self.rule,
                &format!("`{}` with `{flag}` is interactive or watches", call.says(sub)),
            );
        }
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let mut outputs = owned(self.outputs);
        for flag in self.files {
            outputs.extend(
                args::values(call.args, flag)
                    .into_iter()
                    .flatten()
                    .map(|f| args::tidy(f).to_owned()),
            );
        }
        for flag in self.dirs {
            outputs.extend(
                args::values(call.args, flag)
                    .into_iter()
                    .flatten()
                    .map(|d| args::join(d, "**")),
            );
        }
        let brings = if self.ignored {
            Brings::Ignored
        } else if outputs.is_empty() {
            Brings::Synced
        } else {
            Brings::Outputs(outputs)
        };
        Verdict {
            class: Class::Heavy,
            rule: self.rule.to_owned(),
            reason: format!("`{}` {}", call.says(sub), self.does),
            workload: Workload {
                needs: vec![Need {
                    same_version: self.versioned,
                    ..need(call.program)
                }],
                reads: owned(self.reads),
                leaves: owned(self.leaves),
                brings,
                stdin: false,
                platform: if self.same_platform {
                    PlatformTie::Same
                } else {
                    PlatformTie::Free
                },
                tags: Vec::new(),
                same_paths: false,
            },
        }
    }
}

fn need(program: &str) -> Need {
    Need {
        program: program.to_owned(),
        module: None,
        same_version: false,
    }
}

fn light(rule: &str, reason: &str) -> Verdict {
    Verdict {
        class: Class::Light,
        rule: rule.to_owned(),
        reason: reason.to_owned(),
        workload: Workload::default(),
    }
}

fn unknown(rule: &str, reason: &str) -> Verdict {
    // A person may type `cx` in front of it; where it then runs elsewhere, whatever it made comes back.
    let workload = Workload {
        brings: Brings::Ignored,
        ..Workload::default()
    };
    Verdict {
        class: Class::Unknown,
        rule: rule.to_owned(),
        reason: reason.to_owned(),
        workload,
    }
}

/// `gcc-13` is gcc, `python3.12` and `python3` are python, `x86_64-linux-gnu-g++` is g++.
fn plain_name(name: &str) -> &str {
    if let Some(rest) = name.strip_prefix("python")
        && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b't')
    {
        return &name[..6];
    }
    let mut base = name;
    if let Some((front, version)) = base.rsplit_once('-')
        && !version.is_empty()
        && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && !front.is_empty()
    {
        base = front;
    }
    if let Some((triple, tool)) = base.rsplit_once('-')
        && matches!(tool, "gcc" | "g++" | "cc" | "c++" | "clang" | "clang++")
        && triple.contains('-')
    {
        base = tool;
    }
    base
}

fn is_system(dir: &str) -> bool {
    matches!(
        dir,
        "/bin"
            | "/usr/bin"
            | "/usr/local/bin"
            | "/sbin"
            | "/usr/sbin"
            | "/usr/local/sbin"
            | "/opt/homebrew/bin"
            | "/snap/bin"
    )
}

/// Whether a program at this place is what its name says: `.venv/bin`, `node_modules/.bin`, `vendor/bin`.
fn is_place_of_tools(dir: &str) -> bool {
    is_system(dir)
        || matches!(
            dir.rsplit('/').next(),
            Some("bin" | ".bin" | "Scripts" | "binstubs")
        )
}

/// Scripts that stand in a project and are what their name says.
fn is_wrapper_script(base: &str) -> bool {
    matches!(
        base,
        "gradlew"
            | "mvnw"
            | "bazelw"
            | "sbt"
            | "mill"
            | "manage.py"
            | "waf"
            | "x.py"
            | "rebar3"
            | "configure"
    )
}

/// A tool that lies in an environment inside the tree reads that environment.
fn read_home_of(dir: &str, workload: &mut Workload) {
    let dir = args::tidy(dir);
    if dir.starts_with('/') {
        return;
    }
    let home = match dir.rsplit_once('/') {
        Some((home, "bin" | "Scripts" | ".bin")) => home,
        _ => return,
    };
    if !workload.reads.iter().any(|r| r == home) {
        workload.reads.push(home.to_owned());
    }
}

#[cfg(test)]
mod tests;
