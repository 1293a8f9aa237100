//! What the tree holds now, against what it held when cx last looked.

use std::collections::BTreeMap;
use std::iter::Peekable;

use super::{Mirror, Seen, State, stats};
use crate::plan::manifest::{Entry, RelPath};
use crate::proto::BackSpec;
use crate::sync::beneath::Beneath;
use crate::sync::scan::hash_all;
use crate::sync::stat::Stat;
use crate::sync::walk::{Class, WalkOptions, walk};
use crate::sync::{SyncError, beneath};

/// The differences.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// What changed among what is synced: what stands there now, `None` where it is gone.
    pub changes: BTreeMap<RelPath, Option<Entry>>,
    /// Which of the changed paths are ignored.
    pub ignored_changes: std::collections::BTreeSet<RelPath>,
    /// Ignored files and links outside of the manifest (and of caches), all of them.
    pub ignored: BTreeMap<RelPath, Stat>,
    /// Ignored directories outside of the manifest (and of caches).
    pub ignored_dirs: BTreeMap<RelPath, Stat>,
    /// Files that are not ignored but were forgotten, and are as they were then.
    pub forgotten: BTreeMap<RelPath, Seen>,
    /// Stats to trust from now on; `None`: do not trust any.
    pub known: BTreeMap<RelPath, Option<Stat>>,
}

/// Past this many files an ignored directory on a node is not listed further.
const UNIT_FILES: u64 = 200_000;

impl Mirror {
    /// Takes the tree as it is for what it holds, as far as it differs.
    pub(super) fn mend(&mut self, back: &BackSpec) -> Result<(), SyncError> {
        let survey = self.survey(back)?;
        if survey.changes.is_empty() && survey.known.is_empty() {
            return Ok(());
        }
        self.state.manifest = self.state.manifest.with(survey.changes);
        self.state.known.learn(survey.known, &self.state.manifest);
        self.save_state()
    }

    /// Compares the tree with the state. Needs the lock.
    pub(super) fn survey(&self, back: &BackSpec) -> Result<Survey, SyncError> {
        let tree = self.tree()?;
        let options = WalkOptions {
            extra_ignore: &back.extra_ignore,
            also_caches: &[],
            unit_bytes: u64::MAX,
            unit_files: UNIT_FILES,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(2)),
        };
        let walked = walk(&tree, &options).map_err(|e| self.failed("failed to list", e))?;
        let mut look = Look {
            state: &self.state,
            known: self.state.known.iter().peekable(),
            tree: tree.again(),
            survey: Survey::default(),
            unread: Vec::new(),
        };
        let mut rest = self.state.manifest.iter().peekable();
        for found in walked.found {
            let path = found.path;
            // Manifest paths that the walk did not come to.
            while let Some((missed, entry)) = rest.next_if(|(p, _)| **p < path) {
                look.missed(missed, entry)
                    .map_err(|e| self.failed("failed to look at", e))?;
            }
            let entry = rest.next_if(|(p, _)| **p == path).map(|(_, e)| e);
            let is_ignored = matches!(found.class, Class::Ignored(_));
            match (entry, found.class) {
                (Some(entry), class) => {
                    let shut = matches!(class, Class::Cache | Class::Shut);
                    look.compare(&path, entry, &found.stat, is_ignored || shut)
                        .map_err(|e| self.failed("failed to look at", e))?;
                }
                (None, Class::Cache | Class::Shut) => {}
                (None, Class::Ignored(_)) => {
                    if found.stat.is_file() || found.stat.is_symlink() {
                        look.survey.ignored.insert(path, found.stat);
                    } else if found.stat.is_dir() {
                        look.survey.ignored_dirs.insert(path, found.stat);
                    }
                }
                (None, Class::Plain) if self.is_seen(&path, &found.stat) => {
                    look.survey.forgotten.insert(
                        path,
                        Seen {
                            stat: found.stat,
                            hash: None,
                        },
                    );
                }
                (None, Class::Plain) => {
                    look.read_later(&path, &found.stat)
                        .map(drop)
                        .map_err(|e| self.failed("failed to look at", e))?;
                }
            }
        }
        for (missed, entry) in rest {
            look.missed(missed, entry)
                .map_err(|e| self.failed("failed to look at", e))?;
        }
        Ok(look.read(&tree, options.threads))
    }

    fn is_seen(&self, path: &RelPath, stat: &Stat) -> bool {
        self.state.seen.get(path).is_some_and(|s| s.stat == *stat)
    }
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

impl Look<'_> {
    fn missed(&mut self, path: &RelPath, entry: &Entry) -> std::io::Result<()> {
        match self.tree.stat(path)? {
            Some(stat) => self.compare(path, entry, &stat, true),
            None => {
                self.change(path, None, false);
                Ok(())
            }
        }
    }

    fn compare(&mut self, path: &RelPath, entry: &Entry, stat: &Stat, ignored: bool) -> std::io::Result<()> {
        match entry {
            Entry::Dir { mode } if stat.is_dir() => {
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
                Err(e) => return Err(e),
            }
        } else {
            return Ok(false);
        }
        Ok(true)
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
                    self.survey
                        .known
                        .insert(path.clone(), stat.is_settled(read_ns).then_some(stat));
                    let entry = Entry::File {
                        mode: stat.permissions(),
                        size: stat.size,
                        hash,
                    };
                    self.change(&path, Some(entry), false);
                }
                Err(e) if beneath::is_absent(&e) => self.change(&path, None, false),
                // What cannot be read is not known; a file that was, is told as it was.
                Err(_) => {}
            }
        }
        self.survey
    }
}
