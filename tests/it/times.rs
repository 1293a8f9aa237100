//! What a command only touched: make, ninja and cargo build there and here exactly what they would if all had run in one place.

use crate::harness::{Project, TestEnv};
use crate::stale::{has, on, with_cargo};

/// `gen.h` comes out the same whatever `gen.in` says.
const MAKEFILE: &str = "all: app\ngen.h: gen.in\n\t@echo made gen.h\n\t@echo '#define X 1' > gen.h\n\
                        app: gen.h\n\t@echo made app\n\t@echo app > app\n";

/// A project that was built here long ago.
fn built<'a>(env: &'a TestEnv, ignored: &str) -> Project<'a> {
    let files = [("Makefile", MAKEFILE), (".gitignore", ignored), ("gen.in", "1\n")];
    let p = env.named_project(&format!("p{}", ignored.len()), &files);
    p.sh("make && touch -d 2020-01-01 Makefile gen.in && touch -d 2020-01-02 gen.h && touch -d 2020-01-03 app && make -q")
        .ok();
    p
}

#[track_caller]
fn up_to_date(p: &Project, nodes: &[&str]) {
    p.sh("make -q").ok();
    for node in nodes {
        on(p, node, "make -q").ok();
    }
}

#[test]
fn what_was_made_again_alike_on_a_node_is_new_here() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    for ignored in ["", "gen.h\napp\n"] {
        let p = built(&env, ignored);
        up_to_date(&p, &["n1", "n2"]);
        p.write("gen.in", "2\n");
        assert_eq!(on(&p, "n1", "make").ok().stdout(), "made gen.h\nmade app\n");
        up_to_date(&p, &["n1", "n2"]);
        let times = "stat -c '%n %y' Makefile gen.in gen.h app";
        let before = p.sh(times).ok().stdout();
        up_to_date(&p, &["n1", "n2"]);
        assert_eq!(p.sh(times).ok().stdout(), before, "nothing was touched");
    }
}

#[test]
fn a_touch_here_reaches_the_nodes() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    for ignored in ["", "gen.h\napp\n"] {
        let p = built(&env, ignored);
        up_to_date(&p, &["n1", "n2"]);
        p.sh("touch gen.in; ! make -q").ok();
        // Sent there by a run that makes nothing of it, and not again.
        on(&p, "n1", "true").ok();
        assert_eq!(on(&p, "n1", "make").ok().stdout(), "made gen.h\nmade app\n");
        up_to_date(&p, &["n1", "n2"]);
        // What is built here is built for all.
        p.sh("touch gen.in; make").ok();
        up_to_date(&p, &["n1", "n2"]);
        // Into the past as well.
        p.sh("touch -d 2019-01-01 app; ! make -q").ok();
        assert_eq!(on(&p, "n2", "make").ok().stdout(), "made app\n");
        up_to_date(&p, &["n1", "n2"]);
    }
}

#[test]
fn an_edit_during_the_run_stays_newer_than_what_was_touched_there() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = built(&env, "");
    p.write("gen.in", "2\n");
    let script = "make; touch $HOME/made; while test ! -e $HOME/go; do sleep 0.01; done";
    let run = p.start_cx(&["run", "--on", "n1", "--", "sh", "-c", script]);
    let run = run.until_exists(&env.node("n1").home().join("made"));
    p.sh("touch gen.in app").ok();
    env.node("n1").write("go", "");
    run.wait().ok();
    p.sh("test app -nt gen.h && ! make -q").ok();
    assert_eq!(on(&p, "n1", "make").ok().stdout(), "made gen.h\nmade app\n");
    up_to_date(&p, &["n1"]);
}

#[test]
fn directories_are_as_old_as_if_it_had_run_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let makefile =
        "all: list\nout: in\n\t@rm -rf out; mkdir out; cp in out/f\nlist: out\n\t@echo list > list\n";
    let p = env.project(&[("Makefile", makefile), ("in", "1\n")]);
    p.sh("make && touch -d 2020-01-01 in Makefile && touch -d 2020-01-02 out && touch -d 2020-01-03 list && make -q")
        .ok();
    up_to_date(&p, &["n1"]);
    // Made anew, with the same in it.
    p.sh("touch in").ok();
    on(&p, "n1", "make").ok();
    up_to_date(&p, &["n1"]);
    // With something new in it, of which its listing is made.
    p.write("in", "2\n");
    on(&p, "n1", "make").ok();
    up_to_date(&p, &["n1"]);
    p.sh("touch -d 2021-01-01 out in; touch out; ! make -q").ok();
    on(&p, "n1", "make -q").exits(1);
    on(&p, "n1", "make").ok();
    up_to_date(&p, &["n1"]);
    p.sh("rm -r out list").ok();
    on(&p, "n1", "make").ok();
    up_to_date(&p, &["n1"]);
}

#[test]
fn ninja_and_cargo_build_what_they_would_here() {
    let env = with_cargo(&["n1"]);
    if !has(&env, &["cargo", "cc", "ninja"]) {
        return;
    }
    let ninja = "rule gen\n  command = echo 1 > $out\nrule cat\n  command = cat $in > $out\n\
                 build gen.h: gen gen.in\nbuild app: cat gen.h\n";
    let p = env.project(&[
        ("build.ninja", ninja),
        ("gen.in", "1\n"),
        (".gitignore", ".ninja_*\n"),
    ]);
    p.sh("ninja").ok();
    on(&p, "n1", "ninja").ok();
    p.write("gen.in", "2\n");
    on(&p, "n1", "ninja").ok();
    for place in ["here", "n1"] {
        let dry = |p: &Project| match place {
            "here" => p.sh("ninja -n").ok().stdout(),
            node => on(p, node, "ninja -n").ok().stdout(),
        };
        assert_eq!(dry(&p), "ninja: no work to do.\n", "{place}");
    }
    p.sh("touch gen.in").ok();
    assert!(on(&p, "n1", "ninja").ok().stdout().contains("[2/2]"));
    assert_eq!(p.sh("ninja -n").ok().stdout(), "ninja: no work to do.\n");

    let p = env.named_project(
        "crate",
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
            ),
            ("src/main.rs", "fn main() {}\n"),
            (".gitignore", "target/\n"),
        ],
    );
    let built = |out: String| out.contains("Compiling");
    assert!(built(on(&p, "n1", "cargo build --offline").ok().stderr()));
    assert!(!built(on(&p, "n1", "cargo build --offline").ok().stderr()));
    p.sh("touch src/main.rs").ok();
    assert!(built(on(&p, "n1", "cargo build --offline").ok().stderr()));
    assert!(!built(on(&p, "n1", "cargo build --offline").ok().stderr()));
    on(&p, "n1", "touch src/main.rs").ok();
    p.sh("cargo build -q --offline").ok();
    on(&p, "n1", "touch src/main.rs").ok();
    assert!(built(p.sh("cargo build --offline").ok().stderr()));
}
