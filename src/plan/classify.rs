//! Judges one simple command, or each command of a shell text.

use super::rules::{self, Scope, UserRule};
use super::shell::{self, Dialect, Part, Script, Unparsed, Word};
use super::verdict::{Class, Verdict};

/// What a judgement depends on besides the command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The user's own rules, first match first; they come before the built-in ones.
    pub user_rules: &'a [UserRule],
    /// Built-in rules switched off, by name.
    pub off: &'a [String],
    /// Functions and aliases of the user's shell as far as known, except those that cx itself defined there.
    pub aliases: &'a [String],
}

/// Judges one simple command. Total: every command gets a class and a reason.
pub fn classify(argv: &[Word], ctx: &Context) -> Verdict {
    rules::judge(
        argv,
        Scope {
            user: ctx.user_rules,
            off: ctx.off,
        },
    )
}

/// A command of a text with its judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The command.
    pub part: Part,
    /// Its judgement. That of a part which is left alone is for explanation only.
    pub verdict: Verdict,
}

impl Judged {
    /// Whether `cx ` is to be inserted at its site, as far as the command itself tells.
    pub fn moves(&self) -> bool {
        self.verdict.class == Class::Heavy && self.part.left_alone.is_none()
    }
}

/// Judges each command of a text, in text order.
///
/// # Errors
/// Those of [`shell::parse`].
pub fn classify_script(text: &str, dialect: Dialect, ctx: &Context) -> Result<Vec<Judged>, Unparsed> {
    Ok(judge(shell::parse(text, dialect)?, ctx))
}

/// Judges each command of a parsed text.
pub fn judge(script: Script, ctx: &Context) -> Vec<Judged> {
    let judged = script.parts.into_iter().map(|mut part| {
        let verdict = classify(&part.argv, ctx);
        if part.left_alone.is_none() {
            let program = part.argv.first().and_then(Word::text);
            let shadowed = part.wrappers.iter().map(String::as_str).chain(program);
            part.left_alone = shadowed
                .into_iter()
                .find(|name| ctx.aliases.iter().any(|a| a == name))
                .map(|name| format!("your shell defines `{name}` as a function or alias"));
        }
        if part.left_alone.is_none() && part.fed && !verdict.workload.stdin {
            // A command whose rule does not know that it reads gets no input on a node.
            part.left_alone = Some("its standard input is set in the text".to_owned());
        }
        Judged { part, verdict }
    });
    judged.collect()
}

#[cfg(test)]
mod tests;
