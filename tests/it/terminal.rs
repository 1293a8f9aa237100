//! A person at a terminal: colours, window, keys and job control are as they would be here.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{CX, Project, TestEnv, on, wait_for};

const LONG: Duration = Duration::from_secs(60);

/// A terminal with a program at it, which leads its session.
struct Screen {
    master: File,
    slave: OwnedFd,
    seen: Arc<Mutex<String>>,
    child: Child,
}

impl Screen {
    fn start(command: &mut Command) -> Screen {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open(ptsname(&master, Vec::new()).unwrap().to_str().unwrap())
            .unwrap()
            .into();
        let end = || slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        let fd = slave.as_raw_fd();
        let lead = move || {
            // SAFETY: both calls are async-signal-safe, and the descriptor was open at the fork.
            unsafe {
                libc::setsid();
                libc::ioctl(fd, libc::TIOCSCTTY as _, 0);
            }
            Ok(())
        };
        // SAFETY: the closure is safe between fork and exec.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().unwrap();
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (master.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n) = from.read(&mut buf) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&buf[..n]));
            }
        });
        let screen = Screen {
            master,
            slave,
            seen,
            child,
        };
        screen.resize(33, 77);
        screen
    }

    fn cx(project: &Project, args: &[&str]) -> Screen {
        Screen::start(&mut project.cx_command(args))
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).unwrap();
    }

    fn text(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    fn keys(&self, keys: &str) {
        (&self.master).write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn until(&self, part: &str) -> &Screen {
        wait_for(LONG, || {
            let text = self.text();
            if text.contains(part) {
                Ok(())
            } else {
                Err(format!("no {part:?} on the screen: {text:?}"))
            }
        });
        self
    }

    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(self.slave.as_fd()).unwrap();
        modes
            .local_modes
            .contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for the end; the terminal must then be what it was. The status that a shell would show.
    fn ends(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        let status = wait_for(LONG, || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err(format!("still there: {:?}", self.text())),
        });
        assert!(self.is_cooked(), "the terminal was left raw");
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        // The reader has all that was written before the end when this is there, too.
        (&File::from(self.slave.try_clone().unwrap()))
            .write_all(b"<end>")
            .unwrap();
        self.until("<end>");
        (code, self.text())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_command_at_a_terminal_gets_one() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.set("TERM", "xterm-test");
    let p = env.project(&[("a", "")]);
    let script = "test -t 0 && test -t 1 && test -t 2 && echo all three; stty size; echo $TERM; echo $TEST_NODE; echo err >&2";
    let (status, text) = Screen::cx(&p, &on("n1", script)).ends();
    assert_eq!(status, 0, "{text:?}");
    for line in [
        "all three\r\n",
        "33 77\r\n",
        "xterm-test\r\n",
        "n1\r\n",
        "err\r\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text:?}");
    }
    assert!(!text.contains("\r\r"), "{text:?}");
}

#[test]
fn what_is_no_terminal_here_is_none_there() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let script = format!(
        "echo typed | {CX} run -q --on n1 -- sh -c 'test -t 1 && echo tty 1; test -t 2 || echo file 2; test -t 0 || cat; echo e >&2' 2> err; \
         {CX} run -q --on n1 -- sh -c 'test -t 1 || echo pipe 1; test -t 2 && echo tty 2 >&2' | cat"
    );
    let mut command = env.command("sh", &p.dir);
    let (_, text) = Screen::start(command.args(["-c", &script])).ends();
    for line in ["tty 1\r\n", "file 2\r\n", "typed\r\n", "pipe 1\r\n", "tty 2\r\n"] {
        assert!(text.contains(line), "{line:?} in {text:?}");
    }
    assert!(!text.contains("\r\r"), "{text:?}");
    assert_eq!(p.read("err"), "e\n");
}

#[test]
fn keys_and_window_reach_the_command() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let script = "trap 'stty size' WINCH; echo ready; while :; do read -r -t 0.2 line || continue; echo \"got <$line>\"; [ \"$line\" = q ] && break; done; cat; echo over";
    let screen = Screen::cx(&p, &["run", "--on", "n1", "--", "bash", "-c", script]);
    screen.until("ready").keys("one\r");
    screen.until("got <one>").resize(40, 99);
    screen.until("40 99").keys("q\r");
    screen.until("got <q>").keys("last\r\u{4}");
    let (status, text) = screen.ends();
    assert_eq!(status, 0);
    // The terminal there echoes what is typed, once.
    assert_eq!(text.matches("last\r\n").count(), 2, "{text:?}");
    assert!(text.contains("over\r\n"), "{text:?}");
}

#[test]
fn interrupting_keys_end_the_command() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    for (key, status) in [("\u{3}", 130), ("\u{1c}", 131)] {
        let screen = Screen::cx(&p, &on("n1", "echo ready; exec sleep 3000"));
        screen.until("ready");
        wait_for(LONG, || {
            if screen.is_cooked() {
                Err("not raw".into())
            } else {
                Ok(())
            }
        });
        screen.keys(key);
        assert_eq!(screen.ends().0, status);
    }
    env.node("n1").assert_empty_within(crate::signals::GONE);
}

#[test]
fn signals_from_elsewhere_leave_the_terminal_as_it_was() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    for (signal, status) in [(libc::SIGTERM, 143), (libc::SIGHUP, 129)] {
        let screen = Screen::cx(&p, &on("n1", "echo ready; exec sleep 3000"));
        screen.until("ready");
        wait_for(LONG, || {
            if screen.is_cooked() {
                Err("not raw".into())
            } else {
                Ok(())
            }
        });
        // SAFETY: the child is ours and not waited for yet.
        unsafe { libc::kill(screen.child.id() as i32, signal) };
        assert_eq!(screen.ends().0, status);
    }
    env.node("n1").assert_empty_within(crate::signals::GONE);
}

#[test]
fn a_shell_stops_and_continues_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let mut command = env.command("bash", &p.dir);
    command.env("PS1", "prompt> ").env("TERM", "dumb");
    let screen = Screen::start(command.args(["--norc", "--noprofile", "-i"]));
    // No child in the loop: one that is stopped between its vfork and its exec keeps its parent from stopping, here as there.
    screen.until("prompt> ").keys(&format!(
        "{CX} run -q --on n1 -- sh -c 'echo be''gun; touch $HOME/begun; while [ ! -e $HOME/end ]; do :; done; read x; echo en''ded $x'\n"
    ));
    screen.until("begun");
    wait_for(LONG, || {
        if screen.is_cooked() {
            Err("not raw".into())
        } else {
            Ok(())
        }
    });
    screen.keys("\u{1a}");
    screen.until("Stopped");
    // The whole command stands still there.
    let home = env.node("n1").home();
    std::fs::write(home.join("end"), "").unwrap();
    screen.keys("echo is back >&2; kill -0 %1 && echo still there\n");
    screen.until("still there\r\n");
    assert!(!screen.text().contains("ended"), "{:?}", screen.text());
    screen.keys("fg\n");
    wait_for(LONG, || {
        if screen.is_cooked() {
            Err("not raw".into())
        } else {
            Ok(())
        }
    });
    screen.keys("line\r");
    screen.until("ended line");
    // What is typed before would still be for the command.
    wait_for(LONG, || match screen.text() {
        text if text.ends_with("prompt> ") => Ok(()),
        text => Err(format!("no prompt: {text:?}")),
    });
    screen.keys("exit 5\n");
    assert_eq!(screen.ends().0, 5);
}

/// Moves to the beginning of the line and erases it.
const ERASE: &str = "\r\u{1b}[K";

/// An ssh that waits until a file called `go` is in the home directory.
fn slow_ssh(env: &mut TestEnv) {
    env.end_clients();
    let script = "#!/bin/sh\nwhile [ ! -e \"$HOME/go\" ]; do sleep 0.05; done\nPATH=/usr/local/bin:/usr/bin:/bin exec ssh \"$@\"\n";
    env.program("ssh", script);
}

#[test]
fn what_takes_long_is_told_on_one_line_that_leaves_no_trace() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    slow_ssh(&mut env);
    let p = env.project(&[("a", "")]);
    let screen = Screen::cx(&p, &on("n1", "echo out; exit 3"));
    screen.until("[cx] connecting to n1 · 1s");
    std::fs::write(env.home().join("go"), "").unwrap();
    let (status, text) = screen.ends();
    assert_eq!(status, 3, "{text:?}");
    let before_output = text.split("out\r\n").next().unwrap();
    assert!(before_output.ends_with(ERASE), "{text:?}");
    let rest = text.split("out\r\n").nth(1).unwrap();
    assert!(
        rest.trim_start_matches(ERASE).starts_with("[cx] n1 · sync"),
        "{text:?}"
    );
    // What stays on the screen: the output and the report.
    let stays: Vec<_> = text
        .split("\r\n")
        .filter_map(|line| line.rsplit(ERASE).next())
        .filter(|line| line.contains("connecting"))
        .collect();
    assert!(stays.is_empty(), "{text:?}");
}

#[test]
fn no_live_line_where_nobody_would_see_it_or_wants_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 1\n");
    let p = env.project(&[("a", "")]);
    let hold = "touch $HOME/held; while [ ! -e $HOME/free ]; do sleep 0.05; done";
    let home = env.node("n1").home();
    let holder = p.start_cx(&on("n1", hold));
    let holder = holder.until_exists(&home.join("held"));
    let loud = Screen::cx(&p, &["run", "--on", "n1", "--", "echo", "loud"]);
    let quiet = Screen::cx(&p, &["run", "-q", "--on", "n1", "--", "echo", "quiet"]);
    let script = format!("{CX} run --on n1 -- echo into 2> err");
    let mut command = env.command("sh", &p.dir);
    let file = Screen::start(command.args(["-c", &script]));
    // All three have waited for as long when the one that may tell has told.
    loud.until("n1: waiting for a slot · 3s");
    std::fs::write(home.join("free"), "").unwrap();
    assert_eq!(quiet.ends(), (0, "quiet\r\n<end>".into()));
    assert_eq!(file.ends(), (0, "into\r\n<end>".into()));
    assert_eq!(loud.ends().0, 0);
    let err = p.read("err");
    assert!(!err.contains('\u{1b}') && !err.contains("· 1s"), "{err:?}");
    holder.wait().ok();
}

#[test]
fn interrupted_while_it_connects_nothing_stays_on_the_line() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    slow_ssh(&mut env);
    let p = env.project(&[("a", "")]);
    let screen = Screen::cx(&p, &["run", "--on", "n1", "--", "echo", "ran"]);
    screen.until("[cx] connecting to n1 · 1s").keys("\u{3}");
    let (status, text) = screen.ends();
    assert_eq!(status, 130, "{text:?}");
    let last = text.rsplit("\r\n").next().unwrap();
    assert_eq!(last.rsplit(ERASE).next().unwrap(), "<end>", "{text:?}");
    assert!(!text.contains("ran"), "{text:?}");
}
