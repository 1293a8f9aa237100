//! What a text assigns to variables.

use super::words::Word;
use super::{Assignment, Part};

/// All that the commands of a text assign, in text order: in front of themselves, and by `export`, `declare` and their like.
pub fn assigned<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Vec<Assignment> {
    let mut all = Vec::new();
    for part in parts {
        all.extend(part.assignments.iter().cloned());
        let mut words = part.argv.iter().filter_map(Word::text);
        if words
            .next()
            .is_some_and(|w| matches!(w, "export" | "declare" | "typeset" | "readonly"))
        {
            all.extend(words.filter_map(declared));
        }
    }
    all
}

/// `NAME=VALUE`, `NAME+=VALUE`
fn declared(word: &str) -> Option<Assignment> {
    let (name, value) = word.split_once('=')?;
    let whole = name.trim_end_matches('+');
    Some(Assignment {
        name: whole.to_owned(),
        value: if whole == name {
            value.into()
        } else {
            Word::Dynamic
        },
    })
}
