//! Runs that go on without a cx that waits for them: one record each on disk here, so that any later cx can come for them.
//!
//! `STATE/runs/ID.json` says what it is and how it ended; `ID.sent`, while something may still come back, what the mirror had when
//! it started, against which what comes back is judged; `ID.lock`, while it goes on on this machine, that it does.

pub mod here;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::tree::Tree;
use crate::history;
use crate::node::printable;
use crate::paths::{self, AnyPath, Paths, now_ms, write_atomic};
use crate::plan::manifest::{Hash, Manifest, RelPath};
use crate::proto::{BackSpec, MirrorKey};
use crate::request::{Ending, shell_text};
use crate::sync::{Scan, Workspace};

/// Version of both files; one of another version counts as missing.
const VERSION: u32 = 1;

/// Records of runs that ended are kept for so long, and so many at most.
const OLD_MS: u64 = 30 * 24 * 3600 * 1000;
const MOST: usize = 200;

/// What is known here of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The run's id.
    pub id: String,
    /// The node it went to.
    pub node: String,
    /// The workspace it belongs to.
    pub workspace: Option<AnyPath>,
    /// The command, or the text that a shell was given, what looks like a secret left out.
    pub command: Vec<String>,
    /// When it was started, milliseconds since the epoch.
    pub started_ms: u64,
    /// How it ended; `None` while nobody has seen its end.
    pub ending: Option<Ending>,
    /// Whether what it changed was brought back.
    pub fetched: bool,
    /// Its output, where that lies on this machine.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// The time-out of its call, seconds, if it was still going when that was over.
    #[serde(default)]
    pub timed_out: Option<u64>,
}

impl Record {
    /// The part of the id that is enough to tell it from others.
    pub fn short(&self) -> &str {
        short(&self.id)
    }

    /// Whether all that is left of it is here: no node has to be asked for it.
    pub fn is_all_here(&self) -> bool {
        self.node == here::HERE || self.log.is_some()
    }

    /// The command on one printable line of at most 120 characters.
    pub fn line(&self) -> String {
        printable(&self.command.join(" "), 120)
    }
}

/// The part of a run's id that people need: the random one at its end.
pub fn short(id: &str) -> &str {
    id.rsplit('-').next().unwrap_or(id)
}

/// What the mirror had when a run started.
#[derive(Serialize, Deserialize)]
struct Sent {
    version: u32,
    name: String,
    key: String,
    git: bool,
    manifest: Manifest,
    withheld: Vec<RelPath>,
    ignored: Vec<RelPath>,
    head: Option<Hash>,
    began_ns: i64,
}

fn dir(paths: &Paths) -> PathBuf {
    paths.state.join("runs")
}

/// Writes down a run that started so long ago and goes on without this process. `sent`: what its mirror had, where it has one.
///
/// # Errors
/// Those of the file system.
pub fn keep(
    paths: &Paths,
    id: &str,
    node: &str,
    ran: Duration,
    argv: &[Vec<u8>],
    tree: Option<&Tree>,
    sent: Option<Manifest>,
) -> anyhow::Result<()> {
    let dir = dir(paths);
    paths::private_dir(&dir)?;
    if let (Some(tree), Some(manifest)) = (tree, sent) {
        let sent = Sent {
            version: VERSION,
            name: tree.ws.name.clone(),
            key: tree.ws.key.clone(),
            git: tree.ws.git,
            manifest,
            withheld: tree.scan.withheld.clone(),
            ignored: tree.scan.ignored.clone(),
            head: tree.scan.head,
            began_ns: tree.scan.began_ns,
        };
        write_atomic(
            &dir.join(format!("{id}.sent")),
            &postcard::to_stdvec(&sent)?,
            0o600,
        )?;
    }
    let words = || argv.iter().map(|a| String::from_utf8_lossy(a).into_owned());
    let command = match shell_text(argv) {
        Some(text) => vec![history::redact_text(&text)],
        None => history::redact(words().collect()),
    };
    // Who comes for a run and leaves it again has not seen its start.
    let known = read(&dir.join(format!("{id}.json")));
    let started_ms = known.map_or(now_ms().saturating_sub(ran.as_millis() as u64), |r| r.started_ms);
    write(
        paths,
        &Record {
            version: VERSION,
            id: id.to_owned(),
            node: node.to_owned(),
            workspace: tree.map(|t| AnyPath(t.ws.root.clone())),
            command,
            started_ms,
            ending: None,
            fetched: false,
            log: None,
            timed_out: None,
        },
    )?;
    sweep(paths);
    Ok(())
}

fn write(paths: &Paths, record: &Record) -> anyhow::Result<()> {
    let path = dir(paths).join(format!("{}.json", record.id));
    Ok(write_atomic(&path, &serde_json::to_vec(record)?, 0o600)?)
}

fn read(path: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (record.version == VERSION).then_some(record)
}

/// All of them, the youngest first.
pub fn all(paths: &Paths) -> Vec<Record> {
    let mut found: Vec<Record> = fs::read_dir(dir(paths))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|x| x == "json"))
        .filter_map(|e| read(&e.path()))
        .collect();
    found.sort_by(|a, b| (b.started_ms, &b.id).cmp(&(a.started_ms, &a.id)));
    found
}

/// The one whose id, or the last part of it, begins with `id`.
///
/// # Errors
/// When there is none or more than one.
pub fn find(paths: &Paths, id: &str) -> anyhow::Result<Record> {
    let mut fitting = all(paths)
        .into_iter()
        .filter(|r| !id.is_empty() && (r.id.starts_with(id) || r.short().starts_with(id)));
    let first = fitting
        .next()
        .with_context(|| format!("no run {id:?} is known here; `cx runs` lists them"))?;
    if let Some(other) = fitting.next() {
        anyhow::bail!("{id:?} may be run {} or {}; write more of it", first.id, other.id);
    }
    Ok(first)
}

/// Those of a workspace whose changes were not brought back yet.
pub fn pending(paths: &Paths, root: &Path) -> Vec<Record> {
    all(paths)
        .into_iter()
        .filter(|r| !r.fetched && r.workspace.as_deref() == Some(root))
        .collect()
}

/// Notes that a run was still going when the time-out of its call, so many seconds, was over.
pub fn timed_out(paths: &Paths, record: &Record, timeout: u64) {
    let record = Record {
        timed_out: Some(timeout),
        ..record.clone()
    };
    // Without it the run has its end all the same.
    let _ = write(paths, &record);
}

/// Its end is known now; nothing more is wanted of it if `fetched`.
pub fn ended(paths: &Paths, record: &Record, ending: Option<Ending>, fetched: bool) {
    // Others may have noted something since.
    let now = read(&dir(paths).join(format!("{}.json", record.id)));
    let record = now.as_ref().unwrap_or(record);
    let record = Record {
        ending: ending.or(record.ending),
        fetched: fetched || record.fetched,
        ..record.clone()
    };
    // A record that can't be written is asked about again.
    let _ = write(paths, &record);
    if record.fetched {
        let _ = fs::remove_file(dir(paths).join(format!("{}.sent", record.id)));
    }
}

/// The workspace as it was when the run started, and what the mirror had: what is needed to take in what comes back.
pub fn tree(paths: &Arc<Paths>, record: &Record) -> Option<(Tree, Manifest)> {
    let bytes = fs::read(dir(paths).join(format!("{}.sent", record.id))).ok()?;
    let sent: Sent = postcard::from_bytes(&bytes).ok()?;
    if sent.version != VERSION {
        return None;
    }
    let ws = Workspace {
        root: record.workspace.clone()?.0,
        name: sent.name.clone(),
        key: sent.key.clone(),
        git: sent.git,
    };
    let key = MirrorKey {
        client: paths.client_key().ok()?,
        workspace: sent.key,
        name: sent.name,
    };
    let tree = Tree {
        asked: Vec::new(),
        stays: None,
        ws,
        key,
        dir: Vec::new(),
        scan: Scan {
            withheld: sent.withheld,
            ignored: sent.ignored,
            head: sent.head,
            began_ns: sent.began_ns,
            ..Scan::default()
        },
        back: BackSpec::default(),
        repository: None,
        rebuilds: false,
        paths: paths.clone(),
        records: super::tree::records(paths),
        took: Duration::ZERO,
    };
    Some((tree, sent.manifest))
}

fn sweep(paths: &Paths) {
    let now = now_ms();
    let ended = all(paths)
        .into_iter()
        .filter(|r| r.fetched || now.saturating_sub(r.started_ms) > OLD_MS);
    for (i, r) in ended.enumerate() {
        if i >= MOST || now.saturating_sub(r.started_ms) > OLD_MS {
            for end in ["json", "sent", "lock"] {
                let _ = fs::remove_file(dir(paths).join(format!("{}.{end}", r.id)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn put(paths: &Paths, id: &str) {
        keep(
            paths,
            id,
            "n",
            Duration::from_secs(60),
            &[b"make".to_vec(), b"--token=x".to_vec()],
            None,
            None,
        )
        .unwrap();
    }

    #[test]
    fn a_run_is_found_by_what_tells_it_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        assert!(all(&paths).is_empty());
        put(&paths, "19ab-1-cafe");
        put(&paths, "19ac-1-beef");
        assert_eq!(find(&paths, "ca").unwrap().id, "19ab-1-cafe");
        assert_eq!(find(&paths, "19ac").unwrap().id, "19ac-1-beef");
        for bad in ["19a", "", "x"] {
            assert!(find(&paths, bad).is_err(), "{bad}");
        }
        let one = find(&paths, "beef").unwrap();
        assert!(one.started_ms + 60_000 <= now_ms());
        std::thread::sleep(Duration::from_millis(5));
        put(&paths, "19ac-1-beef");
        assert_eq!(find(&paths, "beef").unwrap(), one, "left once more");
        assert_eq!((one.ending, one.fetched, one.command.len()), (None, false, 2));
        assert!(!one.command[1].contains('x'), "{one:?}");
        assert_eq!(one.line(), "make --token=…");
        ended(&paths, &one, Some(Ending::Code(3)), true);
        assert_eq!(find(&paths, "beef").unwrap().ending, Some(Ending::Code(3)));
        std::fs::write(paths.state.join("runs/x.json"), "{").unwrap();
        assert_eq!(all(&paths).len(), 2);
        // A text is kept as it was given, not as it was started.
        let text = "cd sub &&\n\tmake --token=x1 \u{1b}[31mtest";
        let argv = crate::request::shell_argv(text);
        let argv: Vec<Vec<u8>> = argv.into_iter().map(OsString::into_vec).collect();
        let ran = Duration::ZERO;
        keep(&paths, "19ad-1-dada", "n", ran, &argv, None, None).unwrap();
        let one = find(&paths, "dada").unwrap();
        assert_eq!(one.command.len(), 1, "{one:?}");
        assert_eq!(one.line(), "cd sub && make --token=… [31mtest");
    }
}
