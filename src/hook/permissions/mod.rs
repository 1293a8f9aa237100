//! The user's own permission rules, asked about a text as the client would ask them.
//!
//! The client matches its rules against the rewritten text only: a rule that denies `pytest` does not see `cx pytest`, and
//! one that allows it does not either. So cx asks the rules itself, about the text without `cx`. The rules are matched in
//! three ways, and each errs to its own side:
//!
//! - [`Rules::might_restrict`]: what a deny or ask rule *might* concern. Too often costs an offload or a question, too seldom
//!   would widen what the user allowed; what is not understood counts as "might". [`Rules::might_restrict_part`] says it of a text of which
//!   all commands are known, where a word that only stands among the arguments of another program is none.
//! - `sure`: what a deny or ask rule matches without doubt, so that the answer may be `deny`.
//! - `covers`: what the allow rules cover without doubt, so that the answer may be `allow`.

mod covers;
mod files;
mod gains;
mod helpers;
mod might;
mod names;
#[cfg(test)]
mod observed;
mod pieces;
mod rule;
mod runs;
mod sure;
mod typed;
mod unasked;

use std::path::Path;

use crate::plan::shell::{self, Dialect, Script, Word};

pub use covers::covers;
use files::Concern;
pub use helpers::Ground;
pub use might::{names_cx, without_cx};
pub use typed::{Inner, Typed, Unwrapped, unwrap};
pub use unasked::may_run_unasked;

/// The rules that were found, of all scopes together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Deny rules, as written: `Bash(rm:*)`, `WebFetch`.
    pub deny: Vec<String>,
    /// Ask rules, as written.
    pub ask: Vec<String>,
    /// Allow rules, as written.
    pub allow: Vec<String>,
    /// Allow rules that the client may let count, or not.
    pub perhaps: Vec<String>,
    /// Commands that run outside of the sandbox that the others run in, as patterns without `Bash( )`.
    pub outside: Vec<String>,
    /// Directories besides the project in which the client works.
    pub directories: Vec<String>,
    /// Why some rules could not be read, if so; then any command might be restricted, and none is allowed.
    pub unreadable: Option<String>,
}

/// What the rules say of a text. Ordered: the strictest of several counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// The user's allow rules, and what the client runs without one, cover all of it.
    Allow,
    /// No rule speaks of it: the client would ask, unless it reads more into its rules than cx does.
    NoRule,
    /// An ask rule matches, or a deny or ask rule might; with the reason.
    Ask(String),
    /// A deny rule matches; with the reason.
    Deny(String),
}

/// Judges `text` by `rules` as the client would judge it in the Bash tool, erring to the strict side. A `cx` in it is looked
/// through.
pub fn judge(text: &str, dialect: Dialect, rules: &Rules, ground: Ground<'_>) -> Judgement {
    let plain = match unwrap(text, dialect, &|_: &[Word]| false) {
        Typed::No => text.to_owned(),
        Typed::Found(Unwrapped {
            opaque: Some(verb), ..
        }) => {
            return Judgement::Ask(format!("`cx {verb}` is for a person to decide about"));
        }
        Typed::Found(found) => found.plain,
        Typed::Unclear => {
            let plain = without_cx(text);
            return match rules.might_restrict(&plain).or_else(|| rules.any_for_bash()) {
                Some(rule) => Judgement::Ask(concerns(rule)),
                None => Judgement::NoRule,
            };
        }
    };
    let script = shell::parse(&plain, dialect).ok();
    let restricted = restriction(&plain, script.as_ref(), rules);
    if restricted > Judgement::NoRule {
        return restricted;
    }
    let covered = rules.allows_all() || script.is_some_and(|s| covers(rules, &plain, &s, ground));
    if covered {
        Judgement::Allow
    } else {
        Judgement::NoRule
    }
}

/// What the deny and ask rules say of a text without `cx`; `NoRule` where they cannot concern it.
pub fn restriction(text: &str, script: Option<&Script>, rules: &Rules) -> Judgement {
    let about_files = |list| files::concerned(list, text, script);
    match (about_files(&rules.deny), about_files(&rules.ask)) {
        (Some(Concern::Names(rule)), _) => return Judgement::Deny(format!("your rule {rule} denies it")),
        (Some(Concern::May(rule)), _) | (None, Some(Concern::May(rule) | Concern::Names(rule))) => {
            return Judgement::Ask(concerns(rule)).max(about_commands(text, script, rules));
        }
        (None, None) => {}
    }
    about_commands(text, script, rules)
}

/// What the rules about Bash say.
fn about_commands(text: &str, script: Option<&Script>, rules: &Rules) -> Judgement {
    let might = match script {
        Some(script) => {
            if let Some(rule) = sure::matching(&rules.deny, text, script) {
                return Judgement::Deny(format!("your rule {rule} denies it"));
            }
            if let Some(rule) = sure::matching(&rules.ask, text, script) {
                return Judgement::Ask(format!("your rule {rule} asks about it"));
            }
            rules.might_restrict_part(text, script)
        }
        None => rules.might_restrict(text),
    };
    might.map_or(Judgement::NoRule, |rule| Judgement::Ask(concerns(rule)))
}

fn concerns(rule: &str) -> String {
    format!("one of your permission rules may concern it: {rule}")
}

impl Rules {
    /// Deny and ask rules.
    pub fn restricting(&self) -> impl Iterator<Item = &String> {
        self.deny.iter().chain(&self.ask)
    }

    /// Whether an allow rule covers every command of Bash.
    pub fn allows_all(&self) -> bool {
        self.unreadable.is_none() && self.allow.iter().any(|r| rule::parse(r) == rule::Rule::AnyBash)
    }
}

/// Whether `path`, seen from `cwd`, is one of `roots` or lies below one, with symbolic links followed.
pub fn lies_inside(path: &str, cwd: &Path, roots: &[std::path::PathBuf]) -> bool {
    let Ok(real) = cwd.join(path).canonicalize() else {
        return false;
    };
    roots
        .iter()
        .any(|root| root.canonicalize().is_ok_and(|root| real.starts_with(root)))
}
