//! Commands that failed on a node and passed here on the very same tree: something about the node does not fit them, and nobody is to
//! mend good code for that. They stay here for a while, and are then tried again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::paths::{self, Paths, now_ms};
use crate::plan::manifest::Generation;

/// A failure is compared with what happens here for so long, and what passed here stays for so long, milliseconds.
const LONG_MS: u64 = 24 * 3600 * 1000;

/// More commands of a workspace are not remembered.
const MOST: usize = 200;

/// A command that failed on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Failure {
    node: String,
    /// The tree on which it did, in hex.
    tree: String,
    /// When it failed there, or passed here, milliseconds since the epoch.
    at_ms: u64,
    passed_here: bool,
}

/// By their keys, see [`crate::plan::learned::key`].
type Failures = BTreeMap<String, Failure>;

fn file(paths: &Paths, workspace: &str) -> PathBuf {
    paths
        .state
        .join("failures")
        .join(format!("{workspace}.there.json"))
}

fn load(paths: &Paths, workspace: &str) -> Failures {
    std::fs::read(file(paths, workspace))
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or_default()
}

fn change(paths: &Paths, workspace: &str, change: impl FnOnce(&mut Failures)) {
    let before = load(paths, workspace);
    let mut all = before.clone();
    change(&mut all);
    let now = now_ms();
    all.retain(|_, f| now.saturating_sub(f.at_ms) < LONG_MS);
    while all.len() > MOST {
        let oldest = all.iter().min_by_key(|(_, f)| f.at_ms).map(|(k, _)| k.clone());
        all.remove(&oldest.unwrap_or_default());
    }
    if all != before
        && let Ok(bytes) = serde_json::to_vec(&all)
        && paths::private_dir(&paths.state.join("failures")).is_ok()
    {
        // Without the note it is tried on a node again.
        let _ = paths::write_atomic(&file(paths, workspace), &bytes, 0o600);
    }
}

fn name(key: u64) -> String {
    format!("{key:016x}")
}

fn hex(tree: &Generation) -> String {
    tree.0.iter().map(|b| format!("{b:02x}")).collect()
}

/// Notes that a command failed on `node`, or passed there.
pub fn ran_there(paths: &Paths, workspace: &str, key: u64, node: &str, tree: &Generation, passed: bool) {
    if passed && load(paths, workspace).is_empty() {
        return;
    }
    change(paths, workspace, |all| {
        if passed {
            all.remove(&name(key));
        } else {
            let failure = Failure {
                node: node.to_owned(),
                tree: hex(tree),
                at_ms: now_ms(),
                passed_here: false,
            };
            all.insert(name(key), failure);
        }
    });
}

/// Whether a command failed on a node a while ago, and it is not known how it does here.
pub fn is_suspect(paths: &Paths, workspace: &str, key: u64) -> bool {
    let all = load(paths, workspace);
    let fresh = |f: &&Failure| !f.passed_here && now_ms().saturating_sub(f.at_ms) < LONG_MS;
    all.get(&name(key)).filter(fresh).is_some()
}

/// Notes that a suspect passed here on `tree`. Counts if that is the one on which it failed there.
pub fn passed_here(paths: &Paths, workspace: &str, key: u64, tree: &Generation) {
    change(paths, workspace, |all| {
        if let Some(f) = all.get_mut(&name(key)).filter(|f| f.tree == hex(tree)) {
            (f.passed_here, f.at_ms) = (true, now_ms());
        }
    });
}

/// Why a command stays here for now, if it does.
pub fn stays(paths: &Paths, workspace: &str, key: u64) -> Option<String> {
    let f = load(paths, workspace).remove(&name(key))?;
    let age = now_ms().saturating_sub(f.at_ms);
    (f.passed_here && age < LONG_MS).then(|| {
        format!(
            "it failed on {} and passed here on the same tree; tried there again in {} h (or with --on {})",
            f.node,
            (LONG_MS - age).div_ceil(3_600_000),
            f.node
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_here_where_it_failed_there_stays_until_it_passes_there() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let (one, two) = (Generation([1; 32]), Generation([2; 32]));
        let stays = || stays(&paths, "w", 7);
        passed_here(&paths, "w", 7, &one);
        assert!(!is_suspect(&paths, "w", 7) && stays().is_none());
        ran_there(&paths, "w", 7, "n1", &one, false);
        assert!(is_suspect(&paths, "w", 7) && !is_suspect(&paths, "w", 8) && stays().is_none());
        passed_here(&paths, "w", 7, &two);
        assert_eq!(stays(), None, "another tree");
        passed_here(&paths, "w", 7, &one);
        assert!(stays().unwrap().contains("failed on n1") && !is_suspect(&paths, "w", 7));
        change(&paths, "w", |all| {
            all.values_mut().for_each(|f| f.at_ms -= LONG_MS)
        });
        assert_eq!(stays(), None, "tried again");
        ran_there(&paths, "w", 7, "n1", &one, false);
        passed_here(&paths, "w", 7, &one);
        ran_there(&paths, "w", 7, "n1", &two, true);
        assert_eq!(stays(), None);
    }
}
