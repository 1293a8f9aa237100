//! The hook's part in the MCP server: its calls are judged as the same commands in the shell tool would be, and its texts are
//! rewritten as theirs would be.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::decide::{self, World};
use super::permissions::Judgement;
use super::wire::{self, Event};
use super::{asked, through};

/// Permission modes in which the client asks about a command of its shell tool that no rule allows.
const ASKING: [&str; 3] = ["default", "acceptEdits", "dontAsk"];

/// Whether a tool is one of the server's that run commands, under whatever name the client has the server.
pub(super) fn is_ours(tool: &str) -> bool {
    matches!(
        own_name(tool),
        Some("cluster_bash" | "offload_to" | "parallel_execute")
    )
}

/// A tool's name as its server has it.
fn own_name(tool: &str) -> Option<&str> {
    let (_, name) = tool.strip_prefix("mcp__")?.rsplit_once("__")?;
    Some(name)
}

/// The answer to a call of such a tool: what the rules deny or ask about, the client denies or asks about. That it asks is noted for
/// the server, which cannot see it.
pub(super) fn before(bytes: &[u8], event: &Event<'_>, world: &World<'_>) -> Option<String> {
    if event.name != "PreToolUse" {
        return None;
    }
    let input: Value = serde_json::from_slice::<Value>(bytes)
        .ok()?
        .get_mut("tool_input")?
        .take();
    let commands: Vec<String> = match (&input["command"], &input["commands"]) {
        (Value::String(one), _) => vec![one.clone()],
        (_, Value::Array(list)) => list
            .iter()
            .filter_map(|c| c.as_str().map(str::to_owned))
            .collect(),
        _ => return None,
    };
    let cwd = Path::new(&event.cwd);
    let cwd = input["cwd"]
        .as_str()
        .map_or_else(|| cwd.to_owned(), |below| cwd.join(below));
    // The session's own project restricts also what runs elsewhere, and the one there does: the server goes by both.
    let also = [PathBuf::from(&event.cwd), cwd.clone()];
    let mut question = None;
    for command in &commands {
        match world.judge(command, &cwd, &also) {
            Judgement::Deny(why) => return Some(wire::deny(&why)),
            Judgement::Ask(why) => question = question.or(Some(why)),
            Judgement::NoRule if ASKING.contains(&event.mode.as_str()) => {
                question = question.or_else(|| Some("no rule of yours allows it".to_owned()));
            }
            Judgement::NoRule | Judgement::Allow => {}
        }
    }
    let why = question?;
    // There nobody is asked about the same in the shell tool, and nobody could approve it.
    if event.mode == through::NO_QUESTIONS {
        return Some(wire::deny(&why));
    }
    let call = asked::Call::of(&event.tool_use, own_name(&event.tool)?, input.as_object()?);
    // Without the note the server refuses the call.
    let _ = asked::leave(&world.paths.as_ref()?.state, &call);
    Some(wire::ask(&why))
}

/// The text as the hook would rewrite it for `shell`, if it would; its note for the run is left under `session`. What a rule of a project
/// of `also` may concern stays as it is, too.
pub fn rewritten(text: &str, cwd: &Path, also: &[PathBuf], session: &str, shell: &Path) -> Option<String> {
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
    let world = World {
        also: also.to_vec(),
        ..World::of_process(&var)
    };
    let answer = decide::answer(event.to_string().as_bytes(), &world)?;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    answer["hookSpecificOutput"]["updatedInput"]["command"]
        .as_str()
        .map(str::to_owned)
}
