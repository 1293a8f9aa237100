//! The process that owns one local run, as a supervisor owns one on a node: it starts the shell, keeps the output, and ends both when it
//! is told to, or when its server is gone without having said that the run is to go on.
//!
//! Its standard input is the server's hold on it: a line that says what to run, then one byte for each wish. Its standard output is the
//! run's, and it ends as the run did. A run that goes on is written down where those on nodes are (`client/kept.rs`), so that any
//! later cx finds it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::capture::{Capture, MAX_LOG};
use super::shell;
use crate::client::kept::{self, here};
use crate::client::run::Order;
use crate::local;
use crate::paths::{AnyPath, Paths, now_ms};
use crate::pipeline;
use crate::request::Ending;

/// The byte that says that the run is to go on whatever becomes of the server. Others are numbers of signals.
const GO_ON: u8 = 0;

/// What is to be run.
#[derive(Serialize, Deserialize)]
pub struct Task {
    /// The run's id.
    pub id: String,
    /// The text, as the shell gets it.
    pub text: String,
    /// The text as it was given.
    pub shown: String,
    /// Where.
    pub cwd: AnyPath,
    /// The file that its output is appended to.
    pub log: Option<PathBuf>,
    /// It is ended after so many milliseconds.
    pub timeout_ms: u64,
}

/// Has a keeper run `task` to its end, until an order ends it, or, past `leave_at`, whatever becomes of this process; `let_go` is
/// called once that is so.
///
/// # Errors
/// When the keeper can't be started.
pub async fn run(
    task: &Task,
    env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    capture: &Capture,
    orders: &mut mpsc::Receiver<Order>,
    leave_at: Option<Instant>,
    let_go: impl Fn(),
) -> io::Result<Ending> {
    let mut child = start(&task.cwd, env)?;
    let (Some(mut leash), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let mut line = serde_json::to_vec(task)?;
    line.push(b'\n');
    leash.write_all(&line).await?;
    let mut buf = vec![0; 64 << 10];
    let (mut open, mut left, mut ended) = (true, false, None);
    let never = Instant::now() + Duration::from_secs(365 * 24 * 3600);
    loop {
        tokio::select! {
            n = output.read(&mut buf), if open => match n {
                Ok(n) if n > 0 => capture.add(&buf[..n]),
                _ => open = false,
            },
            status = child.wait(), if ended.is_none() => ended = Some(status?),
            // Who has let it go has no orders for it any more.
            Some(order) = orders.recv(), if !left => {
                let _ = leash.write_all(&[order.signal() as u8]).await;
            }
            () = tokio::time::sleep_until(leave_at.unwrap_or(never)), if leave_at.is_some() && !left => {
                left = true;
                if leash.write_all(&[GO_ON]).await.is_ok() {
                    let_go();
                }
            }
        }
        if let Some(status) = ended.filter(|_| !open) {
            return Ok(status.into());
        }
    }
}

fn start(cwd: &Path, env: Vec<(std::ffi::OsString, std::ffi::OsString)>) -> io::Result<Child> {
    // A server lives for days, and the program's file may have been replaced meanwhile by that of another cx.
    let own = Path::new("/proc/self/exe");
    let program = if own.exists() {
        own.to_owned()
    } else {
        std::env::current_exe()?
    };
    tokio::process::Command::new(program)
        .arg0("cx")
        .args(["mcp", "keep"])
        .current_dir(cwd)
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// `cx mcp keep`: the keeper's own side.
pub fn main() -> ExitCode {
    let kept = pipeline::runtime().and_then(|runtime| {
        let ending = runtime.block_on(keep());
        runtime.shutdown_background();
        ending
    });
    let status = match kept {
        Ok(Ending::Code(c)) => c,
        Ok(Ending::Signal(n)) => local::die_by(n),
        Err(e) => {
            let shell = shell::program();
            let _ = writeln!(io::stdout(), "cx: {} can't be started: {e:#}", shell.display());
            126
        }
    };
    ExitCode::from(status as u8)
}

/// What a keeper knows of its run.
struct Keeper {
    task: Task,
    paths: Option<Paths>,
    started_ms: u64,
    /// Held for as long as the run lives, once it goes on by itself.
    lock: Option<File>,
}

async fn keep() -> anyhow::Result<Ending> {
    let _ = rustix::process::setsid();
    let leash = own(std::io::stdin().as_fd())?;
    let mut leash = BufReader::new(pipe::Receiver::from_owned_fd(leash)?);
    let task = task(&mut leash).await?;
    let mut sink = Sink {
        log: task.log.as_deref().and_then(|p| append_to(p).ok()),
        room: MAX_LOG,
        reader: Some(pipe::Sender::from_owned_fd(own(std::io::stdout().as_fd())?)?),
    };
    let timeout = Duration::from_millis(task.timeout_ms);
    let mut keeper = Keeper {
        paths: Paths::from_env().ok(),
        started_ms: now_ms(),
        task,
        lock: None,
    };
    let (tx, mut orders) = mpsc::channel(4);
    let mut signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    let (text, cwd) = (keeper.task.text.clone(), keeper.task.cwd.clone());
    let run = shell::run(&text, &cwd, async |data: &[u8]| sink.add(data).await, &mut orders);
    let mut run = std::pin::pin!(run);
    let late = tokio::time::sleep(timeout);
    let mut late = std::pin::pin!(late);
    let (mut is_held, mut is_late) = (true, false);
    let [interrupt, terminate, hangup] = &mut signals;
    let ending = loop {
        let order = tokio::select! {
            ending = &mut run => break ending?,
            byte = leash.read_u8(), if is_held => match byte {
                Ok(GO_ON) => {
                    keeper.goes_on();
                    continue;
                }
                Ok(n) => Order::Signal(i32::from(n)),
                Err(_) => {
                    is_held = false;
                    if keeper.lock.is_some() {
                        continue;
                    }
                    Order::Cancel
                }
            },
            _ = interrupt.recv() => Order::Signal(libc::SIGINT),
            _ = terminate.recv() => Order::Cancel,
            _ = hangup.recv() => Order::Signal(libc::SIGHUP),
            () = &mut late, if !is_late => {
                is_late = true;
                Order::Cancel
            }
        };
        let _ = tx.try_send(order);
    };
    keeper.ended(ending);
    Ok(ending)
}

/// A descriptor of this process's, for itself.
fn own(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

async fn task(leash: &mut BufReader<pipe::Receiver>) -> anyhow::Result<Task> {
    let mut line = Vec::new();
    leash.read_until(b'\n', &mut line).await?;
    Ok(serde_json::from_slice(&line)?)
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options()
        .append(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

impl Keeper {
    /// The run goes on without its server: written down, so that it is found.
    fn goes_on(&mut self) {
        if self.lock.is_some() {
            return;
        }
        let Some(paths) = &self.paths else { return };
        let own = here::Own {
            id: &self.task.id,
            text: &self.task.shown,
            cwd: &self.task.cwd,
            log: self.task.log.as_deref(),
            started_ms: self.started_ms,
        };
        self.lock = here::keep(paths, &own).ok();
    }

    fn ended(&self, ending: Ending) {
        if let (Some(paths), true) = (&self.paths, self.lock.is_some())
            && let Ok(record) = kept::find(paths, &self.task.id)
        {
            kept::ended(paths, &record, Some(ending), true);
            here::let_go(paths, &self.task.id);
        }
    }
}

/// Where the output goes.
struct Sink {
    log: Option<File>,
    /// Bytes that the log may yet take.
    room: u64,
    reader: Option<pipe::Sender>,
}

impl Sink {
    async fn add(&mut self, data: &[u8]) {
        let fits = data.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        // A full disk loses the log, not the run.
        if self
            .log
            .as_mut()
            .is_some_and(|log| log.write_all(&data[..fits]).is_err())
        {
            self.log = None;
        }
        self.room -= fits as u64;
        if let Some(reader) = &mut self.reader
            && reader.write_all(data).await.is_err()
        {
            self.reader = None;
        }
    }
}
