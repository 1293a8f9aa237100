//! Whether shell text sets PATH, so that another `cx`, or none, may be found by its name when a command runs.

use crate::plan::shell::Dialect;

/// How far (in bytes) a value, and the line before it, are looked at: a file may hold thousands that have no end.
const MAX_VALUE: usize = 4 << 10;

/// So many letters of short options may stand before a name.
const MAX_OPTIONS: usize = 8;

/// Whether a text that is about to run may set PATH: it names the variable other than to expand it. By which command does not matter
/// (`read PATH`, `printf -vPATH`, `env -u PATH`, `declare -n p=PATH`). In zsh the array `path` is the same variable.
pub fn may_be_set(text: &str, dialect: Dialect) -> bool {
    let array = match dialect {
        Dialect::Bash => None,
        // What is part of a file's name, or an option, is not the array.
        Dialect::Zsh => Some(named(text, "path").filter(|(before, _)| !before.ends_with(['-', '/', '.']))),
    };
    named(text, "PATH")
        .chain(array.into_iter().flatten())
        .any(|(before, after)| {
            let expands = before.ends_with('$') || before.ends_with("${");
            !expands || after.starts_with('=') || after.starts_with(":=")
        })
}

/// Whether shell text in a file seems to give PATH a value of its own: one that is not made from the old one. What only puts back an older
/// value (`PATH="$_OLD_VIRTUAL_PATH"`) is none. It is not parsed: that it may not get there does no harm.
pub fn is_replaced(text: &str) -> bool {
    let replaces = |before: &str, value: &str| {
        value.contains(['/', '`', '('])
            && !["$PATH", "${PATH", "$path", "${path"]
                .iter()
                .any(|old| value.contains(old))
            && !in_comment(before)
    };
    let assigned = named(text, "PATH").any(|(before, after)| {
        after
            .strip_prefix('=')
            .is_some_and(|rest| replaces(before, value(rest)))
    });
    assigned
        || named(text, "path").any(|(before, after)| {
            after
                .strip_prefix("=(")
                .and_then(|rest| head(rest).split(')').next())
                .is_some_and(|rest| replaces(before, rest))
        })
}

/// What stands before and after each `name` in a text that is a word there, or the end of one with a short option (`-vPATH`).
fn named<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).filter_map(move |(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        let option = || {
            let mut letters = before.chars().rev().take(MAX_OPTIONS);
            letters.find(|c| !c.is_alphabetic()) == Some('-')
        };
        let begins = !before.ends_with(of_a_word) || option();
        (begins && !after.starts_with(of_a_word)).then_some((before, after))
    })
}

/// The word at the start of a text, with its quotes, and with the substitutions in it as far as they hold no quote.
fn value(text: &str) -> &str {
    let text = head(text);
    let mut quote = None;
    let mut depth = 0_usize;
    let end = text.find(|c: char| {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') if depth > 0 => depth -= 1,
            (None, _) => return depth == 0 && (c.is_whitespace() || ";&|)".contains(c)),
            _ => {}
        }
        false
    });
    &text[..end.unwrap_or(text.len())]
}

fn head(text: &str) -> &str {
    let mut ends = (0..=MAX_VALUE.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// Whether what follows `before` stands in a line that is a comment.
fn in_comment(before: &str) -> bool {
    let before = &before.as_bytes()[before.len().saturating_sub(MAX_VALUE)..];
    let line = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    line.trim_ascii_start().starts_with(b"#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_set_path_is_found_in_the_text() {
        for (text, bash, zsh) in [
            ("PATH=/x make", true, true),
            ("PATH+=:/x; make", true, true),
            ("PATH[0]=/x; make", true, true),
            ("read PATH <<< /usr/bin; make", true, true),
            ("env -u PATH make", true, true),
            ("env -uPATH make", true, true),
            ("env --unset=PATH make", true, true),
            ("printf -v PATH %s /usr/bin; make", true, true),
            ("printf -vPATH %s /usr/bin; make", true, true),
            ("for PATH in /usr/bin; do make; done", true, true),
            ("declare -n p=PATH; p=/usr/bin; make", true, true),
            ("unset 'PATH'; make", true, true),
            (": ${PATH:=/x}; make", true, true),
            ("path=(/x); make", false, true),
            ("path+=/x; make", false, true),
            ("read -A path; make", false, true),
            ("echo $PATH ${PATH} ${PATH%%:*} \"$PATH\"; make", false, false),
            ("echo $path; make", false, false),
            ("PYTHONPATH=. PATHS=1 MY_PATH=2 make", false, false),
            ("make --path x -path y ./path/z a.path", false, false),
        ] {
            assert_eq!(may_be_set(text, Dialect::Bash), bash, "{text}");
            assert_eq!(may_be_set(text, Dialect::Zsh), zsh, "{text}");
        }
    }

    #[test]
    fn a_path_of_its_own_is_found_in_a_file() {
        for (text, is) in [
            ("export PATH=/usr/bin:/bin", true),
            (
                "if x; then\n  PATH=\"/usr/bin:/bin\"\nelse\n  A=1\nfi\nexport PATH",
                true,
            ),
            ("PATH=$HOME/bin", true),
            ("PATH=$(getconf PATH)", true),
            ("path=(/usr/bin\n /bin)", true),
            ("x && declare -x PATH=/bin", true),
            ("PATH=\"$VIRTUAL_ENV/bin:$PATH\"", false),
            ("PATH=\"$VIRTUAL_ENV/\"bin\":$PATH\"", false),
            ("PATH=\"${PATH:+${PATH}:}/x\"", false),
            ("PATH=\"$(strip \"${PATH}\" /bin)\"", false),
            ("PATH=$(echo $PATH | tr : '\\n')", false),
            ("PATH=\"$_OLD_VIRTUAL_PATH\"\nexport PATH", false),
            ("PATH=\"${_OLD_VIRTUAL_PATH:-}\"", false),
            ("path=(/x $path)", false),
            ("# PATH=/usr/bin", false),
            ("MANPATH=/usr/man PKG_CONFIG_PATH=/x", false),
            ("export PATH", false),
        ] {
            assert_eq!(is_replaced(text), is, "{text}");
        }
    }
}
