//! A tree on a file system that the client shares: the proof that it is the client's.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::plan::manifest::RelPath;
use crate::proto::Shared;

/// The tree's top and the directory to run in, if the file that the client has just made is here too, on the same file system.
///
/// # Errors
/// Why it is not the client's tree; one clause.
pub fn prove(shared: &Shared) -> Result<(PathBuf, PathBuf), String> {
    let root = PathBuf::from(OsStr::from_bytes(&shared.root));
    let dir = match shared.dir.as_slice() {
        [] => root.clone(),
        dir if RelPath::from_slice(dir).is_some() => root.join(OsStr::from_bytes(dir)),
        _ => return Err("the run's directory lies outside of it".into()),
    };
    let mark = Path::new(OsStr::from_bytes(&shared.mark));
    if !root.is_absolute() || !mark.starts_with(&root) {
        return Err("its path is none".into());
    }
    let stat = |p: &Path| std::fs::metadata(p).map_err(|e| format!("{}: {e}", p.display()));
    let place = stat(&dir)?;
    let mut file = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(mark)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::PermissionDenied => {
                format!(
                    "the user there may not read what this one writes in {}",
                    root.display()
                )
            }
            _ => format!("{} is another one there", root.display()),
        })?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    let mut content = Vec::new();
    let read = file.by_ref().take(256).read_to_end(&mut content);
    if !meta.is_file() || read.is_err() || content != shared.content.as_bytes() {
        return Err(format!("{} is another one there", root.display()));
    }
    if meta.dev() != place.dev() {
        return Err(format!("{} is another file system there", dir.display()));
    }
    // Who made it removes it, too, where this user may not.
    let _ = std::fs::remove_file(mark);
    Ok((root, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clients_own_file_proves_it() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("sub")).unwrap();
        let bytes = |p: &Path| p.as_os_str().as_bytes().to_vec();
        let good = Shared {
            root: bytes(&root),
            dir: b"sub".to_vec(),
            mark: bytes(&root.join("mark")),
            content: "secret".into(),
        };
        assert!(prove(&good).is_err(), "it is not there");
        std::fs::write(root.join("mark"), "other").unwrap();
        assert!(prove(&good).is_err(), "it is another one");
        std::fs::write(root.join("mark"), "secret").unwrap();
        std::os::unix::fs::symlink("mark", root.join("link")).unwrap();
        for bad in [
            Shared {
                mark: bytes(&root.join("link")),
                ..good.clone()
            },
            Shared {
                mark: b"/etc/passwd".to_vec(),
                ..good.clone()
            },
            Shared {
                dir: b"../x".to_vec(),
                ..good.clone()
            },
            Shared {
                dir: b"none".to_vec(),
                ..good.clone()
            },
        ] {
            assert!(prove(&bad).is_err(), "{bad:?}");
        }
        #[cfg(target_os = "linux")]
        {
            std::os::unix::fs::symlink("/proc", root.join("other")).unwrap();
            let why = prove(&Shared {
                dir: b"other".to_vec(),
                ..good.clone()
            });
            assert!(why.unwrap_err().contains("another file system"));
        }
        assert_eq!(prove(&good), Ok((root.clone(), root.join("sub"))));
        assert!(!root.join("mark").exists(), "it is taken away");
    }
}
