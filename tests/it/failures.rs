//! What goes wrong around a command never blocks or changes it, and is told in one line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Project, Running, TestEnv, on, wait_for};
use crate::signals::GONE;

const WHERE: &[(&str, &str)] = &[("Makefile", "test:\n\t@echo $$HOME\n")];

fn place(project: &Project, env: &TestEnv) -> String {
    env.place(&project.cx(&["make", "test"]).ok().stdout())
}

#[test]
fn a_command_runs_in_a_directory_that_is_gone_as_a_shell_would_run_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let gone = |command: &str| p.sh(&format!("mkdir -p d && cd d && rmdir ../d && {command}"));
    for command in [
        "cx echo here",
        "cx run --local -- echo here",
        "cx make -s -C /nowhere || echo here",
    ] {
        let out = gone(command).ok();
        assert!(out.stdout().ends_with("here\n"), "{out:?}");
        out.says("[cx] local: the current directory is gone");
    }
    gone("cx sh -c 'exit 7'").exits(7);
    gone("cx run --on n1 -- true")
        .exits(76)
        .says("not run: the current directory is gone");
}

#[test]
fn a_node_that_refuses_is_passed_over() {
    let mut env = TestEnv::with_nodes(&["n1", "n2"]);
    env.node_mut("n1").stop();
    let p = env.project(WHERE);
    // Ties are broken at random: three times, so that the dead one is likely to be the first choice of one of them.
    for _ in 0..3 {
        assert_eq!(place(&p, &env), "n2");
    }
}

#[test]
fn when_all_are_away_it_runs_here_with_one_line() {
    let mut env = TestEnv::with_nodes(&["n1", "n2"]);
    env.node_mut("n1").stop();
    env.node_mut("n2").stop();
    let p = env.project(WHERE);
    for _ in 0..2 {
        let out = p.cx(&["make", "test"]).ok();
        assert_eq!(env.place(&out.stdout()), "local");
        assert!(out.line().starts_with("[cx] local: "), "{out:?}");
        assert_eq!(
            out.stderr().lines().count(),
            1,
            "ssh's own words came through: {out:?}"
        );
    }
}

#[test]
fn who_requires_a_node_gets_76_and_no_run() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.node_mut("n1").stop();
    let p = env.project(&[("Makefile", "test:\n\ttouch ran\n")]);
    p.cx(&["run", "--require-remote", "--", "make", "test"])
        .exits(76)
        .complains("n1");
    p.cx(&["run", "--require-remote", "--", "true"]).exits(76);
    assert!(!p.has("ran"));
}

#[test]
fn an_unknown_host_key_is_not_accepted() {
    let env = TestEnv::with_nodes(&["n1"]);
    // The connection of `nodes add` would still be good.
    env.end_clients();
    fs::write(env.known_hosts_path(), "").unwrap();
    let p = env.project(WHERE);
    let out = p.cx(&["make", "test"]).ok().says("host key");
    assert_eq!(env.place(&out.stdout()), "local");
    assert_eq!(
        fs::read_to_string(env.known_hosts_path()).unwrap(),
        "",
        "the key was learned on the way"
    );
}

#[test]
fn a_corrupt_state_of_ours_is_as_good_as_none() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(WHERE);
    assert_eq!(place(&p, &env), "n1");
    let mut spoiled = 0;
    spoil(&env.cache(), &mut spoiled);
    assert!(spoiled > 0, "no state in {}", env.cache().display());
    let out = p.cx(&["make", "test"]).ok();
    assert!(
        ["n1", "local"].contains(&env.place(&out.stdout()).as_str()),
        "{out:?}"
    );
    // And it mends itself.
    assert_eq!(place(&p, &env), "n1");
}

/// Replaces all files below `dir` by junk; sockets stay.
fn spoil(dir: &Path, count: &mut usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            spoil(&entry.path(), count);
        } else if kind.is_file() {
            fs::write(entry.path(), "{\"version\": \u{1}junk").unwrap();
            *count += 1;
        }
    }
}

#[test]
fn a_broken_or_unsafe_configuration_means_local() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(WHERE);
    let good = fs::read_to_string(env.config_path()).unwrap();
    fs::write(env.config_path(), "[node.n1\nslots = ").unwrap();
    let out = p.cx(&["make", "test"]).ok().says("config.toml");
    assert_eq!(env.place(&out.stdout()), "local");

    fs::write(env.config_path(), &good).unwrap();
    fs::set_permissions(env.config_path(), fs::Permissions::from_mode(0o666)).unwrap();
    let out = p.cx(&["make", "test"]).ok().says("config.toml");
    assert_eq!(env.place(&out.stdout()), "local");

    fs::set_permissions(env.config_path(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place(&p, &env), "n1");
}

#[test]
fn a_frozen_node_that_thaws_starts_nothing() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\t@echo x >> $$HOME/ran; echo $$HOME\n")]);
    assert_eq!(place(&p, &env), "n1");
    fs::remove_file(env.node("n1").home().join("ran")).unwrap();

    let frozen = env.node("n1").freeze();
    assert_eq!(place(&p, &env), "local");
    env.node("n1").thaw(&frozen);

    // It is well again when it answers, and has dealt with what lay in its pipes when nothing runs there any more.
    let config = env.ssh_config_path();
    let mut ssh = env.command("ssh", &env.home());
    Running::start(
        ssh.arg("-F").arg(config).args(["-S", "none", "-n", "n1", "true"]),
        b"",
    )
    .wait()
    .ok();
    env.node("n1").assert_empty_within(GONE);
    assert!(
        !env.node("n1").home().join("ran").exists(),
        "the command ran here and there"
    );
    assert_eq!(fs::read_to_string(env.home().join("ran")).unwrap(), "x\n");
}

#[test]
fn a_link_lost_during_the_run_is_75_and_no_second_run() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[policy]\nlink_grace = 2\n");
    let running = {
        let p = env.project(&[("Makefile", "test:\n\t@echo x >> $$HOME/ran; sleep 3000\n")]);
        p.start_cx(&["make", "test"])
    };
    let running = running.until_exists(&env.node("n1").home().join("ran"));
    env.node_mut("n1").stop();
    let out = running.wait().exits(75);
    assert!(!out.said().is_empty(), "{out:?}");
    assert!(!env.home().join("ran").exists(), "it ran a second time: {out:?}");
}

#[test]
fn a_broken_ssh_is_told_and_passed_over() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    env.end_clients();
    for script in [
        "#!/bin/sh\nexit 255\n",
        "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n",
        "#!/bin/sh\nkill -9 $$\n",
    ] {
        env.program("ssh", script);
        let p = env.plain_project("app", WHERE);
        let out = p.cx(&["make", "test"]).ok();
        assert_eq!(env.place(&out.stdout()), "local", "{script}");
        assert_eq!(out.line().matches("[cx] local: ").count(), 1);
        // The breaker must not decide the next round.
        let _ = fs::remove_dir_all(env.cache());
    }
}

#[test]
fn a_full_or_read_only_state_directory_does_not_stop_the_command() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(WHERE);
    let state = env.home().join(".local/state");
    let _ = fs::remove_dir_all(&state);
    // A file where the directory should be stops root too, which permissions would not.
    fs::write(&state, "").unwrap();
    let out = p.cx(&["make", "test"]).ok();
    assert!(
        ["n1", "local"].contains(&env.place(&out.stdout()).as_str()),
        "{out:?}"
    );
}

#[test]
fn nothing_of_ours_is_left_after_a_run() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(WHERE);
    assert_eq!(place(&p, &env), "n1");
    env.node("n1").assert_empty_within(GONE);
    // Here a connection and a stream may stay for the next run, and nothing else.
    wait_for(GONE, || {
        let left: Vec<_> = env
            .processes()
            .into_iter()
            .filter(|l| !l.contains("ssh") && !l.ends_with(" hold n1"))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("left here: {left:?}"))
        }
    });
}

#[test]
fn a_supervisor_that_dies_is_75_and_no_second_run() {
    let env = TestEnv::with_nodes(&["n1"]);
    let running = {
        let p = env.project(&[(
            "Makefile",
            "test:\n\t@echo x >> $$HOME/ran; touch $$HOME/on; sleep 3000\n",
        )]);
        p.start_cx(&["make", "test"])
    };
    let node = env.node("n1");
    let running = running.until_exists(&node.home().join("on"));
    // All that is cx there dies at once, and what is left of it comes back with the next session.
    let pids: Vec<u32> = cx::demo::processes::with_home(&node.home());
    for pid in pids {
        cx::demo::processes::kill(pid);
    }
    let out = running.wait().exits(75);
    assert_eq!(
        std::fs::read_to_string(node.home().join("ran")).unwrap(),
        "x\n",
        "{out:?}"
    );
    assert!(!env.home().join("ran").exists(), "it ran a second time: {out:?}");
}

#[test]
fn a_damaged_agent_is_replaced() {
    let env = TestEnv::with_nodes(&["n1"]);
    // A program that runs can't be written to.
    env.end_clients();
    env.node("n1").assert_empty_within(GONE);
    let agents = env.node("n1").home().join(".cache/cx/agents");
    for agent in std::fs::read_dir(&agents).unwrap().flatten() {
        std::fs::write(agent.path(), &b"\x7fELF and then nothing"[..]).unwrap();
    }
    let p = env.project(&[("a", "")]);
    p.cx(&["run", "--on", "n1", "--", "true"]).ok();
}

#[test]
fn what_does_not_come_back_is_named() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[policy]\nback_limit = \"1KB\"\n");
    let p = env.project(&[("a", "")]);
    let out = p.on("n1", "head -c 5000 /dev/zero > big; echo 1 > small").ok();
    assert!(p.has("small") && !p.has("big"));
    assert!(out.line().contains("over back_limit: big"), "{out:?}");
    // By its name it comes, whatever its size.
    let pulled = p.cx(&["pull", "big"]).ok();
    assert_eq!(pulled.stdout(), "n1: 1 file changed here (5000 bytes)\n");
    assert_eq!(p.read("big").len(), 5000);
    // Also where another cx takes it home.
    let script = "head -c 6000 /dev/zero > bigger; head -c 5000 /dev/zero > a";
    let id = p
        .cx(&["run", "--on", "n1", "--detach", "--", "sh", "-c", script])
        .ok();
    let out = p.cx(&["attach", id.stdout().trim()]).ok();
    assert!(out.line().contains("over back_limit: a, bigger"), "{out:?}");
}

#[test]
fn output_that_cannot_be_written_here_is_no_success() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let cx = env!("CARGO_BIN_EXE_cx");
    p.sh(&format!("{cx} run --on n1 -- echo hi > /dev/full"))
        .exits(1)
        .complains("can't be written here");
}

#[test]
fn a_run_whose_supervisor_dies_is_lost_and_does_not_hang() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let home = env.node("n1").home();
    let script = "touch $HOME/begun; exec sleep 60";
    let run = p.start_cx(&on("n1", script)).until_exists(&home.join("begun"));
    let all = env.node("n1").processes();
    let supervisor = all.iter().find(|l| l.contains("--supervise")).unwrap();
    let pid = supervisor.split(' ').next().unwrap();
    env.command("kill", &home).args(["-KILL", pid]).status().unwrap();
    let out = run.wait().exits(75);
    assert!(out.stderr().contains("its supervisor there is gone"), "{out:?}");
}
