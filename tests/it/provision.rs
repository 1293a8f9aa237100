//! Set-up on a node: by lock files and by `.cx.toml`, with a person's trust only.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{TestEnv, wait_for};

/// A step that counts how often it ran, and makes an ignored file.
const STEP: &str = "[[setup]]\nrun = \"sh tools/deps.sh\"\nfiles = [\"deps.lock\"]\n";
const DEPS: &str = "echo installing; mkdir -p deps && cp deps.lock deps/installed && echo x >> $HOME/steps\n";
const FILES: &[(&str, &str)] = &[
    (".cx.toml", STEP),
    ("tools/deps.sh", DEPS),
    ("deps.lock", "1\n"),
    (".gitignore", "deps/\n"),
    ("Makefile", "test:\n\t@echo $$HOME; cat deps/installed\n"),
];

/// How often the step ran on the node.
fn steps(env: &TestEnv, node: &str) -> usize {
    let text = fs::read_to_string(env.node(node).home().join("steps")).unwrap_or_default();
    text.lines().count()
}

fn mirror(env: &TestEnv, node: &str) -> PathBuf {
    let top = env.node(node).home().join(".cache/cx/node/mirrors");
    let only = |dir: PathBuf| fs::read_dir(dir).unwrap().flatten().next().unwrap().path();
    only(only(top))
}

#[test]
fn a_makefile_that_uses_what_was_installed_here_stays_with_it() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("Makefile", "test:\n\t@echo $$HOME; test -d node_modules\n"),
        ("lint/Makefile", "test:\n\t@echo $$HOME\n"),
        (".gitignore", "node_modules/\n"),
        ("node_modules/a/index.js", ""),
    ]);
    let out = p.cx(&["make", "test"]).ok();
    assert_eq!(env.place(&out.stdout()), "local", "{out:?}");
    assert!(
        out.line().contains("node_modules was made on this machine"),
        "{out:?}"
    );
    p.cx(&["make", "-C", "lint", "test"]).ok().says("[cx] n1 ");
}

#[test]
fn a_step_runs_once_until_what_it_depends_on_changes_and_only_if_trusted() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(FILES);
    let out = p.on("n1", "test ! -e deps && echo no").ok();
    assert_eq!(out.stdout(), "no\n");
    assert!(
        out.line()
            .contains("`sh tools/deps.sh` is not set up on nodes (cx trust allows it)"),
        "{out:?}"
    );
    assert_eq!(steps(&env, "n1"), 0);

    let shown = p.cx(&["trust", "--yes"]).ok().stdout();
    assert!(
        shown.contains("  sh tools/deps.sh\n") && shown.contains("as they are now: tools/deps.sh"),
        "{shown}"
    );
    let out = p
        .cx(&["make", "test"])
        .ok()
        .says("set up with sh tools/deps.sh in ");
    assert!(out.stdout().ends_with("\n1\n"), "{out:?}");
    assert_eq!(env.place(&out.stdout()), "n1");
    assert!(!p.has("deps"), "what the step made came back: {:?}", p.list());
    let again = p.cx(&["make", "test"]).ok();
    assert!(!again.line().contains("set up"), "{again:?}");
    assert_eq!(steps(&env, "n1"), 1);

    p.write("deps.lock", "2\n");
    let out = p.cx(&["make", "test"]).ok().says("set up with");
    assert!(out.stdout().ends_with("\n2\n"), "{out:?}");
    assert_eq!(steps(&env, "n1"), 2);

    // Trust is for what was shown.
    p.write("tools/deps.sh", "echo evil > $HOME/evil\n");
    p.cx(&["make", "test"]).ok().says("not set up on nodes");
    assert!(!env.node("n1").home().join("evil").exists());
    let listed = p.cx(&["trust", "--list"]).ok().stdout();
    assert!(listed.contains("app") && listed.contains("lapsed"), "{listed}");
    p.write("tools/deps.sh", DEPS);
    p.write("deps.lock", "3\n");
    p.cx(&["trust", "--remove"]).ok();
    p.cx(&["make", "test"]).ok().says("not set up on nodes");
    assert_eq!(steps(&env, "n1"), 2);
}

#[test]
fn nobody_but_a_person_trusts() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(FILES);
    // No terminal to ask on.
    let out = p.cx(&["trust"]).exits(1);
    assert!(out.stderr().contains("--yes"), "{out:?}");
    let mut command = p.cx_command(&["trust", "--yes"]);
    let out = env.run(command.env("CLAUDECODE", "1"), b"").exits(1);
    assert!(out.stderr().contains("for a person"), "{out:?}");
    p.cx(&["make", "test"]).exits(2).says("not set up on nodes");
    // The worktrees of a repository share its trust, as long as they say the same.
    p.cx(&["trust", "--yes"]).ok();
    p.git(&["worktree", "add", "-q", "../other", "-b", "other"]);
    let other = || {
        let mut command = p.cx_command(&["make", "test"]);
        env.run(command.current_dir(p.dir.join("../other")), b"")
    };
    other().ok().says("set up with");
    fs::write(
        p.dir.join("../other/.cx.toml"),
        "[[setup]]\nrun = 'touch $HOME/evil'\n",
    )
    .unwrap();
    other().ok().says("not set up on nodes");
    assert!(!env.node("n1").home().join("evil").exists());
}

#[test]
fn a_step_that_fails_is_told_with_its_output_and_the_command_runs_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(FILES);
    p.write(
        "tools/deps.sh",
        "echo x >> $HOME/steps; echo it is broken >&2; exit 7\n",
    );
    p.write("Makefile", "test:\n\t@echo $$HOME\n");
    p.cx(&["trust", "--yes"]).ok();
    let out = p.cx(&["make", "test"]).ok();
    assert_eq!(env.place(&out.stdout()), "local");
    let said = out.said().join("\n");
    assert!(
        said.contains("n1: set-up failed: sh tools/deps.sh: exit 7") && said.contains("it is broken"),
        "{said}"
    );
    // It is not tried again and again, but says what was.
    let out = p.cx(&["run", "--on", "n1", "--", "make", "test"]).exits(76);
    assert!(out.said().join("\n").contains("it is broken"), "{out:?}");
    assert!(out.said().join("\n").contains("cx warm tries again"), "{out:?}");
    assert_eq!(steps(&env, "n1"), 1);
    let out = p.cx(&["warm", "n1"]).exits(1);
    assert!(out.stdout().contains("set-up failed"), "{out:?}");
    assert_eq!(steps(&env, "n1"), 2);
    // A script that was mended, and trusted again, is another step.
    p.write("tools/deps.sh", DEPS);
    p.cx(&["trust", "--yes"]).ok();
    assert_eq!(env.place(&p.cx(&["make", "test"]).ok().stdout()), "n1");
    assert_eq!(steps(&env, "n1"), 3);
}

/// A step that waits for a word in its first round, and tells of itself meanwhile.
const SLOW: &str = "echo $$ > $HOME/begun; echo installing; until test -e $HOME/go; do sleep 0.05; done\n";

#[test]
fn two_runs_at_once_set_up_once() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 4\n");
    let p = env.project(FILES);
    p.write("tools/deps.sh", &format!("{SLOW}{DEPS}"));
    p.cx(&["trust", "--yes"]).ok();
    let home = env.node("n1").home();
    let first = p
        .start_cx(&["run", "--on", "n1", "--", "cat", "deps/installed"])
        .until_exists(&home.join("begun"));
    let mut second = p.start_cx(&["run", "--on", "n1", "--", "cat", "deps/installed"]);
    // The second one's supervisor waits for the lock that the first one's step holds.
    wait_for(Duration::from_secs(30), || {
        let supervisors = env
            .node("n1")
            .processes()
            .iter()
            .filter(|l| l.contains("--supervise"))
            .count();
        if supervisors == 2 {
            Ok(())
        } else {
            Err(format!("{supervisors} supervisors"))
        }
    });
    assert!(second.is_running());
    fs::write(home.join("go"), "").unwrap();
    assert_eq!(first.wait().ok().stdout(), "1\n");
    assert_eq!(second.wait().ok().stdout(), "1\n");
    assert_eq!(steps(&env, "n1"), 1);
}

#[test]
fn a_step_that_is_cut_off_leaves_no_mark_and_is_done_again() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(FILES);
    p.write("tools/deps.sh", &format!("{SLOW}{DEPS}"));
    p.cx(&["trust", "--yes"]).ok();
    let home = env.node("n1").home();
    let start = || p.start_cx(&["run", "--on", "n1", "--", "cat", "deps/installed"]);
    let marks = || {
        let dir = fs::read_dir(mirror(&env, "n1").join("meta/setup"))
            .unwrap()
            .flatten();
        let names = dir.map(|e| e.file_name().into_string().unwrap());
        names.filter(|n| n != "lock").collect::<Vec<_>>()
    };
    for signal in ["-TERM", "-KILL"] {
        let run = start().until_exists(&home.join("begun"));
        run.signal(signal);
        run.wait();
        env.node("n1").assert_empty_within(Duration::from_secs(10));
        assert_eq!(marks(), [""; 0], "after {signal}");
        fs::remove_file(home.join("begun")).unwrap();
    }
    // The supervisor itself dies: what it had started goes on alone, and nobody begins beside it.
    let run = start().until_exists(&home.join("begun"));
    let supervisor = env
        .node("n1")
        .processes()
        .into_iter()
        .find(|l| l.contains("--supervise"))
        .unwrap();
    let pid = supervisor.split(' ').next().unwrap().to_owned();
    env.command("kill", &home).args(["-KILL", &pid]).status().unwrap();
    run.wait().exits(76);
    assert_eq!(marks(), [""; 0]);
    let run = start();
    fs::write(home.join("go"), "").unwrap();
    assert_eq!(run.wait().ok().stdout(), "1\n");
    // That one ended at its next word, which nobody reads any more.
    assert_eq!(steps(&env, "n1"), 1);
    assert_eq!(marks().len(), 1);
}

#[test]
fn a_virtual_environment_is_made_there_from_requirements() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("requirements.txt", "# nothing\n"),
        (".gitignore", ".venv/\n"),
        ("test_it.py", "import sys, os\nprint(os.environ['HOME'])\nprint(sys.prefix)\nprint(os.environ.get('VIRTUAL_ENV'))\n"),
        ("Makefile", "test:\n\t@python test_it.py\n"),
    ]);
    let made = env.run(env.command("python3", &p.dir).args(["-m", "venv", ".venv"]), b"");
    assert_eq!(made.status(), 0, "{made:?}");
    let here = p.dir.join(".venv/bin");
    let activated = |args: &[&str]| {
        let mut command = p.cx_command(args);
        command
            .env("PATH", format!("{}:/usr/bin:/bin", here.display()))
            .env("VIRTUAL_ENV", p.dir.join(".venv"));
        env.run(&mut command, b"")
    };
    // Without trust it runs here, and says what would help.
    let out = p.cx(&[".venv/bin/python", "-m", "unittest", "test_it"]);
    assert_eq!(env.place(&out.stdout()), "local");
    assert!(
        out.line()
            .contains("cx trust lets nodes make theirs with `pip install -r requirements.txt`"),
        "{out:?}"
    );
    p.cx(&["trust", "--yes"]).ok();
    let out = p
        .cx(&[".venv/bin/python", "-m", "unittest", "test_it"])
        .says("set up with pip install -r requirements.txt");
    assert_eq!(env.place(&out.stdout()), "n1");
    let out = activated(&["make", "test"]).ok();
    let lines: Vec<String> = out.stdout().lines().map(str::to_owned).collect();
    assert_eq!(env.place(&out.stdout()), "n1");
    let venv = p.dir.join(".venv").display().to_string();
    assert_eq!(lines[1..], [venv.clone(), venv], "{out:?}");
    assert!(!out.line().contains("set up"), "{out:?}");
    // Its programs are its own, whatever has the same name here.
    p.on(
        "n1",
        "printf '#!/bin/sh\\necho there\\n' > .venv/bin/tool; chmod +x .venv/bin/tool",
    )
    .ok();
    p.write(".venv/bin/tool", "#!/bin/sh\necho here\n");
    for _ in 0..2 {
        let out = p.cx(&["run", "--on", "n1", "--", ".venv/bin/tool"]).ok();
        assert_eq!(out.stdout(), "there\n");
        assert!(out.line().contains("sync 0 files"), "{out:?}");
    }
}

#[test]
fn node_modules_are_installed_there_by_the_lock_file() {
    // npm is not everywhere: what matters is that it is called, where, and once.
    let env = TestEnv::with_nodes(&["n1"]);
    let npm = "#!/bin/sh\ncase $1 in\nci) echo \"$PWD\" >> $HOME/steps; mkdir -p node_modules/x && cp package-lock.json node_modules/x ;;\n\
               *) echo $HOME; cat node_modules/x/package-lock.json ;;\nesac\n";
    env.node("n1").write("bin/npm", npm);
    env.node("n1").write(".profile", "PATH=$HOME/bin:$PATH\n");
    let p = env.project(&[
        ("package.json", "{\"scripts\": {\"test\": \"true\"}}\n"),
        ("package-lock.json", "one\n"),
        (".gitignore", "node_modules/\n"),
    ]);
    p.write("node_modules/x/package-lock.json", "here\n");
    p.cx(&["trust", "--yes"]).ok();
    let out = p.cx(&["npm", "test"]).ok().says("set up with npm ci");
    assert_eq!(env.place(&out.stdout()), "n1");
    assert!(out.stdout().ends_with("\none\n"), "{out:?}");
    assert_eq!(p.read("node_modules/x/package-lock.json"), "here\n");
    p.write("package-lock.json", "two\n");
    let out = p.cx(&["npm", "test"]).ok();
    assert!(out.stdout().ends_with("\ntwo\n"), "{out:?}");
    let done = fs::read_to_string(env.node("n1").home().join("steps")).unwrap();
    assert_eq!(done.lines().collect::<Vec<_>>(), [p.dir.to_str().unwrap(); 2]);
}
