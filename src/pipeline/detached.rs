//! Runs that went on without a cx: what became of them, and bringing home what they changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::kept::{self, Record, here};
use crate::client::reach;
use crate::client::run::{self, Again, Caller, Job, Order, RunError};
use crate::client::stdio::{Input, Output};
use crate::client::terminal::Terminal;
use crate::client::tree::left_there;
use crate::config::{Config, NodeConfig};
use crate::node::Link;
use crate::node::link::Install;
use crate::paths::Paths;
use crate::proto::{Down, Seen, Up};
use crate::report::{self, Told};
use crate::request::{Ending, Outcome};

/// How long the nodes may take, all together, to say what became of their runs when nobody asked for that.
const BRIEFLY: Duration = Duration::from_secs(3);

/// What is said of a run whose changes are not ready yet.
const GOES_ON: &str = "it has not ended";

/// How a run that is known here stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It goes on.
    Going,
    /// It ended like this.
    Ended(Ending),
    /// Its end is not known; why, in one clause.
    Unknown(String),
}

/// A connection to the node that a run is on.
///
/// # Errors
/// When it is no node of the config any more, or does not answer; one clause.
pub async fn link(node: &str, config: &Config, paths: &Paths, limit: Duration) -> Result<Link, String> {
    let node = node_of(node, config)?;
    let link = Link::open(node, config, paths, Instant::now() + limit, Install::Never)
        .await
        .map_err(|e| e.to_string())?;
    reach::note_answer(paths, &link);
    Ok(link)
}

fn node_of<'a>(name: &str, config: &'a Config) -> Result<&'a NodeConfig, String> {
    config
        .nodes
        .iter()
        .find(|n| n.name == name)
        .ok_or_else(|| format!("{name} is no node any more"))
}

/// All runs that are known here, the youngest first, with what their nodes say of them; each node is asked for at most `limit`.
pub async fn list(paths: &Arc<Paths>, config: &Config, limit: Duration) -> Vec<(Record, State)> {
    let records = kept::all(paths);
    let mut nodes: Vec<&str> = records
        .iter()
        .filter(|r| r.ending.is_none() && r.node != here::HERE)
        .map(|r| r.node.as_str())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    let records_of = &records;
    let asked = nodes.into_iter().map(|node| async move {
        let ids: Vec<String> = records_of
            .iter()
            .filter(|r| r.node == node && r.ending.is_none())
            .map(|r| r.id.clone())
            .collect();
        let answer = match link(node, config, paths, limit).await {
            Ok(link) => look(&link, &ids, limit).await,
            Err(why) => Err(why),
        };
        (node.to_owned(), ids, answer)
    });
    let mut said = std::collections::HashMap::new();
    for (node, ids, answer) in join_all(asked).await {
        for (i, id) in ids.into_iter().enumerate() {
            let state = match &answer {
                Ok(seen) => seen.get(i).map_or_else(|| state_of(Seen::Gone), |s| state_of(*s)),
                Err(why) => State::Unknown(format!("{node}: {why}")),
            };
            said.insert(id, state);
        }
    }
    records
        .into_iter()
        .map(|r| {
            let state = match r.ending {
                Some(ending) => State::Ended(ending),
                None if r.node == here::HERE => here_is(paths, &r.id),
                None => said.remove(&r.id).unwrap_or_else(|| state_of(Seen::Gone)),
            };
            (r, state)
        })
        .collect()
}

/// Waits for all of them, one after another being polled together.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|f| (Some(Box::pin(f)), None)).collect();
    std::future::poll_fn(move |cx| {
        let mut all = true;
        for (future, done) in &mut waiting {
            if let Some(f) = future {
                match f.as_mut().poll(cx) {
                    std::task::Poll::Ready(v) => (*future, *done) = (None, Some(v)),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all {
            std::task::Poll::Ready(waiting.iter_mut().filter_map(|(_, d)| d.take()).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

/// Tells a run on a node to end, which may take the node so long to hear; whether it still went on.
///
/// # Errors
/// When the node can't be told; one clause.
pub async fn stop(record: &Record, config: &Config, paths: &Paths, limit: Duration) -> Result<bool, String> {
    let link = link(&record.node, config, paths, limit).await?;
    let id = record.id.clone();
    let told = link.ask(&Up::Stop { id }, limit).await;
    told.map(|t| matches!(t, Down::Told(true)))
        .map_err(|e| e.to_string())
}

fn state_of(seen: Seen) -> State {
    match seen {
        Seen::Going => State::Going,
        Seen::Ended { ending, .. } => State::Ended(ending),
        Seen::Gone => State::Unknown("the node knows nothing of it, or not any more".into()),
        Seen::Broken => State::Unknown("the node or cx there went down in the middle of it".into()),
    }
}

/// How a run on this machine stands whose end nobody has seen.
fn here_is(paths: &Paths, id: &str) -> State {
    if here::is_going(paths, id) {
        return State::Going;
    }
    // It may have ended between the two looks.
    let ending = kept::find(paths, id).ok().and_then(|r| r.ending);
    ending.map_or_else(
        || State::Unknown("cx or this machine went down in the middle of it".into()),
        State::Ended,
    )
}

async fn look(link: &Link, ids: &[String], limit: Duration) -> Result<Vec<Seen>, String> {
    let ids = ids.to_vec();
    match link.ask(&Up::Look { ids }, limit).await {
        Ok(Down::Seen(seen)) => Ok(seen),
        _ => Err("no answer".into()),
    }
}

/// Attaches to a run: its output goes to `output` (from its beginning, or not at all with `quietly`, which is also how long the node
/// may take to answer), and when it ends what it changed comes home. `own_status` of the outcome is 75 where its end can't be known.
pub async fn attach(
    record: &Record,
    config: &Config,
    paths: &Arc<Paths>,
    quietly: Option<Duration>,
    output: &Output,
    orders: &mut mpsc::Receiver<Order>,
    told: &mut dyn Told,
) -> Outcome {
    let failed = |why: &str| {
        let mut o = Outcome::own(&record.node, why, report::LOST);
        o.run_id.clone_from(&record.id);
        o
    };
    let limit = quietly.unwrap_or(Duration::from_secs(10));
    let node = match node_of(&record.node, config) {
        Ok(node) => node,
        Err(why) => return failed(&why),
    };
    let link = match link(&record.node, config, paths, limit).await {
        Ok(link) => link,
        Err(why) => return failed(&why),
    };
    if quietly.is_some() {
        let seen = look(&link, std::slice::from_ref(&record.id), limit).await;
        match seen.as_deref() {
            Ok([Seen::Ended { .. }]) => {}
            Ok([Seen::Gone]) => {
                // Nothing of it will come any more, and so nobody has to ask again.
                kept::ended(paths, record, None, true);
                return failed(GOES_ON);
            }
            _ => return failed(GOES_ON),
        }
    }
    let (tree, sent) = kept::tree(paths, record).unzip();
    let job = Job {
        link_grace: config.policy.link_grace,
        back_limit: config.policy.back_limit,
        ..Job::without_command(record.id.clone(), tree.map(Arc::new))
    };
    let again = Again { node, config, paths };
    let mut caller = Caller {
        output,
        input: &mut Input::empty(),
        orders,
        terminal: &mut Terminal::look(false),
        told,
        rooms: None,
    };
    let have = if quietly.is_some() { u64::MAX } else { 0 };
    match run::attach(link, again, &job, sent, have, &mut caller).await {
        Ok(ran) => {
            kept::ended(paths, record, Some(ran.exit.ending), true);
            let mut notes = ran.back.notes;
            notes.extend(
                record
                    .workspace
                    .iter()
                    .flat_map(|root| left_there(&ran.exit, root, node.write_back)),
            );
            Outcome {
                place: record.node.clone(),
                reason: "attached".into(),
                ending: Some(ran.exit.ending),
                not_back: None,
                own_status: 0,
                run_id: record.id.clone(),
                sent: (0, 0),
                back: (ran.back.files.0 + ran.back.deleted, ran.back.files.1),
                sync_time: Duration::ZERO,
                local_time: Duration::ZERO,
                run_time: Duration::from_millis(ran.exit.ran_ms),
                notes,
                load: None,
            }
        }
        Err(RunError::Interrupted(n)) => Outcome {
            ending: Some(Ending::Signal(n)),
            ..failed("interrupted")
        },
        Err(RunError::Detached | RunError::Room(_)) => failed("it goes on"),
        Err(RunError::Back { ending, why }) => {
            kept::ended(paths, record, Some(ending), false);
            failed(&format!(
                "it ended with {}, but {NOT_BACK}: {why}",
                ending.shell_status()
            ))
        }
        Err(RunError::Lost { why } | RunError::NotStarted { why, .. } | RunError::NotShared { why }) => {
            failed(&why)
        }
        Err(RunError::NoAgent) => failed("the node has no agent of this cx"),
    }
}

/// Brings home what detached runs of this workspace changed that have ended meanwhile, and tells of each in one line, `quiet` only of
/// what did not come.
pub(super) async fn fetch(
    paths: &Arc<Paths>,
    config: &Config,
    root: &std::path::Path,
    quiet: bool,
    told: &mut dyn Told,
) {
    let pending = kept::pending(paths, root);
    // Of all nodes together: the command waits for this.
    let deadline = Instant::now() + BRIEFLY;
    let mut silent: Vec<String> = Vec::new();
    for record in pending {
        let left = deadline.saturating_duration_since(Instant::now());
        if silent.contains(&record.node) || left.is_zero() {
            continue;
        }
        let (_tx, mut orders) = mpsc::channel(1);
        let nowhere = Output::to(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let outcome = attach(&record, config, paths, Some(left), &nowhere, &mut orders, told).await;
        if outcome.ending.is_none() && outcome.reason != GOES_ON {
            silent.push(record.node.clone());
        }
        if let Some(ending) = outcome.ending {
            // What it changed is kept apart or can't be had: that is for the caller to know in any case.
            if quiet && outcome.notes.is_empty() {
                continue;
            }
            let files = match outcome.back.0 {
                0 => String::new(),
                1 => " · 1 file back".into(),
                n => format!(" · {n} files back"),
            };
            let notes: String = outcome.notes.iter().map(|n| format!(" · {n}")).collect();
            told.line(&format!(
                "{}: run {} has ended with {}{files}{notes} (cx logs {})",
                record.node,
                record.short(),
                ending.shell_status(),
                record.short()
            ));
        } else if outcome.reason.contains(NOT_BACK) {
            told.line(&format!(
                "{}: run {}: {}",
                record.node,
                record.short(),
                outcome.reason
            ));
        }
    }
}

/// What is said of a run whose changes are still to come.
const NOT_BACK: &str = "what it changed did not come back";
