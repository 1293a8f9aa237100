//! `cx shim TOOL ARGS...`: what a shell function or a PATH shim starts in the tool's place.
//!
//! Like the hook it decides in about the time that starting a process takes, from the same summary and with the same
//! rules, as every `git`-fast `npm --version` of the user's comes by here. What stays becomes the tool itself, without
//! a word; what leaves goes the way of `cx TOOL ARGS...`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::process::Pid;

use super::FRONTS;
use crate::cli;
use crate::learned::Glance;
use crate::local;
use crate::paths::{self, Paths};
use crate::pipeline;
use crate::plan::classify::{Context, classify};
use crate::plan::shell::Word;
use crate::request::{Demands, Request};
use crate::table;

/// Runs `cx shim`, with the tool and its arguments. In front of them `--below=PID` names the subshell whose function started this: with
/// it the tool ends.
pub fn main(mut argv: Vec<OsString>) -> ExitCode {
    let below = argv
        .first()
        .and_then(|a| a.to_str())
        .and_then(|a| a.strip_prefix("--below="));
    if let Some(pid) = below {
        let pid = pid.parse().ok().and_then(Pid::from_raw);
        argv.remove(0);
        if let Some(pid) = pid.filter(|_| !outlives(&argv)) {
            end_with(pid);
        }
    }
    let Ok(cwd) = std::env::current_dir() else {
        // The tool may not care.
        return exit(local::exec(&argv, None));
    };
    // What starts another command stays; the shim for that one decides.
    if argv.is_empty() || is_front(&argv) || !leaves(&argv, &cwd) {
        return exit(local::exec(&argv, None));
    }
    let request = Request {
        origin: cli::origin(),
        argv: argv.clone(),
        script: None,
        cwd,
        demands: Demands::default(),
    };
    match pipeline::run(request) {
        Ok(status) => exit(status),
        Err(e) => {
            let _ = writeln!(io::stderr(), "cx: {e:#}");
            exit(local::exec(&argv, None))
        }
    }
}

/// Has the system end this process when the subshell `shell` ends, as it waits for this one and so is ended by somebody: who kills
/// `$!`, which is the subshell, means the tool. It holds for what this process becomes, and not for what it starts.
#[cfg(target_os = "linux")]
fn end_with(shell: Pid) {
    use rustix::process::{
        Signal, getpid, getppid, kill_process, set_parent_process_death_signal as set_signal,
    };
    // A shell may have become this process itself.
    if getpid() != shell && set_signal(Some(Signal::TERM)).is_ok() && getppid() != Some(shell) {
        // It ended before that.
        let _ = kill_process(getpid(), Signal::TERM);
    }
}

/// Other systems have no such signal.
#[cfg(not(target_os = "linux"))]
fn end_with(_shell: Pid) {}

fn is_front(argv: &[OsString]) -> bool {
    argv.first().is_some_and(|a| FRONTS.iter().any(|f| a == f))
}

/// Whether the command is to go on when a hang-up ends the subshell.
fn outlives(argv: &[OsString]) -> bool {
    is_front(argv) && argv.iter().any(|a| a == "nohup")
}

fn exit(status: i32) -> ExitCode {
    ExitCode::from((status & 0xff) as u8)
}

/// Whether the command is one that leaves, as far as can be told at once.
fn leaves(argv: &[OsString], cwd: &Path) -> bool {
    let set = |v: &str| std::env::var_os(v).is_some_and(|x| !x.is_empty() && x != *OsStr::new("0"));
    if set("CX_INSIDE") || set("CX_LOCAL") || set("SANDBOX_RUNTIME") {
        return false;
    }
    let Ok(paths) = Paths::from_env() else {
        return false;
    };
    if paths.switched_off().is_some() {
        return false;
    }
    let view = table::hook_view(&paths);
    let words: Vec<Word> = argv
        .iter()
        .map(|a| Word::Static(a.to_string_lossy().into_owned()))
        .collect();
    let context = Context {
        user_rules: &view.rules,
        off: &view.off,
        aliases: &[],
    };
    let verdict = classify(&words, &context);
    let unasked = || view.local_cpu() > view.busy_cpu && Glance::new(&paths, cwd, &[]).is_long(&words);
    view.auto_route
        && view.may_route(paths::now_ms())
        && view.moves(&verdict, &words, cwd, &unasked)
        && (verdict.workload.stdin || !is_given_input())
}

/// Whether standard input holds, or may yet get, something that a command was meant to read. The hook sees in the text that it feeds
/// this very command; here it may as well be the list of a `while read` loop, which a node must not eat.
fn is_given_input() -> bool {
    let stdin = io::stdin();
    let Ok(stat) = rustix::fs::fstat(&stdin) else {
        return false;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => rustix::fs::tell(&stdin).is_ok_and(|at| at < stat.st_size as u64),
        FileType::Fifo | FileType::Socket => {
            let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // Nothing in it and nobody left to write: as good as /dev/null.
            let ended = poll(&mut fds, Some(&now)).is_ok()
                && fds[0].revents().contains(PollFlags::HUP)
                && !fds[0].revents().contains(PollFlags::IN);
            !ended
        }
        _ => false,
    }
}
