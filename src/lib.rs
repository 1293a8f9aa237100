//! `cx` runs heavy commands on the idle machines that ssh reaches, as if they had run here.
//!
//! Data flows one way: a [`request::Request`] is classified and routed by the pure functions in
//! [`plan`], synced and run by [`client`] against the [`agent`] on the node, and told by [`report`].
//! `pipeline` knows that order; read it first.

pub mod agent;
pub mod cli;
pub mod client;
pub mod config;
pub mod conflicts;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod gc;
pub mod history;
pub mod hook;
pub mod inflight;
pub mod learned;
pub mod local;
pub mod mcp;
pub mod node;
pub mod nodes;
pub mod paths;
pub mod pipeline;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod project;
pub mod proto;
pub mod provision;
pub mod report;
pub mod request;
pub mod room;
pub mod runs;
pub mod setup;
pub mod shims;
pub mod signals;
pub mod squeeze;
pub mod status;
pub mod sync;
pub mod table;
pub mod tty;

pub use cli::main;
