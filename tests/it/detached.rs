//! Runs that go on without the cx that started them, and are found again by another one.

use serde_json::Value;

use crate::harness::{CX, Project, Running, TestEnv, wait_for};
use crate::signals::GONE;

/// Waits for `$HOME/end` on the node, then makes a file and ends with 5.
const SCRIPT: &str = "echo begun; touch $HOME/begun; while [ ! -e $HOME/end ]; do sleep 0.05; done; echo made > made; echo ended; exit 5";

fn detach(p: &Project, more: &[&str]) -> crate::harness::Output {
    let mut args = vec!["run", "--on", "n1"];
    args.extend(more);
    args.extend(["--", "sh", "-c", SCRIPT]);
    p.cx(&args)
}

fn until_state(p: &Project, state: &str) {
    wait_for(GONE, || {
        let runs = p.cx(&["runs", "--json"]).ok().stdout();
        let runs: Value = serde_json::from_str(&runs).unwrap();
        match &runs["runs"][0]["state"] {
            s if s == state => Ok(()),
            other => Err(format!("{other} instead of {state}: {runs}")),
        }
    });
}

#[test]
fn a_detached_run_is_watched_and_taken_home_by_another_cx() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let out = detach(&p, &["--detach"]).ok();
    let id = out.stdout().trim().to_owned();
    assert!(!id.is_empty() && out.line().contains("cx attach"), "{out:?}");
    let short = id.rsplit('-').next().unwrap().to_owned();
    until_state(&p, "running");
    assert_eq!(p.cx(&["logs", &short]).ok().stdout(), "begun\n");
    // Two may watch it at once.
    let follower = p.start_cx(&["logs", "-f", &short]);
    let waiting = p.start_cx(&["attach", &short]);
    std::fs::write(env.node("n1").home().join("end"), "").unwrap();
    let out = waiting.wait().exits(5);
    assert_eq!(out.stdout(), "begun\nended\n");
    assert_eq!(follower.wait().ok().stdout(), "begun\nended\n");
    assert_eq!(p.read("made"), "made\n");
    // What it said and how it ended stays known.
    until_state(&p, "ended");
    assert_eq!(p.cx(&["logs", &short]).ok().stdout(), "begun\nended\n");
    assert_eq!(p.cx(&["attach", &short]).exits(5).stdout(), "begun\nended\n");
    env.node("n1").assert_empty_within(GONE);
}

#[test]
fn output_that_is_not_kept_any_more_is_counted() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let all = 270_000_000;
    let script = format!("head -c {all} /dev/zero; echo end");
    let id = p
        .cx(&["run", "--on", "n1", "--detach", "--", "sh", "-c", &script])
        .ok();
    let id = id.stdout().trim().to_owned();
    until_state(&p, "ended");
    for verb in ["logs", "attach"] {
        let out = p.cx(&[verb, &id]).ok();
        let missing = all + 4 - out.stdout().len();
        assert!(
            missing > 0 && out.stdout().ends_with("end\n"),
            "{verb}: {missing}"
        );
        out.says(&format!(
            "n1: {missing} bytes of output before this are not kept any more"
        ));
    }
}

#[test]
fn who_is_put_out_by_another_is_told_so() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let id = detach(&p, &["--detach"]).ok().stdout().trim().to_owned();
    let seen = p.dir.with_file_name("seen");
    let script = format!("{CX} attach {id} > {}", seen.display());
    let mut first = env.command("sh", &p.dir);
    let first = Running::start(first.args(["-c", &script]), b"");
    wait_for(GONE, || match std::fs::read_to_string(&seen) {
        Ok(text) if text == "begun\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let second = p.start_cx(&["attach", &id]);
    first.wait().exits(75).says("somebody else attached to it");
    std::fs::write(env.node("n1").home().join("end"), "").unwrap();
    second.wait().exits(5);
}

#[test]
fn the_next_cx_in_the_workspace_takes_home_what_has_ended() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    detach(&p, &["--detach"]).ok();
    let home = env.node("n1").home();
    std::fs::write(home.join("end"), "").unwrap();
    until_state(&p, "ended");
    let out = p.cx(&["run", "--on", "n1", "--", "cat", "made"]).ok();
    assert_eq!(out.stdout(), "made\n");
    assert_eq!(p.read("made"), "made\n");
    let told: Vec<_> = out
        .said()
        .into_iter()
        .filter(|l| l.contains("has ended with 5"))
        .collect();
    assert_eq!(told.len(), 1, "{out:?}");
    let again = p.cx(&["run", "--on", "n1", "--", "true"]).ok();
    assert_eq!(again.said().len(), 1, "told once: {again:?}");
}

#[test]
fn at_its_deadline_a_run_goes_on_alone() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let out = detach(&p, &["--detach-at", "1"]).exits(77);
    assert_eq!(out.stdout(), "begun\n");
    assert!(out.line().contains("goes on there"), "{out:?}");
    until_state(&p, "running");
    let runs = p.cx(&["runs"]).ok().stdout();
    let short = runs.split_whitespace().next().unwrap().to_owned();
    p.cx(&["cancel", &short]).ok();
    until_state(&p, "ended");
    p.cx(&["attach", &short]).exits(143);
    assert!(!p.has("made"));
    env.node("n1").assert_empty_within(GONE);
}

#[test]
fn the_config_and_the_callers_deadline_detach_too() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[policy]\ndetach_at = \"deadline\"\n");
    env.set("CLAUDECODE", "1");
    env.set("CLAUDE_CODE_SESSION_ID", "s1");
    let notes = env.home().join(".local/state/cx/notes");
    std::fs::create_dir_all(&notes).unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let note = format!("{{\"version\":1,\"at_ms\":{now},\"timeout_ms\":8000}}");
    std::fs::write(notes.join("s1"), note).unwrap();
    let p = env.project(&[("a", "")]);
    detach(&p, &[]).exits(77);
    std::fs::write(env.node("n1").home().join("end"), "").unwrap();
    env.node("n1").assert_empty_within(GONE);
}

#[test]
fn a_detached_run_needs_a_node_and_a_known_id() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.node_mut("n1").stop();
    let p = env.project(&[("a", "")]);
    p.cx(&["run", "--detach", "--", "touch", "ran"]).exits(76);
    assert!(!p.has("ran"));
    let out = p.cx(&["run", "--detach", "--", "ls"]).exits(76);
    assert!(
        out.line().contains("only a run on a node can be detached") && !out.line().contains("--require"),
        "{out:?}"
    );
    for verb in ["logs", "attach", "cancel"] {
        p.cx(&[verb, "abc"]).exits(1).complains("no run");
    }
    p.cx(&["runs"]).ok();
}

/// One that was asked for, and of which nobody can say whether it was started.
#[test]
fn a_run_that_was_lost_before_its_start_is_listed() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[policy]\nhold = 0\n");
    let p = env.project(&[("Makefile", "test:\n\t@echo x >> $$HOME/ran\n")]);
    p.cx(&["make", "test"]).ok();
    // The session is granted, and the agent in it does not come to start.
    let rc = "while [ -e $HOME/holds ]; do sleep 0.1; done\n";
    for file in [".bashrc", ".profile", ".zshenv"] {
        env.node("n1").write(file, rc);
    }
    env.node("n1").write("holds", "");
    let out = p.cx(&["make", "test"]).exits(75);
    let line = out.said().iter().find(|l| l.contains("asks again")).cloned();
    let line = line.unwrap_or_else(|| panic!("{out:?}"));
    let id = line
        .split("cx attach ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    std::fs::remove_file(env.node("n1").home().join("holds")).unwrap();
    let listed = || {
        let all: Value = serde_json::from_str(&p.cx(&["runs", "--json"]).ok().stdout()).unwrap();
        all["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
    };
    assert!(listed().iter().any(|r| r.contains(&id)), "{:?}", listed());
    p.cx(&["attach", &id]).exits(75).says("n1");
    // It came too late to be started, and the next one goes by it.
    p.cx(&["make", "test"]).ok();
    assert_eq!(
        std::fs::read_to_string(env.node("n1").home().join("ran")).unwrap(),
        "x\nx\n"
    );
}

#[test]
fn many_runs_on_a_dead_node_are_asked_for_once() {
    let tries = |runs: usize| {
        let mut env = TestEnv::with_nodes(&["n1"]);
        {
            let p = env.project(&[("Makefile", "test:\n\t@echo $$HOME\n")]);
            for _ in 0..runs {
                p.cx(&["run", "--on", "n1", "--detach", "--", "true"]).ok();
            }
        }
        env.end_clients();
        // Every connection from now on hangs.
        env.program("ssh", "#!/bin/sh\necho x >> $HOME/tries\nexec sleep 60\n");
        let p = env.plain_project("app", &[]);
        let out = p.cx(&["make", "test"]).ok();
        assert_eq!(env.place(&out.stdout()), "local");
        let tries = std::fs::read_to_string(env.home().join("tries")).unwrap();
        tries.lines().count()
    };
    assert_eq!(tries(1), tries(4));
}
