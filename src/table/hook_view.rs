//! What the hook has to know, in one small file: it reads neither the table nor, as a rule, the config.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Table;
use crate::config::Config;
use crate::paths::{self, Paths};
use crate::plan::Need;
use crate::plan::route::is_probed;
use crate::plan::rules::UserRule;

/// Version of the file.
const VERSION: u32 = 2;

/// The summary.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HookView {
    version: u32,
    /// Which config this was made from: time of change, size, inode.
    config: Option<(i64, u64, u64)>,
    /// Configured nodes.
    pub nodes: usize,
    /// Milliseconds since the epoch until which no node is usable; 0 while one is, or while nothing is known.
    pub none_usable_until_ms: u64,
    /// Tools that at least one node has, once every node has told; empty before.
    tools: Vec<String>,
    /// `auto_route`.
    pub auto_route: bool,
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

fn stamp(paths: &Paths) -> Option<(i64, u64, u64)> {
    let m = std::fs::metadata(&paths.config_file).ok()?;
    Some((m.mtime() * 1_000_000_000 + m.mtime_nsec(), m.size(), m.ino()))
}

fn file(paths: &Paths) -> std::path::PathBuf {
    // Different configs (`CX_CONFIG`) must not take turns at one file.
    let key = blake3::hash(paths.config_file.as_os_str().as_encoded_bytes()).to_hex();
    paths.cache.join(format!("hook-{}.json", &key[..12]))
}

impl HookView {
    /// Whether at least one configured node is not known to be unusable.
    pub fn may_route(&self, now_ms: u64) -> bool {
        self.nodes > 0 && now_ms >= self.none_usable_until_ms
    }

    /// Whether some node may have all of `needs`, as far as tools are probed.
    pub fn can_have(&self, needs: &[Need]) -> bool {
        self.tools.is_empty()
            || needs
                .iter()
                .all(|n| !is_probed(&n.program) || self.tools.contains(&n.program))
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
    if let Ok(bytes) = std::fs::read(file(paths))
        && let Ok(view) = serde_json::from_slice::<HookView>(&bytes)
        && view.version == VERSION
        && view.config == Some(now)
    {
        let rules = if view.has_rules {
            Config::load(paths).ok()?.rules
        } else {
            Vec::new()
        };
        return Some(HookView { rules, ..view });
    }
    let config = Config::load(paths).ok()?;
    config.check_trusted(None).ok()?;
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
    tools.sort();
    tools.dedup();
    HookView {
        version: VERSION,
        config: stamp(paths),
        tools,
        nodes: config.nodes.len(),
        none_usable_until_ms: until,
        auto_route: config.policy.auto_route,
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
    if let Ok(config) = Config::load(paths) {
        write_hook_view(paths, &config, table);
    }
}
