//! The steps that show a tree at another path in a mount namespace of its own (Linux).
//!
//! They are thought out beforehand, with all memory they need, and carried out in the child between fork and exec.
//!
//! As root a mount namespace is enough. An ordinary user needs a user namespace around it, in which only the own user and group
//! exist: the command keeps its uid and has no more rights than before, but files of others seem to be nobody's, and programs
//! that would change the user (sudo, ping with a setuid bit, newuidmap) can't.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, mount_move,
    unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Entries of a directory that is rebuilt at most; with more it would take too long for each run.
const MAX_ENTRIES: usize = 300;

/// Added to the number of a step's error, so that it is told apart from the program's own failure to start.
const MARK: i32 = 1 << 20;

#[derive(Debug)]
enum Step {
    /// A small file system of the namespace's own.
    Scratch(CString),
    Dir(CString),
    File(CString),
    Link(CString, CString),
    /// Shows the first path, and all that is mounted below it, at the second, too.
    Bind(CString, CString),
    /// Takes the scratch file system to its place.
    Move(CString, CString),
    /// Makes the scratch file system the root.
    Root(CString),
}

/// The steps for one tree.
#[derive(Debug)]
pub struct Steps {
    steps: Vec<Step>,
    is_root: bool,
    uid_map: String,
    gid_map: String,
}

fn c(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| "a path holds a zero byte".into())
}

impl Steps {
    /// Shows the first directory of each of `pairs` at the second. `scratch` is an empty directory of cx's own. Directories that
    /// have to be made for real are put into `made`, the topmost first.
    ///
    /// # Errors
    /// Why that can't be done; one clause.
    pub fn plan(
        pairs: &[(PathBuf, PathBuf)],
        scratch: &Path,
        made: &mut Vec<PathBuf>,
    ) -> Result<Steps, String> {
        let mut steps = Vec::new();
        // Those below a directory that has to be rebuilt; there can be one such.
        let mut rebuilt: Option<(PathBuf, Vec<&(PathBuf, PathBuf)>)> = None;
        for pair in pairs {
            let (real, want) = pair;
            if want.is_dir() {
                steps.push(Step::Bind(c(real)?, c(want)?));
                continue;
            }
            let parent = super::existing(want);
            let can_write = rustix::fs::access(
                &parent,
                rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
            );
            if can_write.is_ok() {
                super::make_dirs(&parent, want, made)
                    .map_err(|e| format!("{} can't be made: {e}", want.display()))?;
                steps.push(Step::Bind(c(real)?, c(want)?));
                continue;
            }
            match &mut rebuilt {
                None => rebuilt = Some((parent, vec![pair])),
                Some((known, below)) if *known == parent => below.push(pair),
                Some((known, _)) => {
                    return Err(format!(
                        "{} and {} can't both be rebuilt",
                        known.display(),
                        parent.display()
                    ));
                }
            }
        }
        if let Some((parent, below)) = rebuilt {
            rebuild(&parent, &below, scratch, &mut steps)?;
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Ok(Steps {
            steps,
            is_root: uid.is_root(),
            uid_map: format!("{0} {0} 1", uid.as_raw()),
            gid_map: format!("{0} {0} 1", gid.as_raw()),
        })
    }

    /// Lets `command` start in the namespace, in the directory `dir` as it is called there.
    pub fn enter(self: &Arc<Steps>, command: &mut Command, dir: &Path) -> io::Result<()> {
        let steps = self.clone();
        let dir = CString::new(dir.as_os_str().as_bytes())?;
        // SAFETY: the closure runs between fork and exec and only makes system calls; all memory it needs was allocated before.
        unsafe {
            command.pre_exec(move || {
                steps.carry_out()?;
                rustix::process::chdir(dir.as_c_str()).map_err(|e| marked(100, e))
            });
        }
        Ok(())
    }

    fn carry_out(&self) -> io::Result<()> {
        let mut flags = UnshareFlags::NEWNS;
        if !self.is_root {
            flags |= UnshareFlags::NEWUSER;
        }
        // SAFETY: this process has one thread, and its descriptors stay its own.
        unsafe { unshare_unsafe(flags) }.map_err(|e| marked(1, e))?;
        if !self.is_root {
            write(c"/proc/self/setgroups", b"deny").map_err(|e| marked(2, e))?;
            write(c"/proc/self/uid_map", self.uid_map.as_bytes()).map_err(|e| marked(3, e))?;
            write(c"/proc/self/gid_map", self.gid_map.as_bytes()).map_err(|e| marked(4, e))?;
        }
        // What others mount later still appears; what is mounted here stays here.
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change(c"/", slave).map_err(|e| marked(5, e))?;
        for (i, step) in self.steps.iter().enumerate() {
            carry_out(step).map_err(|e| marked(10 + i.min(80) as i32, e))?;
        }
        Ok(())
    }
}

/// Shows `parent`, which must not be written to, as it is but with the first directory of each of `pairs`, and what leads there, at
/// the second in it.
fn rebuild(
    parent: &Path,
    pairs: &[&(PathBuf, PathBuf)],
    scratch: &Path,
    steps: &mut Vec<Step>,
) -> Result<(), String> {
    let unreadable = |e: io::Error| format!("{} can't be listed: {e}", parent.display());
    let entries: Vec<_> = std::fs::read_dir(parent)
        .map_err(unreadable)?
        .take(MAX_ENTRIES + 1)
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if entries.len() > MAX_ENTRIES {
        return Err(format!("{} has too many entries", parent.display()));
    }
    steps.push(Step::Scratch(c(scratch)?));
    for entry in entries {
        let (from, to) = (entry.path(), scratch.join(entry.file_name()));
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_symlink() {
            let target = std::fs::read_link(&from).map_err(unreadable)?;
            steps.push(Step::Link(c(&target)?, c(&to)?));
            continue;
        }
        steps.push(if kind.is_dir() {
            Step::Dir(c(&to)?)
        } else {
            Step::File(c(&to)?)
        });
        steps.push(Step::Bind(c(&from)?, c(&to)?));
    }
    let mut made: Vec<PathBuf> = Vec::new();
    let mut binds = Vec::new();
    for (real, want) in pairs {
        let rest = want.strip_prefix(parent).map_err(|e| e.to_string())?;
        let mut at = scratch.to_owned();
        for name in rest.iter() {
            at.push::<&OsStr>(name);
            if !made.contains(&at) {
                steps.push(Step::Dir(c(&at)?));
                made.push(at.clone());
            }
        }
        binds.push(Step::Bind(c(real)?, c(&at)?));
    }
    steps.extend(binds);
    steps.push(if parent == Path::new("/") {
        Step::Root(c(scratch)?)
    } else {
        Step::Move(c(scratch)?, c(parent)?)
    });
    Ok(())
}

fn carry_out(step: &Step) -> rustix::io::Result<()> {
    match step {
        Step::Scratch(at) => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            // Nobody may write into it, as in the directory that it stands for.
            mount(c"tmpfs", at.as_c_str(), c"tmpfs", flags, Some(c"mode=0555"))?;
            // Binding a directory above must not bind it into itself.
            mount_change(at.as_c_str(), MountPropagationFlags::UNBINDABLE)
        }
        Step::Dir(at) => rustix::fs::mkdir(at.as_c_str(), Mode::from_raw_mode(0o755)),
        Step::File(at) => {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(at.as_c_str(), flags, Mode::from_raw_mode(0o644)).map(drop)
        }
        Step::Link(target, at) => rustix::fs::symlink(target.as_c_str(), at.as_c_str()),
        Step::Bind(from, to) => mount_bind_recursive(from.as_c_str(), to.as_c_str()),
        Step::Move(from, to) => {
            mount_change(from.as_c_str(), MountPropagationFlags::PRIVATE)?;
            mount_move(from.as_c_str(), to.as_c_str())
        }
        Step::Root(new) => {
            mount_change(new.as_c_str(), MountPropagationFlags::PRIVATE)?;
            rustix::process::chdir(new.as_c_str())?;
            // The old root ends up on top of the new one, and is taken off.
            rustix::process::pivot_root(c".", c".")?;
            unmount(c".", UnmountFlags::DETACH)?;
            rustix::process::chdir(c"/")
        }
    }
}

fn write(path: &std::ffi::CStr, text: &[u8]) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text).map(drop)
}

fn marked(step: i32, e: rustix::io::Errno) -> io::Error {
    io::Error::from_raw_os_error(MARK | step << 12 | e.raw_os_error())
}

/// The step and the error, if it was the namespace and not the program that failed.
pub fn failure(e: &io::Error) -> Option<String> {
    let code = e.raw_os_error().filter(|c| c & MARK != 0)?;
    let what = match (code >> 12) & 0xff {
        1 => "user and mount namespaces are forbidden",
        2..=4 => "user namespaces can't be set up",
        _ => "mounting in a namespace is forbidden",
    };
    Some(format!(
        "{what} there ({})",
        io::Error::from_raw_os_error(code & 0xfff)
    ))
}
