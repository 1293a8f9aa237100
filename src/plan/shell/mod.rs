//! Finds the simple commands of a shell text, and the byte before which `cx ` may be put.
//!
//! The grammar is that of `shuck-parser`, which only this directory names. It is trusted no further than it
//! can be checked: words are decoded here from the source bytes, a span that does not fit the text refuses the
//! text, a panic counts as "does not parse", and [`rewrite`] parses its own result again. What is not
//! understood is left exactly as it was.

mod assigned;
mod bounds;
mod builtins;
mod heredocs;
mod inside;
mod reasons;
mod strict;
mod walk;
mod words;
mod wrappers;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use shuck_parser::ShellDialect;
use shuck_parser::parser::{ParseStatus, Parser};

pub use assigned::assigned;
pub use builtins::is_the_shells;
pub use words::Word;

/// Texts longer than this (in bytes) are not parsed.
pub const MAX_TEXT: usize = 64 << 10;

/// Into more places of one text than this nothing is inserted: checking the result takes each of them for each command.
const MAX_SITES: usize = 500;

/// More nesting than this is refused by the parser.
const MAX_DEPTH: usize = 60;

/// Operations of the parser that a text may take: some for each command, one for each word. That is enough for about a thousand
/// commands, more than any text has that is meant; each costs the parser and the walk some microseconds.
const FUEL: usize = 8_000;

/// The language a text is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// bash, and what it shares with POSIX shells.
    #[default]
    Bash,
    /// zsh with its default options.
    Zsh,
}

/// Where a command's standard input comes from, as the command sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StdinFrom {
    /// From whatever the whole text has.
    #[default]
    Inherited,
    /// From a pipe, also where a loop or group around the command stands in one.
    Pipe,
    /// From `< FILE` or another file descriptor.
    File,
    /// From a here-document or here-string.
    Heredoc,
}

/// One redirection of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// Bytes of the whole redirection, operator and target.
    pub span: Range<usize>,
    /// Whether it may write to a file (`>`, `>>`, `>|`, `&>`, `<>`; not `2>&1`).
    pub writes: bool,
    /// What it names; for a here-document its delimiter.
    pub target: Word,
}

/// One assignment in front of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The variable.
    pub name: String,
    /// What it gets; [`Word::Dynamic`] also for an array, an element of one, and what is appended (`+=`).
    pub value: Word,
}

/// One simple command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the command: assignments, wrappers, words and redirections (not the body of a here-document).
    pub span: Range<usize>,
    /// Where `cx ` goes: the offset of the command word, after assignments and after wrappers that stay local.
    pub site: usize,
    /// The words from the site on: the program that cx would run, and its arguments. Empty where there are
    /// only assignments or redirections.
    pub argv: Vec<Word>,
    /// What is assigned in front of the command, by `env NAME=VALUE` too.
    pub assignments: Vec<Assignment>,
    /// Programs passed over before the site: `timeout`, `nice`, ...
    pub wrappers: Vec<String>,
    /// Its standard input.
    pub stdin: StdinFrom,
    /// Whether the text gives this very command its standard input.
    pub fed: bool,
    /// Its redirections, in text order; not those of a group around it.
    pub redirects: Vec<Redirection>,
    /// Why nothing may be inserted here, if so.
    pub left_alone: Option<String>,
    /// Whether it stands in the body of a function.
    pub in_function: bool,
    /// How many compound commands, substitutions and function definitions it stands in.
    pub depth: usize,
    /// Whether it, or something around it, is started with `&`.
    pub background: bool,
}

/// The simple commands of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Every simple command in text order, nested ones too.
    pub parts: Vec<Part>,
    /// Files that the text has its shell read (`source`), as it names them; `~/` in front is the home directory.
    pub sources: Vec<String>,
    /// Whether the text is nothing but simple commands joined by `&&`, `||`, `|`, `;` and newlines: no compound
    /// commands, functions or background jobs, and nothing that could be a substitution or an expansion with an
    /// operator. Only then are `parts` known to be all that runs.
    pub plain: bool,
    /// The same, but for `if`, `for`, `while` and `until` without redirections of their own, which may stand in it too.
    pub branching: bool,
    /// Whether it holds a subshell, a group, a function, `case`, a background job or the like.
    pub grouped: bool,
}

/// A text that is left alone as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unparsed {
    /// Why, as one clause.
    pub reason: String,
}

impl Unparsed {
    fn new(reason: impl Into<String>) -> Self {
        Unparsed {
            reason: reason.into(),
        }
    }
}

/// Parses a text. Never panics, and ends quickly on hostile input.
///
/// # Errors
/// Where the text is longer than [`MAX_TEXT`], does not parse without recovery, or holds characters on which the
/// parser and the shells may disagree.
pub fn parse(text: &str, dialect: Dialect) -> Result<Script, Unparsed> {
    if text.len() > MAX_TEXT {
        return Err(Unparsed::new(format!("the text is over {} KB", MAX_TEXT >> 10)));
    }
    if let Some(c) = text.chars().find(|c| unsure_character(*c)) {
        return Err(Unparsed::new(format!(
            "the text holds the character {}",
            c.escape_unicode()
        )));
    }
    bounds::check(text)?;
    heredocs::check(text)?;
    // The parser prints nothing itself; the hook silences the panic hook.
    catch_unwind(AssertUnwindSafe(|| parse_checked(text, dialect)))
        .unwrap_or_else(|_| Err(Unparsed::new("the parser failed on the text")))
}

fn parse_checked(text: &str, dialect: Dialect) -> Result<Script, Unparsed> {
    let file = clean(text, dialect)?;
    let mut script = walk::script(text, dialect, &file)?;
    let words = |p: &Part| p.argv.len() + p.wrappers.len() + p.assignments.len() + p.redirects.len();
    if script.parts.iter().map(words).sum::<usize>() > bounds::MAX_WORDS {
        return Err(bounds::too_many_words());
    }
    for part in &mut script.parts {
        part.fed |= is_fed(text, part);
    }
    Ok(script)
}

/// Parses a text without recovery.
fn clean(text: &str, dialect: Dialect) -> Result<shuck_ast::File, Unparsed> {
    let grammar = match dialect {
        Dialect::Bash => ShellDialect::Bash,
        Dialect::Zsh => ShellDialect::Zsh,
    };
    let profile = shuck_parser::ShellProfile::native(grammar);
    let result = Parser::with_limits_and_profile(text, MAX_DEPTH, FUEL, profile).parse();
    if result.status != ParseStatus::Clean {
        let why = result.strict_error().to_string();
        let line = why.lines().next().unwrap_or_default();
        return Err(Unparsed::new(format!("the text does not parse: {line}")));
    }
    Ok(result.file)
}

/// Whether the text gives this very command its input: a pipe right before it, or a redirection of its own (but for
/// `< /dev/null`, which gives nothing). What a loop or group around it is given may be meant for another command in it.
fn is_fed(text: &str, part: &Part) -> bool {
    let before = text.get(..part.span.start).unwrap_or_default().trim_end();
    let before = before.strip_suffix('&').unwrap_or(before);
    if before.ends_with('|') && !before.ends_with("||") {
        return true;
    }
    part.redirects.iter().any(|r| {
        let written = text.get(r.span.clone()).unwrap_or_default();
        let operator = written.strip_prefix('0').unwrap_or(written);
        operator.starts_with('<') && r.target.text() != Some("/dev/null")
    })
}

/// Blanks other than space and tab, control characters: shells and parsers split words differently there.
fn unsure_character(c: char) -> bool {
    // The last two are seen by nobody, and Claude Code asks about a text that holds one.
    !matches!(c, '\n' | '\t' | ' ')
        && (c.is_control() || c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}'))
}

/// Puts `word` (which ends in a blank, and which the caller has quoted) before each of the `sites`; removing the
/// inserted bytes gives `text` again. Sites that are not offsets of characters in `text` are passed over.
pub fn insert(text: &str, sites: &[usize], word: &str) -> String {
    let mut sites: Vec<usize> = sites
        .iter()
        .copied()
        .filter(|s| text.is_char_boundary(*s))
        .collect();
    sites.sort_unstable();
    sites.dedup();
    let mut out = String::with_capacity(text.len() + sites.len() * word.len());
    let mut from = 0;
    for site in sites {
        out.push_str(&text[from..site]);
        out.push_str(word);
        from = site;
    }
    out.push_str(&text[from..]);
    out
}

/// [`insert`], checked: `sites` must be those of parts of `script` (which is `text` parsed) that are not left alone,
/// and the result must parse again into the same parts, shifted, with `word` in front.
///
/// # Errors
/// Where that does not hold; `text` must then be left as it is.
pub fn rewrite(
    text: &str,
    dialect: Dialect,
    script: &Script,
    sites: &[usize],
    word: &str,
) -> Result<String, Unparsed> {
    if sites.len() > MAX_SITES {
        return Err(Unparsed::new(
            "the text has too many commands for a word in front",
        ));
    }
    let allowed = |site: &usize| {
        script
            .parts
            .iter()
            .any(|p| p.site == *site && p.left_alone.is_none())
    };
    if !sites.iter().all(allowed) {
        return Err(Unparsed::new("a site is not one where a word may be inserted"));
    }
    let new = insert(text, sites, word);
    let again = parse(&new, dialect)?;
    let shift = |offset: usize| offset + sites.iter().filter(|s| **s < offset).count() * word.len();
    let same = again.parts.len() == script.parts.len()
        && script.parts.iter().zip(&again.parts).all(|(old, new)| {
            let marked = sites.contains(&old.site) && old.left_alone.is_none();
            // What was inserted is a word, or two.
            let has_argv = if marked {
                new.argv.len() > old.argv.len() && new.argv.ends_with(&old.argv)
            } else {
                new.argv == old.argv
            };
            new.site == shift(old.site)
                && new.span.start == shift(old.span.start)
                && new.span.end == shift(old.span.end)
                && has_argv
                && new.assignments == old.assignments
                && new.wrappers == old.wrappers
                && new.stdin == old.stdin
        });
    if !same {
        return Err(Unparsed::new(
            "the text does not parse the same with the word inserted",
        ));
    }
    Ok(new)
}

#[cfg(test)]
mod tests;
