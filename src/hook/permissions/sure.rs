//! Which deny or ask rule matches a command without doubt.
//!
//! The client looks for what these rules forbid wherever it may hide: behind assignments and wrappers, in groups and
//! substitutions, by a path. So each simple command is compared in several readings, and one that matches is enough.

use super::rule::{self, Rule};
use crate::plan::shell::{Part, Script, Word};

/// The first of `rules` that matches a command of `script`, as which `text` is understood.
pub fn matching<'r>(rules: &'r [String], text: &str, script: &Script) -> Option<&'r str> {
    rules
        .iter()
        .map(String::as_str)
        .find(|rule| match rule::parse(rule) {
            Rule::AnyBash => true,
            Rule::Bash(pattern) => script.parts.iter().any(|part| {
                readings(part)
                    .iter()
                    .chain(&with_assignments(text, part))
                    .any(|words| pattern.matches(&words.iter().map(String::as_str).collect::<Vec<_>>()))
            }),
            Rule::OtherTool | Rule::Unclear => false,
        })
}

/// The words of a command: as they are, and with the program's directory taken away. A word that is not static, and all
/// after it, are replaced by one that no rule names.
fn readings(part: &Part) -> Vec<Vec<String>> {
    let mut words: Vec<String> = part
        .argv
        .iter()
        .map_while(Word::text)
        .map(str::to_owned)
        .collect();
    if words.is_empty() {
        return Vec::new();
    }
    if words.len() < part.argv.len() {
        words.push("\0".to_owned());
    }
    let mut list = vec![words.clone()];
    if let Some((_, base)) = words[0].rsplit_once('/') {
        words[0] = base.to_owned();
        list.push(words);
    }
    list
}

/// The words of a command that begins with assignments, with these: the client holds rules such as `Bash(FOO=1 make:*)` against the text
/// as it stands there. Only where that needs no understanding.
fn with_assignments(text: &str, part: &Part) -> Option<Vec<String>> {
    let own = text.get(part.span.clone())?;
    let is_plain = |c: char| c.is_alphanumeric() || "_-.+@%,/:= ".contains(c);
    let begins = own.split(' ').next().is_some_and(|word| word.contains('='));
    (begins && own.chars().all(is_plain)).then(|| own.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shell::{Dialect, parse};

    #[test]
    fn rules_that_match_without_doubt() {
        let matches = |rule: &str, text: &str| {
            let script = parse(text, Dialect::Bash).unwrap();
            matching(&["Edit".to_owned(), rule.to_owned()], text, &script).is_some()
        };
        for (rule, text) in [
            ("Bash", "ls"),
            ("Bash(git push:*)", "git push"),
            ("Bash(git push:*)", "cd a && FOO=1 timeout 5 git push -f | tail"),
            ("Bash(git push *)", "/usr/bin/git 'push' $X"),
            ("Bash(git push:*)", "(git push)"),
            ("Bash(git push:*)", "echo $(git push)"),
            ("Bash(git push:*)", "for i in 1; do git push; done > x &"),
            ("Bash(git push)", "env A=1 git push"),
            ("Bash(git * main)", "git push main"),
            ("Bash(FOO=1 zap:*)", "FOO=1 zap"),
            ("Bash(FOO=1 zap:*)", "cd a && FOO=1 zap x"),
            ("Bash(z?p)", "'z?p'"),
        ] {
            assert!(matches(rule, text), "{rule} / {text}");
        }
        for (rule, text) in [
            ("Bash(git push:*)", "git pull"),
            ("Bash(git push:*)", "git pushx"),
            ("Bash(git push:*)", "git $X"),
            ("Bash(git push)", "git push $X"),
            ("Bash(git push:*)", "bash -c 'git push'"),
            ("Bash(git push:*)", "echo git push"),
            ("Read(./git)", "git push"),
            ("Bash()", "git push"),
            ("Bash(:*)", "git push"),
            ("Bash(z?p)", "zap"),
            ("Bash(FOO=1 zap:*)", "BAR=1 FOO=1 zap x"),
            ("Bash(FOO=1 zap:*)", "env FOO=1 zap x"),
            ("Bash(FOO=1 zap:*)", "FOO=2 zap"),
            ("*", "git push"),
        ] {
            assert!(!matches(rule, text), "{rule} / {text}");
        }
    }
}
