//! Full disks, at either end: nothing that a command made is lost, no tree is half anything, and the line says what to do.
//!
//! A full disk is a small file system of the test's own. Mounting one takes root; where that is not to be had the tests say so and
//! show nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::TestEnv;

/// A small file system; it is gone when this is.
struct Small(PathBuf);

impl Small {
    /// Mounts one of so many kilobytes over `at`, which is made.
    fn mount(at: &Path, kilobytes: u32) -> Option<Small> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={kilobytes}k,mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "cx-it"])
            .arg(at)
            .output();
        if mounted.is_ok_and(|o| o.status.success()) {
            return Some(Small(at.to_owned()));
        }
        #[expect(clippy::print_stderr, reason = "a test that shows nothing says so")]
        {
            eprintln!("not shown: no file system can be mounted here");
        }
        None
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        let zeros = vec![0u8; 4096];
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
    }

    fn relieve(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn node_disk(env: &TestEnv, node: &str, kilobytes: u32) -> Option<Small> {
    Small::mount(&env.node(node).home().join(".cache/cx/node"), kilobytes)
}

#[test]
fn a_node_that_is_full_while_syncing_is_passed_by() {
    let env = TestEnv::with_nodes(&["n1", "n2"]);
    let Some(disk) = node_disk(&env, "n1", 270_000) else {
        return;
    };
    let p = env.project(&[("Makefile", "all:\n\techo $$HOME; cat small\n"), ("small", "1\n")]);
    p.cx(&["run", "--on", "n1", "--", "make", "-s"]).ok();
    // More than cx leaves free in any case; it travels as next to nothing.
    fs::write(p.dir.join("large"), vec![b'x'; 280 << 20]).unwrap();
    p.write("small", "2\n");
    let out = p.cx(&["run", "--on", "n1", "--", "make", "-s"]).exits(76);
    assert!(out.line().contains("is full"), "{out:?}");
    env.write_config("[node.n2]\ntags = [\"other\"]\n");
    let out = p.cx(&["make", "-s"]).ok();
    assert!(out.stdout().ends_with("\n2\n"), "{out:?}");
    assert_ne!(env.place(&out.stdout()), "n1", "{out:?}");
    // What was there is as it was, and takes part again.
    fs::remove_file(p.dir.join("large")).unwrap();
    let out = p.cx(&["run", "--on", "n1", "--", "make", "-s"]).ok();
    assert!(out.stdout().ends_with("\n2\n"), "{out:?}");
    drop(disk);
}

#[test]
fn what_a_command_made_on_a_disk_that_is_full_comes_home_later() {
    let env = TestEnv::with_nodes(&["n1"]);
    let Some(disk) = node_disk(&env, "n1", 290_000) else {
        return;
    };
    let p = env.project(&[("src", "1\n"), ("gone", "x\n")]);
    // It fills the disk itself, but for what it gives back at its end.
    let script = "echo made > made; rm gone; mkdir d; head -c 3000000 /dev/urandom > d/large; cksum d/large; \
                  cat /dev/zero > $HOME/.cache/cx/node/filler 2>/dev/null; head -c 100000 /dev/zero | tr '\\0' x; exit 3";
    let run = |script: &str| p.on("n1", script);
    let before = p.list();
    let out = run(script).exits(75);
    let line = out.line();
    assert!(
        line.contains("is full") && line.contains("ended with 3") && line.contains("cx attach"),
        "{out:?}"
    );
    assert!(
        out.stdout().ends_with(&"x".repeat(100_000)),
        "all of its output came"
    );
    assert_eq!(p.list(), before, "here is all as it was");
    // As long as there is no room, nothing undoes what is still to come.
    let out = run("true").exits(76);
    assert!(out.said().iter().any(|l| l.contains("of disk left")), "{out:?}");
    disk.relieve();
    // A file here that changed meanwhile is nobody's loss.
    p.write("src", "2\n");
    let out = run("cat src made; cksum d/large; ls").ok();
    assert!(
        out.said()
            .iter()
            .any(|l| l.contains("has ended with 3") && l.contains("files back")),
        "{out:?}"
    );
    assert!(
        out.stdout().starts_with("2\nmade\n") && !out.stdout().contains("gone"),
        "{out:?}"
    );
    assert_eq!(p.read("made"), "made\n");
    assert!(!p.has("gone"));
    let sum = p.sh("cksum d/large").ok().stdout();
    assert!(out.stdout().contains(&sum), "{sum} {out:?}");
    assert!(out.said().iter().any(|l| l.contains("sync 1 file ")), "{out:?}");
}

#[test]
fn what_does_not_fit_here_is_kept_there_until_it_does() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "1\n")]);
    let run = |script: &str| p.on("n1", script);
    run("true").ok();
    // cx's own directory, where what comes back arrives.
    let Some(disk) = Small::mount(&env.cache().join("incoming"), 1000) else {
        return;
    };
    disk.fill();
    let script = "echo 2 > a; head -c 3000000 /dev/urandom > large; cksum large";
    let out = run(script).exits(75);
    assert!(
        out.line().contains("is full") && out.line().contains("n1 keeps it"),
        "{out:?}"
    );
    assert_eq!((p.read("a"), p.has("large")), ("1\n".into(), false));
    let sum = out.stdout();
    // Not lost by another run, either.
    p.write("b", "3\n");
    let again = run("cat a b").ok();
    assert_eq!(again.stdout(), "1\n3\n", "as the tree here is");
    assert!(
        again
            .said()
            .iter()
            .any(|l| l.contains("did not come back") && l.contains("is full")),
        "{again:?}"
    );
    drop(disk);
    let out = run("cat a b; cksum large").ok();
    assert_eq!(out.stdout(), format!("2\n3\n{sum}"), "{out:?}");
    assert_eq!(p.sh("cksum large").ok().stdout(), sum);
    assert_eq!(p.read("a"), "2\n");
}

#[test]
fn a_workspace_that_is_full_gets_the_rest_when_there_is_room() {
    let env = TestEnv::with_nodes(&["n1"]);
    let Some(disk) = Small::mount(&env.home().join("work"), 4000) else {
        return;
    };
    let p = env.project(&[("a", "1\n"), ("z", "1\n")]);
    let run = |script: &str| p.on("n1", script);
    run("true").ok();
    let script = "echo 2 > a; head -c 3800000 /dev/urandom > large; head -c 1000000 /dev/urandom > more; cksum large more; echo 2 > z";
    let out = run(script).exits(75);
    assert!(
        out.line().contains("is full") && out.line().contains("the next cx in this project"),
        "{out:?}"
    );
    let sums = out.stdout();
    // Each file is whole, the old one or the new one.
    assert_eq!(p.read("z"), "1\n");
    assert!(!(p.has("large") && p.has("more")));
    let out = p.cx(&["run", "--on", "n1", "--", "true"]).exits(76);
    assert!(out.line().contains("not all in place"), "{out:?}");
    Command::new("mount")
        .args(["-o", "remount,size=20000k"])
        .arg(&disk.0)
        .status()
        .unwrap();
    let out = run("cksum large more; cat a z").ok();
    assert_eq!(out.stdout(), format!("{sums}2\n2\n"), "{out:?}");
    assert_eq!(p.sh("cksum large more").ok().stdout(), sums);
    assert_eq!((p.read("a"), p.read("z")), ("2\n".into(), "2\n".into()));
}
