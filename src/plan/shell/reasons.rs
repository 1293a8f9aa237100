//! Why a command that could have a word inserted is left alone all the same: for what it is, for what the text makes
//! of its name, or because the text would show the inserted word.

use std::collections::BTreeSet;

use super::Part;
use super::words::Word;

/// Names that the text itself gives a new meaning.
#[derive(Default)]
pub(super) struct Defined {
    pub(super) names: BTreeSet<String>,
    /// Set where a name is not known: then any may be meant.
    pub(super) any: bool,
}

impl Defined {
    /// Takes in what another part of the same text defines.
    pub(super) fn merge(&mut self, other: Defined) {
        self.names.extend(other.names);
        self.any |= other.any;
    }

    /// Takes in what `alias` defines, if that is what `argv` is.
    pub(super) fn note_aliases(&mut self, argv: &[Word]) {
        if argv.first().and_then(Word::text) != Some("alias") {
            return;
        }
        for arg in &argv[1..] {
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

    pub(super) fn shadows(&self, part: &Part) -> Option<String> {
        if self.any {
            return Some("the text defines functions or aliases of unknown names".to_owned());
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
