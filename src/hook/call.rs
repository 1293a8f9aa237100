//! Which call of an agent's shell tool this cx belongs to. A session may have several at once: subagents, the background, and clients
//! that start calls side by side; all of them share the session's id.
//!
//! The hook leaves the text of each call that it knows in the call's note, and the shell that runs a call has that text among its
//! arguments, in quotes of some kind. So both are compared without quotes and backslashes, with the arguments of every process above
//! this one.

use super::note::{self, Note};
use std::path::Path;

/// So much of a text is kept in a note, bytes.
const MAX_TEXT: usize = 4 << 10;

/// Processes between cx and the shell of the call at most: scripts, wrappers, makefiles.
const MAX_STEPS: usize = 32;

/// What a note keeps of a call's text.
pub fn mark(text: &str) -> String {
    let plain = text.bytes().filter(|b| !b"'\"\\".contains(b)).take(MAX_TEXT);
    String::from_utf8_lossy(&plain.collect::<Vec<_>>())
        .trim_end_matches(char::REPLACEMENT_CHARACTER)
        .trim()
        .to_owned()
}

/// The note of the call that this process belongs to, if the hook left one. Of two calls with the same text, the later one's.
pub fn note(state: &Path, session: &str) -> Option<Note> {
    let mut notes = note::all(state, session);
    if notes.iter().any(|n| !n.tool_use_id.is_empty())
        && let Some(lines) = ancestors()
    {
        let lines: Vec<String> = lines.iter().map(|l| unquoted(l)).collect();
        notes.retain(|n| n.tool_use_id.is_empty() || lines.iter().any(|l| holds(l, &n.text)));
    }
    // `make` is part of `make test`: the longest is meant.
    notes.into_iter().max_by_key(|n| (n.text.len(), n.at_ms))
}

/// Whether a shell with these arguments runs this text: all of what Claude Code has it evaluate, or some of what another shell has.
fn holds(line: &str, text: &str) -> bool {
    const REST: &str = "&& pwd -P";
    let whole = line.contains("eval ") && line.contains(REST);
    line.match_indices(text).any(|(at, _)| {
        let after = line[at + text.len()..].trim_start();
        let ends = after.starts_with("< /dev/null") || after.starts_with(REST) || text.len() + 4 > MAX_TEXT;
        !whole || (line[..at].trim_end().ends_with("eval") && ends)
    })
}

fn unquoted(line: &[u8]) -> String {
    let plain = line.iter().copied().filter(|b| !b"'\"\\".contains(b));
    String::from_utf8_lossy(&plain.collect::<Vec<_>>()).into_owned()
}

/// The arguments of the processes above this one; `None` where they cannot be seen.
#[cfg(target_os = "linux")]
fn ancestors() -> Option<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..MAX_STEPS {
        if pid <= 1 {
            break;
        }
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
            break;
        };
        lines.push(line);
        let Some(parent) = super::client::parent_of(pid) else {
            break;
        };
        pid = parent;
    }
    (!lines.is_empty()).then_some(lines)
}

/// Other systems show them to `ps`.
#[cfg(not(target_os = "linux"))]
fn ancestors() -> Option<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..MAX_STEPS {
        let out = std::process::Command::new("ps")
            .args(["-ww", "-o", "ppid=,args=", "-p", &pid.to_string()])
            .output()
            .ok()?;
        let line = out.stdout.trim_ascii_start();
        let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
        let parent = std::str::from_utf8(&line[..end])
            .ok()
            .and_then(|p| p.parse().ok());
        let Some(parent) = parent else { break };
        lines.push(line[end..].to_vec());
        if parent <= 1 {
            break;
        }
        pid = parent;
    }
    (!lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_in_the_shell_s_arguments() {
        let text = "pytest -x 'a b' \"q\" 'it'\\''s' \\\n| tail";
        let quoted = format!("source x && eval '{}' < /dev/null", text.replace('\'', "'\"'\"'"));
        assert!(unquoted(quoted.as_bytes()).contains(&mark(text)));
        assert!(!unquoted(quoted.as_bytes()).contains(&mark("pytest -y")));
        let line = "source x && eval make test\n < /dev/null && pwd -P >| y";
        let rows = [
            ("make test", true),
            ("make", false),
            ("test", false),
            ("eval", false),
        ];
        for (text, want) in rows {
            assert_eq!(holds(line, text), want, "{text}");
        }
        assert!(holds("sh -c make test", "make"));
        let long = "é'".repeat(MAX_TEXT);
        assert!(mark(&long).len() <= MAX_TEXT && unquoted(long.as_bytes()).contains(&mark(&long)));
    }
}
