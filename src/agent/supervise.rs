//! The supervisor: the process that owns one run, from the slot to the exit.
//!
//! It takes its packets from a socket on its standard input (the agent holds the other end) and, later, from
//! streams that attach. It holds the slot and its share of the mirror by locks that the kernel frees when it dies.

mod errand;
mod ready;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::admit::{self, Slot};
use super::child;
use super::gc;
use super::kept;
use super::log::{self, Event, Log};
use super::place;
use crate::proto::{self, Down, Errand, Facts, Refusal, RunStart, Up};
use crate::sync::{Mirror, RunGuard};

/// What was made ready for a run that does not come within this time is let go.
const PREPARED: Duration = Duration::from_secs(10);

/// A client that was told something answers within this time, or is gone.
const ANSWER: Duration = Duration::from_secs(60);

/// Why a run ended before its command started.
enum Stop {
    /// The client is told why.
    Refuse(Refusal),
    /// The caller is gone or took it back; nobody needs telling.
    Quit,
    /// Something failed.
    Fail(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(e: E) -> Self {
        Stop::Fail(e.into())
    }
}

/// One run's supervisor.
struct Supervisor {
    base: PathBuf,
    dir: PathBuf,
    run: RunStart,
    log: Log,
    events: Receiver<Event>,
    tx: Sender<Event>,
    /// PATH of the run, as it is outside of a namespace.
    path: OsString,
    /// The mirror, if it was looked at beforehand.
    ready: Option<Mirror>,
    /// A signal that ends commands was passed on.
    interrupted: bool,
    /// Held while the command is being ended because its caller is gone, and while what it changed is collected.
    ending: Option<RunGuard>,
    /// The command stands still, stopped; a caller who went away meanwhile may come back late.
    stopped: bool,
}

/// Owns one run whose packets arrive on standard input.
///
/// # Errors
/// When not even the first packet can be read; later failures are told to the client.
pub fn supervise() -> anyhow::Result<()> {
    let _ = rustix::process::setsid();
    child::adopt_orphans();
    let base = super::base_dir()?;
    let socket: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut stream = UnixStream::from(socket);
    let mut ready = None;
    let run = loop {
        let Some((_, body)) = proto::read_packet(&mut stream)? else {
            // It was held ready, and nothing was asked of it.
            return Ok(());
        };
        match proto::decode(&body)? {
            Up::Prepare { mirror } => {
                ready = Mirror::prepared(&base, &mirror).filter(|_| super::is_readable(&stream, PREPARED));
            }
            Up::Run(run) => break run,
            Up::Attach { id, have } => return answer_for(&base, &id, have, stream),
            _ => anyhow::bail!("the first packet is not a run"),
        }
    };

    let dir = log::run_dir(&base, &run.id)?;
    super::private_dir(&base.join("runs"))?;
    // The id is unique; a directory that exists means that this very run was started already.
    if let Err(e) = std::fs::create_dir(&dir) {
        let message = format!(
            "run {} was started before or its directory can't be made: {e}",
            run.id
        );
        proto::write_packet(
            &mut stream,
            1,
            &Down::Failed {
                message,
                started: false,
            },
        )?;
        return Ok(());
    }
    let (tx, events) = mpsc::channel();
    let log = Log::new(&dir.join("log"), stream, tx.clone())?;
    let mut supervisor = Supervisor {
        base,
        dir,
        run: *run,
        log,
        events,
        tx,
        path: OsString::new(),
        ready,
        interrupted: false,
        ending: None,
        stopped: false,
    };
    let client = supervisor.run.mirror.as_ref().map(|m| m.key.client.clone());
    let keep = supervisor.run.keep;
    match supervisor.own() {
        Keep::All => {
            let _ = std::fs::remove_file(supervisor.dir.join("s"));
        }
        Keep::Log => fetched(&supervisor.dir),
        Keep::Nothing => {
            let _ = std::fs::remove_dir_all(&supervisor.dir);
        }
        Keep::Note => {
            for name in ["log", "back", "s", "exit"] {
                let _ = std::fs::remove_file(supervisor.dir.join(name));
            }
        }
    }
    kept::sweep(&supervisor.base.join("runs"));
    if let Some(client) = client {
        gc::by_itself(&supervisor.base, &client, keep.0, keep.1);
    }
    Ok(())
}

/// Somebody has taken what a kept run changed; its output and its end stay.
fn fetched(dir: &Path) {
    for name in ["back", "s"] {
        let _ = std::fs::remove_file(dir.join(name));
    }
}

/// Answers for a run that ended and is kept, until nobody is attached any more.
fn answer_for(base: &Path, id: &str, have: u64, stream: UnixStream) -> anyhow::Result<()> {
    let dir = log::run_dir(base, id)?;
    let exit = kept::settle(base, id)?;
    let (tx, events) = mpsc::channel();
    let (file, len) = kept::open_log(&dir).context("the run's output is gone")?;
    let log = Log::of_ended(file, len, exit.output, tx);
    log.finish(kept::back(&dir), &Down::Exit(Box::new(exit)));
    log.attach(stream, have);
    let _ = log::listen(&dir, log.clone());
    loop {
        match events.recv_timeout(Duration::from_secs(5)) {
            Ok(Event::Up(Up::Done)) => {
                fetched(&dir);
                return Ok(());
            }
            Ok(Event::Up(Up::Gone) | Event::Lost) | Err(_) if log.lost_since().is_some() => break,
            Ok(Event::Up(Up::Gone)) => break,
            _ => {}
        }
    }
    let _ = std::fs::remove_file(dir.join("s"));
    Ok(())
}

/// What is left of a run in its directory.
enum Keep {
    /// Its client has everything, or it never started.
    Nothing,
    /// That it was started.
    Note,
    /// What it said and how it ended: what it changed was fetched.
    Log,
    /// All, for somebody who may come for it.
    All,
}

/// What a run holds while it lives.
struct Held {
    slot: Slot,
    facts: Facts,
    mirror: Option<Mirror>,
    /// Keeps others from collecting the mirror away.
    share: Option<RunGuard>,
    /// The same for those of other trees that it sees.
    beside: Vec<RunGuard>,
}

impl Supervisor {
    /// Goes through the whole run; what is to be kept of it.
    fn own(&mut self) -> Keep {
        // They may hold the slot, too.
        kept::end_orphans(&self.base, &self.run.orphans, Instant::now() + ready::ENDING);
        match std::mem::take(&mut self.run.errand) {
            Errand::Command => {}
            errand => {
                if let Err(stop) = self.go_on(&errand) {
                    self.stopped(stop, false);
                }
                return Keep::Nothing;
            }
        }
        let child = self.prepare().and_then(|(held, program, env, dir, place)| {
            // Noted first: a note too much makes the client careful, one too few might make it run the command again.
            if let Some(spec) = self.run.mirror.as_ref().filter(|s| s.back.scope > 0) {
                kept::prepare(&self.dir, spec).context("failed to prepare the run")?;
            }
            let note = self.dir.join(super::STARTED);
            File::create(&note).context("failed to note the start")?;
            match child::start(&self.run, &program, &dir, &env, &place, &self.dir) {
                Ok(child) => Ok((held, child, place)),
                Err(e) => {
                    let _ = std::fs::remove_file(note);
                    Err(cannot_start(&self.base, &self.run, &e))
                }
            }
        });
        let (held, child, place) = match child {
            Ok(all) => all,
            Err(stop) => {
                self.stopped(stop, false);
                return Keep::Nothing;
            }
        };
        let pid = child.child.id();
        match self.watch(held, child, &place) {
            Ok(keep) => keep,
            Err(stop) => {
                self.stopped(stop, true);
                child::end_all(Some(pid));
                Keep::Note
            }
        }
    }

    /// Tells the client why there is nothing more to come.
    fn stopped(&self, stop: Stop, started: bool) {
        match stop {
            Stop::Quit => {}
            Stop::Refuse(why) => self.refuse(why),
            Stop::Fail(e) => self.log.say(&Down::Failed {
                message: format!("{e:#}"),
                started,
            }),
        }
        self.log.flush();
    }

    fn refuse(&self, why: Refusal) {
        let load = admit::load(&self.base, self.run.slots.unwrap_or(0));
        self.log.say(&Down::Refused { why, load });
    }
}

fn cannot_start(base: &Path, run: &RunStart, e: &std::io::Error) -> Stop {
    let name = run
        .argv
        .first()
        .map(|a| String::from_utf8_lossy(a).escape_default().to_string())
        .unwrap_or_default();
    if let Some(why) = place::failure(e) {
        // It worked once; whoever comes next tries again from the beginning.
        place::forget(base);
        return Stop::Refuse(Refusal::Other(why));
    }
    match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
            Stop::Refuse(Refusal::Lacks(format!("`{name}` can't be started: {e}")))
        }
        _ => Stop::Refuse(Refusal::Other(format!("`{name}` can't be started: {e}"))),
    }
}
