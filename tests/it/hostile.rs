//! `cx hook` under hostile input: whatever comes in, it ends with 0, says nothing on stderr, and on stdout one JSON object or nothing.
//! What it may cost is the benchmark's business (tests/bench/hook.py).

use std::collections::HashMap;
use std::fs;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::harness::{CX, Output, Project, TestEnv};

/// A world in which `make test` is rewritten.
fn world() -> TestEnv {
    let env = TestEnv::new();
    // The hook asks no node.
    fs::write(env.config_path(), "nodes = ['n1']\n").unwrap();
    env
}

fn project(env: &TestEnv) -> Project<'_> {
    let p = env.project(&[("Makefile", "test:\n\ttrue\n")]);
    let out = p.cx_with_input(&["hook"], event("make test", &p).to_string().as_bytes());
    assert!(answer(&out, "make test").is_some(), "it is silent to everything");
    p
}

fn event(command: &str, p: &Project) -> Value {
    json!({
        "session_id": "5f9c", "transcript_path": "/nowhere.jsonl", "cwd": p.dir, "prompt_id": "1",
        "permission_mode": "default", "hook_event_name": "PreToolUse", "tool_name": "Bash",
        "tool_input": {"command": command, "description": "Runs it", "timeout": 120_000, "run_in_background": false},
        "tool_use_id": "toolu_1",
    })
}

/// What it said of a command.
#[derive(Debug, PartialEq)]
struct Said {
    decision: Option<String>,
    /// The text in its place.
    command: Option<String>,
}

/// What it said; fails if that, or the way it ended, could disturb the client.
fn answer(out: &Output, case: &str) -> Option<Said> {
    // What goes back may hold the client's own numbers, and those any size.
    fn members(text: &str, case: &str) -> HashMap<String, Box<RawValue>> {
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{case}: {e}"))
    }
    fn text(of: &HashMap<String, Box<RawValue>>, key: &str) -> Option<String> {
        Some(serde_json::from_str(of.get(key)?.get()).unwrap())
    }
    let case = case.chars().take(80).collect::<String>();
    assert_eq!((out.status(), out.stderr()), (0, String::new()), "{case}");
    if out.out.is_empty() {
        return None;
    }
    let said = members(&out.stdout(), &case);
    let specific = members(said["hookSpecificOutput"].get(), &case);
    assert_eq!(
        text(&specific, "hookEventName").as_deref(),
        Some("PreToolUse"),
        "{case}"
    );
    Some(Said {
        decision: text(&specific, "permissionDecision"),
        command: specific.get("updatedInput").map(|input| {
            let command = text(&members(input.get(), &case), "command");
            command
                .unwrap_or_else(|| panic!("{case}: no command"))
                .replace(CX, "cx")
        }),
    })
}

/// The answer to some bytes.
fn told(p: &Project, input: &[u8], case: &str) -> Option<Said> {
    answer(&p.cx_with_input(&["hook"], input), case)
}

/// The text that it made of a command.
fn rewritten(said: Option<Said>) -> Option<String> {
    said?.command
}

#[test]
fn texts_that_are_long_or_nest_deep_stay_as_they_are() {
    let env = world();
    let p = project(&env);
    let ask = |command: &str| told(&p, event(command, &p).to_string().as_bytes(), command);
    let opening = [
        "(",
        "((",
        "{ ",
        "[",
        "[[ ",
        "\"",
        "'",
        "`",
        "$(",
        "$((",
        "${",
        "${x:-",
        "\"$(",
        "<(",
        "if ",
        "while ",
        "case x in ",
        "x() { ",
        "! ",
        "<<E ",
        "<<<",
        "\\",
        "&",
        "|",
        ";",
        "\n",
        "#",
        "$'",
        "a=",
        "a=(",
        "cx ",
        "timeout 1 ",
        "env ",
        "\u{1F9EA}",
    ];
    for open in opening {
        // Past the size that is parsed, where a parser's stack would be the limit, and where ours is.
        for times in [100_000, 2_000, 61] {
            for text in [
                open.repeat(times) + "make test",
                format!("make test; {} x", open.repeat(times)),
            ] {
                // What is short enough may parse, and then keeps its bytes.
                if let Some(new) = rewritten(ask(&text)) {
                    assert!(text.len() <= 64 << 10, "{open}");
                    let plain = |t: &str| t.replace("cx ", "");
                    assert_eq!(plain(&new), plain(&text), "{open} {times} times");
                }
            }
        }
    }
    let many = "make test; ".repeat(1 << 20);
    assert_eq!(ask(&many), None, "11 MB");
    assert_eq!(ask(&format!("make test {}", "x".repeat(10 << 20))), None, "10 MB");
    // It names cx, so that it can't be silent where the user's rules would be passed by; here are none.
    for text in [
        "cx make test; ".repeat(750_000),
        "cx ".repeat(3 << 20),
        "\\".repeat(5 << 20) + "cx make",
    ] {
        ask(&text);
    }
    // No system takes such an argument.
    let longest = "make test; #".to_owned() + &"x".repeat(140 << 10);
    assert_eq!(ask(&longest), None, "140 KB");
    // More than is read at all.
    assert_eq!(
        ask(&format!("make test; #{}", "x".repeat(17 << 20))),
        None,
        "17 MB"
    );
}

#[test]
fn strings_that_are_no_text_get_no_answer() {
    let env = world();
    let p = project(&env);
    let raw = |command: &[u8]| {
        let whole = event("@", &p).to_string();
        let (before, after) = whole.split_once('@').unwrap();
        [before.as_bytes(), command, after.as_bytes()].concat()
    };
    let silent: [&[u8]; 14] = [
        br"make test \ud800",
        br"make test \udc00",
        br"make test \udc00\ud800",
        br"make test \ud83d",
        br"\ud83dmake test",
        br"make test \u0000",
        b"make test \0",
        b"make test \xff",
        b"make test \xc0\xaf",
        b"make test \xed\xa0\x80",
        b"make test \xf4\x90\x80\x80",
        br"make test \x41",
        br"make test \u12",
        b"make test \x1b[31m",
    ];
    for command in silent {
        let case = String::from_utf8_lossy(command);
        assert_eq!(told(&p, &raw(command), &case), None, "{case}");
    }
    // A pair is a character.
    let new = rewritten(told(&p, &raw(br"make test # \ud83e\uddea"), "a pair"));
    assert_eq!(new.as_deref(), Some("cx make test # \u{1F9EA}"));
}

#[test]
fn an_event_cut_anywhere_gets_no_answer() {
    let env = world();
    let p = project(&env);
    let whole = event("make test", &p).to_string();
    for end in (0..whole.len()).step_by(3) {
        assert_eq!(told(&p, &whole.as_bytes()[..end], &whole[..end]), None);
    }
    for after in ["}", "x", "{}", ",", "\0"] {
        assert_eq!(told(&p, format!("{whole}{after}").as_bytes(), after), None);
    }
    assert!(told(&p, format!(" \n\t{whole} \n").as_bytes(), "blanks").is_some());
}

#[test]
fn fields_of_any_type_are_no_failure() {
    let env = world();
    let p = project(&env);
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let values = [
        "null".to_owned(),
        "true".to_owned(),
        "-1".to_owned(),
        "0.5".to_owned(),
        "1e400".to_owned(),
        "-0".to_owned(),
        "9".repeat(5_000),
        "1e999999999999999999999".to_owned(),
        "\"\"".to_owned(),
        "\"../../../../etc/passwd\"".to_owned(),
        format!("\"{}\"", "/x".repeat(100_000)),
        "[]".to_owned(),
        "{}".to_owned(),
        "[\"make test\"]".to_owned(),
        deep("[", "]"),
        deep("{\"a\":", "}").replacen(":}", ":1}", 1),
        deep("[", ""),
    ];
    let event = event("make test", &p);
    let paths = event.as_object().unwrap().keys().map(|k| (k.as_str(), None));
    let inner = event["tool_input"].as_object().unwrap().keys();
    for (field, below) in paths.chain(inner.map(|k| ("tool_input", Some(k.as_str())))) {
        for value in &values {
            let mut changed = event.clone();
            let place = match below {
                None => &mut changed[field],
                Some(key) => &mut changed[field][key],
            };
            *place = json!("@VALUE@");
            let text = changed.to_string().replace("\"@VALUE@\"", value);
            let case = format!(
                "{field} {below:?}: {}",
                value.chars().take(30).collect::<String>()
            );
            let said = told(&p, text.as_bytes(), &case);
            if let Some(new) = rewritten(said) {
                assert_eq!(new, "cx make test", "{case}");
            }
        }
    }
    // Twice the same key: what the client takes of the two cannot be known.
    let twice = event
        .to_string()
        .replacen("\"command\":", "\"command\":\"rm -rf x\",\"command\":", 1);
    assert_eq!(told(&p, twice.as_bytes(), "twice"), None);
}

#[test]
fn descriptors_that_are_closed_or_never_end_are_no_failure() {
    let env = world();
    let p = project(&env);
    fs::write(p.dir.join("event"), event("make test", &p).to_string()).unwrap();
    for (line, silent) in [
        ("cx hook <&-", true),
        ("cx hook </dev/null", true),
        ("cx hook <.", true),
        ("cx hook </dev/zero", true),
        ("yes '{' | cx hook", true),
        ("yes | tr -d '\\n' | cx hook", true),
        ("cx hook <event >&-", true),
        ("cx hook <event >/dev/full", true),
        ("cx hook <event 2>&-", false),
        ("cx hook <event | true", true),
        ("env -i \"$(command -v cx)\" hook <event", true),
        ("(cd / && cx hook) <event", false),
        (
            "mkdir gone && cd gone && rmdir ../gone && cx hook <../event",
            false,
        ),
        ("ulimit -s 256; cx hook <event", false),
    ] {
        assert_eq!(answer(&p.sh(line), line).is_none(), silent, "{line}");
    }
}
