//! From the admission to the leave to start: the slot, the mirror as the client has it, what must be set up there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{ANSWER, Held, Stop, Supervisor};
use crate::agent::admit::{self, Slot};
use crate::agent::feed::PackInput;
use crate::agent::log::Event;
use crate::agent::place::Place;
use crate::agent::provision::{self, Room};
use crate::agent::{child, kept, locale, shared};
use crate::proto::{CHUNK, Down, MirrorSpec, PathMode, Refusal, Up};
use crate::sync::{Check, Mirror, RunGuard, SyncError, stage};

/// A run whose caller is gone has ended within this time; for a collection that takes longer the mirror's lock is waited for.
pub(super) const ENDING: Duration = Duration::from_secs(6);

impl Supervisor {
    /// Admission, sync, and the last word on whether it may start.
    #[expect(clippy::type_complexity, reason = "one caller, right above")]
    pub(super) fn prepare(
        &mut self,
    ) -> Result<(Held, PathBuf, Vec<(OsString, OsString)>, PathBuf, Place), Stop> {
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
            .iter_mut()
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
        if let Some(why) = admit::lacks_path(&self.base, &self.run.needs_paths) {
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
    pub(super) fn sync_and_set_up(
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
    pub(super) fn sync(
        &mut self,
        mirror: &mut Mirror,
        spec: &MirrorSpec,
        setup: bool,
    ) -> Result<RunGuard, Stop> {
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
        let mut told = false;
        loop {
            match differs.take() {
                // A pack that is here already is not asked for.
                None if inline.is_some() => {}
                None => self.log.say(&Down::Admitted),
                Some(manifest) => {
                    (inline, told) = (None, true);
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
            let applied = match inline {
                Some(mut pack) => mirror.apply(stage(&mut pack, &mirror.stage_dir(), u64::MAX)?),
                // It was told that nobody else is here.
                None if told && !shared => mirror.apply_alone(self.receive(mirror)?, &guard),
                None => mirror.apply(self.receive(mirror)?),
            };
            match applied {
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

    /// Waits for the leave to start. One that ran out while the sync went on is asked for anew: a client that has run the command
    /// elsewhere by then gives none.
    fn wait_for_go(&mut self) -> Result<(), Stop> {
        let is_over = |by: u64| admit::now_ms() > by;
        if self.run.start_by.is_some_and(is_over) {
            self.run.start_by = None;
            self.log.say(&Down::Ready);
        }
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
        if start_by.is_some_and(is_over) {
            return Err(Stop::Refuse(Refusal::TooLate));
        }
        Ok(())
    }
}
