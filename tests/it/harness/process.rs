//! Commands of a test: started, watched, and told of in a way that can be read when the test fails.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cx::demo::processes;

/// A command that has not ended by then hangs: the test fails with what it printed. Far beyond what any takes.
const HANG: Duration = Duration::from_secs(120);

/// A command that has been started.
pub struct Running {
    what: String,
    child: Child,
    out: JoinHandle<Vec<u8>>,
    err: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Starts a command and collects what it prints.
    pub fn start(command: &mut Command, input: &[u8]) -> Running {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start {what}: {e}"));
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that does not read its input ends before all is written: no error.
        std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Running {
            what,
            child,
            out,
            err,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal, named as for kill(1): `-INT`.
    pub fn signal(&self, name: &str) {
        signal(&[self.pid()], name);
    }

    /// Waits until it has made a file, on whichever machine; fails with what it printed if it ends without that.
    pub fn until_exists(mut self, path: &Path) -> Running {
        let begun = Instant::now();
        while !path.exists() {
            // Asked in this order: it may make the file and end between the two questions.
            if !self.is_running() && !path.exists() {
                let output = self.wait();
                panic!("ended before it made {}: {output:?}", path.display());
            }
            if begun.elapsed() > HANG {
                let output = self.kill();
                panic!("did not make {} in {HANG:?}: {output:?}", path.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    fn kill(mut self) -> Output {
        processes::tree(self.pid()).into_iter().for_each(processes::kill);
        let status = self.child.wait().unwrap();
        self.finish(status)
    }

    /// Waits for its end; a command that hangs is killed and fails the test with what it printed.
    pub fn wait(mut self) -> Output {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > HANG => {
                    let output = self.kill();
                    panic!("hung for {HANG:?}: {output:?}");
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        self.finish(status)
    }

    fn finish(self, status: ExitStatus) -> Output {
        // A child that holds the pipes must not hold the test: what came until then counts.
        let begun = Instant::now();
        while !(self.out.is_finished() && self.err.is_finished()) {
            assert!(
                begun.elapsed() < HANG,
                "{} ended, but something still holds its stdout or stderr",
                self.what
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Output {
            what: self.what,
            status,
            out: self.out.join().unwrap(),
            err: self.err.join().unwrap(),
        }
    }
}

/// What a command printed and how it ended.
pub struct Output {
    what: String,
    status: ExitStatus,
    /// The bytes of its standard output.
    pub out: Vec<u8>,
    /// The bytes of its standard error.
    pub err: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }

    /// The status that a shell would show: 128 + n for a death by signal n.
    pub fn status(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Output {
        self.exits(0)
    }

    /// Asserts this status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Output {
        assert_eq!(self.status(), status, "exit status of {self:?}");
        self
    }

    /// The lines that cx itself said: those that begin with `[cx]`.
    pub fn said(&self) -> Vec<String> {
        self.stderr()
            .lines()
            .filter(|l| l.starts_with("[cx]"))
            .map(String::from)
            .collect()
    }

    /// The one line that cx said.
    #[track_caller]
    pub fn line(&self) -> String {
        let said = self.said();
        assert_eq!(said.len(), 1, "one line of cx in {self:?}");
        said[0].clone()
    }

    /// Asserts that cx's own lines hold `part`.
    #[track_caller]
    pub fn says(self, part: &str) -> Output {
        assert!(
            self.said().iter().any(|l| l.contains(part)),
            "no line of cx has {part:?}: {self:?}"
        );
        self
    }

    /// Asserts that standard error holds `part`.
    #[track_caller]
    pub fn complains(self, part: &str) -> Output {
        assert!(self.stderr().contains(part), "stderr has no {part:?}: {self:?}");
        self
    }
}

impl fmt::Debug for Output {
    /// Made to be read in a failed test.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let indent = |b: &[u8]| {
            String::from_utf8_lossy(b)
                .lines()
                .map(|l| format!("\n  | {l}"))
                .collect::<String>()
        };
        write!(f, "{}\n{:?}", self.what, self.status)?;
        write!(f, "\nstdout:{}\nstderr:{}", indent(&self.out), indent(&self.err))
    }
}

/// Asks until it is so; for at most `limit`, and then fails with the last answer.
#[track_caller]
pub fn wait_for<T>(limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(value) => return value,
            Err(why) => assert!(begun.elapsed() < limit, "after {limit:?}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        all
    })
}

pub(super) fn signal(pids: &[u32], name: &str) {
    for pid in pids {
        // One at a time: one that is gone must not keep the others from it.
        let _ = Command::new("kill")
            .args([name, &pid.to_string()])
            .stderr(Stdio::null())
            .status();
    }
}
