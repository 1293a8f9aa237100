//! What becomes of a command in Claude Code by the user's permission rules: told without a call, for `cx explain`. The hook is asked
//! as in a call, so that nothing is judged here.

use std::env;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::decide::{self, World};
use super::permissions::Judgement;

/// What Claude Code does with a command in its default mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It runs, and nobody is asked.
    Runs,
    /// The person is asked.
    Asks,
    /// It is refused.
    Denies,
}

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// What Claude Code does with it.
    pub then: Then,
    /// Whether the hook rewrites it first.
    pub rewritten: bool,
    /// Why.
    pub why: String,
}

/// What becomes of `text` in `cwd`; `None` where this user has no Claude Code.
pub fn of(text: &str, cwd: &Path) -> Option<Fate> {
    let var = |name: &str| env::var_os(name);
    let world = World::of_process(&var);
    world.client_dir().filter(|d| d.is_dir())?;
    Some(in_world(text, cwd, &world))
}

fn in_world(text: &str, cwd: &Path, world: &World<'_>) -> Fate {
    // Without the ids of a session and a call no note is left.
    let event = json!({
        "hook_event_name": "PreToolUse", "tool_name": "Bash", "permission_mode": "default",
        "cwd": cwd.to_string_lossy(), "tool_input": {"command": text},
    });
    let said = decide::answer(event.to_string().as_bytes(), world)
        .and_then(|answer| serde_json::from_str::<Value>(&answer).ok())
        .unwrap_or_default();
    let said = &said["hookSpecificOutput"];
    let rewritten = said["updatedInput"]["command"].is_string();
    let reason = said["permissionDecisionReason"].as_str();
    let told = |then, why: &str| Fate {
        then,
        rewritten,
        why: reason.unwrap_or(why).to_owned(),
    };
    match said["permissionDecision"].as_str() {
        Some("allow") => return told(Then::Runs, ""),
        Some("deny") => return told(Then::Denies, ""),
        Some("ask") => return told(Then::Asks, ""),
        _ => {}
    }
    match world.judge(text, cwd, &[]) {
        Judgement::Deny(why) => told(Then::Denies, &why),
        Judgement::Ask(why) => told(Then::Asks, &why),
        Judgement::Allow => told(Then::Runs, "your rules, or Claude Code's own, allow all of it"),
        Judgement::NoRule => told(Then::Asks, "no rule that cx can read allows all of it"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::paths::{self, Paths};

    #[test]
    fn each_way_a_command_can_go() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_owned();
        let paths = Paths::under(&home);
        paths::write_atomic(&paths.config_file, b"nodes = ['n']\n", 0o600).unwrap();
        fs::create_dir_all(home.join(".claude")).unwrap();
        let rules = r#"{"permissions":{"allow":["Bash(make test:*)"],"ask":["Bash(make lint:*)"],"deny":["Bash(make all:*)"]}}"#;
        fs::write(home.join(".claude/settings.json"), rules).unwrap();
        let var = |name: &str| match name {
            "HOME" => Some(home.clone().into_os_string()),
            "SHELL" => Some("/bin/bash".into()),
            _ => None,
        };
        let world = World {
            managed: PathBuf::from("/nonexistent"),
            ..World::of_process(&var)
        };
        let fate = |text: &str| in_world(text, &home, &world);
        for (text, then, rewritten, why) in [
            ("make test", Then::Runs, true, "your rules allow what cx runs"),
            (
                "make check",
                Then::Asks,
                true,
                "no rule that cx can read allows all of it",
            ),
            (
                "make lint",
                Then::Asks,
                false,
                "your rule Bash(make lint:*) asks about it",
            ),
            (
                "make all",
                Then::Denies,
                false,
                "your rule Bash(make all:*) denies it",
            ),
            (
                "cx make all",
                Then::Denies,
                false,
                "your rule Bash(make all:*) denies it",
            ),
            (
                "ls",
                Then::Runs,
                false,
                "your rules, or Claude Code's own, allow all of it",
            ),
        ] {
            let got = fate(text);
            assert_eq!(
                (got.then, got.rewritten, got.why.as_str()),
                (then, rewritten, why),
                "{text}"
            );
        }
        assert_eq!(
            fs::read_dir(&paths.state).map_or(0, Iterator::count),
            0,
            "a note was left"
        );
    }
}
