//! Runs that go on on this machine, each with a keeper of its own: a lock that the kernel frees with it says that it lives.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use super::{Record, VERSION, dir, sweep, write};
use crate::paths::{self, AnyPath, Paths};
use crate::request::Ending;

/// In the place of a node's name.
pub const HERE: &str = "local";

fn lock_of(paths: &Paths, id: &str) -> PathBuf {
    dir(paths).join(format!("{id}.lock"))
}

/// A run of this process's, as it is to be written down.
pub struct Own<'a> {
    /// Its id.
    pub id: &'a str,
    /// What it runs.
    pub text: &'a str,
    /// Where.
    pub cwd: &'a Path,
    /// The file that its output goes to.
    pub log: Option<&'a Path>,
    /// When it was started, milliseconds since the epoch.
    pub started_ms: u64,
}

impl Own<'_> {
    fn record(&self, node: &str, ending: Option<Ending>) -> Record {
        Record {
            version: VERSION,
            id: self.id.to_owned(),
            node: node.to_owned(),
            workspace: Some(AnyPath(self.cwd.to_owned())),
            command: vec![crate::history::redact_text(self.text)],
            started_ms: self.started_ms,
            ending,
            // What it changes, it changes here, or is back.
            fetched: true,
            log: self.log.map(Path::to_owned),
            timed_out: None,
        }
    }
}

/// Writes down a run that goes on by itself from now on. It counts as alive until what this returns is dropped.
///
/// # Errors
/// Those of the file system.
pub fn keep(paths: &Paths, own: &Own<'_>) -> anyhow::Result<File> {
    let mut lock = paths::lock_file(&lock_of(paths, own.id))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    write!(lock, "{}", std::process::id())?;
    write(paths, &own.record(HERE, None))?;
    sweep(paths);
    Ok(lock)
}

/// Writes down the end of a run on `node` whose output came here before it could be left to itself.
///
/// # Errors
/// Those of the file system.
pub fn over(paths: &Paths, own: &Own<'_>, node: &str, ending: Ending) -> anyhow::Result<()> {
    paths::private_dir(&dir(paths))?;
    write(paths, &own.record(node, Some(ending)))?;
    sweep(paths);
    Ok(())
}

/// Its end is written down: the lock has served.
pub fn let_go(paths: &Paths, id: &str) {
    let _ = fs::remove_file(lock_of(paths, id));
}

/// Whether it lives.
pub fn is_going(paths: &Paths, id: &str) -> bool {
    File::open(lock_of(paths, id))
        .is_ok_and(|f| rustix::fs::flock(&f, FlockOperation::NonBlockingLockShared).is_err())
}

/// Tells it to end; whether it lives.
///
/// # Errors
/// When it lives and can't be told.
pub fn stop(paths: &Paths, id: &str) -> io::Result<bool> {
    if !is_going(paths, id) {
        return Ok(false);
    }
    let text = fs::read_to_string(lock_of(paths, id))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    kill_process(pid.ok_or(io::ErrorKind::InvalidData)?, Signal::TERM)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::kept;

    #[test]
    fn it_is_known_for_as_long_as_its_keeper_lives() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::under(home.path());
        let own = Own {
            id: "m1-ab",
            text: "make test",
            cwd: home.path(),
            log: None,
            started_ms: paths::now_ms(),
        };
        let lock = keep(&paths, &own).unwrap();
        assert!(is_going(&paths, "m1-ab") && !is_going(&paths, "m1-cd"));
        let record = kept::find(&paths, "ab").unwrap();
        assert_eq!((record.node.as_str(), record.ending), (HERE, None));
        assert!(
            kept::pending(&paths, home.path()).is_empty(),
            "nothing comes back"
        );
        drop(lock);
        assert!(!is_going(&paths, "m1-ab") && !stop(&paths, "m1-ab").unwrap());
        let_go(&paths, "m1-ab");
        assert_eq!(kept::all(&paths).len(), 1);
    }

    #[test]
    fn an_end_is_kept_with_where_its_output_lies() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::under(home.path());
        let log = home.path().join("log");
        let own = Own {
            id: "m1cd",
            text: "make test",
            cwd: home.path(),
            log: Some(&log),
            started_ms: paths::now_ms(),
        };
        over(&paths, &own, "tower", Ending::Code(3)).unwrap();
        let record = kept::find(&paths, "m1cd").unwrap();
        assert_eq!(
            (record.node.as_str(), record.ending),
            ("tower", Some(Ending::Code(3)))
        );
        assert!(record.is_all_here() && record.fetched);
    }
}
