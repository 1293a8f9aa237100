//! The end of a run: what changed comes home.

use std::time::Duration;

use super::{Ran, RunError, Running, incoming_dir};
use crate::client::kept;
use crate::client::tree::Applied;
use crate::node::{hold, printable};
use crate::proto::{Errand, Exit, Up};
use crate::sync;

impl Running<'_> {
    /// Takes home what changed, then lets the node forget the run.
    pub(super) async fn finish(mut self, exit: Exit) -> Result<Ran, RunError> {
        self.output.flush().await;
        let mut back = Applied::default();
        if let Some(why) = exit.uncollected.as_deref() {
            let _ = self.channel.send(&Up::Done).await;
            let _ = self.keep();
            let node = self.link.node.clone();
            // Whoever asks for it next is to find it where it is kept, not with this run.
            self.link.leave().await;
            let short = kept::short(&self.job.id);
            return Err(RunError::Back {
                ending: exit.ending,
                why: format!(
                    "{}; it stays on {}: `cx attach {short}` brings it once that is mended",
                    printable(why, 300),
                    node
                ),
            });
        }
        let mut work = self.job.tree.as_ref().map_or(Duration::ZERO, |t| t.took);
        let mut packed = self.pack.as_ref().and_then(|p| {
            work += p.took;
            p.packed.clone()
        });
        if let (Errand::Fetch(_), Some(tree)) = (&self.job.errand, &self.job.tree) {
            packed = Some(tree.as_sent_before(&self.link.node));
        }
        let sent = packed.as_ref().map_or((0, 0), |p| (p.files, p.bytes));
        if let (Some(tree), Some(incoming), Some(packed)) = (&self.job.tree, self.incoming.take(), packed) {
            let applied = incoming
                .apply(
                    tree.clone(),
                    &self.link.node,
                    &exit,
                    packed.manifest,
                    &self.job.id,
                    self.link.clock_offset(),
                )
                .await;
            back = match applied {
                Ok(applied) => applied,
                Err(why) => {
                    let ending = exit.ending;
                    // A commit that began goes on where it stopped.
                    let why = if sync::is_half_done(&incoming_dir(&tree.paths.cache, &self.job.id)) {
                        let _ = self.channel.send(&Up::Done).await;
                        format!(
                            "{why}; free some space here, and the next cx in this project puts the rest in place"
                        )
                    } else {
                        format!("{why}; {}", self.keep_there().await)
                    };
                    return Err(RunError::Back { ending, why });
                }
            };
        }
        self.take_home_beside(&mut back).await;
        let _ = self.channel.send(&Up::Done).await;
        // Who is stopped by a signal leaves nothing on the node, an agent that waits neither.
        if self.signalled.is_none() && !self.urged {
            // The last word is heard before this process ends, or the run would wait there for somebody to come back.
            let is_lent = self.link.is_lent();
            self.link.leave().await;
            if !is_lent {
                hold::start(self.again.node, self.again.config, self.again.paths);
            }
        }
        if let Some(why) = back.failed {
            return Err(RunError::Back {
                ending: exit.ending,
                why: back.notes.iter().fold(why, |all, note| format!("{all}; {note}")),
            });
        }
        Ok(Ran {
            exit,
            sent,
            back,
            sync_time: self.sync_time,
            set_up: self.set_up,
            paths: self.paths,
            work,
            tail: self.tail,
        })
    }
}
