//! The supervisor: the process that owns one run, from the slot to the exit.
//!
//! It takes its packets from a socket on its standard input (the agent holds the other end) and, later, from
//! streams that attach. It holds the slot and its share of the mirror by locks that the kernel frees when it dies.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::admit::{self, Slot};
use super::child;
use super::feed::{PackInput, Stdin};
use super::gc;
use super::kept;
use super::locale;
use super::log::{self, Event, Log};
use super::place::{self, Place};
use super::provision::{self, Room};
use super::pty::Pty;
use super::shared;
use crate::proto::{self, CHUNK, Down, Errand, Exit, Facts, MirrorSpec, PathMode, Refusal, RunStart, Up};
use crate::request::Ending;
use crate::sync::{Check, Mirror, RunGuard, SyncError, stage};

/// After the command's own end, its output is read on for this long after the last byte: a background child
/// that holds the pipes does not hold the run.
const STRAY: Duration = Duration::from_millis(250);

/// A command that was stopped (Ctrl-Z) is kept for so long without its caller, who stands still, too.
const STOPPED: Duration = Duration::from_secs(24 * 3600);

/// What was made ready for a run that does not come within this time is let go.
const PREPARED: Duration = Duration::from_secs(10);

/// A run whose caller is gone has ended within this time.
const ENDING: Duration = Duration::from_secs(6);

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
    /// Held while the command is being ended because its caller is gone.
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
            for name in ["log", "back", "s"] {
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
            match child::start(&self.run, &program, &dir, &env, &place) {
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

    /// Does what needs no command: no slot, no admission.
    fn go_on(&mut self, errand: &Errand) -> Result<(), Stop> {
        let spec = self.run.mirror.take().context("an errand without a mirror")?;
        let mut exit = Exit {
            ending: Ending::Code(0),
            ran_ms: 0,
            output: 0,
            generation: None,
            sequence: 0,
            stayed: (Vec::new(), 0),
            over: Vec::new(),
            uncollected: None,
            tools: Default::default(),
            load: admit::load(&self.base, self.run.slots.unwrap_or(0)),
        };
        let mut back = None;
        match errand {
            Errand::Fetch(paths) => {
                let file = self.dir.join("back");
                let mut out = File::options()
                    .create_new(true)
                    .write(true)
                    .mode(0o600)
                    .open(&file)?;
                let found = Mirror::open(&self.base, &spec.key)?.fetch(paths, spec.back.limit, &mut out)?;
                out.flush()?;
                exit.sequence = found.sequence;
                (exit.stayed, exit.over) = (found.stayed, found.over);
                back = Some(file);
            }
            Errand::Collect => {
                let file = self.dir.join("back");
                let mut out = File::options()
                    .create_new(true)
                    .write(true)
                    .mode(0o600)
                    .open(&file)?;
                let found = Mirror::open(&self.base, &spec.key)?.collect(&spec.back, &[], &mut out)?;
                out.flush()?;
                (exit.generation, exit.sequence) = (Some(found.generation), found.sequence);
                (exit.stayed, exit.over) = (found.stayed, found.over);
                back = (!found.is_empty).then_some(file);
            }
            _ => {
                let mut mirror = Mirror::open(&self.base, &spec.key)?;
                if self.run.setup.is_empty() {
                    drop(self.sync(&mut mirror, &spec, false)?);
                    return self.done(exit, None);
                }
                let place = Place::of(&self.base, &mut mirror, &spec, &[]);
                let login = admit::login_env(&self.base);
                let path = admit::path_of(&login).to_owned();
                let env = admit::run_env(login, &self.run.env, &[], None, &self.run.id);
                drop(self.sync_and_set_up(&mut mirror, &spec, &place, &env, &path, true)?);
            }
        }
        self.done(exit, back)
    }

    /// Gives the end of an errand to its client, and waits until that has it.
    fn done(&self, exit: Exit, back: Option<PathBuf>) -> Result<(), Stop> {
        self.log.finish(back, &Down::Exit(Box::new(exit)));
        let since = Instant::now();
        while since.elapsed() < ANSWER {
            match self.events.recv_timeout(Duration::from_millis(500)) {
                Ok(Event::Up(Up::Done | Up::Gone | Up::Cancel) | Event::Lost) => break,
                Err(RecvTimeoutError::Disconnected) => break,
                _ => {}
            }
        }
        Ok(())
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

    /// Admission, sync, and the last word on whether it may start.
    #[expect(clippy::type_complexity, reason = "one caller, right above")]
    fn prepare(&mut self) -> Result<(Held, PathBuf, Vec<(OsString, OsString)>, PathBuf, Place), Stop> {
        let login = admit::login_env(&self.base);
        let (mut facts, load) = admit::glance(&self.base);
        facts.slots = self.run.slots.unwrap_or(facts.slots).max(1);
        let allow_overload = self.run.insist || self.run.allow_overload;
        if let Some(why) = admit::too_busy(&load, &facts, allow_overload) {
            return Err(Stop::Refuse(why));
        }
        let in_place = self.run.shared.as_ref().map(shared::prove).transpose();
        let in_place = in_place.map_err(|why| Stop::Refuse(Refusal::NotShared(why)))?;
        let slot = self.slot(facts.slots)?;

        let spec = self.run.mirror.take();
        let mut mirror = match &spec {
            Some(m) => Some(match self.ready.take().filter(|r| r.is_of(&m.key)) {
                Some(ready) => ready,
                None => Mirror::open(&self.base, &m.key)?,
            }),
            None => None,
        };
        if let Some(m) = &mut mirror {
            m.watch();
        }
        let home = std::env::var_os("HOME")
            .map(PathBuf::from)
            .unwrap_or_else(|| "/".into());
        let mut others = Vec::new();
        for beside in &self.run.also {
            let at = PathBuf::from(OsStr::from_bytes(&beside.at));
            others.push((Mirror::open(&self.base, &beside.key)?, at));
        }
        let mut place = match (&mut mirror, &spec) {
            (Some(m), Some(s)) => Place::of(&self.base, m, s, &others),
            _ => Place::plain(in_place.as_ref().map_or(&home, |(root, _)| root)),
        };
        place.show_beside(&mut others).map_err(|why| {
            let why = format!("it can't show what the tree needs beside it ({why})");
            Stop::Refuse(Refusal::Lacks(why))
        })?;
        // Held until the client has taken in what changes there.
        let beside = others
            .iter()
            .map(|(m, _)| m.join_run())
            .collect::<Result<Vec<_>, _>>()?;
        if place.mode == PathMode::Rewrite && spec.as_ref().is_some_and(|s| s.identity) {
            let why = format!("it can't show the tree at its own path ({})", place.why_not);
            return Err(Stop::Refuse(Refusal::Lacks(why)));
        }
        let root = mirror.as_ref().map(|m| m.root().to_owned());
        let root = root.or_else(|| Some(in_place.as_ref()?.0.clone()));
        let path = match &root {
            Some(root) => admit::with_prefix(&self.run.path_prefix, root, admit::path_of(&login)),
            None => admit::path_of(&login).to_owned(),
        };
        self.path.clone_from(&path);
        locale::keep_known(&self.base, &mut self.run.env, &login);
        let mut env = admit::run_env(
            login,
            &self.run.env,
            &self.run.path_prefix,
            root.is_some().then(|| place.root()),
            &self.run.id,
        );
        // What the set-up brings is not there before it.
        let brings = !self.run.setup.is_empty() && mirror.is_some();
        if !brings && let Some(why) = admit::lacks(&self.base, &self.run.needs, &path) {
            return Err(Stop::Refuse(why));
        }
        let mut share = None;
        if let (Some(m), Some(spec)) = (&mut mirror, &spec) {
            share = Some(self.sync_and_set_up(m, spec, &place, &env, &path, false)?);
        } else {
            self.log.say(&Down::Admitted);
        }
        if let Some(root) = &root {
            admit::activate(&mut env, &self.run.path_prefix, root, &place);
        }
        if brings && let Some(why) = admit::lacks(&self.base, &self.run.needs, &path) {
            return Err(Stop::Refuse(why));
        }

        let at = spec
            .as_ref()
            .zip(root.as_deref())
            .map(|(s, r)| (r, s.dir.as_slice()));
        let dir = match in_place {
            Some((_, dir)) => dir,
            None => child::run_directory(at, &home),
        };
        if !dir.is_dir() {
            return Err(Stop::Refuse(Refusal::Lacks(format!(
                "no directory {}",
                dir.display()
            ))));
        }
        self.check_inside(&dir, &path, &place)?;
        if let Some(why) = admit::lacks_module(&self.run.needs, &env, &dir, &path, &place) {
            return Err(Stop::Refuse(why));
        }
        let program = self.run.argv.first().map_or(&[][..], Vec::as_slice);
        let program = admit::find(program, &dir, &path, &place).ok_or_else(|| {
            Stop::Refuse(Refusal::Lacks(format!(
                "no `{}`",
                String::from_utf8_lossy(program).escape_default()
            )))
        })?;
        self.run.mirror = spec;
        self.wait_for_go()?;
        Ok((
            Held {
                slot,
                facts,
                mirror,
                share,
                beside,
            },
            program,
            env,
            dir,
            place,
        ))
    }

    /// Takes a slot; one that insists waits for it.
    fn slot(&mut self, slots: u32) -> Result<Slot, Stop> {
        let mut said = false;
        loop {
            match admit::take_slot(&self.base, slots).context("failed to take a slot")? {
                Ok(slot) => return Ok(slot),
                Err(running) if !self.run.insist => return Err(Stop::Refuse(Refusal::Full { running })),
                Err(running) => {
                    if !said {
                        // The leave to start would be too old; the client gives a new one.
                        self.run.start_by = None;
                        self.log.say(&Down::Waiting { running });
                        said = true;
                    }
                }
            }
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::Up(Up::Gone | Up::Cancel) | Event::Lost) => return Err(Stop::Quit),
                Ok(Event::Up(Up::Signal(_))) => return Err(Stop::Quit),
                _ => {}
            }
        }
    }

    /// Brings the mirror to what the client has, and does what must be done there before the command.
    fn sync_and_set_up(
        &mut self,
        mirror: &mut Mirror,
        spec: &MirrorSpec,
        place: &Place,
        env: &[(OsString, OsString)],
        path: &OsStr,
        retry: bool,
    ) -> Result<RunGuard, Stop> {
        let root = mirror.root().to_owned();
        let room = Room {
            marks: mirror.setup_dir(),
            root: &root,
            place,
            env,
            path,
            retry,
        };
        let steps = std::mem::take(&mut self.run.setup);
        let missing = !room.missing(&steps).is_empty();
        let guard = self.sync(mirror, spec, missing)?;
        if missing {
            let log = self.log.clone();
            let did = room.set_up(&steps, &self.events, &|down| log.say(&down));
            let did = did.map_err(|stopped| match stopped {
                provision::Stopped::Quit => Stop::Quit,
                provision::Stopped::Refuse(why) => Stop::Refuse(why),
                provision::Stopped::Fail(e) => Stop::Fail(e),
            })?;
            if did {
                mirror.settle(&spec.back)?;
            }
            self.log.say(&Down::Ready);
        }
        Ok(guard)
    }

    /// Brings the mirror to what the client has, and registers the run there. With `setup`, more is to be done before the start.
    fn sync(&mut self, mirror: &mut Mirror, spec: &MirrorSpec, setup: bool) -> Result<RunGuard, Stop> {
        mirror.await_endings(ENDING);
        if let Err(why) = kept::settle_all(&self.base, mirror) {
            return Err(Stop::Refuse(Refusal::Disk(why)));
        }
        let mut inline = spec.pack.as_deref();
        let mut differs = match mirror.check(spec.expected, &spec.adopt, &spec.back)? {
            Check::At => None,
            Check::Differs(manifest) => Some(manifest),
        };
        let mut shared = !mirror.is_idle()?;
        let guard = mirror.join_run()?;
        loop {
            match differs.take() {
                // A pack that is here already is not asked for.
                None if inline.is_some() => {}
                None => self.log.say(&Down::Admitted),
                Some(manifest) => {
                    inline = None;
                    // The leave to start was given for a small pack; the client gives a new one.
                    self.run.start_by = None;
                    let bytes = crate::sync::manifest_bytes(&manifest)?;
                    let mut pieces = bytes.chunks(CHUNK).peekable();
                    while let Some(piece) = pieces.next() {
                        self.log.say(&Down::Differs {
                            data: piece.to_vec(),
                            last: pieces.peek().is_none(),
                            shared,
                        });
                    }
                }
            }
            let staged = match inline {
                Some(mut pack) => stage(&mut pack, &mirror.stage_dir(), u64::MAX)?,
                None => self.receive(mirror)?,
            };
            match mirror.apply(staged) {
                Ok(generation) => {
                    let sequence = mirror.sequence();
                    if setup {
                        // The leave to start would be too old; the client gives a new one.
                        self.run.start_by = None;
                    }
                    let synced = Down::Synced {
                        generation,
                        sequence,
                        setup,
                    };
                    if self.run.start_by.is_some() {
                        // Nobody waits for it: what follows at once takes it along.
                        self.log.say_later(&synced);
                    } else {
                        self.log.say(&synced);
                    }
                    return Ok(guard);
                }
                // Another run's sync or changes came in between.
                Err(SyncError::Differs(manifest)) => (differs, shared) = (Some(*manifest), true),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Stages the pack that the client sends.
    fn receive(&self, mirror: &Mirror) -> Result<crate::sync::Staged, Stop> {
        let mut input = PackInput::new(&self.events);
        let staged = stage(&mut input, &mirror.stage_dir(), u64::MAX);
        if !input.quit {
            input.drain();
        }
        if input.quit {
            return Err(Stop::Quit);
        }
        Ok(staged?)
    }

    /// Needs that lie in the mirror: directories the run reads, programs named by a path.
    fn check_inside(&self, dir: &Path, path: &std::ffi::OsStr, place: &Place) -> Result<(), Stop> {
        for need in &self.run.needs_dirs {
            let name = std::ffi::OsStr::from_bytes(need);
            if !dir.join(name).exists() {
                return Err(Stop::Refuse(Refusal::Lacks(format!(
                    "no {} in the mirror",
                    name.display()
                ))));
            }
        }
        for spec in self.run.needs.iter().filter(|n| n.need.program.contains('/')) {
            let program = &spec.need.program;
            if admit::find(program.as_bytes(), dir, path, place).is_none() {
                return Err(Stop::Refuse(Refusal::Lacks(format!("no `{program}`"))));
            }
        }
        Ok(())
    }

    /// Starts are refused past the start-by time: the client may by then have run the command elsewhere.
    fn wait_for_go(&mut self) -> Result<(), Stop> {
        let mut start_by = self.run.start_by;
        let waited = Instant::now();
        while start_by.is_none() {
            match self.events.recv_timeout(Duration::from_secs(1)) {
                Ok(Event::Up(Up::Go { start_by: by })) => start_by = Some(by),
                Ok(Event::Up(Up::Gone | Up::Cancel | Up::Signal(_)) | Event::Lost) => return Err(Stop::Quit),
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Quit),
                _ if waited.elapsed() > ANSWER => return Err(Stop::Quit),
                _ => {}
            }
        }
        // What arrived while the sync went on.
        let mut later = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Up(Up::Gone | Up::Cancel | Up::Signal(_)) | Event::Lost => return Err(Stop::Quit),
                other => later.push(other),
            }
        }
        for event in later {
            let _ = self.tx.send(event);
        }
        if start_by.is_some_and(|by| admit::now_ms() > by) {
            return Err(Stop::Refuse(Refusal::TooLate));
        }
        Ok(())
    }

    /// Watches the command to its end, collects what changed, and delivers both.
    fn watch(&mut self, held: Held, started: child::Started, place: &Place) -> Result<Keep, Stop> {
        let child::Started {
            child,
            stdin,
            outputs,
            pty,
        } = started;
        let pid = child.id();
        let begin = Instant::now();
        let (done_tx, done) = mpsc::channel();
        let mut open = outputs.len();
        // Before any of its output: the caller's terminal is made ready for that when it hears this.
        let paths = place.mode;
        self.log.say(&Down::Started { pid, paths });
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
        }
        drop(master);
        self.deliver(held, ending, ran_ms)
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
                    self.ending = mirror.and_then(|m| m.ending().ok());
                    child::end_all(Some(pid));
                    return Err(Stop::Quit);
                }
                Ok(Event::Up(_) | Event::Lost) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Quit),
            }
            let grace = if self.stopped { grace.max(STOPPED) } else { grace };
            if !self.run.detached && self.log.lost_since().is_some_and(|t| t.elapsed() > grace) {
                self.ending = mirror.and_then(|m| m.ending().ok());
                child::end_all(Some(pid));
                return Err(Stop::Quit);
            }
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
    fn deliver(&mut self, held: Held, ending: Ending, ran_ms: u64) -> Result<Keep, Stop> {
        let Held {
            slot,
            facts,
            mirror,
            share,
            beside: _beside,
        } = held;
        let (mut generation, mut sequence) = (None, 0);
        let mut stayed = (Vec::new(), 0);
        let mut over = Vec::new();
        let mut uncollected = None;
        let mut back = None;
        let failed = !matches!(ending, Ending::Code(0));
        let tools = if failed && self.run.tell_tools {
            self.tools()
        } else {
            Vec::new()
        };
        if let (Some(mut mirror), Some(spec)) = (mirror, &self.run.mirror) {
            if child::any_lives() {
                // It may write to memory that it shares with a file, which nothing tells of before it lets go of it.
                mirror.look_at_all();
            }
            match kept::collect(&mut mirror, spec, &self.dir) {
                Ok(collected) => {
                    (generation, sequence) = (Some(collected.generation), collected.sequence);
                    (stayed, over) = (collected.stayed, collected.over);
                    // Nothing is taken in there either, then.
                    back = kept::back(&self.dir).filter(|_| !collected.is_empty);
                }
                Err(e) => {
                    uncollected = Some(format!("{e:#}"));
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
        drop(slot);
        let load = admit::load(&self.base, facts.slots);
        let output = self.log.total();
        let exit = Exit {
            ending,
            ran_ms,
            output,
            generation,
            sequence,
            stayed,
            over,
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
        loop {
            // `Done`, or the end of a stream that has everything.
            let delivered = self.log.wait_delivered(Duration::from_millis(1));
            match self.events.recv_timeout(Duration::from_millis(500)) {
                Ok(Event::Up(Up::Detach)) => {
                    self.run.detached = true;
                    kept::write_exit(&self.dir, exit)?;
                    self.log.say(&Down::Detached);
                }
                Ok(Event::Up(Up::Done)) if self.run.detached => return Ok(Keep::Log),
                Ok(Event::Up(Up::Done)) => return Ok(Keep::Nothing),
                Ok(Event::Up(Up::Gone)) if !self.run.detached => return Ok(Keep::Note),
                Ok(Event::Lost) if delivered && !self.run.detached => return Ok(Keep::Note),
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
            if alone > grace {
                return Ok(if self.run.detached { Keep::All } else { Keep::Note });
            }
        }
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
