//! What the node says of a run.

use tokio::time::Instant;

use super::{RunError, Running};
use crate::client::differs::TAIL;
use crate::client::terminal::Terminal;
use crate::node::printable;
use crate::progress::Step;
use crate::proto::{Down, Errand, Exit, Load, Refusal, Up};
use crate::report::Told;
use crate::request::Detach;

impl Running<'_> {
    pub(super) async fn take(
        &mut self,
        down: Down,
        told: &mut dyn Told,
        terminal: &mut Terminal,
    ) -> Result<Option<Exit>, RunError> {
        self.waits = matches!(down, Down::Waiting { .. });
        match down {
            Down::Waiting { running } => {
                // The node drops the leave to start, which will be too old when a slot is free.
                self.start_by = None;
                told.waiting(&self.link.node, running);
                told.progress(Step::Waiting(self.link.node.clone()));
            }
            Down::Admitted => {
                if self.pack.as_ref().is_some_and(|p| !p.is_inline) {
                    self.send_pack(told).await?;
                } else if self.job.tree.is_none() {
                    self.go().await?;
                }
            }
            Down::Differs { data, last, shared } => {
                self.differs.extend(data);
                if self.differs.len() > 1 << 30 {
                    return Err(RunError::broken("its manifest is larger than a gigabyte"));
                }
                if last {
                    self.pack_anew(shared).await?;
                    self.send_pack(told).await?;
                }
            }
            Down::Synced {
                generation,
                sequence,
                setup,
            } => {
                if let (Some(tree), Some(pack)) = (&self.job.tree, &self.pack) {
                    if Some(generation) != pack.to() {
                        return Err(RunError::broken("the mirror there is not what was sent"));
                    }
                    tree.synced(&self.link.node, pack, sequence);
                }
                if setup {
                    // The node has dropped the leave to start, which would be too old when all is set up.
                    self.start_by = None;
                } else {
                    self.go().await?;
                }
            }
            Down::Setup { name, line } => {
                let (name, line) = (printable(&name, 80), printable(&line, 200));
                let (names, _) = self.setting.get_or_insert_with(|| (Vec::new(), Instant::now()));
                if !names.contains(&name) {
                    names.push(name.clone());
                }
                told.progress(Step::SettingUp(self.link.node.clone(), name, line));
            }
            Down::Ready => {
                // Whatever leave was out has run out there, or was dropped.
                self.start_by = None;
                self.set_up = self.setting.take().map(|(names, since)| (names, since.elapsed()));
                told.progress(Step::Starting(self.link.node.clone()));
                self.go().await?;
            }
            Down::Started { paths, why_not, .. } => {
                self.started = true;
                self.paths = Some((paths, why_not));
                self.sync_time = self.begun.elapsed();
                if let Some((_, took)) = &self.set_up {
                    self.sync_time = self.sync_time.saturating_sub(*took);
                }
                told.started(&self.link.node, &self.job.id);
                told.progress(Step::Running);
                if self.job.detach == Some(Detach::AtOnce) {
                    return Err(RunError::Detached);
                }
                terminal.engage();
            }
            Down::Output { fd, data } => {
                self.got += data.len() as u64;
                self.keep_tail(&data);
                self.output.write(fd, data).await;
            }
            Down::Missing(bytes) => {
                self.got += bytes;
                self.output.flush().await;
                told.line(&missing(&self.link.node, bytes));
            }
            Down::Packed { pieces, data } => {
                let data = crate::squeeze::unfold(&pieces, &data).map_err(|e| RunError::Lost {
                    why: format!("its output can't be read: {e}"),
                })?;
                self.got += data.len() as u64;
                self.keep_tail(&data);
                let pieces = pieces.into_iter().map(|(fd, len)| (fd, len as usize)).collect();
                self.output.write_all(pieces, data).await;
            }
            Down::Attached { stdin } => {
                told.progress(Step::Running);
                self.resend_stdin(stdin).await?;
                terminal.settle();
                if self.was_stopped || terminal.size().is_some() {
                    self.go_on(terminal).await;
                }
            }
            Down::Detached => return Err(RunError::Detached),
            Down::Mark => self.send(&Up::Got(self.got)).await,
            Down::Stopped(_) => {
                // Without a terminal nobody would continue it: whoever stopped the command there does.
                if self.stop_by.is_some() || terminal.is_typed() {
                    self.suspend(terminal).await;
                }
            }
            Down::Took(n) => self.took(n as usize),
            Down::Back(piece) => {
                if self.incoming.is_none()
                    && let Some(tree) = &self.job.tree
                {
                    self.incoming = {
                        let is_asked = matches!(self.job.errand, Errand::Fetch(_));
                        Some(tree.incoming(&self.job.id, self.job.back_limit, is_asked))
                    };
                }
                self.back += piece.len() as u64;
                told.progress(Step::Back(self.link.node.clone(), self.back));
                if let Some(i) = &mut self.incoming {
                    i.feed(piece).await;
                }
            }
            Down::Exit(exit) => {
                if let (Some(input), Some(at)) = (&self.job.input, exit.input_at) {
                    input.take_own(at);
                }
                return Ok(Some(*exit));
            }
            Down::Refused { why, load } => {
                if let Refusal::Setup { what, tail } = &why {
                    tell_failed_setup(&self.link.node, what, tail, told);
                }
                return Err(refused(why, load));
            }
            Down::Failed { message, started } => {
                let why = printable(&message, 300);
                return Err(if started || self.started {
                    RunError::Lost { why }
                } else {
                    RunError::broken(why)
                });
            }
            Down::Welcome(_) | Down::Beat | Down::Purged(_) | Down::Gc(_) | Down::Seen(_) | Down::Told(_) => {
            }
        }
        Ok(None)
    }

    fn keep_tail(&mut self, data: &[u8]) {
        self.tail
            .extend_from_slice(&data[data.len().saturating_sub(TAIL)..]);
        // Twice as much at most, so that little is moved.
        if self.tail.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
    }
}

/// What is said where output is not kept any more.
pub fn missing(node: &str, bytes: u64) -> String {
    format!("{node}: {bytes} bytes of output before this are not kept any more")
}

fn refused(why: Refusal, load: Load) -> RunError {
    let full = matches!(why, Refusal::Full { .. });
    let why = match why {
        Refusal::Full { running } => format!("all {running} slots are taken"),
        Refusal::Overloaded(s) => format!("overloaded: {}", printable(&s, 100)),
        Refusal::Lacks(s) | Refusal::Disk(s) | Refusal::Other(s) => printable(&s, 200),
        Refusal::NotShared(s) => {
            let why = printable(&s, 200);
            return RunError::NotShared { why };
        }
        Refusal::Setup { what, .. } => format!("set-up failed: {}", printable(&what, 160)),
        Refusal::TooLate => "it was too slow to start in time".into(),
    };
    RunError::NotStarted {
        why,
        load: Some(load),
        full,
        broken: false,
    }
}

/// Lines of a failed step's output that are told.
const SETUP_LINES: usize = 12;

/// Tells what a set-up step said before it failed.
fn tell_failed_setup(node: &str, what: &str, tail: &str, told: &mut dyn Told) {
    told.line(&format!("{node}: set-up failed: {}", printable(what, 160)));
    let lines: Vec<&str> = tail.lines().filter(|l| !l.trim().is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(SETUP_LINES)..] {
        told.line(&format!("{node}:   {}", printable(line.trim_end(), 200)));
    }
}
