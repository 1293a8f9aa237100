//! What was learned of runtimes keeps what is short here.

use std::fs;
use std::time::Duration;

use crate::harness::{Project, TestEnv, wait_for};

fn file(env: &TestEnv) -> std::path::PathBuf {
    env.cache().join("learned")
}

/// The lines of the file, once they are what is waited for: a command that ran here is timed after it has ended.
fn lines(env: &TestEnv, fits: impl Fn(&[Vec<String>]) -> bool) -> Vec<Vec<String>> {
    wait_for(Duration::from_secs(60), || {
        let text = fs::read_to_string(file(env)).unwrap_or_default();
        let lines: Vec<Vec<String>> = text
            .lines()
            .skip(1)
            .map(|l| l.split(' ').map(str::to_owned).collect())
            .collect();
        if fits(&lines) { Ok(lines) } else { Err(text) }
    })
}

/// Makes the commands here take 100 ms each and trips 5 s, whatever they took.
fn pretend(env: &TestEnv, lines: &[Vec<String>]) {
    let mut text = "cx-learned 1\n".to_owned();
    for line in lines {
        let ms = if line[1] == "local" { "100" } else { "5000" };
        text += &format!("{} {} {} {}\n", line[0], line[1], line[2], [ms; 7].join(","));
    }
    fs::write(file(env), text).unwrap();
}

/// One decision in sixteen tries what was learned once more, so some are asked.
fn soon(what: &str, mut ask: impl FnMut() -> String) {
    let all: Vec<String> = (0..8).map(|_| ask()).collect();
    assert!(all.iter().any(|said| said.contains(what)), "{what}: {all:?}");
}

fn local(p: &Project, args: &[&str]) {
    let mut all = vec!["run", "--local", "--"];
    all.extend(args);
    p.cx(&all).ok();
}

#[test]
fn what_is_short_here_stays_and_says_so() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\t@echo ran\nall:\n\t@sleep 0.3\n")]);
    for _ in 0..3 {
        p.cx(&["run", "--on", "n1", "--", "make", "test"]).ok();
        local(&p, &["make", "test"]);
    }
    // One key for the command, here and there, and one for the trips.
    let seen = lines(&env, |lines| {
        lines.len() == 3 && lines.iter().all(|l| l[3].matches(',').count() == 2)
    });
    let here: Vec<&str> = seen
        .iter()
        .filter(|l| l[1] == "local")
        .map(|l| l[0].as_str())
        .collect();
    assert_eq!(here.len(), 1, "{seen:?}");
    assert_eq!(
        seen.iter().filter(|l| l[1] == "n1" && l[0] == here[0]).count(),
        1,
        "{seen:?}"
    );

    pretend(&env, &seen);
    let why = " s here, a trip costs 5.0 s";
    soon(why, || p.cx(&["make", "test"]).ok().said().join("\n"));
    soon(why, || p.cx(&["explain", "make test"]).ok().stdout());
    // Another command has times of its own.
    assert!(!p.cx(&["explain", "make all"]).ok().stdout().contains("usually"));

    // A file that is none takes nothing away.
    fs::write(file(&env), b"\xff\0{").unwrap();
    p.cx(&["make", "test"]).ok();
}

#[test]
fn a_watched_command_notices_nothing() {
    let env = TestEnv::new();
    let p = env.project(&[
        ("Makefile", "all:\n\t@sh t\ntest:\n\t@kill -9 $$PPID\n"),
        ("t", "ls /proc/$PPID/task/$PPID/children >/dev/null 2>&1 && cat /proc/$PPID/task/$PPID/children | wc -w\n"),
    ]);
    // No child but its own; and a pipe it was given ends with it.
    let out = p.sh("cx run --local -q -- make all 3>&1 | cat");
    let said = out.ok().stdout();
    assert!(said.trim().is_empty() || said.trim() == "1", "{said}");
    lines(&env, |lines| lines.len() == 1 && lines[0][1] == "local");
    p.cx(&["run", "--local", "-q", "--", "make", "test"]).exits(137);
    lines(&env, |lines| lines.len() == 2);
}

#[test]
fn what_failed_there_and_passes_here_stays_here_for_a_while() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\ttest -z \"$$TEST_NODE\"\n")]);
    p.cx(&["make", "test"]).exits(2).says("n1");
    let local = ["run", "--local", "--", "make", "test"];
    let out = p.cx(&local).ok();
    assert_eq!(out.stdout(), "test -z \"$TEST_NODE\"\n");
    let reason = "it failed on n1 and passed here on the same tree";
    let out = p.cx(&["make", "test"]).ok();
    assert!(out.line().contains(&format!("local: {reason}")), "{out:?}");
    let explained = || p.cx(&["explain", "make test"]).ok().stdout();
    assert!(explained().contains(reason));
    // Named, it is tried again, and then it is no case for this machine any more.
    p.cx(&["run", "--on", "n1", "--", "make", "test"]).exits(2);
    assert!(!explained().contains(reason));
    p.cx(&local).ok();
    assert!(explained().contains(reason));
    p.write("Makefile", "test:\n\ttrue\n");
    p.cx(&["run", "--on", "n1", "--", "make", "test"]).ok();
    assert!(!explained().contains(reason));
    // A command that is seen to its end here is ended as ever.
    p.write(
        "Makefile",
        "test:\n\ttest -z \"$$TEST_NODE\" && touch ../ready && exec sleep 3000\n",
    );
    p.cx(&["run", "--on", "n1", "--", "make", "test"]).exits(2);
    let running = p.start_cx(&local);
    let running = running.until_exists(&p.dir.join("../ready"));
    running.signal("-TERM");
    let status = running.wait().status();
    assert!(status == 143 || status == 2, "{status}");
}
