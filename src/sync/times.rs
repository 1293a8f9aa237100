//! Modification times of a tree here, beside a manifest of it, which has none: a time is no part of what trees agree on, but make and
//! its like go by it.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::plan::manifest::{Manifest, RelPath};

/// Where nothing is known, and for what has no time that counts: links.
pub(crate) const UNKNOWN: i64 = 0;

/// One time for each path of a manifest, in the order of its paths, nanoseconds since the epoch by this machine's clock. Of another
/// manifest than its own nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Arc<Vec<i64>>);

impl Times {
    /// One for each path.
    pub(crate) fn new(all: Vec<i64>) -> Times {
        Times(Arc::new(all))
    }

    /// Those of all paths of `manifest`.
    fn of<'t>(&'t self, manifest: &Manifest) -> impl Iterator<Item = i64> + use<'t> {
        let whole = self.0.len() == manifest.len();
        let len = manifest.len();
        (0..len).map(move |i| if whole { self.0[i] } else { UNKNOWN })
    }

    /// The one of `path`, if it is known.
    pub(crate) fn get(&self, manifest: &Manifest, path: &RelPath) -> Option<i64> {
        let at = manifest
            .position(path)
            .filter(|_| self.0.len() == manifest.len())?;
        Some(self.0[at]).filter(|t| *t != UNKNOWN)
    }

    /// The same for another manifest: what stands in both keeps its time.
    pub(crate) fn moved(&self, from: &Manifest, to: &Manifest) -> Times {
        if self.0.len() == from.len() && from.has_same_paths(to) {
            return self.clone();
        }
        let mut old = from.keys().zip(self.of(from)).peekable();
        let mut one = |path: &RelPath| {
            while old.next_if(|(p, _)| *p < path).is_some() {}
            old.next_if(|(p, _)| *p == path).map_or(UNKNOWN, |(_, time)| time)
        };
        Times::new(to.keys().map(&mut one).collect())
    }

    /// These, and where nothing is known, `other`'s of the same manifest.
    pub(crate) fn or(self, other: &Times) -> Times {
        let mends = |(a, b): (&i64, &i64)| *a == UNKNOWN && *b != UNKNOWN;
        if self.0.len() != other.0.len() || !self.0.iter().zip(&*other.0).any(mends) {
            return self;
        }
        let both = self.0.iter().zip(&*other.0);
        Times::new(both.map(|(a, b)| if *a == UNKNOWN { *b } else { *a }).collect())
    }

    /// Takes these times for paths of `manifest`, whose own they are.
    pub(crate) fn set<'p>(
        &mut self,
        manifest: &Manifest,
        changes: impl IntoIterator<Item = (&'p RelPath, i64)>,
    ) {
        for (path, time) in changes {
            let Some(at) = manifest.position(path) else {
                continue;
            };
            if self.0.len() != manifest.len() {
                *self = Times::new(vec![UNKNOWN; manifest.len()]);
            }
            if self.0[at] != time {
                Arc::make_mut(&mut self.0)[at] = time;
            }
        }
    }

    /// What stands in both trees as the same and has another time in the second: that of the first, and of the second.
    pub(crate) fn differences<'m>(
        &self,
        manifest: &'m Manifest,
        now: (&Times, &Manifest),
    ) -> Vec<(&'m RelPath, i64, i64)> {
        let (times, here) = now;
        // Nearly always.
        if self == times && self.0.len() == manifest.len() && here.len() == manifest.len() {
            return Vec::new();
        }
        let mut there = here.iter().zip(times.of(here)).peekable();
        let mut all = Vec::new();
        for ((path, entry), before) in manifest.iter().zip(self.of(manifest)) {
            while there.next_if(|((p, _), _)| *p < path).is_some() {}
            if let Some(((_, same), after)) = there.next_if(|((p, _), _)| *p == path)
                && same == entry
                && before != after
                && before != UNKNOWN
                && after != UNKNOWN
            {
                all.push((path, before, after));
            }
        }
        all
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|t| t.to_le_bytes()).collect();
        s.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Times;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("times")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Times, E> {
                let (times, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                Ok(Times::new(times.iter().map(|t| i64::from_le_bytes(*t)).collect()))
            }
        }
        d.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::manifest::Entry;

    fn tree(names: &[&str]) -> Manifest {
        let dir = |n: &&str| (RelPath::new(*n).unwrap(), Entry::Dir { mode: 0o755 });
        names.iter().map(dir).collect()
    }

    #[test]
    fn times_follow_their_paths() {
        let (old, new) = (tree(&["a", "b", "d"]), tree(&["b", "c", "d"]));
        let path = |n: &str| RelPath::new(n).unwrap();
        let times = Times::new(vec![1, 2, 4]);
        let mut moved = times.moved(&old, &new);
        assert_eq!(moved, Times::new(vec![2, UNKNOWN, 4]));
        moved.set(&new, [(&path("c"), 3), (&path("x"), 9)]);
        assert_eq!(moved.get(&new, &path("c")), Some(3));
        assert_eq!(times.get(&old, &path("c")), None);
        assert_eq!(times.get(&new.with([(path("e"), None)]), &path("b")), Some(1));
        let later = Times::new(vec![2, 7, 8]);
        assert_eq!(
            moved.differences(&new, (&later, &new)),
            [(&path("c"), 3, 7), (&path("d"), 4, 8)]
        );
        assert_eq!(times.differences(&old, (&later, &new)), [(&path("d"), 4, 8)]);
        assert_eq!(
            Times::default().differences(&old, (&later, &new)),
            [],
            "nothing is known"
        );
        let bytes = postcard::to_stdvec(&later).unwrap();
        assert_eq!(postcard::from_bytes::<Times>(&bytes).unwrap(), later);
    }
}
