//! The command itself: started in a process group of its own, and ended with all it started.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use super::log::{self, Event, Log};
use super::place::{Place, Rewriter};
use super::pty::Pty;
use crate::proto::{CHUNK, RunStart};
use crate::request::Ending;
use crate::tty::Terminal;

/// Time between TERM and KILL.
pub const TERM_TO_KILL: Duration = Duration::from_secs(2);

/// How the command's three descriptors are connected.
pub struct Started {
    /// The process; reaped by [`reap`], not by `wait`.
    pub child: Child,
    /// Where standard input goes, if it is forwarded.
    pub stdin: Option<File>,
    /// The file that is standard input instead, at the position where the command leaves it.
    pub input: Option<File>,
    /// The ends of stdout and stderr to read: one for both, or one each.
    pub outputs: Vec<(u8, File)>,
    /// The terminal, if the run has one.
    pub pty: Option<Pty>,
}

/// Starts `program` (already looked up) for `run` in `dir`, which is shown at `place`. `scratch` is the run's own directory.
///
/// # Errors
/// Those of starting a process; `NotFound` and `PermissionDenied` mean the program.
pub fn start(
    run: &RunStart,
    program: &Path,
    dir: &Path,
    env: &[(OsString, OsString)],
    place: &Place,
    scratch: &Path,
) -> io::Result<Started> {
    let os = |b: &Vec<u8>| OsString::from_vec(b.clone());
    let mut command = Command::new(place.shown(program));
    if let Some(name) = run.argv.first() {
        command.arg0(os(name));
    }
    command
        .args(run.argv.iter().skip(1).map(os))
        .env_clear()
        .envs(env.iter().cloned())
        .process_group(0);
    place.enter(&mut command, dir)?;
    let mut outputs = Vec::new();
    let pty = run.terminal.as_ref().map(Pty::open).transpose()?;
    let on_terminal = |which: fn(&Terminal) -> bool| run.terminal.as_ref().is_some_and(which);
    match &pty {
        Some(pty) if on_terminal(|t| t.stdout) => drop(command.stdout(pty.slave()?)),
        _ => {
            let (out, out_end) = io::pipe()?;
            outputs.push((1, File::from(OwnedFd::from(out))));
            if run.one_pipe {
                command.stderr(out_end.try_clone()?);
            }
            command.stdout(out_end);
        }
    }
    match &pty {
        Some(pty) if on_terminal(|t| t.stderr) => drop(command.stderr(pty.slave()?)),
        _ if run.one_pipe && !on_terminal(|t| t.stdout) => {}
        _ => {
            let (err, err_end) = io::pipe()?;
            outputs.push((2, File::from(OwnedFd::from(err))));
            command.stderr(err_end);
        }
    }
    let mut typed = None;
    let input = run.input.as_deref().map(|i| input_file(i, scratch)).transpose()?;
    match (&pty, &input) {
        (_, Some(input)) => drop(command.stdin(input.try_clone()?)),
        (Some(pty), None) if on_terminal(|t| t.stdin) => {
            command.stdin(pty.slave()?);
            typed = run.stdin.then(|| pty.master()).transpose()?;
        }
        _ => drop(command.stdin(if run.stdin { Stdio::piped() } else { Stdio::null() })),
    }
    if let Some(pty) = &pty {
        let fd = match run.terminal {
            Some(t) if t.stdout => 1,
            Some(t) if t.stderr => 2,
            _ => 3,
        };
        outputs.push((fd, pty.master()?));
        // SAFETY: the closure only calls functions that are safe between fork and exec.
        unsafe { command.pre_exec(pty.in_child()) };
    }
    // The umask is the process's; every file of cx's own is made with an explicit mode.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(run.umask as _));
    let child = command.spawn();
    rustix::process::umask(before);
    let mut child = child?;
    let stdin = child.stdin.take().map(|s| File::from(OwnedFd::from(s))).or(typed);
    // A parent that holds the command's own ends open would never see their end.
    drop(command);
    Ok(Started {
        child,
        stdin,
        input,
        outputs,
        pty,
    })
}

/// A file without a name that holds `bytes`, to be read. It is made in the directory `scratch`.
fn input_file(bytes: &[u8], scratch: &Path) -> io::Result<File> {
    let path = scratch.join("input");
    crate::paths::write_atomic(&path, bytes, 0o600)?;
    let file = File::open(&path);
    std::fs::remove_file(&path)?;
    file
}

/// Copies one output into the log until its end, and says so then. Once bit `fd` of `closed` is set the pipe is dropped
/// at the next write, so that the command gets SIGPIPE where it would get it here. `text` mends paths on the way.
pub fn pump(
    fd: u8,
    from: File,
    log: Log,
    closed: Arc<AtomicU8>,
    done: Sender<u8>,
    mut text: Option<Rewriter>,
) {
    std::thread::spawn(move || {
        // A command that says much is woken less often; a terminal refuses.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(&from, 1 << 20);
        // As a record of the log: so much output need not be copied.
        let mut record = Vec::new();
        loop {
            if let Some(t) = &mut text
                && t.holds_little()
                && !more_comes(&from)
                && log.append(fd, &t.flush()).is_err()
            {
                break;
            }
            record.resize(log::HEAD, 0);
            record.reserve_exact(CHUNK);
            match rustix::io::read(&from, rustix::buffer::spare_capacity(&mut record)) {
                Ok(0) => break,
                Ok(_) if closed.load(Ordering::Relaxed) & (1 << fd) != 0 => break,
                Ok(_) => {
                    let written = match &mut text {
                        Some(t) => log.append(fd, &t.push(&record[log::HEAD..])),
                        None if record.len() < CHUNK / 4 => log.append(fd, &record[log::HEAD..]),
                        None => log.append_record(std::mem::take(&mut record), fd),
                    };
                    if written.is_err() {
                        break;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        drop(from);
        if let Some(t) = text.as_mut().filter(|t| t.holds()) {
            let _ = log.append(fd, &t.flush());
        }
        let _ = done.send(fd);
    });
}

/// Whether more output comes soon, or its end.
fn more_comes(from: &File) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let soon = Timespec {
        tv_sec: 0,
        tv_nsec: 30_000_000,
    };
    !matches!(poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&soon)), Ok(0))
}

/// Reaps every child of this process (as a subreaper it gets orphans too) and tells of the one that is `pid`.
pub fn reap(pid: u32, events: Sender<Event>) {
    std::thread::spawn(move || {
        loop {
            match rustix::process::wait(WaitOptions::UNTRACED) {
                Ok(Some((who, status))) => {
                    if who.as_raw_nonzero().get() as u32 != pid {
                        continue;
                    }
                    if let Some(n) = status.stopping_signal() {
                        let _ = events.send(Event::Stopped(n));
                        continue;
                    }
                    let ending = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Ending::Code(code),
                        (None, Some(n)) => Ending::Signal(n),
                        _ => continue,
                    };
                    if events.send(Event::Exited(ending)).is_err() {
                        return;
                    }
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
}

/// Whether this process has children at all, or had some that nobody has reaped yet.
pub fn any_lives() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, only_look), Err(rustix::io::Errno::CHILD))
}

/// Makes orphans below this process its own children, so that none escapes [`end_all`].
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Signals the command's process group; a signal that this system does not know is ignored.
pub fn signal_group(pid: u32, signal: i32) {
    if let (Some(pid), Some(signal)) = (Pid::from_raw(pid as i32), Signal::from_named_raw(signal)) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Ends all descendants of this process and the process group `pid`: TERM, then KILL after [`TERM_TO_KILL`].
pub fn end_all(pid: Option<u32>) {
    let deadline = Instant::now() + TERM_TO_KILL;
    signal_all(pid, Signal::TERM);
    // Stopped processes would not see the TERM.
    signal_all(pid, Signal::CONT);
    while Instant::now() < deadline && !descendants().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    // A process that forks all the while is caught by one of the rounds.
    for _ in 0..100 {
        signal_all(pid, Signal::KILL);
        if descendants().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal_all(pid: Option<u32>, signal: Signal) {
    if let Some(pid) = pid.and_then(|p| Pid::from_raw(p as i32)) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
    for pid in descendants() {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Living descendants of this process; zombies do not count.
fn descendants() -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, parent) in processes() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut todo = vec![std::process::id() as i32];
    while let Some(p) = todo.pop() {
        for c in children.remove(&p).unwrap_or_default() {
            found.push(c);
            todo.push(c);
        }
    }
    found
}

/// `(pid, parent)` of every process that is not a zombie.
#[cfg(target_os = "linux")]
fn processes() -> Vec<(i32, i32)> {
    let Ok(dir) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    dir.flatten()
        .filter_map(|e| {
            let pid: i32 = e.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(e.path().join("stat")).ok()?;
            let mut rest = stat[stat.rfind(')')? + 1..].split_whitespace();
            let state = rest.next()?;
            let parent = rest.next()?.parse().ok()?;
            (!matches!(state, "Z" | "X")).then_some((pid, parent))
        })
        .collect()
}

/// `(pid, parent)` of every process that is not a zombie, as `ps` tells it.
#[cfg(not(target_os = "linux"))]
fn processes() -> Vec<(i32, i32)> {
    let Ok(out) = Command::new("/bin/ps")
        .args(["-A", "-o", "pid=,ppid=,stat="])
        .output()
    else {
        return Vec::new();
    };
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|l| {
            let mut f = l.split_whitespace();
            let pid = f.next()?.parse().ok()?;
            let parent = f.next()?.parse().ok()?;
            (!f.next()?.starts_with('Z')).then_some((pid, parent))
        })
        .collect()
}

/// The directory `dir` of a mirror, or the home directory without one.
pub fn run_directory(mirror: Option<(&Path, &[u8])>, home: &Path) -> PathBuf {
    match mirror {
        Some((root, [])) => root.to_owned(),
        Some((root, dir)) => root.join(OsString::from_vec(dir.to_vec())),
        None => home.to_owned(),
    }
}
