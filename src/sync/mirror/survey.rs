//! What the tree holds now, against what it held when cx last looked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::iter::Peekable;

use super::{Mirror, Seen, State, stats};
use crate::plan::delta::Touched;
use crate::plan::manifest::{Entry, Hash, RelPath};
use crate::proto::BackSpec;
use crate::sync::beneath::Beneath;
use crate::sync::programs;
use crate::sync::scan::{hash_all, hash_file};
use crate::sync::stat::Stat;
use crate::sync::walk::{Class, Listed, WalkOptions, walk};
use crate::sync::watch::Watch;
use crate::sync::{SyncError, beneath};

/// The differences.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Survey {
    /// What changed among what is synced: what stands there now, `None` where it is gone.
    pub changes: BTreeMap<RelPath, Option<Entry>>,
    /// Which of the changed paths are ignored.
    pub ignored_changes: BTreeSet<RelPath>,
    /// Ignored files and links outside of the manifest (and of caches), all of them.
    pub ignored: BTreeMap<RelPath, Stat>,
    /// Ignored directories outside of the manifest (and of caches).
    pub ignored_dirs: BTreeMap<RelPath, Stat>,
    /// Caches that may be cargo's.
    pub caches: Vec<RelPath>,
    /// Files that are not ignored but were forgotten, and are as they were then.
    pub forgotten: BTreeMap<RelPath, Seen>,
    /// Of what is synced, the files and directories that are as they were but for their modification time: the new one, and
    /// whether it is older.
    pub touches: BTreeMap<RelPath, Touched>,
    /// What could not be read: another user's. It is told as it was, if it was.
    pub unread: BTreeSet<RelPath>,
    /// Stats to trust from now on; `None`: do not trust any.
    pub known: BTreeMap<RelPath, Option<Stat>>,
}

/// Past this many files an ignored directory on a node is not listed further.
const UNIT_FILES: u64 = 200_000;

impl Mirror {
    /// Takes the tree as it is for what it holds, as far as it differs.
    pub(super) fn mend(&mut self, back: &BackSpec) -> Result<(), SyncError> {
        let survey = self.survey_now(back, self.wanted)?;
        if survey.changes.is_empty() && survey.known.is_empty() {
            return Ok(());
        }
        if !survey.changes.is_empty() {
            self.note_stray()?;
        }
        self.state.manifest = self.state.manifest.with(survey.changes);
        self.state.known.learn(survey.known, &self.state.manifest);
        self.save_state()
    }

    /// Takes what stands in caches into the manifest, if all of it is as `entries` say. Needs the lock.
    pub(super) fn adopt(&mut self, entries: &[(RelPath, Entry)]) -> Result<(), SyncError> {
        let wanted: Vec<_> = entries
            .iter()
            .filter(|(p, e)| self.state.manifest.get(p) != Some(e))
            .cloned()
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut tree = self.tree()?.unlocked();
        let mut stats = Vec::new();
        for (path, entry) in &wanted {
            let Ok(Some(stat)) = tree.stat(path) else {
                return Ok(());
            };
            let read_ns = crate::sync::now_ns();
            let same = match entry {
                Entry::Dir { mode } => stat.is_dir() && stat.permissions() == *mode,
                Entry::File { mode, size, hash } => {
                    stat.is_file()
                        && stat.permissions() == *mode
                        && stat.size == *size
                        && self.hash_of(path, &stat, &mut tree) == Some(*hash)
                }
                Entry::Symlink { .. } => false,
            };
            if !same {
                return Ok(());
            }
            // Only a time that cannot hide a later write is trusted.
            if stat.is_file() && stat.is_settled(read_ns) {
                stats.push((path.clone(), Some(stat)));
            }
        }
        let wanted = wanted.into_iter().map(|(p, e)| (p, Some(e)));
        // In caches nobody watches.
        self.watched = None;
        self.state.manifest = self.state.manifest.with(wanted);
        self.state
            .known
            .learn(stats.into_iter().collect(), &self.state.manifest);
        self.save_state()
    }

    /// The hash of a file, remembered or read.
    fn hash_of(&self, path: &RelPath, stat: &Stat, tree: &mut Beneath) -> Option<Hash> {
        let seen = self.state.seen.get(path).filter(|s| s.stat == *stat);
        match seen.and_then(|s| s.hash) {
            Some(hash) => Some(hash),
            None => hash_file(tree, path).ok().map(|(_, hash)| hash),
        }
    }

    /// Compares the tree with the state, as little of it as will do, and with `keep` watches it from now on. Needs the lock.
    pub(super) fn survey_now(&mut self, back: &BackSpec, keep: bool) -> Result<Survey, SyncError> {
        let watched = self.watched.take().filter(|w| w.rules == back.extra_ignore);
        if let Some(mut watched) = watched
            && let Some(survey) = self.survey_touched(&mut watched)?
        {
            #[cfg(test)]
            {
                // Only how far stats are trusted may differ: that hangs on the time.
                let (mut a, mut b) = (survey.clone(), self.survey(back, None)?.0);
                (a.known, b.known) = Default::default();
                assert_eq!(a, b, "what was touched is all that changed");
            }
            self.watched = Some(watched).filter(|_| keep);
            return Ok(survey);
        }
        let watch = match keep {
            true => Watch::new(self.tree()?.root_fd()),
            false => None,
        };
        let (survey, watched) = self.survey(back, watch)?;
        self.watched = watched;
        Ok(survey)
    }

    /// Compares the tree with the state, and goes on watching it with `watch`. Needs the lock.
    pub(super) fn survey(
        &self,
        back: &BackSpec,
        watch: Option<Watch>,
    ) -> Result<(Survey, Option<Watched>), SyncError> {
        let tree = self.tree()?.unlocked();
        let options = WalkOptions {
            extra_ignore: &back.extra_ignore,
            also_caches: &[],
            unit_bytes: u64::MAX,
            unit_files: UNIT_FILES,
            threads: threads(),
            watch: watch.as_ref(),
        };
        let walked = walk(&tree, &options).map_err(|e| self.failed("failed to list", e))?;
        let failed = |e| self.failed("failed to look at", e);
        let is_whole = !walked.units.iter().any(|u| u.over);
        let mut aside = walked.linked;
        let unread = walked.unreadable.into_iter().filter_map(RelPath::new).collect();
        let before = Survey {
            unread,
            ..Survey::default()
        };
        let mut look = Look::new(&self.state, &tree, before);
        let mut rest = self.state.manifest.iter().peekable();
        for found in walked.found {
            let path = found.path;
            // Manifest paths that the walk did not come to.
            while let Some((missed, entry)) = rest.next_if(|(p, _)| **p < path) {
                aside.push(missed.clone());
                look.missed(missed, entry).map_err(failed)?;
            }
            let entry = rest.next_if(|(p, _)| **p == path).map(|(_, e)| e);
            if found.class == Class::Cache && programs::may_be_cargos(&path) {
                look.survey.caches.push(path.clone());
            }
            look.found(path, entry, found.stat, found.class).map_err(failed)?;
        }
        for (missed, entry) in rest {
            aside.push(missed.clone());
            look.missed(missed, entry).map_err(failed)?;
        }
        let survey = look.read(&tree, options.threads);
        let is_whole = is_whole && survey.unread.is_empty();
        let watched = watch.filter(|w| is_whole && w.is_whole()).map(|watch| Watched {
            watch,
            dirs: walked.listed.into_iter().map(|d| (d.number, d)).collect(),
            aside,
            rules: back.extra_ignore.clone(),
            before: survey.without_changes(),
        });
        Ok((survey, watched))
    }

    /// The same for a tree that was watched since `watched` was made: only what was touched is looked at. `None` where that would
    /// not do. Needs the lock.
    fn survey_touched(&self, watched: &mut Watched) -> Result<Option<Survey>, SyncError> {
        let failed = |e| self.failed("failed to look at", e);
        let Some(touched) = watched.watch.touched(&watched.dirs) else {
            return Ok(None);
        };
        // What lies in them has changed, and so have their times.
        let around: BTreeSet<RelPath> = touched.iter().filter_map(RelPath::parent).collect();
        // One of them may have got another name meanwhile, or may be told of no more than this once.
        watched.aside.extend(touched);
        watched.aside.sort_unstable();
        watched.aside.dedup();
        let paths: BTreeSet<&RelPath> = watched.aside.iter().chain(&around).collect();
        let dirs: HashMap<Option<&RelPath>, &Listed> =
            watched.dirs.values().map(|d| (d.path.as_ref(), d)).collect();
        let mut tree = self.tree()?.unlocked();
        let mut look = Look::new(&self.state, &tree, watched.before.clone());
        for path in paths.into_iter().cloned() {
            look.survey.ignored.remove(&path);
            look.survey.forgotten.remove(&path);
            let entry = self.state.manifest.get(&path);
            let parent = path.parent();
            let Some(dir) = dirs.get(&parent.as_ref()) else {
                // In a cache, or otherwise shut out: only what is synced counts.
                if let Some(entry) = entry {
                    look.missed(&path, entry).map_err(failed)?;
                }
                continue;
            };
            let Ok(now) = tree.stat(&path) else {
                return Ok(None);
            };
            match (now, entry) {
                (Some(stat), entry) if stat.is_dir() && around.contains(&path) => match entry {
                    Some(entry @ Entry::Dir { .. }) => {
                        look.compare(&path, entry, &stat, false).map_err(failed)?;
                    }
                    Some(_) => return Ok(None),
                    None => {
                        if let Some(known) = look.survey.ignored_dirs.get_mut(&path) {
                            *known = stat;
                        }
                    }
                },
                (Some(stat), _) if stat.is_dir() => return Ok(None),
                (Some(stat), _) => {
                    let class = dir.classify(&path);
                    look.found(path, entry, stat, class).map_err(failed)?;
                }
                (None, Some(_)) => look.change(&path, None, false),
                (None, None) => {}
            }
        }
        let survey = look.read(&tree, threads());
        if !survey.unread.is_empty() {
            return Ok(None);
        }
        watched.before = survey.without_changes();
        Ok(Some(survey))
    }
}

impl Survey {
    /// What was found, as far as that is no change.
    fn without_changes(&self) -> Survey {
        Survey {
            ignored: self.ignored.clone(),
            ignored_dirs: self.ignored_dirs.clone(),
            forgotten: self.forgotten.clone(),
            caches: self.caches.clone(),
            ..Survey::default()
        }
    }
}

/// A tree that was looked at, and is watched since.
#[derive(Debug)]
pub(super) struct Watched {
    watch: Watch,
    dirs: HashMap<i32, Listed>,
    /// Paths that are looked at whatever the watch says: it does not see them, or not all that happens to them.
    aside: Vec<RelPath>,
    /// The ignore rules from outside the tree.
    rules: Vec<Vec<u8>>,
    /// What was found then, as far as that is no change.
    before: Survey,
}

impl Watched {
    /// Whether what happens to all of `paths` would be seen.
    pub(super) fn sees<'p>(&self, mut paths: impl Iterator<Item = &'p RelPath>) -> bool {
        let dirs: HashSet<Option<&RelPath>> = self.dirs.values().map(|d| d.path.as_ref()).collect();
        paths.all(|p| dirs.contains(&p.parent().as_ref()) || self.aside.contains(p))
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(2))
}

struct Look<'a> {
    state: &'a State,
    /// Those of the stats that are still to come: paths are compared in their order.
    known: Peekable<stats::Iter<'a>>,
    tree: Beneath,
    survey: Survey,
    /// Files whose content must be read to know.
    unread: Vec<RelPath>,
}

impl<'a> Look<'a> {
    fn new(state: &'a State, tree: &Beneath, survey: Survey) -> Look<'a> {
        Look {
            state,
            known: state.known.iter().peekable(),
            tree: tree.again(),
            survey,
            unread: Vec::new(),
        }
    }

    /// Looks at what stands at `path`, where `entry` is expected; paths come in ascending order.
    fn found(
        &mut self,
        path: RelPath,
        entry: Option<&Entry>,
        stat: Stat,
        class: Class,
    ) -> std::io::Result<()> {
        match (entry, class) {
            (Some(entry), class) => self.compare(&path, entry, &stat, class != Class::Plain)?,
            (None, Class::Cache | Class::Shut) => {}
            (None, Class::Ignored(_)) => {
                if stat.is_file() || stat.is_symlink() {
                    self.survey.ignored.insert(path, stat);
                } else if stat.is_dir() {
                    self.survey.ignored_dirs.insert(path, stat);
                }
            }
            (None, Class::Plain) if self.is_seen(&path, &stat) => {
                self.survey.forgotten.insert(path, Seen { stat, hash: None });
            }
            (None, Class::Plain) => drop(self.read_later(&path, &stat)?),
        }
        Ok(())
    }

    fn is_seen(&self, path: &RelPath, stat: &Stat) -> bool {
        self.state.seen.get(path).is_some_and(|s| s.stat == *stat)
    }

    fn missed(&mut self, path: &RelPath, entry: &Entry) -> std::io::Result<()> {
        match self.tree.stat(path) {
            // It lies in a directory that is named as unreadable.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
            Err(e) => Err(e),
            Ok(Some(stat)) => self.compare(path, entry, &stat, true),
            Ok(None) => {
                self.change(path, None, false);
                Ok(())
            }
        }
    }

    fn compare(&mut self, path: &RelPath, entry: &Entry, stat: &Stat, ignored: bool) -> std::io::Result<()> {
        match entry {
            Entry::Dir { mode } if stat.is_dir() => {
                if !self.is_known(path, stat) {
                    self.touch(path, stat);
                    self.survey.known.insert(path.clone(), Some(*stat));
                }
                if *mode != stat.permissions() {
                    self.change(
                        path,
                        Some(Entry::Dir {
                            mode: stat.permissions(),
                        }),
                        ignored,
                    );
                }
            }
            _ if self.is_known(path, stat) => {}
            _ => {
                if ignored {
                    self.survey.ignored_changes.insert(path.clone());
                }
                if !self.read_later(path, stat)? {
                    self.change(path, None, ignored);
                }
            }
        }
        Ok(())
    }

    /// Whether the path was last seen with this very stat.
    fn is_known(&mut self, path: &RelPath, stat: &Stat) -> bool {
        while self.known.next_if(|(p, _)| p < path).is_some() {}
        self.known
            .next_if(|(p, _)| p == path)
            .is_some_and(|(_, s)| s == stat)
    }

    /// Notes what stands at a path that is new or may have changed; whether it is something that can be synced.
    fn read_later(&mut self, path: &RelPath, stat: &Stat) -> std::io::Result<bool> {
        if stat.is_dir() {
            self.change(
                path,
                Some(Entry::Dir {
                    mode: stat.permissions(),
                }),
                false,
            );
        } else if stat.is_file() {
            self.unread.push(path.clone());
        } else if stat.is_symlink() {
            match self.tree.read_link(path) {
                Ok(target) => {
                    self.survey.known.insert(path.clone(), Some(*stat));
                    self.change(path, Some(Entry::Symlink { target }), false);
                }
                Err(e) if beneath::is_absent(&e) => {}
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                    self.survey.unread.insert(path.clone());
                }
                Err(e) => return Err(e),
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Notes that it is not as old as it was, if that is known.
    fn touch(&mut self, path: &RelPath, stat: &Stat) {
        if let Some(before) = self.state.known.get(path)
            && before.mtime_ns != stat.mtime_ns
        {
            let (mtime_ns, back) = (stat.mtime_ns, stat.mtime_ns < before.mtime_ns);
            let touched = Touched { mtime_ns, back };
            self.survey.touches.insert(path.clone(), touched);
        }
    }

    fn change(&mut self, path: &RelPath, now: Option<Entry>, ignored: bool) {
        if self.state.manifest.get(path) != now.as_ref() {
            if ignored {
                self.survey.ignored_changes.insert(path.clone());
            }
            self.survey.changes.insert(path.clone(), now);
        }
    }

    fn read(mut self, tree: &Beneath, threads: usize) -> Survey {
        let unread = std::mem::take(&mut self.unread);
        let read = hash_all(tree, &unread, threads);
        for (path, (read_ns, read)) in unread.into_iter().zip(read) {
            match read {
                Ok((stat, hash)) => {
                    let is_settled = stat.is_settled(read_ns);
                    let known = if is_settled { stat } else { stat.untrusted() };
                    self.survey.known.insert(path.clone(), Some(known));
                    let entry = Entry::File {
                        mode: stat.permissions(),
                        size: stat.size,
                        hash,
                    };
                    if self.state.manifest.get(&path) == Some(&entry) {
                        self.touch(&path, &stat);
                    }
                    self.change(&path, Some(entry), false);
                }
                Err(e) if beneath::is_absent(&e) => self.change(&path, None, false),
                Err(_) => drop(self.survey.unread.insert(path)),
            }
        }
        self.survey
    }
}
