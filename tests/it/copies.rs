//! The verbs about the copies on the nodes: push, warm, pull, conflicts.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{TestEnv, on};

#[test]
fn push_and_warm_bring_copies_up_to_date_without_a_run() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    let p = env.project(&[("a", "1\n")]);
    let out = p.cx(&["push", "n1"]).ok().stdout();
    assert!(
        out.starts_with("n1: up to date, ") && out.lines().count() == 1,
        "{out}"
    );
    p.write("b", "2\n");
    // Only the one that has a copy.
    assert!(
        p.cx(&["push"])
            .ok()
            .stdout()
            .starts_with("n1: up to date, 1 files sent")
    );
    let out = p.cx(&["warm"]).ok().stdout();
    assert!(
        out.contains("n1: up to date, 0 files") && out.contains("n2: up to date, "),
        "{out}"
    );
    let run = p.cx(&["run", "--on", "n2", "--", "cat", "a", "b"]).ok();
    assert!(run.line().contains("sync 0 files"), "{run:?}");
    assert_eq!(run.stdout(), "1\n2\n");
    p.cx(&["push", "nobody"])
        .exits(1)
        .complains("not a configured node");
}

#[test]
fn pull_fetches_what_stayed_there_and_guards_what_was_edited_here() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    let p = env.project(&[
        ("src", "1\n"),
        (".gitignore", "node_modules/\n"),
        ("sub/x", "x\n"),
    ]);
    let script =
        "mkdir -p node_modules/m/empty && echo cached > node_modules/m/f && ln -s f node_modules/m/l";
    p.on("n1", script).ok();
    assert!(!p.has("node_modules"));
    let mut command = p.cx_command(&["pull", "../node_modules"]);
    env.run(command.current_dir(p.dir.join("sub")), b"").ok();
    assert_eq!(p.read("node_modules/m/f"), "cached\n");
    assert!(p.has("node_modules/m/empty") && p.has("node_modules/m/l"));
    p.cx(&["pull", "--on", "n2", "node_modules"])
        .exits(1)
        .complains("not found");
    p.cx(&["pull", "no/such"]).exits(1).complains("no/such");
    p.cx(&["pull", "../outside"]).exits(1).complains("no path inside");

    p.write("src", "edited here\n");
    let mode = || fs::metadata(p.dir.join("src")).unwrap().permissions().mode() & 0o777;
    let before = mode();
    let out = p.cx(&["pull", "src"]).exits(1);
    assert_eq!(p.read("src"), "edited here\n", "{out:?}");
    let list = p.cx(&["conflicts"]).ok().stdout();
    let id = list.split_whitespace().next().unwrap().to_owned();
    assert!(list.contains("    src\n") && list.contains("from n1"), "{list}");
    let diff = p.cx(&["conflicts", "show", &id]).ok().stdout();
    assert!(diff.contains("-edited here") && diff.contains("+1"), "{diff}");
    p.cx(&["conflicts", "take", &id, "other"]).exits(1);
    p.cx(&["conflicts", "take", &id]).ok();
    assert_eq!((p.read("src").as_str(), mode()), ("1\n", before));
    assert_eq!(
        p.cx(&["conflicts", "list"]).ok().stdout(),
        "no conflicts are kept\n"
    );
}

#[test]
fn pull_keeps_a_file_that_the_node_never_had() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", ""), (".cxignore", "nope\n"), (".gitignore", "nope\n")]);
    p.write("nope", "mine\n");
    p.on("n1", "echo theirs > nope").ok();
    let out = p.cx(&["pull", "nope"]).exits(1);
    assert_eq!(p.read("nope"), "mine\n", "{out:?}");
    let list = p.cx(&["conflicts"]).ok().stdout();
    assert!(list.contains("    nope\n"), "{list}");
    // What came from there and was left alone since is no work of this side's.
    fs::remove_file(p.dir.join("nope")).unwrap();
    p.cx(&["pull", "nope"]).ok();
    assert_eq!(p.read("nope"), "theirs\n");
    p.on("n1", "echo again > nope").ok();
    p.cx(&["pull", "nope"]).ok();
    assert_eq!(p.read("nope"), "again\n");
}

#[test]
fn a_conflict_is_kept_until_it_is_dropped() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "1\n")]);
    let script = "touch $HOME/began; while test ! -e $HOME/go; do sleep 0.01; done; echo there > a";
    let running = p.start_cx(&on("n1", script));
    let home = env.node("n1").home();
    let running = running.until_exists(&home.join("began"));
    p.write("a", "here\n");
    fs::write(home.join("go"), "").unwrap();
    let out = running.wait().ok().says("cx conflicts show");
    assert_eq!(p.read("a"), "here\n", "{out:?}");
    let list = p.cx(&["conflicts"]).ok().stdout();
    let id = list.split_whitespace().next().unwrap().to_owned();
    p.cx(&["conflicts", "drop", "../x"]).exits(1);
    p.cx(&["conflicts", "drop", &id]).ok();
    assert_eq!(p.cx(&["conflicts"]).ok().stdout(), "no conflicts are kept\n");
}
