//! One command on a node: its arguments, streams, status, directory and environment are as they would be here.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use crate::harness::{TestEnv, on};

#[test]
fn exit_codes_are_exact() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    // 75 and 76 are cx's own too, 255 is ssh's, 127 a shell's.
    for code in [0, 1, 7, 75, 76, 126, 127, 255] {
        let out = p.on("n1", &format!("echo $TEST_NODE; exit {code}")).exits(code);
        assert_eq!(out.stdout(), "n1\n", "{out:?}");
        assert!(
            out.line().contains(&format!("exit {code}")) || code == 0,
            "{out:?}"
        );
    }
}

#[test]
fn death_by_a_signal_there_is_death_by_it_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    for signal in [9, 15, 6] {
        p.on("n1", &format!("kill -{signal} $$")).exits(128 + signal);
    }
}

#[test]
fn arguments_arrive_as_they_are() {
    let env = TestEnv::with_nodes(&["n1"]);
    let show = "#!/bin/sh\nfor a in \"$@\"; do printf '<%s>' \"$a\"; done\n";
    let p = env.project(&[("show", show)]);
    let args = [
        "",
        "two words",
        " ",
        "it's",
        "a \"b\" c",
        "$(echo no)",
        "`id`",
        "$HOME",
        "line\nline",
        "*",
        "~",
        "\\",
        "\\n",
        "-n",
        "--",
        "{a,b}",
        "!x",
        "ä€😀",
        ";exit 3",
        "a=b",
        "#",
        "\t",
        "",
        "--help",
        "%s",
    ];
    let mut all: Vec<OsString> = ["run", "--on", "n1", "--", "./show"].map(OsString::from).into();
    all.extend(args.map(OsString::from));
    all.push(OsString::from_vec(vec![b'x', 0xff, 0xfe]));
    let out = p.cx(&all).ok();
    let mut wanted: Vec<u8> = args.iter().flat_map(|a| format!("<{a}>").into_bytes()).collect();
    wanted.extend(b"<x\xff\xfe>");
    assert_eq!(out.out, wanted, "{out:?}");
}

#[test]
fn stdout_and_stderr_stay_apart() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let out = p
        .cx(&[
            "run",
            "-q",
            "--on",
            "n1",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; printf more",
        ])
        .ok();
    assert_eq!(out.stdout(), "out\nmore");
    assert_eq!(out.stderr(), "err\n");
}

#[test]
fn where_both_are_one_file_the_order_holds() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[(
        "talk",
        "#!/bin/sh\ni=0\nwhile [ $i -lt 300 ]; do echo $i; echo $i >&2; i=$((i+1)); done\n",
    )]);
    let out = p.sh("cx run -q --on n1 -- ./talk 2>&1").ok();
    let wanted: String = (0..300).map(|i| format!("{i}\n{i}\n")).collect();
    assert_eq!(out.stdout(), wanted);
}

#[test]
fn bytes_come_through_unchanged() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let blob: Vec<u8> = (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(p.dir.join("blob"), &blob).unwrap();
    let out = p.cx(&["run", "--on", "n1", "--", "cat", "blob"]).ok();
    assert!(
        out.out == blob,
        "{} bytes came, {} were sent",
        out.out.len(),
        blob.len()
    );
}

#[test]
fn stdin_is_forwarded_to_the_last_byte() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let input: Vec<u8> = (0..1_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    let out = p.cx_with_input(&["run", "--on", "n1", "--", "cat"], &input).ok();
    assert!(
        out.out == input,
        "{} bytes came back of {}",
        out.out.len(),
        input.len()
    );
    let out = p.cx_with_input(&["run", "--", "cat"], b"wherever it runs\n").ok();
    assert_eq!(out.stdout(), "wherever it runs\n");
}

#[test]
fn it_runs_in_the_same_directory_of_the_tree() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("sub/deep er/a", "here\n")]);
    let mut command = p.cx_command(&on("n1", "cat a; basename \"$PWD\""));
    let out = env.run(command.current_dir(p.dir.join("sub/deep er")), b"").ok();
    assert_eq!(out.stdout(), "here\ndeep er\n");
}

#[test]
fn the_environment_is_the_nodes_plus_what_was_meant() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    env.node("n1").write(".profile", "export FROM_PROFILE=yes\n");
    env.add_nodes(&["n1"]);
    env.set("RUST_LOG", "debug");
    env.set("PYTEST_ADDOPTS", "-x");
    env.set("SOME_VARIABLE", "no");
    env.set("AWS_SECRET_ACCESS_KEY", "no");
    env.set("RUST_TOKEN", "no");
    env.set("ANTHROPIC_API_KEY", "no");
    env.set("LD_LIBRARY_PATH", "/no");
    env.set("CX_SOMETHING", "no");
    let p = env.project(&[("a", "")]);
    let out = p.cx(&["run", "--on", "n1", "--", "env"]).ok().stdout();
    let has = |line: &str| out.lines().any(|l| l == line);
    assert!(has("RUST_LOG=debug") && has("PYTEST_ADDOPTS=-x"), "{out}");
    assert!(
        has(&format!("HOME={}", env.node("n1").home().display())) && has("FROM_PROFILE=yes"),
        "{out}"
    );
    for name in [
        "SOME_VARIABLE",
        "AWS_SECRET_ACCESS_KEY",
        "RUST_TOKEN",
        "ANTHROPIC_API_KEY",
        "LD_LIBRARY_PATH",
        "CX_SOMETHING",
    ] {
        assert!(
            !out.lines().any(|l| l.starts_with(&format!("{name}="))),
            "{name} crossed: {out}"
        );
    }
}

#[test]
fn noise_of_the_nodes_rc_files_is_not_output() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    for file in [".bashrc", ".profile", ".bash_profile", ".zshenv"] {
        env.node("n1").write(
            file,
            "echo welcome to the machine\necho and to its stderr >&2\nprintf 'no newline'\n",
        );
    }
    env.add_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    for _ in 0..2 {
        let out = p
            .cx(&[
                "run",
                "-q",
                "--on",
                "n1",
                "--",
                "sh",
                "-c",
                "echo mine; echo mine >&2",
            ])
            .ok();
        assert_eq!(
            (out.stdout().as_str(), out.stderr().as_str()),
            ("mine\n", "mine\n"),
            "{out:?}"
        );
    }
}

#[test]
fn a_background_child_that_holds_the_pipes_does_not_hold_the_run() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    // The harness fails a command that takes two minutes.
    let out = p.on("n1", "sleep 3000 & echo done").ok();
    assert_eq!(out.stdout(), "done\n");
}

#[test]
fn a_reader_that_has_enough_ends_the_run() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let out = p.sh("cx run -q --on n1 -- yes | head -n 2").ok();
    assert_eq!(out.stdout(), "y\ny\n");
    env.node("n1").assert_empty_within(crate::signals::GONE);
}

#[test]
fn outside_a_workspace_it_runs_in_the_nodes_home() {
    let env = TestEnv::with_nodes(&["n1"]);
    let out = env.cx(&on("n1", "echo $HOME; pwd -P")).ok().stdout();
    assert_eq!(env.place(&out), "n1");
    assert_eq!(out.lines().next(), out.lines().nth(1));
}

#[test]
fn two_runs_at_once_share_the_mirror() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 2\n");
    let p = env.project(&[("a", "")]);
    // Each waits for the other, so they can only end if both run at the same time.
    let script = |mine: &str, other: &str| {
        format!(
            "touch $HOME/{mine}; echo {mine} > {mine}.txt; while [ ! -e $HOME/{other} ]; do sleep 0.02; done"
        )
    };
    let one = p.start_cx(&on("n1", &script("one", "two")));
    let two = p.start_cx(&on("n1", &script("two", "one")));
    one.wait().ok();
    two.wait().ok();
    assert_eq!(p.read("one.txt") + &p.read("two.txt"), "one\ntwo\n");
}
