//! When the link is lost: asks whether the command was started, attaches to it again, sends again what did not arrive.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Again, Order, RunError, Running};
use crate::client::terminal::{Event, Terminal};
use crate::node::Link;
use crate::node::link::{Install, RunChannel};
use crate::progress::Step;
use crate::proto::{Down, Up};
use crate::report::Told;
use crate::request::Detach;

/// How long a node may take to say whether it started a command.
const ASK: Duration = Duration::from_secs(3);

/// Silence that makes a link suspicious before the start: three missed beats.
pub(super) const SILENT_BEFORE: Duration = Duration::from_millis(3500);

/// Silence that makes a link lost after the start.
const SILENT_AFTER: Duration = Duration::from_secs(20);

/// The stream is gone, and the start was not seen. Where the node had no leave to start (`by`), that is no more than a failed
/// node. Where it had, the node is asked once its leave has run out: it keeps note of what it started. Without an answer the
/// command may have run, and must not run again. Otherwise: the stream that is attached to it, and the bytes of input that
/// had arrived.
pub(super) async fn find_out(
    again: &Again<'_>,
    id: &str,
    by: Option<Instant>,
    why: &str,
    install: Install,
    orders: &mut mpsc::Receiver<Order>,
) -> Result<(Link, RunChannel, u64), RunError> {
    let Some(by) = by else {
        return Err(RunError::broken(why));
    };
    let unknown = || RunError::Lost {
        why: format!("{why}; whether the command was started there can't be asked"),
    };
    let ask = async {
        tokio::time::sleep_until(by).await;
        let deadline = Instant::now() + ASK;
        let link = Link::open(again.node, again.config, again.paths, deadline, install).await;
        let link = link.ok()?;
        let mut channel = link.channel();
        let attach = Up::Attach {
            id: id.to_owned(),
            have: 0,
        };
        channel.send(&attach).await.ok()?;
        let answer = tokio::time::timeout_at(deadline + ASK, channel.rx.recv())
            .await
            .ok()??;
        Some((link, channel, answer))
    };
    let answer = tokio::select! {
        answer = ask => answer,
        Some(order) = orders.recv() => return Err(RunError::Interrupted(order.signal())),
    };
    match answer {
        Some((link, channel, Down::Attached { stdin })) => Ok((link, channel, stdin)),
        Some((_, _, Down::Failed { started: false, .. })) => Err(RunError::broken(why)),
        _ => Err(unknown()),
    }
}

impl Running<'_> {
    /// The stream is gone before the start was seen: goes on where it was started nevertheless.
    pub(super) async fn find_out(
        &mut self,
        why: &str,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), RunError> {
        let (link, channel, stdin) = find_out(
            &self.again,
            &self.job.id,
            self.start_by,
            why,
            Install::Never,
            orders,
        )
        .await?;
        (self.link, self.channel, self.started) = (link, channel, true);
        self.sync_time = self.begun.elapsed();
        self.resend_stdin(stdin).await
    }

    /// Whether the link has to be given up, and why.
    pub(super) fn silent(&self) -> Option<String> {
        let silence = self.link.silence();
        let limit = if self.started && self.signalled.is_none() && !self.urged {
            SILENT_AFTER
        } else {
            SILENT_BEFORE
        };
        (silence > limit).then(|| format!("no sign of life for {} s", silence.as_secs()))
    }

    /// Attaches to the run over a new stream, for as long as the run lives on without one.
    pub(super) async fn attach_again(
        &mut self,
        why: &str,
        orders: &mut mpsc::Receiver<Order>,
        told: &mut dyn Told,
        terminal: &mut Terminal,
    ) -> Result<(), RunError> {
        // Ctrl-C must reach this process now.
        terminal.release();
        let until = Instant::now() + Duration::from_secs(u64::from(self.job.link_grace));
        let lost = |more: &str| RunError::Lost {
            why: format!("{why}; {more}"),
        };
        // Past its caller's deadline this process is of no use.
        let deadline = match self.job.detach {
            Some(Detach::At(at)) => Some(Instant::from_std(at)),
            _ => None,
        };
        let due = || lost("its caller's deadline came before it was reached again");
        if let Some(signal) = self.signalled {
            // Told to end, and nobody there to tell: the node ends the run when the grace is over.
            return Err(RunError::Interrupted(signal));
        }
        told.line(&format!(
            "{}: {why}; attaching to run {} again",
            self.link.node, self.job.id
        ));
        told.progress(Step::Attaching(self.link.node.clone()));
        let mut pause = Duration::from_millis(500);
        loop {
            let limit = (Instant::now() + Duration::from_secs(10)).min(until);
            let opening = Link::open(
                self.again.node,
                self.again.config,
                self.again.paths,
                limit,
                Install::Never,
            );
            let opened = tokio::select! {
                opened = opening => opened,
                Some(order) = orders.recv() => return Err(RunError::Interrupted(order.signal())),
                () = Self::due(None, deadline) => return Err(due()),
                () = stops(terminal) => continue,
            };
            if let Ok(link) = opened {
                self.channel = link.channel();
                self.link = link;
                // What had come back in part comes again from its beginning.
                (self.incoming, self.back) = (None, 0);
                let attach = Up::Attach {
                    id: self.job.id.clone(),
                    have: self.got,
                };
                if self.channel.send(&attach).await.is_ok() {
                    self.urged = false;
                    return Ok(());
                }
            }
            if Instant::now() + pause > until {
                return Err(lost(&format!(
                    "not reached again within {} s after that",
                    self.job.link_grace
                )));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(order) = orders.recv() => return Err(RunError::Interrupted(order.signal())),
                () = Self::due(None, deadline) => return Err(due()),
                () = stops(terminal) => continue,
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// A new stream is attached: sends the input again that did not arrive over the old one.
    pub(super) async fn resend_stdin(&mut self, arrived: u64) -> Result<(), RunError> {
        let waiting: usize = self.stdin_waiting.iter().map(Vec::len).sum();
        let mut at = self.stdin_sent - waiting as u64;
        for piece in self.stdin_waiting.clone() {
            let end = at + piece.len() as u64;
            if piece.is_empty() || end > arrived {
                let skip = arrived.saturating_sub(at).min(piece.len() as u64) as usize;
                self.send(&Up::Stdin(piece[skip..].to_vec())).await;
            }
            at = end;
        }
        Ok(())
    }

    /// The command has taken so many more bytes of input.
    pub(super) fn took(&mut self, mut n: usize) {
        while n > 0
            && let Some(first) = self.stdin_waiting.front_mut()
            && !first.is_empty()
        {
            if first.len() > n {
                first.drain(..n);
                return;
            }
            n -= first.len();
            self.stdin_waiting.pop_front();
        }
    }
}

/// Stops this process when somebody wants that; ends when it goes on.
async fn stops(terminal: &mut Terminal) {
    loop {
        if terminal.event().await == Event::Stop {
            // The command can't be told.
            terminal.suspend(false);
            terminal.release();
            return;
        }
    }
}
