//! What tells the MCP server that the client asked a person about one of its calls: the hook, which has the client ask, leaves a
//! note by the call's id, and the server takes it when the call arrives. A call that was refused never does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::paths;

/// Notes older than this are of calls that were refused or forgotten.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// A call of one of the server's tools. A person is asked about all that it says: with another tool, machine or directory it is another.
#[derive(Clone, Debug)]
pub struct Call {
    id: String,
    digest: String,
}

impl Call {
    /// Of the client's id of it, the tool as the server names it, and what that is given.
    pub fn of(id: &str, tool: &str, arguments: &Map<String, Value>) -> Call {
        // Whoever passes it on may have put the arguments in another order.
        let arguments: BTreeMap<_, _> = arguments.iter().collect();
        let all = serde_json::to_vec(&(tool, arguments)).unwrap_or_default();
        Call {
            id: id.to_owned(),
            digest: blake3::hash(&all).to_hex().to_string(),
        }
    }
}

/// Leaves the note that the client will ask about a call.
///
/// # Errors
/// If the id is no file name, or those of the file system.
pub fn leave(state: &Path, call: &Call) -> std::io::Result<()> {
    let file = place_of(state, &call.id).ok_or(std::io::ErrorKind::InvalidInput)?;
    paths::private_dir(&state.join("asked"))?;
    paths::write_atomic(&file, call.digest.as_bytes(), 0o600)
}

/// Takes the note away; whether the client asked about just this call.
pub fn take(state: &Path, call: &Call) -> bool {
    let Some(file) = place_of(state, &call.id) else {
        return false;
    };
    let own = fs::symlink_metadata(&file).is_ok_and(|m| m.is_file());
    let said = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(&file);
    own && said == call.digest
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_note_holds_once_and_for_this_call_only() {
        let dir = tempfile::tempdir().unwrap();
        let call_of =
            |id: &str, tool: &str, arguments: Value| Call::of(id, tool, arguments.as_object().unwrap());
        let of = |tool: &str, arguments: Value| call_of("toolu_1", tool, arguments);
        let call = of("offload_to", json!({"node_id": "a", "command": "pytest"}));
        assert!(!take(dir.path(), &call));
        leave(dir.path(), &call).unwrap();
        let same = of("offload_to", json!({"command": "pytest", "node_id": "a"}));
        assert!(take(dir.path(), &same));
        assert!(!take(dir.path(), &call));
        for changed in [
            of("offload_to", json!({"node_id": "b", "command": "pytest"})),
            of("offload_to", json!({"command": "pytest"})),
            of("cluster_bash", json!({"node_id": "a", "command": "pytest"})),
        ] {
            leave(dir.path(), &call).unwrap();
            assert!(!take(dir.path(), &changed));
            assert!(!take(dir.path(), &call), "it holds for one try");
        }
        for id in ["", "../x", "a/b"] {
            let call = call_of(id, "offload_to", json!({}));
            assert!(leave(dir.path(), &call).is_err());
            assert!(!take(dir.path(), &call));
        }
    }
}
