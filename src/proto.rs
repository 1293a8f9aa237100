//! The protocol between a client and the agent on a node.
//!
//! After the magic line, both directions carry packets: `u32` length, `u32` run (both little-endian), then a
//! postcard-encoded [`Up`] or [`Down`]. Run 0 is the agent itself; any other number was chosen by the client
//! for one run on this stream, and the agent hands its packets, unread, to that run's supervisor. So several
//! runs share one stream, and a run outlives the stream it was started on.
//!
//! One run, seen from the client:
//!
//! ```text
//! client                                   node
//!                                     <-   Welcome (platform, load, clock), unasked
//! Run {expected generation, pack?}    ->   takes a slot, checks the mirror
//!                                     <-   Admitted | Refused {why, load} | Differs {manifest}
//! Pack ... PackEnd  (if not inline)   ->   staged, then applied at once
//!                                     <-   Synced {generation}
//! Go {start by}     (if not in Run)   ->   starts, unless it is too late
//!                                     <-   Started
//! Stdin, Signal, Beat                 ->
//!                                     <-   Output ..., Beat
//!                                     <-   Back ... (a pack), then Exit
//! ```

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::manifest::{Entry, Generation, RelPath};
use crate::plan::{Brings, Need, Platform};
use crate::request::Ending;
use crate::tty::{Size, Terminal};

/// Version of everything in this file. Both sides must have the same; an agent is uploaded per build, so they have
/// unless something is badly wrong.
pub const VERSION: u32 = 1;

/// What the agent prints before its first packet. What came before it is noise of the node's rc files.
pub const MAGIC: &[u8] = b"\n\x01cx-agent-1\x02\n";

/// How much noise before [`MAGIC`] is read before giving up.
pub const MAX_NOISE: usize = 1 << 20;

/// The largest packet body accepted.
pub const MAX_PACKET: usize = 8 << 20;

/// Bulk data is cut into pieces of at most this size.
pub const CHUNK: usize = 128 << 10;

/// A pack of at most this many bytes travels inside [`Up::Run`]; more is sent only once the node has admitted the run.
pub const INLINE_PACK: usize = 256 << 10;

/// Bytes of standard input that may be under way.
pub const STDIN_WINDOW: usize = 1 << 20;

/// From client to node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Up {
    /// Run 0: heartbeat, every second.
    Beat,
    /// Run 0: ask for a fresh [`Welcome`].
    Ask,
    /// Run 0: a run in this mirror comes soon, which may be looked at meanwhile. Nothing hangs on it, and there is no answer.
    Prepare {
        /// The mirror.
        mirror: MirrorKey,
    },
    /// Run 0: free what lies on this node for `client` (all of it, for `None`), for `cx nodes remove --purge`.
    Purge {
        /// Key of the client, as in [`MirrorKey`].
        client: Option<String>,
    },
    /// Run 0: list what lies there for a client, and collect it.
    Gc(GcAsk),
    /// Starts a run.
    Run(Box<RunStart>),
    /// Attaches to the run of this id, which was started on another stream.
    Attach {
        /// The run's id.
        id: String,
        /// Output bytes of this run that the client already has.
        have: u64,
    },
    /// A piece of the pack.
    Pack(#[serde(with = "bytes")] Vec<u8>),
    /// The pack is complete.
    PackEnd,
    /// Start, unless the node's clock is past `start_by`.
    Go {
        /// Milliseconds since the epoch, in the node's clock.
        start_by: u64,
    },
    /// A piece of standard input; empty means end of input.
    Stdin(#[serde(with = "bytes")] Vec<u8>),
    /// Nobody reads the command's descriptor (1 or 2) any more: it gets SIGPIPE at its next write, as it would here.
    Close(u8),
    /// A signal for the command's process group.
    Signal(#[serde(with = "crate::signals")] i32),
    /// End the run now: TERM, then KILL.
    Cancel,
    /// From the agent and other supervisors to a supervisor only: the caller is gone, end the run.
    Gone,
    /// The client has everything, the [`Down::Exit`] too; the node may forget the run.
    Done,
    /// The window of the caller's terminal has another size.
    Resize(Size),
    /// The run goes on without its caller from now on; answered by [`Down::Detached`].
    Detach,
    /// Answer to [`Down::Mark`]: so many bytes of output have arrived in all.
    Got(u64),
    /// Run 0: what became of these runs; answered by [`Down::Seen`].
    Look {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Run 0: end the run of this id, whoever is attached to it; answered by [`Down::Told`].
    Stop {
        /// Its id.
        id: String,
    },
    /// The output of a run so far, whoever is attached to it; answered by [`Down::Output`], and [`Down::Seen`] at the end.
    Read {
        /// Its id.
        id: String,
        /// Go on until the run ends.
        follow: bool,
    },
}

/// Identifies a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorKey {
    /// Key of the client machine and account.
    pub client: String,
    /// Key of the workspace: a hash of its path here.
    pub workspace: String,
    /// Last component of the workspace's path here; the mirror's directory is called the same.
    pub name: String,
}

/// All a node needs to run one command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunStart {
    /// The run's id, chosen by the client; unique.
    pub id: String,
    /// The mirror to run in; `None` runs in the home directory without sync.
    pub mirror: Option<MirrorSpec>,
    /// Without a mirror: the tree on a shared file system to run in.
    pub shared: Option<Shared>,
    /// Program and arguments, as bytes.
    pub argv: Vec<Vec<u8>>,
    /// Variables set on purpose, over the node's login environment.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directories put in front of PATH: relative ones lie in the mirror.
    pub path_prefix: Vec<Vec<u8>>,
    /// umask of the caller.
    pub umask: u32,
    /// Whether standard input will be sent; otherwise it is empty, or `input`.
    pub stdin: bool,
    /// What the rest of the file holds that is standard input at the client: a file there, too.
    #[serde(with = "opt_bytes")]
    pub input: Option<Vec<u8>>,
    /// The terminal of the caller, if any of the three is one.
    pub terminal: Option<Terminal>,
    /// stdout and stderr are the same file here: one pipe there, so that the order holds.
    pub one_pipe: bool,
    /// What must be found before the start.
    pub needs: Vec<NeedSpec>,
    /// Directories, relative to the run's directory, that must exist in the mirror after the sync.
    pub needs_dirs: Vec<Vec<u8>>,
    /// What must stand there outside of the mirror.
    pub needs_paths: Vec<NeedPath>,
    /// Slots of this node, if configured; otherwise the node takes half its cores.
    pub slots: Option<u32>,
    /// Load does not refuse this run.
    pub allow_overload: bool,
    /// Neither load nor full slots refuse this run: it waits for a slot instead (with [`Down::Waiting`]).
    pub insist: bool,
    /// Milliseconds since the epoch in the node's clock past which the node does not start;
    /// `None`: it waits for [`Up::Go`].
    pub start_by: Option<u64>,
    /// Survives the end of its caller.
    pub detached: bool,
    /// Seconds the run lives on after the link went silent.
    pub link_grace: u32,
    /// If the command fails, its [`Exit`] tells of the tools there.
    pub tell_tools: bool,
    /// What the node keeps of this client's: milliseconds without use, bytes in all.
    pub keep: (u64, u64),
    /// Whether there is a command to be run at all.
    pub errand: Errand,
    /// What must have been done in the mirror before the command, in this order.
    pub setup: Vec<SetupStep>,
    /// Mirrors of other trees, up to date, that the command sees too.
    pub also: Vec<Beside>,
    /// Runs whose cx was killed, by their ids: they are ended before the mirror is looked at.
    pub orphans: Vec<String>,
}

/// The mirror of another tree that a command needs beside its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// Which.
    pub key: MirrorKey,
    /// The tree's path on the client.
    pub at: Vec<u8>,
}

/// A tree that is said to lie on a file system which both sides share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Its path, the same on both.
    pub root: Vec<u8>,
    /// The directory to run in, relative to it; empty for its top.
    pub dir: Vec<u8>,
    /// The path of a file that the client has just made; the node takes it away.
    pub mark: Vec<u8>,
    /// What it holds.
    pub content: String,
}

/// Something that a node does once in a mirror, until its key changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupStep {
    /// How it is told to people.
    pub name: String,
    /// A line of shell.
    pub run: String,
    /// Where it runs, relative to the mirror; empty for its top.
    pub dir: Vec<u8>,
    /// The directory that it makes, relative to the mirror: without it the step counts as not done.
    pub makes: Option<Vec<u8>>,
    /// The program that it cannot do without.
    pub needs: Option<String>,
    /// A hash of its text and of what it depends on: hexadecimal digits.
    pub key: String,
}

/// What to list and collect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcAsk {
    /// Key of the client, as in [`MirrorKey`].
    pub client: String,
    /// What was not used for so many milliseconds goes.
    pub older_ms: Option<u64>,
    /// The oldest go until no more bytes are left.
    pub max_bytes: Option<u64>,
    /// Nothing goes; it is only marked.
    pub dry: bool,
}

/// Something that cx keeps on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lying {
    /// `mirror`, `agent`, `conflict` ...
    pub what: String,
    /// A path or name.
    pub name: Vec<u8>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Milliseconds since it was last used.
    pub age_ms: u64,
    /// It is being used.
    pub in_use: bool,
    /// It was removed, or would be.
    pub removed: bool,
}

/// What is wanted of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    /// To run the command.
    #[default]
    Command,
    /// To bring the mirror up to date, and no more.
    Sync,
    /// What changed in the mirror, as after a run there.
    Collect,
    /// These paths of the mirror, as they are; directories with all that lies in them.
    Fetch(Vec<RelPath>),
}

/// A need as the node checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedSpec {
    /// What.
    pub need: Need,
    /// The local major.minor that must be met, if any.
    pub version: Option<String>,
}

/// An absolute path that must stand on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedPath {
    /// The path.
    pub path: Vec<u8>,
    /// The local major.minor of the program there that must be met, if any.
    pub version: Option<String>,
}

/// How a node is to show a tree at the caller's path: `paths` in the config.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathsWish {
    /// As well as it can.
    #[default]
    Auto,
    /// In a mount namespace, or not at all.
    Namespace,
    /// By a mirror that stands at that very path, or not at all.
    Direct,
    /// Not at all: paths are only rewritten in text output.
    Rewrite,
}

/// How a run sees its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMode {
    /// At the caller's path, in a mount namespace.
    Namespace,
    /// At the caller's path, where its mirror stands.
    Direct,
    /// At another path, which is rewritten in text output.
    Rewrite,
    /// There is no mirror: a shared tree, or none.
    Same,
}

/// The mirror and how to sync it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MirrorSpec {
    /// Which.
    pub key: MirrorKey,
    /// The generation at which the client believes it to be.
    pub expected: Generation,
    /// What that generation holds besides what both agreed on: files of the mirror's caches that stand here as they came from there.
    /// The mirror takes them in if they still are what it sent.
    pub adopt: Vec<(RelPath, Entry)>,
    /// The directory to run in, relative to the mirror; empty for its top.
    pub dir: Vec<u8>,
    /// The pack that turns `expected` into the wanted tree, if it is small.
    #[serde(with = "opt_bytes")]
    pub pack: Option<Vec<u8>>,
    /// What comes back.
    pub back: BackSpec,
    /// The workspace's path on the client.
    pub at: Vec<u8>,
    /// How it is to be shown there.
    pub paths: PathsWish,
    /// The command only works where its paths are the client's; elsewhere it is refused.
    pub identity: bool,
}

/// What comes back after the run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BackSpec {
    /// The rule's outputs.
    pub brings: Brings,
    /// Ignore rules that lie outside the tree: the lines of `info/exclude`, `core.excludesFile`, in that order.
    pub extra_ignore: Vec<Vec<u8>>,
    /// Ignored files that exist here but were not sent: come back if they changed there.
    pub exist_here: Vec<RelPath>,
    /// The programs of cargo's that exist here: they come if they changed, or appeared, there.
    pub programs: Vec<RelPath>,
    /// Whether such programs come as well that do not exist here.
    pub new_programs: bool,
    /// Outputs that this node sent and that are not here any more as they came: they come again, changed or not.
    pub again: Vec<RelPath>,
    /// Known cache directories that are not scanned (names), besides those of the run's rule.
    pub limit: u64,
    /// `write_back`: 0 nothing, 1 the rule's outputs only, 2 all.
    pub scope: u8,
}

/// From node to client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Down {
    /// Run 0: unasked at the start, and as the answer to [`Up::Ask`].
    Welcome(Box<Welcome>),
    /// Heartbeat, every second.
    Beat,
    /// Run 0: answer to [`Up::Purge`]: bytes freed.
    Purged(u64),
    /// Run 0: answer to [`Up::Gc`].
    Gc(Vec<Lying>),
    /// The run is admitted and holds a slot; send the pack.
    Admitted,
    /// All slots are taken; the run waits.
    Waiting {
        /// Runs that hold the slots.
        running: u32,
    },
    /// The node does not take this run. Nothing was started.
    Refused {
        /// Why.
        why: Refusal,
        /// Load at that moment.
        load: Load,
    },
    /// The mirror is not at the expected generation: here is its manifest, as a compressed postcard of
    /// [`crate::plan::manifest::Manifest`], in pieces; the last piece has `last`. The client sends a new pack.
    Differs {
        /// A piece.
        #[serde(with = "bytes")]
        data: Vec<u8>,
        /// Whether it is the last one.
        last: bool,
        /// Other runs are live in the mirror: what differs there without a change here is theirs.
        shared: bool,
    },
    /// The pack is applied.
    Synced {
        /// The mirror's generation now.
        generation: Generation,
        /// As [`Exit::sequence`].
        sequence: i64,
        /// There are set-up steps to be done first: the leave to start was dropped, and [`Down::Ready`] follows.
        setup: bool,
    },
    /// A set-up step goes on.
    Setup {
        /// Its name.
        name: String,
        /// The last line of its output; printable only where its sender is to be believed.
        line: String,
    },
    /// All is set up, or what came before the start took longer than the leave was good for; the node waits for [`Up::Go`].
    Ready,
    /// The command started.
    Started {
        /// Process id on the node.
        pid: u32,
        /// How it sees its tree.
        paths: PathMode,
        /// Why not at the caller's path, where that is so; one clause.
        why_not: String,
    },
    /// Output of the command.
    Output {
        /// 1 or 2; 3 for what was said to the terminal itself where neither of the two is one.
        fd: u8,
        /// The bytes.
        #[serde(with = "bytes")]
        data: Vec<u8>,
    },
    /// Much output at once, as one compressed block: see [`crate::squeeze`].
    Packed {
        /// Descriptors as in [`Down::Output`] and how many bytes of the whole are theirs, in order.
        pieces: Vec<(u8, u32)>,
        /// The block.
        #[serde(with = "bytes")]
        data: Vec<u8>,
    },
    /// The stream is attached to the run; output goes on from where it was asked for.
    Attached {
        /// Bytes of standard input that have arrived in all.
        stdin: u64,
    },
    /// So many bytes of output before what follows are not kept any more.
    Missing(u64),
    /// So many more bytes of [`Up::Stdin`] were taken by the command; the client keeps at most
    /// [`STDIN_WINDOW`] bytes under way.
    Took(u32),
    /// A piece of the pack that comes back.
    Back(#[serde(with = "bytes")] Vec<u8>),
    /// The run is over. Nothing follows.
    Exit(Box<Exit>),
    /// The agent or supervisor failed; the text names what, why and what to do.
    Failed {
        /// Printable.
        message: String,
        /// Whether the command may have started.
        started: bool,
    },
    /// The command was stopped by this signal, as by Ctrl-Z on its terminal.
    Stopped(#[serde(with = "crate::signals")] i32),
    /// The run will outlive its caller.
    Detached,
    /// The log would begin anew: how much has arrived?
    Mark,
    /// What became of the runs that were asked for, in their order.
    Seen(Vec<Seen>),
    /// Whether there was a run to tell.
    Told(bool),
}

/// What a node knows of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// It was never started here, or it is forgotten.
    Gone,
    /// It goes on.
    Going,
    /// It ended.
    Ended {
        /// How.
        ending: Ending,
        /// Milliseconds it ran.
        ran_ms: u64,
    },
    /// It was started and did not get to its end: the node went down, or somebody ended its supervisor.
    Broken,
}

/// Why a node did not take a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// All slots are taken.
    Full {
        /// How many are running.
        running: u32,
    },
    /// Load or memory is past the limit; the text says which.
    Overloaded(String),
    /// A need is not met: `no pytest`, `python3 is 3.9, here 3.12`.
    Lacks(String),
    /// Too little disk.
    Disk(String),
    /// The tree that is said to be shared is not the client's; why.
    NotShared(String),
    /// A set-up step failed.
    Setup {
        /// Which, and how: `npm ci: exit 1`.
        what: String,
        /// The end of its output.
        tail: String,
    },
    /// The start-by time had passed.
    TooLate,
    /// Anything else.
    Other(String),
}

/// The end of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exit {
    /// How the command ended.
    pub ending: Ending,
    /// Milliseconds it ran.
    pub ran_ms: u64,
    /// Bytes of output in all.
    pub output: u64,
    /// The mirror's generation after the run (with what changed there); `None` without a mirror.
    pub generation: Option<Generation>,
    /// Orders the collections of one mirror: what a later one brought is newer.
    pub sequence: i64,
    /// How far into [`RunStart::input`] the command left it, bytes; where there was one.
    pub input_at: Option<u64>,
    /// What did not come back.
    pub left: Left,
    /// Programs that the run needs and their versions there, where that was asked for; an empty version: none.
    pub tools: Vec<(String, String)>,
    /// Why what the command changed could not be collected, if so; then nothing came back.
    pub uncollected: Option<String>,
    /// Load after the run.
    pub load: Load,
}

/// What a collection left on the node, or did not find there: at most 100 paths of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Ignored files that changed: they stay there. After [`Errand::Fetch`]: what there is nothing of.
    pub stayed: Vec<RelPath>,
    /// What changed among what is synced: the next sync makes it what stands at the client.
    pub passing: Vec<RelPath>,
    /// Files that would have come back but for the limit.
    pub over: Vec<RelPath>,
    /// What the node's user may not read.
    pub unread: Vec<RelPath>,
}

/// The node's greeting.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// [`VERSION`].
    pub version: u32,
    /// Hash of the agent's own binary.
    pub build: String,
    /// The node's clock, milliseconds since the epoch.
    pub now: u64,
    /// What the node is.
    pub facts: Facts,
    /// How busy it is.
    pub load: Load,
}

/// What hardly changes about a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Host name, as the node says it.
    pub hostname: String,
    /// Platform.
    pub platform: Platform,
    /// Cores that may be used.
    pub cores: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Tools found in the run's environment: name and version (empty where it was not asked for).
    pub tools: Vec<(String, String)>,
    /// Machine id, hashed; equal on nodes that are the same machine.
    pub machine: String,
    /// Slots, where the client did not say another number.
    pub slots: u32,
    /// Why a command can't have a mount namespace there; `None` where it can.
    #[serde(default)]
    pub no_namespace: Option<String>,
}

/// How busy a machine is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// CPU in use, 0..=100, over the last interval that is known.
    pub cpu: f32,
    /// One-minute load average.
    pub load1: f32,
    /// Memory available, bytes.
    pub memory_free: u64,
    /// Disk available where mirrors lie, bytes.
    pub disk_free: u64,
    /// Runs that hold a slot.
    pub running: u32,
    /// Slots in all.
    pub slots: u32,
}

/// Writes one packet.
///
/// # Errors
/// Those of `out`.
pub fn write_packet<T: Serialize>(out: &mut impl Write, run: u32, message: &T) -> io::Result<()> {
    out.write_all(&encode(run, message))?;
    out.flush()
}

/// One packet as bytes.
pub fn encode<T: Serialize>(run: u32, message: &T) -> Vec<u8> {
    let mut buf = vec![0; 8];
    buf = postcard::to_extend(message, buf).expect("postcard encodes into memory");
    let len = (buf.len() - 8) as u32;
    buf[..4].copy_from_slice(&len.to_le_bytes());
    buf[4..8].copy_from_slice(&run.to_le_bytes());
    buf
}

/// The packet of a [`Down::Output`] with `len` bytes, but for these, which stand last.
pub fn output_head(run: u32, fd: u8, len: usize) -> Vec<u8> {
    let empty = Down::Output { fd, data: Vec::new() };
    let mut buf = postcard::to_extend(&empty, vec![0; 8]).expect("postcard encodes into memory");
    // The length, 0 so far, stands last: seven bits a byte, the lowest first.
    buf.pop();
    let mut rest = len;
    while rest >= 0x80 {
        buf.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    buf.push(rest as u8);
    let body = (buf.len() - 8 + len) as u32;
    buf[..4].copy_from_slice(&body.to_le_bytes());
    buf[4..8].copy_from_slice(&run.to_le_bytes());
    buf
}

/// Reads one packet's run and undecoded body; `None` at a clean end of input.
///
/// # Errors
/// Those of `input`; `InvalidData` for a packet larger than [`MAX_PACKET`]; `UnexpectedEof` inside a packet.
pub fn read_packet(input: &mut impl Read) -> io::Result<Option<(u32, Vec<u8>)>> {
    let mut head = [0u8; 8];
    let mut got = 0;
    while got < 8 {
        match input.read(&mut head[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let (len, run) = split_head(&head);
    check_len(len)?;
    let mut body = vec![0; len];
    input.read_exact(&mut body)?;
    Ok(Some((run, body)))
}

/// Length and run of a packet's head.
pub fn split_head(head: &[u8; 8]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h] = *head;
    (
        u32::from_le_bytes([a, b, c, d]) as usize,
        u32::from_le_bytes([e, f, g, h]),
    )
}

/// Refuses lengths that no honest peer sends.
///
/// # Errors
/// `InvalidData` past [`MAX_PACKET`].
pub fn check_len(len: usize) -> io::Result<()> {
    if len > MAX_PACKET {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("packet of {len} bytes"),
        ));
    }
    Ok(())
}

/// Decodes a packet's body.
///
/// # Errors
/// `InvalidData` for anything that is not exactly one message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(body) {
        Ok((v, [])) => Ok(v),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "bytes after the message",
        )),
        Err(e) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("undecodable message: {e}"),
        )),
    }
}

/// Byte strings in one piece instead of element by element.
mod bytes {
    use serde::{Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(v: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(v)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        d.deserialize_byte_buf(Visitor)
    }

    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("bytes")
        }
        fn visit_bytes<E>(self, v: &[u8]) -> Result<Vec<u8>, E> {
            Ok(v.to_vec())
        }
        fn visit_byte_buf<E>(self, v: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(v)
        }
    }
}

/// The same for an optional one.
mod opt_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Piece(#[serde(with = "super::bytes")] Vec<u8>);

    pub fn serialize<S: Serializer>(v: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        v.as_ref().map(|b| Piece(b.clone())).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Piece>::deserialize(d)?.map(|p| p.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_survive_the_wire() {
        let msg = Down::Output {
            fd: 2,
            data: vec![0, 255, 10],
        };
        let bytes = encode(7, &msg);
        let (run, body) = read_packet(&mut &bytes[..]).unwrap().unwrap();
        assert_eq!(run, 7);
        assert!(
            matches!(decode::<Down>(&body).unwrap(), Down::Output { fd: 2, data } if data == [0, 255, 10])
        );
        assert!(read_packet(&mut &bytes[..5]).is_err());
        assert!(read_packet(&mut &b""[..]).unwrap().is_none());
    }

    #[test]
    fn output_is_encoded_as_any_other_message() {
        for len in [0, 1, 127, 128, 300, 16_383, 16_384, CHUNK] {
            let data = vec![7; len];
            let other = encode(
                9,
                &Down::Output {
                    fd: 2,
                    data: data.clone(),
                },
            );
            assert_eq!([output_head(9, 2, len), data].concat(), other);
        }
    }

    #[test]
    fn a_peer_that_lies_about_lengths_is_refused() {
        let mut head = vec![0xff; 8];
        head.extend([0; 16]);
        assert_eq!(
            read_packet(&mut &head[..]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert!(decode::<Up>(&[250, 1, 2]).is_err());
    }
}
