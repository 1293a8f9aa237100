//! How calls of `cx mcp` end, and what is left behind: cancelled at any moment, with their server, or left to go on.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{TestEnv, wait_for};
use crate::mcp::{Client, LIMIT, Said, until_run};

/// Waits until no process of this world but the servers' has `mark` in its command line.
fn gone(env: &TestEnv, nodes: &[&str], mark: &str) {
    wait_for(LIMIT, || {
        let mut left = env.processes();
        for node in nodes {
            left.extend(env.node(node).processes());
        }
        left.retain(|p| p.contains(mark));
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}

fn exists(path: &std::path::Path) {
    wait_for(LIMIT, || {
        if path.exists() {
            Ok(())
        } else {
            Err(format!("{} is there", path.display()))
        }
    });
}

#[test]
fn what_was_left_here_survives_the_server() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &["--detach-after", "1"]);
    let said = client.call(
        "cluster_bash",
        json!({"command": "echo begun; while [ ! -e go ]; do sleep 0.1; done; echo over; exit 6"}),
    );
    assert!(said.text().starts_with("begun\n[local running "), "{said:?}");
    let id = said.field("run_id").as_str().unwrap().to_owned();
    let other = client.call("cluster_bash", json!({"command": "echo $$ > other; sleep 3005"}));
    let other = other.field("run_id").as_str().unwrap().to_owned();
    client.child.kill().unwrap();
    drop(client);
    // Any cx knows of them.
    let mut client = Client::hello(&env, &dir, &[]);
    let (run, _) = until_run(&mut client, &id, "running");
    assert_eq!(run["node_id"], "local");
    let listed: Value = serde_json::from_str(&env.cx(&["runs", "--json"]).ok().stdout()).unwrap();
    let states: Vec<_> = listed["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["state"])
        .collect();
    assert_eq!(states, ["running", "running"]);
    env.cx(&["cancel", &other]).ok();
    until_run(&mut client, &other, "signaled");
    gone(&env, &[], "sleep 3005");
    std::fs::write(dir.join("go"), "").unwrap();
    let (run, text) = until_run(&mut client, &id, "exited");
    assert_eq!(run["exit_code"], 6);
    assert!(text.contains("[local exit 6]"), "{text}");
    assert_eq!(env.cx(&["logs", &id]).ok().stdout(), "begun\nover\n");
    let attached = env.cx(&["attach", &id]);
    assert_eq!(
        (attached.status(), attached.stdout().as_str()),
        (6, "begun\nover\n")
    );
    client.end();
    // Without having been left, one ends with its server, however that ends.
    let mut client = Client::hello(&env, &dir, &[]);
    client.start_call(
        "cluster_bash",
        json!({"command": "touch up; sleep 3006 | sleep 3006"}),
    );
    exists(&dir.join("up"));
    client.child.kill().unwrap();
    drop(client);
    gone(&env, &[], "sleep 3006");
}

#[test]
fn what_waits_when_nobody_waits_for_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 1\n\n[policy]\nwhen_full = \"wait\"\n");
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &["--detach-after", "2"]);
    let held = "while [ ! -e $HOME/go ]; do sleep 0.1; done; echo over";
    let said = client.call("parallel_execute", json!({"commands": [held, held]}));
    let first = said.text().lines().next().unwrap();
    assert!(
        first.starts_with("2 commands: 0 ok, 1 running, 1 waiting; "),
        "{said:?}"
    );
    let runs = said.field("runs").as_array().unwrap();
    let of = |state: &str| runs.iter().find(|r| r["state"] == state).unwrap()["run_id"].clone();
    let (going, waiting) = (of("detached"), of("waiting"));
    until_run(&mut client, waiting.as_str().unwrap(), "waiting");
    env.node("n1").write("go", "");
    until_run(&mut client, going.as_str().unwrap(), "exited");
    // What waited has its turn, and then goes on like the other, under the name that its caller was told.
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let runs = status.0["structuredContent"]["runs"].clone();
        let over = runs
            .as_array()
            .unwrap()
            .iter()
            .filter(|r| r["exit_code"] == 0)
            .count();
        if over == 2 { Ok(()) } else { Err(format!("{runs}")) }
    });
    let id = waiting.as_str().unwrap();
    let (run, _) = until_run(&mut client, id, "exited");
    assert_eq!(run["node_id"], "n1");
    client.end();
    assert_eq!(env.cx(&["logs", id]).ok().stdout(), "over\n");
    assert_eq!(env.cx(&["attach", id]).ok().stdout(), "over\n");
}

/// What was told as waiting may end in the moment in which it starts: its end is known all the same, with the server and after it.
#[test]
fn what_waited_is_known_however_soon_it_ends() {
    for nodes in [&["n1"][..], &[]] {
        let env = TestEnv::with_nodes(nodes);
        if !nodes.is_empty() {
            env.append_config("[node.n1]\nslots = 1\n\n[policy]\nwhen_full = \"wait\"\n");
        }
        let project = env.project(&[]);
        let mut client = Client::hello(&env, &project.dir, &["--detach-after", "2"]);
        let status = client.call("cluster_status", json!({}));
        let slots = status.0["structuredContent"]["nodes"][nodes.len()]["slots"].as_u64();
        let slots = slots.unwrap() as usize;
        // So many are the most of one call.
        if slots >= 28 {
            continue;
        }
        let mut commands = vec!["while [ ! -e $HOME/go ]; do sleep 0.1; done"; slots];
        commands.extend(["echo soon over; exit 3"; 4]);
        let said = client.call("parallel_execute", json!({"commands": commands}));
        let runs = said.field("runs").as_array().unwrap();
        let waiting: Vec<&str> = runs
            .iter()
            .filter(|r| r["state"] == "waiting")
            .map(|r| r["run_id"].as_str().unwrap())
            .collect();
        assert_eq!(waiting.len(), 4, "{said:?}");
        match nodes {
            [node] => env.node(node).write("go", ""),
            _ => std::fs::write(env.home().join("go"), "").unwrap(),
        }
        for id in &waiting {
            let (run, _) = until_run(&mut client, id, "exited");
            assert_eq!(run["exit_code"], 3, "{run}");
        }
        client.end();
        for id in waiting {
            assert_eq!(env.cx(&["logs", id]).ok().stdout(), "soon over\n");
            let attached = env.cx(&["attach", id]);
            assert_eq!(
                (attached.status(), attached.stdout().as_str()),
                (3, "soon over\n")
            );
        }
    }
}

/// While its server lives, the timeout of a call holds for what went on without the caller, wherever it runs.
#[test]
fn what_was_left_has_its_timeout() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &["--detach-after", "2"]);
    let said = client.call(
        "offload_to",
        json!({"node_id": "n1", "command": "touch $HOME/up; sleep 3011", "timeout": 5}),
    );
    assert_eq!(said.field("state"), "detached", "{said:?}");
    let id = said.field("run_id").as_str().unwrap().to_owned();
    let (_, text) = until_run(&mut client, &id, "signaled");
    assert!(text.contains("its timeout of 5 s was over"), "{text}");
    gone(&env, &["n1"], "sleep 3011");
    client.end();
}

/// A run that was left takes its slot until it ends: what waits for one is not started here meanwhile.
#[test]
fn what_was_left_keeps_its_slot() {
    let env = TestEnv::with_nodes(&["n1"]);
    // Nothing waits on a node.
    env.append_config("[node.n1]\nslots = 1\n\n[policy]\nwhen_full = \"local\"\n");
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &["--detach-after", "2"]);
    let held = "while [ ! -e $HOME/go ]; do sleep 0.1; done; echo over";
    let said = client.call(
        "parallel_execute",
        json!({"commands": [held, "echo second; exit 3"]}),
    );
    let runs = said.field("runs").as_array().unwrap();
    let id = |n: usize| runs[n]["run_id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&runs[0]["state"], &runs[1]["state"]),
        (&json!("detached"), &json!("waiting")),
        "{said:?}"
    );
    // Asked twice: it has looked for its slot meanwhile.
    for _ in 0..2 {
        until_run(&mut client, &id(0), "running");
        until_run(&mut client, &id(1), "waiting");
    }
    env.node("n1").write("go", "");
    until_run(&mut client, &id(0), "exited");
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let runs = status.0["structuredContent"]["runs"].clone();
        let second = runs.as_array().unwrap().iter().find(|r| r["exit_code"] == 3);
        match second {
            Some(run) if run["node_id"] == "n1" => Ok(()),
            _ => Err(format!("{runs}")),
        }
    });
    client.end();
}

/// The same where all of them run here.
#[test]
fn what_was_left_here_keeps_its_slot() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &["--detach-after", "1"]);
    let status = client.call("cluster_status", json!({}));
    let slots = status.0["structuredContent"]["nodes"][0]["slots"]
        .as_u64()
        .unwrap() as usize;
    // So many are the most of one call.
    if slots >= 32 {
        return;
    }
    let mut commands = vec!["touch up$$; while [ ! -e go ]; do sleep 0.1; done"; slots];
    commands.push("touch last");
    let said = client.call("parallel_execute", json!({"commands": commands}));
    let ran = said.field("runs").as_array().unwrap();
    assert_eq!(ran[slots]["state"], "waiting", "{said:?}");
    // Whoever comes later waits behind them, also by another server.
    let mut other = Client::hello(&env, &dir, &["--detach-after", "1"]);
    let said = other.call("parallel_execute", json!({"commands": ["touch later"]}));
    let later = &said.field("runs")[0];
    assert_eq!(later["state"], "waiting", "{said:?}");
    std::fs::write(dir.join("go"), "").unwrap();
    for name in ["last", "later"] {
        exists(&dir.join(name));
    }
    other.end();
    client.end();
}

/// How many commands of a call run here and wait.
fn stand(client: &mut Client, running: usize, waiting: usize) {
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let runs = status.0["structuredContent"]["runs"].clone();
        let count = |state: &str| {
            let of = runs.as_array().unwrap().iter();
            of.filter(|r| r["state"] == state && r["command"].as_str().unwrap().contains("in the batch"))
                .count()
        };
        match (count("running"), count("waiting")) == (running, waiting) {
            true => Ok(()),
            false => Err(format!("{running} run, {waiting} wait: {runs}")),
        }
    });
}

/// Where others have taken all slots of the nodes, a batch has this machine's slots, and no more; and whatever slot comes free next.
#[test]
fn a_batch_that_finds_the_nodes_full_has_the_slots_of_this_machine() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let status = client.call("cluster_status", json!({}));
    let here = status.0["structuredContent"]["nodes"][0]["slots"]
        .as_u64()
        .unwrap() as usize;
    let slots = here + 2;
    // So many are the most of one call.
    if slots > 32 {
        return;
    }
    env.append_config(&format!(
        "[node.n1]\nslots = {slots}\n\n[policy]\nwhen_full = \"local\"\n"
    ));
    for node_first in [true, false] {
        let held = "touch $HOME/up$$; while [ ! -e $HOME/free ]; do sleep 0.1; done; rm $HOME/up$$";
        for _ in 0..slots {
            client.start_call("offload_to", json!({"node_id": "n1", "command": held}));
        }
        let ups = || {
            let there = std::fs::read_dir(env.node("n1").home()).unwrap().flatten();
            there
                .filter(|e| e.file_name().to_string_lossy().starts_with("up"))
                .count()
        };
        let until_up = |n: usize| {
            wait_for(LIMIT, || match ups() == n {
                true => Ok(()),
                false => Err(format!("{} of {n} are up", ups())),
            });
        };
        until_up(slots);
        let one = ": in the batch; while [ ! -e $HOME/go ]; do sleep 0.1; done";
        let batch = client.start_call("parallel_execute", json!({"commands": vec![one; slots]}));
        stand(&mut client, here, 2);
        let status = client.call("cluster_status", json!({}));
        let local = &status.0["structuredContent"]["nodes"][0];
        assert_eq!(local["slots_running"], here, "{local}");
        if node_first {
            env.node("n1").write("free", "");
            stand(&mut client, slots, 0);
        }
        std::fs::write(env.home().join("go"), "").unwrap();
        env.node("n1").write("go", "");
        let said = Said(client.answer(batch)["result"].clone());
        let places = match node_first {
            true => [("local", here), ("n1", 2)],
            false => [("local", slots), ("n1", 0)],
        };
        let runs = said.field("runs").as_array().unwrap();
        for (place, n) in places {
            let there = runs
                .iter()
                .filter(|r| r["node_id"] == place && r["exit_code"] == 0);
            assert_eq!(there.count(), n, "{place}: {said:?}");
        }
        env.node("n1").write("free", "");
        until_up(0);
        std::fs::remove_file(env.home().join("go")).unwrap();
        for left in ["go", "free"] {
            std::fs::remove_file(env.node("n1").home().join(left)).unwrap();
        }
    }
    client.end();
}

/// Cancelled while the tree is on its way, while the command runs, while what it changed comes back: never an answer, nothing left on
/// the node, and the tree here whole.
#[test]
fn a_call_is_cancelled_at_any_moment() {
    let env = TestEnv::with_nodes(&["n1"]);
    let noise = |n: u64| {
        let mut x = n | 1;
        let next = |_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            char::from(b'!' + (x % 90) as u8)
        };
        (0..4 << 20).map(next).collect::<String>()
    };
    let project = env.project(&[("kept", "kept\n")]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let mut made = 0;
    for (i, pause) in [0, 10, 30, 60, 100, 150, 200, 300, 400, 600]
        .into_iter()
        .enumerate()
    {
        // Each sends much, and brings much back.
        project.write("big", &noise(i as u64 + 7));
        let mut before = project.list();
        let id = client.start_call(
            "offload_to",
            // What a command that is ended leaves half written is its own, here as there.
            json!({"node_id": "n1", "command": "tr '!-~' '~!-}' < big > back.half && mv back.half back"}),
        );
        std::thread::sleep(Duration::from_millis(pause));
        client.send(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}),
        );
        assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
        env.node("n1").assert_empty_within(crate::signals::GONE);
        let answered = client.others.iter().any(|o| o["id"] == id);
        let after = project.list();
        let back = after
            .iter()
            .filter(|l| l.starts_with("back ") || l.contains("/back"))
            .count();
        if project.has("back") {
            made += 1;
            assert_eq!(
                project.read("back").len(),
                4 << 20,
                "after {pause} ms: whole, or not there ({back})"
            );
        } else {
            assert!(!answered, "after {pause} ms: {:?}", client.others);
        }
        before.retain(|l| !l.starts_with("back"));
        assert!(before.iter().all(|l| after.contains(l)), "after {pause} ms");
        let _ = std::fs::remove_file(project.dir.join("back"));
        let _ = std::fs::remove_file(project.dir.join("back.half"));
    }
    // The mirror is none the worse.
    let said = client.call(
        "offload_to",
        json!({"node_id": "n1", "command": "ls; wc -c < big"}),
    );
    assert!(said.text().contains("4194304\n"), "{made}: {said:?}");
    client.end();
}

#[test]
fn a_call_is_cancelled_while_it_waits_for_a_slot() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 1\n\n[policy]\nwhen_full = \"wait\"\n");
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let holds = client.start_call(
        "offload_to",
        json!({"node_id": "n1", "command": "touch $HOME/up; sleep 3007"}),
    );
    exists(&env.node("n1").home().join("up"));
    let waits = client.start_call(
        "offload_to",
        json!({"node_id": "n1", "command": "touch $HOME/never"}),
    );
    let batch = client.start_call(
        "parallel_execute",
        json!({"commands": vec!["touch $HOME/never"; 3]}),
    );
    // It is one that waits when the node says so.
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let runs = status.0["structuredContent"]["runs"].clone();
        if runs.as_array().unwrap().len() == 5 {
            Ok(())
        } else {
            Err(format!("{runs}"))
        }
    });
    for id in [waits, batch] {
        client.send(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}),
        );
    }
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let runs = status.0["structuredContent"]["runs"].clone();
        if runs.as_array().unwrap().len() == 1 {
            Ok(())
        } else {
            Err(format!("{runs}"))
        }
    });
    client.send(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": holds}}),
    );
    gone(&env, &["n1"], "sleep 3007");
    // The slot is free again, and none of those that were cancelled takes it.
    let said = client.call(
        "offload_to",
        json!({"node_id": "n1", "command": "ls $HOME/never"}),
    );
    assert_ne!(said.field("exit_code"), 0, "{said:?}");
    assert!(
        client.others.iter().all(|o| o["id"].is_null()),
        "{:?}",
        client.others
    );
    client.end();
}

#[test]
fn a_signal_ends_what_is_on_a_node() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[(
        "Makefile",
        "test:\n\ttouch $$HOME/up; trap '' TERM; sleep 3008; sleep 3008\n",
    )]);
    for (signal, call) in [
        (
            "-INT",
            (
                "offload_to",
                json!({"node_id": "n1", "command": "touch $HOME/up; trap '' TERM; sleep 3008; sleep 3008"}),
            ),
        ),
        (
            "-TERM",
            (
                "cluster_bash",
                json!({"command": "make test", "requires_os": "linux"}),
            ),
        ),
        (
            "-HUP",
            (
                "parallel_execute",
                json!({"commands": ["touch $HOME/up; sleep 3008"]}),
            ),
        ),
        ("-TERM", ("cluster_bash", json!({"command": "make test | cat"}))),
    ] {
        let mut client = Client::hello(&env, &project.dir, &[]);
        let (tool, arguments) = call;
        client.start_call(tool, arguments);
        let up = env.node("n1").home().join("up");
        exists(&up);
        std::fs::remove_file(up).unwrap();
        let pid = client.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        assert!(client.child.wait().unwrap().success(), "{signal}");
        // One that does not heed TERM gets KILL.
        gone(&env, &["n1"], "sleep 3008");
    }
}

#[test]
fn the_end_is_noticed_behind_what_is_not_read_any_more() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut server = env
        .command(crate::harness::CX, &dir)
        .arg("mcp")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = server.stdin.take().unwrap();
    let unread = server.stdout.take().unwrap();
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
        "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let started = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    stdin
        .write_all(format!("{hello}\n{started}\n").as_bytes())
        .unwrap();
    // Until nothing more is taken, for long.
    let (mut id, mut refused) = (0, 0);
    while refused < 20 {
        let ask = json!({"jsonrpc": "2.0", "id": id + 1, "method": "tools/list"});
        match stdin.write_all(format!("{ask}\n").as_bytes()) {
            Ok(()) => (id, refused) = (id + 1, 0),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!(id > 1024, "{id}");
    drop(stdin);
    wait_for(LIMIT, || {
        let ended = server.try_wait().unwrap();
        ended.map(drop).ok_or_else(|| "the server lives".to_owned())
    });
    drop(unread);
}

#[test]
fn two_servers_share_a_workspace() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    env.append_config("[node.n1]\nslots = 8\n\n[node.n2]\nslots = 8\n");
    let project = env.project(&[("shared", "0\n")]);
    let mut one = Client::hello(&env, &project.dir, &[]);
    let mut two = Client::hello(&env, &project.dir, &[]);
    for round in 0..4 {
        let commands = |who: &str| -> Vec<String> {
            (0..3)
                .map(|n| format!("cat shared; echo {who}{round}{n} > {who}{n}"))
                .collect()
        };
        let first = one.start_call("parallel_execute", json!({"commands": commands("a")}));
        let second = two.start_call("parallel_execute", json!({"commands": commands("b")}));
        let answers = [one.answer(first), two.answer(second)];
        for answer in &answers {
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            assert!(text.starts_with("3 commands: 3 ok; "), "{answer}");
            assert_eq!(text.matches(&format!("\n{round}\n[")).count(), 3, "{text}");
        }
        for who in ["a", "b"] {
            for n in 0..3 {
                let got = project.read(&format!("{who}{n}"));
                assert_eq!(got, format!("{who}{round}{n}\n"), "{answers:?}");
            }
        }
        project.write("shared", &format!("{}\n", round + 1));
    }
    one.end();
    two.end();
}

#[test]
fn what_takes_longest_starts_first() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 1\n\n[policy]\nwhen_full = \"wait\"\n");
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let commands = [
        "echo short >> $HOME/order; sleep 0.01",
        "echo middle >> $HOME/order; sleep 0.5",
        "echo long >> $HOME/order; sleep 1.2",
    ];
    for command in commands {
        client.call("parallel_execute", json!({"commands": [command]}));
    }
    let order = env.node("n1").home().join("order");
    std::fs::remove_file(&order).unwrap();
    // What was never seen may be the longest.
    let mut all = commands.to_vec();
    all.push("echo unknown >> $HOME/order");
    let said = client.call("parallel_execute", json!({"commands": all}));
    assert!(said.text().starts_with("4 commands: 4 ok; "), "{said:?}");
    let started = std::fs::read_to_string(order).unwrap();
    assert_eq!(started, "unknown\nlong\nmiddle\nshort\n");
    // The answer is in the order of the question.
    let blocks: Vec<_> = said.text().lines().filter(|l| l.starts_with("== ")).collect();
    assert!(
        blocks[0].contains("short") && blocks[3].contains("unknown"),
        "{blocks:?}"
    );
    client.end();
}

#[test]
fn a_batch_takes_as_long_as_all_of_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 1\n\n[policy]\nwhen_full = \"wait\"\n");
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let said = client.call(
        "parallel_execute",
        json!({"commands": ["sleep 1; true", "sleep 1"]}),
    );
    let seconds = said.text().lines().next().unwrap().split("; ").nth(1);
    let seconds: f64 = seconds
        .and_then(|s| s.strip_suffix('s'))
        .unwrap()
        .parse()
        .unwrap();
    let sleeps = said.field("runs").as_array().unwrap().iter();
    let on_n1 = sleeps.filter(|r| r["node_id"] == "n1").count();
    // The one slot holds one of them at a time.
    assert!(on_n1 == 2 && seconds >= 2.0, "{said:?}");
    client.end();
}

#[test]
fn a_node_that_falls_silent_is_told_apart_from_a_command_that_fails() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[policy]\nlink_grace = 1\n");
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let id = client.start_call(
        "offload_to",
        json!({"node_id": "n1", "command": "echo begun; touch $HOME/up; sleep 3009"}),
    );
    exists(&env.node("n1").home().join("up"));
    env.node_mut("n1").stop();
    let said = crate::mcp::Said(client.answer(id)["result"].clone());
    assert!(said.is_error() && said.text().contains("[n1 lost "), "{said:?}");
    // One sentence on what is known, and none that claims more.
    assert_eq!(said.text().matches("not known").count(), 1, "{said:?}");
    assert!(!said.text().contains("goes on there"), "{said:?}");
    assert!(
        said.text().contains("\nOptions: cluster_status asks the machine"),
        "{said:?}"
    );
    assert_eq!(
        (said.field("state"), said.field("exit_code")),
        (&json!("lost"), &Value::Null)
    );
    let said = client.call("offload_to", json!({"node_id": "n1", "command": "true"}));
    assert!(
        said.is_error() && said.text().starts_with("[not run] "),
        "{said:?}"
    );
    client.end();
}

/// A node whose part of a text has ended is not named for how the rest of it ended here.
#[test]
fn how_a_text_ends_here_is_not_told_of_the_node() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[("Makefile", "test:\n\ttrue\nbad:\n\texit 7\n")]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    for (command, end) in [
        ("make test", "[n1 exit 0 "),
        ("make test; exit 76", "[n1+local exit 76 "),
        ("make test; sleep 3019", "[n1+local timed out "),
    ] {
        let said = client.call("cluster_bash", json!({"command": command, "timeout": 15}));
        assert!(said.text().contains(end), "{command}: {said:?}");
    }
    client.end();
}

/// What is said of a node that fell silent is not old for long.
#[test]
fn a_node_that_falls_silent_is_found_out_soon() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    client.call("cluster_status", json!({}));
    let frozen = env.node("n1").freeze();
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let node = &status.0["structuredContent"]["nodes"][1];
        let age = node["age_ms"].as_u64().unwrap();
        assert!(node["reachable"] == false || age < 9000, "{node}");
        match node["reachable"] == false {
            true => Ok(()),
            false => Err(format!("{node}")),
        }
    });
    env.node("n1").thaw(&frozen);
    client.end();
}
