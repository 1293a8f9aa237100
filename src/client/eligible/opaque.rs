//! What a command that starts others (make, a script) may need of the environments that were installed here, as far as the file tells
//! that it carries out. Nobody runs it to know, so a word too much keeps a command here that a node could have taken; one too few
//! lets it fail there.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 256 << 10;

/// Programs that look for what they run, or load, in an environment of that name.
const USES: &[(&str, &[&str])] = &[
    (
        "node_modules",
        &["npm", "npx", "yarn", "pnpm", "pnpx", "bun", "bunx", "node"],
    ),
    (".venv", &["poetry", "pdm", "uv", "uvx", "pipenv", "hatch"]),
    ("venv", &[]),
];

/// Those that use a Python environment once it is active.
const ACTIVE: &[&str] = &["python", "python3", "pytest"];

/// The environments nearest to `cwd`, upwards to `root`, that the file behind `argv` names or whose programs it starts. `path` is PATH
/// here.
pub fn environments(argv: &[OsString], cwd: &Path, root: &Path, path: &OsStr) -> Vec<PathBuf> {
    let nearest = |name: &str| {
        let mut up = cwd.ancestors().take_while(|d| d.starts_with(root));
        up.find_map(|d| Some(d.join(name)).filter(|e| e.is_dir()))
    };
    let stand = USES
        .iter()
        .filter_map(|(name, uses)| Some((*name, *uses, nearest(name)?)));
    let stand: Vec<_> = stand.collect();
    if stand.is_empty() {
        return Vec::new();
    }
    let Some(text) = file_behind(argv, cwd).and_then(|f| read(&f)) else {
        return Vec::new();
    };
    let is_active = |env: &Path| std::env::split_paths(path).any(|d| d.starts_with(env));
    let names = |(name, uses, env): &(&str, &[&str], PathBuf)| {
        words(&text).any(|word| {
            word.split('/').any(|part| part == *name)
                || uses.contains(&word)
                || (ACTIVE.contains(&word) && is_active(env))
        })
    };
    stand
        .iter()
        .filter(|e| names(e))
        .map(|(.., env)| env.clone())
        .collect()
}

/// The file that a command carries out, as far as its words tell.
fn file_behind(argv: &[OsString], cwd: &Path) -> Option<PathBuf> {
    let words: Vec<&str> = argv.iter().map_while(|a| a.to_str()).collect();
    let (program, args) = words.split_first()?;
    let after = |flag: &str| {
        let at = args.iter().position(|a| a.starts_with(flag))?;
        let joined = args[at].strip_prefix(flag).filter(|rest| !rest.is_empty());
        joined.or_else(|| args.get(at + 1).copied())
    };
    match program.rsplit('/').next()? {
        "make" | "gmake" => {
            let dir = cwd.join(after("-C").unwrap_or(""));
            let named = after("-f").map(|f| dir.join(f));
            let usual = ["GNUmakefile", "makefile", "Makefile"].map(|f| dir.join(f));
            named.or_else(|| usual.into_iter().find(|f| f.is_file()))
        }
        "sh" | "bash" | "dash" | "zsh" | "ksh" => {
            let script = args.iter().find(|a| !a.starts_with('-'))?;
            Some(cwd.join(script))
        }
        _ if program.contains('/') => Some(cwd.join(program)),
        _ => None,
    }
}

fn read(file: &Path) -> Option<String> {
    let is_file = file.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_FILE);
    let mut text = String::new();
    let file = std::fs::File::open(file).ok().filter(|_| is_file)?;
    // A program is no text.
    file.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The words of a text, as paths and programs are written, without those of comments.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    let is_part = |c: char| c.is_alphanumeric() || "_./-".contains(c);
    lines.flat_map(move |l| l.split(move |c| !is_part(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_makefile_or_script_tells_which_environments_it_uses() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for made in ["node_modules/.bin", ".venv/bin", "sub"] {
            std::fs::create_dir_all(root.join(made)).unwrap();
        }
        let active = root.join(".venv/bin").into_os_string();
        let of = |command: &str, cwd: &str, text: &str, path: &OsStr| {
            for file in ["Makefile", "sub/Makefile", "ci.sh"] {
                std::fs::write(root.join(file), text).unwrap();
            }
            let argv: Vec<OsString> = command.split(' ').map(OsString::from).collect();
            let found = environments(&argv, &root.join(cwd), root, path);
            let short = |p: &PathBuf| p.strip_prefix(root).unwrap().display().to_string();
            found.iter().map(short).collect::<Vec<_>>().join(" ")
        };
        let usual = OsStr::new("/usr/bin");
        for (command, cwd, text, path, want) in [
            ("make test", "", "test:\n\t@npm test\n", usual, "node_modules"),
            ("make -C sub", "", "all:\n\tnode ../x.js\n", usual, "node_modules"),
            ("make -f ci.sh", "", "all:\n\tnpx x\n", usual, "node_modules"),
            (
                "make",
                "sub",
                "B=$(PWD)/../node_modules/.bin\n",
                usual,
                "node_modules",
            ),
            (
                "make",
                "",
                "all:\n\t.venv/bin/pytest && npm t\n",
                usual,
                "node_modules .venv",
            ),
            ("./ci.sh", "", ". .venv/bin/activate\n", usual, ".venv"),
            ("bash -e ci.sh fast", "", "uv run pytest\n", usual, ".venv"),
            ("make", "", "all:\n\tpython3 gen.py\n", usual, ""),
            ("make", "", "all:\n\tpython3 gen.py\n", &active, ".venv"),
            ("make", "", "# npm test\nall:\n\tcc nodes.c -o npm.o\n", usual, ""),
            ("sh -c npm", "", "npm\n", usual, ""),
            ("cargo test", "", "npm\n", usual, ""),
        ] {
            assert_eq!(of(command, cwd, text, path), want, "{command}: {text}");
        }
    }
}
