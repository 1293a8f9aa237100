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

#[test]
fn a_python_module_that_is_missing_there_is_named() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    let lib = env.home().join("lib");
    std::fs::create_dir(&lib).unwrap();
    std::fs::write(lib.join("onlyhere.py"), "").unwrap();
    // It does not cross, so the node's Python looks elsewhere.
    env.set("PYTHONPATH", &lib);
    let p = env.project(&[(
        "Makefile",
        "test:\n\t@python3 -c 'import onlyhere'\ncheck:\n\t@python3 -c 'import nowhere'\n",
    )]);
    let line = p.cx(&["make", "test"]).exits(2).line();
    assert!(line.starts_with("[cx] n1 "), "{line}");
    assert!(
        line.contains("the Python module `onlyhere` is here, not there"),
        "{line}"
    );
    let line = p.cx(&["make", "check"]).exits(2).line();
    assert!(!line.contains("Python module"), "{line}");
}

#[test]
fn modules_are_looked_for_where_the_command_runs() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("Makefile", ""),
        ("sub/mypy.py", "import os\nprint(os.environ['HOME'])\n"),
    ]);
    let at = |dir: &str| {
        let mut command = p.cx_command(&["python3", "-m", "mypy"]);
        env.run(command.current_dir(p.dir.join(dir)), b"")
    };
    // Of the project's own, in the run's directory.
    assert_eq!(env.place(&at("sub").ok().stdout()), "n1");
    // In another one it is nowhere.
    let out = at("").exits(1);
    assert!(out.line().contains("python3 has no module `mypy`"), "{out:?}");
}
