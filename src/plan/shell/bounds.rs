//! What keeps hostile and accidental texts from the parser: work that it does not count, found in a few passes over the bytes.

use super::Unparsed;

/// A text whose commands have more words than this together, redirections and assignments counted, is left alone: each of them takes the parser
/// a microsecond, twice where something is inserted. What stands in here-documents does not count.
pub(super) const MAX_WORDS: usize = 3_000;

/// Says why a text is not to be parsed.
pub(super) fn check(text: &str) -> Result<(), Unparsed> {
    if nests_too_deep(text) {
        return Err(Unparsed::new("the text nests too deep"));
    }
    if takes_too_long(text) {
        return Err(Unparsed::new(
            "the text opens too much, or does not close what it opens",
        ));
    }
    // Words of the grammar and both ends of `2>&1` are counted, too.
    if words_for_sure(text) > 2 * MAX_WORDS {
        return Err(too_many_words());
    }
    Ok(())
}

pub(super) fn too_many_words() -> Unparsed {
    Unparsed::new("the text has too many words")
}

/// Words outside quotes, comments and here-documents, up to where it can't be told what is in them: the commands of the text have about as
/// many, and the parser need not be asked.
fn words_for_sure(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut words = 0;
    let mut in_word = false;
    let mut documents = Vec::new();
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        i += 1;
        match b {
            b' ' | b'\t' | b';' | b'&' | b'|' | b'(' | b')' | b'>' => in_word = false,
            b'<' => {
                in_word = false;
                if bytes[i..].starts_with(b"<<") {
                    i += 2;
                } else if bytes.get(i) == Some(&b'<') {
                    let Some((end, delimiter)) = delimiter(text, i + 1) else {
                        return words;
                    };
                    documents.push(delimiter);
                    i = end;
                }
            }
            b'\n' => {
                in_word = false;
                for delimiter in documents.drain(..) {
                    let Some(end) = end_of_document(text, i, delimiter) else {
                        return words;
                    };
                    i = end;
                }
            }
            b'#' if !in_word => i = text[i..].find('\n').map_or(text.len(), |at| i + at),
            _ => {
                words += usize::from(!in_word);
                in_word = true;
                let quoted = match b {
                    b'\\' => Some(i + 1),
                    b'\'' if !bytes[..i - 1].ends_with(b"$") => text[i..].find('\'').map(|at| i + at + 1),
                    b'\'' | b'"' => end_of_quotes(bytes, i, b),
                    _ => Some(i),
                };
                let Some(end) = quoted else { return words };
                i = end;
            }
        }
    }
    words
}

/// Where the quotes end that opened before `from`; `None` also where a substitution stands in them, which may hold quotes of its own.
fn end_of_quotes(bytes: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut i = from;
    loop {
        match *bytes.get(i)? {
            b'\\' => i += 1,
            b'`' if quote == b'"' => return None,
            b'$' if quote == b'"' && matches!(bytes.get(i + 1), Some(b'(' | b'{')) => return None,
            b if b == quote => return Some(i + 1),
            _ => {}
        }
        i += 1;
    }
}

/// The delimiter of a here-document whose operator ends before `from`, and where it ends.
fn delimiter(text: &str, from: usize) -> Option<(usize, &str)> {
    let rest = text.get(from..)?;
    let rest = rest
        .strip_prefix('-')
        .unwrap_or(rest)
        .trim_start_matches([' ', '\t']);
    let start = text.len() - rest.len();
    let bare = rest.trim_start_matches(['\'', '"', '\\']);
    let length = bare
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(bare.len());
    let behind = bare[length..].trim_start_matches(['\'', '"']);
    (length > 0).then(|| (start + rest.len() - behind.len(), &bare[..length]))
}

/// Where the line ends that ends a here-document whose body starts at `from`.
fn end_of_document(text: &str, from: usize, delimiter: &str) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = text.get(at..).filter(|r| !r.is_empty())?;
        let line = rest.split('\n').next().unwrap_or(rest);
        at += line.len();
        if line.trim_start_matches('\t') == delimiter {
            return Some(at);
        }
        at += 1;
    }
}

/// Nested `${x:-$(...)}` costs the parser twice the time with each level, and it does not count that as work. Quotes are
/// not looked at here: this keeps accidents and idle malice short, and the hook has a time limit besides.
fn nests_too_deep(text: &str) -> bool {
    const MOST: usize = 8;
    // `time time time ...` nests by words, which the parser does not count as depth either.
    let mut run = 0;
    for word in text.split_ascii_whitespace() {
        run = if matches!(word, "time" | "coproc" | "!" | "-p" | "--") {
            run + 1
        } else {
            0
        };
        if run > 4 * MOST {
            return true;
        }
    }
    if text.matches("${").count() <= MOST {
        return false;
    }
    let mut open = Vec::new();
    let mut expansions = 0;
    let mut before = 0;
    for b in text.bytes() {
        match b {
            b'{' => {
                open.push(before == b'$');
                expansions += usize::from(before == b'$');
                if expansions > MOST {
                    return true;
                }
            }
            b'}' if open.pop() == Some(true) => expansions -= 1,
            _ => {}
        }
        before = b;
    }
    false
}

/// For each bracket and brace the parser looks for the one that closes it, and for each here-document for its end: where there is
/// none, to the end of the text; and for each substitution in a here-document that has them it goes over the text from its beginning.
/// None of that counts as work. Quotes are not looked at here either: what escapes of a terminal (`\e[1m`) a script prints is far
/// below this.
fn takes_too_long(text: &str) -> bool {
    const PARENTHESES: usize = 200;
    const BYTES: usize = 4 << 20;
    // What else does not count, though each of them takes some microseconds.
    const PIECES: usize = 1500;
    if ["${", "[[ ", "\"\"", "''"]
        .iter()
        .any(|p| text.matches(p).count() > PIECES)
    {
        return true;
    }
    let (mut round, mut square, mut curly, mut most) = (0_usize, 0_usize, 0_usize, 0);
    for b in text.bytes() {
        match b {
            b'(' => round += 1,
            b')' => round = round.saturating_sub(1),
            b'[' => square += 1,
            b']' => square = square.saturating_sub(1),
            b'{' => curly += 1,
            b'}' => curly = curly.saturating_sub(1),
            _ => continue,
        }
        most = most.max(square).max(curly);
        if round > PARENTHESES {
            return true;
        }
    }
    let documents = text.matches("<<").count();
    let substitutions = match text.split("<<").skip(1).any(expands) {
        true => text.matches(['$', '`']).count(),
        false => 0,
    };
    most.max(documents).max(substitutions) * text.len() > BYTES
}

/// Whether a here-document whose operator stood right before may hold expansions: its delimiter has no quotes.
fn expands(after: &str) -> bool {
    let delimiter = after
        .strip_prefix('-')
        .unwrap_or(after)
        .trim_start_matches([' ', '\t']);
    !delimiter.starts_with(['\'', '"', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_where_they_are_sure_to_be_some() {
        let rows = [
            ("make test", 2),
            ("make", 1),
            ("> a > b>c", 3),
            ("a=(b) a=(b c)", 5),
            ("a;b&&c||d|e&f", 6),
            ("a 'b c' d\\ e f\"g h\" $'i\\' j' k", 6),
            ("a # b c d\ne #f", 2),
            ("a#b $#", 2),
            ("cat <<E && b\nc d e\nE\nf", 3),
            ("cat <<-'E' <<\"F\"\n\tx y\n\tE\nz\nF\na b", 3),
            ("cat <<< 'x y' b", 3),
            ("a \"$(b c)\" d", 2),
            ("a \"b", 2),
            ("a <<E\nb c d", 1),
            ("a $(( 1 << 2 ))\nb", 3),
            ("é ü", 2),
            ("a\\\nb c", 2),
            ("<<", 0),
            ("a \\", 2),
            ("", 0),
        ];
        for (text, want) in rows {
            assert_eq!(words_for_sure(text), want, "{text:?}");
        }
        for unit in ["> a ", "a=(b) ", "a ", "\"x\" ", "2>&1>"] {
            assert!(check(&unit.repeat(2 * MAX_WORDS + 1)).is_err(), "{unit}");
        }
        let long = "a ".repeat(3 * MAX_WORDS);
        for text in [
            format!("git commit -m '{long}'"),
            format!("git commit -m \"{long}\""),
            format!("cat > f <<'EOF'\n{long}\nEOF\nmake"),
            format!("git commit -m \"$(cat <<'EOF'\n{long}\\\"\nEOF\n)\""),
            format!("make # {long}"),
        ] {
            assert!(check(&text).is_ok(), "{}", &text[..20]);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_counted(text in ".*") {
            let bound = text.chars().count();
            proptest::prop_assert!(words_for_sure(&text) <= bound);
        }

        #[test]
        fn any_text_of_operators_is_counted(text in "[-<>\"'\\\\ \n\t#$(E;é]*") {
            proptest::prop_assert!(words_for_sure(&text) <= text.chars().count());
        }
    }
}
