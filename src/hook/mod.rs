//! `cx hook`: what Claude Code calls before and after each Bash command.
//!
//! Before: the text comes back with `cx ` in front of each heavy command. After: the report lines of cx runs go to
//! the model. Standard output is a protocol here: one JSON object, written once, or nothing. Whatever goes wrong,
//! the answer is nothing and the exit status 0, as a hook's failure must not change the user's command.
//!
//! This path through the program starts in about the time that starting a process takes: no clap, no async runtime,
//! no regex; of the table it reads a summary. It opens few files, and most of them only once a command turned out to be heavy.

pub mod asked;
pub mod call;
mod client;
mod decide;
mod defined;
pub mod fate;
mod gemini;
mod mcp;
pub mod note;
pub mod permissions;
pub mod program;
mod search_path;
mod session;
mod settings;
mod snapshot;
mod through;
mod whole;
mod wire;

pub use self::mcp::rewritten;

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The largest event that is read, bytes; a longer one is answered with nothing. Six bytes of JSON may stand for one of a command; what a
/// command printed is cut by the client to far less.
const MAX_INPUT: usize = 8 * wire::MAX_COMMAND;

/// Bytes that are read first; most events are shorter.
const FIRST_READ: usize = 16 << 10;

/// Runs `cx hook`: reads an event from standard input and answers on standard output. Always succeeds. Among its arguments,
/// `--shims` says that the session has shell functions instead of a rewritten text, `--plugin` that the plugin calls, `--gemini` that Gemini CLI does.
pub fn main(args: &[OsString]) -> ExitCode {
    // A panic's message on stderr would be shown to the user as the hook's.
    panic::set_hook(Box::new(|_| {}));
    let answer = panic::catch_unwind(|| {
        let input = read_event(&mut io::stdin().lock())?;
        let var = |name: &str| env::var_os(name);
        if args.iter().any(|a| a == "--gemini") {
            return gemini::answer(&input, &PathBuf::from(env::var_os("HOME")?));
        }
        let world = decide::World {
            shims: args.iter().any(|a| a == "--shims"),
            plugin: args.iter().any(|a| a == "--plugin"),
            ..decide::World::of_process(&var)
        };
        decide::answer(&input, &world)
    });
    if let Ok(Some(text)) = answer {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
    ExitCode::SUCCESS
}

/// Judges a command text that would run in `cwd` by the permission rules of the user whose client started this process: for
/// doors, such as an MCP server, whose commands the client's own rules do not see. The projects of the directories `also` deny and ask
/// too, and allow nothing. The files are read anew each time.
pub fn judge(text: &str, cwd: &Path, also: &[PathBuf]) -> permissions::Judgement {
    decide::World::of_process(&|name| env::var_os(name)).judge(text, cwd, also)
}

/// The user's rule, if there is one, for the sake of which the heavy commands of a text are left where they are: it denies or asks
/// about something that may be in it. Those of the projects of `also` are among them.
pub fn rule_about(text: &str, cwd: &Path, also: &[PathBuf]) -> Option<String> {
    decide::World::of_process(&|name| env::var_os(name)).rule_about(text, cwd, also)
}

/// The user's permission rules for commands in `cwd`, for telling of them: `client_dir` is the client's own directory. Those of
/// the client's arguments are among them where a client started this process.
pub fn rules(client_dir: &Path, cwd: &Path) -> permissions::Rules {
    settings::collect(&scopes(client_dir, cwd))
}

/// The same, file by file; without those of the client's arguments.
pub fn rules_by_file(client_dir: &Path, cwd: &Path) -> Vec<(PathBuf, permissions::Rules)> {
    settings::by_file(&scopes(client_dir, cwd))
}

fn scopes(client_dir: &Path, cwd: &Path) -> settings::Scopes {
    let pid = env::var("CLAUDE_PID").ok().and_then(|p| p.parse().ok());
    // All that a session in a trusted project would have.
    let client = client::ClientArgs {
        on_terminal: true,
        ..client::args(pid).unwrap_or_default()
    };
    settings::Scopes {
        user: Some(client_dir.to_owned()),
        project: env::var_os("CLAUDE_PROJECT_DIR").map(PathBuf::from),
        cwd: cwd.to_owned(),
        also: Vec::new(),
        managed: settings::managed_dir(),
        trust: None,
        client: Some(client),
    }
}

/// Reads an event: up to its end, or to that of a whole object, as who calls may leave the pipe open.
fn read_event(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut input = Vec::new();
    let mut end = whole::End::default();
    loop {
        let old = input.len();
        input.resize(old + old.max(FIRST_READ), 0);
        let length = loop {
            match from.read(&mut input[old..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other.ok()?,
            }
        };
        input.truncate(old + length);
        if input.len() > MAX_INPUT {
            return None;
        }
        if length == 0 || end.reached(&input) {
            return Some(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_event_ends_with_its_object_while_the_pipe_stays_open() {
        for text in [
            "{}",
            " {\"a\": \"}\"}\n",
            "{\"a\": {\"b\": [\"\\\\\", \"\\\"{\"]}}",
        ] {
            let (mut here, mut there) = UnixStream::pair().unwrap();
            there.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            here.write_all(text.as_bytes()).unwrap();
            let read = read_event(&mut there);
            assert_eq!(read.as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn what_is_longer_or_odd_is_read_to_its_end() {
        let long = format!("{{\"a\": \"{}\"}}", "}".repeat(300_000));
        for text in [&long, "{} x", "{}{}", "[{}", "", "{\"a", "}{}"] {
            assert_eq!(read_event(&mut text.as_bytes()).as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(read_event(&mut io::repeat(b' ')), None);
    }
}
