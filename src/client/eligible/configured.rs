//! Build directories that cmake configured on this machine: what a node must have to go on with one.

use std::path::{Path, PathBuf};

use crate::probe;
use crate::proto::NeedPath;

/// A larger cache is none that cmake wrote.
const MAX: u64 = 8 << 20;

/// What the cache of `dir` names outside of the tree at `root`, as far as it stands here: it must stand there at the same paths,
/// compilers in the same version. `versions` is where those are remembered. `None` where cmake did not configure `dir` here, at
/// this very path.
pub fn names(dir: &Path, root: &Path, versions: &Path) -> Option<Vec<NeedPath>> {
    let file = dir.join("CMakeCache.txt");
    if std::fs::metadata(&file).ok()?.len() > MAX {
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    let mut needs: Vec<NeedPath> = Vec::new();
    let mut is_here = false;
    for line in text.lines() {
        let Some((name, kind, value)) = entry(line) else {
            continue;
        };
        let path = Path::new(value);
        is_here |= name == "CMAKE_CACHEFILE_DIR" && path.canonicalize().is_ok_and(|p| p == dir);
        let counts = match kind {
            "FILEPATH" | "PATH" => name != "CMAKE_INSTALL_PREFIX",
            "INTERNAL" => matches!(name, "CMAKE_COMMAND" | "CMAKE_CTEST_COMMAND" | "CMAKE_ROOT"),
            _ => false,
        };
        let is_new = |n: &NeedPath| n.path != value.as_bytes();
        if counts
            && path.is_absolute()
            && !path.starts_with(root)
            && path.exists()
            && needs.iter().all(is_new)
        {
            let is_compiler = name.starts_with("CMAKE_") && name.ends_with("_COMPILER");
            needs.push(NeedPath {
                path: value.into(),
                version: is_compiler.then(|| probe::version_of(path, versions)).flatten(),
            });
        }
    }
    is_here.then_some(needs)
}

/// A line of the cache: `NAME:TYPE=VALUE`.
fn entry(line: &str) -> Option<(&str, &str, &str)> {
    if line.starts_with(['#', '/']) {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let (name, kind) = name.rsplit_once(':')?;
    Some((name.trim_matches('"'), kind, value))
}

/// Whether cmake made `dir` its build directory.
pub fn is_one(dir: &Path) -> bool {
    dir.join("CMakeCache.txt").is_file()
}

/// Of the directories `dirs` of the tree at `root`, the first that is one and of which a part does not go: `unsent`.
pub fn too_large<'d>(
    root: &Path,
    dirs: impl Iterator<Item = &'d Path>,
    unsent: &[PathBuf],
) -> Option<&'d Path> {
    let within = |dir: &Path| unsent.iter().any(|u| u.starts_with(dir) || dir.starts_with(u));
    let mut dirs = dirs;
    dirs.find(|dir| is_one(&root.join(dir)) && within(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cache_names_must_stand_there_too() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let (root, build) = (top.join("ws"), top.join("ws/build"));
        std::fs::create_dir_all(&build).unwrap();
        let versions = top.join("versions");
        assert_eq!(names(&build, &root, &versions), None);
        for f in ["lib.so", "ws/own.so", "pkg"] {
            std::fs::write(top.join(f), "").unwrap();
        }
        let at = top.display();
        let cache = |home: &str| {
            let text = format!(
                "# x:FILEPATH={at}/lib.so\n//doc\nCMAKE_CACHEFILE_DIR:INTERNAL={home}\nL:FILEPATH={at}/lib.so\nM:FILEPATH={at}/lib.so\n\
                 OWN:FILEPATH={at}/ws/own.so\nGONE:FILEPATH={at}/gone\nNO:FILEPATH=NO-NOTFOUND\nSTR:STRING={at}/pkg\n\
                 P_DIR:PATH={at}/pkg\nCMAKE_INSTALL_PREFIX:PATH=/usr\nCMAKE_ROOT:INTERNAL={at}\n"
            );
            std::fs::write(build.join("CMakeCache.txt"), text).unwrap();
        };
        cache("/elsewhere/ws/build");
        assert_eq!(names(&build, &root, &versions), None, "it came from elsewhere");
        cache(build.to_str().unwrap());
        let found = names(&build, &root, &versions).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|n| String::from_utf8_lossy(&n.path).into_owned())
            .collect();
        assert_eq!(
            found,
            [format!("{at}/lib.so"), format!("{at}/pkg"), at.to_string()]
        );
        let dirs = [Path::new("src"), Path::new("build")];
        let large = |unsent: &str| too_large(&root, dirs.into_iter(), &[unsent.into()]);
        assert_eq!(large("build/CMakeFiles"), Some(Path::new("build")));
        assert_eq!((large("src"), large("builds")), (None, None));
    }
}
