//! A workspace's `.cx.toml` keeps commands here, and can do nothing else.

use crate::harness::TestEnv;

const WHERE: (&str, &str) = ("Makefile", "test:\n\t@echo $$HOME\ncheck:\n\t@echo $$HOME\n");

#[test]
fn a_project_keeps_its_commands_here_and_says_so() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[WHERE, (".cx.toml", "local = [\"make check\"]\n")]);
    let place = |args: &[&str]| env.place(&p.cx(args).ok().stdout());
    assert_eq!(place(&["make", "test"]), "n1");
    let out = p.cx(&["make", "check"]).ok();
    assert_eq!(env.place(&out.stdout()), "local");
    assert!(out.line().contains(".cx.toml keeps `make check` here"), "{out:?}");
    // The same answer at every door.
    let told = p.cx(&["explain", "make check"]).ok().stdout();
    assert!(told.contains(".cx.toml keeps `make check` here"), "{told}");
    // Who names a node has decided.
    assert_eq!(place(&["run", "--on", "n1", "--", "make", "check"]), "n1");
}

#[test]
fn a_project_chooses_no_nodes_and_its_errors_keep_all_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[WHERE, (".cx.toml", "\nnodes = [\"elsewhere\"]\n")]);
    let out = p.cx(&["make", "test"]).ok();
    assert_eq!(env.place(&out.stdout()), "local");
    assert!(
        out.line().contains(".cx.toml, line 2") && out.line().contains("nodes"),
        "{out:?}"
    );
}
