//! What goes to the node: the packet that asks for a run, and the pack where it does not go along with that.

use std::os::unix::ffi::OsStrExt;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Job, RunError, Running, START_WINDOW, Terms};
use crate::client::tree::Pack;
use crate::node::link::RunChannel;
use crate::node::printable;
use crate::plan::manifest::Manifest;
use crate::progress::Step;
use crate::proto::{BackSpec, Beside, CHUNK, Errand, MirrorSpec, RunStart, Up};
use crate::report::Told;
use crate::request::Detach;

/// Sends the packet that asks for the run. The pack that goes with it, if any, and until when the node may start the command,
/// if it has leave already: that needs the node's `time` at the end of its window, and a pack that goes along.
pub(super) async fn send_run(
    node: &str,
    channel: &RunChannel,
    time: Option<u64>,
    job: &Job,
    terms: &Terms,
    orphans: &[String],
) -> Result<(Option<Pack>, Option<Instant>), RunError> {
    let begun = Instant::now();
    let mut mirror = None;
    let mut sent = None;
    let mut inline = true;
    if let Some(tree) = &job.tree {
        let mut pack = tree.pack_for(node, None).await.map_err(RunError::broken)?;
        inline = pack.is_inline;
        if matches!(job.errand, Errand::Fetch(_) | Errand::Collect) {
            // Nothing goes there.
            pack.forget();
        }
        mirror = Some(MirrorSpec {
            key: tree.key.clone(),
            expected: pack.from,
            adopt: pack.adopt.clone(),
            dir: tree.dir.clone(),
            pack: if inline { pack.bytes.take() } else { None },
            back: BackSpec {
                scope: terms.scope,
                again: pack.again.clone(),
                ..tree.back.clone()
            },
            at: tree.ws.root.as_os_str().as_bytes().to_vec(),
            paths: terms.paths,
            identity: job.identity,
        });
        sent = Some(pack);
    }
    // A large pack takes its time: then the node waits for a word before it starts.
    let start_by = time.filter(|_| inline);
    let up = Up::Run(Box::new(RunStart {
        id: job.id.clone(),
        mirror,
        shared: job.shared.clone(),
        argv: job.argv.clone(),
        env: job.env.clone(),
        path_prefix: job.path_prefix.clone(),
        umask: current_umask(),
        stdin: job.stdin,
        input: job.input.as_ref().map(|i| i.rest.clone()),
        terminal: job.terminal,
        one_pipe: job.one_pipe,
        needs: job.needs.clone(),
        needs_dirs: job.needs_dirs.clone(),
        needs_paths: job.needs_paths.clone(),
        slots: terms.slots,
        allow_overload: terms.allow_overload,
        insist: terms.insist,
        start_by,
        detached: job.detach == Some(Detach::AtOnce),
        link_grace: job.link_grace,
        keep: job.keep,
        tell_tools: terms.first_failure,
        errand: job.errand.clone(),
        setup: job.setup.clone(),
        orphans: orphans.to_vec(),
        also: job
            .also
            .iter()
            .map(|tree| Beside {
                key: tree.key.clone(),
                at: tree.ws.root.as_os_str().as_bytes().to_vec(),
            })
            .collect(),
    }));
    // A stream that has ended is noticed by its reader.
    let _ = channel.send(&up).await;
    Ok((sent, start_by.map(|_| begun + START_WINDOW)))
}

impl Running<'_> {
    /// The mirror is not what we believed: compares with what it is.
    pub(super) async fn pack_anew(&mut self, shared: bool) -> Result<(), RunError> {
        let Some(tree) = &self.job.tree else {
            return Err(RunError::broken("it asked for a tree"));
        };
        // The node has dropped the earlier leave to start; it waits for a new one.
        self.start_by = None;
        let bytes = std::mem::take(&mut self.differs);
        let manifest: Manifest = crate::sync::manifest_from_bytes(&bytes)
            .map_err(|e| RunError::broken(printable(&e.to_string(), 200)))?;
        self.pack = Some(
            tree.pack_for(&self.link.node, Some((manifest, shared)))
                .await
                .map_err(RunError::broken)?,
        );
        Ok(())
    }

    pub(super) async fn send_pack(&mut self, told: &mut dyn Told) -> Result<(), RunError> {
        let node = self.link.node.clone();
        let (Some(tree), Some(mut pack)) = (&self.job.tree, self.pack.take()) else {
            return Ok(());
        };
        if let Some(bytes) = &pack.bytes {
            for (i, piece) in bytes.chunks(CHUNK).enumerate() {
                told.progress(sending(&node, Some(&pack), (i * CHUNK) as u64));
                self.send(&Up::Pack(piece.to_vec())).await;
            }
        } else {
            let (tx, mut rx) = mpsc::channel(8);
            let packing = tree.stream(&pack, tx);
            let mut gone = 0;
            while let Some(piece) = rx.recv().await {
                gone += piece.len() as u64;
                self.send(&Up::Pack(piece)).await;
                told.progress(sending(&node, Some(&pack), gone));
            }
            match packing.await {
                Ok(Ok(packed)) => pack.packed = Some(packed),
                Ok(Err(e)) => return Err(RunError::broken(format!("the workspace can't be read: {e}"))),
                Err(_) => return Err(RunError::broken("packing failed")),
            }
        }
        self.pack = Some(pack);
        self.send(&Up::PackEnd).await;
        told.progress(Step::Starting(node));
        Ok(())
    }
}

pub(super) fn sending(node: &str, pack: Option<&Pack>, gone: u64) -> Step {
    match pack {
        Some(p) if p.changes.0 > 0 => Step::Sending(node.to_owned(), p.changes.0, p.changes.1, gone),
        _ => Step::Starting(node.to_owned()),
    }
}

/// The umask of this process.
fn current_umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    #[expect(clippy::useless_conversion, reason = "mode_t is 16 bits wide on some systems")]
    u32::from(mask.as_raw_mode())
}
