//! However cx ends, its command ends with it, and nothing is left on the node.

use std::time::Duration;

use crate::harness::{Running, TestEnv, on};

/// Within this time nothing may be left. The promise is 5 s; the rest is for a machine that runs many tests at once.
pub const GONE: Duration = Duration::from_secs(15);

/// A command with a stubborn child, a grandchild that left its session, and one that ignores every polite signal.
const FAMILY: &str = "(trap '' TERM INT HUP; sleep 3001) & setsid sh -c 'trap \"\" TERM INT HUP; sleep 3002; sleep 3003' & \
                      touch $HOME/ready; sleep 3004; echo survived";

fn start(env: &TestEnv, script: &str) -> Running {
    let p = env.project(&[("a", "")]);
    let running = p.start_cx(&on("n1", script));
    let running = running.until_exists(&env.node("n1").home().join("ready"));
    assert!(
        !env.node("n1").processes().is_empty(),
        "the check for left-over processes sees none while one runs"
    );
    running
}

#[test]
fn killed_cx_leaves_nothing_on_the_node() {
    let env = TestEnv::with_nodes(&["n1"]);
    let running = start(&env, FAMILY);
    running.signal("-KILL");
    env.node("n1").assert_empty_within(GONE);
    running.wait().exits(137);
}

#[test]
fn interrupted_cx_and_its_command_both_end() {
    let env = TestEnv::with_nodes(&["n1"]);
    for (name, status) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let running = start(&env, FAMILY);
        running.signal(name);
        let out = running.wait().exits(status);
        assert!(!out.stdout().contains("survived"), "{out:?}");
        env.node("n1").assert_empty_within(GONE);
        std::fs::remove_file(env.node("n1").home().join("ready")).unwrap();
    }
}

#[test]
fn a_command_that_handles_the_signal_decides_how_it_ends() {
    let env = TestEnv::with_nodes(&["n1"]);
    let script = "trap 'echo tidy; exit 3' INT; touch $HOME/ready; while :; do sleep 0.05; done";
    let running = start(&env, script);
    running.signal("-INT");
    assert_eq!(running.wait().exits(3).stdout(), "tidy\n");
}

#[test]
fn killed_during_the_sync_leaves_both_trees_whole() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "1\n")]);
    p.cx(&["run", "--on", "n1", "--", "cat", "a"]).ok();
    // Big enough that some of the kills hit the middle of the sync.
    let big: String = (0..400_000u32)
        .map(|i| format!("{:x}\n", i.wrapping_mul(2_654_435_761)))
        .collect();
    for round in 0..6u64 {
        p.write("big", &format!("{round}\n{big}"));
        let running = p.start_cx(&["run", "--on", "n1", "--", "true"]);
        std::thread::sleep(Duration::from_millis(round * 40));
        running.signal("-KILL");
        running.wait();
    }
    let before = p.list();
    let out = p.on("n1", "cat a; head -n 1 big; wc -c < big | tr -d ' '").ok();
    assert_eq!(out.stdout(), format!("1\n5\n{}\n", big.len() + 2));
    assert_eq!(p.list(), before);
}
