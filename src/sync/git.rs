//! What cx asks of a git workspace: the tracked files, the ignore rules outside the tree, and where HEAD is.
//!
//! The list of tracked files is remembered by the stat of git's own index, so that an ordinary scan starts no process.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::index;
use super::stat::Stat;
use crate::plan::manifest::Hash;

/// Version of the remembered list.
const VERSION: u32 = 2;

/// Directories of a repository.
pub(crate) struct GitDirs {
    /// Of this worktree: HEAD and the index are here.
    pub own: PathBuf,
    /// Shared by all worktrees: refs, `info/exclude` and the config are here.
    pub common: PathBuf,
}

/// The repository of the worktree whose top is `root`; `None` where there is none.
pub(crate) fn dirs(root: &Path) -> Option<GitDirs> {
    let dot = root.join(".git");
    let meta = std::fs::metadata(&dot).ok()?;
    let own = if meta.is_dir() {
        dot
    } else {
        let text = std::fs::read(&dot).ok()?;
        root.join(OsStr::from_bytes(
            text.strip_prefix(b"gitdir: ")?.trim_ascii_end(),
        ))
    };
    let common = match std::fs::read(own.join("commondir")) {
        Ok(text) => own.join(OsStr::from_bytes(text.trim_ascii_end())),
        Err(_) => own.clone(),
    };
    Some(GitDirs { own, common })
}

/// The directory that all worktrees of the repository at `root` share, without symbolic links; `None` where there is none, or where
/// the repository does not know this worktree.
pub fn common_dir(root: &Path) -> Option<PathBuf> {
    let dirs = dirs(root)?;
    if dirs.own != dirs.common {
        let back = std::fs::read(dirs.own.join("gitdir")).ok()?;
        let back = dirs.own.join(OsStr::from_bytes(back.trim_ascii_end()));
        if back.canonicalize().ok()? != root.join(".git").canonicalize().ok()? {
            return None;
        }
    }
    dirs.common.canonicalize().ok()
}

/// Names where HEAD is: another value means that a commit, a checkout or a reset happened.
pub(crate) fn head(dirs: &GitDirs) -> Option<Hash> {
    let head = std::fs::read(dirs.own.join("HEAD")).ok()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head);
    if let Some(name) = head.strip_prefix(b"ref: ") {
        let name = OsStr::from_bytes(name.trim_ascii_end());
        let loose = [&dirs.own, &dirs.common]
            .into_iter()
            .find_map(|d| std::fs::read(d.join(name)).ok());
        let value = loose.or_else(|| {
            let packed = std::fs::read(dirs.common.join("packed-refs")).ok()?;
            let line = packed.split(|b| *b == b'\n').find(|l| {
                l.strip_suffix(name.as_bytes())
                    .is_some_and(|commit| commit.ends_with(b" "))
            })?;
            Some(line.to_vec())
        });
        // A repository with reftables has neither; then its list of tables tells.
        let value = value.or_else(|| std::fs::read(dirs.common.join("reftable/tables.list")).ok());
        hasher.update(value.as_deref().unwrap_or_default().trim_ascii());
    }
    Some(*hasher.finalize().as_bytes())
}

/// The tracked paths: sorted, each ended by NUL.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    text: Vec<u8>,
    starts: Vec<u32>,
}

impl Tracked {
    fn new(mut text: Vec<u8>) -> Tracked {
        // Offsets are 32 bits wide; a list of 4 GB is not one.
        if text.len() > u32::MAX as usize {
            text.clear();
        }
        let mut starts = Vec::new();
        let mut at = 0;
        while let Some(len) = text[at..].iter().position(|b| *b == 0) {
            starts.push(at as u32);
            at += len + 1;
        }
        let mut tracked = Tracked { text, starts };
        let mut starts = std::mem::take(&mut tracked.starts);
        if !starts.is_sorted_by_key(|s| tracked.at(*s)) {
            starts.sort_by(|a, b| tracked.at(*a).cmp(tracked.at(*b)));
        }
        tracked.starts = starts;
        tracked
    }

    fn at(&self, start: u32) -> &[u8] {
        let rest = &self.text[start as usize..];
        &rest[..rest.iter().position(|b| *b == 0).unwrap_or(rest.len())]
    }

    /// For looking paths up that come in ascending order.
    pub(crate) fn in_order(&self) -> InOrder<'_> {
        InOrder {
            tracked: self,
            rest: &self.starts,
        }
    }

    /// The tracked paths below the directory `dir`.
    pub(crate) fn below(&self, dir: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut prefix = dir.to_vec();
        prefix.push(b'/');
        let first = self.starts.partition_point(|s| self.at(*s) < &prefix[..]);
        self.starts[first..]
            .iter()
            .map(|s| self.at(*s))
            .take_while(move |p| p.starts_with(&prefix))
    }
}

/// Those of the tracked paths that are still to come.
pub(crate) struct InOrder<'a> {
    tracked: &'a Tracked,
    rest: &'a [u32],
}

impl InOrder<'_> {
    /// Whether `path` is tracked.
    pub(crate) fn has(&mut self, path: &[u8]) -> bool {
        while let Some((first, rest)) = self.rest.split_first() {
            match self.tracked.at(*first).cmp(path) {
                std::cmp::Ordering::Less => self.rest = rest,
                order => return order.is_eq(),
            }
        }
        false
    }
}

/// What is remembered between scans.
#[derive(Default, Serialize, Deserialize)]
struct Remembered {
    /// The files that the rest was derived from.
    stamps: Vec<(Vec<u8>, Option<Stat>)>,
    #[serde(with = "flat")]
    tracked: Vec<u8>,
    excludes_file: Option<Vec<u8>>,
}

/// Bytes in one piece.
mod flat {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(v: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(v)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        Ok(<&[u8]>::deserialize(d)?.to_vec())
    }
}

/// The tracked files and the ignore rules outside the tree.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub tracked: Tracked,
    /// Lines in the order in which later ones win.
    pub extra_ignore: Vec<Vec<u8>>,
}

/// Learns them; without a usable git nothing is tracked.
pub(crate) fn facts(root: &Path, dirs: &GitDirs, cache: Option<&Path>) -> Facts {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let xdg = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from);
    let xdg = xdg
        .or_else(|| Some(home.as_ref()?.join(".config")))
        .map(|d| d.join("git"));
    let mut stamps = vec![
        dirs.own.join("index"),
        dirs.common.join("config"),
        dirs.own.join("config.worktree"),
    ];
    stamps.extend(home.as_ref().map(|h| h.join(".gitconfig")));
    stamps.extend(xdg.as_ref().map(|x| x.join("config")));
    let stamps: Vec<_> = stamps
        .into_iter()
        .map(|p| (stat(&p), p.into_os_string().into_vec()))
        .map(|(stat, path)| (path, stat))
        .collect();

    let remembered = cache
        .and_then(|c| index::load::<Remembered>(c, VERSION))
        .filter(|r| r.stamps == stamps);
    let now = remembered.or_else(|| {
        let read_ns = super::now_ns();
        let tracked = ls_files(root)?;
        let excludes_file = git(
            root,
            &["config", "--null", "--type=path", "--get", "core.excludesFile"],
        )
        .map(|mut v| {
            v.pop();
            v
        })
        .filter(|v| !v.is_empty());
        let settled = stamps
            .iter()
            .all(|(_, s)| s.is_none_or(|s| s.is_settled(read_ns)));
        let remembered = Remembered {
            stamps,
            tracked,
            excludes_file,
        };
        if let Some(cache) = cache.filter(|_| settled) {
            // Only time is lost without it.
            let _ = index::save(cache, VERSION, &remembered);
        }
        Some(remembered)
    });
    let Remembered {
        tracked,
        excludes_file,
        ..
    } = now.unwrap_or_default();
    let excludes_file = match excludes_file {
        Some(name) => Some(root.join(OsString::from_vec(name))),
        None => xdg.map(|x| x.join("ignore")),
    };
    let mut extra_ignore = Vec::new();
    for file in [excludes_file, Some(dirs.common.join("info/exclude"))]
        .into_iter()
        .flatten()
    {
        let text = std::fs::read(file).unwrap_or_default();
        let lines = text
            .split(|b| *b == b'\n')
            .map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        extra_ignore.extend(
            lines
                .filter(|l| !l.is_empty() && !l.starts_with(b"#"))
                .map(<[u8]>::to_vec),
        );
    }
    Facts {
        tracked: Tracked::new(tracked),
        extra_ignore,
    }
}

fn stat(path: &Path) -> Option<Stat> {
    rustix::fs::stat(path).ok().map(|s| Stat::new(&s))
}

fn ls_files(root: &Path) -> Option<Vec<u8>> {
    git(root, &["ls-files", "-z", "--cached", "--recurse-submodules"])
        // Broken submodules make it fail.
        .or_else(|| git(root, &["ls-files", "-z", "--cached"]))
}

/// Runs git in the workspace, whatever repository the caller's environment names; its output if it succeeded.
pub(crate) fn git(root: &Path, args: &[&str]) -> Option<Vec<u8>> {
    git_with_input(root, args, b"")
}

/// The same with standard input.
pub(crate) fn git_with_input(root: &Path, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("git");
    command
        .arg("--no-optional-locks")
        .arg("-c")
        .arg("core.fsmonitor=false")
        .args(args)
        .current_dir(root);
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_PREFIX",
        "GIT_OBJECT_DIRECTORY",
        "GIT_NAMESPACE",
        "GIT_LITERAL_PATHSPECS",
    ] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let output = std::thread::scope(|scope| {
        let write = move || {
            // A git that ends early closes its end; its status tells.
            let _ = stdin.write_all(input);
        };
        // Where there is no thread to be had, the closure is dropped with the pipe: git sees an input without the rest.
        let writer = std::thread::Builder::new().spawn_scoped(scope, write);
        let output = child.wait_with_output();
        writer.and(output)
    })
    .ok()?;
    output.status.success().then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_paths_are_found_by_name_and_by_directory() {
        let t = Tracked::new(b"b\0a/x\0a/y\0a.c\0a/z/w\0".to_vec());
        let mut in_order = t.in_order();
        let paths: [&[u8]; 8] = [b"a", b"a.c", b"a/", b"a/x", b"a/x/y", b"a/z/w", b"b", b"c"];
        let found = paths.map(|p| in_order.has(p));
        assert_eq!(found, [false, true, false, true, false, true, true, false]);
        let below: Vec<&[u8]> = t.below(b"a").collect();
        assert_eq!(below, [&b"a/x"[..], b"a/y", b"a/z/w"]);
        assert_eq!(t.below(b"c").count(), 0);
    }
}
