//! Calls of `cx mcp` whose link to the node goes: what is said of them, and what becomes of them once the node is back.

use serde_json::json;

use crate::harness::{TestEnv, wait_for};
use crate::mcp::{Client, LIMIT, until_run};

/// Cuts all links that stand, and lets no new one come about until `cut` is gone.
fn cut(env: &TestEnv) {
    std::fs::write(env.home().join("cut"), "").unwrap();
    for process in env.processes() {
        let mut words = process.split_whitespace();
        let (pid, name) = (words.next(), words.next().unwrap_or_default());
        if name.ends_with("ssh") || name == "ssh:" {
            cx::demo::processes::kill(pid.unwrap().parse().unwrap());
        }
    }
}

/// A timeout that could not be told to the node is told once the node is back; a command that ended by then is known to have ended.
#[test]
fn what_timed_out_behind_a_lost_link_is_not_forgotten() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.program(
        "ssh",
        "#!/bin/sh\n[ ! -e $HOME/cut ] || exec sleep 60\nPATH=${PATH#*:} exec ssh \"$@\"\n",
    );
    env.end_clients();
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let home = env.node("n1").home();
    let held = "touch $HOME/up; while [ ! -e $HOME/go ]; do sleep 0.1; done; exit 4";
    for (command, ends_itself) in [("touch $HOME/up; sleep 3014", false), (held, true)] {
        let id = client.start_call(
            "offload_to",
            json!({"node_id": "n1", "command": command, "timeout": 8}),
        );
        wait_for(LIMIT, || match home.join("up").exists() {
            true => Ok(()),
            false => Err("it runs".to_owned()),
        });
        cut(&env);
        let said = crate::mcp::Said(client.answer(id)["result"].clone());
        assert_eq!(said.field("state"), "timed_out", "{said:?}");
        assert!(
            said.text().contains("could not be told") && !said.text().contains("ended after"),
            "{said:?}"
        );
        let run = said.field("run_id").as_str().unwrap().to_owned();
        let gone = || {
            wait_for(LIMIT, || {
                let left = env.node("n1").processes();
                match left
                    .iter()
                    .any(|p| p.contains("sleep 3014") || p.contains("HOME/go"))
                {
                    true => Err(format!("{left:?}")),
                    false => Ok(()),
                }
            });
        };
        if ends_itself {
            env.node("n1").write("go", "");
            gone();
        }
        std::fs::remove_file(env.home().join("cut")).unwrap();
        let (state, status) = match ends_itself {
            true => ("exited", 4),
            false => ("signaled", 143),
        };
        let (seen, _) = until_run(&mut client, &run, state);
        assert_eq!(seen["exit_code"], status, "{seen}");
        gone();
        let status = client.call("cluster_status", json!({}));
        let node = &status.0["structuredContent"]["nodes"][1];
        assert_eq!(node["reachable"], true, "it has just answered: {node}");
        std::fs::remove_file(home.join("up")).unwrap();
    }
    client.end();
}
