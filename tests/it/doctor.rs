//! `cx doctor`: what it finds, and what its exit status says.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use serde_json::Value;

use crate::harness::{CX, Output, TestEnv};

/// Level and text of the findings of one check.
fn of(output: &Output, check: &str) -> Vec<(String, String)> {
    let all: Value = serde_json::from_str(&output.stdout()).unwrap();
    assert_eq!(all["version"], 1);
    let findings = all["findings"].as_array().unwrap().iter();
    findings
        .filter(|f| f["check"] == check)
        .map(|f| {
            let well = f["level"] == "ok";
            assert_eq!(f["next"] == "", well, "a next step for what is not well: {f}");
            assert_eq!(f["why"] == "", well, "{f}");
            let text = |key: &str| f[key].as_str().unwrap().to_owned();
            (text("level"), text("what"))
        })
        .collect()
}

fn has(found: &[(String, String)], level: &str, part: &str) -> bool {
    found.iter().any(|(l, what)| l == level && what.contains(part))
}

#[test]
fn a_node_that_is_gone_is_broken_and_the_other_is_well() {
    let mut env = TestEnv::with_nodes(&["n1", "n2"]);
    let out = env.cx(&["doctor", "--json"]).ok();
    assert!(
        has(&of(&out, "node"), "ok", "n1") && has(&of(&out, "node"), "ok", "n2"),
        "{out:?}"
    );
    assert!(has(&of(&out, "ssh"), "ok", "ssh"), "{out:?}");
    env.node_mut("n2").stop();
    env.end_clients();
    let out = env.cx(&["doctor", "--json"]).exits(1);
    assert!(
        has(&of(&out, "node"), "ok", "n1") && has(&of(&out, "node"), "broken", "n2"),
        "{out:?}"
    );
    let out = env.cx(&["doctor", "n1"]).ok();
    assert!(!out.stdout().contains("n2"), "{out:?}");
    let out = env.cx(&["doctor", "n2"]).exits(1);
    assert!(out.stdout().contains("ssh n2 true"), "{out:?}");
    env.cx(&["doctor", "nowhere"])
        .exits(1)
        .complains("not a configured node");
}

#[test]
fn looking_installs_no_agent_and_tells_what_the_project_lacks_there() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\ttrue\n")]);
    assert_eq!(of(&p.cx(&["doctor", "--json"]).ok(), "tools"), []);
    // A login shell there that finds nothing.
    env.node("n1")
        .write(".profile", "PATH=/nonexistent\nexport PATH\n");
    env.end_clients();
    let out = p.cx(&["doctor", "--json"]).ok();
    assert!(
        has(
            &of(&out, "tools"),
            "warning",
            "n1 lacks what this project is built with: make"
        ),
        "{out:?}"
    );
    env.end_clients();
    let agents = env.node("n1").home().join(".cache/cx/agents");
    assert!(agents.is_dir(), "{agents:?}");
    fs::remove_dir_all(&agents).unwrap();
    let out = p.cx(&["doctor", "--json"]).ok();
    assert!(has(&of(&out, "node"), "warning", "n1 has no agent"), "{out:?}");
    assert!(!agents.exists(), "doctor has installed one");
}

#[test]
fn a_config_that_is_not_used_is_broken() {
    let env = TestEnv::new();
    let out = env.cx(&["doctor", "--json"]).ok();
    assert!(has(&of(&out, "node"), "warning", "no nodes"), "{out:?}");
    fs::write(env.config_path(), "nodes = 7\n").unwrap();
    let out = env.cx(&["doctor", "--json"]).exits(1);
    assert!(has(&of(&out, "config"), "broken", "config"), "{out:?}");
    fs::write(env.config_path(), "").unwrap();
    fs::set_permissions(env.config_path(), Permissions::from_mode(0o666)).unwrap();
    let out = env.cx(&["doctor", "--json"]).exits(1);
    assert!(has(&of(&out, "config"), "broken", "config"), "{out:?}");
}

#[test]
fn wide_rules_doubled_servers_and_hooks_are_told() {
    let env = TestEnv::new();
    let p = env.project(&[]);
    let write = |path: &std::path::Path, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let settings = env.home().join(".claude/settings.json");
    let found = |check: &str, status: i32| of(&p.cx(&["doctor", "--json"]).exits(status), check);
    assert!(has(&found("hook", 0), "warning", "not installed"));
    assert_eq!(found("rules", 0), []);

    write(
        &settings,
        r#"{"permissions":{"allow":["Bash(cx:*)","Bash(cx make:*)","Bash(make:*)"]}}"#,
    );
    write(
        &p.dir.join(".claude/settings.local.json"),
        r#"{"permissions":{"allow":["Bash(c*)"]}}"#,
    );
    let rules = found("rules", 0);
    assert_eq!(rules.len(), 4, "{rules:?}");
    assert!(
        has(&rules, "ok", ".claude/settings.json: 3 allow, 0 ask, 0 deny")
            && has(&rules, "ok", "settings.local.json: 1 allow, 0 ask, 0 deny"),
        "{rules:?}"
    );
    let next = p.cx(&["doctor"]).ok().stdout();
    assert!(
        next.contains(&format!("take it out of {}", settings.display())),
        "{next}"
    );
    assert!(
        has(&rules, "warning", "Bash(cx:*)") && has(&rules, "warning", "Bash(c*)"),
        "{rules:?}"
    );

    write(
        &settings,
        r#"{"sandbox":{"enabled":true,"excludedCommands":["git *","cx:*"]}}"#,
    );
    assert!(has(&found("rules", 0), "warning", "lets cx run outside"));

    write(&settings, "{}");
    env.cx(&["setup", "claude", "--yes"]).ok();
    assert!(has(&found("hook", 0), "ok", "answers in"));
    assert_eq!(found("mcp", 0), []);
    let text = fs::read_to_string(&settings).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["enabledPlugins"] = serde_json::json!({"cx@cx": true});
    value["disableAllHooks"] = true.into();
    write(&settings, &value.to_string());
    let hook = found("hook", 0);
    assert!(
        has(&hook, "warning", "twice") && has(&hook, "warning", "no hook is asked"),
        "{hook:?}"
    );
    assert!(has(&found("mcp", 0), "warning", "more than once"));

    let program = value["hooks"]["PreToolUse"][0]["hooks"][0]["command"]
        .as_str()
        .unwrap();
    let older = env.home().join("older/cx");
    fs::create_dir(older.parent().unwrap()).unwrap();
    fs::copy(CX, &older).unwrap();
    write(&settings, &text.replace(program, &older.display().to_string()));
    assert!(
        !has(&found("hook", 0), "warning", "another build"),
        "a copy is the same"
    );
    let mut bytes = fs::read(CX).unwrap();
    bytes.push(b'\n');
    fs::write(&older, bytes).unwrap();
    assert!(has(&found("hook", 0), "warning", "another build"));
    write(&settings, &text.replace(program, "/nonexistent/cx"));
    assert!(has(&found("hook", 1), "broken", "can't be started"));
    write(&settings, "{");
    assert!(has(&found("rules", 1), "broken", "not known"));
}

#[test]
fn another_cx_damaged_state_and_dead_sockets_are_told() {
    let mut env = TestEnv::new();
    env.cx(&["off"]).ok();
    env.program("cx", "#!/bin/sh\nexit 3\n");
    let ctl = env.cache().join("ctl");
    fs::create_dir_all(&ctl).unwrap();
    fs::write(env.cache().join("table.json"), "{").unwrap();
    drop(UnixListener::bind(ctl.join("dead")).unwrap());
    let _live = UnixListener::bind(ctl.join("live")).unwrap();
    env.set("SANDBOX_RUNTIME", "1");
    let out = env.cx(&["doctor", "--json"]).ok();
    let state = of(&out, "state");
    assert!(
        has(&state, "warning", "load table") && has(&state, "warning", "ctl/dead"),
        "{out:?}"
    );
    assert!(!has(&state, "warning", "ctl/live"), "{out:?}");
    assert!(has(&of(&out, "path"), "warning", "another cx"), "{out:?}");
    assert!(has(&of(&out, "sandbox"), "warning", "sandbox"), "{out:?}");
    assert!(has(&of(&out, "off"), "warning", "stays"), "{out:?}");
}
