//! The verbs that keep a mirror and the tree here together without a run: `push`, `warm`, `pull`.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::run::{self, Again, Caller, Job, Ran, RunError, Terms, Way};
use crate::client::stdio::Input;
use crate::client::tree::{self, Tree};
use crate::config::{Config, NodeConfig};
use crate::node::Link;
use crate::node::link::Install;
use crate::paths::{Paths, normal};
use crate::plan::classify::{self, Context};
use crate::plan::manifest::RelPath;
use crate::plan::shell::Word;
use crate::proto::Errand;
use crate::provision;
use crate::request::{Demands, Origin, Request};
use crate::sync::{self, Workspace};

use super::job::{run_id, scan};
use super::{Door, runtime};

/// How long a node may take to answer, with the agent's upload not counted.
const REACH: Duration = Duration::from_secs(15);

/// Where a verb works, and with which nodes.
struct Place {
    paths: Arc<Paths>,
    config: Arc<Config>,
    cwd: PathBuf,
    ws: Workspace,
}

impl Place {
    fn here() -> anyhow::Result<Place> {
        let paths = Arc::new(Paths::from_env()?);
        let cwd = std::env::current_dir()?;
        let ws = sync::find(&cwd, &paths.home).map_err(anyhow::Error::msg)?;
        let config = Arc::new(Config::load(&paths)?);
        config.check_trusted(Some(&ws.root))?;
        Ok(Place {
            paths,
            config,
            cwd: std::env::current_dir()?.canonicalize()?,
            ws,
        })
    }

    /// The nodes of these names.
    fn named(&self, names: &[String]) -> anyhow::Result<Vec<NodeConfig>> {
        let find = |name: &String| {
            let node = self.config.nodes.iter().find(|n| n.name == *name).cloned();
            node.ok_or_else(|| {
                anyhow::anyhow!("`{name}` is not a configured node; `cx nodes list` shows them")
            })
        };
        names.iter().map(find).collect()
    }

    /// The nodes that have a mirror of the workspace, the one used last first.
    fn with_mirror(&self) -> Vec<NodeConfig> {
        let records = tree::records(&self.paths);
        let used = |n: &NodeConfig| records.used(&self.ws.key, &n.name);
        let mut nodes: Vec<_> = self
            .config
            .nodes
            .iter()
            .filter(|n| used(n).is_some())
            .cloned()
            .collect();
        nodes.sort_by_key(|n| std::cmp::Reverse(used(n)));
        nodes
    }

    fn tree(&self) -> anyhow::Result<Arc<Tree>> {
        let nothing = [Word::Static("true".into())];
        let context = Context {
            user_rules: &self.config.rules,
            off: &self.config.policy.off,
            aliases: &[],
        };
        let verdict = classify::classify(&nothing, &context);
        let (mut tree, _) = scan(
            self.ws.clone(),
            &[],
            &self.cwd,
            &verdict,
            &self.config,
            self.paths.clone(),
            &[],
        )
        .map_err(|e| anyhow::anyhow!("the workspace can't be read: {e}"))?;
        // What a person names comes, whatever its size.
        tree.back.limit = u64::MAX;
        Ok(Arc::new(tree))
    }

    async fn run(
        &self,
        node: &NodeConfig,
        tree: &Arc<Tree>,
        errand: Errand,
        door: &mut Door,
    ) -> Result<Ran, String> {
        let link = Link::open(
            node,
            &self.config,
            &self.paths,
            Instant::now() + REACH,
            Install::Quietly,
        )
        .await
        .map_err(|e| e.to_string())?;
        let job = Job {
            back_limit: u64::MAX,
            keep: (self.config.gc.older_ms, self.config.gc.max_bytes),
            setup: if errand == Errand::Sync {
                let setup = provision::all(&self.cwd, &self.ws, &self.paths.state);
                setup.allowed().iter().map(|s| s.spec(&self.ws.root)).collect()
            } else {
                Vec::new()
            },
            errand,
            ..Job::without_command(run_id(None), Some(tree.clone()))
        };
        let terms = Terms {
            slots: node.slots,
            allow_overload: true,
            insist: true,
            scope: 0,
            paths: node.paths,
            first_failure: false,
        };
        let again = Again {
            node,
            config: &self.config,
            paths: &self.paths,
        };
        let mut input = Input::empty();
        let mut caller = Caller {
            output: &door.output,
            input: &mut input,
            orders: &mut door.orders,
            terminal: &mut door.terminal,
            told: &mut *door.told,
            rooms: None,
        };
        match run::run(Way::Greeted(link), again, &job, &terms, &mut caller).await {
            Ok(ran) => Ok(ran),
            Err(
                RunError::NotStarted { why, .. }
                | RunError::NotShared { why }
                | RunError::Lost { why }
                | RunError::Back { why, .. },
            ) => Err(why),
            Err(RunError::NoAgent) => Err("the agent is not installed there".into()),
            Err(RunError::Interrupted(_) | RunError::Room(_)) => Err("interrupted".into()),
            Err(RunError::Detached) => Err("it goes on there without this process".into()),
        }
    }
}

fn door() -> anyhow::Result<Door> {
    let request = Request {
        origin: Origin::Shell,
        argv: Vec::new(),
        script: None,
        cwd: PathBuf::new(),
        demands: Demands::default(),
    };
    Ok(Door::terminal(&request)?)
}

/// Brings the mirrors on these nodes up to date, where the agent is missing with that first; of all nodes, or of those that have a mirror,
/// where none is named.
///
/// # Errors
/// When there is no workspace, or a name is no node's.
pub fn push(names: &[String], all: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let place = Place::here()?;
    let mut nodes = place.named(names)?;
    if nodes.is_empty() {
        nodes = place.with_mirror();
    }
    if names.is_empty() && (all || nodes.is_empty()) {
        nodes = place.config.nodes.clone();
    }
    anyhow::ensure!(
        !nodes.is_empty(),
        "there are no nodes; `cx nodes add ALIAS` adds one"
    );
    let tree = place.tree()?;
    let runtime = runtime()?;
    let mut failed = false;
    runtime.block_on(async {
        let mut door = door()?;
        for node in &nodes {
            match place.run(node, &tree, Errand::Sync, &mut door).await {
                Ok(ran) => {
                    let (files, bytes) = ran.sent;
                    let set_up = ran.set_up_note().map_or(String::new(), |n| format!(", {n}"));
                    writeln!(
                        out,
                        "{}: up to date, {files} files sent ({bytes} bytes){set_up}",
                        node.name
                    )?;
                }
                Err(why) => {
                    failed = true;
                    writeln!(out, "{}: not done: {why}", node.name)?;
                }
            }
        }
        anyhow::Ok(())
    })?;
    runtime.shutdown_background();
    Ok(i32::from(failed))
}

/// Fetches paths from the mirror of `on`, or of the nodes that have one, until all were found.
///
/// # Errors
/// When there is no workspace, a path lies outside it, or no node has a mirror.
pub fn pull(wanted: &[PathBuf], on: Option<&str>, out: &mut dyn Write) -> anyhow::Result<i32> {
    let place = Place::here()?;
    let mut left = Vec::new();
    for path in wanted {
        left.push(relative(path, &place.cwd, &place.ws.root)?);
    }
    let nodes = match on {
        Some(name) => place.named(&[name.to_owned()])?,
        None => place.with_mirror(),
    };
    anyhow::ensure!(
        !nodes.is_empty(),
        "no node has a mirror of {}",
        place.ws.root.display()
    );
    let tree = place.tree()?;
    let runtime = runtime()?;
    let mut why = Vec::new();
    runtime.block_on(async {
        let mut door = door()?;
        for node in &nodes {
            match place
                .run(node, &tree, Errand::Fetch(left.clone()), &mut door)
                .await
            {
                Ok(ran) => {
                    let missing = ran.exit.left.stayed;
                    if missing.len() < left.len() {
                        let (files, bytes) = ran.back.files;
                        let s = if files == 1 { "" } else { "s" };
                        writeln!(out, "{}: {files} file{s} changed here ({bytes} bytes)", node.name)?;
                    }
                    for note in ran.back.notes {
                        writeln!(out, "{}: {note}", node.name)?;
                        why.push(String::new());
                    }
                    if !ran.exit.left.over.is_empty() {
                        writeln!(
                            out,
                            "{}: too large to come: {}",
                            node.name,
                            tree::list(&ran.exit.left.over)
                        )?;
                        why.push(String::new());
                    }
                    left.retain(|p| missing.contains(p));
                }
                Err(e) => why.push(format!("{}: {e}", node.name)),
            }
            if left.is_empty() {
                break;
            }
        }
        anyhow::Ok(())
    })?;
    runtime.shutdown_background();
    let is_partial = why.iter().any(String::is_empty);
    why.retain(|w| !w.is_empty());
    if !left.is_empty() {
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(" ({})", why.join("; "))
        };
        anyhow::bail!("not found on any node: {}{why}", tree::list(&left));
    }
    Ok(i32::from(is_partial))
}

/// A path as typed, from the top of the workspace.
fn relative(path: &Path, cwd: &Path, root: &Path) -> anyhow::Result<RelPath> {
    let full = normal(&cwd.join(path));
    let inside = full.strip_prefix(root).ok().map(|p| p.as_os_str().as_bytes());
    inside
        .and_then(RelPath::new)
        .ok_or_else(|| anyhow::anyhow!("{} is no path inside {}", path.display(), root.display()))
}
