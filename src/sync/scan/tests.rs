//! Scans of real trees and real repositories.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::sync::testing::{Pair, chmod, git, listed, names, rel, write};

fn repository() -> Pair {
    let mut p = Pair::new();
    p.git = true;
    git(&p.here(), &["init", "-q", "-b", "main"]);
    p
}

#[test]
fn ignored_files_go_up_to_the_limit_smallest_first() {
    let mut p = repository();
    p.options.ignored_limit = 100;
    p.write(".gitignore", "gen/\n*.dat\n!keep.dat\nbig/\nnode_modules/\n");
    p.write("gen/code.rs", &"x".repeat(60));
    p.write("a.dat", &"x".repeat(30));
    p.write("b.dat", &"x".repeat(50));
    p.write("keep.dat", "kept");
    p.write("big/one", &"x".repeat(90));
    p.write("big/sub/two", &"x".repeat(90));
    p.write("node_modules/m/index.js", "m");
    p.write("sub/.gitignore", "!c.dat\n/only-here\n");
    p.write("sub/c.dat", "back again");
    p.write("sub/only-here", "i");
    p.write("only-here", "not ignored");
    p.scan();
    assert_eq!(
        listed(&p.scan.manifest),
        [
            ".gitignore",
            "a.dat",
            "b.dat",
            "keep.dat",
            "only-here",
            "sub",
            "sub/.gitignore",
            "sub/c.dat",
            "sub/only-here"
        ]
    );
    assert_eq!(names(&p.scan.unsent), ["big", "gen"]);
    // What went once and now exceeds the limit is not deleted on the node.
    let mut have = p.scan.manifest.clone();
    have.insert(rel("gen"), Entry::Dir { mode: 0o755 });
    have.insert(
        rel("gen/code.rs"),
        Entry::Symlink {
            target: b"x".to_vec(),
        },
    );
    have.insert(rel("other"), Entry::Dir { mode: 0o755 });
    let delta = p.scan.delta(&have);
    assert_eq!(
        (names(&delta.forgets), names(&delta.deletions)),
        (vec!["gen/code.rs".into(), "gen".into()], vec!["other".into()])
    );
}

#[test]
fn tracked_files_always_go() {
    let mut p = repository();
    p.options.ignored_limit = 0;
    p.write(".gitignore", "out/\n*.gen\n.env\n");
    for f in [
        "out/deep/kept.txt",
        "a.gen",
        ".env",
        "secret.pem",
        "node_modules/patched/x.js",
        ".aws/config",
    ] {
        p.write(f, f);
    }
    git(&p.here(), &["add", "-f", "."]);
    for f in [
        "out/deep/other.txt",
        "b.gen",
        ".env.local",
        "other.pem",
        "node_modules/y.js",
        ".aws/credentials",
    ] {
        p.write(f, f);
    }
    p.scan();
    assert_eq!(
        listed(&p.scan.manifest),
        [
            ".aws",
            ".aws/config",
            ".env",
            ".gitignore",
            "a.gen",
            "node_modules",
            "node_modules/patched",
            "node_modules/patched/x.js",
            "out",
            "out/deep",
            "out/deep/kept.txt",
            "secret.pem",
        ]
    );
    assert_eq!(
        names(&p.scan.withheld),
        [".aws/credentials", ".env.local", "other.pem"]
    );
    // The list is remembered by the stat of git's index: what is added later is seen.
    git(&p.here(), &["add", "-f", "b.gen"]);
    p.scan();
    assert!(p.scan.manifest.contains_key(&rel("b.gen")));
    git(&p.here(), &["rm", "-q", "--cached", "a.gen"]);
    p.scan();
    assert!(!p.scan.manifest.contains_key(&rel("a.gen")));
}

#[test]
fn every_source_of_ignore_rules_counts() {
    let mut p = repository();
    p.options.ignored_limit = 0;
    let outer = p.dir.path().join("excludes");
    fs::write(&outer, "*.outer\n*.both\n").unwrap();
    git(
        &p.here(),
        &["config", "core.excludesFile", outer.to_str().unwrap()],
    );
    fs::write(p.here().join(".git/info/exclude"), "# c\n*.info\n!*.both\n").unwrap();
    for f in ["a.outer", "a.info", "a.both", "a.txt", "big.bin", "doc/x"] {
        p.write(f, f);
    }
    p.write(".cxignore", "big.bin\ndoc/\n!forced.info\n");
    p.write("forced.info", "");
    git(&p.here(), &["add", "big.bin"]);
    p.scan();
    assert_eq!(
        listed(&p.scan.manifest),
        [".cxignore", "a.both", "a.txt", "forced.info"]
    );
    assert_eq!(names(&p.scan.unsent), ["a.info", "a.outer"]);
    assert_eq!(
        p.scan.extra_ignore,
        [&b"*.outer"[..], b"*.both", b"*.info", b"!*.both"]
    );
}

#[test]
fn worktrees_and_submodules_are_scanned_and_no_git_goes() {
    let mut p = repository();
    p.write("f", "1");
    p.write(".gitignore", "*.o\n");
    git(&p.here(), &["add", "."]);
    git(&p.here(), &["commit", "-qm", "1"]);
    let sub = p.dir.path().join("sub");
    fs::create_dir(&sub).unwrap();
    git(&sub, &["init", "-q"]);
    write(&sub.join("s"), "s");
    write(&sub.join("t.o"), "tracked in the submodule");
    git(&sub, &["add", "-f", "."]);
    git(&sub, &["commit", "-qm", "s"]);
    git(
        &p.here(),
        &["submodule", "--quiet", "add", sub.to_str().unwrap(), "mod"],
    );
    git(&p.here(), &["commit", "-qm", "2"]);
    p.options.ignored_limit = 0;
    p.scan();
    let want = [".gitignore", ".gitmodules", "f", "mod", "mod/s", "mod/t.o"];
    assert_eq!(listed(&p.scan.manifest), want);

    let tree = p.dir.path().join("tree");
    git(&p.here(), &["worktree", "add", "-q", tree.to_str().unwrap()]);
    write(&tree.join("x.o"), "");
    git(&tree, &["add", "-f", "x.o"]);
    fs::write(p.here().join(".git/info/exclude"), "shared-rule\n").unwrap();
    write(&tree.join("shared-rule"), "ignored");
    let options = ScanOptions {
        ignored_limit: 0,
        index: Some(p.dir.path().join("i2")),
        ..ScanOptions::default()
    };
    let s = scan(&tree, true, &options).unwrap();
    assert_eq!(
        listed(&s.manifest),
        [".gitignore", ".gitmodules", "f", "mod", "x.o"]
    );
    let before = s.head.unwrap();
    git(&tree, &["commit", "-qm", "3"]);
    assert_ne!(scan(&tree, true, &options).unwrap().head.unwrap(), before);
    git(&tree, &["pack-refs", "--all"]);
    let packed = scan(&tree, true, &options).unwrap().head.unwrap();
    git(&tree, &["commit", "-qm", "4", "--allow-empty"]);
    assert_ne!(scan(&tree, true, &options).unwrap().head.unwrap(), packed);
}

#[test]
fn caches_specials_and_secrets_stay() {
    let mut p = Pair::new();
    p.options.also_caches = vec!["my-cache".into()];
    p.options.include = vec!["test.pem".into(), "conf/*.key".into()];
    for f in [
        "Cargo.toml",
        "src/target/kept",
        "target/debug/x",
        "env/pyvenv.cfg",
        "tagged/CACHEDIR.TAG",
        "pkg/__pycache__/m.pyc",
        "my-cache/x",
        "web/.next/cache/x",
        "web/.next/page",
        ".npmrc",
        "certs/test.pem",
        "conf/a.key",
        "conf/b/c.key",
        ".cx-tmp-123",
    ] {
        p.write(f, "registry=x");
    }
    p.write("with-token/.npmrc", "//r/:_authToken=abc");
    let _socket = std::os::unix::net::UnixListener::bind(p.here().join("pipe")).unwrap();
    p.scan();
    assert_eq!(
        listed(&p.scan.manifest),
        [
            ".npmrc",
            "Cargo.toml",
            "certs",
            "certs/test.pem",
            "conf",
            "conf/a.key",
            "conf/b",
            "pkg",
            "src",
            "src/target",
            "src/target/kept",
            "web",
            "web/.next",
            "web/.next/page",
            "with-token",
        ]
    );
    assert_eq!(names(&p.scan.withheld), ["conf/b/c.key", "with-token/.npmrc"]);
    assert_eq!(names(&p.scan.special), ["pipe"]);
}

#[test]
fn an_edit_that_keeps_size_and_time_is_seen_while_young() {
    let mut p = Pair::new();
    p.write("f", "aaaa");
    let times = fs::metadata(p.here().join("f")).unwrap().modified().unwrap();
    p.scan();
    for round in 0..50 {
        fs::write(p.here().join("f"), format!("{round:04}")).unwrap();
        fs::File::options()
            .write(true)
            .open(p.here().join("f"))
            .unwrap()
            .set_modified(times)
            .unwrap();
        p.scan();
        let want = *blake3::hash(format!("{round:04}").as_bytes()).as_bytes();
        assert!(
            matches!(p.scan.manifest[&rel("f")], Entry::File { hash, .. } if hash == want),
            "{round}"
        );
    }
}

#[test]
fn settled_files_are_not_read_again() {
    let mut p = Pair::new();
    p.write("f", "content");
    let index = p.options.index.clone().unwrap();
    // A remembered hash that is wrong shows whether the file was read.
    let (stat, _) = hash_file(&mut Beneath::open(&p.here()).unwrap(), &rel("f")).unwrap();
    let remember = |stat: Stat| {
        let mut writer = Writer::new(1);
        writer.push(&rel("f"), &stat, &[7; 32]);
        writer.save(&index).unwrap();
    };
    remember(stat);
    p.scan();
    assert!(matches!(
        p.scan.manifest[&rel("f")],
        Entry::File { hash: [7, ..], .. }
    ));
    for other in [
        Stat {
            inode: stat.inode + 1,
            ..stat
        },
        Stat {
            ctime_ns: stat.ctime_ns - 1,
            ..stat
        },
        Stat {
            mtime_ns: stat.mtime_ns - 1,
            ..stat
        },
        Stat {
            size: stat.size + 1,
            ..stat
        },
        Stat {
            mode: stat.mode ^ 0o100,
            ..stat
        },
    ] {
        remember(other);
        p.scan();
        assert!(
            !matches!(p.scan.manifest[&rel("f")], Entry::File { hash: [7, ..], .. }),
            "{other:?}"
        );
    }
}

#[test]
fn links_are_entries_and_never_followed() {
    let mut p = Pair::new();
    p.write("real/f", "f");
    symlink("real", p.here().join("dir-link")).unwrap();
    symlink("..", p.here().join("real/up")).unwrap();
    symlink("../../../etc/shadow", p.here().join("out")).unwrap();
    p.scan();
    assert_eq!(
        listed(&p.scan.manifest),
        ["dir-link", "out", "real", "real/f", "real/up"]
    );
    assert_eq!(
        p.scan.manifest[&rel("dir-link")],
        Entry::Symlink {
            target: b"real".to_vec()
        }
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    // Permissions bind nobody who is root.
    if rustix::process::geteuid().is_root() {
        return;
    }
    let mut p = Pair::new();
    p.write("closed/f", "f");
    p.write("file", "f");
    chmod(&p.here().join("closed"), 0o000);
    chmod(&p.here().join("file"), 0o000);
    p.scan();
    chmod(&p.here().join("closed"), 0o755);
    assert_eq!(names(&p.scan.unreadable), ["closed", "file"]);
}

/// The files that git itself takes for untracked and not ignored.
fn git_says(root: &Path) -> Vec<String> {
    let text = git(root, &["ls-files", "-z", "--others", "--exclude-standard"]);
    let mut files: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    files.sort();
    files
}

/// The files that go by these rules at the top and in `a`: as cx and as git sees it.
fn ours_and_gits(top: &[String], sub: &[String], paths: &[String]) -> (Vec<String>, Vec<String>) {
    let p = repository();
    p.write(".gitignore", &top.join("\n"));
    for path in paths {
        // A path may need a directory where another put a file.
        let at = p.here().join(path);
        if fs::create_dir_all(at.parent().unwrap()).is_ok() {
            let _ = fs::write(at, "");
        }
    }
    if p.here().join("a").is_dir() {
        p.write("a/.gitignore", &sub.join("\n"));
    }
    let options = ScanOptions {
        ignored_limit: 0,
        ..ScanOptions::default()
    };
    // Empty files fit under any limit: take what is ignored out again.
    let scan = scan(&p.here(), true, &options).unwrap();
    let tree = Beneath::open(&p.here()).unwrap();
    let walked = walk(
        &tree,
        &WalkOptions {
            extra_ignore: &scan.extra_ignore,
            also_caches: &[],
            unit_bytes: 0,
            unit_files: 0,
            threads: 1,
            watch: None,
        },
    )
    .unwrap();
    let plain = |f: &Found| f.class == Class::Plain && f.stat.is_file();
    let ours = walked
        .found
        .into_iter()
        .filter(plain)
        .map(|f| String::from_utf8(f.path.into()).unwrap())
        .collect();
    (ours, git_says(&p.here()))
}

#[test]
fn stars_after_a_beginning_mean_what_git_makes_of_them() {
    let paths = ["a", "ab", "abc/b", "b/a", "c/a/b", "c/ax", "c/x", "x/y/z"].map(String::from);
    for top in [
        &["a", "!/a**"][..],
        &["/a**"],
        &["*", "!/c/a**/", "!/c/a**/b"],
        &["*", "!/***"],
        &["x/***/z"],
        &["/c/***"],
        &["c/a**x"],
    ] {
        let top: Vec<String> = top.iter().map(|s| (*s).to_owned()).collect();
        for paths in [
            paths.to_vec(),
            vec!["a/a".into(), "a/b/a".into(), "a/ab/x".into()],
        ] {
            let (ours, gits) = ours_and_gits(&top, &[], &paths);
            assert_eq!(ours, gits, "{top:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ignore_rules_mean_what_git_means(
        top in prop::collection::vec("!?/?(a|b|x|[ab*?]{1,3}|\\*\\*|a/b|\\*\\.c|[ab]\\*/x|\\[ab\\]|\\[!a\\]\\*|\\*\\*/[abx]|[ab]/\\*\\*|a/\\*\\*/x|\\\\a)/?", 1..7),
        sub in prop::collection::vec("!?/?(a|b|x|\\*|\\*\\.c|b/x)/?", 0..4),
        paths in prop::collection::btree_set("([abx]/){0,3}([abx]{1,2}|[ab]\\.c)", 1..25),
    ) {
        let (ours, gits) = ours_and_gits(&top, &sub, &paths.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(ours, gits, "{:?} {:?}", top, sub);
    }
}
