//! Where a run's output goes: a log of its own on disk, and its beginning and end in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::text;
use crate::paths;

/// Bytes of the beginning and of the end that are kept in memory.
const HEAD: usize = 64 << 10;
const TAIL: usize = 192 << 10;

/// A log grows to this many bytes at most; a command that prints for ever must not fill the disk.
pub const MAX_LOG: u64 = 256 << 20;

/// Logs are kept this long.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The output of one run. Clones share it.
#[derive(Clone)]
pub struct Capture(Arc<Mutex<Kept>>);

struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    log: Option<File>,
    path: Option<PathBuf>,
}

/// What was kept, as raw bytes.
pub struct Raw {
    /// The beginning; all of it where `gap` is zero.
    pub head: Vec<u8>,
    /// Bytes that are in the log only.
    pub gap: u64,
    /// The end.
    pub tail: Vec<u8>,
}

impl Capture {
    /// For a run whose log is `name` below `dir`. Where the log can't be made, only the beginning and the end are kept.
    pub fn new(dir: &Path, name: &str) -> Capture {
        let path = dir.join(format!("{name}.log"));
        let log = paths::private_dir(dir).and_then(|()| {
            File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
        });
        let log = log.ok();
        Capture(Arc::new(Mutex::new(Kept {
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
            path: log.is_some().then_some(path),
            log,
        })))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the log to another process, which is told where it lies.
    pub fn leave_log(&self) -> Option<PathBuf> {
        let mut kept = self.kept();
        kept.log = None;
        kept.path.clone()
    }

    /// Takes in a piece of output.
    pub fn add(&self, data: &[u8]) {
        let mut kept = self.kept();
        if kept.total < MAX_LOG {
            // A full disk loses the log, not the run.
            if kept.log.as_mut().is_some_and(|log| log.write_all(data).is_err()) {
                kept.log = None;
            }
        }
        kept.total += data.len() as u64;
        let room = HEAD - kept.head.len();
        let (first, rest) = data.split_at(data.len().min(room));
        kept.head.extend_from_slice(first);
        kept.tail.extend(rest);
        let over = kept.tail.len().saturating_sub(TAIL);
        kept.tail.drain(..over);
    }

    /// What was kept.
    pub fn raw(&self) -> Raw {
        let kept = self.kept();
        Raw {
            head: kept.head.clone(),
            gap: kept.total - (kept.head.len() + kept.tail.len()) as u64,
            tail: {
                let (first, second) = kept.tail.as_slices();
                [first, second].concat()
            },
        }
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.kept().total
    }

    /// The log, where there is one.
    pub fn path(&self) -> Option<PathBuf> {
        self.kept().path.clone()
    }

    /// The last line that is not empty, for a progress message.
    pub fn last_line(&self) -> String {
        let end: Vec<u8> = {
            let kept = self.kept();
            if kept.tail.is_empty() {
                kept.head[kept.head.len().saturating_sub(4096)..].to_vec()
            } else {
                kept.tail.iter().rev().take(4096).rev().copied().collect()
            }
        };
        let clean = text::clean(&end);
        let line = clean
            .lines()
            .rev()
            .find(|l| !l.trim().is_empty())
            .unwrap_or_default();
        text::redact(line.trim()).chars().take(200).collect()
    }

    /// Removes the log; for one whose whole text is in the result.
    pub fn forget_log(&self) {
        let mut kept = self.kept();
        kept.log = None;
        if let Some(path) = kept.path.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Write for Capture {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.add(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes logs that are older than a week, and what a killed server left beside them.
pub fn clear_old(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|m| m.modified()).ok();
        let age = modified.and_then(|m| SystemTime::now().duration_since(m).ok());
        if age.is_some_and(|a| a > MAX_AGE)
            && entry
                .path()
                .extension()
                .is_some_and(|e| e == "log" || e == "room")
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn beginning_and_end_are_kept_and_the_log_has_all() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let capture = Capture::new(&logs, "a");
        capture.add(b"first\n");
        assert_eq!(capture.raw().head, b"first\n");
        assert_eq!(capture.last_line(), "first");
        let line = [b'x'; 99];
        for _ in 0..5000 {
            capture.add(&line);
            capture.add(b"\n");
        }
        capture.add(b"last\r\n\n");
        let raw = capture.raw();
        assert_eq!(raw.head.len(), HEAD);
        assert_eq!(raw.tail.len(), TAIL);
        assert_eq!(raw.gap, capture.total() - (HEAD + TAIL) as u64);
        assert!(raw.head.starts_with(b"first\n") && raw.tail.ends_with(b"last\r\n\n"));
        assert_eq!(capture.last_line(), "last");
        let path = capture.path().unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (meta.len(), meta.permissions().mode() & 0o777),
            (capture.total(), 0o600)
        );
        assert_eq!(
            std::fs::metadata(&logs).unwrap().permissions().mode() & 0o777,
            0o700
        );
        // A name that is taken is never written to.
        assert_eq!(Capture::new(&logs, "a").path(), None);
        capture.forget_log();
        assert!(!path.exists());
    }
}
