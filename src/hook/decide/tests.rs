//! The hook's answers, with a home of its own for each.

mod table;

use std::fs;

use serde_json::{Value, json};

use super::*;

/// A home of its own; one that has a usable node and no rules.
struct Env {
    dir: tempfile::TempDir,
    vars: Vec<(String, String)>,
    busy: bool,
}

impl Env {
    fn new() -> Env {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), bin.join("cx")).unwrap();
        let at = |p: &str| dir.path().join(p).display().to_string();
        let vars = [
            ("HOME", at("home")),
            ("CLAUDE_PROJECT_DIR", at("project")),
            ("PATH", at("bin")),
        ];
        let mut vars: Vec<_> = vars.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        vars.push(("SHELL".into(), "/bin/bash".into()));
        // A live process whose arguments are no client's.
        vars.push(("CLAUDE_PID".into(), std::process::id().to_string()));
        let env = Env {
            dir,
            vars,
            busy: false,
        };
        env.put(CONFIG, "nodes = [\"tower\"]\n")
    }

    fn set(mut self, name: &str, value: &str) -> Env {
        self.vars.retain(|(n, _)| n != name);
        self.vars.push((name.into(), value.into()));
        self
    }

    fn put(self, path: &str, text: &str) -> Env {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn paths(&self) -> Paths {
        Paths::under(&self.dir.path().join("home"))
    }

    /// The hook's words in this world, as `set` makes it.
    fn say(&self, event: &Value, set: impl FnOnce(&mut World<'_>)) -> Option<String> {
        let var = |name: &str| {
            self.vars
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| OsString::from(v))
        };
        let mut world = World {
            paths: Some(self.paths()),
            managed: self.dir.path().join("etc"),
            busy: &|_| self.busy,
            ..World::of_process(&var)
        };
        set(&mut world);
        answer(event.to_string().as_bytes(), &world)
    }

    fn answer(&self, event: &Value) -> Option<Value> {
        let text = self.say(event, |_| ())?;
        Some(serde_json::from_str::<Value>(&text).unwrap()["hookSpecificOutput"].take())
    }

    /// The rewritten command.
    fn rewrite(&self, command: &str) -> Option<String> {
        let answer = self.answer(&event(command))?;
        assert_eq!(answer.get("permissionDecision"), None, "{command}");
        Some(answer["updatedInput"]["command"].as_str().unwrap().to_owned())
    }
}

fn event(command: &str) -> Value {
    json!({
        "session_id": "s1", "cwd": env!("CARGO_MANIFEST_DIR"), "permission_mode": "default", "hook_event_name": "PreToolUse",
        "tool_name": "Bash", "tool_input": {"command": command, "description": "d"}, "tool_use_id": "t1",
    })
}

const CONFIG: &str = "home/.config/cx/config.toml";
#[test]
fn a_rule_about_cx_itself_keeps_the_text_as_typed() {
    let rules = r#"{"permissions":{"allow":["Bash"],"deny":["Bash(cx:*)"]}}"#;
    let env = Env::new().put("home/.claude/settings.json", rules);
    assert_eq!(env.rewrite("cargo test"), None);
}

#[test]
fn without_home_the_rules_are_those_of_the_accounts_home() {
    let rules = r#"{"permissions":{"deny":["Bash(cargo:*)"]}}"#;
    for home in [None, Some("")] {
        let mut env = Env::new();
        env.vars.retain(|(name, _)| name != "HOME");
        env.vars
            .extend(home.map(|value| ("HOME".to_owned(), value.to_owned())));
        assert_eq!(env.rewrite("cargo test").as_deref(), Some("cx cargo test"));
        let env = env.put("home/.claude/settings.json", rules);
        assert_eq!(env.rewrite("cargo test"), None, "{home:?}");
    }
}

#[test]
fn settings_that_are_no_file_are_not_waited_for() {
    for name in [
        "home/.claude/settings.json",
        "project/.claude/settings.local.json",
        "etc/managed-settings.json",
    ] {
        let env = Env::new().put(name, "{}");
        assert!(env.rewrite("cargo test").is_some(), "{name}");
        let file = env.dir.path().join(name);
        fs::remove_file(&file).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &file,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(env.rewrite("cargo test"), None, "{name}");
    }
}

#[test]
fn heavy_parts_are_rewritten_and_nothing_else() {
    let env = Env::new();
    for (command, want) in [
        ("cargo test", Some("cx cargo test")),
        (
            "cd app && FOO=1 timeout 300 pytest -x 2>&1 | tail -20; echo $?",
            Some("cd app && FOO=1 timeout 300 cx pytest -x 2>&1 | tail -20; echo $?"),
        ),
        (
            "cargo build && cargo test",
            Some("cx cargo build && cx cargo test"),
        ),
        ("ls -l", None),
        // What the text gives it to read would be lost on a node; a loop's list must not be eaten.
        ("yes | make", None),
        ("make -f - <<< 'all:'", None),
        ("make < /dev/null", Some("cx make < /dev/null")),
        (
            "while read -r f; do pytest $f; done < list",
            Some("while read -r f; do cx pytest $f; done < list"),
        ),
        (
            "for i in 1 2; do make test ARG=$i; done",
            Some("for i in 1 2; do cx make test ARG=$i; done"),
        ),
        ("make test $1", None),
        ("frobnicate", None),
        ("cargo test &&", None),
        ("cx cargo test", None),
        ("bash -c 'cargo test'", None),
        ("", None),
    ] {
        assert_eq!(env.rewrite(command).as_deref(), want, "{command}");
    }
}

#[test]
fn unknown_commands_move_while_this_machine_is_busy() {
    let mut env = Env::new();
    env.busy = true;
    // Any file of the workspace will do; nobody runs it here.
    assert_eq!(env.rewrite("tests/run.sh --all"), None, "nobody has run it by cx");
    let here = crate::sync::find(Path::new(env!("CARGO_MANIFEST_DIR")), &env.paths().home).unwrap();
    let note = |command: &str, seconds: u64| {
        let words: Vec<Word> = command.split(' ').map(Word::from).collect();
        let key = crate::plan::learned::key(&here.key, b"", &words).unwrap();
        crate::learned::note(
            &env.paths(),
            &[(key, "tower", std::time::Duration::from_secs(seconds))],
        );
    };
    for command in [
        "tests/run.sh --all",
        "perl tests/run.sh",
        "tests/run.sh deploy",
        "tests/run.sh --port",
        "tests/run.sh -i",
        "tests/nosuch.sh",
        "frobnicate --all",
    ] {
        note(command, 30);
    }
    note("tests/run.sh --short", 2);
    for (command, want) in [
        ("tests/run.sh --short", None),
        ("tests/run.sh --all --more", None),
        ("cd tests; tests/run.sh --all", None),
        ("tests/run.sh --all &", None),
        ("tests/run.sh --port", None),
        ("tests/run.sh -i", None),
        ("tests/run.sh --all", Some("cx tests/run.sh --all")),
        ("perl tests/run.sh", Some("cx perl tests/run.sh")),
        ("tests/run.sh deploy", None),
        ("tests/run.sh $WHERE", None),
        ("tests/nosuch.sh", None),
        ("frobnicate --all", None),
        ("source lib.sh && build_all", None),
        ("ls", None),
    ] {
        assert_eq!(env.rewrite(command).as_deref(), want, "{command}");
    }
    env.busy = false;
    assert_eq!(env.rewrite("tests/run.sh --all"), None);
}

#[test]
fn switches_leave_the_text_alone() {
    for (name, value) in [("CX_LOCAL", "1"), ("SANDBOX_RUNTIME", "1")] {
        assert_eq!(Env::new().set(name, value).rewrite("cargo test"), None, "{name}");
    }
    assert!(Env::new().set("CX_LOCAL", "0").rewrite("cargo test").is_some());
    assert_eq!(
        Env::new()
            .put("home/.local/state/cx/off", "")
            .rewrite("cargo test"),
        None
    );
    for config in [
        "",
        "nodes = []\n",
        "nodes = [\"tower\"]\n[policy]\nauto_route = false\n",
        "broken = [",
    ] {
        assert_eq!(
            Env::new().put(CONFIG, config).rewrite("cargo test"),
            None,
            "{config}"
        );
    }
    for mode in ["plan", "tomorrow", ""] {
        let mut e = event("cargo test");
        e["permission_mode"] = json!(mode);
        assert_eq!(Env::new().answer(&e), None, "{mode}");
    }
    for (key, value) in [("tool_name", "Read"), ("hook_event_name", "Stop")] {
        let mut e = event("cargo test");
        e[key] = json!(value);
        assert_eq!(Env::new().answer(&e), None, "{value}");
    }
}

#[test]
fn with_shims_only_a_note_is_left_and_a_typed_cx_is_still_asked_about() {
    let deny = r#"{"permissions":{"deny":["Bash(git push:*)"]}}"#;
    let env = Env::new().put("home/.claude/settings.json", deny);
    let ask = |event: &Value| env.say(event, |world| world.shims = true);
    assert_eq!(ask(&event("FOO=1 cargo test")), None);
    assert_eq!(
        note::all(&env.paths().state, "s1").pop().unwrap().assigned,
        ["FOO"]
    );
    assert!(ask(&event("sudo cx git push")).unwrap().contains("\"ask\""));
    let there = event("cx run --on tower -- git push");
    assert!(ask(&there).unwrap().contains("\"deny\""));
}

#[test]
fn the_plugin_s_hook_stands_back_where_the_settings_have_one() {
    let hooked =
        r#"{"hooks":{"PreToolUse":[{"hooks":[{"type":"command","command":"/a/cx","args":["hook"]}]}]}}"#;
    for (settings, acts) in [("{}", true), (hooked, false)] {
        let env = Env::new().put("home/.claude/settings.json", settings);
        let ask = |event: &Value| env.say(event, |world| world.plugin = true).is_some();
        assert_eq!(ask(&event("cargo test")), acts);
        note::append_report(&env.paths().state, "s1", None, "[cx] x").unwrap();
        let mut after = event("cx cargo test");
        after["hook_event_name"] = json!("PostToolUse");
        assert_eq!(ask(&after), acts);
        // The settings' hook must find what the plugin's left.
        assert_eq!(env.answer(&after).is_some(), !acts);
    }
}

#[test]
fn a_rule_that_might_match_leaves_the_text_alone() {
    let deny = |rule: &str| {
        let text = json!({"permissions": {"deny": [rule]}}).to_string();
        Env::new().put("home/.claude/settings.json", &text)
    };
    for rule in [
        "Bash(cargo test:*)",
        "Bash",
        "Bash(* test)",
        "Bash(car*)",
        "Bash(cargo:*)",
    ] {
        assert_eq!(deny(rule).rewrite("cargo test"), None, "{rule}");
    }
    for rule in [
        "Bash(git push:*)",
        "Read(.env)",
        "Bash(cargo publish:*)",
        "Bash(* --x)",
    ] {
        assert!(deny(rule).rewrite("cargo test").is_some(), "{rule}");
    }
    assert_eq!(
        Env::new()
            .put("project/.claude/settings.local.json", "{")
            .rewrite("cargo test"),
        None
    );
    assert_eq!(
        Env::new().set("CLAUDE_PID", "4294967295").rewrite("cargo test"),
        None
    );
}

/// What became of a command: the decision and the new text, where there are any.
fn said(env: &Env, command: &str, mode: &str) -> (Option<String>, Option<String>) {
    let mut e = event(command);
    e["permission_mode"] = json!(mode);
    let Some(answer) = env.answer(&e) else {
        return (None, None);
    };
    let text = |v: &Value| v.as_str().map(str::to_owned);
    (
        text(&answer["permissionDecision"]),
        text(&answer["updatedInput"]["command"]),
    )
}

#[test]
fn typed_cx_is_judged_by_what_it_runs() {
    let rules = r#"{"permissions":{"deny":["Bash(cargo publish:*)", "Bash(git push:*)"],"ask":["Bash(make deploy)"],"allow":["Bash(pytest:*)"]}}"#;
    let env = Env::new().put("home/.claude/settings.json", rules);
    for mode in ["default", "plan", "bypassPermissions", "dontAsk", "tomorrow"] {
        for (command, decision, text) in [
            // What stays here anyway gets its plain text back, which the client's own rules see.
            ("cx git push", None, Some("git push")),
            ("/x/cx run -- git push", Some("deny"), None),
            ("'cx' ls | tail", None, Some("ls | tail")),
            ("cx run --on tower -- cargo publish", Some("deny"), None),
            (
                "true; A=1 timeout 5 cx cx run --on tower cargo publish --x",
                Some("deny"),
                None,
            ),
            ("cx run --on tower -- make deploy", Some("ask"), None),
            ("sudo cx git push", Some("ask"), None),
            ("A=deploy; cx make $A", Some("ask"), None),
            ("for t in deploy; do cx make \"$t\"; done", Some("ask"), None),
            (
                "B=publish; cx run --on tower -- cargo `echo $B`",
                Some("ask"),
                None,
            ),
            ("A=test; cx make $A", None, None),
            ("true; cx git push (", Some("ask"), None),
            ("$(which cx) make", Some("ask"), None),
            ("cx nodes add evil --yes", Some("ask"), None),
            ("cx status", None, None),
            ("cx cargo test", None, None),
            ("git push", None, None),
            ("echo cx; git push", None, None),
            ("git commit -m 'cx push'", None, None),
        ] {
            let got = said(&env, command, mode);
            let decision = match mode {
                "dontAsk" => decision.map(|_| "deny"),
                _ => decision,
            };
            assert_eq!(
                (got.0.as_deref(), got.1.as_deref()),
                (decision, text),
                "{mode}: {command}"
            );
        }
    }
    for (mode, decision) in [
        ("default", Some("allow")),
        ("plan", None),
        ("auto", None),
        ("dontAsk", Some("allow")),
    ] {
        let (got, text) = said(&env, "cx pytest -x && cx ls", mode);
        assert_eq!(
            (got.as_deref(), text.as_deref()),
            (decision, Some("cx pytest -x && ls")),
            "{mode}"
        );
    }
}

/// Where such a document ends is for the shell to say; what follows must not run unseen.
#[test]
fn a_cx_behind_a_here_document_with_a_false_end_is_asked_about() {
    let env = Env::new().put(
        "home/.claude/settings.json",
        r#"{"permissions":{"allow":["Bash"],"deny":["Bash(touch:*)"]}}"#,
    );
    for command in [
        "cat <<EOF\nEOF \n'\nEOF\ncx touch m0 #'",
        "cat <<EOF\nEOF\t\n'\nEOF\ncx touch m0 #'",
        "cat <<EOF\na \\\nEOF\n'\nEOF\ncx touch m0 #'",
        "cat <<EOF\nEO\\\nF\ncx touch m0\nEOF",
    ] {
        let got = said(&env, command, "default");
        assert_eq!((got.0.as_deref(), got.1), (Some("ask"), None), "{command}");
    }
    // Where the end is clear, the client sees the plain command and refuses it; and what no rule may concern is not asked about.
    let got = said(&env, "cat <<EOF\nx\nEOF\ncx touch m0", "default");
    assert_eq!(got, (None, Some("cat <<EOF\nx\nEOF\ntouch m0".to_owned())));
    let got = said(&env, "cat <<EOF\nEOF \nEOF\ncx make", "default");
    assert_eq!(got, (None, None));
}

/// The client asks what a hook has it ask in this mode, too.
#[test]
fn where_nothing_is_to_be_asked_a_typed_cx_is_refused_instead() {
    let rules = r#"{"permissions":{"allow":["Bash(make:*)","Bash(cx *)"],"ask":["Bash(pytest -x:*)"]}}"#;
    let env = Env::new().put("home/.claude/settings.json", rules);
    for (command, mode, decision) in [
        ("cx run -- pytest -x", "dontAsk", Some("deny")),
        ("cx run -- pytest -x", "default", Some("ask")),
        ("cx nodes add x", "dontAsk", Some("deny")),
        ("cx cargo test", "dontAsk", Some("deny")),
        ("cx cargo test", "default", Some("ask")),
        ("cx make", "dontAsk", Some("allow")),
    ] {
        assert_eq!(
            said(&env, command, mode).0.as_deref(),
            decision,
            "{command} in {mode}"
        );
    }
}

#[test]
fn what_the_rules_allow_is_allowed_and_no_more() {
    let rules = r#"{"permissions":{"allow":["Bash(pytest:*)", "Bash(cx:*)"]}}"#;
    let env = Env::new().put("home/.claude/settings.json", rules);
    for (command, decision) in [
        ("pytest -x 2>&1 | tail -3", "allow"),
        ("cargo test", "ask"),
        ("pytest && cargo test", "ask"),
    ] {
        let (got, text) = said(&env, command, "default");
        assert_eq!(got.as_deref(), Some(decision), "{command}");
        assert!(text.unwrap().contains("cx "), "{command}");
    }
    assert_eq!(said(&env, "cx cargo test", "default").0.as_deref(), Some("ask"));
    assert_eq!(said(&env, "cargo test", "bypassPermissions").0, None);
    assert_eq!(said(&env, "pytest", "auto"), (None, Some("cx pytest".into())));
    assert_eq!(said(&env, "cargo test", "dontAsk"), (None, None));
}

#[test]
fn what_is_only_called_cx_is_the_clients_to_judge() {
    let rules = r#"{"permissions":{"allow":["Bash(make:*)"]}}"#;
    let env = Env::new()
        .put("home/.claude/settings.json", rules)
        .put("project/cx", "#!/bin/sh\n")
        .put("evil/cx", "#!/bin/sh\n");
    let top = env.dir.path();
    for file in ["project/cx", "evil/cx"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(top.join(file), mode).unwrap();
    }
    let here = |text: &str| said(&env, text, "default");
    assert_eq!(here("cx make test").0.as_deref(), Some("allow"));
    assert_eq!(here("cx run --on tower -- ls").0.as_deref(), Some("allow"));
    let own = top.join("bin/cx").display().to_string();
    assert_eq!(here(&format!("{own} make")).0.as_deref(), Some("allow"));
    let evil = top.join("evil").display().to_string();
    for text in [
        "./cx make test",
        "./cx run --on tower -- ls",
        "timeout 5 ./cx make test",
        "cd sub; ./cx make test",
        &format!("{evil}/cx make"),
        &format!("PATH={evil}:$PATH cx make"),
        &format!("export PATH={evil}; cx ls"),
        "cx() { make evil; }; cx make",
        "function cx { make evil; }; cx make",
        "ls() { make evil; }; cx ls",
        "cd sub; ../bin/cx make",
        "cx NODE_ENV=./evil ls",
        "cx cd sub; make clean",
    ] {
        assert_eq!(here(text), (None, None), "{text}");
    }
    let path = format!("{evil}:{}", top.join("bin").display());
    let env = env.set("PATH", &path);
    for text in ["cx make test", "cx run --on tower -- ls", "cx ls"] {
        assert_eq!(said(&env, text, "default"), (None, None), "{text}");
    }
}

#[test]
fn a_rule_about_cx_counts_for_what_was_typed() {
    for (kind, rule) in [
        ("deny", "Bash(cx:*)"),
        ("deny", "Bash(cx *)"),
        ("ask", "Bash(cx ls)"),
        ("ask", "Bash(*cx*)"),
        ("deny", "Bash(cx run:*)"),
    ] {
        let rules = format!(r#"{{"permissions":{{"allow":["Bash(ls:*)"],"{kind}":["{rule}"]}}}}"#);
        let env = Env::new().put("home/.claude/settings.json", &rules);
        for text in ["cx ls", "cx run --local -- ls"] {
            let heeded = !rule.contains("cx run") || text.contains("cx run");
            if heeded && (rule != "Bash(cx ls)" || text == "cx ls") {
                assert_eq!(said(&env, text, "default").1, None, "{rule} {text}");
            }
        }
    }
}

#[test]
fn a_tool_that_is_called_like_a_verb_of_cx_is_the_tool() {
    let env = Env::new().put(
        CONFIG,
        "nodes = [\"tower\"]\n[[rule]]\nname = \"r\"\nmatch = [\"run\", \"off\"]\nclass = \"heavy\"\n",
    );
    assert_eq!(env.rewrite("run touch x").as_deref(), Some("cx -- run touch x"));
    assert_eq!(env.rewrite("cd a && off").as_deref(), Some("cd a && cx -- off"));
    assert_eq!(env.rewrite("cargo test").as_deref(), Some("cx cargo test"));
}

#[test]
fn what_the_sandbox_does_not_hold_keeps_its_name() {
    let settings = |sandbox: &str| {
        Env::new().put(
            "home/.claude/settings.json",
            &format!(r#"{{"permissions":{{"allow":["Bash"]}},"sandbox":{sandbox}}}"#),
        )
    };
    let excluded = r#"{"enabled":true,"excludedCommands":["pytest:*","npm run *"]}"#;
    let env = settings(excluded);
    for text in ["pytest -x", "cargo test; pytest | tail", "npm run build"] {
        assert_eq!(env.answer(&event(text)), None, "{text}");
    }
    assert_eq!(env.rewrite("cargo test").as_deref(), Some("cx cargo test"));
    for sandbox in [
        r#"{"enabled":false,"excludedCommands":["pytest"]}"#,
        r#"{"enabled":true}"#,
        "null",
    ] {
        let env = settings(sandbox);
        assert_eq!(
            env.rewrite("pytest -x").as_deref(),
            Some("cx pytest -x"),
            "{sandbox}"
        );
    }
    // With cx in front it would leave the sandbox.
    for excluded in ["cx *", "cx:*", "cx pytest -x"] {
        let env = settings(&format!(
            r#"{{"enabled":true,"excludedCommands":["{excluded}"]}}"#
        ));
        assert_eq!(env.answer(&event("pytest -x")), None, "{excluded}");
    }
    // One file may switch it on, and another name what stays outside.
    let env = settings(r#"{"enabled":true}"#).put(
        "project/.claude/settings.json",
        r#"{"sandbox":{"excludedCommands":["pytest"]}}"#,
    );
    assert_eq!(env.answer(&event("pytest -x")), None);
}

/// Without trust the client takes the word of the user's own file in a project only where git does not track it.
#[test]
fn what_a_rule_may_allow_that_may_not_count_is_not_asked_about() {
    let rules = r#"{"permissions":{"allow":["Bash(pytest:*)"]}}"#;
    let env = Env::new().put("project/.claude/settings.local.json", rules);
    assert_eq!(said(&env, "pytest -x", "default"), (None, None));
    assert_eq!(
        said(&env, "cargo test", "default").1.as_deref(),
        Some("cx cargo test")
    );
    let env = Env::new().put("project/.claude/settings.json", rules);
    assert_eq!(
        said(&env, "pytest -x", "default"),
        (None, Some("cx pytest -x".into()))
    );
}

#[test]
fn where_nobody_can_be_asked_only_a_covered_rewrite_is_made() {
    let mut e = event("cargo test");
    e["permission_mode"] = json!("dontAsk");
    assert_eq!(Env::new().answer(&e), None);
    let allow = |rule: &str| json!({"permissions": {"allow": [rule]}}).to_string();
    let answer = Env::new()
        .put("home/.claude/settings.json", &allow("Bash(cargo:*)"))
        .answer(&e)
        .unwrap();
    assert_eq!(answer["permissionDecision"], "allow");
    assert_eq!(
        Env::new()
            .put("home/.claude/settings.json", &allow("Bash(make:*)"))
            .answer(&e),
        None
    );
    assert!(
        Env::new()
            .put("home/.claude/settings.json", &allow("Bash"))
            .answer(&e)
            .is_some()
    );
}

#[test]
fn what_the_shell_defines_stays() {
    let snapshot = "home/.claude/shell-snapshots/snapshot-bash-1-a.sh";
    let env = Env::new().put(snapshot, "alias -- cargo='cargo --quiet'\n");
    assert_eq!(env.rewrite("cargo test"), None);
    assert!(env.rewrite("pytest").is_some());
    let absolute = Env::new()
        .put(snapshot, "alias -- cx='x'\n")
        .rewrite("pytest")
        .unwrap();
    assert!(
        absolute.starts_with('/') || absolute.starts_with('\''),
        "{absolute}"
    );
}

#[test]
fn what_other_files_define_stays() {
    // Before the snapshot of the session is made, what it will be made of counts.
    let env = Env::new().put("home/.bashrc", "alias cargo='cargo --quiet'\n");
    assert_eq!(env.rewrite("cargo test"), None);
    assert!(env.rewrite("pytest").is_some());
    let env = env.put("home/.claude/shell-snapshots/snapshot-bash-1-a.sh", "");
    assert!(env.rewrite("cargo test").is_some());
    assert_eq!(
        Env::new()
            .put("home/.bash_aliases", "function make {\n")
            .rewrite("make"),
        None
    );
    let env = Env::new()
        .put("home/.bashrc", "[ -f ~/.mine ] && . ~/.mine\n")
        .put("home/.mine", ". \"$HOME/.bashrc\"; source ~/.more\n")
        .put("home/.more", "make() { echo; }\n");
    assert_eq!(env.rewrite("make"), None);
    assert!(env.rewrite("pytest").is_some());
    // What the client puts in front of each command.
    let written = "home/.claude/session-env/s1/sessionstart-hook-0.sh";
    let env = Env::new().put(written, "export A=1\nmake() { echo; }\n");
    assert_eq!(env.rewrite("make"), None);
    assert!(env.rewrite("pytest").is_some());
    let env = Env::new().put("env.sh", "timeout() { echo; }\n");
    let file = env.dir.path().join("env.sh").display().to_string();
    let env = env.set("CLAUDE_ENV_FILE", &file);
    assert_eq!(env.rewrite("timeout 5 make"), None);
    assert!(env.rewrite("make").is_some());
    // What the text reads.
    let env = Env::new().put("home/defs.sh", "export A=1\nalias make='make -k'\n");
    let at = env.dir.path().join("home/defs.sh").display().to_string();
    for source in ["source ~/defs.sh", ". \"$HOME/defs.sh\"", &format!(". '{at}'")] {
        assert_eq!(env.rewrite(&format!("{source}; make")), None, "{source}");
        assert!(env.rewrite(&format!("{source} && pytest")).is_some(), "{source}");
    }
    let home = env.dir.path().join("home").display().to_string();
    assert_eq!(env.rewrite(&format!("cd '{home}' && . ./defs.sh && make")), None);
    assert!(env.rewrite("source .venv/bin/activate && pytest").is_some());
    assert_eq!(env.rewrite("source \"$FILE\" && pytest"), None);
}

#[test]
fn another_cx_first_on_path_means_the_absolute_path() {
    let exe = std::env::current_exe().unwrap().display().to_string();
    let env = Env::new().set("PATH", "/nowhere");
    assert_eq!(env.rewrite("cargo test").unwrap(), format!("{exe} cargo test"));
    assert_eq!(
        Env::new().rewrite("PATH=$PWD/b:$PATH pytest").unwrap(),
        format!("PATH=$PWD/b:$PATH {exe} pytest")
    );
    assert!(
        Env::new()
            .rewrite("PYTHONPATH=. pytest")
            .unwrap()
            .contains(" cx pytest")
    );
}

#[test]
fn a_path_that_is_set_by_the_time_the_command_runs_means_the_absolute_path() {
    let exe = std::env::current_exe().unwrap().display().to_string();
    let env = Env::new()
        .put("reset.sh", "export PATH=/usr/bin:/bin\n")
        .put(
            "more.sh",
            "[ -n \"$A\" ] && PATH=\"$A/bin:$PATH\"\nPATH=\"$_OLD_VIRTUAL_PATH\"\n",
        )
        .put("in-turn.sh", ". ./reset.sh\n");
    let at = env.dir.path().display().to_string();
    for (command, plain) in [
        (". ./reset.sh; make test", false),
        ("source reset.sh && make test", false),
        (". ./in-turn.sh; make test", false),
        (". ./more.sh; make test", true),
        (". ./none.sh; make test", false),
        ("read PATH <<< /usr/bin; make", false),
        ("env -u PATH make", false),
        ("printf -v PATH %s /usr/bin; make", false),
        ("for PATH in /usr/bin; do make; done", false),
        ("declare -n p=PATH; p=/usr/bin; make", false),
        ("PATH[0]=/usr/bin; make", false),
        ("echo $PATH ${PATH%%:*}; make", true),
    ] {
        let text = env.rewrite(&format!("cd '{at}' && {command}"));
        let text = text.unwrap_or_else(|| panic!("{command} stays"));
        let cx = if plain { "cx" } else { exe.as_str() };
        assert!(text.contains(&format!(" {cx} make")), "{text}");
    }
    // What the client puts in front of each command; its snapshot gets the client's own PATH, whatever rc files do.
    let reset = "export PATH=/usr/bin:/bin\n";
    let env = Env::new().put("home/.bashrc", reset);
    assert_eq!(env.rewrite("make").unwrap(), "cx make");
    let env = Env::new().put("home/.claude/session-env/s1/setup-hook-0.sh", reset);
    assert_eq!(env.rewrite("make").unwrap(), format!("{exe} make"));
    let env = Env::new().put("env.sh", reset);
    let file = env.dir.path().join("env.sh").display().to_string();
    let env = env.set("CLAUDE_ENV_FILE", &file);
    assert_eq!(env.rewrite("make").unwrap(), format!("{exe} make"));
}

#[test]
fn the_time_out_is_raised_only_where_one_was_given() {
    let env = Env::new();
    for (given, want) in [
        (5000, 15_000),
        (595_000, 600_000),
        (600_000, 600_000),
        (900_000, 900_000),
        (0, 0),
    ] {
        let mut e = event("cargo test");
        e["tool_input"]["timeout"] = json!(given);
        assert_eq!(env.answer(&e).unwrap()["updatedInput"]["timeout"], want);
    }
    assert_eq!(
        env.answer(&event("cargo test")).unwrap()["updatedInput"].get("timeout"),
        None
    );
}

#[test]
fn the_run_finds_a_note_and_the_model_a_report() {
    let env = Env::new();
    let state = env.paths().state;
    assert_eq!(env.rewrite("ls"), None);
    assert_eq!(note::all(&state, "s1"), []);
    env.rewrite("export A=1 B; C=2 env D=3 cargo test").unwrap();
    let note = note::all(&state, "s1").pop().unwrap();
    assert_eq!(
        (note.tool_use_id.as_str(), note.timeout_ms, note.background),
        ("t1", 120_000, false)
    );
    assert_eq!(note.assigned, ["A", "C", "D"]);

    for name in ["PostToolUse", "PostToolUseFailure"] {
        let mut after = event("cx cargo test");
        after["hook_event_name"] = json!(name);
        assert_eq!(env.answer(&after), None);
        note::append_report(&state, "s1", None, "[cx] tower · ran 1s").unwrap();
        let want = json!({"hookEventName": name, "additionalContext": "[cx] tower · ran 1s"});
        assert_eq!(env.answer(&after), Some(want));
        assert_eq!(env.answer(&after), None);
    }
}

#[test]
fn a_heavy_command_that_ran_here_for_long_is_mentioned_where_that_is_wanted() {
    let wanted = "nodes = ['a']\n[policy]\nsuggest_after = 60\n";
    let told = |config: &str, command: &str, ms: u64| {
        let env = Env::new().put(CONFIG, config);
        let mut after = event(command);
        after["hook_event_name"] = json!("PostToolUse");
        after["duration_ms"] = json!(ms);
        env.answer(&after).map(|a| a["additionalContext"].clone())
    };
    let said = told(wanted, "cd x && time cargo test | tail", 83_999).unwrap();
    assert!(
        said.as_str()
            .unwrap()
            .starts_with("local: the call took 83 s here. `cargo`"),
        "{said}"
    );
    for (config, command, ms) in [
        ("nodes = ['a']\n", "cargo test", 900_000),
        ("[policy]\nsuggest_after = 60\n", "cargo test", 900_000),
        (wanted, "cargo test", 59_999),
        (wanted, "sleep 900", 900_000),
        (wanted, "cx cargo test", 900_000),
    ] {
        assert_eq!(told(config, command, ms), None, "{config} {command} {ms}");
    }
    // What cx was given has a report of its own, or one that comes later.
    let env = Env::new().put(CONFIG, wanted);
    env.rewrite("cargo test").unwrap();
    let mut after = event("cargo test");
    after["hook_event_name"] = json!("PostToolUse");
    after["duration_ms"] = json!(900_000);
    assert_eq!(env.answer(&after), None);
}
