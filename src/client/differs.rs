//! What is different on a node where a command has just failed for the first time: tools, variables that stayed here, services of
//! this machine. A hint, so that nobody mends good code; it costs nothing while commands succeed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::{cross, forward};
use crate::node::printable;
use crate::paths::{self, Paths};
use crate::plan::manifest::RelPath;
use crate::probe;

/// Bytes at the end of the output that are looked at.
pub const TAIL: usize = 16 << 10;

/// Differences that are told of at most.
const MOST: usize = 4;

/// The kind of command, as far as failures are concerned: its rule and first words.
pub fn shape(rule: &str, argv: &[OsString]) -> String {
    let words: Vec<_> = argv.iter().take(2).map(|a| a.to_string_lossy()).collect();
    format!("{rule}: {}", words.join(" "))
}

fn file(paths: &Paths, workspace: &str) -> PathBuf {
    paths.state.join("failures").join(format!("{workspace}.json"))
}

fn known(paths: &Paths, workspace: &str) -> BTreeSet<(String, String)> {
    std::fs::read(file(paths, workspace))
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or_default()
}

/// Whether this shape has not failed on this node before, in this workspace.
pub fn is_first(paths: &Paths, workspace: &str, node: &str, shape: &str) -> bool {
    !known(paths, workspace).contains(&(node.to_owned(), shape.to_owned()))
}

/// Notes that it has.
pub fn note(paths: &Paths, workspace: &str, node: &str, shape: &str) {
    let mut all = known(paths, workspace);
    all.insert((node.to_owned(), shape.to_owned()));
    if let Ok(bytes) = serde_json::to_vec(&all) {
        // Without the note it is told once more.
        let _ = paths::write_atomic(&file(paths, workspace), &bytes, 0o600);
    }
}

/// What differs: `tools` as the node has them (an empty version: none), `passed` the variables that went along, and the end of the
/// command's output.
pub fn look(
    tools: &[(String, String)],
    passed: &[(Vec<u8>, Vec<u8>)],
    tail: &[u8],
    paths: &Paths,
) -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = |name: &str| {
        let found = probe::find_program(OsStr::new(name), &path)?;
        probe::version_of(&found, &paths.cache.join("versions"))
    };
    let text = String::from_utf8_lossy(tail);
    let names: Vec<String> = std::env::vars_os()
        .filter_map(|(k, _)| k.into_string().ok())
        .filter(|k| !passed.iter().any(|(p, _)| p == k.as_bytes()))
        .collect();
    let mut found = other_tools(tools, here);
    found.extend(unpassed(&names, &text));
    found.extend(refused(&text, forward::is_served));
    found.extend(unimported(&text, |module| {
        let python = ["python3", "python"]
            .iter()
            .find_map(|p| probe::find_program(OsStr::new(p), &path));
        python.is_some_and(|p| probe::has_module(&mut std::process::Command::new(p), module))
    }));
    found.truncate(MOST);
    found
}

fn other_tools(tools: &[(String, String)], here: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let differing = tools.iter().filter_map(|(name, there)| {
        let here = here(name)?;
        let (shown, there) = (printable(name, 40), printable(there, 20));
        if there.is_empty() {
            Some(format!("no `{shown}` there"))
        } else {
            (here != there && there != "?").then(|| format!("{shown} is {there} there, {here} here"))
        }
    });
    differing.collect()
}

/// Variables that are set here, did not go along, and are named in the output.
fn unpassed(names: &[String], text: &str) -> Vec<String> {
    let words: BTreeSet<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    let named = names
        .iter()
        .filter(|n| n.len() > 2 && !cross::is_of_the_session(n) && words.contains(n.as_str()));
    named
        .map(|n| {
            format!(
                "{} is set here and did not go along ([env] pass)",
                printable(n, 60)
            )
        })
        .collect()
}

/// Python modules that the output says are missing, and that can be imported here.
fn unimported(text: &str, is_here: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names = BTreeSet::new();
    for (at, mark) in text.match_indices("No module named ") {
        let rest = text[at + mark.len()..].trim_start_matches(['\'', '"']);
        let name: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .take(80)
            .collect();
        names.extend(Some(name).filter(|n| !n.is_empty()));
    }
    let here = names.into_iter().take(3).filter(|n| is_here(n));
    here.map(|n| format!("the Python module `{n}` is here, not there"))
        .collect()
}

/// Ports of localhost that the output names together with a refusal, and at which something answers here.
fn refused(text: &str, served: impl Fn(u16) -> bool) -> Vec<String> {
    let lower = text.to_lowercase();
    if !lower.contains("refused") {
        return Vec::new();
    }
    let mut ports = BTreeSet::new();
    for mark in [
        "localhost:",
        "127.0.0.1:",
        "::1]:",
        "::1:",
        "port ",
        "port=",
        ", ",
    ] {
        for (at, _) in lower.match_indices(mark) {
            let digits: String = lower[at + mark.len()..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            ports.extend(digits.parse::<u16>().ok().filter(|p| *p > 0));
        }
    }
    ports
        .into_iter()
        .take(8)
        .filter(|p| served(*p))
        .map(|p| format!("localhost:{p} answers here, not there (forward = [{p}])"))
        .collect()
}

/// Environments and inputs that stay on this machine, in words: what package managers made here in `cwd` or above it, unless a set-up
/// makes it there as well (`is_made`), what was `unsent` as it is over the limit, and cargo's `programs` that the node lacks.
pub fn stays(
    cwd: &Path,
    root: &Path,
    is_made: impl Fn(&Path) -> bool,
    unsent: &[RelPath],
    programs: &[RelPath],
) -> Vec<String> {
    let mut said = Vec::new();
    for name in ["node_modules", ".venv", "venv"] {
        let dirs = cwd.ancestors().take_while(|d| d.starts_with(root));
        let mut found = dirs.map(|d| d.join(name)).filter(|d| d.is_dir());
        if found.any(|dir| !is_made(&dir)) {
            said.push(format!("{name} was made here and does not go along"));
        }
    }
    if !unsent.is_empty() {
        said.push(format!(
            "over ignored_limit, so not there: {}",
            super::tree::list(unsent)
        ));
    }
    if !programs.is_empty() {
        said.push(format!(
            "built on another machine, so not there: {}",
            super::tree::list(programs)
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let tools = [("python3", "3.9"), ("make", "4.3"), ("node", ""), ("odd", "1.0")];
        let tools: Vec<_> = tools
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        let here = |name: &str| match name {
            "python3" => Some("3.12".to_owned()),
            "make" => Some("4.3".into()),
            "node" => Some("20.1".into()),
            _ => None,
        };
        assert_eq!(
            other_tools(&tools, here),
            ["python3 is 3.9 there, 3.12 here", "no `node` there"]
        );

        let names = ["API_URL", "HOME", "OTHER", "X"].map(str::to_owned);
        let said = unpassed(&names, "KeyError: 'API_URL' in $HOME X MOTHER OTHER_2");
        assert_eq!(said, ["API_URL is set here and did not go along ([env] pass)"]);

        let text = "E   ModuleNotFoundError: No module named 'numpy.core'\n/usr/bin/python3: No module named pytest\n\
                    No module named 'gone'";
        assert_eq!(
            unimported(text, |m| m != "gone"),
            [
                "the Python module `numpy` is here, not there",
                "the Python module `pytest` is here, not there"
            ]
        );

        let text = "could not connect to localhost:5432: Connection refused; ('127.0.0.1', 6379) port 80";
        let said = refused(text, |p| p != 80);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("localhost:5432 answers here"));
        assert!(refused("localhost:5432 is fine", |_| true).is_empty());
    }

    #[test]
    fn a_shape_fails_for_the_first_time_once() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let shape = shape("pytest", &["pytest".into(), "-x".into(), "tests".into()]);
        assert_eq!(shape, "pytest: pytest -x");
        assert!(is_first(&paths, "w", "n1", &shape));
        note(&paths, "w", "n1", &shape);
        assert!(!is_first(&paths, "w", "n1", &shape));
        assert!(is_first(&paths, "w", "n2", &shape) && is_first(&paths, "v", "n1", &shape));
    }

    #[test]
    fn environments_that_were_made_here_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (root, sub) = (dir.path(), dir.path().join("sub"));
        std::fs::create_dir_all(root.join("node_modules")).unwrap();
        std::fs::create_dir_all(sub.join(".venv")).unwrap();
        let unsent = [RelPath::new("data").unwrap()];
        let said = stays(&sub, root, |d| d.ends_with("node_modules"), &unsent, &[]).join("; ");
        assert_eq!(
            said,
            ".venv was made here and does not go along; over ignored_limit, so not there: data"
        );
        assert!(stays(root, root, |_| true, &[], &[]).is_empty());
        assert!(stays(root, root, |_| false, &[], &[])[0].starts_with("node_modules was made here"));
    }
}
