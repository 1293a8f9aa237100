//! Which node: the one policy function of all doors.

use crate::plan::{Verdict, Workload};

/// What is known of one node at the moment of the decision; all times are ages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// The node's name.
    pub name: String,
    /// Estimated seconds until the command is finished there.
    pub finish_s: f64,
    /// Why this place in the order, one clause: `free, 8 cores, cpu 3 %`.
    pub reason: String,
}

/// A node that was not eligible, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// The node's name.
    pub name: String,
    /// One clause: `unreachable: connection timed out 3 s ago`, `no \`pytest\``, `needs linux, is darwin`.
    pub reason: String,
}

/// The decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// Try these, best first.
    Nodes {
        /// At least one.
        candidates: Vec<Candidate>,
        /// The others.
        rejected: Vec<Rejected>,
        /// Why it leaves this machine.
        reason: String,
    },
    /// Run here.
    Local {
        /// Why.
        reason: String,
        /// Nodes that were looked at, if it came to that.
        rejected: Vec<Rejected>,
    },
    /// The caller's demands can't be met, and they forbid running here.
    Impossible {
        /// Why.
        reason: String,
        /// Nodes that were looked at.
        rejected: Vec<Rejected>,
    },
}

/// Keeps the two names in scope for the signature that is to come.
#[doc(hidden)]
pub type Judged<'a> = (&'a Verdict, &'a Workload);
