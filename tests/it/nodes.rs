//! `cx nodes`, `cx status`, and who may change the configuration.

use std::fs;

use crate::harness::TestEnv;

#[test]
fn a_node_is_added_shown_and_removed() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    env.start_node("n2");
    env.add_nodes(&["n1", "n2"]);
    let list = env.cx(&["nodes", "list"]).ok().stdout();
    assert!(list.contains("n1") && list.contains("n2"), "{list}");
    let config = fs::read_to_string(env.config_path()).unwrap();
    assert!(
        config.contains("nodes = [\"n1\", \"n2\"]") && config.contains("[ssh]"),
        "{config}"
    );

    env.cx(&["nodes", "remove", "n1"]).ok();
    let list = env.cx(&["nodes", "list"]).ok().stdout();
    assert!(!list.contains("n1") && list.contains("n2"), "{list}");
    let out = env.cx(&["run", "--on", "n1", "--", "true"]);
    assert_ne!(out.status(), 0, "{out:?}");
    let out = env.cx(&["nodes", "remove", "nosuch"]).complains("nosuch");
    assert_ne!(out.status(), 0, "{out:?}");
}

#[test]
fn adding_twice_changes_nothing_and_keeps_what_the_user_wrote() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    env.append_config("# my own words\n[policy]\nbusy_cpu = 50\n");
    env.add_nodes(&["n1"]);
    let first = fs::read_to_string(env.config_path()).unwrap();
    assert!(
        first.contains("nodes = [\"n1\"]")
            && first.contains("# my own words")
            && first.contains("busy_cpu = 50"),
        "{first}"
    );
    env.add_nodes(&["n1"]);
    assert_eq!(fs::read_to_string(env.config_path()).unwrap(), first);
}

#[test]
fn purging_leaves_nothing_on_the_node() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    p.cx(&["run", "--on", "n1", "--", "true"]).ok();
    let mut left = Vec::new();
    files(&env.node("n1").home(), &mut left);
    assert!(!left.is_empty(), "there is nothing to purge");
    p.cx(&["nodes", "remove", "--purge", "n1"]).ok();
    left.clear();
    files(&env.node("n1").home(), &mut left);
    assert!(left.is_empty(), "{left:?}");
}

fn files(dir: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found)
        } else {
            found.push(entry.path())
        }
    }
}

#[test]
fn a_machine_that_refuses_is_not_added() {
    let mut env = TestEnv::new();
    env.start_refusing("dead");
    let out = env.cx(&["nodes", "add", "--yes", "dead"]).complains("refused");
    assert_ne!(out.status(), 0, "{out:?}");
    assert!(!fs::read_to_string(env.config_path()).unwrap().contains("dead"));
}

#[test]
fn an_agent_cannot_add_nodes() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    env.set("CLAUDECODE", "1");
    let out = env.cx(&["nodes", "add", "--yes", "n1"]);
    assert_ne!(out.status(), 0, "{out:?}");
    assert!(!fs::read_to_string(env.config_path()).unwrap().contains("n1"));
}

#[test]
fn status_shows_every_node_as_text_and_as_json() {
    let mut env = TestEnv::with_nodes(&["n1", "n2"]);
    env.node_mut("n2").stop();
    let text = env.cx(&["status", "--refresh"]).ok().stdout();
    assert!(text.contains("n1") && text.contains("n2"), "{text}");
    let json = env.cx(&["status", "--json"]).ok().stdout();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    let all = json.to_string();
    assert!(
        all.contains("\"n1\"") && all.contains("\"n2\"") && all.contains("refused"),
        "{json:#}"
    );
}

#[test]
fn help_and_version_go_to_stdout_and_mistakes_to_stderr() {
    let env = TestEnv::new();
    let help = env.cx(&["--help"]).ok();
    for verb in ["run", "nodes", "status", "explain", "hook", "setup", "demo"] {
        assert!(
            help.stdout().contains(verb),
            "--help does not name {verb}: {help:?}"
        );
    }
    assert!(env.cx(&["--version"]).ok().stdout().starts_with("cx "));
    let out = env.cx(&["nodes", "frobnicate"]);
    assert_ne!(out.status(), 0, "{out:?}");
    assert!(out.stdout().is_empty() && !out.stderr().is_empty(), "{out:?}");
}
