//! The user's configuration, `~/.config/cx/config.toml` (`CX_CONFIG` names another file).

use std::path::PathBuf;

use crate::plan::rules::UserRule;

/// All that the user configured, with defaults filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The file it came from (also where there is none yet).
    pub path: PathBuf,
    /// The nodes, in the user's order.
    pub nodes: Vec<NodeConfig>,
    /// `[ssh] config = "PATH"`: given to `ssh -F`.
    pub ssh_config: Option<PathBuf>,
    /// `[policy]`.
    pub policy: Policy,
    /// `[[rule]]`: the user's own rules, first match first.
    pub rules: Vec<UserRule>,
    /// `[env] pass = ["NAME", "PREFIX_*"]`: variables that go along.
    pub env_pass: Vec<String>,
}

/// `[node.NAME]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeConfig {
    /// The alias that ssh resolves.
    pub name: String,
    /// Runs at once; default: half the cores, at least one.
    pub slots: Option<u32>,
    /// Tags that rules and requirements can name.
    pub tags: Vec<String>,
    /// Overrides what the probe says.
    pub os: Option<String>,
    /// Overrides what the probe says.
    pub arch: Option<String>,
    /// What comes back from this node.
    pub write_back: WriteBack,
    /// Not a machine but the agent over a pipe on this one, with a home of its own in this directory (`cx demo`).
    pub embedded: Option<PathBuf>,
}

/// `write_back`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteBack {
    /// Nothing.
    None,
    /// What the rule names as outputs.
    Outputs,
    /// All that the command changed.
    #[default]
    All,
}

/// `[policy]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `auto_route = false`: everything local unless a node is named.
    pub auto_route: bool,
    /// `busy_cpu`: per cent of local CPU use past which commands that no rule knows move too.
    pub busy_cpu: f32,
    /// `when_full`: what happens when every node is full.
    pub when_full: WhenFull,
    /// `link_grace`: seconds a run lives on after its link went silent.
    pub link_grace: u32,
    /// `back_limit`: bytes that come back from one run at most (`"256MB"`).
    pub back_limit: u64,
    /// `ignored_limit`: bytes of ignored files that go along at most (`"32MB"`).
    pub ignored_limit: u64,
    /// `off = ["cargo"]`: built-in rules switched off.
    pub off: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            auto_route: true,
            busy_cpu: 40.0,
            when_full: WhenFull::Auto,
            link_grace: 600,
            back_limit: 256 << 20,
            ignored_limit: 32 << 20,
            off: Vec::new(),
        }
    }
}

/// `when_full`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Local while this machine is not busy, else wait.
    #[default]
    Auto,
    /// Wait for a slot.
    Wait,
    /// Run locally.
    Local,
}
