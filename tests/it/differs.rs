//! What is told of a node where a command fails for the first time.

use crate::harness::TestEnv;

#[test]
fn a_first_failure_says_what_differs_there() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.program(
        "make",
        "#!/bin/sh\ntest \"$1\" = --version && echo GNU Make 3.1 || exec /usr/bin/make \"$@\"\n",
    );
    env.set("APP_FLAVOUR", "plain");
    let project = env.project(&[("Makefile", "test:\n\t@echo APP_FLAVOUR is not set; exit 3\n")]);
    let first = project.cx(&["make", "test"]).exits(2);
    let line = first.line();
    assert!(line.starts_with("[cx] n1 "), "{line}");
    assert!(
        line.contains("APP_FLAVOUR is set here and did not go along"),
        "{line}"
    );
    assert!(line.contains("there, 3.1 here"), "{line}");
    let second = project.cx(&["make", "test"]).exits(2);
    assert!(!second.line().contains("differs"), "{}", second.line());
}
