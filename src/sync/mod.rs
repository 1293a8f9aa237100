//! The local tree, its mirrors on the nodes, and how changes travel between them.
//!
//! One way: [`scan()`] reads the workspace into a manifest, [`write_pack`] turns the difference to what the mirror
//! holds into a pack, [`stage()`] unpacks it on the node beside the mirror, [`Mirror::apply`] puts it in place. The other
//! way after the run: [`Mirror::collect`] writes a pack of what changed there, `stage` unpacks it here outside the
//! workspace, and [`commit_local`] puts in place what may be put in place.
//!
//! Everything here is blocking and the same on both sides, since client and agent are one binary.

mod back;
mod beneath;
mod git;
mod gitmeta;
mod index;
mod known;
mod mirror;
mod pack;
mod programs;
mod record;
mod rules;
mod scan;
mod stage;
mod stat;
#[cfg(test)]
mod testing;
mod times;
mod walk;
mod watch;
mod wild;
mod wire;
mod workspace;

use std::io;
use std::path::{Path, PathBuf};

use crate::plan::manifest::Manifest;

pub use back::{BackContext, BackReport, commit_local, is_half_done, recover};
pub use git::common_dir;
pub use gitmeta::{GitMeta, Repository, repository};
pub use known::is_protected;
pub use mirror::{Check, Collected, Mirror, MirrorLock, RunGuard, disk_use, mirrors, purge};
pub use pack::{Packed, write_pack, write_pack_with};
pub(crate) use programs::is_program;
pub use record::{MirrorRecord, Programs, Records, Rests, Sent};
pub(crate) use scan::is_at_or_below;
pub use scan::{Scan, ScanOptions, scan};
pub use stage::{Op, Origin, Staged, after, stage, touched};
pub use times::Times;
pub use wire::{manifest_bytes, manifest_from_bytes};
pub use workspace::{Workspace, find};

/// Where HEAD is, as a value to compare; `None` without a repository.
pub fn head(root: &Path) -> Option<crate::plan::manifest::Hash> {
    git::dirs(root).as_ref().and_then(git::head)
}

/// Whether something stands at `path` that came there, or changed, at `since_ns` (nanoseconds since the epoch) or later, as far as a
/// file system's clock tells.
pub fn is_younger(root: &Path, path: &crate::plan::manifest::RelPath, since_ns: i64) -> bool {
    let stat = beneath::Beneath::open(root).and_then(|mut t| t.stat(path));
    stat.is_ok_and(|s| s.is_some_and(|s| !s.is_settled(since_ns)))
}

/// Names of temporary files that cx puts beside a file it is about to replace start so; scans pass them by.
pub const TMP_PREFIX: &str = ".cx-tmp-";

/// Why a sync failed, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The disk is full (or a quota is). The tree is as it was, or is brought to the new state by a later call.
    #[error("the disk that holds {} is full", .0.display())]
    Full(PathBuf),
    /// What came is not a pack, is cut short, or asks for what no honest peer asks for. Nothing was applied.
    #[error("the received pack is not usable: {0}")]
    Pack(String),
    /// More bytes than the limit. Nothing was applied.
    #[error("the received pack holds more than {0} bytes")]
    TooLarge(u64),
    /// The tree is not the one that the pack was made for; here is what it holds. Nothing was applied.
    #[error("the mirror is at another state than expected")]
    Differs(Box<Manifest>),
    /// A key that is not a plain name.
    #[error("{0:?} cannot name a mirror")]
    Key(String),
    /// Anything else the operating system said.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was tried, e.g. `failed to write`.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl SyncError {
    /// An I/O error at `path`; a full disk becomes [`SyncError::Full`].
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            SyncError::Full(path.to_path_buf())
        } else {
            SyncError::Io {
                what,
                path: path.to_path_buf(),
                source,
            }
        }
    }
}

/// Whether the disk or a quota is exhausted.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Replaces `path` by `bytes` in one step, so that a reader and a crash see the old file or the new one.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    crate::paths::write_atomic(path, bytes, 0o600)
}

/// A number that this process has not given out before, hard to guess for others.
pub(crate) fn unique() -> u64 {
    crate::paths::nonce()
}

/// Nanoseconds since the epoch, now.
pub(crate) fn now_ns() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// A place where tests let the process "die".
#[cfg(not(test))]
#[inline]
pub(crate) fn crash_point() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use testing::crash_point;
