//! A node's clock as this machine remembers it, so that a start-by time can be given before the node has greeted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::paths::now_ms;

/// How long a clock is believed without being told again.
const FRESH_MS: u64 = 600_000;

/// How far our own clock may run from steady time in between: more means that it was set.
const STEP_MS: u64 = 1000;

/// What a node's clock showed at a moment, and how to tell the time since then. The true one is later by up to the time that
/// the greeting took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeClock {
    /// Milliseconds since the epoch on the node.
    node_ms: u64,
    /// The same moment in steady time here ([`steady_ms`]).
    steady_ms: u64,
    /// The same moment by our own clock, to notice a restart of this machine or a clock that was set.
    wall_ms: u64,
    /// Hash of the build whose agent told.
    build: String,
}

impl NodeClock {
    /// The node's clock shows `node_ms` now; the agent of `build` said so.
    pub fn new(node_ms: u64, build: &str) -> NodeClock {
        NodeClock {
            node_ms,
            steady_ms: steady_ms(),
            wall_ms: now_ms(),
            build: build.to_owned(),
        }
    }

    /// The node's clock `after` from now, if it is still to be believed and the agent of `build` told it.
    pub fn time(&self, build: &str, after: Duration) -> Option<u64> {
        let known = !build.is_empty() && self.build == build;
        let age = age(self, steady_ms(), now_ms()).filter(|_| known)?;
        Some(self.node_ms + age + after.as_millis() as u64)
    }
}

/// Milliseconds since the clock was told; `None` where that is too long ago or can't be told.
fn age(clock: &NodeClock, steady_ms: u64, wall_ms: u64) -> Option<u64> {
    let age = steady_ms.checked_sub(clock.steady_ms)?;
    let by_wall = wall_ms.checked_sub(clock.wall_ms)?;
    (age <= FRESH_MS && age.abs_diff(by_wall) <= STEP_MS).then_some(age)
}

/// Milliseconds that nobody can set, which pass while the machine sleeps, too; they start again when it does.
pub fn steady_ms() -> u64 {
    // Elsewhere the monotonic clock goes on in sleep.
    #[cfg(target_os = "linux")]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let id = rustix::time::ClockId::Monotonic;
    let t = rustix::time::clock_gettime(id);
    t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_believed_while_nothing_speaks_against_it() {
        let clock = NodeClock {
            node_ms: 5_000_000,
            steady_ms: 1000,
            wall_ms: 9_000_000,
            build: "b".into(),
        };
        for (what, steady, wall, want) in [
            ("at once", 1000, 9_000_000, Some(0)),
            ("later", 61_000, 9_060_000, Some(60_000)),
            ("slewed", 61_000, 9_060_900, Some(60_000)),
            ("our clock was set on", 61_000, 12_000_000, None),
            ("our clock was set back", 61_000, 8_000_000, None),
            ("this machine was started again", 900, 9_060_000, None),
            ("started again long ago", 61_000, 90_000_000, None),
            ("too old", 1_000_000, 9_999_000, None),
        ] {
            assert_eq!(age(&clock, steady, wall), want, "{what}");
        }
        let now = NodeClock::new(7000, "b");
        assert!(
            now.time("b", Duration::from_secs(4))
                .is_some_and(|t| (11_000..12_000).contains(&t))
        );
        assert_eq!(now.time("other", Duration::ZERO), None);
        assert_eq!(
            NodeClock::new(7000, "").time("", Duration::ZERO),
            None,
            "an embedded node"
        );
    }
}
