//! Which commands leave this machine, for which node, and what is said of those that stay.

use std::fs;
use std::time::Duration;

use crate::harness::{Project, TestEnv, wait_for};

const WHERE: &[(&str, &str)] = &[("Makefile", "test:\n\t@echo $$HOME\n")];

fn place(project: &Project, env: &TestEnv, args: &[&str]) -> (String, Vec<String>) {
    let out = project.cx(args).ok();
    (env.place(&out.stdout()), out.said())
}

#[test]
fn without_configuration_everything_runs_here() {
    let env = TestEnv::new();
    let p = env.project(WHERE);
    let (place, said) = place(&p, &env, &["make", "test"]);
    assert_eq!(place, "local");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("[cx] local: ") && said[0].contains("node"),
        "{said:?}"
    );
    p.cx(&["run", "--", "sh", "-c", "exit 7"]).exits(7);
    p.cx(&["run", "--", "sh", "-c", "kill -9 $$"]).exits(137);
}

#[test]
fn heavy_commands_leave_and_light_ones_stay() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(WHERE);
    assert_eq!(place(&p, &env, &["make", "test"]).0, "n1");
    assert_eq!(place(&p, &env, &["run", "--", "make", "test"]).0, "n1");
    assert_eq!(place(&p, &env, &["printenv", "HOME"]).0, "local");
    // Unknown to all rules, but a person asked for it.
    p.write("tool", "#!/bin/sh\necho $HOME\n");
    assert_eq!(place(&p, &env, &["./tool"]).0, "n1");
}

#[test]
fn whoever_wants_it_here_gets_it_here() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(WHERE);
    assert_eq!(
        place(&p, &env, &["run", "--local", "--", "make", "test"]).0,
        "local"
    );
    env.append_config("[policy]\nauto_route = false\n");
    let p = env.plain_project("app", &[]);
    assert_eq!(place(&p, &env, &["make", "test"]).0, "local");
    assert_eq!(
        place(&p, &env, &["run", "--on", "n1", "--", "make", "test"]).0,
        "n1"
    );
    env.write_config("[node.n1]\n");
    env.set("CX_LOCAL", "1");
    let p = env.plain_project("app", &[]);
    assert_eq!(place(&p, &env, &["make", "test"]).0, "local");
}

#[test]
fn a_sandboxed_caller_runs_here_at_once() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.set("SANDBOX_RUNTIME", "1");
    let p = env.project(WHERE);
    let (place, said) = place(&p, &env, &["make", "test"]);
    assert_eq!((place.as_str(), said.len()), ("local", 1), "{said:?}");
}

#[test]
fn a_named_node_or_platform_never_falls_back() {
    let mut env = TestEnv::with_nodes(&["n1", "n2"]);
    env.node_mut("n2").stop();
    let p = env.project(&[("Makefile", "test:\n\t@touch ran; echo $$HOME\n")]);
    let other = if cfg!(target_os = "linux") {
        "darwin"
    } else {
        "linux"
    };
    for (demand, value) in [
        ("--on", "nosuch"),
        ("--on", "n2"),
        ("--os", other),
        ("--arch", "vax"),
    ] {
        let out = p.cx(&["run", demand, value, "--", "make", "test"]);
        assert_ne!(out.status(), 0, "{out:?}");
        assert_eq!(out.stdout(), "", "{out:?}");
        assert!(out.stderr().contains(value), "{out:?}");
    }
    assert!(!p.has("ran"), "it ran all the same");
}

#[test]
fn a_program_that_the_node_lacks_runs_here() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.program("frobnicate", "#!/bin/sh\necho $HOME\n");
    let p = env.project(WHERE);
    let out = p.cx(&["frobnicate"]).ok().says("frobnicate");
    assert_eq!(env.place(&out.stdout()), "local");
    let out = p
        .cx(&["run", "--on", "n1", "--", "frobnicate"])
        .complains("frobnicate");
    assert_ne!(out.status(), 0, "{out:?}");
    assert_eq!(out.stdout(), "");
}

#[test]
fn load_is_spread_over_nodes_that_have_a_free_slot() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    env.write_config("[node.n1]\nslots = 1\n\n[node.n2]\nslots = 1\n\n[policy]\nwhen_full = \"wait\"\n");
    let held = "test:\n\t@touch $$HOME/busy; echo $$HOME; while [ ! -e $$HOME/go ]; do sleep 0.02; done\n";
    let p = env.project(&[("Makefile", held)]);
    let runs = [p.start_cx(&["make", "test"]), p.start_cx(&["make", "test"])];
    // Neither ends by itself, so the second can only start where there is another slot.
    let busy = |name: &str| env.node(name).home().join("busy");
    wait_for(Duration::from_secs(60), || {
        if busy("n1").exists() && busy("n2").exists() {
            Ok(())
        } else {
            Err("one node has nothing to do".into())
        }
    });
    env.node("n1").write("go", "");
    env.node("n2").write("go", "");
    let mut places: Vec<_> = runs.map(|r| env.place(&r.wait().ok().stdout())).into();
    places.sort();
    assert_eq!(places, ["n1", "n2"]);
}

#[test]
fn explain_says_what_would_happen_and_why() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(WHERE);
    let out = p
        .cx(&[
            "explain",
            "cd . && FOO=1 timeout 300 make test 2>&1 | tail -20; echo $?",
        ])
        .ok()
        .stdout();
    assert!(out.contains("heavy") && out.contains("n1"), "{out}");
    assert!(
        out.contains("timeout 300 cx make test 2>&1 | tail -20; echo $?"),
        "{out}"
    );
    let out = p.cx(&["explain", "ls -la"]).ok().stdout();
    assert!(out.contains("light"), "{out}");
    let json = p.cx(&["explain", "--json", "make test"]).ok().stdout();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    assert!(json.to_string().contains("heavy"), "{json}");
    // Who has no Claude Code is told nothing of it.
    assert!(json["permissions"].is_null(), "{json}");
    let settings = env.home().join(".claude/settings.json");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, r#"{"permissions":{"ask":["Bash(make:*)"]}}"#).unwrap();
    let out = p.cx(&["explain", "make test"]).ok().stdout();
    assert!(
        out.contains("the hook leaves it as it is now; else it would make of it: cx make test\n")
            && out.ends_with("Claude Code asks: your rule Bash(make:*) asks about it\n"),
        "{out}"
    );
    let json = p.cx(&["explain", "--json", "make test )("]).ok().stdout();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    assert_eq!(json["permissions"]["then"], "asks", "{json}");
}

#[test]
fn what_would_leave_the_workspace_stays() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a.c", "int main(void) { return 0; }\n")]);
    for argv in [
        &["gcc", "a.c", "-o", "../made-outside"][..],
        &["gcc", "a.c", "-o../made-outside"],
    ] {
        let out = p.cx(argv).ok();
        assert!(out.line().contains("outside the workspace"), "{out:?}");
        assert!(p.has("../made-outside"));
        std::fs::remove_file(env.home().join("work/made-outside")).unwrap();
    }
    let out = p.cx(&["run", "--bogus", "--", "ls"]).exits(2);
    assert!(out.stderr().contains("--bogus"), "{out:?}");
}

#[test]
fn containers_leave_by_the_users_word_and_then_follow_the_node_that_built() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    let p = env.project(WHERE);
    p.write("bin/docker", "#!/bin/sh\necho $HOME\n");
    let said = p.cx(&["explain", "docker build ."]).ok().stdout();
    assert!(said.contains("unknown (rule docker)"), "{said}");
    let (built, _) = place(&p, &env, &["bin/docker", "build", "."]);
    assert_ne!(built, "local");
    for args in [["run", "x"], ["ps", "-a"], ["compose", "up"], ["images", "-q"]] {
        for _ in 0..2 {
            let command = [&["bin/docker"][..], &args[..]].concat();
            assert_eq!(place(&p, &env, &command).0, built, "{args:?}");
        }
    }
    // A push goes out from here.
    assert_eq!(place(&p, &env, &["bin/docker", "push", "x"]).0, "local");
}
