//! Where a command sees its tree: at the caller's own path, if this node can do that.
//!
//! In this order, unless the caller's configuration says which: in a mount namespace of the command's own the mirror is shown
//! at that path; or the mirror itself stands there, in a directory that cx made; or the mirror's path is rewritten in text output.

#[cfg(target_os = "linux")]
mod steps;
mod text;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
#[cfg(target_os = "linux")]
use std::sync::Arc;

#[cfg(target_os = "linux")]
use steps::Steps;
pub use text::Rewriter;

use crate::paths::normal;
use crate::proto::{MirrorSpec, PathMode, PathsWish};
use crate::sync::Mirror;

/// Places that every machine has for itself; nothing is shown over them.
const SYSTEM: &[&str] = &[
    "/bin", "/boot", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/root", "/run",
    "/sbin", "/srv", "/tmp", "/usr", "/var",
];

/// The same, with all below them.
const KERNEL: &[&str] = &["/dev", "/proc", "/sys"];

/// Where a tree lies, and where the command sees it.
#[derive(Debug)]
pub struct Place {
    real: PathBuf,
    shown: PathBuf,
    /// How that comes.
    pub mode: PathMode,
    /// Why the paths are not the caller's, where they are not; one clause.
    pub why_not: String,
    /// The caller's path.
    want: PathBuf,
    /// Other trees that the command sees too: where each lies, and what the caller calls it.
    beside: Vec<(PathBuf, PathBuf)>,
    #[cfg(target_os = "linux")]
    steps: Option<Arc<Steps>>,
}

impl Place {
    /// A directory that is what it is: a home directory, a tree that both machines share.
    pub fn plain(dir: &Path) -> Place {
        Place {
            real: dir.to_owned(),
            shown: dir.to_owned(),
            mode: PathMode::Same,
            why_not: String::new(),
            want: dir.to_owned(),
            beside: Vec::new(),
            #[cfg(target_os = "linux")]
            steps: None,
        }
    }

    /// The best that can be had for a mirror; it may be moved for that.
    /// The trees of `others`, each with the caller's path, are shown in the same namespace, where there is one; for other ways see
    /// [`Place::show_beside`].
    pub fn of(base: &Path, mirror: &mut Mirror, spec: &MirrorSpec, others: &[(Mirror, PathBuf)]) -> Place {
        let want = PathBuf::from(OsStr::from_bytes(&spec.at));
        let mut place = Place {
            mode: PathMode::Rewrite,
            want: want.clone(),
            ..Place::plain(mirror.root())
        };
        // A help for people who look at what lies here.
        let _ = mirror.note_client_path(&spec.at);
        let wish = spec.paths;
        if wish == PathsWish::Rewrite {
            // Where other runs use it, it stays for now: its path is the right one all the same.
            let _ = mirror.stand_at_home();
            place.why_not = "paths = \"rewrite\" in the config".into();
        } else if let Err(why) = may_be_shown(base, &want) {
            place.why_not = why;
        } else if let Err(why) = others.iter().try_for_each(|(_, at)| may_be_shown(base, at)) {
            place.why_not = why;
        } else if let Err(why) = place.at_want(base, mirror, wish, others) {
            place.why_not = why;
        }
        if place.mode == PathMode::Rewrite {
            place.real = mirror.root().to_owned();
            place.shown = place.real.clone();
            if place.real == want {
                place.mode = PathMode::Direct;
            }
        }
        let told = (place.mode == PathMode::Rewrite && want.is_absolute()).then_some(want.as_path());
        // Without it only links into the tree lead elsewhere.
        let _ = mirror.tell_links(told);
        place
    }

    /// Shows the mirror at its place, or moves it there.
    fn at_want(
        &mut self,
        base: &Path,
        mirror: &mut Mirror,
        wish: PathsWish,
        others: &[(Mirror, PathBuf)],
    ) -> Result<(), String> {
        let want = self.want.clone();
        if wish == PathsWish::Namespace {
            let _ = mirror.stand_at_home();
        }
        if mirror.root() == want {
            (self.real, self.shown, self.mode) = (want.clone(), want, PathMode::Direct);
            return Ok(());
        }
        let mut whys = Vec::new();
        if wish != PathsWish::Direct {
            match self.in_namespace(base, mirror, others) {
                Ok(()) => return Ok(()),
                Err(why) => whys.push(why),
            }
        }
        if wish != PathsWish::Namespace {
            match stand_at(mirror, &want) {
                Ok(()) => {
                    (self.real, self.shown, self.mode) = (want.clone(), want, PathMode::Direct);
                    return Ok(());
                }
                Err(why) => whys.push(why),
            }
        }
        Err(whys.join("; "))
    }

    #[cfg(target_os = "linux")]
    fn in_namespace(
        &mut self,
        base: &Path,
        mirror: &Mirror,
        others: &[(Mirror, PathBuf)],
    ) -> Result<(), String> {
        namespaces(base)?;
        let real = mirror.root().to_owned();
        let mut made = Vec::new();
        let beside: Vec<_> = others
            .iter()
            .map(|(m, at)| (m.root().to_owned(), at.clone()))
            .collect();
        let mut pairs = vec![(real.clone(), self.want.clone())];
        // What stands at its place already need not be shown there.
        pairs.extend(beside.iter().filter(|(real, at)| real != at).cloned());
        let steps = Steps::plan(&pairs, &scratch(base)?, &mut made);
        // Also what was made before a failure.
        mirror.note_made(&made).map_err(|e| e.to_string())?;
        let steps = Arc::new(steps?);
        let mut known = since_when();
        for (real, want) in &pairs {
            known.push_str(&format!("\n{}\n{}", real.display(), want.display()));
        }
        let known = base
            .join("place")
            .join(&blake3::hash(known.as_bytes()).to_hex()[..16]);
        if !known.exists() {
            check(&steps, &real, &self.want)?;
            let _ = crate::paths::write_atomic(&known, b"", 0o600);
        }
        (self.real, self.shown) = (real, self.want.clone());
        (self.mode, self.steps, self.beside) = (PathMode::Namespace, Some(steps), beside);
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn in_namespace(&mut self, base: &Path, _: &Mirror, _: &[(Mirror, PathBuf)]) -> Result<(), String> {
        namespaces(base)
    }

    /// Shows the trees of `others`, each with the caller's path, where there is no namespace to show them in: at that path, if this one
    /// stands at its own there; else beside it, so that `../NAME` leads there.
    ///
    /// # Errors
    /// Why that can't be done; one clause.
    pub fn show_beside(&mut self, others: &mut [(Mirror, PathBuf)]) -> Result<(), String> {
        for (other, at) in others.iter() {
            // A help for people who look at what lies here.
            let _ = other.note_client_path(at.as_os_str().as_bytes());
        }
        if self.mode == PathMode::Namespace {
            return Ok(());
        }
        for (other, at) in others {
            if self.mode == PathMode::Direct {
                if other.root() != at {
                    stand_at(other, at)?;
                }
            } else {
                let beside = at.parent().filter(|p| Some(*p) == self.want.parent());
                let name = beside.and_then(|_| at.file_name());
                let (Some(name), Some(dir)) = (name, self.real.parent()) else {
                    return Err(format!("{} is not beside {}", at.display(), self.want.display()));
                };
                link_to(other.root(), &dir.join(name))?;
            }
            self.beside.push((other.root().to_owned(), at.clone()));
        }
        Ok(())
    }

    /// A path in the tree, or in one beside it, as the command sees it; any other path as it is.
    pub fn shown(&self, path: &Path) -> PathBuf {
        if let Ok(rest) = path.strip_prefix(&self.real) {
            return below(&self.shown, rest);
        }
        let seen = self.mode != PathMode::Rewrite;
        let beside = self.beside.iter().filter(|_| seen).find_map(|(real, at)| {
            let rest = path.strip_prefix(real).ok()?;
            Some(below(at, rest))
        });
        beside.unwrap_or_else(|| path.to_owned())
    }

    /// Where a path that the command sees really lies.
    pub fn real(&self, path: &Path) -> PathBuf {
        if let Ok(rest) = path.strip_prefix(&self.shown)
            && !rest.starts_with("..")
        {
            return self.real.join(rest);
        }
        path.to_owned()
    }

    /// Where a path really lies that leads out of the tree into one beside it: `dir/../../lib/x`.
    pub fn beside(&self, path: &Path) -> Option<PathBuf> {
        let seen = normal(&self.shown(path));
        self.beside.iter().find_map(|(real, at)| {
            let rest = seen.strip_prefix(at).ok()?;
            Some(below(real, rest))
        })
    }

    /// The tree's top as the command sees it.
    pub fn root(&self) -> &Path {
        &self.shown
    }

    /// Lets `command` start in `dir`, a directory of the tree as it really lies, and see the tree where it is shown.
    ///
    /// # Errors
    /// For a path with a zero byte.
    pub fn enter(&self, command: &mut Command, dir: &Path) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(steps) = &self.steps {
            return steps.enter(command, &self.shown(dir));
        }
        command.current_dir(dir);
        Ok(())
    }

    /// What mends the paths in the command's output, where that is needed.
    pub fn rewriter(&self) -> Option<Rewriter> {
        if self.mode != PathMode::Rewrite || !self.want.is_absolute() {
            return None;
        }
        let resolved = self.real.canonicalize().unwrap_or_else(|_| self.real.clone());
        let mut pairs = vec![(self.real.clone(), &self.want), (resolved, &self.want)];
        for (real, at) in &self.beside {
            pairs.push((real.clone(), at));
            // The link through which `../NAME` leads there.
            if let (Some(above), Some(name)) = (self.real.parent(), at.file_name()) {
                pairs.push((above.join(name), at));
            }
        }
        let bytes = |p: &Path| p.as_os_str().as_bytes().to_vec();
        Some(Rewriter::new(
            pairs.iter().map(|(real, at)| (bytes(real), bytes(at))),
        ))
    }
}

/// `top` with `rest`, which may be empty, below it.
fn below(top: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() {
        top.to_owned()
    } else {
        top.join(rest)
    }
}

/// Makes `link` lead to `target`; what stands there that is no link stays.
fn link_to(target: &Path, link: &Path) -> Result<(), String> {
    if std::fs::read_link(link).is_ok_and(|t| t == target) {
        return Ok(());
    }
    let failed = |e: io::Error| format!("{} can't be made: {e}", link.display());
    if link.is_symlink() {
        std::fs::remove_file(link).map_err(failed)?;
    }
    match std::os::unix::fs::symlink(target, link) {
        // Another run was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && link.is_symlink() => Ok(()),
        r => r.map_err(failed),
    }
}

/// What a failed start says of the namespace, if that was at fault and not the program.
pub fn failure(e: &io::Error) -> Option<String> {
    #[cfg(target_os = "linux")]
    return steps::failure(e);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = e;
        None
    }
}

/// Forgets what was found out about this node.
pub fn forget(base: &Path) {
    for entry in std::fs::read_dir(base.join("place"))
        .into_iter()
        .flatten()
        .flatten()
    {
        // Not the directories: others may be using them.
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Whether anything may be shown at `want` at all.
fn may_be_shown(base: &Path, want: &Path) -> Result<(), String> {
    let normal = want
        .components()
        .skip(1)
        .all(|c| matches!(c, Component::Normal(_)));
    if !want.is_absolute() || !normal || want == Path::new("/") {
        return Err("the caller's path is none".into());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let exe = std::env::current_exe().unwrap_or_default();
    if [base, &home, &exe].iter().any(|own| own.starts_with(want)) || want.starts_with(base) {
        return Err(format!("{} would hide what is needed there", want.display()));
    }
    if SYSTEM.iter().any(|s| want == Path::new(s)) || KERNEL.iter().any(|s| want.starts_with(s)) {
        return Err(format!("{} is a place of the system", want.display()));
    }
    let near = existing(want);
    let real = near
        .canonicalize()
        .map_err(|e| format!("{}: {e}", near.display()))?;
    if real != near {
        return Err(format!("{} is behind a symbolic link there", near.display()));
    }
    if near == want && !want.is_dir() {
        return Err(format!("{} is no directory there", want.display()));
    }
    Ok(())
}

/// The nearest of `path` and what lies above it that exists.
fn existing(path: &Path) -> PathBuf {
    let mut up = path.ancestors();
    let found = up.find(|p| p.symlink_metadata().is_ok());
    found.unwrap_or(Path::new("/")).to_owned()
}

/// Makes what lies between `parent`, which exists, and `dir`, itself included; each is noted in `made`.
fn make_dirs(parent: &Path, dir: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let rest = dir.strip_prefix(parent).map_err(io::Error::other)?;
    let mut at = parent.to_owned();
    for name in rest.iter().filter(|n| !n.is_empty()) {
        at.push(name);
        match std::fs::DirBuilder::new().mode(0o755).create(&at) {
            Ok(()) => made.push(at.clone()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Moves a mirror to the caller's path, where nothing is yet.
fn stand_at(mirror: &mut Mirror, want: &Path) -> Result<(), String> {
    // Where it was only the place at which a namespace showed the mirror.
    mirror.unmake(want);
    let near = existing(want);
    if near == want {
        return Err(format!("{} exists there and is not cx's", want.display()));
    }
    let dev = |p: &Path| std::fs::metadata(p).map(|m| m.dev()).ok();
    if dev(&near) != dev(mirror.root()) {
        return Err(format!("{} is on another file system", near.display()));
    }
    let failed = |e: io::Error| format!("{} can't be made: {e}", want.display());
    rustix::fs::access(&near, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|e| failed(e.into()))?;
    let mut made = Vec::new();
    let above = make_dirs(&near, want.parent().unwrap_or(&near), &mut made);
    mirror.note_made(&made).map_err(failed)?;
    above.and_then(|()| mirror.stand_at(want)).map_err(|e| {
        for dir in made.iter().rev() {
            let _ = std::fs::remove_dir(dir);
        }
        if e.kind() == io::ErrorKind::CrossesDevices {
            return format!(
                "{} lies below another mount than cx's directory there",
                want.display()
            );
        }
        failed(e)
    })
}

/// Whether an ordinary command may have a mount namespace here, as tried once for each build, boot and day.
///
/// # Errors
/// Why not.
pub fn namespaces(base: &Path) -> Result<(), String> {
    #[cfg(not(target_os = "linux"))]
    {
        let _ = base;
        return Err("no mount namespaces on this system".into());
    }
    #[cfg(target_os = "linux")]
    {
        let file = base.join("place/namespaces");
        let stamp = format!("{}:{}", since_when(), crate::paths::now_ms() / (24 * 3600 * 1000));
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some((was, said)) = kept.split_once('\n')
            && was == stamp
        {
            return if said.is_empty() {
                Ok(())
            } else {
                Err(said.to_owned())
            };
        }
        let tried = try_namespace(base);
        let said = tried.as_ref().err().map_or("", String::as_str);
        let _ = crate::paths::write_atomic(&file, format!("{stamp}\n{said}").as_bytes(), 0o600);
        tried
    }
}

#[cfg(target_os = "linux")]
fn try_namespace(base: &Path) -> Result<(), String> {
    let (from, at) = (base.join("place/from"), base.join("place/at"));
    for dir in [&from, &at] {
        super::private_dir(dir).map_err(|e| e.to_string())?;
    }
    let steps = Steps::plan(&[(from.clone(), at.clone())], &scratch(base)?, &mut Vec::new())?;
    check(&Arc::new(steps), &from, &at)
}

/// Changes with whatever may change what is possible.
#[cfg(target_os = "linux")]
fn since_when() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let exe = std::env::current_exe().unwrap_or_default();
    format!(
        "{}:{}:{}",
        exe.display(),
        boot.trim(),
        rustix::process::geteuid().as_raw()
    )
}

#[cfg(target_os = "linux")]
fn scratch(base: &Path) -> Result<PathBuf, String> {
    let dir = base.join("place/scratch");
    super::private_dir(&dir).map_err(|e| e.to_string())?;
    Ok(dir)
}

/// Starts this program in the namespace and lets it look: the same user, and the tree where it should be.
#[cfg(target_os = "linux")]
fn check(steps: &Arc<Steps>, real: &Path, want: &Path) -> Result<(), String> {
    let meta = std::fs::metadata(real).map_err(|e| e.to_string())?;
    let exe = super::own_program().map_err(|e| e.to_string())?;
    let mut command = Command::new(exe);
    command
        .args(["agent", "--placed"])
        .arg(want)
        .arg(seen_as(&meta))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    steps.enter(&mut command, want).map_err(|e| e.to_string())?;
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("what a mount namespace shows there is not what it should".into()),
        Err(e) => Err(failure(&e).unwrap_or_else(|| e.to_string())),
    }
}

fn seen_as(meta: &std::fs::Metadata) -> String {
    format!(
        "{}:{}:{}",
        meta.dev(),
        meta.ino(),
        rustix::process::geteuid().as_raw()
    )
}

/// `cx agent --placed PATH SEEN`: whether the directory, and this user, are what they should be.
///
/// # Errors
/// When they are not.
pub fn placed(path: &Path, seen: &OsStr) -> anyhow::Result<()> {
    let is = seen_as(&std::fs::metadata(path)?);
    let cwd = std::env::current_dir()?;
    anyhow::ensure!(*is == *seen && cwd == path, "it is {is} in {}", cwd.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_there_is_not_hidden() {
        let base = Path::new("/nonexistent/home/.cache/cx/node");
        for (want, may) in [
            ("/", false),
            ("rel/x", false),
            ("/a/../b", false),
            ("/nonexistent", false),
            ("/nonexistent/home/.cache", false),
            ("/nonexistent/home/.cache/cx/node/mirrors", false),
            ("/nonexistent/other", true),
            ("/usr", false),
            ("/proc/self", false),
            ("/usr/src/nonexistent/x", true),
        ] {
            assert_eq!(may_be_shown(base, Path::new(want)).is_ok(), may, "{want}");
        }
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/usr", top.join("link")).unwrap();
        let why = may_be_shown(base, &top.join("link/x")).unwrap_err();
        assert!(why.contains("symbolic link"), "{why}");
    }

    #[test]
    fn directories_that_are_made_are_noted() {
        let dir = tempfile::tempdir().unwrap();
        let want = dir.path().join("a/b/c");
        let mut made = Vec::new();
        assert_eq!(existing(&want), dir.path());
        make_dirs(dir.path(), &want, &mut made).unwrap();
        make_dirs(dir.path(), &want, &mut made).unwrap();
        assert_eq!(made, [dir.path().join("a"), dir.path().join("a/b"), want]);
    }
}
