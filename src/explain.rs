//! `cx explain 'COMMAND'`: what cx would do with each part of a command, and why, without doing it.
//!
//! It prints the very values that the hook and the run decide by: nothing is judged here.

use std::io::{self, Write};

use serde::Serialize;

use crate::hook::fate::{Fate, Then};
use crate::plan::Class;
use crate::plan::classify::Judged;
use crate::plan::shell::{self, Unparsed};

/// One part as `--json` prints it. The keys are stable; new ones may come.
#[derive(Debug, Serialize)]
struct Row<'a> {
    /// The part's text.
    text: &'a str,
    /// Byte offset of the text in the command.
    offset: usize,
    /// `light`, `unknown` or `heavy`.
    class: Class,
    /// The rule that decided; empty where none matched.
    rule: &'a str,
    /// Why it has that class.
    reason: &'a str,
    /// Whether the hook may put `cx` in front of it.
    rewritable: bool,
    /// Why not, if not; else null.
    left_alone: Option<&'a str>,
    /// Where it would run: a node's name or `local`.
    node: String,
    /// Why there.
    why: String,
}

/// The whole answer of `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    command: &'a str,
    /// Why the text is left alone as a whole, if so; else null.
    unparsed: Option<&'a str>,
    /// The class of the whole: the heaviest part's.
    class: Class,
    parts: Vec<Row<'a>>,
    /// The text with `cx` in front of each heavy part that may have it.
    rewritten: String,
    /// What Claude Code makes of the command by the user's permission rules; null for who has no Claude Code.
    permissions: Option<Fate>,
}

/// Prints how `text` was judged: as a list for people, or as one JSON object. `decide` says for a part where such a
/// command would run and why; it is asked only about parts that may leave this machine. `fate` is what the user's permission rules
/// make of the whole.
///
/// # Errors
/// Those of `out`.
pub fn render(
    text: &str,
    judged: Result<&[Judged], &Unparsed>,
    mut decide: impl FnMut(&Judged) -> (String, String),
    fate: Option<Fate>,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (parts, unparsed) = match judged {
        Ok(parts) => (parts, None),
        Err(e) => (&[][..], Some(e.reason.as_str())),
    };
    let rows: Vec<Row<'_>> = parts
        .iter()
        .filter(|j| !j.part.argv.is_empty())
        .map(|j| row(text, j, &mut decide))
        .collect();
    let heavy = |j: &&Judged| j.verdict.class == Class::Heavy && j.part.left_alone.is_none();
    let sites: Vec<usize> = parts.iter().filter(heavy).map(|j| j.part.site).collect();
    let class = rows.iter().map(|r| r.class).max().unwrap_or(Class::Light);
    let report = Report {
        command: text,
        unparsed,
        class,
        parts: rows,
        rewritten: shell::insert(text, &sites, "cx "),
        permissions: fate,
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        return writeln!(out);
    }
    for_people(&report, out)
}

fn row<'a>(
    text: &'a str,
    judged: &'a Judged,
    decide: &mut impl FnMut(&Judged) -> (String, String),
) -> Row<'a> {
    let Judged { part, verdict } = judged;
    let left_alone = part.left_alone.as_deref();
    let (node, why) = match (left_alone, verdict.class) {
        (Some(why), _) => ("local".to_owned(), why.to_owned()),
        (None, Class::Light) => ("local".to_owned(), verdict.reason.clone()),
        (None, _) => decide(judged),
    };
    Row {
        text: text.get(part.span.clone()).unwrap_or_default(),
        offset: part.span.start,
        class: verdict.class,
        rule: &verdict.rule,
        reason: &verdict.reason,
        rewritable: left_alone.is_none() && verdict.class != Class::Light,
        left_alone,
        node,
        why,
    }
}

fn for_people(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    if let Some(why) = report.unparsed {
        writeln!(out, "left alone, runs as it is: {}", printable(why))?;
        return permissions(report, out);
    }
    if report.parts.is_empty() {
        return writeln!(out, "nothing to run");
    }
    for (i, row) in report.parts.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        let class = match row.class {
            Class::Light => "light",
            Class::Unknown => "unknown",
            Class::Heavy => "heavy",
        };
        let rule = if row.rule.is_empty() {
            String::new()
        } else {
            format!(" (rule {})", printable(row.rule))
        };
        writeln!(out, "{}", printable(row.text))?;
        writeln!(out, "  class  {class}{rule}: {}", printable(row.reason))?;
        writeln!(out, "  runs   {}: {}", printable(&row.node), printable(&row.why))?;
    }
    if report.rewritten != report.command {
        let left = report.permissions.as_ref().is_some_and(|f| !f.rewritten);
        let says = match left {
            true => "the hook leaves it as it is now; else it would make of it",
            false => "the hook makes of it",
        };
        writeln!(out, "\n{says}: {}", printable(&report.rewritten))?;
    }
    permissions(report, out)
}

/// What Claude Code does with it in its default mode.
fn permissions(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Some(fate) = &report.permissions else {
        return Ok(());
    };
    let then = match fate.then {
        Then::Runs => "runs it unasked",
        Then::Asks => "asks",
        Then::Denies => "refuses it",
    };
    writeln!(out, "\nClaude Code {then}: {}", printable(&fate.why))
}

/// On one line, without control characters, which a command from elsewhere may hold.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Verdict;
    use crate::plan::Workload;
    use crate::plan::shell::{Dialect, parse};

    /// Real parts with verdicts of this test's own, so that the rules may change.
    fn judged(text: &str) -> Vec<Judged> {
        let verdict = |program: &str| {
            let (class, rule, reason) = match program {
                "cargo" => (Class::Heavy, "cargo", "cargo test compiles and runs tests"),
                "tail" => (Class::Light, "light", "tail only reads"),
                _ => (Class::Unknown, "", "no rule knows it"),
            };
            Verdict {
                class,
                rule: rule.into(),
                reason: reason.into(),
                workload: Workload::default(),
            }
        };
        let parts = parse(text, Dialect::Bash).unwrap().parts;
        parts
            .into_iter()
            .map(|part| {
                let program = part
                    .argv
                    .first()
                    .and_then(|w| w.text())
                    .unwrap_or_default()
                    .to_owned();
                Judged {
                    part,
                    verdict: verdict(&program),
                }
            })
            .collect()
    }

    fn shown(text: &str, json: bool) -> String {
        let mut out = Vec::new();
        let decide = |j: &Judged| match j.verdict.class {
            Class::Heavy => ("tower".to_owned(), "free, 8 cores".to_owned()),
            _ => ("local".to_owned(), "this machine is not busy".to_owned()),
        };
        render(text, Ok(&judged(text)), decide, None, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn for_people_to_read() {
        insta::assert_snapshot!(shown("FOO=1 cargo test 2>&1 | tail -3; frob '\u{1}'".replace('\u{1}', "x").as_str(), false), @r"
        FOO=1 cargo test 2>&1
          class  heavy (rule cargo): cargo test compiles and runs tests
          runs   tower: free, 8 cores

        tail -3
          class  light (rule light): tail only reads
          runs   local: tail only reads

        frob 'x'
          class  unknown: no rule knows it
          runs   local: this machine is not busy

        the hook makes of it: FOO=1 cx cargo test 2>&1 | tail -3; frob 'x'
        ");
        assert_eq!(shown("", false), "nothing to run\n");
    }

    #[test]
    fn for_programs() {
        insta::assert_snapshot!(shown("cargo test", true), @r#"
        {
          "command": "cargo test",
          "unparsed": null,
          "class": "heavy",
          "parts": [
            {
              "text": "cargo test",
              "offset": 0,
              "class": "heavy",
              "rule": "cargo",
              "reason": "cargo test compiles and runs tests",
              "rewritable": true,
              "left_alone": null,
              "node": "tower",
              "why": "free, 8 cores"
            }
          ],
          "rewritten": "cx cargo test",
          "permissions": null
        }
        "#);
    }

    #[test]
    fn what_does_not_parse_says_why() {
        let text = "cargo test &&";
        let error = parse(text, Dialect::Bash).unwrap_err();
        let mut out = Vec::new();
        render(text, Err(&error), |_| unreachable!(), None, false, &mut out).unwrap();
        assert!(
            String::from_utf8(out)
                .unwrap()
                .starts_with("left alone, runs as it is: the text does not parse")
        );
    }
}
