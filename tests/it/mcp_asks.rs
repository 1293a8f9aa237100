//! What `cx mcp` goes by of what others say: the roots that a client declares, what a person was asked about, and the names in a call.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{CX, TestEnv};
use crate::mcp::{Client, Said};

/// From revision 2026-07-28 on the server sends no requests: a client that has roots is asked for them by the answer to its call, and calls
/// again with them.
#[test]
fn roots_come_with_the_call_where_no_request_builds_upon_another() {
    let env = TestEnv::new();
    let [dir, other, ruled] = ["work", "other", "ruled"].map(|n| env.home().join(n));
    std::fs::create_dir_all(&other).unwrap();
    std::fs::create_dir_all(ruled.join(".claude")).unwrap();
    let rules = json!({"permissions": {"deny": ["Bash(id:*)"]}});
    std::fs::write(ruled.join(".claude/settings.json"), rules.to_string()).unwrap();
    let mut client = Client::of(&env, &dir, &[]);
    let mut call = |capabilities: Value, arguments: Value, answers: Value| {
        let mut params = json!({"name": "cluster_bash", "arguments": arguments, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        }});
        if !answers.is_null() {
            params["inputResponses"] = answers;
        }
        client.ask("tools/call", params)["result"].clone()
    };
    let roots = |dirs: &[&Path]| {
        let uris = dirs
            .iter()
            .map(|d| json!({"uri": format!("file://{}", d.display())}));
        json!({"roots": {"roots": uris.collect::<Vec<_>>()}})
    };
    let pwd = || json!({"command": "pwd -P"});
    // Without the capability nothing is asked for.
    let said = Said(call(json!({}), pwd(), Value::Null));
    assert_eq!(
        said.text().lines().next(),
        dir.canonicalize().unwrap().to_str(),
        "{said:?}"
    );
    for nothing in [Value::Null, json!({}), json!({"other": {"roots": []}})] {
        let asked = call(json!({"roots": {}}), json!({"command": "touch ran"}), nothing);
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        assert_eq!(asked["inputRequests"]["roots"]["method"], "roots/list", "{asked}");
    }
    assert!(!dir.join("ran").exists());
    let said = Said(call(json!({"roots": {}}), pwd(), roots(&[&other, &ruled])));
    let first = other.canonicalize().unwrap();
    assert_eq!(said.text().lines().next(), first.to_str(), "{said:?}");
    assert_eq!(said.0["resultType"], "complete", "{said:?}");
    let below = json!({"command": "pwd -P", "cwd": &ruled});
    let said = Said(call(
        json!({"roots": {}}),
        below.clone(),
        roots(&[&other, &ruled]),
    ));
    assert!(!said.is_error(), "{said:?}");
    // Each call has its own.
    let said = Said(call(json!({"roots": {}}), below, roots(&[&other])));
    assert!(
        said.is_error() && said.text().contains("lies outside of"),
        "{said:?}"
    );
    let said = Said(call(
        json!({"roots": {}}),
        json!({"command": "id"}),
        roots(&[&other, &ruled]),
    ));
    assert!(
        said.text().starts_with("Refused: your rule Bash(id:*) denies it"),
        "{said:?}"
    );
    for (answer, why) in [
        (roots(&[Path::new("/no/such")]), "none of the roots"),
        (json!({"roots": {"roots": 3}}), "can't be read"),
        (json!({"roots": null}), "can't be read"),
    ] {
        let said = Said(call(json!({"roots": {}}), pwd(), answer));
        assert!(said.is_error() && said.text().contains(why), "{said:?}");
    }
    // Who says that it has none is where the server is.
    let said = Said(call(json!({"roots": {}}), pwd(), roots(&[])));
    assert_eq!(
        said.text().lines().next(),
        dir.canonicalize().unwrap().to_str(),
        "{said:?}"
    );
    client.end();
}

/// Where a client of the revisions before has roots and does not say them, nothing runs in a place that may lie outside of them; it is
/// asked again with the next call, and a late answer counts.
#[test]
fn roots_that_are_not_said_are_waited_for() {
    let env = TestEnv::new();
    let [dir, other] = ["work", "other"].map(|n| env.home().join(n));
    std::fs::create_dir_all(&other).unwrap();
    let mut client = Client::of(&env, &dir, &[]);
    client.ask(
        "initialize",
        json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "test", "version": "1"}}),
    );
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let input = json!({"command": "pwd -P; touch ran", "timeout": 1});
    let begin = |client: &mut Client| {
        let id = client.start_call("cluster_bash", input.clone());
        let asked = client.receive();
        assert_eq!(asked["method"], "roots/list", "{asked}");
        (id, asked["id"].clone())
    };
    for (answer, why) in [
        (
            json!({"error": {"code": -32601, "message": "not \u{1b}here"}}),
            "not here",
        ),
        (json!({"result": {"roots": 3}}), "roots"),
        (
            json!({"result": {"roots": [{"uri": "file:///nosuch"}]}}),
            "none of the roots",
        ),
    ] {
        let (id, asked) = begin(&mut client);
        let mut message = json!({"jsonrpc": "2.0", "id": asked});
        message
            .as_object_mut()
            .unwrap()
            .extend(answer.as_object().unwrap().clone());
        client.send(&message);
        let said = Said(client.answer(id)["result"].clone());
        assert!(said.is_error() && said.text().contains(why), "{said:?}");
    }
    let (id, late) = begin(&mut client);
    let said = Said(client.answer(id)["result"].clone());
    assert!(
        said.is_error() && said.text().contains("has not said"),
        "{said:?}"
    );
    // The answer to what was asked before will do, also while it is being asked again.
    let (id, _) = begin(&mut client);
    let uri = format!("file://{}", other.display());
    client.send(&json!({"jsonrpc": "2.0", "id": late, "result": {"roots": [{"uri": uri}]}}));
    let inside = other.canonicalize().unwrap();
    for said in [
        Said(client.answer(id)["result"].clone()),
        client.call("cluster_bash", input.clone()),
    ] {
        assert_eq!(said.text().lines().next(), inside.to_str(), "{said:?}");
    }
    assert!(!dir.join("ran").exists());
    client.end();
}

/// A client of the revisions before says when its roots are others.
#[test]
fn roots_that_changed_are_asked_for_again() {
    let env = TestEnv::new();
    let [dir, other] = ["work", "other"].map(|n| env.home().join(n));
    std::fs::create_dir_all(&other).unwrap();
    let mut client = Client::of(&env, &dir, &[]);
    client.ask(
        "initialize",
        json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {"listChanged": true}}, "clientInfo": {"name": "test", "version": "1"}}),
    );
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let input = json!({"command": "pwd -P", "cwd": other});
    for (roots, is_inside) in [(vec![&dir], false), (vec![&dir, &other], true)] {
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}));
        let id = client.start_call("cluster_bash", input.clone());
        let asked = client.receive();
        assert_eq!(asked["method"], "roots/list", "{asked}");
        let uris: Vec<_> = roots
            .iter()
            .map(|d| json!({"uri": format!("file://{}", d.display())}))
            .collect();
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": uris}}));
        for again in [false, true] {
            // Until they change they are not asked for again.
            let said = match again {
                false => Said(client.answer(id)["result"].clone()),
                true => client.call("cluster_bash", input.clone()),
            };
            assert_eq!(!said.is_error(), is_inside, "{said:?}");
        }
    }
    client.end();
}

/// What the hook says of a call before the server sees it.
fn hook(env: &TestEnv, dir: &Path, mode: &str, tool: &str, input: &Value, id: &str) -> Option<String> {
    let event = json!({
        "session_id": "s", "cwd": dir, "permission_mode": mode, "hook_event_name": "PreToolUse",
        "tool_name": format!("mcp__cx__{tool}"), "tool_input": input, "tool_use_id": id,
    });
    let out = env.run(env.command(CX, dir).arg("hook"), event.to_string().as_bytes());
    let answer: Value = serde_json::from_str(&out.ok().stdout()).unwrap_or_default();
    answer["hookSpecificOutput"]["permissionDecision"]
        .as_str()
        .map(str::to_owned)
}

fn call_as(client: &mut Client, tool: &str, arguments: &Value, id: &str) -> Said {
    let params = json!({"name": tool, "arguments": arguments, "_meta": {"claudecode/toolUseId": id}});
    Said(client.ask("tools/call", params)["result"].clone())
}

/// A person was asked about one call, with all that it said: another tool, machine or directory is another call.
#[test]
fn what_was_approved_is_that_call_and_no_other() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    let project = env.project(&[("sub/x", "")]);
    std::fs::create_dir_all(env.home().join(".claude")).unwrap();
    let rules = json!({"permissions": {"ask": ["Bash(touch:*)"]}});
    std::fs::write(env.home().join(".claude/settings.json"), rules.to_string()).unwrap();
    let mut client = Client::hello(&env, &project.dir, &[]);
    let approved = json!({"node_id": "n1", "command": "touch made"});
    for (n, (tool, arguments)) in [
        ("cluster_bash", json!({"command": "touch made"})),
        ("parallel_execute", json!({"commands": ["touch made"]})),
        ("offload_to", json!({"node_id": "n2", "command": "touch made"})),
        (
            "offload_to",
            json!({"node_id": "n1", "command": "touch made", "cwd": "sub"}),
        ),
        (
            "offload_to",
            json!({"node_id": "n1", "command": "touch made too"}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("toolu_{n}");
        let decision = hook(&env, &project.dir, "default", "offload_to", &approved, &id);
        assert_eq!(decision.as_deref(), Some("ask"));
        let said = call_as(&mut client, tool, &arguments, &id);
        assert!(
            said.is_error() && said.text().starts_with("Not run: "),
            "{tool} {arguments}: {said:?}"
        );
    }
    let decision = hook(&env, &project.dir, "default", "offload_to", &approved, "toolu_x");
    assert_eq!(decision.as_deref(), Some("ask"));
    let said = call_as(&mut client, "offload_to", &approved, "toolu_x");
    assert!(!said.is_error() && said.field("node_id") == "n1", "{said:?}");
    client.end();
}

/// In the mode in which the client asks nothing, nobody approves anything: what Bash would refuse is refused, and no note is left.
#[test]
fn where_nobody_is_asked_nothing_is_approved() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    std::fs::create_dir_all(env.home().join(".claude")).unwrap();
    let rules = json!({"permissions": {"ask": ["Bash(touch:*)"], "allow": ["Bash(true)"]}});
    std::fs::write(env.home().join(".claude/settings.json"), rules.to_string()).unwrap();
    for (command, decision) in [
        ("touch made", Some("deny")),
        ("unheard-of", Some("deny")),
        ("true", None),
    ] {
        let input = json!({"command": command});
        let said = hook(&env, &dir, "dontAsk", "cluster_bash", &input, "toolu_1");
        assert_eq!(said.as_deref(), decision, "{command}");
    }
    let mut client = Client::hello(&env, &dir, &[]);
    let said = call_as(
        &mut client,
        "cluster_bash",
        &json!({"command": "touch made"}),
        "toolu_1",
    );
    assert!(said.is_error(), "{said:?}");
    client.end();
}

/// What a rule of the session's project may concern stays here, also where the call names a directory of another root.
#[test]
fn what_was_approved_stays_here_in_every_root() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[("Makefile", "test:\n\t@echo at $${TEST_NODE:-local}\n")]);
    let start = env.home().join("start");
    std::fs::create_dir_all(start.join(".claude")).unwrap();
    let rules = json!({"permissions": {"ask": ["Bash(make test:*)"]}});
    std::fs::write(start.join(".claude/settings.json"), rules.to_string()).unwrap();
    let mut client = Client::of(&env, &start, &[]);
    client.ask(
        "initialize",
        json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "test", "version": "1"}}),
    );
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let input = json!({"command": "make test", "cwd": project.dir});
    let decision = hook(&env, &start, "default", "cluster_bash", &input, "toolu_1");
    assert_eq!(decision.as_deref(), Some("ask"));
    let id = client.begin(
        "tools/call",
        json!({"name": "cluster_bash", "arguments": input, "_meta": {"claudecode/toolUseId": "toolu_1"}}),
    );
    let asked = client.receive();
    assert_eq!(asked["method"], "roots/list");
    let uris: Vec<_> = [&start, &project.dir]
        .map(|d| json!({"uri": format!("file://{}", d.display())}))
        .into();
    client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": uris}}));
    let said = Said(client.answer(id)["result"].clone());
    assert!(said.text().starts_with("at local\n"), "{said:?}");
    let reason = said.field("reason").as_str().unwrap_or_default();
    assert!(reason.contains("your rule Bash(make test:*)"), "{said:?}");
    client.end();
}

/// Names come back in what is said of them: never with what a terminal would obey.
#[test]
fn names_come_back_printable() {
    let env = TestEnv::new();
    let mut client = Client::hello(&env, &env.home().join("work"), &[]);
    let odd = "a\u{1b}[31m\u{7}\u{9b}b\u{202e}\r\nc";
    for (method, params) in [
        (odd, json!({})),
        ("tools/call", json!({"name": odd})),
        ("tools/call", json!({"name": 3, odd: 1})),
        (
            "tools/call",
            json!({"name": "cluster_bash", "arguments": {"command": "true", odd: 1}}),
        ),
        (
            "tools/call",
            json!({"name": "cluster_bash", "arguments": {"command": "true", "cwd": odd}}),
        ),
        (
            "tools/call",
            json!({"name": "cluster_bash", "arguments": {"command": "true", "requires_os": odd}}),
        ),
        (
            "tools/call",
            json!({"name": "offload_to", "arguments": {"command": "true", "node_id": odd}}),
        ),
    ] {
        let answer = client.ask(method, params.clone());
        let said = match answer["error"]["message"].as_str() {
            Some(message) => message.to_owned(),
            None => answer["result"]["content"][0]["text"]
                .as_str()
                .unwrap()
                .to_owned(),
        };
        assert!(
            !said.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
            "{method} {params}: {said:?}"
        );
    }
    client.end();
}

/// Which of two would count differs from reader to reader: neither does.
#[test]
fn no_name_is_there_twice() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &[]);
    for (n, params) in [
        r#"{"name":"cluster_bash","arguments":{"command":"true","command":"touch ran"}}"#,
        r#"{"name":"cluster_bash","arguments":{"command":"true","\u0063ommand":"touch ran"}}"#,
        r#"{"name":"cluster_status","name":"cluster_bash","arguments":{"command":"touch ran"}}"#,
        r#"{"name":"cluster_bash","arguments":{"command":"true"},"arguments":{"command":"touch ran"}}"#,
        r#"{"name":"cluster_bash","arguments":{"command":"touch ran"},"_meta":{"a":1,"a":2}}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let id = 1000 + n as u64;
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
        client.raw(format!("{request}\n").as_bytes());
        let answer = client.answer(id);
        let why = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(why.contains("is there more than once"), "{params}: {answer}");
    }
    assert!(!dir.join("ran").exists());
    client.end();
}

/// To stay here and to have a certain machine are two wishes that do not go together.
#[test]
fn a_requirement_and_no_routing_contradict_each_other() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    for more in ["requires_os", "requires_arch"] {
        let value = if more == "requires_os" { "linux" } else { "x86_64" };
        let mut arguments = json!({"command": "touch ran", "auto_route": false});
        arguments[more] = value.into();
        let said = client.call("cluster_bash", arguments);
        assert!(
            said.is_error() && said.text().contains("`auto_route`") && said.text().contains(more),
            "{said:?}"
        );
    }
    assert!(!project.dir.join("ran").exists());
    client.end();
}

/// The heads of a batch's blocks show the commands, but for what looks like a secret.
#[test]
fn heads_of_blocks_show_no_secrets() {
    let env = TestEnv::new();
    let mut client = Client::hello(&env, &env.home().join("work"), &[]);
    let token = format!("ghp_{}", "a1".repeat(18));
    let said = client.call("parallel_execute", json!({"commands": [format!("true {token}")]}));
    assert!(
        !said.text().contains(&token) && said.text().contains("== 1: true [redacted by cx]"),
        "{said:?}"
    );
    client.end();
}
