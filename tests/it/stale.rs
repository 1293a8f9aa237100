//! Build here, run there, and back, with the real tools: no program that is older than what was built last is ever run in silence.

use std::fs;
use std::path::Path;

use crate::harness::{Output, Project, TestEnv};

/// A world in which cargo, too, is found here and on the nodes: the one that builds these tests.
pub(crate) fn with_cargo(names: &[&str]) -> TestEnv {
    let mut env = TestEnv::with_nodes(names);
    let tools = Path::new(env!("CARGO")).parent().unwrap().display().to_string();
    for name in names {
        let profile = format!("export PATH={tools}:$PATH\n");
        env.node(name).write(".profile", &profile);
    }
    env.set("PATH", format!("{tools}:/usr/local/bin:/usr/bin:/bin"));
    env
}

/// Whether the tools are here; where one is missing the test says so and shows nothing.
pub(crate) fn has(env: &TestEnv, tools: &[&str]) -> bool {
    let missing = |tool: &&&str| {
        let mut ask = env.command("sh", &env.home());
        env.run(ask.args(["-c", &format!("command -v {tool}")]), b"")
            .status()
            != 0
    };
    let gone: Vec<_> = tools.iter().filter(missing).collect();
    #[expect(clippy::print_stderr, reason = "a test that shows nothing says so")]
    if !gone.is_empty() {
        eprintln!("not shown: {gone:?} are not installed");
    }
    gone.is_empty()
}

pub(crate) fn on(project: &Project, node: &str, command: &str) -> Output {
    let mut args = vec!["run", "--on", node, "--"];
    args.extend(command.split(' '));
    project.cx(&args)
}

fn rust(version: u32) -> String {
    format!(
        "fn main() {{ let at = std::env::var(\"TEST_NODE\"); println!(\"v{version} {{}}\", at.as_deref().unwrap_or(\"here\")); }}\n"
    )
}

const CRATE: &str = "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";

#[test]
fn a_program_that_cargo_built_is_the_newest_one_wherever_it_runs() {
    let env = with_cargo(&["n1", "n2"]);
    if !has(&env, &["cargo", "cc"]) {
        return;
    }
    let p = env.project(&[
        ("Cargo.toml", CRATE),
        ("src/main.rs", &rust(1)),
        (
            "tests/t.rs",
            "#[test] fn runs() { assert!(std::process::Command::new(env!(\"CARGO_BIN_EXE_x\")).status().unwrap().success()); }\n",
        ),
        (".gitignore", "target/\n"),
    ]);
    let x = "./target/debug/x";
    on(&p, "n1", "cargo build -q --offline").ok();
    let out = on(&p, "n1", x).ok();
    assert_eq!(out.stdout(), "v1 n1\n");
    assert!(
        out.line().contains("sync 0 files"),
        "it lies there already: {out:?}"
    );
    assert_eq!(on(&p, "n2", x).ok().stdout(), "v1 n2\n", "built on the other");

    p.write("src/main.rs", &rust(2));
    p.sh("cargo build -q --offline").ok();
    assert_eq!(on(&p, "n1", x).ok().stdout(), "v2 n1\n", "built here");

    p.write("src/main.rs", &rust(3));
    on(&p, "n2", "cargo build -q --offline").ok();
    assert_eq!(on(&p, "n1", x).ok().stdout(), "v3 n1\n", "built on the other");
    assert_eq!(p.sh(x).ok().stdout(), "v3 here\n");

    p.write("src/main.rs", &rust(4));
    on(&p, "n1", "cargo test -q --offline").ok();
    assert_eq!(p.sh(x).ok().stdout(), "v4 here\n", "cargo test builds it, too");
    assert_eq!(on(&p, "n2", x).ok().stdout(), "v4 n2\n");

    // What was sent there has not made the caches there cold, nor stale.
    let again = on(&p, "n1", "cargo build --offline").ok();
    assert!(!again.said().iter().any(|l| l.contains("Compiling")), "{again:?}");
    p.write("src/main.rs", &rust(5));
    on(&p, "n2", "cargo build -q --offline").ok();
    assert_eq!(on(&p, "n2", x).ok().stdout(), "v5 n2\n");
    // Nothing of it is taken from either side by a run that does not name it.
    on(&p, "n2", "true").ok();
    p.write(
        "look.sh",
        "#!/bin/sh\nls target/debug/deps/*.d | head -1; ./target/debug/x\n",
    );
    let out = on(&p, "n2", "./look.sh").ok().stdout();
    assert!(
        out.starts_with("target/debug/deps/") && out.ends_with("v5 n2\n"),
        "{out}"
    );
}

const C: &str = "#include <stdio.h>\n#include <stdlib.h>\n#include \"version.h\"\n\
                 int main(void) { char *at = getenv(\"TEST_NODE\"); printf(\"%s %s\\n\", VERSION, at ? at : \"here\"); return 0; }\n";

fn version(n: u32) -> String {
    format!("#define VERSION \"v{n}\"\n")
}

#[test]
fn a_program_that_make_built_is_the_newest_one_wherever_it_runs() {
    for limit in ["32MB", "1KB"] {
        let env = TestEnv::with_nodes(&["n1", "n2"]);
        if !has(&env, &["make", "cc"]) {
            return;
        }
        env.append_config(&format!("[policy]\nignored_limit = \"{limit}\"\n"));
        let p = env.project(&[
            ("main.c", C),
            ("version.h", &version(1)),
            (
                "Makefile",
                "out/app: out/main.o\n\tcc -o $@ $<\nout/main.o: main.c version.h\n\tmkdir -p out; cc -c -o $@ $<\n",
            ),
            (".gitignore", "out/\n"),
        ]);
        let app = |node: &str| on(&p, node, "./out/app").ok().stdout();
        on(&p, "n1", "make").ok();
        assert_eq!(
            (app("n1"), app("n2")),
            ("v1 n1\n".into(), "v1 n2\n".into()),
            "{limit}"
        );
        p.write("version.h", &version(2));
        on(&p, "n2", "make").ok();
        assert_eq!(
            (app("n1"), app("n2")),
            ("v2 n1\n".into(), "v2 n2\n".into()),
            "{limit}"
        );
        p.write("version.h", &version(3));
        p.sh("make").ok();
        assert_eq!(
            (app("n1"), app("n2")),
            ("v3 n1\n".into(), "v3 n2\n".into()),
            "{limit}"
        );
        // A program that was sent is not taken for newer than the source that comes later.
        p.write("version.h", &version(4));
        on(&p, "n1", "make").ok();
        assert_eq!(
            (app("n2"), app("n1")),
            ("v4 n2\n".into(), "v4 n1\n".into()),
            "{limit}"
        );
        p.write("version.h", &version(5));
        assert_eq!(p.sh("make -s && ./out/app").ok().stdout(), "v5 here\n", "{limit}");
        assert_eq!(
            p.sh("cx run --on n2 -- make -s && cx run --on n1 ./out/app")
                .ok()
                .stdout(),
            "v5 n1\n"
        );
    }
}

#[test]
fn what_cmake_built_is_tested_as_it_was_built_last() {
    for limit in ["32MB", "1KB"] {
        let env = TestEnv::with_nodes(&["n1", "n2"]);
        if !has(&env, &["cmake", "ctest", "make", "cc"]) {
            return;
        }
        env.append_config(&format!("[policy]\nignored_limit = \"{limit}\"\n"));
        let p = env.project(&[
            ("main.c", C),
            ("version.h", &version(1)),
            (
                "CMakeLists.txt",
                "cmake_minimum_required(VERSION 3.10)\nproject(x C)\nenable_testing()\nadd_executable(app main.c)\nadd_test(NAME t COMMAND app)\n",
            ),
            (".gitignore", "build/\n"),
        ]);
        p.sh("cx cmake -S . -B build && cx cmake --build build").ok();
        let test = |script: &str| {
            let out = p.sh(&format!("{script} >log 2>&1; cat log")).ok();
            let text = out.stdout();
            let at = text
                .find(": v")
                .unwrap_or_else(|| panic!("{limit} {script}: {text}"));
            text[at + 2..].split(' ').next().unwrap().to_owned()
        };
        assert_eq!(test("cx ctest --test-dir build -V"), "v1", "{limit}");
        p.write("version.h", &version(2));
        assert_eq!(
            test("cx cmake --build build && cx ctest --test-dir build -V"),
            "v2",
            "{limit}"
        );
        p.write("version.h", &version(3));
        p.sh("cmake --build build").ok();
        assert_eq!(test("cx ctest --test-dir build -V"), "v3", "built here, {limit}");
        assert!(p.sh("cx ./build/app").ok().stdout().starts_with("v3"), "{limit}");
        p.write("version.h", &version(4));
        assert_eq!(
            test("cx cmake --build build && ctest --test-dir build -V"),
            "v4",
            "tested here, {limit}"
        );
    }
}

#[test]
fn what_cmake_configured_here_is_built_and_tested_where_it_has_the_same_path() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    if !has(&env, &["cmake", "ctest", "make", "cc"]) {
        return;
    }
    env.append_config("[node.n2]\npaths = \"rewrite\"\n");
    let p = env.project(&[
        ("main.c", C),
        ("version.h", &version(1)),
        (
            "CMakeLists.txt",
            "cmake_minimum_required(VERSION 3.10)\nproject(x C)\nenable_testing()\nadd_executable(app main.c)\nadd_test(NAME t COMMAND app)\n",
        ),
        (".gitignore", "build/\n"),
    ]);
    p.sh("cmake -S . -B build && cmake --build build").ok();
    // Where the paths differ it does not go, whoever says so.
    let refused = p
        .cx(&["run", "--on", "n2", "--", "cmake", "--build", "build"])
        .exits(76);
    assert!(
        refused.line().contains("it can't show the tree at its own path"),
        "{refused:?}"
    );
    p.cx(&["run", "--on", "n1", "--", "true"]).ok();
    if !env
        .cx(&["nodes", "list"])
        .ok()
        .stdout()
        .contains("paths namespace")
    {
        return;
    }
    let build = ["cmake", "--build", "build"];
    let out = p.cx(&build).ok().says("[cx] n1 ");
    assert!(!out.stdout().contains("Building"), "built already: {out:?}");
    // It is n1's now, and still bound to the path.
    p.cx(&["run", "--on", "n2", "--", "cmake", "--build", "build"])
        .exits(76)
        .says("it can't show the tree at its own path");
    p.write("version.h", &version(2));
    assert!(p.cx(&build).ok().stdout().contains("Building"));
    assert!(p.sh("./build/app").ok().stdout().starts_with("v2 here"));
    let again = p.sh("cmake --build build").ok().stdout();
    assert!(!again.contains("Building"), "built there: {again}");
    let out = p
        .cx(&["ctest", "--test-dir", "build", "-V"])
        .ok()
        .says("[cx] n1 ");
    assert!(out.stdout().contains(": v2 n1"), "{out:?}");

    // What its cache names must be there, too.
    p.sh("rm -r build; mkdir -p ../pkg; cmake -S . -B build -DPKG_DIR:PATH=$(cd ../pkg; pwd)")
        .ok();
    p.cx(&build).ok().says("[cx] n1 ");
    p.sh("rm -r build; cmake -S . -B build").ok();
    env.append_config("[policy]\nignored_limit = \"1KB\"\n");
    p.cx(&build)
        .ok()
        .says("[cx] local: build was made on this machine and is too large to go along (ignored_limit)");
}

#[test]
fn ninja_and_generated_sources_are_the_newest_wherever_they_are_made() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    if !has(&env, &["ninja", "cc"]) {
        return;
    }
    let p = env.project(&[
        ("main.c", C),
        ("version.txt", "1\n"),
        (
            "build.ninja",
            "rule gen\n  command = sed 's/.*/#define VERSION \"v&\"/' $in > $out\nrule cc\n  command = cc -I. -o $out $in\n\
             build version.h: gen version.txt\nbuild app: cc main.c | version.h\n",
        ),
        (".gitignore", "version.h\napp\n.ninja_*\n"),
    ]);
    for (wanted, builder) in (1..).zip([
        "cx run --on n1 -- ninja",
        "cx run --on n2 -- ninja",
        "ninja",
        "cx run --on n1 -- ninja",
    ]) {
        p.write("version.txt", &format!("{wanted}\n"));
        p.sh(builder).ok();
        for runner in ["cx run --on n1 --", "cx run --on n2 --", ""] {
            let out = p.sh(&format!("{runner} ./app")).ok();
            assert!(
                out.stdout().starts_with(&format!("v{wanted} ")),
                "{builder}, {runner}: {out:?}"
            );
        }
        assert_eq!(p.read("version.h"), version(wanted), "{builder}");
    }
    // And nothing is made that is made already.
    let out = p.sh("cx run --on n1 -- ninja").ok();
    assert!(out.stdout().contains("no work to do"), "{out:?}");
}

#[test]
fn worktrees_do_not_run_each_others_programs() {
    let env = with_cargo(&["n1"]);
    if !has(&env, &["cargo", "cc"]) {
        return;
    }
    let p = env.project(&[
        ("Cargo.toml", CRATE),
        ("src/main.rs", &rust(1)),
        (".gitignore", "target/\n"),
    ]);
    on(&p, "n1", "cargo build -q --offline").ok();
    p.git(&["worktree", "add", "-q", "../second", "-b", "second"]);
    let second = env.plain_project("second", &[("src/main.rs", &rust(2))]);
    on(&second, "n1", "cargo build -q --offline").ok();
    let x = "./target/debug/x";
    assert_eq!(on(&p, "n1", x).ok().stdout(), "v1 n1\n");
    assert_eq!(on(&second, "n1", x).ok().stdout(), "v2 n1\n");
    p.write("src/main.rs", &rust(3));
    on(&p, "n1", "cargo build -q --offline").ok();
    assert_eq!(on(&second, "n1", x).ok().stdout(), "v2 n1\n");
    assert_eq!(on(&p, "n1", x).ok().stdout(), "v3 n1\n");
    assert_eq!(second.sh(x).ok().stdout(), "v2 here\n");
}

#[test]
fn a_branch_switch_during_a_build_leaves_no_program_of_the_old_branch() {
    let env = TestEnv::with_nodes(&["n1"]);
    if !has(&env, &["make", "cc"]) {
        return;
    }
    let p = env.project(&[
        ("main.c", C),
        ("version.h", &version(1)),
        (
            "Makefile",
            "app: main.c version.h\n\tcc -o $@ main.c\n\tif test -n \"$$TEST_NODE\"; then touch $(HOME)/ready; until test -e $(HOME)/go; do sleep 0.05; done; fi\n",
        ),
        (".gitignore", "app\n"),
    ]);
    p.git(&["checkout", "-q", "-b", "other"]);
    p.write("version.h", &version(2));
    p.git(&["commit", "-q", "-a", "-m", "two"]);
    p.git(&["checkout", "-q", "main"]);
    let home = env.node("n1").home();
    let running = p.start_cx(&["run", "--on", "n1", "--", "make"]);
    let running = running.until_exists(&home.join("ready"));
    p.git(&["checkout", "-q", "other"]);
    fs::write(home.join("go"), "").unwrap();
    let out = running.wait().ok();
    assert!(!p.has("app"), "it is the other branch's: {out:?}");
    assert!(out.said().iter().any(|l| l.contains("cx conflicts")), "{out:?}");
    assert_eq!(
        p.sh("cx run --on n1 -- make -s && cx run --on n1 -- ./app")
            .ok()
            .stdout(),
        "v2 n1\n"
    );
    assert_eq!(p.sh("make -s && ./app").ok().stdout(), "v2 here\n");
    p.git(&["checkout", "-q", "main"]);
    assert_eq!(
        p.sh("cx run --on n1 -- make -s && cx run --on n1 -- ./app")
            .ok()
            .stdout(),
        "v1 n1\n"
    );
}

#[test]
fn what_no_longer_goes_is_never_an_old_version_there() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[policy]\nignored_limit = \"10KB\"\n");
    let p = env.project(&[
        (".gitignore", "*.bin\nbuild/\n.env\n"),
        (
            "Makefile",
            "n:\n\t@cat named.bin\nk:\n\t@cat kept.bin\nb:\n\t@cat build/app\ne:\n\t@cat .env\n",
        ),
        ("named.bin", "v1"),
        ("kept.bin", "k1"),
        ("build/app", "b1"),
    ]);
    p.write(".env", "S=1\n");
    p.git(&["add", "-f", ".env"]);
    p.git(&["commit", "-qm", "env"]);
    let large = |text: &str| format!("{text}\n{}", "x".repeat(20_000));
    p.write("named.bin", &large("v1"));
    let see = |target: &str| {
        let out = p.cx(&["run", "--on", "n1", "--", "make", "-s", target]);
        let text = out.stdout();
        text.lines().next().unwrap_or_default().to_owned()
    };
    // One goes as it is named, the others as they are small.
    p.cx(&["run", "--on", "n1", "--", "cat", "named.bin"]).ok();
    assert_eq!(see("n"), "v1", "unchanged, it is still the right one");
    assert_eq!((see("b"), see("e")), ("b1".into(), "S=1".into()));
    // They change here, and don't go any more.
    p.write("named.bin", &large("v2"));
    p.write("build/app", &large("b2"));
    p.git(&["rm", "-q", "--cached", ".env"]);
    p.git(&["commit", "-qm", "no env"]);
    p.write(".env", "S=2\n");
    for target in ["n", "b", "e"] {
        assert_eq!(see(target), "", "{target}");
    }
    assert!(p.read("named.bin").starts_with("v2") && p.read("build/app").starts_with("b2"));
    assert_eq!((see("k"), p.read(".env")), ("k1".into(), "S=2\n".into()));
    // What is gone here is gone there.
    std::fs::remove_file(p.dir.join("kept.bin")).unwrap();
    assert_eq!(see("k"), "");
}

/// A crate whose program says its version, with a Makefile that builds and runs it without naming it to cx.
fn crate_with_makefile(env: &TestEnv) -> Project<'_> {
    env.project(&[
        ("Cargo.toml", CRATE),
        ("src/main.rs", &rust(1)),
        (
            "Makefile",
            "all:\n\t@cargo build -q --offline\ntest:\n\t@./target/debug/x\ncheck:\n\t@cargo run -q --offline\n",
        ),
        (".gitignore", "target/\n"),
    ])
}

#[test]
fn a_program_that_no_command_names_is_the_newest_one_wherever_it_runs() {
    let env = with_cargo(&["n1", "n2"]);
    if !has(&env, &["cargo", "cc", "make"]) {
        return;
    }
    let p = crate_with_makefile(&env);
    on(&p, "n1", "make").ok();
    assert_eq!(p.sh("make test").ok().stdout(), "v1 here\n", "made there");
    let out = on(&p, "n1", "make test").ok();
    assert_eq!(out.stdout(), "v1 n1\n");
    assert!(
        out.line().contains("sync 0 files"),
        "it lies there already: {out:?}"
    );
    assert_eq!(on(&p, "n2", "make test").ok().stdout(), "v1 n2\n");

    p.write("src/main.rs", &rust(2));
    p.sh("make").ok();
    assert_eq!(on(&p, "n1", "make test").ok().stdout(), "v2 n1\n", "made here");
    p.write("src/main.rs", &rust(3));
    assert_eq!(
        on(&p, "n2", "make check").ok().stdout(),
        "v3 n2\n",
        "cargo run there"
    );
    assert_eq!(p.sh("make test").ok().stdout(), "v3 here\n");
    assert_eq!(
        on(&p, "n1", "make test").ok().stdout(),
        "v3 n1\n",
        "made on the other"
    );

    p.sh("rm -r target").ok();
    assert_ne!(
        on(&p, "n1", "make test").status(),
        0,
        "nor there what is gone here"
    );
    on(&p, "n1", "make").ok();
    assert_eq!(p.sh("make test").ok().stdout(), "v3 here\n");
}

#[test]
fn a_test_that_runs_what_cargo_does_not_build_with_it_gets_no_older_program() {
    let env = with_cargo(&["n1"]);
    if !has(&env, &["cargo", "cc"]) {
        return;
    }
    let p = env.project(&[
        ("Cargo.toml", CRATE),
        ("src/main.rs", &rust(1)),
        (
            "src/lib.rs",
            "#[test] fn runs() { let out = std::process::Command::new(\"target/debug/x\").output().expect(\"x runs\"); print!(\"{}\", String::from_utf8_lossy(&out.stdout)); }\n",
        ),
        (
            "tests/t.rs",
            "#[test] fn runs() { assert!(std::process::Command::new(env!(\"CARGO_BIN_EXE_x\")).status().unwrap().success()); }\n",
        ),
        (".gitignore", "target/\n"),
    ]);
    let lib = "cargo test -q --offline --lib -- --nocapture";
    on(&p, "n1", "cargo build -q --offline").ok();
    let out = on(&p, "n1", lib).ok().stdout();
    assert!(out.contains("v1 n1"), "{out}");
    p.write("src/main.rs", &rust(2));
    p.sh("cargo build -q --offline").ok();
    let out = on(&p, "n1", lib);
    assert!(!out.stdout().contains("v1"), "{out:?}");
    assert_ne!(out.status(), 0, "{out:?}");
    assert!(
        out.said().iter().any(|l| l.contains("target/debug/x")),
        "what is not there is named: {out:?}"
    );
    // The same bytes as before, which the node has sent already, and which are no longer those that stand here.
    p.write("src/main.rs", &rust(1));
    on(&p, "n1", "cargo test -q --offline").status();
    assert_eq!(p.sh("./target/debug/x").ok().stdout(), "v1 here\n");
    let out = on(&p, "n1", lib).ok().stdout();
    assert!(out.contains("v1 n1"), "{out}");
}

#[test]
fn programs_come_home_from_wherever_cargo_puts_them() {
    let env = with_cargo(&["n1"]);
    if !has(&env, &["cargo", "cc"]) {
        return;
    }
    let p = crate_with_makefile(&env);
    p.write(".cargo/config.toml", "[build]\ntarget-dir = \"out/rust\"\n");
    p.write(".gitignore", "target/\nout/\n");
    on(&p, "n1", "cargo build -q --offline").ok();
    assert_eq!(p.sh("./out/rust/debug/x").ok().stdout(), "v1 here\n");
    p.write("src/main.rs", &rust(2));
    p.sh("cd src && cx run --on n1 -- cargo build -q --offline").ok();
    assert_eq!(p.sh("./out/rust/debug/x").ok().stdout(), "v2 here\n");
    p.write("src/main.rs", &rust(3));
    p.sh("CARGO_TARGET_DIR=out/other cx run --on n1 -- cargo build -q --offline")
        .ok();
    assert_eq!(p.sh("./out/other/debug/x").ok().stdout(), "v3 here\n");
    let out = p.sh("CARGO_TARGET_DIR=../other cx cargo build -q --offline").ok();
    assert!(
        out.line().contains("outside the workspace") && out.line().contains("local"),
        "{out:?}"
    );
    assert_eq!(p.sh("../other/debug/x").ok().stdout(), "v3 here\n");
}

#[test]
fn a_program_that_only_a_test_built_is_none_that_stays_there() {
    let env = with_cargo(&["n1", "n2"]);
    if !has(&env, &["cargo", "cc"]) {
        return;
    }
    let p = env.project(&[
        ("Cargo.toml", CRATE),
        ("src/main.rs", &rust(1)),
        (
            "tests/t.rs",
            "#[test] fn runs() { assert!(std::path::Path::new(env!(\"CARGO_BIN_EXE_x\")).exists()); }\n",
        ),
        ("run.sh", "#!/bin/sh\n./out/debug/x\n"),
        (".cargo/config.toml", "[build]\ntarget-dir = \"out\"\n"),
        (".gitignore", "out/\n"),
    ]);
    let test = "cargo test -q --offline";
    on(&p, "n1", test).ok();
    assert_eq!(
        p.sh("./out/debug/x").ok().stdout(),
        "v1 here\n",
        "as after a test here"
    );
    assert!(
        p.has("out/CACHEDIR.TAG"),
        "and what it lies in is a cache here, too"
    );
    p.write("src/main.rs", &rust(2));
    on(&p, "n2", test).ok();
    assert_eq!(on(&p, "n1", "sh run.sh").ok().stdout(), "v2 n1\n");
    p.sh("rm -r out").ok();
    p.write("src/main.rs", &rust(3));
    assert_ne!(on(&p, "n1", "sh run.sh").status(), 0);
    assert!(!p.has("out/debug/x"));

    p.sh("rm -rf out && mkdir real && ln -s real out").ok();
    let out = p.sh("cx cargo build -q --offline").ok();
    assert!(out.line().contains("symbolic link"), "{out:?}");
}

#[test]
fn programs_of_another_platform_neither_go_nor_come() {
    let env = with_cargo(&["n1"]);
    if !has(&env, &["cargo", "cc", "make"]) {
        return;
    }
    let p = crate_with_makefile(&env);
    p.sh("make").ok();
    env.append_config("[node.n1]\nos = \"plan9\"\n");
    assert_ne!(on(&p, "n1", "make test").status(), 0, "it has none of its own");
    p.write("src/main.rs", &rust(2));
    on(&p, "n1", "make").ok();
    assert_eq!(
        p.sh("make test").ok().stdout(),
        "v1 here\n",
        "it is that machine's"
    );
    assert_eq!(on(&p, "n1", "make test").ok().stdout(), "v2 n1\n");
}

#[test]
fn what_a_killed_run_had_built_is_built_again() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        (".gitignore", "*.o\napp\n"),
        (
            "Makefile",
            "app: a.o b.o\n\tcat a.o b.o > app\na.o: a.h\n\tcp a.h a.o\nb.o: b.h\n\ttest ! -e b.wait || { touch $$HOME/begun; sleep 60; }\n\tcp b.h b.o\n",
        ),
        ("a.h", "a1\n"),
        ("b.h", "b1\n"),
    ]);
    let make = ["run", "--on", "n1", "--", "make", "-s"];
    p.cx(&make).ok();
    assert_eq!(p.read("app"), "a1\nb1\n");
    // a.o of the new header is made there, and nobody learns of it.
    p.write("a.h", "a2\n");
    p.write("b.h", "b2\n");
    p.write("b.wait", "");
    let begun = env.node("n1").home().join("begun");
    let run = p.start_cx(&make).until_exists(&begun);
    run.signal("-KILL");
    run.wait();
    fs::remove_file(p.dir.join("b.wait")).unwrap();
    p.cx(&make).ok();
    assert_eq!(p.read("app"), "a2\nb2\n");
}
