//! Names that mean something whatever the ignore rules say: caches, secrets, and what never comes back.

/// Directories that tools rebuild from what is synced, by name.
const CACHES: &[&[u8]] = &[
    b"node_modules",
    b"__pycache__",
    b".pytest_cache",
    b".mypy_cache",
    b".ruff_cache",
    b".hypothesis",
    b".ipynb_checkpoints",
    b".tox",
    b".nox",
    b".eggs",
    b".gradle",
    b".turbo",
    b".cache",
    b".parcel-cache",
    b".cargo-target",
    b".ccache",
    b".sccache",
    b".zig-cache",
    b"zig-cache",
    b".stack-work",
    b"dist-newstyle",
    b"elm-stuff",
    b".dart_tool",
    b".terraform",
    b".direnv",
    b".pnpm-store",
    b".venv",
];

/// The file by which any tool marks a cache. Source: <https://bford.info/cachedir/>.
pub(crate) const TAG: &[u8] = b"CACHEDIR.TAG";

/// Files whose presence makes the directory they lie in a cache: the cache directory tagging standard, and Python's
/// virtual environments.
pub(crate) fn marks_cache(file: &[u8]) -> bool {
    file == TAG || file == b"pyvenv.cfg"
}

/// Whether a cache of this name is another tool's than cargo's.
pub(crate) fn is_other_tools_cache(name: &[u8]) -> bool {
    CACHES.contains(&name) && name != b".cargo-target"
}

/// Whether the directory `name` is a known cache, given the name of its parent and whether a Cargo.toml stands
/// beside it.
pub(crate) fn is_cache(name: &[u8], parent: &[u8], beside_cargo_toml: bool, also: &[String]) -> bool {
    CACHES.contains(&name)
        || (name == b"target" && beside_cargo_toml)
        || (name == b"cache" && matches!(parent, b".next" | b".nuxt" | b".angular"))
        || also.iter().any(|a| a.as_bytes() == name)
}

/// Directories that hold nothing but secrets.
const SECRET_DIRS: &[&[u8]] = &[
    b".aws", b".ssh", b".gnupg", b".kube", b".docker", b".azure", b".gcloud",
];

const SECRET_NAMES: &[&[u8]] = &[
    b".netrc",
    b"_netrc",
    b".pgpass",
    b".my.cnf",
    b".pypirc",
    b".git-credentials",
    b".dockercfg",
    b".htpasswd",
    b".vault-token",
    b".envrc",
    b".boto",
    b".s3cfg",
    b"credentials",
    b".credentials",
    b"token.json",
];

const SECRET_SUFFIXES: &[&[u8]] = &[
    b".pem",
    b".key",
    b".p12",
    b".pfx",
    b".p8",
    b".jks",
    b".keystore",
    b".kdbx",
    b".ppk",
    b".ovpn",
    b".asc.key",
    b".tfstate",
    b".tfvars",
    b".mobileprovision",
];

/// Endings of data files: `credentials.json` is a secret, `credentials.rs` is source.
const DATA_SUFFIXES: &[&[u8]] = &[
    b".json", b".toml", b".yml", b".yaml", b".ini", b".csv", b".xml", b".txt", b".cfg",
];

/// Whether an untracked file at `path` is taken for a secret.
pub(crate) fn is_secret(path: &[u8]) -> bool {
    let mut parts = path.rsplit(|b| *b == b'/');
    let name = parts.next().unwrap_or(path);
    if parts.any(|p| p.first() == Some(&b'.') && SECRET_DIRS.contains(&p)) {
        return true;
    }
    let mut buf = [0u8; 64];
    if name.len() > buf.len() {
        return SECRET_SUFFIXES.iter().any(|s| name.ends_with(s));
    }
    let name = {
        let lower = &mut buf[..name.len()];
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        &*lower
    };
    if let Some(rest) = name.strip_prefix(b".env") {
        let harmless: &[&[u8]] = &[
            b"example",
            b"sample",
            b"template",
            b"dist",
            b"defaults",
            b"schema",
        ];
        let last = rest.rsplit(|b| *b == b'.').next().unwrap_or(rest);
        return (rest.is_empty() || matches!(rest[0], b'.' | b'-' | b'_') || rest == b"rc")
            && !harmless.contains(&last);
    }
    let data = || DATA_SUFFIXES.iter().any(|s| name.ends_with(s));
    SECRET_NAMES.contains(&name)
        || SECRET_SUFFIXES.iter().any(|s| name.ends_with(s))
        || (name.starts_with(b"id_") && is_ssh_key(name))
        || (name.starts_with(b"credentials") || name.starts_with(b"secrets.")) && data()
        || (name.starts_with(b"service-account") || name.starts_with(b"service_account"))
            && name.ends_with(b".json")
        || name.starts_with(b"client_secret") && name.ends_with(b".json")
        || name.ends_with(b".env") && name.len() > 4
}

fn is_ssh_key(name: &[u8]) -> bool {
    let kinds: &[&[u8]] = &[b"id_rsa", b"id_dsa", b"id_ecdsa", b"id_ed25519", b"id_xmss"];
    kinds.iter().any(|k| name.starts_with(k)) && !name.ends_with(b".pub")
}

/// Whether the text of an `.npmrc` or a file like it holds a token rather than a reference to a variable.
pub(crate) fn holds_token(text: &[u8]) -> bool {
    text.split(|b| *b == b'\n').any(|line| {
        let has = |s: &[u8]| line.windows(s.len()).any(|w| w == s);
        (has(b"_authToken") || has(b"_auth") || has(b"_password") || has(b"npmAuthToken")) && !has(b"${")
    })
}

/// Components that decide what runs on the user's machine, or belong to cx or git: nothing that comes back from a
/// node is put there.
const PROTECTED: &[&str] = &[
    ".git",
    ".claude",
    ".envrc",
    ".mcp.json",
    ".cx.toml",
    ".vscode",
    ".husky",
];

/// Whether what comes back may not be put at this path: one of its components is a protected name for some file
/// system, i.e. after folding case and dropping what HFS+ ignores and NTFS cuts off.
pub fn is_protected(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(|part| {
        // Nearly all names: cheap way out.
        if !part.iter().any(|b| matches!(b, b'.' | b'~') || !b.is_ascii()) {
            return false;
        }
        let folded = fold(&String::from_utf8_lossy(part));
        let cut = folded
            .split(':')
            .next()
            .unwrap_or_default()
            .trim_end_matches([' ', '.']);
        PROTECTED.contains(&cut) || cut == "git~1"
    })
}

fn fold(name: &str) -> String {
    name.chars()
        .filter(|c| {
            // What HFS+ leaves out of comparisons.
            !matches!(*c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
        })
        // Up and down again, so that the long s, the Kelvin sign and the like meet their plain letters.
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name() {
        for (path, want) in [
            (".env", true),
            ("a/.env.local", true),
            (".ENV", true),
            (".env.example", false),
            (".env.local.sample", false),
            (".environment", false),
            ("prod.env", true),
            ("src/env.rs", false),
            ("server.pem", true),
            ("tls.key", true),
            ("keys.rs", false),
            ("id_rsa", true),
            ("id_ed25519.pub", false),
            ("id_rsa.bak", true),
            ("identity.py", false),
            (".aws/config", true),
            ("x/.ssh/known_hosts", true),
            ("credentials.json", true),
            ("credentials.py", false),
            ("credentials_test.go", false),
            ("service-account-prod.json", true),
            ("secrets.yaml", true),
            ("src/secrets.rs", false),
            ("vault.kdbx", true),
        ] {
            assert_eq!(is_secret(path.as_bytes()), want, "{path}");
        }
        assert!(holds_token(b"//registry.npmjs.org/:_authToken=npm_abc\n"));
        assert!(!holds_token(
            b"//registry.npmjs.org/:_authToken=${NPM_TOKEN}\nregistry=x\n"
        ));
    }

    #[test]
    fn protected_names_are_met_in_every_spelling() {
        for bad in [
            ".git/hooks/x",
            "a/.GIT/config",
            ".g\u{200c}it/x",
            ".gIt ",
            ".git.",
            ".git::$INDEX_ALLOCATION/x",
            "GIT~1/x",
            ".Claude/settings.json",
            ".vſcode/tasks.json",
            ".hus\u{212a}y/pre-commit",
            ".envrc",
            "sub/.mcp.json",
            ".CX.toml",
            "\u{feff}.git",
        ] {
            assert!(is_protected(bad.as_bytes()), "{bad:?}");
        }
        for good in [
            ".gitignore",
            ".github/x",
            "git",
            "claude",
            "a.git",
            ".env.example",
            "src/.cargo/config.toml",
        ] {
            assert!(!is_protected(good.as_bytes()), "{good:?}");
        }
        assert!(!is_protected(&[0xff, b'.', 0xfe]));
    }
}
