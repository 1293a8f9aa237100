//! What the project here is built and tested with, as far as its files tell, and which nodes lack it.

use std::ffi::OsStr;
use std::path::Path;

use crate::plan::route::is_probed;
use crate::probe;
use crate::proto::Facts;

/// Files at the top of a project, and the tool that each says it needs. Where the last is there too, the tool comes with the project.
const NEEDS: &[(&str, &str, &str)] = &[
    ("Cargo.toml", "cargo", ""),
    ("go.mod", "go", ""),
    ("package.json", "node", ""),
    ("package-lock.json", "npm", ""),
    ("pnpm-lock.yaml", "pnpm", ""),
    ("yarn.lock", "yarn", ""),
    ("bun.lock", "bun", ""),
    ("bun.lockb", "bun", ""),
    ("pyproject.toml", "python3", ""),
    ("setup.py", "python3", ""),
    ("requirements.txt", "python3", ""),
    ("uv.lock", "uv", ""),
    ("poetry.lock", "poetry", ""),
    ("tox.ini", "tox", ""),
    ("noxfile.py", "nox", ""),
    ("Makefile", "make", ""),
    ("makefile", "make", ""),
    ("GNUmakefile", "make", ""),
    ("justfile", "just", ""),
    ("CMakeLists.txt", "cmake", ""),
    ("meson.build", "meson", ""),
    ("pom.xml", "mvn", "mvnw"),
    ("pom.xml", "java", ""),
    ("build.gradle", "gradle", "gradlew"),
    ("build.gradle.kts", "gradle", "gradlew"),
    ("gradlew", "java", ""),
    ("MODULE.bazel", "bazel", ""),
    ("Gemfile", "ruby", ""),
    ("build.zig", "zig", ""),
    ("Package.swift", "swift", ""),
];

/// The tools that the project at `root` needs, of those that this machine has on `path` and that a node's probe looks for.
pub fn tools(root: &Path, path: &OsStr) -> Vec<&'static str> {
    let there = |name: &str| root.join(name).is_file();
    let mut tools: Vec<&str> = NEEDS
        .iter()
        .filter(|(file, _, own)| there(file) && (own.is_empty() || !there(own)))
        .map(|(_, tool, _)| *tool)
        .filter(|tool| is_probed(tool) && probe::find_program(OsStr::new(tool), path).is_some())
        .collect();
    tools.sort_unstable();
    tools.dedup();
    tools
}

/// Those of `tools` that a node lacks.
pub fn missing<'a>(tools: &[&'a str], facts: &Facts) -> Vec<&'a str> {
    let has = |tool: &str| facts.tools.iter().any(|(t, _)| t == tool);
    tools.iter().filter(|t| !has(t)).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_project_s_files_tell_what_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["cargo", "make", "mvn", "java"] {
            fs::write(bin.join(name), "").unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let touch = |name: &str| fs::write(dir.path().join(name), "").unwrap();
        let found = || tools(dir.path(), bin.as_os_str());
        assert_eq!(found(), [""; 0]);
        for name in ["Cargo.toml", "Makefile", "GNUmakefile", "go.mod", "pom.xml"] {
            touch(name);
        }
        assert_eq!(found(), ["cargo", "java", "make", "mvn"], "go is not here either");
        touch("mvnw");
        assert_eq!(found(), ["cargo", "java", "make"]);
        let facts = Facts {
            tools: vec![("make".into(), "/usr/bin/make".into())],
            ..Facts::default()
        };
        assert_eq!(missing(&found(), &facts), ["cargo", "java"]);
    }
}
