//! Arrays of messages, which one revision of the protocol has: <https://modelcontextprotocol.io/specification/2025-03-26/basic>.

use serde_json::{Value, json};

use crate::harness::{TestEnv, wait_for};
use crate::mcp::{Client, LIMIT};

/// The one revision.
const BATCHES: &str = "2025-03-26";

fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn call(id: u64, command: &str) -> Value {
    let params = json!({"name": "cluster_bash", "arguments": {"command": command}});
    request(id, "tools/call", params)
}

fn cancel(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
}

/// The answers of an array, by their ids; results before errors.
fn by_id(batch: &Value) -> Vec<(Value, &Value)> {
    let mut all: Vec<_> = batch
        .as_array()
        .unwrap_or_else(|| panic!("no array: {batch}"))
        .iter()
        .map(|a| (a["id"].clone(), a))
        .collect();
    all.sort_by_key(|(id, a)| (id.as_u64(), a["error"].is_object()));
    all
}

#[test]
fn a_batch_is_answered_as_one() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::of(&env, &dir, &[]);
    assert_eq!(client.initialize(BATCHES)["protocolVersion"], BATCHES);
    client.send(&json!([
        call(11, "echo one; exit 3"),
        {"jsonrpc": "2.0", "method": "notifications/other"},
        request(12, "ping", json!({})),
        request(13, "no/such", json!({})),
        1,
        {"jsonrpc": "2.0", "id": 14},
        {"jsonrpc": "2.0", "method": 1},
        {"jsonrpc": "1.0", "id": 15, "method": "ping"},
        request(16, "tools/call", json!({"name": 5})),
        request(12, "ping", json!({})),
        request(17, "initialize", json!({"protocolVersion": BATCHES, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}})),
        {"jsonrpc": "2.0", "id": 99, "result": {}},
    ]));
    let answer = client.receive();
    let all = by_id(&answer);
    let code = |n: usize| (all[n].0.clone(), all[n].1["error"]["code"].as_i64());
    assert_eq!(
        (0..all.len()).map(code).collect::<Vec<_>>(),
        [
            (Value::Null, Some(-32600)),
            (Value::Null, Some(-32600)),
            (json!(11), None),
            (json!(12), None),
            (json!(12), Some(-32600)),
            (json!(13), Some(-32601)),
            (json!(14), Some(-32600)),
            (json!(15), Some(-32600)),
            (json!(16), Some(-32602)),
            (json!(17), Some(-32600)),
        ],
        "{answer}"
    );
    assert_eq!(all[2].1["result"]["_meta"]["cx/result"]["exit_code"], 3);
    assert_eq!(all[3].1["result"], json!({}));
    // Of nothing but notifications there is nothing to answer.
    client.send(&json!([{"jsonrpc": "2.0", "method": "notifications/other"}]));
    client.send(&json!([]));
    let empty = client.receive();
    assert_eq!(
        (&empty["id"], &empty["error"]["code"]),
        (&Value::Null, &json!(-32600))
    );
    let many: Vec<Value> = (1000..3000).map(|id| request(id, "ping", json!({}))).collect();
    client.send(&json!(many));
    let refused = client.receive();
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    client.send(&json!(many[..100]));
    assert_eq!(by_id(&client.receive()).len(), 100);
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    client.end();
}

#[test]
fn what_is_cancelled_is_missing_in_the_answer() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::of(&env, &dir, &[]);
    client.initialize(BATCHES);
    // Cancelled by the batch itself: nothing is left to wait for.
    client.send(&json!([
        call(20, "sleep 3010"),
        request(21, "ping", json!({})),
        cancel(20)
    ]));
    let answer = client.receive();
    assert_eq!(by_id(&answer).len(), 1, "{answer}");
    assert_eq!(answer[0]["id"], 21);
    // Cancelled later, both what is under way and what has its answer; that of the others goes out.
    let held = "touch up; while [ ! -e go ]; do sleep 0.05; done";
    client.send(&json!([
        call(30, "touch up2; sleep 3010"),
        call(31, held),
        request(32, "ping", json!({}))
    ]));
    wait_for(LIMIT, || {
        match dir.join("up").exists() && dir.join("up2").exists() {
            true => Ok(()),
            false => Err("both run".to_owned()),
        }
    });
    client.send(&json!([cancel(30), cancel(32)]));
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    std::fs::write(dir.join("go"), "").unwrap();
    let answer = client.receive();
    assert_eq!(by_id(&answer).len(), 1, "{answer}");
    assert_eq!(answer[0]["id"], 31);
    // The last of them.
    std::fs::remove_file(dir.join("up")).unwrap();
    client.send(&json!([
        call(40, "touch up; sleep 3010"),
        request(41, "ping", json!({}))
    ]));
    wait_for(LIMIT, || match dir.join("up").exists() {
        true => Ok(()),
        false => Err("it runs".to_owned()),
    });
    client.send(&cancel(40));
    let answer = client.receive();
    assert_eq!(by_id(&answer).len(), 1, "{answer}");
    assert_eq!(answer[0]["id"], 41);
    client.send(&json!([call(50, "sleep 3010"), cancel(50)]));
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    assert!(client.others.is_empty(), "{:?}", client.others);
    wait_for(LIMIT, || {
        let mut left = env.processes();
        left.retain(|p| p.contains("sleep 3010"));
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    client.end();
}

#[test]
fn no_other_revision_has_batches() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let pings = json!([request(1, "ping", json!({})), request(2, "ping", json!({}))]);
    let refused = |answer: &Value| {
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&Value::Null, &json!(-32600)),
            "{answer}"
        );
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(BATCHES),
            "{answer}"
        );
    };
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mut client = Client::of(&env, &dir, &[]);
        // Nor has any before both sides have agreed on one.
        client.send(&pings);
        refused(&client.receive());
        client.initialize(version);
        client.send(&pings);
        refused(&client.receive());
        client.end();
    }
}
