//! A workspace's own `.cx.toml`. A repository brings it along, so by itself it may only tighten: it says what is to stay here, and
//! chooses neither nodes nor what may leave. What widens (`[[setup]]`) counts once a person has said `cx trust`. What it says wrongly
//! keeps everything here.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::plan::manifest::RelPath;

/// The file's name, at the top of a workspace.
pub const FILE: &str = ".cx.toml";

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 64 << 10;

/// Words after which another command's name may stand: `python -m pytest`, `uv run pytest`, `npm run deploy`.
const RUNNERS: &[&str] = &["-m", "run", "exec", "npx", "uvx", "bunx", "dlx"];

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Project {
    /// `local = ["pytest tests/gpu", "deploy"]`: commands that begin with these words run here.
    pub local: Vec<String>,
    /// `[[setup]]`: what a node runs once before the first command there. Needs the workspace's trust.
    pub setup: Vec<Setup>,
    /// `include = [".env.test"]`: secrets that go along all the same: names, or with a slash paths from the top. Needs the workspace's
    /// trust.
    pub include: Vec<String>,
    /// `also = ["../lib"]`: trees outside the workspace that commands need, relative to its top. Needs the workspace's trust.
    pub also: Vec<String>,
}

/// One `[[setup]]` of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// A line of shell.
    pub run: String,
    /// Files of the workspace, from its top: when one of them changes, the step is done again.
    #[serde(default)]
    pub files: Vec<String>,
    /// Where it runs, from the workspace's top.
    #[serde(default)]
    pub dir: String,
    /// Only commands that begin with one of these words need it, as in [`Project::local`]; all, where there is none.
    #[serde(default)]
    pub before: Vec<String>,
}

impl Project {
    /// Reads the file of the workspace at `root`; where there is none, it says nothing.
    ///
    /// # Errors
    /// When it can't be read, or says something that it may not or that cx does not understand: one clause.
    pub fn load(root: &Path) -> Result<Project, String> {
        let path = root.join(FILE);
        match std::fs::symlink_metadata(&path) {
            Ok(m) if m.is_file() => {}
            Ok(_) => return Err(format!("{FILE} is not a file")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Project::default()),
            Err(e) => return Err(format!("{FILE} can't be read: {e}")),
        }
        let mut text = String::new();
        std::fs::File::open(&path)
            .and_then(|f| f.take(MAX_FILE + 1).read_to_string(&mut text))
            .map_err(|e| format!("{FILE} can't be read: {e}"))?;
        if text.len() as u64 > MAX_FILE {
            return Err(format!("{FILE} is larger than 64 KB"));
        }
        Project::parse(&text)
    }

    fn parse(text: &str) -> Result<Project, String> {
        let project: Project = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start).min(text.len());
            let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
            let what = crate::node::printable(&e.message().replace('\n', "; "), 160);
            format!("{FILE}, line {line}: {what}")
        })?;
        let inside = |path: &String| RelPath::new(path.as_bytes()).is_some();
        for step in &project.setup {
            let bad = step.files.iter().find(|f| !inside(f));
            let bad = bad.or_else(|| (!step.dir.is_empty() && !inside(&step.dir)).then_some(&step.dir));
            if let Some(bad) = bad {
                let bad = crate::node::printable(bad, 80);
                return Err(format!(
                    "{FILE}: {bad:?} in [[setup]] is no path inside the workspace, from its top"
                ));
            }
            if step.run.trim().is_empty() {
                return Err(format!("{FILE}: a [[setup]] runs nothing"));
            }
        }
        let outside = |p: &&String| !p.starts_with("../") || p.contains('\0');
        if let Some(bad) = project.also.iter().find(outside) {
            let bad = crate::node::printable(bad, 80);
            return Err(format!(
                "{FILE}: {bad:?} in also is no path out of the workspace, as \"../lib\""
            ));
        }
        Ok(project)
    }

    /// Whether it says anything that counts only with a person's word.
    pub fn widens(&self) -> bool {
        !(self.setup.is_empty() && self.include.is_empty() && self.also.is_empty())
    }

    /// The words of the file by which a command is to run here, if it is.
    pub fn keeps(&self, argv: &[OsString]) -> Option<&str> {
        first_words(&self.local, argv)
    }
}

/// The first of `entries`, each the first words of a command, that `argv` begins with, also behind a runner.
pub fn first_words<'a>(entries: &'a [String], argv: &[OsString]) -> Option<&'a str> {
    let words: Vec<_> = argv.iter().map(|a| a.to_string_lossy()).collect();
    let begins = |at: usize, entry: &str| {
        let mut wanted = entry.split_whitespace();
        let first = wanted.next();
        let name = words[at].rsplit('/').next();
        first.is_some()
            && (first == name || first == Some(&*words[at]))
            && wanted
                .enumerate()
                .all(|(i, w)| words.get(at + 1 + i).is_some_and(|have| have == w))
    };
    let starts = |at: usize| at == 0 || RUNNERS.contains(&words[at - 1].rsplit('/').next().unwrap_or(""));
    entries
        .iter()
        .find(|entry| (0..words.len()).any(|at| starts(at) && begins(at, entry)))
        .map(String::as_str)
}

/// Why a workspace's file, as [`Project::load`] has read it, keeps a command here, if it does.
pub fn stays(project: &Result<Project, String>, argv: &[OsString]) -> Option<String> {
    match project {
        Ok(project) => project
            .keeps(argv)
            .map(|entry| format!("{FILE} keeps `{}` here", crate::node::printable(entry, 80))),
        Err(why) => Some(why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(local: &[&str], command: &str) -> bool {
        let project = Project {
            local: local.iter().map(|&s| s.to_owned()).collect(),
            ..Project::default()
        };
        let argv: Vec<OsString> = command.split(' ').map(OsString::from).collect();
        project.keeps(&argv).is_some()
    }

    #[test]
    fn commands_are_known_by_their_first_words() {
        for (local, command, want) in [
            ("pytest", "pytest -x", true),
            ("pytest", ".venv/bin/pytest", true),
            ("pytest", "python3 -m pytest tests", true),
            ("pytest", "uv run pytest", true),
            ("pytest", "pytest-3", false),
            ("pytest", "make pytest", false),
            ("pytest tests/gpu", "pytest tests/gpu -x", true),
            ("pytest tests/gpu", "pytest tests/cpu", false),
            ("pytest tests/gpu", "pytest", false),
            ("deploy", "npm run deploy", true),
            ("npm run deploy", "npm run deploy", true),
            ("./check.sh", "./check.sh all", true),
            ("check.sh", "./check.sh", true),
            ("", "make", false),
            ("  ", "make", false),
        ] {
            assert_eq!(kept(&[local], command), want, "{local:?} {command:?}");
        }
        assert!(!kept(&["make"], ""));
        assert_eq!(Project::default().keeps(&[]), None);
    }

    #[test]
    fn it_may_only_tighten() {
        assert_eq!(Project::parse("").unwrap(), Project::default());
        let widening = Project::parse("local = [\"make\"]\nnodes = [\"evil\"]\n").unwrap_err();
        assert!(
            widening.contains("line 2") && widening.contains("nodes"),
            "{widening}"
        );
        assert!(Project::parse("local = \"make\"").is_err());
        assert!(Project::parse("\u{0}").is_err());
        for bad in [
            "files = ['../x']",
            "dir = '/etc'",
            "dir = 'a/../..'",
            "files = ['']",
        ] {
            let why = Project::parse(&format!("[[setup]]\nrun = 'make deps'\n{bad}\n")).unwrap_err();
            assert!(why.contains("no path inside the workspace"), "{bad}: {why}");
        }
        for bad in ["/lib", "lib", ".."] {
            assert!(Project::parse(&format!("also = ['{bad}']\n")).is_err(), "{bad}");
        }
        assert!(Project::parse("[[setup]]\nrun = ' '\n").is_err());
        assert!(Project::parse("[[setup]]\nfiles = ['x']\n").is_err());
    }

    #[test]
    fn what_is_no_plain_file_keeps_everything_here() {
        let dir = tempfile::tempdir().unwrap();
        let argv = [OsString::from("make")];
        assert_eq!(stays(&Project::load(dir.path()), &argv), None);
        std::os::unix::fs::symlink("/dev/zero", dir.path().join(FILE)).unwrap();
        assert!(
            stays(&Project::load(dir.path()), &argv)
                .unwrap()
                .contains("not a file")
        );
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::write(dir.path().join(FILE), vec![b' '; 70 << 10]).unwrap();
        assert!(
            stays(&Project::load(dir.path()), &argv)
                .unwrap()
                .contains("64 KB")
        );
    }
}
