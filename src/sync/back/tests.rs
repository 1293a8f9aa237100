//! Commits into real local trees.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::plan::manifest::generation;
use crate::sync::pack::PackWriter;
use crate::sync::testing::{Pair, chmod, crash_after, names, picture, rel, write};
use crate::sync::{Check, after, stage};

/// A pair in sync, with some files.
fn pair(files: &[&str]) -> Pair {
    let mut p = Pair::new();
    for f in files {
        p.write(f, f);
    }
    p.sync();
    p
}

/// A pack as a hostile node would write it: these files, deletions and links, whatever they are called.
fn hostile(p: &Pair, files: &[&str], deletions: &[&str], links: &[(&str, &str)]) -> Staged {
    let tree = p.dir.path().join("hostile");
    let mut pack = Vec::new();
    let mut out: &mut dyn io::Write = &mut pack;
    let mut w = PackWriter::new(&mut out).unwrap();
    for d in deletions {
        w.delete(&rel(d)).unwrap();
    }
    for (link, target) in links {
        fs::create_dir_all(tree.join(link).parent().unwrap()).unwrap();
        symlink(target, tree.join(link)).unwrap();
        let entry = Entry::Symlink { target: vec![] };
        w.put(
            &mut Beneath::open(&tree).unwrap(),
            &rel(link),
            &entry,
            Origin::Synced,
        )
        .unwrap()
        .unwrap();
    }
    for f in files {
        // The content lies elsewhere: a path below a link cannot be made.
        let other = p.dir.path().join(format!("content/{}", unique()));
        write(&other.join(f), "hostile");
        let entry = Entry::File {
            mode: 0,
            size: 0,
            hash: [0; 32],
        };
        w.put(
            &mut Beneath::open(&other).unwrap(),
            &rel(f),
            &entry,
            Origin::Synced,
        )
        .unwrap()
        .unwrap();
    }
    w.end(generation(&Manifest::new())).unwrap();
    stage(
        &mut &pack[..],
        &p.dir.path().join(format!("stages/{}", unique())),
        1 << 20,
    )
    .unwrap()
}

#[test]
fn what_changed_here_too_is_kept_apart() {
    let mut p = pair(&[
        "both",
        "there",
        "deleted-there",
        "deleted-here",
        "gone-there",
        "made",
    ]);
    fs::remove_file(p.here().join("made")).unwrap();
    p.sync();
    for f in ["both", "there", "deleted-here", "made"] {
        write(&p.there().join(f), "theirs");
    }
    fs::remove_file(p.there().join("deleted-there")).unwrap();
    fs::remove_file(p.there().join("gone-there")).unwrap();
    p.write("both", "ours");
    p.write("deleted-there", "ours");
    p.write("made", "ours");
    fs::remove_file(p.here().join("deleted-here")).unwrap();
    let (_, report) = p.bring_back();
    assert_eq!(names(&report.conflicts), ["both", "deleted-here", "made"]);
    assert_eq!(names(&report.kept_deletions), ["deleted-there"]);
    assert_eq!((report.files, report.deleted, report.refused.len()), (1, 1, 0));
    let here = picture(&p.here());
    assert_eq!(here[Path::new("both")], "file 644 ours");
    assert_eq!(here[Path::new("there")], "file 644 theirs");
    assert!(!here.contains_key(Path::new("deleted-here")) && !here.contains_key(Path::new("gone-there")));
    let kept = picture(&p.dir.path().join("conflicts"));
    assert_eq!(
        kept.keys().collect::<Vec<_>>(),
        ["both", "deleted-here", "made"].map(Path::new)
    );
    assert!(kept[Path::new("both")].ends_with("theirs"));
}

#[test]
fn what_another_run_made_a_directory_for_does_not_wait_for_that_one() {
    let p = pair(&["gone/f", "here"]);
    fs::remove_dir_all(p.here().join("gone")).unwrap();
    let report = p.commit(hostile(&p, &["gone/new", "made/by/others/f"], &[], &[]));
    let here = picture(&p.here());
    assert_eq!(here[Path::new("made/by/others/f")], "file 644 hostile");
    assert!(!here.contains_key(Path::new("gone")));
    assert_eq!(names(&report.conflicts), ["gone/new"]);
}

#[test]
fn a_moved_head_keeps_everything_apart() {
    let p = pair(&["a", "d"]);
    write(&p.there().join("a"), "theirs");
    write(&p.there().join("new/n"), "theirs");
    fs::remove_file(p.there().join("d")).unwrap();
    let (_, staged) = p.collect();
    let before = picture(&p.here());
    let context = BackContext {
        sent: &p.believed,
        agreed: &Default::default(),
        superseded: &Default::default(),
        withheld: &[],
        ignored: &[],
        began_ns: p.scan.began_ns,
        head: (None, Some([1; 32])),
        clock_offset_ms: 0,
        conflicts_dir: &p.dir.path().join("conflicts"),
    };
    let report = commit_local(&p.here(), staged, &context).unwrap();
    assert_eq!(picture(&p.here()), before);
    assert_eq!(names(&report.conflicts), ["a", "new/n"]);
    assert_eq!(names(&report.kept_deletions), ["d"]);
}

#[test]
fn protected_paths_secrets_and_mass_deletions_are_refused() {
    let many: Vec<String> = (0..150).map(|i| format!("d/{i}")).collect();
    let mut p = pair(&many.iter().map(String::as_str).collect::<Vec<_>>());
    p.write(".env", "SECRET");
    p.write(".git/config", "mine");
    p.scan();
    let before = picture(&p.here());
    let bad = [
        ".git/config",
        "x/.GIT/hooks/post-checkout",
        ".envrc",
        ".claude/settings.json",
        ".vscode/t",
        ".env",
        ".cx.toml",
    ];
    let report = p.commit(hostile(
        &p,
        &bad,
        &many.iter().map(String::as_str).collect::<Vec<_>>(),
        &[(".husky", "/tmp")],
    ));
    assert_eq!(report.refused.len(), bad.len() + 1);
    assert_eq!(report.undeleted.len(), many.len());
    assert_eq!((report.files, report.deleted), (0, 0));
    assert_eq!(picture(&p.here()), before);
    assert_eq!(fs::read_to_string(p.here().join(".git/config")).unwrap(), "mine");
    // A hundred is believed.
    let few: Vec<&str> = many.iter().take(100).map(String::as_str).collect();
    assert_eq!(p.commit(hostile(&p, &[], &few, &[])).deleted, 100);
}

#[test]
fn nothing_goes_through_a_link() {
    let mut p = pair(&["sub/f", "deep/er/g"]);
    let outside = p.dir.path().join("outside");
    write(&outside.join("f"), "outside");
    write(&outside.join("g"), "outside");
    // The directory became a link here after it was sent.
    fs::remove_dir_all(p.here().join("sub")).unwrap();
    symlink(&outside, p.here().join("sub")).unwrap();
    fs::remove_dir_all(p.here().join("deep/er")).unwrap();
    symlink("../../outside", p.here().join("deep/er")).unwrap();
    let report = p.commit(hostile(&p, &["sub/f", "sub/new"], &["deep/er/g"], &[]));
    assert_eq!(names(&report.conflicts), ["sub/f", "sub/new"]);
    assert_eq!((report.deleted, report.files), (0, 0));
    // The node makes the link itself and then writes below it.
    let out = outside.to_str().unwrap().to_owned();
    let report = p.commit(hostile(&p, &["l/f", "l/new"], &[], &[("l", &out)]));
    assert_eq!(names(&report.conflicts), ["l/f", "l/new"]);
    let there = picture(&outside);
    assert_eq!(there.len(), 2, "{there:?}");
    assert!(there.values().all(|v| v == "file 644 outside"));
    p.scan();
}

#[test]
fn a_directory_swapped_for_a_link_meanwhile_lets_nothing_out() {
    let p = pair(&["d/f"]);
    let outside = p.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let (d, aside, link) = (p.here().join("d"), p.here().join("aside"), p.here().join("link"));
    symlink(&outside, &link).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::rename(&d, &aside);
                let _ = fs::rename(&link, &d);
                let _ = fs::rename(&d, &link);
                let _ = fs::rename(&aside, &d);
            }
        });
        for round in 0..40 {
            let files: Vec<String> = (0..10).map(|i| format!("d/{round}-{i}")).collect();
            p.commit(hostile(
                &p,
                &files.iter().map(String::as_str).collect::<Vec<_>>(),
                &[],
                &[],
            ));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn outputs_replace_older_ones_and_leave_newer_ones() {
    let mut p = Pair::new();
    p.write("Cargo.toml", "");
    p.write("target/debug/app", "built here");
    p.write("target/debug/other", "built here");
    let old = std::time::Duration::from_secs(10);
    p.sync();
    // As if the local ones were older than the racy window.
    p.scan.began_ns += old.as_nanos() as i64;
    for f in ["app", "other", "fresh"] {
        write(&p.there().join("target/debug").join(f), "built there");
    }
    p.back.brings = crate::plan::Brings::Outputs(vec!["target/debug/*".into()]);
    let (_, staged) = p.collect();
    let began = p.scan.began_ns;
    // Touched here since the scan.
    let other = p.here().join("target/debug/other");
    let future = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(began as u64 + 1);
    fs::File::options()
        .write(true)
        .open(&other)
        .unwrap()
        .set_modified(future)
        .unwrap();
    let report = p.commit(staged);
    assert_eq!(names(&report.conflicts), ["target/debug/other"]);
    let here = picture(&p.here());
    assert_eq!(here[Path::new("target/debug/app")], "file 644 built there");
    assert_eq!(here[Path::new("target/debug/fresh")], "file 644 built there");
    assert_eq!(here[Path::new("target/debug/other")], "file 644 built here");
    assert_eq!(
        crate::sync::testing::listed(&p.believed),
        ["Cargo.toml"],
        "caches are no part of the manifest"
    );
}

#[test]
fn an_output_of_several_names_is_replaced_at_each() {
    let mut p = Pair::new();
    p.write("Cargo.toml", "");
    let names_of = ["ex", "ex-1", "ex-2"];
    p.write("target/ex", "built here");
    for name in &names_of[1..] {
        fs::hard_link(p.here().join("target/ex"), p.here().join("target").join(name)).unwrap();
    }
    // Past the racy window, which what replaces the first name is not.
    std::thread::sleep(std::time::Duration::from_millis(50));
    p.sync();
    for name in names_of {
        write(&p.there().join("target").join(name), "built there");
    }
    p.back.brings = crate::plan::Brings::Outputs(vec!["target/*".into()]);
    let (_, staged) = p.collect();
    let report = p.commit(staged);
    assert_eq!((report.files, names(&report.conflicts)), (3, Vec::new()));
}

#[test]
fn a_killed_commit_is_finished_with_every_file_whole() {
    let mut finished = false;
    for step in 0.. {
        let mut p = pair(&["a", "b", "gone", "swap/x"]);
        let sent = picture(&p.here());
        write(&p.there().join("a"), "new a");
        write(&p.there().join("b"), "new b");
        write(&p.there().join("n/n"), "new n");
        fs::remove_file(p.there().join("gone")).unwrap();
        fs::remove_dir_all(p.there().join("swap")).unwrap();
        write(&p.there().join("swap"), "a file now");
        symlink("a", p.there().join("link")).unwrap();
        let (_, staged) = p.collect();
        let new = after(&p.believed, staged.ops());
        crash_after(Some(step));
        let done = p.try_commit(staged);
        crash_after(None);
        let want = picture(&p.there());
        for (path, what) in picture(&p.here())
            .into_iter()
            .filter(|(_, what)| !what.starts_with("dir"))
        {
            let tmp = path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(TMP_PREFIX);
            assert!(
                tmp || sent.get(&path) == Some(&what) || want.get(&path) == Some(&what),
                "{path:?} {what}"
            );
        }
        if done.is_ok() {
            finished = true;
            break;
        }
        let reports = recover(&p.dir.path().join("stages")).unwrap();
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].0, p.here());
        assert_eq!(
            (reports[0].1.conflicts.len(), reports[0].1.refused.len()),
            (0, 0),
            "step {step}"
        );
        assert_eq!(picture(&p.here()), want, "step {step}");
        assert_eq!(fs::read_dir(p.dir.path().join("stages")).unwrap().count(), 0);
        p.believed = new;
        p.scan();
        assert!(p.scan.delta(&p.believed).is_empty());
    }
    assert!(finished);
}

#[test]
fn an_edit_of_what_a_killed_commit_had_put_in_place_is_no_conflict() {
    let mut seen = 0;
    for step in 0.. {
        let p = pair(&["a", "b", "gone"]);
        write(&p.there().join("a"), "new a");
        fs::remove_file(p.there().join("gone")).unwrap();
        write(&p.there().join("z"), "new z");
        let (_, staged) = p.collect();
        crash_after(Some(step));
        let done = p.try_commit(staged);
        crash_after(None);
        if done.is_ok() {
            break;
        }
        let is = |path: &str, text: &str| fs::read_to_string(p.here().join(path)).is_ok_and(|t| t == text);
        if !is("a", "new a") || p.here().join("gone").exists() || p.here().join("z").exists() {
            let _ = recover(&p.dir.path().join("stages"));
            continue;
        }
        seen += 1;
        write(&p.here().join("a"), "edited here");
        write(&p.here().join("gone"), "made again");
        let reports = recover(&p.dir.path().join("stages")).unwrap();
        let report = &reports[0].1;
        assert_eq!(
            (names(&report.conflicts), names(&report.kept_deletions)),
            (vec![], vec![]),
            "step {step}"
        );
        assert!(is("a", "edited here") && is("gone", "made again") && is("z", "new z"));
    }
    assert!(seen > 0);
}

#[test]
fn times_are_ours_and_modes_lose_setuid() {
    let mut p = pair(&["a", "b"]);
    for (f, age) in [("a", 3600), ("b", 0)] {
        let at = p.there().join(f);
        write(&at, "new");
        chmod(&at, 0o4755);
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        fs::File::options()
            .write(true)
            .open(&at)
            .unwrap()
            .set_modified(then)
            .unwrap();
    }
    let (_, staged) = p.collect();
    let now = now_ns();
    let context = BackContext {
        sent: &p.believed,
        agreed: &Default::default(),
        superseded: &Default::default(),
        withheld: &[],
        ignored: &[],
        began_ns: p.scan.began_ns,
        head: (None, None),
        // The node is half an hour behind.
        clock_offset_ms: -1_800_000,
        conflicts_dir: &p.dir.path().join("conflicts"),
    };
    commit_local(&p.here(), staged, &context).unwrap();
    let meta = |f: &str| fs::metadata(p.here().join(f)).unwrap();
    assert_eq!(meta("a").mode() & 0o7777, 0o755);
    let age = |f: &str| (now - (meta(f).mtime() * 1_000_000_000 + meta(f).mtime_nsec())) / 1_000_000_000;
    assert!((1790..=3000).contains(&age("a")), "{}", age("a"));
    assert!(
        meta("b").modified().unwrap() <= std::time::SystemTime::now(),
        "never in the future"
    );
    p.scan();
}

/// Takes away what lets root pass by modes; for this thread, and for good.
#[cfg(target_os = "linux")]
fn as_anybody() {
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective = rustix::thread::CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets).unwrap();
}

/// Takes them again.
#[cfg(target_os = "linux")]
fn as_root() {
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective = sets.permitted;
    rustix::thread::set_capabilities(None, sets).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_may_not_be_written_here_takes_what_the_run_made() {
    let mut p = Pair::new();
    for f in ["d/e/old", "d/e/gone", "top"] {
        p.write(f, f);
    }
    let (d, e) = (p.here().join("d"), p.here().join("d/e"));
    for dir in [&e, &d, &p.here()] {
        chmod(dir, 0o555);
    }
    p.sync();
    let (there, there_e) = (p.there(), p.there().join("d/e"));
    for dir in [&there, &there.join("d"), &there_e] {
        chmod(dir, 0o755);
    }
    write(&there_e.join("old"), "theirs");
    write(&there_e.join("new"), "theirs");
    write(&there.join("top"), "theirs");
    write(&there.join("beside"), "theirs");
    fs::remove_file(there_e.join("gone")).unwrap();
    for dir in [&there_e, &there.join("d")] {
        chmod(dir, 0o555);
    }
    as_anybody();
    let (_, report) = p.bring_back();
    assert_eq!((report.files, report.deleted), (4, 1), "{report:?}");
    assert!(
        report.failed.is_empty() && report.refused.is_empty(),
        "{report:?}"
    );
    let here = picture(&p.here());
    for f in ["d/e/old", "d/e/new", "top", "beside"] {
        assert!(here[Path::new(f)].ends_with("theirs"), "{f}");
    }
    assert!(!here.contains_key(Path::new("d/e/gone")));
    for dir in [&d, &e, &p.here()] {
        assert_eq!(
            fs::metadata(dir).unwrap().mode() & 0o777,
            0o555,
            "{}",
            dir.display()
        );
        chmod(dir, 0o755);
    }
}

#[test]
fn a_directory_that_became_a_file_there_stays_whole_where_it_changed_here() {
    let mut p = pair(&["cd/x", "cd/y/z", "same/x", "extra/x", "f"]);
    for dir in ["cd", "same", "extra"] {
        fs::remove_dir_all(p.there().join(dir)).unwrap();
        write(&p.there().join(dir), "a file there");
    }
    fs::remove_file(p.there().join("f")).unwrap();
    write(&p.there().join("f/g"), "below a directory there");
    p.write("cd/y/z", "ours");
    p.write("extra/new", "ours");
    p.write("f", "ours");
    let (_, report) = p.bring_back();
    let here = picture(&p.here());
    assert!(here[Path::new("cd/y/z")].ends_with("ours") && here[Path::new("cd/x")].ends_with("cd/x"));
    assert!(here.contains_key(Path::new("extra/x")) && here.contains_key(Path::new("extra/new")));
    assert_eq!(here[Path::new("same")], "file 644 a file there");
    assert_eq!(here[Path::new("f")], "file 644 ours");
    assert_eq!(names(&report.conflicts), ["cd", "extra", "f/g"]);
    assert!(
        report.failed.is_empty() && report.refused.is_empty(),
        "{report:?}"
    );
    let kept = picture(&p.dir.path().join("conflicts"));
    assert!(kept[Path::new("cd")].ends_with("a file there") && kept[Path::new("f/g")].ends_with("there"));
}

#[test]
fn what_is_kept_apart_leads_nowhere_else() {
    let p = pair(&["l/f"]);
    let outside = p.dir.path().join("outside");
    write(&outside.join("f"), "outside");
    p.write("l/f", "ours");
    let out = outside.to_str().unwrap().to_owned();
    let report = p.commit(hostile(&p, &["l/f", "l/new"], &[], &[("l", &out)]));
    assert_eq!(names(&report.conflicts), ["l"], "{report:?}");
    assert_eq!(picture(&outside).len(), 1);
    assert_eq!(picture(&outside)[Path::new("f")], "file 644 outside");
}

#[test]
fn a_touch_there_is_one_here_and_no_more() {
    let mut p = pair(&["same", "changed", "young", "in/a", ".vscode/s"]);
    let set = |root: &Path, f: &str, ago_s: u64| {
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(ago_s);
        fs::File::open(root.join(f)).unwrap().set_modified(time).unwrap();
    };
    let time = |p: &Pair, f: &str| fs::metadata(p.here().join(f)).unwrap().modified().unwrap();
    for f in ["same", "changed", "in/a", "in", ".vscode/s"] {
        set(&p.here(), f, 9000);
    }
    p.sync();
    for f in ["same", "changed", "young", "in/a", "in", ".vscode/s", ".vscode"] {
        set(&p.there(), f, 0);
    }
    p.write("changed", "here");
    set(&p.here(), "changed", 5000);
    let began = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(p.scan.began_ns as u64);
    let young = began + std::time::Duration::from_secs(5);
    let file = fs::File::open(p.here().join("young")).unwrap();
    file.set_modified(young).unwrap();
    let before: Vec<_> = ["changed", ".vscode/s"].map(|f| time(&p, f)).into();
    let (collected, report) = p.bring_back();
    assert!(!collected.is_empty && collected.files == 0, "{collected:?}");
    assert_eq!(
        (report.files, report.conflicts.len(), report.refused.len()),
        (0, 0, 0),
        "{report:?}"
    );
    assert_eq!(["changed", ".vscode/s"].map(|f| time(&p, f)).to_vec(), before);
    assert_eq!(time(&p, "young"), young, "touched here since");
    let dated = ["same", "in/a", "in"].map(|f| time(&p, f));
    let soon = began + std::time::Duration::from_secs(1);
    assert!(dated.iter().all(|t| *t > began && *t < soon), "{dated:?}");
    assert!(
        dated[0] < dated[1] && dated[1] < dated[2],
        "in their order: {dated:?}"
    );
    // Told once.
    let (collected, _) = p.bring_back();
    assert!(collected.is_empty, "{collected:?}");
    // Into the past, as it is.
    p.sync();
    set(&p.there(), "same", 7000);
    p.bring_back();
    let age = std::time::SystemTime::now()
        .duration_since(time(&p, "same"))
        .unwrap();
    assert!((7000..7100).contains(&age.as_secs()), "{age:?}");
    // Another branch has files of its own.
    set(&p.there(), "same", 0);
    let (_, staged) = p.collect();
    let context = BackContext {
        sent: &p.believed,
        agreed: &Default::default(),
        superseded: &Default::default(),
        withheld: &[],
        ignored: &[],
        began_ns: p.scan.began_ns,
        head: (None, Some([1; 32])),
        clock_offset_ms: 0,
        conflicts_dir: &p.dir.path().join("conflicts"),
    };
    let before = time(&p, "same");
    assert_eq!(commit_local(&p.here(), staged, &context).unwrap().files, 0);
    assert_eq!(time(&p, "same"), before);
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_command_shut_there_comes_back_like_any_other() {
    let mut p = pair(&["f", "d/e/in", "d/gone", "listed/in"]);
    p.write(".gitignore", "out\n");
    p.write("out/o", "old");
    p.git = true;
    p.sync();
    let there = p.there();
    write(&there.join("f"), "theirs");
    write(&there.join("d/e/in"), "theirs");
    write(&there.join("d/new"), "theirs");
    fs::remove_file(there.join("d/gone")).unwrap();
    write(&there.join("listed/in"), "theirs");
    write(&there.join("out/o"), "theirs");
    for shut in ["f", "out/o", "d/e/in", "d/e", "d"] {
        chmod(&there.join(shut), 0);
    }
    chmod(&there.join("listed"), 0o400);
    let before = picture(&there);
    as_anybody();
    let (collected, report) = p.bring_back();
    assert!(collected.left.unread.is_empty(), "{collected:?}");
    assert_eq!((report.files, report.deleted), (5, 1), "{report:?}");
    // The next run finds nothing new, and what it changes there comes too.
    let (again, report) = p.bring_back();
    assert!(again.is_empty, "{again:?} {report:?}");
    as_root();
    assert_eq!(picture(&there), before);
    assert_eq!(picture(&p.here()), before);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_anothers_and_shut_there_is_named_and_stops_nothing() {
    let mut p = pair(&["f", "d/e/in", "other"]);
    p.write(".gitignore", "out\n");
    p.write("out/o", "old");
    p.git = true;
    p.sync();
    let there = p.there();
    for f in ["f", "out/o", "other"] {
        write(&there.join(f), "theirs");
    }
    let theirs = [there.join("f"), there.join("d"), there.join("out/o")];
    for shut in &theirs {
        chmod(shut, 0);
        std::os::unix::fs::chown(shut, Some(1), Some(1)).unwrap();
    }
    as_anybody();
    for files in [1, 0] {
        let (collected, report) = p.bring_back();
        assert_eq!(
            names(&collected.left.unread),
            ["d", "f", "out/o"],
            "{collected:?}"
        );
        assert_eq!((report.files, report.deleted), (files, 0), "{report:?}");
    }
    let mirror = p.mirror().check(generation(&p.believed), &[], &p.back).unwrap();
    assert!(matches!(mirror, Check::At), "{mirror:?}");
    as_root();
    let here = picture(&p.here());
    assert_eq!(here[Path::new("d/e/in")], "file 644 d/e/in");
    assert_eq!(here[Path::new("f")], "file 644 f");
    assert_eq!(here[Path::new("other")], "file 644 theirs");
}

#[test]
fn outputs_may_go_by_the_hundred_and_refused_deletions_are_told() {
    let mut p = pair(&["src"]);
    p.write(".gitignore", "out\n");
    for i in 0..150 {
        p.write(&format!("out/{i}"), "o");
    }
    p.git = true;
    p.sync();
    fs::remove_dir_all(p.there().join("out")).unwrap();
    let (_, report) = p.bring_back();
    assert_eq!((report.deleted, report.failed.len()), (151, 0), "{report:?}");
    assert!(p.here().join("src").exists() && !p.here().join("out").exists());

    let many: Vec<String> = (0..150).map(|i| format!("d/{i}")).collect();
    let mut p = pair(&many.iter().map(String::as_str).collect::<Vec<_>>());
    fs::remove_dir_all(p.there().join("d")).unwrap();
    let (_, report) = p.bring_back();
    assert_eq!((report.deleted, report.undeleted.len()), (0, 151), "{report:?}");
    assert_eq!(report.refused, []);
    assert!(p.here().join("d/149").exists());
}
