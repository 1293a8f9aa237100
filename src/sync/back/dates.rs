//! How old what a run changed is here.

use std::collections::BTreeMap;
use std::io;

use super::Commit;
use crate::plan::manifest::{Entry, RelPath};
use crate::sync::stage::{Op, touched};
use crate::sync::stat::Stat;

/// What a directory gets once all in it is in place.
pub(super) struct OfDir {
    /// Its mode, where that is to change.
    pub mode: Option<u32>,
    /// Its modification time there; 0 where that is not known.
    pub mtime_ns: i64,
}

/// Translates modification times there into ones here, by the clocks' difference.
///
/// What the run made dates from when its tree was read here, not from when it ended: an edit in between, which the run did
/// not see, is then newer than everything that was made without it, and make builds that again. The order stays.
pub(super) fn times(ops: &[Op], clock_offset_ms: i64, began_ns: i64) -> BTreeMap<i64, i64> {
    let theirs = ops.iter().filter_map(|op| match op {
        Op::Put { mtime_ns, .. } | Op::Touch { mtime_ns, .. } => Some(*mtime_ns).filter(|t| *t != 0),
        _ => None,
    });
    let offset_ns = clock_offset_ms.saturating_mul(1_000_000);
    let mut times: BTreeMap<i64, i64> = theirs.map(|t| (t, t.saturating_sub(offset_ns))).collect();
    for (rank, time) in times.values_mut().filter(|t| **t > began_ns).enumerate() {
        *time = began_ns.saturating_add(rank as i64 + 1);
    }
    times
}

pub(super) fn is_dir(op: &Op) -> bool {
    matches!(
        op,
        Op::Put {
            entry: Entry::Dir { .. },
            ..
        }
    )
}

impl Commit<'_> {
    /// Notes the directories in which somebody worked here since the tree was read: they keep their times.
    pub(super) fn note_young(&mut self) {
        for op in self.journal.ops.iter().filter(|op| is_dir(op)) {
            let path = op.path();
            let stands = self.tree.stat(path).ok().flatten();
            if stands.is_some_and(|s| s.is_dir() && s.mtime_ns > self.journal.began_ns) {
                self.young.insert(path.clone());
            }
        }
    }

    /// Gives what stands at `path`, as it was before (`stat`), its new time, unless it was touched here since the tree was read.
    pub(super) fn touch(&mut self, path: &RelPath, stat: &Stat, mtime_ns: i64) -> io::Result<()> {
        match self.times.get(&mtime_ns) {
            Some(time) if stat.mtime_ns <= self.journal.began_ns => self.tree.place(path)?.set_mtime(*time),
            _ => Ok(()),
        }
    }

    /// Notes the times of what was put in place, and of the directories around it: they are nobody's touch.
    pub(super) fn note_times(&mut self) {
        self.tree.forget();
        for path in touched(&self.journal.ops) {
            if let Ok(Some(stat)) = self.tree.stat(&path)
                && !stat.is_symlink()
            {
                self.report.times.push((path, stat.mtime_ns));
            }
        }
    }

    /// Gives directories their modes and times, the deepest first.
    pub(super) fn set_modes(&mut self) {
        self.tree.forget();
        self.opened.close(&mut self.tree);
        for (path, of) in std::mem::take(&mut self.modes).into_iter().rev() {
            let time = self
                .times
                .get(&of.mtime_ns)
                .filter(|_| !self.young.contains(&path));
            let set = self.tree.place(&path).and_then(|place| {
                if let Some(mode) = of.mode {
                    place.chmod_dir(mode)?;
                }
                if let Some(time) = time
                    && place.stat()?.is_some_and(|s| s.is_dir())
                {
                    // Somebody else's keeps its own.
                    let _ = place.set_mtime(*time);
                }
                Ok(())
            });
            if let Err(e) = set {
                self.report.failed.push((path, e.to_string()));
            }
        }
    }
}
