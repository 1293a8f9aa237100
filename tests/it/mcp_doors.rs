//! Three doors, one answer: hook, shell and MCP are asked the same, and say the same. And the user's rules hold at all of them.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{CX, Project, TestEnv};
use crate::mcp::{Client, Said};

const MAKEFILE: &str =
    "all test:\n\t@echo at $${TEST_NODE:-local}\ndeploy:\n\t@echo at $${TEST_NODE:-local}\n";

/// What the hook says to a command: its decision, and the text that the client then runs.
fn hook(env: &TestEnv, project: &Project<'_>, command: &str) -> (Option<String>, String) {
    hook_of(env, project, "Bash", command, "t")
}

/// The same for a call of this id of another tool that takes a command.
fn hook_of(
    env: &TestEnv,
    project: &Project<'_>,
    tool: &str,
    command: &str,
    id: &str,
) -> (Option<String>, String) {
    let event = json!({
        "session_id": "s", "cwd": project.dir, "permission_mode": "bypassPermissions",
        "hook_event_name": "PreToolUse", "tool_name": tool, "tool_input": {"command": command}, "tool_use_id": id,
    });
    let mut hook = env.command(CX, &project.dir);
    let bin = Path::new(CX).parent().unwrap();
    hook.arg("hook")
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
    let answer = env.run(&mut hook, event.to_string().as_bytes()).ok().stdout();
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    let said = &answer["hookSpecificOutput"];
    let decision = said["permissionDecision"].as_str().map(str::to_owned);
    let text = said["updatedInput"]["command"].as_str().unwrap_or(command);
    (decision, text.to_owned())
}

/// Where a command says that it ran.
fn last_at(text: &str) -> String {
    let line = text.lines().rfind(|l| l.starts_with("at ")).unwrap_or_default();
    line.trim_start_matches("at ").to_owned()
}

/// Asks all three doors where `command` runs. `plain`: it is one simple command, which a person may type after `cx`.
fn ask(env: &TestEnv, project: &Project<'_>, client: &mut Client, command: &str, plain: bool, want: &str) {
    let (_, text) = hook(env, project, command);
    assert_eq!(
        last_at(&project.sh(&text).stdout()),
        want,
        "hook: {command} -> {text}"
    );
    let said = client.call("cluster_bash", json!({"command": command}));
    assert_eq!(last_at(said.text()), want, "mcp: {command}: {said:?}");
    let place = if want == "local" { "local" } else { "n1" };
    assert_eq!(said.field("node_id"), place, "{command}: {said:?}");
    if plain {
        let out = project.sh(&format!("cx {command}"));
        assert_eq!(last_at(&out.stdout()), want, "shell: {command}: {out:?}");
    }
}

#[test]
fn three_doors_one_answer() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[
        ("Makefile", MAKEFILE),
        ("run.sh", "#!/bin/sh\necho at ${TEST_NODE:-local}\n"),
    ]);
    let out = project.dir.parent().unwrap().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("Makefile"), MAKEFILE).unwrap();
    let mut client = Client::hello(&env, &project.dir, &[]);
    for (command, plain, want) in [
        ("make test", true, "n1"),
        ("make", true, "n1"),
        ("true && make test", false, "n1"),
        // Light, unknown to the rules, or opted out by its writer. (A person who types cx means an unknown target to leave.)
        ("make deploy", false, "local"),
        ("echo at local", false, "local"),
        ("CX_LOCAL=1 make test", false, "local"),
        ("make -C ../out test", false, "local"),
    ] {
        ask(&env, &project, &mut client, command, plain, want);
    }
    // A rule of the user's own makes heavy what was not, and light what was.
    env.append_config("[[rule]]\nname = \"mine\"\nmatch = [\"make deploy\"]\nclass = \"heavy\"\n\n[[rule]]\nname = \"here\"\nmatch = [\"make test\"]\nclass = \"light\"\n");
    // Each with a word of its own: what was learned of one, that it is too short for the way, says nothing of the next.
    ask(&env, &project, &mut client, "make deploy N=1", true, "n1");
    ask(&env, &project, &mut client, "make test N=2", true, "local");
    ask(&env, &project, &mut client, "make all N=3", true, "n1");
    // The project keeps it here.
    project.write(".cx.toml", "local = [\"make all\"]\n");
    ask(&env, &project, &mut client, "make all N=4", true, "local");
    std::fs::remove_file(project.dir.join(".cx.toml")).unwrap();
    // Switched off, and on again.
    env.cx(&["off"]).ok();
    ask(&env, &project, &mut client, "make all N=5", true, "local");
    env.cx(&["on"]).ok();
    ask(&env, &project, &mut client, "make all N=6", true, "n1");
    client.end();
}

#[test]
fn three_doors_without_a_node() {
    let env = TestEnv::new();
    let project = env.project(&[("Makefile", MAKEFILE)]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    for command in ["make test", "make"] {
        ask(&env, &project, &mut client, command, true, "local");
    }
    // One that can't be reached is none.
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.node_mut("n1").stop();
    let project = env.project(&[("Makefile", MAKEFILE)]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    ask(&env, &project, &mut client, "make test", true, "local");
}

/// A deny or ask rule in any scope that can be read: the hook leaves the command as it is for the client's own rules, or says it itself
/// where cx was typed; MCP refuses.
#[test]
fn rules_of_every_scope_hold_at_every_door() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[("Makefile", MAKEFILE)]);
    let scopes = [
        env.home().join(".claude/settings.json"),
        project.dir.join(".claude/settings.json"),
        project.dir.join(".claude/settings.local.json"),
    ];
    let mut client = Client::hello(&env, &project.dir, &[]);
    let mut calls = 0;
    for scope in &scopes {
        std::fs::create_dir_all(scope.parent().unwrap()).unwrap();
        for kind in ["deny", "ask"] {
            let rules = json!({"permissions": {kind: ["Bash(make test:*)"]}});
            std::fs::write(scope, rules.to_string()).unwrap();
            let at = format!("{kind} in {}", scope.display());
            for command in ["make test", "cd . && make test", "FOO=1 make test -j2 | tail -1"] {
                // The client's own rules are for the client, which must not be told that it is allowed.
                assert_eq!(hook(&env, &project, command), (None, command.to_owned()), "{at}");
                for (tool, arguments) in [
                    ("cluster_bash", json!({"command": command})),
                    (
                        "cluster_bash",
                        json!({"command": command, "requires_os": "linux"}),
                    ),
                    ("cluster_bash", json!({"command": command, "auto_route": false})),
                    ("offload_to", json!({"node_id": "n1", "command": command})),
                    ("parallel_execute", json!({"commands": ["true", command]})),
                ] {
                    let said = client.call(tool, arguments);
                    let refused = match kind {
                        "deny" => "Refused: your rule Bash(make test:*) denies it",
                        _ => "Not run: your rule Bash(make test:*) asks about it",
                    };
                    assert!(
                        said.is_error() && said.text().starts_with(refused),
                        "{at}: {tool} {command}: {said:?}"
                    );
                    assert!(!said.text().contains("at "), "{at}: it ran: {said:?}");
                }
                // The hook says the same of the call before the server sees it; who was asked about it has it run, once, and here, where
                // the client runs it that the hook leaves it to.
                calls += 1;
                let id = format!("toolu_{calls}");
                let (decision, _) = hook_of(&env, &project, "mcp__cx__cluster_bash", command, &id);
                assert_eq!(decision.as_deref(), Some(kind), "{at}: {command}");
                for is_first in [true, false] {
                    let params = json!({
                        "name": "cluster_bash",
                        "arguments": {"command": command},
                        "_meta": {"claudecode/toolUseId": id},
                    });
                    let said = Said(client.ask("tools/call", params)["result"].clone());
                    let runs = kind == "ask" && is_first;
                    assert_eq!(!said.is_error(), runs, "{at}: {command}: {said:?}");
                    let place = if runs { "local" } else { "" };
                    assert_eq!(last_at(said.text()), place, "{at}: {command}: {said:?}");
                    let names_it = said.field("reason").as_str().unwrap_or_default();
                    assert_eq!(
                        names_it.contains("your rule Bash(make test:*)"),
                        runs,
                        "{at}: {command}: {said:?}"
                    );
                }
            }
            let (decision, _) = hook(&env, &project, "cx make test");
            assert_eq!(decision.as_deref(), Some(kind), "{at}");
            // They are the agent's rules: a person at a shell is bound by none.
            let typed = project.sh("cx make test");
            assert_eq!(last_at(&typed.stdout()), "n1", "{at}: {typed:?}");
            // What the rule does not speak of is free.
            ask(&env, &project, &mut client, "make all", true, "n1");
        }
        std::fs::remove_file(scope).unwrap();
    }
    ask(&env, &project, &mut client, "make test", true, "n1");
    client.end();
}
