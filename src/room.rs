//! Slots of this machine: the same that its agent gives to commands from elsewhere, for those that were to go to a node and come here.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::Mutex;

use crate::agent::{self, Slot};
use crate::{paths, probe};

/// How often it is looked whether a slot came free, as on a node.
const LOOK: Duration = Duration::from_millis(100);

/// Names, in the environment of what a call of the MCP server has run here, the file that says whether the call has a slot.
pub const CALL: &str = "CX_CALL_ROOM";

/// A place for one command here, for as long as this lives.
#[derive(Debug)]
pub struct Room {
    /// None where slots can't be counted, or another command of the same call has one.
    _slot: Option<Slot>,
    /// Locked, shared, where the command is of a call.
    _call: Option<File>,
}

/// Gives those of this machine out, in the order in which they are asked for.
#[derive(Debug, Default)]
pub struct Rooms {
    /// How many there are, once that was asked for.
    slots: OnceLock<u32>,
    turn: Mutex<()>,
    /// The file of the call that they are for. Its commands may wait for each other, as in a pipe, and so need but one slot.
    call: Option<PathBuf>,
}

impl Rooms {
    /// Those for what a call of the MCP server has run in this process, if one has.
    pub fn of_call() -> Option<Arc<Rooms>> {
        let call = std::env::var_os(CALL).filter(|file| !file.is_empty())?;
        Some(Arc::new(Rooms {
            call: Some(call.into()),
            ..Rooms::default()
        }))
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        *self
            .slots
            .get_or_init(|| agent::default_slots(probe::size().cores))
    }

    /// One that is free now, where nobody else waits for it.
    pub fn take(&self) -> Option<Room> {
        let _turn = self.turn.try_lock().ok()?;
        self.look()
    }

    /// Waits for one.
    pub async fn free(&self) -> Room {
        let _turn = self.turn.lock().await;
        loop {
            if let Some(room) = self.look() {
                return room;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn look(&self) -> Option<Room> {
        let Some(Ok(file)) = self.call.as_deref().map(paths::lock_file) else {
            return self.slot();
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // Another one has it, or is looking for one in this moment.
            let shared = flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
            return shared.then_some(Room {
                _slot: None,
                _call: Some(file),
            });
        }
        let room = self.slot()?;
        // Where another of the call comes between, both have one.
        let _ = flock(&file, FlockOperation::LockShared);
        Some(Room {
            _call: Some(file),
            ..room
        })
    }

    fn slot(&self) -> Option<Room> {
        let room = |slot| Room {
            _slot: slot,
            _call: None,
        };
        let taken = agent::base_dir().and_then(|base| Ok(agent::take_slot(&base, self.count())?));
        match taken {
            Ok(Ok(slot)) => Some(room(Some(slot))),
            Ok(Err(_)) => None,
            // Where they can't be counted, no command waits for ever.
            Err(_) => Some(room(None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_one_call_share_a_slot() {
        let dir = tempfile::tempdir().unwrap();
        // More than there are could not be told from none.
        let rooms = |name: &str| Rooms {
            call: Some(dir.path().join(name)),
            ..Rooms::default()
        };
        let one = rooms("a").look();
        if one.as_ref().is_none_or(|r| r._slot.is_none()) {
            return;
        }
        let more: Vec<_> = (0..100).map(|_| rooms("a").look().unwrap()).collect();
        assert!(more.iter().all(|r| r._slot.is_none()));
        // Who comes when all of them have ended asks for one.
        drop((one, more));
        let again = rooms("a").look();
        assert!(again.is_none_or(|r| r._slot.is_some()));
    }
}
