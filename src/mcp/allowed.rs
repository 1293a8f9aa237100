//! Whether the user's own permission rules let a command run. The client's rules for its shell tool do not see what comes through
//! this door, so the server asks them itself, by the same code as the hook.

use std::path::{Path, PathBuf};

use crate::hook::permissions::Judgement;
use crate::hook::{self, asked};

/// Asks the rules about each command, which would run in `cwd`, for a session whose projects are in `also`: theirs hold wherever
/// it has a command run. `call` is the client's, of which the hook left a note where the client asked a person.
///
/// # Errors
/// Why they must not run, and what to do; for the model.
pub fn permitted(
    commands: &[String],
    cwd: &Path,
    also: &[PathBuf],
    call: Option<&asked::Call>,
    state: &Path,
) -> Result<(), String> {
    let mut question = None;
    for command in commands {
        match hook::judge(command, cwd, also) {
            // What no rule speaks of, the client asks about as it does for any tool.
            Judgement::Allow | Judgement::NoRule => {}
            Judgement::Deny(why) => {
                return Err(format!("Refused: {why}. It was not run, here or anywhere else."));
            }
            Judgement::Ask(why) => question = question.or(Some(why)),
        }
    }
    let Some(why) = question else { return Ok(()) };
    if call.is_some_and(|call| asked::take(state, call)) {
        return Ok(());
    }
    Err(format!(
        "Not run: {why}, and nobody was asked about this call. Options: run it by the Bash tool, which asks; or ask the user to \
         run `cx setup claude`, after which the client asks about such calls."
    ))
}
