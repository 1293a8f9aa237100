//! What `lstat` says of a path, as far as it tells whether a file was touched.

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

/// Two equal values mean, outside of races, an untouched file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub inode: u64,
    /// Type and permission bits.
    pub mode: u32,
}

/// Kernels stamp files with a clock that ticks every 1-10 ms; a later change can carry a stamp that much too old.
const TICK_NS: i64 = 20_000_000;
/// Some file systems keep whole seconds, or pairs of them.
const COARSE_NS: i64 = 2_000_000_000 + TICK_NS;

impl Stat {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the types of the fields differ between platforms"
    )]
    pub(crate) fn new(s: &rustix::fs::Stat) -> Stat {
        let ns = |s: i64, n: i64| s.saturating_mul(1_000_000_000).saturating_add(n);
        Stat {
            size: s.st_size as u64,
            mtime_ns: ns(s.st_mtime as i64, s.st_mtime_nsec as i64),
            ctime_ns: ns(s.st_ctime as i64, s.st_ctime_nsec as i64),
            inode: s.st_ino as u64,
            mode: s.st_mode as u32,
        }
    }

    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode as _)
    }

    pub(crate) fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.file_type() == FileType::Symlink
    }

    /// One that remembers the time alone: it equals that of no file, so it vouches for no content.
    pub(crate) fn untrusted(self) -> Stat {
        Stat {
            ctime_ns: i64::MIN,
            ..self
        }
    }

    /// Permission bits without setuid, setgid and sticky.
    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o777
    }

    /// Whether a change made at `read_ns` or later is sure to give the file another stat: git's racy rule. Content
    /// that was read at that time may be remembered by this stat.
    pub(crate) fn is_settled(&self, read_ns: i64) -> bool {
        let newest = self.mtime_ns.max(self.ctime_ns);
        let coarse = self.ctime_ns % 1_000_000_000 == 0;
        newest < read_ns - if coarse { COARSE_NS } else { TICK_NS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_stats_are_not_trusted() {
        let at = |ctime_ns| Stat {
            size: 1,
            mtime_ns: 5,
            ctime_ns,
            inode: 1,
            mode: 0o100644,
        };
        let now = 1_000_000_000_123;
        assert!(!at(now).is_settled(now));
        assert!(!at(now - TICK_NS).is_settled(now));
        assert!(at(now - TICK_NS - 1).is_settled(now));
        assert!(
            !at(999_000_000_000).is_settled(now),
            "whole seconds mean a coarse clock"
        );
        assert!(at(997_000_000_000).is_settled(now));
        assert!(
            !Stat {
                mtime_ns: now + 5,
                ..at(1)
            }
            .is_settled(now),
            "a time in the future says nothing"
        );
    }
}
