//! Whether the user's allow rules cover a whole text, by a matcher that is stricter than the client's.
//!
//! The client, asked about `cx pytest -x`, does not see that `Bash(pytest:*)` was meant. So the hook answers `allow` in
//! its place, and must never do so where the client would have asked. Everything that is not plainly understood
//! counts as not covered; then the client asks, as it would for any command that it does not know.

use super::helpers::{self, Ground, Place};
use super::pieces::{Piece, is_plain, pieces};
use super::rule::{self, Pattern, Rule};
use super::{Rules, names};
use crate::plan::shell::{Part, Script};

/// More commands than this in one text are not covered.
const MAX_PARTS: usize = 20;

/// Whether every command of `script`, which is `text` parsed, is allowed by a rule of the user, or by the client without
/// one, in a directory of which `ground` tells.
pub fn covers(rules: &Rules, text: &str, script: &Script, ground: Ground<'_>) -> bool {
    if !script.branching
        || script.parts.is_empty()
        || script.parts.len() > MAX_PARTS
        || rules.unreadable.is_some()
    {
        return false;
    }
    let Some(joins) = joins(text, script) else {
        return false;
    };
    // What the client makes of redirections and wrappers in a loop differs from case to case.
    let bare = |part: &Part| part.redirects.is_empty() && part.wrappers.is_empty();
    if joins.loops && (joins.pipes || !script.parts.iter().all(bare)) {
        return false;
    }
    let allow: Vec<Rule<'_>> = rules.allow.iter().map(|r| rule::parse(r)).collect();
    let mut place = Place {
        ground: Ground {
            // A rule about editing may speak of what is written.
            edits: ground.edits && script.plain && rules.restricting().all(|r| r.starts_with("Bash")),
            ..ground
        },
        moved: false,
        written: false,
    };
    for (number, part) in script.parts.iter().enumerate() {
        let Some(words) = command(text, part, &mut place) else {
            return false;
        };
        if words.first().is_some_and(|w| w.plain() == Some("cd")) {
            // The client asks about the second one, and relative paths would mean something else after it.
            if number > 0 || !changes_inside(&words, part, ground.inside) {
                return false;
            }
            place.moved = true;
        } else if !allowed_by_rule(&allow, text, &words) && !helpers::needs_no_rule(&words, part, &mut place)
        {
            return false;
        }
    }
    true
}

/// What was met between the commands.
#[derive(Default)]
struct Joins {
    loops: bool,
    pipes: bool,
}

/// Looks at what stands between the commands: only blanks, comments, the operators that the client takes apart itself, and the
/// words of `if`, `while` and `until`. A variable that is set (`for`, `x=1`) is asked about. `None` where there is anything else.
fn joins(text: &str, script: &Script) -> Option<Joins> {
    let mut found = Joins::default();
    let mut at = 0;
    for part in &script.parts {
        join(text.get(at..part.span.start)?, &mut found)?;
        at = part.span.end;
    }
    let rest = text.get(at..)?;
    join(rest, &mut found)?;
    Some(found)
}

fn join(between: &str, found: &mut Joins) -> Option<()> {
    for (number, line) in between.split('\n').enumerate() {
        // A comment right behind an operator is one that the client asks about.
        let line = match line.find('#') {
            Some(0) if number > 0 || between.starts_with('#') => "",
            Some(at) if line[..at].trim().is_empty() => "",
            Some(_) => return None,
            None => line,
        };
        let spaced = line
            .replace("&&", " && ")
            .replace("||", " \u{1} ")
            .replace("|&", " | ")
            .replace('|', " | ")
            .replace(';', " ; ");
        for word in spaced.split_ascii_whitespace() {
            match word {
                "&&" | "\u{1}" | ";" | "time" | "!" | "if" | "then" | "elif" | "else" | "fi" | "do"
                | "done" => {}
                "|" => found.pipes = true,
                "while" | "until" => found.loops = true,
                _ => return None,
            }
        }
    }
    Some(())
}

/// The words of a part, from its program on: harmless assignments and wrappers are passed over. `None` where anything in
/// it is not plainly understood.
fn command<'a>(text: &'a str, part: &Part, place: &mut Place<'_>) -> Option<Vec<Piece<'a>>> {
    let mut harmless = |written: &str| {
        harmless_redirection(written) || writes_to(written).is_some_and(|file| place.may_write(file))
    };
    if part.background || !part.redirects.iter().all(|r| harmless(&text[r.span.clone()])) {
        return None;
    }
    let (words, whole) = pieces(text, part, part.span.start);
    if !whole || !words.iter().all(is_simple) {
        return None;
    }
    let plain_value = |b: u8| b.is_ascii_alphanumeric() || b"_-./".contains(&b);
    let mut from = 0;
    while let Some((name, value)) = words.get(from)?.raw.split_once('=')
        && is_name(name)
    {
        let fine = names::HARMLESS.contains(&name) && !value.is_empty() && value.bytes().all(plain_value);
        fine.then_some(())?;
        from += 1;
    }
    loop {
        let rest = &words[from..];
        match if rest.first()?.raw == "[" {
            0
        } else {
            wrapper(rest)?
        } {
            0 => break,
            n => from += n,
        }
    }
    let words = words[from..].to_vec();
    let named = |w: &Piece<'_>| w.raw == "[" || w.plain().is_some_and(|p| !p.contains('='));
    words.first().filter(|w| named(w))?;
    Some(words)
}

/// How many words of a wrapper stand in front; `None` where it is one that is not understood.
fn wrapper(words: &[Piece<'_>]) -> Option<usize> {
    let plain = |i: usize| words.get(i).and_then(Piece::plain);
    let is_duration = |w: &str| {
        let digits = w.strip_suffix(['s', 'm', 'h']).unwrap_or(w);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let number = |i: usize| plain(i).is_some_and(|w| w.parse::<i8>().is_ok());
    let option = |i: usize| plain(i).is_some_and(|w| w.starts_with('-'));
    let skip = match plain(0)? {
        "timeout" => {
            let mut at = 1;
            loop {
                match plain(at)? {
                    "-k" if plain(at + 1).is_some_and(is_duration) => at += 2,
                    "-s" if matches!(plain(at + 1)?, "KILL" | "TERM" | "INT") => at += 2,
                    "--foreground" | "--preserve-status" | "-v" | "--signal=KILL" => at += 1,
                    w if w.strip_prefix("--kill-after=").is_some_and(is_duration) => at += 1,
                    w if is_duration(w) => break at + 1,
                    _ => return None,
                }
            }
        }
        "nice" if plain(1) == Some("-n") && number(2) => 3,
        "nohup" | "time" | "nice" | "command" if !option(1) => 1,
        "stdbuf" if matches!(plain(1), Some("-oL" | "-o0" | "-eL" | "-e0")) => 2,
        "nice" | "nohup" | "time" | "command" | "stdbuf" => return None,
        _ => return Some(0),
    };
    (words.len() > skip).then_some(skip)
}

/// A word without braces, escapes or strange characters.
fn is_simple(piece: &Piece<'_>) -> bool {
    let known = |b: u8| is_plain(b) || b"'\" *?[]~!;|&<>()$#\\".contains(&b) || b >= 0x80;
    let Some(value) = &piece.value else { return false };
    let unquoted_escape = piece.raw.contains('\\') && !piece.raw.starts_with('\'');
    // The client asks about what zsh would make the path of a program, and about other processes' variables.
    let asked_about = piece.raw.starts_with('=')
        || value
            .split_once("/proc/")
            .is_some_and(|(_, below)| below.contains("environ"));
    !asked_about && !unquoted_escape && !value.contains(['\n', '\r']) && piece.raw.bytes().all(known)
}

fn is_name(s: &str) -> bool {
    !s.is_empty()
        && !s.as_bytes()[0].is_ascii_digit()
        && s.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

/// The file to which a redirection writes, where it is written plainly: `> out.txt`, `2>>err.log`.
fn writes_to(written: &str) -> Option<&str> {
    let operator = written.trim_start_matches(['1', '2', '&']);
    let file = operator
        .strip_prefix(">>")
        .or_else(|| operator.strip_prefix('>'))?;
    let file = file.trim_start_matches([' ', '\t']);
    (!file.is_empty() && file.bytes().all(is_plain) && written.len() - operator.len() < 2).then_some(file)
}

fn harmless_redirection(written: &str) -> bool {
    let tight: String = written.chars().filter(|c| !matches!(c, ' ' | '\t')).collect();
    matches!(
        tight.as_str(),
        "2>&1" | "1>&2" | ">&2" | ">/dev/null" | "1>/dev/null" | "2>/dev/null" | "&>/dev/null" | "</dev/null"
    )
}

fn allowed_by_rule(allow: &[Rule<'_>], text: &str, words: &[Piece<'_>]) -> bool {
    let blanks = words
        .windows(2)
        .all(|w| text.get(w[0].span.end..w[1].span.start) == Some(" "));
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
            // Text at the front and anything behind it; or a star elsewhere, but not in the program's name.
            let named = match pattern {
                Pattern::Glob(text) => {
                    let front = text.strip_suffix('*').filter(|front| !front.contains('*'));
                    let program = text.split(' ').next().unwrap_or_default();
                    blanks && (front.is_some() || (!program.contains('*') && text.contains(' ')))
                }
                // The client compares the text, blanks included.
                Pattern::Exact(_) => blanks,
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
    // It asks about a way up, wherever that leads.
    let up = dir.split('/').any(|name| name == "..");
    part.redirects.is_empty() && !dir.starts_with('-') && !up && inside(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shell::{Dialect, parse};

    fn covered(allow: &[&str], text: &str) -> bool {
        covered_in(allow, text, false)
    }

    fn covered_in(allow: &[&str], text: &str, edits: bool) -> bool {
        let rules = Rules {
            allow: allow.iter().map(|r| (*r).to_owned()).collect(),
            ..Rules::default()
        };
        let inside = |path: &str| matches!(path, "sub" | "." | "a.txt" | "sub/a.txt");
        let ground = Ground {
            inside: &inside,
            free: &|path| path != "link",
            edits,
        };
        parse(text, Dialect::Bash).is_ok_and(|script| covers(&rules, text, &script, ground))
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
        assert!(covered(&["Bash(np*)"], "npm run test"));
        assert!(!covered(&["Bash(npm test)"], "npm\ttest"));
        assert!(!covered(&["Bash(npm t*)"], "npm\ttest"));
        assert!(covered(&["Bash(npm test)"], "npm test"));
        assert!(!covered(&["Bash(npm test)"], "npm test -- x"));
        assert!(!covered(&["Bash(npm test)"], "npm 'test'"));
        assert!(!covered(&["Bash(npm test)"], "npm  test"));
        assert!(!covered(&["Bash(npm r*:*)"], "npm run a:b"));
    }

    #[test]
    fn texts_that_branch_and_loop() {
        for text in [
            "if pytest; then echo ok; fi",
            "if ! pytest -x && pytest; then echo a; elif [ -d sub ]; then echo b; else false; fi | tail -3",
            "if pytest > /dev/null 2>&1; then echo ok; fi",
            "while ! pytest; do sleep 1; done && echo ok",
            "until pytest\ndo\n  sleep 1\ndone",
            "cd sub && while pytest; do sleep 1; done",
            "! pytest",
            "# note\npytest # more\n# end",
        ] {
            assert!(covered(&["Bash(pytest:*)"], text), "{text}");
        }
        for text in [
            // Claude Code 2.1.330 asks about a variable that is set in a session's first command, and not in later ones.
            "for i in 1 2 3; do pytest; done",
            "for i in a b; do if CI=1 pytest; then echo ok; fi; done; echo done",
            "cd sub && for i in 1; do pytest; done",
            "pytest; for i in 1; do ls; done",
            "x=1; my_var=a/b && pytest",
            "b=1 && pytest",
            "pytest && b=1",
            "while ! pytest; do pytest 2>&1 | tail -3; done",
            "until timeout 5 pytest; do sleep 1; done",
            "for i in 1 2; do pytest 2>&1 | tail -3; done",
            "for i in 1 2; do timeout 5 pytest; done",
            "for i in a; do pytest; done > /dev/null",
            "for i in $X; do pytest; done",
            "for i in {1..3}; do pytest; done",
            "for i; do pytest; done",
            "for PATH in a; do pytest; done",
            "for path in a; do pytest; done",
            "for i in 1; do pytest || break; done",
            "if pytest; then exit 1; fi",
            "if [ \"$X\" = a ]; then pytest; fi",
            "if (pytest); then echo; fi",
            "pytest && # a\ntrue",
            "PATH=x; pytest",
            "path=x; pytest",
            "x=~/a; pytest",
            "x=1 y=2; pytest",
            "x=(1); pytest",
            "x[0]=1; pytest",
            "x=$(pytest); pytest",
        ] {
            assert!(!covered(&["Bash(pytest:*)"], text), "{text}");
        }
    }

    #[test]
    fn helpers_beside_an_allowed_command() {
        for text in [
            "cat a.txt && pytest",
            "cat a.txt | head -3; pytest",
            "head -n 5 a.txt sub/a.txt; tail -n +3 a.txt; pytest | tail -n 5",
            "grep -n foo a.txt | wc -l && pytest",
            "ls -la sub && wc -l a.txt && diff -u a.txt sub/a.txt; pytest",
            "git status --short && git diff --stat && git log --oneline -5 && pytest",
            "[ -f a.txt ] && test ! -d nosuch && pytest",
            "sleep 0.5; date; date +%s; uname -m; which cargo; nproc; pytest",
            "pytest 2>&1 | sed -n '1,20p'",
            "printf 'a\\n'; pytest",
            "timeout -k 5 -s KILL 60 pytest; timeout --foreground --kill-after=5s 60 pytest",
            "PYTHONDONTWRITEBYTECODE=1 TERM=dumb CGO_ENABLED=0 pytest",
        ] {
            assert!(covered(&["Bash(pytest:*)"], text), "{text}");
        }
        for text in [
            "pytest =ls",
            "pytest -k =",
            "pytest /proc/self/environ",
            "pytest '/proc/1/environ'",
            "cat /etc/passwd; pytest",
            "cat ../x; pytest",
            "cat sub/../a.txt; pytest",
            "cat nosuch; pytest",
            "cat *.txt; pytest",
            "cat $X; pytest",
            "cd sub && cat a.txt && pytest",
            "cd sub && git status && pytest",
            "tail -f a.txt; pytest",
            "grep -f a.txt a.txt; pytest",
            "grep -v '^$' a.txt; pytest",
            "ls / && pytest",
            "ls -la / && pytest",
            "sed -n 1p a.txt; pytest",
            "sed -n '1p;w x' a.txt; pytest",
            "pytest | sed s/a/b/w",
            "sort -o x; pytest",
            "pytest | uniq - a.txt",
            "git stash; pytest",
            "git -C sub status; pytest",
            "git diff --output=x; pytest",
            "git branch x; pytest",
            "find . -delete; pytest",
            "[ -f a.txt -o -f $X ]; pytest",
            "printf -v x y; pytest",
            "printf \"$X\"; pytest",
            "date -s x; pytest",
            "mkdir x && pytest",
            "touch x && pytest",
        ] {
            assert!(!covered(&["Bash(pytest:*)"], text), "{text}");
        }
    }

    #[test]
    fn files_are_made_unasked_where_edits_are_accepted() {
        for text in [
            "mkdir -p build/x && touch build/a.py && pytest",
            "pytest > out.txt 2>&1 && echo ok",
            "pytest 2>>sub/err.log | tail",
            "mkdir -p sub/b; pytest",
        ] {
            assert!(covered_in(&["Bash(pytest:*)"], text, true), "{text}");
            assert!(!covered(&["Bash(pytest:*)"], text), "{text}");
        }
        for text in [
            "mkdir -p .git/x && pytest",
            "touch .bashrc && pytest",
            "mkdir ../x && pytest",
            "mkdir /tmp/x && pytest",
            "mkdir $X && pytest",
            "mkdir link/x && pytest",
            "pytest > link",
            "mkdir -m 777 x && pytest",
            "cd sub && mkdir x && pytest",
            "cd sub && pytest > o.txt",
            "pytest > .git/o",
            "pytest > ../o",
            "pytest > $X",
            "pytest 3> o",
            "for i in a; do pytest; done > o",
            "pytest > o; git status",
            "pytest | tee o",
        ] {
            assert!(!covered_in(&["Bash(pytest:*)"], text, true), "{text}");
        }
        let rules = Rules {
            allow: vec!["Bash(pytest:*)".into()],
            ask: vec!["Edit(*.txt)".into()],
            ..Rules::default()
        };
        let ground = Ground {
            inside: &|path| path == ".",
            free: &|_| true,
            edits: true,
        };
        let text = "pytest > out.txt";
        assert!(!covers(
            &rules,
            text,
            &parse(text, Dialect::Bash).unwrap(),
            ground
        ));
    }

    #[test]
    fn what_the_client_would_ask_about() {
        for text in [
            "FOO=1 pytest",
            "CI='a b' pytest",
            "CI=$X pytest",
            "RUST_LOG=a,b=c pytest",
            "RUST_LOG=a::b pytest",
            "cd sub/.. && pytest",
            "CI= pytest",
            "timeout 5 CI=1 pytest",
            "env pytest",
            "./pytest",
            "/bin/pytest",
            "(pytest)",
            "{ pytest; }",
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
            "",
        ] {
            assert!(!covered(&["Bash(pytest:*)"], text), "{text}");
        }
        for rule in [
            "Bash( pytest:*)",
            "Bash('pytest':*)",
            "Bash(*test)",
            "Bash(pytest",
            "pytest",
            "*",
            "Bash()",
        ] {
            assert!(!covered(&[rule], "pytest"), "{rule}");
        }
    }
}
