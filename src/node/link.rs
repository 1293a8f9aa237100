//! A stream of packets to the agent on one node, shared by all runs of this process there.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::agents::{self, Build};
use super::packets::Packets;
use super::ssh::Ssh;
use super::{LinkError, embedded, hold, printable};
use crate::config::{Config, NodeConfig};
use crate::paths::Paths;
use crate::proto::{self, Down, MirrorKey, Up, Welcome};
use crate::table::NodeClock;

/// Packets that may wait for one run before the stream is held back.
const QUEUE: usize = 64;

type Routes = Arc<Mutex<HashMap<u32, mpsc::Sender<Down>>>>;
type Writing = Pin<Box<dyn AsyncWrite + Send>>;

/// A living stream to an agent. Dropping it ends the stream, and with it the runs that are not detached.
pub struct Link {
    /// The node's name.
    pub node: String,
    /// The agent's greeting.
    pub welcome: Welcome,
    /// When the greeting arrived.
    pub greeted: Instant,
    /// From opening the session to the greeting.
    pub rtt: Duration,
    stream: Stream,
}

/// A session that was opened on a node, before its agent has greeted: what is sent now arrives right behind the line that
/// starts the agent. Where there is no agent, nobody reads it.
pub struct Opening {
    /// The node's name.
    pub node: String,
    opened: Instant,
    stream: Stream,
    first: oneshot::Receiver<Result<First, LinkError>>,
    /// Whose masters are forgotten when the agent stays silent.
    ssh: Option<Ssh>,
}

struct Stream {
    tx: mpsc::Sender<Vec<u8>>,
    routes: Routes,
    heard: Arc<Heard>,
    /// Becomes true at the end of the stream.
    ended: watch::Receiver<bool>,
    next: AtomicU32,
    /// Hash of the build whose agent it is; empty for an embedded one.
    build: String,
    /// By what it goes back to the holder that has lent it.
    lease: Option<hold::Lease>,
    /// Ends the reader between two packets; it tells what it has read beyond.
    stop: oneshot::Sender<()>,
    reader: tokio::task::JoinHandle<Option<Vec<u8>>>,
    /// Tells whether all was written when it was told to end.
    writer: tokio::task::JoinHandle<bool>,
    _holds: Box<dyn std::any::Any + Send + Sync>,
}

/// When the other side was last heard.
struct Heard {
    start: Instant,
    millis: AtomicU64,
    /// What was heard waits to be taken: the reader is slow, not the link silent.
    waits: AtomicBool,
}

impl Heard {
    fn note(&self) {
        self.millis
            .store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        if self.waits.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let heard = Duration::from_millis(self.millis.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(heard)
    }
}

/// One run's end of a link.
pub struct RunChannel {
    run: u32,
    tx: mpsc::Sender<Vec<u8>>,
    /// What the run says; `None` when the stream has ended.
    pub rx: mpsc::Receiver<Down>,
    routes: Routes,
}

impl RunChannel {
    /// Sends a message.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn send(&self, up: &Up) -> Result<(), Ended> {
        self.tx.send(proto::encode(self.run, up)).await.map_err(|_| Ended)
    }
}

impl Drop for RunChannel {
    fn drop(&mut self) {
        self.routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.run);
    }
}

/// The stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// How [`Link::open`] treats a node without an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// Upload it if that can be done without asking anybody.
    Quietly,
    /// Leave the node as it is.
    Never,
}

impl Link {
    /// Connects to the agent of `node` by `deadline`; where this build's agent is missing there, it is installed first
    /// (uploading may take longer than `deadline`).
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn open(
        node: &NodeConfig,
        config: &Config,
        paths: &Paths,
        deadline: Instant,
        install: Install,
    ) -> Result<Link, LinkError> {
        if let Some(home) = &node.embedded {
            return Link::embedded(&node.name, home, deadline).await;
        }
        let ssh = Ssh::new(&node.name, config.ssh_config.as_deref(), paths)?;
        let build = Build::own()?;
        let mut first = Link::over_ssh(&node.name, &ssh, &build, deadline).await;
        if install == Install::Quietly
            && matches!(first, Err(LinkError::Agent(_)))
            && let Ok(platform) = agents::uname(&ssh).await
        {
            // It is there, but no agent: damaged. The upload checks what it puts in its place.
            first = Ok(Greeting::Missing(platform));
        }
        match first? {
            Greeting::Here(link) => Ok(*link),
            Greeting::Missing(platform) if install == Install::Quietly => {
                let agent = agents::find(&platform, &build, paths)?;
                agents::upload(&ssh, &agent).await?;
                let deadline = Instant::now() + Duration::from_secs(10);
                match Link::over_ssh(&node.name, &ssh, &build, deadline).await? {
                    Greeting::Here(link) => Ok(*link),
                    Greeting::Missing(_) => Err(LinkError::Agent(
                        "the agent was uploaded but is not found there".into(),
                    )),
                }
            }
            Greeting::Missing(_) => Err(LinkError::Agent("the agent is not installed there".into())),
        }
    }

    /// Opens a session that starts the agent of `node`, by `deadline`, and does not wait for the greeting.
    ///
    /// # Errors
    /// See [`LinkError`]; for an embedded node always.
    pub async fn begin(
        node: &NodeConfig,
        config: &Config,
        paths: &Paths,
        deadline: Instant,
    ) -> Result<Opening, LinkError> {
        if node.embedded.is_some() {
            return Err(LinkError::Here("an embedded node has no session".into()));
        }
        let ssh = Ssh::new(&node.name, config.ssh_config.as_deref(), paths)?;
        Opening::over_ssh(&node.name, &ssh, &Build::own()?, deadline).await
    }

    /// Borrows the standing stream to `node`, if a holder has one to lend. The agent is asked to greet; what it is asked besides may
    /// travel right behind that.
    pub async fn borrow(node: &NodeConfig, config: &Config, paths: &Paths) -> Option<Opening> {
        if node.embedded.is_some() || config.policy.hold == 0 {
            return None;
        }
        let ssh = Ssh::new(&node.name, config.ssh_config.as_deref(), paths).ok()?;
        let build = Build::own().ok()?;
        let lent = hold::lease(&ssh, &build).await?;
        let mut opening = Opening::new(
            &node.name,
            build.hash,
            Box::pin(lent.to_node),
            lent.packets,
            Greets::Asked,
            Box::new(()),
        );
        opening.stream.next = AtomicU32::new(lent.first);
        opening.stream.lease = Some(lent.lease);
        opening.stream.tx.send(proto::encode(0, &Up::Ask)).await.ok()?;
        Some(opening)
    }

    async fn embedded(name: &str, home: &Path, deadline: Instant) -> Result<Link, LinkError> {
        let mut child = embedded::start(home)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(LinkError::Here("the embedded node has no pipes".into()));
        };
        let opening = Opening::new(
            name,
            String::new(),
            Box::pin(stdin),
            Packets::new(Box::pin(stdout), Vec::new()),
            Greets::Unasked,
            Box::new(child),
        );
        match opening.greeted(deadline).await? {
            Greeting::Here(link) => Ok(*link),
            Greeting::Missing(_) => Err(LinkError::Agent("the embedded agent did not answer".into())),
        }
    }

    async fn over_ssh(
        name: &str,
        ssh: &Ssh,
        build: &Build,
        deadline: Instant,
    ) -> Result<Greeting, LinkError> {
        let opening = Opening::over_ssh(name, ssh, build, deadline).await?;
        opening.greeted(deadline).await
    }

    /// Opens a run's channel.
    pub fn channel(&self) -> RunChannel {
        self.stream.channel()
    }

    /// Whether a holder has lent it.
    pub fn is_lent(&self) -> bool {
        self.stream.lease.is_some()
    }

    /// Ends it once all that was said is on its way. A lent stream goes back, for whoever comes next: nothing may be under way on it
    /// any more; without this the holder ends the stream.
    pub async fn leave(self) {
        let silence = self.silence();
        let Stream {
            tx,
            lease,
            stop,
            reader,
            writer,
            _holds,
            ..
        } = self.stream;
        let back = async {
            tx.send(bye()).await.ok()?;
            writer.await.ok().filter(|all| *all)?;
            let lease = lease?;
            let _ = stop.send(());
            let rest = reader.await.ok().flatten()?;
            lease.give_back(silence, &rest).await.ok()
        };
        let _ = tokio::time::timeout(Duration::from_millis(200), back).await;
    }

    /// Time since the node was last heard.
    pub fn silence(&self) -> Duration {
        self.listener()()
    }

    /// The node's clock `after` from now, at most: the true one is later by up to the time the greeting took.
    pub fn node_time(&self, after: Duration) -> u64 {
        self.welcome.now + (self.greeted.elapsed() + after).as_millis() as u64
    }

    /// The node's clock minus ours, in milliseconds; 0 where they may well be the same, so that times which a command sets cross as
    /// they are.
    pub fn clock_offset(&self) -> i64 {
        let now = crate::agent::now_ms() as i64;
        let offset = (self.welcome.now + self.greeted.elapsed().as_millis() as u64) as i64 - now;
        likely_offset(offset, self.rtt)
    }

    /// The node's clock, to be remembered: with it the next run there need not wait for the greeting.
    pub fn clock(&self) -> NodeClock {
        NodeClock::new(self.node_time(Duration::ZERO), &self.stream.build)
    }

    /// What tells the time since the node was last heard, for another task.
    pub fn listener(&self) -> impl Fn() -> Duration + use<> {
        let heard = self.stream.heard.clone();
        move || heard.silence()
    }

    /// Asks something that may take long, and waits for as long as the node is heard.
    ///
    /// # Errors
    /// When the stream ends or falls silent for `limit`.
    pub async fn ask_patiently(&self, up: &Up, limit: Duration) -> Result<Down, LinkError> {
        const LOOK: Duration = Duration::from_millis(500);
        let fell_silent = async {
            while self.silence() < limit {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            answer = self.ask(up, Duration::MAX) => answer,
            () = fell_silent => Err(LinkError::Unreachable("no answer".into())),
        }
    }

    /// Asks something of the agent itself and waits for the answer.
    ///
    /// # Errors
    /// When the stream ends or nothing comes within `limit`.
    pub async fn ask(&self, up: &Up, limit: Duration) -> Result<Down, LinkError> {
        let (tx, mut rx) = mpsc::channel(4);
        self.stream
            .routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(0, tx);
        let sent = self.stream.tx.send(proto::encode(0, up)).await;
        let answer = tokio::time::timeout(limit, rx.recv()).await;
        self.stream
            .routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&0);
        match (sent, answer) {
            (Ok(()), Ok(Some(down))) => Ok(down),
            _ => Err(LinkError::Unreachable("no answer".into())),
        }
    }
}

impl Stream {
    fn channel(&self) -> RunChannel {
        let run = self.next.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = mpsc::channel(QUEUE);
        self.routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(run, tx);
        if *self.ended.borrow() {
            // The reader is gone and would never close this channel.
            self.routes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&run);
        }
        RunChannel {
            run,
            tx: self.tx.clone(),
            rx,
            routes: self.routes.clone(),
        }
    }
}

/// What came back first.
pub enum Greeting {
    /// The agent's greeting.
    Here(Box<Link>),
    /// There is no agent of this build; `uname -s -m` said this.
    Missing(String),
}

/// When the agent greets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Greets {
    /// Unasked, as it was started just now.
    Unasked,
    /// When it is asked: it has been there for a while.
    Asked,
}

enum First {
    Welcome(Box<Welcome>, Instant),
    Missing(String),
}

impl Opening {
    async fn over_ssh(name: &str, ssh: &Ssh, build: &Build, deadline: Instant) -> Result<Opening, LinkError> {
        let pipes = ssh.open(&agents::start_command(build), deadline).await?;
        let holds: Box<dyn std::any::Any + Send + Sync> = Box::new((pipes.stderr, pipes.session));
        let opening = Opening::new(
            name,
            build.hash.clone(),
            Box::pin(pipes.stdin),
            Packets::new(Box::pin(pipes.stdout), Vec::new()),
            Greets::Unasked,
            holds,
        );
        Ok(Opening {
            ssh: Some(ssh.clone()),
            ..opening
        })
    }

    fn new(
        name: &str,
        build: String,
        stdin: Writing,
        stdout: Packets,
        greets: Greets,
        holds: Box<dyn std::any::Any + Send + Sync>,
    ) -> Opening {
        let opened = Instant::now();
        let (tx, out) = mpsc::channel(QUEUE);
        let routes = Routes::default();
        let heard = Arc::new(Heard {
            start: opened,
            millis: AtomicU64::new(0),
            waits: AtomicBool::new(false),
        });
        let (ended_tx, ended) = watch::channel(false);
        let (first_tx, first) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let writer = tokio::spawn(write_loop(stdin, out));
        let reader = tokio::spawn(read_loop(
            stdout,
            greets,
            first_tx,
            routes.clone(),
            heard.clone(),
            ended_tx,
            stopped,
        ));
        tokio::spawn(beat(tx.downgrade()));
        Opening {
            node: name.to_owned(),
            opened,
            stream: Stream {
                tx,
                routes,
                heard,
                ended,
                next: AtomicU32::new(1),
                build,
                lease: None,
                stop,
                reader,
                writer,
                _holds: holds,
            },
            first,
            ssh: None,
        }
    }

    /// Opens a run's channel.
    pub fn channel(&self) -> RunChannel {
        self.stream.channel()
    }

    /// Lets the node look at a mirror for the run that comes. Nothing hangs on it.
    pub async fn prepare(&self, mirror: MirrorKey) {
        let _ = self
            .stream
            .tx
            .send(proto::encode(0, &Up::Prepare { mirror }))
            .await;
    }

    /// The node's clock `after` from now, at most, by what is known of it; `None` where that is too old, or was told by
    /// another build's agent.
    pub fn node_time(&self, clock: &NodeClock, after: Duration) -> Option<u64> {
        clock.time(&self.stream.build, after)
    }

    /// The link, if the agent has greeted by now; otherwise this again.
    ///
    /// # Errors
    /// When the stream ended without a greeting.
    pub fn settled(mut self) -> Result<Result<Link, Box<Opening>>, LinkError> {
        match self.first.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => Ok(Err(Box::new(self))),
            Ok(Ok(First::Welcome(welcome, greeted))) => Ok(Ok(Link {
                node: self.node,
                welcome: *welcome,
                greeted,
                rtt: greeted - self.opened,
                stream: self.stream,
            })),
            Ok(Err(e)) => Err(e),
            Ok(Ok(First::Missing(_))) | Err(oneshot::error::TryRecvError::Closed) => {
                Err(LinkError::Agent("no agent's greeting came from there".into()))
            }
        }
    }

    /// Waits for the agent's greeting until `deadline`.
    ///
    /// # Errors
    /// When nothing comes in time, or something else.
    pub async fn greeted(self, deadline: Instant) -> Result<Greeting, LinkError> {
        let Opening {
            node,
            opened,
            stream,
            first,
            ssh,
        } = self;
        let first = match timeout_at(deadline, first).await {
            Ok(Ok(first)) => first?,
            Ok(Err(_)) => return Err(LinkError::Agent("no agent's greeting came from there".into())),
            Err(_) => {
                if let Some(ssh) = ssh {
                    ssh.forget_all();
                }
                return Err(LinkError::Unreachable(
                    "connected, but the agent did not answer in time".into(),
                ));
            }
        };
        Ok(match first {
            First::Missing(platform) => Greeting::Missing(platform),
            First::Welcome(welcome, greeted) => Greeting::Here(Box::new(Link {
                node,
                welcome: *welcome,
                greeted,
                rtt: greeted - opened,
                stream,
            })),
        })
    }
}

/// Reads the greeting, or what stands in its place.
async fn greeting(stdout: &mut Packets, greets: Greets) -> Result<First, LinkError> {
    let none = |e| LinkError::Agent(format!("no agent's greeting came from there: {e}"));
    if greets == Greets::Asked {
        // Whatever else comes before was meant for somebody else.
        loop {
            let (run, body) = stdout.next().await.map_err(none)?;
            if run == 0
                && let Ok(Down::Welcome(w)) = proto::decode::<Down>(body)
            {
                return Ok(First::Welcome(w, Instant::now()));
            }
        }
    }
    let body = match skip_noise(stdout).await.map_err(none)? {
        Noise::Missing(platform) => return Ok(First::Missing(platform)),
        Noise::Magic => stdout.next().await.map_err(none)?.1,
    };
    match proto::decode::<Down>(body) {
        Ok(Down::Welcome(w)) if w.version == proto::VERSION => Ok(First::Welcome(w, Instant::now())),
        Ok(Down::Welcome(w)) => Err(LinkError::Agent(format!(
            "the agent speaks version {} of the protocol, this cx {}",
            w.version,
            proto::VERSION
        ))),
        _ => Err(LinkError::Agent(
            "the agent's greeting can't be understood".into(),
        )),
    }
}

pub(super) enum Noise {
    Magic,
    Missing(String),
}

/// Reads up to the agent's magic line, or to the line that says it is missing, past whatever rc files print: at most
/// [`proto::MAX_NOISE`].
///
/// # Errors
/// Those of reading; and with what was said, where the stream ends first or too much comes.
pub(super) async fn skip_noise(stdout: &mut Packets) -> std::io::Result<Noise> {
    let mut seen = Vec::new();
    // Where the newline before this line stands: each line is looked at once, however many there are.
    let mut line = 0;
    while seen.len() < proto::MAX_NOISE {
        let Some(byte) = stdout.byte().await? else {
            let said = printable(&String::from_utf8_lossy(&seen), 200);
            let said = if said.is_empty() {
                "it closed at once".to_owned()
            } else {
                format!("it said: {said}")
            };
            return Err(std::io::Error::other(said));
        };
        seen.push(byte);
        if byte != b'\n' {
            continue;
        }
        if seen.ends_with(proto::MAGIC) {
            return Ok(Noise::Magic);
        }
        if let Some(rest) = seen[line..].strip_prefix(agents::MISSING.as_bytes()) {
            return Ok(Noise::Missing(printable(&String::from_utf8_lossy(rest), 100)));
        }
        line = seen.len() - 1;
    }
    let lines = seen.split(|b| *b == b'\n');
    let mut lines = lines.map(|l| printable(&String::from_utf8_lossy(&l[..l.len().min(400)]), 100));
    let first = lines.find(|l| !l.is_empty()).unwrap_or_default();
    Err(std::io::Error::other(format!(
        "a megabyte of other output came first, as a start-up file of its shell may print; it begins with {first:?}"
    )))
}

async fn read_loop(
    mut stdout: Packets,
    greets: Greets,
    first: oneshot::Sender<Result<First, LinkError>>,
    routes: Routes,
    heard: Arc<Heard>,
    ended: watch::Sender<bool>,
    stop: oneshot::Receiver<()>,
) -> Option<Vec<u8>> {
    let greeting = greeting(&mut stdout, greets).await;
    let is_agent = matches!(greeting, Ok(First::Welcome(..)));
    let _ = first.send(greeting);
    let rest = if is_agent {
        carry(&mut stdout, &routes, &heard, stop).await
    } else {
        None
    };
    let _ = ended.send(true);
    routes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    rest
}

/// `measured` is too small by up to the time `rtt` that the greeting took.
fn likely_offset(measured: i64, rtt: Duration) -> i64 {
    /// Clocks that a network keeps together differ by less, milliseconds.
    const SAME: i64 = 5;
    let may_be_none = (-SAME - rtt.as_millis() as i64..=SAME).contains(&measured);
    if may_be_none { 0 } else { measured }
}

/// Carries packets to their runs until the end of the stream, or until it is to `stop`: then what was read beyond is the result.
async fn carry(
    stdout: &mut Packets,
    routes: &Routes,
    heard: &Heard,
    stop: oneshot::Receiver<()>,
) -> Option<Vec<u8>> {
    let stopped = async {
        // Nobody is left who could say so.
        if stop.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(stopped);
    loop {
        let packet = tokio::select! {
            biased;
            () = &mut stopped => return Some(stdout.hand_on()),
            packet = stdout.next() => packet,
        };
        let (run, body) = packet.ok()?;
        heard.note();
        let down = proto::decode::<Down>(body).ok()?;
        if matches!(down, Down::Beat) {
            continue;
        }
        let to = routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&run)
            .cloned();
        if let Some(to) = to {
            // A run that reads slowly holds the stream back, and with it the node.
            if let Err(mpsc::error::TrySendError::Full(down)) = to.try_send(down) {
                heard.waits.store(true, Ordering::Relaxed);
                let _ = to.send(down).await;
                heard.note();
                heard.waits.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// What tells the writer to end once all before it is written. It never goes out.
fn bye() -> Vec<u8> {
    vec![0; 8]
}

async fn write_loop(mut stdin: Writing, mut out: mpsc::Receiver<Vec<u8>>) -> bool {
    while let Some(packet) = out.recv().await {
        if packet == bye() {
            return true;
        }
        if stdin.write_all(&packet).await.is_err() || stdin.flush().await.is_err() {
            break;
        }
    }
    false
}

/// Beats every second while the link lives; without a strong sender of its own, or no link would ever end.
async fn beat(tx: mpsc::WeakSender<Vec<u8>>) {
    let packet = proto::encode(0, &Up::Beat);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(tx) = tx.upgrade() else { return };
        // A full queue means that other packets are on their way, which tell as much.
        let _ = tx.try_send(packet.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_may_be_the_same_are() {
        let rtt = Duration::from_millis(30);
        for (measured, likely) in [
            (0, 0),
            (5, 0),
            (-35, 0),
            (6, 6),
            (-36, -36),
            (3_600_000, 3_600_000),
        ] {
            assert_eq!(likely_offset(measured, rtt), likely, "{measured}");
        }
    }
}
