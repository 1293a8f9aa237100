//! Whether the client might run a text unasked, judged generously. Where it might, and `covers` cannot say that it does, the text
//! stays as it is: with a `cx` in it the client would ask about what it would have run.
//!
//! What is known to be asked about comes from what the client did; a new client that asks less is no danger, only a question more.

use super::Rules;
use super::rule::{self, Pattern, Rule};
use crate::plan::shell::{Part, Script, Word};

/// Variables that the client asks about in front of a command.
const ASKED_ABOUT: [&str; 14] = [
    "CARGO_INCREMENTAL",
    "CARGO_TERM_COLOR",
    "CFLAGS",
    "CXXFLAGS",
    "DATABASE_URL",
    "DEBUG",
    "DJANGO_SETTINGS_MODULE",
    "GOFLAGS",
    "NODE_OPTIONS",
    "PYTEST_ADDOPTS",
    "PYTHONPATH",
    "PYTHONWARNINGS",
    "RUSTFLAGS",
    "VERBOSE",
];

/// Variables whose value the client knows, or may know.
const KNOWN_VALUES: [&str; 8] = [
    "HOME", "HOSTNAME", "LOGNAME", "OLDPWD", "PWD", "SHELL", "TMPDIR", "USER",
];

/// Programs that the client may run without a rule, in some form.
const MAY_NEED_NO_RULE: [&str; 99] = [
    "[",
    "arch",
    "awk",
    "base64",
    "basename",
    "builtin",
    "cal",
    "cat",
    "cd",
    "cksum",
    "cmp",
    "column",
    "comm",
    "command",
    "cp",
    "cut",
    "date",
    "df",
    "diff",
    "dirname",
    "du",
    "echo",
    "egrep",
    "expand",
    "expr",
    "false",
    "fd",
    "fgrep",
    "file",
    "find",
    "fmt",
    "fold",
    "free",
    "git",
    "grep",
    "groups",
    "head",
    "help",
    "hexdump",
    "history",
    "hostname",
    "id",
    "ifconfig",
    "join",
    "jq",
    "less",
    "locale",
    "ls",
    "lsof",
    "man",
    "md5sum",
    "mkdir",
    "mv",
    "netstat",
    "nl",
    "nproc",
    "numfmt",
    "od",
    "paste",
    "pgrep",
    "pr",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rev",
    "rg",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sha1sum",
    "sha256sum",
    "sleep",
    "sort",
    "ss",
    "stat",
    "strings",
    "sum",
    "tac",
    "tail",
    "test",
    "touch",
    "tput",
    "tr",
    "tree",
    "true",
    "tsort",
    "tty",
    "type",
    "uname",
    "unexpand",
    "uniq",
    "uptime",
    "wc",
    "which",
    "whoami",
    "xargs",
];

/// Whether the client may run `text` unasked, of which `script` holds the commands and `sites` the places where cx goes.
/// `edits`: it lets files of the project be made.
pub fn may_run_unasked(rules: &Rules, text: &str, script: &Script, sites: &[usize], edits: bool) -> bool {
    // A rule about cx cannot match a text without one: it is the rewritten text that it speaks of.
    let about_cx = |rule: &Rule<'_>| match rule {
        Rule::Bash(pattern) => !text.contains("cx") && pattern.text().split(' ').any(|w| w == "cx"),
        _ => false,
    };
    let allow: Vec<Rule<'_>> = rules
        .allow
        .iter()
        .chain(&rules.perhaps)
        .map(|r| rule::parse(r))
        .filter(|r| !about_cx(r))
        .collect();
    // A rule with more than words in it may be a whole text that was allowed once.
    let odd = |rule: &Rule<'_>| match rule {
        Rule::Unclear => true,
        Rule::Bash(Pattern::Glob(text)) => text.starts_with('*') || has_syntax(text),
        Rule::Bash(pattern) => has_syntax(pattern.text()),
        Rule::AnyBash | Rule::OtherTool => false,
    };
    if allow.iter().any(odd) {
        return true;
    }
    if script.grouped || expands(text) {
        return false;
    }
    script.parts.iter().all(|part| {
        let heavy = sites.contains(&part.site);
        // What it would write is asked about, unless edits are let pass.
        let writes = |r: &crate::plan::shell::Redirection| r.writes && r.target.text() != Some("/dev/null");
        if part.redirects.iter().any(writes) && !edits {
            return false;
        }
        if part
            .assignments
            .iter()
            .any(|a| ASKED_ABOUT.contains(&a.name.as_str()))
            && !part.argv.is_empty()
        {
            return named_by_assignment(&allow, part);
        }
        may_be_allowed(&allow, part, text) || (!heavy && may_need_no_rule(part))
    })
}

fn has_syntax(text: &str) -> bool {
    text.contains(['$', ';', '&', '|', '(', ')', '<', '>', '`', '\'', '"', '\n', '{'])
}

/// Whether the text holds an expansion that the client asks about, outside single quotes.
fn expands(text: &str) -> bool {
    let mut single = false;
    let mut double = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if !single => drop(chars.next()),
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            '$' if !single => {
                let rest = &text[at + 1..];
                let length = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                let special = rest.starts_with(['?', '@', '*', '#', '{', '!']);
                if special || (length > 0 && !KNOWN_VALUES.contains(&&rest[..length])) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// A rule that names the variable in front, as only one for this very text does.
fn named_by_assignment(allow: &[Rule<'_>], part: &Part) -> bool {
    allow.iter().any(|rule| match rule {
        Rule::Bash(pattern) => {
            let first = pattern.text().split(['=', ' ']).next().unwrap_or_default();
            part.assignments.iter().any(|a| a.name == first)
        }
        _ => false,
    })
}

/// Whether a rule may speak of this command: the first word of it is the program as typed, or a wrapper or variable before it.
fn may_be_allowed(allow: &[Rule<'_>], part: &Part, text: &str) -> bool {
    let program = part.argv.first().and_then(Word::text);
    let written = text.get(part.span.clone()).unwrap_or_default();
    let starts: Vec<&str> = written
        .split_ascii_whitespace()
        .next()
        .into_iter()
        .chain(program)
        .chain(part.wrappers.iter().map(String::as_str))
        .collect();
    // `env` is not looked through.
    let hidden = part.wrappers.iter().any(|w| w == "env");
    allow.iter().any(|rule| match rule {
        Rule::AnyBash | Rule::Unclear => true,
        Rule::OtherTool => false,
        Rule::Bash(pattern) => {
            let first = pattern.text().split(' ').next().unwrap_or_default();
            let fits = |word: &&str| match first.split_once('*') {
                Some((front, _)) => word.starts_with(front),
                None => *word == first,
            };
            let more_than_a_name = |words: &str| {
                let mut literal = words.split(' ').skip(1).take_while(|w| !w.contains('*'));
                literal.all(|w| part.argv.iter().any(|a| a.text().is_none_or(|a| a == w)))
            };
            if hidden {
                return first == "env";
            }
            starts.iter().any(fits) && (program != Some(first) || more_than_a_name(pattern.text()))
        }
    })
}

fn may_need_no_rule(part: &Part) -> bool {
    let Some(first) = part.argv.first() else {
        return true;
    };
    let word = |at: usize| part.argv.get(at).and_then(|w| w.text());
    match first.text() {
        Some("git") => word(1).is_none_or(|sub| match sub {
            "stash" => matches!(word(2), Some("list" | "show")),
            _ => !matches!(
                sub,
                "add"
                    | "apply"
                    | "checkout"
                    | "cherry-pick"
                    | "clean"
                    | "clone"
                    | "commit"
                    | "fetch"
                    | "merge"
                    | "mv"
                    | "pull"
                    | "push"
                    | "rebase"
                    | "reset"
                    | "restore"
                    | "revert"
                    | "rm"
                    | "switch"
            ),
        }),
        // What stays where it is, and tells of itself.
        Some("docker") => matches!(word(1), Some("ps" | "images" | "logs" | "inspect")),
        Some("node" | "python" | "python3") => matches!(word(1), Some("--version" | "-v" | "-V")),
        Some(name) => MAY_NEED_NO_RULE.contains(&name),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shell::{Dialect, parse};

    fn may(rule: &str, text: &str, edits: bool) -> bool {
        let rules = Rules {
            allow: vec!["Edit".into(), rule.into()],
            ..Rules::default()
        };
        let script = parse(text, Dialect::Bash).unwrap();
        let heavy = |p: &&Part| {
            p.argv
                .first()
                .and_then(Word::text)
                .is_some_and(|w| w.ends_with("pytest"))
        };
        let sites: Vec<usize> = script.parts.iter().filter(heavy).map(|p| p.site).collect();
        may_run_unasked(&rules, text, &script, &sites, edits)
    }

    #[test]
    fn texts_that_may_run_unasked() {
        for text in [
            "pytest -x",
            "'pytest' -x",
            "pytest \"$HOME/x\"",
            "pytest -k 'a $X'",
            "cat a.txt && pytest | sed s/a/b/",
            "rm -f x; pytest",
            "if [ -d $HOME ]; then pytest; fi",
            "TZ=UTC nice pytest",
            "out=$(pytest)",
            "for i in $(seq 3); do pytest; done",
            "git diff | head && pytest",
            "git stash list; pytest",
            "history | tail; pytest",
            "python3 --version && node -v && pytest",
            "docker ps; pytest",
            "pytest > /dev/null",
        ] {
            assert!(may("Bash(pytest:*)", text, false), "{text}");
        }
        assert!(may("Bash(pytest:*)", "pytest > out.txt", true));
        assert!(may("Bash(FOO=1 pytest:*)", "FOO=1 pytest", true));
        for rule in [
            "Bash(pytest $X)",
            "Bash(* -x)",
            "Bash(:*)",
            "Bash(py*)",
            "Bash(timeout 5 *)",
        ] {
            assert!(
                may(rule, "timeout 5 pytest $X", false) || may(rule, "timeout 5 pytest", false),
                "{rule}"
            );
        }
    }

    #[test]
    fn texts_that_are_asked_about_in_any_case() {
        for text in [
            "./pytest",
            "(pytest)",
            "pytest &",
            "pytest; echo $?",
            "for i in 1; do pytest -n $i; done",
            "pytest \"${X}\"",
            "pytest > out.txt",
            "PYTHONPATH=. pytest",
            "env pytest",
            "git add -A && pytest",
            "git stash && pytest",
            "python3 x.py; pytest",
            "docker compose up -d; pytest",
            "pip install x && pytest",
            "make && pytest",
            "f() { pytest; }; f",
        ] {
            assert!(!may("Bash(pytest:*)", text, false), "{text}");
        }
        assert!(!may("Bash(cargo:*)", "pytest", true));
        assert!(!may("Bash(pytest --version)", "pytest -x", true));
        assert!(!may("Bash(cx pytest:*)", "pytest", true));
        assert!(!may("Bash(FOO=1 cx pytest)", "FOO=1 pytest", true));
        assert!(may("Bash(FOO=1 cx pytest)", "cat cx; FOO=1 pytest", true));
    }
}
