//! Errands: what needs a mirror and no command.

use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{ANSWER, Stop, Supervisor};
use crate::agent::log::Event;
use crate::agent::place::Place;
use crate::agent::{admit, kept};
use crate::proto::{Down, Errand, Exit, Left, Up};
use crate::request::Ending;
use crate::sync::Mirror;

impl Supervisor {
    /// Does what needs no command: no slot, no admission.
    pub(super) fn go_on(&mut self, errand: &Errand) -> Result<(), Stop> {
        let spec = self.run.mirror.take().context("an errand without a mirror")?;
        let mut exit = Exit {
            ending: Ending::Code(0),
            ran_ms: 0,
            output: 0,
            generation: None,
            sequence: 0,
            input_at: None,
            left: Left::default(),
            uncollected: None,
            tools: Default::default(),
            load: admit::load(&self.base, self.run.slots.unwrap_or(0)),
        };
        let mut back = None;
        match errand {
            Errand::Fetch(paths) => {
                let mut out = kept::new_back(&self.dir)?;
                let found = Mirror::open(&self.base, &spec.key)?.fetch(paths, spec.back.limit, &mut out)?;
                exit.sequence = found.sequence;
                exit.left = found.left;
                back = kept::back(&self.dir);
            }
            Errand::Collect => {
                let mut mirror = Mirror::open(&self.base, &spec.key)?;
                let found = kept::collect(&mut mirror, &spec, &self.dir)?;
                back = kept::back(&self.dir).filter(|_| !found.is_empty);
                kept::tell(&mut exit, found);
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
}
