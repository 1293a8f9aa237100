//! The load table: what cx last knew of every node, in one small versioned file shared by every cx process.

mod clock;
mod hook_view;
mod refresh;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::paths::{self, Paths};
use crate::proto::{Facts, Load, PathMode, Welcome};

pub use clock::{NodeClock, steady_ms};
pub use hook_view::{HookView, hook_view, write_hook_view};
pub use refresh::{detach, refresh_if_stale, refresh_lock};

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
    /// The node's clock, as its agent told it last.
    #[serde(rename = "node_clock")]
    pub clock: Option<NodeClock>,
    /// Time from question to answer on a standing connection, milliseconds.
    pub rtt_ms: Option<u32>,
    /// Build (hash) of the agent that is installed there.
    pub agent: String,
    /// How the last run there saw its tree.
    pub paths: Option<PathMode>,
    /// Why not at the path here, where that was so, in the node's words.
    pub paths_why: Option<String>,
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

/// Age past which what is known of a node's load is stale.
pub const STALE_MS: u64 = 15_000;

/// The first pause of a breaker, and the longest, in seconds.
const PAUSE_S: (u32, u32) = (5, 60);

impl Table {
    /// Reads the table. One that is missing, broken or of another version counts as empty; the second value says so.
    pub fn load(paths: &Paths) -> (Table, Option<String>) {
        let file = paths.cache.join("table.json");
        let why = match std::fs::read(&file) {
            Ok(bytes) => match serde_json::from_slice::<Table>(&bytes) {
                Ok(t) if t.version == VERSION => return (t, None),
                Ok(t) => format!(
                    "the load table is of version {}, not {VERSION}; it is made anew",
                    t.version
                ),
                Err(e) => format!("the load table can't be read ({e}); it is made anew"),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => "there is no load table yet".to_owned(),
            Err(e) => format!("the load table can't be read ({e})"),
        };
        (
            Table {
                version: VERSION,
                ..Table::default()
            },
            Some(why),
        )
    }

    /// Changes the table under its lock, and the hook's summary with it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn update(paths: &Paths, change: impl FnOnce(&mut Table)) -> anyhow::Result<()> {
        let lock =
            paths::lock_file(&paths.cache.join("table.lock")).context("failed to lock the load table")?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).context("failed to lock the load table")?;
        let mut table = Table::load(paths).0;
        change(&mut table);
        let bytes = serde_json::to_vec(&table)?;
        paths::write_atomic(&paths.cache.join("table.json"), &bytes, 0o600)
            .context("failed to write the load table")?;
        hook_view::after_update(paths, &table);
        Ok(())
    }
}

impl NodeState {
    /// The node has answered: everything fresh, the breaker closed.
    pub fn answered(&mut self, welcome: &Welcome, rtt: Duration, clock: NodeClock, now_ms: u64) {
        self.facts = Some(welcome.facts.clone());
        self.load = Some(welcome.load.clone());
        self.seen_ms = now_ms;
        self.error = None;
        self.breaker = None;
        self.clock = Some(clock);
        self.rtt_ms = Some(rtt.as_millis() as u32);
        self.agent = welcome.build.clone();
    }

    /// The node could not be talked to: opens its breaker, or doubles the pause of one that has just run out. Failures that were
    /// under way together count once.
    pub fn failed(&mut self, what: &str, now_ms: u64) {
        let pause_s = match self.breaker {
            Some(b) if now_ms < b.until_ms => b.pause_s,
            Some(b) => (b.pause_s * 2).min(PAUSE_S.1),
            None => PAUSE_S.0,
        };
        self.error = Some(NodeError {
            what: what.to_owned(),
            at_ms: now_ms,
        });
        self.breaker = Some(Breaker {
            until_ms: now_ms + u64::from(pause_s) * 1000,
            pause_s,
        });
    }

    /// Whether the node may be tried now; otherwise why not.
    ///
    /// # Errors
    /// The reason, one clause.
    pub fn usable(&self, now_ms: u64) -> Result<(), String> {
        match self.breaker {
            Some(b) if now_ms < b.until_ms => {
                let what = self.error.as_ref().map_or("it failed", |e| e.what.as_str());
                Err(format!(
                    "{what}; tried again in {} s",
                    (b.until_ms - now_ms).div_ceil(1000)
                ))
            }
            _ => Ok(()),
        }
    }

    /// Whether what is known of its load is too old to be trusted.
    pub fn is_stale(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.seen_ms) > STALE_MS
    }
}

/// Why a machine counts as overloaded; `None` while it is healthy. Other nodes then come first.
pub fn overloaded(load: &Load, facts: &Facts) -> Option<String> {
    if load.cpu > 90.0 {
        return Some(format!("cpu {:.0} %", load.cpu));
    }
    crushed(load, facts)
}

/// Free disk below which a node takes no run: a sync into a full disk helps nobody.
const MIN_DISK: u64 = 256 << 20;

/// Why a node's disk is too full for a run; `None` while it is not.
pub fn full(load: &Load) -> Option<String> {
    (load.disk_free < MIN_DISK).then(|| {
        format!(
            "{} MB of disk left, and {} are to stay free; `cx gc` shows what cx keeps there",
            load.disk_free >> 20,
            MIN_DISK >> 20
        )
    })
}

/// Why a machine must not be given a further heavy command, the agent's measure on arrival. Full use of the CPU alone is none: it may
/// be a moment's, and is what a machine is for.
pub fn crushed(load: &Load, facts: &Facts) -> Option<String> {
    let cores = facts.cores.max(1) as f32;
    if load.load1 > 2.0 * cores {
        return Some(format!("load {:.1} on {} cores", load.load1, facts.cores));
    }
    let least = (256 << 20).max(facts.memory / 25);
    if load.memory_free > 0 && load.memory_free < least {
        return Some(format!("{} MB of memory free", load.memory_free >> 20));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_opens_doubles_and_closes() {
        let mut s = NodeState::default();
        assert!(s.usable(0).is_ok());
        s.failed("connection refused", 1000);
        assert_eq!(
            s.usable(2000).unwrap_err(),
            "connection refused; tried again in 4 s"
        );
        s.failed("connection refused", 3000);
        assert_eq!(
            s.breaker.unwrap().pause_s,
            5,
            "failures under way together count once"
        );
        for (at, pause) in [
            (10_000, 10),
            (30_000, 20),
            (60_000, 40),
            (200_000, 60),
            (400_000, 60),
        ] {
            s.failed("connection refused", at);
            assert_eq!(s.breaker.unwrap().pause_s, pause);
        }
        assert!(s.usable(500_000).is_ok());
    }

    #[test]
    fn the_table_survives_what_happens_to_files() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        assert!(Table::load(&paths).1.unwrap().contains("no load table"));
        Table::update(&paths, |t| t.nodes.entry("a".into()).or_default().failed("x", 1)).unwrap();
        assert_eq!(Table::load(&paths).0.nodes.len(), 1);
        let file = paths.cache.join("table.json");
        std::fs::write(&file, b"{\"version\":1").unwrap();
        assert!(Table::load(&paths).1.unwrap().contains("made anew"));
        std::fs::write(&file, b"{\"version\":99,\"nodes\":{},\"local\":{}}").unwrap();
        assert!(Table::load(&paths).1.unwrap().contains("version 99"));
        Table::update(&paths, |_| ()).unwrap();
        assert!(Table::load(&paths).1.is_none());
    }

    #[test]
    fn overload_is_named() {
        let facts = Facts {
            cores: 4,
            memory: 8 << 30,
            ..Facts::default()
        };
        let fine = Load {
            cpu: 85.0,
            load1: 7.0,
            memory_free: 4 << 30,
            ..Load::default()
        };
        assert_eq!(overloaded(&fine, &facts), None);
        assert!(
            overloaded(
                &Load {
                    load1: 9.0,
                    ..fine.clone()
                },
                &facts
            )
            .unwrap()
            .contains("load 9.0")
        );
        assert!(
            overloaded(
                &Load {
                    cpu: 95.0,
                    ..fine.clone()
                },
                &facts
            )
            .unwrap()
            .contains("cpu 95")
        );
        assert!(
            overloaded(
                &Load {
                    memory_free: 100 << 20,
                    ..fine
                },
                &facts
            )
            .unwrap()
            .contains("memory")
        );
    }
}
