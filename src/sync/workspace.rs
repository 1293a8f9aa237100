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

/// Finds the workspace of the directory `cwd`: the git top level, else the nearest directory with a `.cx.toml`, else the
/// nearest with a project's marker. Never `/`, `home` or what lies above it.
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
            let root = marked(&[".cx.toml"]).or_else(|| marked(MARKERS)).ok_or_else(|| {
                format!(
                    "no .git, .cx.toml or project file in {} or above it",
                    real.display()
                )
            })?;
            (root, false)
        }
    };
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str());
    Ok(Workspace {
        root: root.to_path_buf(),
        name: root
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        key: blake3::hash(bytes).to_hex()[..16].to_owned(),
        git,
    })
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
