//! Keeping the table fresh: a detached `cx refresh`, one at a time.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::FlockOperation;

use super::Table;
use crate::config::Config;
use crate::paths::{self, Paths};

/// The lock that the one refreshing process holds; `None` while another holds it.
pub fn refresh_lock(paths: &Paths) -> Option<File> {
    let file = paths::lock_file(&paths.cache.join("refresh.lock")).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Starts `cx refresh` in the background if some node's entry is stale and nobody is at it already.
pub fn refresh_if_stale(paths: &Paths, config: &Config) {
    let now = crate::agent::now_ms();
    let table = Table::load(paths).0;
    // Nodes with an open breaker too: the first connection to a far node may take longer than a waiting command can.
    let stale = config
        .nodes
        .iter()
        .any(|n| table.nodes.get(&n.name).is_none_or(|s| s.is_stale(now)));
    if !stale || refresh_lock(paths).is_none() {
        return;
    }
    // By way of a process that ends at once: the command that may take this one's place must not find itself with a child that
    // it never started.
    if let Ok(mut child) = start(&["refresh", "--detach"]) {
        let _ = child.wait();
    }
}

/// Starts the one that refreshes, and leaves it alone.
pub fn detach() {
    let _ = start(&["refresh", "--once"]);
}

/// Starts this program in a process group of its own and with no descriptor of ours: nothing of the caller waits for it.
fn start(args: &[&str]) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}
