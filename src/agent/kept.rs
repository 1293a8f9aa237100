//! Runs that outlive their callers, as this node keeps them: what became of a run, its output, and its end.
//!
//! A run that was detached leaves its directory when it ends: `log` (the output), `back` (the pack of what it changed), `exit` (the
//! last message) and `started`. Whoever comes for it attaches as to a living one: a supervisor without a command answers.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

use super::{STARTED, log};
use crate::proto::{self, Down, Exit, MirrorSpec, Seen, Up};
use crate::sync::{self, Collected, Mirror, SyncError};

/// A run that ended is kept for so long.
const OLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is left of a run whose caller is satisfied says no more than that it was started, and is kept for so long.
const OLD_NOTE: Duration = Duration::from_secs(24 * 3600);

/// So many ended runs are kept at most, and so many bytes of them in all; the oldest go first.
const MOST: usize = 50;
const MOST_BYTES: u64 = 2 << 30;

/// How often the output of a run that goes on is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

/// What became of the run `id`.
pub fn look(base: &Path, id: &str) -> Seen {
    let Ok(dir) = log::run_dir(base, id) else {
        return Seen::Gone;
    };
    if let Some(exit) = read_exit(&dir) {
        return Seen::Ended {
            ending: exit.ending,
            ran_ms: exit.ran_ms,
        };
    }
    if !dir.join(STARTED).exists() {
        return Seen::Gone;
    }
    match UnixStream::connect(dir.join("s")) {
        Ok(_) => Seen::Going,
        // It may have ended between the two looks.
        Err(_) => match read_exit(&dir) {
            Some(exit) => Seen::Ended {
                ending: exit.ending,
                ran_ms: exit.ran_ms,
            },
            None => Seen::Broken,
        },
    }
}

/// Whether the run `id` has ended and is kept.
pub fn look_ended(base: &Path, id: &str) -> bool {
    log::run_dir(base, id).is_ok_and(|dir| dir.join("exit").exists())
}

/// Ends the run `id`; whether there is one that lives.
pub fn stop(base: &Path, id: &str) -> bool {
    log::connect(base, id).is_ok_and(|mut s| proto::write_packet(&mut s, 1, &Up::Cancel).is_ok())
}

/// Ends the runs `ids`, whose callers are gone, and waits until they have ended, but no longer than until `deadline`.
pub fn end_orphans(base: &Path, ids: &[String], deadline: Instant) {
    let told: Vec<&String> = ids
        .iter()
        .filter(|id| {
            log::connect(base, id).is_ok_and(|mut s| proto::write_packet(&mut s, 1, &Up::Gone).is_ok())
        })
        .collect();
    for id in told {
        // One that was left to itself on purpose just before goes on.
        while Instant::now() < deadline && log::connect(base, id).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Writes down how a run ended, for whoever comes later.
///
/// # Errors
/// Those of the file system.
pub fn write_exit(dir: &Path, exit: &Exit) -> io::Result<()> {
    let bytes = postcard::to_stdvec(exit).map_err(io::Error::other)?;
    crate::paths::write_atomic(&dir.join("exit"), &bytes, 0o600)
}

/// How a kept run ended.
pub fn read_exit(dir: &Path) -> Option<Exit> {
    postcard::from_bytes(&std::fs::read(dir.join("exit")).ok()?).ok()
}

/// Writes down what is needed to collect a run's changes later, and keeps some room for noting its end: the command may fill the disk.
///
/// # Errors
/// Those of the file system.
pub fn prepare(dir: &Path, spec: &MirrorSpec) -> io::Result<()> {
    let spec = MirrorSpec {
        pack: None,
        ..spec.clone()
    };
    let bytes = postcard::to_stdvec(&spec).map_err(io::Error::other)?;
    std::fs::write(dir.join(LATER), bytes)?;
    // Real bytes, not a hole.
    std::fs::write(dir.join(ROOM), vec![1; ROOM_BYTES])
}

/// What [`prepare`] leaves: how to collect, and room for the note of the end.
const LATER: &str = "later";
const ROOM: &str = "room";
const ROOM_BYTES: usize = 32 << 10;

/// Gives the room back that was kept for noting the end.
pub fn make_room(dir: &Path) {
    let _ = std::fs::remove_file(dir.join(ROOM));
}

/// The file in a run's directory that takes the pack of what comes back; there is none yet.
///
/// # Errors
/// Those of the file system.
pub fn new_back(dir: &Path) -> io::Result<File> {
    File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(dir.join("back"))
}

/// Tells in `exit` what was collected.
pub fn tell(exit: &mut Exit, found: Collected) {
    (exit.generation, exit.sequence) = (Some(found.generation), found.sequence);
    exit.left = found.left;
}

/// Collects into `dir` what a run changed, as `spec` says.
///
/// # Errors
/// Those of the mirror and of writing; nothing is left in `dir` then.
pub fn collect(mirror: &mut Mirror, spec: &MirrorSpec, dir: &Path) -> anyhow::Result<Collected> {
    let mut file = new_back(dir)?;
    let collected = mirror
        .collect(&spec.back, &spec.dir, &mut file)
        .map_err(anyhow::Error::from)
        .and_then(|c| {
            file.flush()?;
            Ok(c)
        });
    if collected.is_err() {
        let _ = std::fs::remove_file(dir.join("back"));
    }
    collected
}

/// Why something could not be collected, and what to do about it where that is known.
pub fn why_not(e: &anyhow::Error) -> String {
    let full = e.chain().any(|e| {
        matches!(e.downcast_ref(), Some(SyncError::Full(_))) || e.downcast_ref().is_some_and(sync::is_full)
    });
    let then = if full { "; free some space there" } else { "" };
    format!("{e:#}{then}")
}

/// How a kept run ended. What could not be collected then is collected now, if that is possible.
///
/// # Errors
/// When its end is not known.
pub fn settle(base: &Path, id: &str) -> anyhow::Result<Exit> {
    let dir = log::run_dir(base, id)?;
    let mut exit = read_exit(&dir).context("how the run ended is not known")?;
    if exit.uncollected.is_none() {
        return Ok(exit);
    }
    let spec: MirrorSpec = postcard::from_bytes(&std::fs::read(dir.join(LATER))?)?;
    let mut mirror = Mirror::open(base, &spec.key)?;
    match collect(&mut mirror, &spec, &dir) {
        Ok(found) => {
            tell(&mut exit, found);
            exit.uncollected = None;
            write_exit(&dir, &exit)?;
            mirror.paid(id);
        }
        Err(e) => exit.uncollected = Some(why_not(&e)),
    }
    Ok(exit)
}

/// Collects what earlier runs owe, so that a sync does not undo it; why that is not possible.
///
/// # Errors
/// The run and the reason, in one clause.
pub fn settle_all(base: &Path, mirror: &Mirror) -> Result<(), String> {
    for id in mirror.owed() {
        match settle(base, &id) {
            Ok(exit) => {
                if let Some(why) = exit.uncollected {
                    let short = id.rsplit('-').next().unwrap_or(&id);
                    return Err(format!(
                        "what run {short} changed there can't be collected yet: {why}"
                    ));
                }
            }
            // The run is not known any more.
            Err(_) => mirror.paid(&id),
        }
    }
    Ok(())
}

/// Where the pack of a kept run lies, if it changed anything.
pub fn back(dir: &Path) -> Option<PathBuf> {
    Some(dir.join("back")).filter(|p| p.exists())
}

/// Gives the output of the run `id`, piece by piece, and with `follow` goes on until it ends; then what became of it.
pub fn read(base: &Path, id: &str, follow: bool, mut give: impl FnMut(&Down) -> bool) {
    let seen = |give: &mut dyn FnMut(&Down) -> bool| give(&Down::Seen(vec![look(base, id)]));
    let open = |dir: PathBuf| Some((File::open(dir.join("log")).ok()?, dir));
    let Some((file, dir)) = log::run_dir(base, id).ok().and_then(open) else {
        seen(&mut give);
        return;
    };
    let (mut at, mut passed) = (0, 0);
    loop {
        let going = follow && look(base, id) == Seen::Going;
        // A log that has grown too long starts again.
        if file.metadata().is_ok_and(|m| m.len() < at) {
            at = 0;
        }
        if at == 0 {
            let lost = log::lost_bytes(&dir);
            if lost > passed && !give(&Down::Missing(lost - passed)) {
                return;
            }
            passed = passed.max(lost);
        }
        while let Some((fd, data)) = record(&file, at) {
            at += 5 + data.len() as u64;
            passed += data.len() as u64;
            if !give(&Down::Output { fd, data }) {
                return;
            }
        }
        if !going {
            seen(&mut give);
            return;
        }
        std::thread::sleep(FOLLOW);
    }
}

/// The whole record at `at`, if it is there already.
fn record(file: &File, at: u64) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    file.read_exact_at(&mut head, at).ok()?;
    let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    proto::check_len(len).ok()?;
    let mut data = vec![0; len];
    file.read_exact_at(&mut data, at + 5).ok()?;
    Some((head[0], data))
}

/// Removes what ended runs left: what is old, and the oldest where there is too much.
pub fn sweep(runs: &Path) {
    let mut ended: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(runs).into_iter().flatten().flatten() {
        let dir = entry.path();
        let Ok(modified) = entry.metadata().and_then(|m| m.modified()) else {
            continue;
        };
        let age = modified.elapsed().unwrap_or_default();
        let kept = dir.join("exit").exists();
        if age < if kept { Duration::ZERO } else { OLD_NOTE } || UnixStream::connect(dir.join("s")).is_ok() {
            continue;
        }
        if age > OLD || !kept {
            let _ = std::fs::remove_dir_all(dir);
            continue;
        }
        let bytes = ["log", "back"]
            .iter()
            .filter_map(|f| std::fs::metadata(dir.join(f)).ok())
            .map(|m| m.len())
            .sum();
        ended.push((modified, bytes, dir));
    }
    ended.sort_by_key(|e| std::cmp::Reverse(e.0));
    let mut bytes = 0;
    for (i, (_, size, dir)) in ended.into_iter().enumerate() {
        bytes += size;
        if i >= MOST || bytes > MOST_BYTES {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// The file of a kept run's log, for a supervisor that answers for it, and the bytes in it.
///
/// # Errors
/// When there is none.
pub fn open_log(dir: &Path) -> io::Result<(File, u64)> {
    let file = File::options().read(true).write(true).open(dir.join("log"))?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_ended_runs_make_room() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..MOST + 3 {
            let run = dir.path().join(format!("{i}"));
            std::fs::create_dir(&run).unwrap();
            std::fs::write(run.join("exit"), "").unwrap();
            // Directories made at once may have one time; the order among them does not matter.
        }
        std::fs::create_dir(dir.path().join("young-note")).unwrap();
        sweep(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), MOST + 1);
        assert!(dir.path().join("young-note").exists());
    }

    #[test]
    fn a_run_that_never_was_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path(), "abc"), Seen::Gone);
        assert_eq!(look(dir.path(), "../abc"), Seen::Gone);
        std::fs::create_dir_all(dir.path().join("runs/abc")).unwrap();
        assert_eq!(look(dir.path(), "abc"), Seen::Gone);
        std::fs::write(dir.path().join("runs/abc").join(STARTED), "").unwrap();
        assert_eq!(look(dir.path(), "abc"), Seen::Broken);
        assert!(!stop(dir.path(), "abc"));
    }
}
