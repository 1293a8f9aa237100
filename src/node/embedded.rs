//! An embedded node: the agent over a pipe on this machine, with a home of its own.

use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::LinkError;

/// Starts the agent with `home` as its home directory.
pub fn start(home: &Path) -> Result<Child, LinkError> {
    let here = |e: std::io::Error| LinkError::Here(format!("failed to start the embedded node: {e}"));
    crate::agent::private_dir(home).map_err(here)?;
    let mut c = Command::new(std::env::current_exe().map_err(here)?);
    c.arg("agent").env_clear().current_dir(home).process_group(0);
    for name in ["PATH", "LANG", "SHELL", "USER", "LOGNAME"] {
        if let Some(v) = std::env::var_os(name) {
            c.env(name, v);
        }
    }
    c.env("HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    c.spawn().map_err(here)
}
