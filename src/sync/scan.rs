//! Reads a workspace into the manifest of what goes to a node.
//!
//! What goes: tracked files always; untracked ones that are not ignored, unless they are secrets; ignored ones that are
//! neither secrets nor in caches, smallest unit first, up to a limit in all. `.cxignore` has gitignore's syntax and the
//! last word: what it ignores never goes, even if tracked; what it takes back with `!` goes even if git ignores it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::FileType;

use super::beneath::{self, Beneath};
use super::git;
use super::index::{Index, Writer};
use super::known;
use super::programs;
use super::stat::Stat;
use super::times::{Times, UNKNOWN};
use super::walk::{Class, Found, WalkOptions, Walked, walk};
use super::wild;
#[cfg(test)]
use crate::plan::delta::Delta;
use crate::plan::manifest::{Entry, Hash, Manifest, RelPath};

/// How to scan.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// The file that remembers hashes between scans (another one, with `.git` added to its name, remembers what git
    /// said). Without it everything is read.
    pub index: Option<PathBuf>,
    /// More lines of ignore rules, stronger than git's own outside the tree.
    pub extra_ignore: Vec<Vec<u8>>,
    /// Bytes of ignored files that go along at most.
    pub ignored_limit: u64,
    /// More names of directories that are caches.
    pub also_caches: Vec<String>,
    /// Patterns of secrets that go all the same: a name, or with a slash a path from the top.
    pub include: Vec<String>,
    /// Files that go whatever git ignores and wherever they lie, caches included: the command names them. Not what `.cxignore`
    /// shuts out, and no secrets.
    pub named: Vec<RelPath>,
    /// Bytes of the programs in cargo's target directories that go along as if they were named, at most.
    pub programs_limit: u64,
    /// Threads that walk and read.
    pub threads: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        ScanOptions {
            index: None,
            extra_ignore: Vec::new(),
            ignored_limit: 32 << 20,
            also_caches: Vec::new(),
            include: Vec::new(),
            named: Vec::new(),
            programs_limit: 0,
            threads: std::thread::available_parallelism().map_or(2, |n| n.get().min(2)),
        }
    }
}

/// What a workspace holds.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// What goes.
    pub manifest: Manifest,
    /// The times of its files and directories.
    pub times: Times,
    /// Untracked secrets, which stay.
    pub withheld: Vec<RelPath>,
    /// Ignored files and directories that did not fit under the limit: they exist here only.
    pub unsent: Vec<RelPath>,
    /// What is ignored here, whether it goes or not, and caches: the topmost paths.
    pub ignored: Vec<RelPath>,
    /// What goes only because it was named, with the directories above it that go for no other reason.
    pub named: Vec<RelPath>,
    /// The programs in cargo's target directories, whether they go or not.
    pub(crate) programs: Vec<(RelPath, Stat)>,
    /// What was named and stays all the same, and why: one clause.
    pub named_but_stays: Vec<(RelPath, &'static str)>,
    /// Sockets, fifos and devices, which cannot go.
    pub special: Vec<RelPath>,
    /// Files and directories that could not be read.
    pub unreadable: Vec<RelPath>,
    /// Ignore rules that lie outside the tree, for the node; later ones win.
    pub extra_ignore: Vec<Vec<u8>>,
    /// Where HEAD is, as a value to compare; `None` without a repository.
    pub head: Option<Hash>,
    /// When the scan began, nanoseconds since the epoch: what is younger was not seen.
    pub began_ns: i64,
}

impl Scan {
    /// What must happen to a mirror that holds `have`. Paths that exist here but do not go (ignored ones over the
    /// limit, secrets that a command made there) are forgotten there instead of deleted.
    #[cfg(test)]
    pub(crate) fn delta(&self, have: &Manifest) -> Delta {
        let stays = self.stays();
        crate::plan::delta::delta_keeping(have, &self.manifest, |p| is_at_or_below(&stays, p.as_bytes()))
    }

    /// What exists here and does not go.
    pub(crate) fn stays(&self) -> BTreeSet<&[u8]> {
        let all = self.unsent.iter().chain(&self.withheld);
        all.map(RelPath::as_bytes).collect()
    }
}

/// Whether `path` or a directory above it is in `set`.
pub(crate) fn is_at_or_below(set: &BTreeSet<&[u8]>, path: &[u8]) -> bool {
    if set.is_empty() {
        return false;
    }
    let parents = path
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'/')
        .map(|(i, _)| &path[..i]);
    set.contains(path) || parents.into_iter().any(|p| set.contains(p))
}

/// Past this many files an ignored directory counts as over the limit.
const UNIT_FILES: u64 = 20_000;

/// Reads the workspace at `root`.
///
/// # Errors
/// Only where the top cannot be listed: the rest is reported in [`Scan::unreadable`].
pub fn scan(root: &Path, is_git: bool, options: &ScanOptions) -> io::Result<Scan> {
    let began_ns = super::now_ns();
    let tree = Beneath::open(root)?;
    let repository = if is_git { git::dirs(root) } else { None };
    let head = repository.as_ref().and_then(git::head);
    let git = match &repository {
        Some(dirs) => git::facts(root, dirs, options.index.as_deref().map(beside).as_deref()),
        None => git::Facts::default(),
    };
    let mut extra_ignore = git.extra_ignore;
    extra_ignore.extend(options.extra_ignore.iter().cloned());
    // On the node they are at least ignored.
    extra_ignore.extend(
        options
            .also_caches
            .iter()
            .map(|name| format!("{name}/").into_bytes()),
    );
    let walked = walk(
        &tree,
        &WalkOptions {
            extra_ignore: &extra_ignore,
            also_caches: &options.also_caches,
            unit_bytes: options.ignored_limit,
            unit_files: UNIT_FILES,
            threads: options.threads.max(1),
            watch: None,
        },
    )?;
    let mut scan = Scan {
        extra_ignore,
        head,
        began_ns,
        ..Scan::default()
    };
    let chosen = choose(walked, &git.tracked, options, &mut tree.again(), &mut scan);
    fill(&tree, chosen, options, &mut scan);
    Ok(scan)
}

/// The file beside the index that remembers what git said.
fn beside(index: &Path) -> PathBuf {
    let mut name = index.as_os_str().to_owned();
    name.push(".git");
    PathBuf::from(name)
}

/// Decides what goes; the rest is noted in `scan`.
fn choose(
    walked: Walked,
    tracked: &git::Tracked,
    options: &ScanOptions,
    tree: &mut Beneath,
    scan: &mut Scan,
) -> Vec<(RelPath, Stat)> {
    let mut goes: Vec<(RelPath, Stat)> = Vec::with_capacity(walked.found.len());
    let mut candidates: Vec<(usize, RelPath, Stat)> = Vec::new();
    let mut unit_bytes = vec![0u64; walked.units.len()];
    // Directories of which only tracked files go.
    let mut closed: Vec<Vec<u8>> = Vec::new();
    let mut shut: Vec<Vec<u8>> = Vec::new();
    let mut secret_dirs: Vec<Vec<u8>> = Vec::new();
    let mut in_order = tracked.in_order();
    for Found {
        path: rel,
        stat,
        class,
    } in walked.found
    {
        let path = rel.as_bytes();
        let is_tracked = in_order.has(path);
        let unit = match class {
            Class::Shut => {
                if !options.named.is_empty() {
                    shut.push(path.to_vec());
                }
                continue;
            }
            Class::Cache => {
                closed.push(path.to_vec());
                if programs::may_be_cargos(&rel) {
                    scan.programs.extend(programs::look(tree, &rel));
                }
                scan.ignored.push(rel);
                continue;
            }
            Class::Plain => None,
            Class::Ignored(unit) => Some(unit),
        };
        match stat.file_type() {
            FileType::Directory => {
                // `.aws` and the like: not even the name goes, unless something in it is tracked.
                let mut inside = path.to_vec();
                inside.extend_from_slice(b"/x");
                if known::is_secret(&inside) {
                    secret_dirs.push(path.to_vec());
                    continue;
                }
            }
            FileType::RegularFile | FileType::Symlink => {
                if unit.is_some() && is_tracked {
                    goes.push((rel, stat));
                    continue;
                }
                if !is_tracked && is_withheld(&rel, &stat, options, tree) {
                    scan.withheld.push(rel);
                    continue;
                }
            }
            _ => {
                if unit.is_none() {
                    scan.special.push(rel);
                }
                continue;
            }
        }
        match unit {
            None => goes.push((rel, stat)),
            Some(unit) => {
                if stat.is_file() {
                    unit_bytes[unit] += stat.size;
                }
                candidates.push((unit, rel, stat));
            }
        }
    }
    scan.unreadable
        .extend(walked.unreadable.into_iter().filter_map(RelPath::new));

    scan.ignored
        .extend(walked.units.iter().filter_map(|u| RelPath::from_slice(&u.path)));
    // Ignored units, smallest first, until the limit.
    let mut order: Vec<usize> = (0..walked.units.len()).collect();
    order.sort_by_key(|u| (walked.units[*u].over, unit_bytes[*u], &walked.units[*u].path));
    let mut left = options.ignored_limit;
    let mut sent = vec![false; walked.units.len()];
    let has_content: BTreeSet<usize> = candidates.iter().map(|(u, ..)| *u).collect();
    for u in order {
        let unit = &walked.units[u];
        if !unit.over && unit_bytes[u] <= left {
            left -= unit_bytes[u];
            sent[u] = true;
        } else if has_content.contains(&u) {
            scan.unsent.extend(RelPath::new(unit.path.clone()));
            closed.push(unit.path.clone());
        }
    }
    scan.unsent.sort_unstable();
    goes.extend(
        candidates
            .into_iter()
            .filter(|(u, ..)| sent[*u])
            .map(|(_, p, s)| (p, s)),
    );

    for dir in closed.iter().chain(&secret_dirs) {
        for path in tracked.below(dir) {
            if let Some(rel) = RelPath::new(path)
                && let Ok(Some(stat)) = tree.stat(&rel)
                && (stat.is_file() || stat.is_symlink())
            {
                goes.push((rel, stat));
            }
        }
    }
    if !closed.is_empty() || !secret_dirs.is_empty() {
        add_parents(&mut goes, tree);
    }
    goes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    goes.dedup_by(|a, b| a.0 == b.0);
    let named: Vec<RelPath> = options
        .named
        .iter()
        .chain(programs_that_go(options, scan))
        .cloned()
        .collect();
    if !named.is_empty() {
        let shut: BTreeSet<&[u8]> = shut.iter().map(Vec::as_slice).collect();
        add_named(&mut goes, &named, &shut, options, tree, scan);
    }
    goes
}

/// The programs of cargo's that go unnamed: the smallest directories first, until the limit.
fn programs_that_go<'s>(options: &ScanOptions, scan: &'s Scan) -> impl Iterator<Item = &'s RelPath> {
    let mut dirs: BTreeMap<Option<RelPath>, u64> = BTreeMap::new();
    for (path, stat) in &scan.programs {
        *dirs.entry(path.parent()).or_default() += stat.size;
    }
    let mut order: Vec<_> = dirs.into_iter().collect();
    order.sort_by_key(|(_, size)| *size);
    let mut left = options.programs_limit;
    let fits = |(dir, size): (Option<RelPath>, u64)| {
        left = left.checked_sub(size)?;
        Some(dir)
    };
    let go: BTreeSet<_> = order.into_iter().map_while(fits).collect();
    let goes = move |p: &&RelPath| go.contains(&p.parent()) && !known::is_secret(p.as_bytes());
    scan.programs.iter().map(|(p, _)| p).filter(goes)
}

/// Adds what was named, with the directories above it.
fn add_named(
    goes: &mut Vec<(RelPath, Stat)>,
    all: &[RelPath],
    shut: &BTreeSet<&[u8]>,
    options: &ScanOptions,
    tree: &mut Beneath,
    scan: &mut Scan,
) {
    let mut named = BTreeSet::new();
    let is_git = |p: &RelPath| p.components().any(|c| c.eq_ignore_ascii_case(b".git"));
    // A mirror has repositories of its own.
    for path in all.iter().filter(|p| !is_git(p)) {
        if goes.binary_search_by(|(p, _)| p.cmp(path)).is_ok() {
            continue;
        }
        let Ok(Some(stat)) = tree.stat(path) else { continue };
        if !stat.is_file() {
            continue;
        }
        if is_at_or_below(shut, path.as_bytes()) {
            scan.named_but_stays
                .push((path.clone(), "is shut out by .cxignore"));
        } else if is_withheld(path, &stat, options, tree) {
            scan.named_but_stays
                .push((path.clone(), "is taken for a secret, and those stay here"));
        } else {
            named.insert(path.clone());
            let stays = |dir: &RelPath| goes.binary_search_by(|(p, _)| p.cmp(dir)).is_err();
            named.extend(path.above().filter(stays));
        }
    }
    for path in &named {
        if let Ok(Some(stat)) = tree.stat(path) {
            goes.push((path.clone(), stat));
        }
    }
    goes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    scan.named = named.into_iter().collect();
}

/// Adds the directories above the paths that were taken out of directories that do not go themselves.
fn add_parents(goes: &mut Vec<(RelPath, Stat)>, tree: &mut Beneath) {
    let have: BTreeSet<RelPath> = goes
        .iter()
        .filter(|(_, s)| s.is_dir())
        .map(|(p, _)| p.clone())
        .collect();
    let mut missing = BTreeSet::new();
    for (path, _) in goes.iter() {
        let bytes = path.as_bytes();
        for (i, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'/') {
            missing.extend(RelPath::new(&bytes[..i]).filter(|p| !have.contains(p)));
        }
    }
    for path in missing {
        if let Ok(Some(stat)) = tree.stat(&path) {
            goes.push((path, stat));
        }
    }
}

/// Whether a file stays because it holds secrets, as far as its name and, for some, its text tell.
fn is_withheld(path: &RelPath, stat: &Stat, options: &ScanOptions, tree: &mut Beneath) -> bool {
    let name = path.name();
    let secret = known::is_secret(path.as_bytes())
        || ((name == b".npmrc" || name == b".yarnrc.yml") && stat.size < 1 << 20 && {
            let mut text = Vec::new();
            let read = tree
                .read(path)
                .and_then(|(f, _)| f.take(1 << 20).read_to_end(&mut text));
            read.is_ok() && known::holds_token(&text)
        });
    secret
        && !options.include.iter().any(|pattern| {
            let pattern = pattern.trim_start_matches('/').as_bytes();
            wild::matches(
                pattern,
                if pattern.contains(&b'/') {
                    path.as_bytes()
                } else {
                    name
                },
            )
        })
}

/// Turns what goes into manifest entries, reading what the index does not know.
fn fill(tree: &Beneath, mut goes: Vec<(RelPath, Stat)>, options: &ScanOptions, scan: &mut Scan) {
    let index = options.index.as_deref().map(Index::load).unwrap_or_default();
    let mut lookup = index.lookup();
    // `None`: what is not there any more, or can't be read.
    let mut entries: Vec<Option<Entry>> = Vec::with_capacity(goes.len());
    let mut unread = Vec::new();
    let mut links = tree.again();
    for (i, (path, stat)) in goes.iter().enumerate() {
        entries.push(if stat.is_dir() {
            let mode = stat.permissions();
            Some(Entry::Dir { mode })
        } else if stat.is_symlink() {
            match links.read_link(path) {
                Ok(target) => Some(Entry::Symlink { target }),
                Err(e) => {
                    if !beneath::is_absent(&e) {
                        scan.unreadable.push(path.clone());
                    }
                    None
                }
            }
        } else {
            let known = lookup.get(path, stat).map(|hash| file_entry(stat, hash));
            if known.is_none() {
                unread.push(i);
            }
            known
        });
    }
    let unchanged = unread.is_empty() && lookup.found_all();
    drop(index);
    // Files whose stat does not vouch for what was read, in order.
    let mut unsettled = Vec::new();
    let paths: Vec<RelPath> = unread.iter().map(|i| goes[*i].0.clone()).collect();
    let read = hash_all(tree, &paths, options.threads.max(1));
    for (i, (read_ns, read)) in unread.into_iter().zip(read) {
        match read {
            Ok((stat, hash)) => {
                goes[i].1 = stat;
                entries[i] = Some(file_entry(&stat, hash));
                if !stat.is_settled(read_ns) {
                    unsettled.push(i);
                }
            }
            Err(e) if beneath::is_absent(&e) => {}
            Err(_) => scan.unreadable.push(goes[i].0.clone()),
        }
    }
    scan.unreadable.sort_unstable();
    if let Some(path) = &options.index
        && !unchanged
    {
        let mut writer = Writer::new(goes.len());
        let mut unsettled = unsettled.into_iter().peekable();
        for (i, ((path, stat), entry)) in goes.iter().zip(&entries).enumerate() {
            if let Some(Entry::File { hash, .. }) = entry
                && unsettled.next_if_eq(&i).is_none()
            {
                writer.push(path, stat, hash);
            }
        }
        // Without it the next scan only takes longer.
        let _ = writer.save(path);
    }
    let mut times = Vec::with_capacity(goes.len());
    let all = goes.into_iter().zip(entries);
    scan.manifest = all
        .filter_map(|((path, stat), entry)| {
            let entry = entry?;
            times.push(if stat.is_symlink() { UNKNOWN } else { stat.mtime_ns });
            Some((path, entry))
        })
        .collect();
    scan.times = Times::new(times);
}

fn file_entry(stat: &Stat, hash: Hash) -> Entry {
    Entry::File {
        mode: stat.permissions(),
        size: stat.size,
        hash,
    }
}

/// When the reading of a file began, and what was read.
type Hashed = (i64, io::Result<(Stat, Hash)>);

/// Reads files in parallel.
pub(crate) fn hash_all(tree: &Beneath, paths: &[RelPath], threads: usize) -> Vec<Hashed> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tree = tree.again();
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(i) else { break };
            let read_ns = super::now_ns();
            done.push((i, (read_ns, hash_file(&mut tree, path))));
        }
        done
    };
    // A thread costs more than a few small files.
    let helpers = if paths.len() < 16 { 0 } else { threads - 1 };
    let mut all = std::thread::scope(|scope| {
        // No thread is to be had where a limit is reached, and in a process that is just ending.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (0..helpers).filter_map(start).collect();
        let mut all = work();
        for o in others {
            all.extend(o.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_unstable_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, hashed)| hashed).collect()
}

/// The content of a regular file as one hash, with a stat under which it was whole: a file that changes while it is
/// read is read again.
pub(crate) fn hash_file(tree: &mut Beneath, path: &RelPath) -> io::Result<(Stat, Hash)> {
    let mut tries = 0;
    loop {
        let (mut file, before) = tree.read(path)?;
        // One more than its size, so that one read mostly meets its end too.
        let mut buf = vec![0u8; before.size.clamp(1 << 10, 64 << 10) as usize + 1];
        let mut hasher = blake3::Hasher::new();
        let mut size = 0u64;
        loop {
            match file.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&buf[..n]);
                    size += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let after = beneath::stat_file(&file)?;
        tries += 1;
        if (after == before && size == after.size) || tries == 3 {
            return Ok((Stat { size, ..after }, *hasher.finalize().as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests;
