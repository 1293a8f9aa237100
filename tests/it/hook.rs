//! `cx hook` as Claude Code calls it, and `cx setup claude`.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{CX, Output, Project, TestEnv};

fn call(p: &Project, command: &str, mode: &str) -> Output {
    let input = json!({
        "session_id": "5f9c", "transcript_path": "/nowhere.jsonl", "cwd": p.dir, "prompt_id": "1",
        "permission_mode": mode, "effort": "high", "hook_event_name": "PreToolUse", "tool_name": "Bash",
        "tool_input": {"command": command, "description": "Runs it", "timeout": 120_000, "run_in_background": false},
        "tool_use_id": "toolu_1", "a_field_of_tomorrow": {"x": 1},
    });
    p.cx_with_input(&["hook"], input.to_string().as_bytes()).ok()
}

/// What the hook made of a command; `None` if it said nothing.
fn rewrite(p: &Project, command: &str) -> Option<String> {
    let out = call(p, command, "default");
    assert!(out.err.is_empty(), "{out:?}");
    if out.out.is_empty() {
        return None;
    }
    let answer: Value = serde_json::from_slice(&out.out).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    let specific = &answer["hookSpecificOutput"];
    assert_eq!(specific["hookEventName"], "PreToolUse", "{answer:#}");
    let new = specific["updatedInput"]["command"].as_str()?;
    // The whole input is replaced: every other field must come back.
    assert_eq!(specific["updatedInput"]["description"], "Runs it", "{answer:#}");
    assert!(
        specific["updatedInput"]["timeout"].as_u64() >= Some(120_000),
        "{answer:#}"
    );
    // The cx that is tested is not on PATH, so that its whole path is inserted.
    Some(new.replace(CX, "cx"))
}

#[test]
fn heavy_commands_are_rewritten_and_nothing_else() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\t@echo $$HOME\n")]);
    let rows = [
        ("make test", Some("cx make test")),
        (
            "cd . && FOO=1 timeout 300 make test 2>&1 | tail -20; echo $?",
            Some("cd . && FOO=1 timeout 300 cx make test 2>&1 | tail -20; echo $?"),
        ),
        ("ls -la", None),
        ("git status", None),
        ("make deploy", None),
        ("bash -c 'make test'", None),
        ("make test )(", None),
        ("", None),
    ];
    for (command, wanted) in rows {
        assert_eq!(rewrite(&p, command).as_deref(), wanted, "{command}");
    }
}

#[test]
fn what_was_rewritten_runs_on_the_node() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\t@echo $$HOME; exit 3\n")]);
    let command = rewrite(&p, "make test | head -n 1").expect("a rewrite");
    let out = p.sh(&command).ok();
    assert_eq!(env.place(&out.stdout()), "n1", "{out:?}");
}

#[test]
fn without_nodes_and_in_plan_mode_it_is_silent() {
    let env = TestEnv::new();
    let p = env.project(&[("Makefile", "test:\n\ttrue\n")]);
    assert_eq!(rewrite(&p, "make test"), None);
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\ttrue\n")]);
    assert!(call(&p, "make test", "plan").out.is_empty());
    assert!(call(&p, "make test", "a mode of tomorrow").out.is_empty());
    assert!(!call(&p, "make test", "default").out.is_empty());
}

#[test]
fn junk_gets_no_answer_and_never_a_failure() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\ttrue\n")]);
    assert!(rewrite(&p, "make test").is_some(), "it is silent to everything");
    let junk: [&[u8]; 7] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{\"tool_name\":\"Bash\"}",
        b"\xff\xfe\x00",
        b"{\"hook_event_name\":\"Tomorrow\"}",
    ];
    for input in junk {
        let out = p.cx_with_input(&["hook"], input).ok();
        assert!(out.out.is_empty() && out.err.is_empty(), "{out:?}");
    }
    // A usage error must not be clap's status 2, which would block the tool.
    p.cx_with_input(&["hook", "--no-such-option"], b"{}").ok();
}

#[test]
fn a_rule_that_denies_the_original_is_left_to_the_client() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\ttrue\n")]);
    p.write(
        ".claude/settings.json",
        r#"{"permissions": {"deny": ["Bash(make:*)"], "allow": ["Bash"]}}"#,
    );
    assert_eq!(rewrite(&p, "make test"), None);
    let allow = r#"{"permissions": {"allow": ["Bash(make:*)"]}}"#;
    p.write(".claude/settings.json", allow);
    // Where nobody has trusted the project, the client passes by what its files allow.
    let out = call(&p, "make test", "default");
    assert!(
        !out.stdout().contains(r#""permissionDecision":"allow""#),
        "{out:?}"
    );
    fs::create_dir_all(env.home().join(".claude")).unwrap();
    fs::write(env.home().join(".claude/settings.json"), allow).unwrap();
    let out = call(&p, "make test", "default");
    // The client, which would not see that the rule is meant, need not ask.
    assert!(
        out.stdout().contains("updatedInput") && out.stdout().contains(r#""permissionDecision":"allow""#),
        "{out:?}"
    );
}

#[test]
fn setup_is_idempotent_keeps_what_is_there_and_takes_only_its_own_away() {
    let env = TestEnv::with_nodes(&["n1"]);
    let path = env.home().join(".claude/settings.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mine = "{\n  \"model\": \"opus\",\n  \"hooks\": {\n    \"PreToolUse\": [\n      {\n        \"matcher\": \"Edit\",\n        \
                \"hooks\": [{\"type\": \"command\", \"command\": \"true\"}]\n      }\n    ]\n  },\n  \"zebra\": 1,\n  \"apple\": 2\n}\n";
    fs::write(&path, mine).unwrap();
    env.cx(&["setup", "claude", "--yes"]).ok();
    let first = fs::read_to_string(&path).unwrap();
    let value: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(
        value["hooks"]["PreToolUse"].as_array().unwrap().len(),
        2,
        "{first}"
    );
    assert!(
        first.contains("hook") && first.find("zebra") < first.find("apple"),
        "{first}"
    );
    assert!(
        !first.contains("Bash(cx"),
        "cx must not be allowed wholesale: {first}"
    );

    env.cx(&["setup", "claude", "--yes"]).ok();
    assert_eq!(fs::read_to_string(&path).unwrap(), first);

    env.cx(&["setup", "claude", "--remove", "--yes"]).ok();
    let last: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(last, serde_json::from_str::<Value>(mine).unwrap());
}

#[test]
fn setup_leaves_settings_that_it_cannot_read() {
    let env = TestEnv::with_nodes(&["n1"]);
    let path = env.home().join(".claude/settings.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "{ broken").unwrap();
    let out = env.cx(&["setup", "claude", "--yes"]);
    assert_ne!(out.status(), 0, "{out:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ broken");
}
