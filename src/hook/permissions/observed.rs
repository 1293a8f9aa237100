//! The matchers against what Claude Code 2.1.330 itself did with 71 texts under 80 rules: `observed.json`, a letter for each
//! text: r it ran, a the client asked, d it denied, ? not observed.

use serde::Deserialize;

use super::{Ground, Judgement, Rules, covers, restriction};
use crate::plan::shell::{Dialect, parse};

#[derive(Deserialize)]
struct Observed {
    texts: Vec<String>,
    rows: Vec<(String, String, String)>,
}

/// The directory in which they were observed: it held `sub`.
fn ground() -> Ground<'static> {
    Ground {
        inside: &|path| matches!(path, "." | "sub"),
        free: &|_| true,
        edits: false,
    }
}

#[test]
fn no_matcher_errs_to_the_wide_side_of_the_client() {
    let observed: Observed = serde_json::from_str(include_str!("observed.json")).unwrap();
    let (mut judged, mut allowed, mut denied) = (0, 0, 0);
    let mut wrong = Vec::new();
    for (kind, rule, outcomes) in &observed.rows {
        let list = vec![rule.clone()];
        let rules = match kind.as_str() {
            "allow" => Rules {
                allow: list,
                ..Rules::default()
            },
            "deny" => Rules {
                deny: list,
                ..Rules::default()
            },
            _ => Rules {
                ask: list,
                ..Rules::default()
            },
        };
        for (text, outcome) in observed.texts.iter().zip(outcomes.chars()) {
            // One command would not end; and where all of Bash is denied there is no Bash tool to observe.
            if outcome == '?' || (kind == "deny" && matches!(rule.as_str(), "Bash" | "Bash(*)" | "*")) {
                continue;
            }
            judged += 1;
            let script = parse(text, Dialect::Bash).ok();
            if kind == "allow" {
                let covered = script.is_some_and(|s| covers(&rules, text, &s, ground()));
                allowed += usize::from(covered);
                // What the client asks about is never answered with `allow`.
                if covered && outcome != 'r' {
                    wrong.push(format!("allowed: {rule} / {text}"));
                }
                continue;
            }
            let said = restriction(text, script.as_ref(), &rules);
            let restricted = if kind == "deny" {
                outcome == 'd'
            } else {
                outcome == 'a'
            };
            match said {
                // What the client stops is never passed over.
                Judgement::NoRule | Judgement::Allow if restricted => {
                    wrong.push(format!("missed: {kind} {rule} / {text}"))
                }
                // The client does not look through these two; cx does.
                Judgement::Deny(_) if text.starts_with("stdbuf -o L") || text.starts_with("coproc") => {}
                Judgement::Deny(_) if outcome != 'd' => wrong.push(format!("denied: {rule} / {text}")),
                Judgement::Deny(_) => denied += 1,
                _ => {}
            }
        }
    }
    assert!(
        judged > 5000 && allowed > 100 && denied > 300,
        "{judged} {allowed} {denied}"
    );
    assert!(
        wrong.is_empty(),
        "{} of {judged}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
