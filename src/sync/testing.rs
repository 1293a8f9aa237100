//! Trees for the tests of this module.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::plan::manifest::{Generation, RelPath};
use crate::proto::{BackSpec, MirrorKey};

pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

pub(crate) fn names(paths: &[RelPath]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
}

/// What stands at a path: `file MODE CONTENT`, `link TARGET`, `dir MODE`.
pub(crate) type Picture = BTreeMap<PathBuf, String>;

/// All of a tree, read without the code under test; `.git` is left out.
pub(crate) fn picture(root: &Path) -> Picture {
    let mut all = Picture::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name() == Some(OsStr::new(".git")) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let mode = meta.mode() & 0o777;
            let what = if meta.is_dir() {
                todo.push(path.clone());
                format!("dir {mode:o}")
            } else if meta.is_symlink() {
                format!("link {}", fs::read_link(&path).unwrap().display())
            } else {
                format!(
                    "file {mode:o} {}",
                    String::from_utf8_lossy(&fs::read(&path).unwrap())
                )
            };
            all.insert(path.strip_prefix(root).unwrap().to_path_buf(), what);
        }
    }
    all
}

/// Paths of a manifest, for comparisons that a person can read.
pub(crate) fn listed(manifest: &Manifest) -> Vec<String> {
    manifest.keys().map(ToString::to_string).collect()
}

/// A workspace here and its mirror, with what a client remembers.
pub(crate) struct Pair {
    pub dir: tempfile::TempDir,
    pub options: ScanOptions,
    pub git: bool,
    /// What the client believes the mirror to hold.
    pub believed: Manifest,
    pub scan: Scan,
    pub back: BackSpec,
    /// The mirror as the last sync left it, watched: whoever collects next uses it, as a run does.
    synced: std::cell::RefCell<Option<Mirror>>,
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("here")).unwrap();
        let options = ScanOptions {
            index: Some(dir.path().join("index")),
            ..ScanOptions::default()
        };
        let back = BackSpec {
            limit: 1 << 20,
            scope: 2,
            ..BackSpec::default()
        };
        Pair {
            dir,
            options,
            git: false,
            believed: Manifest::new(),
            scan: Scan::default(),
            back,
            synced: Default::default(),
        }
    }

    pub(crate) fn here(&self) -> PathBuf {
        self.dir.path().join("here")
    }

    pub(crate) fn key() -> MirrorKey {
        MirrorKey {
            client: "c".into(),
            workspace: "w".into(),
            name: "here".into(),
        }
    }

    pub(crate) fn mirror(&self) -> Mirror {
        Mirror::open(&self.dir.path().join("node"), &Pair::key()).unwrap()
    }

    /// The mirror as it is for a run that was announced, if there is one.
    pub(crate) fn prepared(&self) -> Option<Mirror> {
        Mirror::prepared(&self.dir.path().join("node"), &Pair::key()).filter(|m| m.is_of(&Pair::key()))
    }

    pub(crate) fn there(&self) -> PathBuf {
        self.dir.path().join("node/mirrors/c/w/tree/here")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        write(&self.here().join(path), text);
    }

    pub(crate) fn scan(&mut self) -> &Scan {
        self.scan = scan(&self.here(), self.git, &self.options).unwrap();
        self.back.extra_ignore = self.scan.extra_ignore.clone();
        self.back.exist_here = self.scan.unsent.clone();
        &self.scan
    }

    /// A pack of what the mirror lacks; what was sent becomes the client's belief.
    pub(crate) fn pack(&mut self) -> Vec<u8> {
        self.scan();
        let delta = self.scan.delta(&self.believed);
        let mut pack = Vec::new();
        let packed = write_pack(&self.here(), &delta, &self.scan.manifest, &mut pack).unwrap();
        self.believed = packed.manifest;
        pack
    }

    /// One sync as client and agent do it.
    pub(crate) fn sync(&mut self) -> Generation {
        let mut mirror = self.prepared().unwrap_or_else(|| self.mirror());
        mirror.watch();
        let expected = crate::plan::manifest::generation(&self.believed);
        if let Check::Differs(has) = mirror.check(expected, &[], &self.back).unwrap() {
            self.believed = has;
        }
        let pack = self.pack();
        let staged = stage(&mut &pack[..], &mirror.stage_dir(), 1 << 30).unwrap();
        let generation = mirror.apply(staged).unwrap();
        *self.synced.get_mut() = Some(mirror);
        generation
    }

    /// Collects there and stages here.
    pub(crate) fn collect(&self) -> (Collected, Staged) {
        let mut pack = Vec::new();
        let mut mirror = self.synced.take().unwrap_or_else(|| self.mirror());
        let collected = mirror.collect(&self.back, b"", &mut pack).unwrap();
        let staged = stage(
            &mut &pack[..],
            &self.dir.path().join(format!("stages/{}", unique())),
            1 << 30,
        )
        .unwrap();
        (collected, staged)
    }

    pub(crate) fn commit(&self, staged: Staged) -> BackReport {
        self.try_commit(staged).unwrap()
    }

    pub(crate) fn try_commit(&self, staged: Staged) -> Result<BackReport, SyncError> {
        let context = BackContext {
            sent: &self.believed,
            agreed: &Default::default(),
            superseded: &Default::default(),
            withheld: &self.scan.withheld,
            ignored: &self.scan.ignored,
            began_ns: self.scan.began_ns,
            head: (None, None),
            clock_offset_ms: 0,
            conflicts_dir: &self.dir.path().join("conflicts"),
        };
        commit_local(&self.here(), staged, &context)
    }

    /// Collects and commits, and believes what came back.
    pub(crate) fn bring_back(&mut self) -> (Collected, BackReport) {
        let (collected, staged) = self.collect();
        let new = after(&self.believed, staged.ops());
        let report = self.commit(staged);
        self.believed = new;
        (collected, report)
    }
}

/// Writes a file and the directories above it.
pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn odd_name(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

/// Runs git in a test's own world.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    // A second later each time: of commits that are equally old, git itself counts some twice.
    static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000);
    let date = format!("@{} +0000", CLOCK.fetch_add(1, Ordering::Relaxed));
    let output = std::process::Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_COMMITTER_DATE", &date)
        .env("GIT_AUTHOR_DATE", &date)
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

thread_local! {
    static CRASH_AFTER: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Lets this thread "die" at the point after `after` others; `None`: at none.
pub(crate) fn crash_after(after: Option<u32>) {
    CRASH_AFTER.set(after);
}

/// Fails where the test asked for it. A full disk is the one error that everything gives up at.
pub(crate) fn crash_point() -> std::io::Result<()> {
    match CRASH_AFTER.get() {
        Some(0) => Err(std::io::ErrorKind::StorageFull.into()),
        left => {
            CRASH_AFTER.set(left.map(|n| n - 1));
            Ok(())
        }
    }
}
