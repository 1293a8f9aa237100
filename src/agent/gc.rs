//! What lies on this node for one client: mirrors, and agents of other builds; and how it is collected.

use std::path::Path;
use std::time::SystemTime;

use crate::gc::{choose, is_due};
use crate::proto::{GcAsk, Lying};
use crate::sync::{Mirror, mirrors};

/// Lists what lies here for a client, and removes what is past the limits.
pub fn collect(base: &Path, ask: &GcAsk) -> Vec<Lying> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    for key in mirrors(base).into_iter().filter(|k| k.client == ask.client) {
        let Ok(mirror) = Mirror::open(base, &key) else {
            continue;
        };
        let name = mirror
            .client_path()
            .unwrap_or_else(|| key.name.clone().into_bytes());
        found.push(Lying {
            what: "mirror".into(),
            name,
            bytes: mirror.size(),
            age_ms: age_ms(mirror.last_used()),
            in_use: !mirror.is_idle().unwrap_or(false),
            removed: false,
        });
        open.push(Some(mirror));
    }
    let agents = base.parent().unwrap_or(base).join("agents");
    let own = std::env::current_exe().unwrap_or_default();
    for entry in std::fs::read_dir(agents).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        found.push(Lying {
            what: "agent".into(),
            name: entry.file_name().into_encoded_bytes(),
            bytes: if meta.is_dir() {
                crate::sync::disk_use(&entry.path())
            } else {
                meta.len()
            },
            age_ms: age_ms(meta.accessed().or(meta.modified()).ok()),
            in_use: own.starts_with(entry.path()),
            removed: false,
        });
        open.push(None);
    }
    choose(&mut found, ask.older_ms, ask.max_bytes);
    if ask.dry {
        return found;
    }
    for (l, mirror) in found.iter_mut().zip(open).filter(|(l, _)| l.removed) {
        l.removed = match mirror {
            // It looks again whether a run has come in the meantime.
            Some(mirror) => matches!(mirror.remove(), Ok(Some(_))),
            None => remove_agent(base, &l.name),
        };
    }
    found
}

fn remove_agent(base: &Path, name: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = base
        .parent()
        .unwrap_or(base)
        .join("agents")
        .join(std::ffi::OsStr::from_bytes(name));
    let done = if path.is_dir() {
        std::fs::remove_dir_all(&path)
    } else {
        std::fs::remove_file(&path)
    };
    done.is_ok()
}

fn age_ms(used: Option<SystemTime>) -> u64 {
    used.and_then(|t| t.elapsed().ok())
        .map_or(0, |a| a.as_millis() as u64)
}

/// Collects once a day, after a run of that client, by the limits that it sent.
pub fn by_itself(base: &Path, client: &str, older_ms: u64, max_bytes: u64) {
    if is_due(&base.join("gc")) {
        collect(
            base,
            &GcAsk {
                client: client.to_owned(),
                older_ms: Some(older_ms),
                max_bytes: Some(max_bytes),
                dry: false,
            },
        );
    }
}
