//! Mirrors on real trees.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::plan::Brings;
use crate::sync::stage;
use crate::sync::testing::{Pair, chmod, names, odd_name, picture, rel, write};

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
            .check(crate::plan::manifest::generation(&p.believed), &p.back)
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
    assert_eq!(names(&collected.stayed.0), ["run.log"]);
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
    assert_eq!((again.files, again.deleted, again.stayed.1), (0, 0, 0));
    assert!(p.there().join("target/debug/app").exists());
}
