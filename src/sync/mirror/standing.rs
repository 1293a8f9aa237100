//! A mirror whose tree stands at the caller's own path, in a directory that cx made there.
//!
//! `meta/standing` says which: its path, device and inode. A directory that is not that very one is somebody else's and is
//! neither used nor removed. The inode is noted before the tree is moved, so that it is found after a crash in between.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Mirror;
use crate::paths::AnyPath;
use crate::plan::manifest::RelPath;
use crate::sync::SyncError;
use crate::sync::beneath::{Beneath, Relocated};

/// What `meta/standing` holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Standing {
    /// Where the tree stands, if it does not stand in cx's own directory.
    tree: Option<(AnyPath, u64, u64)>,
    /// Directories that were made on the way to it, or as the place where it is shown; the topmost first.
    made: Vec<AnyPath>,
}

fn load(meta: &Path) -> Standing {
    fs::read(meta.join("standing"))
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or_default()
}

fn save(meta: &Path, standing: &Standing) -> io::Result<()> {
    crate::paths::write_atomic(&meta.join("standing"), &serde_json::to_vec(standing)?, 0o600)
}

fn id(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path)
        .ok()
        .filter(fs::Metadata::is_dir)
        .map(|m| (m.dev(), m.ino()))
}

/// Where the tree of the mirror with this `meta` stands: `usual`, or where it was moved to.
pub(super) fn root(meta: &Path, usual: PathBuf) -> PathBuf {
    match load(meta).tree {
        Some((path, dev, ino)) if id(&path) == Some((dev, ino)) => path.0,
        _ => usual,
    }
}

/// How links into the tree at `root` are told, as it was noted last.
pub(super) fn links(meta: &Path, root: &Path) -> Option<Arc<Relocated>> {
    let told = fs::read(meta.join("links")).ok()?;
    Some(relocated(root, told))
}

fn relocated(root: &Path, told: Vec<u8>) -> Arc<Relocated> {
    let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut here = vec![root.as_os_str().as_bytes().to_vec()];
    if real != root {
        here.push(real.as_os_str().as_bytes().to_vec());
    }
    Arc::new(Relocated { here, told })
}

impl Mirror {
    /// From now on commands see the tree where it stands, and the client calls it `told`; `None`: they see it at that path.
    ///
    /// # Errors
    /// Those of noting so.
    pub fn tell_links(&mut self, told: Option<&Path>) -> io::Result<()> {
        let links = told.map(|t| relocated(&self.root, t.as_os_str().as_bytes().to_vec()));
        let note = self.meta.join("links");
        match told {
            Some(told) if links != self.links || !note.exists() => {
                crate::paths::write_atomic(&note, told.as_os_str().as_bytes(), 0o600)?;
            }
            None if self.links.is_some() => fs::remove_file(&note)?,
            _ => {}
        }
        self.links = links;
        Ok(())
    }

    fn usual_root(&self) -> PathBuf {
        let name = fs::read_dir(self.top().join("tree"))
            .into_iter()
            .flatten()
            .flatten()
            .find(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        name.map_or_else(|| self.root.clone(), |e| e.path())
    }

    /// Whether the tree stands outside of cx's own directory.
    pub fn stands_apart(&self) -> bool {
        !self.root.starts_with(self.top())
    }

    /// Notes directories that were made for showing this mirror; they go when it goes.
    ///
    /// # Errors
    /// Those of writing the note.
    pub fn note_made(&self, made: &[PathBuf]) -> io::Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut standing = load(&self.meta);
        standing.made.extend(
            made.iter()
                .filter(|m| !m.as_os_str().is_empty())
                .cloned()
                .map(AnyPath),
        );
        save(&self.meta, &standing)
    }

    /// Notes what the tree is called on the client, for whoever lists the mirrors.
    ///
    /// # Errors
    /// Those of writing the note.
    pub fn note_client_path(&self, path: &[u8]) -> io::Result<()> {
        if self.client_path().as_deref() == Some(path) {
            return Ok(());
        }
        crate::paths::write_atomic(&self.meta.join("path"), path, 0o600)
    }

    /// What the tree is called on the client, if that was noted.
    pub fn client_path(&self) -> Option<Vec<u8>> {
        fs::read(self.meta.join("path")).ok()
    }

    /// Removes the directory `want` if it was made for showing this mirror and is empty; whether it did.
    pub fn unmake(&self, want: &Path) -> bool {
        load(&self.meta).made.iter().any(|m| **m == *want) && fs::remove_dir(want).is_ok()
    }

    /// Moves the tree to `want`, which must not exist, while its parent does; no run may use the mirror.
    ///
    /// # Errors
    /// Those of the file system; the tree then stands where it stood.
    pub fn stand_at(&mut self, want: &Path) -> io::Result<()> {
        let _lock = self.lock()?;
        if !self.is_idle()? {
            return Err(io::Error::other("other runs use the mirror"));
        }
        let (dev, ino) = id(&self.root).ok_or(io::ErrorKind::NotFound)?;
        let mut standing = load(&self.meta);
        standing.tree = Some((AnyPath(want.to_owned()), dev, ino));
        save(&self.meta, &standing)?;
        let from = self.root.clone();
        // A directory that somebody makes there in this moment stays theirs.
        let (cwd, only) = (rustix::fs::CWD, rustix::fs::RenameFlags::NOREPLACE);
        if let Err(e) = rustix::fs::renameat_with(cwd, &from, cwd, want, only) {
            standing.tree = None;
            save(&self.meta, &standing)?;
            return Err(e.into());
        }
        self.root = want.to_owned();
        // The list of mirrors goes by this name.
        fs::create_dir(&from)
    }

    /// Moves the tree back into cx's own directory, if no run uses the mirror.
    ///
    /// # Errors
    /// As [`Mirror::stand_at`].
    pub fn stand_at_home(&mut self) -> io::Result<()> {
        if !self.stands_apart() {
            return Ok(());
        }
        let _lock = self.lock()?;
        if !self.is_idle()? {
            return Err(io::Error::other("other runs use the mirror"));
        }
        let usual = self.usual_root();
        // Empty, and in the way.
        let _ = fs::remove_dir(&usual);
        fs::rename(&self.root, &usual)?;
        self.root = usual;
        Ok(())
    }

    /// Removes what lies outside of cx's own directory: the tree, if it stands apart, and the empty directories that were made.
    pub(super) fn clear_apart(&self) -> Result<(), SyncError> {
        if self.stands_apart() {
            let gone = Beneath::open(self.root.parent().unwrap_or(Path::new("/"))).and_then(|mut parent| {
                let name = self.root.file_name().unwrap_or_default();
                let path = RelPath::new(std::os::unix::ffi::OsStrExt::as_bytes(name));
                parent
                    .place(&path.ok_or(io::ErrorKind::InvalidInput)?)?
                    .remove_all()
            });
            gone.map_err(|e| self.failed("failed to remove", e))?;
        }
        for dir in load(&self.meta).made.iter().rev() {
            // Whoever has put something there keeps it.
            let _ = fs::remove_dir(&**dir);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::MirrorKey;

    #[test]
    fn a_tree_moves_out_and_back_and_what_is_not_its_own_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (base, want) = (dir.path().join("base"), dir.path().join("made/app"));
        let key = MirrorKey {
            client: "c".into(),
            workspace: "w".into(),
            name: "app".into(),
        };
        let open = || Mirror::open(&base, &key).unwrap();
        let usual = open().root().to_owned();
        fs::write(usual.join("f"), "1").unwrap();
        fs::create_dir(want.parent().unwrap()).unwrap();
        open().note_made(&[want.parent().unwrap().to_owned()]).unwrap();
        let users = open().join_run().unwrap();
        assert!(open().stand_at(&want).is_err(), "a run uses it");
        drop(users);
        open().stand_at(&want).unwrap();
        assert_eq!(open().root(), want);
        assert_eq!(fs::read(want.join("f")).unwrap(), b"1");
        assert_eq!(super::super::mirrors(&base), std::slice::from_ref(&key));
        open().stand_at_home().unwrap();
        assert_eq!(open().root(), usual);
        assert!(usual.join("f").exists() && !want.exists());

        open().stand_at(&want).unwrap();
        fs::rename(&want, dir.path().join("away")).unwrap();
        fs::create_dir(&want).unwrap();
        fs::write(want.join("theirs"), "").unwrap();
        assert_eq!(
            open().root(),
            usual,
            "another directory of that name is not the mirror"
        );
        assert!(open().remove().unwrap().is_some());
        assert!(want.join("theirs").exists() && !usual.exists());

        fs::remove_dir_all(&want).unwrap();
        open().note_made(&[want.parent().unwrap().to_owned()]).unwrap();
        open().stand_at(&want).unwrap();
        assert!(open().remove().unwrap().is_some());
        assert!(!want.parent().unwrap().exists());
    }
}
