//! `cx hook --gemini`: the hook as Gemini CLI calls it before its shell tool.
//!
//! Gemini CLI judges the rewritten text by its own policies, as Claude Code does by its rules. Its policies are many files of an own
//! language; where any of them, or a setting, speaks of single shell commands, the text stays as it is, and a `cx` that the model
//! typed itself is refused: a question would hang a session that nobody watches, and the plain command works.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{permissions, rewritten, wire};

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 4 << 20;

/// The administrator's directory.
const SYSTEM: &str = if cfg!(target_os = "macos") {
    "/Library/Application Support/GeminiCli"
} else {
    "/etc/gemini-cli"
};

/// The answer to an event, if there is one. `home` is the user's home directory.
pub fn answer(bytes: &[u8], home: &Path) -> Option<String> {
    let event = wire::read(bytes)?;
    if event.name != "BeforeTool" || event.tool != "run_shell_command" {
        return None;
    }
    let input = event.input.as_ref()?;
    let cwd = Path::new(&event.cwd);
    if speaks_of_commands(&[&home.join(".gemini"), &cwd.join(".gemini"), Path::new(SYSTEM)]) {
        return permissions::names_cx(&input.command).then(|| {
            r#"{"decision":"deny","reason":"the user's policies for commands do not see what cx runs: give the command without cx"}"#.to_owned()
        });
    }
    let command = rewritten(&input.command, cwd, &[], &event.session, Path::new("/bin/bash"))?;
    Some(wire::before_tool(input, &command))
}

/// Whether settings or policies below one of these directories tell single shell commands apart. What cannot be read may.
fn speaks_of_commands(dirs: &[&Path]) -> bool {
    let settings = dirs.iter().map(|d| d.join("settings.json"));
    let policies = dirs.iter().flat_map(|d| policies(d));
    let words = [
        "run_shell_command(",
        "ShellTool(",
        "commandPrefix",
        "commandRegex",
        "argsPattern",
    ];
    settings
        .chain(policies)
        .filter(|file| file.exists())
        .any(|file| read(&file).is_none_or(|text| words.iter().any(|w| text.contains(w))))
}

fn policies(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir.join("policies"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect()
}

fn read(file: &Path) -> Option<String> {
    let mut text = String::new();
    // To open a FIFO is to wait for who writes it.
    fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    File::open(file)
        .ok()?
        .take(MAX_FILE)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_about_commands_keep_the_text_and_refuse_a_typed_cx() {
        let home = tempfile::tempdir().unwrap();
        let ask = |command: &str| {
            let event = json!({
                "hook_event_name": "BeforeTool", "tool_name": "run_shell_command", "session_id": "s", "cwd": home.path(),
                "tool_input": {"command": command},
            });
            answer(event.to_string().as_bytes(), home.path())
        };
        fs::create_dir_all(home.path().join(".gemini/policies")).unwrap();
        let cx = home.path().join("cx");
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &cx).unwrap();
        for (file, text) in [
            (
                "settings.json",
                r#"{"tools": {"exclude": ["run_shell_command(git push)"]}}"#,
            ),
            (
                "policies/own.toml",
                "[[rule]]\ntoolName = \"run_shell_command\"\ncommandPrefix = \"git\"\ndecision = \"deny\"\n",
            ),
        ] {
            let file = home.path().join(".gemini").join(file);
            // No policy, no refusal: what stays here anyway goes back without the cx.
            let plain = ask(&format!("{} git push", cx.display())).unwrap();
            assert!(plain.contains(r#"{"command":"git push"}"#), "{plain}");
            fs::write(&file, text).unwrap();
            assert!(ask("cx git push").unwrap().contains("\"deny\""));
            assert_eq!(ask("git push"), None);
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn other_events_get_no_answer() {
        for event in [
            json!({}),
            json!({"hook_event_name": "AfterTool", "tool_name": "run_shell_command", "tool_input": {"command": "cx ls"}}),
            json!({"hook_event_name": "BeforeTool", "tool_name": "write_file", "tool_input": {"command": "cx ls"}}),
            json!({"hook_event_name": "BeforeTool", "tool_name": "run_shell_command", "tool_input": {}}),
        ] {
            assert_eq!(
                answer(event.to_string().as_bytes(), Path::new("/nowhere")),
                None,
                "{event}"
            );
        }
    }
}
