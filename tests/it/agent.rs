//! The agent itself, spoken to over a pipe: what a client may rely on when a stream breaks at the worst moment.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cx::proto::{self, Down, MAGIC, Refusal, RunStart, Up, Welcome};
use cx::request::Ending;

use crate::harness::wait_for;

struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    welcome: Welcome,
}

impl Agent {
    fn start(home: &std::path::Path) -> Agent {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cx"))
            .arg("agent")
            .env_clear()
            .env("HOME", home)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut stdout = child.stdout.take().unwrap();
        let mut magic = vec![0; MAGIC.len()];
        stdout.read_exact(&mut magic).unwrap();
        assert_eq!(magic, MAGIC);
        let (_, body) = proto::read_packet(&mut stdout).unwrap().unwrap();
        let Down::Welcome(welcome) = proto::decode(&body).unwrap() else {
            panic!("no greeting")
        };
        Agent {
            child,
            stdin,
            stdout,
            welcome: *welcome,
        }
    }

    fn say(&mut self, run: u32, up: &Up) {
        proto::write_packet(self.stdin.as_mut().unwrap(), run, up).unwrap();
    }

    /// The next message of a run that is not a heartbeat.
    fn hear(&mut self, run: u32) -> Down {
        loop {
            let (of, body) = proto::read_packet(&mut self.stdout)
                .unwrap()
                .expect("the agent ended");
            match proto::decode(&body).unwrap() {
                Down::Beat => {}
                down if of == run => return down,
                _ => {}
            }
        }
    }

    /// Breaks the stream as a dead link does: no word of farewell reaches the supervisors.
    fn break_off(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

fn run(id: &str, script: &str, start_by: Option<u64>) -> Up {
    Up::Run(Box::new(RunStart {
        id: id.into(),
        mirror: None,
        argv: ["sh", "-c", script].map(|a| a.as_bytes().to_vec()).into(),
        env: Vec::new(),
        path_prefix: Vec::new(),
        umask: 0o022,
        stdin: false,
        input: None,
        terminal: None,
        one_pipe: false,
        needs: Vec::new(),
        needs_dirs: Vec::new(),
        needs_paths: Vec::new(),
        slots: Some(4),
        allow_overload: true,
        insist: false,
        start_by,
        detached: false,
        link_grace: 60,
        keep: (u64::MAX, u64::MAX),
        tell_tools: false,
        errand: cx::proto::Errand::Command,
        setup: Vec::new(),
        shared: None,
        also: Vec::new(),
        orphans: Vec::new(),
    }))
}

#[test]
fn too_late_is_too_late_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut a = Agent::start(home.path());
    let late = a.welcome.now - 1;
    a.say(7, &run("late", "touch $HOME/ran", Some(late)));
    // It may have been busy all the time: the leave is asked for once more.
    while !matches!(a.hear(7), Down::Ready) {}
    a.say(7, &Up::Go { start_by: late });
    let answer = a.hear(7);
    assert!(
        matches!(
            answer,
            Down::Refused {
                why: Refusal::TooLate,
                ..
            }
        ),
        "{answer:?}"
    );
    assert!(!home.path().join("ran").exists());
    // And nobody thinks that it started.
    a.say(
        8,
        &Up::Attach {
            id: "late".into(),
            have: 0,
        },
    );
    assert!(matches!(a.hear(8), Down::Failed { started: false, .. }));
}

#[test]
fn a_leave_that_ran_out_on_the_way_is_given_anew() {
    let home = tempfile::tempdir().unwrap();
    let mut a = Agent::start(home.path());
    a.say(7, &run("slow", "exit 3", Some(a.welcome.now - 1)));
    while !matches!(a.hear(7), Down::Ready) {}
    a.say(7, &Up::Go { start_by: u64::MAX });
    let exit = loop {
        match a.hear(7) {
            Down::Exit(exit) => break exit,
            Down::Refused { why, .. } => panic!("{why:?}"),
            _ => {}
        }
    };
    assert_eq!(exit.ending, Ending::Code(3));
}

#[test]
fn a_long_collection_keeps_nobody_waiting() {
    let home = tempfile::tempdir().unwrap();
    let mut a = Agent::start(home.path());
    let key = cx::proto::MirrorKey {
        client: "c".into(),
        workspace: "w".into(),
        name: "p".into(),
    };
    let base = home.path().join(".cache/cx/node");
    let mirror = cx::sync::Mirror::open(&base, &key).unwrap();
    // As long as somebody changes it, it can't be removed.
    let changing = mirror.lock().unwrap();
    let all = cx::proto::GcAsk {
        client: "c".into(),
        older_ms: None,
        max_bytes: Some(0),
        dry: false,
    };
    a.say(0, &Up::Gc(all));
    a.say(0, &Up::Ask);
    assert!(matches!(a.hear(0), Down::Welcome(_)));
    drop(changing);
    let Down::Gc(lying) = a.hear(0) else {
        panic!("no answer")
    };
    assert!(lying.iter().any(|l| l.what == "mirror" && l.removed), "{lying:?}");
}

#[test]
fn without_a_word_nothing_starts() {
    let home = tempfile::tempdir().unwrap();
    let mut a = Agent::start(home.path());
    a.say(1, &run("waits", "touch $HOME/ran", None));
    assert!(matches!(a.hear(1), Down::Admitted));
    a.break_off();
    let mut b = Agent::start(home.path());
    // The supervisor has seen its stream end, and is gone with its directory.
    wait_for(std::time::Duration::from_secs(20), || {
        if home.path().join(".cache/cx/node/runs/waits").exists() {
            Err("it is still there".into())
        } else {
            Ok(())
        }
    });
    b.say(
        1,
        &Up::Attach {
            id: "waits".into(),
            have: 0,
        },
    );
    assert!(matches!(b.hear(1), Down::Failed { started: false, .. }));
    assert!(!home.path().join("ran").exists());
}

#[test]
fn a_broken_stream_can_be_taken_up_again_and_the_same_id_never_starts_twice() {
    let home = tempfile::tempdir().unwrap();
    let mut a = Agent::start(home.path());
    let script = "echo one; while [ ! -e $HOME/go ]; do sleep 0.02; done; echo two; exit 5";
    a.say(1, &run("x1", script, Some(a.welcome.now + 60_000)));
    let mut had = Vec::new();
    while had != b"one\n" {
        if let Down::Output { data, .. } = a.hear(1) {
            had.extend(data);
        }
    }
    a.break_off();

    let mut b = Agent::start(home.path());
    b.say(3, &run("x1", "touch $HOME/twice", Some(b.welcome.now + 60_000)));
    assert!(matches!(b.hear(3), Down::Failed { started: false, .. }));
    b.say(
        9,
        &Up::Attach {
            id: "x1".into(),
            have: had.len() as u64,
        },
    );
    assert!(matches!(b.hear(9), Down::Attached { stdin: 0 }));
    std::fs::File::create(home.path().join("go"))
        .unwrap()
        .write_all(b"")
        .unwrap();
    let exit = loop {
        match b.hear(9) {
            Down::Output { data, .. } => had.extend(data),
            Down::Exit(exit) => break exit,
            _ => {}
        }
    };
    assert_eq!(had, b"one\ntwo\n");
    assert_eq!((exit.ending, exit.output), (Ending::Code(5), 8));
    assert!(!home.path().join("twice").exists());
    // The client never said that it has it all; whoever asks later learns at least that it ran.
    drop(b);
    let mut c = Agent::start(home.path());
    c.say(
        1,
        &Up::Attach {
            id: "x1".into(),
            have: 0,
        },
    );
    let answer = c.hear(1);
    assert!(
        matches!(answer, Down::Failed { started: true, .. } | Down::Attached { .. }),
        "{answer:?}"
    );
}
