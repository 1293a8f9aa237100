//! One run on one node, from the client's side: sync, start, stream, bring back.
//!
//! What must never happen is that a command runs twice. So the node starts only before a start-by time, which
//! is given in its own clock; and this side says [`RunError::NotStarted`] only after that time, or on the node's own word.

mod beside;
mod detached;
mod early;
mod finish;
mod heard;
mod live;
mod lost;
mod pack;

pub use detached::attach;
pub use heard::missing;
use live::Live;
use pack::{send_run, sending};

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::reach;
use super::stdio::{Input, Output, WholeFile};
use super::terminal::{self, Terminal};
use super::tree::{Applied, Incoming, Pack, Tree};
use crate::config::{Config, NodeConfig};
use crate::node::Link;
use crate::node::link::{Opening, RunChannel};
use crate::paths::Paths;
use crate::proto::{
    Down, Errand, Exit, Load, MirrorKey, NeedPath, NeedSpec, PathMode, PathsWish, STDIN_WINDOW, SetupStep,
    Shared, Up,
};
use crate::report::Told;
use crate::request::{Detach, Ending};
use crate::room::{Room, Rooms};
use crate::sync::Workspace;
use crate::table::NodeClock;
use crate::tty;

/// The key for SIGINT, as good as everywhere.
const INTERRUPT: u8 = 3;

/// A command that was asked to stop says so within this time, or this process stops all the same.
const STOP: Duration = Duration::from_secs(1);

/// How long the leave to start is good for, from the start of the sync or from `Go`. A node that is still at work then asks for
/// another.
pub const START_WINDOW: Duration = Duration::from_secs(4);

/// What is to be run, whatever the node.
pub struct Job {
    /// The run's id.
    pub id: String,
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables that cross.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directories of the workspace in front of PATH.
    pub path_prefix: Vec<Vec<u8>>,
    /// Whether standard input is forwarded.
    pub stdin: bool,
    /// Standard input, where it is a file that goes along as a whole.
    pub input: Option<WholeFile>,
    /// The terminal that the command gets there, after the caller's.
    pub terminal: Option<tty::Terminal>,
    /// stdout and stderr are one file here.
    pub one_pipe: bool,
    /// Needs.
    pub needs: Vec<NeedSpec>,
    /// Directories that must exist in the mirror.
    pub needs_dirs: Vec<Vec<u8>>,
    /// What must stand there outside of the mirror.
    pub needs_paths: Vec<NeedPath>,
    /// It only works where its paths are the same.
    pub identity: bool,
    /// The tree that goes along; none for a command outside any workspace.
    pub tree: Option<Arc<Tree>>,
    /// Other trees that the command needs: they are brought up to date there first.
    pub also: Vec<Arc<Tree>>,
    /// Without a tree that goes along: the one on a shared file system to run in, with the proof for this attempt.
    pub shared: Option<Shared>,
    /// Seconds that a run outlives its link.
    pub link_grace: u32,
    /// Bytes that come back at most.
    pub back_limit: u64,
    /// What the node keeps of ours: milliseconds without use, bytes in all.
    pub keep: (u64, u64),
    /// Whether there is a command to be run at all.
    pub errand: Errand,
    /// When the run goes on without this process.
    pub detach: Option<Detach>,
    /// What must have been done in the mirror before.
    pub setup: Vec<SetupStep>,
}

impl Job {
    /// One without a command of its own: to take in the end of a run that was started earlier, or to carry an errand.
    pub fn without_command(id: String, tree: Option<Arc<Tree>>) -> Job {
        Job {
            id,
            argv: Vec::new(),
            env: Vec::new(),
            path_prefix: Vec::new(),
            stdin: false,
            input: None,
            terminal: None,
            one_pipe: false,
            needs: Vec::new(),
            needs_dirs: Vec::new(),
            needs_paths: Vec::new(),
            identity: false,
            tree,
            also: Vec::new(),
            shared: None,
            link_grace: 0,
            back_limit: 0,
            keep: (u64::MAX, u64::MAX),
            errand: Errand::Command,
            detach: None,
            setup: Vec::new(),
        }
    }
}

/// What differs from node to node.
pub struct Terms {
    /// Configured slots.
    pub slots: Option<u32>,
    /// An overloaded node takes it all the same.
    pub allow_overload: bool,
    /// Wait for a slot instead of being refused.
    pub insist: bool,
    /// `write_back` as in [`crate::proto::BackSpec::scope`].
    pub scope: u8,
    /// How the tree is to be shown there.
    pub paths: PathsWish,
    /// This kind of command has not failed there yet; if it does, what differs there is told.
    pub first_failure: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    /// The node's account.
    pub exit: Exit,
    /// Files and bytes sent.
    pub sent: (u64, u64),
    /// What came back.
    pub back: Applied,
    /// From the first packet to the start, without the set-up.
    pub sync_time: Duration,
    /// What was set up there for this run, and how long that took.
    pub set_up: Option<(Vec<String>, Duration)>,
    /// How it saw its tree, where the node has said so, and why not at the path here.
    pub paths: Option<(PathMode, String)>,
    /// What scanning and packing took here.
    pub work: Duration,
    /// The end of its output.
    pub tail: Vec<u8>,
}

impl Ran {
    /// What was set up for it, in words.
    pub fn set_up_note(&self) -> Option<String> {
        let (names, took) = self.set_up.as_ref()?;
        let took = took.as_secs_f64();
        Some(format!("set up with {} in {took:.1}s", names.join(", ")))
    }
}

/// Why there is no [`Ran`].
#[derive(Debug)]
pub enum RunError {
    /// Nothing was started, and nothing will be: the next node may try.
    NotStarted {
        /// One clause.
        why: String,
        /// The node's load, where it said so.
        load: Option<Load>,
        /// All slots are taken: waiting may help.
        full: bool,
        /// The node is at fault (transport), not busy or lacking something.
        broken: bool,
    },
    /// The agent is not installed there (any more): what was sent before it greeted was read by nobody. Or it did not answer on a
    /// borrowed stream, and had no leave to start anything. A stream of one's own may do.
    NoAgent,
    /// The tree that was said to be shared with this node is not. Nothing was started.
    NotShared {
        /// One clause.
        why: String,
    },
    /// The command may have run and may still; its result is unknown.
    Lost {
        /// One clause.
        why: String,
    },
    /// While it waited for a slot there, there was room here.
    Room(Room),
    /// A signal ended the wait before the command started.
    Interrupted(i32),
    /// It goes on without this process, as was wanted; a record of it was written.
    Detached,
    /// The command ran to its end, but what it changed could not be taken home.
    Back {
        /// How it ended.
        ending: Ending,
        /// What failed.
        why: String,
    },
}

impl RunError {
    fn broken(why: impl Into<String>) -> RunError {
        RunError::NotStarted {
            why: why.into(),
            load: None,
            full: false,
            broken: true,
        }
    }
}

/// What the caller wants of a run under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// This signal reached the caller and goes on to the command.
    Signal(i32),
    /// The run is to end now: TERM, and KILL where that does not help.
    Cancel,
    /// The run is to go on without this process. Before the command has started this is as good as [`Order::Cancel`].
    Detach,
}

impl Order {
    /// The signal that a wait before the start ends by.
    pub fn signal(self) -> i32 {
        match self {
            Order::Signal(n) => n,
            Order::Cancel | Order::Detach => libc::SIGTERM,
        }
    }
}

/// How to reach the node again when the link is lost.
#[derive(Clone, Copy)]
pub struct Again<'a> {
    /// The node.
    pub node: &'a NodeConfig,
    /// The configuration.
    pub config: &'a Config,
    /// cx's own directories.
    pub paths: &'a Paths,
}

/// The side of a run that faces its caller.
pub struct Caller<'a> {
    /// Where output goes.
    pub output: &'a Output,
    /// Where input comes from.
    pub input: &'a mut Input,
    /// Signals that reached this process, and the caller's wish to end it.
    pub orders: &'a mut mpsc::Receiver<Order>,
    /// Its terminal.
    pub terminal: &'a mut Terminal,
    /// Who is told.
    pub told: &'a mut dyn Told,
    /// Where a slot of this machine will do as well as one of the node that it waits for.
    pub rooms: Option<&'a Rooms>,
}

/// The way to a node.
pub enum Way {
    /// Its agent has greeted.
    Greeted(Link),
    /// A session is open, and the agent will greet. The node's clock is known from the last time.
    Early(Opening, NodeClock),
    /// A standing stream was borrowed, and its agent asked to greet.
    Borrowed(Box<Opening>),
}

impl Way {
    /// Lets the node look at its mirror of `ws` while this machine reads the tree.
    pub async fn prepare(&self, node: &str, ws: &Workspace, paths: &Paths) {
        let (Way::Borrowed(opening), Ok(client)) = (self, paths.client_key()) else {
            return;
        };
        if super::tree::records(paths).is_known(&ws.key, node) {
            let (workspace, name) = (ws.key.clone(), ws.name.clone());
            opening
                .prepare(MirrorKey {
                    client,
                    workspace,
                    name,
                })
                .await;
        }
    }
}

/// Runs `job` on the node at the end of `way`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    way: Way,
    again: Again<'_>,
    job: &Job,
    terms: &Terms,
    caller: &mut Caller<'_>,
) -> Result<Ran, RunError> {
    let begun = Instant::now();
    let way = match way {
        Way::Borrowed(opening) => match opening.settled() {
            // It has shown that it lives, so it may have its leave to start.
            Ok(Ok(link)) => Way::Greeted(link),
            Ok(Err(opening)) => Way::Borrowed(opening),
            Err(_) => return Err(RunError::NoAgent),
        },
        way => way,
    };
    let live = job
        .tree
        .as_ref()
        .map(|_| Live::mark(&again.paths.cache, &again.node.name, &job.id));
    let orphans = live.as_ref().map_or(&[][..], Live::orphans);
    let way = beside::sync_all(way, &again, job, terms, orphans, caller).await?;
    let (channel, time) = match &way {
        Way::Greeted(link) => (link.channel(), Some(link.node_time(START_WINDOW))),
        Way::Early(opening, clock) => (opening.channel(), opening.node_time(clock, START_WINDOW)),
        // A node that fell silent this very second must not leave us in doubt whether it started the command.
        Way::Borrowed(opening) => (opening.channel(), None),
    };
    let node = &again.node.name;
    let (pack, start_by) = send_run(node, &channel, time, job, terms, orphans).await?;
    caller.told.progress(sending(node, pack.as_ref(), 0));
    let (link, channel, attached) = match way {
        Way::Greeted(link) => (link, channel, None),
        Way::Early(opening, _) => {
            let found = early::greeted(opening, channel, &again, &job.id, start_by, caller).await;
            // It may have started all the same: a later cx can ask.
            if matches!(found, Err(RunError::Lost { .. })) {
                detached::keep(&again, job, pack.as_ref(), Duration::ZERO);
            }
            found?
        }
        Way::Borrowed(opening) => (early::answered(*opening, caller).await?, channel, None),
    };
    reach::note_answer(again.paths, &link);
    let mut r = Running {
        sync_time: begun.elapsed(),
        begun,
        start_by,
        started: attached.is_some(),
        pack,
        scope: terms.scope,
        ..Running::new(link, again, job, channel, caller.output)
    };
    if let Some(arrived) = attached {
        r.resend_stdin(arrived).await?;
        caller.terminal.engage();
    }
    let exit = r.until_exit(caller).await;
    if exit.is_ok() {
        r.output.flush().await;
    }
    caller.terminal.release();
    // Before it says anything else the node has ended them.
    let answered = matches!(exit, Ok(_) | Err(RunError::NotStarted { broken: false, .. }));
    if let Some(live) = live.as_ref().filter(|_| r.started || answered) {
        live.forget_orphans();
    }
    // A run that is lost to this process may be found again by another one, also where its start was not seen.
    if matches!(exit, Err(RunError::Lost { .. } | RunError::Detached)) {
        let _ = r.keep();
    }
    // Only where nobody could be told to end it.
    if r.started && matches!(exit, Err(RunError::Interrupted(_))) {
        let _ = r.keep();
        let short = super::kept::short(&job.id);
        caller.told.line(&format!(
            "{}: run {short} may go on there for {} s (cx cancel {short} ends it)",
            r.link.node, job.link_grace
        ));
    }
    match exit {
        Ok(exit) => r.finish(exit).await,
        Err(e) => {
            // It said no, and holds nothing of this run any more.
            if matches!(
                e,
                RunError::NotStarted { broken: false, .. } | RunError::NotShared { .. }
            ) {
                r.link.leave().await;
            }
            Err(e)
        }
    }
}

struct Running<'a> {
    link: Link,
    again: Again<'a>,
    job: &'a Job,
    channel: RunChannel,
    output: &'a Output,
    begun: Instant,
    sync_time: Duration,
    /// Until when (here) the node may still start the command; `None` before it was allowed to.
    start_by: Option<Instant>,
    started: bool,
    /// It waits there for a slot.
    waits: bool,
    paths: Option<(PathMode, String)>,
    /// The end of the output.
    tail: Vec<u8>,
    got: u64,
    pack: Option<Pack>,
    differs: Vec<u8>,
    incoming: Option<Incoming>,
    /// The first signal that was sent on.
    signalled: Option<i32>,
    /// Bytes of standard input sent in all.
    stdin_sent: u64,
    /// Those that the command has not taken yet, in the pieces they were sent in.
    stdin_waiting: VecDeque<Vec<u8>>,
    /// Somebody pressed Ctrl-C: a link that is silent now is not waited for as long as otherwise.
    urged: bool,
    /// This process stops then, whether or not the command said that it did.
    stop_by: Option<Instant>,
    /// The command was stopped at some time; over a new stream it is told once more to go on.
    was_stopped: bool,
    /// The node was asked to let the run go on alone, and answers by then.
    leaving: Option<Instant>,
    /// Bytes that came back so far.
    back: u64,
    /// Set-up steps that were begun there, and since when.
    setting: Option<(Vec<String>, Instant)>,
    /// The same once they are done.
    set_up: Option<(Vec<String>, Duration)>,
    /// As [`Terms::scope`].
    scope: u8,
}

impl<'a> Running<'a> {
    fn new(
        link: Link,
        again: Again<'a>,
        job: &'a Job,
        channel: RunChannel,
        output: &'a Output,
    ) -> Running<'a> {
        Running {
            link,
            again,
            job,
            channel,
            output,
            begun: Instant::now(),
            sync_time: Duration::ZERO,
            start_by: None,
            started: false,
            waits: false,
            paths: None,
            tail: Vec::new(),
            got: 0,
            pack: None,
            differs: Vec::new(),
            incoming: None,
            signalled: None,
            stdin_sent: 0,
            stdin_waiting: VecDeque::new(),
            urged: false,
            stop_by: None,
            was_stopped: false,
            leaving: None,
            back: 0,
            setting: None,
            set_up: None,
            scope: 0,
        }
    }

    /// Sends a message. A stream that has ended is not told of here but noticed by its reader, in [`Running::until_exit`].
    async fn send(&self, up: &Up) {
        let _ = self.channel.send(up).await;
    }

    async fn until_exit(&mut self, caller: &mut Caller<'_>) -> Result<Exit, RunError> {
        let Caller {
            input,
            orders,
            terminal,
            told,
            rooms,
            output: _,
        } = caller;
        let deadline = match self.job.detach {
            Some(Detach::At(at)) => Some(Instant::from_std(at)),
            _ => None,
        };
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        let mut free = None;
        loop {
            if let Some(rooms) = rooms.filter(|_| self.waits) {
                free.get_or_insert_with(|| Box::pin(rooms.free()));
            }
            let room = STDIN_WINDOW.saturating_sub(self.stdin_waiting.iter().map(Vec::len).sum());
            tokio::select! {
                // A reader that has stopped reading must not keep the caller's signals from the command.
                down = Self::next(self.output, &mut self.channel) => match down {
                    Some(down) => {
                        // Others are next while this goes on.
                        free = None;
                        let waits = !self.started;
                        let heard = self.link.listener();
                        let silence = async {
                            while heard() < lost::SILENT_BEFORE {
                                tokio::time::sleep(Duration::from_millis(250)).await;
                            }
                        };
                        let exit = tokio::select! {
                            biased;
                            // A pack that is stuck in a dead link would not notice.
                            () = silence, if waits => {
                                self.find_out("it stopped answering during the sync", orders).await?;
                                None
                            }
                            Some(order) = orders.recv(), if waits => return Err(RunError::Interrupted(order.signal())),
                            exit = self.take(down, &mut **told, terminal) => exit?,
                        };
                        if let Some(exit) = exit {
                            return Ok(exit);
                        }
                    }
                    None if self.started => self.attach_again("the connection ended", orders, &mut **told, terminal).await?,
                    None => self.find_out("the connection ended before the start", orders).await?,
                },
                Some(order) = orders.recv() => self.obey(order).await?,
                // It has no leave to start while it waits, and the end of the stream takes it back.
                Some(room) = async { Some(free.as_mut()?.await) }, if free.is_some() => return Err(RunError::Room(room)),
                piece = input.next(), if self.started && self.job.stdin && room > 0 => {
                    self.urged |= terminal.is_typed() && piece.contains(&INTERRUPT);
                    self.stdin_sent += piece.len() as u64;
                    self.stdin_waiting.push_back(piece.clone());
                    // A stream that has ended is noticed by its reader; the piece is sent again on the next one.
                    self.send(&Up::Stdin(piece)).await;
                }
                fd = self.output.closed() => {
                    self.send(&Up::Close(fd)).await;
                }
                () = Self::due(self.leaving, deadline), if self.started => self.is_due().await?,
                event = terminal.event(), if self.started => match event {
                    terminal::Event::Resized(size) => self.send(&Up::Resize(size)).await,
                    terminal::Event::Stop => {
                        self.stop_by = Some(Instant::now() + STOP);
                        self.send(&Up::Signal(libc::SIGTSTP)).await;
                    }
                    terminal::Event::Continued => self.go_on(terminal).await,
                },
                _ = tick.tick() => {
                    match self.silent() {
                        Some(why) if self.started => self.attach_again(&why, orders, &mut **told, terminal).await?,
                        Some(why) => self.find_out(&why, orders).await?,
                        None => {}
                    }
                    if self.stop_by.is_some_and(|by| Instant::now() > by) {
                        self.suspend(terminal).await;
                    }
                    if self.started {
                        terminal.settle();
                    }
                }
            }
        }
    }

    async fn next(output: &Output, channel: &mut RunChannel) -> Option<Down> {
        output.room().await;
        channel.rx.recv().await
    }

    async fn obey(&mut self, order: Order) -> Result<(), RunError> {
        if !self.started {
            // The end of the stream takes the run back, wherever it is.
            return Err(RunError::Interrupted(order.signal()));
        }
        if order == Order::Detach {
            self.detach().await;
            return Ok(());
        }
        self.signalled.get_or_insert(order.signal());
        self.send(&match order {
            Order::Signal(n) => Up::Signal(n),
            Order::Cancel => Up::Cancel,
            Order::Detach => Up::Detach,
        })
        .await;
        Ok(())
    }

    /// Stops this process, as the command was stopped there; when it is continued, so is the command.
    async fn suspend(&mut self, terminal: &mut Terminal) {
        // Where a signal told this process to stop, its neighbours got it too.
        let group = self.stop_by.take().is_none();
        self.output.flush().await;
        terminal.suspend(group);
        self.was_stopped = true;
        self.go_on(terminal).await;
    }

    /// This process goes on after a stop, or over a new stream.
    async fn go_on(&mut self, terminal: &mut Terminal) {
        terminal.settle();
        if let Some(size) = terminal.size() {
            self.send(&Up::Resize(size)).await;
        }
        self.send(&Up::Signal(libc::SIGCONT)).await;
    }

    /// Allows the start, where the first packet did not.
    async fn go(&mut self) -> Result<(), RunError> {
        if self.start_by.is_some() {
            return Ok(());
        }
        self.start_by = Some(Instant::now() + START_WINDOW);
        self.send(&Up::Go {
            start_by: self.link.node_time(START_WINDOW),
        })
        .await;
        Ok(())
    }
}

/// Where this process keeps files of a run while they arrive.
pub fn incoming_dir(cache: &std::path::Path, id: &str) -> PathBuf {
    cache.join("incoming").join(id)
}
