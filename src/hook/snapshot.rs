//! The names that the user's shell defines as functions or aliases, from the snapshot that the client sources before
//! every command. `cx cargo` would run the program where `cargo` means an alias, so such a name is left alone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A larger snapshot than this, in bytes, is not read.
const MAX_FILE: u64 = 4 << 20;

/// The names in the newest snapshot below `config_dir`, of the shell `shell` (`bash`, `zsh`). `None` where there is no snapshot: the client
/// makes it while a session's first command waits for its hooks, and takes it away at its end.
pub fn names(config_dir: &Path, shell: &str) -> Option<Vec<String>> {
    let newest = newest(&config_dir.join("shell-snapshots"), shell)?;
    Some(scan(&read(&newest)?))
}

/// Files are called `snapshot-SHELL-MILLISECONDS-RANDOM.sh`; all come from the same rc files.
fn newest(dir: &Path, shell: &str) -> Option<PathBuf> {
    let prefix = format!("snapshot-{shell}-");
    let made = |name: &OsString| {
        let rest = name.to_str()?.strip_prefix(&prefix)?.strip_suffix(".sh")?;
        rest.split('-').next()?.parse::<u64>().ok()
    };
    let names = fs::read_dir(dir).ok()?.flatten().map(|e| e.file_name());
    names
        .filter_map(|n| Some((made(&n)?, n)))
        .max()
        .map(|(_, n)| dir.join(n))
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::with_capacity(32 << 10);
    // To open a FIFO is to wait for who writes it.
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    File::open(path)
        .ok()?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Definitions stand at the start of a line: `alias -- x='..'`, `eval $'x () \n..`, `function x {`, `x () {`.
/// A line of a function's body that looks like one does no harm: one more name is left alone.
fn scan(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text.lines().filter_map(defined).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn defined(line: &str) -> Option<&str> {
    let name = if let Some(rest) = line.strip_prefix("alias ") {
        let rest = rest.strip_prefix("-- ").unwrap_or(rest);
        rest.split_once('=')?.0.trim_matches(['\'', '"'])
    } else if let Some(rest) = line.strip_prefix("function ") {
        rest.split([' ', '(', '{']).next()?
    } else {
        let rest = line
            .strip_prefix("eval $'")
            .or_else(|| line.strip_prefix("eval '"))
            .unwrap_or(line);
        let (name, after) = rest.split_once('(')?;
        if !after.trim_start().starts_with(')') {
            return None;
        }
        name.trim_end()
    };
    let plain = |c: char| !c.is_whitespace() && !"'\"$`;&|<>()".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_bash_and_zsh() {
        let text = "# Snapshot file\nunalias -a 2>/dev/null || true\nshopt -s extglob\n\
            eval $'bar () \\n{ \\n    echo hi\\n}' > /dev/null 2>&1\n\
            alias -- cargo='cargo --quiet'\nalias -- 'a.b'='x=y'\nalias ll='ls -l'\n\
            if ! hash rg 2>/dev/null; then\n  function indented {\nfunction rg {\nfunction grep() {\n}\n\
            mytool () {\n\tlocal x=$(date)\n}\nexport PATH='/a(b)/c'\nx=$(y)\n";
        assert_eq!(scan(text), ["a.b", "bar", "cargo", "grep", "ll", "mytool", "rg"]);
    }

    #[test]
    fn the_newest_of_the_right_shell_counts() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = dir.path().join("shell-snapshots");
        assert_eq!(names(dir.path(), "bash"), None);
        fs::create_dir(&snapshots).unwrap();
        for (name, alias) in [
            ("snapshot-bash-9-zzz.sh", "old"),
            ("snapshot-bash-1763950000000-aaa.sh", "new"),
            ("snapshot-zsh-1763950000001-aaa.sh", "other"),
            ("snapshot-bash-x.sh", "odd"),
        ] {
            fs::write(snapshots.join(name), format!("alias {alias}='x'\n")).unwrap();
        }
        assert_eq!(names(dir.path(), "bash").unwrap(), ["new"]);
    }
}
