//! What only the caller's machine can tell about a command: whether it reaches for things that a node does not have, and
//! what a node must have for it.

pub mod assigned;
pub mod cargo;
pub mod configured;
mod limits;
mod opaque;
pub mod outputs;
pub mod owners;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::cross;
use super::shared;
use crate::config::Config;
use crate::paths::{Paths, normal};
use crate::plan::rules;
use crate::plan::shell::Word;
use crate::plan::{Brings, Workload};
use crate::probe;
use crate::project::{self, Project};
use crate::proto::{NeedPath, NeedSpec};
use crate::provision::{self, Setup};
use crate::sync::Workspace;

/// Absolute places that every machine has for itself.
const SYSTEM: &[&str] = &[
    "/usr", "/bin", "/sbin", "/lib", "/lib64", "/dev", "/proc", "/sys", "/etc",
];

/// What was found out.
#[derive(Debug, Default)]
pub struct Fit {
    /// Why the command can only run here, if so.
    pub must_be_local: Option<String>,
    /// Why it works only where its paths are the same, if so.
    pub identity: Option<String>,
    /// The place that made the ignored directories which the command reads.
    pub owner: Option<String>,
    /// What the node must have.
    pub needs: Vec<NeedSpec>,
    /// Directories that must be in the mirror, relative to the run's directory.
    pub needs_dirs: Vec<Vec<u8>>,
    /// What must stand on the node outside of the mirror.
    pub needs_paths: Vec<NeedPath>,
    /// Directories of the workspace that are in PATH here, relative to its root.
    pub path_prefix: Vec<Vec<u8>>,
    /// What a node does before the first such command.
    pub setup: Setup,
    /// The tree lies where the configuration says that nodes share it.
    pub shared: bool,
    /// Why the command can only run here where the tree is not shared after all, if so.
    pub unless_shared: Option<String>,
    /// The tops of other trees that go along.
    pub also: Vec<PathBuf>,
    /// Why not all that are to go along can.
    pub unfit: Option<String>,
}

/// Whether a command that no rule knows may leave a busy machine unasked: its program, or the script it is given first, is a file
/// below the directory it runs in, and none of its words tells of acting on the world. What else is unknown may be about
/// this machine. That it took long under cx before is for the caller to see.
pub fn may_move_unasked(argv: &[Word], cwd: &Path) -> bool {
    let is_file_here = |w: &Word| {
        w.text().is_some_and(|t| {
            !t.starts_with('-') && !t.starts_with('/') && !t.contains("..") && cwd.join(t).is_file()
        })
    };
    let own = argv
        .first()
        .is_some_and(|w| w.text().is_some_and(|t| t.contains('/')) && is_file_here(w));
    (own || argv.get(1).is_some_and(is_file_here)) && rules::may_move_unasked(argv)
}

/// Looks at a command, its directory and its environment.
pub fn look(
    argv: &[OsString],
    work: &Workload,
    cwd: &Path,
    ws: Option<&Workspace>,
    paths: &Paths,
    config: &Config,
) -> Fit {
    let mut fit = Fit::default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(ws) = ws else {
        fit.needs = work
            .needs
            .iter()
            .map(|n| NeedSpec {
                need: n.clone(),
                version: None,
            })
            .collect();
        return fit;
    };
    fit.path_prefix = std::env::split_paths(&path)
        .filter_map(|d| {
            d.strip_prefix(&ws.root)
                .ok()
                .map(|r| r.as_os_str().as_bytes().to_vec())
        })
        .collect();
    let project = Project::load(&ws.root);
    let beside = provision::beside(ws, &project, &paths.state, &paths.home);
    let (also, unfit) = beside.map_or_else(|e| (Vec::new(), Some(e)), |a| (a, None));
    fit.unfit.clone_from(&unfit);
    let roots: Vec<PathBuf> = std::iter::once(&ws.root).chain(&also).cloned().collect();
    fit.also = also;
    fit.identity = argv.iter().find_map(|a| {
        let path = path_candidates(&a.to_string_lossy())
            .into_iter()
            .find(|p| p.starts_with('/') && is_within(&normal(Path::new(p)), &roots))
            .map(str::to_owned)
            .or_else(|| named_within(a, &roots))?;
        Some(format!(
            "{} is an absolute path of the workspace",
            crate::node::printable(&path, 80)
        ))
    });
    fit.shared = shared::is_named(&ws.root, &config.shared);
    let limited = || {
        let option = limits::lowered()?;
        Some(format!(
            "a limit was set (`ulimit {option}`), which a node does not keep"
        ))
    };
    let inherited = argv.iter().find_map(|a| inherited(a)).or_else(limited);
    fit.must_be_local = project::stays(&project, argv)
        .or(unfit)
        .or(inherited)
        .or_else(|| {
            let services = cross::local_services(std::env::vars_os(), &config.forward);
            (!services.is_empty()).then(|| format!("{} names a service on this machine", services.join(", ")))
        });
    let outside = argv
        .iter()
        .find_map(|a| leaves(a, cwd, &roots))
        // A program that is a link is the node's own: an environment's Python.
        .or_else(|| argv.iter().skip(1).find_map(|a| leads_out(a, cwd, &roots)))
        .or_else(|| outputs::stay(work, cwd, &roots))
        .or_else(|| outside_dependency(argv, cwd, &roots))
        .or_else(|| cargo::leaves_outside(argv, &work.brings, cwd, &ws.root));
    if let Some(why) = outside {
        only_here(&mut fit, why);
    }
    let mut dirs = read_dirs(work, cwd);
    dirs.extend(opaque::environments(argv, cwd, &ws.root, &path));
    let found = work
        .needs
        .iter()
        .filter_map(|n| probe::find_program(OsStr::new(&n.program), &path));
    let envs = found
        .filter(|f| f.starts_with(&ws.root))
        .filter_map(|f| Some(f.parent()?.parent()?.to_owned()));
    let reads: Vec<PathBuf> = dirs.iter().cloned().chain(envs).collect();
    if !fit.shared {
        fit.setup = provision::look(argv, cwd, &reads, ws, project, &paths.state);
    }
    let set_up = |dir: &Path| fit.setup.steps.iter().find(|s| s.makes(&ws.root, dir));
    let trusted = fit.setup.untrusted.is_none();
    dirs.retain(|d| !(trusted && set_up(d).is_some()));
    let hint: Vec<(PathBuf, String)> = dirs
        .iter()
        .filter_map(|d| Some((d.clone(), set_up(d)?.name.clone())))
        .collect();
    if uses_containers(argv)
        && let Some(node) = owners::of(paths, &ws.key, &ws.root, Path::new(owners::CONTAINERS))
    {
        fit.owner = Some(node);
    }
    for need in &work.needs {
        let mut version = None;
        if !need.program.contains('/')
            && let Some(found) = probe::find_program(OsStr::new(&need.program), &path)
        {
            if let Some(why) = from_environment(&need.program, &found, &ws.root) {
                fit.must_be_local.get_or_insert(why);
            }
            if let Ok(rel) = found.strip_prefix(&ws.root) {
                fit.needs_dirs
                    .push(upwards(cwd, &ws.root, rel.parent().unwrap_or(Path::new(""))));
            } else if need.same_version {
                version = probe::version_of(&found, &paths.cache.join("versions"));
            }
        }
        fit.needs.push(NeedSpec {
            need: need.clone(),
            version,
        });
    }
    for full in dirs {
        let above = full != cwd && cwd.starts_with(&full);
        if !full.exists() || above {
            continue;
        }
        let dir = full.strip_prefix(cwd).unwrap_or(&full).display().to_string();
        let Ok(rel) = full.strip_prefix(&ws.root).map(Path::to_owned) else {
            continue;
        };
        let named = configured::names(&full, &ws.root, &paths.cache.join("versions"));
        let configured = named.is_some() && !fit.shared;
        if let Some(needs) = named.filter(|_| !fit.shared) {
            let why = || format!("{} was configured for its path here", rel.display());
            fit.identity.get_or_insert_with(why);
            fit.needs_paths.extend(needs);
        }
        match owners::of(paths, &ws.key, &ws.root, &rel) {
            Some(node) => {
                if !fit.shared {
                    fit.owner = Some(node);
                }
            }
            // What git does not ignore is synced like any source.
            None if is_source(&ws.root, &rel) => {}
            None if configured => {}
            None => {
                let dir = if dir.is_empty() { "what lies here" } else { &dir };
                let how = hint.iter().find(|(d, _)| *d == full);
                let how = how.map_or(String::new(), |(_, name)| {
                    format!(" (cx trust lets nodes make theirs with `{name}`)")
                });
                only_here(&mut fit, format!("{dir} was made on this machine{how}"));
            }
        }
    }
    fit
}

/// Whether a command works on images or containers, which only the daemon that has them knows.
pub fn uses_containers(argv: &[OsString]) -> bool {
    let name = argv.first().and_then(|p| Path::new(p).file_name());
    name.and_then(OsStr::to_str).is_some_and(|n| {
        matches!(
            n,
            "docker" | "docker-compose" | "podman" | "podman-compose" | "nerdctl" | "buildah"
        )
    })
}

/// Notes why a command can only run where its tree stands: on a node that shares it, it may.
fn only_here(fit: &mut Fit, why: String) {
    let reason = if fit.shared {
        &mut fit.unless_shared
    } else {
        &mut fit.must_be_local
    };
    reason.get_or_insert(why);
}

/// Whether git has a directory for source: not ignored, and nothing in it says that a tool made it.
fn is_source(root: &Path, rel: &Path) -> bool {
    let dir = root.join(rel);
    let made = [
        "CMakeCache.txt",
        "build.ninja",
        "meson-info",
        "CACHEDIR.TAG",
        "pyvenv.cfg",
        ".package-lock.json",
    ];
    let name = rel.file_name().unwrap_or_default();
    if made.iter().any(|m| dir.join(m).exists()) || name == "node_modules" || name == ".venv" {
        return false;
    }
    let ignored = std::process::Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["check-ignore", "-q", "--"])
        .arg(rel)
        .status();
    !ignored.is_ok_and(|s| s.success())
}

/// `dir`, relative to `root`, as seen from `cwd` inside `root`.
fn upwards(cwd: &Path, root: &Path, dir: &Path) -> Vec<u8> {
    let depth = cwd.strip_prefix(root).map_or(0, |r| r.components().count());
    let mut p = PathBuf::new();
    for _ in 0..depth {
        p.push("..");
    }
    p.push(dir);
    p.into_os_string().as_bytes().to_vec()
}

/// Why an argument that names a descriptor of the caller's (`make -f <(generate)`) ties the command to this machine. The standard ones
/// go along.
fn inherited(arg: &OsStr) -> Option<String> {
    let text = arg.to_string_lossy();
    ["/dev/fd/", "/proc/self/fd/"].iter().find_map(|dir| {
        let (_, number) = text.split_once(dir)?;
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let above = number[..end].parse::<u32>().is_ok_and(|n| n > 2);
        above.then(|| format!("{dir}{} is open on this machine only", &number[..end]))
    })
}

/// Why an argument ties the command to this machine.
fn leaves(arg: &OsStr, cwd: &Path, roots: &[PathBuf]) -> Option<String> {
    let text = arg.to_string_lossy();
    path_candidates(&text)
        .into_iter()
        .find_map(|p| leaves_path(p, cwd, roots))
}

/// Why an argument that names something in the tree ties the command to this machine all the same: through a symbolic link.
fn leads_out(arg: &OsStr, cwd: &Path, roots: &[PathBuf]) -> Option<String> {
    let text = arg.to_string_lossy();
    path_candidates(&text).into_iter().find_map(|p| {
        let full = normal(&cwd.join(p));
        if p.is_empty() || p.len() > 4096 || !is_within(&full, roots) {
            return None;
        }
        let real = full.canonicalize().ok()?;
        let stays = is_within(&real, roots) || SYSTEM.iter().any(|s| real.starts_with(s));
        let shown = crate::node::printable(p, 80);
        (!stays).then(|| format!("{shown} leads out of the workspace"))
    })
}

/// Whether a path lies in one of the trees that go along.
fn is_within(full: &Path, roots: &[PathBuf]) -> bool {
    roots.iter().any(|r| full.starts_with(r))
}

/// Options of compilers behind which a path follows at once.
const ATTACHED: [&str; 10] = [
    "-isystem",
    "-idirafter",
    "-iprefix",
    "-iquote",
    "-imacros",
    "-include",
    "-MF",
    "-MT",
    "-MQ",
    "@",
];

/// What of an argument may be a path: all of it, what follows `=`, what follows an option's letter or name, and all that in each
/// word of a value (`CFLAGS=-O2 -I/x`) and each part of an option for another tool (`-Wl,-Map,/x`).
fn path_candidates(text: &str) -> Vec<&str> {
    let mut candidates = vec![text];
    let value = text.split_once('=').map(|(_, value)| value);
    candidates.extend(value);
    let words = value.into_iter().flat_map(str::split_whitespace);
    let passed = text.strip_prefix("-W").into_iter().flat_map(|t| t.split(','));
    for word in std::iter::once(text).chain(words).chain(passed) {
        candidates.push(word);
        // -I/path, -o../x
        if word.len() > 2 && word.starts_with('-') && !word.starts_with("--") && word.is_char_boundary(2) {
            candidates.push(&word[2..]);
        }
        candidates.extend(ATTACHED.iter().filter_map(|option| word.strip_prefix(option)));
    }
    candidates
}

fn leaves_path(text: &str, cwd: &Path, roots: &[PathBuf]) -> Option<String> {
    let looks = text.starts_with('/') || text.starts_with("..") || text.contains("/..");
    if !looks || text.contains("://") || text.len() > 4096 || text.contains('\n') {
        return None;
    }
    let full = normal(&cwd.join(text));
    let shown = || crate::node::printable(text, 80);
    if is_within(&full, roots) {
        return None;
    }
    if SYSTEM.iter().any(|s| full.starts_with(s)) || full == Path::new("/") {
        return None;
    }
    // What does not exist may be about to be made there, with the directories above it; but not right below the root.
    let tied = !text.starts_with('/')
        || full.exists()
        || full
            .ancestors()
            .skip(1)
            .any(|a| a.parent().is_some() && a.exists());
    tied.then(|| format!("{} lies outside the workspace", shown()))
}

/// Why a tool from an activated environment outside the workspace can't be had elsewhere.
fn from_environment(name: &str, found: &Path, root: &Path) -> Option<String> {
    ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().find_map(|var| {
        let env = std::env::var_os(var).map(PathBuf::from)?;
        let tied = found.starts_with(&env) && !env.starts_with(root) && !env.as_os_str().is_empty();
        tied.then(|| {
            format!(
                "`{name}` comes from the environment {}, which nodes lack",
                env.display()
            )
        })
    })
}

/// A dependency by path that leads out of what goes along, in the workspace's manifests of the tool that is run.
fn outside_dependency(argv: &[OsString], cwd: &Path, roots: &[PathBuf]) -> Option<String> {
    let root = roots.first()?;
    let tool = Path::new(argv.first()?).file_name()?.to_str()?;
    let file = match tool {
        "cargo" => "Cargo.toml",
        "go" => "go.mod",
        "npm" | "yarn" | "pnpm" | "bun" | "npx" => "package.json",
        _ => return None,
    };
    let mut found = Vec::new();
    manifests(root, file, 3, &mut found);
    for dir in cwd.ancestors().take_while(|d| d.starts_with(root)) {
        let f = dir.join(file);
        if f.is_file() && !found.contains(&f) {
            found.push(f);
        }
    }
    found.iter().find_map(|f| {
        let text = std::fs::read_to_string(f).ok()?;
        let dir = f.parent()?;
        quoted_paths(&text).find_map(|p| {
            let full = normal(&dir.join(p));
            let out = !is_within(&full, roots) && full.exists();
            out.then(|| {
                format!(
                    "{} depends on {p}, which lies outside the workspace",
                    f.strip_prefix(root).unwrap_or(f).display()
                )
            })
        })
    })
}

/// Words of a manifest that begin with `../` or `file:../`, in quotes or not.
fn quoted_paths(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|l| l.contains("../"))
        .flat_map(|l| l.split(|c: char| c.is_whitespace() || "\"'=,{}[]".contains(c)))
        .map(|w| {
            w.strip_prefix("file:")
                .or_else(|| w.strip_prefix("link:"))
                .unwrap_or(w)
        })
        .filter(|w| w.starts_with("../"))
}

fn manifests(dir: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for e in entries.flatten() {
        if found.len() >= 200 {
            return;
        }
        let Ok(kind) = e.file_type() else { continue };
        let file = e.file_name();
        if kind.is_file() && file == name {
            found.push(e.path());
        } else if kind.is_dir() && depth > 0 {
            let skip = file == "target" || file == "node_modules" || file.as_bytes().starts_with(b".");
            if !skip {
                manifests(&e.path(), name, depth - 1, found);
            }
        }
    }
}

/// The directories whose content a command of `work` in `cwd` needs as a tool left it: those its rule names, and its own where
/// cmake or meson have made that their build directory, whatever runs in it.
fn read_dirs(work: &Workload, cwd: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = work.reads.iter().map(|d| normal(&cwd.join(d))).collect();
    if BUILD_DIR.iter().any(|mark| cwd.join(mark).exists()) {
        dirs.push(cwd.to_owned());
    }
    dirs
}

/// What cmake and meson leave in a build directory; it holds absolute paths.
const BUILD_DIR: &[&str] = &["CMakeCache.txt", "meson-info"];

/// The directories that a command of `work` in `cwd` reads and leaves, relative to the workspace.
pub fn touched(work: &Workload, cwd: &Path, root: &Path) -> Vec<PathBuf> {
    read_dirs(work, cwd)
        .iter()
        .filter_map(|d| d.strip_prefix(root).map(Path::to_owned).ok())
        .collect()
}

/// What comes back of a command of the rule `rule`, as seen from `cwd`.
pub fn brings(rule: &str, brings: &Brings, cwd: &Path, root: &Path) -> Brings {
    if rule != "cargo" || !matches!(brings, Brings::Outputs(_)) {
        return brings.clone();
    }
    cargo::moved(brings, cwd, &cargo::own_target_dir(cwd, root))
}

/// A root that a text names somewhere, as in `sh -c 'gcc /home/me/app/x.c'`.
fn named_within(text: &OsStr, roots: &[PathBuf]) -> Option<String> {
    let text = text.as_bytes();
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-') || *b >= 0x80;
    let names = |root: &[u8]| {
        let mut from = 0;
        while let Some(at) = probe::find(&text[from..], root) {
            let (start, end) = (from + at, from + at + root.len());
            // What stands before it may be an option: `-I/home/me/app`.
            if text.get(end).is_none_or(|b| !is_name(b)) {
                return true;
            }
            from = start + 1;
        }
        false
    };
    let mut roots = roots.iter().filter(|r| r.as_os_str().len() > 1);
    let root = roots.find(|r| names(r.as_os_str().as_bytes()))?;
    Some(root.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_names_the_workspace_is_known() {
        let roots = [PathBuf::from("/home/me/app"), PathBuf::from("/home/me/lib.rs")];
        let names = |text: &str| named_within(OsStr::new(text), &roots);
        assert_eq!(names("gcc /home/me/app/x.c -o x").unwrap(), "/home/me/app");
        assert_eq!(names("cd '/home/me/app'; make").unwrap(), "/home/me/app");
        assert_eq!(
            names("/home/me/app2; -I/home/me/lib.rs").unwrap(),
            "/home/me/lib.rs"
        );
        assert_eq!(names("cat /home/me/app2/x /home/me/app.old"), None);
    }

    #[test]
    fn arguments_that_leave_the_workspace_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ws");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(dir.path().join("outside"), "").unwrap();
        let cwd = root.join("sub");
        let abs = root.join("sub/x").display().to_string();
        let tmp = dir.path().join("new-file").display().to_string();
        let cases: &[(&str, bool)] = &[
            ("-x", false),
            ("../file-of-the-workspace", false),
            ("../../outside", true),
            ("--config=../../outside", true),
            ("../../not-there", true),
            ("-o../../not-there", true),
            ("--target-dir=../../t", true),
            ("-I/usr/include", false),
            ("CFLAGS=-O2 -I/usr/include", false),
            ("CFLAGS=-I../../inc", true),
            ("CFLAGS=-O2 -L../../lib -g", true),
            ("-isystem../../inc", true),
            ("-Wl,-Map,../../x.map", true),
            ("@../../flags", true),
            ("-Wl,--as-needed", false),
            ("CFLAGS=-O2 -Iinc", false),
            ("/dev/null", false),
            (&abs, false),
            (&tmp, true),
            ("https://example.org/../x", false),
            ("a..b", false),
        ];
        for (arg, tied) in cases {
            assert_eq!(
                leaves(OsStr::new(arg), &cwd, std::slice::from_ref(&root)).is_some(),
                *tied,
                "{arg}"
            );
        }
    }

    #[test]
    fn descriptors_of_the_caller_s_are_named() {
        for (arg, is) in [
            ("/dev/fd/63", true),
            ("-f/dev/fd/3", true),
            ("--config=/proc/self/fd/11", true),
            ("/dev/fd/0", false),
            ("/dev/fd/2", false),
            ("/dev/fd", false),
            ("/dev/fd/x", false),
            ("/dev/null", false),
        ] {
            assert_eq!(inherited(OsStr::new(arg)).is_some(), is, "{arg}");
        }
    }

    #[test]
    fn links_that_lead_out_of_the_workspace_are_named() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let root = top.join("ws");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::create_dir(top.join("outside")).unwrap();
        std::fs::write(top.join("outside/f"), "").unwrap();
        symlink("../outside", root.join("dir")).unwrap();
        symlink(top.join("outside/f"), root.join("file")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("sub", root.join("inside")).unwrap();
        symlink("/usr", root.join("system")).unwrap();
        let cases: &[(&str, Option<&str>)] = &[
            ("file", Some("file")),
            ("dir", Some("dir")),
            ("dir/f", Some("dir/f")),
            ("--config=dir/f", Some("dir/f")),
            ("-Idir", Some("dir")),
            ("inside", None),
            ("dangling", None),
            ("system", None),
            ("sub/../file", Some("sub/../file")),
            ("dir/not-there", None),
            ("-x", None),
            ("", None),
        ];
        for (arg, named) in cases {
            let want = named.map(|n| format!("{n} leads out of the workspace"));
            let roots = std::slice::from_ref(&root);
            assert_eq!(leads_out(OsStr::new(arg), &root, roots), want, "{arg}");
            let other = [root.clone(), top.join("outside")];
            assert_eq!(leads_out(OsStr::new(arg), &root, &other), None, "{arg}");
        }
    }

    #[test]
    fn path_dependencies_that_lead_out_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ws");
        std::fs::create_dir_all(root.join("crates/a")).unwrap();
        std::fs::create_dir_all(dir.path().join("lib")).unwrap();
        let argv = [OsString::from("cargo"), "test".into()];
        std::fs::write(root.join("crates/a/Cargo.toml"), "b = { path = \"../b\" }\n").unwrap();
        assert_eq!(
            outside_dependency(&argv, &root, std::slice::from_ref(&root)),
            None
        );
        std::fs::write(
            root.join("crates/a/Cargo.toml"),
            "b = { path = \"../../../lib\" }\n",
        )
        .unwrap();
        let why = outside_dependency(&argv, &root, std::slice::from_ref(&root)).unwrap();
        assert!(
            why.contains("crates/a/Cargo.toml depends on ../../../lib"),
            "{why}"
        );
    }

    #[test]
    fn containers_have_an_owner_too() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let of = |name: &str| owners::of(&paths, "w", dir.path(), Path::new(name));
        let made = [owners::CONTAINERS.into()];
        owners::note(&paths, "w", dir.path(), &made, Some("n1"));
        assert_eq!(of(owners::CONTAINERS).as_deref(), Some("n1"));
        assert_eq!(of("containers"), None);
        for (program, uses) in [("docker", true), ("/usr/bin/podman", true), ("dockerd", false)] {
            assert_eq!(uses_containers(&[program.into(), "ps".into()]), uses, "{program}");
        }
    }

    #[test]
    fn owners_are_kept_until_the_directory_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, root) = (Paths::under(dir.path()), dir.path().join("ws"));
        let build = root.join("build");
        std::fs::create_dir_all(&build).unwrap();
        let of = || owners::of(&paths, "w", &root, Path::new("build"));
        let note = |node| owners::note(&paths, "w", &root, &["build".into()], node);
        note(Some("n1"));
        assert_eq!(of().as_deref(), Some("n1"));
        std::fs::rename(&build, root.join("old")).unwrap();
        std::fs::create_dir(&build).unwrap();
        assert_eq!(of(), None);
        note(Some("n1"));
        let cache = |home: &Path| {
            let text = format!("# x\nCMAKE_HOME_DIRECTORY:INTERNAL={}\n", home.display());
            std::fs::write(build.join("CMakeCache.txt"), text).unwrap();
        };
        cache(&root);
        assert_eq!(of(), None, "configured here since");
        note(Some("n1"));
        assert_eq!(of().as_deref(), Some("n1"), "whatever the paths in it");
        cache(Path::new("/home/other/ws"));
        assert_eq!(of(), None);
        note(Some("n1"));
        note(None);
        std::fs::remove_file(build.join("CMakeCache.txt")).unwrap();
        assert_eq!(of(), None);
    }
}
