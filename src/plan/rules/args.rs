//! Reading the arguments of a command: which are operands, which options are set and to what.

use crate::plan::shell::Word;

/// What stands at an operand's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At<'a> {
    /// A static word and its index.
    Word(usize, &'a str),
    /// A word that is known only when the shell has expanded it.
    Dynamic,
    /// Nothing.
    End,
}

impl<'a> At<'a> {
    /// The word, if it is static.
    pub fn word(self) -> Option<&'a str> {
        match self {
            At::Word(_, w) => Some(w),
            _ => None,
        }
    }
}

/// The first operand from index `from` on. An option in `valued` takes the next word as its value, unless it carries
/// one itself (`--opt=value`, or `-ovalue` for a short one); other options take none.
pub(super) fn operand<'a>(args: &'a [Word], from: usize, valued: &[&str]) -> At<'a> {
    let mut i = from;
    while let Some(word) = args.get(i) {
        if word.is_flag() {
            i += 1;
            continue;
        }
        let Some(text) = word.text() else {
            return At::Dynamic;
        };
        if text == "--" {
            return match args.get(i + 1) {
                None => At::End,
                Some(w) => w.text().map_or(At::Dynamic, |t| At::Word(i + 1, t)),
            };
        }
        if !text.starts_with('-') || text == "-" {
            return At::Word(i, text);
        }
        i += if valued.contains(&text) { 2 } else { 1 };
    }
    At::End
}

/// All operands from `from` on; `None` if one is dynamic.
pub(super) fn operands<'a>(args: &'a [Word], from: usize, valued: &[&str]) -> Option<Vec<&'a str>> {
    let mut out = Vec::new();
    let mut i = from;
    loop {
        match operand(args, i, valued) {
            At::End => return Some(out),
            At::Dynamic => return None,
            At::Word(at, w) => {
                out.push(w);
                i = at + 1;
            }
        }
    }
}

/// Static arguments before a `--`.
pub(super) fn before_dashes(args: &[Word]) -> impl Iterator<Item = &str> {
    args.iter()
        .map(|w| w.text().unwrap_or("\0"))
        .take_while(|w| *w != "--")
}

/// Whether one of `flags` stands before a `--`; for a long flag also as `--flag=...` with a value that is not a refusal.
pub(super) fn has(args: &[Word], flags: &[&str]) -> bool {
    before_dashes(args).any(|w| {
        flags.iter().any(|flag| {
            w == *flag
                || (flag.starts_with("--")
                    && w.strip_prefix(flag)
                        .and_then(|rest| rest.strip_prefix('='))
                        .is_some_and(|v| !matches!(v, "false" | "no" | "0" | "never" | "none")))
        })
    })
}

/// Values of the option `flag`: `--flag=V`, `--flag V`, and `-fV` for short ones. `None` in the list for a value that
/// is not static.
pub(super) fn values<'a>(args: &'a [Word], flag: &str) -> Vec<Option<&'a str>> {
    let mut out = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let Some(text) = word.text() else { continue };
        if text == "--" {
            break;
        }
        if text == flag {
            out.extend(words.next().map(|w| w.text()));
        } else if let Some(rest) = text.strip_prefix(flag) {
            if flag.starts_with("--") {
                out.extend(rest.strip_prefix('=').map(Some));
            } else if flag.len() == 2 {
                out.push(Some(rest.strip_prefix('=').unwrap_or(rest)));
            }
        }
    }
    out
}

/// The last static value of the option `flag`.
pub(super) fn value<'a>(args: &'a [Word], flag: &str) -> Option<&'a str> {
    values(args, flag).pop().flatten()
}

/// `dir/name`, without a `./` in front; just `name` where `dir` is the run's own directory.
pub(super) fn join(dir: &str, name: &str) -> String {
    let dir = tidy(dir);
    if dir == "." {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

/// A directory as it was typed, without `./` in front and `/` behind; `.` for the run's own.
pub(super) fn tidy(dir: &str) -> &str {
    let mut d = dir;
    while let Some(rest) = d.strip_prefix("./") {
        d = rest.trim_start_matches('/');
    }
    let d = if d.len() > 1 { d.trim_end_matches('/') } else { d };
    if d.is_empty() {
        if dir.starts_with('/') { "/" } else { "." }
    } else {
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Word> {
        text.split_whitespace()
            .map(|w| if w == "$" { Word::Dynamic } else { w.into() })
            .collect()
    }

    #[test]
    fn operands_and_options_are_told_apart() {
        let args = words("-j 4 -C dir --x=y all -k test -- -last");
        assert_eq!(operand(&args, 0, &["-j", "-C"]), At::Word(5, "all"));
        assert_eq!(
            operands(&args, 0, &["-j", "-C"]),
            Some(vec!["all", "test", "-last"])
        );
        assert_eq!(operand(&words("-C $ all"), 0, &["-C"]), At::Word(2, "all"));
        assert_eq!(operand(&words("-C all $"), 0, &["-C"]), At::Dynamic);
        assert_eq!(operand(&words("-C"), 0, &["-C"]), At::End);
        assert!(has(&words("a --watch"), &["--watch"]) && has(&words("--watch=all"), &["--watch"]));
        assert!(!has(&words("--watch=false -- --watch"), &["--watch"]));
        assert_eq!(value(&words("-o a -ob"), "-o"), Some("b"));
        assert_eq!(
            values(&words("--out x --out=y --outer z --out $"), "--out"),
            [Some("x"), Some("y"), None]
        );
        assert_eq!(
            (tidy("./a/"), tidy("."), tidy("./"), tidy("/"), tidy("a/b")),
            ("a", ".", ".", "/", "a/b")
        );
    }
}
