//! A run that was asked for before the node's agent had greeted: the login shell's rc files and the agent's start cost no
//! waiting then.
//!
//! The packet lies in the session until the agent reads it, so it is safe by the same rules as any other: it carries a start-by
//! time, in the node's clock as it was known from the last answer, and this side turns elsewhere only once that has passed
//! or the node has said that nothing was started. Where there is no agent of this build, nobody reads the packet.

use std::time::Duration;

use tokio::time::Instant;

use super::lost::find_out;
use super::{Again, Caller, RunError, START_WINDOW};
use crate::node::link::{Greeting, Install, Opening, RunChannel};
use crate::node::{Link, LinkError};

/// What a run goes on with: the link, the run's channel, and, where the run had to be found again on a new stream, the bytes of
/// input that had arrived.
type Found = (Link, RunChannel, Option<u64>);

/// How long the agent at the end of a borrowed stream may take to answer: as long as a standing connection may.
const STANDING: Duration = Duration::from_millis(1500);

/// Waits for the answer of the agent at the end of a borrowed stream. The run that it was asked for has no leave to start yet.
///
/// # Errors
/// [`RunError::NoAgent`] where none comes.
pub(super) async fn answered(opening: Opening, caller: &mut Caller<'_>) -> Result<Link, RunError> {
    tokio::select! {
        greeting = opening.greeted(Instant::now() + STANDING) => match greeting {
            Ok(Greeting::Here(link)) => Ok(*link),
            _ => Err(RunError::NoAgent),
        },
        Some(order) = caller.orders.recv() => Err(RunError::Interrupted(order.signal())),
    }
}

/// Waits for the greeting of the agent that was asked already.
///
/// # Errors
/// [`RunError::NoAgent`] where nothing was started because no agent read what was sent; otherwise as for a stream that breaks before the start.
pub(super) async fn greeted(
    opening: Opening,
    channel: RunChannel,
    again: &Again<'_>,
    id: &str,
    start_by: Option<Instant>,
    caller: &mut Caller<'_>,
) -> Result<Found, RunError> {
    let deadline = start_by.unwrap_or_else(|| Instant::now() + START_WINDOW);
    let why = tokio::select! {
        greeting = opening.greeted(deadline) => match greeting {
            Ok(Greeting::Here(link)) => return Ok((*link, channel, None)),
            Ok(Greeting::Missing(_)) => return Err(RunError::NoAgent),
            Err(e) => e,
        },
        Some(order) = caller.orders.recv() => return Err(RunError::Interrupted(order.signal())),
    };
    // An agent that is there and does not greet is damaged, unless the link broke: both look the same here.
    let (is_agents, why) = (matches!(why, LinkError::Agent(_)), why.to_string());
    match find_out(again, id, start_by, &why, Install::Quietly, caller.orders).await {
        Ok((link, channel, stdin)) => Ok((link, channel, Some(stdin))),
        Err(RunError::NotStarted { broken: true, .. }) if is_agents => Err(RunError::NoAgent),
        Err(e) => Err(e),
    }
}
