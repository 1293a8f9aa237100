//! Slots of this machine: the same that its agent gives to commands from elsewhere, for those that were to go to a node and come here.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::agent::{self, Slot};
use crate::probe;

/// How often it is looked whether a slot came free, as on a node.
const LOOK: Duration = Duration::from_millis(100);

/// A place for one command here, for as long as this lives.
#[derive(Debug)]
pub struct Room(
    #[expect(dead_code, reason = "holds the slot; none where slots can't be counted")] Option<Slot>,
);

/// Gives those of this machine out, in the order in which they are asked for.
#[derive(Debug, Default)]
pub struct Rooms {
    /// How many there are, once that was asked for.
    slots: OnceLock<u32>,
    turn: Mutex<()>,
}

impl Rooms {
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
        let taken = agent::base_dir().and_then(|base| Ok(agent::take_slot(&base, self.count())?));
        match taken {
            Ok(Ok(slot)) => Some(Room(Some(slot))),
            Ok(Err(_)) => None,
            // Where they can't be counted, no command waits for ever.
            Err(_) => Some(Room(None)),
        }
    }
}
