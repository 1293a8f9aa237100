//! The agent: cx itself, started on a node over ssh's stdin and stdout.
//!
//! The agent proper (`serve.rs`) only carries packets. Each run belongs to a process of its own, the supervisor
//! (`supervise.rs`), which takes the slot, brings the mirror up to date, starts the command, keeps its output in a log, and
//! collects what changed. So a run outlives the stream it was started on, and one run's end touches no other.

mod admit;
pub use admit::{Slot, default_slots, held_slots, now_ms, take_slot};
mod child;
mod feed;
mod gc;
mod kept;
mod locale;
mod log;
mod place;
mod provision;
mod pty;
mod serve;
mod shared;
mod supervise;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Where everything lies that the agent keeps on a node: `${XDG_CACHE_HOME:-~/.cache}/cx/node`.
///
/// # Errors
/// When neither variable names an absolute directory.
pub fn base_dir() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|h| h.join(".cache")));
    Ok(cache.context("HOME is not set on this node")?.join("cx/node"))
}

pub use crate::paths::private_dir;

/// This very program, also while another cx puts a new file in its place.
///
/// # Errors
/// When the system does not say.
fn own_program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok("/proc/self/exe".into());
    }
    std::env::current_exe()
}

/// The file in a run's directory that says that its command was started, or is about to be. It stays when the run ends with
/// nobody to tell.
const STARTED: &str = "started";

/// Frees the mirrors of a client (of all, for `None`), and all else that cx keeps on this node once no mirror is left and nothing
/// runs. Returns the bytes that the mirrors took.
fn purge(base: &std::path::Path, client: Option<&str>) -> u64 {
    let freed = crate::sync::purge(base, client).unwrap_or(0);
    if crate::sync::mirrors(base).is_empty() && admit::load(base, 0).running == 0 {
        let _ = std::fs::remove_dir_all(base);
        if let Some(cx) = base.parent() {
            let own = std::env::current_exe().is_ok_and(|e| e.starts_with(cx.join("agents")));
            if own {
                let _ = std::fs::remove_dir_all(cx.join("agents"));
            }
            // Only if nothing else is in it: this machine may be somebody's client, too.
            let _ = std::fs::remove_dir(cx);
        }
    }
    freed
}

/// Runs `cx agent ARGS`: no argument serves; `--hash` prints the hash of this binary; `--print-env MARK` prints the
/// environment between marks; `--supervise` owns one run; `--placed` checks what a mount namespace shows.
pub fn main(args: &[OsString]) -> ExitCode {
    let first = args.first().and_then(|a| a.to_str()).unwrap_or("");
    let result = match first {
        "" => serve::serve(),
        "--supervise" => supervise::supervise(),
        "--hash" => own_hash().and_then(|h| Ok(writeln!(std::io::stdout(), "{h}")?)),
        "--print-env" => {
            let mark = args.get(1).and_then(|a| a.to_str()).unwrap_or("");
            crate::probe::print_env(mark).map_err(Into::into)
        }
        "--placed" => match &args[1..] {
            [path, seen] => place::placed(std::path::Path::new(path), seen),
            _ => Err(anyhow::anyhow!("--placed PATH SEEN")),
        },
        other => Err(anyhow::anyhow!("cx agent: unknown argument {other:?}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Nobody but ssh's stderr listens here, and nothing can be done if it does not.
            let _ = writeln!(std::io::stderr(), "cx agent: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// The blake3 hash of the running binary, in hex.
///
/// # Errors
/// When the binary cannot be read.
pub fn own_hash() -> anyhow::Result<String> {
    let exe = std::env::current_exe().context("failed to find this program's file")?;
    let mut h = blake3::Hasher::new();
    let mut f = std::fs::File::open(&exe).with_context(|| format!("failed to read {}", exe.display()))?;
    std::io::copy(&mut f, &mut h)?;
    Ok(h.finalize().to_hex().to_string())
}

/// Whether something, or the end, can be read from `from` within `limit`.
fn is_readable(from: &std::os::unix::net::UnixStream, limit: std::time::Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec {
        tv_sec: limit.as_secs() as _,
        tv_nsec: limit.subsec_nanos().into(),
    };
    !matches!(poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&limit)), Ok(0))
}
