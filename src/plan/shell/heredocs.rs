//! Keeps from the parser the texts in which it and the shells may see a here-document end at different lines.
//!
//! The parser takes a line for the end that has blanks around the delimiter, and does not join the lines of a body at a
//! backslash. The shells want the delimiter alone, and join lines unless it is quoted.

use std::collections::HashMap;

use super::Unparsed;

/// A longer delimiter than this (in bytes) is one that nobody writes.
const MAX_DELIMITER: usize = 100;

/// How a line must look that ends a here-document.
struct End {
    exact: String,
    /// Tabs in front do not matter (`<<-`).
    tabs: bool,
}

/// Says why a text is not to be parsed: some line is the end of a here-document for one reader and not for another, as far as can be told
/// from the lines alone. What looks like `<<` in quotes or arithmetic counts, too: that leaves more texts alone, and does no harm.
pub(super) fn check(text: &str) -> Result<(), Unparsed> {
    let joined = text.replace("\\\n", "");
    if !text.contains("<<") && !joined.contains("<<") {
        return Ok(());
    }
    let mut ends: HashMap<String, End> = HashMap::new();
    // An operator or its word may be broken by a backslash.
    for (word, tabs) in words(text).chain(words(&joined)) {
        if word.len() > MAX_DELIMITER || ["\n", "$'", "$\""].iter().any(|odd| word.contains(odd)) {
            return Err(unsure());
        }
        // In backticks the shell takes backslashes away twice.
        let bare = word.replace(['\\', '\'', '"'], "");
        for exact in [unquoted(&word), bare] {
            let key = exact.trim().to_owned();
            let new = End {
                exact: exact.clone(),
                tabs,
            };
            let end = ends.entry(key).or_insert(new);
            end.tabs &= tabs;
            if end.exact != exact {
                return Err(unsure());
            }
        }
    }
    let almost = |line: &str| {
        ends.get(line.trim()).is_some_and(|end| {
            let line = if end.tabs {
                line.trim_start_matches('\t')
            } else {
                line
            };
            line != end.exact
        })
    };
    let substitutes = ["$(", "<(", ">("].iter().any(|open| text.contains(open));
    let mut broken: Vec<&str> = Vec::new();
    for line in text.split('\n') {
        if almost(line) || (substitutes && ends_both(line, &ends)) {
            return Err(unsure());
        }
        let goes_on = line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        if goes_on {
            broken.push(&line[..line.len() - 1]);
            continue;
        }
        if !broken.is_empty() && ends_joined(&broken, line, &ends) {
            return Err(unsure());
        }
        broken.clear();
    }
    Ok(())
}

/// Whether a line begins with a delimiter and has a parenthesis behind it: in a substitution, bash 5.2 takes it for the end of both.
fn ends_both(line: &str, ends: &HashMap<String, End>) -> bool {
    let line = line.trim_start();
    let last = line.rfind(')').map(|at| at.min(MAX_DELIMITER));
    last.is_some_and(|last| {
        (0..=last)
            .filter_map(|at| line.get(..at))
            .any(|begin| ends.contains_key(begin))
    })
}

/// Whether a line is, alone or with those before it that end in a backslash, the end of a here-document.
fn ends_joined(broken: &[&str], line: &str, ends: &HashMap<String, End>) -> bool {
    let mut whole = line.to_owned();
    let mut before = broken.iter().rev();
    while whole.len() <= 2 * MAX_DELIMITER {
        if ends.contains_key(whole.trim()) {
            return true;
        }
        match before.next() {
            Some(part) => whole.insert_str(0, part),
            None => break,
        }
    }
    false
}

/// The words after `<<` and `<<-`, as they are written, and whether it was `<<-`. `<<<` takes a word of another kind.
fn words(text: &str) -> impl Iterator<Item = (String, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find("<<")?..];
            let after = rest.trim_start_matches('<');
            let is_string = rest.len() - after.len() == 3;
            rest = after;
            if !is_string {
                let tabs = after.starts_with('-');
                let word = after.strip_prefix('-').unwrap_or(after);
                return Some((word_at(word.trim_start_matches([' ', '\t'])), tabs));
            }
        }
    })
}

/// The first word of a text, with its quotes. It is not followed further than a delimiter may be long.
fn word_at(text: &str) -> String {
    let mut word = String::new();
    let mut quote = None;
    let mut escaped = false;
    for c in text.chars() {
        let ends = c.is_whitespace() || ";&|<>()".contains(c);
        if (ends && !escaped && quote.is_none()) || word.len() > MAX_DELIMITER {
            break;
        }
        word.push(c);
        match (escaped, quote) {
            (true, _) => escaped = false,
            (_, Some(q)) if c == q => quote = None,
            (_, Some('\'')) => {}
            _ if c == '\\' => escaped = true,
            (_, None) if matches!(c, '\'' | '"') => quote = Some(c),
            _ => {}
        }
    }
    word
}

/// What a word is without its quotes.
fn unquoted(word: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(q) if c == q => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ if c == '\\' && quote != Some('\'') => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

fn unsure() -> Unparsed {
    Unparsed::new("where a here-document of the text ends is not sure")
}
