//! What a command sees of the path of its tree.

use std::os::unix::fs::symlink;

use crate::harness::{TestEnv, on};

/// `paths` of n1 as `cx nodes list --json` says it.
fn mode(env: &TestEnv) -> String {
    let list = env.cx(&["nodes", "list", "--json"]).ok().stdout();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    list["nodes"][0]["paths"].as_str().unwrap().to_owned()
}

#[test]
fn messages_name_paths_that_open_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[
        ("sub/file", ""),
        ("tool", "#!/bin/sh\npwd\nid -u\necho ${PWD%/*} >&2\n"),
    ]);
    let top = project.dir.display().to_string();
    let ran = project.on("n1", "cd sub; ../tool").ok();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(ran.stdout(), format!("{top}/sub\n{uid}\n"));
    assert!(ran.stderr().starts_with(&format!("{top}\n")), "{}", ran.stderr());
}

#[test]
fn absolute_paths_of_the_workspace_work_where_they_are_the_same() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[
        ("Makefile", "test:\n\t@echo $$HOME; cat $(FILE)\n"),
        ("in", "said\n"),
    ]);
    let file = format!("FILE={}", project.dir.join("in").display());
    let ran = project.cx(&["make", "test", &file]).ok();
    assert!(ran.stdout().ends_with("\nsaid\n"));
    let place = env.place(&ran.stdout());
    match mode(&env).as_str() {
        "namespace" => assert_eq!(place, "n1", "{}", ran.stderr()),
        // Namespaces are forbidden on this machine, and the path exists.
        _ => assert_eq!(place, "local", "{}", ran.stderr()),
    }
}

#[test]
fn where_paths_differ_text_is_rewritten_and_absolute_paths_stay_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\npaths = \"rewrite\"\n");
    let test = "test:\n\t@echo $$HOME; test -n \"$(FILE)\" || test \"$$PWD\" != \"$(WANT)\" || echo same\n";
    let project = env.project(&[("Makefile", test)]);
    let top = project.dir.display().to_string();
    let script = "pwd; printf %s \"${PWD%?}\"; sleep 0.2; pwd | tail -c 2; printf '\\0'; pwd";
    let ran = project.on("n1", script).ok();
    let (text, binary) = ran
        .stdout()
        .split_once('\0')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert!(text.starts_with(&format!("{top}\n")), "{text}");
    assert!(!binary.contains(&top), "{binary}");
    assert_eq!(mode(&env), "rewrite");
    let list = env.cx(&["nodes", "list"]).ok().stdout();
    assert!(
        list.contains("paths rewrite (paths = \"rewrite\" in the config)"),
        "{list}"
    );
    let doctor = env.cx(&["doctor", "n1"]).stdout();
    assert!(
        doctor.contains("n1 can't show a project at its own path"),
        "{doctor}"
    );
    let ran = project.cx(&["make", "test", &format!("WANT={top}x")]).ok();
    assert_eq!(env.place(&ran.stdout()), "local", "{}", ran.stderr());
    let ran = project
        .cx(&["make", "test", &format!("FILE={top}/Makefile")])
        .ok();
    assert_eq!(env.place(&ran.stdout()), "local");
    assert!(
        ran.stderr().contains("absolute path of the workspace"),
        "{}",
        ran.stderr()
    );
    let ran = project
        .cx(&["make", "test", &format!("FILE=cd '{top}'; make")])
        .ok();
    assert_eq!(env.place(&ran.stdout()), "local", "{}", ran.stderr());
    assert_eq!(env.place(&project.cx(&["make", "test"]).ok().stdout()), "n1");
}

/// What cmake configures, it fills with the paths of where it runs; no cmake is needed to see where it would.
#[test]
fn what_holds_paths_is_made_where_they_are_the_same() {
    let env = TestEnv::with_nodes(&["n1"]);
    let fake = "#!/bin/sh\necho $HOME\n";
    let project = env.project(&[("CMakeLists.txt", ""), ("bin/cmake", fake)]);
    let configure = "PATH=$PWD/bin:$PATH cx cmake -S . -B build";
    let place = || {
        let ran = project.sh(configure).ok();
        (env.place(&ran.stdout()), ran.stderr())
    };
    let (before, said) = place();
    assert_eq!(
        before,
        if mode(&env) == "rewrite" { "local" } else { "n1" },
        "{said}"
    );
    env.append_config("[node.n1]\npaths = \"rewrite\"\n");
    let (there, said) = place();
    assert_eq!(there, "local", "{said}");
    assert!(said.contains("holds the paths of where it ran"), "{said}");
    let pinned = project.sh("PATH=$PWD/bin:$PATH cx run --on n1 -- cmake -S . -B build");
    assert_eq!(env.place(&pinned.ok().stdout()), "n1", "who names a node gets it");
}

#[test]
fn nothing_is_left_of_a_run_in_a_namespace() {
    let env = TestEnv::with_nodes(&["n1"]);
    let project = env.project(&[("f", "")]);
    let script = "setsid sleep 600 & touch $HOME/up; sleep 600";
    let ran = project
        .start_cx(&on("n1", script))
        .until_exists(&env.node("n1").home().join("up"));
    ran.signal("-KILL");
    env.node("n1")
        .assert_empty_within(std::time::Duration::from_secs(20));
}

#[test]
fn links_into_the_tree_lead_there_on_both_sides_where_paths_differ() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\npaths = \"rewrite\"\n");
    let p = env.project(&[("sub/file", "in\n"), (".gitignore", "ignored\n")]);
    let top = p.dir.display().to_string();
    let target = |link: &str| {
        std::fs::read_link(p.dir.join(link))
            .unwrap()
            .display()
            .to_string()
    };
    symlink(p.dir.join("sub"), p.dir.join("here")).unwrap();
    symlink(p.dir.join("../beside"), p.dir.join("out-of-it")).unwrap();
    let script = "cat here/file; ln -s $PWD/sub/file link; ln -s $PWD top; ln -s $PWD-not other; ln -s $PWD/sub ignored; ln -s sub rel";
    assert_eq!(p.on("n1", script).ok().stdout(), "in\n");
    assert_eq!(
        ["link", "top", "rel", "here"].map(target),
        [
            format!("{top}/sub/file"),
            top.clone(),
            "sub".into(),
            format!("{top}/sub")
        ]
    );
    assert!(target("other").ends_with("/app-not") && target("other") != format!("{top}-not"));
    let out = p.on("n1", "cat link here/file top/sub/file; readlink link").ok();
    assert_eq!(out.stdout(), format!("in\nin\nin\n{top}/sub/file\n"));
    assert!(
        out.line().contains("sync 0 files") && !out.line().contains("back"),
        "{out:?}"
    );
    p.sh("ln -sfn $PWD/sub/file top; rm here").ok();
    assert_eq!(
        p.on("n1", "cat top; ls here 2>&1 || true; ln -sfn $PWD/sub link")
            .ok()
            .stdout()
            .lines()
            .next(),
        Some("in")
    );
    assert_eq!(target("link"), format!("{top}/sub"));
}

#[test]
fn a_project_whose_path_is_not_utf8_is_worked_in_like_any_other() {
    use std::os::unix::ffi::OsStrExt;
    let env = TestEnv::with_nodes(&["n1"]);
    let mut project = env.plain_project("plain", &[("f", "1\n"), ("both", "1\n")]);
    let odd = project.dir.with_file_name(std::ffi::OsStr::from_bytes(b"nu\xff"));
    std::fs::rename(&project.dir, &odd).unwrap();
    project.dir = odd;
    project.git(&["init", "-q"]);
    for seen in ["1\n", "1\n2\n"] {
        let ran = project.on("n1", "cat f; echo 2 >> f").ok();
        assert_eq!(ran.stdout(), seen);
    }
    assert_eq!(project.read("f"), "1\n2\n2\n");
    project.cx(&["push", "n1"]).ok();
    project.cx(&["warm", "n1"]).ok();
    // What is kept here of a run knows the project by its path.
    let line = [
        "run",
        "--detach",
        "--on",
        "n1",
        "--",
        "sh",
        "-c",
        "echo there > both",
    ];
    let id = project.cx(&line).ok().stdout().trim().to_owned();
    project.write("both", "here\n");
    project.cx(&["attach", &id]).ok();
    let listed = project.cx(&["conflicts"]).ok().stdout();
    assert!(listed.contains("both"), "{listed}");
}
