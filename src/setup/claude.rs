//! `cx setup claude`: puts the hooks into the user's Claude Code settings and the MCP server where the client keeps servers,
//! and takes them out again.
//!
//! Two ways for the commands: the hook rewrites them (`--mode rewrite`), or each session gets shell functions (`--mode shims`),
//! of which the client sees nothing. The change is shown as a diff first, and made only when the person says yes. Each file as it
//! was lies beside it with `.cx-backup` at its name; `--remove` gives those very bytes back if nothing else changed.

use std::env;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::change::{self, Asker, Change, Edit, Wish};
use super::edit::{self, Entry, Form, Kit};
use crate::hook::program;
use crate::paths::Paths;
use crate::shims;

/// Seconds the client waits for the hook.
const TIMEOUT_S: u32 = 10;

/// The hook is asked about commands, by whichever tool: the MCP server's run some, too.
const TOOLS: &str = "Bash|mcp__(plugin_cx_)?cx__.*";

const AFTER: [Entry; 2] = [
    on("PostToolUse", "Bash", &["hook"]),
    on("PostToolUseFailure", "Bash", &["hook"]),
];

/// The hooks of `--mode rewrite`.
const REWRITE: Kit = Kit {
    entries: &[on("PreToolUse", TOOLS, &["hook"]), AFTER[0], AFTER[1]],
    form: Form::Exec,
    timeout: TIMEOUT_S,
};

/// The hooks of `--mode shims`: one gives each session the functions, one keeps an eye on a `cx` that the model types itself.
const SHIMS: Kit = Kit {
    entries: &[
        Entry {
            event: "SessionStart",
            matcher: None,
            args: &["hook", "--shims"],
        },
        on("PreToolUse", TOOLS, &["hook", "--shims"]),
        AFTER[0],
        AFTER[1],
    ],
    ..REWRITE
};

const fn on(event: &'static str, matcher: &'static str, args: &'static [&'static str]) -> Entry {
    Entry {
        event,
        matcher: Some(matcher),
        args,
    }
}

/// How the commands come to cx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A hook puts `cx` in front of what is heavy.
    #[default]
    Rewrite,
    /// Each session gets shell functions; the command's text stays as it is.
    Shims,
}

impl Mode {
    fn kit(self) -> &'static Kit {
        match self {
            Mode::Rewrite => &REWRITE,
            Mode::Shims => &SHIMS,
        }
    }
}

/// What `cx setup claude` was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetupArgs {
    /// `--remove` and `--yes`.
    pub wish: Wish,
    /// `--mode`.
    pub mode: Mode,
    /// `--no-mcp`: leave the client's servers alone.
    pub no_mcp: bool,
}

/// The outside world, so that tests can have their own.
#[derive(Clone, Debug)]
pub struct Place {
    /// The settings file; may be missing, may be a symbolic link.
    pub settings: PathBuf,
    /// The file in which the client keeps the user's servers.
    pub servers: PathBuf,
    /// The absolute path of this program, as the hook entry shall name it.
    pub program: PathBuf,
    /// The client, if it is on PATH.
    pub client: Option<PathBuf>,
    /// Who could answer.
    pub asker: Asker,
}

impl Place {
    /// Of this process: `CLAUDE_CONFIG_DIR` or `~/.claude`.
    ///
    /// # Errors
    /// If there is no home directory, or the program cannot tell where it lies.
    pub fn of_process() -> anyhow::Result<Place> {
        let named = env::var_os("CLAUDE_CONFIG_DIR").filter(|d| !d.is_empty());
        let (dir, servers) = match named {
            Some(dir) => (PathBuf::from(&dir), PathBuf::from(dir)),
            None => {
                let home = env::var_os("HOME").filter(|h| !h.is_empty());
                let home = PathBuf::from(
                    home.context("HOME is not set; set CLAUDE_CONFIG_DIR to the client's directory")?,
                );
                (home.join(".claude"), home)
            }
        };
        Ok(Place {
            settings: std::path::absolute(dir)?.join("settings.json"),
            servers: std::path::absolute(servers)?.join(".claude.json"),
            program: program::lasting_path().context("cannot find out where this program lies")?,
            client: on_path("claude"),
            asker: Asker::of_process(),
        })
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .filter(|d| d.is_absolute())
        .map(|d| d.join(name))
        .find(|f| f.is_file())
}

/// Runs `cx setup claude`.
///
/// # Errors
/// If an agent asks, the file cannot be read, parsed or written, nobody can be asked, or the person says no. The
/// settings are then as they were.
pub fn run(args: SetupArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let place = Place::of_process()?;
    if args.mode == Mode::Shims && !args.wish.remove {
        shims::check_for_claude(&Paths::from_env()?)?;
    }
    run_in(args, &place, &mut io::stdin().lock(), out)
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
    place.asker.refuse_agents("cx setup claude")?;
    let wish = args.wish;
    let program = place
        .program
        .to_str()
        .context("the path of this program is not UTF-8")?;
    let hooks = Hooks {
        program,
        kit: args.mode.kit(),
    };
    let settings = Change::plan(&place.settings, &hooks, wish.remove)?;
    let plugin = !wish.remove && plugin_is_on(&place.settings);
    if plugin {
        writeln!(
            out,
            "The plugin of cx is on in Claude Code: it brings the MCP server, which is not registered a second time, and its hook \
             stands back behind the settings'."
        )?;
    }
    let servers = if args.no_mcp || plugin {
        None
    } else {
        Some(Change::plan(&place.servers, &Server { program }, wish.remove)?)
    };
    for (file, change) in [
        (&place.settings, Some(&settings)),
        (&place.servers, servers.as_ref()),
    ] {
        match change.map(|c| (c, c.nothing())) {
            Some((_, Some(why))) => writeln!(out, "{}: {why}; nothing changed", file.display())?,
            Some((change, None)) => write!(out, "{}", change.diff())?,
            None => {}
        }
    }
    let servers = servers.filter(|s| s.nothing().is_none());
    if settings.nothing().is_some() && servers.is_none() {
        return Ok(());
    }
    change::confirm(wish, place.asker, answers, out)?;
    settings.make(
        if wish.remove {
            "cx is out of it; sessions started from now on do without"
        } else {
            "changed; sessions started from now on send heavy commands through cx"
        },
        out,
    )?;
    if let Some(servers) = servers {
        servers.still_true()?;
        if place
            .client
            .as_ref()
            .is_some_and(|c| by_client(c, &place.servers, program, wish.remove))
        {
            writeln!(out, "{}: changed, by `claude mcp`", place.servers.display())?;
        } else {
            servers.make(
                if wish.remove {
                    "the MCP server is out of it"
                } else {
                    "the MCP server is in it"
                },
                out,
            )?;
        }
    }
    Ok(())
}

/// Has the client itself add or remove the server: it writes that file all the time. Whether the file then says so.
fn by_client(client: &Path, servers: &Path, program: &str, remove: bool) -> bool {
    let value =
        serde_json::json!({"type": "stdio", "command": program, "args": ["mcp"], "env": {}}).to_string();
    let there = |want: Option<&str>| {
        change::read(servers)
            .ok()
            .flatten()
            .and_then(|t| edit::server(&t).ok().flatten())
            .as_deref()
            == want
    };
    let call = |args: &[&str]| {
        let mut command = Command::new(client);
        command
            .arg("mcp")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _ = command.status();
    };
    if !there(None) {
        call(&["remove", "--scope", "user", "cx"]);
    }
    if remove {
        return there(None);
    }
    call(&["add-json", "--scope", "user", "cx", &value]);
    there(Some(program))
}

/// Whether the settings say that the plugin is on.
pub fn plugin_is_on(settings: &Path) -> bool {
    let text = change::read(settings).ok().flatten().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let on = |(name, on): (&String, &serde_json::Value)| name.split('@').next() == Some("cx") && on == true;
    value["enabledPlugins"]
        .as_object()
        .is_some_and(|p| p.iter().any(on))
}

/// The hooks in `settings.json`.
struct Hooks<'a> {
    program: &'a str,
    kit: &'static Kit,
}

impl Edit for Hooks<'_> {
    fn add(&self, text: &str) -> anyhow::Result<String> {
        Ok(edit::add(text, self.program, self.kit)?)
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
        [&REWRITE, &SHIMS]
            .iter()
            .filter_map(|kit| edit::add(base, program, kit).ok())
            .collect()
    }
}

/// The server in `.claude.json`.
struct Server<'a> {
    program: &'a str,
}

impl Edit for Server<'_> {
    fn add(&self, text: &str) -> anyhow::Result<String> {
        edit::add_server(text, self.program)?
            .context("it has an MCP server called `cx` that is not this one (leave it with --no-mcp)")
    }

    fn remove(&self, text: &str) -> anyhow::Result<String> {
        Ok(edit::remove_server(text)?)
    }

    fn has(&self, text: &str) -> anyhow::Result<bool> {
        Ok(edit::server(text)?.is_some())
    }

    fn made(&self, base: &str, text: &str) -> Vec<String> {
        let program = edit::server(text).ok().flatten().unwrap_or_default();
        edit::add_server(base, &program)
            .ok()
            .flatten()
            .into_iter()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode_of(home: &Home) -> u32 {
        fs::metadata(&home.place.settings).unwrap().permissions().mode() & 0o7777
    }

    struct Home {
        dir: tempfile::TempDir,
        place: Place,
    }

    impl Home {
        fn new() -> Home {
            let dir = tempfile::tempdir().unwrap();
            let place = Place {
                settings: dir.path().join(".claude/settings.json"),
                servers: dir.path().join(".claude.json"),
                program: "/opt/bin/cx".into(),
                client: None,
                asker: Asker {
                    under_agent: false,
                    terminal: true,
                },
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
            self.run_mode(Mode::Rewrite, remove, answer)
        }

        fn run_mode(&self, mode: Mode, remove: bool, answer: Option<&str>) -> Result<String, String> {
            let mut out = Vec::new();
            let args = SetupArgs {
                wish: Wish {
                    remove,
                    yes: answer.is_none(),
                },
                mode,
                no_mcp: false,
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
            assert_eq!(mode_of(&home), 0o640);
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
    fn a_file_of_the_name_of_the_backup_is_not_lost() {
        for text in ["{}", ""] {
            let home = Home::with(text);
            let backup = home.dir.path().join(".claude/settings.json.cx-backup");
            for n in 1..3 {
                fs::write(&backup, format!("mine {n}")).unwrap();
                home.run(false, None).unwrap();
                home.run(true, None).unwrap();
                assert_eq!(home.text(), text);
                let aside = format!("{}.{n}", backup.display());
                assert_eq!(fs::read_to_string(aside).unwrap(), format!("mine {n}"));
                assert!(!backup.exists());
            }
        }
    }

    #[test]
    fn settings_that_are_no_file_are_an_error_and_not_waited_for() {
        let home = Home::new();
        let file = &home.place.settings;
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let said = format!("{:#}", home.run(false, None).unwrap_err());
        assert!(said.contains("is not a regular file"), "{said}");
    }

    #[test]
    fn a_file_that_was_not_there_goes_again() {
        let home = Home::new();
        home.run(false, None).unwrap();
        assert_eq!(mode_of(&home), 0o600);
        home.run(true, None).unwrap();
        assert_eq!(home.files(), [""; 0]);
        assert!(!home.place.servers.exists());
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
    fn switching_modes_is_one_command_and_leaves_no_trace() {
        for text in ["{\"hooks\": { \"PreToolUse\" : [ ] } }", "{\n  \"a\": 1\n}\n"] {
            let home = Home::with(text);
            for mode in [Mode::Rewrite, Mode::Shims, Mode::Rewrite, Mode::Shims] {
                home.run_mode(mode, false, None).unwrap();
                assert_eq!(
                    home.text(),
                    edit::add(text, "/opt/bin/cx", mode.kit()).unwrap(),
                    "{mode:?}"
                );
                assert!(
                    home.run_mode(mode, false, None)
                        .unwrap()
                        .contains("already; nothing changed")
                );
            }
            assert!(home.text().contains("SessionStart") && home.text().contains("\"--shims\""));
            home.run(true, None).unwrap();
            assert_eq!(home.text(), text);
        }
    }

    #[test]
    fn a_hook_made_by_hand_is_taken_over() {
        let hand = r#"{"hooks":{"PreToolUse":[{"matcher":"Bash","hooks":[{"type":"command","command":"$HOME/.local/bin/cx hook"}]}]}}"#;
        let home = Home::with(hand);
        home.run(false, None).unwrap();
        assert_eq!(edit::programs(&home.text()).unwrap(), ["/opt/bin/cx"; 3]);
        home.run(true, None).unwrap();
        assert!(!home.text().contains("cx"), "{}", home.text());
    }

    #[test]
    fn the_server_goes_where_the_client_keeps_them() {
        let home = Home::with("{}");
        let servers = |home: &Home| fs::read_to_string(&home.place.servers).unwrap();
        let kept = "{\n  \"numStartups\": 7,\n  \"mcpServers\": {\n    \"x\": {}\n  }\n}\n";
        fs::write(&home.place.servers, kept).unwrap();
        let said = home.run(false, Some("y\n")).unwrap();
        assert!(
            said.contains("\"mcp\"") && said.matches("[y/N]").count() == 1,
            "{said}"
        );
        assert_eq!(
            edit::server(&servers(&home)).unwrap().as_deref(),
            Some("/opt/bin/cx")
        );
        fs::write(&home.place.servers, servers(&home).replace("7", "8")).unwrap();
        home.run(true, None).unwrap();
        assert_eq!(servers(&home), kept.replace("7", "8"));

        // Somebody else's of that name stays, and nothing is done by halves.
        let foreign = "{\"mcpServers\": {\"cx\": {\"command\": \"npx\"}}}";
        fs::write(&home.place.servers, foreign).unwrap();
        assert!(home.run(false, None).unwrap_err().contains("--no-mcp"));
        assert_eq!((home.text().as_str(), servers(&home).as_str()), ("{}", foreign));
    }

    #[test]
    fn a_plugin_that_is_on_is_told() {
        let home = Home::with("{\"enabledPlugins\": {\"cx@cx\": true}}");
        assert!(home.run(false, None).unwrap().contains("The plugin of cx is on"));
        assert!(!home.place.servers.exists(), "its server would be there twice");
        let off = Home::with("{\"enabledPlugins\": {\"cx@cx\": false, \"other@cx\": true}}");
        assert!(!off.run(false, None).unwrap().contains("The plugin of cx is on"));
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
        home.place.asker.terminal = false;
        assert!(home.run(false, Some("y\n")).unwrap_err().contains("--yes"));
        home.place.asker.under_agent = true;
        assert!(home.run(false, None).unwrap_err().contains("inside an agent"));
        assert_eq!(home.text(), "{}");
        assert_eq!(home.files(), ["settings.json"]);
    }
}
