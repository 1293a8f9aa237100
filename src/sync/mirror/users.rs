//! The runs that use a mirror: while one lives, others must not take the tree for theirs; and since when none has made anything there.

use std::fs::{self, File};
use std::io::{self, Write};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Mirror, open_lock};
use crate::sync::{SyncError, now_ns, write_atomic};

/// A run uses the mirror while this lives.
#[derive(Debug)]
pub struct RunGuard(pub(super) File);

/// A run is the only one that uses the mirror while this lives: others wait where they would register.
#[derive(Debug)]
pub(super) struct Alone<'g>(&'g RunGuard);

impl RunGuard {
    /// Keeps others out, if there are none. Needs the mirror's lock, as this lets go of the registration for a moment.
    pub(super) fn alone(&self) -> io::Result<Option<Alone<'_>>> {
        match rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Alone(self))),
            Err(Errno::WOULDBLOCK) => {
                rustix::fs::flock(&self.0, FlockOperation::LockShared)?;
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // From exclusive to shared there is nothing to wait for.
        let _ = rustix::fs::flock(&self.0.0, FlockOperation::LockShared);
    }
}

impl Mirror {
    /// Registers a run, for as long as the guard lives. Call it after [`Mirror::check`], and drop the guard only after
    /// [`Mirror::collect`], also for a run whose caller is gone: what is not collected by then counts as stray, and the
    /// next client has it deleted.
    ///
    /// # Errors
    /// Those of opening the lock file.
    pub fn join_run(&mut self) -> io::Result<RunGuard> {
        let file = open_lock(&self.meta.join("users"))?;
        file.lock_shared()?;
        let open = self.meta.join("open");
        self.rested = match File::options().create_new(true).write(true).open(&open) {
            Ok(_) => self.time_in("rested"),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                File::options().append(true).open(&open)?.write_all(b"+")?;
                None
            }
            Err(e) => return Err(e),
        };
        Ok(RunGuard(file))
    }

    /// How many runs have come since the mirror was last at rest, for [`Mirror::rest`].
    pub fn runs_since_rest(&self) -> u64 {
        fs::metadata(self.meta.join("open")).map_or(0, |m| m.len())
    }

    /// The run of `guard` has ended, with all that it started, and was collected; `runs` came before that ([`Mirror::runs_since_rest`]).
    /// If no other is there, nothing in the mirror is newer than this moment. Without this word nothing is believed of its age.
    pub fn rest(&self, guard: &RunGuard, runs: u64) {
        let Ok(_lock) = self.lock() else { return };
        if let Ok(Some(_alone)) = guard.alone()
            && self.runs_since_rest() == runs
        {
            let noted = write_atomic(&self.meta.join("rested"), &now_ns().to_le_bytes());
            let _ = noted.and_then(|()| fs::remove_file(self.meta.join("open")));
        }
    }

    /// A run that was not collected (its cx was killed, or it was itself) made something that is not to stay.
    pub(super) fn note_stray(&self) -> Result<(), SyncError> {
        let path = self.meta.join("stray");
        File::create(&path).map_err(|e| SyncError::io("failed to create", &path, e))?;
        Ok(())
    }

    pub(super) fn has_strayed(&self) -> bool {
        self.meta.join("stray").exists()
    }

    /// What stands at the client is newer than it again.
    pub(super) fn forget_stray(&self) {
        let _ = fs::remove_file(self.meta.join("stray"));
    }

    /// A time since which no command has made anything in the mirror: no run but this process's lives, or was lost, since then.
    pub(super) fn rested_ns(&self) -> Option<i64> {
        self.rested.filter(|_| self.runs_since_rest() == 0)
    }
}
