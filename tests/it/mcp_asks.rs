//! What `cx mcp` goes by of what others say: the roots that a client declares, what a person was asked about, and the names in a call.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::TestEnv;
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
    // Who has none is where the server is.
    let said = Said(call(json!({"roots": {}}), pwd(), roots(&[])));
    assert_eq!(
        said.text().lines().next(),
        dir.canonicalize().unwrap().to_str(),
        "{said:?}"
    );
    client.end();
}
