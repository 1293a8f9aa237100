//! The index: hashes of files by their stat, so that an unchanged file is not read again.
//!
//! One versioned file beside nothing else of the user's, replaced atomically. Losing it costs time only; one that cannot
//! be read counts as empty. Entries are kept only once they are settled ([`Stat::is_settled`]): a file that was touched
//! while or just before it was read is read again next time.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::stat::Stat;
use crate::plan::manifest::{Hash, RelPath, hash_bytes};

/// Version of the file.
const VERSION: u32 = 2;

/// What is remembered of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub path: RelPath,
    pub stat: Stat,
    #[serde(with = "hash_bytes")]
    pub hash: Hash,
}

/// All that is remembered, sorted by path.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    pub known: Vec<Known>,
}

impl Index {
    pub(crate) fn load(path: &Path) -> Index {
        let index: Index = load(path, VERSION).unwrap_or_default();
        // The lookup below needs the order.
        if index.known.is_sorted_by(|a, b| a.path < b.path) {
            index
        } else {
            Index::default()
        }
    }

    pub(crate) fn save(&self, path: &Path) -> std::io::Result<()> {
        save(path, VERSION, self)
    }
}

/// Looks paths up that come in ascending order.
pub(crate) struct Lookup<'a> {
    rest: &'a [Known],
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(index: &'a Index) -> Self {
        Lookup { rest: &index.known }
    }

    /// The hash of `path`, if it is remembered with this very stat.
    pub(crate) fn get(&mut self, path: &[u8], stat: &Stat) -> Option<Hash> {
        while let Some((first, rest)) = self.rest.split_first() {
            match first.path.as_bytes().cmp(path) {
                std::cmp::Ordering::Less => self.rest = rest,
                std::cmp::Ordering::Equal => return (first.stat == *stat).then_some(first.hash),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }
}

/// Reads a state file: its version, then the value, then a hash over both. `None` for anything else.
pub(crate) fn load<T: DeserializeOwned>(path: &Path, version: u32) -> Option<T> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    decode(&bytes, version)
}

/// Replaces a state file.
pub(crate) fn save<T: Serialize>(path: &Path, version: u32, value: &T) -> std::io::Result<()> {
    super::write_atomic(path, &encode(version, value))
}

fn encode<T: Serialize>(version: u32, value: &T) -> Vec<u8> {
    let head = version.to_le_bytes().to_vec();
    let mut bytes = postcard::to_extend(value, head).expect("postcard encodes into memory");
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(&sum.as_bytes()[..16]);
    bytes
}

fn decode<T: DeserializeOwned>(bytes: &[u8], version: u32) -> Option<T> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(16)?)?;
    if blake3::hash(body).as_bytes()[..16] != *sum {
        return None;
    }
    let body = body.strip_prefix(&version.to_le_bytes())?;
    postcard::from_bytes(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_or_foreign_file_counts_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i");
        let stat = Stat {
            size: 1,
            mtime_ns: -5,
            ctime_ns: 7,
            inode: 9,
            mode: 0o100644,
        };
        let index = Index {
            known: vec![Known {
                path: RelPath::new("a").unwrap(),
                stat,
                hash: [3; 32],
            }],
        };
        index.save(&path).unwrap();
        assert_eq!(Index::load(&path).known, index.known);
        let good = std::fs::read(&path).unwrap();
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(Index::load(&path).known.is_empty());
        }
        let mut bad = good.clone();
        bad[10] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(Index::load(&path).known.is_empty());
        std::fs::write(&path, encode(VERSION + 1, &index)).unwrap();
        assert!(Index::load(&path).known.is_empty());
        assert!(Index::load(&dir.path().join("none")).known.is_empty());
    }
}
