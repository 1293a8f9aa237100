//! What goes on around a run, here or there, neither harms a tree nor lets anything stale pass for fresh.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Project, TestEnv, on};

/// The only mirror on n1: its tree, and what cx notes of it.
fn mirror(env: &TestEnv) -> (PathBuf, PathBuf) {
    let one = |dir: &Path| -> PathBuf {
        let mut found: Vec<_> = fs::read_dir(dir).unwrap().flatten().map(|e| e.path()).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    };
    let top = one(&one(&env.node("n1").home().join(".cache/cx/node/mirrors")));
    (one(&top.join("tree")), top.join("meta"))
}

#[test]
fn a_mirror_changed_behind_our_back_is_mended() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("a", "1\n"),
        ("b/c", "2\n"),
        ("run.sh", "#!/bin/sh\n"),
        (".gitignore", "*.o\n"),
    ]);
    p.git(&["tag", "v1.0"]);
    let ask = "cat a b/c; ls; test -x run.sh; git describe --tags --dirty; git status --porcelain";
    let right = p.on("n1", ask).ok().stdout();
    assert_eq!(right, p.sh(ask).ok().stdout());
    let (tree, meta) = mirror(&env);
    let before = p.list();
    let damages: &[(&str, &dyn Fn())] = &[
        ("edited", &|| fs::write(tree.join("a"), "other\n").unwrap()),
        ("deleted", &|| fs::remove_dir_all(tree.join("b")).unwrap()),
        ("added", &|| fs::write(tree.join("stray"), "").unwrap()),
        ("mode", &|| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("kind", &|| {
            fs::remove_file(tree.join("a")).unwrap();
            fs::create_dir_all(tree.join("a/b")).unwrap();
        }),
        ("git gone", &|| fs::remove_dir_all(tree.join(".git")).unwrap()),
        ("git HEAD", &|| fs::write(tree.join(".git/HEAD"), "junk").unwrap()),
        ("git index", &|| {
            fs::write(tree.join(".git/index"), "junk").unwrap()
        }),
        ("git objects", &|| {
            fs::remove_dir_all(tree.join(".git/objects")).unwrap()
        }),
        ("state lost", &|| fs::remove_file(meta.join("state")).unwrap()),
        ("state corrupt", &|| {
            fs::write(meta.join("state"), "junk").unwrap()
        }),
        ("tree gone", &|| fs::remove_dir_all(&tree).unwrap()),
        ("notes gone", &|| fs::remove_dir_all(&meta).unwrap()),
        ("all gone", &|| {
            fs::remove_dir_all(meta.parent().unwrap()).unwrap()
        }),
        ("journal junk", &|| {
            fs::write(meta.join("journal"), "junk").unwrap()
        }),
    ];
    for (what, damage) in damages {
        damage();
        let out = p.on("n1", ask).ok();
        assert_eq!(out.stdout(), right, "{what}: {out:?}");
        assert_eq!(p.list(), before, "{what}: {out:?}");
    }
}

/// A build whose output is too large to go along: it stays here and there, and is compared by nobody.
fn large_outputs(env: &TestEnv) -> Project<'_> {
    env.append_config("[policy]\nignored_limit = \"1KB\"\n");
    env.project(&[
        (".gitignore", "build/\n"),
        ("src", "one\n"),
        (
            "Makefile",
            "all: build/app build/more\nbuild/%: src\n\tmkdir -p build\n\thead -c 3000 /dev/zero > $@.tmp; cat src >> $@.tmp; mv $@.tmp $@\n",
        ),
    ])
}

fn built_from(p: &Project, name: &str) -> String {
    p.read(&format!("build/{name}"))
        .trim_start_matches('\0')
        .to_owned()
}

#[test]
fn outputs_that_were_lost_here_come_again() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = large_outputs(&env);
    let make = |p: &Project| p.cx(&["make"]).ok().says("[cx] n1 ");
    make(&p);
    assert_eq!(built_from(&p, "app"), "one\n");
    make(&p);
    // One of them; then all; then overwritten by a build here of what the source was for a while.
    fs::remove_file(p.dir.join("build/app")).unwrap();
    make(&p);
    assert_eq!(built_from(&p, "app"), "one\n");
    fs::remove_dir_all(p.dir.join("build")).unwrap();
    make(&p);
    assert_eq!(
        (built_from(&p, "app"), built_from(&p, "more")),
        ("one\n".into(), "one\n".into())
    );
    make(&p);
    p.write("src", "two\n");
    p.cx(&["run", "--local", "--", "make"]).ok();
    assert_eq!(built_from(&p, "app"), "two\n");
    p.write("src", "one\n");
    // What is as young as the look at the tree counts as an edit made since, and is kept; a person is slower than that.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let last = make(&p);
    assert_eq!(
        built_from(&p, "app"),
        "one\n",
        "what was built here from other source was left: {last:?}"
    );
}

#[test]
fn an_edit_during_a_build_makes_its_result_old() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        (".gitignore", "app\n"),
        ("src", "one\n"),
        (
            "Makefile",
            "app: src\n\tcp src app.tmp; touch $$HOME/began; while test ! -e $$HOME/go; do sleep 0.01; done; sleep 0.1; cat app.tmp > app; rm app.tmp\n",
        ),
    ]);
    let running = p.start_cx(&["run", "--on", "n1", "--", "make", "app"]);
    let home = env.node("n1").home();
    let running = running.until_exists(&home.join("began"));
    p.write("src", "two\n");
    fs::write(home.join("go"), "").unwrap();
    running.wait().ok();
    assert_eq!(p.read("app"), "one\n");
    p.sh("make -q app").exits(1);
}

#[test]
fn runs_that_share_a_mirror_make_no_conflicts() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 4\n");
    let p = env.project(&[("f", "0\n"), ("gone", ""), (".gitignore", "*.o\n")]);
    let script = "echo 1 > f; echo 1 > x.o; rm gone; touch $HOME/half; while test ! -e $HOME/go; do sleep 0.01; done; \
                  echo 2 > f; echo 2 > x.o; echo back > gone";
    let running = p.start_cx(&on("n1", script));
    let home = env.node("n1").home();
    let running = running.until_exists(&home.join("half"));
    p.on("n1", "true").ok();
    assert_eq!(
        (p.read("f"), p.read("x.o"), p.has("gone")),
        ("1\n".into(), "1\n".into(), false)
    );
    p.write("mine", "edited meanwhile\n");
    assert_eq!(p.on("n1", "cat mine f").ok().stdout(), "edited meanwhile\n1\n");
    fs::write(home.join("go"), "").unwrap();
    let out = running.wait().ok();
    assert!(!out.stderr().contains("meanwhile"), "{out:?}");
    assert_eq!(
        (p.read("f"), p.read("x.o"), p.read("gone")),
        ("2\n".into(), "2\n".into(), "back\n".into())
    );
    assert_eq!(p.read("mine"), "edited meanwhile\n");
    assert_eq!(
        p.on("n1", "cat f gone mine").ok().says("sync 0 files").stdout(),
        "2\nback\nedited meanwhile\n"
    );
}

#[test]
fn many_at_once_in_one_workspace() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 8\n");
    let p = env.project(&[("log/.keep", ""), ("a", "a\n")]);
    let runs: Vec<_> = (0..6)
        .map(|i| {
            let script = format!(
                "cat a > log/{i}; sleep 0.0{i}; echo {i} >> log/{i}; mkdir -p d; echo {i} > d/{i}; exit {i}"
            );
            p.start_cx(&on("n1", &script))
        })
        .collect();
    for (i, run) in runs.into_iter().enumerate() {
        let out = run.wait().exits(i as i32);
        assert!(
            !out.stderr().contains("meanwhile") && !out.stderr().contains("not taken"),
            "{out:?}"
        );
    }
    for i in 0..6 {
        assert_eq!(p.read(&format!("log/{i}")), format!("a\n{i}\n"));
        assert_eq!(p.read(&format!("d/{i}")), format!("{i}\n"));
    }
}

/// Runs a command that changes `b` and makes `c` while `meanwhile` happens here; the line about it.
fn during(env: &TestEnv, p: &Project, meanwhile: &[&[&str]]) -> String {
    let script =
        "touch $HOME/began; while test ! -e $HOME/go; do sleep 0.01; done; echo ran >> b; echo new > c";
    let running = p.start_cx(&on("n1", script));
    let home = env.node("n1").home();
    let running = running.until_exists(&home.join("began"));
    meanwhile.iter().for_each(|args| drop(p.git(args)));
    fs::write(home.join("go"), "").unwrap();
    running.wait().ok().line()
}

#[test]
fn a_commit_made_during_a_run_keeps_nothing_apart() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "a\n"), ("b", "b\n"), (".gitignore", "*.o\n")]);
    p.write("a", "edited\n");
    p.write("untracked", "");
    p.write("x.o", "");
    let line = during(
        &env,
        &p,
        &[
            &["add", "-A"],
            &["commit", "-qm", "second"],
            &["switch", "-qc", "topic"],
            &["commit", "-qm", "empty", "--allow-empty"],
        ],
    );
    assert!(!line.contains("HEAD"), "{line}");
    assert_eq!(
        (p.read("b"), p.read("c")),
        ("b\nran\n".to_owned(), "new\n".to_owned())
    );
}

#[test]
fn a_branch_that_only_brings_a_file_is_another_one() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "a\n"), ("b", "b\n")]);
    p.git(&["switch", "-qc", "other"]);
    p.write("more", "");
    p.git(&["add", "-A"]);
    p.git(&["commit", "-qm", "more"]);
    p.git(&["switch", "-q", "main"]);
    let line = during(&env, &p, &[&["switch", "-q", "other"]]);
    assert!(
        line.contains("HEAD moved here meanwhile: b, c as made there"),
        "{line}"
    );
    assert_eq!(p.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_branch_switched_during_a_run_is_left_as_it_is() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "main\n"), ("b", "b\n")]);
    p.git(&["switch", "-qc", "other"]);
    p.write("a", "other\n");
    p.git(&["commit", "-qam", "other"]);
    p.git(&["switch", "-q", "main"]);
    let script =
        "touch $HOME/began; while test ! -e $HOME/go; do sleep 0.01; done; echo ran >> a; echo new > c; rm b";
    let running = p.start_cx(&on("n1", script));
    let home = env.node("n1").home();
    let running = running.until_exists(&home.join("began"));
    p.git(&["switch", "-q", "other"]);
    fs::write(home.join("go"), "").unwrap();
    let out = running.wait().ok();
    assert!(
        out.line()
            .contains("HEAD moved here meanwhile: a, c as made there are in ")
            && out.line().contains("b deleted there: kept, as HEAD moved here")
            && !out.line().contains("changed here"),
        "{out:?}"
    );
    assert_eq!(p.git(&["status", "--porcelain"]), "");
    assert_eq!(p.on("n1", "cat a; ls").ok().stdout(), "other\na\nb\n");
}
