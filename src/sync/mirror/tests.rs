//! Mirrors on real trees.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::plan::Brings;
use crate::plan::manifest::Entry;
use crate::sync::stage;
use crate::sync::testing::{Pair, chmod, crash_after, names, odd_name, picture, rel, write};

#[test]
fn a_tree_arrives_as_it_is() {
    let mut p = Pair::new();
    p.write("a.txt", "one");
    p.write("src/deep/er/b", "two");
    p.write("-rf", "dash");
    p.write("with\nnewline", "nl");
    write(&p.here().join(odd_name(b"bytes\xff\xfe/\x80f")), "raw");
    fs::create_dir(p.here().join("empty")).unwrap();
    chmod(&p.here().join("empty"), 0o750);
    p.write("run.sh", "#!/bin/sh\n");
    chmod(&p.here().join("run.sh"), 0o755);
    p.write("ro/f", "read only");
    chmod(&p.here().join("ro/f"), 0o400);
    chmod(&p.here().join("ro"), 0o555);
    symlink("nowhere", p.here().join("dangling")).unwrap();
    symlink("/etc/passwd", p.here().join("absolute")).unwrap();
    symlink("src", p.here().join("to-dir")).unwrap();
    p.sync();
    assert_eq!(picture(&p.here()), picture(&p.there()));
    let mtime = |at: &Path| fs::metadata(at.join("a.txt")).unwrap().mtime_nsec();
    assert_eq!(mtime(&p.here()), mtime(&p.there()), "a fresh mirror keeps times");
    assert!(matches!(
        p.mirror()
            .check(crate::plan::manifest::generation(&p.believed), &[], &p.back)
            .unwrap(),
        Check::At
    ));
}

#[test]
fn changes_of_every_kind_arrive() {
    let mut p = Pair::new();
    p.write("file-to-dir", "f");
    p.write("dir-to-file/x/y", "d");
    p.write("link", "l");
    p.write("gone/a/b", "g");
    p.write("Case", "c");
    p.write("keep", "k");
    p.write("mode", "m");
    p.write("ro/f", "1");
    chmod(&p.here().join("ro"), 0o555);
    p.sync();
    let keep = fs::metadata(p.there().join("keep")).unwrap();
    let mode = fs::metadata(p.there().join("mode")).unwrap();
    // A cache on the node goes with the directory that it lies in.
    write(&p.there().join("gone/node_modules/x.js"), "x");
    let h = p.here();
    fs::remove_file(h.join("file-to-dir")).unwrap();
    p.write("file-to-dir/inner", "i");
    fs::remove_dir_all(h.join("dir-to-file")).unwrap();
    p.write("dir-to-file", "now a file");
    fs::remove_file(h.join("link")).unwrap();
    symlink("keep", h.join("link")).unwrap();
    fs::remove_dir_all(h.join("gone")).unwrap();
    fs::rename(h.join("Case"), h.join("case")).unwrap();
    chmod(&h.join("mode"), 0o600);
    chmod(&h.join("ro"), 0o755);
    p.write("ro/f", "2");
    chmod(&h.join("ro"), 0o555);
    let before = std::time::SystemTime::now();
    p.sync();
    assert_eq!(picture(&h), picture(&p.there()));
    let now = |f: &str| fs::metadata(p.there().join(f)).unwrap();
    assert_eq!(
        (now("keep").mtime_nsec(), now("keep").ino()),
        (keep.mtime_nsec(), keep.ino())
    );
    assert_eq!(
        now("mode").mtime_nsec(),
        mode.mtime_nsec(),
        "a new mode is no new content"
    );
    assert!(
        now("case").modified().unwrap() >= before,
        "new content is new to make"
    );
}

#[test]
fn what_the_command_did_comes_back_once() {
    let mut p = Pair::new();
    p.write("Cargo.toml", "");
    p.write(".gitignore", "target/\n*.log\ngen/\n");
    p.write("src/a.rs", "a");
    p.write("src/b.rs", "b");
    p.write("old/f", "f");
    p.sync();
    let t = p.there();
    write(&t.join("src/a.rs"), "formatted");
    write(&t.join("new/dir/f"), "new");
    fs::remove_file(t.join("src/b.rs")).unwrap();
    fs::remove_dir_all(t.join("old")).unwrap();
    write(&t.join("target/debug/app"), "program");
    write(&t.join("target/debug/deps/app-123"), "program");
    write(&t.join("run.log"), "log");
    p.back.brings = Brings::Outputs(vec!["target/{debug,release}/*".into()]);
    let (collected, report) = p.bring_back();
    assert_eq!((collected.files, collected.deleted), (3, 3));
    assert_eq!(names(&collected.left.stayed), ["run.log"]);
    assert_eq!((report.files, report.deleted, report.refused.len()), (3, 3, 0));
    let here = picture(&p.here());
    assert_eq!(here[Path::new("src/a.rs")], "file 644 formatted");
    assert_eq!(here[Path::new("new/dir/f")], "file 644 new");
    assert_eq!(here[Path::new("target/debug/app")], "file 644 program");
    for gone in ["src/b.rs", "old", "run.log", "target/debug/deps"] {
        assert!(!here.contains_key(Path::new(gone)), "{gone}");
    }
    // Both sides agree now, nothing is sent again, nothing comes a second time.
    assert_eq!(
        collected.generation,
        crate::plan::manifest::generation(&p.believed)
    );
    p.scan();
    assert!(
        p.scan.delta(&p.believed).is_empty(),
        "{:?}",
        p.scan.delta(&p.believed)
    );
    let (again, _) = p.bring_back();
    assert_eq!((again.files, again.deleted, again.left.stayed.len()), (0, 0, 0));
    assert!(p.there().join("target/debug/app").exists());
}

/// A pair whose mirror is one sync behind, and that sync's pack.
fn one_behind() -> (Pair, Vec<u8>) {
    let mut p = Pair::new();
    p.write("a", "1");
    p.write("d/x", "x");
    p.write("f-to-d", "f");
    p.write("d-to-f/y", "y");
    p.write("gone/deep/z", "z");
    p.sync();
    p.write("a", "two");
    p.write("new/n", "n");
    fs::remove_file(p.here().join("f-to-d")).unwrap();
    p.write("f-to-d/in", "in");
    fs::remove_dir_all(p.here().join("d-to-f")).unwrap();
    p.write("d-to-f", "file");
    fs::remove_dir_all(p.here().join("gone")).unwrap();
    symlink("a", p.here().join("link")).unwrap();
    chmod(&p.here().join("d"), 0o700);
    let pack = p.pack();
    (p, pack)
}

#[test]
fn a_crash_leaves_the_old_or_the_new_tree() {
    let mut finished = false;
    for step in 0.. {
        let (p, pack) = one_behind();
        let old = picture(&p.there());
        let mut mirror = p.mirror();
        let staged = stage(&mut &pack[..], &mirror.stage_dir(), 1 << 20).unwrap();
        crash_after(Some(step));
        let applied = mirror.apply(staged);
        crash_after(None);
        drop(mirror);
        if applied.is_ok() {
            finished = true;
            break;
        }
        let mut again = p.mirror();
        let now = picture(&p.there());
        let want = crate::plan::manifest::generation(&p.believed);
        let at = matches!(again.check(want, &[], &p.back).unwrap(), Check::At);
        if step == 0 {
            assert_eq!((now, at), (old, false), "nothing was done before the journal");
        } else {
            assert_eq!((now, at), (picture(&p.here()), true), "step {step}");
        }
        assert!(!again.meta.join("journal").exists());
    }
    assert!(finished);
}

#[test]
fn a_crash_while_rolling_forward_is_rolled_forward() {
    let (p, pack) = one_behind();
    let mut mirror = p.mirror();
    let staged = stage(&mut &pack[..], &mirror.stage_dir(), 1 << 20).unwrap();
    crash_after(Some(3));
    mirror.apply(staged).unwrap_err();
    let key = MirrorKey {
        client: "c".into(),
        workspace: "w".into(),
        name: "here".into(),
    };
    for step in 0..4 {
        crash_after(Some(step));
        Mirror::open(&p.dir.path().join("node"), &key).unwrap_err();
    }
    crash_after(None);
    p.mirror();
    assert_eq!(picture(&p.here()), picture(&p.there()));
}

#[test]
fn a_pack_made_for_an_idle_mirror_is_not_put_under_a_run_that_came_since() {
    let (p, pack) = one_behind();
    let mut mirror = p.mirror();
    let mine = mirror.join_run().unwrap();
    let other = p.mirror().join_run().unwrap();
    let before = picture(&p.there());
    let staged = || stage(&mut &pack[..], &p.mirror().stage_dir(), 1 << 20).unwrap();
    let error = mirror.apply_alone(staged(), &mine).unwrap_err();
    assert!(matches!(error, SyncError::Differs(_)));
    assert_eq!(picture(&p.there()), before);
    drop(other);
    assert!(!p.mirror().is_idle().unwrap(), "still registered");
    mirror.apply_alone(staged(), &mine).unwrap();
    assert_eq!(picture(&p.there()), picture(&p.here()));
    p.mirror().join_run().unwrap();
    drop(mine);
    assert!(p.mirror().is_idle().unwrap());
}

#[test]
fn what_another_sync_put_there_is_not_put_again_over_what_a_run_made_of_it() {
    let mut p = Pair::new();
    p.write("both", "old");
    p.write("mode", "m");
    p.sync();
    let before = p.believed.clone();
    p.write("both", "new");
    chmod(&p.here().join("mode"), 0o600);
    let first = p.pack();
    // Another run's scan was a little later, and its pack is for the same mirror.
    p.write("more", "m");
    p.believed = before;
    let second = p.pack();
    let run = p.mirror().join_run().unwrap();
    for (n, pack) in [first, second].into_iter().enumerate() {
        let mut mirror = p.mirror();
        let staged = stage(&mut &pack[..], &mirror.stage_dir(), 1 << 20).unwrap();
        mirror.apply(staged).unwrap();
        if n == 0 {
            // The first one's run was quick.
            write(&p.there().join("both"), "made");
        }
    }
    assert_eq!(fs::read_to_string(p.there().join("both")).unwrap(), "made");
    assert!(p.there().join("more").exists());
    drop(run);
    let (collected, report) = p.bring_back();
    assert_eq!((collected.files, report.files), (1, 1));
    assert_eq!(fs::read_to_string(p.here().join("both")).unwrap(), "made");
}

#[test]
fn a_pack_for_another_tree_changes_nothing() {
    let (p, pack) = one_behind();
    write(&p.there().join("d/x"), "changed behind our back");
    let mut mirror = p.mirror();
    let expected = Generation::empty();
    let Check::Differs(has) = mirror.check(expected, &[], &p.back).unwrap() else {
        panic!("it is not empty")
    };
    assert!(
        matches!(&has[&rel("d/x")], Entry::File { size: 23, .. }),
        "the answer tells the truth"
    );
    let before = picture(&p.there());
    let staged = stage(&mut &pack[..], &mirror.stage_dir(), 1 << 20).unwrap();
    let error = mirror.apply(staged).unwrap_err();
    assert!(matches!(error, SyncError::Differs(m) if *m == has));
    assert_eq!(picture(&p.there()), before);
    assert_eq!(
        fs::read_dir(mirror.meta.join("stage")).unwrap().count(),
        0,
        "the stage is gone"
    );
}

#[test]
fn what_changed_behind_our_back_is_mended() {
    let mut p = Pair::new();
    p.write("a", "a");
    p.write("d/b", "b");
    p.write(".gitignore", "*.o\n");
    p.sync();
    let t = p.there();
    write(&t.join("a"), "z");
    fs::remove_dir_all(t.join("d")).unwrap();
    write(&t.join("stray/file"), "stray");
    write(&t.join("made.o"), "ignored ones stay");
    p.sync();
    let mut there = picture(&t);
    assert_eq!(
        there.remove(Path::new("made.o")).unwrap(),
        "file 644 ignored ones stay"
    );
    assert_eq!(there, picture(&p.here()));
}

#[test]
fn times_cross_as_they_are_only_while_nothing_that_was_built_may_be_newer() {
    let mtime = |at: &Path| fs::metadata(at.join("a")).unwrap().mtime_nsec();
    // How the run before ended, and whether the time of what changes after it is kept.
    for (ending, kept) in [
        ("well", true),
        ("killed", false),
        ("another lives", false),
        ("stray", false),
    ] {
        let mut p = Pair::new();
        p.write("a", "one");
        p.write("Cargo.toml", "");
        p.sync();
        let mut ran = p.mirror();
        let run = ran.join_run().unwrap();
        let runs = ran.runs_since_rest();
        let other = (ending == "another lives").then(|| p.mirror().join_run().unwrap());
        write(&p.there().join("target/object"), "of one");
        if ending != "killed" {
            ran.collect(&p.back, b"", &mut Vec::new()).unwrap();
        }
        if ending != "killed" && ending != "stray" {
            ran.rest(&run, runs);
        }
        drop((run, ran));
        // Clocks of files are coarse.
        std::thread::sleep(Duration::from_millis(30));
        p.write("a", "two");
        let delta = p.pack();
        let mut next = p.mirror();
        let run = next.join_run().unwrap();
        let staged = stage(&mut &delta[..], &next.stage_dir(), 1 << 20).unwrap();
        next.apply(staged).unwrap();
        assert_eq!(mtime(&p.here()) == mtime(&p.there()), kept, "{ending}");
        drop((run, other));
    }
}

#[test]
fn a_live_run_is_left_alone() {
    let mut p = Pair::new();
    p.write("a", "a");
    let generation = p.sync();
    let guard = p.mirror().join_run().unwrap();
    write(&p.there().join("b"), "made by the run that lives");
    assert!(matches!(
        p.mirror().check(generation, &[], &p.back).unwrap(),
        Check::At
    ));
    assert!(p.mirror().remove().unwrap().is_none());
    drop(guard);
    assert!(matches!(
        p.mirror().check(generation, &[], &p.back).unwrap(),
        Check::Differs(_)
    ));
}

#[test]
fn a_lost_state_is_found_again() {
    let mut p = Pair::new();
    p.write("a", "a");
    p.write("d/b", "b");
    let generation = p.sync();
    for damage in [None, Some("junk")] {
        let state = p.mirror().meta.join("state");
        match damage {
            None => fs::remove_file(&state).unwrap(),
            Some(text) => fs::write(&state, text).unwrap(),
        }
        assert!(matches!(
            p.mirror().check(generation, &[], &p.back).unwrap(),
            Check::At
        ));
    }
}

#[test]
fn each_change_is_reported_by_one_collect() {
    let mut p = Pair::new();
    p.write("a", "a");
    p.sync();
    write(&p.there().join("one"), "1");
    assert_eq!(p.collect().0.files, 1);
    write(&p.there().join("two"), "2");
    let (collected, staged) = p.collect();
    assert_eq!(
        names(&staged.ops().iter().map(|o| o.path().clone()).collect::<Vec<_>>()),
        ["two"]
    );
    // What could not be sent is told again.
    write(&p.there().join("three"), "3");
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    p.mirror().collect(&p.back, b"", &mut Broken).unwrap_err();
    let (third, _) = p.collect();
    assert_eq!(third.files, 1);
    assert_ne!(third.generation, collected.generation);
}

#[test]
fn scope_limit_and_rules_choose_what_comes_back() {
    let all = |brings: Brings, scope: u8, limit: u64, run_dir: &str| {
        let mut p = Pair::new();
        p.options.ignored_limit = 8;
        p.write(".gitignore", "out/\ndata/\n*.log\ngen.rs\n");
        p.write("gen.rs", "g");
        p.write("src", "s");
        p.write("data/large", "existed here");
        p.write("sub/f", "f");
        p.sync();
        let t = p.there();
        write(&t.join("src"), "S");
        write(&t.join("gen.rs"), "generated");
        write(&t.join("data/large"), "changed there");
        write(&t.join("run.log"), "log");
        write(&t.join("out/bin"), "program");
        write(&t.join("sub/out/bin"), "program");
        write(&t.join("node_modules/cache"), "cache");
        p.back = BackSpec {
            brings,
            scope,
            limit,
            ..p.back.clone()
        };
        let mut pack = Vec::new();
        let collected = p
            .mirror()
            .collect(&p.back, run_dir.as_bytes(), &mut pack)
            .unwrap();
        let staged = stage(&mut &pack[..], &p.dir.path().join("s"), 1 << 20).unwrap();
        let files = staged.ops().iter().filter(|o| {
            matches!(
                o,
                crate::sync::Op::Put {
                    entry: Entry::File { .. },
                    ..
                }
            )
        });
        let files = names(&files.map(|o| o.path().clone()).collect::<Vec<_>>()).join(" ");
        let left = collected.left;
        let mut stayed = [left.stayed, left.passing, left.over].concat();
        stayed.sort();
        (files, names(&stayed).join(" "))
    };
    let outputs = |glob: &str| Brings::Outputs(vec![glob.into()]);
    for (brings, scope, limit, run_dir, comes, stays) in [
        (
            Brings::Synced,
            2,
            1000,
            "",
            "data/large gen.rs src",
            "out/bin run.log sub/out/bin",
        ),
        (
            Brings::Ignored,
            2,
            1000,
            "",
            "data/large gen.rs out/bin run.log src sub/out/bin",
            "",
        ),
        (
            outputs("out/**"),
            2,
            1000,
            "",
            "data/large gen.rs out/bin src",
            "run.log sub/out/bin",
        ),
        (
            outputs("out/"),
            1,
            1000,
            "sub",
            "sub/out/bin",
            "data/large gen.rs src",
        ),
        (
            outputs("../out/b*"),
            1,
            1000,
            "sub",
            "out/bin",
            "data/large gen.rs src",
        ),
        (
            outputs("../../out/b*"),
            1,
            1000,
            "sub",
            "",
            "data/large gen.rs src",
        ),
        (
            outputs("node_modules/*"),
            2,
            1000,
            "",
            "data/large gen.rs node_modules/cache src",
            "out/bin run.log sub/out/bin",
        ),
        (
            Brings::Ignored,
            0,
            1000,
            "",
            "",
            "data/large gen.rs out/bin run.log src sub/out/bin",
        ),
        (
            Brings::Ignored,
            2,
            14,
            "",
            "gen.rs run.log src",
            "data/large out/bin sub/out/bin",
        ),
    ] {
        let got = all(brings.clone(), scope, limit, run_dir);
        assert_eq!(
            got,
            (comes.to_owned(), stays.to_owned()),
            "{brings:?} {scope} {limit} {run_dir}"
        );
    }
}

#[test]
fn keys_that_leave_the_base_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = |c: &str, w: &str, n: &str| MirrorKey {
        client: c.into(),
        workspace: w.into(),
        name: n.into(),
    };
    for bad in [
        key("..", "w", "n"),
        key("c", "a/b", "n"),
        key("", "w", "n"),
        key("c", "w", ".."),
        key("c", "w", "a/b"),
        key("c", "w", ""),
        key("c", "w\0", "n"),
    ] {
        assert!(
            matches!(Mirror::open(dir.path(), &bad), Err(SyncError::Key(_))),
            "{bad:?}"
        );
    }
    let odd = key("c", "w", "my project é");
    let mirror = Mirror::open(dir.path(), &odd).unwrap();
    assert!(mirror.root().ends_with("tree/my project é"));
    assert_eq!(mirrors(dir.path()), [odd]);
    write(&mirror.root().join("f"), "f");
    assert!(purge(dir.path(), Some("other")).unwrap() == 0);
    assert!(purge(dir.path(), Some("c")).unwrap() > 0);
    assert!(mirrors(dir.path()).is_empty());
}

/// A random tree: paths with what stands there. Later ones lose where an earlier one is in the way.
fn trees() -> impl Strategy<Value = Vec<(String, u8, u16)>> {
    prop::collection::vec(("([abc]/){0,3}[abc]", 0u8..4, 0u16..4), 0..14)
}

fn plant(root: &Path, tree: &[(String, u8, u16)]) {
    fs::create_dir_all(root).unwrap();
    for (path, kind, n) in tree {
        let at = root.join(path);
        if fs::create_dir_all(at.parent().unwrap()).is_err() {
            continue;
        }
        // A parent may be a link that was planted; what lies behind it is a directory of the tree or nothing.
        if fs::symlink_metadata(&at).is_ok() {
            continue;
        }
        match kind {
            0 => fs::create_dir(&at).unwrap(),
            1 => symlink(format!("dangling-{n}"), &at).unwrap(),
            _ => {
                fs::write(&at, n.to_string()).unwrap();
                chmod(&at, if n % 2 == 0 { 0o644 } else { 0o755 });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_pack_of_the_difference_turns_one_tree_into_the_other(a in trees(), b in trees()) {
        let mut p = Pair::new();
        plant(&p.here(), &a);
        p.sync();
        prop_assert_eq!(picture(&p.here()), picture(&p.there()));
        fs::remove_dir_all(p.here()).unwrap();
        plant(&p.here(), &b);
        p.sync();
        prop_assert_eq!(picture(&p.here()), picture(&p.there()));
        // And back: a command that turns the tree into the first again.
        fs::remove_dir_all(p.there()).unwrap();
        plant(&p.there(), &a);
        let (collected, report) = p.bring_back();
        prop_assert_eq!(report.conflicts.len() + report.refused.len() + report.kept_deletions.len(), 0);
        prop_assert_eq!(picture(&p.here()), picture(&p.there()));
        prop_assert_eq!(collected.generation, generation(&p.believed));
    }
}

#[test]
fn what_is_forgotten_stays_and_does_not_come_back() {
    let mut p = Pair::new();
    p.options.ignored_limit = 10;
    p.write(".gitignore", "data/\n");
    p.write("data/d", "12345");
    p.sync();
    // Over the limit now; and a secret that a command made there.
    p.write("data/e", "1234567890");
    write(&p.there().join(".env"), "made there");
    let (_, report) = p.bring_back();
    assert_eq!(report.files, 1);
    for _ in 0..2 {
        p.sync();
        assert!(p.there().join("data/d").exists() && p.there().join(".env").exists());
        assert!(!p.there().join("data/e").exists());
        assert_eq!(crate::sync::testing::listed(&p.believed), [".gitignore"]);
        let expected = generation(&p.believed);
        assert!(matches!(
            p.mirror().check(expected, &[], &p.back).unwrap(),
            Check::At
        ));
        assert_eq!(p.collect().0.files, 0);
    }
    write(&p.there().join("data/d"), "changed");
    write(&p.there().join(".env"), "changed there");
    // As if it had been written here since the scan.
    p.scan.began_ns = 0;
    let (collected, report) = p.bring_back();
    assert_eq!((collected.files, report.files), (2, 0));
    assert_eq!(
        report.refused[0].0,
        rel(".env"),
        "a secret that was not sent is not touched"
    );
    assert_eq!(
        report.conflicts,
        [rel("data/d")],
        "it is younger here than the scan"
    );
}

#[test]
fn what_changes_after_the_look_beforehand_is_seen() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 10] = [
        ("a file", |t| fs::write(t.join("a"), "other").unwrap()),
        ("only its time", |t| fs::write(t.join("a"), "one").unwrap()),
        ("a mode", |t| chmod(&t.join("d/b"), 0o755)),
        ("a new file", |t| fs::write(t.join("d/new"), "new").unwrap()),
        ("a file less", |t| fs::remove_file(t.join("d/b")).unwrap()),
        ("another name", |t| {
            fs::rename(t.join("a"), t.join("d/e")).unwrap()
        }),
        ("a link in its place", |t| {
            fs::remove_file(t.join("a")).unwrap();
            std::os::unix::fs::symlink("d/b", t.join("a")).unwrap();
        }),
        ("a new directory", |t| write(&t.join("n/m/f"), "f")),
        ("a directory less", |t| fs::remove_dir_all(t.join("d")).unwrap()),
        ("rules", |t| fs::write(t.join("d/.gitignore"), "b\n").unwrap()),
    ];
    for (what, change) in changes {
        let mut p = Pair::new();
        p.write("a", "one");
        p.write("d/b", "two");
        p.write(".gitignore", "*.log\n");
        p.sync();
        let mut mirror = p.prepared().expect(what);
        change(&p.there());
        let expected = crate::plan::manifest::generation(&p.believed);
        let has = match mirror.check(expected, &[], &p.back).unwrap() {
            Check::Differs(has) => has,
            Check::At => p.believed.clone(),
        };
        let options = crate::sync::ScanOptions::default();
        let there = crate::sync::scan(&p.there(), false, &options).unwrap();
        assert_eq!(has, there.manifest, "{what}");

        // Twice: what was told of once may change again, by another name, too.
        fs::hard_link(p.there().join(".gitignore"), p.dir.path().join("apart")).unwrap();
        fs::write(p.there().join("late"), "late").unwrap();
        let mut pack = Vec::new();
        mirror.collect(&p.back, b"", &mut pack).unwrap();
        assert!(!pack.is_empty(), "{what}");
    }
}

#[test]
fn a_look_beforehand_is_none_without_a_mirror_or_beside_a_run() {
    let mut p = Pair::new();
    assert!(p.prepared().is_none());
    assert!(!p.dir.path().join("node").exists(), "and leaves nothing");
    p.write("a", "one");
    p.sync();
    assert!(p.prepared().is_some());
    let run = p.mirror().join_run().unwrap();
    assert!(p.prepared().is_none());
    drop(run);
    let ready = p.prepared().unwrap();
    p.mirror().remove().unwrap();
    assert!(!ready.is_of(&Pair::key()), "it is gone");
}
