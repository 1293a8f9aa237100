//! The workspace's side of a run: the scan, the pack for one node, and what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::config::WriteBack;
use crate::paths::Paths;
use crate::plan::delta::{Delta, delta_keeping};
use crate::plan::manifest::{Entry, Generation, Manifest, RelPath, generation};
use crate::proto::{BackSpec, Exit, INLINE_PACK, MirrorKey};
use crate::sync::{
    self, BackContext, GitMeta, Packed, Programs, Records, Repository, Rests, Scan, ScanOptions, Sent,
    Staged, Workspace,
};

/// Files of so many bytes in all are packed in memory; more goes out while it is packed.
const IN_MEMORY: u64 = 4 << 20;

/// A workspace as it was scanned for one command.
#[derive(Clone)]
pub struct Tree {
    /// The workspace.
    pub ws: Workspace,
    /// The mirror's key.
    pub key: MirrorKey,
    /// The run's directory, relative to the root.
    pub dir: Vec<u8>,
    /// What was found.
    pub scan: Scan,
    /// What comes back; `scope` is set per node.
    pub back: BackSpec,
    /// The small repository that the mirror gets, in a git workspace.
    pub repository: Option<Repository>,
    /// The files that the command names.
    pub asked: Vec<RelPath>,
    /// Why the command can run only here, as the tree shows: what it names does not go.
    pub stays: Option<String>,
    /// Whether the command brings its outputs up to date: then those that were lost here come again.
    pub rebuilds: bool,
    /// cx's own directories.
    pub paths: Arc<Paths>,
    /// What the mirrors are believed to hold.
    pub records: Records,
    /// How long the scan took.
    pub took: Duration,
}

/// What this machine believes the mirrors hold.
pub fn records(paths: &Paths) -> Records {
    Records::new(paths.cache.join("mirrors"))
}

/// What turns one node's mirror into the wanted tree.
pub struct Pack {
    /// The generation it starts from.
    pub from: Generation,
    /// The compressed bytes, where they are small; otherwise [`Tree::stream`] makes them.
    pub bytes: Option<Vec<u8>>,
    /// Files that change, and their bytes.
    pub changes: (u64, u64),
    /// Outputs that came from there and are not here any more as they came.
    pub again: Vec<RelPath>,
    /// Those of cargo's that it takes away there.
    programs: Programs,
    /// What the generation it starts from holds besides what both agreed on, see [`crate::proto::MirrorSpec::adopt`].
    pub adopt: Vec<(RelPath, Entry)>,
    delta: Delta,
    /// What the mirror is to hold, where that is not what was scanned.
    want: Option<Manifest>,
    /// Other runs are live in the mirror.
    shared: bool,
    /// What stays there as it is, though the scan did not find it here.
    spared: Vec<RelPath>,
    /// The record is wrong, or lacks something.
    is_news: bool,
    /// The small repository, where the mirror lacks it.
    repository: Option<GitMeta>,
    /// What was sent, once it was.
    pub packed: Option<Packed>,
    /// Whether it may travel in the first packet.
    pub is_inline: bool,
    /// How long it took to make.
    pub took: Duration,
}

impl Pack {
    /// What a run that was started earlier had sent.
    pub fn of_sent(manifest: Manifest) -> Pack {
        Pack {
            from: generation(&manifest),
            bytes: None,
            changes: (0, 0),
            again: Vec::new(),
            programs: Programs::default(),
            adopt: Vec::new(),
            delta: Delta::default(),
            want: None,
            shared: false,
            spared: Vec::new(),
            is_news: false,
            repository: None,
            packed: Some(Packed {
                files: 0,
                bytes: 0,
                manifest,
            }),
            is_inline: true,
            took: Duration::ZERO,
        }
    }

    /// The generation after it, once all was read.
    pub fn to(&self) -> Option<Generation> {
        self.packed.as_ref().map(|p| generation(&p.manifest))
    }

    /// Drops the bytes: they are not to be sent.
    pub fn forget(&mut self) {
        (self.bytes, self.packed) = (None, None);
    }
}

/// What was done with what came back.
#[derive(Debug, Default)]
pub struct Applied {
    /// Files written, and their bytes.
    pub files: (u64, u64),
    /// Files deleted.
    pub deleted: u64,
    /// Things a person must know.
    pub notes: Vec<String>,
    /// What could not be put in place, and why: one clause.
    pub failed: Option<String>,
}

impl Tree {
    /// The same for a node of another platform, which has no use for the programs of this one, nor has this one for those made there:
    /// only what the command names goes.
    pub fn for_another_platform(&self) -> Tree {
        let mut tree = self.clone();
        let scan = &mut tree.scan;
        let programs: BTreeSet<RelPath> = std::mem::take(&mut scan.programs)
            .into_iter()
            .map(|(p, _)| p)
            .filter(|p| !self.asked.contains(p))
            .collect();
        scan.named.retain(|p| !programs.contains(p));
        let manifest = scan.manifest.with(programs.into_iter().map(|p| (p, None)));
        scan.times = scan.times.moved(&scan.manifest, &manifest);
        scan.manifest = manifest;
        (tree.back.programs, tree.back.new_programs) = (Vec::new(), false);
        tree
    }

    /// The pack for `node`, whose mirror holds `have` (and whether other runs are live in it), or what we remember of it.
    ///
    /// # Errors
    /// When the tree can't be read; one clause.
    pub async fn pack_for(
        self: &Arc<Self>,
        node: &str,
        have: Option<(Manifest, bool)>,
    ) -> Result<Pack, String> {
        let (tree, node) = (self.clone(), node.to_owned());
        let work = tokio::task::spawn_blocking(move || tree.pack_now(&node, have));
        match work.await {
            Ok(Ok(p)) => Ok(p),
            Ok(Err(e)) => Err(format!("the workspace can't be read: {e}")),
            Err(_) => Err("packing failed".into()),
        }
    }

    fn pack_now(&self, node: &str, have: Option<(Manifest, bool)>) -> std::io::Result<Pack> {
        let begun = Instant::now();
        let is_shared = have.as_ref().is_some_and(|(_, shared)| *shared);
        if is_shared {
            // What the scan may have found is in the record only once whoever brought that home has noted so.
            self.lock_file()?.lock_shared()?;
        }
        let record = self.records.load(&self.ws.key, node);
        // A mirror that is not what we believed may have lost its repository, too.
        let stale_repository = have.is_some() || record.repository != self.repository.as_ref().map(|r| r.id);
        let mut programs = record.programs(&self.ws.root, &self.scan);
        let mut again = std::mem::take(&mut programs.again);
        if self.rebuilds {
            again.extend(record.missing_outputs(&self.ws.root));
        }
        let vanished = record.vanished(&self.ws.root);
        // Whether what is ahead there has come home, only the node can tell.
        let must_ask = have.is_none() && record.is_behind();
        let adopt = if have.is_none() {
            record.adoptable(&self.ws.root, &self.scan)
        } else {
            Vec::new()
        };
        let mut is_news = have.is_some() || !adopt.is_empty() || record.unsent != self.scan.unsent;
        let (have, now) = match have {
            // One that holds nothing was made anew: nobody deleted what both agreed on.
            Some((have, true)) if !have.is_empty() => {
                let beside = record.beside_others(&self.scan.manifest, &have, self.scan.began_ns);
                (have, Some(beside))
            }
            other => {
                let adopted = adopt.iter().map(|(p, e)| (p.clone(), Some(e.clone())));
                let have = other.map_or_else(|| record.manifest.with(adopted), |(have, _)| have);
                (have, None)
            }
        };
        let mut want = now;
        let rests = record.resting(&self.ws.root, &self.scan, &have);
        let same = |(p, r): (&RelPath, &Rests)| {
            let held = have.get(p).filter(|_| *r == Rests::Same)?;
            Some((p.clone(), Some(held.clone())))
        };
        let same: Vec<_> = rests.iter().filter_map(same).collect();
        if !same.is_empty() {
            want = Some(want.as_ref().unwrap_or(&self.scan.manifest).with(same));
        }
        let aim = want.as_ref().unwrap_or(&self.scan.manifest);
        is_news |= record.named != record.still_named(&self.scan, aim);
        let mut d = delta_keeping(&have, aim, |p| rests.get(p) == Some(&Rests::Unknown));
        let (files, dirs) = record.touched(&self.scan, &have);
        d.touches = files;
        d.upserts.extend(dirs);
        let spared = self.spare_the_young(&mut d, &have, &mut want);
        d.deletions
            .extend(vanished.into_iter().filter(|p| !have.contains_key(p)));
        // Another run may be using what it found.
        programs
            .stale
            .retain(|(p, _)| !is_shared && !have.contains_key(p));
        d.deletions.extend(programs.stale.iter().map(|(p, _)| p.clone()));
        let size: u64 = d
            .upserts
            .iter()
            .map(|p| match self.scan.manifest.get(p) {
                Some(Entry::File { size, .. }) => *size,
                _ => 0,
            })
            .sum();
        let from = if must_ask {
            Generation([0; 32])
        } else {
            generation(&have)
        };
        let repository = self.repository.as_ref().filter(|_| stale_repository);
        let repository = repository.and_then(Repository::load);
        let mut pack = Pack {
            from,
            bytes: None,
            changes: (d.upserts.len() as u64, size),
            again,
            programs,
            adopt,
            delta: d,
            want,
            shared: is_shared,
            spared,
            is_news,
            repository,
            packed: None,
            is_inline: false,
            took: Duration::ZERO,
        };
        if size <= IN_MEMORY && !must_ask {
            let mut bytes = Vec::new();
            let repository = pack.repository.as_ref();
            pack.packed = Some(sync::write_pack_with(
                &self.ws.root,
                &pack.delta,
                pack.want.as_ref().unwrap_or(&self.scan.manifest),
                repository,
                &mut bytes,
            )?);
            pack.is_inline = bytes.len() <= INLINE_PACK;
            pack.bytes = Some(bytes);
        }
        pack.took = begun.elapsed();
        Ok(pack)
    }

    /// Held while something is put in place here and noted.
    fn lock_file(&self) -> std::io::Result<std::fs::File> {
        let name = format!("tree-{}", self.ws.key);
        crate::paths::lock_file(&self.paths.cache.join("locks").join(name))
    }

    /// Takes from the deletions what another cx brought here since the scan began, and says which that was; `want` becomes what the
    /// mirror is then to hold.
    fn spare_the_young(&self, d: &mut Delta, have: &Manifest, want: &mut Option<Manifest>) -> Vec<RelPath> {
        let scanned = want.as_ref().unwrap_or(&self.scan.manifest);
        let (mut deletions, mut spared) = (Vec::new(), BTreeMap::new());
        // Directories before what lies in them.
        for path in std::mem::take(&mut d.deletions).into_iter().rev() {
            let stands = path.parent().is_none_or(|p| {
                let wanted = spared.get(&p).map_or_else(|| scanned.get(&p), Option::as_ref);
                matches!(wanted, Some(Entry::Dir { .. }))
            });
            if stands
                && sync::is_younger(&self.ws.root, &path, self.scan.began_ns)
                && let Some(entry) = have.get(&path)
            {
                spared.insert(path, Some(entry.clone()));
            } else {
                deletions.push(path);
            }
        }
        let paths = spared.keys().cloned().collect();
        if !spared.is_empty() {
            *want = Some(scanned.with(spared));
        }
        deletions.reverse();
        d.deletions = deletions;
        paths
    }

    /// Packs into the channel; for packs that are too large for memory.
    pub fn stream(
        self: &Arc<Self>,
        pack: &Pack,
        to: mpsc::Sender<Vec<u8>>,
    ) -> tokio::task::JoinHandle<std::io::Result<Packed>> {
        let tree = self.clone();
        let (d, want, repository) = (pack.delta.clone(), pack.want.clone(), pack.repository.clone());
        tokio::task::spawn_blocking(move || {
            let mut out = ChannelWriter {
                to,
                piece: Vec::new(),
            };
            let packed = sync::write_pack_with(
                &tree.ws.root,
                &d,
                want.as_ref().unwrap_or(&tree.scan.manifest),
                repository.as_ref(),
                &mut out,
            )?;
            out.flush()?;
            Ok(packed)
        })
    }

    /// Programs of cargo's that stand here and, by what is known, not there.
    pub fn programs_not_on(&self, node: &str) -> Vec<RelPath> {
        let record = self.records.load(&self.ws.key, node);
        record.programs(&self.ws.root, &self.scan).again
    }

    /// Remembers that the mirror now holds what was sent.
    pub fn synced(&self, node: &str, pack: &Pack, sequence: i64) {
        if let Some(p) = &pack.packed
            && (pack.is_news || !pack.delta.is_empty() || pack.repository.is_some())
        {
            // Losing this costs one exchange of manifests.
            let _ = self.records.update(&self.ws.key, node, |r| {
                r.sent(&Sent {
                    manifest: &p.manifest,
                    only: pack.shared.then_some(&pack.delta),
                    spared: &pack.spared,
                    scan: &self.scan,
                    sequence,
                });
                r.unsent = self.scan.unsent.clone();
                r.note_named(&self.ws.root, &self.scan, &p.manifest);
                r.removed.extend(pack.programs.stale.iter().cloned());
                if let Some(repository) = &pack.repository {
                    r.repository = Some(repository.id);
                }
            });
        }
    }

    /// What stands for a sync where none took place: what was agreed on last.
    pub fn as_sent_before(&self, node: &str) -> Packed {
        Packed {
            manifest: self.records.load(&self.ws.key, node).manifest,
            ..Packed::default()
        }
    }

    /// Starts taking what comes back: of a run, or (`is_asked`) what a person named.
    pub fn incoming(&self, id: &str, limit: u64, is_asked: bool) -> Incoming {
        let dir = super::run::incoming_dir(&self.paths.cache, id);
        let (tx, rx) = mpsc::channel::<Vec<u8>>(8);
        let work = tokio::task::spawn_blocking(move || {
            if let Some(parent) = dir.parent() {
                crate::paths::private_dir(parent).map_err(|e| e.to_string())?;
            }
            let mut input = ChannelReader {
                from: rx,
                piece: Vec::new(),
                at: 0,
            };
            let staged = sync::stage(&mut input, &dir, limit).map_err(|e| e.to_string());
            // What follows a broken pack is read and dropped, so that the exit is still heard.
            while input.from.blocking_recv().is_some() {}
            staged
        });
        Incoming {
            tx: Some(tx),
            work,
            is_asked,
        }
    }
}

/// What comes back, on its way to a directory of its own.
pub struct Incoming {
    tx: Option<mpsc::Sender<Vec<u8>>>,
    work: tokio::task::JoinHandle<Result<Staged, String>>,
    is_asked: bool,
}

impl Incoming {
    /// Takes a piece.
    pub async fn feed(&mut self, piece: Vec<u8>) {
        if let Some(tx) = &self.tx {
            let _ = tx.send(piece).await;
        }
    }

    /// Applies it to the workspace once it is complete.
    ///
    /// # Errors
    /// When it did not arrive whole or can't be written; one clause. The tree is then as it was, or each file is whole.
    pub async fn apply(
        mut self,
        tree: Arc<Tree>,
        node: &str,
        exit: &Exit,
        sent: Manifest,
        id: &str,
        clock: i64,
    ) -> Result<Applied, String> {
        self.tx = None;
        let staged = self.work.await.map_err(|_| "taking it in failed".to_owned())??;
        let came = Came {
            node: node.to_owned(),
            id: id.to_owned(),
            sequence: exit.sequence,
            clock,
            is_asked: self.is_asked,
        };
        let work = tokio::task::spawn_blocking(move || {
            let dir = super::run::incoming_dir(&tree.paths.cache, &came.id);
            let r = tree.commit(staged, &came, sent);
            if r.is_ok() {
                // After a failure it stays: the journal in it lets the next cx finish.
                let _ = std::fs::remove_dir_all(dir);
            }
            r
        });
        work.await.map_err(|_| "applying it failed".to_owned())?
    }
}

/// How something came.
struct Came {
    node: String,
    /// The run's id.
    id: String,
    /// See [`Exit::sequence`].
    sequence: i64,
    /// The node's clock minus ours, milliseconds.
    clock: i64,
    /// A person named it; no run made it from what stands here.
    is_asked: bool,
}

impl Tree {
    /// Whether what is not ignored here still is what was sent: each file and link of it, and no other. What another run has
    /// brought meanwhile counts as another, too: it may come of other sources.
    fn is_as_sent(&self, sent: &Manifest) -> bool {
        let options = ScanOptions {
            index: Some(self.paths.cache.join("index").join(&self.ws.key)),
            ..ScanOptions::default()
        };
        let Ok(now) = sync::scan(&self.ws.root, self.ws.git, &options) else {
            return false;
        };
        let aside: BTreeSet<&[u8]> = now
            .ignored
            .iter()
            .chain(&now.withheld)
            .chain(&self.scan.named)
            .map(RelPath::as_bytes)
            .collect();
        let counts = |(path, entry): &(&RelPath, &Entry)| {
            !matches!(entry, Entry::Dir { .. }) && !sync::is_at_or_below(&aside, path.as_bytes())
        };
        sent.iter().filter(counts).eq(now.manifest.iter().filter(counts))
    }

    fn commit(&self, staged: Staged, came: &Came, sent: Manifest) -> Result<Applied, String> {
        let (node, id, sequence) = (came.node.as_str(), came.id.as_str(), came.sequence);
        // One at a time: each compares what stands here with what it may replace.
        let lock = self.lock_file().and_then(|f| f.lock().map(|()| f));
        let _lock = lock.map_err(|e| format!("the workspace can't be locked: {e}"))?;
        let record = self.records.load(&self.ws.key, node);
        let superseded = record.superseded(staged.ops().iter().map(sync::Op::path), sequence);
        let ops: Vec<sync::Op> = staged.ops().to_vec();
        let mut agreed = BTreeMap::new();
        if !record.manifest.is_empty() {
            // What lies above them may be another run's work as well.
            for path in sync::touched(&ops) {
                let entry = record.agreed(&path);
                if entry != sent.get(&path) {
                    agreed.insert(path, entry.cloned());
                }
            }
        }
        if came.is_asked {
            // No run made these from what stands here: a file that did not come from there is somebody's own.
            let own = record.not_delivered(&self.ws.root, &ops);
            let own = own.into_iter().filter(|p| !sent.contains_key(p));
            for path in own {
                agreed.entry(path).or_insert(None);
            }
        }
        let conflicts = crate::conflicts::tree_dir(&self.paths, id);
        let head = sync::head(&self.ws.root);
        // A commit, or a new name for a branch, moves HEAD and changes no file.
        let before = match self.scan.head {
            moved if moved != head && self.is_as_sent(&sent) => head,
            before => before,
        };
        let context = BackContext {
            sent: &sent,
            agreed: &agreed,
            superseded: &superseded,
            withheld: &self.scan.withheld,
            ignored: &self.scan.ignored,
            began_ns: self.scan.began_ns,
            head: (before, head),
            clock_offset_ms: came.clock,
            conflicts_dir: &conflicts,
        };
        // Without it what the next cx keeps apart, should this one be killed, is where its line says, but not listed.
        let _ = crate::conflicts::leave_note(staged.dir(), &self.ws.root, node);
        let report = sync::commit_local(&self.ws.root, staged, &context).map_err(|e| e.to_string())?;
        if !ops.is_empty() {
            let _ = self.records.update(&self.ws.key, node, |r| {
                r.brought(&ops, &report.times, &superseded, sequence);
                r.delivered.extend(report.delivered.iter().cloned());
            });
        }
        let mut notes = Vec::new();
        let head_moved = context.head.0 != context.head.1;
        let kept = format!("in {} (cx conflicts show {id})", conflicts.display());
        if conflicts.exists() {
            // Without the note it is still where the line says.
            let _ = crate::conflicts::note(&self.paths, id, &self.ws.root, node);
        }
        if !report.conflicts.is_empty() {
            let paths = list(&report.conflicts);
            notes.push(if head_moved {
                format!("HEAD moved here meanwhile: {paths} as made there are {kept}")
            } else {
                format!("{paths} changed here meanwhile: the node's version is {kept}")
            });
        }
        if !report.kept_deletions.is_empty() {
            let paths = list(&report.kept_deletions);
            notes.push(if head_moved {
                format!("{paths} deleted there: kept, as HEAD moved here")
            } else {
                format!("{paths} deleted there but changed here: kept")
            });
        }
        let mut refused: BTreeMap<&str, Vec<RelPath>> = BTreeMap::new();
        for (path, why) in &report.refused {
            refused.entry(why).or_default().push(path.clone());
        }
        for (why, paths) in refused {
            notes.push(format!("{} not taken: {why}", list(&paths)));
        }
        let failed = report.failed.first().map(|(_, why)| {
            let paths: Vec<RelPath> = report.failed.iter().map(|f| f.0.clone()).collect();
            format!(
                "{} can't be written here ({why}); the node's version is {kept}",
                list(&paths)
            )
        });
        let undeleted = (!report.undeleted.is_empty()).then(|| {
            format!(
                "{} deleted there, but not here: so much at once is not taken over (what is to go, remove here)",
                list(&report.undeleted)
            )
        });
        let failed = match (failed, undeleted) {
            (Some(failed), Some(undeleted)) => Some(format!("{failed}; {undeleted}")),
            (failed, undeleted) => failed.or(undeleted),
        };
        Ok(Applied {
            failed,
            files: (report.files, report.bytes),
            deleted: report.deleted,
            notes,
        })
    }
}

/// What a run left on the node, in words: what is stale here by that, what is new there (where not all comes back in any case, nobody's
/// loss else), what was too large to come, and what may not be read there.
pub fn left_there(exit: &Exit, root: &Path, write_back: WriteBack) -> Vec<String> {
    let is_here = |p: &RelPath| root.join(OsStr::from_bytes(p.as_bytes())).exists();
    let left = &exit.left;
    let (here, there): (Vec<_>, Vec<_>) = left.stayed.iter().cloned().partition(is_here);
    let there = if write_back == WriteBack::All {
        Vec::new()
    } else {
        there
    };
    let named = [("stale here", here), ("stays there", there)];
    let pull = named.iter().filter_map(|(what, paths)| {
        let first = paths.first()?;
        Some(format!("{what}: {} (cx pull {first})", list(paths)))
    });
    let passing = (!left.passing.is_empty()).then(|| {
        let paths = list(&left.passing);
        format!("not taken: {paths} (the next run undoes that there; cx pull before)")
    });
    let over = (!left.over.is_empty()).then(|| format!("left behind, over back_limit: {}", list(&left.over)));
    let unread =
        (!left.unread.is_empty()).then(|| format!("could not be read there: {}", list(&left.unread)));
    pull.chain(passing).chain(over).chain(unread).collect()
}

/// Names a few paths.
pub fn list(paths: &[RelPath]) -> String {
    let shown: Vec<String> = paths.iter().take(3).map(ToString::to_string).collect();
    let more = paths.len().saturating_sub(3);
    if more > 0 {
        format!("{} and {more} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}

/// Hands what is written on in pieces.
struct ChannelWriter {
    to: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for ChannelWriter {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.piece.extend_from_slice(buf);
        if self.piece.len() >= crate::proto::CHUNK {
            self.flush()?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if !self.piece.is_empty() {
            let piece = std::mem::take(&mut self.piece);
            self.to
                .blocking_send(piece)
                .map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}

/// Reads the pieces that arrive.
struct ChannelReader {
    from: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for ChannelReader {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.piece.len() {
            match self.from.blocking_recv() {
                Some(piece) => (self.piece, self.at) = (piece, 0),
                None => return Ok(0),
            }
        }
        let n = buf.len().min(self.piece.len() - self.at);
        buf[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
