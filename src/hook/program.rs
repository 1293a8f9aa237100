//! Which `cx` a command line would find, and how to name this one.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What goes in front of a command: `cx `, or the quoted absolute path of this program and a space where the first
/// `cx` on `path` is another one. `None` if this program cannot be named in text.
pub fn prefix(path: Option<&OsStr>, plain_is_safe: bool) -> Option<String> {
    let me = own_metadata()?;
    if plain_is_safe && first_on_path(path).is_some_and(|(_, found)| same_file(&found, &me)) {
        return Some("cx ".to_owned());
    }
    let exe = env::current_exe().ok()?;
    exe.is_file().then_some(())?;
    Some(format!("{} ", quote(exe.to_str()?)))
}

/// The path by which this program will still be found after an upgrade: its place on PATH, which a package manager
/// keeps, rather than where that leads.
pub fn lasting_path() -> Option<PathBuf> {
    let me = own_metadata()?;
    match first_on_path(env::var_os("PATH").as_deref()) {
        Some((path, found)) if same_file(&found, &me) => Some(path),
        _ => env::current_exe().ok(),
    }
}

/// Whether `called`, as a shell in `cwd` would find it, is this program. `plain_is_safe` as in [`prefix`]; `cwd` is `None` where the
/// directory is not known.
pub fn is_this(called: &str, path: Option<&OsStr>, plain_is_safe: bool, cwd: Option<&Path>) -> bool {
    let found = match called.contains('/') {
        true if called.starts_with('/') => fs::metadata(called).ok(),
        true => cwd.and_then(|dir| fs::metadata(dir.join(called)).ok()),
        false if plain_is_safe => first_on_path(path).map(|(_, found)| found),
        false => None,
    };
    found.is_some_and(|found| own_metadata().is_some_and(|me| same_file(&found, &me)))
}

/// The first `cx` on `path`, and whether it is this program.
pub fn on_path(path: Option<&OsStr>) -> Option<(PathBuf, bool)> {
    let (file, meta) = first_on_path(path)?;
    Some((file, own_metadata().is_some_and(|me| same_file(&meta, &me))))
}

/// The first executable `cx`; `None` also if a relative entry comes before it, as that means another program in
/// every directory.
fn first_on_path(path: Option<&OsStr>) -> Option<(PathBuf, Metadata)> {
    for dir in env::split_paths(path?) {
        if !dir.is_absolute() {
            return None;
        }
        let file = dir.join("cx");
        if let Ok(meta) = fs::metadata(&file)
            && meta.is_file()
            && meta.permissions().mode() & 0o111 != 0
        {
            return Some((file, meta));
        }
    }
    None
}

fn own_metadata() -> Option<Metadata> {
    // One call, and true even after the file was replaced.
    if cfg!(target_os = "linux")
        && let Ok(meta) = fs::metadata(Path::new("/proc/self/exe"))
    {
        return Some(meta);
    }
    fs::metadata(env::current_exe().ok()?).ok()
}

fn same_file(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// `text` as one word of any POSIX shell.
pub fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./+-@%:,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn quoting_is_undone_by_the_shell() {
        for text in [
            "/opt/cx",
            "/a b/cx",
            "/it's/cx",
            "/$HOME/`x`/\"/cx",
            "/é/cx",
            "~/cx",
            "/a=b/cx",
        ] {
            let out = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", quote(text)))
                .output();
            assert_eq!(String::from_utf8(out.unwrap().stdout).unwrap(), text);
        }
        assert_eq!(quote("/opt/x-1.0/cx"), "/opt/x-1.0/cx");
    }

    #[test]
    fn the_name_depends_on_what_path_finds() {
        let dir = tempfile::tempdir().unwrap();
        let exe = env::current_exe().unwrap();
        let (mine, other) = (dir.path().join("mine"), dir.path().join("other"));
        fs::create_dir(&mine).unwrap();
        fs::create_dir(&other).unwrap();
        symlink(&exe, mine.join("cx")).unwrap();
        fs::write(other.join("cx"), "#!/bin/sh\n").unwrap();
        let path = |dirs: &[&Path]| env::join_paths(dirs).unwrap();
        let absolute = format!("{} ", quote(exe.to_str().unwrap()));

        let not_executable = path(&[&other, &mine]);
        assert_eq!(prefix(Some(&not_executable), true).unwrap(), "cx ");
        fs::set_permissions(other.join("cx"), fs::Permissions::from_mode(0o755)).unwrap();
        for (dirs, plain_is_safe, want) in [
            (path(&[&mine, &other]), true, "cx "),
            (path(&[&mine, &other]), false, &absolute),
            (path(&[&other, &mine]), true, &absolute),
            (path(&[Path::new("."), &mine]), true, &absolute),
            (path(&[dir.path()]), true, &absolute),
        ] {
            assert_eq!(prefix(Some(&dirs), plain_is_safe).unwrap(), want, "{dirs:?}");
        }
        assert_eq!(prefix(None, true).unwrap(), absolute);

        let (first, second) = (path(&[&mine, &other]), path(&[&other, &mine]));
        let here = Some(dir.path());
        let own = mine.join("cx").display().to_string();
        for (called, dirs, plain_is_safe, cwd, want) in [
            ("cx", &first, true, here, true),
            ("cx", &first, false, here, false),
            ("cx", &second, true, here, false),
            ("mine/cx", &second, false, here, true),
            ("mine/cx", &first, true, None, false),
            ("./other/cx", &first, true, here, false),
            (own.as_str(), &second, false, None, true),
            ("/nowhere/cx", &first, true, here, false),
        ] {
            assert_eq!(
                is_this(called, Some(dirs), plain_is_safe, cwd),
                want,
                "{called} {dirs:?}"
            );
        }
    }
}
