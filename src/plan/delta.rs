//! What a mirror lacks: the difference of two manifests.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::{Manifest, RelPath, differences};

/// What turns one tree into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Paths that go away (and, for directories, what lies below), deepest first.
    pub deletions: Vec<RelPath>,
    /// Paths that leave the manifest but stay in the tree: they exist on both sides and no longer travel.
    pub forgets: Vec<RelPath>,
    /// Paths that are new or changed, parents first; their entries are in the wanted manifest.
    pub upserts: BTreeSet<RelPath>,
    /// Files with the same content on both sides that got another modification time here.
    pub touches: BTreeMap<RelPath, Touched>,
}

/// The new time of a file whose content is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Nanoseconds since the epoch, by the clock of where it was touched.
    pub mtime_ns: i64,
    /// It is older than the one before.
    pub back: bool,
}

impl Delta {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.deletions.is_empty()
            && self.forgets.is_empty()
            && self.upserts.is_empty()
            && self.touches.is_empty()
    }
}

/// What must happen to a tree that holds `have` so that it holds `want`.
pub fn delta(have: &Manifest, want: &Manifest) -> Delta {
    delta_keeping(have, want, |_| false)
}

/// The same, but paths that are not wanted and for which `keep` holds are forgotten instead of deleted.
pub fn delta_keeping(have: &Manifest, want: &Manifest, keep: impl Fn(&RelPath) -> bool) -> Delta {
    let mut gone = Vec::new();
    let mut upserts = BTreeSet::new();
    for (path, _, wanted) in differences(have, want) {
        if wanted.is_some() {
            upserts.insert(path.clone());
        } else {
            gone.push(path.clone());
        }
    }
    let (forgets, deletions) = gone.into_iter().rev().partition(|p| keep(p));
    Delta {
        deletions,
        forgets,
        upserts,
        touches: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::manifest::Entry;

    fn tree(entries: &[(&str, u32)]) -> Manifest {
        entries
            .iter()
            .map(|(p, mode)| (RelPath::new(*p).unwrap(), Entry::Dir { mode: *mode }))
            .collect()
    }

    #[test]
    fn what_is_gone_goes_deepest_first_and_what_is_kept_is_forgotten() {
        let have = tree(&[
            ("a", 1),
            ("a/b", 1),
            ("a/b/c", 1),
            ("k", 1),
            ("k/x", 1),
            ("same", 1),
            ("mode", 1),
        ]);
        let want = tree(&[("new", 1), ("same", 1), ("mode", 2)]);
        let d = delta_keeping(&have, &want, |p| p.as_bytes().starts_with(b"k"));
        let names = |v: &[RelPath]| v.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&d.deletions), ["a/b/c", "a/b", "a"]);
        assert_eq!(names(&d.forgets), ["k/x", "k"]);
        assert_eq!(names(&d.upserts.into_iter().collect::<Vec<_>>()), ["mode", "new"]);
        assert!(delta(&have, &have).is_empty());
    }
}
