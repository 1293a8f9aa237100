//! Where cargo's configuration has it put what it builds, as far as that counts on a node too.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::paths::normal;
use crate::plan::Brings;

/// A target directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// It lies in the workspace; the full path.
    Within(PathBuf),
    /// It lies elsewhere, or is named by what no node has; who says so, and where it is.
    Elsewhere(String, PathBuf),
}

/// The target directory of a cargo command in `cwd`, in the workspace at `root`, for which no argument and no variable names one. `home`
/// is cargo's own directory.
/// Source: <https://doc.rust-lang.org/cargo/reference/config.html#hierarchical-structure>.
pub fn target_dir(cwd: &Path, root: &Path, home: Option<&Path>) -> Target {
    // The nearest file wins; the last is the user's.
    let dirs = cwd.ancestors().map(|d| (d.join(".cargo"), d.starts_with(root)));
    for (dir, goes_along) in dirs.chain(home.map(|h| (h.to_owned(), false))) {
        let files = ["config", "config.toml"].map(|name| dir.join(name));
        if let Some((file, value)) = files.iter().find_map(|f| Some((f, in_config(f)?))) {
            let target = normal(&dir.parent().unwrap_or(&dir).join(value));
            return if goes_along && target.starts_with(root) && target != root {
                Target::Within(target)
            } else {
                Target::Elsewhere(file.display().to_string(), target)
            };
        }
    }
    Target::Within(top(cwd, root).join("target"))
}

fn in_config(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let config: toml::Table = toml::from_str(&text).ok()?;
    Some(config.get("build")?.get("target-dir")?.as_str()?.to_owned())
}

/// The top of the cargo workspace, or package, around `cwd`.
fn top<'d>(cwd: &'d Path, root: &Path) -> &'d Path {
    let is_top = |d: &&Path| {
        let text = std::fs::read_to_string(d.join("Cargo.toml")).unwrap_or_default();
        text.lines().any(|l| l.trim_start().starts_with("[workspace"))
    };
    let within = || cwd.ancestors().take_while(|d| d.starts_with(root));
    let own = within().find(|d| d.join("Cargo.toml").is_file());
    within().find(is_top).or(own).unwrap_or(cwd)
}

/// The same, with the user's own directory.
pub fn own_target_dir(cwd: &Path, root: &Path) -> Target {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    target_dir(cwd, root, home.as_deref())
}

/// What `brings` names below cargo's usual place, as it is named for `target`, from `cwd`.
pub fn moved(brings: &Brings, cwd: &Path, target: &Target) -> Brings {
    let (Brings::Outputs(globs), Target::Within(dir)) = (brings, target) else {
        return brings.clone();
    };
    let shared = cwd.ancestors().find(|d| dir.starts_with(d)).unwrap_or(cwd);
    let up = cwd.strip_prefix(shared).map_or(0, |r| r.components().count());
    let down = dir.strip_prefix(shared).unwrap_or(dir).to_str();
    let Some(down) = down.filter(|d| !d.contains(['*', '?', '[', '\\', '{'])) else {
        return brings.clone();
    };
    let moved = |glob: &String| match glob.strip_prefix("target/") {
        Some(rest) => format!("{}{down}/{rest}", "../".repeat(up)),
        None => glob.clone(),
    };
    Brings::Outputs(globs.iter().map(moved).collect())
}

/// Why a command of cargo's that brings `brings` home can only run here: what it builds lies where nothing comes back from.
pub fn leaves_outside(argv: &[OsString], brings: &Brings, cwd: &Path, root: &Path) -> Option<String> {
    let program = argv.first().and_then(|p| Path::new(p).file_name());
    if !matches!(program.and_then(OsStr::to_str), Some("cargo" | "cross")) {
        return None;
    }
    let target = own_target_dir(cwd, root);
    if let Target::Within(dir) = &target
        && dir.symlink_metadata().is_ok_and(|m| m.is_symlink())
    {
        let name = dir.strip_prefix(root).unwrap_or(dir).display();
        return Some(format!("{name}, into which cargo builds, is a symbolic link"));
    }
    // Nobody misses a report that only some configurations write.
    let is_built = |glob: &String| glob.starts_with("target/") && !glob.ends_with(".xml");
    let builds = matches!(brings, Brings::Outputs(globs) if globs.iter().any(is_built));
    match target {
        Target::Elsewhere(by, dir) if builds => Some(format!(
            "cargo puts what it builds into {}, by {by}: outside the workspace",
            dir.display()
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_target_directory_is_where_cargo_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, home) = (dir.path().join("ws"), dir.path().join("home/.cargo"));
        std::fs::create_dir_all(root.join("crates/a/src")).unwrap();
        write(&root, "Cargo.toml", "[workspace]\nmembers = ['crates/*']\n");
        write(&root, "crates/a/Cargo.toml", "[package]\n");
        let of = |cwd: &str| target_dir(&root.join(cwd), &root, Some(&home));
        let within = |path: &str| Target::Within(root.join(path));
        assert_eq!(of(""), within("target"));
        assert_eq!(of("crates/a/src"), within("target"));
        write(&root, "Cargo.toml", "[package]\n");
        assert_eq!(of("crates/a/src"), within("crates/a/target"));
        write(&home, "config.toml", "[build]\ntarget-dir = '/elsewhere'\n");
        assert!(matches!(of(""), Target::Elsewhere(by, _) if by.ends_with("home/.cargo/config.toml")));
        write(&root, ".cargo/config.toml", "[build]\ntarget-dir = 'out/rust'\n");
        assert_eq!(of("crates/a"), within("out/rust"));
        write(&root, "crates/a/.cargo/config", "[build]\ntarget-dir = 'out'\n");
        assert_eq!(of("crates/a"), within("crates/a/out"));
        write(&root, "crates/a/.cargo/config", "no TOML");
        assert_eq!(of("crates/a"), within("out/rust"));
        write(&root, ".cargo/config.toml", "[build]\ntarget-dir = '../t'\n");
        assert!(matches!(of(""), Target::Elsewhere(_, to) if to == dir.path().join("t")));
    }

    #[test]
    fn outputs_are_named_from_where_the_command_runs() {
        let globs = |list: &[&str]| Brings::Outputs(list.iter().map(|s| (*s).to_owned()).collect());
        let brings = globs(&["target/debug/*", "lcov.info"]);
        let of = |cwd: &str, target: &str| moved(&brings, Path::new(cwd), &Target::Within(target.into()));
        assert_eq!(of("/w", "/w/target"), brings);
        assert_eq!(
            of("/w/a/src", "/w/target"),
            globs(&["../../target/debug/*", "lcov.info"])
        );
        assert_eq!(
            of("/w/a", "/w/out/rust"),
            globs(&["../out/rust/debug/*", "lcov.info"])
        );
        assert_eq!(of("/w", "/w/o*t"), brings);
        let elsewhere = Target::Elsewhere(String::new(), "/t".into());
        assert_eq!(moved(&brings, Path::new("/w"), &elsewhere), brings);
        assert_eq!(
            moved(&Brings::Ignored, Path::new("/w"), &elsewhere),
            Brings::Ignored
        );
    }
}
