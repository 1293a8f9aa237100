//! Commands told to leave what they make elsewhere: outside the project only this machine can, inside it comes home.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Output, TestEnv};

/// Stands for cargo: says where it runs and to which target directory, and leaves a program there.
const CARGO: &str = r#"#!/bin/sh
dir=${CARGO_TARGET_DIR:-target}/debug
mkdir -p "$dir" && echo built > "$dir/app"
echo "$HOME"
echo "target $CARGO_TARGET_DIR"
"#;

#[test]
fn outputs_outside_are_made_here_and_others_come_home() {
    let mut env = TestEnv::new();
    env.start_node("n1");
    for (name, script) in [("cargo", CARGO), ("gcc", "#!/bin/sh\necho \"$HOME\"\n")] {
        env.program(name, script);
        let node = env.node("n1");
        node.write(&format!("bin/{name}"), script);
        let file = node.home().join("bin").join(name);
        std::fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
    }
    for file in [".profile", ".bashrc", ".bash_profile", ".zshenv"] {
        env.node("n1").write(file, "PATH=$HOME/bin:$PATH\n");
    }
    env.add_nodes(&["n1"]);
    let p = env.project(&[
        (".gitignore", "/target*\n/out\n"),
        ("Cargo.toml", "[package]\nname = \"app\"\n"),
    ]);
    let outside = env.home().join("elsewhere/target");
    let run = |set: &Path, line: &str| -> Output {
        let mut command = p.cx_command(&line.split(' ').collect::<Vec<_>>());
        if set != Path::new("") {
            command.env("CARGO_TARGET_DIR", set);
        }
        env.run(&mut command, b"").ok()
    };
    let none = Path::new("");

    let built = run(&outside, "cargo build");
    assert_eq!(env.place(&built.stdout()), "local");
    let why = "elsewhere/target/debug would be written outside the workspace";
    assert!(built.stderr().contains(why), "{}", built.stderr());
    assert!(outside.join("debug/app").is_file());
    assert!(run(&outside, "explain cargo build").stdout().contains(why));
    let told = run(
        none,
        &format!("explain CARGO_TARGET_DIR={} cargo test", outside.display()),
    )
    .stdout();
    assert!(told.contains("local: CARGO_TARGET_DIR is set: "), "{told}");

    // Of its tests nothing is left but the verdict; the node has a place of its own for what it compiles.
    let tested = run(&outside, "cargo test");
    assert_eq!(env.place(&tested.stdout()), "n1", "{}", tested.stderr());
    let tested = tested.stdout();
    assert!(tested.ends_with("target \n"), "{tested}");

    let inside = run(Path::new("out/ci"), "cargo build");
    assert_eq!(env.place(&inside.stdout()), "n1", "{}", inside.stderr());
    let inside = inside.stdout();
    assert!(inside.ends_with("target out/ci\n"), "{inside}");
    assert!(p.has("out/ci/debug/app"));

    for (line, place) in [
        ("gcc -o /usr/local/bin/app a.c", "local"),
        ("run --on n1 -- gcc -o /usr/local/bin/app a.c", "n1"),
        ("gcc -o out/app a.c", "n1"),
    ] {
        assert_eq!(env.place(&run(none, line).stdout()), place, "{line}");
    }
}
