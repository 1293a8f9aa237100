//! Judges one simple command or a whole script.

use super::rules::UserRule;
use super::shell::{self, Dialect, Part, Unparsed, Word};
use super::verdict::{Class, Verdict, Workload};

/// What a judgement depends on besides the command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The user's own rules, first match first.
    pub user_rules: &'a [UserRule],
    /// Built-in rules switched off, by name.
    pub off: &'a [String],
    /// Functions and aliases of the user's shell, as far as known.
    pub aliases: &'a [String],
}

/// Judges one simple command.
pub fn classify(_argv: &[Word], _ctx: &Context) -> Verdict {
    Verdict {
        class: Class::Unknown,
        rule: String::new(),
        reason: String::new(),
        workload: Workload::default(),
    }
}

/// A command of a script with its judgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The command.
    pub part: Part,
    /// Its judgement.
    pub verdict: Verdict,
}

/// Judges each command of a script.
///
/// # Errors
/// Those of [`shell::parse`].
pub fn classify_script(text: &str, dialect: Dialect, ctx: &Context) -> Result<Vec<Judged>, Unparsed> {
    let script = shell::parse(text, dialect)?;
    Ok(script
        .parts
        .into_iter()
        .map(|part| Judged {
            verdict: classify(&part.argv, ctx),
            part,
        })
        .collect())
}
