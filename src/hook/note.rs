//! What the hook and the runs of one session tell each other through small files in the state directory.
//!
//! `notes/SESSION.CALL`: what the hook knows of the call that it rewrote, for the `cx` in it, which finds its session in
//! `CLAUDE_CODE_SESSION_ID` and the call by its text ([`super::call`]). `reports/SESSION.CALL`: the report lines of
//! runs, which the hook hands to the model after the call. Without `.CALL`: those of a client that gives its calls no
//! id, and lines that belong to no call, or to one that has been answered; they come with the next. All are hints:
//! whatever fails here changes nothing about the command.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Version of [`Note`]; one of another version counts as missing.
const VERSION: u32 = 1;

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 64 << 10;

/// Notes are padded to a multiple of this, bytes.
const PADDING: usize = 512;

/// The largest text that [`take_reports`] gives, bytes; a model pays for each.
const MAX_REPORT: usize = 4 << 10;

/// Notes and reports older than this are cleared away by [`clear_old`], in milliseconds.
const MAX_AGE_MS: u64 = 7 * 24 * 3600 * 1000;

/// What the hook leaves for the `cx` in the call that it rewrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Filled in by [`write()`].
    pub version: u32,
    /// When the hook ran, milliseconds since the epoch. The call starts later if a person is asked first.
    pub at_ms: u64,
    /// The call's id, `tool_use_id`.
    pub tool_use_id: String,
    /// The call's time-out in milliseconds, counted from its start: as given (and raised), else the client's default.
    pub timeout_ms: u64,
    /// The call was started in the background, where no time-out ends it.
    pub background: bool,
    /// The call's text as it runs, as far as [`super::call::mark`] keeps it.
    pub text: String,
    /// Names of the variables that the command's text assigns; set on purpose, so they go along.
    pub assigned: Vec<String>,
}

/// Leaves the note of a call of `session`, replacing an older one.
///
/// The file is written over in place and padded with blanks, for the hook's sake: replacing it by a rename takes as
/// long as all else that the hook does. A reader that meets the middle of a write reads no note.
///
/// # Errors
/// If the session's id is no file name, or those of the file system.
pub fn write(state: &Path, session: &str, note: &Note) -> io::Result<()> {
    let path = place_of(state, "notes", session, &note.tool_use_id)?;
    let note = Note {
        version: VERSION,
        ..note.clone()
    };
    let mut bytes = serde_json::to_vec(&note)?;
    bytes.resize(bytes.len().next_multiple_of(PADDING), b' ');
    let mut file = private(&path, OpenOptions::new().write(true).create(true).truncate(false))?;
    file.write_all(&bytes)?;
    if file.metadata()?.len() > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    Ok(())
}

/// The notes of `session` that can be read, in no order.
pub fn all(state: &Path, session: &str) -> Vec<Note> {
    let Ok(own) = place_of(state, "notes", session, "") else {
        return Vec::new();
    };
    let prefix = format!("{session}.");
    let entries = fs::read_dir(state.join("notes")).into_iter().flatten().flatten();
    entries
        .map(|e| e.path())
        .filter(|p| {
            *p == own
                || p.file_name()
                    .and_then(|n| n.to_str())
                    .is_some_and(|n| n.starts_with(&prefix))
        })
        .filter_map(|p| serde_json::from_str(&read_file(&p)?).ok())
        .filter(|n: &Note| n.version == VERSION)
        .collect()
}

/// Appends a report line for the model of `session`, to be told after `call`, or after the next one where that is `None`; line ends
/// and control characters in it become blanks.
///
/// # Errors
/// As for [`write()`].
pub fn append_report(state: &Path, session: &str, call: Option<&Note>, line: &str) -> io::Result<()> {
    // A call in the background has been answered when its runs end.
    let call = call.filter(|n| !n.background).map_or("", |n| &n.tool_use_id);
    let path = place_of(state, "reports", session, call)?;
    let mut line: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    line.push('\n');
    // One write in append mode, so that the lines of runs side by side do not mix.
    private(&path, OpenOptions::new().append(true).create(true))?.write_all(line.as_bytes())
}

/// Takes away and gives the report lines of a call of `session`, and those that belong to no call; the last ones where they are too
/// many.
pub fn take_reports(state: &Path, session: &str, call: &str) -> Option<String> {
    let mut text = String::new();
    let own = (!call.is_empty()).then_some(call);
    for name in [Some(""), own].into_iter().flatten() {
        if let Ok(path) = place_of(state, "reports", session, name) {
            text.extend(take(&path));
        }
    }
    let mut from = text.len().saturating_sub(MAX_REPORT);
    if from > 0 {
        from = text
            .match_indices('\n')
            .map(|(i, _)| i + 1)
            .find(|i| *i >= from)
            .unwrap_or(text.len());
    }
    let text = text[from..].trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

fn take(path: &Path) -> Option<String> {
    // Renamed first: a line that is appended from here on goes to a new file, for the next time.
    let taken = path.with_file_name(format!(
        "{}.{}.taken",
        path.file_name()?.to_str()?,
        std::process::id()
    ));
    fs::rename(path, &taken).ok()?;
    let text = read_file(&taken);
    let _ = fs::remove_file(&taken);
    text
}

/// Takes the reports of a call that has been answered, and its note away, if there is one. One that goes on `in_background` still
/// needs it.
pub fn finish(state: &Path, session: &str, call: &str, in_background: bool) -> Finished {
    let noted = place_of(state, "notes", session, call).is_ok_and(|path| {
        if in_background {
            path.exists()
        } else {
            fs::remove_file(path).is_ok()
        }
    });
    Finished {
        noted,
        reports: take_reports(state, session, call),
    }
}

/// What [`finish`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// The hook had left a note.
    pub noted: bool,
    /// The lines.
    pub reports: Option<String>,
}

/// Clears away notes and reports of sessions that ended long ago. For a caller that has the time; the hook has not.
pub fn clear_old(state: &Path) {
    for kind in ["notes", "reports"] {
        for entry in fs::read_dir(state.join(kind)).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|m| m.modified()).ok();
            let age = modified.and_then(|m| SystemTime::now().duration_since(m).ok());
            if age.is_some_and(|a| a.as_millis() as u64 > MAX_AGE_MS) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The file of a session, or of one of its calls. An id that is not a plain name is refused.
fn place_of(state: &Path, kind: &str, session: &str, call: &str) -> io::Result<PathBuf> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let good = |id: &str| id.len() <= 100 && id.bytes().all(plain);
    if session.is_empty() || !good(session) || !good(call) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the id of the session or the call is no file name",
        ));
    }
    let dot = if call.is_empty() { "" } else { "." };
    Ok(state.join(kind).join(format!("{session}{dot}{call}")))
}

/// Opens a file of our own; its directory is made when missing.
fn private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let options = options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    match (options.open(path), path.parent()) {
        (Err(e), Some(dir)) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            options.open(path)
        }
        (opened, _) => opened,
    }
}

fn read_file(path: &Path) -> Option<String> {
    let mut bytes = Vec::with_capacity(2 << 10);
    File::open(path)
        .ok()?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_note_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("cx");
        let note = Note {
            at_ms: 5,
            timeout_ms: 120_000,
            assigned: vec!["FOO".into()],
            ..Note::default()
        };
        let read = |session: &str| all(&state, session).pop();
        assert_eq!(read("s-1"), None);
        let longer = Note {
            assigned: vec!["LONG".into(); 500],
            ..note.clone()
        };
        for note in [&note, &longer, &note] {
            write(&state, "s-1", note).unwrap();
            assert_eq!(read("s-1").unwrap().assigned, note.assigned);
        }
        assert_eq!(
            fs::metadata(state.join("notes/s-1")).unwrap().len(),
            PADDING as u64
        );
        assert_eq!(
            read("s-1"),
            Some(Note {
                version: VERSION,
                ..note
            })
        );
        assert_eq!(
            fs::metadata(state.join("notes/s-1"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(state.join("notes")).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(fs::read_dir(state.join("notes")).unwrap().count(), 1);
        for other in ["{", "{\"version\":99}", "[]"] {
            fs::write(state.join("notes/s-1"), other).unwrap();
            assert_eq!(read("s-1"), None);
        }
    }

    #[test]
    fn an_id_never_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["", ".", "..", "../x", "a/b", "a\0", "é", &"x".repeat(200)] {
            assert!(write(dir.path(), id, &Note::default()).is_err(), "{id:?}");
            assert!(append_report(dir.path(), id, None, "x").is_err(), "{id:?}");
            assert_eq!(take_reports(dir.path(), id, ""), None);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn reports_are_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(take_reports(dir.path(), "s", ""), None);
        append_report(dir.path(), "s", None, "[cx] tower · exit 1").unwrap();
        append_report(dir.path(), "s", None, "two\nlines\u{1b}[31m").unwrap();
        assert_eq!(
            take_reports(dir.path(), "s", "").unwrap(),
            "[cx] tower · exit 1\ntwo lines [31m"
        );
        assert_eq!(take_reports(dir.path(), "s", ""), None);
        for n in 0..2000 {
            append_report(dir.path(), "s", None, &format!("line {n} é")).unwrap();
        }
        let text = take_reports(dir.path(), "s", "").unwrap();
        assert!(text.len() <= MAX_REPORT && text.starts_with("line "), "{text}");
        assert_eq!(fs::read_dir(dir.path().join("reports")).unwrap().count(), 0);
    }

    #[test]
    fn every_call_has_its_own_note_and_reports() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let note = |call: &str, background| Note {
            tool_use_id: call.into(),
            background,
            ..Note::default()
        };
        for call in ["a", "b", ""] {
            write(state, "s", &note(call, false)).unwrap();
            write(state, "s2", &note(call, false)).unwrap();
        }
        assert_eq!(all(state, "s").len(), 3);
        let report = |call: &str, background, line: &str| {
            append_report(state, "s", Some(&note(call, background)), line).unwrap();
        };
        report("a", false, "of a");
        report("b", false, "of b");
        report("c", true, "of the background");
        let finished = |noted, reports: Option<&str>| Finished {
            noted,
            reports: reports.map(str::to_owned),
        };
        let got = finish(state, "s", "b", false);
        assert_eq!(got, finished(true, Some("of the background\nof b")));
        assert_eq!(finish(state, "s", "b", false), finished(false, None));
        assert_eq!(finish(state, "s", "a", true), finished(true, Some("of a")));
        assert_eq!(finish(state, "s", "a", false), finished(true, None));
        assert_eq!((all(state, "s").len(), all(state, "s2").len()), (1, 3));
        assert!(write(state, "s", &note("../x", false)).is_err());
    }
}
