//! Trees that lie on a file system which this machine and a node share: nothing is synced, the command runs where it stands.
//!
//! That they do share it is proved for each run: a file of a name and content that nobody can guess is made beside the tree, and the node
//! must find it at the same path, on the file system of the run's directory. It takes the file away.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::paths::{self, Paths};
use crate::proto::Shared;

/// How the names of such files begin.
const PREFIX: &str = ".cx-shared-";

/// What is older was left by a cx that was killed.
const LEFT: Duration = Duration::from_secs(60);

/// A node that did not find the file is not asked again for so long.
const APART: Duration = Duration::from_secs(3600);

/// Whether the configuration names the tree at `root`, or one above it.
pub fn is_named(root: &Path, shared: &[PathBuf]) -> bool {
    shared.iter().any(|s| {
        let real = s.canonicalize();
        root.starts_with(real.as_deref().unwrap_or(s))
    })
}

/// The file; removed when this is dropped, if the node has not done so.
#[derive(Debug)]
pub struct Mark(PathBuf);

impl Mark {
    /// Makes one for a run in `cwd` in the tree at `root`, and sweeps what others left.
    ///
    /// # Errors
    /// When none can be made, or `cwd` lies on another file system than it; one clause.
    pub fn make(root: &Path, cwd: &Path) -> Result<(Mark, Shared), String> {
        // Inside a repository nobody else looks at it.
        let git = root.join(".git");
        let dir = if git.is_dir() { git } else { root.to_owned() };
        sweep(&dir);
        let nonce = || format!("{:016x}{:016x}", paths::nonce(), paths::nonce());
        let path = dir.join(format!("{PREFIX}{}", nonce()));
        let failed = |e: std::io::Error| format!("{} can't be written: {e}", dir.display());
        let content = nonce();
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mark = Mark(path);
        file.write_all(content.as_bytes()).map_err(failed)?;
        // Another machine must see it now.
        file.sync_all().map_err(failed)?;
        let here = std::fs::metadata(cwd).map_err(|e| format!("{}: {e}", cwd.display()))?;
        if file.metadata().map_err(failed)?.dev() != here.dev() {
            return Err(format!("{} is another file system", cwd.display()));
        }
        let bytes = |p: &Path| p.as_os_str().as_bytes().to_vec();
        let shared = Shared {
            root: bytes(root),
            dir: bytes(cwd.strip_prefix(root).unwrap_or(Path::new(""))),
            mark: bytes(&mark.0),
            content,
        };
        Ok((mark, shared))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let age = entry.metadata().and_then(|m| m.modified()).ok();
        if age.and_then(|t| t.elapsed().ok()).is_some_and(|a| a > LEFT) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn apart_file(paths: &Paths, node: &str, root: &Path) -> PathBuf {
    let text = [node.as_bytes(), b"\0", root.as_os_str().as_bytes()].concat();
    paths
        .cache
        .join("apart")
        .join(&blake3::hash(&text).to_hex()[..16])
}

/// Whether the node was found not to share the tree at `root`, a short while ago.
pub fn is_apart(paths: &Paths, node: &str, root: &Path) -> bool {
    let noted = std::fs::metadata(apart_file(paths, node, root)).and_then(|m| m.modified());
    noted
        .ok()
        .and_then(|t| t.elapsed().ok())
        .is_some_and(|age| age < APART)
}

/// Notes that it does not.
pub fn note_apart(paths: &Paths, node: &str, root: &Path) {
    // Without the note it is asked again.
    let _ = paths::write_atomic(&apart_file(paths, node, root), b"", 0o600);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_below_a_named_one_are_shared() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("net/proj")).unwrap();
        std::os::unix::fs::symlink(top.join("net"), top.join("link")).unwrap();
        for (named, is) in [("net", true), ("link", true), ("net/proj", true), ("ne", false)] {
            assert_eq!(is_named(&top.join("net/proj"), &[top.join(named)]), is, "{named}");
        }
        assert!(!is_named(&top, &[]));
    }

    #[test]
    fn marks_go_with_their_run_and_old_ones_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("sub")).unwrap();
        let left = root.join(format!("{PREFIX}left"));
        let file = File::create(&left).unwrap();
        let old = std::time::SystemTime::now() - 2 * LEFT;
        file.set_modified(old).unwrap();
        let (mark, shared) = Mark::make(root, &root.join("sub")).unwrap();
        assert!(!left.exists());
        assert_eq!(shared.dir, b"sub");
        let path = mark.0.clone();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), shared.content);
        // A second run at the same time leaves the first one's alone.
        let (other, _) = Mark::make(root, root).unwrap();
        assert!(path.exists());
        drop((mark, other));
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 1);
    }
}
