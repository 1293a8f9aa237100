//! Several commands at once, spread over the nodes.
//!
//! Where each of them goes is for the pipeline to say, as for any command; here they are only given to it one after the other, so that
//! each is placed with the ones before it known, and as many at once as there are slots. Those that took longest before go first, so
//! that none of them starts alone at the end.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::exec::{Ended, Live, on_node};
use super::ran::{Ran, State};
use super::text;
use crate::pipeline;
use crate::request::{Demands, Ending, Request};

/// How long asking the nodes for their load may take, where what is known of it is old.
const ASK: Duration = Duration::from_secs(2);

/// Runs all commands of a call.
pub async fn carry_out(cwd: PathBuf, live: &Arc<Live>, ended: Ended) {
    // Old knowledge would send several of them to the same machine; those that are down hold up nobody.
    let _ = tokio::task::spawn_blocking(|| pipeline::refresh_promising(ASK)).await;
    let mut tasks = JoinSet::new();
    let mut slots: Option<Arc<Semaphore>> = None;
    let requests: Vec<Arc<Request>> = live
        .commands
        .iter()
        .map(|c| {
            let demands = Demands {
                spread: true,
                detach: live.detach(),
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
        let permit = match &slots {
            Some(slots) => slots.clone().acquire_owned().await.ok(),
            None => None,
        };
        let request = requests[i].clone();
        let placed = pipeline::place(request.clone()).await;
        let permit = match &slots {
            Some(_) => permit,
            None => {
                let here = std::thread::available_parallelism().map_or(1, usize::from);
                let at_once = placed.slots().map_or(here, |n| n as usize);
                let all = slots.insert(Arc::new(Semaphore::new(at_once)));
                all.clone().acquire_owned().await.ok()
            }
        };
        let (live, ended) = (live.clone(), ended.clone());
        tasks.spawn(async move {
            let command = &live.commands[i];
            let ran = on_node(&request, placed, command, live.limits(), ended).await;
            command.set_ran(ran);
            drop(permit);
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
    let ok = ran
        .iter()
        .filter(|r| r.state == State::Ended(Ending::Code(0)))
        .count();
    let running = ran.iter().filter(|r| r.state == State::Detached).count();
    let waiting = ran.iter().filter(|r| r.state == State::Waiting).count();
    let not_run = ran.iter().filter(|r| r.state == State::NotRun).count();
    let failed = ran.len() - ok - running - waiting - not_run;
    let mut counts = vec![format!("{ok} ok")];
    for (n, what) in [
        (failed, "failed"),
        (running, "running"),
        (waiting, "waiting"),
        (not_run, "not run"),
    ] {
        if n > 0 {
            counts.push(format!("{n} {what}"));
        }
    }
    let mut places: Vec<(&str, usize)> = Vec::new();
    for r in ran.iter().filter(|r| r.state != State::Waiting) {
        match places.iter_mut().find(|(p, _)| *p == r.place) {
            Some((_, n)) => *n += 1,
            None => places.push((&r.place, 1)),
        }
    }
    let places: Vec<String> = places.iter().map(|(p, n)| format!("{p} {n}")).collect();
    let mut summary = format!(
        "{} commands: {}; {}",
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

    #[test]
    fn the_longest_and_the_unknown_start_first() {
        assert_eq!(
            longest_first(&[Some(5), None, Some(900), Some(5), None]),
            [1, 4, 2, 0, 3]
        );
        assert_eq!(longest_first(&[None, None, None]), [0, 1, 2]);
    }
}
