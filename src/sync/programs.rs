//! The programs that cargo leaves for use in its target directories.
//!
//! A target directory is a cache: what lies in it stays on either side. Not so the programs and libraries that cargo links into the
//! top of a profile's directory (`target/debug/x`, `target/TRIPLE/release/libx.so`): scripts, Makefiles and tests run them without
//! naming them, and an older one on one side would be run in silence.

use super::beneath::Beneath;
use super::known;
use super::stat::Stat;
use crate::plan::manifest::RelPath;

/// Entries of one directory that are looked at, at most.
const MANY: usize = 2000;

/// What a directory of cargo's holds that is built in: the lock of the builds in it, or what they remember.
const MARKS: &[&[u8]] = &[b".cargo-lock", b".fingerprint"];

/// Endings of what is loaded or linked.
const LIBRARIES: &[&[u8]] = &[b".so", b".dylib", b".dll", b".a", b".lib", b".wasm"];

/// Whether a regular file of this name and mode can be run, loaded or linked.
pub(crate) fn is_program(name: &[u8], mode: u32) -> bool {
    let versioned = name.windows(4).any(|w| w == b".so.");
    mode & 0o111 != 0 || versioned || LIBRARIES.iter().any(|end| name.ends_with(end))
}

/// Whether the cache `dir` may be a target directory of cargo's, by its name.
pub(crate) fn may_be_cargos(dir: &RelPath) -> bool {
    !known::is_other_tools_cache(dir.name())
}

/// The programs in `dir`, if that is a target directory: those at the top of its profiles' directories, and examples.
pub(crate) fn look(tree: &mut Beneath, dir: &RelPath) -> Vec<(RelPath, Stat)> {
    let mut found = Vec::new();
    for sub in entries(tree, dir) {
        let Some(below) = take(tree, &sub, &mut found) else {
            continue;
        };
        // `target/TRIPLE/debug`
        for sub in below {
            take(tree, &sub, &mut found);
        }
    }
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    found
}

fn entries(tree: &mut Beneath, dir: &RelPath) -> Vec<(RelPath, Stat)> {
    let names = tree.names(Some(dir)).unwrap_or_default();
    let stat = |name: Vec<u8>| {
        let path = RelPath::below(Some(dir), &name)?;
        let stat = tree.stat(&path).ok().flatten()?;
        Some((path, stat))
    };
    names.into_iter().take(MANY).filter_map(stat).collect()
}

/// Takes the programs of a profile's directory. What lies in it, if it is none.
fn take(
    tree: &mut Beneath,
    (dir, stat): &(RelPath, Stat),
    found: &mut Vec<(RelPath, Stat)>,
) -> Option<Vec<(RelPath, Stat)>> {
    if !stat.is_dir() {
        return None;
    }
    let all = entries(tree, dir);
    // Where nothing was built, there are only the programs that came from a node.
    let is_profile = matches!(dir.name(), b"debug" | b"release")
        || all.iter().any(|(p, _)| MARKS.contains(&p.name()))
        || !all.iter().any(|(_, s)| s.is_dir());
    if !is_profile {
        return Some(all);
    }
    let is_ours = |(path, stat): &(RelPath, Stat)| stat.is_file() && is_program(path.name(), stat.mode);
    found.extend(all.into_iter().filter(is_ours));
    if let Some(examples) = RelPath::below(Some(dir), b"examples") {
        let examples = entries(tree, &examples).into_iter().filter(is_ours);
        // Each is there by a second name as well, of the build.
        found.extend(examples.filter(|(p, _)| !is_hashed(p.name())));
    }
    None
}

/// Whether a name ends in the hash of a build: `ex-0123456789abcdef`.
fn is_hashed(name: &[u8]) -> bool {
    let stem = name.split(|b| *b == b'.').next().unwrap_or(name);
    let hash = stem.rsplit(|b| *b == b'-').next().unwrap_or(stem);
    hash.len() == 16 && hash.len() < stem.len() && hash.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_of_every_profile_are_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [
            ("target/debug/.cargo-lock", 0o644),
            ("target/debug/x", 0o755),
            ("target/debug/x.d", 0o644),
            ("target/debug/libx.rlib", 0o644),
            ("target/debug/libx.a", 0o644),
            ("target/debug/deps/x-0123456789abcdef", 0o755),
            ("target/debug/examples/ex", 0o755),
            ("target/debug/examples/ex-0123456789abcdef", 0o755),
            ("target/wasm32-wasip1/release/.fingerprint/x/y", 0o644),
            ("target/wasm32-wasip1/release/x.wasm", 0o644),
            ("target/dist/came", 0o755),
            ("target/package/x/run", 0o755),
            ("target/package/x/src/lib.rs", 0o644),
            ("target/run", 0o755),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut tree = Beneath::open(dir.path()).unwrap();
        let found = look(&mut tree, &RelPath::new("target").unwrap());
        let names: Vec<_> = found.iter().map(|(p, _)| p.to_string()).collect();
        assert_eq!(
            names,
            [
                "target/debug/examples/ex",
                "target/debug/libx.a",
                "target/debug/x",
                "target/dist/came",
                "target/wasm32-wasip1/release/x.wasm"
            ]
        );
    }
}
