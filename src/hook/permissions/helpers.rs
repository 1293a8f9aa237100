//! Commands that the client runs without a rule: those that only look at what they are given, and in the mode that accepts
//! edits those that make files.

use super::pieces::Piece;
use crate::plan::shell::{Part, StdinFrom};

/// Where the commands of a text would run.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Whether a relative path, seen from there, leads to what exists in a directory that the client works in.
    pub inside: &'a dyn Fn(&str) -> bool,
    /// Whether nothing has that name yet.
    pub free: &'a dyn Fn(&str) -> bool,
    /// The client lets files there be made unasked.
    pub edits: bool,
}

/// Where a command stands, and what was met on the way to it.
pub struct Place<'a> {
    /// Where the text would run.
    pub ground: Ground<'a>,
    /// A `cd` came before: relative paths are no longer known.
    pub moved: bool,
    /// A file was written.
    pub written: bool,
}

impl Place<'_> {
    /// Whether the client lets `path` be written unasked; notes that something was.
    pub fn may_write(&mut self, path: &str) -> bool {
        // A name with a dot in front may be a file that it protects.
        let plain = path
            .split('/')
            .all(|p| !p.is_empty() && !p.starts_with(['.', '-']));
        let may = self.ground.edits && !self.moved && plain && self.leads_inside(path);
        self.written |= may;
        may
    }

    /// Whether what `path` names lies inside, or would: the nearest directory that exists decides.
    fn leads_inside(&self, path: &str) -> bool {
        if (self.ground.inside)(path) {
            return true;
        }
        (self.ground.free)(path)
            && match path.rsplit_once('/') {
                Some((above, _)) => self.leads_inside(above),
                None => (self.ground.inside)("."),
            }
    }

    /// Whether these are files or directories that the client lets be read unasked.
    fn may_read(&self, files: &[&Piece<'_>]) -> bool {
        let known = |f: &str| {
            !f.starts_with(['-', '/']) && !f.split('/').any(|p| p == "..") && (self.ground.inside)(f)
        };
        files.is_empty() || !self.moved && files.iter().all(|f| f.plain().is_some_and(known))
    }
}

/// Whether the client runs `words`, which are those of `part`, without a rule.
pub fn needs_no_rule(words: &[Piece<'_>], part: &Part, place: &mut Place<'_>) -> bool {
    let program = words[0].raw;
    let arguments = &words[1..];
    let (options, others): (Vec<&Piece<'_>>, Vec<&Piece<'_>>) = arguments
        .iter()
        .partition(|w| w.raw.starts_with('-') && w.raw != "-");
    // Options behind a file are left to the client; so are those not made of these letters.
    let flags_first = arguments[..options.len()].iter().all(|w| w.raw.starts_with('-'));
    let flags = |letters: &str| {
        flags_first
            && options.iter().all(|w| {
                w.plain()
                    .is_some_and(|w| w.len() > 1 && w[1..].chars().all(|c| letters.contains(c)))
            })
    };
    match program {
        "true" | "false" | "pwd" | "whoami" | "nproc" => arguments.is_empty(),
        "echo" => arguments
            .iter()
            .all(|w| !w.raw.contains(['$', '`', '\\', '*', '?', '[', '~', '!', '{'])),
        "printf" => arguments
            .first()
            .is_some_and(|w| w.raw.starts_with('\'') && !w.raw.contains(['$', '`']) && arguments.len() == 1),
        "sleep" => matches!(arguments, [only] if only.plain().is_some_and(is_number)),
        "date" => match arguments {
            [] => true,
            [only] => only.plain().is_some_and(|w| w.starts_with('+') || w == "-u"),
            _ => false,
        },
        "uname" => flags("asrm") && others.is_empty(),
        "which" => options.is_empty() && others.len() == 1 && others[0].plain().is_some_and(is_name),
        "head" | "tail" => counted(arguments).is_some_and(|files| place.may_read(&files)),
        "grep" => {
            let Some((pattern, files)) = others.split_first() else {
                return false;
            };
            flags("EFivwcnoqx")
                && !pattern.raw.contains(['$', '`', '\\', '~', '*', '?', '['])
                && place.may_read(files)
        }
        "sed" => match arguments {
            [n, lines] => {
                n.plain() == Some("-n")
                    && part.stdin == StdinFrom::Pipe
                    && lines.value.as_deref().is_some_and(prints_lines)
            }
            _ => false,
        },
        "wc" => flags("lwcm") && place.may_read(&others),
        "sort" => flags("nrufbh") && others.is_empty(),
        "uniq" => flags("cdui") && others.is_empty(),
        "cat" => flags("n") && place.may_read(&others),
        "ls" => flags("laAhtrS1") && place.may_read(&others),
        "diff" => flags("uq") && others.len() == 2 && place.may_read(&others),
        "[" | "test" => is_test(program, arguments),
        "git" => only_looks(arguments) && !place.moved && !place.written && !(place.ground.inside)("HEAD"),
        "mkdir" => {
            let made = flags("p") && !others.is_empty();
            made && others
                .iter()
                .all(|f| f.plain().is_some_and(|f| place.may_write(f)))
        }
        "touch" => {
            let made = options.is_empty() && !others.is_empty();
            made && others
                .iter()
                .all(|f| f.plain().is_some_and(|f| place.may_write(f)))
        }
        _ => false,
    }
}

fn is_number(word: &str) -> bool {
    let whole = word.strip_suffix(['s', 'm']).unwrap_or(word);
    !whole.is_empty()
        && whole.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && whole.matches('.').count() < 2
}

fn is_name(word: &str) -> bool {
    word.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+'))
}

/// The files of `head` and `tail`: what stands behind a count.
fn counted<'a>(arguments: &'a [Piece<'a>]) -> Option<Vec<&'a Piece<'a>>> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let is_count = |w: &str| digits(w.strip_prefix('+').unwrap_or(w));
    let files = match arguments {
        [n, count, files @ ..] if n.plain() == Some("-n") => {
            count.plain().is_some_and(is_count).then_some(files)?
        }
        [one, files @ ..] if one.raw.starts_with('-') => {
            let count = one.plain()?.strip_prefix('-')?;
            digits(count.strip_prefix('n').unwrap_or(count)).then_some(files)?
        }
        files => files,
    };
    Some(files.iter().collect())
}

/// `5p`, `1,20p`
fn prints_lines(script: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    script
        .strip_suffix('p')
        .is_some_and(|lines| lines.split(',').count() < 3 && lines.split(',').all(digits))
}

/// `[ -d sub ]`, `test ! -f a.txt`: whether something is there.
fn is_test(program: &str, arguments: &[Piece<'_>]) -> bool {
    let inner = match (program, arguments.split_last()) {
        ("[", Some((last, inner))) if last.raw == "]" => inner,
        ("test", Some(_)) => arguments,
        _ => return false,
    };
    let inner = match inner.split_first() {
        Some((not, rest)) if not.raw == "!" => rest,
        _ => inner,
    };
    let is_path = |w: &Piece<'_>| {
        w.plain()
            .is_some_and(|w| !w.starts_with(['-', '/', '=']) && !w.split('/').any(|p| p == ".."))
    };
    matches!(inner, [what, path] if matches!(what.raw, "-f" | "-d" | "-e") && is_path(path))
}

/// Forms of git that change nothing and ask no other machine.
fn only_looks(arguments: &[Piece<'_>]) -> bool {
    let words: Option<Vec<&str>> = arguments.iter().map(Piece::plain).collect();
    let Some((sub, rest)) = words.as_deref().and_then(|w| w.split_first()) else {
        return false;
    };
    let known: &[&str] = match *sub {
        "status" => &["-s", "--short", "--porcelain"],
        "diff" => &["--stat", "--name-only", "--cached", "HEAD"],
        "log" => &["--oneline", "--stat", "-1", "-2", "-3", "-5", "-10", "-20"],
        "branch" => &["--show-current"],
        "rev-parse" => &["HEAD", "--abbrev-ref"],
        _ => return false,
    };
    rest.iter().all(|w| known.contains(w)) && (*sub != "rev-parse" || !rest.is_empty())
}
