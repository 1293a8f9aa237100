//! The agent proper: greets, then carries packets between the stream and the supervisors of its runs.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::admit::Remembered;
use super::kept;
use crate::proto::{self, Down, Up, Welcome};

/// A link is silent when nothing came for this long; the runs go on without it.
const SILENT: Duration = Duration::from_secs(15);

/// End of input within this time of the last packet means that the caller is gone, and its runs with it.
/// The client beats every second; four missed beats are a link in trouble.
const FRESH: Duration = Duration::from_secs(5);

/// How long the session's own process may take to end after the connection has.
const PARTING: Duration = Duration::from_millis(300);

type Out = Arc<Mutex<File>>;
type Runs = Arc<Mutex<HashMap<u32, UnixStream>>>;

/// Serves one stream until its end.
///
/// # Errors
/// When the node's own directories can't be made or the greeting can't be written.
pub fn serve() -> anyhow::Result<()> {
    let session = std::env::var_os("SSH_CONNECTION").map(|_| std::os::unix::process::parent_id());
    let base = super::base_dir()?;
    super::private_dir(&base)?;
    // Not through the standard library's buffer, which looks for the ends of lines in it.
    let out: Out = Arc::new(Mutex::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)));
    let mut remembered = Remembered::default();
    {
        let mut o = lock(&out);
        o.write_all(proto::MAGIC)?;
        let w = Down::Welcome(Box::new(welcome(&base, &mut remembered)?));
        proto::write_packet(&mut *o, 0, &w)?;
    }
    let runs: Runs = Arc::default();
    let start = Instant::now();
    let heard = Arc::new(AtomicU64::new(0));
    beat(out.clone(), runs.clone(), heard.clone(), start);

    // A supervisor for the run that follows a question for the greeting: it starts while the client reads its tree.
    let mut spare = None;
    let mut input = io::stdin().lock();
    while let Ok(Some((run, body))) = proto::read_packet(&mut input) {
        heard.store(start.elapsed().as_millis() as u64, Ordering::Relaxed);
        if run == 0 {
            match proto::decode::<Up>(&body) {
                Ok(Up::Ask) => {
                    let w = Down::Welcome(Box::new(welcome(&base, &mut remembered)?));
                    let _ = proto::write_packet(&mut *lock(&out), 0, &w);
                    spare = spare.or_else(|| new_supervisor(&base).ok());
                }
                Ok(Up::Prepare { .. }) => {
                    spare = spare.or_else(|| new_supervisor(&base).ok());
                    if let Some(s) = &mut spare {
                        let _ = forward(s, &body);
                    }
                }
                Ok(Up::Gc(ask)) => {
                    let base = base.clone();
                    beside(out.clone(), move || Down::Gc(super::gc::collect(&base, &ask)));
                }
                Ok(Up::Purge { client }) => {
                    let base = base.clone();
                    beside(out.clone(), move || {
                        Down::Purged(super::purge(&base, client.as_deref()))
                    });
                }
                Ok(Up::Look { ids }) => {
                    let seen = ids.iter().map(|id| kept::look(&base, id)).collect();
                    let _ = proto::write_packet(&mut *lock(&out), 0, &Down::Seen(seen));
                }
                Ok(Up::Stop { id }) => {
                    let told = Down::Told(kept::stop(&base, &id));
                    let _ = proto::write_packet(&mut *lock(&out), 0, &told);
                }
                _ => {}
            }
            continue;
        }
        let known = lock(&runs).get(&run).and_then(|s| s.try_clone().ok());
        let mut supervisor = match known {
            Some(s) => s,
            None => {
                let first = proto::decode::<Up>(&body);
                if let Ok(Up::Read { id, follow }) = first {
                    read_output(run, &base, id, follow, out.clone());
                    continue;
                }
                match begin(&base, first, &mut spare) {
                    Ok((s, asked)) => {
                        if let Ok(reading) = s.try_clone() {
                            relay(run, reading, out.clone(), runs.clone(), asked);
                        }
                        if let Ok(kept) = s.try_clone() {
                            lock(&runs).insert(run, kept);
                        }
                        s
                    }
                    Err(failed) => {
                        let _ = proto::write_packet(&mut *lock(&out), run, &failed);
                        continue;
                    }
                }
            }
        };
        // A supervisor that ended has said so itself.
        let _ = forward(&mut supervisor, &body);
    }
    let silence = start
        .elapsed()
        .saturating_sub(Duration::from_millis(heard.load(Ordering::Relaxed)));
    if silence < FRESH && !lock(&runs).is_empty() && !session.is_some_and(has_ended) {
        let gone = proto::encode(1, &Up::Gone);
        for s in lock(&runs).values_mut() {
            let _ = s.write_all(&gone);
        }
    }
    Ok(())
}

/// Whether sshd's process for the whole connection, `parent`, ends as well: then the link broke (somebody's ssh was killed, a network
/// changed), and the caller may come back by another one. One that was killed itself leaves the connection, which others share.
fn has_ended(parent: u32) -> bool {
    let until = Instant::now() + PARTING;
    loop {
        if std::os::unix::process::parent_id() != parent {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn welcome(base: &Path, remembered: &mut Remembered) -> anyhow::Result<Welcome> {
    let (facts, load) = super::admit::look(base, remembered)?;
    Ok(Welcome {
        version: proto::VERSION,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        now: super::admit::now_ms(),
        facts,
        load,
    })
}

/// Beats every second, and ends the agent when the other side has been silent too long: the supervisors notice
/// their closed sockets and let the runs live on until somebody attaches.
fn beat(out: Out, runs: Runs, heard: Arc<AtomicU64>, start: Instant) {
    std::thread::spawn(move || {
        let packet = proto::encode(0, &Down::Beat);
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let silence = start
                .elapsed()
                .saturating_sub(Duration::from_millis(heard.load(Ordering::Relaxed)));
            if silence > SILENT {
                for s in lock(&runs).values() {
                    let _ = s.shutdown(std::net::Shutdown::Both);
                }
                #[expect(
                    clippy::exit,
                    reason = "stdin may block for ever on a dead link; nothing is left to clean up"
                )]
                std::process::exit(0);
            }
            // A writer that waits for a slow link holds the lock; its data is as good as a beat.
            if let Ok(mut o) = out.try_lock() {
                let _ = o.write_all(&packet).and_then(|()| o.flush());
            }
        }
    });
}

/// Does what may take long beside whatever else goes on, and answers then: who stops reading for long takes a live stream for dead.
fn beside(out: Out, work: impl FnOnce() -> Down + Send + 'static) {
    std::thread::spawn(move || {
        let answer = work();
        let _ = proto::write_packet(&mut *lock(&out), 0, &answer);
    });
}

/// Sends the output of the run `id`, beside whatever else goes on.
fn read_output(run: u32, base: &Path, id: String, follow: bool, out: Out) {
    let base = base.to_owned();
    std::thread::spawn(move || {
        kept::read(&base, &id, follow, |down| {
            proto::write_packet(&mut *lock(&out), run, down).is_ok()
        });
    });
}

/// The supervisor that the first packet of a run asks for; or what is to be answered.
fn begin(
    base: &Path,
    first: io::Result<Up>,
    spare: &mut Option<UnixStream>,
) -> Result<(UnixStream, Asked), Down> {
    let failed = |e: anyhow::Error, started| Down::Failed {
        message: format!("{e:#}"),
        started,
    };
    let asked = first.map_err(Into::into).and_then(|up| Asked::of(base, up));
    let asked = asked.map_err(|e| failed(e, false))?;
    match asked.open(spare) {
        Ok(s) => Ok((s, asked)),
        Err(e) => {
            // Of a run that somebody wants to attach to, though nobody owns it any more.
            let started = asked.have.is_some() && asked.has_started();
            Err(failed(e, started))
        }
    }
}

/// Whether a supervisor that was asked for nothing yet is still there.
fn is_quiet(supervisor: &UnixStream) -> bool {
    !super::is_readable(supervisor, Duration::ZERO)
}

fn new_supervisor(base: &Path) -> anyhow::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(base.join("supervisors.log"))?;
    let mut child = Command::new(super::own_program()?)
        .args(["agent", "--supervise"])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()?;
    std::thread::spawn(move || child.wait());
    Ok(ours)
}

/// What a stream to a supervisor was opened for.
struct Asked {
    base: PathBuf,
    id: String,
    /// Where it attaches, the bytes that it has: a supervisor that ends just then does not answer that, and whoever keeps the run does.
    have: Option<u64>,
}

impl Asked {
    /// By the first packet of a run.
    fn of(base: &Path, first: Up) -> anyhow::Result<Asked> {
        let (id, have) = match first {
            Up::Run(run) => (run.id, None),
            Up::Attach { id, have } => (id, Some(have)),
            _ => anyhow::bail!("a packet for a run that this stream does not know"),
        };
        let base = base.to_owned();
        Ok(Asked { base, id, have })
    }

    /// The supervisor: a new one, or the one of a known run.
    fn open(&self, spare: &mut Option<UnixStream>) -> anyhow::Result<UnixStream> {
        if self.have.is_none() {
            return spare
                .take()
                .filter(is_quiet)
                .map_or_else(|| new_supervisor(&self.base), Ok);
        }
        let known = super::log::connect(&self.base, &self.id);
        // One that has ended is answered for by a supervisor without a command.
        if known.is_err() && kept::look_ended(&self.base, &self.id) {
            return new_supervisor(&self.base);
        }
        known
    }

    /// Another stream to whoever answers for the run by now.
    fn again(&self) -> Option<UnixStream> {
        let have = self.have?;
        std::thread::sleep(Duration::from_millis(50));
        let mut stream = self.open(&mut None).ok()?;
        let id = self.id.clone();
        proto::write_packet(&mut stream, 1, &Up::Attach { id, have }).ok()?;
        Some(stream)
    }

    fn has_started(&self) -> bool {
        super::log::run_dir(&self.base, &self.id).is_ok_and(|d| d.join(super::STARTED).exists())
    }

    /// The last word of a run whose supervisor says nothing more. A client that has heard its end does not hear this.
    fn last_word(&self) -> Down {
        let message = if super::log::connect(&self.base, &self.id).is_ok() {
            "somebody else attached to it"
        } else {
            "its supervisor there is gone"
        };
        Down::Failed {
            message: message.into(),
            started: self.has_started(),
        }
    }
}

fn forward(to: &mut UnixStream, body: &[u8]) -> io::Result<()> {
    let mut packet = Vec::with_capacity(body.len() + 8);
    packet.extend_from_slice(&(body.len() as u32).to_le_bytes());
    packet.extend_from_slice(&1u32.to_le_bytes());
    packet.extend_from_slice(body);
    to.write_all(&packet)
}

/// Carries a supervisor's packets to the stream, renumbered, until it closes its end.
fn relay(run: u32, mut from: UnixStream, out: Out, runs: Runs, asked: Asked) {
    std::thread::spawn(move || {
        let mut buf = vec![0; RELAY];
        let mut held = 0;
        let mut tries = 0..ATTACH_TRIES;
        let mut is_silent = true;
        // All that has arrived whole goes on in one piece.
        loop {
            match from.read(&mut buf[held..]) {
                Ok(n) if n > 0 => (held, is_silent) = (held + n, false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                _ => {
                    let next = tries.next().filter(|_| is_silent).and_then(|_| asked.again());
                    let Some(next) = next else { break };
                    if let Ok(kept) = next.try_clone() {
                        lock(&runs).insert(run, kept);
                    }
                    from = next;
                    continue;
                }
            }
            let Ok(whole) = renumber(run, &mut buf[..held]) else {
                break;
            };
            if whole > 0 {
                let mut o = lock(&out);
                if o.write_all(&buf[..whole]).and_then(|()| o.flush()).is_err() {
                    // Nobody listens any more. Whoever reads there will see why, and must still know of this run to tell it.
                    return;
                }
            }
            buf.copy_within(whole..held, 0);
            held -= whole;
            if held == buf.len() {
                buf.resize(2 * held, 0);
            }
        }
        lock(&runs).remove(&run);
        let _ = proto::write_packet(&mut *lock(&out), run, &asked.last_word());
    });
}

/// How often a run that did not answer is asked again.
const ATTACH_TRIES: usize = 3;

/// Bytes read from a supervisor at once.
const RELAY: usize = 256 << 10;

/// Gives the packets at the beginning of `buf` the number `run`; how many bytes of them are whole packets.
fn renumber(run: u32, buf: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while let Some(head) = buf.get(at..at + 8).and_then(|h| <[u8; 8]>::try_from(h).ok()) {
        let (len, _) = proto::split_head(&head);
        proto::check_len(len)?;
        if at + 8 + len > buf.len() {
            break;
        }
        buf[at + 4..at + 8].copy_from_slice(&run.to_le_bytes());
        at += 8 + len;
    }
    Ok(at)
}
