//! The live line of a run at a terminal: what takes its time now, redrawn in place, and gone without a trace before anything else is
//! written.
//!
//! A thread of its own draws it, so that it also moves while everything else waits. It is drawn only while no output of the command waits to
//! be written and none was left in the middle of a line, and only by a process that the terminal belongs to.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::termios::{tcgetpgrp, tcgetwinsize};

use crate::client::stdio::Unwritten;

/// What is over sooner needs no line.
const AFTER: Duration = Duration::from_secs(1);

/// How often it is drawn anew.
const EVERY: Duration = Duration::from_millis(200);

/// To the beginning of the line, and all of it erased.
const ERASE: &str = "\r\x1b[K";

/// What a run is doing before its command has started, while it can't be heard, and after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These nodes are asked.
    Connecting(String),
    /// The workspace is read.
    Reading,
    /// Changes go to the node: files, their bytes, and how many bytes (compressed) were handed to the link.
    Sending(String, u64, u64, u64),
    /// All slots of the node are taken.
    Waiting(String),
    /// A set-up step goes on there: its name, and the last line that it said.
    SettingUp(String, String, String),
    /// Everything is there, and the command is to start.
    Starting(String),
    /// The link was lost.
    Attaching(String),
    /// The command's own output tells what goes on.
    Running,
    /// What changed comes back: bytes (compressed) so far.
    Back(String, u64),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Connecting(nodes) => write!(f, "connecting to {nodes}"),
            Step::Reading => write!(f, "reading the workspace"),
            Step::Sending(node, files, bytes, sent) => {
                let s = if *files == 1 { "" } else { "s" };
                let (bytes, sent) = (Megabytes(*bytes), Megabytes(*sent));
                write!(f, "{node}: sending {files} file{s}, {bytes}: {sent} gone")
            }
            Step::Waiting(node) => write!(f, "{node}: waiting for a slot"),
            Step::SettingUp(node, name, line) => {
                write!(f, "{node}: setting up: {name}")?;
                if !line.is_empty() {
                    write!(f, ": {line}")?;
                }
                Ok(())
            }
            Step::Starting(node) => write!(f, "{node}: starting"),
            Step::Attaching(node) => write!(f, "{node}: attaching again"),
            Step::Running => Ok(()),
            Step::Back(node, bytes) => write!(f, "{node}: bringing changes back: {}", Megabytes(*bytes)),
        }
    }
}

struct Megabytes(u64);

impl fmt::Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MB", self.0 as f64 / 1e6)
    }
}

/// The live line; erased, and its thread ended, when this is dropped.
pub struct Live(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    unwritten: Unwritten,
}

struct State {
    step: Option<Step>,
    /// Since when something else than the command takes its time.
    since: Instant,
    is_shown: bool,
    is_over: bool,
}

impl Live {
    /// The live line of a run that begins now, where stderr is a terminal.
    pub fn begin(unwritten: Unwritten) -> Option<Live> {
        if !std::io::stderr().is_terminal() {
            return None;
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                step: None,
                since: Instant::now(),
                is_shown: false,
                is_over: false,
            }),
            changed: Condvar::new(),
            unwritten,
        });
        let draws = shared.clone();
        let thread = std::thread::Builder::new().name("progress".into());
        thread.spawn(move || draws.draw_all()).ok()?;
        Some(Live(shared))
    }

    /// From now on this is what takes its time.
    pub fn step(&self, step: Step) {
        self.0.change(|state| {
            if step == Step::Running {
                state.erase();
                state.step = None;
            } else if state.step.replace(step).is_none() {
                state.since = Instant::now();
            }
        });
    }

    /// Makes room for another line; the live one comes back below it.
    pub fn erase(&self) {
        self.0.change(State::erase);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.erase();
            state.is_over = true;
        });
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn draw_all(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.is_over {
            state.draw(&self.unwritten);
            let waited = self.changed.wait_timeout(state, EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn draw(&mut self, unwritten: &Unwritten) {
        let Some(step) = &self.step else { return };
        let took = self.since.elapsed();
        if took < AFTER || !unwritten.is_clear() {
            return;
        }
        let stderr = std::io::stderr();
        // A process in the background would write into what others draw.
        if tcgetpgrp(stderr.as_fd()).is_ok_and(|group| group != rustix::process::getpgrp()) {
            return;
        }
        let columns = tcgetwinsize(stderr.as_fd()).map_or(0, |size| size.ws_col);
        let text = line(step, took, columns);
        self.is_shown = stderr.lock().write_all(text.as_bytes()).is_ok();
    }

    fn erase(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = std::io::stderr().write_all(ERASE.as_bytes());
        }
    }
}

/// What is drawn on a window so many columns wide (0: not known): never more than one line, or it could not be erased.
fn line(step: &Step, took: Duration, columns: u16) -> String {
    let width = match columns {
        0 => 80,
        n => usize::from(n),
    } - 1;
    let text = format!("[cx] {step} · {}s", took.as_secs());
    let text: String = text.chars().take(width).collect();
    format!("{ERASE}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_one_line_and_says_what_goes_on() {
        let step = Step::Sending("tower".into(), 1200, 51_000_000, 3_250_000);
        let took = Duration::from_millis(4300);
        assert_eq!(
            line(&step, took, 120),
            "\r\x1b[K[cx] tower: sending 1200 files, 51.0 MB: 3.2 MB gone · 4s"
        );
        let whole = line(&step, took, 120).chars().count() - ERASE.len();
        for columns in [1, 2, 30, 61] {
            let shown = line(&step, took, columns).chars().count() - ERASE.len();
            assert_eq!(shown, whole.min(usize::from(columns) - 1));
        }
        assert!(line(&step, took, 0).contains("sending"));
    }
}
