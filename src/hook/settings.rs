//! Collects the user's permission rules from every scope that a hook can read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::ClientArgs;
use super::permissions::Rules;

/// The largest settings file that is read, bytes.
const MAX_FILE: u64 = 4 << 20;

/// Directories that are searched upward at most, where the client does not say which one the project is.
const MAX_LEVELS: usize = 40;

/// Where settings may lie.
#[derive(Debug, Clone, Default)]
pub struct Scopes {
    /// The client's own directory, `~/.claude`.
    pub user: Option<PathBuf>,
    /// `CLAUDE_PROJECT_DIR`.
    pub project: Option<PathBuf>,
    /// The directory in which the command would run.
    pub cwd: PathBuf,
    /// The administrator's directory.
    pub managed: PathBuf,
    /// The client's arguments; `None` if they could not be read.
    pub client: Option<ClientArgs>,
}

/// Where the administrator's settings lie on this system.
pub fn managed_dir() -> PathBuf {
    let dir = if cfg!(target_os = "macos") {
        "/Library/Application Support/ClaudeCode"
    } else {
        "/etc/claude-code"
    };
    PathBuf::from(dir)
}

/// Reads all rules. Never fails: what cannot be read is noted in [`Rules::unreadable`].
pub fn collect(scopes: &Scopes) -> Rules {
    let mut rules = Rules::default();
    if let Some(user) = &scopes.user {
        file(&mut rules, &user.join("settings.json"));
        // The client's copy of settings that the organisation's server hands out.
        file(&mut rules, &user.join("remote-settings.json"));
    }
    for project in projects(scopes) {
        file(&mut rules, &project.join(".claude/settings.json"));
        file(&mut rules, &project.join(".claude/settings.local.json"));
    }
    managed(&mut rules, &scopes.managed);
    match &scopes.client {
        Some(client) => client_rules(&mut rules, client),
        None => unreadable(&mut rules, "the client's arguments"),
    }
    rules
}

fn projects(scopes: &Scopes) -> Vec<PathBuf> {
    let Some(project) = &scopes.project else {
        return scopes
            .cwd
            .ancestors()
            .take(MAX_LEVELS)
            .map(Path::to_owned)
            .collect();
    };
    let mut list = vec![project.clone()];
    list.extend(main_checkout(project));
    list
}

/// For a git worktree the checkout that it belongs to, whose local settings the client reads as well.
fn main_checkout(project: &Path) -> Option<PathBuf> {
    let text = read(&project.join(".git")).ok()??;
    let git = Path::new(text.strip_prefix("gitdir:")?.trim())
        .ancestors()
        .nth(2)?;
    (git.file_name()? == ".git").then(|| git.parent().map(Path::to_owned))?
}

fn managed(rules: &mut Rules, dir: &Path) {
    file(rules, &dir.join("managed-settings.json"));
    match dir.join("managed-settings.d").read_dir() {
        Ok(list) => {
            for entry in list.flatten() {
                if entry.path().extension().is_some_and(|e| e == "json") {
                    file(rules, &entry.path());
                }
            }
        }
        Err(e) if is_missing(&e) => {}
        Err(_) => unreadable(rules, "the managed settings"),
    }
    // Settings that a device manager sets are a binary plist: there, anything may be forbidden.
    if cfg!(target_os = "macos")
        && Path::new("/Library/Managed Preferences/com.anthropic.claudecode.plist").exists()
    {
        unreadable(rules, "the managed preferences");
    }
}

fn client_rules(rules: &mut Rules, client: &ClientArgs) {
    rules.deny.extend(client.disallowed.iter().cloned());
    rules.allow.extend(client.allowed.iter().cloned());
    rules.directories.extend(client.directories.iter().cloned());
    for value in &client.settings {
        if value.trim_start().starts_with('{') {
            take(rules, value, "--settings");
            continue;
        }
        let mut path = PathBuf::from(value);
        if path.is_relative() {
            // Relative to where the client was started, as far as that is known.
            let pid = client
                .pid
                .map_or(OsString::from("self"), |p| OsString::from(p.to_string()));
            path = Path::new("/proc").join(pid).join("cwd").join(path);
        }
        match read(&path) {
            Ok(Some(text)) => take(rules, &text, "the file of --settings"),
            _ => unreadable(rules, "the file of --settings"),
        }
    }
}

fn file(rules: &mut Rules, path: &Path) {
    match read(path) {
        Ok(Some(text)) => take(rules, &text, &path.to_string_lossy()),
        Ok(None) => {}
        Err(_) => unreadable(rules, &path.to_string_lossy()),
    }
}

/// The text of a file, `None` if there is none.
fn read(path: &Path) -> io::Result<Option<String>> {
    let opened = match File::open(path) {
        Err(e) if is_missing(&e) => return Ok(None),
        other => other?,
    };
    let mut text = String::with_capacity(8 << 10);
    let length = opened.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_FILE {
        return Err(io::Error::other("too large"));
    }
    Ok(Some(text))
}

fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unreadable(rules: &mut Rules, what: &str) {
    rules
        .unreadable
        .get_or_insert_with(|| format!("{what} cannot be read"));
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    permissions: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Permissions {
    additional_directories: Option<Vec<String>>,
    deny: Option<Vec<String>>,
    ask: Option<Vec<String>>,
    allow: Option<Vec<String>>,
}

/// Adds the rules of one settings document.
fn take(rules: &mut Rules, text: &str, what: &str) {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return;
    }
    // serde would take an array for a struct as well; the client would not.
    let object = |text: &str| text.starts_with('{');
    let document = serde_json::from_str::<Document<'_>>(text)
        .ok()
        .filter(|_| object(text));
    let parsed = document.and_then(|d| match d.permissions {
        None => Some(Permissions::default()),
        Some(p) => serde_json::from_str(p.get()).ok().filter(|_| object(p.get())),
    });
    match parsed {
        Some(p) => {
            rules.deny.extend(p.deny.into_iter().flatten());
            rules.ask.extend(p.ask.into_iter().flatten());
            rules.allow.extend(p.allow.into_iter().flatten());
            rules
                .directories
                .extend(p.additional_directories.into_iter().flatten());
        }
        None => unreadable(rules, what),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Tree {
        dir: tempfile::TempDir,
        scopes: Scopes,
    }

    impl Tree {
        fn new() -> Tree {
            let dir = tempfile::tempdir().unwrap();
            let at = |p: &str| dir.path().join(p);
            let scopes = Scopes {
                user: Some(at("home/.claude")),
                project: Some(at("project")),
                cwd: at("project/deep/er"),
                managed: at("etc"),
                client: Some(ClientArgs::default()),
            };
            Tree { dir, scopes }
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn deny(rule: &str) -> String {
        format!("{{\"x\":1e999,\"permissions\":{{\"deny\":[\"{rule}\"],\"new\":{{}}}}}}")
    }

    #[test]
    fn every_scope_is_read() {
        let mut tree = Tree::new();
        assert_eq!(collect(&tree.scopes), Rules::default());
        tree.put("home/.claude/settings.json", &deny("user"));
        tree.put("home/.claude/remote-settings.json", &deny("remote"));
        tree.put(
            "project/.claude/settings.json",
            r#"{"permissions":{"ask":["project"],"allow":["Bash"]}}"#,
        );
        tree.put("project/.claude/settings.local.json", &deny("local"));
        tree.put(
            "project/.git",
            &format!("gitdir: {}/main/.git/worktrees/w\n", tree.dir.path().display()),
        );
        tree.put("main/.claude/settings.local.json", &deny("main"));
        tree.put("etc/managed-settings.json", &deny("managed"));
        tree.put("etc/managed-settings.d/10.json", &deny("drop-in"));
        tree.put("etc/managed-settings.d/README", "text");
        tree.put("flag.json", &deny("flag"));
        tree.scopes.client = Some(ClientArgs {
            settings: vec![
                tree.dir.path().join("flag.json").display().to_string(),
                deny("inline"),
            ],
            disallowed: vec!["argument".into()],
            allowed: vec!["Edit".into()],
            ..ClientArgs::default()
        });
        let rules = collect(&tree.scopes);
        assert_eq!(rules.unreadable, None);
        let want = [
            "user", "remote", "local", "main", "managed", "drop-in", "argument", "flag", "inline",
        ];
        assert_eq!(rules.deny, want);
        assert_eq!(rules.ask, ["project"]);
        assert_eq!(rules.allow, ["Bash", "Edit"]);
    }

    #[test]
    fn without_a_project_all_directories_above_are_read() {
        let mut tree = Tree::new();
        tree.scopes.project = None;
        tree.put("project/.claude/settings.json", &deny("above"));
        tree.put("project/deep/er/.claude/settings.local.json", &deny("here"));
        assert_eq!(collect(&tree.scopes).deny, ["here", "above"]);
    }

    #[test]
    fn what_cannot_be_read_counts() {
        for text in [
            "{",
            "[]",
            "{\"permissions\":[]}",
            "{\"permissions\":{\"deny\":\"Bash\"}}",
            "{\"permissions\":{\"ask\":[1]}}",
        ] {
            let tree = Tree::new();
            tree.put("home/.claude/settings.json", text);
            assert!(collect(&tree.scopes).unreadable.is_some(), "{text}");
        }
        for text in [
            "",
            " \n",
            "{}",
            "\u{feff}{}",
            "{\"permissions\":null}",
            "{\"permissions\":{\"deny\":null}}",
        ] {
            let tree = Tree::new();
            tree.put("home/.claude/settings.json", text);
            assert_eq!(collect(&tree.scopes), Rules::default(), "{text}");
        }
        let mut tree = Tree::new();
        fs::create_dir_all(tree.dir.path().join("project/.claude/settings.json")).unwrap();
        assert!(collect(&tree.scopes).unreadable.is_some(), "a directory");
        tree = Tree::new();
        tree.scopes.client = None;
        assert!(collect(&tree.scopes).unreadable.is_some(), "arguments");
        tree.scopes.client = Some(ClientArgs {
            settings: vec!["missing.json".into()],
            ..ClientArgs::default()
        });
        assert!(
            collect(&tree.scopes).unreadable.is_some(),
            "a missing file of --settings"
        );
        tree = Tree::new();
        tree.put("etc/managed-settings.json", "{}");
        let file = tree.dir.path().join("etc/managed-settings.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        // Root reads it anyway, and may.
        let readable = fs::read(&file).is_ok();
        assert_eq!(collect(&tree.scopes).unreadable.is_none(), readable);
    }
}
