//! `cx demo` works as its text says and leaves nothing.

use std::fs;

use crate::harness::TestEnv;

#[test]
fn the_demo_runs_a_project_on_its_node_and_cleans_up() {
    let env = TestEnv::new();
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
}
