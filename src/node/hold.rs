//! The standing stream to a node: a small process, `cx hold NODE`, keeps an agent on an open session and lends it to one cx at a
//! time. That spares the session, the login shell's rc files and the agent's start.
//!
//! A cx that had to open a stream of its own starts one when its run has ended well. It listens on a socket in cx's own directory,
//! by the names of which only this build finds it, and lends the stream to the first who asks; whoever comes meanwhile finds the
//! next holder, or opens a stream of its own. So a reader that pauses holds up nobody else.
//!
//! It lends the two descriptors themselves, with what it has read of a packet that is not whole yet: while the stream is lent,
//! nothing goes through the holder, and it beats for neither side, so that both see the other's silence as they would without it. A
//! client that has finished gives the stream back (`Lease::give_back`), again with what it has read beyond. One that ends
//! without that is gone: then the holder ends, too, and with it the stream, which means to the agent what it always means. What is
//! true of a stream of one's own is so true of a lent one: what a killed cx leaves on the node, what becomes of a detached run.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, MissedTickBehavior, timeout, timeout_at};

use super::LinkError;
use super::agents::{self, Build};
use super::link::{self, Noise};
use super::packets::Packets;
use super::ssh::Ssh;
use crate::config::{Config, NodeConfig};
use crate::paths::{self, Paths};
use crate::proto::{self, Down, Up};
use crate::table::steady_ms;

/// Holders of one node and build.
const HOLDERS: u32 = 3;

/// What a holder says first, with the two descriptors; then comes the first run number that its client may use, how many bytes it
/// has read of the next packet, and those.
const HELLO: [u8; 4] = *b"cxh2";

/// What is read of packets that are not whole is no more than this.
const REST: usize = crate::proto::MAX_PACKET + 8;

/// Run numbers that one client may use.
const NUMBERS: u32 = 1 << 10;

/// How long a holder may take to say hello. It does nothing else meanwhile; one that stands still is passed over.
const ANSWER: Duration = Duration::from_millis(200);

/// A stream on which the node has been silent for longer is not lent: its agent beats every second. Counted in time that passes
/// in sleep, too.
const FRESH_MS: u64 = 2500;

/// Silence after which the holder gives the stream up.
const SILENT_MS: u64 = 10_000;

/// A standing stream while it is lent.
pub(super) struct Lent {
    /// What comes on it.
    pub packets: Packets,
    /// Where packets go to the node.
    pub to_node: pipe::Sender,
    /// The first run number to use.
    pub first: u32,
    /// By what it goes back.
    pub lease: Lease,
}

/// The connection to the holder.
pub(super) struct Lease(UnixStream);

impl Lease {
    /// Gives the stream back, on which the node was last heard so long ago, and of which so much was read and not taken.
    ///
    /// # Errors
    /// When the holder is gone.
    pub(super) async fn give_back(mut self, silence: Duration, rest: &[u8]) -> std::io::Result<()> {
        let silence = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
        self.0.write_u32_le(silence).await?;
        self.say_rest(rest).await
    }

    /// What the client says at the end: the silence, and what it has read and not taken.
    async fn taken_back(&mut self) -> std::io::Result<(Duration, Vec<u8>)> {
        let silence = self.0.read_u32_le().await?;
        Ok((Duration::from_millis(silence.into()), self.rest().await?))
    }

    async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let len = self.0.read_u32_le().await? as usize;
        if len > REST {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut rest = vec![0; len];
        self.0.read_exact(&mut rest).await?;
        Ok(rest)
    }

    /// Says hello to a client and hands the descriptors over.
    async fn hand_over(&mut self, fds: &[OwnedFd; 2], first: u32) -> std::io::Result<()> {
        let hello = [HELLO, first.to_le_bytes()].concat();
        let sent = self.0.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [fds[0].as_fd(), fds[1].as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&fds));
            Ok(rustix::net::sendmsg(
                &self.0,
                &[IoSlice::new(&hello)],
                &mut control,
                SendFlags::empty(),
            )?)
        });
        sent.await.map(drop)
    }

    async fn say_rest(&mut self, rest: &[u8]) -> std::io::Result<()> {
        let len = (rest.len() as u32).to_le_bytes();
        self.0.write_all(&[&len[..], rest].concat()).await
    }

    /// The other end of [`Lease::hand_over`]: the descriptors and the first run number.
    async fn take_over(&mut self) -> std::io::Result<(OwnedFd, OwnedFd, u32)> {
        let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let mut hello = [0; 8];
        let mut fds: Vec<OwnedFd> = Vec::new();
        let came = self.0.async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut hello)];
            let got = rustix::net::recvmsg(&self.0, into, &mut control, FLAGS)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(got) = message {
                    fds.extend(got);
                }
            }
            Ok(got.bytes)
        });
        let whole = came.await? == hello.len() && hello[..4] == HELLO;
        for fd in &fds {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
        }
        let [_, _, _, _, a, b, c, d] = hello;
        match (fds.pop(), fds.pop(), fds.pop()) {
            (Some(to), Some(from), None) if whole => Ok((from, to, u32::from_le_bytes([a, b, c, d]))),
            _ => Err(bad()),
        }
    }
}

/// No other program that this one starts in the same moment gets the descriptors.
#[cfg(not(target_vendor = "apple"))]
const FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const FLAGS: RecvFlags = RecvFlags::empty();

/// Asks for the standing stream to a node. `None` where there is none, or all are lent.
pub(super) async fn lease(ssh: &Ssh, build: &Build) -> Option<Lent> {
    for n in 0..HOLDERS {
        let socket = ssh.hold_socket(&build.hash, n);
        if !socket.exists() {
            continue;
        }
        let ask = async {
            let mut lease = Lease(UnixStream::connect(&socket).await.ok()?);
            if lease.0.peer_cred().ok()?.uid() != rustix::process::geteuid().as_raw() {
                return None;
            }
            let (from, to, first) = lease.take_over().await.ok()?;
            let rest = lease.rest().await.ok()?;
            Some(Lent {
                packets: Packets::new(Box::pin(pipe::Receiver::from_owned_fd(from).ok()?), rest),
                to_node: pipe::Sender::from_owned_fd(to).ok()?,
                first,
                lease,
            })
        };
        if let Ok(Some(lent)) = timeout(ANSWER, ask).await {
            return Some(lent);
        }
    }
    None
}

/// How many standing streams to a node this build has.
pub fn count(node: &NodeConfig, config: &Config, paths: &Paths) -> u32 {
    let sockets = || {
        let ssh = Ssh::new(&node.name, config.ssh_config.as_deref(), paths).ok()?;
        let build = Build::own().ok()?;
        let held = |n: &u32| is_held(&ssh.hold_socket(&build.hash, *n));
        Some((0..HOLDERS).filter(held).count() as u32)
    };
    sockets().unwrap_or(0)
}

fn is_held(socket: &Path) -> bool {
    File::open(socket.with_extension("lock"))
        .is_ok_and(|f| rustix::fs::flock(&f, FlockOperation::NonBlockingLockShared).is_err())
}

/// Starts a holder for `node`, unless there are enough, or the user wants none.
pub fn start(node: &NodeConfig, config: &Config, paths: &Paths) {
    if node.embedded.is_some() || config.policy.hold == 0 || count(node, config, paths) >= HOLDERS {
        return;
    }
    let Ok(exe) = std::env::current_exe() else { return };
    let mut command = Command::new(exe);
    // It lives on for minutes: secrets in the caller's environment are none of its business.
    command.env_clear();
    for name in [
        "HOME",
        "PATH",
        "USER",
        "LOGNAME",
        "LANG",
        "SHELL",
        "SSH_AUTH_SOCK",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let child = command
        .env("CX_CONFIG", &paths.config_file)
        .arg("hold")
        .arg(&node.name)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    // It is a child of nobody's in a moment: see `main`.
    if let Ok(mut child) = child {
        let _ = child.wait();
    }
}

/// Runs `cx hold NODE`: goes into the background and keeps the stream until it is not needed any more.
pub fn main(args: &[OsString]) -> ExitCode {
    let Some(node) = args.first().and_then(|n| n.to_str()) else {
        return ExitCode::from(2);
    };
    // SAFETY: this process has one thread; the child goes on as the only one, in a session of its own.
    match unsafe { libc::fork() } {
        0 => {}
        -1 => return ExitCode::FAILURE,
        _ => return ExitCode::SUCCESS,
    }
    let _ = rustix::process::setsid();
    crate::learned::let_go();
    let ended = crate::pipeline::runtime().and_then(|runtime| runtime.block_on(hold(node)));
    // The runtime is gone, and with it the stream. Nobody listens to an error.
    ExitCode::from(u8::from(ended.is_err()))
}

/// What must stay as it is for the holder to stay.
struct Grounds {
    node: String,
    paths: Paths,
    ssh_config: Option<PathBuf>,
    idle: Duration,
    exe: (PathBuf, Stamp),
    config: Stamp,
    socket: (PathBuf, Stamp),
}

type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let of = |m: Metadata| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec());
    std::fs::metadata(path).ok().map(of)
}

impl Grounds {
    /// Whether they are gone: another program in the place of this one, `cx off`, a configuration without this node.
    fn are_gone(&mut self) -> bool {
        if stamp(&self.exe.0) != self.exe.1
            || stamp(&self.socket.0) != self.socket.1
            || self.paths.off_file().exists()
        {
            return true;
        }
        let config = stamp(&self.paths.config_file);
        if config == self.config {
            return false;
        }
        self.config = config;
        let Ok(now) = Config::load(&self.paths) else {
            return true;
        };
        self.idle = Duration::from_secs(now.policy.hold.into());
        let named = now
            .nodes
            .iter()
            .any(|n| n.name == self.node && n.embedded.is_none());
        !named || now.policy.hold == 0 || now.ssh_config != self.ssh_config
    }
}

/// The agent's stream as the holder has it: from the node and to it.
struct Held {
    ends: [OwnedFd; 2],
    /// When the node was last heard, in steady time.
    heard_ms: u64,
}

impl Held {
    /// Takes the stream in hand, of which `rest` was read already. While it is lent it is not: what goes over it would wake this
    /// process for nothing.
    fn open(&self, rest: Vec<u8>) -> std::io::Result<(Packets, pipe::Sender)> {
        let from = pipe::Receiver::from_owned_fd(self.ends[0].try_clone()?)?;
        let to = pipe::Sender::from_owned_fd(self.ends[1].try_clone()?)?;
        Ok((Packets::new(Box::pin(from), rest), to))
    }

    fn silence_ms(&self) -> u64 {
        steady_ms().saturating_sub(self.heard_ms)
    }
}

async fn hold(node: &str) -> anyhow::Result<()> {
    let paths = Paths::from_env()?;
    let config = Config::load(&paths)?;
    let exe = std::env::current_exe()?;
    let exe = (exe.clone(), stamp(&exe));
    let config_stamp = stamp(&paths.config_file);
    let ssh = Ssh::new(node, config.ssh_config.as_deref(), &paths)?;
    let build = Build::own()?;
    let Some((socket, _lock)) = place(&ssh, &build)? else {
        return Ok(());
    };

    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pipes = ssh.open(&agents::start_command(&build), deadline).await?;
    let ends = [
        pipes.stdout.as_fd().try_clone_to_owned()?,
        pipes.stdin.as_fd().try_clone_to_owned()?,
    ];
    let mut packets = Packets::new(Box::pin(pipes.stdout), Vec::new());
    match timeout_at(deadline, link::skip_noise(&mut packets)).await?? {
        Noise::Magic => {}
        Noise::Missing(_) => anyhow::bail!(LinkError::Agent("the agent is not installed there".into())),
    }
    match proto::decode::<Down>(packets.next().await?.1)? {
        Down::Welcome(w) if w.version == proto::VERSION => {}
        _ => anyhow::bail!("the agent's greeting can't be understood"),
    }
    // Its warnings are nobody's business, but they must not fill the pipe.
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut pipes.stderr, &mut tokio::io::sink()).await;
    });
    let held = Held {
        ends,
        heard_ms: steady_ms(),
    };
    let rest = packets.hand_on();
    drop((packets, pipes.stdin));
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    let socket_stamp = stamp(&socket);
    let grounds = Grounds {
        node: node.to_owned(),
        paths,
        ssh_config: config.ssh_config,
        idle: Duration::from_secs(config.policy.hold.into()),
        exe,
        config: config_stamp,
        socket: (socket.clone(), socket_stamp),
    };
    let _ = lend(held, rest, &listener, grounds).await;
    if stamp(&socket) == socket_stamp {
        let _ = std::fs::remove_file(&socket);
    }
    drop(pipes.session);
    Ok(())
}

/// A free place for a socket, with the lock that the kernel frees.
fn place(ssh: &Ssh, build: &Build) -> anyhow::Result<Option<(PathBuf, File)>> {
    for n in 0..HOLDERS {
        let socket = ssh.hold_socket(&build.hash, n);
        let lock = paths::lock_file(&socket.with_extension("lock"))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // What a holder left that was killed.
            let _ = std::fs::remove_file(&socket);
            return Ok(Some((socket, lock)));
        }
    }
    Ok(None)
}

/// Lends the stream, of which `rest` was read, until it is not to be kept any longer.
async fn lend(
    mut held: Held,
    rest: Vec<u8>,
    listener: &UnixListener,
    mut grounds: Grounds,
) -> std::io::Result<()> {
    let beat = proto::encode(0, &Up::Beat);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut used = Instant::now();
    let mut first = 1u32;
    let (mut packets, mut to_node) = held.open(rest)?;
    loop {
        tokio::select! {
            packet = packets.next() => {
                packet?;
                held.heard_ms = steady_ms();
            }
            client = listener.accept() => {
                let (client, _) = client?;
                let own = client.peer_cred().is_ok_and(|c| c.uid() == rustix::process::geteuid().as_raw());
                if !own {
                    continue;
                }
                // A node that has fallen silent, or this machine slept: whoever asks opens a stream of its own.
                if held.silence_ms() > FRESH_MS || grounds.are_gone() {
                    return Ok(());
                }
                let rest = packets.hand_on();
                drop((packets, to_node));
                let Some(rest) = serve(&mut held, listener, client, first, rest).await else {
                    return Ok(());
                };
                (packets, to_node) = held.open(rest)?;
                used = Instant::now();
                let Some(next) = first.checked_add(NUMBERS) else { return Ok(()) };
                first = next;
            }
            _ = tick.tick() => {
                if held.silence_ms() > SILENT_MS || used.elapsed() >= grounds.idle || grounds.are_gone() {
                    return Ok(());
                }
                to_node.write_all(&beat).await?;
            }
        }
    }
}

/// Lends the stream, of which `rest` was read, to one client; what was read of it once it is back, if that comes to pass.
async fn serve(
    held: &mut Held,
    listener: &UnixListener,
    client: UnixStream,
    first: u32,
    rest: Vec<u8>,
) -> Option<Vec<u8>> {
    let mut lease = Lease(client);
    if lease.hand_over(&held.ends, first).await.is_err() {
        // Gone before it had anything.
        return Some(rest);
    }
    lease.say_rest(&rest).await.ok()?;
    // Whoever comes meanwhile is not to wait.
    let others = async { while listener.accept().await.is_ok() {} };
    tokio::select! {
        biased;
        back = lease.taken_back() => {
            let (silence, rest) = back.ok()?;
            held.heard_ms = steady_ms().saturating_sub(silence.as_millis() as u64);
            Some(rest)
        }
        () = others => None,
    }
}
