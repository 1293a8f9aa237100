//! What cx did and why, one line of JSON a command, in the state directory.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;

use crate::paths::{self, Paths};
use crate::request::{Origin, Outcome, Request};

/// Past this size the file is set aside (one old one is kept).
const ROTATE: u64 = 4 << 20;

/// One command.
#[derive(Debug, Serialize)]
pub struct Entry {
    at_ms: u64,
    origin: &'static str,
    session: Option<String>,
    command: Vec<String>,
    cwd: String,
    workspace: Option<String>,
    place: String,
    reason: String,
    status: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunEntry>,
}

#[derive(Debug, Serialize)]
struct RunEntry {
    id: String,
    sync_ms: u64,
    /// What scanning and packing took here; most of it beside the opening of the session.
    local_ms: u64,
    run_ms: u64,
    sent_files: u64,
    sent_bytes: u64,
    back_files: u64,
    back_bytes: u64,
    notes: Vec<String>,
}

impl Entry {
    /// Of one request. `status` is `None` where cx gave way to the command, which ran here.
    pub fn new(
        request: &Request,
        place: &str,
        reason: &str,
        status: Option<i32>,
        outcome: Option<&Outcome>,
        workspace: Option<&Path>,
    ) -> Entry {
        Entry {
            at_ms: crate::agent::now_ms(),
            origin: match request.origin {
                Origin::Shell => "shell",
                Origin::Agent => "agent",
                Origin::Mcp => "mcp",
            },
            session: std::env::var("CLAUDE_CODE_SESSION_ID").ok(),
            command: match &request.script {
                Some(text) => vec![redact_text(text)],
                None => redact(
                    request
                        .argv
                        .iter()
                        .map(|a| a.to_string_lossy().into_owned())
                        .collect(),
                ),
            },
            cwd: request.cwd.display().to_string(),
            workspace: workspace.map(|w| w.display().to_string()),
            place: place.to_owned(),
            reason: reason.to_owned(),
            status,
            run: outcome.map(|o| RunEntry {
                id: o.run_id.clone(),
                sync_ms: o.sync_time.as_millis() as u64,
                local_ms: o.local_time.as_millis() as u64,
                run_ms: o.run_time.as_millis() as u64,
                sent_files: o.sent.0,
                sent_bytes: o.sent.1,
                back_files: o.back.0,
                back_bytes: o.back.1,
                notes: o.notes.clone(),
            }),
        }
    }
}

/// Replaces what looks like a secret among arguments: the value of `--token`-like flags and of `NAME=value` words.
pub fn redact(mut argv: Vec<String>) -> Vec<String> {
    let mut next = false;
    for arg in &mut argv {
        if std::mem::take(&mut next) {
            "…".clone_into(arg);
            continue;
        }
        let (name, value) = arg
            .split_once('=')
            .map_or((arg.as_str(), None), |(n, v)| (n, Some(v)));
        let bare = name.trim_start_matches('-').replace('-', "_");
        let secret = crate::client::cross::looks_secret(&bare, value.unwrap_or(""));
        match value {
            Some(_) if secret => *arg = format!("{name}=…"),
            None if secret && name.starts_with('-') => next = true,
            None if crate::client::cross::looks_secret("", arg) => "…".clone_into(arg),
            _ => {}
        }
    }
    argv
}

/// The same for the words of a shell's text.
pub fn redact_text(text: &str) -> String {
    redact(text.split(' ').map(str::to_owned).collect()).join(" ")
}

/// Adds a line. One write: lines of several processes stay whole.
///
/// # Errors
/// Those of the file system.
pub fn append(paths: &Paths, entry: &Entry) -> std::io::Result<()> {
    paths::private_dir(&paths.state)?;
    let path = paths.state.join("history.jsonl");
    if std::fs::metadata(&path).is_ok_and(|m| m.len() > ROTATE) {
        let _ = std::fs::rename(&path, paths.state.join("history.1.jsonl"));
    }
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?
        .write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_get_into_the_history() {
        let argv = [
            "x",
            "--token",
            "abc",
            "--password=abc",
            "API_KEY=abc",
            "ghp_123",
            "--verbose",
            "y",
        ];
        let got = redact(argv.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(
            got,
            [
                "x",
                "--token",
                "…",
                "--password=…",
                "API_KEY=…",
                "…",
                "--verbose",
                "y"
            ]
        );
    }
}
