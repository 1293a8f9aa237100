//! What a mirror lacks: the difference of two manifests.

use std::collections::BTreeSet;

use super::manifest::{Manifest, RelPath};

/// What turns one tree into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Paths that go away (and, for directories, what lies below), deepest first.
    pub deletions: Vec<RelPath>,
    /// Paths that are new or changed, parents first; their entries are in the wanted manifest.
    pub upserts: BTreeSet<RelPath>,
}

/// What must happen to a tree that holds `have` so that it holds `want`.
pub fn delta(have: &Manifest, want: &Manifest) -> Delta {
    let deletions = have.keys().rev().filter(|p| !want.contains_key(*p)).cloned().collect();
    let upserts = want.iter().filter(|(p, e)| have.get(*p) != Some(e)).map(|(p, _)| p.clone()).collect();
    Delta { deletions, upserts }
}
