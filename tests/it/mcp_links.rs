//! Calls of `cx mcp` whose link to the node goes: what is said of them, and what becomes of them once the node is back.

use std::os::unix::fs::PermissionsExt;

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

/// A node that prints without end before its agent greets can't be used; nothing else has to wait for it, and a damaged agent is
/// replaced.
#[test]
fn a_node_that_never_stops_talking_is_given_up() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[]);
    let home = env.node("n1").home();
    let agents = std::fs::read_dir(home.join(".cache/cx/agents")).unwrap();
    for agent in agents.flatten().filter(|a| a.file_name() != "cx") {
        // Renamed into place: the old one may be running.
        let other = home.join("other");
        std::fs::write(&other, "#!/bin/sh\nexec yes\n").unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::rename(&other, agent.path()).unwrap();
    }
    env.end_clients();
    let mut client = Client::hello(&env, &project.dir, &[]);
    let call = json!({"node_id": "n1", "command": "echo really; exit 3", "timeout": 20});
    let said = client.call("offload_to", call.clone());
    assert!(
        said.text().contains("really") && said.text().contains("exit 3"),
        "{said:?}"
    );

    env.end_clients();
    for file in [".bashrc", ".profile", ".bash_profile", ".zshenv"] {
        env.node("n1").write(file, "yes they come first\n");
    }
    let mut client = Client::hello(&env, &project.dir, &[]);
    let id = client.start_call("offload_to", call);
    assert!(client.ask("ping", json!({}))["result"].is_object());
    let said = crate::mcp::Said(client.answer(id)["result"].clone());
    assert!(
        said.is_error() && said.text().contains("they come first"),
        "{said:?}"
    );
    project.on("n1", "echo really").complains("they come first");
    client.end();
}
