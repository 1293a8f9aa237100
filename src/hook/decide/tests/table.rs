//! Thousands of (rules, mode, command) cases, with cx and without it, judged by a model of the client: `tests/claude/permissions.py` makes
//! them, is given the hook's answers, and compares what the client does with them and what it would have done.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Env, event};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/claude/permissions.py");

fn script(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-B").arg(SCRIPT).args(arguments);
    command
}

/// Stands for the client, whose arguments the hook reads.
struct Client(Child);

impl Client {
    fn with(arguments: &[String]) -> Client {
        let child = Command::new("sh")
            .args(["-c", "read -r line", "claude"])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn();
        let client = Client(child.unwrap());
        // A process that is just starting does not show them yet.
        let shown = format!("/proc/{}/cmdline", client.0.id());
        while std::fs::read(&shown).is_ok_and(|line| !line.ends_with(b"\0")) {
            std::thread::yield_now();
        }
        client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A home in which `rules` stand in `scope`.
fn home(rules: &Value, scope: &str) -> (Env, Option<Client>) {
    let settings = json!({ "permissions": rules }).to_string();
    let mut env = Env::new();
    for file in ["a.txt", "log.txt", "sub/a.txt", "tests/a.py"] {
        env = env.put(&format!("project/{file}"), "x\n");
    }
    let project = env.dir.path().join("project").display().to_string();
    std::os::unix::fs::symlink("/tmp", env.dir.path().join("project/link")).unwrap();
    let cx = std::env::current_exe().unwrap();
    std::os::unix::fs::symlink(cx, env.dir.path().join("project/cx")).unwrap();
    let trust = json!({ "projects": { project: { "hasTrustDialogAccepted": true } } });
    env = env.put("home/.claude.json", &trust.to_string());
    let listed = |kind: &str, option: &str| {
        let list = rules[kind].as_array().cloned().unwrap_or_default();
        let rules = list.iter().filter_map(Value::as_str).map(str::to_owned);
        let option = (!list.is_empty()).then(|| option.to_owned());
        option.into_iter().chain(rules).collect::<Vec<_>>()
    };
    // Only Linux shows a process's arguments to others.
    let by_arguments = cfg!(target_os = "linux") || !matches!(scope, "argument" | "flag");
    let arguments = match if by_arguments { scope } else { "user" } {
        "argument" if rules.get("ask").is_none() => [
            listed("allow", "--allowedTools"),
            listed("deny", "--disallowedTools"),
        ]
        .concat(),
        "argument" | "flag" => vec!["--settings".to_owned(), settings],
        _ => {
            let path = match scope {
                "argument" | "flag" => "home/.claude/settings.json",
                "user" => "home/.claude/settings.json",
                "project" => "project/.claude/settings.json",
                "local" => "project/.claude/settings.local.json",
                "managed" => "etc/managed-settings.json",
                "drop-in" => "etc/managed-settings.d/10.json",
                other => panic!("{other}"),
            };
            return (env.put(path, &settings), None);
        }
    };
    let client = Client::with(&arguments);
    let pid = client.0.id().to_string();
    (env.set("CLAUDE_PID", &pid), Some(client))
}

/// The hook's answers to cases of the same rules and scope.
fn answers(cases: &[Value]) -> Vec<Value> {
    let (env, _client) = home(&cases[0]["rules"], cases[0]["scope"].as_str().unwrap());
    let project = env.dir.path().join("project").display().to_string();
    let one = |case: &Value| {
        let mut asked = event(case["text"].as_str().unwrap());
        asked["permission_mode"] = case["mode"].clone();
        asked["cwd"] = json!(project);
        env.answer(&asked).unwrap_or(Value::Null)
    };
    cases.iter().map(one).collect()
}

#[test]
fn no_case_is_looser_with_cx_and_what_is_asked_about_more_is_listed() {
    let made = script(&["--cases"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let cases: Vec<Value> = serde_json::from_slice(&made.stdout).unwrap();
    assert!(cases.len() > 5000, "{}", cases.len());
    let same_home = |a: &Value, b: &Value| a["rules"] == b["rules"] && a["scope"] == b["scope"];
    let groups: Vec<&[Value]> = cases.chunk_by(same_home).collect();
    let half = groups.split_at(groups.len() / 2);
    let all = |groups: &[&[Value]]| groups.iter().flat_map(|g| answers(g)).collect::<Vec<_>>();
    let answers = std::thread::scope(|scope| {
        let first = scope.spawn(|| all(half.0));
        let second = all(half.1);
        [first.join().unwrap(), second].concat()
    });
    let answers = serde_json::to_vec(&answers).unwrap();
    // For looking at them: `tests/claude/permissions.py --answers < FILE`.
    if let Some(file) = std::env::var_os("CX_TABLE") {
        std::fs::write(file, &answers).unwrap();
    }
    let mut judge = script(&["--answers"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = judge.stdin.take().unwrap();
    input.write_all(&answers).unwrap();
    drop(input);
    let judged = judge.wait_with_output().unwrap();
    assert!(
        judged.status.success(),
        "{}",
        String::from_utf8_lossy(&judged.stdout)
    );
}
