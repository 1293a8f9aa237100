//! Running here: the command takes the place of cx, so that nothing of cx is left to differ.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::report;
use crate::request::{Ending, Request};

/// Replaces this process by the command. Returns only if that fails, with the exit status a shell would show.
pub fn run(request: &Request) -> i32 {
    exec(&request.argv, directory(request))
}

/// Where it runs; one that is gone is this process's own still.
fn directory(request: &Request) -> Option<&Path> {
    Some(request.cwd.as_path()).filter(|cwd| !cwd.as_os_str().is_empty())
}

/// The process that signals to this one are passed on to.
static CHILD: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass_on(signal: i32) {
    let pid = CHILD.load(Ordering::Relaxed);
    if pid > 0 {
        // SAFETY: kill may be called in a signal handler; the child was not waited for as long as its number stands there.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Runs the command beside this process, which waits: for the few of which it matters how they end here. Keys of a terminal reach
/// both, and only the command heeds them; other signals are passed on.
pub fn run_and_see(request: &Request) -> Ending {
    let Some((program, args)) = request.argv.split_first() else {
        return Ending::Code(0);
    };
    let mut command = Command::new(program);
    command.args(args);
    if let Some(cwd) = directory(request) {
        command.current_dir(cwd);
    }
    let started = command.spawn();
    let Ok(mut child) = started else {
        // It says so in the usual way.
        return Ending::Code(run(request));
    };
    CHILD.store(child.id() as i32, Ordering::Relaxed);
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
        let handler = pass_on as extern "C" fn(i32);
        // SAFETY: the handler only reads an atomic and calls kill.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: ignoring a signal touches no memory of ours; the child was started before.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let status = child.wait();
    CHILD.store(0, Ordering::Relaxed);
    match status {
        Ok(status) => status.into(),
        Err(_) => Ending::Code(1),
    }
}

/// The same in another directory than this process's, if one is named.
pub fn exec(argv: &[OsString], cwd: Option<&Path>) -> i32 {
    let Some((program, args)) = argv.split_first() else {
        return 0;
    };
    let mut command = Command::new(program);
    command.args(args);
    if let Some(cwd) = cwd {
        command.current_dir(cwd);
    }
    let e = command.exec();
    let name = Path::new(program).display();
    match e.kind() {
        std::io::ErrorKind::NotFound => {
            report::line(&format!("{name}: command not found"));
            127
        }
        _ => {
            report::line(&format!("{name}: {e}"));
            126
        }
    }
}

/// Ends this process by `signal`, as the command was ended, so that the caller sees the same.
pub fn die_by(signal: i32) -> i32 {
    // No core file of cx where the command's own would be.
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    // SAFETY: resetting a signal to its default action and raising it touches no memory of ours.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    128 + signal
}
