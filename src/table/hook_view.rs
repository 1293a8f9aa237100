//! What the hook has to know, in one small file: it reads neither the table nor, as a rule, the config.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{STALE_MS, Table};
use crate::client::eligible;
use crate::config::Config;
use crate::paths::{self, Paths};
use crate::plan::learned::Fnv;
use crate::plan::route::is_probed;
use crate::plan::rules::UserRule;
use crate::plan::shell::Word;
use crate::plan::{Class, Need, Verdict};

/// Version of the file.
const VERSION: u32 = 3;

/// The summary.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HookView {
    version: u32,
    /// Which config this was made from.
    config: Option<Stamp>,
    /// Configured nodes.
    pub nodes: usize,
    /// Milliseconds since the epoch until which no node is usable; 0 while one is, or while nothing is known.
    pub none_usable_until_ms: u64,
    /// Tools that at least one node has, where every node has told.
    tools: Vec<String>,
    /// Until when that counts as fresh, milliseconds since the epoch.
    tools_until_ms: u64,
    /// `auto_route`.
    pub auto_route: bool,
    /// `suggest_after`, seconds; 0 for never.
    pub suggest_after: u32,
    /// Built-in rules that are switched off.
    pub off: Vec<String>,
    /// The user has rules of their own.
    has_rules: bool,
    /// Those rules; they stay in the config, which is read only where there are any.
    #[serde(skip)]
    pub rules: Vec<UserRule>,
    /// `busy_cpu`.
    pub busy_cpu: f32,
    /// Where the last sample of the CPU's counters lies.
    #[serde(skip)]
    cpu_file: PathBuf,
}

/// What tells one state of the config from another: time of change, size, inode; mode and owner as well, since who else may write to
/// it decides whether it is to be trusted.
type Stamp = (i64, u64, u64, u32, u32);

fn stamp(paths: &Paths) -> Option<Stamp> {
    let m = std::fs::metadata(&paths.config_file).ok()?;
    Some((
        m.mtime() * 1_000_000_000 + m.mtime_nsec(),
        m.size(),
        m.ino(),
        m.mode(),
        m.uid(),
    ))
}

/// The config, where nobody else can write to it.
fn trusted(paths: &Paths) -> Option<Config> {
    let config = Config::load(paths).ok()?;
    config.check_trusted(None).ok()?;
    Some(config)
}

fn file(paths: &Paths) -> std::path::PathBuf {
    // Different configs (`CX_CONFIG`) must not take turns at one file. To tell a few paths of one user apart, blake3 would cost the
    // hook the look for the CPU's features, which a virtual machine answers slowly.
    let key = Fnv::new(paths.config_file.as_os_str().as_encoded_bytes()).0;
    paths.cache.join(format!("hook-{key:016x}.json"))
}

impl HookView {
    /// Whether at least one configured node is not known to be unusable.
    pub fn may_route(&self, now_ms: u64) -> bool {
        self.nodes > 0 && now_ms >= self.none_usable_until_ms
    }

    /// Whether some node may have all of `needs`: not where it is freshly known that none has. What is older may have been mended,
    /// and the run finds out.
    pub fn can_have(&self, needs: &[Need], now_ms: u64) -> bool {
        now_ms >= self.tools_until_ms
            || needs
                .iter()
                .all(|n| !is_probed(&n.program) || self.tools.contains(&n.program))
    }

    /// Whether a command so judged leaves without a person's asking, as far as this summary tells. `unasked` says whether one
    /// that no rule knows may, for what is known of the moment and of its times; it is asked only where that decides.
    pub fn moves(&self, verdict: &Verdict, argv: &[Word], cwd: &Path, unasked: &dyn Fn() -> bool) -> bool {
        match verdict.class {
            Class::Heavy => self.can_have(&verdict.workload.needs, paths::now_ms()),
            Class::Unknown => eligible::may_move_unasked(argv, cwd) && unasked(),
            Class::Light => false,
        }
    }

    /// This machine's CPU use in per cent, as well as it can be told without waiting.
    pub fn local_cpu(&self) -> f32 {
        crate::probe::cpu_at_a_glance(&self.cpu_file)
    }
}

/// The summary, read from its file while that fits the config, else made from the config itself. An empty one, with which nothing is
/// rewritten, where the config can't be read or is not to be trusted.
pub fn hook_view(paths: &Paths) -> HookView {
    let view = known(paths).unwrap_or_default();
    HookView {
        cpu_file: paths.cache.join("cpu"),
        ..view
    }
}

fn known(paths: &Paths) -> Option<HookView> {
    let now = stamp(paths)?;
    // The directories above are no part of the stamp: they change all the time.
    if paths::exposed(&paths.config_file).is_some() {
        return None;
    }
    if let Ok(bytes) = std::fs::read(file(paths))
        && let Ok(view) = serde_json::from_slice::<HookView>(&bytes)
        && view.version == VERSION
        && view.config == Some(now)
    {
        let rules = if view.has_rules {
            trusted(paths)?.rules
        } else {
            Vec::new()
        };
        return Some(HookView { rules, ..view });
    }
    let config = trusted(paths)?;
    let view = make(paths, &config, &Table::load(paths).0);
    write(paths, &view);
    Some(view)
}

fn make(paths: &Paths, config: &Config, table: &Table) -> HookView {
    let now = crate::agent::now_ms();
    let until = config
        .nodes
        .iter()
        .map(|n| {
            let state = table.nodes.get(&n.name);
            state
                .filter(|s| s.usable(now).is_err())
                .and_then(|s| s.breaker)
                .map_or(0, |b| b.until_ms)
        })
        .min()
        .unwrap_or(0);
    let facts = config
        .nodes
        .iter()
        .map(|n| table.nodes.get(&n.name).and_then(|s| s.facts.as_ref()));
    let mut tools: Vec<String> = match facts.collect::<Option<Vec<_>>>() {
        Some(all) => all
            .iter()
            .flat_map(|f| f.tools.iter().map(|(t, _)| t.clone()))
            .collect(),
        None => Vec::new(),
    };
    let seen = config
        .nodes
        .iter()
        .filter_map(|n| table.nodes.get(&n.name))
        .map(|s| s.seen_ms);
    let oldest = seen.min().unwrap_or(0);
    tools.sort();
    tools.dedup();
    HookView {
        version: VERSION,
        config: stamp(paths),
        tools_until_ms: if tools.is_empty() { 0 } else { oldest + STALE_MS },
        tools,
        nodes: config.nodes.len(),
        none_usable_until_ms: until,
        auto_route: config.policy.auto_route,
        suggest_after: config.policy.suggest_after.unwrap_or(0),
        off: config.policy.off.clone(),
        has_rules: !config.rules.is_empty(),
        rules: config.rules.clone(),
        busy_cpu: config.policy.busy_cpu,
        cpu_file: PathBuf::new(),
    }
}

fn write(paths: &Paths, view: &HookView) {
    // The hook works without it, only slower.
    if let Ok(bytes) = serde_json::to_vec(view) {
        let _ = paths::write_atomic(&file(paths), &bytes, 0o600);
    }
}

/// Writes the summary for this config and table.
pub fn write_hook_view(paths: &Paths, config: &Config, table: &Table) {
    write(paths, &make(paths, config, table));
}

/// Follows an update of the table.
pub(super) fn after_update(paths: &Paths, table: &Table) {
    if let Some(config) = trusted(paths) {
        write_hook_view(paths, &config, table);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::proto::Facts;

    fn need(program: &str) -> Need {
        Need {
            program: program.into(),
            module: None,
            same_version: false,
        }
    }

    #[test]
    fn the_summary_follows_config_and_table() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let now = paths::now_ms();
        assert!(!hook_view(&paths).may_route(now), "no config, no nodes");

        paths::write_atomic(&paths.config_file, b"nodes = ['a', 'b']\n", 0o600).unwrap();
        assert!(
            hook_view(&paths).may_route(now),
            "nothing is known: the run decides"
        );
        assert!(hook_view(&paths).can_have(&[need("cargo")], now));

        let told = |t: &mut Table, tools: &[&str]| {
            for (name, tool) in ["a", "b"].iter().zip(tools) {
                let state = t.nodes.entry((*name).into()).or_default();
                state.facts = Some(Facts {
                    tools: vec![((*tool).into(), String::new())],
                    ..Facts::default()
                });
                state.seen_ms = now;
            }
        };
        Table::update(&paths, |t| told(t, &["make", "cargo"])).unwrap();
        let view = hook_view(&paths);
        assert!(view.can_have(&[need("cargo")], now) && view.can_have(&[need("./gradlew")], now));
        assert!(
            !view.can_have(&[need("pytest")], now),
            "freshly known to be nowhere"
        );
        assert!(
            view.can_have(&[need("pytest")], now + STALE_MS),
            "that may have changed"
        );

        Table::update(&paths, |t| t.nodes.get_mut("a").unwrap().failed("x", now)).unwrap();
        assert!(hook_view(&paths).may_route(now), "one is left");
        Table::update(&paths, |t| t.nodes.get_mut("b").unwrap().failed("x", now)).unwrap();
        assert!(!hook_view(&paths).may_route(now));
        assert!(
            hook_view(&paths).may_route(now + 6000),
            "the breakers have run out"
        );

        paths::write_atomic(&paths.config_file, b"nodes = ['a', 'b', 'c']\noff = [\n", 0o600).unwrap();
        assert!(!hook_view(&paths).may_route(now + 6000), "a broken config");
    }

    #[test]
    fn a_config_that_others_can_write_is_not_used_whenever_that_came() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let now = paths::now_ms();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&paths.config_file, mode).unwrap();
        };
        for rules in ["", "[[rule]]\nname = 'r'\nmatch = 'r'\n"] {
            let config = format!("nodes = ['a']\n{rules}");
            paths::write_atomic(&paths.config_file, config.as_bytes(), 0o600).unwrap();
            assert!(hook_view(&paths).may_route(now), "{rules}");
            mode(0o666);
            assert!(!hook_view(&paths).may_route(now), "{rules}");
            assert!(hook_view(&paths).rules.is_empty());
            Table::update(&paths, |_| ()).unwrap();
            assert!(!hook_view(&paths).may_route(now), "after an update: {rules}");
            mode(0o600);
            let view = hook_view(&paths);
            assert!(view.may_route(now) && view.rules.is_empty() == rules.is_empty());
            let above = paths.config_file.parent().unwrap();
            let mode = |mode| std::fs::set_permissions(above, std::fs::Permissions::from_mode(mode)).unwrap();
            mode(0o777);
            assert!(!hook_view(&paths).may_route(now), "the directory: {rules}");
            mode(0o700);
            assert!(hook_view(&paths).may_route(now), "{rules}");
        }
    }
}
