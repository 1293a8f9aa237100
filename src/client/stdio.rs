//! The caller's three descriptors: output is written by a thread of its own, so that a reader that has stopped reading
//! holds back the node and nothing else; input is read by a thread, because a terminal can't be read otherwise.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};

/// Pieces of output that may wait for the reader.
const QUEUE: usize = 16;

/// Where a run's output goes.
pub struct Output {
    tx: mpsc::Sender<Piece>,
    closed: Arc<Closed>,
}

enum Piece {
    Data(u8, Vec<u8>),
    Flush(tokio::sync::oneshot::Sender<()>),
}

#[derive(Default)]
struct Closed {
    fds: Mutex<Vec<u8>>,
    /// Why writing failed, where it was not that the reader had gone.
    error: Mutex<Option<String>>,
    told: Notify,
}

impl Output {
    /// To this process's own stdout and stderr.
    pub fn to_own() -> Output {
        Output::to(Box::new(std::io::stdout()), Box::new(std::io::stderr()))
    }

    /// To `out` and `err`.
    pub fn to(mut out: Box<dyn Write + Send>, mut err: Box<dyn Write + Send>) -> Output {
        let (tx, mut rx) = mpsc::channel::<Piece>(QUEUE);
        let closed = Arc::new(Closed::default());
        let tell = closed.clone();
        std::thread::spawn(move || {
            let mut dead = [false; 3];
            while let Some(piece) = rx.blocking_recv() {
                match piece {
                    Piece::Flush(done) => {
                        let _ = done.send(());
                    }
                    Piece::Data(fd, data) => {
                        let (to, slot) = if fd == 2 { (&mut err, 2) } else { (&mut out, 1) };
                        if dead[slot] {
                            continue;
                        }
                        if let Err(e) = to.write_all(&data).and_then(|()| to.flush()) {
                            dead[slot] = true;
                            if e.kind() != std::io::ErrorKind::BrokenPipe {
                                let what = if fd == 2 { "stderr" } else { "stdout" };
                                let told = format!("its {what} can't be written here: {e}");
                                tell.error
                                    .lock()
                                    .unwrap_or_else(PoisonError::into_inner)
                                    .get_or_insert(told);
                            }
                            tell.fds.lock().unwrap_or_else(PoisonError::into_inner).push(fd);
                            tell.told.notify_one();
                        }
                    }
                }
            }
        });
        Output { tx, closed }
    }

    /// Writes a piece to descriptor 1 or 2; waits while the reader is behind.
    pub async fn write(&self, fd: u8, data: Vec<u8>) {
        let _ = self.tx.send(Piece::Data(fd, data)).await;
    }

    /// Waits until all is written.
    pub async fn flush(&self) {
        let (tx, rx) = tokio::sync::oneshot::channel();
        if self.tx.send(Piece::Flush(tx)).await.is_ok() {
            let _ = rx.await;
        }
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

/// A run's standard input.
pub struct Input(Option<mpsc::Receiver<Vec<u8>>>, bool);

impl Input {
    /// This process's own; a thread starts reading it now.
    pub fn own() -> Input {
        let (tx, rx) = mpsc::channel(4);
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut buf = vec![0; 64 << 10];
            loop {
                match stdin.read(&mut buf) {
                    Ok(n) if n > 0 => {
                        if tx.blocking_send(buf[..n].to_vec()).is_err() {
                            return;
                        }
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    _ => return,
                }
            }
        });
        Input(Some(rx), false)
    }

    /// Nothing.
    pub fn empty() -> Input {
        Input(None, false)
    }

    /// The next piece; empty at the end, and after that it waits for ever.
    pub async fn next(&mut self) -> Vec<u8> {
        if self.1 {
            return std::future::pending().await;
        }
        let piece = match &mut self.0 {
            Some(rx) => rx.recv().await.unwrap_or_default(),
            None => Vec::new(),
        };
        self.1 = piece.is_empty();
        piece
    }
}

/// Whether stdout and stderr are the same open file here, so that the order of what is written matters.
pub fn same_output() -> bool {
    let (out, err) = (std::io::stdout(), std::io::stderr());
    match (rustix::fs::fstat(out.as_fd()), rustix::fs::fstat(err.as_fd())) {
        (Ok(a), Ok(b)) => a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_rdev == b.st_rdev,
        _ => false,
    }
}
