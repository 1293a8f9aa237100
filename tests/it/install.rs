//! `install.sh` with a release tarball: what it checks, puts and takes away. (Building is for .ci/run.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{CX, Output, TestEnv};

struct Release {
    tarball: PathBuf,
    sha256: String,
}

fn release(env: &TestEnv) -> Release {
    let dir = env.home().join("cx-0.1.0");
    fs::create_dir(&dir).unwrap();
    fs::copy(CX, dir.join("cx")).unwrap();
    let tarball = env.home().join("cx.tar.gz");
    env.run(
        env.command("tar", &env.home())
            .arg("-czf")
            .arg(&tarball)
            .arg("cx-0.1.0"),
        b"",
    )
    .ok();
    let line =
        "if command -v sha256sum >/dev/null; then sha256sum cx.tar.gz; else shasum -a 256 cx.tar.gz; fi";
    let out = env
        .run(env.command("sh", &env.home()).args(["-c", line]), b"")
        .ok()
        .stdout();
    Release {
        tarball,
        sha256: out.split_whitespace().next().unwrap().into(),
    }
}

fn install(env: &TestEnv, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh");
    env.run(env.command("sh", &env.home()).arg(script).args(args), b"")
}

#[test]
fn a_release_is_checked_installed_replaced_and_removed() {
    let env = TestEnv::new();
    let release = release(&env);
    let tarball = release.tarball.to_str().unwrap();
    let cx = env.home().join(".local/bin/cx");

    let wrong = "0".repeat(64);
    install(&env, &["--tarball", tarball, "--sha256", &wrong])
        .exits(1)
        .complains(&release.sha256);
    install(&env, &["--tarball", tarball])
        .exits(1)
        .complains("--sha256");
    assert!(!cx.exists(), "installed unchecked");

    let out = install(&env, &["--tarball", tarball, "--sha256", &release.sha256])
        .ok()
        .stdout();
    assert!(out.contains("is not on your PATH"), "{out}");
    assert_eq!(fs::metadata(&cx).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(fs::read(&cx).unwrap() == fs::read(CX).unwrap());

    install(&env, &["--tarball", tarball, "--sha256", &release.sha256]).ok();
    let names: Vec<_> = fs::read_dir(cx.parent().unwrap())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(names, ["cx"], "something was left beside it");

    let out = install(&env, &["--uninstall"]).ok().stdout();
    assert!(!cx.exists() && out.contains("nodes remove --purge"), "{out}");
    install(&env, &["--uninstall"]).exits(1).complains("there is no");
}

#[test]
fn another_program_called_cx_stays() {
    let env = TestEnv::new();
    let release = release(&env);
    let cx = env.home().join("p/bin/cx");
    fs::create_dir_all(cx.parent().unwrap()).unwrap();
    fs::write(&cx, "#!/bin/sh\n").unwrap();
    let tarball = release.tarball.to_str().unwrap();
    install(
        &env,
        &["--prefix", "p", "--tarball", tarball, "--sha256", &release.sha256],
    )
    .exits(1)
    .complains("another program");
    install(&env, &["--prefix", "p", "--uninstall"])
        .exits(1)
        .complains("another program");
    assert_eq!(fs::read_to_string(&cx).unwrap(), "#!/bin/sh\n");
}

#[test]
fn what_is_wrong_with_the_arguments_is_named() {
    let env = TestEnv::new();
    install(&env, &["--frobnicate"])
        .exits(1)
        .complains("--frobnicate");
    install(&env, &["--prefix"])
        .exits(1)
        .complains("--prefix needs a value");
    assert!(install(&env, &["--help"]).ok().stdout().contains("--uninstall"));
}

#[test]
fn a_script_that_arrived_cut_short_does_nothing() {
    let env = TestEnv::new();
    let whole = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh")).unwrap();
    let cut: String = whole
        .lines()
        .take(whole.lines().count() - 1)
        .collect::<Vec<_>>()
        .join("\n");
    let out = env.run(&mut env.command("sh", &env.home()), cut.as_bytes());
    assert_eq!((out.status(), out.stdout().as_str()), (0, ""), "{out:?}");
}

#[test]
fn what_cx_put_into_other_programs_goes_with_it_and_nothing_else() {
    let env = TestEnv::new();
    let release = release(&env);
    let tarball = release.tarball.to_str().unwrap();
    install(&env, &["--tarball", tarball, "--sha256", &release.sha256]).ok();
    let home = env.home();
    let cx = home.join(".local/bin/cx");
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap_or_default();
    let own = "{\n  \"model\": \"mine\"\n}\n";
    for dir in [".claude", ".gemini"] {
        fs::create_dir_all(home.join(dir)).unwrap();
        fs::write(home.join(dir).join("settings.json"), own).unwrap();
    }
    let servers = "{\n  \"mcpServers\": {\n    \"other\": {\n      \"command\": \"other\"\n    }\n  }\n}\n";
    fs::write(home.join(".claude.json"), servers).unwrap();
    for args in [
        &["setup", "claude", "--mode", "shims", "--yes"][..],
        &["setup", "gemini", "--yes"],
        &["init", "bash"],
    ] {
        env.run(env.command(&cx, &home).args(args), b"").ok();
    }
    fs::write(home.join(".bashrc"), "eval \"$(cx init bash)\"\n").unwrap();
    let places = [".claude/settings.json", ".gemini/settings.json", ".claude.json"];
    for place in places {
        assert!(read(place).contains("cx"), "{place}: {}", read(place));
    }
    assert!(home.join(".local/share/cx/shims").is_dir());

    let out = install(&env, &["--uninstall"]).ok().stdout();
    assert_eq!(places.map(read), [own, own, servers], "{out}");
    assert!(!home.join(".local/share/cx/shims").exists() && !cx.exists());
    assert!(out.contains("out of ~/.bashrc"), "{out}");
}
