//! What a front end brings along for a run: where output goes, where input comes from, what may end it, who is told.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::client::run::Order;
use crate::client::stdio::{self, Input, Output};
use crate::client::terminal;
use crate::hook::{call, note};
use crate::paths::Paths;
use crate::progress::{Live, Step};
use crate::report::{self, Told};
use crate::request::{Origin, Request};
use crate::room::Rooms;

/// One front end's side of one run.
pub struct Door {
    /// Where the command's output goes.
    pub output: Output,
    /// Both streams of output are one here, so that their order matters.
    pub one_pipe: bool,
    /// Whether this process's own standard input is the command's to read.
    pub stdin: bool,
    /// Signals, and the wish to end it.
    pub orders: mpsc::Receiver<Order>,
    /// This process's terminal, where the command is to have one.
    pub terminal: terminal::Terminal,
    /// Who is told.
    pub told: Box<dyn Told>,
    /// Where the command needs a slot of this machine to run here.
    pub rooms: Option<Arc<Rooms>>,
}

impl Door {
    /// That of a command typed at a terminal, or started by a script or an agent's shell: this process's own descriptors and
    /// signals.
    ///
    /// # Errors
    /// When signals can't be handled.
    pub fn terminal(request: &Request) -> std::io::Result<Door> {
        let output = Output::to_own();
        let mut told = Terminal::of(request);
        if !told.quiet {
            told.live = Live::begin(output.unwritten());
        }
        Ok(Door {
            output,
            one_pipe: stdio::same_output(),
            stdin: true,
            orders: signals()?,
            terminal: terminal::Terminal::look(request.origin == Origin::Shell),
            told: Box::new(told),
            rooms: None,
        })
    }

    /// The command's input, where it is to have one.
    pub(super) fn input(&self, wanted: bool) -> Input {
        if wanted && self.stdin {
            Input::own()
        } else {
            Input::empty()
        }
    }
}

/// Lines on stderr; the report goes to the agent's hook where it would mix with the output.
pub(super) struct Terminal {
    quiet: bool,
    agent: bool,
    live: Option<Live>,
}

impl Terminal {
    pub(super) fn of(request: &Request) -> Terminal {
        Terminal {
            quiet: request.demands.quiet,
            agent: request.origin == Origin::Agent,
            live: None,
        }
    }
}

impl Told for Terminal {
    fn line(&mut self, text: &str) {
        if let Some(live) = &self.live {
            live.erase();
        }
        report::line(text);
    }

    fn report(&mut self, text: &str) {
        // The last line of all.
        self.live = None;
        if self.quiet {
            return;
        }
        if self.agent
            && let Ok(session) = std::env::var("CLAUDE_CODE_SESSION_ID")
            && let Ok(paths) = Paths::from_env()
            && note::append_report(
                &paths.state,
                &session,
                call::note(&paths.state, &session).as_ref(),
                text,
            )
            .is_ok()
        {
            return;
        }
        report::line(text);
    }

    fn waiting(&mut self, node: &str, running: u32) {
        if !self.quiet {
            self.line(&format!("{node}: all {running} slots are taken, waiting for one"));
        }
    }

    fn progress(&mut self, step: Step) {
        if let Some(live) = &self.live {
            live.step(step);
        }
    }
}

/// Signals that end a command, as they arrive.
fn signals() -> std::io::Result<mpsc::Receiver<Order>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (tx, rx) = mpsc::channel(16);
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ] {
        // What `nohup`, or a script that started this in the background, wants ignored stays so.
        if terminal::is_ignored(kind.as_raw_value()) {
            continue;
        }
        let mut s = signal(kind)?;
        let tx = tx.clone();
        tokio::spawn(async move {
            while s.recv().await.is_some() {
                if tx.send(Order::Signal(kind.as_raw_value())).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(rx)
}
