//! The same command on a node and here, on equal trees: both must leave equal trees behind.
//!
//! Equal means names, kinds, contents, modes, targets of links, empty directories, and, for what is clearly apart in time
//! here, the order of modification times, since that is what make goes by.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Project, TestEnv};

/// What stands at a path, without its time.
#[derive(Clone, PartialEq, Eq)]
struct Stands {
    what: String,
    mtime_ns: i64,
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

/// All of a tree but `.git`.
fn picture(top: &Path) -> BTreeMap<PathBuf, Stands> {
    fn look(top: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Stands>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(top).unwrap().to_owned();
            if name == Path::new(".git") {
                continue;
            }
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.permissions().mode() & 0o777;
            let what = if meta.is_symlink() {
                format!("-> {:?}", fs::read_link(&path).unwrap())
            } else if meta.is_dir() {
                look(top, &path, found);
                format!("dir {mode:o}")
            } else if meta.is_file() {
                let bytes = fs::read(&path).unwrap();
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
                format!("file {mode:o} {} {shown:?} {}", bytes.len(), blake3::hash(&bytes))
            } else {
                "special".to_owned()
            };
            let mtime_ns = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
            found.insert(name, Stands { what, mtime_ns });
        }
    }
    let mut found = BTreeMap::new();
    look(top, top, &mut found);
    found
}

/// Two trees that hold the same: commands run here in one, on the node in the other.
struct Twins<'a> {
    here: Project<'a>,
    there: Project<'a>,
}

impl<'a> Twins<'a> {
    fn new(env: &'a TestEnv, files: &[(&str, &str)]) -> Twins<'a> {
        let twins = Twins {
            here: env.named_project("here", files),
            there: env.named_project("there", files),
        };
        // One moment for both, well before anything that follows.
        twins.edit("find . -name .git -prune -o -type f -exec touch -t 202401010000 {} +");
        twins
    }

    /// The same change by the user in both.
    fn edit(&self, script: &str) {
        for project in [&self.here, &self.there] {
            project.sh(script).ok();
        }
        self.same_times();
    }

    /// Gives the files there the times of those here: what was just made in both at once may be ticks of the clock apart in one
    /// and in the same tick in the other.
    fn same_times(&self) {
        for (path, stands) in picture(&self.here.dir) {
            if !stands.what.starts_with("file") {
                continue;
            }
            let here = fs::metadata(self.here.dir.join(&path)).unwrap();
            let there = fs::File::open(self.there.dir.join(&path)).unwrap();
            there.set_modified(here.modified().unwrap()).unwrap();
        }
    }

    fn plant(&self, make: impl Fn(&Path)) {
        make(&self.here.dir);
        make(&self.there.dir);
        self.same_times();
    }

    /// Runs the script in both and compares everything.
    #[track_caller]
    fn run(&self, script: &str) {
        let began = now_ns();
        let there = self.there.on("n1", script);
        let here = self.here.sh(script);
        assert_eq!(there.status(), here.status(), "{script}\n{there:?}\n{here:?}");
        assert_eq!(there.stdout(), here.stdout(), "{script}\n{there:?}");
        self.compare(script, &format!("{there:?}"), began);
    }

    #[track_caller]
    fn compare(&self, script: &str, context: &str, began: i64) {
        let (here, there) = (picture(&self.here.dir), picture(&self.there.dir));
        let mut wrong = Vec::new();
        for path in here.keys().chain(there.keys().filter(|p| !here.contains_key(*p))) {
            let what = |tree: &BTreeMap<PathBuf, Stands>| tree.get(path).map(|s| s.what.clone());
            if what(&here) != what(&there) {
                wrong.push(format!(
                    "{path:?}: here {:?}, there {:?}",
                    what(&here),
                    what(&there)
                ));
            }
        }
        // Times that differ by less here could come out either way.
        const CLEAR: i64 = 50_000_000;
        let is_file = |s: &&Stands| s.what.starts_with("file");
        for (a, s) in here.iter().filter(|(_, s)| is_file(s)) {
            for (b, t) in here.iter().filter(|(_, t)| is_file(t)) {
                if s.mtime_ns + CLEAR < t.mtime_ns
                    && let (Some(x), Some(y)) = (there.get(a), there.get(b))
                    // What the script made one after the other may be made within one tick there.
                    && (x.mtime_ns > y.mtime_ns || x.mtime_ns == y.mtime_ns && s.mtime_ns < began)
                {
                    wrong.push(format!("{a:?} is older than {b:?} here, not so there"));
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "after {script:?}\n{}\n{context}",
            wrong.join("\n")
        );
    }
}

#[test]
fn odd_names_and_kinds_are_the_same_there() {
    let env = TestEnv::with_nodes(&["n1"]);
    let twins = Twins::new(
        &env,
        &[
            ("-rf", "dash\n"),
            ("a b/c d", "spaces\n"),
            ("new\nline", "newline\n"),
        ],
    );
    twins.plant(|top| {
        symlink("nowhere", top.join("dangling")).unwrap();
        symlink("/etc/hostname", top.join("absolute")).unwrap();
        symlink("../../out of the tree", top.join("outside")).unwrap();
        symlink("a b", top.join("to a dir")).unwrap();
        fs::create_dir_all(top.join("empty/er")).unwrap();
        // The same letter, composed and decomposed.
        fs::write(top.join("\u{e9}"), "composed").unwrap();
        fs::write(top.join("e\u{301}"), "decomposed").unwrap();
        fs::write(top.join("Case"), "upper").unwrap();
        fs::create_dir(top.join("closed")).unwrap();
        fs::write(top.join("closed/in"), "x").unwrap();
        fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
        fs::write(top.join("read-only"), "r").unwrap();
        fs::set_permissions(top.join("read-only"), fs::Permissions::from_mode(0o444)).unwrap();
        #[cfg(target_os = "linux")]
        fs::write(top.join(OsString::from_vec(vec![b'x', 0xff, 0xfe])), "bytes").unwrap();
    });
    twins.run("find . -name .git -prune -o -print0 | sort -z | tr '\\0' '\\n'; cat -- * 2>/dev/null; ls -l | cut -c1-10");
    twins.run("for f in *; do test -f \"$f\" && cp -p -- \"$f\" \"copy of $f\"; done; mv Case case; true");
    twins.run(
        "mv -- -rf --; rm dangling; ln -s new-target dangling; chmod 700 closed; rm closed/in; rmdir closed",
    );
    twins.run("rm -r 'a b'; echo now a file > 'a b'; rm read-only; mkdir read-only; echo in > read-only/x; rmdir empty/er");
    twins.edit("rm -r 'a b' read-only; mkdir 'a b'; echo dir again > 'a b/f'; echo file again > read-only; mv case CASE");
    twins.run("cat 'a b/f' read-only CASE; test ! -e case; ls -A empty");
    twins.run(
        "mkdir -p deep/er/est && ln -s ../er deep/link && chmod 711 deep && echo x > deep/er/est/x && exit 7",
    );
}

#[test]
fn ignore_files_of_all_kinds_decide_alike() {
    let env = TestEnv::with_nodes(&["n1"]);
    fs::write(env.home().join("global-ignore"), "*.global\n").unwrap();
    let twins = Twins::new(
        &env,
        &[
            (".gitignore", "*.log\n/out/\n!keep.log\ntracked.dat\ncache-*\n"),
            ("sub/.gitignore", "!*.log\n*.tmp\n/only-here\n"),
            ("sub/deep/.gitignore", "*\n!.gitignore\n!kept\n"),
            ("src", "s\n"),
        ],
    );
    for p in [&twins.here, &twins.there] {
        p.git(&["config", "core.excludesFile", "~/global-ignore"]);
        fs::write(p.dir.join(".git/info/exclude"), "excluded\n").unwrap();
        p.write("tracked.dat", "tracked though ignored\n");
        p.git(&["add", "-f", "tracked.dat"]);
    }
    let made = "for f in a.log keep.log out/o sub/b.log sub/c.tmp sub/only-here sub/deep/any sub/deep/kept excluded \
                x.global cache-1/f plain; do mkdir -p \"$(dirname $f)\"; echo \"$1$f\" >> $f; done";
    twins.edit(made);
    twins.run("cat tracked.dat a.log out/o sub/only-here x.global excluded; git status --porcelain --ignored | sort");
    twins.run(made);
    twins.run("rm a.log out/o sub/deep/any tracked.dat x.global");
    twins.edit("echo again > out/o; echo again > tracked.dat; rm -r cache-1");
    twins.run("cat out/o tracked.dat; ls -A . sub sub/deep; echo more >> tracked.dat");
    twins.run("git ls-files | sort; git status --porcelain | sort");
}

#[test]
fn what_cxignore_shuts_out_stays_and_is_left_alone() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        (".cxignore", "huge/\n*.raw\n!wanted.raw\n"),
        ("huge/f", "h\n"),
        ("a.raw", "r\n"),
        ("wanted.raw", "w\n"),
        (".gitignore", "gen/\n"),
    ]);
    p.write("gen/g", "g\n");
    let out = p.on("n1", "ls; echo there > a.raw; echo more >> wanted.raw").ok();
    assert_eq!(out.stdout(), "gen\nwanted.raw\n");
    assert_eq!(p.read("a.raw"), "r\n", "what was shut out came back");
    assert_eq!(p.read("wanted.raw"), "w\nmore\n");
    assert!(p.has("huge/f"));
}

#[test]
fn what_cannot_travel_does_no_harm() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "a\n"), ("linked", "one\n")]);
    p.sh("mkfifo pipe; ln linked second; echo no > unreadable; chmod 0 unreadable; mkdir shut; echo x > shut/x; chmod 0 shut")
        .ok();
    let _socket = std::os::unix::net::UnixListener::bind(p.dir.join("socket")).unwrap();
    let script = "cat a linked second; mkfifo there; echo new > made; exit 3";
    let out = p.on("n1", script).exits(3);
    assert_eq!(out.stdout(), "a\none\none\n");
    assert_eq!(p.read("made"), "new\n");
    for name in ["pipe", "socket", "unreadable", "shut", "second"] {
        assert!(p.has(name), "{name} went away");
    }
    fs::set_permissions(p.dir.join("shut"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(p.has("shut/x"));
}

#[test]
fn holes_stay_holes() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    let file = fs::File::create(p.dir.join("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 40 << 20).unwrap();
    drop(file);
    if blocks(&p.dir.join("sparse")) * 512 > 1 << 20 {
        // This file system keeps no holes.
        return;
    }
    let script = "stat -c %b sparse 2>/dev/null || stat -f %b sparse; cp sparse copy; truncate -s 80M grown; printf x >> grown";
    let out = p.on("n1", script).ok();
    let there: u64 = out.stdout().lines().next().unwrap().trim().parse().unwrap();
    assert!(there * 512 < 1 << 20, "{there} blocks on the node");
    let grown = p.dir.join("grown");
    assert_eq!(fs::metadata(&grown).unwrap().len(), (80 << 20) + 1);
    assert!(blocks(&grown) * 512 < 1 << 20, "{} blocks here", blocks(&grown));
    assert!(fs::read(p.dir.join("copy")).unwrap() == fs::read(p.dir.join("sparse")).unwrap());
}

#[test]
fn submodules_and_repositories_without_a_commit() {
    let env = TestEnv::with_nodes(&["n1"]);
    let lib = env.named_project("lib", &[("lib.c", "int l;\n"), (".gitignore", "*.o\n")]);
    let p = env.project(&[("main.c", "int m;\n")]);
    p.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "-q",
        "add",
        &lib.dir.display().to_string(),
        "ext/lib",
    ]);
    p.git(&["commit", "-qm", "with a submodule"]);
    let script = "cat main.c ext/lib/lib.c .gitmodules | wc -l; echo o > ext/lib/x.o; echo new > ext/lib/new.c; git status --porcelain -uno";
    let out = p.on("n1", script).ok();
    assert!(out.stdout().trim_start().starts_with('5'), "{out:?}");
    assert_eq!(p.read("ext/lib/new.c"), "new\n");
    assert!(p.has("ext/lib/.git"));

    let bare = env.plain_project(
        "unborn",
        &[("a", "a\n"), ("staged", "s\n"), (".gitignore", "*.o\n")],
    );
    bare.git(&["init", "-q"]);
    bare.git(&["add", "staged"]);
    bare.write("x.o", "");
    let ask = "git status --porcelain; git ls-files; git rev-parse --show-toplevel >/dev/null && git symbolic-ref HEAD";
    let there = bare.on("n1", ask).ok();
    assert_eq!(there.stdout(), bare.sh(ask).ok().stdout());
}

#[test]
fn git_in_a_submodule_answers_there_as_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let add = |to: &Project, from: &Project, at: &str| {
        let from = from.dir.display().to_string();
        let allow = "protocol.file.allow=always";
        to.git(&["-c", allow, "submodule", "-q", "add", &from, at]);
        to.git(&["commit", "-qm", at]);
    };
    let inner = env.named_project("inner", &[("i", "i\n")]);
    inner.git(&["tag", "inner-1"]);
    let lib = env.named_project("lib", &[("l", "l\n"), (".gitignore", "*.o\n")]);
    add(&lib, &inner, "in ner");
    lib.git(&["tag", "-am", "v", "lib-2"]);
    let p = env.project(&[("main.c", "int m;\n")]);
    add(&p, &lib, "ext/lib");
    add(&p, &inner, "apart");
    p.git(&["tag", "top-3"]);
    let ask = "git submodule status; git describe --tags; git status --porcelain; \
        for d in ext/lib 'ext/lib/in ner' apart; do [ ! -e \"$d\" ] || (cd \"$d\" && pwd -P | sed 's,.*/,,' && git rev-parse HEAD && git describe --tags && \
        git ls-files && git status --porcelain); done";
    let alike = |what: &str| {
        let here = p.sh(ask).ok().stdout();
        let there = p.on("n1", &format!(": make; {ask}")).ok().stdout();
        assert_eq!(there, here, "{what}");
        here
    };
    let first = alike("one of two is not checked out further in");
    assert!(
        first.contains("inner-1") && first.contains("lib-2") && first.contains("top-3"),
        "{first}"
    );
    p.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "-q",
        "update",
        "--init",
        "--recursive",
    ]);
    assert!(alike("all are").contains("ext/lib/in ner") || p.has("ext/lib/in ner/i"));
    p.write("ext/lib/l", "changed\n");
    p.write("ext/lib/x.o", "");
    assert!(alike("a change in one").contains(" M ext/lib\n"));
    // What a run does to the file that points to it harms no other.
    p.on("n1", ": make; rm apart/.git").ok();
    alike("pointed to again");
    p.git(&["rm", "-qf", "apart"]);
    assert!(alike("one less").contains("D  apart\n") && !p.has("apart"));
}

#[test]
fn a_commit_that_a_command_made_on_a_node_is_none_there_afterwards() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("f", "1\n")]);
    p.git(&["tag", "v1"]);
    let ask = "git rev-parse HEAD; git describe --tags; git tag; git branch --list";
    let here = p.sh(ask).ok().stdout();
    let name = "-c user.name=a -c user.email=a@b";
    let script = format!("git {name} commit -q --allow-empty -m there; git tag v2; git branch other");
    p.on("n1", &script).ok();
    assert_eq!(p.on("n1", ask).ok().stdout(), here);
    assert_eq!(p.sh(ask).ok().stdout(), here);
}

/// Numbers that are the same in every run of the test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        // Knuth's MMIX constants; the low bits are the poor ones.
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.roll(from.len() as u64) as usize]
    }

    fn path(&mut self) -> String {
        const NAMES: &[&str] = &["a", "b", "sp ace", "-x", "é", "o.log", "Z", "gen"];
        let depth = 1 + self.roll(3);
        (0..depth).map(|_| self.pick(NAMES)).collect::<Vec<_>>().join("/")
    }

    /// A line of shell that changes the tree, or finds that it can't.
    fn change(&mut self) -> String {
        let (p, q) = (self.path(), self.path());
        let n = self.roll(1000);
        match self.roll(10) {
            0 => format!("rm -rf \"./{p}\""),
            1 => format!("mkdir -p \"./{p}\""),
            2 => format!("mkdir -p \"./{p}\" && echo {n} > \"./{p}/f{n}\""),
            3 => format!("echo {n} >> \"./{p}\""),
            4 => format!("mv \"./{p}\" \"./{q}\""),
            5 => format!("cp -R \"./{p}\" \"./{q}\""),
            6 => format!("ln -s \"{q}\" \"./{p}\""),
            7 => format!(
                "test ! -L \"./{p}\" && chmod {} \"./{p}\"",
                self.pick(&["755", "700", "750", "711"])
            ),
            8 => format!("rm -rf \"./{p}\"; echo {n} > \"./{p}\""),
            _ => format!("head -c {} /dev/zero > \"./{p}\"", n * 300),
        }
    }

    fn changes(&mut self) -> String {
        let lines = 2 + self.roll(9);
        (0..lines)
            .map(|_| format!("{{ {}; }} 2>/dev/null", self.change()))
            .collect::<Vec<_>>()
            .join("\n")
            + "\ntrue"
    }
}

#[test]
fn random_commands_leave_equal_trees() {
    let seeds = std::env::var("CX_IT_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(4u64);
    let env = TestEnv::with_nodes(&["n1"]);
    let twins = Twins::new(
        &env,
        &[(".gitignore", "*.log\ngen/\n"), ("a/b", "1\n"), ("Z", "z\n")],
    );
    for seed in 0..seeds {
        let mut dice = Dice(seed);
        for _ in 0..4 {
            twins.edit(&dice.changes());
            twins.run(&dice.changes());
        }
    }
}

#[test]
fn random_names_survive() {
    let env = TestEnv::with_nodes(&["n1"]);
    let twins = Twins::new(&env, &[("a", "")]);
    let mut dice = Dice(7);
    let names: Vec<Vec<u8>> = (0..60)
        .map(|_| {
            let len = 1 + dice.roll(40);
            let byte = |d: &mut Dice| loop {
                let b = d.roll(256) as u8;
                if b != 0 && b != b'/' && (b < 0x80 || cfg!(target_os = "linux")) {
                    return b;
                }
            };
            (0..len).map(|_| byte(&mut dice)).collect()
        })
        .collect();
    twins.plant(|top| {
        for (i, name) in names.iter().enumerate() {
            let path = top.join(std::ffi::OsStr::from_bytes(name));
            if i % 3 == 0 {
                fs::create_dir_all(&path).unwrap();
            } else if !path.exists() {
                fs::write(&path, name).unwrap();
            }
        }
    });
    twins.run("for f in ./*; do if test -d \"$f\"; then echo in > \"$f/in\"; else cat \"$f\" > \"$f.copy\"; fi; done");
}
