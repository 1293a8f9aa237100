//! After a run, the tree here is as if the command had run here.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::harness::TestEnv;

/// Prints where it runs, makes a file, changes one, deletes one, and fails.
const MAKEFILE: &str = "test:\n\t@echo $$HOME\n\tmkdir -p out && echo all > out/report.txt\n\techo more >> changed.txt\n\
                        \trm deleted.txt\n\tchmod +x mode.sh\n\tln -s changed.txt link\n\t@exit 3\n";

fn files() -> Vec<(&'static str, &'static str)> {
    let mut files = vec![
        ("Makefile", MAKEFILE),
        ("changed.txt", "one\n"),
        ("deleted.txt", "x\n"),
        ("mode.sh", "x\n"),
    ];
    files.extend([("src/a.c", "int a;\n"), ("src/b.c", "int b;\n")]);
    files
}

#[test]
fn a_failing_make_test_leaves_the_same_tree_as_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let there = env.named_project("there", &files());
    let here = env.named_project("here", &files());

    let remote = there.cx(&["make", "test"]).exits(2);
    assert_eq!(env.place(&remote.stdout()), "n1", "{remote:?}");
    let line = remote.line();
    assert!(
        line.starts_with("[cx] n1 ") && line.contains("exit 2") && line.contains("back"),
        "{line}"
    );

    let local = env.run(env.command("make", &here.dir).arg("test"), b"").exits(2);
    assert_eq!(env.place(&local.stdout()), "local");
    assert_eq!(there.list(), here.list());
    assert_eq!(
        there.git(&["status", "--porcelain"]),
        here.git(&["status", "--porcelain"])
    );
}

#[test]
fn only_what_changed_is_sent_again() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("Makefile", "test:\n\t@cat a b\n"),
        ("a", "1\n"),
        ("b", "2\n"),
        ("c/d", "3\n"),
    ]);
    assert_eq!(p.cx(&["make", "test"]).ok().stdout(), "1\n2\n");
    p.write("b", "changed\n");
    let out = p.cx(&["make", "test"]).ok().says("sync 1 file ");
    assert_eq!(out.stdout(), "1\nchanged\n");
}

#[test]
fn deletions_and_changes_of_kind_are_followed() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("gone", ""),
        ("dir/in", ""),
        ("becomes-dir", ""),
        ("becomes-link", ""),
        ("run.sh", "x"),
    ]);
    let out = p
        .on(
            "n1",
            "test -f gone && test -f dir/in && test -f becomes-dir && test ! -x run.sh && echo right",
        )
        .ok();
    assert_eq!(out.stdout(), "right\n");
    for file in ["gone", "becomes-dir", "becomes-link"] {
        fs::remove_file(p.dir.join(file)).unwrap();
    }
    fs::remove_dir_all(p.dir.join("dir")).unwrap();
    p.write("becomes-dir/x", "");
    symlink("run.sh", p.dir.join("becomes-link")).unwrap();
    fs::set_permissions(p.dir.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let out = p.on("n1", "test ! -e gone && test ! -e dir && test -f becomes-dir/x && test -L becomes-link && test -x run.sh && echo right",
    ).ok();
    assert_eq!(out.stdout(), "right\n");
    assert!(
        !p.has("gone") && !p.has("dir"),
        "what was deleted here came back: {:?}",
        p.list()
    );
}

#[test]
fn links_modes_and_empty_directories_are_kept() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("run.sh", "#!/bin/sh\necho ran\n"), ("dir/file", "x\n")]);
    symlink("dir/file", p.dir.join("link")).unwrap();
    symlink("nowhere", p.dir.join("dangling")).unwrap();
    symlink("dir", p.dir.join("dirlink")).unwrap();
    fs::create_dir_all(p.dir.join("empty/er")).unwrap();
    let before = p.list();
    let out = p
        .on(
            "n1",
            "./run.sh; readlink link dangling dirlink; cat dirlink/file; test -d empty/er && echo kept",
        )
        .ok();
    assert_eq!(out.stdout(), "ran\ndir/file\nnowhere\ndir\nx\nkept\n");
    assert_eq!(p.list(), before);
}

#[test]
fn names_can_be_anything() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("with space", "1"),
        ("new\nline", "2"),
        ("-rf", "3"),
        ("ünï", "4"),
        ("a'b\"c$d", "5"),
        ("[x]*", "6"),
    ]);
    // Linux takes any bytes; other systems want UTF-8.
    if cfg!(target_os = "linux") {
        fs::write(p.dir.join(std::ffi::OsString::from_vec(vec![0xff, 0xfe])), "7").unwrap();
    }
    p.on("n1", "for f in *; do cp -- \"$f\" \"copy of $f\"; done")
        .ok();
    let count = fs::read_dir(&p.dir)
        .unwrap()
        .flatten()
        .filter(|e| e.file_type().unwrap().is_file())
        .count();
    assert_eq!(
        count,
        if cfg!(target_os = "linux") { 14 } else { 12 },
        "{:?}",
        p.list()
    );
    assert_eq!(p.read("copy of new\nline"), "2");
    assert_eq!(p.read("copy of -rf"), "3");
}

#[test]
fn uncommitted_and_untracked_work_goes_along() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "old\n")]);
    p.write("a", "edited\n");
    p.write("new/file", "new\n");
    assert_eq!(p.on("n1", "cat a new/file").ok().stdout(), "edited\nnew\n");
}

#[test]
fn ignored_files_come_back_where_they_are_expected() {
    let env = TestEnv::with_nodes(&["n1"]);
    let makefile = "all:\n\tmkdir -p build node_modules/x && echo app > build/app && echo cached > node_modules/x/y\n\
                    \techo line >> app.log\n";
    let p = env.project(&[
        ("Makefile", makefile),
        (".gitignore", "build/\nnode_modules/\n*.log\n"),
    ]);
    p.write("app.log", "old\n");
    p.cx(&["make"]).ok().says("[cx] n1 ");
    // Exists here and changed there; a build's output; a cache.
    assert_eq!(p.read("app.log"), "old\nline\n");
    assert_eq!(p.read("build/app"), "app\n");
    assert!(!p.has("node_modules"), "a cache came back: {:?}", p.list());
}

#[test]
fn untracked_secrets_stay_and_a_failed_run_says_so() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", ""), ("tracked.pem", "a test's certificate\n")]);
    p.write(".env", "TOKEN=1\n");
    p.write("deploy.key", "secret\n");
    p.on("n1", "test ! -e .env && test ! -e deploy.key && cat tracked.pem")
        .ok();
    assert!(
        p.has(".env") && p.has("deploy.key"),
        "what stayed here was deleted: {:?}",
        p.list()
    );
    p.on("n1", "cat .env").exits(1).says(".env");
}

#[test]
fn a_changed_file_is_newer_than_what_was_made_from_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("Makefile", "build: src\n\tcp src out\n\t@echo rebuilt > build\n"),
        ("src", "one\n"),
    ]);
    p.cx(&["run", "--on", "n1", "--", "make", "build"]).ok();
    assert_eq!(p.read("out"), "one\n");
    // As a checkout of an old commit with preserved times, or a clock that is behind, would do.
    p.write("src", "two\n");
    let old = Command::new("touch")
        .args(["-t", "200101010000"])
        .arg(p.dir.join("src"))
        .status()
        .unwrap();
    assert!(old.success());
    p.cx(&["run", "--on", "n1", "--", "make", "build"]).ok();
    assert_eq!(p.read("out"), "two\n");
}

#[test]
fn a_tree_without_git_is_a_workspace_by_its_marker() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.plain_project(
        "plain",
        &[
            ("Makefile", "test:\n\t@echo $$HOME; cat sub/x > made\n"),
            ("sub/x", "x\n"),
        ],
    );
    let mut command = p.cx_command(&["make", "-C", "..", "test"]);
    let out = env.run(command.current_dir(p.dir.join("sub")), b"").ok();
    assert!(
        out.stdout().contains(&*env.node("n1").home().to_string_lossy()),
        "{out:?}"
    );
    assert_eq!(p.read("made"), "x\n");
}

#[test]
fn worktrees_have_mirrors_of_their_own() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "main\n")]);
    p.git(&["worktree", "add", "-q", "../other", "-b", "other"]);
    fs::write(p.dir.join("../other/a"), "other\n").unwrap();
    let mut command = p.cx_command(&["run", "--on", "n1", "--", "cat", "a"]);
    let other = env.run(command.current_dir(p.dir.join("../other")), b"").ok();
    assert_eq!(other.stdout(), "other\n");
    assert_eq!(
        p.cx(&["run", "--on", "n1", "--", "cat", "a"]).ok().stdout(),
        "main\n"
    );
}

#[test]
fn git_commands_of_a_build_work_on_the_node() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    p.git(&["tag", "-a", "v1.2.3", "-m", "release"]);
    p.write("b", "");
    p.git(&["add", "-A"]);
    p.git(&["commit", "-qm", "second"]);
    let here = p.git(&["describe", "--tags", "--dirty"]);
    let there = p
        .cx(&["run", "--on", "n1", "--", "git", "describe", "--tags", "--dirty"])
        .ok();
    assert_eq!(there.stdout(), here);
}

#[test]
fn a_mirror_that_was_lost_is_made_again() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "1\n"), ("b", "2\n")]);
    p.on("n1", "cat a b").ok();
    // Behind the client's back: what it believes of the mirror is wrong now.
    p.on("n1", "true").ok();
    for dir in [".cache", ".local"] {
        let _ = fs::remove_dir_all(env.node("n1").home().join(dir));
    }
    assert_eq!(p.on("n1", "cat a b").ok().stdout(), "1\n2\n");
    assert!(p.has("a") && p.has("b"), "{:?}", p.list());
}

#[test]
fn what_comes_back_is_as_wide_as_the_node_is_trusted() {
    let env = TestEnv::with_nodes(&["n1"]);
    let makefile =
        "build:\n\t@echo 2 > src; echo new > new; mkdir -p dist && echo app > dist/app; echo 2 > app.log\n";
    for (write_back, comes) in [
        ("all", &["src", "new", "dist/app", "app.log"][..]),
        ("outputs", &["dist/app"]),
        ("none", &[]),
    ] {
        env.write_config(&format!(
            "[node.n1]\nwrite_back = \"{write_back}\"\n[[rule]]\nname = \"b\"\nmatch = [\"make build\"]\nclass = \"heavy\"\noutputs = [\"dist/**\"]\n"
        ));
        let p = env.named_project(
            write_back,
            &[
                ("Makefile", makefile),
                ("src", "1\n"),
                (".gitignore", "dist/\n*.log\n"),
            ],
        );
        p.write("app.log", "1\n");
        let before = p.list();
        let out = p.cx(&["make", "build"]).ok().says("[cx] n1 ");
        let after = p.list();
        let changed: Vec<&str> = ["src", "new", "dist/app", "app.log"]
            .into_iter()
            .filter(|f| {
                let of = |list: &[String]| list.iter().find(|l| l.starts_with(&format!("{f} "))).cloned();
                of(&before) != of(&after)
            })
            .collect();
        assert_eq!(changed, comes, "{write_back}: {out:?}");
        // What stayed there is no change here: this run says what is old, and what the next one, which meets the tree as it is here, undoes.
        let says: &[&str] = match write_back {
            "all" => &[],
            "outputs" => &["not taken: app.log, new, src (the next run undoes that there"],
            _ => &[
                "stays there: dist/app (cx pull dist/app)",
                "not taken: app.log, new, src (the next run undoes that there",
            ],
        };
        for words in ["stays there", "not taken"] {
            let said = says.iter().find(|s| s.starts_with(words));
            assert!(out.line().contains(said.unwrap_or(&"")), "{out:?}");
            assert_eq!(out.line().contains(words), said.is_some(), "{words}: {out:?}");
        }
        if write_back == "none" {
            p.cx(&["pull", "new"]).ok();
            assert_eq!(p.read("new"), "new\n");
            p.cx(&["run", "--on", "n1", "--", "true"]).ok();
            p.cx(&["pull", "dist/app"]).ok();
            assert_eq!(p.read("dist/app"), "app\n", "it stayed there");
        }
        let seen = p.cx(&["run", "--on", "n1", "--", "cat", "src"]).ok().stdout();
        assert_eq!(seen, p.read("src"), "{write_back}");
    }
}

#[test]
fn what_is_not_taken_is_counted_where_it_is_not_named() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let out = p.on(
        "n1",
        "mkdir .vscode; for i in 1 2 3 4 5; do echo $i > .vscode/$i; done; echo x > .envrc",
    );
    out.ok()
        .says(".envrc, .vscode, .vscode/1 and 4 more not taken: nothing from a node is put there");
    assert!(!p.has(".vscode") && !p.has(".envrc"));
}

#[test]
fn secrets_go_along_where_a_person_named_them() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    for (path, text) in [
        (".env", "1\n"),
        ("sub/.env.test", "2\n"),
        ("sub/deploy.key", "3\n"),
    ] {
        p.write(path, text);
    }
    let there = || {
        p.on("n1", "cat .env sub/.env.test sub/deploy.key 2>/dev/null; true")
            .ok()
    };
    assert_eq!(there().stdout(), "");
    // By the project, once it is trusted.
    p.write(".cx.toml", "include = [\".env.test\"]\n");
    let out = there();
    assert_eq!(out.stdout(), "");
    assert!(
        out.line()
            .contains(".env.test does not go along (cx trust allows it)"),
        "{out:?}"
    );
    let shown = p.cx(&["trust", "--yes"]).ok().stdout();
    assert!(shown.contains("get these secrets: .env.test"), "{shown}");
    assert_eq!(there().stdout(), "2\n");
    // By the user's own configuration.
    let old = fs::read_to_string(env.config_path()).unwrap();
    fs::write(
        env.config_path(),
        format!("include = [\"sub/deploy.key\"]\n{old}"),
    )
    .unwrap();
    assert_eq!(there().stdout(), "2\n3\n");
    assert_eq!(
        (p.read(".env"), p.read("sub/deploy.key")),
        ("1\n".into(), "3\n".into())
    );
}

#[test]
fn sources_that_go_by_the_hundred_stay_and_the_run_says_so() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[(".gitignore", "out\n")]);
    for i in 0..120 {
        p.write(&format!("src/{i}"), "");
        p.write(&format!("out/{i}"), "");
    }
    p.on("n1", "rm -r out").ok();
    assert!(!p.has("out"));
    let out = p.on("n1", "rm -r src").exits(75);
    let line = out.line();
    assert!(
        line.contains("ended with 0") && line.contains("src") && line.contains("remove here"),
        "{line}"
    );
    assert!(p.has("src/119"));
    p.sh("rm -r src").ok();
    p.on("n1", "test ! -e src").ok();
}
