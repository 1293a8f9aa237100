//! Set-up: what a node runs once in a mirror before the first command there, so that the environment that stands here
//! (`node_modules`, `.venv`) stands there too.
//!
//! Steps come from known lock files whose environment exists here, and from `[[setup]]` of the workspace's `.cx.toml`. Both run code that
//! a repository chose, so both need the workspace's [`trust`]. A step is done again when its files or its text change; the node keeps a
//! mark of each that succeeded (`agent/provision.rs`).

mod known;
pub mod trust;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::node::printable;
use crate::project::{self, Project};
use crate::proto::SetupStep;
use crate::sync::Workspace;

/// One step, as it was found here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How it is told to people.
    pub name: String,
    /// A line of shell.
    pub run: String,
    /// Where it runs, from the workspace's top.
    pub dir: PathBuf,
    /// The files that it depends on, from the workspace's top.
    pub files: Vec<PathBuf>,
    /// The directory that it makes, from the workspace's top, where that is known.
    pub makes: Option<PathBuf>,
    /// The program that it cannot do without.
    pub needs: Option<&'static str>,
}

impl Step {
    /// The step for a node. Its key changes with its text and its files.
    pub fn spec(&self, root: &Path) -> SetupStep {
        let mut content = Content::default();
        content.add(self.run.as_bytes());
        content.add(self.dir.as_os_str().as_bytes());
        for file in &self.files {
            content.add(file.as_os_str().as_bytes());
            match std::fs::read(root.join(file)) {
                Ok(text) => content.add(&text),
                Err(_) => content.add(b"\0missing"),
            }
        }
        let bytes = |p: &Path| p.as_os_str().as_bytes().to_vec();
        SetupStep {
            name: self.name.clone(),
            run: self.run.clone(),
            dir: bytes(&self.dir),
            makes: self.makes.as_deref().map(bytes),
            needs: self.needs.map(str::to_owned),
            key: content.key(),
        }
    }

    /// Whether `full`, a directory of the workspace at `root`, is or lies in what this step makes.
    pub fn makes(&self, root: &Path, full: &Path) -> bool {
        self.makes
            .as_ref()
            .is_some_and(|m| full.starts_with(root.join(m)))
    }
}

/// Names pieces of content, in their order, by one hash.
#[derive(Default)]
struct Content(blake3::Hasher);

impl Content {
    fn add(&mut self, piece: &[u8]) {
        self.0.update(&(piece.len() as u64).to_le_bytes());
        self.0.update(piece);
    }

    /// 32 hexadecimal digits.
    fn key(&self) -> String {
        self.0.finalize().to_hex()[..32].to_owned()
    }
}

/// What a command needs done before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// In order.
    pub steps: Vec<Step>,
    /// What else `.cx.toml` wants and a person has not allowed, or why its steps are not to be run: one clause that says what to do.
    pub untrusted: Option<String>,
}

/// The tops of the other trees that this workspace's `.cx.toml`, which says `project`, lets go along, without symbolic links, if a person has said so.
///
/// # Errors
/// Why one of them can't go along; one clause.
pub fn beside(
    ws: &Workspace,
    project: &Result<Project, String>,
    state: &Path,
    home: &Path,
) -> Result<Vec<PathBuf>, String> {
    match project {
        Ok(p) if !p.also.is_empty() && trust::is_given(state, ws, p) => tops(ws, p, home),
        _ => Ok(Vec::new()),
    }
}

/// The same whether a person has said so or not.
fn tops(ws: &Workspace, project: &Project, home: &Path) -> Result<Vec<PathBuf>, String> {
    let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    let mut found: Vec<PathBuf> = Vec::new();
    for also in &project.also {
        let shown = printable(also, 80);
        let real = ws.root.join(also).canonicalize();
        let real = real.map_err(|e| format!("also {shown:?} in {}: {e}", project::FILE))?;
        let why = if !real.is_dir() {
            "no directory"
        } else if home.starts_with(&real) || real.parent().is_none() {
            "your home directory or above it"
        } else if ws.root.starts_with(&real) || real.starts_with(&ws.root) {
            "above the project, or in it"
        } else if found.iter().any(|f| f.starts_with(&real) || real.starts_with(f)) {
            "named twice, or in another one"
        } else {
            found.push(real);
            continue;
        };
        return Err(format!("also {shown:?} in {} is {why}", project::FILE));
    }
    Ok(found)
}

/// Secrets that `.cx.toml` of this workspace lets go along, if a person has said so.
pub fn included(ws: &Workspace, state: &Path) -> Vec<String> {
    match Project::load(&ws.root) {
        Ok(p) if !p.include.is_empty() && trust::is_given(state, ws, &p) => p.include,
        _ => Vec::new(),
    }
}

impl Setup {
    /// Adds those of another command.
    pub fn join(&mut self, other: Setup) {
        for step in other.steps {
            if !self.steps.contains(&step) {
                self.steps.push(step);
            }
        }
        self.untrusted = self.untrusted.take().or(other.untrusted);
    }

    /// Those that nodes may run.
    pub fn allowed(&self) -> &[Step] {
        if self.untrusted.is_some() {
            &[]
        } else {
            &self.steps
        }
    }
}

/// The steps that a command in `cwd` needs; `dirs` are the directories that it reads, and `project` is what the workspace's `.cx.toml`
/// says.
pub fn look(
    argv: &[OsString],
    cwd: &Path,
    dirs: &[PathBuf],
    ws: &Workspace,
    project: Result<Project, String>,
    state: &Path,
) -> Setup {
    // A file that says something wrong keeps the command here, which is told elsewhere.
    let project = project.unwrap_or_default();
    let program = argv.first().and_then(|a| Path::new(a).file_name());
    let program = program.unwrap_or_default().to_string_lossy();
    let near = dirs.iter().filter_map(|d| d.parent()).chain([cwd]);
    let mut steps = known::near(near, &ws.root, |kind| kind.serves(&program));
    add_own(&mut steps, &project, &ws.root, |s| {
        s.before.is_empty() || project::first_words(&s.before, argv).is_some()
    });
    judged(steps, &project, ws, state)
}

/// All steps of a workspace that are found without a command, from `cwd` upwards: what `cx warm` does.
pub fn all(cwd: &Path, ws: &Workspace, state: &Path) -> Setup {
    let project = Project::load(&ws.root).unwrap_or_default();
    let mut steps = known::near([cwd].into_iter(), &ws.root, |_| true);
    add_own(&mut steps, &project, &ws.root, |_| true);
    judged(steps, &project, ws, state)
}

/// Adds those that `.cx.toml` names; one that depends on the lock file of a built-in one takes its place.
fn add_own(steps: &mut Vec<Step>, project: &Project, root: &Path, wanted: impl Fn(&project::Setup) -> bool) {
    for own in &project.setup {
        let mut files: Vec<PathBuf> = own.files.iter().map(PathBuf::from).collect();
        steps.retain(|s| !s.files.iter().any(|f| files.contains(f)));
        // A script that was mended is another step.
        files.extend(trust::files_of(root, own));
        if wanted(own) {
            steps.push(Step {
                name: printable(&own.run, 60),
                run: own.run.clone(),
                dir: PathBuf::from(&own.dir),
                files,
                makes: None,
                needs: None,
            });
        }
    }
}

fn judged(steps: Vec<Step>, project: &Project, ws: &Workspace, state: &Path) -> Setup {
    let mut untrusted = None;
    let wants = !steps.is_empty() || !project.include.is_empty() || !project.also.is_empty();
    if wants && !trust::is_given(state, ws, project) {
        let names: Vec<String> = steps.iter().take(3).map(|s| format!("`{}`", s.name)).collect();
        let mut whats = Vec::new();
        if !names.is_empty() {
            let more = steps.len() - names.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            whats.push(format!("{}{more} is not set up on nodes", names.join(", ")));
        }
        if let Some(first) = project.include.iter().chain(&project.also).next() {
            whats.push(format!("{} does not go along", printable(first, 60)));
        }
        untrusted = Some(format!("{} (cx trust allows it)", whats.join(", ")));
    }
    Setup { steps, untrusted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(run: &str) -> Step {
        Step {
            name: run.into(),
            run: run.into(),
            dir: PathBuf::new(),
            files: vec!["lock".into()],
            makes: Some("web/node_modules".into()),
            needs: None,
        }
    }

    #[test]
    fn a_step_is_another_when_its_text_or_its_files_change() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let of = |s: Step| s.spec(root).key;
        let missing = of(step("a"));
        std::fs::write(root.join("lock"), "1").unwrap();
        let one = of(step("a"));
        assert_ne!(missing, one);
        assert_eq!(of(step("a")), one);
        assert_ne!(of(step("b")), one);
        std::fs::write(root.join("lock"), "2").unwrap();
        assert_ne!(of(step("a")), one);
    }

    #[test]
    fn what_a_step_makes_is_known() {
        let root = Path::new("/w");
        assert!(step("x").makes(root, Path::new("/w/web/node_modules")));
        assert!(step("x").makes(root, Path::new("/w/web/node_modules/.bin")));
        assert!(!step("x").makes(root, Path::new("/w/web")));
    }

    #[test]
    fn the_projects_own_step_takes_a_built_in_ones_place() {
        let own = project::Setup {
            run: "make deps".into(),
            files: vec!["lock".into()],
            ..Default::default()
        };
        let project = Project {
            setup: vec![own],
            ..Project::default()
        };
        let mut steps = vec![step("npm ci")];
        add_own(&mut steps, &project, Path::new("/none"), |_| true);
        let runs: Vec<_> = steps.iter().map(|s| s.run.as_str()).collect();
        assert_eq!(runs, ["make deps"]);
        let mut steps = vec![step("npm ci")];
        add_own(&mut steps, &project, Path::new("/none"), |_| false);
        assert!(
            steps.is_empty(),
            "it is not needed then, and the other is not wanted"
        );
    }
}
