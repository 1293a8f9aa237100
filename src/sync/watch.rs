//! What tells which files of a tree were touched, so that not all of them need be looked at again.
//!
//! Where the system has no such thing, or it can't be had, there is none, and whoever would use it looks at all. The same where
//! it might miss something: on a file system that others write to, after more events than the queue holds, after any change of
//! directories.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::TMP_PREFIX;
use super::walk::Listed;
use crate::plan::manifest::RelPath;

/// More paths than this are as well found by looking at all.
const MANY: usize = 4096;

/// Names that decide what else counts: where one of them is touched, all is looked at.
const RULES: &[&[u8]] = &[
    b".gitignore",
    b".cxignore",
    b"Cargo.toml",
    b"CACHEDIR.TAG",
    b"pyvenv.cfg",
];

/// Notices what happens in the directories that it is shown.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Taken out when it ends.
    fd: Option<OwnedFd>,
    /// Directories that may still be watched.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "never made there"))]
    left: AtomicUsize,
    /// It misses something.
    broken: AtomicBool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            // The kernel takes its time to end a watch.
            std::thread::spawn(move || drop(fd));
        }
    }
}

impl Watch {
    /// Whether it has noticed all so far, as far as that is known.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::mem::MaybeUninit;

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use rustix::io::Errno;

    use super::*;

    /// Local file systems: ext4, xfs, btrfs, f2fs, tmpfs. On another one the writes of another machine go unnoticed.
    const LOCAL: &[u32] = &[0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

    /// The part of the directories that a user's programs may watch which one watch takes at most: editors and servers want theirs.
    const SHARE: usize = 8;

    const NOTICED: WatchFlags = WatchFlags::MODIFY
        .union(WatchFlags::CLOSE_WRITE)
        .union(WatchFlags::ATTRIB)
        .union(WatchFlags::CREATE)
        .union(WatchFlags::DELETE)
        .union(WatchFlags::MOVED_FROM)
        .union(WatchFlags::MOVED_TO)
        .union(WatchFlags::ONLYDIR);

    impl Watch {
        /// One for a tree; `root` is its top.
        pub(crate) fn new(root: impl AsFd) -> Option<Watch> {
            let kind = rustix::fs::fstatfs(root).ok()?.f_type;
            if !LOCAL.iter().any(|l| kind as u64 == u64::from(*l)) {
                return None;
            }
            let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
            let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
            let limit = limit.ok().and_then(|l| l.trim().parse().ok()).unwrap_or(8192);
            Some(Watch {
                fd: Some(fd),
                left: AtomicUsize::new(limit / SHARE),
                broken: AtomicBool::new(false),
            })
        }

        /// Watches a directory from now on; the number by which it is known.
        pub(crate) fn enter(&self, dir: &OwnedFd) -> Option<i32> {
            use std::os::fd::AsRawFd;
            let one_less = |left: usize| left.checked_sub(1);
            let left = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
            let fd = self.fd.as_ref().filter(|_| left.is_ok());
            // The one way that no rename can lead astray.
            let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
            let number = fd.and_then(|fd| inotify::add_watch(fd, path, NOTICED).ok());
            if number.is_none() {
                self.broken.store(true, Ordering::Relaxed);
            }
            number
        }

        /// Does not watch a directory any more.
        pub(crate) fn leave(&self, number: i32) {
            if let Some(fd) = &self.fd {
                let _ = inotify::remove_watch(fd, number);
            }
        }

        /// The files and links in `dirs` that something has happened to; `None` where all must be looked at.
        pub(crate) fn touched(&self, dirs: &HashMap<i32, Listed>) -> Option<BTreeSet<RelPath>> {
            let mut touched = BTreeSet::new();
            let mut buf = vec![MaybeUninit::uninit(); 64 << 10];
            let mut events = inotify::Reader::new(self.fd.as_ref()?, &mut buf);
            loop {
                let event = match events.next() {
                    Ok(event) => event,
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => continue,
                    Err(_) => return None,
                };
                let what = event.events();
                if what.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT) {
                    return None;
                }
                // One that was left, or has gone, of which the directory above it tells.
                let Some(dir) = dirs.get(&event.wd()) else {
                    continue;
                };
                let name = event.file_name().map_or(&b""[..], |n| n.to_bytes());
                if name.eq_ignore_ascii_case(b".git") || name.starts_with(TMP_PREFIX.as_bytes()) {
                    continue;
                }
                if name.is_empty() || what.contains(ReadFlags::ISDIR) || RULES.contains(&name) {
                    return None;
                }
                if let Some(path) = RelPath::below(dir.path.as_ref(), name) {
                    touched.insert(path);
                }
                if touched.len() > MANY {
                    return None;
                }
            }
            self.is_whole().then_some(touched)
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Watch {
    /// There is none on this system.
    pub(crate) fn new(_: impl AsFd) -> Option<Watch> {
        None
    }

    pub(crate) fn enter(&self, _: &OwnedFd) -> Option<i32> {
        None
    }

    pub(crate) fn leave(&self, _: i32) {}

    pub(crate) fn touched(&self, _: &HashMap<i32, Listed>) -> Option<BTreeSet<RelPath>> {
        None
    }
}
