//! `cluster_status`: the machines and the runs under way.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::exec::{Live, shown};
use super::text;
use crate::paths::Paths;
use crate::{pipeline, status};

/// How long asking the nodes may take, where what is known of them is old.
const ASK: Duration = Duration::from_secs(3);

/// Fields of a machine that a caller has a use for.
const FIELDS: [&str; 19] = [
    "name",
    "state",
    "reachable",
    "os",
    "arch",
    "cores",
    "cpu_percent",
    "load1",
    "memory_total_bytes",
    "memory_free_bytes",
    "disk_free_bytes",
    "slots",
    "slots_running",
    "slots_free",
    "tags",
    "rtt_ms",
    "last_seen_ms",
    "age_ms",
    "reason",
];

/// What there is, as a text and as fields.
///
/// # Errors
/// When the configuration can't be read.
pub fn look(_paths: &Paths, runs: &[Arc<Live>]) -> anyhow::Result<(String, Value)> {
    // What can't be asked is told with its age.
    let _ = pipeline::refresh_stale(ASK);
    let (mut table, mut fields) = (Vec::new(), Vec::new());
    status::print(false, &mut table)?;
    status::print(true, &mut fields)?;
    let all: Value = serde_json::from_slice(&fields)?;
    let nodes: Vec<Value> = all["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| {
            let kept = FIELDS.iter().filter_map(|f| {
                let value = node.get(*f)?;
                let plain = match value {
                    Value::Null => return None,
                    Value::String(s) => Value::from(text::redact(&text::clean(s.as_bytes())).into_owned()),
                    other => other.clone(),
                };
                Some(((*f).to_owned(), plain))
            });
            Value::Object(kept.collect())
        })
        .collect();
    let mut lines = text::clean(&table);
    let mut list = Vec::new();
    for live in runs {
        for (command, ran) in live.commands.iter().zip(live.so_far()) {
            let ended = live.ran().is_some();
            let state = if ended { ran.state() } else { "running" };
            let what = shown(&command.text);
            let line = if ended {
                ran.last_line()
            } else {
                let now = command.capture.last_line();
                format!(
                    "[{} running {}] {now}",
                    command.place(),
                    text::seconds(live.begun.elapsed())
                )
            };
            lines.push_str(&format!("\nrun {}: {what}\n  {line}\n", command.id));
            let mut run = ran.fields(false);
            run["state"] = state.into();
            run["command"] = what.into();
            list.push(run);
        }
    }
    Ok((lines, json!({ "nodes": nodes, "runs": list })))
}
