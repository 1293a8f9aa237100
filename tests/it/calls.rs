//! Calls of an agent side by side in one session: each is told of its own runs, and runs with its own variables.

use serde_json::{Value, json};

use crate::harness::{Output, Project, Running, TestEnv};

fn event(p: &Project, name: &str, id: &str, command: &str, more: &Value) -> Output {
    let mut input = json!({"command": command});
    if let (Some(input), Some(more)) = (input.as_object_mut(), more.as_object()) {
        input.extend(more.clone());
    }
    let event = json!({"session_id": "s-1", "cwd": p.dir, "permission_mode": "default", "hook_event_name": name,
        "tool_name": "Bash", "tool_input": input, "tool_use_id": id, "duration_ms": 1});
    p.cx_with_input(&["hook"], event.to_string().as_bytes()).ok()
}

/// The text of a call as the hook makes it.
fn before(p: &Project, id: &str, command: &str, more: &Value) -> String {
    let out = event(p, "PreToolUse", id, command, more).stdout();
    let answer: Value = serde_json::from_str(&out).expect("a rewrite");
    let text = &answer["hookSpecificOutput"]["updatedInput"]["command"];
    text.as_str().unwrap().to_owned()
}

/// What the model is told after it.
fn after(p: &Project, id: &str, command: &str, more: &Value) -> String {
    let out = event(p, "PostToolUse", id, command, more).stdout();
    let answer = serde_json::from_str::<Value>(&out).unwrap_or_default();
    let text = &answer["hookSpecificOutput"]["additionalContext"];
    text.as_str().unwrap_or_default().to_owned()
}

/// Starts a call as Claude Code does.
fn start(env: &TestEnv, p: &Project, text: &str) -> Running {
    let line = format!(
        "source /nowhere 2>/dev/null || true && eval '{}' < /dev/null && pwd -P >/dev/null",
        text.replace('\'', "'\"'\"'")
    );
    let mut command = env.command("bash", &p.dir);
    command.args(["-c", &line]).env("CLAUDECODE", "1");
    command.env("CLAUDE_CODE_SESSION_ID", "s-1");
    Running::start(&mut command, b"")
}

#[test]
fn each_call_is_told_of_its_own_runs_and_has_its_own_variables() {
    let env = TestEnv::with_nodes(&["n1"]);
    let makefile = "all:\n\t@echo A=$$A B=$$B\ntest:\n\t@echo A=$$A B=$$B; exit 4\ncheck:\n\t@exit 5\n";
    let p = env.project(&[("Makefile", makefile)]);
    let none = json!({});
    let calls = [
        // One text is the beginning of another, and both are quoted.
        ("toolu_1", "A='it'\\''s' make"),
        ("toolu_2", "A='it'\\''s' make test | cat; make check"),
        ("toolu_3", "B=2 make \\\n  test"),
    ];
    let texts: Vec<_> = calls.iter().map(|(id, c)| before(&p, id, c, &none)).collect();
    let running: Vec<_> = texts.iter().map(|t| start(&env, &p, t)).collect();
    let said: Vec<_> = running.into_iter().map(|r| r.wait().stdout()).collect();
    assert_eq!(said, ["A=it's B=\n", "A=it's B=\n", "A= B=2\n"]);
    // In another order than they were started.
    let told = |n: usize| after(&p, calls[n].0, &texts[n], &none);
    let (third, first, second) = (told(2), told(0), told(1));
    assert!(third.lines().count() == 1 && third.contains("exit 2"), "{third}");
    assert!(first.lines().count() == 1 && first.contains("exit 0"), "{first}");
    assert!(
        second.lines().count() == 2 && second.matches("exit 2").count() == 2,
        "{second}"
    );
    assert_eq!((told(0), told(1)), (String::new(), String::new()));
    let left = |kind: &str| {
        std::fs::read_dir(env.home().join(".local/state/cx").join(kind)).map_or(0, Iterator::count)
    };
    assert_eq!((left("notes"), left("reports")), (0, 0));
}

#[test]
fn a_variable_that_the_text_sets_to_a_path_of_this_machine_keeps_the_command_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "all:\n\t@echo A=$$A\n")]);
    let none = json!({});
    let outside = env.home().join("made-here");
    for (id, value, place) in [
        ("toolu_1", outside.to_str().unwrap(), "local"),
        ("toolu_2", "target/x", "n1"),
    ] {
        let text = before(&p, id, &format!("export A={value}; make"), &none);
        assert_eq!(
            start(&env, &p, &text).wait().ok().stdout(),
            format!("A={value}\n")
        );
        let told = after(&p, id, &text, &none);
        assert!(told.starts_with(place), "{told}");
        assert_eq!(told.contains("A is set: "), place == "local", "{told}");
    }
}

#[test]
fn a_run_in_the_background_or_of_no_call_is_told_with_the_next() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "all:\n\t@echo A=$$A\ntest:\n\t@exit 4\n")]);
    let (none, background) = (json!({}), json!({"run_in_background": true}));
    let text = before(&p, "toolu_1", "A=1 make", &background);
    // It is answered before it has begun.
    assert_eq!(after(&p, "toolu_1", &text, &background), "");
    assert_eq!(start(&env, &p, &text).wait().ok().stdout(), "A=1\n");
    // A call is open that did not start this one.
    let other = before(&p, "toolu_2", "make", &none);
    let typed = format!("{} make test; true", crate::harness::CX);
    start(&env, &p, &typed).wait().ok();
    let told = after(&p, "toolu_3", "ls", &none);
    assert!(told.contains("exit 0") && told.contains("exit 2"), "{told}");
    start(&env, &p, &other).wait().ok();
    assert_eq!(after(&p, "toolu_4", "ls", &none), "");
    assert!(after(&p, "toolu_2", &other, &none).contains("exit 0"));
}
