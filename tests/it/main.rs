//! End-to-end tests: the real `cx` against real `sshd`s that the tests start themselves, each with a home of its own.
//!
//! Commands are pinned with `--on n1` where the test is about the run itself, so that no judgement of what is heavy
//! stands between the test and its subject; `route.rs` is about that judgement.

mod agent;
mod also;
mod calls;
mod copies;
mod demo;
mod detached;
mod differential;
mod differs;
mod docs;
mod doctor;
mod failures;
mod faithful;
mod fidelity;
mod forward;
mod full;
mod gc;
mod harness;
mod hold;
mod hook;
mod hostile;
mod install;
mod kills;
mod learned;
mod mcp;
mod mcp_asks;
mod mcp_batches;
mod mcp_doors;
mod mcp_ends;
mod mcp_links;
mod mcp_rooms;
mod mended;
mod nodes;
mod outputs;
mod paths;
mod plugin;
mod project;
mod provision;
mod route;
mod runs;
mod safety;
mod selftest;
mod shared;
mod shims;
mod signals;
mod stale;
mod sync;
mod terminal;
mod times;
