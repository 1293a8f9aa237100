//! What nodes changed while it was changed here too: kept apart, listed, shown, taken or dropped.
//!
//! `STATE/conflicts/RUN/tree/` holds the node's versions at their paths, `STATE/conflicts/RUN/about.json` says whose they are.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::node::printable;
use crate::paths::{self, AnyPath, Paths};
use crate::sync::is_protected;

/// Where a run's kept versions come from.
#[derive(Debug, Serialize, Deserialize)]
pub struct About {
    /// The top of the workspace here.
    pub workspace: AnyPath,
    /// The node.
    pub node: String,
    /// When they were kept, milliseconds since the epoch.
    pub at_ms: u64,
}

/// The directory for the kept versions of a run.
pub fn tree_dir(paths: &Paths, id: &str) -> PathBuf {
    dir(paths).join(id).join("tree")
}

fn dir(paths: &Paths) -> PathBuf {
    paths.state.join("conflicts")
}

/// Notes whose the kept versions of a run are.
///
/// # Errors
/// Those of writing.
pub fn note(paths: &Paths, id: &str, workspace: &Path, node: &str) -> io::Result<()> {
    paths::write_atomic(&dir(paths).join(id).join(ABOUT), &about(workspace, node)?, 0o600)
}

fn about(workspace: &Path, node: &str) -> io::Result<Vec<u8>> {
    let about = About {
        workspace: AnyPath(workspace.to_owned()),
        node: node.to_owned(),
        at_ms: paths::now_ms(),
    };
    serde_json::to_vec_pretty(&about).map_err(io::Error::other)
}

/// Name of the note.
const ABOUT: &str = "about.json";

/// Leaves the note in `stage`, where what comes back lies, for the cx that finishes what this one may not live to finish.
///
/// # Errors
/// Those of writing.
pub fn leave_note(stage: &Path, workspace: &Path, node: &str) -> io::Result<()> {
    fs::write(stage.join(ABOUT), about(workspace, node)?)
}

/// The notes that were left in the directories below `stages`, by the runs' ids.
pub fn left_notes(stages: &Path) -> Vec<(String, About)> {
    let entries = fs::read_dir(stages).into_iter().flatten().flatten();
    let note = |e: fs::DirEntry| {
        let text = fs::read(e.path().join(ABOUT)).ok()?;
        Some((
            e.file_name().into_string().ok()?,
            serde_json::from_slice(&text).ok()?,
        ))
    };
    entries.filter_map(note).collect()
}

fn load(paths: &Paths, id: &str) -> anyhow::Result<(About, Vec<PathBuf>)> {
    let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    anyhow::ensure!(
        plain,
        "{:?} names no run; `cx conflicts` lists them",
        printable(id, 60)
    );
    let text = fs::read(dir(paths).join(id).join(ABOUT))
        .with_context(|| format!("nothing is kept of run {id}; `cx conflicts` lists what is"))?;
    let about =
        serde_json::from_slice(&text).with_context(|| format!("what is noted of run {id} can't be read"))?;
    let mut found = Vec::new();
    walk(&tree_dir(paths, id), Path::new(""), &mut found);
    found.sort();
    Ok((about, found))
}

fn walk(top: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(top.join(below)).into_iter().flatten().flatten() {
        let path = below.join(entry.file_name());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(top, &path, found);
        } else {
            found.push(path);
        }
    }
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy(), 400)
}

/// `cx conflicts`: every run of which something is kept, with its paths.
///
/// # Errors
/// Those of `out`.
pub fn list(paths: &Paths, out: &mut dyn Write) -> anyhow::Result<i32> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(dir(paths)).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        if let Ok((about, found)) = load(paths, &id) {
            runs.push((about.at_ms, id, about, found));
        }
    }
    runs.sort_by_key(|r| r.0);
    if runs.is_empty() {
        writeln!(out, "no conflicts are kept")?;
    }
    for (_, id, about, found) in runs {
        writeln!(out, "{id}  {}  from {}", about.workspace.display(), about.node)?;
        for path in found {
            writeln!(out, "    {}", shown(&path))?;
        }
    }
    Ok(0)
}

/// `cx conflicts show ID`: what `diff` says of each, what stands here first.
///
/// # Errors
/// When nothing is kept of the run, or `diff` can't be started.
pub fn show(paths: &Paths, id: &str, out: &mut dyn Write) -> anyhow::Result<i32> {
    let (about, found) = load(paths, id)?;
    for path in found {
        let (here, theirs) = (about.workspace.join(&path), tree_dir(paths, id).join(&path));
        let here = if here.symlink_metadata().is_ok() {
            here
        } else {
            "/dev/null".into()
        };
        let diff = Command::new("diff")
            .args(["-u", "--"])
            .args([&here, &theirs])
            .output()
            .context("failed to start diff")?;
        out.write_all(&diff.stdout)?;
        if diff.status.code().is_none_or(|c| c > 1) {
            writeln!(out, "{}: can't be compared", shown(&path))?;
        }
    }
    Ok(0)
}

/// `cx conflicts take ID [PATH...]`: the node's versions replace what stands here, each in one step, and are kept no longer.
///
/// # Errors
/// When nothing is kept of the run or a path is not among it; those of writing.
pub fn take(paths: &Paths, id: &str, only: &[PathBuf], out: &mut dyn Write) -> anyhow::Result<i32> {
    let (about, found) = load(paths, id)?;
    if let Some(unknown) = only.iter().find(|p| !found.contains(p)) {
        anyhow::bail!(
            "{} is not kept of run {id}; `cx conflicts` lists what is",
            unknown.display()
        );
    }
    for path in found.iter().filter(|p| only.is_empty() || only.contains(p)) {
        anyhow::ensure!(
            !is_protected(path.as_os_str().as_encoded_bytes()),
            "{}: nothing from a node is put there",
            shown(path)
        );
        let (here, theirs) = (about.workspace.join(path), tree_dir(paths, id).join(path));
        let parent = here.parent().unwrap_or(&about.workspace);
        fs::create_dir_all(parent).with_context(|| format!("failed to make {}", parent.display()))?;
        let real = parent.canonicalize()?;
        anyhow::ensure!(
            real.starts_with(about.workspace.canonicalize()?),
            "{}: a link above it leads out of the project",
            shown(path)
        );
        let tmp = real.join(format!("{}{:016x}", crate::sync::TMP_PREFIX, paths::nonce()));
        let copied = if theirs.is_symlink() {
            fs::read_link(&theirs).and_then(|t| std::os::unix::fs::symlink(t, &tmp))
        } else {
            fs::copy(&theirs, &tmp).map(drop)
        };
        copied
            .and_then(|()| fs::rename(&tmp, &here))
            .inspect_err(|_| {
                let _ = fs::remove_file(&tmp);
            })
            .with_context(|| format!("failed to write {}", here.display()))?;
        fs::remove_file(&theirs)?;
        writeln!(out, "took {}", shown(path))?;
    }
    if load(paths, id).is_ok_and(|(_, left)| left.is_empty()) {
        fs::remove_dir_all(dir(paths).join(id))?;
    }
    Ok(0)
}

/// `cx conflicts drop`: forgets what is kept of one run, or of all.
///
/// # Errors
/// When nothing is kept of the run; those of removing.
pub fn forget(paths: &Paths, id: Option<&str>, out: &mut dyn Write) -> anyhow::Result<i32> {
    match id {
        Some(id) => {
            load(paths, id)?;
            fs::remove_dir_all(dir(paths).join(id))?;
        }
        None => match fs::remove_dir_all(dir(paths)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        },
    }
    writeln!(out, "dropped")?;
    Ok(0)
}
