//! The files that a command names by its words.
//!
//! What a command names it reads, or runs: `cx ./target/debug/app`. If such a file lies in a cache, or is too large to go with the
//! other ignored ones, the mirror may hold an older one, or a newer one, of its own; so what stands here goes along, and with a
//! program what else in its directory can be run or loaded.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::paths::normal;
use crate::plan::manifest::RelPath;
use crate::sync;

/// More words than this are not looked at, nor more entries of a program's directory.
const MANY: usize = 2000;

/// What separates words in a text that a shell is to run.
const SEPARATORS: &[char] = &[
    ' ', '\t', '\n', ';', '|', '&', '(', ')', '<', '>', '"', '\'', '`', '$', '{', '}', '=', ',', ':',
];

/// What the words of a command name.
#[derive(Debug, Default)]
pub struct Named {
    /// Regular files inside the workspace.
    pub files: Vec<RelPath>,
    /// Directories inside the workspace.
    pub dirs: Vec<RelPath>,
}

/// Looks at the words of a command that runs in `cwd`, below `root`. Words are taken whole and, since they may be options with a value
/// or the text of a script, in pieces: a word too many costs a look.
pub fn look(argv: &[OsString], cwd: &Path, root: &Path) -> Named {
    let (mut files, mut dirs) = (BTreeSet::new(), BTreeSet::new());
    let mut left = MANY;
    for (i, word) in argv.iter().enumerate() {
        let text = word.to_string_lossy();
        let pieces = text
            .split(SEPARATORS)
            .map(OsStr::new)
            .filter(|p| *p != word.as_os_str());
        for piece in std::iter::once(word.as_os_str()).chain(pieces) {
            if left == 0 {
                break;
            }
            left -= 1;
            // A bare word in front is looked for in PATH.
            if piece.is_empty() || piece.len() > 4096 || (i == 0 && !piece.as_bytes().contains(&b'/')) {
                continue;
            }
            let Some(rel) = below(&cwd.join(piece), root) else {
                continue;
            };
            let Ok(meta) = fs::symlink_metadata(root.join(OsStr::from_bytes(rel.as_bytes()))) else {
                continue;
            };
            if meta.is_dir() {
                dirs.insert(rel);
            } else if meta.is_file() {
                if meta.permissions().mode() & 0o111 != 0
                    && let Some(dir) = rel.parent()
                {
                    let beside = programs_in(&root.join(OsStr::from_bytes(dir.as_bytes())));
                    files.extend(
                        beside.iter().filter_map(|name| {
                            RelPath::new([dir.as_bytes(), b"/", name.as_bytes()].concat())
                        }),
                    );
                }
                files.insert(rel);
            }
        }
    }
    Named {
        files: files.into_iter().collect(),
        dirs: dirs.into_iter().collect(),
    }
}

/// The names of the files in `dir` that can be run or loaded by a program.
fn programs_in(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().take(MANY);
    let can_run = |name: &OsString| {
        let meta = fs::symlink_metadata(dir.join(name));
        meta.is_ok_and(|m| m.is_file() && sync::is_program(name.as_bytes(), m.permissions().mode()))
    };
    entries.map(|e| e.file_name()).filter(can_run).collect()
}

/// A path relative to the root, by its text alone; none outside, and none for the root itself.
fn below(path: &Path, root: &Path) -> Option<RelPath> {
    RelPath::new(normal(path).strip_prefix(root).ok()?.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_files_in_whole_and_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("target/debug/deps")).unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        for (name, mode) in [
            ("target/debug/x", 0o755),
            ("target/debug/helper", 0o755),
            ("target/debug/libx.so.1", 0o644),
            ("target/debug/x.d", 0o644),
            ("target/debug/deps/x-1", 0o755),
            ("sub/data", 0o644),
            ("make", 0o644),
        ] {
            fs::write(root.join(name), "").unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let with = ["target/debug/helper", "target/debug/libx.so.1", "target/debug/x"];
        let absolute = root.join("target/debug/x").display().to_string();
        let cases: &[(&str, &[&str], &str, &[&str])] = &[
            (
                "",
                &["./target/debug/x", "--in=sub/data"],
                "",
                &["sub/data", with[0], with[1], with[2]],
            ),
            ("sub", &["../target/debug/x"], "", &with),
            ("", &[&absolute], "", &with),
            (
                "",
                &["sh", "-c", "cd . && ./target/debug/x<sub/data"],
                "",
                &["sub/data", with[0], with[1], with[2]],
            ),
            ("", &["make", "target"], "target", &[]),
            ("", &["cat", "make", "../elsewhere", "no such"], "", &["make"]),
            ("target/debug", &["./x"], "", &with),
        ];
        for (cwd, argv, dirs, files) in cases {
            let argv: Vec<OsString> = argv.iter().map(Into::into).collect();
            let found = look(&argv, &root.join(cwd), root);
            let shown = |all: &[RelPath]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(shown(&found.files), *files, "{argv:?}");
            assert_eq!(shown(&found.dirs).join(" "), *dirs, "{argv:?}");
        }
    }
}
