//! Decodes a word from its source bytes: its value where it is static, else [`Word::Dynamic`].

use super::Dialect;
use super::wrappers::is_name;

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its value, quotes removed: no expansion, no glob, no tilde in it.
    Static(String),
    /// Anything else.
    Dynamic,
    /// Anything else that is sure to start as this option or setting does: `-j` for `-j$(nproc)`, `CC=` for `CC=$x`.
    Flag(String),
}

impl Word {
    /// Its value, if it is static.
    pub fn text(&self) -> Option<&str> {
        match self {
            Word::Static(s) => Some(s),
            Word::Dynamic | Word::Flag(_) => None,
        }
    }

    /// Whether it is an option whose text is not fully known.
    pub fn is_flag(&self) -> bool {
        matches!(self, Word::Flag(_))
    }
}

impl From<&str> for Word {
    fn from(s: &str) -> Self {
        Word::Static(s.to_owned())
    }
}

/// Decodes the source of one word.
pub(super) fn decode(raw: &str, dialect: Dialect) -> Word {
    if let Some(value) = value(raw, dialect) {
        return Word::Static(value);
    }
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=');
    let known = raw.bytes().take_while(|b| plain(b)).count();
    if raw.starts_with('-') && known >= 2 {
        return Word::Flag(raw[..known].to_owned());
    }
    match raw.split_once('=') {
        Some((name, _)) if is_name(name) => Word::Flag(format!("{name}=")),
        _ => Word::Dynamic,
    }
}

/// Whether a dynamic word is sure to expand to exactly one argument: double quotes around it all, and no list in it.
pub(super) fn is_one_argument(raw: &str) -> bool {
    raw.len() >= 2
        && raw.starts_with('"')
        && raw.ends_with('"')
        && !raw[1..raw.len() - 1].contains(['"', '@', '*', '`', '(', '\\'])
}

fn value(raw: &str, dialect: Dialect) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    let mut at_start = true;
    // A tilde counts after the start, `=` and `:`; to be strict, after any of them in any word.
    let mut tilde_counts = true;
    while let Some(c) = chars.next() {
        let counted = tilde_counts;
        tilde_counts = false;
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => out.push(c),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    '$' | '`' => return None,
                    '\\' => match chars.next()? {
                        c @ ('$' | '`' | '"' | '\\') => out.push(c),
                        '\n' => {}
                        c => {
                            out.push('\\');
                            out.push(c);
                        }
                    },
                    c => out.push(c),
                }
            },
            '\\' => match chars.next()? {
                '\n' => {
                    tilde_counts = counted;
                    continue;
                }
                c => out.push(c),
            },
            '[' if raw == "[" => out.push('['),
            '{' | '}' if raw == "{}" => out.push(c),
            '$' | '`' | '*' | '?' | '[' | '{' | '(' | ')' | '<' | '>' | '&' | '|' | ';' => return None,
            '~' if counted => return None,
            '=' if at_start && dialect == Dialect::Zsh && raw.len() > 1 => return None,
            '^' | '#' | '~' if dialect == Dialect::Zsh && !at_start => return None,
            ' ' | '\t' | '\n' => return None,
            c => {
                tilde_counts = matches!(c, '=' | ':');
                out.push(c);
            }
        }
        at_start = false;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decode_as_bash_would() {
        let rows: &[(&str, Option<&str>)] = &[
            ("pytest", Some("pytest")),
            (r"\pytest", Some("pytest")),
            (r"py\test", Some("pytest")),
            ("'py'\"test\"", Some("pytest")),
            ("a\\\nb", Some("ab")),
            ("\"a\\\nb\"", Some("ab")),
            (r#""a\nb""#, Some(r"a\nb")),
            (r#""a\"b""#, Some("a\"b")),
            ("''", Some("")),
            ("'$x'", Some("$x")),
            ("'*'", Some("*")),
            ("$x", None),
            ("\"$x\"", None),
            ("`x`", None),
            ("*.py", None),
            ("a[1]", None),
            ("[", Some("[")),
            ("a?", None),
            ("{a,b}", None),
            ("{}", Some("{}")),
            ("~/x", None),
            ("a~", Some("a~")),
            ("x=~/y", None),
            ("'~'", Some("~")),
            (r"\~", Some("~")),
            ("$'a'", None),
            ("$\"a\"", None),
            ("a=b", Some("a=b")),
            ("a#b", Some("a#b")),
            ("é", Some("é")),
            ("'open", None),
            ("+x@y,z:%^!", Some("+x@y,z:%^!")),
            ("!(x)", None),
        ];
        for (raw, want) in rows {
            assert_eq!(decode(raw, Dialect::Bash).text(), *want, "{raw}");
        }
        assert_eq!(decode("-j$(nproc)", Dialect::Bash), Word::Flag("-j".into()));
        assert_eq!(decode("-j\"$N\"", Dialect::Bash), Word::Flag("-j".into()));
        assert_eq!(decode("A_1=$N", Dialect::Bash), Word::Flag("A_1=".into()));
        for raw in ["=$N", "1A=$N", "a-b=$N", "\"A\"=$N"] {
            assert_eq!(decode(raw, Dialect::Bash), Word::Dynamic, "{raw}");
        }
        assert_eq!(decode("-$N", Dialect::Bash), Word::Dynamic);
        assert_eq!(decode("=ls", Dialect::Zsh), Word::Dynamic);
        assert_eq!(decode("a^b", Dialect::Zsh), Word::Dynamic);
        assert!(is_one_argument("\"$x\"") && is_one_argument("\"${x}s\""));
        assert!(!is_one_argument("$x") && !is_one_argument("\"$@\"") && !is_one_argument("\"$x\"\"$y\"$z"));
    }
}
