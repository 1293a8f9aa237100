//! What a rule names as its outputs, and how it is found.

use std::collections::BTreeMap;

use crate::plan::Brings;
use crate::plan::manifest::RelPath;
use crate::sync::beneath::Beneath;
use crate::sync::stat::Stat;
use crate::sync::{TMP_PREFIX, wild};

/// What a rule names as its outputs.
pub(super) struct Outputs {
    /// Patterns relative to the mirror.
    patterns: Vec<Vec<u8>>,
    /// Every changed ignored file outside of caches.
    ignored: bool,
}

impl Outputs {
    pub(super) fn new(brings: &Brings, run_dir: &[u8]) -> Outputs {
        let mut patterns = Vec::new();
        if let Brings::Outputs(globs) = brings {
            for glob in globs.iter().flat_map(|g| wild::braces(g)) {
                patterns.extend(from_top(run_dir, glob.as_bytes()));
            }
        }
        Outputs {
            patterns,
            ignored: *brings == Brings::Ignored,
        }
    }

    pub(super) fn wants(&self, path: &RelPath, is_ignored: bool) -> bool {
        (self.ignored && is_ignored) || self.patterns.iter().any(|p| wild::matches(p, path.as_bytes()))
    }

    /// The regular files that match a pattern, found by going along the patterns: caches hold too much to be walked.
    pub(super) fn find(&self, tree: &Beneath) -> BTreeMap<RelPath, Stat> {
        let mut found = BTreeMap::new();
        for pattern in &self.patterns {
            let parts: Vec<&[u8]> = pattern.split(|b| *b == b'/').collect();
            let mut budget = FIND_BUDGET;
            find(&mut tree.again(), Vec::new(), &parts, &mut budget, &mut found);
        }
        found
    }
}

/// Entries looked at for one pattern at most.
const FIND_BUDGET: u32 = 200_000;

fn find(
    tree: &mut Beneath,
    dir: Vec<u8>,
    parts: &[&[u8]],
    budget: &mut u32,
    found: &mut BTreeMap<RelPath, Stat>,
) {
    let Some((part, rest)) = parts.split_first() else {
        return;
    };
    let below = |name: &[u8]| {
        let mut path = dir.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    };
    let is_wild = part.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'));
    let names = if is_wild {
        tree.names(RelPath::new(&dir[..]).as_ref()).unwrap_or_default()
    } else {
        vec![part.to_vec()]
    };
    if *part == b"**" && !rest.is_empty() {
        find(tree, dir.clone(), rest, budget, found);
    }
    for name in names {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let skipped = name.eq_ignore_ascii_case(b".git") || name.starts_with(TMP_PREFIX.as_bytes());
        if skipped || !(*part == b"**" || wild::matches(part, &name)) {
            continue;
        }
        let Some(path) = RelPath::new(below(&name)) else {
            continue;
        };
        let Ok(Some(stat)) = tree.stat(&path) else {
            continue;
        };
        let last = rest.is_empty();
        if stat.is_dir() {
            if *part == b"**" {
                find(tree, path.into(), parts, budget, found);
            } else if !last {
                find(tree, path.into(), rest, budget, found);
            }
        } else if last && stat.is_file() {
            found.insert(path, stat);
        }
    }
}

/// A pattern relative to the run's directory, as one relative to the top. `None` if it leaves the mirror.
fn from_top(run_dir: &[u8], pattern: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in run_dir.split(|b| *b == b'/').chain(pattern.split(|b| *b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    // `dist/` means all below.
    if pattern.ends_with(b"/") {
        parts.push(b"**");
    }
    Some(parts.join(&b'/'))
}
