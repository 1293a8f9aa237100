//! A change to another program's settings file: planned as text, shown as a diff, made in one step, with the file as it was
//! beside it, and taken back to the byte where nothing else changed.

use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::diff;
use crate::cli;
use crate::paths::write_atomic;

/// The largest settings file that is edited, bytes.
const MAX_FILE: u64 = 16 << 20;

/// What a set-up was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `--remove`: take cx's entries away instead.
    pub remove: bool,
    /// `--yes`: do not ask.
    pub yes: bool,
}

/// Who could answer a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// An agent started this process.
    pub under_agent: bool,
    /// A person can answer.
    pub terminal: bool,
}

impl Asker {
    /// Of this process.
    pub fn of_process() -> Asker {
        let others = ["AI_AGENT", "OPENCODE"];
        Asker {
            under_agent: cli::under_an_agent()
                || others
                    .iter()
                    .any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty())),
            terminal: io::stdin().is_terminal(),
        }
    }

    /// # Errors
    /// If an agent asks for what changes every later session.
    pub fn refuse_agents(self, what: &str) -> anyhow::Result<()> {
        ensure!(
            !self.under_agent,
            "{what} changes what every later session runs, so it is not done from inside an agent; \
             run it in a terminal of your own"
        );
        Ok(())
    }
}

/// How a kind of file takes cx in and lets it go.
pub trait Edit {
    /// The text with cx in it; the same text if it is.
    ///
    /// # Errors
    /// If the text is not what its owner reads.
    fn add(&self, text: &str) -> anyhow::Result<String>;
    /// The text without cx.
    ///
    /// # Errors
    /// As for [`Edit::add`].
    fn remove(&self, text: &str) -> anyhow::Result<String>;
    /// Whether anything of cx is in it.
    ///
    /// # Errors
    /// As for [`Edit::add`].
    fn has(&self, text: &str) -> anyhow::Result<bool>;
    /// What some cx would have made of `base`, where `text` is what stands there now.
    fn made(&self, base: &str, text: &str) -> Vec<String>;
}

/// A planned change.
#[derive(Debug)]
pub struct Change {
    /// The file as the person knows it; may be a symbolic link.
    file: PathBuf,
    /// Where that leads: a link, into a directory of dotfiles say, stays one.
    target: PathBuf,
    before: Option<String>,
    after: After,
    backup: Backup,
}

#[derive(Debug, PartialEq)]
enum After {
    Nothing(&'static str),
    Text(String),
    /// It was made by cx and holds nothing else.
    Gone,
}

#[derive(Debug, PartialEq)]
enum Backup {
    Make,
    Keep,
    Drop,
}

impl Change {
    /// Plans it.
    ///
    /// # Errors
    /// If the file cannot be read, or is not what its owner reads.
    pub fn plan(file: &Path, edit: &dyn Edit, remove: bool) -> anyhow::Result<Change> {
        let shown = file.display();
        let target = match fs::canonicalize(file) {
            Ok(path) => path,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                ensure!(
                    file.symlink_metadata().is_err(),
                    "{shown} is a symbolic link to a file that is not there; mend or remove the link first"
                );
                file.to_owned()
            }
            Err(e) => return Err(e).with_context(|| format!("cannot find {shown}")),
        };
        let before = read(&target)?;
        let (after, backup) = judge(file, edit, remove, before.as_deref())
            .with_context(|| format!("{shown} stays as it is; mend it by hand, then run this again"))?;
        Ok(Change {
            file: file.to_owned(),
            target,
            before,
            after,
            backup,
        })
    }

    /// Why there is nothing to do, if so.
    pub fn nothing(&self) -> Option<&'static str> {
        match &self.after {
            After::Nothing(why) => Some(why),
            _ => None,
        }
    }

    /// The change as a diff.
    pub fn diff(&self) -> String {
        let new = match &self.after {
            After::Nothing(_) => return String::new(),
            After::Text(text) => text,
            After::Gone => "",
        };
        diff::unified(
            self.before.as_deref().unwrap_or_default(),
            new,
            &self.file.display().to_string(),
        )
    }

    /// Makes it, by `other` if that works, and says so.
    ///
    /// # Errors
    /// If the file changed since it was planned, or cannot be written; it is then as it was.
    pub fn make(&self, done: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let shown = self.file.display();
        self.still_true()?;
        let backup = backup_path(&self.file);
        match &self.after {
            After::Nothing(_) => return Ok(()),
            After::Text(text) => {
                match (&self.backup, &self.before) {
                    (Backup::Make, Some(old)) => {
                        set_aside(&backup, old)?;
                        write_atomic(&backup, old.as_bytes(), mode_of(&self.target))
                            .context("cannot write the backup")?;
                    }
                    // A backup of an older file says nothing of one that was not there.
                    (Backup::Make, None) => set_aside(&backup, "")?,
                    _ => {}
                }
                if let Some(dir) = self.target.parent() {
                    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
                }
                write_atomic(&self.target, text.as_bytes(), mode_of(&self.target))
                    .with_context(|| format!("cannot write {shown}"))?;
                if self.backup == Backup::Drop {
                    remove_if_there(&backup)?;
                }
            }
            After::Gone => fs::remove_file(&self.target).with_context(|| format!("cannot remove {shown}"))?,
        }
        match (&self.backup, &self.before) {
            (Backup::Make, Some(_)) => writeln!(out, "{shown}: {done} (as it was: {})", backup.display())?,
            _ => writeln!(out, "{shown}: {done}")?,
        }
        Ok(())
    }

    /// # Errors
    /// If the file changed since it was planned: the person may have taken a while, and its owner writes it too.
    pub fn still_true(&self) -> anyhow::Result<()> {
        ensure!(
            read(&self.target)? == self.before,
            "{} was changed by another program meanwhile; run this again",
            self.file.display()
        );
        Ok(())
    }
}

fn judge(
    file: &Path,
    edit: &dyn Edit,
    remove: bool,
    before: Option<&str>,
) -> anyhow::Result<(After, Backup)> {
    let text = before.unwrap_or_default();
    let there = edit.has(text)?;
    if remove && !there {
        return Ok((After::Nothing("cx is not in it"), Backup::Keep));
    }
    // What an edit cannot tell, whether an empty list was there before, the backup can.
    let backup = fs::read_to_string(backup_path(file)).ok();
    let origin = backup.filter(|b| there && edit.made(b, text).iter().any(|t| t == text));
    if !remove {
        if edit.add(text)? == text {
            return Ok((After::Nothing("cx is in it already"), Backup::Keep));
        }
        let after = edit.add(origin.as_deref().unwrap_or(text))?;
        return Ok((
            After::Text(after),
            if there { Backup::Keep } else { Backup::Make },
        ));
    }
    Ok(match origin {
        Some(origin) => (After::Text(origin), Backup::Drop),
        None if edit.made("", text).iter().any(|t| t == text) && !backup_path(file).exists() => {
            (After::Gone, Backup::Keep)
        }
        None => (After::Text(edit.remove(text)?), Backup::Keep),
    })
}

/// Asks for the changes that were shown.
///
/// # Errors
/// If nobody can be asked, or the answer is no.
pub fn confirm(
    wish: Wish,
    asker: Asker,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if wish.yes {
        return Ok(());
    }
    ensure!(
        asker.terminal,
        "nobody to ask; give --yes to make this change from a script"
    );
    write!(out, "\nMake this change? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    answers.take(1 << 10).read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
        bail!("not changed: the answer was no");
    }
    Ok(())
}

fn backup_path(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".cx-backup");
    file.with_file_name(name)
}

/// The file's text, or `None` if there is no file.
pub fn read(path: &Path) -> anyhow::Result<Option<String>> {
    // Asked before it is opened: to open a FIFO is to wait for who writes it.
    let opened = fs::metadata(path).and_then(|meta| meta.is_file().then(|| File::open(path)).transpose());
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let file = file.with_context(|| format!("{} is not a regular file", path.display()))?;
    let meta = file.metadata()?;
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

/// Gives a file in the way of a backup of `text` another name: it may be an older backup, or nothing of cx's at all.
fn set_aside(backup: &Path, text: &str) -> anyhow::Result<()> {
    if backup.symlink_metadata().is_err() || read(backup).is_ok_and(|there| there.as_deref() == Some(text)) {
        return Ok(());
    }
    let numbered = |n: u32| {
        let mut name = backup.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    let free = (1..).map(numbered).find(|p| p.symlink_metadata().is_err());
    let free = free.context("no name is free")?;
    fs::rename(backup, &free).with_context(|| format!("cannot rename {}", backup.display()))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
