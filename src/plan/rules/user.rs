//! The user's own rules: `[[rule]]` in the config.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, Class, Need, PlatformTie, Verdict, Workload};

/// A rule of the user's own, from `[[rule]]` in the config.
///
/// ```toml
/// [[rule]]
/// name = "codegen"
/// match = ["just codegen", "codegen"]   # a program's base name, or the first words of a command
/// class = "heavy"                       # or "light"; heavy where it is not given
/// outputs = ["gen/**"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct UserRule {
    /// Its name; verdicts carry it as `user:NAME`.
    pub name: String,
    /// First words of the commands it is for, each list split at blanks; any of them. Empty: only `regex` decides.
    pub matches: Vec<UserMatch>,
    /// A regular expression that the whole command, its words joined by single blanks, must match too: as it is typed, or with the
    /// program's base name in front.
    pub regex: Option<Pattern>,
    /// Heavy or light.
    pub class: UserClass,
    /// What the node must have; `None`: the program itself.
    pub needs: Option<Vec<UserNeed>>,
    /// As in [`Workload::reads`].
    pub reads: Vec<String>,
    /// As in [`Workload::leaves`].
    pub leaves: Vec<String>,
    /// As in [`Brings::Outputs`].
    pub outputs: Vec<String>,
    /// As [`Brings::Ignored`].
    pub ignored: bool,
    /// As in [`Workload::stdin`].
    pub stdin: bool,
    /// As in [`Workload::platform`].
    pub platform: UserPlatform,
    /// As in [`Workload::tags`].
    pub tags: Vec<String>,
}

/// The first words of a command; the first is compared with the program's base name.
pub type UserMatch = Vec<String>;

/// `class`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserClass {
    /// `"heavy"`
    #[default]
    Heavy,
    /// `"light"`
    Light,
}

/// `platform`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserPlatform {
    /// `"free"`
    #[default]
    Free,
    /// `"same"`
    Same,
}

/// One of `needs`: a program's name, or a table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "a need is a program's name or { program, module, same_version }"
)]
pub enum UserNeed {
    /// `"protoc"`
    Program(String),
    /// `{ program = "python3", module = "grpc_tools", same_version = true }`
    Table(UserNeedTable),
}

/// A need in full.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserNeedTable {
    /// The program.
    pub program: String,
    /// The Python module that `program` must be able to import.
    #[serde(default)]
    pub module: Option<String>,
    /// Whether major.minor must be the local one's.
    #[serde(default)]
    pub same_version: bool,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default, rename = "match")]
    matches: Option<OneOrMany>,
    regex: Option<String>,
    #[serde(default)]
    class: UserClass,
    needs: Option<Vec<UserNeed>>,
    #[serde(default)]
    reads: Vec<String>,
    #[serde(default)]
    leaves: Vec<String>,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    ignored: bool,
    #[serde(default)]
    stdin: bool,
    #[serde(default)]
    platform: UserPlatform,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`match` is a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<Written> for UserRule {
    type Error = String;

    fn try_from(w: Written) -> Result<Self, String> {
        let name = w.name;
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return Err(format!(
                "the rule's name `{name}` may hold only letters, digits, `-`, `_` and `.`"
            ));
        }
        let fail = |what: String| Err(format!("rule `{name}`: {what}"));
        let lines = match w.matches {
            None => Vec::new(),
            Some(OneOrMany::One(line)) => vec![line],
            Some(OneOrMany::Many(lines)) => lines,
        };
        let mut matches = Vec::with_capacity(lines.len());
        for line in lines {
            let words: UserMatch = line.split_whitespace().map(str::to_owned).collect();
            let Some(program) = words.first() else {
                return fail("`match` is empty; name a program, or the first words of a command".into());
            };
            if program.contains('/') {
                let instead = match base(program) {
                    "" => format!(", and `{program}` ends without one"),
                    name => format!("; write `{name}`"),
                };
                return fail(format!("`match` takes a program's base name{instead}"));
            }
            if program == "cx" {
                return fail("cx cannot have a rule for itself; match the command that it runs".into());
            }
            if line.contains(['*', '?', '[', '$', '"', '\'', '|', ';', '&', '`']) {
                return fail(format!(
                    "`match = \"{line}\"` is compared word by word; for a pattern use `regex`"
                ));
            }
            matches.push(words);
        }
        if matches.is_empty() && w.regex.is_none() {
            return fail("it has neither `match` nor `regex`, so it would never apply".into());
        }
        if w.ignored && !w.outputs.is_empty() {
            return fail("`ignored = true` brings all changed ignored files; drop it or `outputs`".into());
        }
        for glob in &w.outputs {
            if glob.starts_with('/') || glob.split('/').any(|c| c == "..") || glob.is_empty() {
                return fail(format!("the output `{glob}` must lie under the run's directory"));
            }
        }
        for dir in w.reads.iter().chain(&w.leaves) {
            if dir.starts_with('/') || dir.is_empty() {
                return fail(format!(
                    "the directory `{dir}` must be relative to the run's directory"
                ));
            }
        }
        let says_more = w.needs.is_some()
            || w.ignored
            || w.stdin
            || w.platform != UserPlatform::Free
            || [&w.reads, &w.leaves, &w.outputs, &w.tags]
                .iter()
                .any(|l| !l.is_empty());
        if w.class == UserClass::Light && says_more {
            return fail(
                "a light command runs here, so only `name`, `match` and `regex` mean something".into(),
            );
        }
        Ok(UserRule {
            name,
            matches,
            regex: w.regex.map(Pattern::new),
            class: w.class,
            needs: w.needs,
            reads: w.reads,
            leaves: w.leaves,
            outputs: w.outputs,
            ignored: w.ignored,
            stdin: w.stdin,
            platform: w.platform,
            tags: w.tags,
        })
    }
}

impl UserRule {
    /// Checks what is too dear to check on every start: that `regex` compiles.
    ///
    /// # Errors
    /// What is wrong with it, naming the rule. A rule whose `regex` does not compile never applies.
    pub fn validate(&self) -> Result<(), String> {
        match self.regex.as_ref().map(Pattern::regex) {
            Some(Err(e)) => Err(format!("rule `{}`: `regex` does not compile: {e}", self.name)),
            _ => Ok(()),
        }
    }

    /// Whether the rule is for this command.
    pub(super) fn applies(&self, argv: &[Word]) -> bool {
        let by_words = self.matches.is_empty() || self.matches.iter().any(|m| starts_with(argv, m));
        by_words && self.regex.as_ref().is_none_or(|p| matches(p, argv))
    }

    /// The rule's verdict on a command of `program`.
    pub(super) fn verdict(&self, program: &str) -> Verdict {
        let rule = format!("user:{}", self.name);
        let reason = format!("your rule `{}`", self.name);
        if self.class == UserClass::Light {
            return Verdict {
                class: Class::Light,
                rule,
                reason,
                workload: Workload::default(),
            };
        }
        let needs = match &self.needs {
            None => vec![Need {
                program: program.to_owned(),
                module: None,
                same_version: false,
            }],
            Some(needs) => needs.iter().map(UserNeed::need).collect(),
        };
        let brings = if self.ignored {
            Brings::Ignored
        } else if self.outputs.is_empty() {
            Brings::Synced
        } else {
            Brings::Outputs(self.outputs.clone())
        };
        let platform = match self.platform {
            UserPlatform::Free => PlatformTie::Free,
            UserPlatform::Same => PlatformTie::Same,
        };
        let workload = Workload {
            needs,
            reads: self.reads.clone(),
            leaves: self.leaves.clone(),
            brings,
            stdin: self.stdin,
            platform,
            tags: self.tags.clone(),
            same_paths: false,
        };
        Verdict {
            class: Class::Heavy,
            rule,
            reason,
            workload,
        }
    }
}

impl UserNeed {
    fn need(&self) -> Need {
        match self {
            UserNeed::Program(program) => Need {
                program: program.clone(),
                module: None,
                same_version: false,
            },
            UserNeed::Table(t) => Need {
                program: t.program.clone(),
                module: t.module.clone(),
                same_version: t.same_version,
            },
        }
    }
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn starts_with(argv: &[Word], words: &[String]) -> bool {
    argv.len() >= words.len()
        && words.iter().zip(argv).enumerate().all(|(i, (want, word))| {
            word.text()
                .is_some_and(|text| *want == if i == 0 { base(text) } else { text })
        })
}

/// Whether an expression matches a command as it is typed, or with its program's base name, as `match` has it.
fn matches(pattern: &Pattern, argv: &[Word]) -> bool {
    let typed = joined(argv);
    let path = argv.first().and_then(Word::text).unwrap_or_default();
    pattern.matches(&typed) || path.contains('/') && pattern.matches(&typed[path.len() - base(path).len()..])
}

/// The command as one text; a word that only the shell knows is a lone `$`.
fn joined(argv: &[Word]) -> String {
    let words: Vec<&str> = argv.iter().map(|w| w.text().unwrap_or("$")).collect();
    words.join(" ")
}

/// A regular expression that is compiled when it is first needed: compiling costs about as much as starting a process.
#[derive(Debug)]
pub struct Pattern {
    source: String,
    /// A text that every match contains; where it is missing, nothing needs compiling.
    literal: String,
    compiled: OnceLock<Result<regex::Regex, regex::Error>>,
}

impl Pattern {
    /// Takes the expression as it is; [`UserRule::validate`] checks it.
    pub fn new(source: String) -> Self {
        let literal = sure_literal(&source);
        Pattern {
            source,
            literal,
            compiled: OnceLock::new(),
        }
    }

    /// Whether it matches somewhere in `text`; one that does not compile matches nothing.
    pub fn matches(&self, text: &str) -> bool {
        text.contains(&self.literal) && self.regex().as_ref().is_ok_and(|r| r.is_match(text))
    }

    fn regex(&self) -> &Result<regex::Regex, regex::Error> {
        self.compiled.get_or_init(|| regex::Regex::new(&self.source))
    }
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        Pattern::new(self.source.clone())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// The longest run of plain characters that every match must contain; empty where that takes real parsing.
fn sure_literal(source: &str) -> String {
    if source.contains(['|', '(', '[', '\\', '{']) {
        return String::new();
    }
    let mut best = String::new();
    let mut run = String::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        let optional = matches!(chars.peek(), Some('?' | '*'));
        let plain = c.is_alphanumeric() || " -_/:=,@%~#".contains(c);
        if plain && !optional {
            run.push(c);
        }
        let repeats = matches!(chars.peek(), Some('+'));
        if !plain || optional || repeats || chars.peek().is_none() {
            if run.len() > best.len() {
                best = run.clone();
            }
            run.clear();
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<UserRule, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    fn argv(text: &str) -> Vec<Word> {
        text.split(' ')
            .map(|w| if w == "$" { Word::Dynamic } else { w.into() })
            .collect()
    }

    #[test]
    fn a_rule_with_everything() {
        let r = rule(
            r#"
            name = "codegen"
            match = ["just codegen", "codegen"]
            needs = ["protoc", { program = "python3", module = "grpc_tools", same_version = true }]
            reads = ["third_party"]
            leaves = [".cache"]
            outputs = ["gen/**"]
            stdin = true
            platform = "same"
            tags = ["big"]
            "#,
        )
        .unwrap();
        assert!(r.applies(&argv("just codegen --all")) && r.applies(&argv("./tools/codegen")));
        assert!(!r.applies(&argv("just")) && !r.applies(&argv("just test")) && !r.applies(&argv("just $")));
        let python = Need {
            program: "python3".into(),
            module: Some("grpc_tools".into()),
            same_version: true,
        };
        let protoc = Need {
            program: "protoc".into(),
            module: None,
            same_version: false,
        };
        let want = Verdict {
            class: Class::Heavy,
            rule: "user:codegen".into(),
            reason: "your rule `codegen`".into(),
            workload: Workload {
                needs: vec![protoc, python],
                reads: vec!["third_party".into()],
                leaves: vec![".cache".into()],
                brings: Brings::Outputs(vec!["gen/**".into()]),
                stdin: true,
                platform: PlatformTie::Same,
                tags: vec!["big".into()],
                same_paths: false,
            },
        };
        assert_eq!(r.verdict("just"), want);
    }

    #[test]
    fn expressions_are_checked_late_and_cheaply() {
        let r = rule("name = 'x'\nregex = '^./scripts/sim.* --full'").unwrap();
        assert_eq!(r.regex.as_ref().unwrap().literal, "/scripts/sim");
        assert!(r.applies(&argv("./scripts/sim.sh a --full")));
        assert!(!r.applies(&argv("./scripts/sim.sh a")));
        assert!(!r.applies(&argv("ls")));
        assert!(r.regex.as_ref().unwrap().compiled.get().is_some());
        let fresh = r.clone();
        assert!(!fresh.applies(&argv("ls")) && fresh.regex.as_ref().unwrap().compiled.get().is_none());

        let by_name = rule("name = 'x'\nregex = '^sim( |$)'").unwrap();
        for typed in ["sim", "sim --full", "/opt/bin/sim --full", "./sim"] {
            assert!(by_name.applies(&argv(typed)), "{typed}");
        }
        for typed in ["simple", "/sim/run", "ls /opt/sim", "/opt/sim/", "$ sim"] {
            assert!(!by_name.applies(&argv(typed)), "{typed}");
        }

        let broken = rule("name = 'x'\nmatch = 'sim'\nregex = '('").unwrap();
        assert!(!broken.applies(&argv("sim")));
        assert!(
            broken
                .validate()
                .unwrap_err()
                .starts_with("rule `x`: `regex` does not compile")
        );
        for (source, literal) in [
            ("a+b", "a"),
            ("abc?d", "ab"),
            ("a|b", ""),
            ("x.y", "x"),
            ("^test$", "test"),
            ("a*", ""),
        ] {
            assert_eq!(sure_literal(source), literal, "{source}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("name = 'x'", "neither `match` nor `regex`"),
            ("match = 'x'", "missing field `name`"),
            ("name = 'a b'\nmatch = 'x'", "may hold only letters"),
            ("name = 'x'\nmatch = ''", "`match` is empty"),
            ("name = 'x'\nmatch = 'x*'", "use `regex`"),
            ("name = 'x'\nmatch = 'bin/x'", "write `x`"),
            (
                "name = 'x'\nmatch = ['/foo(/']",
                "base name, and `/foo(/` ends without one",
            ),
            ("name = 'x'\nmatch = 'cx'", "itself"),
            ("name = 'x'\nmatch = 3", "a string or a list of strings"),
            (
                "name = 'x'\nmatch = 'x'\nclass = 'huge'",
                "unknown variant `huge`",
            ),
            ("name = 'x'\nmatch = 'x'\nouputs = []", "unknown field `ouputs`"),
            ("name = 'x'\nmatch = 'x'\noutputs = ['../y']", "must lie under"),
            (
                "name = 'x'\nmatch = 'x'\noutputs = ['y']\nignored = true",
                "drop it or `outputs`",
            ),
            (
                "name = 'x'\nmatch = 'x'\nclass = 'light'\ntags = ['y']",
                "runs here",
            ),
            (
                "name = 'x'\nmatch = 'x'\nneeds = [3]",
                "a need is a program's name",
            ),
        ] {
            let error = rule(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
