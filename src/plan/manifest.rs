//! The manifest: what a tree holds, as values that two machines can compare.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, OnceLock};

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

    /// The path of `name` in the directory `dir` (`None` for the top), if that is a safe one.
    pub fn below(dir: Option<&RelPath>, name: &[u8]) -> Option<Self> {
        let plain = !name.is_empty() && name != b"." && name != b"..";
        let len = dir.map_or(0, |d| d.0.len() + 1) + name.len();
        if !plain || len > 4096 || name.iter().any(|b| matches!(b, b'/' | 0)) {
            return None;
        }
        let Some(dir) = dir else {
            return Some(RelPath(name.into()));
        };
        // Most are short: nothing is allocated but the path itself.
        let (mut short, mut long) = ([0u8; 256], Vec::new());
        let text = if len <= short.len() {
            &mut short[..len]
        } else {
            long.resize(len, 0);
            &mut long[..]
        };
        text[..dir.0.len()].copy_from_slice(&dir.0);
        text[dir.0.len()] = b'/';
        text[dir.0.len() + 1..].copy_from_slice(name);
        Some(RelPath((&*text).into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory it lies in; `None` for the top.
    pub fn parent(&self) -> Option<RelPath> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        RelPath::from_slice(&self.0[..slash])
    }

    /// The directories above it, nearest first.
    pub fn above(&self) -> impl Iterator<Item = RelPath> + use<> {
        std::iter::successors(self.parent(), RelPath::parent)
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
        #[serde(with = "hash_bytes")]
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

/// What a tree holds, sorted by path. Every parent directory of an entry is an entry too.
///
/// One sorted piece of memory that clones share, since several of them are alive at once and a tree may hold 100,000 files;
/// its generation is found once. [`Manifest::with`] makes many changes at once; [`Manifest::insert`] and
/// [`Manifest::remove`] move half of it and are for a few.
#[derive(Clone, Default)]
pub struct Manifest(Arc<Inner>);

#[derive(Default)]
struct Inner {
    entries: Vec<(RelPath, Entry)>,
    generation: OnceLock<Generation>,
}

impl Manifest {
    /// Of an empty tree.
    pub fn new() -> Manifest {
        Manifest::default()
    }

    fn of_sorted(entries: Vec<(RelPath, Entry)>) -> Manifest {
        Manifest(Arc::new(Inner {
            entries,
            generation: OnceLock::new(),
        }))
    }

    /// How many paths it holds.
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    fn find(&self, path: &RelPath) -> Result<usize, usize> {
        self.0.entries.binary_search_by(|(p, _)| p.cmp(path))
    }

    /// Where `path` stands in the order of the paths.
    pub fn position(&self, path: &RelPath) -> Option<usize> {
        self.find(path).ok()
    }

    /// Whether the two are of the same paths, as far as that is seen without looking at each: clones are.
    pub fn has_same_paths(&self, other: &Manifest) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What stands at `path`.
    pub fn get(&self, path: &RelPath) -> Option<&Entry> {
        self.find(path).ok().map(|i| &self.0.entries[i].1)
    }

    /// What stands at the path with these bytes.
    pub fn get_bytes(&self, path: &[u8]) -> Option<&Entry> {
        let found = self.0.entries.binary_search_by(|(p, _)| p.as_bytes().cmp(path));
        found.ok().map(|i| &self.0.entries[i].1)
    }

    /// Whether something stands at `path`.
    pub fn contains_key(&self, path: &RelPath) -> bool {
        self.find(path).is_ok()
    }

    /// The paths, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &RelPath> {
        self.0.entries.iter().map(|(p, _)| p)
    }

    /// Paths and what stands there, in order.
    pub fn iter(&self) -> Iter<'_> {
        self.0.entries.iter().map(|(p, e)| (p, e))
    }

    fn edit(&mut self) -> &mut Vec<(RelPath, Entry)> {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Manifest::of_sorted(self.0.entries.clone());
        }
        let inner = Arc::get_mut(&mut self.0).expect("nobody else has it");
        inner.generation = OnceLock::new();
        &mut inner.entries
    }

    /// Puts something at a path.
    pub fn insert(&mut self, path: RelPath, entry: Entry) {
        match self.find(&path) {
            Ok(i) => self.edit()[i].1 = entry,
            Err(i) => self.edit().insert(i, (path, entry)),
        }
    }

    /// Takes away what stands at a path.
    pub fn remove(&mut self, path: &RelPath) {
        if let Ok(i) = self.find(path) {
            self.edit().remove(i);
        }
    }

    /// The same with changes: what stands at a path then, or `None` where nothing does. Of several for one path the last counts.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (RelPath, Option<Entry>)>) -> Manifest {
        let mut changes: Vec<_> = changes.into_iter().collect();
        if changes.is_empty() {
            return self.clone();
        }
        // Stable: the last of equal paths stays the last.
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        let mut entries = Vec::with_capacity(self.len() + changes.len());
        let mut old = self.0.entries.iter().peekable();
        let mut changes = changes.into_iter().peekable();
        while let Some((path, entry)) = changes.next() {
            if changes.peek().is_some_and(|(p, _)| *p == path) {
                continue;
            }
            while let Some(same) = old.next_if(|(p, _)| *p < path) {
                entries.push(same.clone());
            }
            old.next_if(|(p, _)| *p == path);
            entries.extend(entry.map(|e| (path, e)));
        }
        entries.extend(old.cloned());
        Manifest::of_sorted(entries)
    }
}

/// What differs between two manifests, by path and in order: what stands there in the first and in the second.
pub fn differences<'m>(
    old: &'m Manifest,
    new: &'m Manifest,
) -> impl Iterator<Item = (&'m RelPath, Option<&'m Entry>, Option<&'m Entry>)> {
    // Clones of one need no look.
    let same = Arc::ptr_eq(&old.0, &new.0);
    let mut a = old.0.entries[if same { old.len() } else { 0 }..]
        .iter()
        .peekable();
    let mut b = new.0.entries[if same { new.len() } else { 0 }..]
        .iter()
        .peekable();
    std::iter::from_fn(move || {
        loop {
            let order = match (a.peek(), b.peek()) {
                (Some((p, _)), Some((q, _))) if Arc::ptr_eq(&p.0, &q.0) => Ordering::Equal,
                (Some((p, _)), Some((q, _))) => p.cmp(q),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            match order {
                Ordering::Less => return a.next().map(|(p, e)| (p, Some(e), None)),
                Ordering::Greater => return b.next().map(|(p, e)| (p, None, Some(e))),
                Ordering::Equal => {
                    let ((path, before), (_, now)) = (a.next()?, b.next()?);
                    if before != now {
                        return Some((path, Some(before), Some(now)));
                    }
                }
            }
        }
    })
}

/// See [`Manifest::iter`].
type Iter<'m> = std::iter::Map<
    std::slice::Iter<'m, (RelPath, Entry)>,
    fn(&'m (RelPath, Entry)) -> (&'m RelPath, &'m Entry),
>;

impl<'m> IntoIterator for &'m Manifest {
    type Item = (&'m RelPath, &'m Entry);
    type IntoIter = Iter<'m>;

    fn into_iter(self) -> Iter<'m> {
        self.iter()
    }
}

impl FromIterator<(RelPath, Entry)> for Manifest {
    /// In any order; of several for one path the last counts.
    fn from_iter<I: IntoIterator<Item = (RelPath, Entry)>>(all: I) -> Manifest {
        let mut entries: Vec<_> = all.into_iter().collect();
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            // Of equal neighbours the first is kept, so the last is moved there.
            entries.dedup_by(|later, first| {
                let equal = later.0 == first.0;
                if equal {
                    std::mem::swap(later, first);
                }
                equal
            });
        }
        Manifest::of_sorted(entries)
    }
}

impl std::ops::Index<&RelPath> for Manifest {
    type Output = Entry;

    fn index(&self, path: &RelPath) -> &Entry {
        self.get(path).expect("the path is in the manifest")
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Manifest) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.entries == other.0.entries
    }
}

impl Eq for Manifest {}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self)
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> de::Visitor<'de> for Entries {
            type Value = Manifest;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a manifest")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Manifest, A::Error> {
                // The length is a stranger's word.
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0).min(1 << 17));
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries.into_iter().collect())
            }
        }
        d.deserialize_map(Entries)
    }
}

/// A manifest in a file of cx's own, together with its generation, so that it need not be found again.
pub mod with_generation {
    use super::{Deserialize, Deserializer, Generation, Manifest, Serialize, Serializer, generation};

    /// See the module.
    ///
    /// # Errors
    /// Those of `s`.
    pub fn serialize<S: Serializer>(m: &Manifest, s: S) -> Result<S::Ok, S::Error> {
        (generation(m), m).serialize(s)
    }

    /// See the module.
    ///
    /// # Errors
    /// Those of `d`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Manifest, D::Error> {
        let (generation, m) = <(Generation, Manifest)>::deserialize(d)?;
        let _ = m.0.generation.set(generation);
        Ok(m)
    }
}

/// A hash in one piece instead of byte by byte.
pub(crate) mod hash_bytes {
    use serde::{Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(hash: &super::Hash, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(hash)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<super::Hash, D::Error> {
        d.deserialize_bytes(Visitor)
    }

    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = super::Hash;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("32 bytes")
        }
        fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<super::Hash, E> {
            v.try_into().map_err(|_| E::invalid_length(v.len(), &self))
        }
    }
}

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
    *manifest.0.generation.get_or_init(|| {
        let mut h = blake3::Hasher::new();
        // Many blocks at once are hashed side by side.
        let mut buf = Vec::with_capacity(72 << 10);
        for (path, entry) in manifest {
            buf.extend_from_slice(&(path.as_bytes().len() as u32).to_le_bytes());
            buf.extend_from_slice(path.as_bytes());
            match entry {
                Entry::File { mode, size, hash } => {
                    buf.push(b'f');
                    buf.extend_from_slice(&mode.to_le_bytes());
                    buf.extend_from_slice(&size.to_le_bytes());
                    buf.extend_from_slice(hash);
                }
                Entry::Symlink { target } => {
                    buf.push(b'l');
                    buf.extend_from_slice(&(target.len() as u32).to_le_bytes());
                    buf.extend_from_slice(target);
                }
                Entry::Dir { mode } => {
                    buf.push(b'd');
                    buf.extend_from_slice(&mode.to_le_bytes());
                }
            }
            if buf.len() >= 64 << 10 {
                h.update(&buf);
                buf.clear();
            }
        }
        h.update(&buf);
        Generation(*h.finalize().as_bytes())
    })
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
        let dir = RelPath::new("d".repeat(300)).unwrap();
        for name in ["", ".", "..", "a/b", "a\0b", &"n".repeat(4000)] {
            assert!(RelPath::below(Some(&dir), name.as_bytes()).is_none(), "{name:?}");
        }
        for (dir, name) in [
            ("a", "b"),
            ("a/b", "..c"),
            (&"d".repeat(300)[..], "e"),
            ("d", &"e".repeat(254)),
        ] {
            let dir = RelPath::new(dir).unwrap();
            assert_eq!(
                RelPath::below(Some(&dir), name.as_bytes()),
                RelPath::new(format!("{dir}/{name}"))
            );
        }
        assert_eq!(RelPath::below(None, b"x"), RelPath::new("x"));
    }

    #[test]
    fn many_changes_are_one_after_the_other() {
        let path = |n: u32| RelPath::new(n.to_string()).unwrap();
        let mut state = 7u32;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let mut have = Manifest::new();
        for _ in 0..200 {
            let changes: Vec<_> = (0..next(20))
                .map(|_| {
                    (
                        path(next(60)),
                        (next(3) > 0).then(|| Entry::Dir { mode: next(512) }),
                    )
                })
                .collect();
            let mut want = have.clone();
            for (path, entry) in &changes {
                match entry {
                    Some(entry) => want.insert(path.clone(), entry.clone()),
                    None => want.remove(path),
                }
            }
            let got = have.with(changes);
            assert_eq!(got, want);
            assert!(got.keys().is_sorted());
            let fresh: Manifest = want.iter().map(|(p, e)| (p.clone(), e.clone())).collect();
            assert_eq!(generation(&got), generation(&fresh));
            let bytes = postcard::to_stdvec(&got).unwrap();
            assert_eq!(postcard::from_bytes::<Manifest>(&bytes).unwrap(), got);
            have = got;
        }
    }

    #[test]
    fn a_change_to_a_clone_changes_neither_the_other_nor_leaves_its_generation() {
        let mut a = Manifest::new();
        a.insert(RelPath::new("x").unwrap(), Entry::Dir { mode: 1 });
        let before = generation(&a);
        let b = a.clone();
        a.insert(RelPath::new("y").unwrap(), Entry::Dir { mode: 1 });
        assert_ne!(generation(&a), before);
        assert_eq!((generation(&b), b.len()), (before, 1));
        // The last of equal paths counts.
        let twice = [2, 3].map(|mode| (RelPath::new("x").unwrap(), Entry::Dir { mode }));
        assert_eq!(
            Manifest::from_iter(twice)[&RelPath::new("x").unwrap()],
            Entry::Dir { mode: 3 }
        );
    }
}
