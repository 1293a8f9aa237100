//! Marks of the runs that a cx here waits for: `CACHE/live/NODE/ID`, locked for as long as that cx lives. A mark that nobody holds is
//! that of a run whose cx was killed: the node may not have heard of it yet, and the command may go on in the mirror. So the next run
//! on that node names it, and the node ends it first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The mark of one run, and what was found beside it.
pub(super) struct Live {
    path: PathBuf,
    /// `None` where no mark could be made; then a kill costs the next run what it always did without them.
    _held: Option<File>,
    orphans: Vec<String>,
}

impl Live {
    /// Marks the run `id` on `node`, and looks for those whose cx is gone.
    pub(super) fn mark(cache: &Path, node: &str, id: &str) -> Live {
        let dir = cache.join("live").join(of_machine(node));
        let path = dir.join(id);
        // It appears locked: whoever found it otherwise would have this run ended.
        let young = dir.join(format!(".{id}"));
        let held = crate::paths::lock_file(&young).ok().filter(|f| f.lock().is_ok());
        let held = held.filter(|_| fs::rename(&young, &path).is_ok());
        let others = fs::read_dir(&dir).into_iter().flatten().flatten();
        let orphans = others
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| name != id && !name.starts_with('.') && is_free(&dir.join(name)))
            .collect();
        Live {
            path,
            _held: held,
            orphans,
        }
    }

    /// Ids of runs whose cx is gone.
    pub(super) fn orphans(&self) -> &[String] {
        &self.orphans
    }

    /// The node has ended them.
    pub(super) fn forget_orphans(&self) {
        for id in &self.orphans {
            let _ = fs::remove_file(self.path.with_file_name(id));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Names a node as this machine sees it: another one may share the directory, and does not see who holds what here.
fn of_machine(node: &str) -> String {
    let mut name = blake3::Hasher::new();
    name.update(&fs::read("/etc/machine-id").unwrap_or_default());
    name.update(rustix::system::uname().nodename().to_bytes());
    name.update(b"\0");
    name.update(node.as_bytes());
    name.finalize().to_hex()[..16].to_owned()
}

fn is_free(path: &Path) -> bool {
    // One that ends well takes its mark away before it lets go of it.
    File::open(path).is_ok_and(|f| f.try_lock().is_ok() && path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_an_orphan() {
        let cache = tempfile::tempdir().unwrap();
        let mark = |id: &str| Live::mark(cache.path(), "n1", id);
        let (one, other) = (mark("a"), Live::mark(cache.path(), "n2", "x"));
        assert!(mark("b").orphans().is_empty());
        // As a kill leaves it: the file stays, the lock does not.
        let path = one.path.clone();
        drop(one);
        fs::write(&path, "").unwrap();
        let next = mark("c");
        assert_eq!(next.orphans(), ["a"]);
        next.forget_orphans();
        drop((next, other));
        assert!(mark("d").orphans().is_empty() && !path.exists());
    }

    #[test]
    fn many_at_once_never_take_each_other_for_left_over() {
        let cache = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for t in 0..8 {
                let cache = cache.path();
                scope.spawn(move || {
                    for n in 0..200 {
                        let live = Live::mark(cache, "n1", &format!("{t}-{n}"));
                        assert!(live.orphans().is_empty(), "{:?}", live.orphans());
                    }
                });
            }
        });
    }
}
