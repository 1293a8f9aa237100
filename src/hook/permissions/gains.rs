//! Allow rules that match a command only because `cx` stands in front of it: `Bash(cx:*)`, `Bash(c*)`. The client would run
//! by them what the user never allowed.

use super::Rules;
use super::rule::{self, Pattern, Rule, glob};
use crate::plan::shell::Word;

impl Rules {
    /// The first allow rule that may match `words`, which start with `cx`, and does not match the command in them, which
    /// starts at word `at`. A rule that names that command after the `cx`, as "don't ask again" writes it
    /// (`Bash(cx make:*)`), is the user's own word and does not count.
    pub fn allows_only_with_cx(&self, words: &[Word], at: usize) -> Option<&str> {
        let known: Vec<&str> = words.iter().map_while(Word::text).collect();
        let whole = known.len() == words.len();
        let based: Vec<&str> = known
            .iter()
            .enumerate()
            .map(|(i, w)| {
                if i == 0 {
                    w.rsplit('/').next().unwrap_or(w)
                } else {
                    w
                }
            })
            .collect();
        let counts = |rule: &&str| match rule::parse(rule) {
            Rule::Bash(pattern) => {
                let with = may_match(&pattern, &known, whole) || may_match(&pattern, &based, whole);
                let names_it = with && literal_words(&pattern) > at;
                let without = known
                    .get(at..)
                    .is_some_and(|inner| whole && pattern.matches(inner));
                (with || wraps_anything(&pattern)) && !names_it && !without
            }
            Rule::OtherTool | Rule::AnyBash | Rule::Unclear => false,
        };
        self.allow.iter().map(String::as_str).find(counts)
    }

    /// The first allow rule that is about cx: for texts that do not show what cx would run.
    pub fn allow_about_cx(&self) -> Option<&str> {
        let about = |rule: &&str| match rule::parse(rule) {
            Rule::Bash(pattern) => mentions_cx(&pattern) || may_match(&pattern, &["cx"], false),
            _ => false,
        };
        self.allow.iter().map(String::as_str).find(about)
    }

    /// Allow rules that allow whatever cx can run, for `cx doctor`.
    pub fn too_wide_for_cx(&self) -> impl Iterator<Item = &str> {
        // Every form of cx in which a command may follow.
        const FORMS: [&[&str]; 4] = [&[], &["--"], &["run"], &["run", "--"]];
        let wide = |rule: &&str| {
            let one = Rules {
                allow: vec![(*rule).to_owned()],
                ..Rules::default()
            };
            let Rule::Bash(pattern) = rule::parse(rule) else {
                return false;
            };
            let first = pattern.text().split([' ', '*']).next().unwrap_or_default();
            let program = if first.ends_with("/cx") { first } else { "cx" };
            FORMS.iter().any(|form| {
                let words = std::iter::once(&program).chain(*form).chain(&["anything"]);
                let words: Vec<Word> = words.map(|w| Word::from(*w)).collect();
                one.allows_only_with_cx(&words, words.len() - 1).is_some()
            })
        };
        self.allow.iter().map(String::as_str).filter(wide)
    }
}

/// Whether `pattern` matches `words`, or might where more than those follow.
fn may_match(pattern: &Pattern<'_>, words: &[&str], whole: bool) -> bool {
    if whole {
        return pattern.matches(words);
    }
    let text = words.join(" ");
    let fits = |literal: &str| literal.starts_with(&text) || text.starts_with(literal);
    match pattern {
        Pattern::Exact(literal) | Pattern::Prefix(literal) => fits(literal),
        Pattern::Glob(pattern) => fits(pattern.split('*').next().unwrap_or_default()) || glob(pattern, &text),
    }
}

/// How many words at the pattern's start are written out.
fn literal_words(pattern: &Pattern<'_>) -> usize {
    pattern
        .text()
        .split(' ')
        .take_while(|w| !w.is_empty() && !w.contains('*'))
        .count()
}

/// Whether `cx` stands in the pattern behind something else, such as a wrapper.
fn mentions_cx(pattern: &Pattern<'_>) -> bool {
    let mut words = pattern.text().split(' ').skip(1);
    words.any(|w| w.rsplit('/').next() == Some("cx"))
}

/// Whether the pattern is about whatever `cx` runs behind something else (`timeout 5 cx:*`), and not about one command, as the rule
/// that "don't ask again" writes for `FOO=1 cx pytest` is.
fn wraps_anything(pattern: &Pattern<'_>) -> bool {
    let words = pattern.text().split(' ').skip(1);
    let mut behind = words.skip_while(|w| w.rsplit('/').next() != Some("cx"));
    if behind.next().is_none() {
        return false;
    }
    let command = behind.find(|w| !matches!(*w, "run" | "--"));
    command.is_none_or(|w| w.is_empty() || w.starts_with('-') || w.contains('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_gain_by_cx() {
        let gains = |rule: &str, text: &str, at: usize| {
            let rules = Rules {
                allow: vec!["Edit".into(), "Bash(ls:*)".into(), rule.into()],
                ..Rules::default()
            };
            let words: Vec<Word> = text
                .split(' ')
                .map(|w| {
                    if w.starts_with('$') {
                        Word::Dynamic
                    } else {
                        w.into()
                    }
                })
                .collect();
            rules.allows_only_with_cx(&words, at).is_some()
        };
        for (rule, text, at) in [
            ("Bash(cx:*)", "cx make test", 1),
            ("Bash(cx *)", "cx make test", 1),
            ("Bash(cx *)", "/opt/cx make test", 1),
            ("Bash(/opt/cx:*)", "/opt/cx make test", 1),
            ("Bash(c*)", "cx make", 1),
            ("Bash(* make)", "cx make", 1),
            ("Bash(*x make)", "cx make", 1),
            ("Bash(cx run:*)", "cx run -- make", 3),
            ("Bash(cx run *)", "cx run --on n make", 4),
            ("Bash(timeout 5 cx:*)", "cx make", 1),
            ("Bash(timeout 5 cx *)", "cx make", 1),
            ("Bash(timeout 5 cx run -- *)", "cx make", 1),
            ("Bash(timeout 5 cx run --on *)", "cx make", 1),
            ("Bash(cx:*)", "cx make $X", 1),
            ("Bash(cx *x)", "cx make $X", 1),
        ] {
            assert!(gains(rule, text, at), "{rule} / {text}");
        }
        for (rule, text, at) in [
            ("Bash", "cx make", 1),
            ("Bash(*)", "cx make", 1),
            ("Bash(make:*)", "cx make", 1),
            ("Bash(cx make:*)", "cx make test", 1),
            ("Bash(cx make)", "cx make", 1),
            ("Bash(cx cargo:*)", "cx make", 1),
            ("Bash(cx run -- make:*)", "cx run -- make", 3),
            ("Bash(*make)", "cx make", 1),
            ("Bash(* test)", "cx make test", 1),
            ("Bash(cxx:*)", "cx make", 1),
            ("Bash(FOO=1 cx pytest)", "cx make", 1),
            ("Bash(FOO=1 cx pytest)", "cx pytest", 1),
            ("Bash(timeout 60 cx run -- make:*)", "cx make", 1),
        ] {
            assert!(!gains(rule, text, at), "{rule} / {text}");
        }
    }

    #[test]
    fn rules_to_warn_of() {
        let rules = Rules {
            allow: [
                "Bash(cx:*)",
                "Bash(cx *)",
                "Bash(c*)",
                "Bash(cx make:*)",
                "Bash",
                "Bash(ls:*)",
                "Bash(cx run:*)",
                "Bash(cx run -- *)",
                "Bash(cx -- *)",
                "Bash(/opt/cx:*)",
                "Bash(/opt/cx *)",
                "Bash(cx run -- make:*)",
                "Bash(cx status)",
            ]
            .map(String::from)
            .into(),
            ..Rules::default()
        };
        let found: Vec<&str> = rules.too_wide_for_cx().collect();
        let wide = [
            "Bash(cx:*)",
            "Bash(cx *)",
            "Bash(c*)",
            "Bash(cx run:*)",
            "Bash(cx run -- *)",
            "Bash(cx -- *)",
            "Bash(/opt/cx:*)",
            "Bash(/opt/cx *)",
        ];
        assert_eq!(found, wide);
    }
}
