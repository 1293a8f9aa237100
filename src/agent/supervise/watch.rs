//! From the start to the end: the command is watched, what it changed is collected, and both are delivered.

use std::ffi::OsStr;
use std::io::Seek;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Held, Keep, Stop, Supervisor};
use crate::agent::feed::Stdin;
use crate::agent::log::{self, Event};
use crate::agent::place::Place;
use crate::agent::pty::Pty;
use crate::agent::{admit, child, kept};
use crate::proto::{Down, Exit, Left, Up};
use crate::request::Ending;
use crate::sync::Mirror;

/// After the command's own end, its output is read on for this long after the last byte: a background child
/// that holds the pipes does not hold the run.
const STRAY: Duration = Duration::from_millis(250);

/// A command that was stopped (Ctrl-Z) is kept for so long without its caller, who stands still, too.
const STOPPED: Duration = Duration::from_secs(24 * 3600);

impl Supervisor {
    /// Watches the command to its end, collects what changed, and delivers both.
    pub(super) fn watch(&mut self, held: Held, started: child::Started, place: &Place) -> Result<Keep, Stop> {
        let child::Started {
            child,
            stdin,
            input,
            outputs,
            pty,
        } = started;
        let pid = child.id();
        let begin = Instant::now();
        let (done_tx, done) = mpsc::channel();
        let mut open = outputs.len();
        // Before any of its output: the caller's terminal is made ready for that when it hears this.
        let paths = place.mode;
        let why_not = place.why_not.clone();
        self.log.say(&Down::Started { pid, paths, why_not });
        if self.run.detached {
            self.log.detach();
        }
        let closed = Arc::new(AtomicU8::new(0));
        for (fd, file) in outputs {
            let (log, closed) = (self.log.clone(), closed.clone());
            child::pump(fd, file, log, closed, done_tx.clone(), place.rewriter());
        }
        drop(done_tx);
        child::reap(pid, self.tx.clone());
        let _ = log::listen(&self.dir, self.log.clone());
        let end = pty
            .as_ref()
            .filter(|_| self.run.terminal.is_some_and(|t| t.stdin))
            .map(Pty::end_of_input);
        let mut stdin = stdin.map(|file| Stdin::new(file, self.log.clone(), end));

        let ending = self.until_exit(pid, &mut stdin, pty.as_ref(), &closed, held.mirror.as_ref())?;
        if self.interrupted {
            // A command that its caller ended leaves nothing behind; one that ended by itself may.
            child::end_all(Some(pid));
        }
        let ran_ms = begin.elapsed().as_millis() as u64;
        drop(stdin);
        let input_at = input.and_then(|mut i| i.stream_position().ok());
        let master = pty.map(Pty::leave);

        let mut seen = self.log.total();
        let mut quiet = Instant::now();
        while open > 0 && quiet.elapsed() < STRAY {
            match done.recv_timeout(Duration::from_millis(20)) {
                Ok(_) => open -= 1,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let total = self.log.total();
            if total != seen {
                (seen, quiet) = (total, Instant::now());
            }
            if self.log.lost_since().is_some() {
                self.hold_off(held.mirror.as_ref());
            }
        }
        drop(master);
        self.deliver(held, ending, ran_ms, input_at)
    }

    /// Handles packets until the command ends; ends it when the caller is gone or a lost link does not come back.
    fn until_exit(
        &mut self,
        pid: u32,
        stdin: &mut Option<Stdin>,
        pty: Option<&Pty>,
        closed: &AtomicU8,
        mirror: Option<&Mirror>,
    ) -> Result<Ending, Stop> {
        let grace = Duration::from_secs(u64::from(self.run.link_grace));
        loop {
            match self.events.recv_timeout(Duration::from_secs(1)) {
                Ok(Event::Exited(ending)) => return Ok(ending),
                Ok(Event::Up(Up::Stdin(data))) => {
                    if data.is_empty() {
                        if let Some(s) = stdin.take() {
                            s.finish();
                        }
                    } else if let Some(s) = stdin {
                        s.write(data);
                    }
                }
                Ok(Event::Up(Up::Close(fd @ 1..=2))) => {
                    closed.fetch_or(1 << fd, Ordering::Relaxed);
                }
                Ok(Event::Up(Up::Signal(n))) => {
                    self.stopped &= n != libc::SIGCONT;
                    self.interrupted |=
                        matches!(n, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT);
                    child::signal_group(pid, n);
                }
                Ok(Event::Up(Up::Resize(size))) => {
                    if let Some(pty) = pty {
                        pty.resize(size);
                    }
                }
                Ok(Event::Stopped(n)) => {
                    self.stopped = true;
                    self.log.say(&Down::Stopped(n));
                }
                Ok(Event::Up(Up::Detach)) => {
                    self.run.detached = true;
                    self.log.detach();
                    self.log.say(&Down::Detached);
                }
                Ok(Event::Up(Up::Cancel)) => child::end_all(Some(pid)),
                Ok(Event::Up(Up::Gone)) if !self.run.detached => {
                    self.hold_off(mirror);
                    child::end_all(Some(pid));
                    return Err(Stop::Quit);
                }
                Ok(Event::Up(_) | Event::Lost) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Quit),
            }
            let grace = if self.stopped { grace.max(STOPPED) } else { grace };
            if !self.run.detached && self.log.lost_since().is_some_and(|t| t.elapsed() > grace) {
                self.hold_off(mirror);
                child::end_all(Some(pid));
                return Err(Stop::Quit);
            }
        }
    }

    /// Lets runs that come wait for the end of this one.
    fn hold_off(&mut self, mirror: Option<&Mirror>) {
        if self.ending.is_none() {
            self.ending = mirror.and_then(|m| m.ending().ok());
        }
    }

    /// The programs that the run needs and its own, with their versions in the run's own PATH.
    fn tools(&self) -> Vec<(String, String)> {
        let first = self
            .run
            .argv
            .first()
            .map(|a| String::from_utf8_lossy(a).into_owned());
        let needs = self.run.needs.iter().map(|n| n.need.program.clone());
        let mut names: Vec<String> = needs.chain(first).filter(|n| !n.contains('/')).collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .take(4)
            .map(|name| {
                let found = crate::probe::find_program(OsStr::new(&name), &self.path);
                let version = found.map(|f| crate::probe::version_of(&f, &self.base.join("versions")));
                // One that is there but does not say its version is no difference to tell of.
                let version = version.map_or(String::new(), |v| v.unwrap_or_else(|| "?".into()));
                (name, version)
            })
            .collect()
    }

    /// Collects what the command changed and waits until somebody has got everything.
    fn deliver(
        &mut self,
        held: Held,
        ending: Ending,
        ran_ms: u64,
        input_at: Option<u64>,
    ) -> Result<Keep, Stop> {
        let Held {
            slot,
            facts,
            mirror,
            share,
            beside: _beside,
        } = held;
        let (mut generation, mut sequence) = (None, 0);
        let mut left = Left::default();
        let mut uncollected = None;
        let mut back = None;
        let failed = !matches!(ending, Ending::Code(0));
        let tools = if failed && self.run.tell_tools {
            self.tools()
        } else {
            Vec::new()
        };
        // The caller may be gone and nobody has heard of it yet: a run that came in the middle would take what this one made for the
        // work of one that lives, and leave it there unseen.
        self.hold_off(mirror.as_ref());
        if let (Some(mut mirror), Some(spec)) = (mirror, &self.run.mirror) {
            let lives = child::any_lives();
            let runs = mirror.runs_since_rest();
            if lives {
                // It may write to memory that it shares with a file, which nothing tells of before it lets go of it.
                mirror.look_at_all();
            }
            match kept::collect(&mut mirror, spec, &self.dir) {
                Ok(collected) => {
                    (generation, sequence) = (Some(collected.generation), collected.sequence);
                    left = collected.left;
                    if let Some(share) = share.as_ref().filter(|_| !lives) {
                        mirror.rest(share, runs);
                    }
                    // Nothing is taken in there either, then.
                    back = kept::back(&self.dir).filter(|_| !collected.is_empty);
                }
                Err(e) => {
                    uncollected = Some(kept::why_not(&e));
                    kept::make_room(&self.dir);
                    // The mirror keeps what was made until somebody can take it.
                    if spec.back.scope > 0 {
                        mirror
                            .owe(&self.run.id)
                            .context("failed to note what is to be collected")?;
                    }
                }
            }
        }
        kept::make_room(&self.dir);
        drop(share);
        self.ending = None;
        drop(slot);
        let load = admit::load(&self.base, facts.slots);
        let output = self.log.total();
        let exit = Exit {
            ending,
            ran_ms,
            output,
            generation,
            sequence,
            input_at,
            left,
            tools,
            uncollected,
            load,
        };
        let owes = exit.uncollected.is_some();
        if self.run.detached || owes {
            kept::write_exit(&self.dir, &exit)?;
        }
        self.log.finish(back, &Down::Exit(Box::new(exit.clone())));
        let keep = self.until_delivered(&exit)?;
        Ok(if owes { Keep::All } else { keep })
    }

    /// Waits until somebody has got everything; what is to be kept of the run.
    fn until_delivered(&mut self, exit: &Exit) -> Result<Keep, Stop> {
        let grace = Duration::from_secs(u64::from(self.run.link_grace));
        let since = Instant::now();
        let mut is_noted = self.run.detached;
        loop {
            // What was written has not arrived yet: a caller that stands still (a laptop asleep) comes back for it. Only `Done` is an end.
            match self.events.recv_timeout(Duration::from_millis(500)) {
                Ok(Event::Up(Up::Detach)) => {
                    self.run.detached = true;
                    kept::write_exit(&self.dir, exit)?;
                    self.log.say(&Down::Detached);
                }
                Ok(Event::Up(Up::Done)) if self.run.detached => return Ok(Keep::Log),
                Ok(Event::Up(Up::Done)) => return Ok(Keep::Nothing),
                Ok(Event::Up(Up::Gone)) if !self.run.detached => return Ok(Keep::Note),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(if self.run.detached { Keep::All } else { Keep::Note });
                }
                _ => {}
            }
            // Whoever comes later finds it on disk.
            let grace = if self.run.detached {
                Duration::from_secs(5)
            } else {
                grace
            };
            let alone = self
                .log
                .lost_since()
                .map_or(Duration::ZERO, |t| t.elapsed().min(since.elapsed()));
            if !is_noted && !alone.is_zero() {
                // Whoever asks meanwhile is to hear that it has ended.
                is_noted = kept::write_exit(&self.dir, exit).is_ok();
            }
            if alone > grace {
                return Ok(if self.run.detached { Keep::All } else { Keep::Note });
            }
        }
    }
}
