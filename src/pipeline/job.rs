//! Makes of a request what a node gets: the scanned tree and the job.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::eligible::{configured, outputs};
use crate::client::run::Job;
use crate::client::stdio::WholeFile;
use crate::client::tree::{self, Tree};
use crate::client::{cross, eligible, named};
use crate::config::{Config, DetachAt, WriteBack};
use crate::conflicts;
use crate::hook::call;
use crate::paths::{self, Paths};
use crate::plan::manifest::{Entry, RelPath};
use crate::plan::{Brings, Class, Verdict};
use crate::proto::{BackSpec, Errand, MirrorKey};
use crate::provision;
use crate::request::{Detach, Origin, Request};
use crate::sync::{self, ScanOptions, Workspace};

use super::Door;
use super::judge::Case;

/// Scans a workspace for a command. What the steps of `set_up` make, a node has of its own.
pub(super) fn scan(
    ws: Workspace,
    argv: &[OsString],
    cwd: &Path,
    verdict: &Verdict,
    config: &Config,
    paths: Arc<Paths>,
    set_up: &[provision::Step],
) -> Result<(Tree, Vec<String>), String> {
    let begun = Instant::now();
    let mut lines = Vec::new();
    // What a killed cx left half applied comes first.
    let stages = paths.cache.join("incoming");
    let notes = conflicts::left_notes(&stages);
    let finished = match sync::recover(&stages) {
        Err(sync::SyncError::Full(root)) if root == ws.root => {
            return Err("the disk is full, and what an earlier run brought back is not all in place".into());
        }
        other => other.unwrap_or_default(),
    };
    for (id, about) in notes {
        if conflicts::tree_dir(&paths, &id).exists() {
            // Without the note it is still where the line says.
            let _ = conflicts::note(&paths, &id, &about.workspace, &about.node);
        }
    }
    for (root, report) in finished {
        let apart = report.conflicts.len() + report.failed.len();
        let apart = match apart {
            0 => String::new(),
            n => format!("; {n} of it can't be in place (cx conflicts)"),
        };
        lines.push(format!(
            "finished taking in what an interrupted cx had left for {}{apart}",
            root.display()
        ));
    }
    let mut named = named::look(argv, cwd, &ws.root);
    named.files.retain(|f| {
        let full = ws.root.join(OsStr::from_bytes(f.as_bytes()));
        !set_up.iter().any(|s| s.makes(&ws.root, &full))
    });
    let options = ScanOptions {
        named: named.files.clone(),
        // cargo makes its own anew.
        programs_limit: if verdict.rule == "cargo" {
            0
        } else {
            config.policy.back_limit
        },
        index: Some(paths.cache.join("index").join(&ws.key)),
        ignored_limit: config.policy.ignored_limit,
        include: [config.include.clone(), provision::included(&ws, &paths.state)].concat(),
        ..ScanOptions::default()
    };
    paths::private_dir(&paths.cache.join("index")).map_err(|e| e.to_string())?;
    let scan = sync::scan(&ws.root, ws.git, &options).map_err(|e| e.to_string())?;
    let dir = cwd
        .strip_prefix(&ws.root)
        .map(|d| d.as_os_str().as_bytes().to_vec())
        .unwrap_or_default();
    let key = MirrorKey {
        client: paths.client_key().map_err(|e| format!("{e:#}"))?,
        workspace: ws.key.clone(),
        name: ws.name.clone(),
    };
    // What no rule knows may leave anything.
    let brings = if verdict.class == Class::Heavy {
        eligible::brings(&verdict.rule, &verdict.workload.brings, cwd, &ws.root)
    } else {
        Brings::Ignored
    };
    let back = BackSpec {
        brings: brings.clone(),
        extra_ignore: scan.extra_ignore.clone(),
        exist_here: scan.unsent.clone(),
        programs: scan.programs.iter().map(|(p, _)| p.clone()).collect(),
        // `cargo test` builds programs, too.
        new_programs: brings == Brings::Ignored || verdict.rule == "cargo",
        again: Vec::new(),
        limit: config.policy.back_limit,
        scope: 2,
    };
    // Without it only git's own answers differ there.
    let repository = if ws.git {
        sync::repository(
            &ws.root,
            &paths.cache.join("index").join(format!("{}.repository", ws.key)),
        )
        .ok()
        .flatten()
    } else {
        None
    };
    let mut tree = Tree {
        stays: None,
        asked: std::mem::take(&mut named.files),
        rebuilds: verdict.class == Class::Heavy && verdict.workload.brings != Brings::Synced,
        key,
        dir,
        scan,
        back,
        repository,
        records: tree::records(&paths),
        paths,
        ws,
        took: Duration::ZERO,
    };
    tree.stays = stays(&tree, &named.dirs, cwd, verdict, config);
    tree.took = begun.elapsed();
    Ok((tree, lines))
}

/// Why a command can only run here, as the tree shows: what it names or reads does not go, or would be an older one there.
fn stays(tree: &Tree, dirs: &[RelPath], cwd: &Path, verdict: &Verdict, config: &Config) -> Option<String> {
    let (ws, scan) = (&tree.ws, &tree.scan);
    if let Some((path, why)) = scan.named_but_stays.first() {
        return Some(format!("{path} {why}"));
    }
    let bytes = |p: &RelPath| match scan.manifest.get(p) {
        Some(Entry::File { size, .. }) => *size,
        _ => 0,
    };
    let goes_by_name = |p: &&RelPath| scan.named.binary_search(p).is_ok();
    let by_name = || tree.asked.iter().filter(goes_by_name);
    if by_name().map(bytes).sum::<u64>() > config.policy.back_limit {
        let largest = by_name().max_by_key(|p| bytes(p))?;
        let size: u64 = by_name().map(bytes).sum();
        return Some(format!(
            "{largest} and what else can be run beside it take {} MB, more than back_limit",
            size >> 20
        ));
    }
    let goes = |p: &RelPath| scan.manifest.contains_key(p) && !scan.named.contains(p);
    let known = eligible::touched(&verdict.workload, cwd, &ws.root);
    let known: Vec<RelPath> = known
        .iter()
        .filter_map(|d| RelPath::new(d.as_os_str().as_bytes()))
        .collect();
    if verdict.class != Class::Heavy
        && let Some(dir) = dirs.iter().find(|d| !goes(d) && !known.contains(d))
    {
        return Some(format!(
            "{dir} does not go to nodes: it is ignored, and large or a cache"
        ));
    }
    let path = |p: &RelPath| PathBuf::from(OsStr::from_bytes(p.as_bytes()));
    let made_here: Vec<PathBuf> = known
        .iter()
        .map(path)
        .filter(|d| eligible::owners::of(&tree.paths, &ws.key, &ws.root, d).is_none())
        .collect();
    let unsent: Vec<PathBuf> = scan.unsent.iter().map(path).collect();
    let dirs = made_here.iter().map(PathBuf::as_path);
    if let Some(dir) = configured::too_large(&ws.root, dirs, &unsent) {
        return Some(format!(
            "{} was made on this machine and is too large to go along (ignored_limit)",
            dir.display()
        ));
    }
    known.iter().filter(|d| !goes(d)).find_map(|dir| {
        let path = Path::new(OsStr::from_bytes(dir.as_bytes()));
        let node = eligible::owners::of(&tree.paths, &ws.key, &ws.root, path)?;
        let at = eligible::owners::noted_ns(&tree.paths, &ws.key, path)?;
        tree.records
            .load(&ws.key, &node)
            .is_changed_below(&ws.root, dir, at)
            .then(|| format!("{dir} was changed on this machine after {node} had made it"))
    })
}

/// Scans the other trees that go along with one for a command of this verdict.
pub(super) fn scan_beside(
    roots: &[PathBuf],
    verdict: &Verdict,
    config: &Config,
    paths: &Arc<Paths>,
) -> Result<Vec<Arc<Tree>>, String> {
    let mut trees = Vec::new();
    for root in roots {
        let ws = Workspace::at(root);
        let (mut tree, _) = scan(ws, &[], root, verdict, config, paths.clone(), &[])?;
        if tree.back.brings != Brings::Ignored {
            // The rule names what lies in the command's own tree.
            tree.back.brings = Brings::Synced;
        }
        tree.rebuilds = false;
        trees.push(Arc::new(tree));
    }
    Ok(trees)
}

pub(super) fn make_job(request: &Request, case: &Case, tree: Option<Tree>, door: &Door) -> Job {
    let reads = reads_input(request, case);
    let alone = request.demands.detach == Some(Detach::AtOnce);
    let input = if reads && door.stdin {
        WholeFile::own()
    } else {
        None
    };
    let mut assigned = match request.origin {
        Origin::Agent => assigned_in_the_text(&case.paths),
        _ => typed_variables(),
    };
    if let Some(ws) = &case.ws {
        let roots: Vec<PathBuf> = std::iter::once(&ws.root).chain(&case.fit.also).cloned().collect();
        for (name, leads_out) in outputs::redirecting(&request.cwd, &roots) {
            if !leads_out {
                assigned.push(name.to_owned());
            } else if request.origin != Origin::Agent && !request.demands.is_pinned() {
                // Only a cache is there, if the command goes to a node all the same, which has places of its own for that.
                assigned.retain(|a| a != name);
            }
        }
    }
    // What leads back here is of use only to who knows of it.
    assigned.extend(cross::forwarded_services(
        std::env::vars_os(),
        &case.config.forward,
    ));
    let rules = cross::Rules {
        pass: &case.config.env_pass,
        assigned: &assigned,
    };
    let env = cross::crossing(std::env::vars_os(), &rules);
    let root = case.ws.as_ref().map(|w| w.root.as_os_str().as_bytes());
    let names_tree = root.is_some_and(|r| env.iter().any(|(_, v)| crate::probe::find(v, r).is_some()));
    Job {
        id: String::new(),
        argv: request.argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env,
        path_prefix: case.fit.path_prefix.clone(),
        stdin: !alone && input.is_none() && (reads || door.terminal.is_typed()),
        input,
        terminal: if alone { None } else { door.terminal.spec(reads) },
        one_pipe: door.one_pipe,
        needs: case.fit.needs.clone(),
        needs_dirs: case.fit.needs_dirs.clone(),
        needs_paths: case.fit.needs_paths.clone(),
        // Who names a node gets it for a variable's sake, too.
        identity: case.fit.identity.is_some()
            || ((names_tree || case.verdict.workload.same_paths) && !request.demands.is_pinned()),
        tree: tree.map(Arc::new),
        also: Vec::new(),
        shared: None,
        link_grace: case.config.policy.link_grace,
        back_limit: case.config.policy.back_limit,
        keep: (case.config.gc.older_ms, case.config.gc.max_bytes),
        detach: detach(request, case),
        errand: Errand::Command,
        setup: case
            .ws
            .iter()
            .flat_map(|ws| case.fit.setup.allowed().iter().map(|s| s.spec(&ws.root)))
            .collect(),
    }
}

/// Names of the variables that the text of an agent's call sets.
pub(super) fn assigned_in_the_text(paths: &Paths) -> Vec<String> {
    let session = std::env::var("CLAUDE_CODE_SESSION_ID").ok();
    session
        .and_then(|s| call::note(&paths.state, &s))
        .map(|n| n.assigned)
        .unwrap_or_default()
}

/// When the run goes on without this process: as demanded, or as the config says.
fn detach(request: &Request, case: &Case) -> Option<Detach> {
    let in_ms = |ms: u64| Some(Detach::At(Instant::now() + Duration::from_millis(ms)));
    match (request.demands.detach, case.config.policy.detach_at) {
        (Some(demanded), _) => Some(demanded),
        (None, DetachAt::Never) => None,
        (None, DetachAt::Seconds(s)) => in_ms(u64::from(s) * 1000),
        // The hook noted when it ran; the call began no earlier.
        (None, DetachAt::Deadline) if request.origin == Origin::Agent => {
            let session = std::env::var("CLAUDE_CODE_SESSION_ID").ok()?;
            let note = call::note(&case.paths.state, &session)?;
            let ends = note.at_ms + note.timeout_ms.saturating_sub(MARGIN_MS);
            (!note.background && note.timeout_ms > 0).then(|| in_ms(ends.saturating_sub(paths::now_ms())))?
        }
        (None, DetachAt::Deadline) => None,
    }
}

/// A run is left so long before its caller would end it.
const MARGIN_MS: u64 = 5000;

/// Whether the command's standard input goes along.
pub(super) fn reads_input(request: &Request, case: &Case) -> bool {
    case.verdict.workload.stdin
        || request
            .argv
            .iter()
            .skip(1)
            .any(|a| a == "-" || a == "/dev/stdin" || a == "/dev/fd/0")
        || (request.origin == Origin::Shell && case.verdict.class != Class::Heavy)
}

/// Names of variables that the person typed or exported in their own terminal: what differs from the environment their shell was
/// started with.
pub(super) fn typed_variables() -> Vec<String> {
    use std::io::IsTerminal;
    if !std::io::stderr().is_terminal() {
        return Vec::new();
    }
    let parent = format!("/proc/{}", std::os::unix::process::parent_id());
    let name = std::fs::read_to_string(format!("{parent}/comm")).unwrap_or_default();
    if !matches!(name.trim(), "bash" | "zsh" | "fish" | "sh" | "dash" | "ksh") {
        return Vec::new();
    }
    let before = std::fs::read(format!("{parent}/environ")).unwrap_or_default();
    if before.is_empty() {
        Vec::new()
    } else {
        cross::changed_since(&before, std::env::vars_os())
    }
}

pub(super) fn scope(w: WriteBack) -> u8 {
    match w {
        WriteBack::None => 0,
        WriteBack::Outputs => 1,
        WriteBack::All => 2,
    }
}

/// A unique id: time, process and chance, or the name that the run has already.
pub(super) fn run_id(name: Option<&str>) -> String {
    let chance = || format!("{:x}", paths::nonce() & 0xffff_ffff);
    format!(
        "{:x}-{:x}-{}",
        crate::agent::now_ms(),
        std::process::id(),
        name.map_or_else(chance, str::to_owned)
    )
}
