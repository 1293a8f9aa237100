//! Which tree a command works on.

use std::path::{Path, PathBuf};

/// The local tree a command works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its top, without symbolic links.
    pub root: PathBuf,
    /// Last component of `root`, printable or not; what is not UTF-8 is replaced.
    pub name: String,
    /// Hash of `root`, 16 hexadecimal digits.
    pub key: String,
    /// Whether it is the top of a git worktree.
    pub git: bool,
}

/// Files that mark the top of a project, weaker than `.git` and `.cx.toml`.
const MARKERS: &[&str] = &[
    "Cargo.toml",
    "pyproject.toml",
    "setup.py",
    "package.json",
    "go.mod",
    "Makefile",
    "makefile",
    "GNUmakefile",
    "justfile",
    "CMakeLists.txt",
    "meson.build",
    "build.gradle",
    "build.gradle.kts",
    "pom.xml",
    "MODULE.bazel",
    "WORKSPACE",
    "deno.json",
    "composer.json",
    "Gemfile",
    "mix.exs",
    "build.zig",
    "stack.yaml",
    "Package.swift",
    "tox.ini",
    "noxfile.py",
    "requirements.txt",
];

impl Workspace {
    /// The one whose top is `root`, which has no symbolic links in its path.
    pub fn at(root: &Path) -> Workspace {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str());
        Workspace {
            root: root.to_path_buf(),
            name: root
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            key: blake3::hash(bytes).to_hex()[..16].to_owned(),
            git: is_git_top(root),
        }
    }
}

/// Finds the workspace of the directory `cwd`: the git top level, else the nearest directory with a `.cx.toml`, else the
/// nearest with a project's marker, or a marked parent that it is a part of. Never `/`, `home` or what lies above it.
///
/// # Errors
/// One clause that says why there is none.
pub fn find(cwd: &Path, home: &Path) -> Result<Workspace, String> {
    let real = cwd
        .canonicalize()
        .map_err(|e| format!("the working directory {} cannot be resolved: {e}", cwd.display()))?;
    // A home that cannot be resolved is compared as it is.
    let home = home.canonicalize().unwrap_or_else(|_| home.to_path_buf());
    let allowed = |dir: &&Path| dir.parent().is_some() && !home.starts_with(dir);
    let up: Vec<&Path> = real.ancestors().take_while(allowed).collect();
    if up.is_empty() {
        return Err(format!(
            "{} is the home directory or above it, not a project",
            real.display()
        ));
    }
    let git = up.iter().find(|d| is_git_top(d));
    let marked = |names: &[&str]| {
        up.iter()
            .find(|d| names.iter().any(|n| d.join(n).is_file()))
            .copied()
    };
    let (root, git) = match git {
        Some(d) => (*d, true),
        None => {
            let by_marker = || {
                let nearest = up.iter().position(|d| is_marked(d))?;
                Some(widened(&up[nearest..]))
            };
            let root = marked(&[".cx.toml"]).or_else(by_marker).ok_or_else(|| {
                format!(
                    "no .git, .cx.toml or project file in {} or above it",
                    real.display()
                )
            })?;
            (root, false)
        }
    };
    Ok(Workspace {
        git,
        ..Workspace::at(root)
    })
}

fn is_marked(dir: &Path) -> bool {
    MARKERS.iter().any(|n| dir.join(n).is_file())
}

/// The project that the marked directory `up[0]` is a part of, its parents following: a parent that has a marker too belongs to it
/// where either refers to the other, as in `include ../common.mk` or a list of members.
fn widened<'d>(up: &[&'d Path]) -> &'d Path {
    let mut top = up[0];
    for dir in &up[1..] {
        if !is_marked(dir) || !(refers_up(top) || lists_members(dir)) {
            break;
        }
        top = dir;
    }
    top
}

/// Bytes of a project file that are looked at.
const LOOK: u64 = 64 << 10;

fn head_of(file: &Path) -> String {
    use std::io::Read;
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(file) {
        let _ = file.take(LOOK).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Whether a project file in `dir` names something above it.
fn refers_up(dir: &Path) -> bool {
    let files = MARKERS.iter().map(|m| dir.join(m)).filter(|f| f.is_file());
    files.into_iter().any(|f| {
        let text = head_of(&f);
        let words = text.split(|c: char| c.is_whitespace() || "\"'=,()[]{}:;$/".contains(c));
        let mut lines = words.filter(|w| *w == "..");
        lines.next().is_some()
    })
}

/// Whether a project file in `dir` is one over several projects below.
fn lists_members(dir: &Path) -> bool {
    let has = |file: &str, word: &str| head_of(&dir.join(file)).contains(word);
    has("Cargo.toml", "[workspace")
        || has("package.json", "\"workspaces\"")
        || has("pom.xml", "<modules>")
        || [
            "go.work",
            "settings.gradle",
            "settings.gradle.kts",
            "pnpm-workspace.yaml",
        ]
        .iter()
        .any(|f| dir.join(f).is_file())
}

/// Whether `dir` holds a repository or, for worktrees and submodules, points to one.
fn is_git_top(dir: &Path) -> bool {
    let dot = dir.join(".git");
    match std::fs::metadata(&dot) {
        Ok(m) if m.is_dir() => dot.join("HEAD").exists(),
        Ok(m) if m.is_file() => std::fs::read(&dot).is_ok_and(|t| t.starts_with(b"gitdir: ")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_top_is_git_then_cx_toml_then_a_marker() {
        let tmp = tempfile::tempdir().unwrap();
        let base = tmp.path().canonicalize().unwrap();
        let home = base.join("home");
        for d in [
            "home/git/.git",
            "home/git/sub/deep",
            "home/cx/a/b",
            "home/mark/crate/src",
            "home/bare/x",
            "else",
        ] {
            fs::create_dir_all(base.join(d)).unwrap();
        }
        fs::write(home.join("git/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(home.join("git/sub/Cargo.toml"), "").unwrap();
        fs::write(home.join("cx/.cx.toml"), "").unwrap();
        fs::write(home.join("cx/a/Makefile"), "").unwrap();
        fs::write(home.join("mark/crate/Cargo.toml"), "").unwrap();
        // A marker in the home directory makes no workspace of it.
        fs::write(home.join("Makefile"), "").unwrap();
        let root = |d: &str| {
            find(&base.join(d), &home).map(|w| (w.root.strip_prefix(&base).unwrap().to_path_buf(), w.git))
        };
        assert_eq!(
            root("home/git/sub/deep").unwrap(),
            (PathBuf::from("home/git"), true)
        );
        assert_eq!(root("home/cx/a/b").unwrap(), (PathBuf::from("home/cx"), false));
        assert_eq!(
            root("home/mark/crate/src").unwrap(),
            (PathBuf::from("home/mark/crate"), false)
        );
        assert!(root("home/bare/x").unwrap_err().starts_with("no .git"));
        assert!(root("home").unwrap_err().contains("home directory"));
        assert!(root("").is_err());
        assert!(find(Path::new("/"), &home).is_err());
        assert!(root("gone").unwrap_err().contains("cannot be resolved"));
    }

    #[test]
    fn without_git_a_part_of_a_larger_project_is_seen() {
        let tmp = tempfile::tempdir().unwrap();
        let base = tmp.path().canonicalize().unwrap();
        let put = |path: &str, text: &str| {
            let path = base.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("make/Makefile", "all:\n");
        put("make/common.mk", "");
        put("make/part/Makefile", "include ../common.mk\n");
        put("make/other/Makefile", "all: x/..y\n");
        put("cargo/Cargo.toml", "[workspace]\nmembers = ['m']\n");
        put("cargo/m/Cargo.toml", "[package]\n");
        put("apart/part/Makefile", "include ../common.mk\n");
        let root = |d: &str| {
            let root = find(&base.join(d), Path::new("/nowhere")).unwrap().root;
            root.strip_prefix(&base).unwrap().display().to_string()
        };
        assert_eq!(root("make/part"), "make");
        assert_eq!(root("make/other"), "make/other", "nothing ties it to its parent");
        assert_eq!(root("cargo/m"), "cargo");
        assert_eq!(root("apart/part"), "apart/part", "the parent is no project");
    }

    #[test]
    fn links_on_the_way_are_resolved() {
        let tmp = tempfile::tempdir().unwrap();
        let base = tmp.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("real/p/src")).unwrap();
        fs::create_dir(base.join("home")).unwrap();
        fs::write(base.join("real/p/Cargo.toml"), "").unwrap();
        std::os::unix::fs::symlink(base.join("real/p/src"), base.join("link")).unwrap();
        let w = find(&base.join("link"), &base.join("home")).unwrap();
        assert_eq!(
            (w.root, w.name.as_str(), w.key.len()),
            (base.join("real/p"), "p", 16)
        );
        // A home reached through a link is still the home.
        std::os::unix::fs::symlink(base.join("real/p"), base.join("home2")).unwrap();
        assert!(find(&base.join("real/p"), &base.join("home2")).is_err());
    }
}
