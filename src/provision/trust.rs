//! `cx trust`: a person's word that nodes may run what a workspace's set-up names.
//!
//! It is bound to the content of `.cx.toml` (where that widens anything) and of the workspace's files that its steps name, and lapses when
//! one of them changes. It counts for all worktrees of a repository, as long as they say the same.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Content, Step, add_own, known};
use crate::node::printable;
use crate::paths::{self, Paths};
use crate::project::{FILE, Project, Setup};
use crate::sync::{self, Workspace};

/// Version of the file.
const VERSION: u32 = 1;

/// What people have trusted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Trusted {
    version: u32,
    /// By the directory that [`home_of`] names, as [`key_of`] writes it.
    #[serde(default)]
    workspaces: BTreeMap<String, Given>,
}

/// What stands before a path that is no UTF-8, and so is written in hexadecimal: no absolute path begins like that.
const HEX: &str = "hex:";

/// A directory as it is named in the file, which is JSON.
fn key_of(home: &Path) -> String {
    let hex = |b: &u8| format!("{b:02x}");
    match home.to_str() {
        Some(text) => text.to_owned(),
        None => format!(
            "{HEX}{}",
            home.as_os_str().as_bytes().iter().map(hex).collect::<String>()
        ),
    }
}

/// The directory that a key names.
fn home_named(key: &str) -> PathBuf {
    let Some(digits) = key.strip_prefix(HEX) else {
        return key.into();
    };
    let byte = |n: &[u8]| u8::from_str_radix(std::str::from_utf8(n).ok()?, 16).ok();
    let bytes: Vec<u8> = digits.as_bytes().chunks(2).filter_map(byte).collect();
    OsString::from_vec(bytes).into()
}

/// One word.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    /// Of the content.
    hash: String,
    /// When, milliseconds since the epoch.
    at_ms: u64,
}

fn file(state: &Path) -> PathBuf {
    state.join("trust.json")
}

/// What cannot be read is not trusted.
fn load(state: &Path) -> Trusted {
    let file = file(state);
    if paths::untrusted(&file, None).is_some() {
        return Trusted::default();
    }
    let text = std::fs::read(&file).unwrap_or_default();
    let read: Trusted = serde_json::from_slice(&text).unwrap_or_default();
    if read.version == VERSION {
        read
    } else {
        Trusted::default()
    }
}

/// The directory under which a workspace's trust is kept: the repository that its worktrees share, or its top.
fn home_of(ws: &Workspace) -> PathBuf {
    let shared = ws.git.then(|| sync::common_dir(&ws.root)).flatten();
    shared.unwrap_or_else(|| ws.root.clone())
}

/// A hash of all that the trust is about.
fn content(ws: &Workspace, project: &Project) -> String {
    let mut content = Content::default();
    if project.widens() {
        content.add(&std::fs::read(ws.root.join(FILE)).unwrap_or_default());
        for named in named_files(&ws.root, project) {
            content.add(named.as_os_str().as_bytes());
            content.add(&std::fs::read(ws.root.join(&named)).unwrap_or_default());
        }
    }
    content.key()
}

/// The workspace's files that the words of its steps name.
fn named_files(root: &Path, project: &Project) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for step in &project.setup {
        for path in files_of(root, step) {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// Those that the words of one step name.
pub(super) fn files_of(root: &Path, step: &Setup) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let words = step
        .run
        .split(|c: char| c.is_whitespace() || "\"'`$(){}[];|&<>=".contains(c));
    for word in words.filter(|w| !w.is_empty()) {
        for base in [Path::new(&step.dir), Path::new("")] {
            let path = base.join(word.trim_start_matches("./"));
            let inside = !path.is_absolute() && path.components().all(|c| c.as_os_str() != "..");
            if inside && root.join(&path).is_file() && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// Whether a person has trusted this workspace as it is.
pub fn is_given(state: &Path, ws: &Workspace, project: &Project) -> bool {
    let given = load(state).workspaces.remove(&key_of(&home_of(ws)));
    given.is_some_and(|g| g.hash == content(ws, project))
}

fn save(state: &Path, trusted: &Trusted) -> anyhow::Result<()> {
    paths::private_dir(state)?;
    let text = serde_json::to_vec_pretty(trusted)?;
    let file = file(state);
    paths::write_atomic(&file, &text, 0o600).with_context(|| format!("failed to write {}", file.display()))
}

/// Takes the lock under which the file is changed.
fn locked(state: &Path) -> anyhow::Result<std::fs::File> {
    let lock = paths::lock_file(&state.join("trust.lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// The workspace of the current directory.
fn here(paths: &Paths) -> anyhow::Result<(Workspace, Project)> {
    let cwd = std::env::current_dir()?;
    let ws = sync::find(&cwd, &paths.home).map_err(anyhow::Error::msg)?;
    let project = Project::load(&ws.root).map_err(anyhow::Error::msg)?;
    Ok((ws, project))
}

/// Shows what nodes would run for this workspace, asks, and keeps the answer.
///
/// # Errors
/// Where there is no workspace, nobody to ask, or the answer cannot be kept.
pub fn give(yes: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let (ws, project) = here(&paths)?;
    let hash = content(&ws, &project);
    if is_given(&paths.state, &ws, &project) {
        writeln!(out, "{} is trusted as it is", ws.root.display())?;
        return Ok(0);
    }
    let steps = steps(&ws, &project);
    writeln!(out, "{}: nodes may run this, as you:", ws.root.display())?;
    for step in &steps {
        let at = if step.dir.as_os_str().is_empty() {
            String::new()
        } else {
            format!("   (in {})", step.dir.display())
        };
        writeln!(out, "  {}{at}", printable(&step.run, 400))?;
    }
    if !project.include.is_empty() {
        let names: Vec<String> = project.include.iter().map(|i| printable(i, 80)).collect();
        writeln!(out, "  and get these secrets: {}", names.join(", "))?;
    }
    if !project.also.is_empty() {
        let names: Vec<String> = project.also.iter().map(|a| printable(a, 80)).collect();
        writeln!(
            out,
            "  and get, and change, these directories: {}",
            names.join(", ")
        )?;
        if let Err(why) = super::tops(&ws, &project, &paths.home) {
            writeln!(out, "  but as long as this is so, commands stay here: {why}")?;
        }
    }
    if steps.is_empty() {
        writeln!(
            out,
            "  nothing now: no [[setup]] in {FILE}, no lock file with its environment"
        )?;
    }
    let named = named_files(&ws.root, &project);
    if !named.is_empty() {
        let named: Vec<String> = named.iter().map(|n| n.display().to_string()).collect();
        writeln!(
            out,
            "  and with that these files as they are now: {}",
            named.join(", ")
        )?;
    }
    writeln!(
        out,
        "and installs by lock files whose environment stands here (npm ci, uv sync, pip install -r ...), which run the packages' scripts"
    )?;
    let asked = || crate::cli::confirm("Trust it?", "use --yes if you mean it");
    if !yes && !asked()? {
        writeln!(out, "nothing was changed")?;
        return Ok(1);
    }
    let _lock = locked(&paths.state)?;
    // What was shown, and nothing that was written since.
    let now = Project::load(&ws.root).map_err(anyhow::Error::msg)?;
    anyhow::ensure!(
        content(&ws, &now) == hash,
        "{FILE} or what it runs changed meanwhile; nothing was trusted"
    );
    let mut trusted = load(&paths.state);
    trusted.version = VERSION;
    let at_ms = paths::now_ms();
    trusted
        .workspaces
        .insert(key_of(&home_of(&ws)), Given { hash, at_ms });
    save(&paths.state, &trusted)?;
    writeln!(
        out,
        "trusted, until {FILE} or what it runs changes; cx trust --remove takes it back"
    )?;
    Ok(0)
}

/// All steps that a workspace has now.
fn steps(ws: &Workspace, project: &Project) -> Vec<Step> {
    let dirs = known::found_below(&ws.root);
    let mut steps = known::near(dirs.iter().map(PathBuf::as_path), &ws.root, |_| true);
    add_own(&mut steps, project, &ws.root, |_| true);
    steps
}

/// Takes the word for this workspace back.
///
/// # Errors
/// As [`give`].
pub fn take_back(out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    // Also one whose file says something wrong.
    let cwd = std::env::current_dir()?;
    let ws = sync::find(&cwd, &paths.home).map_err(anyhow::Error::msg)?;
    let _lock = locked(&paths.state)?;
    let mut trusted = load(&paths.state);
    if trusted.workspaces.remove(&key_of(&home_of(&ws))).is_none() {
        writeln!(out, "{} was not trusted", ws.root.display())?;
        return Ok(1);
    }
    save(&paths.state, &trusted)?;
    writeln!(out, "{} is no longer trusted", ws.root.display())?;
    Ok(0)
}

/// Lists what is trusted.
///
/// # Errors
/// Those of `out`.
pub fn list(out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let trusted = load(&paths.state);
    let (here, project) = here(&paths).map_or((None, Project::default()), |(w, p)| (Some(w), p));
    for (key, given) in &trusted.workspaces {
        let home = &home_named(key);
        let name = if home.file_name().is_some_and(|n| n == ".git") {
            home.parent().unwrap_or(home)
        } else {
            home
        };
        let lapsed = match &here {
            Some(ws) if home_of(ws) == *home && given.hash != content(ws, &project) => {
                "   lapsed: it changed since (cx trust)"
            }
            _ if !name.exists() => "   gone",
            _ => "",
        };
        let days = paths::now_ms().saturating_sub(given.at_ms) / (24 * 3600 * 1000);
        let age = if days == 0 {
            "today".to_owned()
        } else {
            format!("{days} d ago")
        };
        writeln!(out, "{}   {age}{lapsed}", name.display())?;
    }
    if trusted.workspaces.is_empty() {
        writeln!(
            out,
            "nothing is trusted; `cx trust` in a project shows what that would mean"
        )?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(dir: &Path, text: &str) -> (Workspace, Project) {
        std::fs::write(dir.join(FILE), text).unwrap();
        let ws = sync::find(dir, Path::new("/nonexistent")).unwrap();
        let project = Project::load(dir).unwrap();
        (ws, project)
    }

    #[test]
    fn trust_is_about_what_widens_and_what_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let of = |text: &str| {
            let (ws, p) = project(&root, text);
            content(&ws, &p)
        };
        let plain = of("");
        assert_eq!(of("local = ['make deploy']\n"), plain, "that only tightens");
        let text = "[[setup]]\nrun = 'sh ./tools/deps.sh --all'\n";
        let bare = of(text);
        assert_ne!(bare, plain);
        assert_ne!(of("[[setup]]\nrun = 'sh ./tools/deps.sh'\n"), bare);
        std::fs::create_dir(root.join("tools")).unwrap();
        std::fs::write(root.join("tools/deps.sh"), "1").unwrap();
        let with = of(text);
        assert_ne!(with, bare);
        std::fs::write(root.join("tools/deps.sh"), "2").unwrap();
        assert_ne!(of(text), with, "what it runs changed");
        std::fs::write(root.join("tools/other.sh"), "2").unwrap();
        std::fs::write(root.join("tools/deps.sh"), "1").unwrap();
        assert_eq!(of(text), with);
    }

    #[test]
    fn any_path_can_be_trusted() {
        for path in [&b"/work/app"[..], b"/work/\xff\xfe", b"/hex:2f"] {
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            assert_eq!(home_named(&key_of(&path)), path);
        }
        assert_eq!(key_of(Path::new("/work/\u{e4}")), "/work/\u{e4}");
    }

    #[test]
    fn it_lapses_and_a_file_that_others_can_write_says_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let state = root.join("state");
        let text = "[[setup]]\nrun = 'true'\n";
        let (ws, p) = project(&root, text);
        assert!(!is_given(&state, &ws, &p));
        let mut trusted = Trusted {
            version: VERSION,
            ..Trusted::default()
        };
        let hash = content(&ws, &p);
        trusted
            .workspaces
            .insert(key_of(&home_of(&ws)), Given { hash, at_ms: 0 });
        save(&state, &trusted).unwrap();
        assert!(is_given(&state, &ws, &p));
        let (ws, other) = project(&root, "[[setup]]\nrun = 'false'\n");
        assert!(!is_given(&state, &ws, &other));
        let (ws, p) = project(&root, text);
        assert!(is_given(&state, &ws, &p));
        std::fs::set_permissions(file(&state), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!is_given(&state, &ws, &p));
    }
}
