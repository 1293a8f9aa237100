//! What comes back after a run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::outputs::Outputs;
use super::survey::Survey;
use super::{Mirror, Seen};
use crate::plan::delta::Touched;
use crate::plan::manifest::{Entry, Generation, Manifest, RelPath, generation};
use crate::proto::{BackSpec, Left};
use crate::sync::beneath::Beneath;
use crate::sync::known;
use crate::sync::pack::PackWriter;
use crate::sync::programs;
use crate::sync::scan::{hash_file, is_at_or_below};
use crate::sync::stage::Origin;
use crate::sync::stat::Stat;
use crate::sync::{SyncError, TMP_PREFIX};

/// What [`Mirror::collect`] wrote.
#[derive(Clone, Debug)]
pub struct Collected {
    /// Files in the pack.
    pub files: u64,
    /// Their bytes, uncompressed.
    pub bytes: u64,
    /// Paths in the pack that were deleted.
    pub deleted: u64,
    /// The pack changes nothing.
    pub is_empty: bool,
    /// The mirror's generation now.
    pub generation: Generation,
    /// Greater than that of every earlier collection of this mirror.
    pub sequence: i64,
    /// What is not in the pack.
    pub left: Left,
}

/// How many paths of each kind [`Left`] names.
const NAMED: usize = 100;

/// How many ignored files outside of caches are remembered.
const REMEMBERED: usize = 100_000;

impl Mirror {
    /// Writes a pack of what changed in the mirror since cx last applied or collected there, as far as `back` asks for it.
    /// `run_dir` is the run's directory, relative to the mirror, empty for its top.
    ///
    /// The mirror stays locked until all is written: give it a file or a buffer rather than a slow link. If writing fails,
    /// the next collect brings the same again.
    ///
    /// # Errors
    /// Those of reading the tree and of `out`.
    pub fn collect(
        &mut self,
        back: &BackSpec,
        run_dir: &[u8],
        out: &mut dyn Write,
    ) -> Result<Collected, SyncError> {
        let _lock = self.locked()?;
        self.refresh()?;
        let survey = self.survey_now(back, false)?;
        let mut tree = self.tree()?.unlocked();
        let named = Outputs::new(&back.brings, run_dir);
        let mut plan = Plan::default();
        self.plan_synced(&survey, back, &named, &mut plan);
        self.plan_touched(&survey, back, &named, &mut plan);
        let mut seen = self.plan_ignored(&survey, back, &named, &mut tree, &mut plan);
        self.plan_outputs(&named, &survey, &mut tree, back, &mut plan, &mut seen);
        plan.keep_within(back.limit);

        // What the mirror holds from now on: the truth about what is synced, and what joins.
        let changed = survey.changes.iter().map(|(p, e)| (p.clone(), e.clone()));
        let manifest = self.state.manifest.with(changed);
        add_parents(&mut plan, &manifest, &mut tree).map_err(|e| self.failed("failed to look at", e))?;

        let mut went = Vec::new();
        let mut learned = survey.known;
        let mut unread = survey.unread;
        let mut pack = PackWriter::new(out).map_err(|e| self.failed("failed to send what changed in", e))?;
        for path in plan.deletions.iter().rev() {
            pack.delete(path)
                .map_err(|e| self.failed("failed to send what changed in", e))?;
        }
        for (path, item) in &plan.puts {
            let sent = match pack.put(&mut tree, path, &item.entry, item.origin) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    unread.insert(path.clone());
                    None
                }
                sent => sent.map_err(|e| self.failed("failed to send what changed in", e))?,
            };
            let Some(sent) = sent else {
                // It vanished, or became something else, under our eyes: the next collect tells.
                went.push((path.clone(), self.state.manifest.get(path).cloned()));
                learned.insert(path.clone(), None);
                seen.remove(path);
                continue;
            };
            if sent != item.entry && !matches!(sent, Entry::Dir { .. }) && item.origin == Origin::Synced {
                learned.insert(path.clone(), None);
            }
            match item.origin {
                Origin::Apart => {
                    if let (Entry::File { hash, .. }, Some(s)) = (&sent, seen.get_mut(path)) {
                        s.hash = Some(*hash);
                    }
                }
                Origin::Synced | Origin::Joined => {
                    if item.origin == Origin::Joined && !matches!(sent, Entry::Dir { .. }) {
                        // A write while it was sent would have changed its time.
                        let stat = seen.remove(path).map(|s| s.stat);
                        let same = stat.is_some() && tree.stat(path).ok().flatten() == stat;
                        learned.insert(path.clone(), stat.filter(|_| same));
                    }
                    went.push((path.clone(), Some(sent)));
                }
            }
        }
        for (path, touched) in &plan.touches {
            pack.touch(path, &touched.entry, touched.origin, touched.touched)
                .map_err(|e| self.failed("failed to send what changed in", e))?;
        }
        let manifest = manifest.with(went);
        let (files, bytes) = (pack.files, pack.bytes);
        let generation = generation(&manifest);
        pack.end(generation)
            .map_err(|e| self.failed("failed to send what changed in", e))?;

        let seen: BTreeMap<_, _> = seen.into_iter().take(REMEMBERED).collect();
        if learned.is_empty() && manifest == self.state.manifest && seen == self.state.seen {
            self.save_time()?;
        } else {
            self.state.manifest = manifest;
            self.state.known.learn(learned, &self.state.manifest);
            self.state.seen = seen;
            self.save_state()?;
        }
        let sequence = self.state.newest_ns;
        let left = Left {
            stayed: first(plan.stayed),
            passing: first(plan.passing),
            over: first(plan.over),
            unread: first(unread),
        };
        Ok(Collected {
            files,
            bytes,
            deleted: plan.deletions.len() as u64,
            is_empty: plan.deletions.is_empty() && plan.puts.is_empty() && plan.touches.is_empty(),
            generation,
            sequence,
            left,
        })
    }

    /// Takes the ignored files as they are now for what no command made: after a set-up, they do not come back.
    ///
    /// # Errors
    /// As [`Mirror::collect`].
    pub fn settle(&mut self, back: &BackSpec) -> Result<(), SyncError> {
        let _lock = self.locked()?;
        self.refresh()?;
        self.watched = None;
        let survey = self.survey(back, None)?.0;
        let mut seen = survey.forgotten;
        for (path, stat) in survey.ignored.into_iter().chain(survey.ignored_dirs) {
            let before = self.state.seen.get(&path).filter(|s| s.stat == stat).copied();
            seen.insert(path, before.unwrap_or(Seen { stat, hash: None }));
        }
        // What a rule names in caches was seen at the last collection, and stays so.
        for (path, before) in &self.state.seen {
            seen.entry(path.clone()).or_insert(*before);
        }
        self.state.seen = seen.into_iter().take(REMEMBERED).collect();
        self.save_state()
    }

    /// Writes a pack of what stands at `paths`, and below them, whether it changed or not: at most `limit` bytes. What is not there
    /// is named in [`Left`].
    ///
    /// # Errors
    /// As [`Mirror::collect`].
    pub fn fetch(
        &mut self,
        paths: &[RelPath],
        limit: u64,
        out: &mut dyn Write,
    ) -> Result<Collected, SyncError> {
        let _lock = self.locked()?;
        self.refresh()?;
        let mut tree = self.tree()?.unlocked();
        let mut plan = Plan::default();
        let mut missing = Vec::new();
        for path in paths {
            if path.components().any(|c| c.eq_ignore_ascii_case(b".git"))
                || !take_all(&mut tree, path, &mut plan)
            {
                missing.push(path.clone());
            }
        }
        plan.keep_within(limit);
        add_parents(&mut plan, &Manifest::new(), &mut tree)
            .map_err(|e| self.failed("failed to look at", e))?;
        let failed = |e| self.failed("failed to send what was asked for of", e);
        let mut pack = PackWriter::new(out).map_err(failed)?;
        for (path, item) in &plan.puts {
            pack.put(&mut tree, path, &item.entry, Origin::Apart)
                .map_err(failed)?;
        }
        let (files, bytes) = (pack.files, pack.bytes);
        let generation = generation(&self.state.manifest);
        pack.end(generation).map_err(failed)?;
        let left = Left {
            stayed: missing,
            over: first(plan.over),
            ..Left::default()
        };
        Ok(Collected {
            files,
            bytes,
            deleted: 0,
            is_empty: plan.puts.is_empty(),
            generation,
            sequence: self.state.newest_ns,
            left,
        })
    }

    /// Changes among what is synced.
    fn plan_synced(&self, survey: &Survey, back: &BackSpec, named: &Outputs, plan: &mut Plan) {
        for (path, now) in &survey.changes {
            let wanted = comes(path, survey, back, named);
            match now {
                Some(entry) if wanted => {
                    plan.puts.insert(
                        path.clone(),
                        Item {
                            entry: entry.clone(),
                            origin: Origin::Synced,
                        },
                    );
                }
                None if back.scope >= 2 => {
                    plan.deletions.insert(path.clone());
                }
                Some(Entry::Dir { .. }) => {}
                _ => {
                    plan.passing.insert(path.clone());
                }
            }
        }
    }

    /// What is synced and only got another time.
    fn plan_touched(&self, survey: &Survey, back: &BackSpec, named: &Outputs, plan: &mut Plan) {
        for (path, touched) in &survey.touches {
            let wanted = comes(path, survey, back, named);
            if !wanted || plan.puts.contains_key(path) {
                continue;
            }
            match self.state.manifest.get(path) {
                Some(entry @ Entry::Dir { .. }) => {
                    let (entry, origin) = (entry.clone(), Origin::Synced);
                    plan.puts.insert(path.clone(), Item { entry, origin });
                }
                Some(entry) => plan.touch(path, entry.clone(), Origin::Synced, *touched),
                None => {}
            }
        }
    }

    /// Ignored files outside of the manifest and of caches. What was seen of them.
    fn plan_ignored(
        &self,
        survey: &Survey,
        back: &BackSpec,
        named: &Outputs,
        tree: &mut Beneath,
        plan: &mut Plan,
    ) -> BTreeMap<RelPath, Seen> {
        let mut seen = survey.forgotten.clone();
        let again: BTreeSet<&RelPath> = back.again.iter().collect();
        let here: BTreeSet<&[u8]> = back.exist_here.iter().map(RelPath::as_bytes).collect();
        for (path, stat) in &survey.ignored {
            let before = self.state.seen.get(path).copied();
            let before = before.filter(|_| !(named.wants(path, true) && again.contains(path)));
            let is_here = is_at_or_below(&here, path.as_bytes());
            let wanted = match back.scope {
                0 => false,
                1 => named.wants(path, true),
                _ => is_here || named.wants(path, true),
            };
            if let Some(now) = unchanged(before, stat, tree, path) {
                if wanted {
                    plan.touch_seen(path, before, &now);
                }
                seen.insert(path.clone(), now);
                continue;
            }
            seen.insert(
                path.clone(),
                Seen {
                    stat: *stat,
                    hash: None,
                },
            );
            if !wanted {
                // With a narrower scope, what would have come but for that.
                if back.scope >= 2 || is_here || named.wants(path, true) {
                    plan.stayed.insert(path.clone());
                }
                continue;
            }
            let origin = if is_here { Origin::Apart } else { Origin::Joined };
            plan.put(path, stat, origin, tree);
        }
        // Those that hold files come with them; this is for the empty ones.
        for (path, stat) in &survey.ignored_dirs {
            if let Some(settled) = self.state.seen.get(path).filter(|s| s.stat.is_dir()) {
                seen.insert(path.clone(), *settled);
                continue;
            }
            if back.scope >= 1 && named.wants(path, true) && !is_at_or_below(&here, path.as_bytes()) {
                let mode = stat.permissions();
                let (entry, origin) = (Entry::Dir { mode }, Origin::Joined);
                plan.puts.insert(path.clone(), Item { entry, origin });
            }
        }
        seen
    }

    /// What the rule names, in caches too.
    fn plan_outputs(
        &self,
        named: &Outputs,
        survey: &Survey,
        tree: &mut Beneath,
        back: &BackSpec,
        plan: &mut Plan,
        seen: &mut BTreeMap<RelPath, Seen>,
    ) {
        let again: BTreeSet<&RelPath> = back.again.iter().collect();
        let mut found = named.find(tree);
        if back.new_programs {
            found.extend(survey.caches.iter().flat_map(|dir| programs::look(tree, dir)));
        }
        for path in &back.programs {
            if let Ok(Some(stat)) = tree.stat(path)
                && stat.is_file()
                && programs::is_program(path.name(), stat.mode)
            {
                found.insert(path.clone(), stat);
            }
        }
        for (path, stat) in found {
            let synced = self.state.manifest.contains_key(&path) || survey.changes.contains_key(&path);
            if synced || survey.ignored.contains_key(&path) {
                continue;
            }
            let before = self.state.seen.get(&path).copied();
            let before = before.filter(|_| !again.contains(&path));
            if let Some(now) = unchanged(before, &stat, tree, &path) {
                if back.scope >= 1 {
                    plan.touch_seen(&path, before, &now);
                }
                seen.insert(path, now);
                continue;
            }
            seen.insert(path.clone(), Seen { stat, hash: None });
            if back.scope >= 1 {
                plan.put(&path, &stat, Origin::Apart, tree);
            } else {
                plan.stayed.insert(path);
            }
        }
        // What marks a cache comes with what lies in it: without, it would be taken for a directory of files to sync.
        for dir in &survey.caches {
            let Some(tag) = RelPath::below(Some(dir), known::TAG) else {
                continue;
            };
            let dir = BTreeSet::from([dir.as_bytes()]);
            let comes = plan.puts.keys().any(|p| is_at_or_below(&dir, p.as_bytes()));
            let before = self.state.seen.get(&tag).copied();
            let Ok(Some(stat)) = tree.stat(&tag) else { continue };
            if let Some(now) = unchanged(before, &stat, tree, &tag) {
                seen.insert(tag, now);
            } else if comes && stat.is_file() && !self.state.manifest.contains_key(&tag) {
                seen.insert(tag.clone(), Seen { stat, hash: None });
                plan.put(&tag, &stat, Origin::Apart, tree);
            }
        }
    }
}

/// As many as are named.
fn first(paths: BTreeSet<RelPath>) -> Vec<RelPath> {
    paths.into_iter().take(NAMED).collect()
}

/// Whether what changed of something that is synced comes back.
fn comes(path: &RelPath, survey: &Survey, back: &BackSpec, named: &Outputs) -> bool {
    match back.scope {
        0 => false,
        1 => named.wants(path, survey.ignored_changes.contains(path)),
        _ => true,
    }
}

/// Whether an ignored file is as it was when it was last seen, if it was.
fn unchanged(before: Option<Seen>, stat: &Stat, tree: &mut Beneath, path: &RelPath) -> Option<Seen> {
    let before = before?;
    if before.stat == *stat {
        return Some(before);
    }
    // Another link to it, or a touch, changes the stat and not the content.
    let same_kind = before.stat.size == stat.size && before.stat.mode == stat.mode && stat.is_file();
    let hash = before.hash.filter(|_| same_kind)?;
    let (stat, now) = hash_file(tree, path).ok()?;
    (now == hash).then_some(Seen {
        stat,
        hash: Some(hash),
    })
}

#[derive(Debug, Default)]
struct Plan {
    deletions: BTreeSet<RelPath>,
    puts: BTreeMap<RelPath, Item>,
    /// What is as it was but for its time.
    touches: BTreeMap<RelPath, TouchedItem>,
    stayed: BTreeSet<RelPath>,
    /// What is synced and does not come back.
    passing: BTreeSet<RelPath>,
    /// What would come back but for the limit.
    over: BTreeSet<RelPath>,
}

#[derive(Debug)]
struct TouchedItem {
    entry: Entry,
    origin: Origin,
    touched: Touched,
}

#[derive(Debug)]
struct Item {
    entry: Entry,
    origin: Origin,
}

impl Plan {
    fn put(&mut self, path: &RelPath, stat: &Stat, origin: Origin, tree: &mut Beneath) {
        let entry = if stat.is_symlink() {
            match tree.read_link(path) {
                Ok(target) => Entry::Symlink { target },
                Err(_) => return,
            }
        } else {
            // The hash is found while it is sent.
            Entry::File {
                mode: stat.permissions(),
                size: stat.size,
                hash: [0; 32],
            }
        };
        self.puts.insert(path.clone(), Item { entry, origin });
    }

    fn touch(&mut self, path: &RelPath, entry: Entry, origin: Origin, touched: Touched) {
        let item = TouchedItem {
            entry,
            origin,
            touched,
        };
        self.touches.insert(path.clone(), item);
    }

    /// The same for an output that came back before.
    fn touch_seen(&mut self, path: &RelPath, before: Option<Seen>, now: &Seen) {
        let Seen { stat, hash } = now;
        if let Some(before) = before
            && before.stat.mtime_ns != stat.mtime_ns
            && let Some(hash) = *hash
        {
            let entry = Entry::File {
                mode: stat.permissions(),
                size: stat.size,
                hash,
            };
            let touched = Touched {
                mtime_ns: stat.mtime_ns,
                back: stat.mtime_ns < before.stat.mtime_ns,
            };
            self.touch(path, entry, Origin::Apart, touched);
        }
    }

    /// Lets the largest files stay, ignored ones first, until the rest fits.
    fn keep_within(&mut self, limit: u64) {
        let size = |i: &Item| {
            if let Entry::File { size, .. } = i.entry {
                size
            } else {
                0
            }
        };
        let mut order: Vec<(bool, u64, RelPath)> = self
            .puts
            .iter()
            .map(|(p, i)| (i.origin != Origin::Synced, size(i), p.clone()))
            .collect();
        order.sort_unstable();
        let mut left = limit;
        for (_, size, path) in order {
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => {
                    self.puts.remove(&path);
                    self.over.insert(path);
                }
            }
        }
    }
}

/// Plans to send what stands at `path` with all below it; whether anything does.
fn take_all(tree: &mut Beneath, path: &RelPath, plan: &mut Plan) -> bool {
    let Ok(Some(stat)) = tree.stat(path) else {
        return false;
    };
    if !stat.is_dir() {
        let can_go = stat.is_file() || stat.is_symlink();
        if can_go {
            plan.put(path, &stat, Origin::Apart, tree);
        }
        return can_go;
    }
    let mode = stat.permissions();
    let (entry, origin) = (Entry::Dir { mode }, Origin::Apart);
    plan.puts.insert(path.clone(), Item { entry, origin });
    for name in tree.names(Some(path)).unwrap_or_default() {
        let skipped = name.eq_ignore_ascii_case(b".git") || name.starts_with(TMP_PREFIX.as_bytes());
        let below = [path.as_bytes(), b"/", &name].concat();
        if let Some(below) = RelPath::new(below).filter(|_| !skipped) {
            take_all(tree, &below, plan);
        }
    }
    true
}

/// Adds the ignored directories above what comes back.
fn add_parents(plan: &mut Plan, manifest: &Manifest, tree: &mut Beneath) -> io::Result<()> {
    let mut parents: BTreeMap<RelPath, Origin> = BTreeMap::new();
    for (path, item) in &plan.puts {
        let bytes = path.as_bytes();
        for (i, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let Some(parent) = RelPath::new(&bytes[..i]) else {
                continue;
            };
            if manifest.contains_key(&parent) || plan.puts.contains_key(&parent) {
                continue;
            }
            // What joins needs its directories in the manifest.
            let origin = parents.entry(parent).or_insert(item.origin);
            if item.origin != Origin::Apart {
                *origin = item.origin;
            }
        }
    }
    for (path, origin) in parents {
        if let Some(stat) = tree.stat(&path)?.filter(Stat::is_dir) {
            plan.puts.insert(
                path,
                Item {
                    entry: Entry::Dir {
                        mode: stat.permissions(),
                    },
                    origin,
                },
            );
        }
    }
    Ok(())
}
