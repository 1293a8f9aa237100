//! What classifying a command yields: its class, the rule that said so, and what a node must offer for it.

use serde::{Deserialize, Serialize};

/// How much a command weighs. Ordered: `max` of a script's parts is the script's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Runs locally.
    Light,
    /// No rule knows it.
    Unknown,
    /// Goes to the node that finishes it first.
    Heavy,
}

/// A program (or a module of one) that must be found in the run's own environment on the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Need {
    /// A name looked up in PATH (`pytest`), or a path with a slash, taken from the run's directory (`./gradlew`).
    pub program: String,
    /// For `python -m MODULE`: the module, which must be importable by `program`.
    pub module: Option<String>,
    /// Whether major.minor of `program --version` must be that of the local one.
    pub same_version: bool,
}

/// Whether a command's result is tied to the platform it was made on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformTie {
    /// Its result is a verdict or text; another platform may do once the user said so.
    #[default]
    Free,
    /// Programs come back: the local OS and architecture, libc no newer than here.
    Same,
}

/// What comes back beyond the files that are synced anyway and the ignored ones that exist here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Brings {
    /// Nothing more.
    #[default]
    Synced,
    /// Files that match one of these globs, relative to the run's directory, inside caches too
    /// (`target/debug/*` is one level; `dist/**` is all below).
    Outputs(Vec<String>),
    /// Every changed ignored file outside known caches: a build of unknown outputs.
    Ignored,
}

/// What a command needs and does, as far as a rule knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Programs and modules the node must have.
    pub needs: Vec<Need>,
    /// Directories (usually ignored ones, relative to the run's directory) whose content the command
    /// reads and cannot make by itself: `node_modules`, `build`. Where one exists here and does not come
    /// from the sync, the run must follow whoever made it.
    pub reads: Vec<String>,
    /// Cache directories it leaves, which stay warm on the node: `target`, `.pytest_cache`.
    pub leaves: Vec<String>,
    /// What comes back.
    pub brings: Brings,
    /// Whether the tool reads its standard input.
    pub stdin: bool,
    /// Whether its result is tied to the platform.
    pub platform: PlatformTie,
    /// Tags the node must carry.
    pub tags: Vec<String>,
    /// What comes back holds the absolute paths of where it was made: of use only where they are the same.
    pub same_paths: bool,
}

/// The judgement on one simple command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its class.
    pub class: Class,
    /// The name of the rule that decided, e.g. `cargo`, `user:codegen`; empty where none matched.
    pub rule: String,
    /// Why, as one clause: `cargo test compiles and runs tests`, `no rule knows frobnicate`.
    pub reason: String,
    /// What it needs and does.
    pub workload: Workload,
}

/// Operating system, architecture and C library of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, `darwin`, `freebsd`, ...
    pub os: String,
    /// `x86_64`, `arm64`, ... (aarch64 is spelled arm64).
    pub arch: String,
    /// `glibc 2.36`, `musl`, or empty where it does not apply.
    pub libc: String,
}
