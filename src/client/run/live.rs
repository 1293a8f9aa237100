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
        let dir = cache
            .join("live")
            .join(&blake3::hash(node.as_bytes()).to_hex()[..16]);
        let path = dir.join(id);
        // Somebody who looks between these two takes it for left over, and names a run that has no command yet.
        let held = crate::paths::lock_file(&path).ok().filter(|f| f.lock().is_ok());
        let others = fs::read_dir(&dir).into_iter().flatten().flatten();
        let orphans = others
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| name != id && is_free(&dir.join(name)))
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

fn is_free(path: &Path) -> bool {
    File::open(path).is_ok_and(|f| f.try_lock().is_ok())
}
