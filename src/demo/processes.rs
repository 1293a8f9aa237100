//! Finds the processes that a throw-away node leaves behind, so that they can be ended by their own ids.

use std::path::Path;
use std::time::Duration;

#[cfg(not(target_os = "linux"))]
use std::process::Command;

/// `root` and its living descendants, parents first.
pub fn tree(root: u32) -> Vec<u32> {
    let all = parents();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// Living processes of this user whose environment holds `HOME=home`.
pub fn with_home(home: &Path) -> Vec<u32> {
    let own = std::process::id();
    let mut found = environments(home);
    found.retain(|pid| *pid != own);
    found
}

/// Ends all of [`with_home`], those too that they start meanwhile, and waits for them to be gone; for two seconds at
/// most, since one that hangs in the kernel cannot be ended by anybody.
pub fn end_with_home(home: &Path) {
    // A process that is just replacing itself by another program has no environment that could be read: only two
    // empty looks in a row, with a pause between, say that nothing is left.
    let mut empty = 0;
    for _ in 0..400 {
        let found = with_home(home);
        empty = if found.is_empty() { empty + 1 } else { 0 };
        if empty == 2 {
            return;
        }
        found.into_iter().for_each(kill);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends SIGKILL; a process that is gone already is no error.
pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Process ids with their parents', zombies left out.
#[cfg(target_os = "linux")]
fn parents() -> Vec<(u32, u32)> {
    let parent = |pid: u32| {
        // "pid (any name, with ) in it) state ppid ..."
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
        let state = rest.next()?;
        let parent = rest.next()?.parse().ok()?;
        (state != "Z").then_some((pid, parent))
    };
    pids().into_iter().filter_map(parent).collect()
}

#[cfg(target_os = "linux")]
fn pids() -> Vec<u32> {
    let Ok(dir) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    dir.flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(target_os = "linux")]
fn environments(home: &Path) -> Vec<u32> {
    use std::os::unix::ffi::OsStrExt;
    let wanted = [b"HOME=", home.as_os_str().as_bytes()].concat();
    let has = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|b| *b == 0).any(|var| var == wanted))
    };
    pids().into_iter().filter(has).collect()
}

#[cfg(not(target_os = "linux"))]
fn parents() -> Vec<(u32, u32)> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let parent = words.next()?.parse().ok()?;
        (!words.next()?.starts_with('Z')).then_some((pid, parent))
    };
    ps(&["-axo", "pid=,ppid=,state="])
        .lines()
        .filter_map(line)
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn environments(home: &Path) -> Vec<u32> {
    // `ps -E` appends the environment to the command of one's own processes.
    let wanted = format!(" HOME={}", home.display());
    let has = |l: &str| {
        let at = l.find(&wanted)? + wanted.len();
        let whole = l[at..].is_empty() || l[at..].starts_with(' ');
        if whole {
            l.split_whitespace().next()?.parse().ok()
        } else {
            None
        }
    };
    ps(&["-axEww", "-o", "pid=,command="])
        .lines()
        .filter_map(has)
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn ps(args: &[&str]) -> String {
    let out = Command::new("ps").args(args).output();
    out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_detached_grandchild_is_found_by_its_home_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "sleep 300 & echo; wait"])
            .env("HOME", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The empty line says that the sleep was started.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let family = tree(child.id());
        assert_eq!(family.len(), 2, "{family:?}");
        let mut wanted = family.clone();
        wanted.sort_unstable();
        // Forked is not yet executed: until then, the grandchild's environment may not be readable.
        let mut found = Vec::new();
        for _ in 0..1000 {
            found = with_home(dir.path());
            found.sort_unstable();
            if found == wanted {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(found, wanted);
        end_with_home(dir.path());
        child.wait().unwrap();
        assert!(with_home(dir.path()).is_empty());
    }
}
