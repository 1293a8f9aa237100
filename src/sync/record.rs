//! What this machine believes each mirror holds, one file per workspace and node.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::index;
use crate::plan::manifest::{Generation, Manifest, generation, with_generation};

/// Version of the files; one of another version counts as missing.
const VERSION: u32 = 2;

/// What a mirror holds, as far as known here. A wrong belief costs one more exchange: the node compares generations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorRecord {
    /// What the mirror holds; empty where nothing is known.
    #[serde(with = "with_generation")]
    pub manifest: Manifest,
    /// Id of the repository that was last installed there, if any.
    pub repository: Option<[u8; 32]>,
}

impl MirrorRecord {
    /// The generation of what it holds.
    pub fn generation(&self) -> Generation {
        generation(&self.manifest)
    }
}

/// The directory of these records.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// The records in `dir`, which is made when the first one is written.
    pub fn new(dir: impl Into<PathBuf>) -> Records {
        Records { dir: dir.into() }
    }

    /// What is believed of the mirror of a workspace (by its key) on a node.
    pub fn load(&self, workspace: &str, node: &str) -> MirrorRecord {
        index::load(&self.file(workspace, node), VERSION).unwrap_or_default()
    }

    /// Changes a record while no other process can: `change` sees the newest one.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn update<T>(
        &self,
        workspace: &str,
        node: &str,
        change: impl FnOnce(&mut MirrorRecord) -> T,
    ) -> io::Result<T> {
        fs::DirBuilder::new().recursive(true).create(&self.dir)?;
        let path = self.file(workspace, node);
        let lock = File::create(path.with_extension("lock"))?;
        lock.lock()?;
        let old = index::load::<MirrorRecord>(&path, VERSION);
        let mut new = old.clone().unwrap_or_default();
        let result = change(&mut new);
        if old.as_ref() != Some(&new) {
            index::save(&path, VERSION, &new)?;
        }
        Ok(result)
    }

    /// Forgets what is believed of any mirror on a node.
    ///
    /// # Errors
    /// Those of removing files.
    pub fn forget_node(&self, node: &str) -> io::Result<()> {
        let end = format!("-{}.mirror", key(node));
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(&end) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn file(&self, workspace: &str, node: &str) -> PathBuf {
        // Node names are whatever ssh resolves: not always names of files.
        self.dir
            .join(Path::new(&format!("{}-{}.mirror", key(workspace), key(node))))
    }
}

fn key(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::manifest::{Entry, RelPath};

    #[test]
    fn records_are_kept_apart_and_survive() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().join("new"));
        assert_eq!(records.load("w", "n"), MirrorRecord::default());
        let path = RelPath::new("a").unwrap();
        records
            .update("w", "n", |r| {
                r.manifest.insert(path.clone(), Entry::Dir { mode: 0o755 })
            })
            .unwrap();
        assert!(records.load("w", "n").manifest.contains_key(&path));
        assert_eq!(records.load("w", "../n"), MirrorRecord::default());
        records
            .update("w", "other/../n", |r| r.repository = Some([1; 32]))
            .unwrap();
        records.forget_node("n").unwrap();
        assert_eq!(records.load("w", "n"), MirrorRecord::default());
        assert_eq!(records.load("w", "other/../n").repository, Some([1; 32]));
    }
}
