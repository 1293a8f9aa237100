//! File operations below a directory that never pass through a symbolic link.
//!
//! Paths are resolved component by component with `openat` and `O_NOFOLLOW`: whatever is swapped for a link in
//! the meantime, nothing outside the tree is read or written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::stat::Stat;
use crate::plan::manifest::RelPath;

/// Flags for opening a directory only to go through it.
#[cfg(target_os = "linux")]
const THROUGH: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const THROUGH: OFlags = LIST;

/// Flags for opening a directory to read its names.
const LIST: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory, and the last one below it that was used.
pub(crate) struct Beneath {
    root: Arc<OwnedFd>,
    path: PathBuf,
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
    links: Option<Arc<Relocated>>,
    unlocked: Option<Arc<Unlocked>>,
}

/// A tree whose path here is not the one that its links are told by: what a link into it says in either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relocated {
    /// The paths of the tree here; the first is the one that links get.
    pub here: Vec<Vec<u8>>,
    /// The path that is told.
    pub told: Vec<u8>,
}

impl Relocated {
    /// A target found here, as it is told.
    pub(crate) fn told(&self, target: Vec<u8>) -> Vec<u8> {
        let moved = self.here.iter().find_map(|h| moved(&target, h, &self.told));
        moved.unwrap_or(target)
    }

    /// A target that was told, as it is here.
    pub(crate) fn here(&self, target: &[u8]) -> Option<Vec<u8>> {
        moved(target, &self.told, self.here.first()?)
    }
}

/// `path` with `from`, at or below which it lies, replaced.
fn moved(path: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(from)?;
    (rest.is_empty() || rest[0] == b'/').then(|| [to, rest].concat())
}

/// The directory in which a path's last component stands.
pub(crate) struct Place<'p> {
    pub dir: Arc<OwnedFd>,
    pub name: &'p [u8],
}

impl Beneath {
    /// Opens the tree at `root`; links in `root` itself are followed.
    pub(crate) fn open(root: &Path) -> io::Result<Beneath> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Beneath {
            root: Arc::new(fd),
            path: root.to_path_buf(),
            last: None,
            links: None,
            unlocked: None,
        })
    }

    /// The same tree, all of which is to be read: what this user may not read in it and owns is opened for as long as that takes.
    /// What it is told to be is what it is without that.
    pub(crate) fn unlocked(self) -> Beneath {
        let unlocked = Unlocked {
            root: Arc::clone(&self.root),
            dirs: Mutex::default(),
        };
        Beneath {
            unlocked: Some(Arc::new(unlocked)),
            ..self
        }
    }

    /// What opens directories of this tree, if something does.
    pub(crate) fn opener(&self) -> Option<Arc<Unlocked>> {
        self.unlocked.clone()
    }

    /// Another handle on the same tree, for another thread.
    pub(crate) fn again(&self) -> Beneath {
        Beneath {
            root: Arc::clone(&self.root),
            path: self.path.clone(),
            last: None,
            links: self.links.clone(),
            unlocked: self.unlocked.clone(),
        }
    }

    /// The same tree, whose links are told as `links` says.
    pub(crate) fn relocated(self, links: Option<Arc<Relocated>>) -> Beneath {
        Beneath { links, ..self }
    }

    /// What a link of the tree is to say here for its `target`, where that is something else.
    pub(crate) fn here(&self, target: &[u8]) -> Option<Vec<u8>> {
        self.links.as_ref()?.here(target)
    }

    pub(crate) fn root_fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    /// Where the tree is, for messages.
    pub(crate) fn display(&self, path: &RelPath) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.path.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// Forgets the directory used last; needed after directories were removed or replaced.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// Resolves all but the last component.
    ///
    /// Fails with `NotFound` where a parent is missing, and with `ELOOP` or `ENOTDIR` where one is no directory.
    pub(crate) fn place<'p>(&mut self, path: &'p RelPath) -> io::Result<Place<'p>> {
        let bytes = path.as_bytes();
        let Some(slash) = bytes.iter().rposition(|b| *b == b'/') else {
            return Ok(Place {
                dir: Arc::clone(&self.root),
                name: bytes,
            });
        };
        let (parent, name) = (&bytes[..slash], &bytes[slash + 1..]);
        if let Some((p, fd)) = &self.last
            && p == parent
        {
            return Ok(Place {
                dir: Arc::clone(fd),
                name,
            });
        }
        let mut dir = Arc::clone(&self.root);
        let mut end = 0;
        for part in parent.split(|b| *b == b'/') {
            let below = Arc::new(rustix::fs::openat(&*dir, part, THROUGH, Mode::empty())?);
            end += part.len();
            if let Some(unlocked) = &self.unlocked {
                let stat = Stat::new(&rustix::fs::fstat(&*below)?);
                unlocked.open(dir.as_fd(), part, &parent[..end], &stat);
            }
            end += 1;
            dir = below;
        }
        self.last = Some((parent.to_vec(), Arc::clone(&dir)));
        Ok(Place { dir, name })
    }

    /// What stands at `path`; `None` where it, or a parent, is missing or a parent is no directory.
    pub(crate) fn stat(&mut self, path: &RelPath) -> io::Result<Option<Stat>> {
        match self.place(path) {
            Ok(place) => Ok(match (place.stat()?, &self.unlocked) {
                (Some(stat), Some(unlocked)) if stat.is_dir() => Some(unlocked.before(path.as_bytes(), stat)),
                (stat, _) => stat,
            }),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens the regular file at `path` for reading and says what was opened.
    pub(crate) fn read(&mut self, path: &RelPath) -> io::Result<(File, Stat)> {
        let place = self.place(path)?;
        match place.read() {
            Err(e) if self.unlocked.is_some() && Errno::from_io_error(&e) == Some(Errno::ACCESS) => {
                place.read_locked().map_err(|_| e)
            }
            other => other,
        }
    }

    /// The names in the directory at `path`, the top for `None`.
    pub(crate) fn names(&mut self, path: Option<&RelPath>) -> io::Result<Vec<Vec<u8>>> {
        let fd = match path {
            Some(path) => {
                let place = self.place(path)?;
                if let (Some(unlocked), Some(stat)) = (&self.unlocked, place.stat()?) {
                    unlocked.open(place.dir.as_fd(), place.name, path.as_bytes(), &stat);
                }
                open_dir(place.dir.as_fd(), place.name)?
            }
            None => open_dir(self.root.as_fd(), b".")?,
        };
        let entries = Dir::read_from(&fd)?;
        let names = entries.flatten().map(|e| e.file_name().to_bytes().to_vec());
        Ok(names.filter(|n| n != b"." && n != b"..").collect())
    }

    /// The target of the link at `path`, as it is told.
    pub(crate) fn read_link(&mut self, path: &RelPath) -> io::Result<Vec<u8>> {
        let target = self.place(path)?.read_link()?;
        Ok(match &self.links {
            Some(links) => links.told(target),
            None => target,
        })
    }
}

/// Opens directories of a tree, and closes them again when the last handle on the tree goes.
#[derive(Debug)]
pub(crate) struct Unlocked {
    root: Arc<OwnedFd>,
    /// The modes before of those that are open.
    dirs: Mutex<BTreeMap<Vec<u8>, u32>>,
}

/// What a user needs to read what lies in a directory.
const TO_READ: u32 = 0o500;

/// The bits of a mode that `chmod` sets.
const BITS: u32 = 0o7777;

impl Unlocked {
    /// Lets this user read what lies in the directory `name` in `parent`, found with `stat`, if that is the user's own. `path` is
    /// its path from the top.
    pub(crate) fn open(&self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8], stat: &Stat) {
        if !stat.is_dir() || stat.permissions() & TO_READ == TO_READ {
            return;
        }
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have opened it since.
        if !dirs.contains_key(path) && chmod_at(parent, name, stat.mode & BITS | TO_READ).is_ok() {
            dirs.insert(path.to_vec(), stat.mode & BITS);
        }
    }

    /// The stat of the directory at `path` as it is when nobody opens it.
    pub(crate) fn before(&self, path: &[u8], stat: Stat) -> Stat {
        let dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        match dirs.get(path) {
            Some(mode) if stat.mode & BITS == mode | TO_READ => Stat {
                mode: stat.mode & !BITS | mode,
                ..stat
            },
            _ => stat,
        }
    }
}

impl Drop for Unlocked {
    fn drop(&mut self) {
        let dirs = std::mem::take(self.dirs.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut tree = Beneath {
            root: Arc::clone(&self.root),
            path: PathBuf::new(),
            last: None,
            links: None,
            unlocked: None,
        };
        // The deepest first.
        for (path, mode) in dirs.into_iter().rev() {
            let Some(path) = RelPath::new(path) else { continue };
            // Whoever gave it another mode meanwhile meant that one.
            if let Ok(place) = tree.place(&path)
                && matches!(place.stat(), Ok(Some(s)) if s.is_dir() && s.mode & BITS == mode | TO_READ)
            {
                let _ = chmod_at(place.dir.as_fd(), place.name, mode);
            }
        }
    }
}

/// Sets the permission bits of what stands there, not through a link, whatever the bits are now.
fn chmod_at(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // Only since Linux 6.6 there is a call for it.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        Ok(rustix::fs::chmod(
            format!("/proc/self/fd/{}", fd.as_raw_fd()),
            mode_of(mode),
        )?)
    }
    #[cfg(not(target_os = "linux"))]
    Ok(rustix::fs::chmodat(
        dir,
        name,
        mode_of(mode),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Directories that were made writable to work in them, and their modes before; `None` is the top.
#[derive(Debug, Default)]
pub(crate) struct Opened(BTreeMap<Option<RelPath>, u32>);

impl Opened {
    /// Makes the directories above `path` writable, as far as they are this user's.
    pub(crate) fn above(&mut self, tree: &mut Beneath, path: &RelPath) -> io::Result<()> {
        tree.forget();
        let mut dirs: Vec<Option<RelPath>> = path.above().map(Some).collect();
        dirs.push(None);
        for dir in dirs.into_iter().rev() {
            let stat = match &dir {
                Some(dir) => tree.stat(dir)?,
                None => Some(Stat::new(&rustix::fs::fstat(&*tree.root)?)),
            };
            if let Some(stat) = stat.filter(Stat::is_dir)
                && stat.permissions() & 0o700 != 0o700
            {
                chmod(tree, dir.as_ref(), stat.permissions() | 0o700)?;
                self.0.insert(dir, stat.permissions());
            }
        }
        Ok(())
    }

    /// Gives them their modes again, deepest first. One that is gone by now needs none.
    pub(crate) fn close(&mut self, tree: &mut Beneath) {
        for (dir, mode) in std::mem::take(&mut self.0).into_iter().rev() {
            let _ = chmod(tree, dir.as_ref(), mode);
        }
    }
}

fn chmod(tree: &mut Beneath, dir: Option<&RelPath>, mode: u32) -> io::Result<()> {
    match dir {
        Some(dir) => tree.place(dir)?.chmod_dir(mode),
        None => Ok(rustix::fs::fchmod(&*tree.root, mode_of(mode))?),
    }
}

impl Place<'_> {
    pub(crate) fn stat(&self) -> io::Result<Option<Stat>> {
        stat_at(self.dir.as_fd(), self.name)
    }

    pub(crate) fn read(&self) -> io::Result<(File, Stat)> {
        // Without O_NONBLOCK a file swapped for a fifo would hang the open.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&*self.dir, self.name, flags, Mode::empty())?;
        let stat = Stat::new(&rustix::fs::fstat(&fd)?);
        if !stat.is_file() {
            return Err(Errno::NOTDIR.into());
        }
        Ok((File::from(fd), stat))
    }

    /// As [`Place::read`], for a file of this user's that nobody may read: it may be read for that moment.
    fn read_locked(&self) -> io::Result<(File, Stat)> {
        let before = self.stat()?.filter(Stat::is_file).ok_or(Errno::NOENT)?;
        chmod_at(self.dir.as_fd(), self.name, before.mode & BITS | 0o400)?;
        let opened = self.read();
        let _ = chmod_at(self.dir.as_fd(), self.name, before.mode & BITS);
        let file = opened?.0;
        let stat = stat_file(&file)?;
        Ok((file, stat))
    }

    pub(crate) fn read_link(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&*self.dir, self.name, Vec::new())?.into_bytes())
    }

    /// Creates a new file for writing under another name in the same directory.
    pub(crate) fn create(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(
            &*self.dir,
            name,
            flags,
            mode_of(mode),
        )?))
    }

    /// Renames `from` in the same directory to the place's own name.
    pub(crate) fn rename_from(&self, from: &[u8], replace: bool) -> io::Result<()> {
        rename(self.dir.as_fd(), from, self.dir.as_fd(), self.name, replace)
    }

    /// Renames the file at `from`, a path of cx's own outside of the tree, to this place.
    pub(crate) fn rename_in(&self, from: &Path, replace: bool) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        rename(
            rustix::fs::CWD,
            from.as_os_str().as_bytes(),
            self.dir.as_fd(),
            self.name,
            replace,
        )
    }

    pub(crate) fn symlink(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &*self.dir, name)?)
    }

    pub(crate) fn make_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&*self.dir, self.name, mode_of(0o700))?)
    }

    /// Sets the permission bits of the directory that stands here.
    pub(crate) fn chmod_dir(&self, mode: u32) -> io::Result<()> {
        match rustix::fs::openat(&*self.dir, self.name, LIST, Mode::empty()) {
            Ok(fd) => Ok(rustix::fs::fchmod(&fd, mode_of(mode))?),
            // A directory without read permission cannot be opened to change it.
            Err(Errno::ACCESS) if self.stat()?.is_some_and(|s| s.is_dir()) => Ok(rustix::fs::chmodat(
                &*self.dir,
                self.name,
                mode_of(mode),
                AtFlags::empty(),
            )?),
            Err(e) => Err(e.into()),
        }
    }

    /// Sets the modification time of the file or directory that stands here, not through a link.
    pub(crate) fn set_mtime(&self, mtime_ns: i64) -> io::Result<()> {
        let times = both_times(mtime_ns);
        Ok(rustix::fs::utimensat(
            &*self.dir,
            self.name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    pub(crate) fn unlink(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&*self.dir, name, AtFlags::empty())?)
    }

    pub(crate) fn remove_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&*self.dir, self.name, AtFlags::REMOVEDIR)?)
    }

    /// Removes what stands here with all below it; nothing there is fine.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        remove_all(self.dir.as_fd(), self.name)
    }
}

/// Copies what `from` holds to the new file `to`: shared blocks where the file system can, holes as holes.
pub(crate) fn copy(from: &mut File, to: &mut File) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom, Write};
    #[cfg(target_os = "linux")]
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
        return Ok(());
    }
    let len = from.metadata()?.len();
    let mut at = 0;
    let mut buf = vec![0u8; 64 << 10];
    while at < len {
        // Where a file system does not tell, all of it is data.
        let data = match rustix::fs::seek(&*from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data.min(len),
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = match rustix::fs::seek(&*from, rustix::fs::SeekFrom::Hole(data)) {
            Ok(hole) if hole > data => hole,
            _ => len,
        };
        from.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(data))?;
        let mut left = end - data;
        while left > 0 {
            let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match from.read(&mut buf[..want]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    to.write_all(&buf[..n])?;
                    left -= n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        at = end;
    }
    to.set_len(len)
}

/// Sets the access and modification time of an open file.
pub(crate) fn set_mtime(file: &File, mtime_ns: i64) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &both_times(mtime_ns))?)
}

/// Access and modification time alike.
fn both_times(mtime_ns: i64) -> Timestamps {
    let t = Timespec {
        tv_sec: mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
    };
    Timestamps {
        last_access: t,
        last_modification: t,
    }
}

/// Sets the permission bits of an open file.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, mode_of(mode))?)
}

/// The stat of an open file.
pub(crate) fn stat_file(file: &File) -> io::Result<Stat> {
    Ok(Stat::new(&rustix::fs::fstat(file)?))
}

pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(s) => Ok(Some(Stat::new(&s))),
        Err(e) if is_absent(&e.into()) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Opens a directory below `dir` to list it.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, LIST, Mode::empty())?)
}

/// Whether an error means that there is nothing (reachable without links) at the path.
pub(crate) fn is_absent(e: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(e),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode as _)
}

fn rename(
    from_dir: BorrowedFd<'_>,
    from: &[u8],
    to_dir: BorrowedFd<'_>,
    to: &[u8],
    replace: bool,
) -> io::Result<()> {
    if !replace {
        match rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            done => return Ok(done?),
        }
        if stat_at(to_dir, to)?.is_some() {
            return Err(Errno::EXIST.into());
        }
    }
    Ok(rustix::fs::renameat(from_dir, from, to_dir, to)?)
}

fn remove_all(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR, others EPERM.
        Err(e) if !stat_at(dir, name)?.is_some_and(|s| s.is_dir()) => return Err(e.into()),
        Err(_) => {}
    }
    let open = || rustix::fs::openat(dir, name, LIST, Mode::empty());
    let fd = match open() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, mode_of(0o700), AtFlags::empty())?;
            open()?
        }
        other => other?,
    };
    let stat = Stat::new(&rustix::fs::fstat(&fd)?);
    if stat.permissions() & 0o300 != 0o300 {
        rustix::fs::fchmod(&fd, mode_of(0o700))?;
    }
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_all(fd.as_fd(), name)?;
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
