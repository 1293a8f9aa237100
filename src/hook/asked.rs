//! What tells the MCP server that the client asked a person about one of its calls: the hook, which has the client ask, leaves a
//! note by the call's id, and the server takes it when the call arrives. A call that was refused never does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::paths;

/// Notes older than this are of calls that were refused or forgotten.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Leaves the note that the client will ask about the call `id`, which runs `commands`.
///
/// # Errors
/// If the id is no file name, or those of the file system.
pub fn leave(state: &Path, id: &str, commands: &[String]) -> std::io::Result<()> {
    let file = place_of(state, id).ok_or(std::io::ErrorKind::InvalidInput)?;
    paths::private_dir(&state.join("asked"))?;
    paths::write_atomic(&file, digest(commands).as_bytes(), 0o600)
}

/// Takes the note away; whether the client asked about just these commands.
pub fn take(state: &Path, id: &str, commands: &[String]) -> bool {
    let Some(file) = place_of(state, id) else {
        return false;
    };
    let own = fs::symlink_metadata(&file).is_ok_and(|m| m.is_file());
    let said = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(&file);
    own && said == digest(commands)
}

/// Clears away notes of calls that never came.
pub fn clear_old(state: &Path) {
    for entry in fs::read_dir(state.join("asked")).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|m| m.modified()).ok();
        let age = modified.and_then(|m| SystemTime::now().duration_since(m).ok());
        if age.is_some_and(|a| a > MAX_AGE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn place_of(state: &Path, id: &str) -> Option<PathBuf> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let good = !id.is_empty() && id.len() <= 128 && id.bytes().all(plain);
    good.then(|| state.join("asked").join(id))
}

fn digest(commands: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for command in commands {
        hasher.update(&(command.len() as u64).to_le_bytes());
        hasher.update(command.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_holds_once_and_for_these_commands_only() {
        let dir = tempfile::tempdir().unwrap();
        let commands = ["pytest".to_owned(), "ls".to_owned()];
        assert!(!take(dir.path(), "toolu_1", &commands));
        leave(dir.path(), "toolu_1", &commands).unwrap();
        assert!(take(dir.path(), "toolu_1", &commands));
        assert!(!take(dir.path(), "toolu_1", &commands));
        leave(dir.path(), "toolu_1", &commands).unwrap();
        assert!(!take(dir.path(), "toolu_1", &commands[..1]));
        for id in ["", "../x", "a/b"] {
            assert!(leave(dir.path(), id, &commands).is_err());
            assert!(!take(dir.path(), id, &commands));
        }
    }
}
