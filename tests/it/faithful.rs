//! What a command does to its surroundings, to the last detail: every exit status, every signal, the order of its output, locale and
//! file modes, and what its caller does while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::harness::{CX, TestEnv, on};
use crate::signals::GONE;

#[test]
fn all_exit_statuses_come_through() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 4\n");
    let p = env.project(&[("a", "")]);
    let half = |from: u32| {
        format!(
            "for i in $(seq {from} {}); do {CX} run -q --on n1 -- sh -c \"exit $i\"; [ $? = $i ] || echo \"$? instead of $i\"; done",
            from + 127
        )
    };
    let out = p.sh(&format!("({}) & ({}); wait", half(0), half(128))).ok();
    assert_eq!(out.stdout(), "", "{out:?}");
}

#[test]
fn what_a_command_leaves_of_a_file_is_the_next_ones() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("list", "one\ntwo\nthree\n"), ("all.sh", "cat\n")]);
    for script in [
        "while read -r line; do echo \"line $line\"; @ sh -c 'echo nothing read'; done < list",
        "{ @ sh -c 'read -r x; echo \"got $x\"'; cat; } < list",
        "{ read -r x; @ head -n 1; cat; } < list",
        "{ @ sh all.sh; echo rest; cat; } < list",
        "{ @ sh -c 'exit 3'; echo $?; cat; } < list",
        "@ sh -c 'test -f /dev/stdin && wc -c' < list",
    ] {
        let there = p
            .sh(&script.replace('@', &format!("{CX} run -q --on n1 --")))
            .ok();
        let here = p.sh(&script.replace("@ ", "")).ok();
        assert_eq!(there.stdout(), here.stdout(), "{script}");
    }
}

#[test]
fn every_deadly_signal_comes_through() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    for (name, n) in [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("ABRT", libc::SIGABRT),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("TERM", libc::SIGTERM),
    ] {
        let script = format!("kill -{name} $$; sleep 3000");
        p.on("n1", &script).exits(128 + n);
    }
}

#[test]
fn what_cannot_be_started_has_a_shells_statuses() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("plain", "no program")]);
    p.cx(&["./plain"]).exits(126);
    p.cx(&["no-such-program-anywhere"]).exits(127);
}

#[test]
fn ten_thousand_lines_of_both_streams_stay_in_order_in_one_file() {
    let env = TestEnv::with_nodes(&["n1"]);
    let talk = "#!/bin/sh\ni=0\nwhile [ $i -lt 5000 ]; do echo $i; echo $i >&2; i=$((i+1)); done\n";
    let p = env.project(&[("talk", talk)]);
    p.sh(&format!("{CX} run -q --on n1 -- ./talk > ../out 2>&1")).ok();
    let wanted: String = (0..5000).map(|i| format!("{i}\n{i}\n")).collect();
    let got = fs::read_to_string(p.dir.join("../out")).unwrap();
    assert!(got == wanted, "{} bytes of {}", got.len(), wanted.len());
}

#[test]
fn files_are_made_with_the_callers_umask() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    for (mask, mode) in [("027", 0o640), ("077", 0o600), ("002", 0o664)] {
        let script = format!("umask {mask}; {CX} run --on n1 -- sh -c 'umask; echo 1 > made.{mask}'");
        let out = p.sh(&script).ok();
        assert_eq!(out.stdout(), format!("0{mask}\n"));
        let made = fs::metadata(p.dir.join(format!("made.{mask}"))).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, mode, "{mask}");
    }
}

#[test]
fn what_only_the_caller_has_keeps_a_command_with_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\t@echo $$HOME\n")]);
    for (line, node) in [
        ("cx make test", "n1"),
        ("cx make -f <(cat Makefile) test", "local"),
        ("(ulimit -t 3000; cx make test); true", "local"),
    ] {
        let mut command = env.command("setsid", &p.dir);
        let out = env
            .run(command.args(["-w", "bash", "-c", &line.replace("cx", CX)]), b"")
            .ok();
        assert_eq!(env.place(&out.stdout()), node, "{line}: {out:?}");
    }
}

#[test]
fn a_locale_that_the_node_lacks_does_not_cross() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.set("LC_ALL", "xx_NO.UTF-8");
    env.set("LC_TIME", "C");
    let p = env.project(&[("a", "")]);
    let show = [
        "run",
        "-q",
        "--on",
        "n1",
        "--",
        "sh",
        "-c",
        "echo $LC_ALL,$LC_TIME",
    ];
    let out = p.cx(&show).ok();
    // Where the system can't list its locales there is nothing to go by.
    let can_list = env
        .run(
            env.command("sh", &p.dir)
                .args(["-c", "locale -a | grep -q . || echo no"]),
            b"",
        )
        .stdout()
        .is_empty();
    let wanted = if can_list { ",C\n" } else { "xx_NO.UTF-8,C\n" };
    assert_eq!(out.stdout(), wanted);
    env.set("LC_ALL", "POSIX");
    let p = env.plain_project("app", &[]);
    assert_eq!(p.cx(&show).ok().stdout(), "POSIX,C\n");
}

#[test]
fn a_caller_that_dies_in_any_way_leaves_nothing_there() {
    let env = TestEnv::with_nodes(&["n1"]);
    let ready = env.node("n1").home().join("ready");
    let script = "(trap '' TERM INT HUP QUIT; sleep 3001) & touch $HOME/ready; sleep 3002";
    for (name, status) in [("-QUIT", 131), ("-ABRT", 134), ("-PIPE", 0), ("-USR1", 138)] {
        let p = env.project(&[("a", "")]);
        let running = p.start_cx(&on("n1", script));
        let running = running.until_exists(&ready);
        running.signal(name);
        if status == 0 {
            // Ignored by every program in this language; the command is to be ended some other way.
            running.signal("-TERM");
            running.wait().exits(143);
        } else {
            running.wait().exits(status);
        }
        env.node("n1").assert_empty_within(GONE);
        fs::remove_file(&ready).unwrap();
    }
}

#[test]
fn a_reader_that_has_stopped_reading_does_not_keep_a_signal_from_the_command() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let script = format!(
        "sh -c 'echo $$ > ../pid; exec {CX} run -q --on n1 -- yes' | until [ -e ../go ]; do sleep 0.05; done"
    );
    let mut command = env.command("sh", &p.dir);
    let pipe = crate::harness::Running::start(command.args(["-c", &script]), b"");
    let pipe = pipe.until_exists(&p.dir.join("../pid"));
    crate::harness::wait_for(GONE, || {
        match env.node("n1").processes().iter().any(|l| l.ends_with(" yes")) {
            true => Ok(()),
            false => Err("it has not started".to_owned()),
        }
    });
    // So that everything between the two is full; without that the test shows less, and does not fail.
    std::thread::sleep(Duration::from_secs(1));
    let pid = fs::read_to_string(p.dir.join("../pid")).unwrap();
    p.sh(&format!("kill -TERM {}", pid.trim())).ok();
    crate::harness::wait_for(GONE, || {
        match env.node("n1").processes().iter().any(|l| l.ends_with(" yes")) {
            false => Ok(()),
            true => Err("the command lives on".to_owned()),
        }
    });
    fs::write(p.dir.join("../go"), "").unwrap();
    pipe.wait().ok();
    env.node("n1").assert_empty_within(GONE);
}

/// Counts until somebody makes `$HOME/end`, then makes a file and ends with 5.
const COUNTER: &str = "i=0; while [ ! -e $HOME/end ]; do echo $i; i=$((i+1)); [ $i = 50 ] && touch $HOME/ready; sleep 0.01; done; \
                       echo $i > made; exit 5";

fn counted(out: &crate::harness::Output, made: &str) {
    let n: u32 = made.trim().parse().unwrap();
    let wanted: String = (0..n).map(|i| format!("{i}\n")).collect();
    assert!(
        out.stdout() == wanted,
        "{} bytes of {}: {:?}",
        out.out.len(),
        wanted.len(),
        out.said()
    );
}

/// The ssh processes here.
fn masters(env: &TestEnv) -> Vec<String> {
    env.processes()
        .into_iter()
        .filter(|l| {
            l.split_whitespace()
                .nth(1)
                .is_some_and(|w| w.ends_with("ssh") || w.starts_with("ssh"))
        })
        .filter_map(|l| l.split_whitespace().next().map(String::from))
        .collect()
}

#[test]
fn a_connection_that_is_closed_outright_is_no_status_of_the_command() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let home = env.node("n1").home();
    let running = p.start_cx(&on("n1", COUNTER));
    let running = running.until_exists(&home.join("ready"));
    let ssh = masters(&env);
    assert!(!ssh.is_empty(), "{:?}", env.processes());
    p.sh(&format!("kill -KILL {}", ssh.join(" "))).ok();
    // Whoever is told that the connection broke does not take the caller for dead.
    fs::write(home.join("end"), "").unwrap();
    let out = running.wait().exits(5);
    counted(&out, &p.read("made"));
    env.node("n1").assert_empty_within(GONE);
}

#[test]
fn what_a_frozen_caller_did_not_get_any_more_waits_for_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let home = env.node("n1").home();
    let running = p.start_cx(&on("n1", COUNTER));
    let running = running.until_exists(&home.join("ready"));
    let ssh = masters(&env).join(" ");
    p.sh(&format!("kill -STOP {} {ssh}", running.pid())).ok();
    fs::write(home.join("end"), "").unwrap();
    // All of the result is on its way, into a connection that ends before anybody has read it.
    std::thread::sleep(Duration::from_secs(2));
    p.sh(&format!("kill -KILL {ssh}")).ok();
    std::thread::sleep(Duration::from_secs(1));
    p.sh(&format!("kill -CONT {}", running.pid())).ok();
    let out = running.wait().exits(5);
    counted(&out, &p.read("made"));
    env.node("n1").assert_empty_within(GONE);
}

#[test]
fn a_caller_that_was_frozen_goes_on_where_it_was() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let home = env.node("n1").home();
    let running = p.start_cx(&on("n1", COUNTER));
    let running = running.until_exists(&home.join("ready"));
    let ssh = masters(&env).join(" ");
    p.sh(&format!("kill -STOP {} {ssh}", running.pid())).ok();
    // The command runs to its end meanwhile, and the node hears nothing of its caller for a while.
    fs::write(home.join("end"), "").unwrap();
    std::thread::sleep(Duration::from_secs(5));
    p.sh(&format!("kill -CONT {ssh} {}", running.pid())).ok();
    let out = running.wait().exits(5);
    counted(&out, &p.read("made"));
    env.node("n1").assert_empty_within(GONE);
}
