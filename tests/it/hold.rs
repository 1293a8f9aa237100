//! The standing stream to a node: who uses it, and what ends it.

use std::fs;
use std::time::Duration;

use cx::demo::processes;

use crate::harness::{CX, Project, TestEnv, on, wait_for};
use crate::signals::GONE;

const LONG: Duration = Duration::from_secs(60);

/// Process ids of the holders.
fn holders(env: &TestEnv) -> Vec<u32> {
    env.processes()
        .iter()
        .filter(|l| l.ends_with(" hold n1"))
        .filter_map(|l| l.split_whitespace().next()?.parse().ok())
        .collect()
}

/// What `cx status` says.
fn kept(env: &TestEnv) -> u64 {
    let out = env.cx(&["status", "--json"]).ok().stdout();
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    status["nodes"][1]["streams_kept"].as_u64().unwrap()
}

fn until_ready(env: &TestEnv) {
    wait_for(LONG, || {
        let ctl = fs::read_dir(env.cache().join("ctl")).unwrap().flatten();
        let sockets = ctl
            .filter(|e| {
                let name = e.file_name().into_string().unwrap();
                name.contains("-h") && !name.ends_with(".lock")
            })
            .count();
        (sockets > 0)
            .then_some(())
            .ok_or_else(|| "no holder listens".to_owned())
    });
}

fn until_ended(env: &TestEnv) {
    wait_for(LONG, || {
        let left = holders(env);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("holders {left:?}"))
        }
    });
    wait_for(GONE, || {
        let left = env.node("n1").with_agents();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("left on the node: {left:?}"))
        }
    });
}

/// A first run, after which a holder stands ready.
fn warm(p: &Project<'_>, env: &TestEnv) {
    p.cx(&["run", "--on", "n1", "--", "true"]).ok();
    until_ready(env);
}

#[test]
fn the_next_run_needs_no_session() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "1\n")]);
    warm(&p, &env);
    assert_eq!(kept(&env), 1);
    let before = env.node("n1").sessions();
    for i in 0..3 {
        p.write("a", &format!("{i}\n"));
        let out = p.on("n1", "cat a; echo $PPID > b; exit 3").exits(3);
        assert_eq!(out.stdout(), format!("{i}\n"));
        assert!(p.has("b"));
    }
    assert_eq!(env.node("n1").sessions(), before);
    assert_eq!(holders(&env).len(), 1);
}

#[test]
fn killed_cx_leaves_nothing_and_the_stream_goes_with_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    warm(&p, &env);
    let before = env.node("n1").sessions();
    let script = "(trap '' TERM; sleep 3001) & touch $HOME/ready; sleep 3004";
    let running = p.start_cx(&on("n1", script));
    let running = running.until_exists(&env.node("n1").home().join("ready"));
    assert_eq!(env.node("n1").sessions(), before, "it did not use the stream");
    running.signal("-KILL");
    until_ended(&env);
    running.wait().exits(137);
    // And the next one starts afresh.
    warm(&p, &env);
}

#[test]
fn a_holder_that_dies_is_a_lost_link_and_the_run_goes_on() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    warm(&p, &env);
    let home = env.node("n1").home();
    let script = "echo x >> $HOME/ran; touch $HOME/ready; until [ -e $HOME/go ]; do sleep 0.05; done; echo end; exit 4";
    let running = p.start_cx(&on("n1", script));
    let running = running.until_exists(&home.join("ready"));
    // As when the network goes: the agent sees no end of input, or it would end the run.
    let agents: Vec<u32> = env
        .node("n1")
        .with_agents()
        .iter()
        .filter(|l| l.ends_with(" agent"))
        .filter_map(|l| l.split_whitespace().next()?.parse().ok())
        .collect();
    agents.into_iter().for_each(processes::kill);
    holders(&env).into_iter().for_each(processes::kill);
    env.node("n1").write("go", "");
    let out = running.wait().exits(4);
    assert_eq!(out.stdout(), "end\n");
    assert_eq!(fs::read_to_string(home.join("ran")).unwrap(), "x\n");
}

#[test]
fn a_run_beside_another_opens_a_stream_of_its_own() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 4\n");
    let p = env.project(&[("a", "")]);
    warm(&p, &env);
    let home = env.node("n1").home();
    let script = "touch $HOME/ready; until [ -e $HOME/go ]; do sleep 0.05; done";
    let first = p.start_cx(&on("n1", script));
    let first = first.until_exists(&home.join("ready"));
    p.cx(&["run", "--on", "n1", "--", "echo", "two"]).ok();
    env.node("n1").write("go", "");
    first.wait().ok();
}

#[test]
fn a_frozen_node_gets_no_leave_to_start_over_a_standing_stream() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\t@echo x >> $$HOME/ran; echo $$HOME\n")]);
    warm(&p, &env);
    let frozen = env.node("n1").freeze();
    let out = p.cx(&["make", "test"]).ok();
    assert_eq!(env.place(&out.stdout()), "local", "{out:?}");
    env.node("n1").thaw(&frozen);
    env.node("n1").assert_empty_within(LONG);
    assert!(!env.node("n1").home().join("ran").exists());
    assert_eq!(fs::read_to_string(env.home().join("ran")).unwrap(), "x\n");
}

#[test]
fn it_ends_when_idle_and_with_its_grounds() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    env.append_config("[policy]\nhold = 1\n");
    warm(&p, &env);
    until_ended(&env);

    env.write_config("");
    warm(&p, &env);
    env.cx(&["off"]).ok();
    until_ended(&env);
    env.cx(&["on"]).ok();

    warm(&p, &env);
    env.cx(&["nodes", "remove", "n1"]).ok();
    until_ended(&env);
}

#[test]
fn it_ends_when_another_program_takes_the_place_of_its_own() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let own = env.home().join("work/cx");
    fs::copy(CX, &own).unwrap();
    p.sh(&format!("{} run --on n1 -- true", own.display())).ok();
    until_ready(&env);
    let new = own.with_extension("new");
    fs::copy(CX, &new).unwrap();
    fs::rename(new, own).unwrap();
    until_ended(&env);
}

#[test]
fn it_can_be_switched_off() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[policy]\nhold = 0\n");
    let p = env.project(&[("a", "")]);
    p.cx(&["run", "--on", "n1", "--", "true"]).ok();
    assert_eq!(holders(&env), Vec::<u32>::new());
    assert_eq!(kept(&env), 0);
}
