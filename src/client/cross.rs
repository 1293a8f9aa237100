//! Which of the caller's variables cross to the node: those that were set on purpose, never by accident.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Names (or prefixes, with `*`) of harmless developers' variables that go along.
const CROSS: &[&str] = &[
    "CI",
    "NODE_ENV",
    "RUST_*",
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "CARGO_TERM_*",
    "CARGO_PROFILE_*",
    "CARGO_INCREMENTAL",
    "CARGO_BUILD_JOBS",
    "CARGO_NET_OFFLINE",
    "PYTEST_*",
    "PYTHONHASHSEED",
    "PYTHONWARNINGS",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
    "PYTHONOPTIMIZE",
    "PYTHONUTF8",
    "PYTHONIOENCODING",
    "TOX_*",
    "NOX_*",
    "COVERAGE_*",
    "HYPOTHESIS_*",
    "DJANGO_SETTINGS_MODULE",
    "FLASK_ENV",
    "FLASK_DEBUG",
    "RAILS_ENV",
    "RACK_ENV",
    "MIX_ENV",
    "JEST_*",
    "VITEST_*",
    "FORCE_COLOR",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "LINES",
    "TERM",
    "COLORTERM",
    "TZ",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "GOFLAGS",
    "GOOS",
    "GOARCH",
    "CGO_ENABLED",
    "GO111MODULE",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "CC",
    "CXX",
    "AR",
    "MAKEFLAGS",
    "V",
    "VERBOSE",
    "DEBUG",
    "CMAKE_BUILD_TYPE",
    "CMAKE_BUILD_PARALLEL_LEVEL",
    "CTEST_*",
    "GTEST_*",
    "NINJA_STATUS",
    "SOURCE_DATE_EPOCH",
    "DOTNET_CLI_TELEMETRY_OPTOUT",
    "GRADLE_OPTS",
    "MAVEN_OPTS",
    "JAVA_TOOL_OPTIONS",
    "ASAN_OPTIONS",
    "UBSAN_OPTIONS",
    "TSAN_OPTIONS",
    "LSAN_OPTIONS",
    "MALLOC_*",
    "TEST_*",
    "INSTA_*",
    "PROPTEST_*",
    "QUICKCHECK_*",
    "NEXTEST_*",
    "CRITERION_*",
];

/// Names that never cross, whatever else says so.
const NEVER: &[&str] = &[
    "ANTHROPIC_*",
    "CLAUDE*",
    "CX_*",
    "SSH_*",
    "LD_*",
    "DYLD_*",
    "GPG_*",
    "XDG_*",
    "DBUS_*",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "TMPDIR",
    "HOSTNAME",
    "MAIL",
    "BASH_ENV",
    "ENV",
    "SUDO_*",
    "TMUX*",
    "STY",
    "VIRTUAL_ENV",
    "CONDA_*",
    "PYENV_*",
];

/// Words in a name that make it look like a secret.
const SECRET: &[&str] = &[
    "SECRET",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "AUTH",
    "COOKIE",
    "SESSION_KEY",
    "SIGNING_KEY",
    "DSN",
];

/// Beginnings of values that are tokens, whatever the variable is called.
const TOKENS: &[&str] = &[
    "sk-",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
    "pypi-",
    "eyJ",
    "-----BEGIN",
];

/// What decides beyond the built-in lists.
#[derive(Default)]
pub struct Rules<'a> {
    /// `[env] pass` of the config.
    pub pass: &'a [String],
    /// Names assigned in front of the command itself, or that changed in the person's own shell.
    pub assigned: &'a [String],
}

/// Of `vars`, those that cross.
pub fn crossing(vars: impl Iterator<Item = (OsString, OsString)>, rules: &Rules) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out: Vec<(Vec<u8>, Vec<u8>)> = vars
        .filter(|(k, v)| crosses(k, v, rules))
        .map(|(k, v)| {
            let v = if k == "MAKEFLAGS" {
                without_jobserver(&v)
            } else {
                v.as_bytes().to_vec()
            };
            (k.as_bytes().to_vec(), v)
        })
        .collect();
    out.sort();
    out
}

fn crosses(key: &OsStr, value: &OsStr, rules: &Rules) -> bool {
    let (Some(name), value) = (key.to_str(), value.to_string_lossy()) else {
        return false;
    };
    let named = |list: &[String]| list.iter().any(|p| matches(p, name));
    if NEVER.iter().any(|p| matches(p, name)) {
        return false;
    }
    // A variable that the config names in full goes for good; everything else stays if it looks like a secret.
    if rules.pass.iter().any(|p| p == name) {
        return true;
    }
    if looks_secret(name, &value) {
        return false;
    }
    named(rules.pass) || named(rules.assigned) || CROSS.iter().any(|p| matches(p, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Whether a variable belongs to this session or machine and never crosses.
pub fn is_of_the_session(name: &str) -> bool {
    NEVER.iter().any(|p| matches(p, name))
}

/// Whether a variable looks like a secret by its name or its value.
pub fn looks_secret(name: &str, value: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    SECRET.iter().any(|w| upper.contains(w))
        || TOKENS.iter().any(|t| value.starts_with(t))
        || has_credentials(value)
}

/// `scheme://user:password@host`.
fn has_credentials(value: &str) -> bool {
    value.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split('/').next().unwrap_or(rest);
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
    })
}

/// MAKEFLAGS without the jobserver of a make on this machine, whose pipe does not reach the node.
fn without_jobserver(flags: &OsStr) -> Vec<u8> {
    let kept: Vec<&[u8]> = flags
        .as_bytes()
        .split(|b| *b == b' ')
        .filter(|w| !w.starts_with(b"--jobserver") && !w.starts_with(b"-j"))
        .collect();
    kept.join(&b' ')
}

/// Variables of the caller that name a service on this machine: `(name, port or address)`. A command that uses them would not
/// find the service on a node. Only variables that cross or that tests commonly read are looked at.
pub fn local_services(vars: impl Iterator<Item = (OsString, OsString)>, forward: &[u16]) -> Vec<String> {
    services(vars, |port| port.is_none_or(|p| !forward.contains(&p)))
}

/// Those that name a service at one of the ports in `forward`, which nodes can reach.
pub fn forwarded_services(vars: impl Iterator<Item = (OsString, OsString)>, forward: &[u16]) -> Vec<String> {
    if forward.is_empty() {
        return Vec::new();
    }
    services(vars, |port| port.is_some_and(|p| forward.contains(&p)))
}

/// The port that a variable of this name and value means, if that can be told; `others` are all variables.
fn port_of(name: &str, value: &str, others: &[(String, String)]) -> Option<u16> {
    let host = match value.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?', '#']).next()?.rsplit('@').next()?,
        None => value,
    };
    if let Some(port) = host.rsplit_once(':').and_then(|(_, p)| p.parse().ok()) {
        return Some(port);
    }
    let beside = name
        .strip_suffix("_HOST")
        .or_else(|| name.strip_suffix("_ADDR"))
        .map(|n| format!("{n}_PORT"))
        .or_else(|| (name == "PGHOST").then(|| "PGPORT".to_owned()));
    let said = beside.and_then(|b| others.iter().find(|(k, _)| *k == b)?.1.parse().ok());
    let scheme = value
        .split_once("://")
        .map_or("", |(s, _)| s.split('+').next().unwrap_or(s));
    let usual = match (scheme, name) {
        ("postgres" | "postgresql", _) | (_, "PGHOST") => Some(5432),
        ("mysql" | "mariadb", _) => Some(3306),
        ("redis", _) => Some(6379),
        ("mongodb", _) => Some(27017),
        ("amqp", _) => Some(5672),
        ("http" | "ws", _) => Some(80),
        ("https" | "wss", _) => Some(443),
        _ => None,
    };
    said.or(usual)
}

fn services(
    vars: impl Iterator<Item = (OsString, OsString)>,
    wanted: impl Fn(Option<u16>) -> bool,
) -> Vec<String> {
    let all: Vec<(String, String)> = vars
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let mut found: Vec<String> = all
        .iter()
        .filter_map(|(name, value)| {
            let skip = [
                "ANTHROPIC_",
                "CLAUDE",
                "SSH_",
                "XDG_",
                "DBUS_",
                "CX_",
                "DISPLAY",
                "npm_",
                "OLLAMA_",
            ];
            if skip.iter().any(|p| name.starts_with(p)) || name.to_ascii_lowercase().contains("proxy") {
                return None;
            }
            let is_url = value.split_once("://").is_some_and(|(_, rest)| {
                let host = rest
                    .split('/')
                    .next()
                    .unwrap_or("")
                    .rsplit('@')
                    .next()
                    .unwrap_or("");
                is_here(host)
            });
            let is_host =
                (name.ends_with("_HOST") || name == "PGHOST" || name.ends_with("_ADDR")) && is_here(value);
            let named = (is_url || is_host) && wanted(port_of(name, value, &all));
            named.then(|| name.clone())
        })
        .collect();
    found.sort();
    found
}

fn is_here(host: &str) -> bool {
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.split_once(']'))
        .map_or_else(|| host.split(':').next().unwrap_or(host), |(v6, _)| v6);
    matches!(host, "localhost" | "127.0.0.1" | "::1" | "0.0.0.0")
}

/// Names whose value differs from that in the environment the person's shell was started with: what a person typed or
/// exported on purpose. `before` is that environment, NUL-separated.
pub fn changed_since(before: &[u8], now: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let before: std::collections::HashSet<&[u8]> = before.split(|b| *b == 0).collect();
    now.filter_map(|(k, v)| {
        let pair = [k.as_bytes(), b"=", v.as_bytes()].concat();
        (!before.contains(pair.as_slice()))
            .then(|| k.to_str().map(str::to_owned))
            .flatten()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(vars: &[(&str, &str)], rules: &Rules) -> Vec<String> {
        let vars = vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        crossing(vars, rules)
            .into_iter()
            .map(|(k, _)| String::from_utf8(k).unwrap())
            .collect()
    }

    #[test]
    fn only_what_was_set_on_purpose_crosses() {
        let vars = [
            ("RUST_LOG", "debug"),
            ("CI", "1"),
            ("FOO", "1"),
            ("BAR", "1"),
            ("ANTHROPIC_API_KEY", "x"),
            ("CLAUDECODE", "1"),
            ("GITHUB_TOKEN", "x"),
            ("TEST_DB", "postgres://u:p@db/x"),
            ("RUST_THING", "ghp_abc"),
            ("LD_PRELOAD", "x"),
            ("CX_LOCAL", "1"),
            ("PATH", "/bin"),
        ];
        let assigned = ["FOO".to_owned(), "LD_PRELOAD".into(), "GITHUB_TOKEN".into()];
        let pass = [
            "GITHUB_TOKEN".to_owned(),
            "ANTHROPIC_*".into(),
            "RUST_*".into(),
            "BA*".into(),
        ];
        assert_eq!(names(&vars, &Rules::default()), ["CI", "RUST_LOG"]);
        assert_eq!(
            names(
                &vars,
                &Rules {
                    assigned: &assigned,
                    pass: &[]
                }
            ),
            ["CI", "FOO", "RUST_LOG"]
        );
        assert_eq!(
            names(
                &vars,
                &Rules {
                    assigned: &[],
                    pass: &pass
                }
            ),
            ["BAR", "CI", "GITHUB_TOKEN", "RUST_LOG"]
        );
    }

    #[test]
    fn the_jobserver_stays() {
        let v = without_jobserver(OsStr::new("w -j4 --jobserver-auth=3,4 -- A=1"));
        assert_eq!(v, b"w -- A=1");
    }

    #[test]
    fn services_on_this_machine_are_seen() {
        let vars = [
            ("DATABASE_URL", "postgres://localhost:5432/x"),
            ("PGHOST", "127.0.0.1"),
            ("REDIS_URL", "redis://cache.example/0"),
            ("http_proxy", "http://127.0.0.1:8080"),
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1"),
            ("API", "http://u@[::1]:80/x"),
        ];
        let vars = || vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        assert_eq!(local_services(vars(), &[]), ["API", "DATABASE_URL", "PGHOST"]);
        assert_eq!(local_services(vars(), &[5432]), ["API"]);
        assert_eq!(
            forwarded_services(vars(), &[5432, 6379]),
            ["DATABASE_URL", "PGHOST"]
        );
        assert_eq!(forwarded_services(vars(), &[80]), ["API"]);
        assert!(forwarded_services(vars(), &[]).is_empty());
    }
}
