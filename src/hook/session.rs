//! The second way into a session of Claude Code's: shell functions instead of a rewritten text. When a session starts, the hook
//! writes a few lines to the file that the client puts in front of every command. And the question whether another
//! set-up of cx's, next to the plugin's, is at work already.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::paths::Paths;
use crate::setup::edit;
use crate::shims;

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 4 << 20;

/// Gives a session the functions for the tools on `path`. Whatever fails, the session does without.
pub fn start(paths: &Paths, path: &OsStr, file: &Path) -> Option<()> {
    let text = shims::for_claude(paths, path).ok()?;
    let there = read(file).unwrap_or_default();
    if there.contains(text.trim_end()) {
        return None;
    }
    let gap = if there.is_empty() || there.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let mut file = OpenOptions::new().append(true).create(true).open(file).ok()?;
    // One write: a command that reads the file sees all of it or nothing.
    file.write_all(format!("{gap}{text}").as_bytes()).ok()
}

/// Whether the settings of the user or the project call the hook themselves, so that the plugin's stands back.
pub fn settings_have_hook(client_dir: Option<&Path>, project: Option<&Path>) -> bool {
    let user = client_dir.map(|d| d.join("settings.json"));
    let project = |name: &str| project.map(|p| p.join(".claude").join(name));
    let files: [Option<PathBuf>; 3] = [user, project("settings.json"), project("settings.local.json")];
    files
        .iter()
        .flatten()
        .filter_map(|f| read(f))
        // Most have nothing of the kind, and are not parsed for it.
        .any(|text| {
            text.contains("hook") && text.contains("cx") && edit::programs(&text).is_ok_and(|p| !p.is_empty())
        })
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::metadata(path).ok().filter(|m| m.is_file())?;
    File::open(path)
        .ok()?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gets_the_functions_once() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::under(home.path());
        let file = home.path().join("env.sh");
        for before in ["", "export A=1", "export A=1\n"] {
            fs::write(&file, before).unwrap();
            start(&paths, "".as_ref(), &file).unwrap();
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                text.starts_with(before) && text.contains("\n# cx") != before.is_empty(),
                "{text}"
            );
            assert_eq!(start(&paths, "".as_ref(), &file), None);
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(
            start(&paths, "".as_ref(), &home.path().join("no/such/file")),
            None
        );
    }

    #[test]
    fn the_hook_is_found_wherever_it_is_set_up() {
        let home = tempfile::tempdir().unwrap();
        let at = |p: &str| home.path().join(p);
        fs::create_dir_all(at("project/.claude")).unwrap();
        let have = || settings_have_hook(Some(home.path()), Some(&at("project")));
        let hook = r#"{"hooks":{"PreToolUse":[{"hooks":[{"type":"command","command":"/a/cx hook"}]}]}}"#;
        assert!(!have());
        for name in [
            "settings.json",
            "project/.claude/settings.json",
            "project/.claude/settings.local.json",
        ] {
            fs::write(at(name), hook.replace("cx hook", "cx nohook")).unwrap();
            assert!(!have(), "{name}");
            fs::write(at(name), hook).unwrap();
            assert!(have(), "{name}");
            fs::write(at(name), "{ broken: hook cx").unwrap();
            assert!(!have(), "{name}");
        }
    }
}
