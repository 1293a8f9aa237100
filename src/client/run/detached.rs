//! Runs that go on without this process: leaving one, and coming back for it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Again, Caller, Job, Ran, RunError, Running};
use crate::client::kept;
use crate::client::tree::Pack;
use crate::node::Link;
use crate::plan::manifest::Manifest;
use crate::proto::{Down, Up};

/// A node answers within this time that a run will go on, or nobody can tell.
const ANSWER: Duration = Duration::from_secs(3);

/// Writes down what a later cx needs to come for a run that has run for so long; whether that worked. Without the record it can only be
/// looked for on the node.
pub(super) fn keep(again: &Again<'_>, job: &Job, pack: Option<&Pack>, ran: Duration) -> bool {
    let sent = pack.and_then(|p| p.packed.as_ref());
    kept::keep(
        again.paths,
        &job.id,
        &again.node.name,
        ran,
        &job.argv,
        job.tree.as_deref(),
        sent.map(|p| p.manifest.clone()),
    )
    .is_ok()
}

impl Running<'_> {
    /// Asks the node to let the run go on without this process.
    pub(super) async fn detach(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now() + ANSWER);
            self.send(&Up::Detach).await;
        }
    }

    /// When something about leaving is due: the caller's deadline, or the end of the wait for the node's answer.
    pub(super) async fn due(leaving: Option<Instant>, deadline: Option<Instant>) {
        match leaving.or(deadline) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// It is due.
    pub(super) async fn is_due(&mut self) -> Result<(), RunError> {
        if self.leaving.is_some() {
            return Err(RunError::Lost {
                why: "it was to go on without this cx, but the node did not answer".into(),
            });
        }
        self.detach().await;
        Ok(())
    }

    /// Writes down what a later cx needs to come for this run; whether that worked.
    pub(super) fn keep(&self) -> bool {
        let before = self.sync_time + self.set_up.as_ref().map_or(Duration::ZERO, |(_, took)| *took);
        let ran = self.begun.elapsed().saturating_sub(before);
        keep(&self.again, self.job, self.pack.as_ref(), ran)
    }

    /// What the run changed could not be taken in here: the node is asked to keep it. What a person may do now, in one clause.
    pub(super) async fn keep_there(&mut self) -> String {
        self.send(&Up::Detach).await;
        let answer = async {
            while let Some(down) = self.channel.rx.recv().await {
                if matches!(down, Down::Detached) {
                    return true;
                }
            }
            false
        };
        let kept = tokio::time::timeout(ANSWER, answer).await.unwrap_or(false);
        let node = &self.link.node;
        match (kept, self.keep()) {
            (true, true) => format!(
                "{node} keeps it: free some space here, then `cx attach {}` brings it",
                kept::short(&self.job.id)
            ),
            (true, false) => format!(
                "{node} keeps it as run {}, but no note of it can be written here",
                self.job.id
            ),
            (false, _) => format!("{node} did not say that it keeps it"),
        }
    }
}

/// Attaches to a run that was started earlier: its output from byte `have` on, then what it changed, against what was `sent`.
///
/// # Errors
/// As for [`super::run`]; nothing is started by this.
pub async fn attach(
    link: Link,
    again: Again<'_>,
    job: &Job,
    sent: Option<Manifest>,
    have: u64,
    caller: &mut Caller<'_>,
) -> Result<Ran, RunError> {
    let channel = link.channel();
    let mut r = Running {
        started: true,
        got: have,
        pack: sent.map(Pack::of_sent),
        ..Running::new(link, again, job, channel, caller.output)
    };
    let id = job.id.clone();
    r.send(&Up::Attach { id, have }).await;
    let exit = r.until_exit(caller).await?;
    r.output.flush().await;
    r.finish(exit).await
}
