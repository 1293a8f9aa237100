//! Admission: whether this node takes a run, decided on arrival by slots held and live load.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FlockOperation;

use super::place::Place;
use crate::probe;
use crate::proto::{Facts, Load, NeedPath, NeedSpec, Refusal};
use crate::table;

pub use crate::paths::now_ms;

/// A slot of this node; freed when dropped, by the kernel if need be.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "holds the lock")] File);

fn slot_file(base: &Path, n: u32) -> std::io::Result<File> {
    let dir = base.join("slots");
    super::private_dir(&dir)?;
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join(n.to_string()))
}

/// Takes a free slot of `slots`, or says how many are held.
///
/// # Errors
/// Those of the file system.
pub fn take_slot(base: &Path, slots: u32) -> std::io::Result<Result<Slot, u32>> {
    for n in 0..slots {
        let file = slot_file(base, n)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Ok(Slot(file)));
        }
    }
    Ok(Err(slots))
}

/// How many slots are held, looking at no more than the files that exist.
pub fn held_slots(base: &Path) -> u32 {
    let Ok(dir) = std::fs::read_dir(base.join("slots")) else {
        return 0;
    };
    dir.flatten()
        .filter(|e| {
            File::open(e.path())
                .is_ok_and(|f| rustix::fs::flock(&f, FlockOperation::NonBlockingLockShared).is_err())
        })
        .count() as u32
}

/// Slots of a node whose user did not say another number: half the cores, at least one; a heavy command
/// that uses all cores then shares the machine with few others.
pub fn default_slots(cores: u32) -> u32 {
    (cores / 2).max(1)
}

/// What this node is, as it was found a moment ago.
#[derive(Default)]
pub struct Remembered(Option<(Instant, Vec<Directory>, Facts)>);

/// A directory of PATH, and when something came there or went last.
type Directory = (PathBuf, Option<SystemTime>);

/// Cores and memory of a machine may change while it runs.
const FACTS_LAST: Duration = Duration::from_secs(60);

/// What this node is and how busy it is. Looking for every tool takes longer than all the rest, so that is done again only where a
/// directory of PATH has changed.
///
/// # Errors
/// Never today; kept for what a platform may need.
pub fn look(base: &Path, remembered: &mut Remembered) -> anyhow::Result<(Facts, Load)> {
    let env = login_env(base);
    let path = path_of(&env);
    let changed = |dir: &PathBuf| std::fs::metadata(dir).and_then(|m| m.modified()).ok();
    let dirs: Vec<Directory> = std::env::split_paths(path)
        .map(|dir| (dir.clone(), changed(&dir)))
        .collect();
    let known = remembered.0.take();
    let known = known.filter(|(at, before, _)| at.elapsed() < FACTS_LAST && *before == dirs);
    let (at, dirs, mut facts) = known.unwrap_or_else(|| {
        let facts = probe::facts(path, &base.join("libc"));
        (Instant::now(), dirs, facts)
    });
    facts.slots = default_slots(facts.cores);
    facts.no_namespace = super::place::namespaces(base).err();
    let load = load(base, facts.slots);
    remembered.0 = Some((at, dirs, facts.clone()));
    Ok((facts, load))
}

/// As much of it as an admission needs.
pub fn glance(base: &Path) -> (Facts, Load) {
    let mut facts = probe::size();
    facts.slots = default_slots(facts.cores);
    let load = load(base, facts.slots);
    (facts, load)
}

/// How busy this node is.
pub fn load(base: &Path, slots: u32) -> Load {
    let mut load = probe::load_kept(&base.join("cpu"), base);
    load.running = held_slots(base);
    load.slots = slots;
    load
}

/// The login environment of this account, captured once.
pub fn login_env(base: &Path) -> Vec<(OsString, OsString)> {
    probe::login_env(&base.join("env"))
}

/// PATH of an environment.
pub fn path_of(env: &[(OsString, OsString)]) -> &OsStr {
    env.iter()
        .find(|(k, _)| k == "PATH")
        .map_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"), |(_, v)| v)
}

/// Whether load or disk forbid a further run.
pub fn too_busy(load: &Load, facts: &Facts, allow_overload: bool) -> Option<Refusal> {
    if let Some(why) = table::full(load) {
        return Some(Refusal::Disk(why));
    }
    table::crushed(load, facts)
        .filter(|_| !allow_overload)
        .map(Refusal::Overloaded)
}

/// Whether every program that does not lie in the mirror is in `path`, in the right version.
pub fn lacks(base: &Path, needs: &[NeedSpec], path: &OsStr) -> Option<Refusal> {
    for spec in needs.iter().filter(|n| !n.need.program.contains('/')) {
        let name = &spec.need.program;
        let Some(program) = probe::find_program(OsStr::new(name), path) else {
            return Some(Refusal::Lacks(format!("no `{name}`")));
        };
        if let Some(wanted) = &spec.version
            && let Some(found) = probe::version_of(&program, &base.join("versions"))
            && found != *wanted
        {
            return Some(Refusal::Lacks(format!("{name} is {found}, here {wanted}")));
        }
    }
    None
}

/// Whether what a run needs by its absolute path stands here, in the right version.
pub fn lacks_path(base: &Path, needs: &[NeedPath]) -> Option<Refusal> {
    needs.iter().find_map(|need| {
        let path = Path::new(OsStr::from_bytes(&need.path));
        if !path.exists() {
            return Some(Refusal::Lacks(format!("no {}", path.display())));
        }
        let wanted = need.version.as_ref()?;
        let found = probe::version_of(path, &base.join("versions"))?;
        (found != *wanted).then(|| Refusal::Lacks(format!("{} is {found}, here {wanted}", path.display())))
    })
}

/// Whether the Pythons that the run needs have their modules: in the run's environment and directory, where the command will see its
/// tree.
pub fn lacks_module(
    needs: &[NeedSpec],
    env: &[(OsString, OsString)],
    dir: &Path,
    path: &OsStr,
    place: &Place,
) -> Option<Refusal> {
    for spec in needs {
        let (name, Some(module)) = (&spec.need.program, &spec.need.module) else {
            continue;
        };
        let Some(program) = find(name.as_bytes(), dir, path, place) else {
            continue;
        };
        let mut command = std::process::Command::new(place.shown(&program));
        command.env_clear().envs(env.iter().cloned());
        // One that can't be entered is refused for that when the command starts.
        if place.enter(&mut command, dir).is_ok() && !probe::has_module(&mut command, module) {
            return Some(Refusal::Lacks(format!("{name} has no module `{module}`")));
        }
    }
    None
}

/// The program a run names: a path is taken from `dir`, a name is looked up in `path`. What the command sees at `place` is looked
/// for where it lies.
pub fn find(program: &[u8], dir: &Path, path: &OsStr, place: &Place) -> Option<PathBuf> {
    let name = OsStr::from_bytes(program);
    if program.contains(&b'/') {
        let path = place.real(&dir.join(name));
        if path.exists() {
            return Some(path);
        }
        return place.beside(&dir.join(name)).filter(|p| p.exists());
    }
    probe::find_program(name, path)
}

/// `path` with directories of the tree at `root` in front.
pub fn with_prefix(prefix: &[Vec<u8>], root: &Path, path: &OsStr) -> OsString {
    let mut out = OsString::new();
    for dir in prefix {
        out.push(root.join(OsStr::from_bytes(dir)));
        out.push(":");
    }
    out.push(path);
    out
}

/// Names the Python environment whose programs `prefix` puts in front, as its own script would.
pub fn activate(env: &mut Vec<(OsString, OsString)>, prefix: &[Vec<u8>], root: &Path, place: &Place) {
    let homes = prefix
        .iter()
        .filter_map(|dir| Some(root.join(OsStr::from_bytes(dir)).parent()?.to_owned()));
    let Some(home) = homes.into_iter().find(|h| h.join("pyvenv.cfg").is_file()) else {
        return;
    };
    let home = place.shown(&home).into_os_string();
    env.retain(|(k, _)| k != "VIRTUAL_ENV" && k != "PYTHONHOME");
    env.push(("VIRTUAL_ENV".into(), home));
}

/// The environment of a run: the login environment, what was set on purpose, and PATH with the mirror's own
/// directories in front.
pub fn run_env(
    login: Vec<(OsString, OsString)>,
    set: &[(Vec<u8>, Vec<u8>)],
    prefix: &[Vec<u8>],
    mirror: Option<&Path>,
    run_id: &str,
) -> Vec<(OsString, OsString)> {
    let mut env = login;
    let mut put = |key: &OsStr, value: OsString| match env.iter_mut().find(|(k, _)| k == key) {
        Some(slot) => slot.1 = value,
        None => env.push((key.to_owned(), value)),
    };
    for (k, v) in set {
        put(OsStr::from_bytes(k), OsString::from_vec(v.clone()));
    }
    // A cx that the command starts here must not send anything further.
    put(OsStr::new("CX_INSIDE"), run_id.into());
    if let Some(root) = mirror
        && !prefix.is_empty()
    {
        let path = with_prefix(prefix, root, path_of(&env));
        match env.iter_mut().find(|(k, _)| k == "PATH") {
            Some(slot) => slot.1 = path,
            None => env.push(("PATH".into(), path)),
        }
    }
    env
}
