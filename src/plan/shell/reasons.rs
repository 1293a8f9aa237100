//! Why a command that could have a word inserted is left alone all the same: for what it is, for what the text makes
//! of its name, or because the text would show the inserted word.

use std::collections::BTreeSet;

use super::words::Word;
use super::{Dialect, Part};

/// What the text itself makes of names, and of the descriptors of its commands.
#[derive(Default)]
pub(super) struct Defined {
    pub(super) names: BTreeSet<String>,
    /// Set where a name is not known: then any may be meant.
    pub(super) any: bool,
    /// Where shell text runs that is not known before, and which builtin runs it: from there on any name may mean anything.
    unknown: Option<(usize, &'static str)>,
    /// Files that `source` reads; `~/` in front is the home directory.
    pub(super) sources: Vec<String>,
    /// Programs that are given a descriptor above 2.
    handed: BTreeSet<String>,
}

/// Programs whose output is made for `eval`: variables, and functions with names of their own.
const MADE_FOR_EVAL: [&str; 21] = [
    "asdf",
    "brew",
    "conda",
    "dircolors",
    "direnv",
    "fnm",
    "goenv",
    "jenv",
    "luarocks",
    "mamba",
    "micromamba",
    "mise",
    "nodenv",
    "opam",
    "pdm",
    "poetry",
    "pyenv",
    "rbenv",
    "register-python-argcomplete",
    "rtx",
    "ssh-agent",
];

/// Files made to be read, wherever they are: what they define has names of its own.
const MADE_FOR_SOURCE: [&str; 7] = [
    "/bin/activate",
    "/cargo/env",
    "/.cargo/env",
    "/conda.sh",
    "/emsdk_env.sh",
    "/nvm.sh",
    "/sdkman-init.sh",
];

impl Defined {
    /// Takes in what another part of the same text defines, of which the byte `i` stands at `at(i)`.
    pub(super) fn merge(&mut self, other: Defined, at: impl Fn(usize) -> usize) {
        self.names.extend(other.names);
        self.any |= other.any;
        if let Some((offset, builtin)) = other.unknown {
            self.not_known(at(offset), builtin);
        }
        self.sources.extend(other.sources);
        self.handed.extend(other.handed);
    }

    fn not_known(&mut self, at: usize, builtin: &'static str) {
        if self.unknown.is_none_or(|(first, _)| at < first) {
            self.unknown = Some((at, builtin));
        }
    }

    /// Takes in what the command `argv`, whose words are written `raws`, defines from the offset `at` on, if that is what it
    /// does. Returns the text that an `eval` runs, where that is known.
    pub(super) fn note(&mut self, argv: &[Word], raws: &[&str], at: usize) -> Option<String> {
        let skip = usize::from(argv.first().and_then(Word::text) == Some("builtin"));
        let name = argv.get(skip)?.text()?;
        let args = &argv[skip + 1..];
        let options = args.iter().take_while(|a| a.text() == Some("--")).count();
        let (args, raws) = (&args[options..], &raws[skip + 1 + options..]);
        match name {
            "alias" => self.note_aliases(args),
            "hash" => self.note_named(args.iter().filter(|a| a.text().is_none_or(|t| t.contains('=')))),
            "autoload" => self.note_named(args.iter()),
            "functions" if args.first().and_then(Word::text) == Some("-c") => self.note_named(args.iter()),
            "eval" => {
                let known: Option<Vec<&str>> = args.iter().map(Word::text).collect();
                if known.is_none() && !matches!(raws, [raw] if is_made_for_eval(raw)) {
                    self.not_known(at, "eval");
                }
                return known.map(|words| words.join(" "));
            }
            "source" | "." => {
                let builtin = if name == "." { "." } else { "source" };
                match args.first().map(|a| (a.text(), raws[0])) {
                    Some((Some(file), _)) => self.sources.push(file.to_owned()),
                    Some((None, raw)) => match below_home(raw) {
                        Some(file) => self.sources.push(file),
                        None if MADE_FOR_SOURCE
                            .iter()
                            .any(|f| raw.trim_end_matches('"').ends_with(f)) => {}
                        None => self.not_known(at, builtin),
                    },
                    None => {}
                }
            }
            _ => {}
        }
        None
    }

    /// Takes in that an `eval` runs a text that is not understood, and counts from `at` on.
    pub(super) fn note_unread(&mut self, at: usize) {
        self.not_known(at, "eval");
    }

    fn note_named<'w>(&mut self, args: impl Iterator<Item = &'w Word>) {
        for arg in args {
            match arg.text() {
                Some(text) => {
                    let name = text.split('=').next().unwrap_or(text);
                    self.names.insert(name.to_owned());
                }
                None => self.any = true,
            }
        }
    }

    fn note_aliases(&mut self, args: &[Word]) {
        for arg in args {
            match arg.text() {
                // zsh: `alias -g X=...` replaces words anywhere, `-s` goes by suffix.
                Some(flag) if flag.starts_with('-') && flag != "-p" && flag != "--" => self.any = true,
                Some(text) => {
                    if let Some((name, _)) = text.split_once('=') {
                        self.names.insert(name.to_owned());
                    }
                }
                None => self.any = true,
            }
        }
    }

    /// Takes in an assignment to `name`, with a subscript or a whole array: some arrays of the shells hold what names mean.
    pub(super) fn note_assignment(&mut self, name: &str, subscript: Option<Word>, dialect: Dialect) {
        let tables: &[&str] = match dialect {
            Dialect::Bash => &["BASH_ALIASES", "BASH_CMDS"],
            Dialect::Zsh => &["functions", "aliases", "galiases", "saliases", "commands"],
        };
        if !tables.contains(&name) {
            return;
        }
        match subscript {
            Some(Word::Static(key)) if !matches!(name, "galiases" | "saliases") => {
                self.names.insert(key);
            }
            _ => self.any = true,
        }
    }

    /// Takes in that a command is given a descriptor above 2.
    pub(super) fn note_handed(&mut self, argv: &[Word]) {
        let program = argv.first().and_then(Word::text);
        self.handed.extend(program.map(str::to_owned));
    }

    pub(super) fn shadows(&self, part: &Part) -> Option<String> {
        if self.any {
            return Some("the text defines functions or aliases of unknown names".to_owned());
        }
        if let Some((at, builtin)) = self.unknown
            && part.span.start >= at
        {
            let what = if builtin == "eval" { "text" } else { "file" };
            return Some(format!("after `{builtin}` of a {what} that is not known before"));
        }
        if self.handed.contains("exec") || (part.in_function && !self.handed.is_disjoint(&self.names)) {
            return Some(DESCRIPTOR.to_owned());
        }
        // What is not found would be the handler's to answer.
        let handlers = ["command_not_found_handle", "command_not_found_handler"];
        if handlers.iter().any(|h| self.names.contains(*h)) {
            return Some("the text says what is done about programs that are not found".to_owned());
        }
        let program = part.argv.first().and_then(Word::text);
        part.wrappers
            .iter()
            .map(String::as_str)
            .chain(program)
            .find(|name| self.names.contains(*name))
            .map(|name| format!("the text defines `{name}` as a function or alias"))
    }
}

/// Why what may hold more descriptors than a run has is left alone.
pub(super) const DESCRIPTOR: &str = "it may have a descriptor above 2, which a node has not";

/// Whether a word is the output of one program that is made for `eval`, and of nothing else.
fn is_made_for_eval(raw: &str) -> bool {
    let raw = raw
        .strip_prefix('"')
        .and_then(|r| r.strip_suffix('"'))
        .unwrap_or(raw);
    let Some(command) = raw.strip_prefix("$(").and_then(|r| r.strip_suffix(')')) else {
        return false;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || " /._-=~+@".contains(c);
    let program = command.split_whitespace().next().unwrap_or_default();
    let base = program.rsplit('/').next().unwrap_or(program);
    command.chars().all(plain) && MADE_FOR_EVAL.contains(&base)
}

/// The file that `~/x`, `$HOME/x` or `"${HOME}/x"` names, with `~/` in front.
fn below_home(raw: &str) -> Option<String> {
    let quoted = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
    let text = quoted.unwrap_or(raw);
    let rest = match text.strip_prefix("~/") {
        Some(rest) if quoted.is_none() => rest,
        _ => text
            .strip_prefix("$HOME/")
            .or_else(|| text.strip_prefix("${HOME}/"))?,
    };
    let plain = |c: char| c.is_alphanumeric() || "/._-+@".contains(c) || (c == ' ' && quoted.is_some());
    rest.chars().all(plain).then(|| format!("~/{rest}"))
}

/// What a text shows of its own commands, so that an inserted word would be seen.
#[derive(Default)]
pub(super) struct Shown {
    /// Every command, and by what.
    all: Option<&'static str>,
    /// The bodies of functions.
    functions: bool,
    /// The jobs in the background.
    jobs: bool,
    /// Programs whose remembered place is asked for, and the offset of the question.
    remembered: Vec<(String, usize)>,
}

impl Shown {
    /// By the commands of a text.
    pub(super) fn of(text: &str, parts: &[Part]) -> Shown {
        let mut shown = Shown::default();
        if text.contains("BASH_COMMAND") || text.contains("ZSH_DEBUG_CMD") {
            shown.all = Some("the text reads the command that runs (BASH_COMMAND)");
        }
        for part in parts {
            shown.add(part);
        }
        shown
    }

    fn add(&mut self, part: &Part) {
        let Some(program) = part.argv.first().and_then(Word::text) else {
            return;
        };
        let args = &part.argv[1..];
        let options = || args.iter().filter_map(Word::text).filter(|w| w.starts_with('-'));
        let has = |letter: char| {
            args.iter().any(|w| {
                let option = match w {
                    Word::Static(s) | Word::Flag(s) => s.strip_prefix('-'),
                    Word::Dynamic => None,
                };
                option.is_some_and(|o| !o.starts_with('-') && o.contains(letter))
            })
        };
        let operands = || {
            args.iter()
                .filter(|w| !w.text().is_some_and(|t| t.starts_with('-')))
        };
        let names = |list: &[&str]| {
            args.iter().filter_map(Word::text).any(|w| {
                let plain: String = w.to_ascii_lowercase().replace('_', "");
                list.contains(&plain.as_str())
            })
        };
        let taken = program == "unset"
            || (program == "export" && has('n'))
            || (matches!(program, "declare" | "typeset") && args.iter().any(|w| w.text() == Some("+x")));
        if taken && args.iter().any(|w| w.text() == Some("PATH")) {
            self.all = Some("the text takes PATH away from its programs");
        }
        match program {
            "set" | "setopt" | "emulate" if has('x') || names(&["xtrace"]) => {
                self.all = Some("the shell traces its commands (`set -x`)");
            }
            "set" | "setopt" if has('v') || names(&["verbose"]) => {
                self.all = Some("the shell prints its input (`set -v`)");
            }
            "set" if args.is_empty() => self.functions = true,
            "shopt" if names(&["extdebug"]) => self.all = Some("the text debugs itself (extdebug)"),
            "hash" if args.is_empty() || has('l') || has('t') || has('p') || has('d') => {
                self.all = Some("the text asks which programs the shell remembers (`hash`)");
            }
            "declare" | "typeset" if has('f') || operands().next().is_none() => self.functions = true,
            "ulimit" | "limit" | "unlimit" if program == "unlimit" || sets_limits(args) => {
                self.all = Some(if program == "ulimit" {
                    "the text sets limits (`ulimit`), which a node does not keep"
                } else {
                    "the text sets limits (`limit`), which a node does not keep"
                });
            }
            // Job control tells of the jobs that end.
            "set" if has('m') => self.jobs = true,
            "export" if has('f') => self.functions = true,
            "functions" | "whence" | "which" | "where" => self.functions = true,
            "type" => {
                self.functions = true;
                let quiet = options().any(|o| matches!(o, "-t" | "-P" | "-p"));
                if !quiet {
                    self.remember(operands(), part);
                }
            }
            "jobs" if !has('p') => self.jobs = true,
            "fg" | "bg" => self.jobs = true,
            _ => {}
        }
        // The walk passes over `command` when it is in front of a program, not over `command -V`.
        if program == "command" && has('V') {
            self.functions = true;
            self.remember(operands(), part);
        }
    }

    fn remember<'w>(&mut self, names: impl Iterator<Item = &'w Word>, part: &Part) {
        let names = names.filter_map(Word::text);
        self.remembered
            .extend(names.map(|n| (n.to_owned(), part.span.start)));
    }

    /// Why `part` is left alone, if so.
    pub(super) fn reason(&self, part: &Part) -> Option<String> {
        if let Some(why) = self.all {
            return Some(why.to_owned());
        }
        if part.in_function && self.functions {
            return Some("the text may show or hand on the function it stands in".to_owned());
        }
        if part.background && self.jobs {
            return Some("the text lists its jobs".to_owned());
        }
        // In a loop the question may come after the run, too; then it stands before it in the text as well.
        let program = part.argv.first().and_then(Word::text)?;
        self.remembered
            .iter()
            .any(|(name, at)| name == program && (*at > part.span.start || part.depth > 0))
            .then(|| format!("the text asks what `{program}` is to the shell"))
    }
}

/// Whether the arguments of `ulimit` or `limit` do more than ask, about anything but core files.
fn sets_limits(args: &[Word]) -> bool {
    if matches!(
        args.first().and_then(Word::text),
        Some("-c" | "-Sc" | "-Hc" | "coredumpsize")
    ) {
        return false;
    }
    let asks = |arg: &Word| {
        let flags = arg.text().and_then(|t| t.strip_prefix('-'));
        flags.is_some_and(|f| f.bytes().all(|b| b.is_ascii_alphabetic()))
    };
    !args.iter().all(asks)
}

/// Commands that are left alone for what they are.
pub(super) fn own(argv: &[Word]) -> Option<String> {
    let Some(program) = argv.first().and_then(Word::text) else {
        return Some("the program's name is not a static word".to_owned());
    };
    let base = program.rsplit('/').next().unwrap_or(program);
    let why = match base {
        "xargs" | "parallel" => "starts its commands itself",
        "find" | "fd" | "fdfind"
            if argv.iter().filter_map(Word::text).any(|a| {
                matches!(
                    a,
                    "-exec" | "-execdir" | "-ok" | "-okdir" | "-x" | "-X" | "--exec" | "--exec-batch"
                )
            }) =>
        {
            "starts its commands itself"
        }
        "sh" | "bash" | "zsh" | "dash" | "ksh" | "mksh" | "fish" | "ash" | "busybox" => {
            "is a shell of its own"
        }
        "eval" | "source" | "." | "trap" => "runs shell text",
        "sudo" | "doas" | "su" | "runuser" | "pkexec" | "gosu" => "changes the user",
        "!" | "{" | "}" | "[[" | "]]" | "if" | "then" | "else" | "elif" | "fi" | "do" | "done" | "case"
        | "esac" | "while" | "until" | "for" | "select" | "function" | "in" | "coproc" | "repeat"
        | "foreach" | "end" | "always" | "((" => "may be a word of the shell's grammar",
        "time" => "may be the keyword",
        "builtin" => "names a builtin of the shell",
        "" => "the program's name is empty",
        _ if base.starts_with('-') => "looks like an option",
        _ => return None,
    };
    Some(if base.is_empty() {
        why.to_owned()
    } else {
        format!("`{base}` {why}")
    })
}
