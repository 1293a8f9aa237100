//! Collects the user's permission rules from every scope that a hook can read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::ClientArgs;
use super::permissions::Rules;

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 16 << 20;

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
    /// Other directories whose projects may restrict the command, and allow nothing.
    pub also: Vec<PathBuf>,
    /// The administrator's directory.
    pub managed: PathBuf,
    /// The client's `.claude.json`, which says of a project whether the user trusts it.
    pub trust: Option<PathBuf>,
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
    let mut found = Found::default();
    let reads = |source: &str| scopes.client.as_ref().is_none_or(|c| c.reads(source));
    if let Some(user) = &scopes.user {
        found.reads = reads("user");
        file(&mut found, &user.join("settings.json"));
    }
    for project in projects(scopes) {
        found.project = Some(scopes);
        found.reads = reads("project");
        file(&mut found, &project.join(".claude/settings.json"));
        found.reads = reads("local");
        found.local = true;
        file(&mut found, &project.join(".claude/settings.local.json"));
        found.local = false;
    }
    found.reads = false;
    for project in others(scopes) {
        file(&mut found, &project.join(".claude/settings.json"));
        file(&mut found, &project.join(".claude/settings.local.json"));
    }
    found.reads = true;
    found.project = None;
    match &scopes.client {
        Some(client) => client_rules(&mut found, client),
        None => unreadable(&mut found.rules, "the client's arguments"),
    }
    let mut rules = std::mem::take(&mut found.rules);
    managed(&mut found, scopes);
    let mut by_administrator = found.rules;
    if found.only_managed {
        rules.allow.clear();
        rules.perhaps.clear();
        rules.directories.clear();
    }
    rules.deny.append(&mut by_administrator.deny);
    rules.ask.append(&mut by_administrator.ask);
    rules.allow.append(&mut by_administrator.allow);
    rules.directories.append(&mut by_administrator.directories);
    rules.unreadable = rules.unreadable.or(by_administrator.unreadable);
    if found.sandboxed {
        rules.outside = found.outside;
    }
    rules
}

/// The rules of each file that has any, or that cannot be read, whether the client lets them count or not.
pub fn by_file(scopes: &Scopes) -> Vec<(PathBuf, Rules)> {
    let user = |name: &str| scopes.user.as_ref().map(|u| u.join(name));
    let mut paths: Vec<PathBuf> = [user("settings.json"), user("remote-settings.json")]
        .into_iter()
        .flatten()
        .collect();
    for project in projects(scopes) {
        paths.push(project.join(".claude/settings.json"));
        paths.push(project.join(".claude/settings.local.json"));
    }
    paths.push(scopes.managed.join("managed-settings.json"));
    let more = scopes.managed.join("managed-settings.d").read_dir();
    paths.extend(more.into_iter().flatten().flatten().map(|e| e.path()));
    let mut list: Vec<(PathBuf, Rules)> = Vec::new();
    for path in paths
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
    {
        let mut found = Found {
            reads: true,
            ..Found::default()
        };
        file(&mut found, &path);
        // The home's own file is also one of those above a project in it.
        if found.rules != Rules::default() && !list.iter().any(|(p, _)| *p == path) {
            list.push((path, found.rules));
        }
    }
    list
}

/// What was found so far.
#[derive(Default)]
struct Found<'a> {
    rules: Rules,
    /// The source at hand lies in the project: what it allows counts where the user has trusted the project.
    project: Option<&'a Scopes>,
    /// Whether that is so, once it was looked up.
    trusted: Option<bool>,
    /// The source at hand is the user's own file in the project.
    local: bool,
    /// Whether the client itself reads the source at hand. Where it does not, what widens is left out, and what restricts
    /// is kept: that costs an offload at most.
    reads: bool,
    /// The administrator lets no rules count but his own.
    only_managed: bool,
    /// The client runs commands in a sandbox.
    sandboxed: bool,
    /// What it runs outside of it all the same.
    outside: Vec<String>,
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

/// What may be a project of `also`, up to the one that the client names.
fn others(scopes: &Scopes) -> Vec<PathBuf> {
    let own = projects(scopes);
    let mut list: Vec<PathBuf> = Vec::new();
    for place in &scopes.also {
        let up = place.ancestors().take(MAX_LEVELS);
        let up = up.take_while(|d| scopes.project.as_deref() != Some(*d));
        let up = up.flat_map(|d| std::iter::once(d.to_owned()).chain(main_checkout(d)));
        for dir in up {
            if !own.contains(&dir) && !list.contains(&dir) {
                list.push(dir);
            }
        }
    }
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

impl Found<'_> {
    /// Whether what `permissions` allow counts, which in a project needs the user's trust: without a terminal the client asks
    /// for none, and then passes these rules over.
    fn widens(&mut self, permissions: &Permissions) -> bool {
        let Some(scopes) = self.project else { return true };
        let any = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
        if !any(&permissions.allow) && !any(&permissions.additional_directories) {
            return false;
        }
        *self.trusted.get_or_insert_with(|| trusted(scopes))
    }
}

/// Whether the user has trusted the project: a client on a terminal does not start without.
fn trusted(scopes: &Scopes) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Project {
        has_trust_dialog_accepted: Option<bool>,
    }
    #[derive(Deserialize)]
    struct Known<'a> {
        #[serde(borrow)]
        projects: HashMap<Cow<'a, str>, &'a RawValue>,
    }
    if scopes.client.as_ref().is_some_and(|c| c.on_terminal) {
        return true;
    }
    let Some(project) = scopes.project.as_deref() else {
        return false;
    };
    // The client notes it under the repository's own directory. Which one it is for a worktree is not sure: both, then.
    let top = project
        .ancestors()
        .take(MAX_LEVELS)
        .find(|d| d.join(".git").exists())
        .unwrap_or(project);
    let places: Vec<PathBuf> = std::iter::once(top.to_owned())
        .chain(main_checkout(top))
        .collect();
    let Some(Ok(Some(text))) = scopes.trust.as_deref().map(read) else {
        return false;
    };
    let Ok(known) = serde_json::from_str::<Known<'_>>(&text) else {
        return false;
    };
    places.iter().all(|place| {
        let noted = place.to_str().and_then(|p| known.projects.get(p));
        noted
            .and_then(|p| serde_json::from_str::<Project>(p.get()).ok())
            .is_some_and(|p| p.has_trust_dialog_accepted == Some(true))
    })
}

/// The administrator's settings.
fn managed(found: &mut Found<'_>, scopes: &Scopes) {
    let dir = &scopes.managed;
    if let Some(user) = &scopes.user {
        // The client's copy of settings that the organisation's server hands out.
        file(found, &user.join("remote-settings.json"));
    }
    for value in scopes.client.iter().flat_map(|c| &c.managed) {
        value_of_argument(found, value, scopes.client.as_ref().and_then(|c| c.pid));
    }
    file(found, &dir.join("managed-settings.json"));
    match dir.join("managed-settings.d").read_dir() {
        Ok(list) => {
            for entry in list.flatten() {
                if entry.path().extension().is_some_and(|e| e == "json") {
                    file(found, &entry.path());
                }
            }
        }
        Err(e) if is_missing(&e) => {}
        Err(_) => unreadable(&mut found.rules, "the managed settings"),
    }
    // Settings that a device manager sets are a binary plist: there, anything may be forbidden.
    if cfg!(target_os = "macos")
        && Path::new("/Library/Managed Preferences/com.anthropic.claudecode.plist").exists()
    {
        unreadable(&mut found.rules, "the managed preferences");
    }
}

fn client_rules(found: &mut Found<'_>, client: &ClientArgs) {
    found.rules.deny.extend(client.disallowed.iter().cloned());
    found.rules.allow.extend(client.allowed.iter().cloned());
    found.rules.directories.extend(client.directories.iter().cloned());
    for value in &client.settings {
        value_of_argument(found, value, client.pid);
    }
}

/// A value of `--settings` or its like: a path or JSON.
fn value_of_argument(found: &mut Found<'_>, value: &str, client: Option<u32>) {
    if value.trim_start().starts_with('{') {
        take(found, value, "--settings");
        return;
    }
    let mut path = PathBuf::from(value);
    if path.is_relative() {
        // Relative to where the client was started, as far as that is known.
        let pid = client.map_or(OsString::from("self"), |p| OsString::from(p.to_string()));
        path = Path::new("/proc").join(pid).join("cwd").join(path);
    }
    match read(&path) {
        Ok(Some(text)) => take(found, &text, "the file of --settings"),
        _ => unreadable(&mut found.rules, "the file of --settings"),
    }
}

fn file(found: &mut Found<'_>, path: &Path) {
    match read(path) {
        Ok(Some(text)) => take(found, &text, &path.to_string_lossy()),
        Ok(None) => {}
        Err(_) => unreadable(&mut found.rules, &path.to_string_lossy()),
    }
}

/// The text of a file, `None` if there is none.
fn read(path: &Path) -> io::Result<Option<String>> {
    // Asked before it is opened: to open a FIFO is to wait for who writes it.
    let opened = fs::metadata(path).and_then(|meta| match meta.is_file() {
        true => File::open(path),
        false => Err(io::Error::other("not a regular file")),
    });
    let opened = match opened {
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
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(borrow)]
    permissions: Option<&'a RawValue>,
    #[serde(borrow)]
    allow_managed_permission_rules_only: Option<&'a RawValue>,
    #[serde(borrow)]
    sandbox: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Sandbox {
    enabled: Option<bool>,
    excluded_commands: Option<Vec<String>>,
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
fn take(found: &mut Found<'_>, text: &str, what: &str) {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return;
    }
    // serde would take an array for a struct as well; the client would not.
    let object = |text: &str| text.starts_with('{');
    let document = serde_json::from_str::<Document<'_>>(text)
        .ok()
        .filter(|_| object(text));
    let parsed = document.and_then(|d| {
        // It counts in the administrator's settings only; elsewhere it costs a question at most.
        found.only_managed |= d
            .allow_managed_permission_rules_only
            .is_some_and(|v| v.get() == "true");
        let sandbox = d
            .sandbox
            .and_then(|s| serde_json::from_str::<Sandbox>(s.get()).ok());
        let sandbox = sandbox.unwrap_or_default();
        found.sandboxed |= sandbox.enabled == Some(true);
        found
            .outside
            .extend(sandbox.excluded_commands.into_iter().flatten());
        match d.permissions {
            None => Some(Permissions::default()),
            Some(p) => serde_json::from_str(p.get()).ok().filter(|_| object(p.get())),
        }
    });
    match parsed {
        Some(p) => {
            let widens = found.reads && found.widens(&p);
            // Without trust the client lets the user's own file count where git does not track it, which only git can tell.
            let perhaps = found.reads && !widens && found.local;
            let rules = &mut found.rules;
            rules.deny.extend(p.deny.into_iter().flatten());
            rules.ask.extend(p.ask.into_iter().flatten());
            let allow = p.allow.into_iter().flatten();
            if widens {
                rules.allow.extend(allow);
                rules
                    .directories
                    .extend(p.additional_directories.into_iter().flatten());
            } else if perhaps {
                rules.perhaps.extend(allow);
            }
        }
        None => unreadable(&mut found.rules, what),
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
                also: Vec::new(),
                managed: at("etc"),
                trust: Some(at("home/.claude.json")),
                client: Some(ClientArgs {
                    on_terminal: true,
                    ..ClientArgs::default()
                }),
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
            on_terminal: true,
            ..ClientArgs::default()
        });
        let listed = by_file(&tree.scopes);
        assert_eq!(listed.len(), 7, "{listed:?}");
        assert!(listed.iter().all(|(path, _)| path.is_file()));
        let rules = collect(&tree.scopes);
        assert_eq!(rules.unreadable, None);
        let want = [
            "user", "local", "main", "argument", "flag", "inline", "remote", "managed", "drop-in",
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
    fn other_projects_restrict_and_allow_nothing() {
        let mut tree = Tree::new();
        let both =
            r#"{"permissions":{"allow":["Bash"],"deny":["x"],"ask":["y"],"additionalDirectories":["/"]}}"#;
        tree.put("other/.claude/settings.local.json", both);
        tree.put("project/inner/.claude/settings.json", &deny("inner"));
        tree.put(".claude/settings.json", &deny("above"));
        let dir = tree.dir.path().to_owned();
        tree.scopes.also = vec![dir.join("project/inner/a")];
        assert_eq!(collect(&tree.scopes).deny, ["inner"]);
        tree.scopes.also = ["other", "other/b", "project"].map(|p| dir.join(p)).to_vec();
        let rules = collect(&tree.scopes);
        assert_eq!(rules.deny, ["x", "above"]);
        assert_eq!(rules.ask, ["y"]);
        assert!(rules.allow.is_empty() && rules.perhaps.is_empty() && rules.directories.is_empty());
    }

    #[test]
    fn what_the_client_does_not_read_allows_nothing() {
        let both = |name: &str| {
            format!(
                r#"{{"permissions":{{"allow":["{name}"],"ask":["{name}"],"additionalDirectories":["/{name}"]}}}}"#
            )
        };
        let mut tree = Tree::new();
        for (path, name) in [
            ("home/.claude/settings.json", "user"),
            ("project/.claude/settings.json", "project"),
            ("project/.claude/settings.local.json", "local"),
            ("etc/managed-settings.json", "managed"),
        ] {
            tree.put(path, &both(name));
        }
        for (arguments, want) in [
            (&[][..], &["user", "project", "local", "managed"][..]),
            (&["--setting-sources", "user"], &["user", "managed"]),
            (
                &["--setting-sources=project, local"],
                &["project", "local", "managed"],
            ),
            (&["--setting-sources", ""], &["managed"]),
            (&["--restricted"], &["managed"]),
        ] {
            let argv: Vec<String> = std::iter::once(&"claude")
                .chain(arguments)
                .map(|s| (*s).to_owned())
                .collect();
            tree.scopes.client = Some(ClientArgs {
                on_terminal: true,
                ..crate::hook::client::parse(&argv)
            });
            let rules = collect(&tree.scopes);
            assert_eq!(rules.allow, want, "{arguments:?}");
            assert_eq!(rules.directories.len(), want.len(), "{arguments:?}");
            assert_eq!(rules.ask.len(), 4, "{arguments:?}");
        }
    }

    #[test]
    fn without_a_terminal_an_untrusted_project_allows_nothing() {
        let mut tree = Tree::new();
        let wide = r#"{"permissions":{"allow":["Bash"],"ask":["x"],"additionalDirectories":["/"]}}"#;
        tree.put(
            "home/.claude/settings.json",
            r#"{"permissions":{"allow":["user"]}}"#,
        );
        tree.put("project/.claude/settings.json", wide);
        tree.put("project/.claude/settings.local.json", wide);
        tree.scopes.client = Some(ClientArgs::default());
        let project = tree.dir.path().join("project").display().to_string();
        let says = |key: &str, value: &str| {
            format!(
                r#"{{"x":[{{}}],"projects":{{"/a\n":{{}},"{key}":{{"a":1,"hasTrustDialogAccepted":{value}}}}}}}"#
            )
        };
        for (text, trusted) in [
            (None, false),
            (Some("{".to_owned()), false),
            (Some("{}".to_owned()), false),
            (Some(says(&project, "false")), false),
            (Some(says(&project, "null")), false),
            (Some(says("/other", "true")), false),
            (Some(says(&project, "true")), true),
        ] {
            if let Some(text) = &text {
                tree.put("home/.claude.json", text);
            }
            let rules = collect(&tree.scopes);
            let want: &[&str] = if trusted {
                &["user", "Bash", "Bash"]
            } else {
                &["user"]
            };
            assert_eq!(rules.allow, want, "{text:?}");
            let perhaps: &[&str] = if trusted { &[] } else { &["Bash"] };
            assert_eq!(rules.perhaps, perhaps, "{text:?}");
            assert_eq!(rules.directories.is_empty(), !trusted, "{text:?}");
            assert_eq!((rules.ask.len(), rules.unreadable), (2, None), "{text:?}");
        }
        // Within a repository the client notes it for the whole.
        tree.scopes.project = Some(tree.dir.path().join("project/deep"));
        tree.put("project/deep/.claude/settings.json", wide);
        assert_eq!(collect(&tree.scopes).allow.len(), 1);
        tree.put("project/.git/HEAD", "");
        assert_eq!(collect(&tree.scopes).allow.len(), 2);
    }

    #[test]
    fn where_only_the_administrator_s_rules_count_no_other_allows() {
        let only = r#"{"allowManagedPermissionRulesOnly":true,"permissions":{"allow":["managed"]}}"#;
        for place in [
            "etc/managed-settings.json",
            "etc/managed-settings.d/1.json",
            "home/.claude/remote-settings.json",
        ] {
            let mut tree = Tree::new();
            tree.put(
                "project/.claude/settings.json",
                r#"{"permissions":{"allow":["Bash"]}}"#,
            );
            tree.put("home/.claude/settings.json", &deny("user"));
            tree.scopes.client = Some(ClientArgs {
                allowed: vec!["Bash".into()],
                directories: vec!["/x".into()],
                on_terminal: true,
                ..ClientArgs::default()
            });
            assert_eq!(collect(&tree.scopes).allow, ["Bash", "Bash"]);
            tree.put(place, only);
            let rules = collect(&tree.scopes);
            assert_eq!(rules.allow, ["managed"], "{place}");
            assert_eq!((rules.deny.len(), rules.directories.len()), (1, 0), "{place}");
        }
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
