//! Whether the user's allow rules cover a whole text, by a matcher that is stricter than the client's.
//!
//! The client, asked about `cx pytest -x`, does not see that `Bash(pytest:*)` was meant. So the hook answers `allow` in
//! its place, and must never do so where the client would have asked. Everything that is not plainly understood
//! counts as not covered; then the client asks, as it would for any command that it does not know.

use super::Rules;
use super::pieces::{Piece, is_plain, pieces};
use super::rule::{self, Pattern, Rule};
use crate::plan::shell::{Part, Script};

/// More commands than this in one text are not covered.
const MAX_PARTS: usize = 20;

/// Variables that the client passes over in front of a command.
const HARMLESS: [&str; 10] = [
    "NODE_ENV",
    "CI",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "PYTHONUNBUFFERED",
    "LC_ALL",
    "LANG",
    "TZ",
    "NO_COLOR",
    "FORCE_COLOR",
];

/// Whether every command of `script`, which is `text` parsed, is allowed by a rule of the user, or by the client without
/// one. `inside` says whether a relative path, seen from the command's directory, leads to a directory that the client
/// works in.
pub fn covers(rules: &Rules, text: &str, script: &Script, inside: &dyn Fn(&str) -> bool) -> bool {
    if !script.plain
        || script.parts.is_empty()
        || script.parts.len() > MAX_PARTS
        || !joins_are_plain(text, script)
    {
        return false;
    }
    if rules.unreadable.is_some() {
        return false;
    }
    let allow: Vec<Rule<'_>> = rules.allow.iter().map(|r| rule::parse(r)).collect();
    let mut moved = false;
    for (number, part) in script.parts.iter().enumerate() {
        let Some(words) = command(text, part) else {
            return false;
        };
        if words.first().is_some_and(|w| w.plain() == Some("cd")) {
            // The client asks about the second one, and relative paths would mean something else after it.
            if number > 0 || !changes_inside(&words, part, inside) {
                return false;
            }
            moved = true;
        } else if !allowed_by_rule(&allow, &words) && !needs_no_rule(&words, moved) {
            return false;
        }
    }
    true
}

/// What stands between the commands: only blanks, and the operators that the client takes apart itself.
fn joins_are_plain(text: &str, script: &Script) -> bool {
    let mut at = 0;
    for part in &script.parts {
        let Some(between) = text.get(at..part.span.start) else {
            return false;
        };
        let between = between.trim();
        // The keyword stands before the command's own span.
        let between = between.strip_suffix("time").map_or(between, str::trim_end);
        let known = if at == 0 {
            &[""][..]
        } else {
            &["&&", "||", ";", "|", "|&", ""]
        };
        if !known.contains(&between) {
            return false;
        }
        at = part.span.end;
    }
    matches!(text.get(at..).map(str::trim), Some("" | ";"))
}

/// The words of a part, from its program on: harmless assignments and wrappers are passed over. `None` where anything in
/// it is not plainly understood.
fn command<'a>(text: &'a str, part: &Part) -> Option<Vec<Piece<'a>>> {
    if part.background
        || !part
            .redirects
            .iter()
            .all(|r| harmless_redirection(&text[r.span.clone()]))
    {
        return None;
    }
    let (words, whole) = pieces(text, part, part.span.start);
    if !whole || !words.iter().all(is_simple) {
        return None;
    }
    let mut from = 0;
    while let Some((name, value)) = words.get(from)?.raw.split_once('=')
        && is_name(name)
    {
        let fine = HARMLESS.contains(&name) && !value.is_empty() && value.bytes().all(is_plain);
        fine.then_some(())?;
        from += 1;
    }
    loop {
        let rest = &words[from..];
        match wrapper(rest)? {
            0 => break,
            n => from += n,
        }
    }
    let words = words[from..].to_vec();
    words.first()?.plain().filter(|p| !p.contains('='))?;
    Some(words)
}

/// How many words of a wrapper stand in front; `None` where it is one that is not understood.
fn wrapper(words: &[Piece<'_>]) -> Option<usize> {
    let plain = |i: usize| words.get(i).and_then(Piece::plain);
    let duration = |i: usize| {
        plain(i).is_some_and(|w| {
            let digits = w.strip_suffix(['s', 'm', 'h']).unwrap_or(w);
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let number = |i: usize| plain(i).is_some_and(|w| w.parse::<i8>().is_ok());
    let option = |i: usize| plain(i).is_some_and(|w| w.starts_with('-'));
    let skip = match plain(0)? {
        "timeout" if duration(1) => 2,
        "timeout" if plain(1) == Some("-k") && duration(2) && duration(3) => 4,
        "nice" if plain(1) == Some("-n") && number(2) => 3,
        "nohup" | "time" | "nice" | "command" if !option(1) => 1,
        "stdbuf" if matches!(plain(1), Some("-oL" | "-o0" | "-eL" | "-e0")) => 2,
        "timeout" | "nice" | "nohup" | "time" | "command" | "stdbuf" => return None,
        _ => return Some(0),
    };
    (words.len() > skip).then_some(skip)
}

/// A word without braces, escapes or strange characters.
fn is_simple(piece: &Piece<'_>) -> bool {
    let known = |b: u8| is_plain(b) || b"'\" *?[]~!;|&<>()$#\\".contains(&b) || b >= 0x80;
    let Some(value) = &piece.value else { return false };
    let unquoted_escape = piece.raw.contains('\\') && !piece.raw.starts_with('\'');
    !unquoted_escape && !value.contains(['\n', '\r']) && piece.raw.bytes().all(known)
}

fn is_name(s: &str) -> bool {
    !s.is_empty()
        && !s.as_bytes()[0].is_ascii_digit()
        && s.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

fn harmless_redirection(written: &str) -> bool {
    let tight: String = written.chars().filter(|c| !matches!(c, ' ' | '\t')).collect();
    matches!(
        tight.as_str(),
        "2>&1" | "1>&2" | ">&2" | ">/dev/null" | "1>/dev/null" | "2>/dev/null" | "&>/dev/null" | "</dev/null"
    )
}

fn allowed_by_rule(allow: &[Rule<'_>], words: &[Piece<'_>]) -> bool {
    let raw: Vec<&str> = words.iter().map(|w| w.raw).collect();
    allow.iter().any(|rule| match rule {
        Rule::AnyBash => true,
        Rule::Bash(pattern) => {
            let text = pattern.text();
            // Whoever wrote quotes or blanks into a rule meant something by it.
            let simple = text.bytes().all(|b| is_plain(b) || matches!(b, b' ' | b'*'))
                && !text.starts_with([' ', '*'])
                && !text.ends_with(' ')
                && !text.contains("  ");
            // A pattern that names no program in full would be one about `cx` as well.
            let named = match pattern {
                Pattern::Glob(text) => {
                    text.split(' ').next().is_some_and(|w| !w.contains('*')) && text.contains(' ')
                }
                // The client compares the text, blanks included.
                Pattern::Exact(_) => words.windows(2).all(|w| w[0].span.end + 1 == w[1].span.start),
                Pattern::Prefix(_) => true,
            };
            simple && named && pattern.matches(&raw)
        }
        _ => false,
    })
}

/// `cd DIR` into the working directory or below it.
fn changes_inside(words: &[Piece<'_>], part: &Part, inside: &dyn Fn(&str) -> bool) -> bool {
    let [_, dir] = words else { return false };
    let Some(dir) = dir.plain() else { return false };
    part.redirects.is_empty() && !dir.starts_with('-') && inside(dir)
}

/// Commands that only read what they are given by a pipe, or print; the client runs them without a rule.
fn needs_no_rule(words: &[Piece<'_>], moved: bool) -> bool {
    let Some(program) = words[0].plain() else {
        return false;
    };
    let arguments = &words[1..];
    let is_option = |w: &Piece<'_>| w.raw.starts_with('-');
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let flags = |letters: &str| {
        arguments.iter().all(|w| {
            w.plain()
                .and_then(|w| w.strip_prefix('-'))
                .is_some_and(|f| !f.is_empty() && f.chars().all(|c| letters.contains(c)))
        })
    };
    match program {
        "true" | "pwd" => arguments.is_empty(),
        "echo" => arguments
            .iter()
            .all(|w| !w.raw.contains(['$', '`', '\\', '*', '?', '[', '~', '!'])),
        "head" | "tail" => match arguments {
            [] => true,
            [one] => one
                .plain()
                .and_then(|w| w.strip_prefix('-'))
                .is_some_and(|w| digits(w.strip_prefix('n').unwrap_or(w))),
            [n, count] => n.plain() == Some("-n") && count.plain().is_some_and(digits),
            _ => false,
        },
        "grep" => {
            let (options, rest): (Vec<&Piece<'_>>, Vec<&Piece<'_>>) =
                arguments.iter().partition(|w| is_option(w));
            let known = |w: &Piece<'_>| {
                w.plain()
                    .is_some_and(|w| w[1..].chars().all(|c| "EFivwcnoqx".contains(c)) && w.len() > 1)
            };
            options.iter().all(|w| known(w))
                && rest.len() == 1
                && !rest[0].raw.contains(['$', '`', '\\', '~', '*', '?', '['])
        }
        "wc" => flags("lwcm"),
        "sort" => flags("nrufbh"),
        "uniq" => flags("cdui"),
        "cat" => arguments.is_empty(),
        "ls" => !moved && flags("laAhtrS1"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shell::{Dialect, parse};

    fn covered(allow: &[&str], text: &str) -> bool {
        let rules = Rules {
            allow: allow.iter().map(|r| (*r).to_owned()).collect(),
            ..Rules::default()
        };
        let inside = |dir: &str| dir == "sub";
        parse(text, Dialect::Bash).is_ok_and(|script| covers(&rules, text, &script, &inside))
    }

    #[test]
    fn covered_texts() {
        for text in [
            "pytest",
            "pytest -x 'a b' \"c d\"",
            "pytest tests/*.py ~/x",
            "pytest -k 'a and b'",
            "cd sub && CI=1 timeout 300 pytest -x 2>&1 | tail -20",
            "nice -n 5 timeout 30s pytest > /dev/null 2>&1",
            "pytest; echo done",
            "pytest | grep -E 'FAIL|x' | wc -l",
            "pytest && pytest -x || true",
            "time pytest",
            "pytest;",
            "pytest\npytest -x",
        ] {
            assert!(covered(&["Bash(pytest:*)"], text), "{text}");
            assert!(covered(&["Edit", "Bash(pytest *)"], text), "{text}");
            assert!(!covered(&["Bash(py:*)"], text), "{text}");
            assert!(!covered(&["Bash(cx:*)"], text), "{text}");
        }
        assert!(covered(&["Bash(npm run *)"], "npm run test"));
        assert!(covered(&["Bash(npm run*)"], "npm run test"));
        assert!(covered(&["Bash(npm test)"], "npm test"));
        assert!(!covered(&["Bash(npm test)"], "npm test -- x"));
        assert!(!covered(&["Bash(npm test)"], "npm 'test'"));
        assert!(!covered(&["Bash(npm test)"], "npm  test"));
        assert!(!covered(&["Bash(npm r*:*)"], "npm run a:b"));
    }

    #[test]
    fn what_the_client_would_ask_about() {
        for text in [
            "FOO=1 pytest",
            "CI='a b' pytest",
            "CI=$X pytest",
            "CI= pytest",
            "timeout 5 CI=1 pytest",
            "env pytest",
            "./pytest",
            "/bin/pytest",
            "(pytest)",
            "{ pytest; }",
            "for i in 1; do pytest; done",
            "pytest &",
            "pytest > out",
            "pytest >> /dev/null",
            "pytest $X",
            "pytest \"$X\"",
            "pytest $(x)",
            "pytest `x`",
            "pytest <(x)",
            "pytest {a,b}",
            "pytest a\\ b",
            "export A=1; pytest",
            "cd .. && pytest",
            "cd sub && cd sub && pytest",
            "pytest; echo $?",
            "pytest; cd sub",
            "pytest | tee x",
            "tail -3 x; pytest",
            "grep a b; pytest",
            "echo a | xargs pytest",
            "exec pytest",
            "eval pytest",
            "command -p pytest",
            "time -p pytest",
            "stdbuf -o L pytest",
            "nice -19x pytest",
            "timeout $T pytest",
            "sudo pytest",
            "f() { pytest; }; f",
            "\\pytest",
            "'pytest'",
            "x=1; pytest",
            "",
            "git status && pytest",
            "pytest # x",
        ] {
            assert!(!covered(&["Bash(pytest:*)"], text), "{text}");
        }
        for rule in [
            "Bash( pytest:*)",
            "Bash('pytest':*)",
            "Bash(*test)",
            "Bash(p*)",
            "Bash(pytest",
            "pytest",
            "*",
            "Bash()",
        ] {
            assert!(!covered(&[rule], "pytest"), "{rule}");
        }
    }
}
