//! Variables that a command's own text sets to a path of this machine: `CARGO_TARGET_DIR=/tmp/t cargo build`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::leaves_path;

/// Variables that are translated for the node, or that only programs of this machine's shells look at.
const HARMLESS: [&str; 11] = [
    "PATH",
    "PWD",
    "OLDPWD",
    "NVM_DIR",
    "FNM_DIR",
    "PYENV_ROOT",
    "RBENV_ROOT",
    "ASDF_DIR",
    "ASDF_DATA_DIR",
    "SDKMAN_DIR",
    "VOLTA_HOME",
];

/// Why one of the variables `assigned`, with its value in `vars`, ties a command in `cwd` to this machine: a node does not have what lies
/// there, and what is written there does not come back. `roots` are the trees that go along.
pub fn leads_out(
    assigned: &[String],
    vars: impl Iterator<Item = (OsString, OsString)>,
    cwd: &Path,
    roots: &[PathBuf],
) -> Option<String> {
    let meant = |name: &str| assigned.iter().any(|a| a == name) && !HARMLESS.contains(&name);
    let texts = vars.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    texts.filter(|(name, _)| meant(name)).find_map(|(name, value)| {
        // An address, which is judged elsewhere; and every machine has a /tmp of its own.
        if value.contains("://") {
            return None;
        }
        let paths = value.split([':', ' ']).filter(|p| *p != "/tmp");
        let mut paths = paths.map(|p| p.trim_start_matches("-I").trim_start_matches("-L"));
        let why = paths.find_map(|p| leaves_path(p, cwd, roots))?;
        Some(format!("{name} is set: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_a_node_does_not_have() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ws");
        std::fs::create_dir(&root).unwrap();
        let said = |name: &str, value: &str| {
            let value = value.replace("ROOT", root.to_str().unwrap());
            let value = value.replace("OUT", dir.path().to_str().unwrap());
            let vars = [(OsString::from(name), OsString::from(value))];
            let assigned = ["A".to_owned(), "PATH".to_owned(), "NVM_DIR".to_owned()];
            leads_out(&assigned, vars.into_iter(), &root, std::slice::from_ref(&root))
        };
        for value in ["OUT/t", "src:OUT/lib", "../lib", "-O2 -IOUT/include", "OUT"] {
            assert!(
                said("A", value).is_some_and(|w| w.starts_with("A is set: ")),
                "{value}"
            );
        }
        for value in [
            "1",
            "",
            "/tmp",
            "ROOT/t",
            "t",
            "src:lib",
            "/usr/bin/gcc",
            "/api/v1/none",
            "file:///x",
            "-O2 -g",
            "a b",
        ] {
            assert_eq!(said("A", value), None, "{value}");
        }
        assert_eq!(said("B", "OUT/t"), None, "not of the text");
        assert_eq!(said("PATH", "OUT/bin:/usr/bin"), None);
        assert_eq!(said("NVM_DIR", "OUT/.nvm"), None);
    }
}
