//! The harness itself: nodes are apart from each other and from here, and leave nothing.

use std::time::Duration;

use crate::harness::{Running, TestEnv, wait_for};

fn ssh(env: &TestEnv, node: &str, command: &str) -> crate::harness::Output {
    let config = env.ssh_config_path();
    env.run(
        env.command("ssh", &env.home())
            .arg("-F")
            .arg(config)
            .args(["-n", node, "--", command]),
        b"",
    )
}

#[test]
fn each_node_has_its_own_home_and_no_variables_of_ours() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    env.start_node("n2");
    env.set("SECRET_OF_HERE", "x");
    for name in ["n1", "n2"] {
        let out = ssh(&env, name, "echo $HOME; echo $TEST_NODE; env").ok().stdout();
        assert_eq!(env.place(&out), name);
        assert_eq!(out.lines().nth(1), Some(name));
        assert!(!out.contains("SECRET_OF_HERE"), "{out}");
    }
}

#[test]
fn what_a_stopped_node_ran_is_gone_and_it_refuses() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    ssh(
        &env,
        "n1",
        "setsid sleep 300 >/dev/null 2>&1 </dev/null & touch $HOME/started",
    )
    .ok();
    assert!(env.node("n1").home().join("started").exists());
    wait_for(Duration::from_secs(20), || {
        let left = env.node("n1").processes();
        if left.iter().any(|l| l.contains("sleep 300")) {
            Ok(())
        } else {
            Err(format!("no sleep in {left:?}"))
        }
    });
    env.node_mut("n1").stop();
    env.node("n1").assert_empty_within(Duration::from_secs(5));
    ssh(&env, "n1", "true").exits(255).complains("onnection refused");
}

#[test]
fn a_frozen_node_answers_when_it_is_thawed() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    let frozen = env.node("n1").freeze();
    let config = env.ssh_config_path();
    let mut waiting = Running::start(
        env.command("ssh", &env.home())
            .arg("-F")
            .arg(config)
            .args(["n1", "echo", "thawed"]),
        b"",
    );
    assert!(waiting.is_running(), "a frozen node answered");
    env.node("n1").thaw(&frozen);
    assert_eq!(waiting.wait().ok().stdout(), "thawed\n");
}
