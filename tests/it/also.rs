//! Trees outside the workspace that a command needs: `also = ["../lib"]`.

use std::fs;

use crate::harness::{CX, Project, TestEnv, on};

const MAKEFILE: &str = "test:\n\t@echo $$HOME; cat ../lib/data; cd ../lib && pwd\n\t@../lib/run.sh\n\t@echo made > ../lib/new; \
                        echo more >> ../lib/data; rm ../lib/gone; echo x > here\n";
const RUN: &str = "#!/bin/sh\necho ran > ../lib/by-script; echo log >> ../lib/app.log; pwd\n";
const LIB: &[(&str, &str)] = &[
    ("data", "one\n"),
    ("gone", ""),
    ("run.sh", RUN),
    ("app.log", "old\n"),
    (".gitignore", "*.log\n"),
];

fn app<'a>(env: &'a TestEnv, lib: &[(&str, &str)]) -> (Project<'a>, Project<'a>) {
    let app = env.project(&[("Makefile", MAKEFILE), (".cx.toml", "also = [\"../lib\"]\n")]);
    (app, env.named_project("lib", lib))
}

/// Both trees after a run are as if it had run here.
fn assert_as_here(app: &Project, lib: &Project) {
    assert_eq!(lib.read("data"), "one\nmore\n");
    assert_eq!(
        (lib.read("new"), lib.read("by-script")),
        ("made\n".into(), "ran\n".into())
    );
    assert_eq!(
        lib.read("app.log"),
        "old\nlog\n",
        "an ignored file that exists here"
    );
    assert!(!lib.has("gone"));
    assert_eq!(app.read("here"), "x\n");
}

#[test]
fn a_tree_beside_the_project_goes_along_and_its_changes_come_back() {
    for paths in ["auto", "rewrite"] {
        let env = TestEnv::with_nodes(&["n1"]);
        env.append_config(&format!("[node.n1]\npaths = \"{paths}\"\n"));
        let (app, lib) = app(&env, LIB);
        // Not without a person's word.
        let out = app.cx(&["run", "--on", "n1", "--", "true"]).ok();
        assert!(
            out.line()
                .contains("../lib does not go along (cx trust allows it)"),
            "{out:?}"
        );
        let shown = app.cx(&["trust", "--yes"]).ok().stdout();
        assert!(shown.contains("these directories: ../lib"), "{shown}");

        let out = app.cx(&["make", "test"]).ok();
        let lines: Vec<String> = out.stdout().lines().map(str::to_owned).collect();
        assert_eq!(env.place(&out.stdout()), "n1", "{out:?}");
        let (top, beside) = (app.dir.display().to_string(), lib.dir.display().to_string());
        assert_eq!(lines[1..], ["one".into(), beside, top], "{paths}");
        assert_as_here(&app, &lib);

        // What changes here goes along; a program there is found from a directory below, too.
        lib.write("gone", "");
        lib.write("data", "two\n");
        let out = app.cx(&["run", "--on", "n1", "--", "../lib/run.sh"]).ok();
        assert_eq!(lib.read("app.log"), "old\nlog\nlog\n", "{out:?}");
        let out = app.cx(&["run", "--on", "n1", "--", "cat", "../lib/data"]).ok();
        assert_eq!(out.stdout(), "two\n");
        // An argument outside the project is none any more.
        let out = app.cx(&["make", "-f", "../lib/other.mk"]);
        assert!(!out.line().contains("outside the workspace"), "{out:?}");
        // The library is a project of its own, with the same mirror.
        let out = lib
            .cx(&["run", "--on", "n1", "--", "cat", "data"])
            .ok()
            .says("sync 0 files");
        assert_eq!(out.stdout(), "two\n");
        let listed = env.cx(&["gc"]).ok().stdout();
        assert_eq!(listed.matches(" mirror ").count(), 2, "{listed}");
    }
}

#[test]
fn a_file_that_changed_on_both_sides_is_kept_apart_there_too() {
    let env = TestEnv::with_nodes(&["n1"]);
    let (app, lib) = app(&env, LIB);
    app.cx(&["trust", "--yes"]).ok();
    let home = env.node("n1").home();
    let script = "echo there > ../lib/data; touch $HOME/begun; until test -e $HOME/go; do sleep 0.05; done";
    let run = app.start_cx(&on("n1", script)).until_exists(&home.join("begun"));
    lib.write("data", "here\n");
    fs::write(home.join("go"), "").unwrap();
    let out = run.wait().ok();
    assert_eq!(lib.read("data"), "here\n");
    assert!(
        out.line().contains("../lib: data changed here meanwhile"),
        "{out:?}"
    );
    let listed = app.cx(&["conflicts"]).ok().stdout();
    assert!(listed.contains(&lib.dir.display().to_string()), "{listed}");
}

#[test]
fn what_can_not_go_along_keeps_the_command_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("Makefile", "test:\n\t@echo $$HOME\n")]);
    fs::create_dir(env.home().join("work/real")).unwrap();
    std::os::unix::fs::symlink("real", env.home().join("work/link")).unwrap();
    for (also, says) in [
        ("../none", "No such file"),
        ("../..", "your home directory or above it"),
        ("../../..", "your home directory or above it"),
        ("../app/sub/..", "above the project, or in it"),
        ("..", "no path out of the workspace"),
        ("../link/../app/sub", ""),
    ] {
        fs::create_dir_all(p.dir.join("sub")).unwrap();
        p.write(".cx.toml", &format!("also = [\"{also}\"]\n"));
        let trust = p.cx(&["trust", "--yes"]);
        assert_eq!(
            trust.stdout().contains("commands stay here"),
            also != "..",
            "{trust:?}"
        );
        let out = p.cx(&["make", "test"]).ok();
        assert_eq!(env.place(&out.stdout()), "local", "{also}: {out:?}");
        assert!(out.line().contains(says), "{also}: {out:?}");
        // Who names a node is told.
        let out = p.cx(&["run", "--on", "n1", "--", "true"]).ok();
        assert!(also == ".." || out.line().contains(says), "{also}: {out:?}");
    }
    p.write(".cx.toml", "also = [\"../link\", \"../real\"]\n");
    p.cx(&["trust", "--yes"]).ok();
    assert!(p.cx(&["make", "test"]).ok().line().contains("named twice"));
}

#[cfg(target_os = "linux")]
#[test]
fn both_stand_at_their_own_paths_where_the_node_has_neither() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\npaths = \"direct\"\n");
    let work = env.home().join("work");
    // What the test writes into its own file system, the node does not see.
    let write = |path: &str, text: &str| {
        format!(
            "printf '%b' '{}' > {path}\n",
            text.replace('\n', "\\n").replace('\'', "'\\''")
        )
    };
    let script = format!(
        "mount -t tmpfs none {work}; mkdir {work}/app {work}/lib; cd {work}/app; git init -q\n{}{}{}\
         {CX} trust --yes >&2; {CX} make test; cat here ../lib/data; {CX} make test; cat ../lib/data\n",
        write(
            "Makefile",
            "test:\n\t@pwd; cat ../lib/data; cd ../lib && pwd; echo more >> data; echo x > ../app/here\n"
        ),
        write(".cx.toml", "also = [\"../lib\"]\n"),
        write("../lib/data", "one\n"),
        work = work.display()
    );
    let Some(out) = env.apart(&script) else {
        // Nothing to be shown here.
        return;
    };
    let out = out.ok();
    let (top, lib) = (
        work.join("app").display().to_string(),
        work.join("lib").display().to_string(),
    );
    let want = format!("{top}\none\n{lib}\nx\none\nmore\n{top}\none\nmore\n{lib}\none\nmore\nmore\n");
    assert_eq!(out.stdout(), want, "{out:?}");
    assert!(work.join("lib/data").exists(), "the node's own");
    env.cx(&["nodes", "remove", "--purge", "n1"]).ok();
    let left: Vec<_> = fs::read_dir(&work)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
