//! The manifest: what a tree holds, as values that two machines can compare.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A path inside a workspace: bytes, `/`-separated, relative, without `.`, `..` or empty components.
///
/// Cheap to clone: a large tree's paths stand in several manifests at once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Arc<[u8]>);

impl RelPath {
    /// Takes `bytes` if they are a safe relative path: not empty, at most 4096 bytes, no NUL, no leading or
    /// trailing slash, no empty, `.` or `..` component.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        RelPath::from_slice(&bytes.into())
    }

    /// The same of borrowed bytes.
    pub fn from_slice(b: &[u8]) -> Option<Self> {
        let ok = !b.is_empty()
            && b.len() <= 4096
            && !b.contains(&0)
            && b.split(|c| *c == b'/')
                .all(|part| !part.is_empty() && part != b"." && part != b"..");
        ok.then(|| RelPath(b.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|c| *c == b'/').next().unwrap_or(&self.0)
    }

    /// The components, first to last.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|c| *c == b'/')
    }
}

impl From<RelPath> for Vec<u8> {
    fn from(p: RelPath) -> Self {
        p.0.to_vec()
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_bytes(PathVisitor)
    }
}

struct PathVisitor;

impl<'de> de::Visitor<'de> for PathVisitor {
    type Value = RelPath;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a safe relative path")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<RelPath, E> {
        RelPath::from_slice(bytes).ok_or_else(|| E::custom("not a safe relative path"))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<RelPath, A::Error> {
        let mut bytes = Vec::new();
        while let Some(b) = seq.next_element::<u8>()? {
            bytes.push(b);
        }
        self.visit_bytes(&bytes)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for RelPath {
    /// Printable: control characters and bytes that are not UTF-8 are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in String::from_utf8_lossy(&self.0).chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?
            } else {
                write!(f, "{c}")?
            }
        }
        Ok(())
    }
}

/// A blake3 hash.
pub type Hash = [u8; 32];

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// A regular file.
    File {
        /// Permission bits, `mode & 0o777`.
        mode: u32,
        /// Length in bytes.
        size: u64,
        /// Hash of the content.
        hash: Hash,
    },
    /// A symbolic link, never followed.
    Symlink {
        /// Its target, as it is.
        target: Vec<u8>,
    },
    /// A directory. Listed for every directory, so that empty ones and modes are kept.
    Dir {
        /// Permission bits, `mode & 0o777`.
        mode: u32,
    },
}

/// What a tree holds. Every parent directory of an entry is an entry too.
pub type Manifest = BTreeMap<RelPath, Entry>;

/// Names the state of a mirror: a hash over its manifest. Equal generations mean equal trees.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation(pub Hash);

impl Generation {
    /// Of an empty tree, which is also that of a mirror that does not exist.
    pub fn empty() -> Self {
        generation(&Manifest::new())
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in &self.0[..6] {
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// The generation of a manifest.
pub fn generation(manifest: &Manifest) -> Generation {
    let mut h = blake3::Hasher::new();
    for (path, entry) in manifest {
        h.update(&(path.as_bytes().len() as u32).to_le_bytes());
        h.update(path.as_bytes());
        match entry {
            Entry::File { mode, size, hash } => {
                h.update(b"f");
                h.update(&mode.to_le_bytes());
                h.update(&size.to_le_bytes());
                h.update(hash);
            }
            Entry::Symlink { target } => {
                h.update(b"l");
                h.update(&(target.len() as u32).to_le_bytes());
                h.update(target);
            }
            Entry::Dir { mode } => {
                h.update(b"d");
                h.update(&mode.to_le_bytes());
            }
        }
    }
    Generation(*h.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b",
        ] {
            assert!(RelPath::new(bad).is_none(), "{bad:?}");
        }
        for good in ["a", "a/b", "-x", "..a", "a b", "a\nb"] {
            assert!(RelPath::new(good).is_some(), "{good:?}");
        }
        assert!(RelPath::new(vec![0xff, b'/', 0xfe]).is_some());
    }
}
