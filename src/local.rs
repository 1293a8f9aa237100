//! Running here: the command takes the place of cx, so that nothing of cx is left to differ.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::report;
use crate::request::Request;

/// Replaces this process by the command. Returns only if that fails, with the exit status a shell would show.
pub fn run(request: &Request) -> i32 {
    exec(&request.argv, Some(&request.cwd))
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
