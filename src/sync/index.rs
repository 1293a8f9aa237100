//! The index: hashes of files by their stat, so that an unchanged file is not read again.
//!
//! One versioned file beside nothing else of the user's, replaced atomically. Losing it costs time only; one that cannot
//! be read counts as empty. Entries are kept only once they are settled ([`Stat::is_settled`]): a file that was touched
//! while or just before it was read is read again next time.

use std::cmp::Ordering;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::stat::Stat;
use crate::plan::manifest::{Hash, RelPath};

/// Version of the file.
const VERSION: u32 = 3;

/// Bytes of a record beside its path: the path's length, the stat, the hash.
const FIXED: usize = 2 + 36 + 32;

/// All that is remembered: the file as it is, whose records are in the order of their paths. A large tree's are looked at once, in
/// passing, and never become values of their own.
#[derive(Debug, Default)]
pub(crate) struct Index {
    records: Vec<u8>,
}

impl Index {
    pub(crate) fn load(path: &Path) -> Index {
        let mut records = read(path).unwrap_or_default();
        if intact(&records, VERSION).is_some() {
            records.truncate(records.len() - SUM);
            records.drain(..4);
        } else {
            records.clear();
        }
        Index { records }
    }

    /// For looking paths up that come in ascending order.
    pub(crate) fn lookup(&self) -> Lookup<'_> {
        Lookup {
            rest: &self.records,
            passed: false,
        }
    }
}

/// Looks paths up that come in ascending order.
pub(crate) struct Lookup<'a> {
    rest: &'a [u8],
    passed: bool,
}

impl Lookup<'_> {
    /// The hash of `path`, if it is remembered with this very stat.
    pub(crate) fn get(&mut self, path: &RelPath, stat: &Stat) -> Option<Hash> {
        let path = path.as_bytes();
        loop {
            let (len, rest) = self.rest.split_first_chunk::<2>()?;
            let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            let (known, rest) = rest.split_first_chunk::<36>()?;
            let (hash, rest) = rest.split_first_chunk::<32>()?;
            match name.cmp(path) {
                Ordering::Greater => return None,
                Ordering::Less => self.passed = true,
                Ordering::Equal => {
                    self.rest = rest;
                    let same = *known == bytes_of(stat);
                    self.passed |= !same;
                    return same.then_some(*hash);
                }
            }
            self.rest = rest;
        }
    }

    /// Whether each path that is remembered was asked for, and is as it was.
    pub(crate) fn found_all(&self) -> bool {
        !self.passed && self.rest.is_empty()
    }
}

fn bytes_of(stat: &Stat) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[..8].copy_from_slice(&stat.size.to_le_bytes());
    bytes[8..16].copy_from_slice(&stat.mtime_ns.to_le_bytes());
    bytes[16..24].copy_from_slice(&stat.ctime_ns.to_le_bytes());
    bytes[24..32].copy_from_slice(&stat.inode.to_le_bytes());
    bytes[32..].copy_from_slice(&stat.mode.to_le_bytes());
    bytes
}

/// Makes an index of paths that come in ascending order.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// For about so many paths.
    pub(crate) fn new(paths: usize) -> Writer {
        let mut bytes = Vec::with_capacity(paths * (FIXED + 40) + 4 + SUM);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        Writer(bytes)
    }

    pub(crate) fn push(&mut self, path: &RelPath, stat: &Stat, hash: &Hash) {
        let path = path.as_bytes();
        let Ok(len) = u16::try_from(path.len()) else {
            return;
        };
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(path);
        self.0.extend_from_slice(&bytes_of(stat));
        self.0.extend_from_slice(hash);
    }

    pub(crate) fn save(self, path: &Path) -> std::io::Result<()> {
        super::write_atomic(path, &summed(self.0))
    }
}

/// Bytes of the hash at the end of a state file.
const SUM: usize = 16;

/// Reads a state file: its version, then the value, then a hash over both. `None` for anything else.
pub(crate) fn load<T: DeserializeOwned>(path: &Path, version: u32) -> Option<T> {
    let bytes = read(path)?;
    postcard::from_bytes(intact(&bytes, version)?).ok()
}

/// The beginning of a state file's value, not checked for damage: as many bytes as `head` has room for, or as there are.
pub(crate) fn peek<'h>(path: &Path, version: u32, head: &'h mut [u8]) -> Option<&'h [u8]> {
    let mut file = File::open(path).ok()?;
    let mut found = [0; 4];
    file.read_exact(&mut found).ok()?;
    let len = file.read(head).ok()?;
    (found == version.to_le_bytes()).then(|| &head[..len])
}

/// Replaces a state file.
pub(crate) fn save<T: Serialize>(path: &Path, version: u32, value: &T) -> std::io::Result<()> {
    super::write_atomic(path, &encode(version, value))
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn encode<T: Serialize>(version: u32, value: &T) -> Vec<u8> {
    let head = version.to_le_bytes().to_vec();
    summed(postcard::to_extend(value, head).expect("postcard encodes into memory"))
}

fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(&sum.as_bytes()[..SUM]);
    bytes
}

/// The value's bytes, if the file is whole and of this version.
fn intact(bytes: &[u8], version: u32) -> Option<&[u8]> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    let value = body.strip_prefix(&version.to_le_bytes())?;
    (blake3::hash(body).as_bytes()[..SUM] == *sum).then_some(value)
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
        let save = |records: &[(&str, Stat, Hash)], version: u32| {
            let mut writer = Writer::new(records.len());
            writer.0[..4].copy_from_slice(&version.to_le_bytes());
            for (p, stat, hash) in records {
                writer.push(&RelPath::new(*p).unwrap(), stat, hash);
            }
            writer.save(&path).unwrap();
        };
        let get = |p: &str| {
            let index = Index::load(&path);
            index.lookup().get(&RelPath::new(p).unwrap(), &stat)
        };
        let one = [("a", stat, [3; 32])];
        save(&one, VERSION);
        assert_eq!(get("a"), Some([3; 32]));
        let good = std::fs::read(&path).unwrap();
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert_eq!(get("a"), None);
        }
        let mut bad = good.clone();
        bad[10] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert_eq!(get("a"), None);
        save(&one, VERSION + 1);
        assert_eq!(get("a"), None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(get("a"), None);

        // In passing, in order; and whether all were met as they are.
        let other = Stat { size: 2, ..stat };
        save(
            &[
                ("a", stat, [1; 32]),
                ("b", other, [2; 32]),
                ("d/e", stat, [4; 32]),
            ],
            VERSION,
        );
        let index = Index::load(&path);
        let look = |asked: &[(&str, Stat)]| {
            let mut lookup = index.lookup();
            let mut get = |(p, s): &(&str, Stat)| lookup.get(&RelPath::new(*p).unwrap(), s).map(|h| h[0]);
            let found: Vec<_> = asked.iter().map(&mut get).collect();
            (found, lookup.found_all())
        };
        let all = [("a", stat), ("b", other), ("c", stat), ("d/e", stat), ("f", stat)];
        assert_eq!(look(&all), (vec![Some(1), Some(2), None, Some(4), None], true));
        assert_eq!(
            look(&[("a", stat), ("b", stat), ("d/e", stat)]),
            (vec![Some(1), None, Some(4)], false)
        );
        assert_eq!(
            look(&[("a", stat), ("d/e", stat)]),
            (vec![Some(1), Some(4)], false)
        );
        assert_eq!(look(&all[..3]), (vec![Some(1), Some(2), None], false));
    }
}
