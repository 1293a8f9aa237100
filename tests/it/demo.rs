//! `cx demo` works as its text says and leaves nothing.

use std::fs;

use crate::harness::TestEnv;

/// Runs the demo; every claim that its text makes is checked by the demo itself, which then would not exit with 0.
fn demo(env: &TestEnv) -> String {
    let out = env.cx(&["demo"]).ok();
    let text = out.stdout();
    assert!(
        text.contains("[cx] demo "),
        "the report line of the run is missing: {out:?}"
    );
    assert!(text.contains("cx hook"), "{out:?}");
    assert!(
        !env.config_path().exists(),
        "the demo wrote to the user's configuration"
    );
    assert_eq!(env.processes(), Vec::<String>::new(), "left running");
    let left: Vec<_> = fs::read_dir(env.cache())
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    text
}

#[test]
fn on_a_throw_away_sshd() {
    let text = demo(&TestEnv::new());
    assert!(text.contains("A throw-away sshd listens"), "{text}");
}

#[test]
fn on_an_embedded_node_where_there_is_no_sshd() {
    let mut env = TestEnv::new();
    env.set("CX_DEMO_NODE", "embedded");
    let text = demo(&env);
    assert!(text.contains("There is no sshd here"), "{text}");
}

#[test]
fn what_a_demo_that_was_cut_off_left_is_cleared_by_the_next() {
    let env = TestEnv::new();
    let old = env.cache().join("demo.2147483646/project");
    fs::create_dir_all(&old).unwrap();
    demo(&env);
    assert!(!old.exists());
}
