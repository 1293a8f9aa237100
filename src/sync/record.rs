//! What this machine believes each mirror holds, one file per workspace and node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::beneath::Beneath;
use super::index;
use super::programs;
use super::scan::{Scan, is_at_or_below};
use super::stage::{Op, Origin, after};
use super::stat::Stat;
use super::times::Times;
use crate::plan::delta::{Delta, Touched};
use crate::plan::manifest::{Entry, Generation, Manifest, RelPath, differences, generation, with_generation};

/// Version of the files; one of another version counts as missing.
const VERSION: u32 = 6;

/// What a mirror holds, as far as known here. A wrong belief costs one more exchange: the node compares generations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorRecord {
    /// What the mirror holds; empty where nothing is known.
    #[serde(with = "with_generation")]
    pub manifest: Manifest,
    /// The times that its files and directories had here when both agreed on them.
    pub(crate) times: Times,
    /// Id of the repository that was last installed there, if any.
    pub repository: Option<[u8; 32]>,
    /// Outputs outside of the manifest that came from there, as they stood here then.
    pub(crate) delivered: BTreeMap<RelPath, Stat>,
    /// Programs of cargo's that were taken away there, as another one stood here then, or none.
    pub(crate) removed: BTreeMap<RelPath, Option<Stat>>,
    /// What went at the last sync only because the command named it.
    pub(crate) named: BTreeSet<RelPath>,
    /// Ignored paths that existed here and did not go, at the last sync.
    pub(crate) unsent: Vec<RelPath>,
    /// When the mirror held that, by its own count.
    pub(crate) sequence: i64,
    /// Where something else was agreed on last than what the mirror holds: other runs made that and did not bring it yet.
    pub(crate) ahead: BTreeMap<RelPath, Option<Entry>>,
    /// What came back lately: in which collection, and when it was put in place here (nanoseconds since the epoch).
    pub(crate) recent: BTreeMap<RelPath, (i64, i64)>,
}

/// How something that a mirror holds, and that does not travel any more, stands to what is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rests {
    /// It is what stands here.
    Same,
    /// Here stands something else by now, or nothing: a command there must not see it.
    Stale,
    /// Nothing was ever agreed on it.
    Unknown,
}

/// Programs of cargo's that do not go with a run, and are not what the mirror has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// What the mirror may have in their place is older, or newer, than what stands here: it must not be run in silence. And how it
    /// stands here.
    pub(crate) stale: Vec<(RelPath, Option<Stat>)>,
    /// If the run makes them, they come, whether the node had the same ones before or not.
    pub again: Vec<RelPath>,
}

/// What a sync did.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'s> {
    /// What the mirror held after it.
    pub manifest: &'s Manifest,
    /// The paths that went; `None` for all, where the mirror was made what stood here.
    pub only: Option<&'s Delta>,
    /// Paths of which nothing new was agreed: they stay there as they are, though the scan did not find them here.
    pub spared: &'s [RelPath],
    /// The scan that found what went.
    pub scan: &'s Scan,
    /// Orders it among the syncs and collections of this mirror.
    pub sequence: i64,
}

impl MirrorRecord {
    /// Whether runs other than this process's next one left the mirror ahead of what stands here.
    pub fn is_behind(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Of the outputs that came from there, those that are not at `root` any more as they came.
    pub fn missing_outputs(&self, root: &Path) -> Vec<RelPath> {
        let Ok(mut tree) = Beneath::open(root) else {
            return Vec::new();
        };
        let mut missing = Vec::new();
        for (path, stat) in &self.delivered {
            if tree.stat(path).ok().flatten() != Some(*stat) {
                missing.push(path.clone());
            }
        }
        missing
    }

    /// The outputs among `ops` that stand at `root`, but not as they came from there.
    pub fn not_delivered(&self, root: &Path, ops: &[Op]) -> Vec<RelPath> {
        let Ok(mut tree) = Beneath::open(root) else {
            return Vec::new();
        };
        let outputs = ops.iter().filter_map(|op| match op {
            Op::Put { path, origin, .. } if *origin != Origin::Synced => Some(path),
            _ => None,
        });
        let mut is_own = |p: &&RelPath| {
            let stat = tree.stat(p).ok().flatten();
            stat.is_some() && stat.as_ref() != self.delivered.get(*p)
        };
        outputs.filter(|p| is_own(p)).cloned().collect()
    }

    /// What existed at `root` at the last sync, did not go, and is gone: the mirror may have one of its own.
    pub fn vanished(&self, root: &Path) -> Vec<RelPath> {
        let Ok(mut tree) = Beneath::open(root) else {
            return Vec::new();
        };
        let gone = self.unsent.iter().filter(|p| matches!(tree.stat(p), Ok(None)));
        gone.cloned().collect()
    }

    /// How the programs of cargo's stand to those of the mirror, where a run will not get them from here.
    pub fn programs(&self, root: &Path, scan: &Scan) -> Programs {
        let mut programs = Programs::default();
        let goes: BTreeSet<&RelPath> = scan.named.iter().collect();
        let mut look = |path: &RelPath, stat: Option<Stat>| {
            if goes.contains(path) || (stat.is_some() && self.delivered.get(path) == stat.as_ref()) {
                return;
            }
            if stat.is_some() {
                programs.again.push(path.clone());
            }
            if self.removed.get(path) != Some(&stat) {
                programs.stale.push((path.clone(), stat));
            }
        };
        for (path, stat) in &scan.programs {
            look(path, Some(*stat));
        }
        let Ok(mut tree) = Beneath::open(root) else {
            return programs;
        };
        for (path, stat) in &self.delivered {
            if programs::is_program(path.name(), stat.mode) && matches!(tree.stat(path), Ok(None)) {
                look(path, None);
            }
        }
        programs
    }

    /// Of what goes by its name only (directories before what lies in them), what came from there or went there, and stands at
    /// `root` as it did then: if the mirror has it still, it need not go again.
    pub fn adoptable(&self, root: &Path, scan: &Scan) -> Vec<(RelPath, Entry)> {
        let Ok(mut tree) = Beneath::open(root) else {
            return Vec::new();
        };
        let mut adopt = BTreeMap::new();
        let mut add = |path: &RelPath| {
            if let Some(entry) = scan.manifest.get(path)
                && !self.manifest.contains_key(path)
            {
                adopt.insert(path.clone(), entry.clone());
            }
        };
        for path in &scan.named {
            let stat = tree.stat(path).ok().flatten().filter(Stat::is_file);
            if stat.is_some() && self.delivered.get(path) == stat.as_ref() {
                add(path);
                path.above().for_each(|dir| add(&dir));
            }
        }
        adopt.into_iter().collect()
    }

    /// Of what a mirror holds (`have`) and the scan does not send any more (over the limit by now, a secret since it is not tracked, named
    /// by an earlier command only): how it stands to what is at `root`.
    pub fn resting(&self, root: &Path, scan: &Scan, have: &Manifest) -> BTreeMap<RelPath, Rests> {
        let stays = scan.stays();
        let mut rests = BTreeMap::new();
        if stays.is_empty() && self.named.is_empty() {
            return rests;
        }
        let Ok(mut tree) = Beneath::open(root) else {
            return rests;
        };
        for (path, held, sent) in differences(have, &scan.manifest) {
            let counts = self.named.contains(path) || is_at_or_below(&stays, path.as_bytes());
            if let (Some(held), None) = (held, sent)
                && counts
            {
                rests.insert(path.clone(), self.rest(&mut tree, path, held));
            }
        }
        rests
    }

    fn rest(&self, tree: &mut Beneath, path: &RelPath, held: &Entry) -> Rests {
        let stat = tree.stat(path).ok().flatten();
        let same = match held {
            // It may hold a cache there.
            Entry::Dir { .. } if stat.is_none_or(|s| !s.is_dir()) => return Rests::Unknown,
            Entry::Dir { .. } => true,
            Entry::Symlink { target } => tree.read_link(path).is_ok_and(|t| t == *target),
            Entry::File { size, .. } => {
                // What a command made there and never came here is its own.
                let Some(time) = self.times.get(&self.manifest, path) else {
                    return Rests::Unknown;
                };
                let agreed = self.manifest.get(path) == Some(held);
                agreed && stat.is_some_and(|s| s.is_file() && s.size == *size && s.mtime_ns == time)
            }
        };
        if same { Rests::Same } else { Rests::Stale }
    }

    /// What the mirror holds only because this command or an earlier one named it, once it holds `manifest`.
    pub fn still_named(&self, scan: &Scan, manifest: &Manifest) -> BTreeSet<RelPath> {
        let stays = |p: &&RelPath| manifest.contains_key(p) && !scan.manifest.contains_key(p);
        let before = self.named.iter().filter(stays);
        before.chain(&scan.named).cloned().collect()
    }

    /// Notes what went only because it was named.
    pub fn note_named(&mut self, root: &Path, scan: &Scan, manifest: &Manifest) {
        self.named = self.still_named(scan, manifest);
        let Ok(mut tree) = Beneath::open(root) else { return };
        for path in &scan.named {
            if let Ok(Some(stat)) = tree.stat(path)
                && stat.is_file()
            {
                self.delivered.insert(path.clone(), stat);
            }
        }
    }

    /// Whether a file below `dir` is younger than `at_ns` and not as it came from there, or cannot be looked at.
    pub fn is_changed_below(&self, root: &Path, dir: &RelPath, at_ns: i64) -> bool {
        let Ok(mut tree) = Beneath::open(root) else {
            return true;
        };
        let mut dirs = vec![dir.clone()];
        while let Some(dir) = dirs.pop() {
            use std::os::unix::ffi::OsStrExt;
            let full = root.join(std::ffi::OsStr::from_bytes(dir.as_bytes()));
            let Ok(entries) = fs::read_dir(full) else {
                return true;
            };
            for entry in entries.flatten() {
                let path = [dir.as_bytes(), b"/", entry.file_name().as_bytes()].concat();
                let Some(path) = RelPath::new(path) else {
                    return true;
                };
                match tree.stat(&path) {
                    Ok(Some(stat)) if stat.is_dir() => dirs.push(path),
                    Ok(Some(stat)) => {
                        if stat.ctime_ns > at_ns && self.delivered.get(&path) != Some(&stat) {
                            return true;
                        }
                    }
                    Ok(None) => {}
                    Err(_) => return true,
                }
            }
        }
        false
    }

    /// Of `paths`, those for which something later than collection `sequence` was put in place here.
    pub fn superseded<'p>(
        &self,
        paths: impl Iterator<Item = &'p RelPath>,
        sequence: i64,
    ) -> BTreeSet<RelPath> {
        let is_later = |p: &&RelPath| self.recent.get(*p).is_some_and(|(s, _)| *s > sequence);
        paths.filter(is_later).cloned().collect()
    }

    /// What this machine and the mirror agreed on last at `path`: what stands here and is something else was changed here.
    pub fn agreed(&self, path: &RelPath) -> Option<&Entry> {
        match self.ahead.get(path) {
            Some(agreed) => agreed.as_ref(),
            None => self.manifest.get(path),
        }
    }

    /// Notes that this stands here and came from there, or went there.
    fn agree(&mut self, path: &RelPath, entry: Option<&Entry>) {
        if self.manifest.get(path) == entry {
            self.ahead.remove(path);
        } else {
            self.ahead.insert(path.clone(), entry.cloned());
        }
    }

    /// The mirror holds `manifest`, at `sequence`; nothing is agreed on by that.
    fn holds(&mut self, manifest: Manifest, sequence: i64) {
        if sequence <= self.sequence {
            return;
        }
        self.times = self.times.moved(&self.manifest, &manifest);
        let old = std::mem::replace(&mut self.manifest, manifest);
        for (path, before, _) in differences(&old, &self.manifest) {
            self.ahead.entry(path.clone()).or_insert_with(|| before.cloned());
        }
        let manifest = &self.manifest;
        self.ahead.retain(|p, agreed| manifest.get(p) != agreed.as_ref());
        self.sequence = sequence;
    }

    /// Notes a sync.
    pub fn sent(&mut self, sent: &Sent<'_>) {
        let Sent {
            manifest,
            sequence,
            scan,
            ..
        } = *sent;
        let mut times = scan.times.moved(&scan.manifest, manifest);
        if !scan.manifest.has_same_paths(manifest) {
            // What stays there as it is, and was not sent, was found unchanged.
            times = times.or(&self.times.moved(&self.manifest, manifest));
        }
        // What a later collection brought, or one that was put in place after the scan, is not what was found here then.
        let is_later = |(s, at): &(i64, i64)| *s > sequence || *at >= scan.began_ns;
        let is_plain = sent.only.is_none() && sent.spared.is_empty() && self.ahead.is_empty();
        if is_plain && sequence > self.sequence && !self.recent.values().any(is_later) {
            self.manifest = manifest.clone();
            self.times = times;
            self.sequence = sequence;
            return;
        }
        let spared: Vec<_> = sent.spared.iter().map(|p| (p, self.agreed(p).cloned())).collect();
        self.holds(manifest.clone(), sequence);
        let recent = &self.recent;
        let is_overtaken = |p: &RelPath| recent.get(p).is_some_and(is_later);
        let agreed: Vec<RelPath> = match sent.only {
            Some(d) => {
                let went = d.upserts.iter().chain(&d.deletions).chain(&d.forgets);
                went.filter(|p| !is_overtaken(p)).cloned().collect()
            }
            None => self.ahead.keys().filter(|p| !is_overtaken(p)).cloned().collect(),
        };
        let spared_paths: BTreeSet<&RelPath> = sent.spared.iter().collect();
        let went = |p: &RelPath| match sent.only {
            Some(d) => d.upserts.contains(p) || d.touches.contains_key(p),
            None => !spared_paths.contains(p),
        };
        let found = manifest.keys().filter(|p| went(p) && !is_overtaken(p));
        let found = found.filter_map(|p| Some((p, times.get(manifest, p)?)));
        self.times.set(&self.manifest, found);
        for path in agreed {
            self.agree(&path, manifest.get(&path));
        }
        for (path, agreed) in spared {
            self.agree(path, agreed.as_ref());
        }
    }

    /// Notes that the changes of collection `sequence` were put in place here, but for those that a later one had superseded.
    ///
    /// `times` are those that the changed paths, and the directories above them, have here now.
    pub fn brought(
        &mut self,
        ops: &[Op],
        times: &[(RelPath, i64)],
        superseded: &BTreeSet<RelPath>,
        sequence: i64,
    ) {
        // Collections overtake each other by the time that applying one takes.
        const LATELY_NS: i64 = 600_000_000_000;
        let now = super::now_ns();
        self.recent
            .retain(|_, (_, at)| now - *at < LATELY_NS && *at <= now);
        let ops: Vec<Op> = ops
            .iter()
            .filter(|op| !superseded.contains(op.path()))
            .cloned()
            .collect();
        if sequence > self.sequence {
            self.holds(after(&self.manifest, &ops), sequence);
        }
        let mine = after(&Manifest::new(), &ops);
        for op in &ops {
            let path = op.path();
            let is_apart = matches!(
                op,
                Op::Put {
                    origin: Origin::Apart,
                    ..
                }
            );
            if !is_apart && !matches!(op, Op::Touch { .. }) {
                self.agree(path, mine.get(path));
            }
            self.recent.insert(path.clone(), (sequence, now));
            self.removed.remove(path);
        }
        let times = times.iter().filter(|(p, _)| !superseded.contains(p));
        self.times.set(&self.manifest, times.map(|(p, t)| (p, *t)));
    }

    /// What has the same content in `scan`, in `there` and in what both agreed on, and got another time here since: files.
    /// Directories as well, in the second.
    pub fn touched(&self, scan: &Scan, there: &Manifest) -> (BTreeMap<RelPath, Touched>, BTreeSet<RelPath>) {
        let (mut files, mut dirs) = (BTreeMap::new(), BTreeSet::new());
        let found = (&scan.times, &scan.manifest);
        for (path, before, mtime_ns) in self.times.differences(&self.manifest, found) {
            let entry = scan.manifest.get(path);
            let is_overtaken = self.recent.get(path).is_some_and(|(_, at)| *at >= scan.began_ns);
            if is_overtaken || there.get(path) != entry {
                continue;
            }
            if matches!(entry, Some(Entry::Dir { .. })) {
                dirs.insert(path.clone());
            } else {
                let back = mtime_ns < before;
                files.insert(path.clone(), Touched { mtime_ns, back });
            }
        }
        (files, dirs)
    }

    /// What the mirror is to hold where other runs are live in it: what changed here since both agreed goes, everything else
    /// stays as it is `there`. What was put in place after the scan that found `here` had begun, at `began_ns`, is not as it was
    /// found any more, and nobody's change.
    pub fn beside_others(&self, here: &Manifest, there: &Manifest, began_ns: i64) -> Manifest {
        let mut changes: BTreeMap<RelPath, Option<Entry>> = BTreeMap::new();
        for (path, now, other) in differences(here, there) {
            let is_overtaken = self.recent.get(path).is_some_and(|(_, at)| *at >= began_ns);
            if now != self.agreed(path) && !is_overtaken {
                continue;
            }
            // What lies in it, or above it, changed here: that wins.
            let fits = match other {
                Some(_) => path.parent().is_none_or(|p| {
                    let wanted = changes.get(&p).map_or_else(|| here.get(&p), Option::as_ref);
                    matches!(wanted, Some(Entry::Dir { .. }))
                }),
                None => !matches!(now, Some(Entry::Dir { .. })),
            };
            if fits {
                changes.insert(path.clone(), other.cloned());
            }
        }
        here.with(changes)
    }

    /// The generation of what it holds.
    pub fn generation(&self) -> Generation {
        generation(&self.manifest)
    }
}

/// The directory of these records. Clones share the record that was read or written last, which a large tree's takes a while to
/// read.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
    last: Arc<Mutex<Option<Last>>>,
}

/// A record, the file it stands in, and that file's stat.
type Last = (PathBuf, Stat, MirrorRecord);

impl Records {
    /// The records in `dir`, which is made when the first one is written.
    pub fn new(dir: impl Into<PathBuf>) -> Records {
        Records {
            dir: dir.into(),
            last: Arc::default(),
        }
    }

    /// What is believed of the mirror of a workspace (by its key) on a node.
    pub fn load(&self, workspace: &str, node: &str) -> MirrorRecord {
        self.read(&self.file(workspace, node)).unwrap_or_default()
    }

    /// Whether the mirror of a workspace on a node is believed to hold anything. Only the beginning of the record is read.
    pub fn is_known(&self, workspace: &str, node: &str) -> bool {
        // The generation, and how many entries follow.
        let mut head = [0; 33];
        let head = index::peek(&self.file(workspace, node), VERSION, &mut head);
        head.is_some_and(|h| h.get(32).is_some_and(|entries| *entries != 0))
    }

    fn read(&self, path: &Path) -> Option<MirrorRecord> {
        // Each is a new file: what is written while it is read is the next one's.
        let stat = stat(path)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((p, s, record)) = &*last
            && p == path
            && *s == stat
        {
            return Some(record.clone());
        }
        let record: MirrorRecord = index::load(path, VERSION)?;
        *last = Some((path.to_owned(), stat, record.clone()));
        Some(record)
    }

    /// When the mirror of a workspace on a node was last used, if this machine knows of one.
    pub fn used(&self, workspace: &str, node: &str) -> Option<std::time::SystemTime> {
        fs::metadata(self.file(workspace, node))
            .and_then(|m| m.modified())
            .ok()
    }

    /// Changes a record while no other process can: `change` sees the newest one.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn update<T>(
        &self,
        workspace: &str,
        node: &str,
        change: impl FnOnce(&mut MirrorRecord) -> T,
    ) -> io::Result<T> {
        fs::DirBuilder::new().recursive(true).create(&self.dir)?;
        let path = self.file(workspace, node);
        let lock = File::create(path.with_extension("lock"))?;
        lock.lock()?;
        let old = self.read(&path);
        let mut new = old.clone().unwrap_or_default();
        let result = change(&mut new);
        if old.as_ref() != Some(&new) {
            index::save(&path, VERSION, &new)?;
            let last = stat(&path).map(|stat| (path, stat, new));
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        }
        Ok(result)
    }

    /// Forgets what is believed of any mirror on a node.
    ///
    /// # Errors
    /// Those of removing files.
    pub fn forget_node(&self, node: &str) -> io::Result<()> {
        let end = format!("-{}.mirror", key(node));
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(&end) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn file(&self, workspace: &str, node: &str) -> PathBuf {
        // Node names are whatever ssh resolves: not always names of files.
        self.dir
            .join(Path::new(&format!("{}-{}.mirror", key(workspace), key(node))))
    }
}

fn stat(path: &Path) -> Option<Stat> {
    rustix::fs::stat(path).ok().map(|s| Stat::new(&s))
}

fn key(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f() -> RelPath {
        RelPath::new("f").unwrap()
    }

    fn file(n: u8) -> Entry {
        Entry::File {
            mode: 0o644,
            size: 1,
            hash: [n; 32],
        }
    }

    /// A tree with one file, of content `n`; none for 0.
    fn tree(n: u8) -> Manifest {
        Manifest::from_iter((n > 0).then(|| (f(), file(n))))
    }

    fn sent(record: &mut MirrorRecord, n: u8, sequence: i64, began_ns: i64, spared: &[RelPath]) {
        let scan = Scan {
            began_ns,
            ..Scan::default()
        };
        record.sent(&Sent {
            manifest: &tree(n),
            only: None,
            spared,
            scan: &scan,
            sequence,
        });
    }

    /// What collection `sequence` brought is put in place and noted at a time after every scan of before.
    fn brought(record: &mut MirrorRecord, n: u8, sequence: i64) {
        let put = Op::Put {
            path: f(),
            entry: file(n),
            origin: Origin::Synced,
            mtime_ns: 0,
            blob: 0,
        };
        record.brought(&[put], &[], &BTreeSet::new(), sequence);
    }

    #[test]
    fn what_came_home_during_the_scan_is_no_change_made_here() {
        let mut record = MirrorRecord::default();
        sent(&mut record, 1, 1, 0, &[]);
        brought(&mut record, 2, 2);
        let after = crate::sync::now_ns() + 1;
        // Found before, and there is a newer one by now.
        assert_eq!(record.beside_others(&tree(1), &tree(3), 50), tree(3));
        // Found after: changed here.
        assert_eq!(record.beside_others(&tree(4), &tree(3), after), tree(4));
        assert_eq!(record.beside_others(&tree(2), &tree(3), after), tree(3));
    }

    #[test]
    fn a_sync_agrees_on_what_its_scan_found_and_on_nothing_younger() {
        let mut record = MirrorRecord::default();
        sent(&mut record, 1, 1, 0, &[]);
        brought(&mut record, 2, 2);
        // It took from there what it did not find here, as that came home only after its scan.
        sent(&mut record, 0, 3, 50, &[]);
        assert_eq!(record.agreed(&f()), Some(&file(2)));
        let after = crate::sync::now_ns() + 1;
        sent(&mut record, 3, 4, after, std::slice::from_ref(&f()));
        assert_eq!(record.agreed(&f()), Some(&file(2)), "it stays there unseen");
        sent(&mut record, 3, 5, after, &[]);
        assert_eq!(record.agreed(&f()), Some(&file(3)));
    }

    #[test]
    fn a_sync_that_is_noted_late_does_not_agree_on_what_others_made_since() {
        let mut record = MirrorRecord::default();
        record.sent(&Sent {
            manifest: &tree(1),
            only: Some(&Delta::default()),
            spared: &[],
            scan: &Scan::default(),
            sequence: 2,
        });
        sent(&mut record, 0, 1, 0, &[]);
        assert_eq!(record.manifest, tree(1));
        assert_eq!(record.agreed(&f()), None);
    }

    #[test]
    fn records_are_kept_apart_and_survive() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().join("new"));
        assert_eq!(records.load("w", "n"), MirrorRecord::default());
        let path = RelPath::new("a").unwrap();
        records
            .update("w", "n", |r| {
                r.manifest.insert(path.clone(), Entry::Dir { mode: 0o755 })
            })
            .unwrap();
        assert!(records.load("w", "n").manifest.contains_key(&path));
        assert!(records.is_known("w", "n") && !records.is_known("w", "m"));
        // Another process's change is seen by those who have read it before.
        let other = Records::new(dir.path().join("new"));
        other.update("w", "n", |r| r.sequence = 7).unwrap();
        assert_eq!(records.load("w", "n").sequence, 7);
        other.update("w", "empty", |r| r.sequence = 7).unwrap();
        assert!(!records.is_known("w", "empty"));
        assert_eq!(records.load("w", "../n"), MirrorRecord::default());
        records
            .update("w", "other/../n", |r| r.repository = Some([1; 32]))
            .unwrap();
        records.forget_node("n").unwrap();
        assert_eq!(records.load("w", "n"), MirrorRecord::default());
        assert_eq!(records.load("w", "other/../n").repository, Some([1; 32]));
    }
}
