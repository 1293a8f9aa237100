//! Puts in place here what a run changed on a node, as far as it may be.
//!
//! A local file is replaced or deleted only while it still is what was sent; otherwise the node's version is kept apart
//! and named. Each file appears in one step, under a temporary name in its directory before; a journal beside the
//! staged files lets [`recover`] finish what a killed process left.

mod dates;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use dates::{OfDir, is_dir, times};

use super::beneath::{self, Beneath, Opened, Place};
use super::known::is_protected;
use super::scan::{hash_file, is_at_or_below};
use super::stage::{Op, Origin, Staged, touched};
use super::stat::Stat;
use super::{SyncError, TMP_PREFIX, crash_point, index, is_full, now_ns, unique};
use crate::plan::manifest::{Entry, Hash, Manifest, RelPath};

/// Version of the journal.
const VERSION: u32 = 3;

/// What is known here of the run whose changes come back.
#[derive(Clone, Copy, Debug)]
pub struct BackContext<'a> {
    /// What the mirror held before the run, i.e. the local tree as it was sent.
    pub sent: &'a Manifest,
    /// Where this machine and the node have agreed on something else since: what another cx sent or brought is nobody's edit.
    pub agreed: &'a BTreeMap<RelPath, Option<Entry>>,
    /// Paths for which something newer came from the node already: passed by.
    pub superseded: &'a BTreeSet<RelPath>,
    /// Untracked secrets that were not sent: never touched.
    pub withheld: &'a [RelPath],
    /// What is ignored here, [`super::Scan::ignored`]: outputs, of which any number may go.
    pub ignored: &'a [RelPath],
    /// When the scan of the local tree began, [`super::Scan::began_ns`]: outputs that were not sent are replaced if the
    /// local ones are older.
    pub began_ns: i64,
    /// Where HEAD was when the tree was read, and where it is now. Where it moved, everything is kept apart.
    pub head: (Option<Hash>, Option<Hash>),
    /// The node's clock minus ours, milliseconds.
    pub clock_offset_ms: i64,
    /// Where versions are kept that cannot be put in place; made when needed.
    pub conflicts_dir: &'a Path,
}

/// What became of the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackReport {
    /// Files put in place.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Paths deleted here.
    pub deleted: u64,
    /// Paths that changed here too: the node's version is kept below the conflicts directory.
    pub conflicts: Vec<RelPath>,
    /// Paths that were deleted there and changed here: kept here.
    pub kept_deletions: Vec<RelPath>,
    /// Paths that were not touched because nothing from a node may change them, and why.
    pub refused: Vec<(RelPath, String)>,
    /// Paths at which this machine could not do what it should have, and why. What a node has there is below the conflicts directory.
    pub failed: Vec<(RelPath, String)>,
    /// What was deleted there and stays here: so much at once is not believed.
    pub undeleted: Vec<RelPath>,
    /// Outputs that stand here now as they are there.
    pub(crate) delivered: Vec<(RelPath, Stat)>,
    /// The times that what changed, and the directories above it, have here now.
    pub(crate) times: Vec<(RelPath, i64)>,
}

/// The journal: all that the commit needs, so that another process can finish it.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    root: Vec<u8>,
    conflicts_dir: Vec<u8>,
    began_ns: i64,
    head: Option<Hash>,
    head_moved: bool,
    clock_offset_ms: i64,
    ops: Vec<Op>,
    /// What was sent at the paths that change, and above them.
    sent: BTreeMap<RelPath, Entry>,
    /// What was agreed on there since, where that is something else.
    agreed: BTreeMap<RelPath, Option<Entry>>,
    /// Refused before anything was done.
    refused: Vec<(RelPath, String)>,
    /// Deletions that were not believed.
    undeleted: Vec<RelPath>,
    /// Marks the temporary files of this commit.
    mark: u64,
}

/// Fewer deletions of sources than this are always agreed.
const FEW_DELETIONS: usize = 100;

/// Puts the changes in place below `root`.
///
/// # Errors
/// A full disk, or another failure in the middle: every file is then whole, old or new, and calling [`recover`] later on the
/// stage directory's parent finishes the rest.
pub fn commit_local(
    root: &Path,
    mut staged: Staged,
    context: &BackContext<'_>,
) -> Result<BackReport, SyncError> {
    let withheld: BTreeSet<&RelPath> = context.withheld.iter().collect();
    let ignored: BTreeSet<&[u8]> = context.ignored.iter().map(RelPath::as_bytes).collect();
    let is_source = |path: &RelPath| !is_at_or_below(&ignored, path.as_bytes());
    let is_loss = |op: &Op| matches!(op, Op::Delete { path } if is_source(path));
    let lost = staged.ops().iter().filter(|op| is_loss(op)).count();
    let mass = lost > FEW_DELETIONS && lost > context.sent.keys().filter(|p| is_source(p)).count() / 2;
    let mut journal = Journal {
        root: root.as_os_str().as_bytes().to_vec(),
        conflicts_dir: context.conflicts_dir.as_os_str().as_bytes().to_vec(),
        began_ns: context.began_ns,
        head: context.head.0,
        head_moved: context.head.0 != context.head.1,
        clock_offset_ms: context.clock_offset_ms,
        ops: Vec::new(),
        sent: BTreeMap::new(),
        agreed: BTreeMap::new(),
        refused: Vec::new(),
        undeleted: Vec::new(),
        mark: unique(),
    };
    for op in staged.ops() {
        let path = op.path();
        if context.superseded.contains(path) {
            continue;
        }
        // Only a time: not worth a word.
        let only_time = match op {
            Op::Touch { .. } => true,
            Op::Put {
                entry: entry @ Entry::Dir { .. },
                ..
            } => context.sent.get(path) == Some(entry),
            _ => false,
        };
        if only_time && (is_protected(path.as_bytes()) || withheld.contains(path)) {
            continue;
        }
        let refusal = if is_protected(path.as_bytes()) {
            Some("nothing from a node is put there".to_owned())
        } else if withheld.contains(path) {
            Some("it holds secrets and was not sent".to_owned())
        } else {
            None
        };
        match refusal {
            None if mass && is_loss(op) => journal.undeleted.push(path.clone()),
            Some(reason) => journal.refused.push((path.clone(), reason)),
            None => journal.ops.push(op.clone()),
        }
    }
    for path in touched(&journal.ops) {
        if let Some(entry) = context.sent.get(&path) {
            journal.sent.insert(path.clone(), entry.clone());
        }
        if let Some(agreed) = context.agreed.get(&path) {
            journal.agreed.insert(path, agreed.clone());
        }
    }
    if journal.ops.is_empty() {
        return Ok(BackReport {
            refused: journal.refused,
            undeleted: journal.undeleted,
            ..BackReport::default()
        });
    }
    let dir = staged.dir().to_path_buf();
    // Held until the end, and before there is a journal: `recover` leaves a commit alone whose process lives.
    let lock = lock_stage(&dir).map_err(|e| SyncError::io("failed to lock", &dir, e))?;
    let path = dir.join(JOURNAL);
    index::save(&path, VERSION, &journal).map_err(|e| SyncError::io("failed to write", &path, e))?;
    staged.keep();
    let report = finish(&dir, &journal, false)?;
    drop(lock);
    Ok(report)
}

/// Name of the journal in a stage directory.
const JOURNAL: &str = "journal";

/// Finishes the commits below `stages` (the parent of stage directories) whose processes died, and discards what was
/// never committed and is older than a day. One report for each commit that was finished, with its workspace.
///
/// # Errors
/// The first failure; the others are tried all the same.
pub fn recover(stages: &Path) -> Result<Vec<(PathBuf, BackReport)>, SyncError> {
    const OLD: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
    let mut reports = Vec::new();
    let mut failed = None;
    for entry in fs::read_dir(stages).into_iter().flatten().flatten() {
        let dir = entry.path();
        let Some(mut journal) = index::load::<Journal>(&dir.join(JOURNAL), VERSION) else {
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|t| t.elapsed().ok());
            if age.is_some_and(|a| a > OLD) {
                let _ = fs::remove_dir_all(&dir);
            }
            continue;
        };
        match try_lock_stage(&dir) {
            // What happened here since the process died is not undone by what it left.
            Ok(Some(_lock)) => {
                let root = path_of(&journal.root).to_path_buf();
                journal.head_moved |= journal.head != super::head(&root);
                match finish(&dir, &journal, true) {
                    Ok(report) => reports.push((root, report)),
                    Err(e) => failed = failed.or(Some(e)),
                }
            }
            Ok(None) => {}
            Err(e) => failed = failed.or(Some(SyncError::io("failed to lock", &dir, e))),
        }
    }
    failed.map_or(Ok(reports), Err)
}

/// Whether the stage directory `dir` holds a commit that was begun and is to be finished by [`recover`].
pub fn is_half_done(dir: &Path) -> bool {
    dir.join(JOURNAL).exists()
}

fn lock_stage(dir: &Path) -> io::Result<fs::File> {
    let file = fs::File::create(dir.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn try_lock_stage(dir: &Path) -> io::Result<Option<fs::File>> {
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

/// Makes the journal's changes, the whole or (`again`) what a killed process left, and removes the stage directory.
fn finish(dir: &Path, journal: &Journal, again: bool) -> Result<BackReport, SyncError> {
    let root = path_of(&journal.root);
    let tree = Beneath::open(root).map_err(|e| SyncError::io("failed to open", root, e))?;
    let report = BackReport {
        refused: journal.refused.clone(),
        undeleted: journal.undeleted.clone(),
        ..BackReport::default()
    };
    let mut commit = Commit {
        tree,
        dir,
        journal,
        report,
        modes: Vec::new(),
        opened: Opened::default(),
        keep: BTreeSet::new(),
        young: BTreeSet::new(),
        replaced: BTreeMap::new(),
        times: times(&journal.ops, journal.clock_offset_ms, journal.began_ns),
        now: now_ns(),
    };
    commit.note_young();
    commit.see_what_stays();
    if again {
        commit.see_what_was_opened();
    }
    let done = if again { read_done(dir) } else { BTreeSet::new() };
    // Without it what was edited meanwhile is kept apart once too often.
    let mut note = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join(DONE))
        .ok();
    for (number, op) in journal.ops.iter().enumerate() {
        if done.contains(&(number as u32)) {
            continue;
        }
        let apart = commit.report.conflicts.len() + commit.report.kept_deletions.len();
        if again && let Ok(place) = commit.tree.place(op.path()) {
            let _ = place.unlink(&commit.tmp(number));
        }
        let made = crash_point().and_then(|()| match commit.make(op, number) {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::ACCESS) => {
                // What may be written there lies in a directory that may not.
                commit.opened.above(&mut commit.tree, op.path())?;
                commit.make(op, number)
            }
            other => other,
        });
        let is_apart = commit.report.conflicts.len() + commit.report.kept_deletions.len() > apart;
        // Directories get their modes and times at the very end.
        if made.is_ok()
            && !is_apart
            && !is_dir(op)
            && let Some(note) = &mut note
        {
            let _ = note.write_all(&(number as u32).to_le_bytes());
        }
        if let Err(e) = made {
            if is_full(&e) {
                return Err(SyncError::Full(root.to_path_buf()));
            }
            // The file itself is as it should be.
            if matches!(op, Op::Touch { .. }) {
                continue;
            }
            if commit.failed(op, &e).is_err_and(|e| is_full(&e)) {
                return Err(SyncError::Full(path_of(&journal.conflicts_dir).to_path_buf()));
            }
        }
    }
    commit.set_modes();
    commit.note_times();
    let report = commit.report;
    fs::remove_dir_all(dir).map_err(|e| SyncError::io("failed to remove", dir, e))?;
    Ok(report)
}

/// Name of the file beside the journal that says which of its changes are in place: numbers, four bytes each. What happens there
/// from then on is nothing that the rest of the commit has to do with.
const DONE: &str = "done";

fn read_done(dir: &Path) -> BTreeSet<u32> {
    let bytes = fs::read(dir.join(DONE)).unwrap_or_default();
    let number = |n: &[u8]| <[u8; 4]>::try_from(n).ok().map(u32::from_le_bytes);
    bytes.chunks_exact(4).filter_map(number).collect()
}

/// A path as it stands in a journal.
fn path_of(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

struct Commit<'a> {
    tree: Beneath,
    dir: &'a Path,
    journal: &'a Journal,
    report: BackReport,
    /// What directories get at the end.
    modes: Vec<(RelPath, OfDir)>,
    /// Directories that are made writable for as long as it takes.
    opened: Opened,
    /// Directories that became something else there and hold more here than what was sent: they stay, and all in them.
    keep: BTreeSet<RelPath>,
    /// Directories in which somebody worked here since the tree was read.
    young: BTreeSet<RelPath>,
    /// Outputs that this commit found old enough to be replaced, by inode: replacing one of a file's names touches the others.
    replaced: BTreeMap<u64, Stat>,
    /// The modification times that files get here, by those there.
    times: BTreeMap<i64, i64>,
    now: i64,
}

/// What may be done with a local path.
enum Leave {
    /// It already is as wanted.
    Done,
    /// It is what was sent, or was not there and is not here.
    Go,
    /// It changed here.
    Conflict,
}

impl Commit<'_> {
    fn make(&mut self, op: &Op, number: usize) -> io::Result<()> {
        match op {
            Op::Forget { .. } => Ok(()),
            Op::Delete { path } => self.delete(path),
            Op::Touch {
                path,
                entry,
                origin,
                mtime_ns,
                ..
            } => match self.tree.stat(path)? {
                // Something else stands here by now: that has its own time.
                Some(stat)
                    if !self.journal.head_moved
                        && self.entry(path, &stat, [Some(entry), None, None])?.as_ref() == Some(entry) =>
                {
                    self.touch(path, &stat, *mtime_ns)?;
                    self.note_delivered(path, *origin)
                }
                _ => Ok(()),
            },
            Op::Put {
                path,
                entry,
                origin,
                mtime_ns,
                blob,
            } => {
                let mut leave = self.leave(path, Some(entry), *origin);
                let no_way = |e: &io::Error| Errno::from_io_error(e) == Some(Errno::NOENT);
                // A directory above it became a link or a file here.
                let barred =
                    |e: &io::Error| matches!(Errno::from_io_error(e), Some(Errno::LOOP | Errno::NOTDIR));
                if leave.as_ref().is_err_and(no_way) && !self.journal.head_moved && self.make_way(path)? {
                    leave = self.leave(path, Some(entry), *origin);
                }
                let leave = match leave {
                    // Its directory was deleted here in the meantime.
                    Err(e) if no_way(&e) || barred(&e) => Leave::Conflict,
                    other => other?,
                };
                let leave = if self.keep.contains(path) {
                    Leave::Conflict
                } else {
                    leave
                };
                let is_conflict = matches!(leave, Leave::Conflict);
                let made = match (leave, entry) {
                    (Leave::Done, _) if self.journal.head_moved => Ok(()),
                    (Leave::Done, Entry::Dir { .. }) => {
                        let (mode, mtime_ns) = (None, *mtime_ns);
                        self.modes.push((path.clone(), OfDir { mode, mtime_ns }));
                        Ok(())
                    }
                    (Leave::Done, Entry::File { .. }) => match self.tree.stat(path)? {
                        Some(stat) => self.touch(path, &stat, *mtime_ns),
                        None => Ok(()),
                    },
                    (Leave::Done, Entry::Symlink { .. }) => Ok(()),
                    (Leave::Go, Entry::Dir { mode }) => self.put_dir(path, *mode, *mtime_ns),
                    (Leave::Go, Entry::Symlink { target }) => self.put_link(path, target, number),
                    (Leave::Go, Entry::File { mode, size, .. }) => {
                        self.put_file(path, *mode, *mtime_ns, *blob, number)?;
                        self.report.files += 1;
                        self.report.bytes += size;
                        Ok(())
                    }
                    // A directory's mode is nothing to keep apart.
                    (Leave::Conflict, Entry::Dir { .. }) => Ok(()),
                    (Leave::Conflict, _) => {
                        self.keep_apart(path, entry, *blob)?;
                        self.report.conflicts.push(path.clone());
                        Ok(())
                    }
                };
                made?;
                if !is_conflict && matches!(entry, Entry::File { .. }) {
                    self.note_delivered(path, *origin)?;
                }
                Ok(())
            }
        }
    }

    /// Notes how an output that is not synced stands here now.
    fn note_delivered(&mut self, path: &RelPath, origin: Origin) -> io::Result<()> {
        if origin != Origin::Synced
            && let Some(stat) = self.tree.stat(path)?
        {
            self.report.delivered.push((path.clone(), stat));
        }
        Ok(())
    }

    /// Makes the directories above `path` that are missing because another run made them there, and what that one brings is not
    /// in place yet; whether all of them stand now. One that was here was deleted here since, and stays so.
    fn make_way(&mut self, path: &RelPath) -> io::Result<bool> {
        let above: Vec<RelPath> = path.above().collect();
        for dir in above.iter().rev() {
            if self.tree.stat(dir)?.is_some() {
                continue;
            }
            let was_here = match self.journal.agreed.get(dir) {
                Some(agreed) => agreed.is_some(),
                None => self.journal.sent.contains_key(dir),
            };
            if was_here {
                return Ok(false);
            }
            self.put_dir(dir, 0o755, 0)?;
        }
        Ok(true)
    }

    /// Compares what stands here with what was sent.
    fn leave(&mut self, path: &RelPath, wanted: Option<&Entry>, origin: Origin) -> io::Result<Leave> {
        let sent = self.journal.sent.get(path);
        let agreed = self.journal.agreed.get(path);
        let stat = self.tree.place(path)?.stat()?;
        let Some(stat) = stat else {
            return Ok(match (sent, wanted) {
                (_, None) => Leave::Done,
                (None, Some(_)) if !self.journal.head_moved => Leave::Go,
                // Another cx took it away, as its run had done.
                (Some(_), Some(_)) if !self.journal.head_moved && agreed == Some(&None) => Leave::Go,
                // Deleted here while it changed there.
                _ => Leave::Conflict,
            });
        };
        // There is to be nothing here, for all that both know.
        let is_own = agreed == Some(&None);
        let agreed = agreed.and_then(Option::as_ref);
        let here = self.entry(path, &stat, [sent, agreed, wanted])?;
        if here.is_some() && here.as_ref() == wanted {
            return Ok(Leave::Done);
        }
        if self.journal.head_moved {
            return Ok(Leave::Conflict);
        }
        match (sent, here, wanted) {
            (Some(sent), Some(here), _) if *sent == here => Ok(Leave::Go),
            // Another cx sent or brought it.
            (_, Some(here), _) if agreed == Some(&here) => Ok(Leave::Go),
            // A directory that stands already; only its mode differs.
            (_, Some(Entry::Dir { .. }), Some(Entry::Dir { .. })) => Ok(Leave::Done),
            // An output that was not sent, and that nobody touched here during the run.
            (None, Some(Entry::File { .. } | Entry::Symlink { .. }), Some(_))
                if origin != Origin::Synced && !is_own && self.is_old(&stat) =>
            {
                Ok(Leave::Go)
            }
            _ => Ok(Leave::Conflict),
        }
    }

    /// Whether nobody touched this output since the tree was read.
    fn is_old(&mut self, stat: &Stat) -> bool {
        let replaced = self.replaced.get(&stat.inode);
        let ctime_ns = stat.ctime_ns;
        if replaced.is_some_and(|r| Stat { ctime_ns, ..*r } == *stat) {
            return true;
        }
        let is_settled = stat.is_settled(self.journal.began_ns);
        if is_settled {
            self.replaced.insert(stat.inode, *stat);
        }
        is_settled
    }

    /// What stands here. A file is read only if it can be one of `candidates`; otherwise its hash is left zero.
    fn entry(
        &mut self,
        path: &RelPath,
        stat: &Stat,
        candidates: [Option<&Entry>; 3],
    ) -> io::Result<Option<Entry>> {
        if stat.is_dir() {
            return Ok(Some(Entry::Dir {
                mode: stat.permissions(),
            }));
        }
        if stat.is_symlink() {
            return Ok(Some(Entry::Symlink {
                target: self.tree.read_link(path)?,
            }));
        }
        if !stat.is_file() {
            return Ok(None);
        }
        let can_be = |e: &&Entry| matches!(e, Entry::File { size, .. } if *size == stat.size);
        if !candidates.into_iter().flatten().any(|e| can_be(&e)) {
            return Ok(Some(Entry::File {
                mode: stat.permissions(),
                size: stat.size,
                hash: [0; 32],
            }));
        }
        let (stat, hash) = hash_file(&mut self.tree, path)?;
        Ok(Some(Entry::File {
            mode: stat.permissions(),
            size: stat.size,
            hash,
        }))
    }

    /// Finds the directories that a file or link is to replace, and that hold what was not sent, or changed here.
    fn see_what_stays(&mut self) {
        for op in &self.journal.ops {
            let Op::Put { path, .. } = op else { continue };
            if !is_dir(op) && matches!(self.tree.stat(path), Ok(Some(s)) if s.is_dir()) && !self.may_go(path)
            {
                self.keep.insert(path.clone());
            }
        }
    }

    /// Whether all that a directory here holds is as it was sent.
    fn may_go(&mut self, dir: &RelPath) -> bool {
        let Ok(entries) = fs::read_dir(self.tree.display(dir)) else {
            return false;
        };
        entries.into_iter().all(|entry| {
            let path = entry
                .ok()
                .and_then(|e| RelPath::below(Some(dir), e.file_name().as_bytes()));
            let Some(path) = path else { return false };
            let is_dir = matches!(self.tree.stat(&path), Ok(Some(s)) if s.is_dir());
            let was_dir = matches!(self.journal.sent.get(&path), Some(Entry::Dir { .. }));
            match is_dir {
                true => was_dir && self.may_go(&path),
                false => matches!(
                    self.leave(&path, None, Origin::Synced),
                    Ok(Leave::Go | Leave::Done)
                ),
            }
        })
    }

    /// Finds the directories that a killed process had made writable and could not close again.
    fn see_what_was_opened(&mut self) {
        for (path, entry) in &self.journal.sent {
            if let Entry::Dir { mode } = entry
                && mode & 0o700 != 0o700
                && matches!(self.tree.stat(path), Ok(Some(s)) if s.is_dir() && s.permissions() == mode | 0o700)
            {
                let of = OfDir {
                    mode: Some(*mode),
                    mtime_ns: i64::MIN,
                };
                self.modes.push((path.clone(), of));
            }
        }
    }

    /// Notes a change that could not be made; what the node has there is kept apart.
    fn failed(&mut self, op: &Op, e: &io::Error) -> io::Result<()> {
        self.report.failed.push((op.path().clone(), e.to_string()));
        match op {
            Op::Put {
                path, entry, blob, ..
            } if !matches!(entry, Entry::Dir { .. }) => self.keep_apart(path, entry, *blob),
            _ => Ok(()),
        }
    }

    fn delete(&mut self, path: &RelPath) -> io::Result<()> {
        if path.above().chain([path.clone()]).any(|p| self.keep.contains(&p)) {
            return Ok(());
        }
        let leave = match self.leave(path, None, Origin::Synced) {
            Err(e) if beneath::is_absent(&e) => return Ok(()),
            other => other?,
        };
        match leave {
            Leave::Done => Ok(()),
            Leave::Go => {
                let place = self.tree.place(path)?;
                if place.stat()?.is_some_and(|s| s.is_dir()) {
                    let removed = place.remove_dir();
                    self.tree.forget();
                    match removed {
                        // It holds what was not sent.
                        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
                        other => other?,
                    }
                } else {
                    place.unlink(place.name)?;
                }
                self.report.deleted += 1;
                Ok(())
            }
            Leave::Conflict => {
                // A directory that only got another mode or content here is nobody's conflict.
                if !matches!(self.journal.sent.get(path), Some(Entry::Dir { .. })) {
                    self.report.kept_deletions.push(path.clone());
                }
                Ok(())
            }
        }
    }

    fn put_dir(&mut self, path: &RelPath, mode: u32, mtime_ns: i64) -> io::Result<()> {
        let place = self.tree.place(path)?;
        match place.stat()? {
            Some(s) if s.is_dir() => {}
            Some(_) => {
                place.unlink(place.name)?;
                place.make_dir()?;
                place.chmod_dir(mode | 0o700)?;
            }
            None => {
                place.make_dir()?;
                place.chmod_dir(mode | 0o700)?;
            }
        }
        self.tree.forget();
        let mode = Some(mode);
        self.modes.push((path.clone(), OfDir { mode, mtime_ns }));
        Ok(())
    }

    fn tmp(&self, number: usize) -> Vec<u8> {
        format!("{TMP_PREFIX}{:016x}-{number}", self.journal.mark).into_bytes()
    }

    fn put_link(&mut self, path: &RelPath, target: &[u8], number: usize) -> io::Result<()> {
        let tmp = self.tmp(number);
        let place = self.tree.place(path)?;
        remove_tmp(&place, &tmp)?;
        place.symlink(target, &tmp)?;
        self.show(path, &tmp)
    }

    fn put_file(
        &mut self,
        path: &RelPath,
        mode: u32,
        mtime_ns: i64,
        blob: u32,
        number: usize,
    ) -> io::Result<()> {
        let tmp = self.tmp(number);
        let place = self.tree.place(path)?;
        remove_tmp(&place, &tmp)?;
        let from = Staged::blob(self.dir, blob);
        let mtime = self.times.get(&mtime_ns).copied().unwrap_or(self.now);
        let made = || -> io::Result<()> {
            let mut to = place.create(&tmp, 0o600)?;
            let mut from = fs::File::open(&from)?;
            beneath::copy(&mut from, &mut to)?;
            beneath::set_mode(&to, mode)?;
            beneath::set_mtime(&to, mtime)
        };
        match made() {
            Ok(()) => {
                crash_point()?;
                self.show(path, &tmp)
            }
            Err(e) => {
                let _ = place.unlink(&tmp);
                Err(e)
            }
        }
    }

    /// Gives the temporary file its name.
    fn show(&mut self, path: &RelPath, tmp: &[u8]) -> io::Result<()> {
        let place = self.tree.place(path)?;
        let there = place.stat()?;
        if there.is_some_and(|s| s.is_dir()) {
            // Whatever was sent in it was deleted before; what else it holds keeps it.
            let removed = place.remove_dir();
            self.tree.forget();
            if let Err(e) = removed {
                place.unlink(tmp)?;
                return Err(e);
            }
        }
        place.rename_from(tmp, there.is_some()).inspect_err(|_| {
            let _ = place.unlink(tmp);
        })
    }

    /// Keeps the node's version of a path below the conflicts directory.
    fn keep_apart(&mut self, path: &RelPath, entry: &Entry, blob: u32) -> io::Result<()> {
        let base = path_of(&self.journal.conflicts_dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(base)?;
        // A link that is kept there leads no other path out.
        let mut kept = Beneath::open(base)?;
        let above: Vec<RelPath> = path.above().collect();
        for dir in above.iter().rev() {
            let place = kept.place(dir)?;
            if place.stat()?.is_none() {
                place.make_dir()?;
            }
        }
        let place = kept.place(path)?;
        let tmp = format!("{TMP_PREFIX}{:016x}", self.journal.mark).into_bytes();
        remove_tmp(&place, &tmp)?;
        match entry {
            Entry::Symlink { target } => place.symlink(target, &tmp)?,
            Entry::File { mode, .. } => {
                let mut file = place.create(&tmp, 0o600)?;
                beneath::copy(&mut fs::File::open(Staged::blob(self.dir, blob))?, &mut file)?;
                // Its own, for who takes it: nobody else gets into the directory above.
                beneath::set_mode(&file, *mode | 0o400)?;
            }
            Entry::Dir { .. } => return Ok(()),
        }
        place.rename_from(&tmp, true)
    }
}

fn remove_tmp(place: &Place<'_>, tmp: &[u8]) -> io::Result<()> {
    match place.unlink(tmp) {
        Err(e) if !beneath::is_absent(&e) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
