//! `cx setup claude`: puts the hook into the user's Claude Code settings, and takes it out again.
//!
//! The change is shown as a diff first, made atomically, and made only when the person says yes. The file as it was
//! lies beside it as `settings.json.cx-backup`; `--remove` gives those very bytes back if nothing else changed.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::{diff, edit};
use crate::hook::program;
use crate::paths::write_atomic;

/// The largest settings file that is edited, bytes.
const MAX_FILE: u64 = 4 << 20;

/// What `cx setup claude` was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetupArgs {
    /// `--remove`: take cx's entries away instead.
    pub remove: bool,
    /// `--yes`: do not ask.
    pub yes: bool,
}

/// The outside world, so that tests can have their own.
#[derive(Clone, Debug)]
pub struct Place {
    /// The settings file; may be missing, may be a symbolic link.
    pub settings: PathBuf,
    /// The absolute path of this program, as the hook entry shall name it.
    pub program: PathBuf,
    /// An agent started this process.
    pub under_agent: bool,
    /// A person can answer a question.
    pub terminal: bool,
}

impl Place {
    /// Of this process: `CLAUDE_CONFIG_DIR` or `~/.claude`.
    ///
    /// # Errors
    /// If there is no home directory, or the program cannot tell where it lies.
    pub fn of_process() -> anyhow::Result<Place> {
        let dir = match env::var_os("CLAUDE_CONFIG_DIR").filter(|d| !d.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => {
                let home = env::var_os("HOME").filter(|h| !h.is_empty());
                PathBuf::from(
                    home.context("HOME is not set; set CLAUDE_CONFIG_DIR to the client's directory")?,
                )
                .join(".claude")
            }
        };
        Ok(Place {
            settings: std::path::absolute(dir)?.join("settings.json"),
            program: program::lasting_path().context("cannot find out where this program lies")?,
            under_agent: under_agent(),
            terminal: io::stdin().is_terminal(),
        })
    }
}

/// Whether an agent's tool started this process.
fn under_agent() -> bool {
    [
        "CLAUDECODE",
        "AI_AGENT",
        "CODEX_SANDBOX",
        "CURSOR_AGENT",
        "GEMINI_CLI",
        "OPENCODE",
    ]
    .iter()
    .any(|name| env::var_os(name).is_some_and(|v| !v.is_empty()))
}

/// Runs `cx setup claude`.
///
/// # Errors
/// If an agent asks, the file cannot be read, parsed or written, nobody can be asked, or the person says no. The
/// settings are then as they were.
pub fn run(args: SetupArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    run_in(args, &Place::of_process()?, &mut io::stdin().lock(), out)
}

/// [`run`] in a given place, with answers read from `answers`.
///
/// # Errors
/// As for [`run`].
pub fn run_in(
    args: SetupArgs,
    place: &Place,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    ensure!(
        !place.under_agent,
        "cx setup claude changes what every later session runs, so it is not done from inside an agent; \
         run it in a terminal of your own"
    );
    let shown = place.settings.display();
    // A settings file that is a link, into a directory of dotfiles say, stays one.
    let target = match fs::canonicalize(&place.settings) {
        Ok(path) => path,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            ensure!(
                place.settings.symlink_metadata().is_err(),
                "{shown} is a symbolic link to a file that is not there; mend or remove the link first"
            );
            place.settings.clone()
        }
        Err(e) => return Err(e).with_context(|| format!("cannot find {shown}")),
    };
    let before = read(&target)?;
    let change = plan(args.remove, place, before.as_deref())
        .with_context(|| format!("{shown} stays as it is; mend it by hand, then run this again"))?;

    let (after, restores) = match change {
        Change::Nothing(why) => {
            writeln!(out, "{shown}: {why}; nothing changed")?;
            return Ok(());
        }
        Change::Write { text, restores } => (Some(text), restores),
        Change::Delete => (None, false),
    };
    let old = before.as_deref().unwrap_or_default();
    write!(
        out,
        "{}",
        diff::unified(old, after.as_deref().unwrap_or_default(), &shown.to_string())
    )?;
    if !args.yes {
        ensure!(
            place.terminal,
            "nobody to ask; give --yes to make this change from a script"
        );
        write!(out, "\nMake this change? [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        answers.take(1 << 10).read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
            bail!("not changed: the answer was no");
        }
    }
    // The person may have taken a while, and the client writes this file too.
    ensure!(
        read(&target)? == before,
        "{shown} was changed by another program meanwhile; run this again"
    );

    let backup = backup_path(place);
    match &after {
        Some(text) => {
            let first = !args.remove && edit::programs(old).is_ok_and(|p| p.is_empty());
            if let (true, Some(old)) = (first, &before) {
                write_atomic(&backup, old.as_bytes(), mode_of(&target)).context("cannot write the backup")?;
            } else if first {
                // A backup of an older file says nothing of one that was not there.
                remove_if_there(&backup)?;
            }
            if let Some(dir) = target.parent() {
                fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            }
            write_atomic(&target, text.as_bytes(), mode_of(&target))
                .with_context(|| format!("cannot write {shown}"))?;
            if restores {
                remove_if_there(&backup)?;
            }
        }
        None => fs::remove_file(&target).with_context(|| format!("cannot remove {shown}"))?,
    }
    match (args.remove, before.is_some()) {
        (false, true) => writeln!(
            out,
            "{shown}: changed; sessions started from now on send heavy commands through cx (as it was: {})",
            backup.display()
        )?,
        (false, false) => {
            writeln!(
                out,
                "{shown}: made; sessions started from now on send heavy commands through cx"
            )?;
        }
        (true, _) => writeln!(
            out,
            "{shown}: cx is out of it; sessions started from now on do without"
        )?,
    }
    Ok(())
}

/// What is to be done.
#[derive(Debug, PartialEq)]
enum Change {
    /// Nothing, because.
    Nothing(&'static str),
    /// The file's new text; `restores` if those are the bytes of the backup.
    Write { text: String, restores: bool },
    /// The file was made by `cx setup` and holds nothing else.
    Delete,
}

fn plan(remove: bool, place: &Place, before: Option<&str>) -> anyhow::Result<Change> {
    let text = before.unwrap_or_default();
    if !remove {
        let program = place
            .program
            .to_str()
            .context("the path of this program is not UTF-8")?;
        let after = edit::add(text, program)?;
        return Ok(if after == text {
            Change::Nothing("cx is in it already")
        } else {
            Change::Write {
                text: after,
                restores: false,
            }
        });
    }
    let programs = edit::programs(text)?;
    let Some(program) = programs.first() else {
        return Ok(Change::Nothing("cx is not in it"));
    };
    // What an edit cannot tell, whether an empty list was there before, the backup can.
    match fs::read_to_string(backup_path(place)) {
        Ok(backup) if edit::add(&backup, program).is_ok_and(|t| t == text) => {
            return Ok(Change::Write {
                text: backup,
                restores: true,
            });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound && edit::add("", program)? == text => {
            return Ok(Change::Delete);
        }
        _ => {}
    }
    Ok(Change::Write {
        text: edit::remove(text)?,
        restores: false,
    })
}

fn backup_path(place: &Place) -> PathBuf {
    place.settings.with_file_name("settings.json.cx-backup")
}

/// The file's text, or `None` if there is no file.
fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let meta = file.metadata()?;
    ensure!(meta.is_file(), "{} is not a regular file", path.display());
    ensure!(
        meta.len() <= MAX_FILE,
        "{} is too large to be a settings file",
        path.display()
    );
    let mut text = String::new();
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    Ok(Some(text))
}

/// Permission bits of `path`; those of a private file if there is none.
fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).map_or(0o600, |m| m.mode() & 0o7777)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Home {
        dir: tempfile::TempDir,
        place: Place,
    }

    impl Home {
        fn new() -> Home {
            let dir = tempfile::tempdir().unwrap();
            let place = Place {
                settings: dir.path().join(".claude/settings.json"),
                program: "/opt/bin/cx".into(),
                under_agent: false,
                terminal: true,
            };
            Home { dir, place }
        }

        fn with(text: &str) -> Home {
            let home = Home::new();
            fs::create_dir(home.dir.path().join(".claude")).unwrap();
            fs::write(&home.place.settings, text).unwrap();
            home
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.place.settings).unwrap()
        }

        fn run(&self, remove: bool, answer: Option<&str>) -> Result<String, String> {
            let mut out = Vec::new();
            let args = SetupArgs {
                remove,
                yes: answer.is_none(),
            };
            let done = run_in(
                args,
                &self.place,
                &mut answer.unwrap_or_default().as_bytes(),
                &mut out,
            );
            let out = String::from_utf8(out).unwrap();
            done.map(|()| out).map_err(|e| format!("{e:#}"))
        }

        fn files(&self) -> Vec<String> {
            let list = fs::read_dir(self.dir.path().join(".claude")).unwrap();
            let mut names: Vec<_> = list
                .map(|f| f.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn in_and_out_gives_the_very_bytes_back() {
        for text in [
            "{\"hooks\": { \"PreToolUse\" : [ ] } }",
            "",
            "{}",
            "{\n\t\"a\": 1e2\n}",
            "{\"hooks\":{}}\r\n",
        ] {
            let home = Home::with(text);
            fs::set_permissions(&home.place.settings, fs::Permissions::from_mode(0o640)).unwrap();
            let said = home.run(false, Some("y\n")).unwrap();
            assert!(said.contains("+++ ") && said.contains("[y/N]"), "{said}");
            assert_eq!(edit::programs(&home.text()).unwrap(), ["/opt/bin/cx"; 3]);
            assert_eq!(mode_of(&home.place.settings), 0o640);
            assert_eq!(home.files(), ["settings.json", "settings.json.cx-backup"]);

            let added = home.text();
            assert!(
                home.run(false, None)
                    .unwrap()
                    .contains("already; nothing changed")
            );
            assert_eq!(home.text(), added);

            home.run(true, None).unwrap();
            assert_eq!(home.text(), text);
            assert_eq!(home.files(), ["settings.json"]);
            assert!(
                home.run(true, None)
                    .unwrap()
                    .contains("cx is not in it; nothing changed")
            );
        }
    }

    #[test]
    fn a_file_that_was_not_there_goes_again() {
        let home = Home::new();
        home.run(false, None).unwrap();
        assert_eq!(mode_of(&home.place.settings), 0o600);
        home.run(true, None).unwrap();
        assert_eq!(home.files(), [""; 0]);
    }

    #[test]
    fn an_older_path_is_updated_and_still_removed_without_a_trace() {
        let mut home = Home::with("{\"hooks\": {}}");
        home.place.program = "/old/cx".into();
        home.run(false, None).unwrap();
        home.place.program = "/new/cx".into();
        home.run(false, None).unwrap();
        assert_eq!(edit::programs(&home.text()).unwrap(), ["/new/cx"; 3]);
        home.run(true, None).unwrap();
        assert_eq!(home.text(), "{\"hooks\": {}}");
    }

    #[test]
    fn what_changed_in_between_stays() {
        let home = Home::with("{\n  \"a\": 1\n}\n");
        home.run(false, None).unwrap();
        fs::write(
            &home.place.settings,
            home.text().replace("\"a\": 1", "\"a\": 2,\n  \"b\": 3"),
        )
        .unwrap();
        home.run(true, None).unwrap();
        assert_eq!(home.text(), "{\n  \"a\": 2,\n  \"b\": 3\n}\n");
    }

    #[test]
    fn a_link_stays_a_link() {
        let home = Home::with("{}");
        let real = home.dir.path().join("dotfiles.json");
        fs::rename(&home.place.settings, &real).unwrap();
        symlink("../dotfiles.json", &home.place.settings).unwrap();
        home.run(false, None).unwrap();
        assert!(home.place.settings.symlink_metadata().unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("/opt/bin/cx"));
        fs::remove_file(&real).unwrap();
        assert!(home.run(false, None).unwrap_err().contains("symbolic link"));
    }

    #[test]
    fn refusals_change_nothing() {
        let broken = "{\n  \"a\": 1,\n}";
        let home = Home::with(broken);
        let said = home.run(false, None).unwrap_err();
        assert!(said.contains("line 3, column 1"), "{said}");
        assert_eq!(home.text(), broken);

        let mut home = Home::with("{}");
        for answer in ["n\n", "\n", "", "yep\n"] {
            assert!(home.run(false, Some(answer)).unwrap_err().contains("not changed"));
        }
        home.place.terminal = false;
        assert!(home.run(false, Some("y\n")).unwrap_err().contains("--yes"));
        home.place.under_agent = true;
        assert!(home.run(false, None).unwrap_err().contains("inside an agent"));
        assert_eq!(home.text(), "{}");
        assert_eq!(home.files(), ["settings.json"]);
    }
}
