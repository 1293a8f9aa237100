//! Where cx keeps things, and how files of its own are written.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::Context;

/// cx's places on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The home directory.
    pub home: PathBuf,
    /// The config: `~/.config/cx/config.toml`, or what `CX_CONFIG` names.
    pub config_file: PathBuf,
    /// History, logs, trust, conflicts: `$XDG_STATE_HOME/cx`.
    pub state: PathBuf,
    /// Load table, indexes, locks, control sockets: `$XDG_CACHE_HOME/cx`.
    pub cache: PathBuf,
    /// Agents for other platforms: `$XDG_DATA_HOME/cx`.
    pub data: PathBuf,
    runtime: Option<PathBuf>,
}

/// OpenSSH refuses a control socket whose path, with the suffix it adds while it makes it, does not fit into 108 bytes.
const MAX_SOCKET: usize = 90;

impl Paths {
    /// From the environment. XDG values that are not absolute are ignored, as the XDG specification asks.
    ///
    /// # Errors
    /// When there is no home directory.
    pub fn from_env() -> anyhow::Result<Paths> {
        Paths::from_vars(|name| std::env::var_os(name))
    }

    /// The same from other variables.
    ///
    /// # Errors
    /// As [`Paths::from_env`].
    pub fn from_vars(get: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Paths> {
        let absolute = |name: &str| get(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = absolute("HOME")
            .or_else(|| directories::BaseDirs::new().map(|d| d.home_dir().to_owned()))
            .context("there is no home directory: set HOME to an absolute path")?;
        let mut paths = Paths::under(&home);
        let place =
            |name: &str, default: &Path| absolute(name).map_or_else(|| default.to_owned(), |d| d.join("cx"));
        paths.state = place("XDG_STATE_HOME", &paths.state);
        paths.cache = place("XDG_CACHE_HOME", &paths.cache);
        paths.data = place("XDG_DATA_HOME", &paths.data);
        paths.runtime = absolute("XDG_RUNTIME_DIR");
        if let Some(dir) = absolute("XDG_CONFIG_HOME") {
            paths.config_file = dir.join("cx/config.toml");
        }
        if let Some(file) = get("CX_CONFIG").filter(|f| !f.is_empty()) {
            paths.config_file = std::path::absolute(file).context("CX_CONFIG")?;
        }
        Ok(paths)
    }

    /// The default places under a home directory.
    pub fn under(home: &Path) -> Paths {
        Paths {
            home: home.to_owned(),
            config_file: home.join(".config/cx/config.toml"),
            state: home.join(".local/state/cx"),
            cache: home.join(".cache/cx"),
            data: home.join(".local/share/cx"),
            runtime: None,
        }
    }

    /// The marker that `cx off` leaves.
    pub fn off_file(&self) -> PathBuf {
        self.state.join("off")
    }

    /// Why everything stays here, if the user switched cx off.
    pub fn switched_off(&self) -> Option<String> {
        self.off_file()
            .exists()
            .then(|| "`cx off` is in force (`cx on` ends it)".into())
    }

    /// The directory for control sockets, made if need be. In the cache, or, where that path is too long for a socket, under
    /// `XDG_RUNTIME_DIR`.
    ///
    /// # Errors
    /// When both are too long, or the directory can't be made.
    pub fn ctl_dir(&self) -> anyhow::Result<PathBuf> {
        let fits = |d: &Path| d.as_os_str().len() + "/0123456789abcdef-15".len() < MAX_SOCKET;
        let dir = [Some(self.cache.join("ctl")), self.runtime.as_ref().map(|r| r.join("cx"))]
            .into_iter()
            .flatten()
            .find(|d| fits(d))
            .with_context(|| {
                format!(
                    "{} is too long a path for ssh's control sockets; set XDG_CACHE_HOME or XDG_RUNTIME_DIR to a shorter one",
                    self.cache.join("ctl").display()
                )
            })?;
        private_dir(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        Ok(dir)
    }

    /// The key of this account on this machine, by which nodes tell its mirrors apart. Made once and kept.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn client_key(&self) -> anyhow::Result<String> {
        let file = self.state.join("client");
        let made = || {
            let text = std::fs::read_to_string(&file).ok()?;
            let key = text.trim();
            (key.len() == 16 && key.bytes().all(|b| b.is_ascii_hexdigit())).then(|| key.to_owned())
        };
        if let Some(key) = made() {
            return Ok(key);
        }
        // The first commands of all may well be several at once, and two keys would be two mirrors.
        let lock = lock_file(&file.with_extension("lock"));
        let lock = lock.and_then(|lock| lock.lock().map(|()| lock));
        let _lock = lock.with_context(|| format!("failed to lock {}", file.display()))?;
        if let Some(key) = made() {
            return Ok(key);
        }
        let mut h = blake3::Hasher::new();
        h.update(&std::fs::read("/etc/machine-id").unwrap_or_default());
        h.update(self.home.as_os_str().as_encoded_bytes());
        h.update(&std::process::id().to_le_bytes());
        h.update(&crate::agent::now_ms().to_le_bytes());
        let key = h.finalize().to_hex()[..16].to_owned();
        write_atomic(&file, key.as_bytes(), 0o600)
            .with_context(|| format!("failed to write {}", file.display()))?;
        Ok(key)
    }
}

/// Resolves `.` and `..` in the text of a path alone.
pub fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for c in path.components() {
        match c {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// Milliseconds since the epoch by this machine's clock.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_millis() as u64)
}

/// Makes a directory of cx's own, with what leads to it, for nobody else's eyes.
///
/// # Errors
/// Those of the file system.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Replaces a file in one step: a reader, and a crash, see the old one or the new one. Makes its directory.
///
/// # Errors
/// Those of the file system; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    private_dir(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tmp = dir.join(format!(".{name}.{}.{:x}", std::process::id(), nonce()));
    let write = || {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&tmp)?;
        file.write_all(bytes)?;
        std::fs::rename(&tmp, path)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&tmp);
    })
}

/// A number that no other thread or process uses now.
pub fn nonce() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// Opens (and makes) a lock file of cx's own.
///
/// # Errors
/// Those of the file system.
pub fn lock_file(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        private_dir(dir)?;
    }
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// Why the directories above a file are not to be trusted, up to the home directory or the root: one that others can write to lets
/// them put another file in its place, unless it is sticky, as `/tmp` is. The user's own first group counts as the user, since some
/// systems give each a group of their own and let it write. One `stat` a directory.
pub fn exposed(path: &Path) -> Option<String> {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let group = rustix::process::getegid().as_raw();
    for dir in path.ancestors().skip(1) {
        let Ok(meta) = std::fs::metadata(dir) else {
            break;
        };
        let writable = match meta.gid() == group {
            true => 0o002,
            false => 0o022,
        };
        if meta.mode() & writable != 0 && meta.mode() & 0o1000 == 0 {
            return Some(format!(
                "{} can be written by others, and lies above {} (mend: chmod go-w {0})",
                dir.display(),
                path.display()
            ));
        }
        if dir == Path::new(&home) {
            break;
        }
    }
    None
}

/// Why a file that widens what cx does is not to be trusted: others can write it or replace it, or it lies in the workspace that a
/// repository or a prompt may have written.
pub fn untrusted(path: &Path, workspace: Option<&Path>) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() != own && meta.uid() != 0 {
        return Some(format!("{} belongs to another user", path.display()));
    }
    if meta.mode() & 0o022 != 0 {
        return Some(format!(
            "{} can be written by others (mend: chmod go-w {0})",
            path.display()
        ));
    }
    let real = std::fs::canonicalize(path).ok()?;
    // A symbolic link may be replaced as well as what it leads to.
    if let Some(why) = exposed(path).or_else(|| exposed(&real)) {
        return Some(why);
    }
    let inside = workspace
        .and_then(|w| std::fs::canonicalize(w).ok())
        .is_some_and(|w| real.starts_with(w));
    inside.then(|| {
        format!(
            "{} lies inside the workspace it would apply to; move it out",
            path.display()
        )
    })
}

/// A path in a state file of JSON: as text, or as its bytes where it is none.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct AnyPath(pub PathBuf);

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<AnyPath> for Written {
    fn from(path: AnyPath) -> Written {
        use std::os::unix::ffi::OsStringExt;
        match path.0.into_os_string().into_string() {
            Ok(text) => Written::Text(text),
            Err(path) => Written::Bytes(path.into_vec()),
        }
    }
}

impl From<Written> for AnyPath {
    fn from(written: Written) -> AnyPath {
        use std::os::unix::ffi::OsStringExt;
        AnyPath(match written {
            Written::Text(text) => text.into(),
            Written::Bytes(bytes) => std::ffi::OsString::from_vec(bytes).into(),
        })
    }
}

impl std::ops::Deref for AnyPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b");
        write_atomic(&file, b"1", 0o600).unwrap();
        write_atomic(&file, b"22", 0o600).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"22");
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn many_at_once_make_one_client_key() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let keys: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| paths.client_key().unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(keys.len(), 1, "{keys:?}");
    }

    #[test]
    fn files_that_others_can_write_are_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        write_atomic(&file, b"", 0o600).unwrap();
        assert_eq!(untrusted(&file, None), None);
        assert!(
            untrusted(&file, Some(dir.path()))
                .unwrap()
                .contains("inside the workspace")
        );
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(untrusted(&file, None).unwrap().contains("written by others"));
    }

    #[test]
    fn files_below_a_directory_that_others_can_write_to_are_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/config.toml");
        write_atomic(&file, b"", 0o600).unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let above = dir.path().join("a");
        // Some systems give it the group of the directory above.
        let group = rustix::process::getegid().as_raw();
        std::os::unix::fs::chown(&above, None, Some(group)).unwrap();
        // One's own group, and a sticky directory, are no danger.
        for (bits, trusted) in [
            (0o755, true),
            (0o775, true),
            (0o777, false),
            (0o1777, true),
            (0o707, false),
        ] {
            mode(&above, bits);
            assert_eq!(untrusted(&file, None).is_none(), trusted, "{bits:o}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        mode(&above, 0o777);
        assert!(
            untrusted(&link, None)
                .unwrap()
                .contains("a can be written by others")
        );
    }

    #[test]
    fn a_path_too_long_for_sockets_is_named() {
        let mut paths = Paths::under(Path::new(&format!("/{}", "x".repeat(100))));
        assert!(
            paths
                .ctl_dir()
                .unwrap_err()
                .to_string()
                .contains("XDG_RUNTIME_DIR")
        );
        let dir = tempfile::tempdir().unwrap();
        paths.runtime = Some(dir.path().to_owned());
        assert_eq!(paths.ctl_dir().unwrap(), dir.path().join("cx"));
    }
}
