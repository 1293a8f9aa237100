//! What the user's own deny and ask rules might say of a command, judged generously: whatever is not understood counts as
//! "might".

use super::{Rules, runs};
use crate::plan::shell::{Part, Script, Word};

impl Rules {
    /// Whether a deny or ask rule might concern a part of `text`, and which.
    pub fn might_restrict(&self, text: &str) -> Option<&str> {
        self.might(text, |_| true)
    }

    /// The same for a text that is understood as `script`: a word that can be nothing but an argument of another program is none that a
    /// rule speaks of.
    pub fn might_restrict_part(&self, text: &str, script: &Script) -> Option<&str> {
        self.might(text, |literal| {
            !script.branching || literal.is_odd() || script.parts.iter().any(|part| literal.may_be_in(part))
        })
    }

    /// Whether a rule may concern `text` that may not concern `other`.
    pub fn might_restrict_only(&self, text: &str, other: &str) -> bool {
        let (text, other) = (Haystack::new(text), Haystack::new(other));
        self.restricting().any(|rule| match scope(rule) {
            Scope::Bash(content) => {
                literal(content).is_some_and(|l| l.occurs_in(&text) && !l.occurs_in(&other))
            }
            Scope::None | Scope::AnyBash => false,
        })
    }

    /// The first rule that is not understood, or whose words occur in `text` and of which `counts` says so.
    fn might(&self, text: &str, counts: impl Fn(&Literal<'_>) -> bool) -> Option<&str> {
        if let Some(why) = &self.unreadable {
            return Some(why);
        }
        let mut haystack = None;
        self.restricting()
            .map(String::as_str)
            .find(|rule| match scope(rule) {
                Scope::None => false,
                Scope::AnyBash => true,
                Scope::Bash(content) => literal(content).is_none_or(|literal| {
                    literal.occurs_in(haystack.get_or_insert_with(|| Haystack::new(text))) && counts(&literal)
                }),
            })
    }

    /// Whether a part of `text` might be one of the commands that leave the sandbox, which they do by their own names alone.
    pub fn might_leave_the_sandbox(&self, text: &str) -> bool {
        !self.outside.is_empty() && {
            let haystack = Haystack::new(text);
            let occurs = |c: &String| literal(c).is_none_or(|l| l.occurs_in(&haystack));
            self.outside.iter().any(occurs)
        }
    }

    /// A deny or ask rule for Bash, if there is any: for texts that do not show what they run.
    pub fn any_for_bash(&self) -> Option<&str> {
        let mut all = self.restricting().map(String::as_str);
        self.unreadable
            .as_deref()
            .or_else(|| all.find(|r| !matches!(scope(r), Scope::None)))
    }
}

/// Whether `text` holds the word `cx` where it could be a command's name, in any quoting or path.
pub fn names_cx(text: &str) -> bool {
    Haystack::new(text).words().any(|w| w == "cx")
}

/// `text` without the words `cx`, for judging what a typed `cx X` runs: rules for cx itself are the client's own
/// business, which sees them.
pub fn without_cx(text: &str) -> String {
    let joined = joined(text);
    let mut out = String::with_capacity(joined.len());
    for piece in split_keeping(&joined) {
        out.push_str(if piece == "cx" { " " } else { piece });
    }
    out
}

enum Scope<'a> {
    /// It names a tool that is not Bash, or no command of it.
    None,
    /// All of Bash, or not understood.
    AnyBash,
    /// Commands that match this.
    Bash(&'a str),
}

fn scope(rule: &str) -> Scope<'_> {
    let rule = rule.trim();
    let (tool, content) = match rule.split_once('(') {
        Some((tool, rest)) => (tool.trim(), Some(rest)),
        None => (rule, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if tool.is_empty() || !tool.chars().all(plain) {
        return Scope::AnyBash;
    }
    if !tool.eq_ignore_ascii_case("bash") {
        return Scope::None;
    }
    match content.and_then(|c| c.strip_suffix(')')) {
        // As observed: the client holds no command against them.
        Some("" | ":*") => Scope::None,
        Some(content) => Scope::Bash(content),
        None => Scope::AnyBash,
    }
}

/// What a rule's content says literally.
struct Literal<'a> {
    /// The program's name, in lower case; none where it is no plain one (`pytest*`, `FOO=1 pytest`), and is among the words.
    program: Option<String>,
    /// The words after it; `*` stands for anything.
    words: Vec<&'a str>,
}

/// Reads a rule's content; `None` where it says anything but plain words.
fn literal(content: &str) -> Option<Literal<'_>> {
    let content = content.trim();
    let ends = |end| content.strip_suffix(end);
    let pattern = ends(":*").or_else(|| ends(" *")).unwrap_or(content);
    // Escapes, quotes, expansions: not understood, and so is what follows; what stands before them counts.
    let odd = pattern.find(['\\', '\'', '"', '$', '`', '[', '(']);
    let pattern = match odd {
        Some(at) => pattern[..at].rsplit_once(char::is_whitespace)?.0,
        None => pattern,
    };
    // A colon in the first word may name a field of the input (`command:...`).
    if pattern.split_whitespace().next()?.contains(':') {
        return None;
    }
    let mut words = pattern.split_whitespace();
    let first = words.next()?;
    // The client takes a `?` for itself, and an assignment for a word like others.
    if first.contains(['*', '?', '=']) {
        return Some(Literal {
            program: None,
            words: pattern.split_whitespace().collect(),
        });
    }
    let program = first.rsplit('/').next().unwrap_or(first).to_ascii_lowercase();
    let is_name = !program.is_empty() && program.chars().all(is_word);
    is_name.then(|| Literal {
        program: Some(program),
        words: words.collect(),
    })
}

impl Literal<'_> {
    /// Whether all of it occurs: the program as a whole word or the last component of a path.
    fn occurs_in(&self, haystack: &Haystack) -> bool {
        self.program
            .as_ref()
            .is_none_or(|program| haystack.words().any(|w| w == program))
            && self
                .words
                .iter()
                .flat_map(|w| w.split('*'))
                .filter(|literal| !literal.is_empty())
                .all(|literal| haystack.contains(&literal.to_ascii_lowercase()))
    }

    /// Whether it may be what `part` runs: the program with these words among its own in this order, or a word of one that runs words.
    fn may_be_in(&self, part: &Part) -> bool {
        let (Some(first), Some(own)) = (part.argv.first(), &self.program) else {
            return self.program.is_none();
        };
        let Some(program) = first.text().map(runs::name) else {
            return true;
        };
        // The client does not see where a word ends that is quoted.
        let is_name = program == "[" || !program.is_empty() && program.chars().all(is_word);
        if !is_name || part.wrappers.iter().any(|w| runs::name(w) == *own) {
            return true;
        }
        if program != *own {
            return runs::its_arguments(&program, part);
        }
        let given: Vec<&Word> = part.argv[1..].iter().collect();
        let Some(given) = given.iter().map(|w| w.text()).collect::<Option<Vec<&str>>>() else {
            return true;
        };
        let given: Vec<String> = given.iter().map(|w| w.to_ascii_lowercase()).collect();
        let wanted: Vec<String> = self.words.iter().map(|w| w.to_ascii_lowercase()).collect();
        let mut rest = given.iter();
        let are_among = wanted.iter().all(|want| rest.any(|word| word.starts_with(want)));
        // Quoted, several of them may be one.
        are_among || given.join(" ").starts_with(&wanted.join(" "))
    }

    /// Whether it may match more than one command: the client holds a rule against the text as a whole, too. Or it is of a word that is no
    /// command's, and what the client makes of that is not known.
    fn is_odd(&self) -> bool {
        const KEYWORDS: &str =
            "! case coproc do done elif else esac fi for function if in select then time until while";
        let joins = |w: &&str| w.contains(['*', '&', '|', ';', '<', '>', ')', '{', '}', '#', '!', '~']);
        KEYWORDS.split(' ').any(|k| self.program.as_deref() == Some(k)) || self.words.iter().any(joins)
    }
}

/// A command's text, as it is and with its quoting taken away, in lower case.
struct Haystack {
    plain: String,
    joined: String,
}

impl Haystack {
    fn new(text: &str) -> Haystack {
        Haystack {
            plain: text.to_ascii_lowercase(),
            joined: joined(text).to_ascii_lowercase(),
        }
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        split_keeping(&self.plain).chain(split_keeping(&self.joined))
    }

    fn contains(&self, literal: &str) -> bool {
        self.plain.contains(literal) || self.joined.contains(literal)
    }
}

/// What is left of a text once quotes, backslashes and line continuations are gone, so that `r'm'` reads `rm`.
fn joined(text: &str) -> String {
    text.replace("\\\n", "").replace(['\\', '\'', '"'], "")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_-.+@%,".contains(c)
}

/// The words of a text and, as pieces of their own, what stands between them.
fn split_keeping(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let kind = is_word(first);
        let end = rest.find(|c| is_word(c) != kind).unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shell::{Dialect, parse};

    fn restricts(rule: &str, text: &str) -> bool {
        let rules = Rules {
            deny: vec!["Read(./.env)".into(), rule.into()],
            ..Rules::default()
        };
        let found = rules.might_restrict(text);
        assert!(found.is_none_or(|r| r == rule));
        found.is_some()
    }

    #[test]
    fn rules_that_might_match() {
        for (rule, text) in [
            ("Bash", "ls"),
            ("Bash(*)", "ls"),
            ("Bash(* --force)", "git push --force"),
            ("Bash(pytest*)", "py'test'-3 -x"),
            ("*", "ls"),
            ("Ba*", "ls"),
            ("", "ls"),
            ("Bash(ls", "cargo test"),
            ("bash(pytest)", "pytest"),
            ("Bash('x')", "cargo test"),
            ("Bash(z?p)", "'z?p'"),
            ("Bash(zap a?b)", "zap a?b"),
            ("Bash(FOO=1 zap:*)", "FOO=1 zap x"),
            ("Bash(FOO=1 zap:*)", "FOO='1' \\zap x"),
            ("Bash(FOO=1 zap:*)", "BAR=1 FOO=1 zap x"),
            ("Bash(FOO=1)", "FOO=1 make"),
            ("Bash(command:*x*)", "cargo test"),
            ("Bash(pytest:*)", "pytest -x"),
            ("Bash(pytest)", "cd a && FOO=1 timeout 3 ./venv/bin/pytest -x"),
            ("Bash(/usr/bin/pytest)", "pytest"),
            ("Bash(pytest:*)", "p'y'te\\st -x"),
            ("Bash(pytest:*)", "py\\\ntest -x"),
            ("Bash(pytest:*)", "bash -c \"pytest -x\""),
            ("Bash(pytest *)", "if true; then pytest; fi"),
            ("Bash(PyTest)", "pytest"),
            ("Bash(git push:*)", "cargo test && git push"),
            ("Bash(git push:*)", "cargo test && git -C x 'pu'sh"),
            ("Bash(git * main)", "git push main; cargo test"),
            ("Bash(npm run test:*)", "npm run test:unit"),
        ] {
            assert!(restricts(rule, text), "{rule} / {text}");
        }
    }

    #[test]
    fn rules_that_cannot() {
        for (rule, text) in [
            ("Read", "cat x"),
            ("Bash()", "ls"),
            ("Bash(:*)", "ls"),
            ("Bash(z?p)", "zap"),
            ("Bash(FOO=1 zap:*)", "zap x"),
            ("Bash(FOO=1 zap:*)", "FOO=1 ls"),
            ("WebFetch(domain:x)", "curl x"),
            ("mcp__a__b", "cargo test"),
            ("Bash(* --force)", "ls"),
            ("Bash(pytest*)", "cargo test"),
            ("Bash(rm:*)", "cargo test --format x --rm"),
            ("Bash(go:*)", "cargo test"),
            ("Bash(git push:*)", "git status && cargo test"),
            ("Bash(cargo publish:*)", "cargo test --workspace"),
            ("Bash(sudo *)", "make -j4"),
        ] {
            assert!(!restricts(rule, text), "{rule} / {text}");
        }
        let broken = Rules {
            unreadable: Some("x".into()),
            ..Rules::default()
        };
        assert_eq!(broken.might_restrict("ls"), Some("x"));
    }

    #[test]
    fn words_that_are_arguments_are_no_commands() {
        let restricts = |rule: &str, text: &str| {
            let rules = Rules {
                ask: vec![rule.into()],
                ..Rules::default()
            };
            let script = parse(text, Dialect::Bash).unwrap();
            // Never where the text alone says no.
            let found = rules.might_restrict_part(text, &script).is_some();
            assert!(!found || rules.might_restrict(text).is_some(), "{rule} / {text}");
            found
        };
        for (rule, text) in [
            ("Bash(pytest:*)", "echo pytest"),
            ("Bash(pytest:*)", "grep -rn pytest . | head -3 && cat pytest"),
            ("Bash(pytest:*)", "git commit -m 'run pytest now' && ls"),
            ("Bash(pytest:*)", "pip install pytest"),
            ("Bash(pytest:*)", "find . -name pytest"),
            ("Bash(pytest:*)", "npm install pytest; cargo test pytest"),
            ("Bash(pytest)", "if [ -e pytest ]; then echo yes; fi"),
            ("Bash(git push:*)", "git log --grep=push"),
            ("Bash(git push *)", "git log --grep=push"),
            ("Bash(git push:*)", "git commit -m 'then push'"),
            ("Bash(git push:*)", "git status; echo push"),
            ("Bash(rm:*)", "docker build --rm rm"),
            ("Bash(rm -rf:*)", "rm x; echo -rf"),
        ] {
            assert!(!restricts(rule, text), "{rule} / {text}");
        }
        for (rule, text) in [
            ("Bash", "echo pytest"),
            ("Bash(*test)", "echo pytest"),
            ("Bash(pytest:*)", "x=pytest; $x -x"),
            ("Bash(pytest:*)", "echo pytest | sh"),
            ("Bash(pytest:*)", "bash -c 'pytest -x'"),
            ("Bash(pytest:*)", "bash <<E\npytest\nE"),
            ("Bash(pytest:*)", "eval pytest"),
            ("Bash(pytest:*)", "python3.11 -m pytest"),
            ("Bash(pytest:*)", "/usr/bin/python -m pytest"),
            ("Bash(pytest:*)", "uv run pytest"),
            ("Bash(pytest:*)", "npx pytest"),
            ("Bash(pytest:*)", "make pytest"),
            ("Bash(pytest:*)", "find . -exec pytest {} +"),
            ("Bash(pytest:*)", "git bisect run pytest"),
            ("Bash(pytest:*)", "git -c alias.x=pytest x"),
            ("Bash(pytest:*)", "docker $X pytest"),
            ("Bash(pytest:*)", "alias p=pytest; p"),
            ("Bash(pytest:*)", "trap pytest EXIT"),
            ("Bash(pytest:*)", "PyTest -x"),
            ("Bash(pytest:*)", "'pytest -x'"),
            ("Bash(pytest:*)", "'' pytest"),
            ("Bash(pytest -x:*)", "pytest $A && echo -x"),
            ("Bash(pytest:*)", "(echo pytest)"),
            ("Bash(pytest:*)", "f() { echo pytest; }"),
            ("Bash(pytest:*)", "echo $(date) pytest"),
            ("Bash(git push:*)", "git -C x push"),
            ("Bash(git push:*)", "git pushx"),
            ("Bash(git * main)", "git push main"),
            ("Bash(git *main)", "git main"),
            ("Bash(git * main)", "git status; echo main"),
            ("Bash(git pus*)", "git push"),
            ("Bash(git push *)", "git -C x push y"),
            ("Bash(git push origin:*)", "git 'push origin' main"),
            ("Bash(timeout:*)", "timeout 5 cargo test"),
            ("Bash(env:*)", "env A=1 cargo test"),
            ("Bash(cd sub && pytest)", "cd sub && pytest"),
            ("Bash(for i in 1:*)", "for i in 1; do echo; done"),
            ("Bash(ls > x)", "ls > x"),
        ] {
            assert!(restricts(rule, text), "{rule} / {text}");
        }
    }

    #[test]
    fn typed_cx_in_any_spelling() {
        for text in [
            "cx ls",
            "/opt/cx run -- ls",
            "true;cx ls",
            "'c'x ls",
            "\\cx ls",
            "$(cx ls)",
            "timeout 3 ~/bin/cx ls",
        ] {
            assert!(names_cx(text), "{text}");
            assert!(!names_cx(&without_cx(text)), "{text}");
        }
        for text in ["ls", "cxx", "a.cx", "cx-cargo build", "make CXX=g++"] {
            assert!(!names_cx(text), "{text}");
        }
        let rules = Rules {
            deny: vec!["Bash(cx:*)".into()],
            ..Rules::default()
        };
        assert_eq!(rules.might_restrict(&without_cx("cx ls")), None);
        assert!(rules.might_restrict("cx ls").is_some());
    }

    #[test]
    fn what_follows_something_odd_does_not_make_a_rule_about_everything() {
        for (rule, concerned, not) in [
            ("Bash(curl https://*)", "curl https://x", "ls; make"),
            ("Bash(npm run test:unit)", "npm run test:unit", "npm run build"),
            (
                "Bash(docker run -p 80:80 *)",
                "docker run -p 80:80 x",
                "docker ps",
            ),
            ("Bash(git commit -m \"*\")", "git commit -m x", "git push"),
            ("Bash(cat $HOME/x)", "cat y", "ls"),
        ] {
            let rules = Rules {
                deny: vec![rule.to_owned()],
                ..Rules::default()
            };
            assert_eq!(rules.might_restrict(concerned), Some(rule));
            assert_eq!(rules.might_restrict(not), None, "{rule}");
        }
        for rule in ["Bash($X a)", "Bash(command:ls)", "Bash(\"ls\")"] {
            let rules = Rules {
                deny: vec![rule.to_owned()],
                ..Rules::default()
            };
            assert_eq!(rules.might_restrict("true"), Some(rule), "not understood");
        }
    }
}
