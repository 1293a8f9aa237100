//! `cx` that the model typed itself: what it would run, so that the rules for that are asked.

use super::pieces::{Piece, pieces};
use crate::cli::VERBS;
use crate::plan::shell::{self, Dialect, Part, Script, Word};

/// `cx cx cx ls` is taken apart so many times at most.
const MAX_ROUNDS: usize = 4;

/// What was found of `cx` among the commands of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// None of them can be cx.
    No,
    /// They are all plainly understood.
    Found(Unwrapped),
    /// One of them may be cx, or may start it.
    Unclear,
}

/// A text whose every `cx` was understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unwrapped {
    /// The text without any `cx`: what is run, but for the place.
    pub plain: String,
    /// The text without the `cx` that change nothing, where there are any.
    pub lighter: Option<String>,
    /// What the `cx` that are left run.
    pub inner: Vec<Inner>,
    /// What those run that change nothing.
    pub light: Vec<Inner>,
    /// A verb that starts what cannot be seen, or that widens where commands may run.
    pub opaque: Option<&'static str>,
    /// How the programs are named that are taken for cx.
    pub called: Vec<String>,
}

/// One `cx` and its command.
#[derive(Debug, PartialEq, Eq)]
pub struct Inner {
    /// The command up to its end.
    pub text: String,
    /// The words from `cx` on.
    pub words: Vec<Word>,
    /// Which of them is the command's first.
    pub at: usize,
}

/// Takes `text` apart. `light` says of a command whether cx would keep it on this machine anyway.
pub fn unwrap(text: &str, dialect: Dialect, light: &dyn Fn(&[Word]) -> bool) -> Typed {
    if !super::names_cx(text) {
        return Typed::No;
    }
    let Ok(script) = shell::parse(text, dialect) else {
        return Typed::Unclear;
    };
    if script.parts.iter().any(may_start_cx) {
        return Typed::Unclear;
    }
    if !script.parts.iter().any(is_cx) {
        return Typed::No;
    }
    let stays = |here: Option<bool>, argv: &[Word]| here.unwrap_or_else(|| light(argv));
    let mut found = Unwrapped::default();
    let Some(lighter) = remove(text, dialect, &stays, &mut found) else {
        return Typed::Unclear;
    };
    found.light = std::mem::take(&mut found.inner);
    let Some(plain) = remove(&lighter, dialect, &|_, _| true, &mut found) else {
        return Typed::Unclear;
    };
    let called = script
        .parts
        .iter()
        .filter(|p| is_cx(p))
        .filter_map(|p| p.argv.first()?.text());
    found.called = called.map(str::to_owned).collect();
    found.lighter = Some(lighter).filter(|t| t != text);
    found.plain = plain;
    Typed::Found(found)
}

fn program(part: &Part) -> Option<&str> {
    let program = part.argv.first()?.text()?;
    Some(program.rsplit('/').next().unwrap_or(program))
}

fn is_cx(part: &Part) -> bool {
    program(part) == Some("cx")
}

/// Whether a command may be cx, or start one, without showing it.
fn may_start_cx(part: &Part) -> bool {
    const STARTERS: [&str; 24] = [
        "bash", "builtin", "command", "dash", "doas", "env", "eval", "exec", "fd", "find", "flock", "nohup",
        "parallel", "setsid", "sh", "source", ".", "ssh", "sudo", "time", "trap", "watch", "xargs", "zsh",
    ];
    match part.argv.first() {
        None => false,
        Some(_) => program(part).is_none_or(|name| STARTERS.contains(&name)),
    }
}

/// `text` without the `cx` whose command `which` picks, and what they run; `None` where one is not understood.
fn remove(
    text: &str,
    dialect: Dialect,
    which: &dyn Fn(Option<bool>, &[Word]) -> bool,
    found: &mut Unwrapped,
) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..MAX_ROUNDS {
        let script = shell::parse(&text, dialect).ok()?;
        let (mut cuts, mut inner) = (Vec::new(), Vec::new());
        for part in script.parts.iter().filter(|p| is_cx(p)) {
            let (words, whole) = pieces(&text, part, part.site);
            if words.len() < 2 && !whole {
                return None;
            }
            match wanted(&words)? {
                Wanted::Opaque(verb) => found.opaque = Some(verb),
                Wanted::Verb => {}
                Wanted::Command { at, here } => {
                    // The words of the command, of which some may have been cut off: those of the part.
                    let argv = part.argv.get(at..)?;
                    if argv.is_empty() {
                        return None;
                    }
                    let start = words.get(at)?.span.start;
                    if which(here, argv) {
                        cuts.push(part.site..start);
                        inner.push(Inner {
                            text: text[start..part.span.end].to_owned(),
                            words: part.argv.clone(),
                            at,
                        });
                    }
                }
            }
        }
        if cuts.is_empty() {
            return Some(text);
        }
        found.inner.append(&mut inner);
        cuts.sort_by_key(|cut| std::cmp::Reverse(cut.start));
        for cut in cuts {
            text.replace_range(cut, "");
        }
        if !same_elsewhere(&script, &shell::parse(&text, dialect).ok()?) {
            return None;
        }
    }
    None
}

/// Whether taking words away left all other commands what they were.
fn same_elsewhere(before: &Script, after: &Script) -> bool {
    before.parts.len() == after.parts.len()
        && before.parts.iter().zip(&after.parts).all(|(b, a)| {
            let kept = if is_cx(b) {
                b.argv.ends_with(&a.argv) || !a.wrappers.is_empty()
            } else {
                b.argv == a.argv
            };
            kept && b.redirects.len() == a.redirects.len() && b.stdin == a.stdin
        })
}

enum Wanted {
    /// It runs the command whose first word is that one. `here`: whether the text itself says that it stays on this
    /// machine (`--local`), or must not (`--on`).
    Command {
        at: usize,
        here: Option<bool>,
    },
    /// A verb of cx that runs nothing of the model's choice; the client's rules see it.
    Verb,
    Opaque(&'static str),
}

/// What `cx WORDS...` is about; `None` where that is not clear.
fn wanted(words: &[Piece<'_>]) -> Option<Wanted> {
    let value = |i: usize| words.get(i).and_then(|w| w.value.as_deref());
    Some(match value(1) {
        // A word that does not show what it is.
        None if words.len() < 2 => Wanted::Verb,
        None => return None,
        Some("run") => return run(words),
        Some("-h" | "--help" | "-V" | "--version" | "help") => Wanted::Verb,
        Some("nodes") if matches!(value(2), Some("list" | "--help" | "-h") | None) && words.len() < 5 => {
            Wanted::Verb
        }
        Some("nodes") => Wanted::Opaque("nodes"),
        Some("setup") => Wanted::Opaque("setup"),
        Some("trust") => Wanted::Opaque("trust"),
        Some("agent") => Wanted::Opaque("agent"),
        Some("mcp") => Wanted::Opaque("mcp"),
        Some("parallel") => Wanted::Opaque("parallel"),
        Some(
            "status" | "explain" | "runs" | "logs" | "attach" | "cancel" | "pull" | "push" | "warm"
            | "conflicts" | "gc" | "doctor" | "init" | "completions" | "man" | "demo" | "off" | "on" | "hook"
            | "hold" | "refresh",
        ) => Wanted::Verb,
        Some("--") if words.len() > 2 => command(words, 2, None)?,
        Some("") => return None,
        Some(word) if word.starts_with('-') || VERBS.contains(&word) => return None,
        Some(_) => command(words, 1, None)?,
    })
}

/// The command whose first word is that one. `None` where the same words mean something else to a shell than to cx, which
/// starts a program of that name: an assignment, a word of the shell's grammar, or what changes the shell itself.
fn command(words: &[Piece<'_>], at: usize, here: Option<bool>) -> Option<Wanted> {
    let first = words.get(at)?.value.as_deref()?;
    let argv: Vec<Word> = words[at..]
        .iter()
        .map(|w| w.value.as_deref().map_or(Word::Dynamic, Word::from))
        .take(2)
        .collect();
    let other = first.contains('=') || shell::is_the_shells(&argv);
    (!other).then_some(Wanted::Command { at, here })
}

/// `cx run OPTIONS -- COMMAND`.
fn run(words: &[Piece<'_>]) -> Option<Wanted> {
    let mut here = None;
    let mut at = 2;
    loop {
        let word = words.get(at)?.value.as_deref()?;
        let (name, attached) = match word.split_once('=') {
            Some((name, _)) if name.starts_with("--") => (name, true),
            _ => (word, false),
        };
        match name {
            "--" => {
                at += 1;
                break;
            }
            "--help" | "-h" => return Some(Wanted::Verb),
            "--on" | "--os" | "--arch" => {
                here = Some(false);
                at += if attached { 1 } else { 2 };
            }
            "--detach-at" => at += if attached { 1 } else { 2 },
            "--require-remote" | "--detach" => {
                here = Some(false);
                at += 1;
            }
            "--local" => {
                here = Some(true);
                at += 1;
            }
            "-q" | "--quiet" => at += 1,
            _ if name.starts_with('-') => return None,
            _ => break,
        }
    }
    command(words, at, here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Typed {
        unwrap(text, Dialect::Bash, &|argv| {
            argv.first().and_then(Word::text) == Some("ls")
        })
    }

    #[test]
    fn every_spelling_is_taken_apart() {
        for (text, plain) in [
            ("cx make test", "make test"),
            ("cx run -- make test", "make test"),
            ("cx -- make test", "make test"),
            ("cx run make test", "make test"),
            ("cx run --on n1 -q -- make test", "make test"),
            ("cx run --on=n1 --detach-at 5 make test", "make test"),
            ("/opt/cx make", "make"),
            ("./cx make", "make"),
            ("~/bin/../cx make", ""),
            ("'cx' make", "make"),
            ("\\cx make", "make"),
            ("c'x' make", "make"),
            ("A=1 timeout 5 cx make | tail", "A=1 timeout 5 make | tail"),
            ("command cx make", "command make"),
            ("env A=1 cx make", "env A=1 make"),
            ("cx cx run -- cx make", "make"),
            ("cx make && cx run -- ls; echo cx", "make && ls; echo cx"),
            ("(cx make)", "(make)"),
            ("for i in 1; do cx make $i; done", "for i in 1; do make $i; done"),
            ("echo $(cx make)", "echo $(make)"),
            ("cx 2>&1 make", ""),
            ("cx make > out", "make > out"),
            ("cx timeout 5 make", "timeout 5 make"),
        ] {
            match of(text) {
                Typed::Found(found) if !plain.is_empty() => assert_eq!(found.plain, plain, "{text}"),
                Typed::Unclear if plain.is_empty() => {}
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_light_gets_its_plain_text_back() {
        let lighter = |text: &str| match of(text) {
            Typed::Found(found) => found.lighter,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(lighter("cx ls -l | tail").as_deref(), Some("ls -l | tail"));
        assert_eq!(lighter("cx make && cx ls").as_deref(), Some("cx make && ls"));
        assert_eq!(lighter("cx run -q -- ls").as_deref(), Some("ls"));
        assert_eq!(lighter("cx run --local -- make").as_deref(), Some("make"));
        for text in [
            "cx make",
            "cx run --on n1 -- ls",
            "cx run --require-remote -- ls",
            "cx status",
        ] {
            assert_eq!(lighter(text), None, "{text}");
        }
    }

    #[test]
    fn other_texts() {
        for text in [
            "ls",
            "echo cx",
            "git commit -m 'cx push'",
            "cxx make",
            "make CXX=cx",
        ] {
            assert_eq!(of(text), Typed::No, "{text}");
        }
        for text in [
            "sudo cx make",
            "bash -c 'cx make'",
            "echo make | xargs cx",
            "eval cx make",
            "$(which cx) make",
            "cx $X",
            "cx \"$X\" a",
            "cx run --new -- make",
            "cx --new make",
            "cx run",
            "cx make (",
            "find . -exec cx make \\;",
            "cx run --on $X -- make",
            "cx {make,test}",
            "cx NODE_ENV=./evil ls",
            "cx run --on n1 -- A=b make",
            "cx ! ls",
            "cx time make",
            "cx cd sub; ls",
            "cx -- exit 3",
            "cx run export A=b",
            // What is given up on for its length may hold any cx.
            &format!("cx make; {} x", "{".repeat(60_000)),
            &format!("{}cx make", "x\n".repeat(30_000)),
            &format!("cat <<E\n{}E\ncx make", "a $(b)\n".repeat(2_000)),
        ] {
            assert_eq!(of(text), Typed::Unclear, "{text}");
        }
        for (text, opaque) in [
            ("cx nodes add evil --yes", Some("nodes")),
            ("cx nodes list", None),
            ("cx setup claude", Some("setup")),
            ("cx trust", Some("trust")),
            ("echo x | cx agent", Some("agent")),
            ("cx parallel a b", Some("parallel")),
            ("cx status", None),
            ("cx attach 5", None),
            ("cx", None),
            ("cx --version", None),
        ] {
            match of(text) {
                Typed::Found(found) => assert_eq!((found.opaque, found.inner.len()), (opaque, 0), "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
