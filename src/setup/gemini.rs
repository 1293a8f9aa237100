//! `cx setup gemini`: puts the hook into the user's Gemini CLI settings, and takes it out again, with the same care as for
//! Claude Code.

use std::io::{self, BufRead, Write};
use std::path::Path;

use anyhow::Context;

use super::change::{self, Asker, Change, Edit, Wish};
use super::edit::{self, Entry, Form, Kit};
use crate::hook::program;

/// The client counts the hook's time in milliseconds, and starts it by a line of shell.
const KIT: Kit = Kit {
    entries: &[Entry {
        event: "BeforeTool",
        matcher: Some("run_shell_command"),
        args: &["hook", "--gemini"],
    }],
    form: Form::Shell,
    timeout: 10_000,
};

/// Runs `cx setup gemini`.
///
/// # Errors
/// If an agent asks, the file cannot be read, parsed or written, nobody can be asked, or the person says no. The settings are then as
/// they were.
pub fn run(wish: Wish, out: &mut dyn Write) -> anyhow::Result<()> {
    let home = std::env::var_os("HOME")
        .filter(|h| !h.is_empty())
        .context("HOME is not set")?;
    let program = program::lasting_path().context("cannot find out where this program lies")?;
    let program = program
        .to_str()
        .context("the path of this program is not UTF-8")?;
    let file = std::path::absolute(home)?.join(".gemini/settings.json");
    run_in(
        wish,
        &file,
        program,
        Asker::of_process(),
        &mut io::stdin().lock(),
        out,
    )
}

fn run_in(
    wish: Wish,
    file: &Path,
    program: &str,
    asker: Asker,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    asker.refuse_agents("cx setup gemini")?;
    let change = Change::plan(file, &Hooks { program }, wish.remove)?;
    if let Some(why) = change.nothing() {
        writeln!(out, "{}: {why}; nothing changed", file.display())?;
        return Ok(());
    }
    write!(out, "{}", change.diff())?;
    change::confirm(wish, asker, answers, out)?;
    change.make(
        if wish.remove {
            "cx is out of it"
        } else {
            "changed; sessions started from now on send heavy commands through cx"
        },
        out,
    )
}

struct Hooks<'a> {
    program: &'a str,
}

impl Edit for Hooks<'_> {
    fn add(&self, text: &str) -> anyhow::Result<String> {
        Ok(edit::add(text, self.program, &KIT)?)
    }

    fn remove(&self, text: &str) -> anyhow::Result<String> {
        Ok(edit::remove(text)?)
    }

    fn has(&self, text: &str) -> anyhow::Result<bool> {
        Ok(!edit::programs(text)?.is_empty())
    }

    fn made(&self, base: &str, text: &str) -> Vec<String> {
        let programs = edit::programs(text).unwrap_or_default();
        let program = programs.first().map_or("", String::as_str);
        edit::add(base, program, &KIT).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_and_out_gives_the_very_bytes_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".gemini/settings.json");
        std::fs::create_dir(dir.path().join(".gemini")).unwrap();
        let asker = Asker {
            under_agent: false,
            terminal: true,
        };
        for text in [
            "{\"hooks\": {\"BeforeTool\": []}}",
            "{\n  \"ui\": {\"theme\": \"x\"}\n}\n",
        ] {
            std::fs::write(&file, text).unwrap();
            for remove in [false, true] {
                let wish = Wish { remove, yes: false };
                let mut out = Vec::new();
                run_in(wish, &file, "/a b/cx", asker, &mut "y\n".as_bytes(), &mut out).unwrap();
                let now = std::fs::read_to_string(&file).unwrap();
                assert_eq!(now.contains("'/a b/cx' hook --gemini"), !remove, "{now}");
                assert_eq!(now == text, remove);
            }
        }
    }
}
