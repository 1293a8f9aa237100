//! Putting a staged pack in place, all or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::survey::Watched;
use super::{Mirror, RunGuard, Seen, VERSION};
use crate::plan::manifest::{Entry, Generation, Manifest, RelPath, generation};
use crate::sync::beneath::{self, Beneath, Opened, Place};
use crate::sync::stage::{Op, Origin, Staged, after, touched};
use crate::sync::stat::Stat;
use crate::sync::{SyncError, TMP_PREFIX, crash_point, gitmeta, index, now_ns};

/// All that is needed to finish, written before the first change.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    /// Name of the stage directory.
    stage: String,
    ops: Vec<Op>,
    /// The modification times to set, by op.
    times: Vec<i64>,
    /// The generation after.
    generation: Generation,
}

impl Mirror {
    /// Puts a pack in place. A crash at any moment leaves the mirror to be at the old or the new state for whoever opens
    /// it next.
    ///
    /// In a mirror that was empty the sender's modification times are kept, and in any other where they are newer than all that was built
    /// there: what was built here and notes times (ninja's log) is then as good there. Otherwise what is new or changed gets times not
    /// older than now, in the order of the sender's, so that make and cargo see the change.
    ///
    /// # Errors
    /// [`SyncError::Differs`] if the mirror is not the tree that the pack was made for.
    pub fn apply(&mut self, staged: Staged) -> Result<Generation, SyncError> {
        let _lock = self.locked()?;
        self.refresh()?;
        self.put(staged)
    }

    /// [`Mirror::apply`] for a pack that makes the mirror the sender's tree whatever others made in it: only while `guard` is the
    /// one run that was registered.
    ///
    /// # Errors
    /// [`SyncError::Differs`] also if another run uses the mirror.
    pub fn apply_alone(&mut self, staged: Staged, guard: &RunGuard) -> Result<Generation, SyncError> {
        let _lock = self.locked()?;
        self.refresh()?;
        let alone = guard.alone().map_err(|e| self.failed("failed to lock", e))?;
        // A pack that changes nothing harms nobody.
        if alone.is_none() && !staged.ops().is_empty() {
            return Err(SyncError::Differs(Box::new(self.state.manifest.clone())));
        }
        self.put(staged)
    }

    /// Needs the lock.
    fn put(&mut self, mut staged: Staged) -> Result<Generation, SyncError> {
        let want = after(&self.state.manifest, staged.ops());
        if generation(&want) != staged.generation() {
            return Err(SyncError::Differs(Box::new(self.state.manifest.clone())));
        }
        if staged.ops().is_empty() && staged.repository().is_none() {
            return Ok(staged.generation());
        }
        check_tree(&want)?;
        let name = staged
            .dir()
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default()
            .to_owned();
        if staged.dir().parent() != Some(&self.meta.join("stage")) {
            return Err(SyncError::Pack("it was not staged for this mirror".into()));
        }
        if let Some(repository) = staged.repository() {
            // It is no part of the generation: one that got in before a crash does no harm, and comes again.
            let installed = gitmeta::install(&self.root, repository, &self.stage_dir());
            installed.map_err(|e| self.failed("failed to put the repository in", e))?;
            self.state.repository = None;
            self.save_state()?;
        }
        let is_new = staged.repository().is_some();
        let mut ops = staged.ops().to_vec();
        ops.extend(self.newer_than_what_strayed(&ops));
        let journal = Journal {
            stage: name,
            times: times(
                &self.state.manifest,
                &ops,
                self.is_fresh(),
                now_ns(),
                self.state.newest_ns,
                self.rested_ns(),
            ),
            ops,
            generation: staged.generation(),
        };
        let path = self.meta.join("journal");
        crash_point().map_err(|e| SyncError::io("failed to write", &path, e))?;
        index::save(&path, VERSION, &journal).map_err(|e| SyncError::io("failed to write", &path, e))?;
        staged.keep();
        self.finish(&journal)?;
        self.forget_stray();
        let pointed = self.tree().and_then(|mut tree| {
            gitmeta::point(&self.root, &mut tree)
                .map_err(|e| self.failed("failed to put the repository in", e))
        });
        pointed?;
        if is_new {
            self.state.repository = gitmeta::signature(&self.root);
            self.save_state()?;
        }
        Ok(journal.generation)
    }

    /// Touches for what the syncs of runs brought that were never collected. Where such a run made something (an object from a header that
    /// had just changed), `ops` put back what stands at the client, older than that header there and newer here: make would leave it so.
    fn newer_than_what_strayed(&self, ops: &[Op]) -> Vec<Op> {
        // Behind every time that a sender can have, in their own order.
        const LATE_NS: i64 = i64::MAX / 4;
        if !self.has_strayed() || self.is_fresh() {
            return Vec::new();
        }
        let rested = self.time_in("rested").unwrap_or(i64::MIN);
        let changed: BTreeSet<&RelPath> = ops.iter().map(Op::path).collect();
        let files = self
            .state
            .manifest
            .iter()
            .filter(|(_, e)| matches!(e, Entry::File { .. }));
        files
            .filter(|(path, _)| !changed.contains(path))
            .map(|(path, entry)| {
                (
                    path,
                    entry,
                    self.state.known.get(path).map_or(i64::MAX / 4, |s| s.mtime_ns),
                )
            })
            .filter(|(.., mtime_ns)| *mtime_ns > rested)
            .map(|(path, entry, mtime_ns)| Op::Touch {
                path: path.clone(),
                entry: entry.clone(),
                origin: Origin::Synced,
                mtime_ns: mtime_ns.saturating_add(LATE_NS),
                back: false,
            })
            .collect()
    }

    fn is_fresh(&self) -> bool {
        self.state.manifest.is_empty()
            && fs::read_dir(&self.root).is_ok_and(|d| d.flatten().all(|e| e.file_name() == ".git"))
    }

    /// Finishes what a crash left. Needs the lock.
    pub(super) fn roll_forward(&mut self) -> Result<(), SyncError> {
        let path = self.meta.join("journal");
        match index::load::<Journal>(&path, VERSION) {
            Some(journal) => self.finish(&journal),
            // One of another version, or damaged: what it did is found by looking at the tree.
            None if path.exists() => {
                self.state.known.clear();
                fs::remove_file(&path).map_err(|e| SyncError::io("failed to remove", &path, e))
            }
            None => Ok(()),
        }
    }

    /// Makes the journal's changes, the whole or the rest of them.
    fn finish(&mut self, journal: &Journal) -> Result<(), SyncError> {
        let stage = self.meta.join("stage").join(&journal.stage);
        let is_put = generation(&self.state.manifest) == journal.generation;
        let touches = |op: &Op| matches!(op, Op::Touch { .. });
        // Times are no part of the state: they are set once more.
        let only_times = journal.ops.iter().any(|op| touches(op) || is_dir(op));
        if !is_put || only_times {
            let want = after(&self.state.manifest, &journal.ops);
            let mut work = Work {
                tree: self.tree()?,
                opened: Opened::default(),
            };
            let mut known = BTreeMap::new();
            for (i, (op, time)) in journal.ops.iter().zip(&journal.times).enumerate() {
                if is_put && !touches(op) {
                    continue;
                }
                // Another's pack brought it as well: what stands there by now may be what a live run made of it.
                if matches!(op, Op::Put { path, entry, .. } if self.state.manifest.get(path) == Some(entry)) {
                    continue;
                }
                let path = op.path();
                let trusted = self.state.known.get(path).copied();
                let stat = crash_point().and_then(|()| match op {
                    Op::Touch { .. } => work.touch(path, *time, trusted),
                    _ => work.make(op, *time, &stage, i),
                });
                let stat =
                    stat.map_err(|e| SyncError::io("failed to change", &work.tree.display(path), e))?;
                known.insert(path.clone(), stat);
            }
            work.close(&journal.ops, &journal.times)
                .map_err(|e| self.failed("failed to set modes in", e))?;
            // What a run changes in them from now on is told by their times.
            for path in touched(&journal.ops) {
                if matches!(want.get(&path), Some(Entry::Dir { .. }))
                    && let Ok(Some(stat)) = work.tree.stat(&path)
                {
                    known.insert(path, Some(stat));
                }
            }
            let forgets = journal.ops.iter().any(|op| matches!(op, Op::Forget { .. }));
            let sees = |w: &Watched| w.sees(journal.ops.iter().map(Op::path));
            // What is forgotten counts otherwise from now on, though nothing happens to it; in a cache nobody watches.
            if forgets || !self.watched.as_ref().is_some_and(sees) {
                self.watched = None;
            }
            for op in &journal.ops {
                self.state.seen.remove(op.path());
                // Until it changes there, nobody asks for it.
                if let Op::Forget { path } = op
                    && let Ok(Some(stat)) = work.tree.stat(path)
                    && !stat.is_dir()
                {
                    let hash = match self.state.manifest.get(path) {
                        Some(Entry::File { hash, .. }) if self.state.known.get(path) == Some(&stat) => {
                            Some(*hash)
                        }
                        _ => None,
                    };
                    self.state.seen.insert(path.clone(), Seen { stat, hash });
                }
            }
            self.state.manifest = want;
            self.state.known.learn(known, &self.state.manifest);
            crash_point().map_err(|e| self.failed("failed to write the state of", e))?;
            self.save_state()?;
        }
        let path = self.meta.join("journal");
        crash_point().map_err(|e| SyncError::io("failed to remove", &path, e))?;
        fs::remove_file(&path).map_err(|e| SyncError::io("failed to remove", &path, e))?;
        // What remains there is swept later.
        let _ = fs::remove_dir_all(&stage);
        Ok(())
    }
}

/// Refuses a manifest that no tree can have.
fn check_tree(manifest: &Manifest) -> Result<(), SyncError> {
    // Neighbours mostly share their directory.
    let mut last: &[u8] = b"";
    for path in manifest.keys() {
        let bytes = path.as_bytes();
        if let Some(slash) = bytes.iter().rposition(|b| *b == b'/')
            && bytes[..slash] != *last
        {
            last = &bytes[..slash];
            if !matches!(manifest.get_bytes(last), Some(Entry::Dir { .. })) {
                return Err(SyncError::Pack(format!("{path} lies in no directory")));
            }
        }
        if path.components().any(|c| c.eq_ignore_ascii_case(b".git")) {
            return Err(SyncError::Pack(format!("{path} lies in a .git")));
        }
    }
    Ok(())
}

/// The modification times that files get. `floor` is a time before which everything in the mirror was made; `rested` is one before which
/// all that commands made there was made, where that is known.
fn times(have: &Manifest, ops: &[Op], fresh: bool, now: i64, floor: i64, rested: Option<i64>) -> Vec<i64> {
    let theirs = |op: &Op| match op {
        Op::Put { mtime_ns, .. } | Op::Touch { mtime_ns, .. } => *mtime_ns,
        _ => 0,
    };
    if fresh {
        // A sender whose clock is ahead: all move back alike, so that their order and distances stay.
        let ahead = ops
            .iter()
            .map(theirs)
            .max()
            .map_or(0, |newest| (newest - now).max(0));
        return ops.iter().map(|op| theirs(op).saturating_sub(ahead)).collect();
    }
    let mut sorted: Vec<i64> = ops.iter().filter(|op| is_changed(have, op)).map(theirs).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let fits = |first: &i64, last: &i64| rested.is_some_and(|r| *first > r) && *last < now;
    let as_theirs = sorted.first().zip(sorted.last()).is_some_and(|(f, l)| fits(f, l));
    // A microsecond apart, in their order: what was made from another file stays younger than it. Many files come closer
    // together, so that none lies noticeably in the future.
    let step = (SPREAD_NS / (sorted.len() as i64).max(1)).clamp(1, 1000);
    // The clock may have been set back since the last build.
    let from = now.max(floor.saturating_add(1000));
    let rank = |t: i64| sorted.partition_point(|s| *s < t) as i64;
    ops.iter()
        .map(|op| {
            if is_changed(have, op) && as_theirs {
                theirs(op)
            } else if is_changed(have, op) {
                from + rank(theirs(op)) * step
            } else if let Op::Touch { mtime_ns, .. } = op {
                // Into the past, where what was synced first has the sender's times.
                (*mtime_ns).min(now)
            } else {
                KEEP
            }
        })
        .collect()
}

/// The new times of one sync lie within this much.
const SPREAD_NS: i64 = 2_000_000;

/// Only the mode changes: the node's own time stays.
const KEEP: i64 = i64::MIN;

fn is_dir(op: &Op) -> bool {
    matches!(
        op,
        Op::Put {
            entry: Entry::Dir { .. },
            ..
        }
    )
}

/// Whether make is to see it as new.
fn is_changed(have: &Manifest, op: &Op) -> bool {
    match op {
        Op::Put {
            path,
            entry: Entry::File { size, hash, .. },
            ..
        } => !matches!(have.get(path), Some(Entry::File { size: s, hash: h, .. }) if s == size && h == hash),
        Op::Put {
            entry: Entry::Dir { .. },
            mtime_ns,
            ..
        } => *mtime_ns != 0,
        Op::Touch { back, .. } => !back,
        _ => false,
    }
}

struct Work {
    tree: Beneath,
    opened: Opened,
}

impl Work {
    /// Makes one change, or finds it made. For files and links, the stat under which they are known from now on.
    fn make(&mut self, op: &Op, time: i64, stage: &Path, number: usize) -> io::Result<Option<Stat>> {
        let moved = match op {
            Op::Put {
                path,
                entry: Entry::Symlink { target },
                origin,
                mtime_ns,
                blob,
            } => self.tree.here(target).map(|target| Op::Put {
                path: path.clone(),
                entry: Entry::Symlink { target },
                origin: *origin,
                mtime_ns: *mtime_ns,
                blob: *blob,
            }),
            _ => None,
        };
        let op = moved.as_ref().unwrap_or(op);
        let path = op.path();
        let done = self
            .tree
            .place(path)
            .and_then(|place| make_at(&place, op, time, stage, number));
        let done = match done {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::ACCESS) => {
                self.opened.above(&mut self.tree, path)?;
                self.tree
                    .place(path)
                    .and_then(|place| make_at(&place, op, time, stage, number))
            }
            other => other,
        };
        let is_file = matches!(
            op,
            Op::Put {
                entry: Entry::File { .. },
                ..
            }
        );
        if !is_file {
            // Directories may have come, gone or been replaced.
            self.tree.forget();
        }
        match (op, done) {
            // Nothing there to delete.
            (Op::Delete { .. }, Err(e)) if beneath::is_absent(&e) => Ok(None),
            (_, done) => done,
        }
    }

    /// Gives a file another time. The stat under which it is known from now on, if it was known as it stood (`trusted`).
    fn touch(&mut self, path: &RelPath, time: i64, trusted: Option<Stat>) -> io::Result<Option<Stat>> {
        // It may have gone, or become something else, behind our back.
        let Some(before) = self.tree.stat(path)?.filter(Stat::is_file) else {
            return Ok(None);
        };
        let place = self.tree.place(path)?;
        set_mtime(&place, time)?;
        let now = place.stat()?.filter(|s| s.mtime_ns == time);
        let is_known = trusted == Some(before);
        Ok(now.map(|s| if is_known { s } else { s.untrusted() }))
    }

    /// Gives directories the modes and times that they are to have, deepest first.
    fn close(&mut self, ops: &[Op], times: &[i64]) -> io::Result<()> {
        self.opened.close(&mut self.tree);
        for (op, time) in ops.iter().zip(times).rev() {
            let Op::Put {
                path,
                entry: Entry::Dir { mode },
                mtime_ns,
                ..
            } = op
            else {
                continue;
            };
            let place = self.tree.place(path)?;
            let Some(stat) = place.stat()?.filter(Stat::is_dir) else {
                continue;
            };
            if stat.permissions() != *mode {
                place.chmod_dir(*mode)?;
            }
            if *mtime_ns != 0 && *time != KEEP {
                set_mtime(&place, *time)?;
            }
        }
        Ok(())
    }
}

/// Sets a time, which only the owner may: what a container left there as another user's keeps its own.
fn set_mtime(place: &Place<'_>, time: i64) -> io::Result<()> {
    match place.set_mtime(time) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

fn make_at(place: &Place<'_>, op: &Op, time: i64, stage: &Path, number: usize) -> io::Result<Option<Stat>> {
    let Op::Put { entry, blob, .. } = op else {
        if matches!(op, Op::Delete { .. }) {
            place.remove_all()?;
        }
        return Ok(None);
    };
    let there = place.stat()?;
    match entry {
        Entry::Dir { .. } => {
            if there.is_some_and(|s| s.is_dir()) {
                return Ok(None);
            }
            place.remove_all()?;
            place.make_dir()?;
            Ok(None)
        }
        Entry::Symlink { target } => {
            if there.is_some_and(|s| s.is_symlink()) && place.read_link()? == *target {
                return place.stat();
            }
            if there.is_some_and(|s| s.is_dir()) {
                place.remove_all()?;
            }
            let tmp = format!("{TMP_PREFIX}{number}");
            match place.unlink(tmp.as_bytes()) {
                Err(e) if !beneath::is_absent(&e) => return Err(e),
                _ => place.symlink(target, tmp.as_bytes())?,
            }
            place.rename_from(tmp.as_bytes(), true)?;
            place.stat()
        }
        Entry::File { mode, size, .. } => {
            let blob = Staged::blob(stage, *blob);
            match fs::OpenOptions::new().write(true).open(&blob) {
                Ok(file) => {
                    let time = match there {
                        Some(s) if time == KEEP && s.is_file() => s.mtime_ns,
                        _ if time == KEEP => now_ns(),
                        _ => time,
                    };
                    beneath::set_mtime(&file, time)?;
                    beneath::set_mode(&file, *mode)?;
                    if there.is_some_and(|s| s.is_dir()) {
                        place.remove_all()?;
                    }
                    place.rename_in(&blob, true)?;
                    // The rename changed its ctime. A run that wrote to it in between changed the time that was set.
                    let stat = place.stat()?;
                    Ok(stat.filter(|s| s.is_file() && s.size == *size && s.mtime_ns == time))
                }
                // An earlier try got as far as here; the next look at the tree reads it.
                Err(e) if e.kind() == io::ErrorKind::NotFound && there.is_some() => Ok(None),
                Err(e) => Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, mtime_ns: i64) -> Op {
        Op::Put {
            path: RelPath::new(name).unwrap(),
            entry: Entry::File {
                mode: 0o644,
                size: 1,
                hash: [mtime_ns as u8; 32],
            },
            origin: Origin::Synced,
            mtime_ns,
            blob: 0,
        }
    }

    #[test]
    fn times_keep_their_order_whatever_the_clocks_say() {
        const NOW: i64 = 1_000_000_000_000;
        let none = Manifest::new();
        let of = |fresh, floor, ops: &[Op]| times(&none, ops, fresh, NOW, floor, None);
        let ops = [put("object", NOW - 500), put("source", NOW - 100), put("old", 7)];
        assert_eq!(
            of(true, 0, &ops),
            [NOW - 500, NOW - 100, 7],
            "a fresh mirror has the sender's"
        );
        // A sender whose clock is ahead: the source is still newer than the object.
        let ahead = [
            put("object", NOW + 10_000),
            put("source", NOW + 60_000),
            put("old", 7),
        ];
        assert_eq!(of(true, 0, &ahead), [NOW - 50_000, NOW, 7 - 60_000]);
        // In a mirror in use everything that changes is newer than what was built there, even if the clock went back.
        let changed = of(false, NOW - 5, &ops);
        assert!(
            changed[2] >= NOW && changed[2] < changed[0] && changed[0] < changed[1],
            "{changed:?}"
        );
        let back = of(false, NOW + 1_000_000, &ops);
        assert!(back.iter().all(|t| *t > NOW + 1_000_000), "{back:?}");
        // Where nothing that was built is newer, they stay as they are: all, or none.
        let rested = |floor| times(&none, &ops, false, NOW, 0, Some(floor));
        assert_eq!(rested(6), [NOW - 500, NOW - 100, 7]);
        assert!(rested(7).iter().all(|t| *t >= NOW), "{:?}", rested(7));
        let early = times(&none, &ops, false, NOW - 100, 0, Some(6));
        assert!(early.iter().all(|t| *t >= NOW - 100), "{early:?}");
        let many: Vec<Op> = (0..5000).map(|i| put(&format!("f{i}"), i)).collect();
        let many = of(false, 0, &many);
        assert!(many.is_sorted_by(|a, b| a < b) && many[4999] - NOW <= SPREAD_NS);
    }
}
