//! The hook's part in the MCP server: its calls are judged as the same commands in the shell tool would be, and its texts are
//! rewritten as theirs would be.

use std::ffi::OsString;
use std::path::Path;

use serde_json::{Value, json};

use super::decide::{self, World};

/// What the user's permission rules say of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// No deny or ask rule concerns it.
    Fine,
    /// The client would ask, or might.
    Ask(String),
    /// A rule forbids it.
    Deny(String),
}

/// Judges a text that would run in `cwd`. The rules are read anew each time.
pub fn ruling(text: &str, cwd: &Path) -> Ruling {
    decide::ruling(text, cwd, &World::of_process(&|name| std::env::var_os(name)))
}

/// The text as the hook would rewrite it for `shell`, if it would; its note for the run is left under `session`.
pub fn rewritten(text: &str, cwd: &Path, session: &str, shell: &Path) -> Option<String> {
    let var = |name: &str| match name {
        "CLAUDE_CODE_SHELL" | "SHELL" => Some(OsString::from(shell)),
        _ => std::env::var_os(name),
    };
    // Whether it may run at all is decided: what is asked for is the rewrite alone.
    let event = json!({
        "hook_event_name": "PreToolUse",
        "tool_name": "Bash",
        "session_id": session,
        "permission_mode": "bypassPermissions",
        "cwd": cwd,
        "tool_input": {"command": text},
    });
    let answer = decide::answer(event.to_string().as_bytes(), &World::of_process(&var))?;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    answer["hookSpecificOutput"]["updatedInput"]["command"]
        .as_str()
        .map(str::to_owned)
}
