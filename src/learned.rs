//! The file of learned runtimes, and the watcher that times a command which takes the place of cx.

use std::cell::OnceCell;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::paths::{self, Paths};
use crate::plan::classify::Judged;
use crate::plan::learned::{self as plan, HERE, Learned};
use crate::plan::shell::{Part, Word};
use crate::sync;

/// A larger file than this (bytes) is no longer what cx wrote.
const MAX_FILE: u64 = 1 << 20;

/// Longer than this (seconds) no command is watched: that it is not short is known by then.
const MAX_WATCH_S: u64 = 2 * 3600;

fn file(paths: &Paths) -> PathBuf {
    paths.cache.join("learned")
}

/// The text of the file; empty without one.
pub fn text(paths: &Paths) -> String {
    let path = file(paths);
    match std::fs::metadata(&path) {
        Ok(m) if m.len() <= MAX_FILE => std::fs::read_to_string(path).unwrap_or_default(),
        _ => String::new(),
    }
}

/// Takes in times: key, place, duration. What cannot be written is lost, as it is only a help.
pub fn note(paths: &Paths, times: &[(u64, &str, Duration)]) {
    let Ok(lock) = paths::lock_file(&paths.cache.join("learned.lock")) else {
        return;
    };
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).is_err() {
        return;
    }
    let mut learned = Learned::read(&text(paths));
    let now_s = paths::now_ms() / 1000;
    for (key, place, took) in times {
        let ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        learned.note(*key, place, ms, now_s);
    }
    let _ = paths::write_atomic(&file(paths), learned.write().as_bytes(), 0o600);
}

/// What the hook sees of what was learned, at the cost of one file, and of finding the workspace where there is one.
///
/// It leaves a command as it is only where that is beyond doubt: cx itself decides again when it starts, with all that is known, and
/// what the hook leaves is not timed.
pub struct Glance<'a> {
    paths: &'a Paths,
    cwd: &'a Path,
    /// From where on in the text the directory may be another one.
    moved_at: usize,
    seed: u64,
    known: OnceCell<Option<(String, String, Vec<u8>)>>,
}

impl<'a> Glance<'a> {
    /// For the commands of a text that starts in `cwd`.
    pub fn new(paths: &'a Paths, cwd: &'a Path, judged: &[Judged]) -> Self {
        let changes = |j: &&Judged| {
            let program = j.part.argv.first().and_then(|w| w.text());
            matches!(program, Some("cd" | "pushd" | "popd"))
        };
        Glance {
            paths,
            cwd,
            moved_at: judged
                .iter()
                .find(changes)
                .map_or(usize::MAX, |j| j.part.span.start),
            seed: paths::nonce(),
            known: OnceCell::new(),
        }
    }

    /// Whether the command stays: it usually takes less than half of the cheapest trip.
    pub fn stays(&self, part: &Part) -> bool {
        self.is_where_it_stands(part)
            && self.times(&part.argv).is_some_and(|times| {
                let trip = times.cheapest_trip();
                trip.is_some_and(|ms| times.too_short(ms / 2, self.seed).is_some())
            })
    }

    /// Whether a command of the text usually takes long, by what cx saw of it.
    pub fn takes_long(&self, part: &Part) -> bool {
        self.is_where_it_stands(part) && self.is_long(&part.argv)
    }

    /// The same for a command that runs in the directory itself.
    pub fn is_long(&self, argv: &[Word]) -> bool {
        self.times(argv).is_some_and(|times| times.usually_long())
    }

    /// Whether it is known in which directory the command runs.
    fn is_where_it_stands(&self, part: &Part) -> bool {
        part.site <= self.moved_at && !part.in_function
    }

    fn times(&self, argv: &[Word]) -> Option<plan::Runtimes> {
        let known = self.known.get_or_init(|| {
            let text = text(self.paths);
            if text.is_empty() {
                return None;
            }
            let ws = sync::find(self.cwd, &self.paths.home).ok()?;
            let cwd = self.cwd.canonicalize().ok()?;
            let dir = cwd.strip_prefix(&ws.root).ok()?.as_os_str().as_bytes().to_vec();
            Some((text, ws.key, dir))
        });
        let (text, workspace, dir) = known.as_ref()?;
        let key = plan::key(workspace, dir, argv)?;
        let trips = plan::trips(workspace);
        Some(Learned::read_only(text, &[key, trips]).runtimes(Some(key), trips, paths::now_ms() / 1000))
    }
}

/// Starts a watcher that notes how long this process, into which a command is about to be put, lives. The command sees nothing of
/// it: the watcher is no child of its, holds none of its files, and is in a session of its own.
pub fn watch_this_process(paths: &Paths, key: u64) {
    let me = rustix::process::getpid();
    let began = Instant::now();
    // Before the fork, while the process is surely there. It is closed when the command starts.
    #[cfg(target_os = "linux")]
    let Ok(handle) = rustix::process::pidfd_open(me, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    // SAFETY: this process has one thread here (the runtime, if there was one, is shut down, and its threads hold no lock
    // that the child takes before it ends by `_exit`: it opens files, waits and writes).
    let first = unsafe { libc::fork() };
    match first {
        -1 => {}
        0 => {
            // SAFETY: as above. The grandchild is handed to init, so that the command never reaps a stranger.
            if unsafe { libc::setsid() } == -1 || unsafe { libc::fork() } != 0 {
                // SAFETY: ends this child at once, without the parent's exit handlers.
                unsafe { libc::_exit(0) };
            }
            let _ = std::panic::catch_unwind(|| {
                let_go();
                #[cfg(target_os = "linux")]
                let ended = wait_for(&handle);
                #[cfg(not(target_os = "linux"))]
                let ended = wait_for(me);
                if ended {
                    note(paths, &[(key, HERE, began.elapsed())]);
                }
            });
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        child => {
            // SAFETY: waits for the child made above, which ends at once.
            while unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } == -1
                && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
            {}
        }
    }
}

/// Lets go of all that the command's own end must not have to wait for: its output above all.
pub(crate) fn let_go() {
    let _ = std::env::set_current_dir("/");
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    // Files that whoever started cx left open for the command (`3> log`): a reader of a pipe among them waits for its end.
    #[cfg(target_os = "linux")]
    let open = std::fs::read_dir("/proc/self/fd");
    #[cfg(not(target_os = "linux"))]
    let open = std::fs::read_dir("/dev/fd");
    let numbers: Vec<i32> = open
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|n| *n > 2)
        .collect();
    for n in numbers {
        // SAFETY: `fcntl` looks at a number only. What is closed at `exec` is cx's own (the handle among them) and stays.
        let flags = unsafe { libc::fcntl(n, libc::F_GETFD) };
        if flags != -1 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: no value of this process owns an inherited descriptor.
            unsafe { libc::close(n) };
        }
    }
}

/// Waits for the end of the process behind `handle`. False where that took too long.
#[cfg(target_os = "linux")]
fn wait_for(handle: &std::os::fd::OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec {
        tv_sec: MAX_WATCH_S as i64,
        tv_nsec: 0,
    };
    let mut ends = [PollFd::new(handle, PollFlags::IN)];
    poll(&mut ends, Some(&limit)).is_ok_and(|n| n > 0)
}

/// Looks whether process `pid` is still there, at a twentieth of its age so far.
#[cfg(not(target_os = "linux"))]
fn wait_for(pid: rustix::process::Pid) -> bool {
    let began = Instant::now();
    while rustix::process::test_kill_process(pid).is_ok() {
        if began.elapsed().as_secs() > MAX_WATCH_S {
            return false;
        }
        std::thread::sleep((began.elapsed() / 20).max(Duration::from_millis(10)));
    }
    true
}
