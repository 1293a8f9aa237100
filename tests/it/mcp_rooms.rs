//! What comes back to this machine from nodes that are full: as many of it at once as this machine has slots, whichever call it is of.

use std::path::Path;

use serde_json::json;

use crate::harness::{TestEnv, wait_for};
use crate::mcp::{Client, LIMIT, Said};

const MAKEFILE: &str =
    "check test:\n\t@touch up$$$$; ls up* | wc -l >> counts; sleep 0.3; rm up$$$$; echo $@\n";

/// Has the one slot of `n1` taken until `free` is there, and says how many slots this machine has.
fn fill(env: &TestEnv, client: &mut Client) -> usize {
    let status = client.call("cluster_status", json!({}));
    let slots = status.0["structuredContent"]["nodes"][0]["slots"]
        .as_u64()
        .unwrap();
    env.append_config("[node.n1]\nslots = 1\n\n[policy]\nwhen_full = \"local\"\n");
    let held = "touch $HOME/up; while [ ! -e $HOME/free ]; do sleep 0.1; done";
    client.start_call("offload_to", json!({"node_id": "n1", "command": held}));
    let up = env.node("n1").home().join("up");
    wait_for(LIMIT, || match up.exists() {
        true => Ok(()),
        false => Err(format!("{} is there", up.display())),
    });
    slots as usize
}

fn counts(dir: &Path) -> Vec<usize> {
    let text = std::fs::read_to_string(dir.join("counts")).unwrap_or_default();
    text.lines().map(|l| l.trim().parse().unwrap()).collect()
}

#[test]
fn calls_that_find_the_nodes_full_have_the_slots_of_this_machine() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[("Makefile", MAKEFILE), (".gitignore", "counts\nup*\n")]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let slots = fill(&env, &mut client);
    // So many are carried out at once.
    if slots > 20 {
        return;
    }
    let calls: Vec<u64> = (0..slots + 4)
        .map(|n| client.start_call("cluster_bash", json!({"command": format!("make test N={n}")})))
        .collect();
    for _ in &calls {
        let said = Said(client.receive()["result"].clone());
        assert!(said.text().contains("test\n[local exit 0 "), "{said:?}");
    }
    let counts = counts(&project.dir);
    assert_eq!(counts.len(), calls.len());
    assert!(counts.iter().all(|n| *n <= slots), "{slots} slots: {counts:?}");
    env.node("n1").write("free", "");
    client.end();
}

/// One call has one slot: its commands may wait for each other.
#[test]
fn a_call_does_not_wait_for_itself() {
    let env = TestEnv::with_nodes(&["n1"]);
    let makefile = format!("{MAKEFILE}build:\n\t@cx make check; make check; cat\n");
    let project = env.project(&[("Makefile", &makefile), (".gitignore", "counts\nup*\n")]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let slots = fill(&env, &mut client);
    // Both ends of a pipe, beside each other, and one within the other.
    let command = "cd . && make test | make build; make test & make test & make check; wait; echo over";
    let said = client.call("cluster_bash", json!({"command": command}));
    assert!(
        said.text().contains("over\n[local exit 0 ") && counts(&project.dir).len() == 6,
        "{said:?}"
    );
    // Its timeout holds while it waits.
    let held = "while [ ! -e go ]; do sleep 0.1; done";
    let other = client.start_call("parallel_execute", json!({"commands": vec![held; 32]}));
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let local = status.0["structuredContent"]["nodes"][0].clone();
        match local["slots_running"] == slots {
            true => Ok(()),
            false => Err(format!("{local}")),
        }
    });
    let said = client.call("cluster_bash", json!({"command": "make test N=1", "timeout": 3}));
    assert!(
        said.text().contains("timed out") && counts(&project.dir).len() == 6,
        "{said:?}"
    );
    std::fs::write(project.dir.join("go"), "").unwrap();
    client.answer(other);
    env.node("n1").write("free", "");
    client.end();
}
