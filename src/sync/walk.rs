//! The parallel walk over a tree that both sides share.
//!
//! It finds what stands where and sorts it by the ignore rules, without reading any content but that of ignore
//! files. It never enters a `.git`, a known cache, or what `.cxignore` shuts out, and it stops counting in an
//! ignored directory that is too large to go anyway.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::TMP_PREFIX;
use super::beneath::{self, Beneath, Unlocked};
use super::known;
use super::rules::{Level, Rules, Says};
use super::stat::Stat;
use super::watch::Watch;
use crate::plan::manifest::RelPath;

/// How a path stands to the ignore rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Not ignored.
    Plain,
    /// Ignored, as part of this unit (an index into [`Walked::units`]).
    Ignored(usize),
    /// A known cache directory: nothing below it is listed.
    Cache,
    /// Shut out by `.cxignore`: nothing below it is listed.
    Shut,
}

/// One path.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub path: RelPath,
    pub stat: Stat,
    pub class: Class,
}

/// A topmost ignored path.
#[derive(Debug, Default)]
pub(crate) struct Unit {
    pub path: Vec<u8>,
    /// It is larger than the limits, and was not listed to its end.
    pub over: bool,
}

/// What a walk found, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub found: Vec<Found>,
    pub units: Vec<Unit>,
    /// Directories that could not be listed.
    pub unreadable: Vec<Vec<u8>>,
    /// The directories that were listed, where the walk was watched.
    pub listed: Vec<Listed>,
    /// Files that have another name somewhere, where the walk was watched.
    pub linked: Vec<RelPath>,
}

/// A directory that was listed, and is watched since before that.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// What the watch calls it.
    pub number: i32,
    /// `None` for the top.
    pub path: Option<RelPath>,
    level: Arc<Level>,
    class: Class,
}

impl Listed {
    /// How a file or link in it stands to the ignore rules. The unit of an ignored one is not told.
    pub(crate) fn classify(&self, path: &RelPath) -> Class {
        let path = path.as_bytes();
        match self.level.cx(path, false) {
            Some(Says::Ignore) => Class::Shut,
            Some(Says::Keep) => Class::Plain,
            None if matches!(self.class, Class::Ignored(_)) => self.class,
            None if self.level.git(path, false) == Some(Says::Ignore) => Class::Ignored(usize::MAX),
            None => Class::Plain,
        }
    }
}

/// How to walk.
pub(crate) struct WalkOptions<'a> {
    /// Lines of ignore rules from outside the tree.
    pub extra_ignore: &'a [Vec<u8>],
    /// More names of cache directories.
    pub also_caches: &'a [String],
    /// Past this many bytes an ignored unit is not listed further.
    pub unit_bytes: u64,
    /// Past this many files an ignored unit is not listed further.
    pub unit_files: u64,
    pub threads: usize,
    /// What is to notice the changes in each directory from before it is listed.
    pub watch: Option<&'a Watch>,
}

struct Task {
    parent: Arc<OwnedFd>,
    /// `None` for the top.
    path: Option<RelPath>,
    level: Arc<Level>,
    class: Class,
    unit: Option<Arc<LiveUnit>>,
}

struct LiveUnit {
    index: usize,
    path: Vec<u8>,
    bytes: AtomicU64,
    files: AtomicU64,
    over: AtomicBool,
}

struct Shared<'a> {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Threads that wait for tasks.
    hungry: AtomicUsize,
    units: Mutex<Vec<Arc<LiveUnit>>>,
    options: &'a WalkOptions<'a>,
    /// Opens the directories that may not be read otherwise.
    opener: Option<Arc<Unlocked>>,
}

/// Tasks that a thread gave away because another had none. Otherwise each keeps its own: two threads that take turns at a lock
/// wake each other more often than they list directories.
#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    /// Threads that have tasks of their own and may yet give some away.
    working: usize,
}

/// Walks the tree.
///
/// # Errors
/// That of opening its top; below, what vanishes is passed by and what cannot be read is listed.
pub(crate) fn walk(tree: &Beneath, options: &WalkOptions<'_>) -> io::Result<Walked> {
    let top = Task {
        parent: tree.root_fd(),
        path: None,
        level: Level::outer(options.extra_ignore),
        class: Class::Plain,
        unit: None,
    };
    let shared = Shared {
        queue: Mutex::new(Queue {
            tasks: vec![top],
            working: 0,
        }),
        wake: Condvar::new(),
        hungry: AtomicUsize::new(0),
        units: Mutex::default(),
        options,
        opener: tree.opener(),
    };
    let mut walked = std::thread::scope(|scope| {
        // No thread is to be had where a limit is reached, and in a process that is just ending: fewer do it then.
        let start = |_| {
            std::thread::Builder::new()
                .spawn_scoped(scope, || work(&shared))
                .ok()
        };
        let helpers: Vec<_> = (1..options.threads).filter_map(start).collect();
        let mut all = work(&shared);
        for h in helpers {
            let more = h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.found.extend(more.found);
            all.unreadable.extend(more.unreadable);
            all.listed.extend(more.listed);
            all.linked.extend(more.linked);
        }
        all
    });
    // Not the unstable sort: it does not see that most of them are in order already.
    walked.found.sort_by(|a, b| a.path.cmp(&b.path));
    walked.unreadable.sort_unstable();
    let units = shared.units.into_inner().unwrap_or_else(PoisonError::into_inner);
    walked.units = units
        .iter()
        .map(|u| Unit {
            path: u.path.clone(),
            over: u.over.load(Ordering::Relaxed),
        })
        .collect();
    if walked.unreadable.first().is_some_and(Vec::is_empty) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the directory cannot be listed",
        ));
    }
    Ok(walked)
}

/// One thread's part of the walk.
fn work(shared: &Shared<'_>) -> Walked {
    let mut out = Walked::default();
    let mut lister = Lister::default();
    let mut own: Vec<Task> = Vec::new();
    let mut queue = lock(&shared.queue);
    loop {
        if let Some(task) = queue.tasks.pop() {
            queue.working += 1;
            drop(queue);
            own.push(task);
            while let Some(task) = own.pop() {
                let first = own.len();
                list(&task, shared, &mut lister, &mut out, &mut own);
                // The next one is the first by name, so that most of what is found is in order.
                own[first..].sort_unstable_by(|a, b| b.path.cmp(&a.path));
                if own.len() > 1 && shared.hungry.load(Ordering::Relaxed) > 0 {
                    // The oldest are the nearest to the top, with the most below them.
                    let given = own.len() / 2;
                    lock(&shared.queue).tasks.extend(own.drain(..given));
                    shared.wake.notify_one();
                }
            }
            queue = lock(&shared.queue);
            queue.working -= 1;
        } else if queue.working == 0 {
            shared.wake.notify_all();
            return out;
        } else {
            shared.hungry.fetch_add(1, Ordering::Relaxed);
            queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            shared.hungry.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lists one directory: its entries go to `out`, the directories in it to `tasks`.
fn list(task: &Task, shared: &Shared<'_>, lister: &mut Lister, out: &mut Walked, tasks: &mut Vec<Task>) {
    if task.unit.as_ref().is_some_and(|u| u.over.load(Ordering::Relaxed)) {
        return;
    }
    let dir = task.path.as_ref().map_or(&b""[..], RelPath::as_bytes);
    let name = task.path.as_ref().map_or(&b""[..], RelPath::name);
    let watch = shared.options.watch;
    let mut opened = lister.read(task, if name.is_empty() { b"." } else { name }, watch);
    if let Some(opener) = shared.opener.as_ref().filter(|_| task.path.is_some()) {
        let parent = task.parent.as_fd();
        if opened
            .as_ref()
            .is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
            && let Ok(Some(stat)) = beneath::stat_at(parent, name)
        {
            opener.open(parent, name, dir, &stat);
            opened = lister.read(task, name, watch);
        }
        if let Ok((_, stat, _)) = &mut opened {
            opener.open(parent, name, dir, stat);
            *stat = opener.before(dir, *stat);
        }
    }
    let (fd, stat, number) = match opened {
        Ok(o) => o,
        Err(e) => {
            if !beneath::is_absent(&e) {
                out.unreadable.push(dir.to_vec());
            }
            return;
        }
    };
    let mut class = task.class;
    if let Some(path) = &task.path {
        if lister.names().any(|(n, _)| known::marks_cache(n)) {
            class = Class::Cache;
        }
        out.found.push(Found {
            path: path.clone(),
            stat,
            class,
        });
        if class == Class::Cache {
            if let (Some(watch), Some(number)) = (watch, number) {
                watch.leave(number);
            }
            return;
        }
    }
    let fd = Arc::new(fd);
    let file = |name: &[u8]| {
        let there = lister
            .names()
            .any(|(n, t)| n == name && matches!(t, FileType::RegularFile | FileType::Unknown));
        there.then(|| read_rules(&fd, name)).flatten()
    };
    // In an ignored directory nothing can be taken back by git's rules.
    let git = if task.unit.is_none() {
        file(b".gitignore")
    } else {
        None
    };
    let level = task.level.enter(dir, git, file(b".cxignore"));
    if let Some(number) = number {
        out.listed.push(Listed {
            number,
            path: task.path.clone(),
            level: Arc::clone(&level),
            class,
        });
    }
    let cargo = lister.names().any(|(n, _)| n == b"Cargo.toml");

    for (child, kind) in lister.names() {
        let Some(path) = RelPath::below(task.path.as_ref(), child) else {
            continue;
        };
        let mut stat = None;
        let is_dir = match kind {
            FileType::Directory => true,
            FileType::Unknown => {
                stat = beneath::stat_at(fd.as_fd(), child).ok().flatten();
                match stat {
                    Some(s) => s.is_dir(),
                    None => continue,
                }
            }
            _ => false,
        };
        let said = level.cx(path.as_bytes(), is_dir);
        let mut unit = task.unit.clone();
        let class = if said == Some(Says::Ignore) {
            Class::Shut
        } else if is_dir
            && said != Some(Says::Keep)
            && known::is_cache(child, name, cargo, shared.options.also_caches)
        {
            Class::Cache
        } else if said == Some(Says::Keep) {
            unit = None;
            Class::Plain
        } else if let Some(u) = &unit {
            Class::Ignored(u.index)
        } else if level.git(path.as_bytes(), is_dir) == Some(Says::Ignore) {
            let u = new_unit(shared, path.as_bytes());
            let index = u.index;
            unit = Some(u);
            Class::Ignored(index)
        } else {
            Class::Plain
        };
        if is_dir && matches!(class, Class::Plain | Class::Ignored(_)) {
            let (parent, level) = (Arc::clone(&fd), Arc::clone(&level));
            tasks.push(Task {
                parent,
                path: Some(path),
                level,
                class,
                unit,
            });
            continue;
        }
        if stat.is_none() {
            let found = rustix::fs::statat(&fd, child, AtFlags::SYMLINK_NOFOLLOW).ok();
            stat = found.as_ref().map(Stat::new);
            if number.is_some()
                && let Some(found) = &found
                && found.st_nlink > 1
                && stat.is_some_and(|s| s.is_file())
            {
                out.linked.push(path.clone());
            }
        }
        // It vanished.
        let Some(stat) = stat else { continue };
        if let Some(u) = &unit {
            let bytes = u.bytes.fetch_add(stat.size, Ordering::Relaxed) + stat.size;
            let files = u.files.fetch_add(1, Ordering::Relaxed) + 1;
            if bytes > shared.options.unit_bytes || files > shared.options.unit_files {
                u.over.store(true, Ordering::Relaxed);
            }
        }
        out.found.push(Found { path, stat, class });
    }
}

fn new_unit(shared: &Shared<'_>, path: &[u8]) -> Arc<LiveUnit> {
    let mut units = lock(&shared.units);
    let unit = Arc::new(LiveUnit {
        index: units.len(),
        path: path.to_vec(),
        bytes: AtomicU64::new(0),
        files: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    units.push(Arc::clone(&unit));
    unit
}

/// Reads the names in directories, in memory that is used again and again.
#[derive(Default)]
struct Lister {
    text: Vec<u8>,
    /// Where each name begins in `text`, which it ends in a zero, and what stands there.
    names: Vec<(usize, FileType)>,
    #[cfg(target_os = "linux")]
    buf: Vec<u8>,
}

impl Lister {
    /// Opens a directory and reads its names, without those that no walk reports; in their order.
    fn read(
        &mut self,
        task: &Task,
        name: &[u8],
        watch: Option<&Watch>,
    ) -> io::Result<(OwnedFd, Stat, Option<i32>)> {
        self.text.clear();
        self.names.clear();
        let fd = beneath::open_dir(task.parent.as_fd(), name)?;
        let number = watch.and_then(|w| w.enter(&fd));
        let stat = Stat::new(&rustix::fs::fstat(&fd)?);
        self.read_names(&fd)?;
        let mut names = std::mem::take(&mut self.names);
        if !names.is_sorted_by(|a, b| self.at(a.0) <= self.at(b.0)) {
            names.sort_unstable_by(|a, b| self.at(a.0).cmp(self.at(b.0)));
        }
        self.names = names;
        Ok((fd, stat, number))
    }

    /// Reading the descriptor itself spares what the portable way costs: a second descriptor of the same directory.
    #[cfg(target_os = "linux")]
    fn read_names(&mut self, fd: &OwnedFd) -> io::Result<()> {
        let mut buf = std::mem::take(&mut self.buf);
        buf.reserve(32 << 10);
        let mut dir = rustix::fs::RawDir::new(fd, buf.spare_capacity_mut());
        while let Some(entry) = dir.next() {
            let entry = entry?;
            self.take(entry.file_name().to_bytes(), entry.file_type());
        }
        self.buf = buf;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn read_names(&mut self, fd: &OwnedFd) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(fd)? {
            let entry = entry?;
            self.take(entry.file_name().to_bytes(), entry.file_type());
        }
        Ok(())
    }

    fn take(&mut self, name: &[u8], kind: FileType) {
        let skipped = name == b"." || name == b".." || name.eq_ignore_ascii_case(b".git");
        if !skipped && !name.starts_with(TMP_PREFIX.as_bytes()) {
            self.names.push((self.text.len(), kind));
            self.text.extend_from_slice(name);
            // No name holds it.
            self.text.push(0);
        }
    }

    fn at(&self, start: usize) -> &[u8] {
        let rest = &self.text[start..];
        &rest[..rest.iter().position(|b| *b == 0).unwrap_or(rest.len())]
    }

    fn names(&self) -> impl Iterator<Item = (&[u8], FileType)> {
        self.names.iter().map(|(start, kind)| (self.at(*start), *kind))
    }
}

/// Larger ignore files are cut: nobody writes them by hand.
const MAX_RULES: u64 = 1 << 20;

fn read_rules(dir: &OwnedFd, name: &[u8]) -> Option<Rules> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(fd)
        .take(MAX_RULES)
        .read_to_end(&mut text)
        .ok()?;
    Rules::parse(&text)
}
