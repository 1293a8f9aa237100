//! Trees on a file system that this machine and a node share: nothing is synced. (The nodes of these tests are this machine, so
//! they share everything; where they must not, cx itself runs in a mount namespace with a file system of its own.)

use std::fs;
use std::path::Path;

use crate::harness::{CX, TestEnv, on};

const MAKEFILE: &str =
    "test:\n\t@echo $$HOME; pwd; cat deps/tool; echo made > out.txt; echo ignored > deps/new\n";

fn env_with_shared() -> TestEnv {
    let env = TestEnv::with_nodes(&["n1"]);
    let work = env.home().join("work");
    env.write_config("");
    let old = fs::read_to_string(env.config_path()).unwrap();
    fs::write(
        env.config_path(),
        format!("shared = [\"{}\"]\n{old}", work.display()),
    )
    .unwrap();
    env
}

fn marks(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(|e| e.file_name().into_string().unwrap());
    names.filter(|n| n.starts_with(".cx-shared")).collect()
}

#[test]
fn a_command_runs_in_the_shared_tree_itself() {
    let env = env_with_shared();
    let p = env.project(&[("Makefile", MAKEFILE), (".gitignore", "deps/\n"), ("sub/x", "")]);
    fs::write(env.home().join("work/outside"), "x\n").unwrap();
    p.write("deps/tool", "installed here\n");
    let out = p.cx(&["make", "test"]).ok().says("in the shared tree");
    let lines: Vec<String> = out.stdout().lines().map(str::to_owned).collect();
    assert_eq!(env.place(&out.stdout()), "n1");
    assert_eq!(lines[1..], [p.dir.display().to_string(), "installed here".into()]);
    assert_eq!(
        (p.read("out.txt"), p.read("deps/new")),
        ("made\n".into(), "ignored\n".into())
    );
    assert!(!env.node("n1").home().join(".cache/cx/node/mirrors").exists());
    // Also from a directory below, and with what lies beside the project.
    let mut command = p.cx_command(&on("n1", "pwd; cat ../../outside; exit 3"));
    let out = env.run(command.current_dir(p.dir.join("sub")), b"").exits(3);
    assert_eq!(out.stdout(), format!("{}\nx\n", p.dir.join("sub").display()));
    let none: [String; 0] = [];
    assert_eq!(marks(&p.dir.join(".git")), none);
    assert_eq!(marks(&p.dir), none);
}

#[test]
fn what_was_made_here_is_there_in_a_shared_tree() {
    let env = env_with_shared();
    let p = env.plain_project(
        "plain",
        &[
            ("package.json", "{}\n"),
            ("node_modules/.bin/jest", "#!/bin/sh\necho $HOME\n"),
        ],
    );
    let out = p.cx(&["node_modules/.bin/jest"]).ok().says("in the shared tree");
    assert_eq!(env.place(&out.stdout()), "n1");
    let none: [String; 0] = [];
    assert_eq!(marks(&p.dir), none);
}

#[cfg(target_os = "linux")]
#[test]
fn a_tree_that_is_not_shared_after_all_is_synced_to_the_same_node() {
    let env = env_with_shared();
    let work = env.home().join("work");
    // The node has another tree at this very path.
    env.project(&[("Makefile", "test:\n\t@echo the wrong tree\n"), ("a", "")]);
    let script = format!(
        "mount -t tmpfs none {work} && mkdir {work}/app && cd {work}/app && git init -q && \
         printf 'test:\\n\\t@echo $$HOME; cat data; echo x > made\\n' > Makefile && echo data > data && \
         {CX} make test && cat made && {CX} make test && find . -name '.cx-shared*'",
        work = work.display()
    );
    let Some(out) = env.apart(&script) else {
        // Nothing to be shown here.
        return;
    };
    let out = out.ok();
    let home = env.node("n1").home().display().to_string();
    assert_eq!(
        out.stdout(),
        format!("{home}\ndata\nx\n{home}\ndata\n"),
        "{out:?}"
    );
    let told = out.stderr().matches("n1: the tree is not shared with it").count();
    assert_eq!(told, 1, "{out:?}");
}

#[test]
fn a_dead_node_leaves_no_mark() {
    let mut env = env_with_shared();
    env.node_mut("n1").stop();
    let p = env.project(&[("Makefile", "test:\n\t@echo $$HOME\n")]);
    let out = p.cx(&["make", "test"]).ok();
    assert_eq!(env.place(&out.stdout()), "local");
    let none: [String; 0] = [];
    assert_eq!(marks(&p.dir.join(".git")), none);
}
