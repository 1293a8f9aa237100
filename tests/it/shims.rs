//! `cx init`: the functions and shims under each shell, and what must never go through them.

use std::fs;
use std::path::PathBuf;

use crate::harness::{CX, Output, Running, TestEnv, wait_for};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Stands in the functions for cx: notes its start, and goes on as cx where it is told to.
const RECORDER: &str = "#!/bin/sh\n\
    case $2 in --below=*) case $3 in timeout | nice | nohup | env) shift 2; exec \"$@\" ;; esac ;; esac\n\
    echo \"$*\" | sed 's/ --below=[0-9]*//' >>\"$HOME/starts\"\n\
    case :$PATH: in *cx/shims*) echo 'the shims are still on PATH' >>\"$HOME/starts\" ;; esac\n\
    [ -z \"${GO_ON-}\" ] || exec @CX@ \"$@\"\n";
const PLAIN: &str = "#!/bin/sh\necho \"$0 $*\" >>\"$HOME/plain\"\n";

/// A home with `make` and `gcc` that only note their start, and functions that start the recorder.
fn world() -> TestEnv {
    let mut env = TestEnv::new();
    env.program("make", PLAIN);
    env.program("gcc", PLAIN);
    env.program("recorder", &RECORDER.replace("@CX@", CX));
    env
}

fn recorder(env: &TestEnv) -> String {
    env.home().join("bin/recorder").display().to_string()
}

/// What `cx init` prints, with the recorder for cx.
fn functions(env: &TestEnv, shell: &str) -> PathBuf {
    let text = env.cx(&["init", shell]).ok().stdout();
    assert!(text.contains(CX), "{text}");
    let file = env.home().join(format!("functions.{shell}"));
    fs::write(&file, text.replace(CX, &recorder(env))).unwrap();
    for dir in fs::read_dir(env.home().join(".local/share/cx/shims")).unwrap() {
        let shim = dir.unwrap().path().join("shim");
        let text = fs::read_to_string(&shim).unwrap();
        // Written in place, as the recorder for the tests' sake.
        fs::write(&shim, text.replace(CX, &recorder(env))).unwrap();
    }
    file
}

/// Runs lines in a shell with the functions; bash and zsh under `-eu`.
fn run(env: &TestEnv, shell: &str, lines: &str) -> Output {
    let file = functions(env, shell);
    let text = match shell {
        "fish" => format!("cat {} | source\n{lines}", file.display()),
        // Twice: a shell may well source its rc file again.
        _ => format!(
            "eval \"$(cat {0})\"; eval \"$(cat {0})\"\n{lines}",
            file.display()
        ),
    };
    plain(env, shell, &text)
}

/// Runs lines in a shell without anybody's functions; bash and zsh under `-eu`.
fn plain(env: &TestEnv, shell: &str, lines: &str) -> Output {
    let mut command = env.command(shell, &env.home());
    match shell {
        "bash" => command.args(["--norc", "-eu"]),
        "zsh" => command.args(["-f", "-eu"]),
        _ => command.arg("-N"),
    };
    env.run(command.args(["-c", lines]), b"")
}

fn taken(env: &TestEnv, name: &str) -> String {
    let file = env.home().join(name);
    let text = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(file);
    text.replace(&format!("{}/", env.home().join("bin").display()), "")
}

#[test]
fn what_the_user_types_reaches_cx_and_nothing_else_does() {
    let env = world();
    fs::write(
        env.home().join("script.sh"),
        "make script; timeout 5 make script\n",
    )
    .unwrap();
    let both = [
        ("make a 'b  c'", "shim make a b  c\n", ""),
        ("make >/dev/null 2>&1", "shim make\n", ""),
        ("timeout 5 make x", "shim make x\n", ""),
        ("timeout -s KILL -k 1 5 make x", "shim make x\n", ""),
        ("nohup nice -n 3 make z | cat", "shim make z\n", ""),
        ("env -u NAME A=1 timeout 5 make q", "shim make q\n", ""),
        ("command make plain", "", "make plain\n"),
        ("command timeout 5 make plain", "", "make plain\n"),
        ("bash script.sh", "", "make script\nmake script\n"),
        ("timeout 5 bash script.sh", "", "make script\nmake script\n"),
        ("timeout 5 bash -c 'make inner; true'", "", "make inner\n"),
        ("env bash -c 'timeout 5 make inner; true'", "", "make inner\n"),
        ("timeout 5 xargs make </dev/null", "", "make \n"),
        ("make &\nwait", "shim make\n", ""),
    ];
    let posix = [
        ("(make sub; true)", "shim make sub\n", ""),
        ("(timeout 5 make sub; true)", "shim make sub\n", ""),
        ("x=$(make sub)", "shim make sub\n", ""),
        (
            "set -a; eval \"$(cat functions.*)\"; bash script.sh",
            "",
            "make script\nmake script\n",
        ),
        (
            "gcc() { echo own; }; eval \"$(cat functions.*)\"; gcc; make",
            "shim make\n",
            "",
        ),
        // Words are split at other characters, and in zsh as in bash.
        ("IFS=_; make a_b", "shim make a_b\n", ""),
        ("IFS=_; timeout 5 make a_b", "shim make a_b\n", ""),
        (
            "test -z \"${ZSH_VERSION-}\" || setopt shwordsplit; IFS=cx_; make a",
            "shim make a\n",
            "",
        ),
        // What the user has called so is left out of it.
        ("readonly word=1; timeout 5 make a", "shim make a\n", ""),
        ("command() { echo own; }; timeout 5 make a", "shim make a\n", ""),
        ("false || make; if make; then :; fi", "shim make\nshim make\n", ""),
    ];
    for shell in SHELLS {
        let rows = both.iter().chain(if shell == "fish" { &[] } else { &posix[..] });
        for (line, starts, plain) in rows {
            let line = match shell {
                // The row's own glob must find one file.
                "fish" => (*line).to_owned(),
                _ => line.replace("functions.*", &format!("functions.{shell}")),
            };
            let out = run(&env, shell, &line);
            let got = (taken(&env, "starts"), taken(&env, "plain"));
            assert_eq!(
                got,
                ((*starts).to_owned(), (*plain).to_owned()),
                "{shell}: {line}: {out:?}"
            );
            assert_eq!(
                (out.status(), out.stderr()),
                (0, String::new()),
                "{shell}: {line}"
            );
        }
    }
}

#[test]
fn functions_of_the_user_s_that_were_there_first_stay_and_hinder_nothing() {
    let env = world();
    for (shell, own, load) in [
        ("bash", "gcc() { echo own; }", "eval \"$(cat F)\""),
        ("zsh", "gcc() { echo own; }", "eval \"$(cat F)\""),
        ("fish", "function gcc; echo own; end", "cat F | source"),
    ] {
        let load = load.replace('F', &functions(&env, shell).display().to_string());
        let text = format!("{own}\n{load}\ngcc x\nmake a\ntimeout 5 make b\n");
        let out = plain(&env, shell, &text);
        assert_eq!(
            (out.status(), out.stdout(), out.stderr()),
            (0, "own\n".to_owned(), String::new()),
            "{shell}"
        );
        assert_eq!(taken(&env, "starts"), "shim make a\nshim make b\n", "{shell}");
    }
}

#[test]
fn a_user_s_aliases_lead_to_the_functions_and_break_nothing() {
    let env = world();
    let aliases = "alias make='make -j8' timeout='timeout -v' test='echo broken' builtin='echo broken' command='echo broken' \
                   local='echo broken' unset='echo broken' typeset='echo broken'";
    for (shell, expand) in [("bash", "shopt -s expand_aliases\n"), ("zsh", "")] {
        let file = functions(&env, shell);
        // Read as a file, line by line, so that the aliases count.
        let script = env.home().join("aliased");
        let text = format!(
            "{expand}{aliases}\n\\eval \"$(cat {})\"\nmake a\ntimeout 5 make b\n",
            file.display()
        );
        fs::write(&script, text).unwrap();
        let out = env.run(env.command(shell, &env.home()).arg(&script), b"").ok();
        assert_eq!(
            taken(&env, "starts"),
            "shim make -j8 a\nshim make b\n",
            "{shell}: {out:?}"
        );
        assert_eq!(
            (out.stdout(), out.stderr()),
            (String::new(), String::new()),
            "{shell}"
        );
    }
}

#[test]
fn a_local_make_that_runs_gcc_a_thousand_times_enters_cx_once() {
    let mut env = world();
    fs::remove_file(env.home().join("bin/make")).unwrap();
    env.set("GO_ON", "1");
    let makefile = "SHELL = bash\nall:\n\t@for i in {1..1000}; do gcc $$i; done; timeout 5 gcc last\n";
    fs::write(env.home().join("Makefile"), makefile).unwrap();
    for line in ["set -a; eval \"$(cat functions.bash)\"; make", "timeout 60 make"] {
        run(&env, "bash", line).ok();
        assert_eq!(taken(&env, "starts"), "shim make\n", "{line}");
        assert_eq!(taken(&env, "plain").lines().count(), 1001, "{line}");
    }
}

/// Runs lines in a shell at which a person sits: before each there is a prompt.
fn typed(env: &TestEnv, shell: &str, lines: &[&str]) -> Output {
    let file = functions(env, shell);
    let mut text = match shell {
        "fish" => format!("cat {} | source\n", file.display()),
        _ => format!("eval \"$(cat {0})\"; eval \"$(cat {0})\"\n", file.display()),
    };
    for line in lines {
        // fish has prompts on a terminal only.
        let prompt = if shell == "fish" { "emit fish_prompt\n" } else { "" };
        text.push_str(&format!("{line}\n{prompt}"));
    }
    let mut command = env.command(shell, &env.home());
    match shell {
        "bash" => command.args(["--norc", "--noprofile", "-i"]),
        "zsh" => command.args(["-f", "-i"]),
        _ => command.arg("-N"),
    };
    env.run(&mut command, text.as_bytes())
}

#[test]
fn functions_follow_the_tools_on_path() {
    let mut env = world();
    env.program("pnpm", PLAIN);
    env.program("jest", PLAIN);
    fs::create_dir(env.home().join("extra")).unwrap();
    for name in ["pnpm", "jest"] {
        fs::rename(
            env.home().join("bin").join(name),
            env.home().join("extra").join(name),
        )
        .unwrap();
    }
    for shell in SHELLS {
        let (own, there, back) = match shell {
            "fish" => (
                "function jest; echo own; end",
                "set PATH $HOME/extra $PATH",
                "set PATH $PATH[2..-1]",
            ),
            _ => (
                "jest() { echo own; }",
                "PATH=$HOME/extra:$PATH",
                "PATH=${PATH#*:}",
            ),
        };
        let status = if shell == "fish" {
            "echo status $status"
        } else {
            "echo status $?"
        };
        let mut lines = vec![
            "command -v pnpm || echo no pnpm",
            "command -v vitest || echo no vitest",
            "command -v make >/dev/null && make a",
            own,
            there,
            "pnpm build; jest",
            "false",
            status,
            back,
            "command -v pnpm || echo no pnpm again",
            "jest",
            // Installed without a change of PATH.
            "command cp extra/pnpm bin/vitest",
        ];
        lines.extend([":"; 20]);
        lines.extend(["vitest run", "command rm bin/vitest"]);
        lines.extend([":"; 20]);
        lines.push("command -v vitest || echo no vitest again");
        // fish tells of a prompt by an event, and its status is that of the handler.
        let lines = lines
            .into_iter()
            .filter(|l| shell != "fish" || (*l != status && *l != "false"));
        let out = typed(&env, shell, &lines.collect::<Vec<_>>());
        let status = if shell == "fish" { "" } else { "status 1\n" };
        assert_eq!(
            out.stdout(),
            format!("no pnpm\nno vitest\nown\n{status}no pnpm again\nown\nno vitest again\n"),
            "{shell}: {out:?}"
        );
        assert_eq!(
            (taken(&env, "starts"), taken(&env, "plain")),
            (
                "shim make a\nshim pnpm build\nshim vitest run\n".into(),
                String::new()
            ),
            "{shell}: {out:?}"
        );
    }
}

#[test]
fn a_prompt_of_the_user_s_own_goes_on() {
    let env = world();
    let rows = [
        (
            "bash",
            "PROMPT_COMMAND='echo mine;'",
            "false",
            "mine\nmine\nmine\nstatus 1\nmine\n",
        ),
        (
            "zsh",
            "precmd() { echo mine }",
            "false",
            "mine\nmine\nmine\nstatus 1\nmine\n",
        ),
        // What looks at a status may end a shell under `-e`: ours does not.
        ("bash", "set -u", "! true", "status 1\n"),
        ("bash", "set -eu", "! true", "status 1\n"),
        ("zsh", "set -eu", "! true", "status 1\n"),
    ];
    for (shell, own, fails, want) in rows {
        let file = functions(&env, shell);
        let load = format!("eval \"$(cat {0})\"; eval \"$(cat {0})\"", file.display());
        let text = format!("{own}\n{load}\n{fails}\necho status $?\n");
        let mut command = env.command(shell, &env.home());
        match shell {
            "bash" => command.args(["--norc", "--noprofile", "-i"]),
            _ => command.args(["-f", "-i"]),
        };
        let out = env.run(&mut command, text.as_bytes());
        let got = out.stdout();
        assert!(got.starts_with(want), "{shell} {own}: {out:?}");
    }
}

#[test]
fn without_cx_the_plain_tools_run() {
    let mut env = world();
    for shell in SHELLS {
        let gone = format!("command rm {}\nmake a\ntimeout 5 make b", recorder(&env));
        run(&env, shell, &gone).ok();
        assert_eq!(taken(&env, "plain"), "make a\nmake b\n", "{shell}");
        env.program("recorder", RECORDER);
        let no_shims = format!(
            "command rm -r {}\nmake a\ntimeout 5 make b",
            env.home().join(".local/share/cx").display()
        );
        run(&env, shell, &no_shims).ok();
        // Functions need no directory; what stands behind `timeout` does.
        assert_eq!(
            (taken(&env, "starts"), taken(&env, "plain")),
            ("shim make a\n".into(), "make b\n".into()),
            "{shell}"
        );
    }
}

#[test]
fn a_function_that_is_exported_runs_the_plain_tool_where_it_comes_alone() {
    let env = world();
    for child in ["make a; timeout 5 make b", "set -eu; make a; timeout 5 make b"] {
        run(
            &env,
            "bash",
            &format!("export -f make timeout; bash -c '{child}'; make c"),
        )
        .ok();
        assert_eq!(
            (taken(&env, "starts"), taken(&env, "plain")),
            ("shim make c\n".into(), "make a\nmake b\n".into()),
            "{child}"
        );
    }
}

#[test]
fn a_shell_of_an_agent_s_gets_no_functions() {
    let mut env = world();
    env.set("CLAUDECODE", "1");
    for shell in SHELLS {
        run(&env, shell, "make a\ntimeout 5 make b").ok();
        assert_eq!(
            taken(&env, "starts") + &taken(&env, "plain"),
            "make a\nmake b\n",
            "{shell}"
        );
    }
}

#[test]
fn a_heavy_command_leaves_and_a_light_one_becomes_the_tool() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("Makefile", "test:\n\t@echo $$HOME\ndeploy:\n\t@echo $$HOME\n"),
        ("empty", ""),
    ]);
    let bash = |line: &str| {
        let text = format!("exec </dev/null; eval \"$({CX} init bash)\"\n{line}");
        env.run(env.command("bash", &p.dir).args(["-euc", &text]), b"")
            .ok()
    };
    for line in [
        "make test",
        "(timeout 60 make test; true)",
        "make test | cat",
        "make test </dev/null",
    ] {
        let out = bash(line);
        assert_eq!(env.place(&out.stdout()), "n1", "{line}: {out:?}");
    }
    // Light, unknown, given something to read, or switched off: not a word of cx's.
    for line in [
        "make deploy",
        "echo | make test",
        "CX_LOCAL=1 make test",
        "command make test",
        "make --version >&2; echo ~",
    ] {
        let out = bash(line);
        assert_eq!(env.place(&out.stdout()), "local", "{line}: {out:?}");
        assert!(!out.stderr().contains("[cx]"), "{line}: {out:?}");
    }
    let text = format!("eval \"$({CX} init bash)\"\nmake nosuch; echo status $?");
    let out = env.run(env.command("bash", &p.dir).args(["-c", &text]), b"").ok();
    assert_eq!(out.stdout(), "status 2\n", "{out:?}");
}

/// In the background, a pipeline or brackets, a tool's function is one process more, and `$!` is that.
#[cfg(target_os = "linux")]
#[test]
fn what_ends_a_tool_in_the_background_ends_it_behind_its_function() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[(
        "Makefile",
        "test deploy:\n\t@exec sleep 71\n\
         lint:\n\t@echo fine\n\
         late:\n\t@touch up; until test -e go; do sleep 0.01; done; touch end\n",
    )]);
    let sleeping = || {
        let all = env.processes().into_iter().chain(env.node("n1").processes());
        all.filter(|line| line.contains("sleep 71")).collect::<Vec<_>>()
    };
    let limit = std::time::Duration::from_secs(30);
    let command = |shell: &str, lines: &str| {
        let mut command = env.command(shell, &p.dir);
        command.args([if shell == "zsh" { "-fc" } else { "-c" }]);
        command.arg(format!("eval \"$({CX} init {shell})\"\n{lines}"));
        command
    };
    for shell in ["bash", "zsh"] {
        for line in [
            "make deploy",
            "make test",
            "timeout 60 make deploy",
            "echo | make deploy",
        ] {
            let text = format!(
                "{line} >/dev/null 2>&1 & p=$!; until test -e go; do sleep 0.01; done; kill $p; wait $p; echo $?"
            );
            let running = Running::start(&mut command(shell, &text), b"");
            wait_for(limit, || match sleeping().len() {
                0 => Err(format!("{shell}: {line}: not there")),
                _ => Ok(()),
            });
            p.write("go", "");
            assert_eq!(running.wait().ok().stdout(), "143\n", "{shell}: {line}");
            wait_for(limit, || match &sleeping()[..] {
                [] => Ok(()),
                left => Err(format!("{shell}: {line}: {left:?}")),
            });
            fs::remove_file(p.dir.join("go")).unwrap();
        }
        let out = env.run(
            &mut command(shell, "(make lint; echo done) 2>&1 | grep -v '\\[cx\\]'"),
            b"",
        );
        assert_eq!(out.ok().stdout(), "fine\ndone\n", "{shell}");
        // What the shell leaves behind goes on, and what `nohup` protects.
        for line in [
            "make late &",
            "nohup make late & p=$!; until test -e up; do sleep 0.01; done; kill -HUP $p; wait $p",
        ] {
            let line = format!("exec >/dev/null 2>&1; {line}\nexit 0");
            env.run(&mut command(shell, &line), b"").ok();
            p.write("go", "");
            wait_for(limit, || match p.has("end") {
                true => Ok(()),
                false => Err(format!("{shell}: {line}: it has not ended by itself")),
            });
            for file in ["go", "end", "up"] {
                fs::remove_file(p.dir.join(file)).unwrap();
            }
        }
    }
}

/// Starts a session with `--mode shims` whose environment file holds `before`, and gives the functions the recorder for cx.
fn session(env: &TestEnv, before: &str) -> PathBuf {
    let file = env.home().join("session-env.sh");
    fs::write(&file, before).unwrap();
    // Again after a resume or a compaction.
    for source in ["startup", "resume"] {
        let event = format!(r#"{{"hook_event_name":"SessionStart","session_id":"s","source":"{source}"}}"#);
        let mut command = env.command(CX, &env.home());
        command.args(["hook", "--shims"]).env("CLAUDE_ENV_FILE", &file);
        let out = env.run(&mut command, event.as_bytes()).ok();
        assert_eq!((out.stdout(), out.stderr()), (String::new(), String::new()));
    }
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(before), "{text}");
    assert_eq!(text.matches("# cx:").count(), 1, "{text}");
    fs::write(&file, text.replace(CX, &recorder(env))).unwrap();
    for dir in fs::read_dir(env.home().join(".local/share/cx/shims")).unwrap() {
        let dir = dir.unwrap().path();
        let inner = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
        let texts = inner.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("on-"));
        let texts = texts.flat_map(|d| ["bash", "zsh"].map(|s| d.join(format!("functions.{s}"))));
        for file in texts.chain([dir.join("shim")]) {
            let text = fs::read_to_string(&file).unwrap();
            // Written in place, as the recorder for the tests' sake.
            fs::write(&file, text.replace(CX, &recorder(env))).unwrap();
        }
    }
    file
}

#[test]
fn a_session_s_functions_are_for_the_tools_that_are_there() {
    let mut env = world();
    for (dir, name) in [("extra", "vitest"), ("v/bin", "nox"), (".venv/bin", "pytest")] {
        env.program(name, PLAIN);
        let dir = env.home().join(dir);
        fs::create_dir_all(&dir).unwrap();
        fs::rename(env.home().join("bin").join(name), dir.join(name)).unwrap();
    }
    let own = "export MINE=1 PATH=\"$HOME/extra:$PATH\"; own() { echo own; }";
    let rows = [
        ("make a; echo $MINE; own", "shim make a\n", "", "1\nown\n"),
        ("command -v pnpm || echo no pnpm", "", "", "no pnpm\n"),
        // The user's own file put it on PATH.
        (
            "vitest b; timeout 5 vitest c",
            "shim vitest b\nshim vitest c\n",
            "",
            "",
        ),
        ("PATH=$PWD/.venv/bin:$PATH; pytest d", "shim pytest d\n", "", ""),
        ("command make e", "", "make e\n", ""),
        (
            "export SANDBOX_RUNTIME=1; . ./session-env.sh; command -v own",
            "",
            "",
            "own\n",
        ),
    ];
    let file = session(&env, own);
    for shell in ["bash", "zsh"] {
        for (line, starts, plain, printed) in rows {
            let text = format!("set -eu; . {}; {line}", file.display());
            let mut command = env.command(shell, &env.home());
            let out = env.run(command.args(["-c", &text]), b"");
            let got = [
                taken(&env, "starts"),
                taken(&env, "plain"),
                out.stdout(),
                out.stderr(),
            ];
            let want = [starts, plain, printed, ""].map(str::to_owned);
            assert_eq!(got, want, "{shell}: {line}: {out:?}");
        }
        // With VIRTUAL_ENV of another name, which a command of the session before has activated.
        let text = format!(". {}; PATH=$VIRTUAL_ENV/bin:$PATH; nox", file.display());
        let mut command = env.command(shell, &env.home());
        command
            .env("VIRTUAL_ENV", env.home().join("v"))
            .args(["-c", &text]);
        env.run(&mut command, b"").ok();
        assert_eq!(taken(&env, "starts"), "shim nox\n", "{shell}");
    }
}

#[test]
fn a_session_goes_on_in_a_sandbox_without_cx_and_with_damaged_functions() {
    let env = world();
    let file = session(&env, "");
    let run = |shell: &str, sandbox: bool| {
        let mut command = env.command(shell, &env.home());
        if sandbox {
            command.env("SANDBOX_RUNTIME", "1");
        }
        let text = format!(". {} && make a; timeout 5 make b; echo went on", file.display());
        let out = env.run(command.args(["-c", &text]), b"").ok();
        assert_eq!(
            (out.stdout(), out.stderr()),
            ("went on\n".into(), String::new()),
            "{shell}"
        );
        (taken(&env, "starts"), taken(&env, "plain"))
    };
    let plain = || (String::new(), "make a\nmake b\n".to_owned());
    for shell in ["bash", "zsh"] {
        assert_eq!(run(shell, false).0, "shim make a\nshim make b\n", "{shell}");
        assert_eq!(run(shell, true), plain(), "{shell}");
    }
    let shims = env.home().join(".local/share/cx/shims");
    let dir = fs::read_dir(&shims).unwrap().next().unwrap().unwrap().path();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("on-") {
            for shell in ["bash", "zsh"] {
                fs::write(path.join(format!("functions.{shell}")), "if then ((\n").unwrap();
            }
        }
    }
    for shell in ["bash", "zsh"] {
        assert_eq!(run(shell, false), plain(), "{shell}");
    }
    fs::remove_dir_all(&shims).unwrap();
    for shell in ["bash", "zsh"] {
        assert_eq!(run(shell, false), plain(), "{shell}");
    }
    session(&env, "");
    fs::remove_file(recorder(&env)).unwrap();
    for shell in ["bash", "zsh"] {
        assert_eq!(run(shell, false), plain(), "{shell}");
    }
}
