//! The load table: what cx last knew of every node, in one small versioned file shared by every cx process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::proto::{Facts, Load};

/// Version of the file; one of another version counts as missing.
pub const VERSION: u32 = 1;

/// The table as it lies on disk (JSON).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// [`VERSION`].
    pub version: u32,
    /// By node name.
    pub nodes: BTreeMap<String, NodeState>,
    /// This machine.
    pub local: NodeState,
}

/// What is known of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeState {
    /// What it is; `None` before the first contact.
    pub facts: Option<Facts>,
    /// How busy it was at `seen_ms`.
    pub load: Option<Load>,
    /// When it last answered, milliseconds since the epoch in our clock; 0: never.
    pub seen_ms: u64,
    /// The last error and when it happened; cleared by an answer.
    pub error: Option<NodeError>,
    /// Open breaker.
    pub breaker: Option<Breaker>,
    /// The node's clock minus ours, milliseconds, and when that was learned (our clock, ms).
    pub clock: Option<(i64, u64)>,
    /// Time from question to answer on a standing connection, milliseconds.
    pub rtt_ms: Option<u32>,
    /// Build (hash) of the agent that is installed there.
    pub agent: String,
    /// CPU counters `(busy, total)` in ticks when the local machine was last sampled; only for `local`.
    pub cpu_ticks: Option<(u64, u64)>,
}

/// Why a node could not be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeError {
    /// One clause: `connection timed out`.
    pub what: String,
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
}

/// A node that failed is left alone until `until_ms`; then one probe (never the user's command) may try it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Milliseconds since the epoch.
    pub until_ms: u64,
    /// The pause in seconds: 5, doubling to 60.
    pub pause_s: u32,
}
