//! Who made an ignored directory: the node whose run left it, as noted after that run. No note means this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::paths::{self, Paths};

type Owners = BTreeMap<String, Owner>;

/// Stands among the directories for the images and containers of a workspace; no directory in one has this name.
pub const CONTAINERS: &str = "//containers";

/// Who made a directory, and which one it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    node: String,
    inode: u64,
    /// What tells its cmake cache, as it was then, from one that was written since.
    #[serde(default)]
    cache: Option<(u64, i64, i64, u64)>,
    /// When, nanoseconds since the epoch by this machine's clock.
    #[serde(default)]
    at_ns: i64,
}

fn file(paths: &Paths, workspace: &str) -> PathBuf {
    paths.state.join("owners").join(format!("{workspace}.json"))
}

fn load(paths: &Paths, workspace: &str) -> Owners {
    std::fs::read(file(paths, workspace))
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or_default()
}

/// The node that made `dir` (relative to the workspace at `root`), if a node did and nobody has made it anew here since.
pub fn of(paths: &Paths, workspace: &str, root: &Path, dir: &Path) -> Option<String> {
    let owner = load(paths, workspace).remove(dir.to_str()?)?;
    let full = root.join(dir);
    (owner.inode == inode(&full) && owner.cache == cmake_cache(&full)).then_some(owner.node)
}

/// When the node that made `dir` was noted last.
pub fn noted_ns(paths: &Paths, workspace: &str, dir: &Path) -> Option<i64> {
    Some(load(paths, workspace).remove(dir.to_str()?)?.at_ns)
}

/// Tells a directory from another one that took its place.
fn inode(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(dir).map_or(0, |m| m.ino())
}

/// Changes when cmake configures `dir` again. The paths in its cache do not tell where: on the node they may be the same.
fn cmake_cache(dir: &Path) -> Option<(u64, i64, i64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(dir.join("CMakeCache.txt")).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

/// Notes that `dirs` were made or changed by `node`, or by this machine (`None`).
pub fn note(paths: &Paths, workspace: &str, root: &Path, dirs: &[PathBuf], node: Option<&str>) {
    let mut owners = load(paths, workspace);
    let before = owners.clone();
    let at_ns = crate::sync::now_ns();
    for dir in dirs {
        let Some(name) = dir.to_str() else { continue };
        match node {
            Some(n) => owners.insert(
                name.to_owned(),
                Owner {
                    node: n.to_owned(),
                    inode: inode(&root.join(dir)),
                    cache: cmake_cache(&root.join(dir)),
                    at_ns,
                },
            ),
            None => owners.remove(name),
        };
    }
    if owners != before
        && let Ok(bytes) = serde_json::to_vec_pretty(&owners)
        && crate::agent::private_dir(&paths.state.join("owners")).is_ok()
    {
        // Without the note the next run stays local: slower, never wrong.
        let _ = paths::write_atomic(&file(paths, workspace), &bytes, 0o600);
    }
}
