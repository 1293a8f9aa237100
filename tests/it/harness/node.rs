//! [`Node`]: one of a test's machines.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cx::demo::processes;
use cx::demo::sshd::Sshd;

use super::process::signal;
use super::{wait_for, write_file};

/// A machine that commands can go to.
pub struct Node {
    pub(super) name: String,
    pub(super) sshd: Sshd,
}

impl Node {
    /// HOME of what runs there.
    pub fn home(&self) -> PathBuf {
        self.sshd.home()
    }

    /// What runs there now, `pid command line` each, without sshd itself, ssh sessions that are ending, and agents: a standing one
    /// waits for the next run.
    pub fn processes(&self) -> Vec<String> {
        let mut all = self.with_agents();
        all.retain(|line| !line.ends_with(" agent"));
        all
    }

    /// The same with agents.
    pub fn with_agents(&self) -> Vec<String> {
        described(processes::with_home(&self.home()))
    }

    /// How many sessions its sshd has opened so far.
    pub fn sessions(&self) -> usize {
        self.sshd.log().matches("Starting session: ").count()
    }

    /// Waits until nothing runs there; for at most `limit`, and then says what does.
    pub fn assert_empty_within(&self, limit: Duration) {
        wait_for(limit, || {
            let left = self.processes();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("left on {}: {left:#?}", self.name))
            }
        });
    }

    /// The machine goes away: sessions break, connections are refused.
    pub fn stop(&mut self) {
        self.sshd.stop();
    }

    /// No key logs in any more; connections that stand go on.
    pub fn lock_out(&self) {
        let keys = self.home().with_file_name("authorized_keys");
        std::fs::write(keys, "").unwrap();
    }

    /// All of the machine's processes stop where they are; connections are still taken by the kernel.
    pub fn freeze(&self) -> Vec<u32> {
        let mut pids = self.sshd.tree();
        pids.extend(processes::with_home(&self.home()));
        signal(&pids, "-STOP");
        pids
    }

    /// They go on.
    pub fn thaw(&self, pids: &[u32]) {
        signal(pids, "-CONT");
    }

    /// Writes a file into the machine's home.
    pub fn write(&self, path: &str, text: &str) {
        write_file(&self.home().join(path), text);
    }
}

/// A process's command line; `None` if it is gone.
fn words(pid: u32) -> Option<String> {
    let out = Command::new("ps")
        .args(["-o", "args=", "-p", &pid.to_string()])
        .output()
        .expect("ps runs");
    let line = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// `pid command line` of those that still live.
pub(super) fn described(pids: Vec<u32>) -> Vec<String> {
    pids.into_iter()
        .filter_map(|pid| Some(format!("{pid} {}", words(pid)?)))
        .collect()
}
