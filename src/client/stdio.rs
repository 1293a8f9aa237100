//! The caller's three descriptors: output is written by a thread of its own, so that a reader that has stopped reading
//! holds back the node and nothing else; input is read by a thread, because a terminal can't be read otherwise.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags};
use tokio::sync::{Notify, mpsc};

use super::terminal;

/// Pieces of output that may wait for the reader.
const QUEUE: usize = 16;

/// Where a run's output goes.
pub struct Output {
    tx: mpsc::Sender<Piece>,
    closed: Arc<Closed>,
}

enum Piece {
    /// Descriptors, how many of the bytes are theirs, and the bytes.
    Data(Vec<(u8, usize)>, Vec<u8>),
    Flush(tokio::sync::oneshot::Sender<()>),
}

#[derive(Default)]
struct Closed {
    fds: Mutex<Vec<u8>>,
    /// Pieces that are not written yet.
    waiting: AtomicUsize,
    /// The last thing written to a terminal did not end its line.
    mid_line: AtomicBool,
    /// Why writing failed, where it was not that the reader had gone.
    error: Mutex<Option<String>>,
    told: Notify,
}

impl Closed {
    /// Nothing more can be written to `fd`.
    fn failed(&self, fd: u8, e: &std::io::Error) {
        if e.kind() != std::io::ErrorKind::BrokenPipe {
            let what = if fd == 2 { "stderr" } else { "stdout" };
            let told = format!("its {what} can't be written here: {e}");
            self.error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(told);
        }
        self.fds.lock().unwrap_or_else(PoisonError::into_inner).push(fd);
        self.told.notify_one();
    }
}

impl Output {
    /// To this process's own stdout and stderr.
    pub fn to_own() -> Output {
        Output::to(Box::new(Own(1)), Box::new(Own(2)))
    }

    /// To `out` and `err`.
    pub fn to(mut out: Box<dyn Write + Send>, mut err: Box<dyn Write + Send>) -> Output {
        let (tx, mut rx) = mpsc::channel::<Piece>(QUEUE);
        let closed = Arc::new(Closed::default());
        let tell = closed.clone();
        std::thread::spawn(move || {
            let mut dead = [false; 4];
            let mut terminal = None;
            let on_terminal = [
                false,
                std::io::stdout().is_terminal(),
                std::io::stderr().is_terminal(),
                true,
            ];
            while let Some(piece) = rx.blocking_recv() {
                match piece {
                    Piece::Flush(done) => {
                        let _ = done.send(());
                    }
                    Piece::Data(pieces, data) => {
                        let _written = Written(&tell.waiting);
                        let mut rest = &data[..];
                        for (fd, len) in pieces {
                            let (data, later) = rest.split_at(len.min(rest.len()));
                            rest = later;
                            let (to, slot): (&mut dyn Write, usize) = match fd {
                                2 => (&mut err, 2),
                                3 => {
                                    let open = || File::options().write(true).open("/dev/tty").ok();
                                    let Some(tty) = terminal.get_or_insert_with(open) else {
                                        continue;
                                    };
                                    (tty, 3)
                                }
                                _ => (&mut out, 1),
                            };
                            if on_terminal[slot] && !data.is_empty() {
                                tell.mid_line.store(!data.ends_with(b"\n"), Ordering::Relaxed);
                            }
                            if dead[slot] {
                                continue;
                            }
                            if let Err(e) = to.write_all(data).and_then(|()| to.flush()) {
                                dead[slot] = true;
                                tell.failed(fd, &e);
                            }
                        }
                    }
                }
            }
        });
        Output { tx, closed }
    }

    /// Waits until a piece can be written without waiting.
    pub async fn room(&self) {
        let _ = self.tx.reserve().await;
    }

    /// Writes a piece to descriptor 1 or 2; waits while the reader is behind.
    pub async fn write(&self, fd: u8, data: Vec<u8>) {
        self.write_all(vec![(fd, data.len())], data).await;
    }

    /// The same for pieces to one descriptor and the other, in order: so many bytes of `data` each.
    pub async fn write_all(&self, pieces: Vec<(u8, usize)>, data: Vec<u8>) {
        self.closed.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.tx.send(Piece::Data(pieces, data)).await;
    }

    /// Waits until all is written.
    pub async fn flush(&self) {
        if self.closed.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let (tx, rx) = tokio::sync::oneshot::channel();
        if self.tx.send(Piece::Flush(tx)).await.is_ok() {
            let _ = rx.await;
        }
    }

    /// For who wants to write to the same terminal in between.
    pub fn unwritten(&self) -> Unwritten {
        Unwritten(self.closed.clone())
    }

    /// Whether the cursor of a terminal that got output stands in the middle of a line.
    pub fn is_mid_line(&self) -> bool {
        self.closed.mid_line.load(Ordering::Relaxed)
    }

    /// Why some of the output could not be written here (a full disk), if so.
    pub fn error(&self) -> Option<String> {
        self.closed
            .error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a descriptor that nobody reads any more, once for each.
    pub async fn closed(&self) -> u8 {
        loop {
            if let Some(fd) = self
                .closed
                .fds
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
            {
                return fd;
            }
            self.closed.told.notified().await;
        }
    }
}

/// Tells whether output waits to be written, or has left a line of the terminal unfinished.
pub struct Unwritten(Arc<Closed>);

impl Unwritten {
    /// Neither is the case.
    pub fn is_clear(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire) == 0 && !self.0.mid_line.load(Ordering::Relaxed)
    }
}

/// One piece less waits when this is dropped.
struct Written<'a>(&'a AtomicUsize);

impl Drop for Written<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// This process's stdout or stderr, unbuffered, also where somebody made it non-blocking.
struct Own(i32);

impl Write for Own {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        // SAFETY: 1 and 2 stay open as long as the process lives; nothing here closes them.
        let fd = unsafe { BorrowedFd::borrow_raw(self.0) };
        loop {
            match rustix::io::write(fd, buf) {
                Err(rustix::io::Errno::AGAIN) => wait_for(fd, PollFlags::OUT),
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits until `fd` can be read or written, or a little while.
fn wait_for(fd: BorrowedFd, what: PollFlags) {
    let limit = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    let _ = rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, what)], Some(&limit));
}

/// A run's standard input.
pub struct Input {
    from: From,
    ended: bool,
}

enum From {
    Nothing,
    /// This process's own, not read yet.
    Own,
    Reader(mpsc::Receiver<Vec<u8>>),
}

impl Input {
    /// This process's own. Nothing is read before the first piece is asked for: a command that runs here after all gets it whole.
    pub fn own() -> Input {
        Input {
            from: From::Own,
            ended: false,
        }
    }

    /// Nothing.
    pub fn empty() -> Input {
        Input {
            from: From::Nothing,
            ended: false,
        }
    }

    /// The next piece; empty at the end, and after that it waits for ever.
    pub async fn next(&mut self) -> Vec<u8> {
        if self.ended {
            return std::future::pending().await;
        }
        if matches!(self.from, From::Own) {
            let (tx, rx) = mpsc::channel(4);
            std::thread::spawn(move || read_own(&tx));
            self.from = From::Reader(rx);
        }
        let piece = match &mut self.from {
            From::Reader(rx) => rx.recv().await.unwrap_or_default(),
            _ => Vec::new(),
        };
        self.ended = piece.is_empty();
        piece
    }
}

/// What is left of a file that is this process's standard input, to go along as a whole. A command there can do with it what it could
/// do here: seek, read less than all. What it leaves is the next reader's.
#[derive(Clone, Debug)]
pub struct WholeFile {
    /// Where it was read from, bytes from its beginning.
    at: u64,
    /// The rest.
    pub rest: Vec<u8>,
}

impl WholeFile {
    /// The most that goes along, bytes. More is read and sent as from a pipe.
    const LIMIT: usize = 256 << 10;

    /// This process's own input, if it is such a file. Nothing is taken from it.
    pub fn own() -> Option<WholeFile> {
        let stdin = std::io::stdin();
        WholeFile::of(stdin.as_fd())
    }

    fn of(fd: BorrowedFd) -> Option<WholeFile> {
        let stat = rustix::fs::fstat(fd).ok()?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return None;
        }
        let at = rustix::fs::tell(fd).ok()?;
        let mut rest = Vec::new();
        let mut buf = [0; 64 << 10];
        loop {
            match rustix::io::pread(fd, &mut buf, at + rest.len() as u64) {
                Ok(0) => return Some(WholeFile { at, rest }),
                Ok(n) => rest.extend_from_slice(&buf[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
            if rest.len() > WholeFile::LIMIT {
                return None;
            }
        }
    }

    /// Leaves this process's input where the command left it: `taken` bytes further.
    pub fn take_own(&self, taken: u64) {
        let stdin = std::io::stdin();
        self.take(stdin.as_fd(), taken);
    }

    fn take(&self, fd: BorrowedFd, taken: u64) {
        // Unless another process reads it, too.
        if rustix::fs::tell(fd) == Ok(self.at) {
            let to = self.at + taken.min(self.rest.len() as u64);
            let _ = rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(to));
        }
    }
}

/// Reads this process's input to its end. A terminal is left alone while this process is in the background: reading it then would
/// stop the whole process.
fn read_own(to: &mpsc::Sender<Vec<u8>>) {
    let stdin = std::io::stdin();
    let fd = stdin.as_fd();
    let mut buf = vec![0; 64 << 10];
    while !to.is_closed() {
        wait_for(fd, PollFlags::IN);
        if !terminal::in_foreground() {
            std::thread::sleep(std::time::Duration::from_millis(100));
            continue;
        }
        if !is_ready(fd) {
            continue;
        }
        match rustix::io::read(fd, &mut buf) {
            Ok(n) if n > 0 => {
                if to.blocking_send(buf[..n].to_vec()).is_err() {
                    return;
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            _ => return,
        }
    }
}

/// Whether reading `fd` would not wait. A descriptor that can't be asked is simply read.
fn is_ready(fd: BorrowedFd) -> bool {
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&now))
        .map_or(true, |n| n > 0)
}

/// Whether stdout and stderr are the same open file here, so that the order of what is written matters.
pub fn same_output() -> bool {
    let (out, err) = (std::io::stdout(), std::io::stderr());
    match (rustix::fs::fstat(out.as_fd()), rustix::fs::fstat(err.as_fd())) {
        (Ok(a), Ok(b)) => a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_rdev == b.st_rdev,
        _ => false,
    }
}
