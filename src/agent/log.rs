//! A run's output: kept in a file, and sent from there to whoever is attached.
//!
//! The file is the one source: the command's output is appended to it, and a sender thread reads it back at
//! the pace of the attached stream. So a slow reader slows the command (once [`WINDOW`] bytes wait), a lost link does not,
//! and a stream that attaches later gets everything from the byte where the last one stopped.
//!
//! Record: `u8` descriptor (1 or 2), `u32` length, bytes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::proto::{self, CHUNK, Down, Up};
use crate::squeeze::{MOST, Squeezer};

/// Bytes of a record before its content.
pub const HEAD: usize = 5;

/// Bytes that may wait for an attached stream before the command is held back.
const WINDOW: u64 = 1 << 20;

/// Once all is sent, a file larger than this starts again from nothing.
const RESTART: u64 = 64 << 20;

/// The most that is kept while nobody is attached; then the command is held back.
const KEEP: u64 = 1 << 30;

/// The most that is kept of a run that nobody waits for; then its log starts again from nothing.
const KEEP_DETACHED: u64 = 256 << 20;

/// Name of the file beside the log that says how many bytes of output it has lost.
const BASE: &str = "lost";

/// How many bytes of output the log in the run's directory `dir` has lost at its head.
pub fn lost_bytes(dir: &Path) -> u64 {
    let bytes = std::fs::read(dir.join(BASE)).unwrap_or_default();
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// What reaches the supervisor's main thread.
pub enum Event {
    /// A packet from the attached stream.
    Up(Up),
    /// The attached stream ended without a word: the link is lost.
    Lost,
    /// The command was stopped by a signal.
    Stopped(i32),
    /// The command ended.
    Exited(crate::request::Ending),
}

/// The log and its sender; cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    file: File,
    /// Where it is noted how much output is before the file's first record.
    base: PathBuf,
    events: Sender<Event>,
}

#[derive(Default)]
struct State {
    stream: Option<Arc<UnixStream>>,
    /// Which attachment `stream` is; an old sender or reader knows by it that it is out of date.
    attachment: u64,
    lost_at: Option<Instant>,
    control: VecDeque<Vec<u8>>,
    /// Bytes of records in the file.
    len: u64,
    /// Position in the file up to which the attached stream has it.
    sent: u64,
    /// Bytes of output before the file's first record.
    base: u64,
    /// Bytes of output in all.
    total: u64,
    /// The latest records, by their positions in the file: a stream that keeps up gets these.
    fresh: VecDeque<(u64, Vec<u8>)>,
    /// Bytes of the record at `sent` that the attached stream already has.
    skip: usize,
    /// Bytes of standard input that arrived.
    stdin: u64,
    tail: Option<Tail>,
    delivered: bool,
    /// Nobody may be there for long, and whoever comes wants the output from its beginning.
    detached: bool,
    /// The attached stream was asked how much it has.
    marked: bool,
}

#[derive(Clone)]
struct Tail {
    back: Option<PathBuf>,
    exit: Vec<u8>,
}

impl Log {
    /// A log in `path`, attached to `stream`.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn new(path: &Path, stream: UnixStream, events: Sender<Event>) -> io::Result<Log> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        let log = Log(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            file,
            base: path.with_file_name(BASE),
            events,
        }));
        log.attach(stream, 0);
        let sender = log.clone();
        std::thread::spawn(move || sender.send_loop());
        Ok(log)
    }

    /// The log of a run that has ended: `file` holds `len` bytes of records, the last of `total` bytes of output.
    pub fn of_ended(file: File, len: u64, total: u64, events: Sender<Event>) -> Log {
        let log = Log(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            file,
            // Its file stays as it is.
            base: PathBuf::new(),
            events,
        }));
        {
            let mut s = log.state();
            (s.len, s.total, s.detached) = (len, total, true);
            // Whoever comes is told that it is attached.
            s.attachment = 1;
        }
        let (mut at, mut held) = (0, 0);
        while let Ok((_, n)) = log.record_head(at) {
            at += 5 + n as u64;
            held += n as u64;
        }
        log.state().base = total.saturating_sub(held);
        let sender = log.clone();
        std::thread::spawn(move || sender.send_loop());
        log
    }

    /// The run outlives its caller from now on.
    pub fn detach(&self) {
        self.state().detached = true;
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, s: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.0.changed.wait(s).unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `stream` the attached one; it already has the first `have` bytes of output.
    pub fn attach(&self, stream: UnixStream, have: u64) {
        let stream = Arc::new(stream);
        let reading = stream.clone();
        let mut s = self.state();
        if let Some(old) = s.stream.take() {
            let _ = old.shutdown(std::net::Shutdown::Both);
        }
        s.attachment += 1;
        let attachment = s.attachment;
        s.stream = Some(stream);
        s.lost_at = None;
        s.control.clear();
        s.fresh.clear();
        (s.delivered, s.marked) = (false, false);
        (s.sent, s.skip) = self.position(&s, have);
        if attachment > 1 {
            let attached = Down::Attached { stdin: s.stdin };
            s.control.push_back(proto::encode(1, &attached));
            if s.base > have {
                let missing = Down::Missing(s.base - have);
                s.control.push_back(proto::encode(1, &missing));
            }
        }
        drop(s);
        self.0.changed.notify_all();
        let log = self.clone();
        std::thread::spawn(move || log.read_loop(&reading, attachment));
    }

    /// Where in the file the output byte `have` lies: the record's position and the bytes of it to skip.
    fn position(&self, s: &State, have: u64) -> (u64, usize) {
        let mut at = 0;
        let mut passed = s.base;
        while at < s.len {
            let Ok((_, len)) = self.record_head(at) else { break };
            if passed + len as u64 > have {
                return (at, have.saturating_sub(passed) as usize);
            }
            passed += len as u64;
            at += 5 + len as u64;
        }
        (s.len, 0)
    }

    fn record_head(&self, at: u64) -> io::Result<(u8, usize)> {
        let mut head = [0; 5];
        self.0.file.read_exact_at(&mut head, at)?;
        Ok((
            head[0],
            u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize,
        ))
    }

    /// Keeps a piece of output, waiting while the attached stream is too far behind.
    ///
    /// # Errors
    /// When the file can't be written (a full disk).
    pub fn append(&self, fd: u8, data: &[u8]) -> io::Result<()> {
        self.append_record([&[0; HEAD], data].concat(), fd)
    }

    /// The same for output that stands in `record` behind [`HEAD`] bytes to be filled in.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn append_record(&self, mut record: Vec<u8>, fd: u8) -> io::Result<()> {
        let len = record.len() - HEAD;
        record[0] = fd;
        record[1..HEAD].copy_from_slice(&(len as u32).to_le_bytes());
        let mut s = self.state();
        while match (s.stream.is_some(), s.detached) {
            // Held back now and then, or a command that never pauses would never let the log start again.
            (true, false) => s.len - s.sent > WINDOW || s.len > 2 * RESTART,
            (true, true) => s.len - s.sent > WINDOW,
            (false, false) => s.len > KEEP,
            (false, true) => false,
        } {
            s = self.wait(s);
        }
        if s.stream.is_none() && s.len > KEEP_DETACHED && s.detached {
            self.restart(&mut s);
        }
        if let Err(e) = self.0.file.write_all_at(&record, s.len) {
            return self.pass_on(s, fd, &record[HEAD..], e);
        }
        let at = s.len;
        s.len += record.len() as u64;
        if s.stream.is_some() {
            s.fresh.push_back((at, record));
        }
        s.total += len as u64;
        drop(s);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Where the log can't be written (the command has filled the disk), the attached stream gets the piece directly, once it has
    /// what the log holds.
    fn pass_on<'a>(
        &'a self,
        mut s: MutexGuard<'a, State>,
        fd: u8,
        data: &[u8],
        e: io::Error,
    ) -> io::Result<()> {
        while s.stream.is_some() && (s.sent < s.len || s.control.len() > 16) {
            s = self.wait(s);
        }
        if s.stream.is_none() {
            return Err(e);
        }
        s.control.push_back(proto::encode(
            1,
            &Down::Output {
                fd,
                data: data.to_vec(),
            },
        ));
        s.total += data.len() as u64;
        drop(s);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Lets the file start again from nothing; what it held is gone.
    fn restart(&self, s: &mut State) {
        // First, so that who reads the file meanwhile is told. Without it nobody is, and that is all.
        let _ = std::fs::write(&self.0.base, s.total.to_le_bytes());
        if self.0.file.set_len(0).is_ok() {
            s.base = s.total;
            (s.len, s.sent, s.skip) = (0, 0, 0);
            s.fresh.clear();
        }
        s.marked = false;
    }

    /// The attached stream has `got` bytes of output: where that is all there is, the file need not keep it.
    fn got(&self, s: &mut State, got: u64) {
        if s.marked && got == s.total && s.sent == s.len {
            self.restart(s);
        }
        s.marked = false;
        // More was sent since the question, and if the command is held back for the file's size, nothing will be sent that
        // would ask again.
        s.ask();
        self.0.changed.notify_all();
    }

    /// Sends a message that is not output and not repeated to later streams.
    pub fn say(&self, message: &Down) {
        self.say_later(message);
        self.0.changed.notify_all();
    }

    /// The same, where something else is said right after it: both then go in one piece.
    pub fn say_later(&self, message: &Down) {
        let mut s = self.state();
        if s.stream.is_some() {
            s.control.push_back(proto::encode(1, message));
        }
    }

    /// Bytes of output so far.
    pub fn total(&self) -> u64 {
        self.state().total
    }

    /// Since when nobody is attached; `None` while somebody is.
    pub fn lost_since(&self) -> Option<Instant> {
        self.state().lost_at
    }

    /// Sets what follows the last byte of output: the pack in `back`, then `exit`.
    pub fn finish(&self, back: Option<PathBuf>, exit: &Down) {
        self.state().tail = Some(Tail {
            back,
            exit: proto::encode(1, exit),
        });
        self.0.changed.notify_all();
    }

    /// Waits until all control messages are sent (or nobody listens), for a supervisor that is about to end.
    pub fn flush(&self) {
        let mut s = self.state();
        while s.stream.is_some() && !s.control.is_empty() {
            s = self.wait(s);
        }
    }

    fn read_loop(&self, mut stream: &UnixStream, attachment: u64) {
        while let Ok(Some((_, body))) = proto::read_packet(&mut stream) {
            let Ok(up) = proto::decode::<Up>(&body) else { break };
            // Under the lock: what a replaced stream still holds must not be counted, the next one sends it again.
            let mut s = self.state();
            if s.attachment != attachment {
                return;
            }
            match &up {
                Up::Stdin(data) => s.stdin += data.len() as u64,
                Up::Got(n) => {
                    self.got(&mut s, *n);
                    continue;
                }
                _ => {}
            }
            if self.0.events.send(Event::Up(up)).is_err() {
                return;
            }
        }
        self.lose(attachment);
    }

    fn lose(&self, attachment: u64) {
        let mut s = self.state();
        if s.attachment == attachment && s.stream.take().is_some() {
            s.lost_at = Some(Instant::now());
            s.control.clear();
            s.fresh.clear();
            drop(s);
            self.0.changed.notify_all();
            let _ = self.0.events.send(Event::Lost);
        }
    }

    fn send_loop(&self) {
        let mut squeezer = Squeezer::default();
        loop {
            let mut s = self.state();
            let stream = loop {
                if let Some(stream) = &s.stream
                    && (!s.control.is_empty() || s.sent < s.len || (s.tail.is_some() && !s.delivered))
                {
                    break stream.clone();
                }
                s = self.wait(s);
            };
            let attachment = s.attachment;
            let result = if !s.control.is_empty() {
                let packets = s.control.len();
                let bytes = s.control.make_contiguous().concat();
                drop(s);
                let r = (&*stream).write_all(&bytes);
                let mut s = self.state();
                if s.attachment == attachment {
                    // Gone altogether where the stream was lost meanwhile.
                    let sent = packets.min(s.control.len());
                    s.control.drain(..sent);
                }
                r
            } else if s.sent < s.len {
                let fresh = s.take_fresh();
                let (at, skip) = (s.sent, s.skip);
                drop(s);
                if fresh.is_empty() {
                    self.send_record(&stream, at, skip, attachment)
                } else {
                    self.send_fresh(&stream, at, &fresh, &mut squeezer, attachment)
                }
            } else {
                let tail = s.tail.clone();
                drop(s);
                let r = tail.map_or(Ok(()), |t| send_tail(&stream, &t));
                let mut s = self.state();
                if r.is_ok() && s.attachment == attachment {
                    s.delivered = true;
                }
                r
            };
            if result.is_err() {
                self.lose(attachment);
            }
            self.0.changed.notify_all();
        }
    }

    /// Sends records that are still in memory, which lie in the file from `at` on.
    fn send_fresh(
        &self,
        mut stream: &UnixStream,
        at: u64,
        records: &[Vec<u8>],
        squeezer: &mut Squeezer,
        attachment: u64,
    ) -> io::Result<()> {
        match squeezed(records, squeezer) {
            Some(packet) => stream.write_all(&packet)?,
            None => {
                for record in records {
                    let data = &record[HEAD..];
                    let head = proto::output_head(1, record[0], data.len());
                    write_both(stream, &head, data)?;
                }
            }
        }
        let len: usize = records.iter().map(Vec::len).sum();
        self.has_sent(at + len as u64, attachment);
        Ok(())
    }

    /// Sends the record that lies at `at` in the file, but for its first `skip` bytes.
    fn send_record(&self, stream: &UnixStream, at: u64, skip: usize, attachment: u64) -> io::Result<()> {
        let (fd, len) = self.record_head(at)?;
        let mut data = vec![0; len.saturating_sub(skip)];
        self.0.file.read_exact_at(&mut data, at + (HEAD + skip) as u64)?;
        write_both(stream, &proto::output_head(1, fd, data.len()), &data)?;
        self.has_sent(at + (HEAD + len) as u64, attachment);
        Ok(())
    }

    /// The attached stream has everything before `to`, or will have.
    fn has_sent(&self, to: u64, attachment: u64) {
        let mut s = self.state();
        if s.attachment == attachment {
            s.sent = to;
            s.skip = 0;
            s.ask();
        }
    }
}

impl State {
    /// Asks the attached stream how much it has, where all is sent and the file has grown enough to start again. What is
    /// under way is not there yet: a link that breaks now would lose it.
    fn ask(&mut self) {
        let most = if self.detached { KEEP_DETACHED } else { RESTART };
        if self.sent == self.len && self.len > most && !self.marked {
            self.marked = true;
            self.control.push_back(proto::encode(1, &Down::Mark));
        }
    }

    /// The records that come next, as far as they are in memory: at most one block's worth, or a single one.
    fn take_fresh(&mut self) -> Vec<Vec<u8>> {
        while self.fresh.front().is_some_and(|(at, _)| *at < self.sent) {
            self.fresh.pop_front();
        }
        let (mut records, mut next, mut bytes) = (Vec::new(), self.sent, 0);
        while self.skip == 0
            && let Some((at, record)) = self.fresh.front()
            && *at == next
            && (records.is_empty() || bytes + record.len() <= MOST)
            && let Some((_, record)) = self.fresh.pop_front()
        {
            next += record.len() as u64;
            bytes += record.len();
            records.push(record);
        }
        records
    }
}

/// The packet that holds these records as one block, where that is worth it.
fn squeezed(records: &[Vec<u8>], squeezer: &mut Squeezer) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = records.iter().map(|r| &r[HEAD..]).collect();
    let data = squeezer.squeeze(&parts)?;
    let mut pieces: Vec<(u8, u32)> = Vec::new();
    for record in records {
        let (fd, len) = (record[0], (record.len() - HEAD) as u32);
        match pieces.last_mut() {
            Some((last, n)) if *last == fd => *n += len,
            _ => pieces.push((fd, len)),
        }
    }
    Some(proto::encode(1, &Down::Packed { pieces, data }))
}

/// Writes both without putting them together first.
fn write_both(mut stream: &UnixStream, head: &[u8], data: &[u8]) -> io::Result<()> {
    let n = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(data)])?;
    match n.checked_sub(head.len()) {
        Some(n) => stream.write_all(&data[n..]),
        None => {
            stream.write_all(&head[n..])?;
            stream.write_all(data)
        }
    }
}

fn send_tail(mut stream: &UnixStream, tail: &Tail) -> io::Result<()> {
    // What is small goes in one piece.
    let mut out = Vec::new();
    if let Some(path) = &tail.back {
        let mut file = File::open(path)?;
        loop {
            let mut piece = Vec::with_capacity(CHUNK.min(8 << 10));
            (&mut file).take(CHUNK as u64).read_to_end(&mut piece)?;
            if piece.is_empty() {
                break;
            }
            out.extend_from_slice(&proto::encode(1, &Down::Back(piece)));
            if out.len() >= CHUNK {
                stream.write_all(&out)?;
                out.clear();
            }
        }
    }
    out.extend_from_slice(&tail.exit);
    stream.write_all(&out)
}

/// The directory of the run `id`, if that is a run's id at all.
///
/// # Errors
/// For an id with anything but letters, digits and `-`.
pub fn run_dir(base: &Path, id: &str) -> anyhow::Result<PathBuf> {
    let ok = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    anyhow::ensure!(ok, "{id:?} is not a run's id");
    Ok(base.join("runs").join(id))
}

/// Lets streams attach to the run in `dir`: each that says so becomes the log's stream.
///
/// # Errors
/// When the socket can't be made; the run then simply can't be attached to.
pub fn listen(dir: &Path, log: Log) -> io::Result<()> {
    let socket = dir.join("s");
    // What a supervisor left that was killed.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(socket)?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let first = proto::read_packet(&mut stream)
                .ok()
                .flatten()
                .and_then(|(_, b)| proto::decode(&b).ok());
            match first {
                Some(Up::Attach { have, .. }) => log.attach(stream, have),
                Some(up @ (Up::Cancel | Up::Gone)) => {
                    let _ = log.0.events.send(Event::Up(up));
                }
                _ => {}
            }
        }
    });
    Ok(())
}

/// A stream to the supervisor of the run `id`.
///
/// # Errors
/// When there is no such run any more.
pub fn connect(base: &Path, id: &str) -> anyhow::Result<UnixStream> {
    let path = run_dir(base, id)?.join("s");
    UnixStream::connect(&path).map_err(|e| anyhow::anyhow!("run {id} is not alive on this node: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that answers the question for what it has only once the command is held back for the size of the file.
    #[test]
    fn a_late_answer_does_not_hold_the_command_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (events, _kept) = std::sync::mpsc::channel();
        let log = Log::new(&dir.path().join("log"), ours, events).unwrap();
        let all = 4 * RESTART + (8 << 20);
        let writer = std::thread::spawn({
            let log = log.clone();
            move || {
                let piece = vec![b'y'; 64 << 10];
                for _ in 0..all >> 16 {
                    log.append(1, &piece).unwrap();
                }
            }
        });
        let mut got = 0;
        let mut late = None;
        while got < all {
            let (_, body) = proto::read_packet(&mut &theirs).unwrap().unwrap();
            match proto::decode::<Down>(&body).unwrap() {
                Down::Output { data, .. } => got += data.len() as u64,
                Down::Packed { pieces, .. } => got += pieces.iter().map(|(_, n)| u64::from(*n)).sum::<u64>(),
                Down::Mark if got < 2 * RESTART => late = Some(got),
                Down::Mark => answer(&theirs, got),
                _ => {}
            }
            if got >= 2 * RESTART
                && let Some(had) = late.take()
            {
                answer(&theirs, had);
            }
        }
        writer.join().unwrap();
    }

    fn answer(mut to: &UnixStream, got: u64) {
        to.write_all(&proto::encode(1, &Up::Got(got))).unwrap();
    }
}
