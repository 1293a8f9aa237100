//! The words of one simple command as they are written, with their places: what rules are matched against, and where
//! a typed `cx` ends and its command begins.

use std::ops::Range;

use crate::plan::shell::Part;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Where it stands in the text.
    pub span: Range<usize>,
    /// As written.
    pub raw: &'a str,
    /// Without its quotes, where it is static; globs and a tilde stay as they are written.
    pub value: Option<String>,
}

impl Piece<'_> {
    /// Its value where it is written without any quoting or special character.
    pub fn plain(&self) -> Option<&str> {
        (!self.raw.is_empty() && self.raw.bytes().all(is_plain)).then_some(self.raw)
    }
}

/// Characters that mean nothing to a shell, nor to a rule.
pub fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_-./+@%:,=^".contains(&b)
}

/// The words of `part` from the offset `from` on, redirections left out. Where a word cannot be told from its
/// neighbours (an expansion with blanks in it), it and all after it are missing and the second value is false.
pub fn pieces<'a>(text: &'a str, part: &Part, from: usize) -> (Vec<Piece<'a>>, bool) {
    let mut list = Vec::new();
    let mut at = from;
    let end = part.span.end;
    while at < end {
        if let Some(r) = part.redirects.iter().find(|r| r.span.contains(&at)) {
            at = r.span.end;
            continue;
        }
        let bytes = text.as_bytes();
        if matches!(bytes[at], b' ' | b'\t') {
            at += 1;
            continue;
        }
        if bytes[at..].starts_with(b"\\\n") {
            at += 2;
            continue;
        }
        let limit = part
            .redirects
            .iter()
            .map(|r| r.span.start)
            .filter(|s| *s > at)
            .min()
            .unwrap_or(end)
            .min(end);
        let Some(piece) = word(text, at..limit) else {
            return (list, false);
        };
        at = piece.span.end;
        list.push(piece);
    }
    (list, true)
}

/// The word that starts at `range.start`; `None` where it holds more than letters and quotes.
fn word(text: &str, range: Range<usize>) -> Option<Piece<'_>> {
    let raw = text.get(range.clone())?;
    let mut value = Some(String::new());
    let mut put = |s: &str| {
        if let Some(v) = &mut value {
            v.push_str(s);
        }
    };
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        match c {
            ' ' | '\t' | '\n' => break,
            '\'' => {
                let close = rest[1..].find('\'')?;
                put(&rest[1..=close]);
                rest = &rest[close + 2..];
                continue;
            }
            '"' => {
                let close = rest[1..].find(['"', '\\', '$', '`'])?;
                // What expands has an end that is not searched for here.
                if rest.as_bytes()[close + 1] != b'"' {
                    return None;
                }
                put(&rest[1..=close]);
                rest = &rest[close + 2..];
                continue;
            }
            '\\' => {
                let next = rest[1..].chars().next()?;
                if next == '\n' {
                    return None;
                }
                put(next.encode_utf8(&mut [0; 4]));
                rest = &rest[1 + next.len_utf8()..];
                continue;
            }
            '$' | '`' | '(' | ')' | '<' | '>' | '{' | '}' | ';' | '&' | '|' => return None,
            c => put(c.encode_utf8(&mut [0; 4])),
        }
        rest = &rest[c.len_utf8()..];
    }
    let length = raw.len() - rest.len();
    Some(Piece {
        span: range.start..range.start + length,
        raw: &raw[..length],
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shell::{Dialect, parse};

    fn of(text: &str) -> (Vec<String>, bool) {
        let script = parse(text, Dialect::Bash).unwrap();
        let part = &script.parts[0];
        let (list, whole) = pieces(text, part, part.span.start);
        for piece in &list {
            assert_eq!(&text[piece.span.clone()], piece.raw);
        }
        let values = list.into_iter().map(|p| p.value.unwrap_or_default());
        (values.collect(), whole)
    }

    #[test]
    fn words_with_their_quotes_gone() {
        for (text, want, whole) in [
            ("pytest -x 'a b'", &["pytest", "-x", "a b"][..], true),
            ("A=1 py'te's\\t  2>&1 x", &["A=1", "pytest", "x"], true),
            ("pytest 2>/dev/null \"a b\" > x", &["pytest", "a b"], true),
            ("pytest a?b *.py ~/x", &["pytest", "a?b", "*.py", "~/x"], true),
            ("pytest a $X b", &["pytest", "a"], false),
            ("pytest \"a $X\" b", &["pytest"], false),
            ("pytest a$(b c)", &["pytest"], false),
            ("pytest \\\n x", &["pytest", "x"], true),
            ("pytest {a,b}", &["pytest"], false),
        ] {
            assert_eq!(
                of(text),
                (want.iter().map(|s| (*s).to_owned()).collect(), whole),
                "{text}"
            );
        }
    }
}
