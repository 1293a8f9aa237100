//! Command substitutions in places that the parser reads a second time, out of place: arithmetic, `${x:-...}`,
//! subscripts, patterns, here-documents, backticks with escapes.
//!
//! They are looked for in the source bytes. What stands in one is a text of its own: it is parsed as such, and the
//! offsets of its commands are carried back. Where an end is not sure, the search stops: the commands from there on
//! are not seen, and left as they are.

use std::ops::Range;

use super::Dialect;

/// A command substitution found in source bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The text between the delimiters, as the shell will parse it.
    pub inner: String,
    /// For each byte of `inner`, and for its end, the offset in the whole text.
    pub offsets: Vec<usize>,
    /// Whether escapes stood in it whose reading depends on what is around.
    pub unsure: bool,
}

/// How many tries all searches of one text may make together at finding an end.
pub(super) const TRIES: u32 = 48;

/// A longer substitution than this (bytes) is not looked into.
const MAX_INNER: usize = 4 << 10;

/// How quotes count where a search starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// As in a word: single quotes quote.
    Word,
    /// As inside double quotes: single quotes stand for themselves.
    Double,
}

/// The substitutions in `text[range]`, outermost ones only, in order.
pub(super) fn search(
    text: &str,
    range: Range<usize>,
    quotes: Quotes,
    dialect: Dialect,
    tries: &mut u32,
) -> Vec<Found> {
    let mut found = Vec::new();
    let Some(region) = text.get(range.clone()) else {
        return found;
    };
    if !region.contains("$(") && !region.contains('`') {
        return found;
    }
    let bytes = text.as_bytes();
    let end = range.end;
    let mut i = range.start;
    let mut double = false;
    while i < end {
        let single_quotes = quotes == Quotes::Word && !double;
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => {
                double = !double;
                i += 1;
            }
            b'$' if single_quotes && bytes.get(i + 1) == Some(&b'\'') => {
                i += 2;
                while i < end && bytes[i] != b'\'' {
                    i += if bytes[i] == b'\\' { 2 } else { 1 };
                }
                i += 1;
            }
            b'\'' if single_quotes => {
                i += 1;
                while i < end && bytes[i] != b'\'' {
                    i += 1;
                }
                i += 1;
            }
            // Arithmetic, or a subshell in a substitution: what stands in it is found by going on.
            b'$' if text[i..end].starts_with("$((") => i += 3,
            b'$' if text[i..end].starts_with("$(") => {
                let from = i + 2;
                let Some(close) = close(text, from, end, dialect, tries) else {
                    return found;
                };
                found.push(Found {
                    inner: text[from..close].to_owned(),
                    offsets: (from..=close).collect(),
                    unsure: false,
                });
                i = close + 1;
            }
            b'`' => {
                let in_quotes = double || quotes == Quotes::Double;
                let Some((one, after)) = backticks(text, i + 1, end, in_quotes) else {
                    return found;
                };
                found.push(one);
                i = after;
            }
            _ => i += 1,
        }
    }
    found
}

/// The offset of the `)` that ends the substitution whose text starts at `from`: the first one before which that text
/// parses. Not found where a comment or here-document might hide a parenthesis.
fn close(text: &str, from: usize, end: usize, dialect: Dialect, tries: &mut u32) -> Option<usize> {
    let region = text.get(from..end)?;
    for (at, _) in region.match_indices(')') {
        let inner = &region[..at];
        let comment = inner.starts_with('#')
            || inner
                .as_bytes()
                .windows(2)
                .any(|w| w[1] == b'#' && b" \t\n;&|(".contains(&w[0]));
        if inner.len() > MAX_INNER || comment || inner.contains("<<") || *tries == 0 {
            return None;
        }
        let escaped = inner.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        if escaped {
            continue;
        }
        *tries -= 1;
        if super::clean(inner, dialect).is_ok() {
            return Some(from + at);
        }
    }
    None
}

/// The text between backticks from `from` on, one level of escapes undone, and the offset after the closing one.
fn backticks(text: &str, from: usize, end: usize, in_quotes: bool) -> Option<(Found, usize)> {
    let region = text.get(from..end)?;
    let mut one = Found {
        inner: String::new(),
        offsets: Vec::new(),
        unsure: false,
    };
    let push = |one: &mut Found, c: char, at: usize| {
        one.inner.push(c);
        one.offsets.extend((0..c.len_utf8()).map(|k| from + at + k));
    };
    let mut chars = region.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '`' => {
                one.offsets.push(from + at);
                return (one.inner.len() <= MAX_INNER).then_some((one, from + at + 1));
            }
            '\\' => {
                let (next, escaped) = chars.next()?;
                match escaped {
                    '$' | '`' | '\\' => push(&mut one, escaped, next),
                    _ => {
                        // Inside double quotes the shells differ on `\"`.
                        one.unsure |= escaped == '"' && in_quotes;
                        push(&mut one, '\\', at);
                        push(&mut one, escaped, next);
                    }
                }
            }
            _ => push(&mut one, c, at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inners(text: &str, quotes: Quotes) -> Vec<String> {
        let mut tries = TRIES;
        let found = search(text, 0..text.len(), quotes, Dialect::Bash, &mut tries);
        for one in &found {
            assert_eq!(one.offsets.len(), one.inner.len() + 1, "{text}");
            for (byte, at) in one.inner.bytes().zip(&one.offsets) {
                assert_eq!(byte, text.as_bytes()[*at], "{text}");
            }
        }
        found.into_iter().map(|f| f.inner).collect()
    }

    #[test]
    fn substitutions_are_found_by_their_true_ends() {
        use Quotes::{Double, Word};
        let rows: &[(&str, Quotes, &[&str])] = &[
            ("1 + $(a b) * $(c)", Double, &["a b", "c"]),
            ("$((1 + $(a)))", Double, &["a"]),
            ("x:-$(a ')' \")\" \\) b)y", Double, &["a ')' \")\" \\) b"]),
            ("$(case x in x) a;; esac)", Double, &["case x in x) a;; esac"]),
            ("$(a $(b) c)", Word, &["a $(b) c"]),
            ("'$(a)' $(b)", Word, &["b"]),
            ("'$(a)' $(b)", Double, &["a", "b"]),
            ("\"'$(a)'\" $'\\'$(c)' $(b)", Word, &["a", "b"]),
            ("\\$(a) $(b)", Double, &["b"]),
            // An end that a comment or a here-document could hide is not guessed.
            ("$(a # ) x\n) $(b)", Double, &[]),
            ("$(a <<E\n)\nE\n)", Double, &[]),
            ("$(a", Double, &[]),
            ("`a \\`b\\``", Word, &["a `b`"]),
            ("`a \\\\\\`b\\\\\\``", Word, &["a \\`b\\`"]),
            ("`a", Word, &[]),
            ("`a 'x y' \\x`", Word, &["a 'x y' \\x"]),
        ];
        for (text, quotes, want) in rows {
            assert_eq!(inners(text, *quotes), *want, "{text}");
        }
    }

    #[test]
    fn hostile_texts_cost_a_bounded_number_of_tries() {
        let text = format!("$({}", "if x)".repeat(1000));
        let mut tries = TRIES;
        assert_eq!(
            search(&text, 0..text.len(), Quotes::Double, Dialect::Bash, &mut tries),
            []
        );
        assert_eq!(tries, 0);
    }
}
