//! Set-up steps on the node: each is done once in a mirror, and again when its key changes.
//!
//! ```text
//! meta/setup/KEY          the step was done
//! meta/setup/KEY.failed   when it failed last, and the end of its output
//! meta/setup/lock         held while a step runs, by the step itself too
//! ```
//!
//! The mark is written after the step's end, so that a step which was killed is done again. The lock is inherited by what the step
//! starts: if its supervisor dies, nobody begins the next set-up before it has ended, too.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::log::Event;
use super::place::Place;
use super::{admit, child};
use crate::paths::{self, now_ms};
use crate::plan::manifest::RelPath;
use crate::proto::{Down, Refusal, SetupStep, Up};
use crate::request::Ending;

/// A step that failed is not tried again by itself before this time has passed.
const FAILED: Duration = Duration::from_secs(600);

/// Bytes of a step's output that are kept, and of those that are told.
const TAIL: usize = 4096;

/// Between two of its lines.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Where steps run.
pub struct Room<'a> {
    /// Where marks are kept.
    pub marks: PathBuf,
    /// The mirror's tree.
    pub root: &'a Path,
    /// Where the command will see it.
    pub place: &'a Place,
    /// The run's environment.
    pub env: &'a [(OsString, OsString)],
    /// PATH as it is outside of a namespace.
    pub path: &'a OsStr,
    /// Try what failed a short while ago.
    pub retry: bool,
}

/// Why the steps were not done.
pub enum Stopped {
    /// The caller is gone or took it back.
    Quit,
    /// The caller is told why.
    Refuse(Refusal),
    /// Something of cx's own failed.
    Fail(anyhow::Error),
}

impl From<io::Error> for Stopped {
    fn from(e: io::Error) -> Self {
        Stopped::Fail(anyhow::Error::from(e).context("failed to set up the tree"))
    }
}

impl Room<'_> {
    /// Those of `steps` that were not done here yet. An environment holds the path at which it was made: at another one it is made anew.
    pub fn missing<'s>(&self, steps: &'s [SetupStep]) -> Vec<&'s SetupStep> {
        steps.iter().filter(|s| !self.is_done(s)).collect()
    }

    fn is_done(&self, step: &SetupStep) -> bool {
        let stands = |dir: &Vec<u8>| self.root.join(OsStr::from_bytes(dir)).exists();
        self.mark(step).exists() && step.makes.as_ref().is_none_or(stands)
    }

    fn mark(&self, step: &SetupStep) -> PathBuf {
        let text = [
            step.key.as_bytes(),
            b"\0",
            self.place.root().as_os_str().as_bytes(),
        ]
        .concat();
        self.marks.join(&blake3::hash(&text).to_hex()[..32])
    }

    fn failed(&self, step: &SetupStep) -> PathBuf {
        self.mark(step).with_extension("failed")
    }

    /// Does the steps that are missing; whether any was.
    ///
    /// # Errors
    /// See [`Stopped`].
    pub fn set_up(
        &self,
        steps: &[SetupStep],
        events: &Receiver<Event>,
        say: &dyn Fn(Down),
    ) -> Result<bool, Stopped> {
        let mut any = false;
        for step in steps {
            if self.is_done(step) {
                continue;
            }
            say(told(step, ""));
            super::private_dir(&self.marks)?;
            let lock = self.wait_for_lock(step, events, say)?;
            // Another run may have done it meanwhile.
            if self.is_done(step) {
                continue;
            }
            if let Some(why) = self.failed_lately(step).filter(|_| !self.retry) {
                return Err(Stopped::Refuse(why));
            }
            any = true;
            let _ = fs::remove_file(self.mark(step));
            let (ended, tail) = self.run(step, &lock, events, say)?;
            if ended == Ending::Code(0) {
                let note = format!("{}\n{}\n", now_ms(), step.name);
                paths::write_atomic(&self.mark(step), note.as_bytes(), 0o600)?;
                let _ = fs::remove_file(self.failed(step));
                continue;
            }
            let what = format!("{}: {ended}", step.name);
            let note = format!("{}\n{what}\n{tail}", now_ms());
            // Without the note it is only tried once more.
            let _ = paths::write_atomic(&self.failed(step), note.as_bytes(), 0o600);
            return Err(Stopped::Refuse(Refusal::Setup { what, tail }));
        }
        Ok(any)
    }

    fn failed_lately(&self, step: &SetupStep) -> Option<Refusal> {
        let note = fs::read_to_string(self.failed(step)).ok()?;
        let (at, rest) = note.split_once('\n')?;
        let (what, tail) = rest.split_once('\n')?;
        let age = now_ms().checked_sub(at.parse().ok()?)?;
        (age < FAILED.as_millis() as u64).then(|| Refusal::Setup {
            what: format!("{what}, {} s ago (cx warm tries again)", age / 1000),
            tail: tail.to_owned(),
        })
    }

    fn wait_for_lock(
        &self,
        step: &SetupStep,
        events: &Receiver<Event>,
        say: &dyn Fn(Down),
    ) -> Result<File, Stopped> {
        let lock = paths::lock_file(&self.marks.join("lock"))?;
        let mut said = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(fs::TryLockError::Error(e)) => return Err(e.into()),
                Err(fs::TryLockError::WouldBlock) => {}
            }
            if !said {
                say(told(step, "another run is at it"));
                said = true;
            }
            listen(events, Duration::from_millis(100))?;
        }
    }

    /// Runs one step; how it ended, and the end of its output.
    fn run(
        &self,
        step: &SetupStep,
        lock: &File,
        events: &Receiver<Event>,
        say: &dyn Fn(Down),
    ) -> Result<(Ending, String), Stopped> {
        let lacks = |what: String| Err(Stopped::Refuse(Refusal::Lacks(what)));
        let dir = match step.dir.as_slice() {
            [] => self.root.to_owned(),
            dir if RelPath::from_slice(dir).is_some() => self.root.join(OsStr::from_bytes(dir)),
            _ => return lacks("a set-up step's directory lies outside the tree".into()),
        };
        if let Some(program) = &step.needs
            && admit::find(program.as_bytes(), &dir, self.path, self.place).is_none()
        {
            return lacks(format!("no `{program}`, which `{}` needs", step.name));
        }
        let (from, to) = io::pipe()?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &step.run])
            .env_clear()
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to)
            .process_group(0);
        self.place.enter(&mut command, &dir)?;
        rustix::io::fcntl_setfd(lock, rustix::io::FdFlags::empty()).map_err(io::Error::from)?;
        let child = command.spawn();
        rustix::io::fcntl_setfd(lock, rustix::io::FdFlags::CLOEXEC).map_err(io::Error::from)?;
        let mut child = child?;
        // Or its output would never end.
        drop(command);
        let lines = read_lines(from);
        let mut tail = String::new();
        let mut told_at = Instant::now();
        let ended = loop {
            if let Err(e) = listen(events, Duration::from_millis(20)) {
                child::end_all(Some(child.id()));
                let _ = child.wait();
                return Err(e);
            }
            let mut last = None;
            take(&lines, &mut tail, &mut last);
            if let Some(line) = last.filter(|_| told_at.elapsed() >= TELL_EVERY) {
                say(told(step, &line));
                told_at = Instant::now();
            }
            if let Some(status) = child.try_wait()? {
                break status;
            }
        };
        // What it left running is not the command's.
        child::end_all(None);
        let until = Instant::now() + Duration::from_secs(1);
        while let Ok(Some(rest)) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            push(&mut tail, &rest);
        }
        Ok((ended.into(), tail))
    }
}

fn told(step: &SetupStep, line: &str) -> Down {
    Down::Setup {
        name: step.name.clone(),
        line: line.to_owned(),
    }
}

/// Waits for `pause`, unless the caller is gone.
fn listen(events: &Receiver<Event>, pause: Duration) -> Result<(), Stopped> {
    match events.recv_timeout(pause) {
        Ok(Event::Up(Up::Gone | Up::Cancel | Up::Signal(_)) | Event::Lost) => Err(Stopped::Quit),
        Err(RecvTimeoutError::Disconnected) => Err(Stopped::Quit),
        _ => Ok(()),
    }
}

/// The lines of an output as they come, a carriage return ending one, too; `None` at its end.
fn read_lines(mut from: io::PipeReader) -> Receiver<Option<String>> {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buf = [0; 8192];
        let mut line = Vec::new();
        loop {
            let n = match from.read(&mut buf) {
                Ok(n) if n > 0 => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                _ => break,
            };
            for byte in &buf[..n] {
                let ends = matches!(byte, b'\n' | b'\r');
                if !ends {
                    line.push(*byte);
                }
                if (ends && !line.is_empty()) || line.len() >= TAIL {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    line.clear();
                    if tx.send(Some(text)).is_err() {
                        return;
                    }
                }
            }
        }
        if !line.is_empty() {
            let _ = tx.send(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        let _ = tx.send(None);
    });
    rx
}

fn take(lines: &Receiver<Option<String>>, tail: &mut String, last: &mut Option<String>) {
    while let Ok(Some(line)) = lines.try_recv() {
        push(tail, &line);
        *last = Some(line);
    }
}

fn push(tail: &mut String, line: &str) {
    tail.push_str(line);
    tail.push('\n');
    if tail.len() > TAIL {
        let mut at = tail.len() - TAIL;
        while !tail.is_char_boundary(at) {
            at += 1;
        }
        tail.drain(..at);
    }
}
