//! Which of the candidates answers first: connections are opened one after another, a little apart, until one greets.
//!
//! Connecting starts nothing, so trying several at once is safe; the command goes to one node only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::run::Way;
use crate::config::{Config, NodeConfig};
use crate::node::link::{Greeting, Install};
use crate::node::{Link, LinkError};
use crate::paths::Paths;
use crate::table::{NodeClock, Table};

/// How long a node is waited for before the next one is tried beside it. A cold ssh to a far node takes about 0.9 s,
/// one over a standing connection 0.2 s.
const STAGGER: Duration = Duration::from_millis(900);

/// How long all of them may take together; what a person accepts before the command runs locally.
pub const TOGETHER: Duration = Duration::from_millis(3800);

/// How long a node that was named by the caller may take.
pub const NAMED: Duration = Duration::from_secs(10);

/// The outcome of trying candidates.
pub struct Reached {
    /// The one that answered first, with its place in the list.
    pub way: Option<(usize, Way)>,
    /// Those that did not answer, with why.
    pub failed: Vec<(usize, LinkError)>,
}

/// Connects to the first of `nodes` (best first) that answers within `limit`. One whose clock is known and whose agent was there
/// the last time need only open a session; what it is asked then travels right behind.
pub async fn first(
    nodes: &[NodeConfig],
    clocks: &HashMap<String, NodeClock>,
    config: &Arc<Config>,
    paths: &Arc<Paths>,
    limit: Duration,
) -> Reached {
    let deadline = Instant::now() + limit;
    let mut set = JoinSet::new();
    let mut failed: Vec<(usize, LinkError)> = Vec::new();
    let mut next = 0;
    let mut at = Instant::now();
    loop {
        if next < nodes.len() && (set.is_empty() || Instant::now() >= at) {
            let (node, config, paths) = (nodes[next].clone(), config.clone(), paths.clone());
            let i = next;
            let clock = clocks.get(&node.name).cloned();
            set.spawn(async move { (i, open(&node, clock, &config, &paths, deadline).await) });
            next += 1;
            at = Instant::now() + STAGGER;
            continue;
        }
        if set.is_empty() {
            return Reached { way: None, failed };
        }
        let wake = if next < nodes.len() {
            at
        } else {
            deadline + INSTALLING
        };
        tokio::select! {
            Some(done) = set.join_next() => match done {
                Ok((i, Ok(way))) => {
                    set.detach_all();
                    return Reached { way: Some((i, way)), failed };
                }
                Ok((i, Err(e))) => failed.push((i, e)),
                Err(_) => {}
            },
            () = tokio::time::sleep_until(wake) => if next >= nodes.len() {
                // Whoever is still installing an agent has had its time.
                set.abort_all();
                return Reached { way: None, failed };
            },
        }
    }
}

async fn open(
    node: &NodeConfig,
    clock: Option<NodeClock>,
    config: &Config,
    paths: &Paths,
    deadline: Instant,
) -> Result<Way, LinkError> {
    if let Some(clock) = clock
        && node.embedded.is_none()
    {
        if let Some(opening) = Link::borrow(node, config, paths).await {
            return Ok(Way::Borrowed(Box::new(opening)));
        }
        let opening = Link::begin(node, config, paths, deadline).await?;
        if opening.node_time(&clock, Duration::ZERO).is_some() {
            return Ok(Way::Early(opening, clock));
        }
        if let Ok(Greeting::Here(link)) = opening.greeted(deadline).await {
            return Ok(Way::Greeted(*link));
        }
    }
    let link = Link::open(node, config, paths, deadline, Install::Quietly).await?;
    Ok(Way::Greeted(link))
}

/// Installing an agent may take so much longer than connecting.
const INSTALLING: Duration = Duration::from_secs(60);

/// Notes in the load table what the node's agent said in its greeting.
pub fn note_answer(paths: &Paths, link: &Link) {
    // The table is a help, not a need: a full disk loses no run.
    let _ = Table::update(paths, |t| {
        t.nodes.entry(link.node.clone()).or_default().answered(
            &link.welcome,
            link.rtt,
            link.clock(),
            crate::agent::now_ms(),
        );
    });
}

/// Asks all of `nodes` at once how they are; dead ones cost one time-out together. `install` says what becomes of those without an
/// agent.
pub async fn all(
    nodes: &[NodeConfig],
    config: &Arc<Config>,
    paths: &Arc<Paths>,
    limit: Duration,
    install: Install,
) -> Vec<Result<Link, LinkError>> {
    let deadline = Instant::now() + limit;
    let mut set = JoinSet::new();
    for (i, node) in nodes.iter().cloned().enumerate() {
        let (config, paths) = (config.clone(), paths.clone());
        set.spawn(async move { (i, Link::open(&node, &config, &paths, deadline, install).await) });
    }
    let mut out: Vec<Option<Result<Link, LinkError>>> = nodes.iter().map(|_| None).collect();
    while let Some(done) = set.join_next().await {
        if let Ok((i, r)) = done {
            out[i] = Some(r);
        }
    }
    out.into_iter()
        .map(|r| r.unwrap_or_else(|| Err(LinkError::Here("the question was dropped".into()))))
        .collect()
}
