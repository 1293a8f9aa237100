//! The caller's terminal, while a command on a node uses it: what is typed goes there as it is, key by key, and the terminal there
//! makes of it lines, echoes and signals. So the one here is raw as long as cx is in the foreground, and as it was at all other
//! times: before the start, while the link is lost, while cx is stopped, and whichever way cx ends.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::tty;

/// The caller's terminal, and the signals that have to do with it. Dropping it puts the terminal back.
pub struct Terminal {
    spec: Option<tty::Terminal>,
    /// What the terminal was like; `Some` only where what is typed is for the command.
    cooked: Option<Termios>,
    raw: bool,
    signals: [Option<Signal>; 3],
}

/// What happened at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The window has another size.
    Resized(tty::Size),
    /// Somebody wants this process to stop (Ctrl-Z, `kill -TSTP`).
    Stop,
    /// This process goes on after a stop.
    Continued,
}

impl Terminal {
    /// The terminal of this process, if `wanted` and any of the three descriptors is one.
    pub fn look(wanted: bool) -> Terminal {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let is = (stdin.is_terminal(), stdout.is_terminal(), stderr.is_terminal());
        let mut spec = None;
        let mut cooked = None;
        if wanted && (is.0 || is.1 || is.2) {
            let fd: BorrowedFd = if is.1 {
                stdout.as_fd()
            } else if is.2 {
                stderr.as_fd()
            } else {
                stdin.as_fd()
            };
            if let (Ok(mut modes), Ok(size)) = (tcgetattr(fd), tcgetwinsize(fd)) {
                // A pager at the end of a pipe reads the keys itself: they are the command's only where it has the screen too.
                let typed = is.0 && is.1;
                if typed {
                    cooked = tcgetattr(stdin.as_fd()).ok();
                } else {
                    // This terminal does the line's editing and the output's line ends; twice would be once too often.
                    use rustix::termios::{LocalModes, OutputModes};
                    modes.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
                    modes.output_modes.remove(OutputModes::OPOST);
                }
                spec = Some(tty::Terminal {
                    stdin: is.0,
                    stdout: is.1,
                    stderr: is.2,
                    size: size.into(),
                    modes: tty::Modes::of(&modes),
                });
            }
        }
        Terminal {
            spec,
            cooked,
            raw: false,
            signals: [None, None, None],
        }
    }

    /// What the node gets to know of it. `reads`: the command reads its input; what never gets any has none there.
    pub fn spec(&self, reads: bool) -> Option<tty::Terminal> {
        let spec = tty::Terminal {
            size: size().unwrap_or_default(),
            ..self.spec?
        };
        let stdin = spec.stdin && (reads || self.is_typed());
        (stdin || spec.stdout || spec.stderr).then_some(tty::Terminal { stdin, ..spec })
    }

    /// The size of its window, if there is one.
    pub fn size(&self) -> Option<tty::Size> {
        self.spec?;
        size()
    }

    /// Whether what is typed is for the command.
    pub fn is_typed(&self) -> bool {
        self.cooked.is_some()
    }

    /// The command has started: takes the terminal, and its signals from now on.
    pub fn engage(&mut self) {
        let kinds = [SIGTSTP, libc::SIGCONT, libc::SIGWINCH];
        for (slot, n) in self.signals.iter_mut().zip(kinds) {
            // Who was started with stops ignored stays so.
            if slot.is_none() && !is_ignored(n) {
                *slot = signal(SignalKind::from_raw(n)).ok();
            }
        }
        self.settle();
    }

    /// Makes the terminal raw if cx is in the foreground. Cheap; called now and then, since nothing tells of `fg`.
    pub fn settle(&mut self) {
        let Some(cooked) = &self.cooked else { return };
        let stdin = std::io::stdin();
        if in_foreground() == self.raw {
            return;
        }
        if self.raw {
            // In the background: whoever put us there took the terminal for itself.
            self.raw = false;
            return;
        }
        let mut raw = cooked.clone();
        raw.make_raw();
        // What was typed ahead stays.
        self.raw = tcsetattr(stdin.as_fd(), OptionalActions::Drain, &raw).is_ok();
    }

    /// Puts the terminal back to what it was.
    pub fn release(&mut self) {
        if let Some(cooked) = self.cooked.as_ref().filter(|_| self.raw) {
            if in_foreground() {
                let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Drain, cooked);
            }
            self.raw = false;
        }
    }

    /// Stops this process, or all of its group (as Ctrl-Z would have); returns when it is continued.
    pub fn suspend(&mut self, group: bool) {
        self.release();
        stop_self(group);
        self.settle();
    }

    /// Waits for the next thing that happens; for ever before [`Terminal::engage`].
    pub async fn event(&mut self) -> Event {
        let [stop, cont, winch] = &mut self.signals;
        tokio::select! {
            () = next(stop) => Event::Stop,
            () = next(cont) => Event::Continued,
            () = next(winch) => Event::Resized(size().unwrap_or_default()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.release();
    }
}

const SIGTSTP: i32 = libc::SIGTSTP;

async fn next(s: &mut Option<Signal>) {
    match s {
        Some(s) => {
            if s.recv().await.is_none() {
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

/// The size of the window, if there is one.
pub fn size() -> Option<tty::Size> {
    let (out, err, inp) = (std::io::stdout(), std::io::stderr(), std::io::stdin());
    [out.as_fd(), err.as_fd(), inp.as_fd()]
        .into_iter()
        .find_map(|fd| tcgetwinsize(fd).ok())
        .map(Into::into)
}

/// Whether this process may read the terminal on its standard input; also where that is none.
pub fn in_foreground() -> bool {
    match tcgetpgrp(std::io::stdin().as_fd()) {
        Ok(group) => group == rustix::process::getpgrp(),
        Err(_) => true,
    }
}

/// Whether this process was started with a signal ignored (`nohup`, a script's background job): then it stays so.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: asks for the action only; the struct is plain data that the call fills in.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Stops this process or its group by SIGTSTP's default action, whatever handler there is; returns when it is continued, or at
/// once where nobody could continue it (no shell with job control above).
fn stop_self(group: bool) {
    // SAFETY: the action that is put back is the one that was there; both structs are plain data.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        let mut stop: libc::sigaction = std::mem::zeroed();
        stop.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(SIGTSTP, &raw const stop, &raw mut old);
        libc::kill(if group { 0 } else { libc::getpid() }, SIGTSTP);
        libc::sigaction(SIGTSTP, &raw const old, std::ptr::null_mut());
    }
}
