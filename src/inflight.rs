//! Own runs that are on their way or running, by node, across all cx processes of this user: locked files, which the kernel
//! unlocks when a process dies.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use crate::paths::{self, Paths};

/// One run under way; it counts until this is dropped.
pub struct Inflight(Option<(File, PathBuf)>);

fn dir(paths: &Paths, node: &str) -> PathBuf {
    // A node's name may hold what a file's may not.
    paths
        .cache
        .join("inflight")
        .join(&blake3::hash(node.as_bytes()).to_hex()[..16])
}

impl Inflight {
    /// Counts a run on `node` from now on. Where the file can't be made, the run simply does not count.
    pub fn enter(paths: &Paths, node: &str) -> Inflight {
        let path = dir(paths, node).join(format!("{}-{:x}", std::process::id(), paths::nonce()));
        let made = paths::lock_file(&path).ok().and_then(|f| {
            rustix::fs::flock(&f, FlockOperation::NonBlockingLockExclusive).ok()?;
            Some((f, path))
        });
        Inflight(made)
    }

    /// How many runs are under way on each of `nodes`. Files that dead processes left are removed.
    pub fn count(paths: &Paths, nodes: &[&str]) -> HashMap<String, u32> {
        nodes
            .iter()
            .map(|n| ((*n).to_owned(), living(paths, n)))
            .collect()
    }
}

fn living(paths: &Paths, node: &str) -> u32 {
    let Ok(entries) = std::fs::read_dir(dir(paths, node)) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|e| {
            let Ok(f) = File::open(e.path()) else { return false };
            let held = rustix::fs::flock(&f, FlockOperation::NonBlockingLockExclusive).is_err();
            if !held {
                let _ = std::fs::remove_file(e.path());
            }
            held
        })
        .count() as u32
}

impl Drop for Inflight {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_count_while_they_live() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let count = |n: &str| Inflight::count(&paths, &[n])[n];
        assert_eq!(count("a"), 0);
        let one = Inflight::enter(&paths, "a");
        let two = Inflight::enter(&paths, "a");
        assert_eq!((count("a"), count("b")), (2, 0));
        drop(one);
        assert_eq!(count("a"), 1);
        // What a killed process leaves is not locked.
        let left = super::dir(&paths, "a").join("99-x");
        std::fs::write(&left, "").unwrap();
        assert_eq!(count("a"), 1);
        assert!(!left.exists());
        drop(two);
        assert_eq!(count("a"), 0);
    }
}
