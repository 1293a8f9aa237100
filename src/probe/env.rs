//! The environment of a login shell, captured once: rc files cost up to a tenth of a second each time.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{find, tools};

/// How long a shell may take over its rc files.
const LIMIT: Duration = Duration::from_secs(5);

/// After this time the capture is made anew, whatever the files say.
const MAX_AGE_MS: u64 = 24 * 3600 * 1000;

/// Files that say what a login shell's environment is, below the home directory.
const RC: &[&str] = &[
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".zlogin",
    ".config/fish/config.fish",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".kshrc",
];

/// The same for everybody.
const SYSTEM_RC: &[&str] = &[
    "/etc/profile",
    "/etc/environment",
    "/etc/bash.bashrc",
    "/etc/zsh/zshenv",
    "/etc/zsh/zprofile",
];

/// Variables that belong to the capture itself, or to the session it ran in.
const DROP: &[&str] = &[
    "SHLVL",
    "_",
    "PWD",
    "OLDPWD",
    "BASH_FUNC_",
    "SSH_",
    "CX_",
    "TERM_SESSION_ID",
    "XDG_SESSION_ID",
    "PS1",
];

/// Prints this process's environment between two lines that hold `mark`.
///
/// # Errors
/// When it can't be written.
pub fn print_env(mark: &str) -> std::io::Result<()> {
    let mut out = format!("\n{mark}\n").into_bytes();
    for (k, v) in std::env::vars_os() {
        out.extend_from_slice(k.as_bytes());
        out.push(b'=');
        out.extend_from_slice(v.as_bytes());
        out.push(0);
    }
    out.extend_from_slice(format!("\n{mark}\n").as_bytes());
    std::io::stdout().write_all(&out)
}

/// The environment of this account's login shell, kept in `cache` until an rc file changes or a day has passed. Where the
/// shell can't be asked: this process's own.
pub fn login_env(cache: &Path) -> Vec<(OsString, OsString)> {
    let stamp = stamp();
    if let Some(env) = read_cache(cache, &stamp) {
        return env;
    }
    let env = capture().unwrap_or_else(|| clean(std::env::vars_os().collect()));
    let mut bytes = format!("{} {stamp}\n", crate::agent::now_ms()).into_bytes();
    for (k, v) in &env {
        bytes.extend_from_slice(k.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(v.as_bytes());
        bytes.push(0);
    }
    let _ = crate::paths::write_atomic(cache, &bytes, 0o600);
    env
}

fn read_cache(cache: &Path, stamp: &str) -> Option<Vec<(OsString, OsString)>> {
    let bytes = std::fs::read(cache).ok()?;
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (made, was) = std::str::from_utf8(&bytes[..end]).ok()?.split_once(' ')?;
    let age = crate::agent::now_ms().checked_sub(made.parse().ok()?)?;
    (was == stamp && age < MAX_AGE_MS).then(|| parse(&bytes[end + 1..]))
}

/// Changes when an rc file does, or when sshd starts sessions in another environment.
fn stamp() -> String {
    let mut h = blake3::Hasher::new();
    let home = std::env::var_os("HOME").unwrap_or_default();
    let files = RC
        .iter()
        .map(|f| Path::new(&home).join(f))
        .chain(SYSTEM_RC.iter().map(Into::into));
    for file in files {
        if let Ok(m) = std::fs::metadata(&file) {
            h.update(
                format!(
                    "{}:{}:{}:{};",
                    file.display(),
                    m.size(),
                    m.mtime(),
                    m.mtime_nsec()
                )
                .as_bytes(),
            );
        }
    }
    for name in ["PATH", "SHELL", "HOME", "LANG"] {
        h.update(std::env::var_os(name).unwrap_or_default().as_bytes());
        h.update(b";");
    }
    h.finalize().to_hex()[..16].to_owned()
}

/// Asks the shell: as login and interactive one first, because many put PATH behind a test for that.
fn capture() -> Option<Vec<(OsString, OsString)>> {
    let exe = std::env::current_exe().ok()?;
    let shell = std::env::var_os("SHELL")
        .filter(|s| Path::new(s).is_absolute())
        .unwrap_or_else(|| "/bin/sh".into());
    let name = Path::new(&shell).file_name()?.to_string_lossy().into_owned();
    let ways: &[&[&str]] = match name.as_str() {
        "bash" | "zsh" | "fish" => &[&["-l", "-i", "-c"], &["-l", "-c"], &["-c"]],
        "csh" | "tcsh" => &[&["-c"]],
        _ => &[&["-l", "-c"], &["-c"]],
    };
    let mark = format!("cx-env-{:x}-{}", crate::paths::nonce(), std::process::id());
    let line = format!(
        "'{}' agent --print-env {mark}",
        exe.to_str().filter(|e| !e.contains('\''))?
    );
    ways.iter().find_map(|flags| {
        let mut command = Command::new(&shell);
        command.args(*flags).arg(&line);
        let said = bytes_of(&mut command)?;
        let needle = format!("\n{mark}\n").into_bytes();
        let from = find(&said, &needle)? + needle.len();
        let to = from + find(&said[from..], &needle)?;
        let env = clean(parse(&said[from..to]));
        env.iter().any(|(k, _)| k == "PATH").then_some(env)
    })
}

fn bytes_of(command: &mut Command) -> Option<Vec<u8>> {
    // Lossy text would spoil values that are not UTF-8; they are rare enough to be carried as they come.
    tools::output(command, LIMIT).map(String::into_bytes)
}

fn parse(bytes: &[u8]) -> Vec<(OsString, OsString)> {
    bytes
        .split(|b| *b == 0)
        .filter_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            Some((
                OsString::from_vec(pair[..at].to_vec()),
                OsString::from_vec(pair[at + 1..].to_vec()),
            ))
        })
        .collect()
}

fn clean(env: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let dropped = |k: &OsStr| {
        let k = k.to_string_lossy();
        DROP.iter()
            .any(|d| k == *d || (d.ends_with('_') && d.len() > 1 && k.starts_with(d)))
    };
    env.into_iter().filter(|(k, _)| !dropped(k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("env");
        let first = login_env(&cache);
        assert!(first.iter().any(|(k, _)| k == "PATH"));
        assert!(!first.iter().any(|(k, _)| k == "SHLVL" || k == "_"));
        assert_eq!(read_cache(&cache, &stamp()).unwrap(), first);
        assert!(read_cache(&cache, "another").is_none());
    }
}
