//! Programs: where they are, which version they have, which modules they can import.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tools worth telling of.
const TOOLS: &[&str] = &[
    "make", "cmake", "ninja", "meson", "ctest", "cargo", "rustc", "go", "gcc", "g++", "clang", "python3",
    "python", "pytest", "tox", "nox", "uv", "poetry", "node", "npm", "pnpm", "yarn", "bun", "tsc", "java",
    "mvn", "gradle", "bazel", "dotnet", "docker", "podman", "git", "rsync", "swift", "zig", "ccache", "ruby",
    "just",
];

/// Those of `TOOLS` that are in `path`. Versions are left empty: asking for them starts processes.
pub fn present(path: &OsStr) -> Vec<(String, String)> {
    TOOLS
        .iter()
        .filter(|t| find_program(OsStr::new(t), path).is_some())
        .map(|t| ((*t).to_owned(), String::new()))
        .collect()
}

/// Looks a program up as a shell does: the first executable file of that name in `path`.
pub fn find_program(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    if name.is_empty() || name.as_encoded_bytes().contains(&b'/') {
        return None;
    }
    std::env::split_paths(path)
        .filter(|d| d.is_absolute())
        .map(|d| d.join(name))
        .find(|f| is_program(f))
}

/// Whether a file is there that may be started.
pub fn is_program(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0)
}

/// major.minor of a program, as `--version` (or `version`) says; kept in `cache` for as long as the file does not change.
pub fn version_of(program: &Path, cache: &Path) -> Option<String> {
    let meta = std::fs::metadata(program).ok()?;
    // What a shim runs depends on more than itself.
    let text = program.to_string_lossy();
    if text.contains("/shims/") || text.contains("/.cargo/bin/") {
        return ask_version(program);
    }
    let key = format!("{}:{}:{}", program.display(), meta.size(), meta.mtime());
    let mut known: BTreeMap<String, String> = std::fs::read(cache)
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or_default();
    if let Some(v) = known.get(&key) {
        return Some(v.clone()).filter(|v| !v.is_empty());
    }
    let version = ask_version(program).unwrap_or_default();
    known.insert(key, version.clone());
    if let Ok(bytes) = serde_json::to_vec(&known) {
        let _ = crate::paths::write_atomic(cache, &bytes, 0o600);
    }
    Some(version).filter(|v| !v.is_empty())
}

fn ask_version(program: &Path) -> Option<String> {
    let name = program.file_name()?.to_string_lossy().into_owned();
    let arg = match name.as_str() {
        "go" => "version",
        "java" | "javac" => "-version",
        _ => "--version",
    };
    output(Command::new(program).arg(arg), Duration::from_secs(3))
        .as_deref()
        .and_then(major_minor)
}

/// The first `N.M` in a text.
fn major_minor(text: &str) -> Option<String> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .find_map(|w| {
            let mut n = w.split('.').filter(|p| !p.is_empty());
            let (a, b) = (n.next()?, n.next()?);
            (a.len() < 6 && b.len() < 6).then(|| format!("{a}.{b}"))
        })
}

/// Whether the Python that `command` starts can import `module` where and as `command` would run. Nothing of the module is run but the
/// packages above it.
pub fn has_module(command: &mut Command, module: &str) -> bool {
    let code = "import importlib.util,sys\ntry:\n s=importlib.util.find_spec(sys.argv[1])\nexcept Exception:\n s=None\nprint('yes' if s else 'no')";
    command.args(["-c", code, module]);
    output(command, Duration::from_secs(5)).is_some_and(|o| o.trim() == "yes")
}

/// What a program prints on both its outputs, if it ends within `limit`; it gets a process group of its own and is killed with it.
pub fn output(command: &mut Command, limit: Duration) -> Option<String> {
    let (mut from, to) = std::io::pipe().ok()?;
    let err = to.try_clone().ok()?;
    command
        .stdin(Stdio::null())
        .stdout(to)
        .stderr(err)
        .process_group(0);
    let mut child = command.spawn().ok()?;
    // The command holds the pipe's other end; ours has to go, or there is no end of input.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = from.by_ref().take(1 << 20).read_to_end(&mut text);
        let _ = tx.send(text);
    });
    let deadline = Instant::now() + limit;
    let said = rx.recv_timeout(limit).ok();
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            // An error means that it has ended, too: a supervisor's reaper took its status first.
            _ => return said.map(|t| String::from_utf8_lossy(&t).into_owned()),
        }
    }
    if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (said, want) in [
            ("Python 3.11.7", Some("3.11")),
            ("go version go1.22.3 linux/amd64", Some("1.22")),
            ("v20.20.2", Some("20.20")),
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", Some("1.95")),
            ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0", Some("12.2")),
            ("nothing", None),
        ] {
            assert_eq!(major_minor(said).as_deref(), want, "{said}");
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_left() {
        let t = Instant::now();
        assert_eq!(
            output(Command::new("sleep").arg("60"), Duration::from_millis(100)),
            None
        );
        assert!(t.elapsed() < Duration::from_secs(30));
        assert_eq!(
            output(Command::new("echo").arg("hi"), Duration::from_secs(20)).as_deref(),
            Some("hi\n")
        );
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let path = OsStr::new("relative:/nonexistent:/bin:/usr/bin");
        assert!(find_program(OsStr::new("sh"), path).is_some());
        assert_eq!(find_program(OsStr::new("../bin/sh"), path), None);
        assert_eq!(find_program(OsStr::new(""), path), None);
    }
}
