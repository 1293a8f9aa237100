//! Several commands at once, spread over the nodes.
//!
//! Where each of them goes is for the pipeline to say, as for any command; here they are only given to it one after the other, so that
//! each is placed with the ones before it known, and as many at once as there are slots. Those that took longest before go first, so
//! that none of them starts alone at the end. What comes back to this machine waits for a slot of it. A run that was left takes its slot on
//! its node until it ends, and so it does here.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::exec::{Ended, on_node, over};
use super::live::Live;
use super::ran::{Ran, State};
use super::text;
use crate::config::Config;
use crate::paths::Paths;
use crate::pipeline::{self, detached};
use crate::request::{Demands, Ending, Request};
use crate::room::Rooms;

/// How long asking the nodes for their load may take, where what is known of it is old.
const ASK: Duration = Duration::from_secs(2);

/// How often it is looked whether a run that was left has ended, while a command waits for a slot.
const LOOK: Duration = Duration::from_secs(2);

/// How long a node may take to say that of its runs. One that says nothing for so long has no slot that could come free.
const ANSWER: Duration = Duration::from_secs(10);

/// What may run at once, and what of that goes on without its caller.
struct Slots {
    all: Arc<Semaphore>,
    /// The runs that were left, as the records name them, each with its slot.
    left: Mutex<Vec<(String, OwnedSemaphorePermit)>>,
}

impl Slots {
    fn left(&self) -> std::sync::MutexGuard<'_, Vec<(String, OwnedSemaphorePermit)>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a free one.
    async fn one(&self) -> Option<OwnedSemaphorePermit> {
        // One that comes free meanwhile does not wait for what a node says.
        let look = async {
            loop {
                tokio::time::sleep(LOOK).await;
                self.free_ended().await;
            }
        };
        tokio::select! {
            slot = self.all.clone().acquire_owned() => slot.ok(),
            () = look => None,
        }
    }

    /// Frees the slots of runs that were left and have ended since, as far as their nodes say.
    async fn free_ended(&self) {
        if self.left().is_empty() {
            return;
        }
        let Ok(paths) = Paths::from_env().map(Arc::new) else {
            return;
        };
        let Ok(config) = Config::load(&paths) else { return };
        let known = detached::list(&paths, &config, ANSWER).await;
        let goes_on = |id: &str| {
            let mut of_it = known.iter().filter(|(r, _)| r.short() == id);
            of_it.any(|(_, state)| *state == pipeline::State::Going)
        };
        self.left().retain(|(id, _)| goes_on(id));
    }
}

/// Runs all commands of a call.
pub async fn carry_out(cwd: PathBuf, live: &Arc<Live>, ended: Ended, rooms: &Arc<Rooms>) {
    // Old knowledge would send several of them to the same machine; those that are down hold up nobody.
    let _ = tokio::task::spawn_blocking(|| pipeline::refresh_promising(ASK)).await;
    let mut tasks = JoinSet::new();
    let mut slots: Option<Arc<Slots>> = None;
    let requests: Vec<Arc<Request>> = live
        .commands
        .iter()
        .map(|c| {
            let demands = Demands {
                spread: true,
                detach: live.detach(),
                name: Some(c.id.clone()),
                ..Demands::default()
            };
            Arc::new(Request::script(&c.text, cwd.clone(), demands))
        })
        .collect();
    let usual = tokio::task::spawn_blocking({
        let requests = requests.clone();
        move || requests.iter().map(|r| pipeline::usual_ms(r)).collect()
    });
    for i in longest_first(&usual.await.unwrap_or_else(|_| vec![None; requests.len()])) {
        let slot = match &slots {
            Some(slots) => slots.one().await,
            None => None,
        };
        let request = requests[i].clone();
        let placed = pipeline::place(request.clone()).await;
        let (slots, slot) = match &slots {
            Some(slots) => (slots.clone(), slot),
            None => {
                let at_once = placed.slots().unwrap_or(rooms.count()) as usize;
                let all = slots.insert(Arc::new(Slots {
                    all: Arc::new(Semaphore::new(at_once)),
                    left: Mutex::default(),
                }));
                (all.clone(), all.one().await)
            }
        };
        let (live, ended, rooms, cwd) = (live.clone(), ended.clone(), rooms.clone(), cwd.clone());
        tasks.spawn(async move {
            let command = &live.commands[i];
            let ran = on_node(&request, placed, command, live.limits(), ended, Some(rooms)).await;
            if ran.state == State::Detached {
                slots.left().extend(slot.map(|slot| (ran.id.clone(), slot)));
            }
            over(&live, command, &cwd, ran).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// The order in which commands start that usually take so many milliseconds. What is not known may be long.
fn longest_first(usual: &[Option<u32>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..usual.len()).collect();
    order.sort_by_key(|&i| Reverse(usual[i].unwrap_or(u32::MAX)));
    order
}

/// `5 commands: 3 ok, 2 failed; 4.2s; tower 3, mini 2`, where all of it took so long, waits for slots counted.
pub fn summary(ran: &[Ran], took: Duration) -> String {
    const WORDS: [&str; 8] = [
        "ok",
        "failed",
        "timed out",
        "lost",
        "not brought back",
        "running",
        "waiting",
        "not run",
    ];
    let mut counts = [0; WORDS.len()];
    for r in ran {
        counts[match r.state {
            State::Ended(Ending::Code(0)) => 0,
            State::Ended(_) | State::Cancelled => 1,
            State::TimedOut(_) | State::Untold(_) | State::NotStarted(_) => 2,
            State::Lost => 3,
            State::NotBack(_) => 4,
            State::Detached => 5,
            State::Waiting => 6,
            State::NotRun => 7,
        }] += 1;
    }
    let counts = counts.iter().zip(WORDS).enumerate();
    let counts: Vec<String> = counts
        .filter(|(i, (n, _))| *i == 0 || **n > 0)
        .map(|(_, (n, word))| format!("{n} {word}"))
        .collect();
    let mut places: Vec<(&str, usize)> = Vec::new();
    for r in ran.iter().filter(|r| r.state != State::Waiting) {
        match places.iter_mut().find(|(p, _)| *p == r.place) {
            Some((_, n)) => *n += 1,
            None => places.push((&r.place, 1)),
        }
    }
    let places: Vec<String> = places.iter().map(|(p, n)| format!("{p} {n}")).collect();
    let s = if ran.len() == 1 { "" } else { "s" };
    let mut summary = format!(
        "{} command{s}: {}; {}",
        ran.len(),
        counts.join(", "),
        text::seconds(took)
    );
    if !places.is_empty() {
        summary.push_str("; ");
        summary.push_str(&places.join(", "));
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::capture::Capture;

    #[test]
    fn the_longest_and_the_unknown_start_first() {
        assert_eq!(
            longest_first(&[Some(5), None, Some(900), Some(5), None]),
            [1, 4, 2, 0, 3]
        );
        assert_eq!(longest_first(&[None, None, None]), [0, 1, 2]);
    }

    #[test]
    fn the_summary_tells_what_failed_from_what_did_not_end() {
        let dir = tempfile::tempdir().unwrap();
        let states = [
            State::Ended(Ending::Code(0)),
            State::Ended(Ending::Code(2)),
            State::TimedOut(5),
            State::NotStarted(5),
            State::Lost,
            State::NotRun,
        ];
        let ran = states.map(|state| Ran {
            state,
            ..Ran::not_run("", "x".into(), Capture::new(dir.path(), "x"))
        });
        assert_eq!(
            summary(&ran, Duration::from_secs(5)),
            "6 commands: 1 ok, 1 failed, 2 timed out, 1 lost, 1 not run; 5.0s; none 6"
        );
        assert_eq!(
            summary(&ran[..1], Duration::from_secs(5)),
            "1 command: 1 ok; 5.0s; none 1"
        );
    }
}
