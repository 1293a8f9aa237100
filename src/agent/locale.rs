//! The locale of a run: as the caller's, where this node has it; otherwise as the node's own login shell sets it. Programs
//! complain of a locale that does not exist, or fall back to plain ASCII.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::probe::tools;

/// How long the node's list of its locales is believed.
const MAX_AGE_MS: u64 = 24 * 3600 * 1000;

/// How long `locale -a` may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Takes the locale variables out of `set` whose value is no locale of this node. `login`: the environment that `set` is put on.
pub fn keep_known(base: &Path, set: &mut Vec<(Vec<u8>, Vec<u8>)>, login: &[(OsString, OsString)]) {
    let mut known: Option<Vec<String>> = None;
    set.retain(|(name, value)| {
        let is_login = || {
            login
                .iter()
                .any(|(k, v)| k.as_bytes() == name && v.as_bytes() == value)
        };
        if !is_locale(name) || is_built_in(value) || is_login() {
            return true;
        }
        let known = known.get_or_insert_with(|| list(base));
        // A system that does not list its locales takes any.
        known.is_empty() || known.contains(&normal(value))
    });
}

/// `LANGUAGE` is no locale but a list of languages to look for; a missing one harms nobody.
fn is_locale(name: &[u8]) -> bool {
    name == b"LANG" || name.starts_with(b"LC_")
}

fn is_built_in(value: &[u8]) -> bool {
    matches!(value, b"" | b"C" | b"POSIX")
}

/// A name as `locale -a` may have it in another spelling: `en_US.UTF-8` is `en_US.utf8`.
fn normal(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let (name, modifier) = match name.split_once('@') {
        Some((n, m)) => (n.to_owned(), format!("@{m}")),
        None => (name.into_owned(), String::new()),
    };
    match name.split_once('.') {
        Some((language, codeset)) => {
            let codeset: String = codeset.chars().filter(char::is_ascii_alphanumeric).collect();
            format!("{language}.{}{modifier}", codeset.to_ascii_lowercase())
        }
        None => name + &modifier,
    }
}

/// This node's locales, asked once a day; none where it can't say.
fn list(base: &Path) -> Vec<String> {
    let cache = base.join("locales");
    let now = crate::agent::now_ms();
    if let Ok(text) = std::fs::read_to_string(&cache)
        && let Some((made, names)) = text.split_once('\n')
        && made
            .parse()
            .is_ok_and(|made: u64| now.saturating_sub(made) < MAX_AGE_MS)
    {
        return names.lines().map(String::from).collect();
    }
    let said = crate::probe::find_program(OsStr::new("locale"), OsStr::new("/usr/bin:/bin:/usr/local/bin"))
        .and_then(|program| tools::output(Command::new(program).arg("-a"), LIMIT));
    let names: Vec<String> = said
        .unwrap_or_default()
        .lines()
        .map(|l| normal(l.trim().as_bytes()))
        .collect();
    // Losing it costs the question again.
    let _ = crate::paths::write_atomic(&cache, format!("{now}\n{}", names.join("\n")).as_bytes(), 0o600);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(set: &[(&str, &str)], known: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let now = crate::agent::now_ms();
        std::fs::write(dir.path().join("locales"), format!("{now}\n{known}")).unwrap();
        let bytes = |s: &str| s.as_bytes().to_vec();
        let mut set: Vec<_> = set.iter().map(|(k, v)| (bytes(k), bytes(v))).collect();
        let login = [("LC_TIME".into(), "nl_NL.UTF-8".into())];
        keep_known(dir.path(), &mut set, &login);
        set.into_iter()
            .map(|(k, v)| format!("{}={}", String::from_utf8_lossy(&k), String::from_utf8_lossy(&v)))
            .collect()
    }

    #[test]
    fn what_the_node_lacks_stays_as_it_is_there() {
        let known = "C\nC.utf8\nde_DE.utf8\nde_DE@euro\nen_US";
        let all = [
            ("LANG", "de_DE.UTF-8"),
            ("LC_ALL", "fr_FR.UTF-8"),
            ("LC_CTYPE", "C.UTF-8"),
            ("LC_COLLATE", "C"),
            ("LC_MONETARY", "de_DE@euro"),
            ("LC_NUMERIC", "de_DE"),
            ("LC_TIME", "nl_NL.UTF-8"),
            ("LANGUAGE", "xx"),
            ("RUST_LOG", "fr_FR.UTF-8"),
        ];
        assert_eq!(
            kept(&all, known),
            [
                "LANG=de_DE.UTF-8",
                "LC_CTYPE=C.UTF-8",
                "LC_COLLATE=C",
                "LC_MONETARY=de_DE@euro",
                "LC_TIME=nl_NL.UTF-8",
                "LANGUAGE=xx",
                "RUST_LOG=fr_FR.UTF-8",
            ]
        );
        assert_eq!(kept(&all, "").len(), all.len());
    }
}
