//! The copy of a workspace on a node.
//!
//! ```text
//! BASE/mirrors/CLIENT/WORKSPACE/tree/NAME/    the tree itself
//!                               meta/state    what it held when cx last applied or collected
//!                               meta/newest   when it last collected, if only that changed
//!                               meta/journal  changes that are being applied
//!                               meta/stage/   packs that were received
//!                               meta/lock     held while applying and collecting
//!                               meta/users    held, shared, by every run
//!                               meta/open     a run came after `rested`; one byte for each but the first
//!                               meta/stray    what a run made that was not collected was found, and is to be put right by the next sync
//!                               meta/rested   when the last run had ended, with nothing left of it
//!                               meta/setup/   marks of the set-up steps that were done
//!                               meta/ending   held, shared, by runs that others must wait for: being ended since their caller is gone, or being collected
//!                               meta/owed/ID  a run whose changes could not be collected (a full disk)
//!                               meta/standing where the tree stands instead, if not here
//!                               meta/links    the client's path, where commands see the tree at another: links into it are told by it
//!                               meta/rules    ignore rules from outside the tree, as of the last check
//! ```
//!
//! Applying is all or nothing: the journal names every change before the first is made, and whoever opens the mirror
//! next finishes what a crash left. Runs share a mirror as they would share the tree; each method locks for itself.

mod apply;
mod collect;
mod outputs;
mod standing;
mod stats;
mod survey;
mod users;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::beneath::{Beneath, Relocated};
use super::gitmeta;
use super::index;
use super::stat::Stat;
use super::{SyncError, now_ns, unique};
use crate::plan::manifest::{Entry, Generation, Hash, Manifest, RelPath, generation};
use crate::proto::{BackSpec, MirrorKey};

use stats::Stats;

pub use collect::Collected;
pub use users::RunGuard;

/// Version of the state and the journal; those of another version count as missing.
const VERSION: u32 = 4;

/// A mirror.
#[derive(Debug)]
pub struct Mirror {
    key: MirrorKey,
    root: PathBuf,
    meta: PathBuf,
    state: State,
    /// How links into the tree are told, where commands do not see it at the client's path.
    links: Option<Arc<Relocated>>,
    /// The stat of the state file from which `state` was read.
    loaded: Option<Stat>,
    /// Whether the tree is to be watched from [`Mirror::check`] to [`Mirror::collect`].
    wanted: bool,
    /// The tree as it was found then, while nobody else has changed the state.
    watched: Option<survey::Watched>,
    /// No command had made anything there since this time, by this machine's clock, when this process's run came.
    rested: Option<i64>,
}

/// What the tree held when cx last looked.
#[derive(Debug, Default)]
struct State {
    /// What client and mirror agree on.
    manifest: Manifest,
    /// Stats of the files and links in the manifest, as far as they can be trusted.
    known: Stats,
    /// Ignored files outside of the manifest that were already reported.
    seen: BTreeMap<RelPath, Seen>,
    /// The latest time, by this machine's clock, at which cx collected or applied: what was built before is not newer.
    newest_ns: i64,
    /// The repository that was put in, as its files stood then.
    repository: Option<Vec<(String, u64, i64)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    stat: Stat,
    /// Of those that came back.
    hash: Option<Hash>,
}

/// Whether a mirror is where the client believes it to be.
#[derive(Debug)]
pub enum Check {
    /// It is.
    At,
    /// It holds this instead.
    Differs(Manifest),
}

/// Nobody else applies or collects while this lives.
#[derive(Debug)]
pub struct MirrorLock(#[expect(dead_code, reason = "held for its lock")] File);

impl Mirror {
    /// Opens the mirror of `key` below `base`, making it where there is none, and finishes what a crash left undone.
    ///
    /// # Errors
    /// [`SyncError::Key`] for a key that is not made of plain names.
    pub fn open(base: &Path, key: &MirrorKey) -> Result<Mirror, SyncError> {
        let top = top_of(base, key)?;
        let meta = top.join("meta");
        let root = standing::root(&meta, top.join("tree").join(&key.name));
        for dir in [&root, &meta.join("stage")] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|e| SyncError::io("failed to create", dir, e))?;
        }
        let mut mirror = Mirror {
            key: key.clone(),
            links: standing::links(&meta, &root),
            root,
            meta,
            state: State::default(),
            loaded: None,
            wanted: false,
            watched: None,
            rested: None,
        };
        let lock = mirror
            .lock()
            .map_err(|e| SyncError::io("failed to lock", &mirror.meta, e))?;
        mirror.refresh()?;
        mirror.sweep();
        drop(lock);
        Ok(mirror)
    }

    /// The mirror of `key`, if there is one, looked at and watched since, so that the next [`Mirror::check`] finds what there is to
    /// find in little time. The rules that lie outside the tree are taken to be those of the last check; with others, that looks
    /// at all again. `None` also where anything is in the way.
    pub fn prepared(base: &Path, key: &MirrorKey) -> Option<Mirror> {
        let rules = fs::read(top_of(base, key).ok()?.join("meta/rules")).ok()?;
        let back = BackSpec {
            extra_ignore: postcard::from_bytes(&rules).ok()?,
            ..BackSpec::default()
        };
        let mut mirror = Mirror::open(base, key).ok()?;
        mirror.watch();
        let lock = mirror.locked().ok()?;
        mirror.refresh().ok()?;
        // What is still to be collected must not be taken for known.
        if !mirror.is_idle().ok()? || !mirror.owed().is_empty() {
            return None;
        }
        mirror.mend(&back).ok()?;
        drop(lock);
        Some(mirror)
    }

    /// Whether it is the mirror of `key`, where that is to be found by now.
    pub fn is_of(&self, key: &MirrorKey) -> bool {
        let usual = self.top().join("tree").join(&key.name);
        let is_there = self.root.is_dir() && self.meta.join("stage").is_dir();
        is_there && self.key == *key && standing::root(&self.meta, usual) == self.root
    }

    /// Remembers the rules of a check for [`Mirror::prepared`].
    fn note_rules(&self, rules: &[Vec<u8>]) {
        let path = self.meta.join("rules");
        let bytes = postcard::to_stdvec(rules).unwrap_or_default();
        if fs::read(&path).ok().as_ref() != Some(&bytes) {
            // Without it only time is lost.
            let _ = super::write_atomic(&path, &bytes);
        }
    }

    /// The tree itself: the directory that stands for the workspace.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Waits until nobody else applies or collects. The other methods do this by themselves; calling one while holding
    /// the lock in the same process would wait forever.
    ///
    /// # Errors
    /// Those of opening the lock file.
    pub fn lock(&self) -> io::Result<MirrorLock> {
        let file = open_lock(&self.meta.join("lock"))?;
        file.lock()?;
        Ok(MirrorLock(file))
    }

    /// Lets the next [`Mirror::check`] go on watching the tree where it can, so that [`Mirror::collect`] need not look at all of it
    /// again.
    pub fn watch(&mut self) {
        self.wanted = true;
    }

    /// Something may have changed the tree without being noticed.
    pub fn look_at_all(&mut self) {
        self.watched = None;
    }

    /// Lets runs that come wait, for as long as the guard lives, for one that is being ended since its caller is gone, or that is being
    /// collected: what it left half made, or made for nobody any more, is not theirs to see.
    ///
    /// # Errors
    /// Those of opening the lock file.
    pub fn ending(&self) -> io::Result<RunGuard> {
        let file = open_lock(&self.meta.join("ending"))?;
        file.lock_shared()?;
        Ok(RunGuard(file))
    }

    /// Waits until there is no guard of [`Mirror::ending`], but not for longer than `limit`.
    pub fn await_endings(&self, limit: Duration) {
        let begun = Instant::now();
        let Ok(file) = open_lock(&self.meta.join("ending")) else {
            return;
        };
        while file.try_lock().is_err() && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether no run uses the mirror.
    ///
    /// # Errors
    /// Those of opening the lock file.
    pub fn is_idle(&self) -> io::Result<bool> {
        let file = open_lock(&self.meta.join("users"))?;
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    /// Notes that what the run `id` changed is still to be collected.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn owe(&self, id: &str) -> io::Result<()> {
        let dir = self.meta.join("owed");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        File::create(dir.join(id)).map(drop)
    }

    /// The runs whose changes are still to be collected.
    pub fn owed(&self) -> Vec<String> {
        let entries = fs::read_dir(self.meta.join("owed"))
            .into_iter()
            .flatten()
            .flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }

    /// What the run `id` changed was collected, or is not to be had any more.
    pub fn paid(&self, id: &str) {
        let _ = fs::remove_file(self.meta.join("owed").join(id));
    }

    /// Orders what was applied to and collected from this mirror: the number of the last time by this process.
    pub fn sequence(&self) -> i64 {
        self.state.newest_ns
    }

    /// A new path at which a pack can be staged for this mirror.
    pub fn stage_dir(&self) -> PathBuf {
        self.meta.join("stage").join(format!("{:016x}", unique()))
    }

    /// Where marks of set-up steps are kept.
    pub fn setup_dir(&self) -> PathBuf {
        self.meta.join("setup")
    }

    /// Compares the mirror with what the client expects.
    ///
    /// Where no run is live in it, the tree itself is looked at first: what changed behind cx's back is then part of the
    /// answer, so that the client mends it. What of the caches is to be `adopt`ed, directories before what lies in them, is part
    /// of the manifest from now on if all of it stands there as the client says.
    ///
    /// # Errors
    /// Those of reading the tree.
    pub fn check(
        &mut self,
        expected: Generation,
        adopt: &[(RelPath, Entry)],
        back: &BackSpec,
    ) -> Result<Check, SyncError> {
        let _lock = self.locked()?;
        self.refresh()?;
        self.adopt(adopt)?;
        if self.is_idle().map_err(|e| self.failed("failed to lock", e))? {
            self.mend(back)?;
        } else {
            self.watched = None;
        }
        self.note_rules(&back.extra_ignore);
        // A touch for `last_used`; only an estimate hangs on it.
        let _ = File::create(self.meta.join("used"));
        let damaged =
            self.state.repository.is_some() && self.state.repository != gitmeta::signature(&self.root);
        if damaged {
            // Whoever gets a manifest sends the repository, too.
            self.state.repository = None;
            self.save_state()?;
        }
        if generation(&self.state.manifest) == expected && !damaged {
            Ok(Check::At)
        } else {
            Ok(Check::Differs(self.state.manifest.clone()))
        }
    }

    /// Bytes that the mirror takes on disk, caches included.
    pub fn size(&self) -> u64 {
        let apart = if self.stands_apart() {
            disk_use(&self.root)
        } else {
            0
        };
        disk_use(self.top()) + apart
    }

    /// When it was last checked by a client.
    pub fn last_used(&self) -> Option<SystemTime> {
        fs::metadata(self.meta.join("used"))
            .and_then(|m| m.modified())
            .ok()
    }

    /// Removes the mirror unless a run uses it; whether it did, and the bytes freed.
    ///
    /// # Errors
    /// Those of removing.
    pub fn remove(self) -> Result<Option<u64>, SyncError> {
        let _lock = self.locked()?;
        let users = open_lock(&self.meta.join("users")).map_err(|e| self.failed("failed to lock", e))?;
        if users.try_lock().is_err() {
            return Ok(None);
        }
        let bytes = self.size();
        self.clear_apart()?;
        let gone = Beneath::open(self.top().parent().unwrap_or(Path::new("/"))).and_then(|mut parent| {
            let name = self.top().file_name().unwrap_or_default();
            let path = RelPath::new(std::os::unix::ffi::OsStrExt::as_bytes(name));
            parent.place(&path.expect("made of a plain name"))?.remove_all()
        });
        gone.map_err(|e| self.failed("failed to remove", e))?;
        Ok(Some(bytes))
    }

    fn top(&self) -> &Path {
        self.meta.parent().unwrap_or(&self.meta)
    }

    fn locked(&self) -> Result<MirrorLock, SyncError> {
        self.lock().map_err(|e| self.failed("failed to lock", e))
    }

    fn failed(&self, what: &'static str, e: io::Error) -> SyncError {
        SyncError::io(what, &self.root, e)
    }

    fn tree(&self) -> Result<Beneath, SyncError> {
        let tree = Beneath::open(&self.root).map_err(|e| self.failed("failed to open", e))?;
        Ok(tree.relocated(self.links.clone()))
    }

    /// Reads the state if another process wrote a newer one, and finishes a journal. Needs the lock.
    fn refresh(&mut self) -> Result<(), SyncError> {
        let path = self.meta.join("state");
        let now = rustix::fs::stat(&path).ok().map(|s| Stat::new(&s));
        if now.is_none() || now != self.loaded {
            self.state = index::load(&path, VERSION).unwrap_or_default();
            self.loaded = now;
            self.watched = None;
        }
        if let Some(newest) = self.time_in("newest") {
            self.state.newest_ns = self.state.newest_ns.max(newest);
        }
        self.roll_forward()
    }

    fn time_in(&self, name: &str) -> Option<i64> {
        let bytes = fs::read(self.meta.join(name)).ok()?;
        bytes.try_into().ok().map(i64::from_le_bytes)
    }

    /// Notes the time where the rest of the state is as it was.
    fn save_time(&mut self) -> Result<(), SyncError> {
        let path = self.meta.join("newest");
        self.state.newest_ns = (self.state.newest_ns + 1).max(now_ns());
        super::write_atomic(&path, &self.state.newest_ns.to_le_bytes())
            .map_err(|e| SyncError::io("failed to write", &path, e))
    }

    fn save_state(&mut self) -> Result<(), SyncError> {
        let path = self.meta.join("state");
        self.state.newest_ns = (self.state.newest_ns + 1).max(now_ns());
        index::save(&path, VERSION, &self.state).map_err(|e| SyncError::io("failed to write", &path, e))?;
        self.loaded = rustix::fs::stat(&path).ok().map(|s| Stat::new(&s));
        Ok(())
    }

    /// Removes what killed processes staged and never applied.
    fn sweep(&self) {
        const OLD: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
        for entry in fs::read_dir(self.meta.join("stage"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|t| t.elapsed().ok());
            if age.is_some_and(|a| a > OLD) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Where the mirror of `key` has its place below `base`.
fn top_of(base: &Path, key: &MirrorKey) -> Result<PathBuf, SyncError> {
    let plain = |s: &String| {
        let odd = |b: u8| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_' | b'.');
        !s.is_empty() && s.len() <= 128 && !s.starts_with('.') && !s.bytes().any(odd)
    };
    if let Some(bad) = [&key.client, &key.workspace].into_iter().find(|s| !plain(s)) {
        return Err(SyncError::Key(bad.clone()));
    }
    let name_ok =
        key.name.len() <= 255 && !key.name.contains('/') && RelPath::new(key.name.as_str()).is_some();
    if !name_ok {
        return Err(SyncError::Key(key.name.clone()));
    }
    Ok(base.join("mirrors").join(&key.client).join(&key.workspace))
}

/// The keys of all mirrors below `base`.
pub fn mirrors(base: &Path) -> Vec<MirrorKey> {
    let names = |dir: PathBuf| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        // Beside a tree there may be links to others.
        let entries = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    };
    let mut keys = Vec::new();
    let top = base.join("mirrors");
    for client in names(top.clone()) {
        for workspace in names(top.join(&client)) {
            for name in names(top.join(&client).join(&workspace).join("tree")) {
                keys.push(MirrorKey {
                    client: client.clone(),
                    workspace: workspace.clone(),
                    name,
                });
            }
        }
    }
    keys
}

/// Removes the mirrors of one client, or of all, that no run uses; the bytes freed.
///
/// # Errors
/// The first one of removing; the others are removed all the same.
pub fn purge(base: &Path, client: Option<&str>) -> Result<u64, SyncError> {
    let mut freed = 0;
    let mut failed = None;
    for key in mirrors(base) {
        if client.is_some_and(|c| c != key.client) {
            continue;
        }
        match Mirror::open(base, &key).and_then(Mirror::remove) {
            Ok(bytes) => freed += bytes.unwrap_or(0),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    failed.map_or(Ok(freed), Err)
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

/// Bytes that a directory takes on disk.
pub fn disk_use(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            bytes += disk_use(&entry.path());
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
