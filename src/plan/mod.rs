//! The pure core: no file, clock, environment, process, network or async.
//!
//! It takes values and returns values, and cannot fail on strange input: it answers "run it locally,
//! because ...".

pub mod classify;
pub mod delta;
pub mod learned;
pub mod manifest;
pub mod route;
pub mod rules;
pub mod shell;
pub mod verdict;

pub use verdict::{Brings, Class, Need, Platform, PlatformTie, Verdict, Workload};
