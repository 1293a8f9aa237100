//! `cx mcp` over real pipes: both eras of the protocol, the four tools, what ends a call, and peers that mean no good.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{CX, TestEnv, wait_for};

/// What is waited for at most; never slept for.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A client of one server.
pub struct Client {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    next: u64,
    /// What came that was no answer.
    pub others: Vec<Value>,
}

impl Client {
    fn start(mut command: Command) -> Client {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // stdout carries the protocol only.
                let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                if tx.send(value).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Client {
            child,
            stdin,
            lines,
            next: 0,
            others: Vec::new(),
        }
    }

    pub fn of(env: &TestEnv, dir: &Path, args: &[&str]) -> Client {
        let mut command = env.command(CX, dir);
        let path = command
            .get_envs()
            .find(|(n, _)| *n == "PATH")
            .and_then(|(_, v)| v)
            .map(|v| v.to_string_lossy().into_owned())
            .unwrap_or_default();
        let bin = Path::new(CX).parent().unwrap();
        command
            .arg("mcp")
            .args(args)
            .env("PATH", format!("{}:{path}", bin.display()));
        Client::start(command)
    }

    /// One that has said hello as clients up to 2025-11-25 do.
    pub fn hello(env: &TestEnv, dir: &Path, args: &[&str]) -> Client {
        let mut client = Client::of(env, dir, args);
        client.initialize("2025-11-25");
        client
    }

    pub fn initialize(&mut self, version: &str) -> Value {
        let answer = self.ask(
            "initialize",
            json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}),
        );
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        answer["result"].clone()
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn send(&mut self, message: &Value) {
        self.raw(format!("{message}\n").as_bytes());
    }

    pub fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}));
        self.next
    }

    pub fn receive(&mut self) -> Value {
        match self.lines.recv_timeout(LIMIT) {
            Ok(value) => value,
            Err(e) => panic!("{e}; before: {:?}", self.others),
        }
    }

    pub fn answer(&mut self, id: u64) -> Value {
        loop {
            let value = self.receive();
            if value["id"] == id {
                return value;
            }
            self.others.push(value);
        }
    }

    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        self.answer(id)
    }

    pub fn start_call(&mut self, tool: &str, arguments: Value) -> u64 {
        self.begin("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    pub fn call(&mut self, tool: &str, arguments: Value) -> Said {
        let id = self.start_call(tool, arguments);
        Said(self.answer(id)["result"].clone())
    }

    /// Ends the input and waits for the server's end.
    pub fn end(mut self) -> Duration {
        let begun = Instant::now();
        self.stdin = None;
        assert!(self.child.wait().unwrap().success());
        begun.elapsed()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of a call.
#[derive(Debug)]
pub struct Said(pub Value);

impl Said {
    pub fn text(&self) -> &str {
        self.0["content"][0]["text"].as_str().unwrap_or_default()
    }

    pub fn is_error(&self) -> bool {
        self.0["isError"] == true
    }

    pub fn field(&self, name: &str) -> &Value {
        &self.0["_meta"]["cx/result"][name]
    }

    /// The last line without the seconds: `tower exit 3`.
    fn end(&self) -> String {
        let line = self
            .text()
            .lines()
            .rfind(|l| l.starts_with('['))
            .unwrap_or_default();
        let inside = line[1..].split(']').next().unwrap_or_default();
        inside.rsplit_once(' ').map_or(inside, |(end, _)| end).to_owned()
    }
}

#[test]
fn both_eras_of_the_protocol() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = Client::of(&env, &dir, &[]);
        let hello = client.initialize(version);
        assert_eq!(hello["protocolVersion"], version);
        assert_eq!(hello["serverInfo"]["name"], "cx");
        assert!(hello["instructions"].as_str().unwrap().len() < 600);
        assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
        let tools = client.ask("tools/list", json!({}))["result"].clone();
        assert_eq!(tools["tools"].as_array().unwrap().len(), 4);
        assert!(tools.to_string().len() < 3000);
        assert_eq!(
            client
                .call("cluster_bash", json!({"command": "echo hi"}))
                .text()
                .lines()
                .next(),
            Some("hi")
        );
        assert_eq!(
            client.ask("tools/call", json!({"name": "no"}))["error"]["code"],
            -32602
        );
        assert_eq!(client.ask("no/such", json!({}))["error"]["code"], -32601);
        for params in [
            json!({}),
            json!({"name": 1}),
            json!({"name": "cluster_bash", "arguments": ["ls"]}),
        ] {
            let answer = client.ask("tools/call", params.clone());
            assert_eq!(answer["error"]["code"], -32602, "{params}: {answer}");
        }
        client.end();
    }
    // Without a handshake: each request says what it speaks.
    let mut client = Client::of(&env, &dir, &[]);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let found = client.ask("server/discover", json!({"_meta": meta}))["result"].clone();
    let versions = found["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2024-11-05")));
    let said = client.ask(
        "tools/call",
        json!({"name": "cluster_bash", "arguments": {"command": "exit 4"}, "_meta": meta}),
    );
    assert_eq!(said["result"]["_meta"]["cx/result"]["exit_code"], 4);
    let list = client.ask("tools/list", json!({"_meta": meta}));
    assert_eq!(list["result"]["tools"][0]["_meta"]["anthropic/alwaysLoad"], true);
    client.end();
    // A client that asks first what there is, and then says hello the old way.
    let mut client = Client::of(&env, &dir, &[]);
    client.ask("server/discover", json!({"_meta": meta}));
    assert_eq!(client.initialize("2025-11-25")["protocolVersion"], "2025-11-25");
    client.end();
}

#[test]
fn what_is_not_as_declared_is_an_error_with_a_reason() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &[]);
    for (tool, arguments, why) in [
        ("cluster_bash", json!({}), "`command` is required"),
        (
            "cluster_bash",
            json!({"command": "ls", "x": 1}),
            "no argument `x`",
        ),
        (
            "cluster_bash",
            json!({"command": "ls", "timeout": null}),
            "not null",
        ),
        (
            "cluster_bash",
            json!({"command": "ls", "cwd": "/"}),
            "lies outside of",
        ),
        (
            "cluster_bash",
            json!({"command": "ls", "cwd": "../.."}),
            "lies outside of",
        ),
        (
            "cluster_bash",
            json!({"command": "ls", "cwd": "nowhere"}),
            "nowhere",
        ),
        (
            "offload_to",
            json!({"node_id": "nowhere", "command": "ls"}),
            "`nowhere` is not a configured node (there are none; `cx nodes add nowhere` adds it)",
        ),
        (
            "offload_to",
            json!({"node_id": "-oProxyCommand=id", "command": "ls"}),
            "`-oProxyCommand=id` is not a configured node (there are none)",
        ),
        (
            "cluster_bash",
            json!({"command": "ls", "requires_os": "darwin"}),
            "no nodes are configured",
        ),
        ("parallel_execute", json!({"commands": []}), "1 to 32"),
        (
            "cluster_bash",
            json!({"command": "ls", "timeout": 86401}),
            "1 to 86400, not 86401",
        ),
        (
            "offload_to",
            json!({"node_id": "x", "command": "ls", "timeout": 0}),
            "1 to 86400, not 0",
        ),
    ] {
        let said = client.call(tool, arguments.clone());
        assert!(
            said.is_error() && said.text().contains(why),
            "{tool} {arguments}: {said:?}"
        );
    }
    let said = client.call("cluster_bash", json!({"command": "echo ok", "timeout": 86400}));
    assert!(!said.is_error(), "{said:?}");
    client.end();
}

#[test]
fn a_local_result_is_what_a_terminal_would_show() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    std::fs::create_dir(dir.join("sub")).unwrap();
    let mut command = env.command(CX, &dir);
    command
        .arg("mcp")
        .env("ANTHROPIC_API_KEY", "sk-ant-secret")
        .env("KEPT", "yes");
    let mut client = Client::start(command);
    client.initialize("2025-11-25");
    let mut run = |command: &str| client.call("cluster_bash", json!({"command": command}));
    let said = run("printf '\\033[31mred\\033[0m\\n10%%\\r100%%\\n'; echo err >&2; exit 3");
    assert_eq!(
        said.text().lines().take(3).collect::<Vec<_>>(),
        ["red", "100%", "err"]
    );
    assert_eq!((said.end(), said.is_error()), ("local exit 3".into(), false));
    let log = said.field("log_path").as_str().unwrap().to_owned();
    assert_eq!(
        std::fs::metadata(&log).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(std::fs::read(&log).unwrap().starts_with(b"\x1b[31mred"));
    let said = run("echo key=$ANTHROPIC_API_KEY kept=$KEPT");
    assert_eq!(said.text().lines().next(), Some("key= kept=yes"));
    let said = run("echo ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(said.text().lines().next(), Some("[redacted by cx]"));
    let said = run("i=0; while [ $i -lt 9000 ]; do echo line $i; i=$((i+1)); done");
    assert!(
        said.text().len() <= 30_000 && said.text().starts_with("line 0\n"),
        "{}",
        said.text().len()
    );
    assert!(said.text().contains("line 8999\n[local exit 0") && said.text().contains("full log: "));
    assert_eq!(said.field("truncated"), true);
    let said = run("kill -9 $$");
    assert_eq!(
        (said.end(), said.field("state")),
        ("local signal 9".into(), &json!("signaled"))
    );
    let said = client.call("cluster_bash", json!({"command": "pwd", "cwd": "sub"}));
    assert!(said.text().lines().next().unwrap().ends_with("/work/sub"));
    client.end();
}

#[test]
fn the_tools_run_where_they_say() {
    let env = TestEnv::with_nodes(&["builder", "tower"]);
    let project = env.project(&[("Makefile", "test:\n\t@echo on $$TEST_NODE; echo made > out.txt\n")]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let said = client.call("offload_to", json!({"node_id": "builder", "command": "exit 7"}));
    assert_eq!((said.end(), said.is_error()), ("builder exit 7".into(), false));
    let said = client.call(
        "cluster_bash",
        json!({"command": "cd . && make test | tail -1; echo $?"}),
    );
    let node = said.field("node_id").as_str().unwrap().to_owned();
    assert!(
        said.text().starts_with(&format!("on {node}\n0\n[{node} exit 0")),
        "{said:?}"
    );
    assert_eq!(said.field("auto_routed"), true);
    assert_eq!(project.read("out.txt"), "made\n");
    let said = client.call(
        "cluster_bash",
        json!({"command": "make test", "auto_route": false}),
    );
    assert_eq!(
        (said.text().lines().next(), said.end()),
        (Some("on"), "local exit 0".into())
    );
    let said = client.call(
        "cluster_bash",
        json!({"command": "x=1; echo $x >&2; false", "requires_os": "linux"}),
    );
    assert!(
        said.text().starts_with("1\n[") && said.field("node_id") != "local",
        "{said:?}"
    );
    assert_eq!(said.field("exit_code"), 1);
    let said = client.call(
        "parallel_execute",
        json!({"commands": ["echo one > one; echo $TEST_NODE", "echo two > two; exit 5", "cat /no/such/file"]}),
    );
    let lines: Vec<&str> = said.text().lines().collect();
    assert!(lines[0].starts_with("3 commands: 1 ok, 2 failed; "), "{said:?}");
    assert!(said.text().contains("== 1: echo one") && !said.is_error());
    assert_eq!(
        (project.read("one"), project.read("two")),
        ("one\n".into(), "two\n".into())
    );
    let runs = said.field("runs").as_array().unwrap();
    assert_eq!(
        runs.iter().map(|r| r["exit_code"].as_i64()).collect::<Vec<_>>(),
        [Some(0), Some(5), Some(1)]
    );
    assert!(runs[..2].iter().all(|r| r["node_id"] != "local"), "{said:?}");
    // What a name holds that a terminal would act on is nowhere in the answer.
    let said = client.call(
        "offload_to",
        json!({"node_id": "ghp_x\u{1b}[31m", "command": "true"}),
    );
    assert_eq!(said.field("state"), "not_run");
    assert!(
        said.field("reason").as_str().unwrap().contains("ghp_x"),
        "{said:?}"
    );
    assert!(!said.0.to_string().contains("\\u001b"), "{said:?}");
    let status = client.call("cluster_status", json!({}));
    let nodes = status.0["structuredContent"]["nodes"].as_array().unwrap();
    assert_eq!(
        nodes
            .iter()
            .map(|n| n["name"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["local", "builder", "tower"]
    );
    assert!(status.text().contains("tower") && nodes[1]["cpu_percent"].is_number());
    client.end();
}

#[test]
fn a_call_that_is_to_end_ends_everywhere() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let said = client.call(
        "offload_to",
        json!({"node_id": "n1", "command": "echo begun; sleep 3003", "timeout": 1}),
    );
    assert!(
        said.is_error() && said.text().starts_with("begun\n[n1 timed out"),
        "{said:?}"
    );
    let said = client.call(
        "cluster_bash",
        json!({"command": "echo begun; sleep 3003", "timeout": 1}),
    );
    assert!(
        said.is_error() && said.text().starts_with("begun\n[local timed out"),
        "{said:?}"
    );
    // Of several, each says what became of it; it is an error of the call only where nothing else came of any.
    for (commands, summary, is_error) in [
        (["true", "sleep 3003"], "2 commands: 1 ok, 1 timed out; ", false),
        (
            ["exit 3", "sleep 3003"],
            "2 commands: 0 ok, 1 failed, 1 timed out; ",
            false,
        ),
        (
            ["sleep 3003", "sleep 3003; true"],
            "2 commands: 0 ok, 2 timed out; ",
            true,
        ),
    ] {
        let said = client.call("parallel_execute", json!({"commands": commands, "timeout": 3}));
        assert!(said.text().starts_with(summary), "{said:?}");
        assert_eq!(said.is_error(), is_error, "{said:?}");
        assert!(
            said.text().contains(" timed out ") && said.text().contains("ended after its timeout of 3 s")
        );
    }
    // Cancelled: no answer, and nothing is left.
    let there = client.start_call(
        "offload_to",
        json!({"node_id": "n1", "command": "touch there; sleep 3003"}),
    );
    let here = client.start_call("cluster_bash", json!({"command": "touch here; sleep 3003"}));
    wait_for(LIMIT, || {
        let begun = env
            .node("n1")
            .processes()
            .iter()
            .any(|p| p.contains("sleep 3003"))
            && project.has("here");
        if begun { Ok(()) } else { Err("both run".to_owned()) }
    });
    for id in [there, here] {
        client.send(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}),
        );
    }
    let gone = || {
        let left: Vec<String> = env
            .node("n1")
            .processes()
            .into_iter()
            .chain(env.processes())
            .collect();
        let left: Vec<_> = left.iter().filter(|p| p.contains("sleep 3003")).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    };
    wait_for(Duration::from_secs(10), gone);
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    assert!(
        client.others.iter().all(|o| o["id"] != there && o["id"] != here),
        "{:?}",
        client.others
    );
    // The client is gone.
    client.start_call("offload_to", json!({"node_id": "n1", "command": "sleep 3003"}));
    client.start_call("cluster_bash", json!({"command": "touch again; sleep 3003"}));
    wait_for(LIMIT, || {
        let begun = env
            .node("n1")
            .processes()
            .iter()
            .any(|p| p.contains("sleep 3003"))
            && project.has("again");
        if begun { Ok(()) } else { Err("both run".to_owned()) }
    });
    client.end();
    wait_for(Duration::from_secs(10), gone);
}

#[test]
fn a_signal_is_the_end_too() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    for signal in ["-INT", "-TERM", "-HUP"] {
        let mut client = Client::hello(&env, &dir, &[]);
        client.start_call("cluster_bash", json!({"command": "touch up; sleep 3004"}));
        wait_for(LIMIT, || {
            if dir.join("up").exists() {
                Ok(())
            } else {
                Err("it runs".to_owned())
            }
        });
        std::fs::remove_file(dir.join("up")).unwrap();
        let pid = client.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        assert!(client.child.wait().unwrap().success(), "{signal}");
        let left = || {
            let left: Vec<_> = env
                .processes()
                .into_iter()
                .filter(|p| p.contains("sleep 3004"))
                .collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        };
        wait_for(Duration::from_secs(10), left);
        assert!(matches!(
            client.lines.recv_timeout(LIMIT),
            Err(RecvTimeoutError::Disconnected)
        ));
    }
}

#[test]
fn progress_comes_with_a_token_only() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &[]);
    let arguments = json!({"command": "echo first; sleep 1.2; echo second; sleep 1"});
    client.call("cluster_bash", arguments.clone());
    assert!(client.others.is_empty(), "{:?}", client.others);
    let id = client.begin(
        "tools/call",
        json!({"name": "cluster_bash", "arguments": arguments, "_meta": {"progressToken": "t"}}),
    );
    client.answer(id);
    let messages: Vec<&str> = client
        .others
        .iter()
        .filter(|o| o["params"]["progressToken"] == "t")
        .filter_map(|o| o["params"]["message"].as_str())
        .collect();
    assert!(
        messages
            .first()
            .is_some_and(|m| m.starts_with("local ") && m.ends_with("s: first")),
        "{messages:?}"
    );
    assert!(messages.len() <= 4, "{messages:?}");
}

#[test]
fn a_client_that_works_elsewhere_has_its_commands_there() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let other = env.home().join("other");
    std::fs::create_dir(&other).unwrap();
    for (root, inside) in [(&other, &other), (&env.home(), &dir)] {
        let mut client = Client::of(&env, &dir, &[]);
        client.ask(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "test", "version": "1"}}),
        );
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        let id = client.start_call("cluster_bash", json!({"command": "pwd -P"}));
        let asked = client.receive();
        assert_eq!(asked["method"], "roots/list");
        let uri = format!("file://{}", root.display());
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": [{"uri": uri}]}}));
        let said = Said(client.answer(id)["result"].clone());
        let inside = inside.canonicalize().unwrap();
        assert_eq!(said.text().lines().next(), inside.to_str(), "{said:?}");
        client.end();
    }
}

/// The rules of the session's own project, and of every root, hold wherever a call has its command run.
#[test]
fn the_rules_of_every_root_hold_in_each() {
    let env = TestEnv::new();
    let [start, first, second] = ["start", "first", "second"].map(|n| env.home().join(n));
    for (dir, kind, rule) in [
        (&start, "deny", "Bash(id:*)"),
        (&first, "ask", "Bash(who:*)"),
        (&second, "deny", "Bash(users:*)"),
    ] {
        std::fs::create_dir_all(dir.join(".claude")).unwrap();
        let rules = json!({"permissions": {kind: [rule], "allow": ["Bash"]}});
        std::fs::write(dir.join(".claude/settings.json"), rules.to_string()).unwrap();
    }
    for roots in [vec![&start, &first, &second], vec![&first, &second]] {
        let mut client = Client::of(&env, &start, &[]);
        client.ask(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "test", "version": "1"}}),
        );
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        let id = client.start_call("cluster_bash", json!({"command": "id"}));
        let asked = client.receive();
        let uris: Vec<_> = roots
            .iter()
            .map(|r| json!({"uri": format!("file://{}", r.display())}))
            .collect();
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": uris}}));
        let said = Said(client.answer(id)["result"].clone());
        assert!(said.is_error(), "{said:?}");
        for cwd in &roots {
            for (command, why) in [
                ("id", "Refused: your rule Bash(id:*) denies it"),
                ("who", "Not run: your rule Bash(who:*) asks about it"),
                ("users", "Refused: your rule Bash(users:*) denies it"),
            ] {
                for (tool, arguments) in [
                    ("cluster_bash", json!({"command": command, "cwd": cwd})),
                    (
                        "offload_to",
                        json!({"node_id": "n1", "command": command, "cwd": cwd}),
                    ),
                    (
                        "parallel_execute",
                        json!({"commands": ["true", command], "cwd": cwd}),
                    ),
                ] {
                    let said = client.call(tool, arguments);
                    assert!(
                        said.is_error() && said.text().starts_with(why),
                        "{tool} {command} in {cwd:?}: {said:?}"
                    );
                }
            }
            let said = client.call("cluster_bash", json!({"command": "pwd -P", "cwd": cwd}));
            assert_eq!(
                said.text().lines().next(),
                cwd.canonicalize().unwrap().to_str(),
                "{said:?}"
            );
        }
        client.end();
    }
}

#[test]
fn where_no_root_is_here_nothing_runs_elsewhere() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let other = env.home().join("other");
    let mut client = Client::of(&env, &dir, &[]);
    client.ask(
        "initialize",
        json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "test", "version": "1"}}),
    );
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let mut answers = Vec::new();
    for arguments in [
        json!({"command": "touch ran"}),
        json!({"command": "touch ran", "cwd": dir}),
        json!({"command": "pwd -P"}),
        json!({"command": "pwd -P"}),
    ] {
        if answers.len() == 2 {
            std::fs::create_dir(&other).unwrap();
        }
        let id = client.start_call("cluster_bash", arguments);
        // Where they were known they are not asked for again.
        if answers.len() < 3 {
            let asked = client.receive();
            assert_eq!(asked["method"], "roots/list", "{asked}");
            let roots =
                json!([{"uri": "file:///nosuch"}, {"uri": format!("file://localhost{}", other.display())}]);
            client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": roots}}));
        }
        answers.push(Said(client.answer(id)["result"].clone()));
    }
    for said in &answers[..2] {
        assert!(
            said.is_error() && said.text().contains("`file:///nosuch`, `file://localhost/"),
            "{said:?}"
        );
    }
    let inside = other.canonicalize().unwrap();
    for said in &answers[2..] {
        assert_eq!(said.text().lines().next(), inside.to_str(), "{said:?}");
    }
    assert!(!dir.join("ran").exists());
    client.end();
}

#[test]
fn what_was_never_started_names_the_node_it_was_for() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.end_clients();
    // Every connection from now on hangs.
    env.program("ssh", "#!/bin/sh\nexec sleep 60\n");
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let id = client.begin(
        "tools/call",
        json!({
            "name": "offload_to",
            "arguments": {"node_id": "n1", "command": "touch ran", "timeout": 2},
            "_meta": {"progressToken": "t"},
        }),
    );
    let said = Said(client.answer(id)["result"].clone());
    assert!(
        said.is_error() && said.text().starts_with("[n1 timed out "),
        "{said:?}"
    );
    assert!(
        said.text()
            .contains("its timeout of 2 s was over before it ran; not started: connecting to n1"),
        "{said:?}"
    );
    assert!(said.text().contains("\nOptions: a longer `timeout`"), "{said:?}");
    assert_eq!(said.field("node_id"), "n1");
    assert_eq!(said.field("state"), "timed_out");
    assert_eq!(said.field("reason"), "not started: connecting to n1");
    let messages: Vec<&str> = client
        .others
        .iter()
        .filter_map(|o| o["params"]["message"].as_str())
        .collect();
    assert!(
        !messages.is_empty() && messages.iter().all(|m| m.starts_with("n1 ")),
        "{messages:?}"
    );
    // The table knew it as healthy a moment ago.
    let status = client.call("cluster_status", json!({}));
    let node = &status.0["structuredContent"]["nodes"][1];
    assert_eq!(
        (&node["name"], &node["state"], &node["reachable"]),
        (&json!("n1"), &json!("unreachable"), &json!(false)),
        "{node}"
    );
    client.end();
}

#[test]
fn a_login_that_is_refused_is_told_as_such() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.end_clients();
    env.node("n1").lock_out();
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    for (tool, arguments) in [
        ("offload_to", json!({"node_id": "n1", "command": "touch ran"})),
        (
            "cluster_bash",
            json!({"command": "touch ran", "requires_os": "linux"}),
        ),
    ] {
        let said = client.call(tool, arguments);
        assert!(
            said.is_error() && said.text().starts_with("[not run] "),
            "{tool}: {said:?}"
        );
        assert!(said.text().contains("n1: login refused: "), "{tool}: {said:?}");
        assert!(
            said.text().contains("\nOptions: cluster_status shows"),
            "{tool}: {said:?}"
        );
        assert_eq!(said.field("state"), "not_run");
        assert!(
            said.field("reason").as_str().unwrap().contains("login refused"),
            "{said:?}"
        );
    }
    let status = client.call("cluster_status", json!({}));
    let node = &status.0["structuredContent"]["nodes"][1];
    assert_eq!(
        (&node["name"], &node["reachable"]),
        (&json!("n1"), &json!(false)),
        "{node}"
    );
    assert!(
        node["reason"].as_str().unwrap().contains("login refused"),
        "{node}"
    );
    client.end();
}

#[test]
fn a_call_may_go_on_without_its_caller() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &["--detach-after", "1"]);
    let said = client.call(
        "cluster_bash",
        json!({"command": "echo begun; while [ ! -e go ]; do sleep 0.1; done; exit 6"}),
    );
    assert!(
        said.text().starts_with("begun\n[local running ") && !said.is_error(),
        "{said:?}"
    );
    let id = said.field("run_id").as_str().unwrap().to_owned();
    let running = client.call("cluster_status", json!({}));
    assert_eq!(running.0["structuredContent"]["runs"][0]["state"], "running");
    // Nor is there a blank where nothing was said yet.
    let silent = client.call(
        "cluster_bash",
        json!({"command": "while [ ! -e go ]; do sleep 0.1; done"}),
    );
    assert!(silent.text().starts_with("[local running "), "{silent:?}");
    let running = client.call("cluster_status", json!({}));
    let run = running
        .text()
        .lines()
        .find(|l| l.starts_with("  [local running "));
    assert!(
        run.is_some() && running.text().lines().all(|l| l.trim_end() == l),
        "{running:?}"
    );
    std::fs::write(dir.join("go"), "").unwrap();
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let run = status.0["structuredContent"]["runs"][0].clone();
        if run["run_id"] == json!(id) && run["exit_code"] == 6 && status.text().contains("[local exit 6 ") {
            Ok(())
        } else {
            Err(format!("{run}"))
        }
    });
    client.end();
}

#[test]
fn programs_get_fields() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &["--structured"]);
    let tools = client.ask("tools/list", json!({}));
    for tool in tools["result"]["tools"].as_array().unwrap() {
        assert_eq!(tool["outputSchema"]["type"], "object");
        assert!(!tool.to_string().contains("null"), "{tool}");
    }
    let more = client.ask("tools/list", json!({"cursor": "x"}));
    assert_eq!(more["error"]["code"], -32602, "{more}");
    let said = client.call("cluster_bash", json!({"command": "sleep 60", "timeout": 1}));
    assert!(said.0["structuredContent"].get("exit_code").is_none(), "{said:?}");
    let said = client.call("cluster_bash", json!({"command": "echo x; exit 2"}));
    let fields = &said.0["structuredContent"];
    assert_eq!(
        (&fields["output"], &fields["exit_code"]),
        (&json!("x\n"), &json!(2))
    );
    let said = client.call("parallel_execute", json!({"commands": ["echo x"]}));
    assert_eq!(said.0["structuredContent"]["runs"][0]["output"], "x\n");
    // The directory in which the server was started may go.
    std::fs::remove_dir_all(&dir).unwrap();
    let said = client.call("cluster_bash", json!({"command": "echo x"}));
    assert!(
        said.is_error() && said.text().contains("work` is gone"),
        "{said:?}"
    );
}

/// Whatever is asked for, in either form.
#[test]
fn no_result_is_longer_than_a_client_shows() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &["--structured"]);
    // Half of it must be escaped in JSON.
    let much = r#"yes '""""""""""""""""""""' | head -n 100000"#;
    let long = "x".repeat(100_000);
    for (tool, arguments) in [
        ("cluster_bash", json!({"command": much})),
        ("parallel_execute", json!({"commands": vec![much; 32]})),
        (
            "parallel_execute",
            json!({"commands": [much, "echo short", "yes | head -c 9000"]}),
        ),
        ("offload_to", json!({"node_id": long, "command": "true"})),
        (
            "offload_to",
            json!({"node_id": "x".repeat(255), "command": "true"}),
        ),
        ("cluster_bash", json!({"command": "true", "cwd": long})),
        ("cluster_bash", json!({"command": "true", "requires_os": long})),
        ("cluster_bash", json!({"command": "true", long.as_str(): 1})),
        ("cluster_status", json!({})),
    ] {
        let said = client.call(tool, arguments);
        let content = &said.0["structuredContent"];
        assert!(said.text().len() <= 30_000, "{tool}: {}", said.text().len());
        assert!(
            content.to_string().len() <= 30_000,
            "{tool}: {}",
            content.to_string().len()
        );
        assert!(!said.text().is_empty() && (said.is_error() || content.is_object()));
    }
    // What is left is for the long ones.
    let commands = json!([much, "yes short | head -n 500; echo end"]);
    let said = client.call("parallel_execute", json!({"commands": commands}));
    let runs = said.0["structuredContent"]["runs"].as_array().unwrap();
    let output = |n: usize| runs[n]["output"].as_str().unwrap();
    assert!(output(1).starts_with("short\n") && output(1).ends_with("short\nend\n"));
    assert_eq!(
        (&runs[0]["truncated"], &runs[1]["truncated"]),
        (&json!(true), &json!(false))
    );
    assert!(said.0["structuredContent"].to_string().len() > 29_000);
    client.end();
}

#[test]
fn the_users_rules_hold_here_too() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    std::fs::create_dir_all(env.home().join(".claude")).unwrap();
    let rules = json!({"permissions": {"deny": ["Bash(curl:*)"], "ask": ["Bash(touch:*)"]}});
    std::fs::write(env.home().join(".claude/settings.json"), rules.to_string()).unwrap();
    let mut client = Client::hello(&env, &dir, &[]);
    for command in [
        "curl http://x",
        "cd . && FOO=1 curl http://x",
        "touch made",
        "echo x; touch made",
    ] {
        let said = client.call("cluster_bash", json!({"command": command}));
        assert!(
            said.is_error() && said.text().contains("rule"),
            "{command}: {said:?}"
        );
        let said = client.call("parallel_execute", json!({"commands": ["echo fine", command]}));
        assert!(said.is_error(), "{command}: {said:?}");
    }
    assert!(!dir.join("made").exists());
    // What only speaks of it is not it; what might run it is.
    for (command, runs) in [
        ("echo curl touch", true),
        ("echo curl | sh", false),
        ("x=curl; $x -V", false),
    ] {
        let said = client.call("cluster_bash", json!({"command": command}));
        assert_eq!(!said.is_error(), runs, "{command}: {said:?}");
    }
    // The hook, which had the client ask, says so by the call's id.
    let event = json!({
        "session_id": "s", "cwd": dir, "permission_mode": "default", "hook_event_name": "PreToolUse",
        "tool_name": "mcp__cx__cluster_bash", "tool_input": {"command": "touch made"}, "tool_use_id": "toolu_1",
    });
    let answer = env
        .run(env.command(CX, &dir).arg("hook"), event.to_string().as_bytes())
        .ok()
        .stdout();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["hookSpecificOutput"]["permissionDecision"], "ask");
    for (id, command, runs) in [
        ("toolu_2", "touch made", false),
        ("toolu_1", "touch made", true),
        ("toolu_1", "touch made", false),
    ] {
        let params = json!({"name": "cluster_bash", "arguments": {"command": command}, "_meta": {"claudecode/toolUseId": id}});
        let said = Said(client.ask("tools/call", params)["result"].clone());
        assert_eq!(!said.is_error(), runs, "{id}: {said:?}");
    }
    assert!(dir.join("made").exists());
}

#[test]
fn many_calls_at_once() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    let mut client = Client::hello(&env, &dir, &[]);
    let ids: Vec<u64> = (0..240)
        .map(|n| {
            client.start_call(
                "cluster_bash",
                json!({"command": format!("echo {n}; exit {}", n % 7)}),
            )
        })
        .collect();
    let mut answers = std::collections::BTreeMap::new();
    while answers.len() < ids.len() {
        let value = client.receive();
        answers.insert(value["id"].as_u64().unwrap(), Said(value["result"].clone()));
    }
    for (n, id) in ids.iter().enumerate() {
        let said = &answers[id];
        assert_eq!(said.text().lines().next(), Some(n.to_string().as_str()));
        assert_eq!(said.field("exit_code"), n % 7, "{said:?}");
    }
    client.end();
}

#[test]
fn peers_that_mean_no_good_do_no_harm() {
    let env = TestEnv::new();
    let dir = env.home().join("work");
    // Nonsense, and a line without end, are answered and passed over.
    let mut client = Client::hello(&env, &dir, &[]);
    client.raw(b"nonsense\n[1,2]\n{\"id\":3}\n\xff\xff\n");
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        client.raw(&piece);
    }
    client.raw(b"\n");
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    assert!(
        client.others.iter().all(|o| o["error"]["code"].is_number()),
        "{:?}",
        client.others
    );
    assert!(
        memory_kb(client.child.id()) < 200_000,
        "{}",
        memory_kb(client.child.id())
    );
    client.end();
    // One that asks and never reads is not read from for ever, and its end is the server's.
    let mut command = env.command(CX, &dir);
    let mut child = command
        .arg("mcp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (tx, written) = channel();
    std::thread::spawn(move || {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
                           "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let _ = stdin.write_all(format!("{hello}\n").as_bytes());
        for id in 1..20_000 {
            let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/list\"}}\n");
            if stdin.write_all(line.as_bytes()).is_err() {
                break;
            }
            let _ = tx.send(id);
        }
    });
    let mut last = 0;
    while let Ok(id) = written.recv_timeout(Duration::from_secs(2)) {
        last = id;
    }
    assert!((100..19_000).contains(&last), "{last}");
    assert!(memory_kb(child.id()) < 200_000);
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// Memory of a process, kB; 0 where the system does not show it.
fn memory_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|l| l.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Waits until `cluster_status` tells of a run as wanted.
pub fn until_run(client: &mut Client, id: &str, state: &str) -> (Value, String) {
    wait_for(LIMIT, || {
        let status = client.call("cluster_status", json!({}));
        let runs = status.0["structuredContent"]["runs"].clone();
        let run = runs.as_array().unwrap().iter().find(|r| r["run_id"] == id);
        match run {
            Some(run) if run["state"] == state => Ok((run.clone(), status.text().to_owned())),
            _ => Err(format!("{id} is not {state}: {runs}")),
        }
    })
}

#[test]
fn what_was_left_on_a_node_survives_the_server() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[]);
    let mut client = Client::hello(&env, &project.dir, &["--detach-after", "4"]);
    let said = client.call(
        "offload_to",
        json!({"node_id": "n1", "command": "date +%s > $HOME/at; echo begun; while [ ! -e $HOME/go ]; do sleep 0.1; done; echo made > made; exit 6"}),
    );
    assert!(
        said.text().starts_with("begun\n[n1 running ") && !said.is_error(),
        "{said:?}"
    );
    assert_eq!(said.field("state"), "detached");
    let id = said.field("run_id").as_str().unwrap().to_owned();
    until_run(&mut client, &id, "running");
    client.child.kill().unwrap();
    drop(client);
    let mut client = Client::hello(&env, &project.dir, &[]);
    let (run, _) = until_run(&mut client, &id, "running");
    assert_eq!(run["node_id"], "n1");
    // It counts from its start, not from when it was left.
    let at = std::fs::read_to_string(env.node("n1").home().join("at")).unwrap();
    let at: u64 = at.trim().parse().unwrap();
    let started = run["started_ms"].as_u64().unwrap();
    assert!(started < (at + 2) * 1000, "{started} {at}");
    // People see what the model wrote.
    let listed = env.cx(&["runs"]).ok().stdout();
    assert!(
        listed.contains(" ago  date +%s > $HOME/at; echo begun; while"),
        "{listed}"
    );
    let listed: Value = serde_json::from_str(&env.cx(&["runs", "--json"]).ok().stdout()).unwrap();
    let command = listed["runs"][0]["command"].as_array().unwrap();
    assert!(
        command.len() == 1 && command[0].as_str().unwrap().starts_with("date "),
        "{listed}"
    );
    env.node("n1").write("go", "");
    let (run, text) = until_run(&mut client, &id, "exited");
    assert_eq!(run["exit_code"], 6);
    assert!(text.contains("[n1 exit 6]") && !project.has("made"), "{text}");
    // The next run here brings home what it changed.
    let said = client.call("offload_to", json!({"node_id": "n1", "command": "cat made"}));
    assert!(said.text().starts_with("made\n[n1 exit 0"), "{said:?}");
    assert_eq!(project.read("made"), "made\n");
    // Without having been left, a run ends with its server, however that ends.
    client.start_call("offload_to", json!({"node_id": "n1", "command": "sleep 3004"}));
    wait_for(LIMIT, || {
        let all = env.node("n1").processes();
        let begun = all.iter().any(|p| p.contains("sleep 3004"));
        if begun { Ok(()) } else { Err(format!("{all:?}")) }
    });
    client.child.kill().unwrap();
    drop(client);
    env.node("n1").assert_empty_within(crate::signals::GONE);
}

#[test]
fn five_commands_are_on_five_nodes_at_once() {
    let names = ["n1", "n2", "n3", "n4", "n5"];
    let env = TestEnv::with_nodes(&names);
    let project = env.project(&[]);
    let meet = env.home().join("meet");
    std::fs::create_dir(&meet).unwrap();
    // Not as a path, which would keep the command here.
    let dir = meet.display().to_string().replace('/', "\\057");
    let command = format!(
        "d=$(printf '{dir}'); touch $d/$TEST_NODE; while [ $(ls $d | wc -l) -lt 5 ]; do sleep 0.05; done; echo on $TEST_NODE"
    );
    let mut client = Client::hello(&env, &project.dir, &[]);
    // None of them ends before all five nodes have one.
    let said = client.call(
        "parallel_execute",
        json!({"commands": vec![command; 5], "timeout": 60}),
    );
    assert!(said.text().starts_with("5 commands: 5 ok; "), "{said:?}");
    for name in names {
        assert!(
            said.text().contains(&format!("\non {name}\n[{name} exit 0")),
            "{said:?}"
        );
    }
    client.end();
}

#[test]
fn what_stays_here_has_a_reason() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[("Makefile", "deploy:\n\t@echo deployed\n")]);
    let mut client = Client::hello(&env, &project.dir, &[]);
    for (arguments, reason) in [
        (json!({"command": "make deploy"}), "deploy"),
        (json!({"command": "ls"}), "ls"),
        (json!({"command": "frobnicate"}), "frobnicate"),
        (
            json!({"command": "make test", "auto_route": false}),
            "auto_route is false",
        ),
        (json!({"command": "if then"}), "not understood"),
    ] {
        let said = client.call("cluster_bash", arguments.clone());
        let told = said.field("reason").as_str().unwrap();
        assert!(told.contains(reason), "{arguments}: {said:?}");
        // A model is not told what goes without saying.
        assert!(said.text().ends_with("s]"), "{arguments}: {said:?}");
    }
    client.end();
}
