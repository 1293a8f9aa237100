//! What comes in at every door and what goes out again: [`Request`] and [`Outcome`].

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::proto::Load;

/// The door through which a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A person typed `cx ...`, or a script of theirs did.
    Shell,
    /// `cx ...` was started by an agent's Bash tool (the hook put it there, or a shim).
    Agent,
    /// A call of the MCP server.
    Mcp,
}

/// What the caller demands beyond the policy's own judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// A node named by the caller; never falls back.
    pub on: Option<String>,
    /// A required operating system, as in [`crate::plan::Platform::os`].
    pub os: Option<String>,
    /// A required architecture, as in [`crate::plan::Platform::arch`].
    pub arch: Option<String>,
    /// Run here whatever the policy says.
    pub local: bool,
    /// Turns every "then local" into exit 76 with the reason.
    pub require_remote: bool,
    /// No report line.
    pub quiet: bool,
    /// It is one of several that are to be spread over the nodes: however light, it may leave this machine.
    pub spread: bool,
    /// When the run goes on without its caller, beyond what the config says.
    pub detach: Option<Detach>,
    /// The name under which the caller speaks of the run: letters and digits, the last part of its id on a node.
    pub name: Option<String>,
}

/// When a run goes on without its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// As soon as it has started.
    AtOnce,
    /// At this time, if it has not ended by then.
    At(std::time::Instant),
}

impl Demands {
    /// Whether the caller asked for a certain node or kind of node; such a request is never run locally instead.
    pub fn is_pinned(&self) -> bool {
        self.on.is_some() || self.os.is_some() || self.arch.is_some()
    }
}

/// One command that somebody wants run.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it came from.
    pub origin: Origin,
    /// The program and its arguments, as data.
    pub argv: Vec<OsString>,
    /// The text, where `argv` is a shell that runs one.
    pub script: Option<String>,
    /// The working directory here; empty where that is gone.
    pub cwd: PathBuf,
    /// What the caller demands.
    pub demands: Demands,
}

impl Request {
    /// A text that is to run in one shell on a node, as a call of the MCP server asks for it.
    pub fn script(text: &str, cwd: PathBuf, demands: Demands) -> Request {
        Request {
            origin: Origin::Mcp,
            argv: shell_argv(text),
            script: Some(text.to_owned()),
            cwd,
            demands,
        }
    }
}

/// Runs the text that follows it.
const START: &str =
    "if command -v bash >/dev/null 2>&1; then exec bash -c \"$0\"; else exec sh -c \"$0\"; fi";

/// The program and arguments that run `text` in one shell, whichever the node has. The text travels as data.
pub fn shell_argv(text: &str) -> Vec<OsString> {
    ["sh", "-c", START, text].map(OsString::from).to_vec()
}

/// The text that [`shell_argv`] made these of.
pub fn shell_text(argv: &[Vec<u8>]) -> Option<Cow<'_, str>> {
    match argv {
        [sh, c, start, text] if sh == b"sh" && c == b"-c" && start == START.as_bytes() => {
            Some(String::from_utf8_lossy(text))
        }
        _ => None,
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Ending {
    /// It exited with this status, 0..=255.
    Code(i32),
    /// This signal killed it.
    Signal(#[serde(with = "crate::signals")] i32),
}

impl Ending {
    /// The status a shell shows: the code, or 128 + n.
    pub fn shell_status(self) -> i32 {
        match self {
            Ending::Code(c) => c,
            Ending::Signal(n) => 128 + n,
        }
    }
}

impl From<ExitStatus> for Ending {
    /// Of a process of this machine that has ended, not stopped.
    fn from(status: ExitStatus) -> Ending {
        match status.signal() {
            Some(n) => Ending::Signal(n),
            None => Ending::Code(status.code().unwrap_or(1)),
        }
    }
}

impl fmt::Display for Ending {
    /// `exit 3`, `signal 9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Code(c) => write!(f, "exit {c}"),
            Ending::Signal(n) => write!(f, "signal {n}"),
        }
    }
}

/// Where a command ran and what is to be told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The node's name, or `local`.
    pub place: String,
    /// Why there, or why not elsewhere; one clause without a full stop.
    pub reason: String,
    /// How it ended; `None` where cx itself could not run it or lost it.
    pub ending: Option<Ending>,
    /// How a command ended whose changes did not come back, so that its status is not its caller's: `ending` is `None`.
    pub not_back: Option<Ending>,
    /// cx's own exit status where `ending` is `None` (75 or 76, see [`crate::report`]).
    pub own_status: i32,
    /// The run's id, empty for local runs.
    pub run_id: String,
    /// Files sent and their bytes (uncompressed).
    pub sent: (u64, u64),
    /// Files brought back and their bytes.
    pub back: (u64, u64),
    /// Time spent on connecting and syncing.
    pub sync_time: Duration,
    /// What scanning and packing took here.
    pub local_time: Duration,
    /// Time the command itself ran.
    pub run_time: Duration,
    /// More things the person must know: conflicts, what stayed behind, withheld files.
    pub notes: Vec<String>,
    /// The node's load after the run.
    pub load: Option<Load>,
}

impl Outcome {
    /// One of cx's own: nothing is known of the command's end.
    pub fn own(place: &str, reason: &str, own_status: i32) -> Outcome {
        Outcome {
            place: place.to_owned(),
            reason: reason.to_owned(),
            ending: None,
            not_back: None,
            own_status,
            run_id: String::new(),
            sent: (0, 0),
            back: (0, 0),
            sync_time: Duration::ZERO,
            local_time: Duration::ZERO,
            run_time: Duration::ZERO,
            notes: Vec::new(),
            load: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_data_of_the_shell_that_runs_it() {
        let text = "printf '%s' \"a b\"; exit 3";
        let argv = shell_argv(text);
        let out = std::process::Command::new(&argv[0])
            .args(&argv[1..])
            .output()
            .unwrap();
        assert_eq!((out.stdout, out.status.code()), (b"a b".to_vec(), Some(3)));
    }
}
