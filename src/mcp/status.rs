//! `cluster_status`: the machines and the runs under way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::live::{Live, shown};
use super::ran::{LIMIT, State, shares};
use super::text;
use crate::client::kept::Record;
use crate::client::kept::here::HERE;
use crate::node::printable;
use crate::paths::now_ms;
use crate::pipeline::State as Stands;
use crate::request::Ending;
use crate::{pipeline, status};

/// How long asking the nodes may take, where what is known of them is old.
pub const ASK: Duration = Duration::from_secs(3);

/// What is known of the nodes is old for a caller who asks after this time.
const FRESH_MS: u64 = 5000;

/// Runs told of that went on by themselves, and for how long those that ended are news.
const MOST: usize = 20;
const NEWS_MS: u64 = 24 * 3600 * 1000;

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

/// What there is, as a text and as fields. A node that has not answered since `doubt_ms` is asked.
///
/// # Errors
/// When the configuration can't be read.
pub fn look(
    home: &Path,
    runs: &[Arc<Live>],
    kept: &[(Record, Stands)],
    doubt_ms: u64,
) -> anyhow::Result<(String, Value)> {
    // A node that went silent since is found out. What can't be asked is told with its age.
    let _ = pipeline::refresh_stale(ASK, doubt_ms.max(now_ms().saturating_sub(FRESH_MS)));
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
    let (mut list, mut known) = (Vec::new(), Vec::new());
    for live in runs {
        for (command, ran) in live.commands.iter().zip(live.so_far()) {
            if kept.iter().any(|(r, _)| r.node != HERE && r.short() == ran.id) {
                continue;
            }
            known.push(ran.id.clone());
            let ended = command.ran().is_some();
            let state = match ran.state {
                State::Detached => "running",
                _ => ran.state(),
            };
            let what = shown(&command.text);
            let line = if ended || ran.state == State::Waiting {
                ran.last_line()
            } else {
                let (place, took) = (command.place(), text::seconds(live.begun.elapsed()));
                let now = command.capture.last_line();
                format!("[{place} running {took}] {now}").trim_end().to_owned()
            };
            lines.push_str(&format!("\nrun {}: {what}\n  {line}\n", command.id));
            let mut run = ran.fields(false);
            run["state"] = state.into();
            run["command"] = what.into();
            list.push(run);
        }
    }
    let here = |r: &Record| {
        r.workspace
            .as_ref()
            .is_some_and(|w| home.starts_with(&**w) || w.starts_with(home))
    };
    let now = now_ms();
    let told = kept
        .iter()
        .filter(|(r, s)| *s == Stands::Going || here(r) && r.started_ms + NEWS_MS > now)
        // What this server let go of here it still sees best.
        .filter(|(r, _)| !known.contains(&r.id));
    for (record, state) in told.take(MOST) {
        let (text, fields) = detached(record, state);
        lines.push_str(&text);
        list.push(fields);
    }
    Ok((whole_lines(lines), within_limit(nodes, list)))
}

/// A text within the limit of a result.
fn whole_lines(mut text: String) -> String {
    const NOTE: &str = "[cx: the rest is left out; `cx status` and `cx runs` show all]\n";
    if text.len() > LIMIT {
        let end = text.floor_char_boundary(LIMIT - NOTE.len());
        text.truncate(text[..end].rfind('\n').map_or(end, |n| n + 1));
        text.push_str(NOTE);
    }
    text
}

/// The fields of machines and runs within the limit of a result; where some are left out, how many.
fn within_limit(nodes: Vec<Value>, mut runs: Vec<Value>) -> Value {
    // What goes on is what one asks for.
    runs.sort_by_key(|r| !matches!(r["state"].as_str(), Some("running" | "waiting")));
    let mut all =
        json!({ "nodes": [], "runs": [], "nodes_left_out": nodes.len(), "runs_left_out": runs.len() });
    let size = |list: &[Value]| list.iter().map(|v| v.to_string().len() + 1).sum();
    let shares = shares(&[size(&nodes), size(&runs)], LIMIT - all.to_string().len());
    for ((name, list), share) in [("nodes", nodes), ("runs", runs)].into_iter().zip(shares) {
        let mut used = 0;
        let fits = |v: &&Value| {
            used += v.to_string().len() + 1;
            used <= share
        };
        let shown: Vec<Value> = list.iter().take_while(fits).cloned().collect();
        let left = format!("{name}_left_out");
        match list.len() - shown.len() {
            0 => _ = all.as_object_mut().and_then(|all| all.remove(&left)),
            n => all[left] = n.into(),
        }
        all[name] = shown.into();
    }
    all
}

/// A run that goes on, or went on, by itself.
fn detached(record: &Record, state: &Stands) -> (String, Value) {
    let node = &record.node;
    // The name under which it was let go.
    let id = if node == HERE { &record.id } else { record.short() };
    let home = match (record.fetched, state) {
        (false, Stands::Ended(_)) => {
            format!("; what it changed comes back with the next run on a node here, or by `cx attach {id}`")
        }
        _ => String::new(),
    };
    let (word, status, how) = match state {
        Stands::Going => {
            let took = Duration::from_millis(now_ms().saturating_sub(record.started_ms));
            ("running", None, format!("running {}", text::seconds(took)))
        }
        Stands::Ended(ending) => {
            let word = match ending {
                Ending::Code(_) => "exited",
                Ending::Signal(_) => "signaled",
            };
            let why = match (record.timed_out, ending) {
                (Some(limit), Ending::Signal(_)) => format!(": its timeout of {limit} s was over"),
                _ => String::new(),
            };
            (word, Some(ending.shell_status()), format!("{ending}{why}"))
        }
        Stands::Unknown(why) => ("unknown", None, format!("unknown: {}", printable(why, 200))),
    };
    let what = shown(&record.line());
    let text = format!("\nrun {id}: {what}\n  [{node} {how}] `cx logs {id}` shows its output{home}\n");
    let fields = json!({
        "run_id": id,
        "node_id": node,
        "state": word,
        "exit_code": status,
        "command": what,
        "started_ms": record.started_ms,
        "fetched": record.fetched,
    });
    (text, fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let list = |n: usize, state: &str| -> Vec<Value> {
            let one = |i| json!({ "name": format!("n{i}"), "state": state, "reason": "x".repeat(300) });
            (0..n).map(one).collect()
        };
        let few = within_limit(list(3, "healthy"), list(2, "exited"));
        assert_eq!(
            (
                few["nodes"].as_array().map(Vec::len),
                few["runs"].as_array().map(Vec::len)
            ),
            (Some(3), Some(2))
        );
        assert!(few.get("nodes_left_out").is_none() && few.get("runs_left_out").is_none());
        let runs = [list(100, "exited"), list(5, "running")].concat();
        let many = within_limit(list(500, "healthy"), runs);
        assert!(many.to_string().len() <= LIMIT);
        let shown = |name: &str| many[name].as_array().unwrap().len();
        assert_eq!(many["nodes_left_out"], 500 - shown("nodes"));
        assert_eq!(many["runs_left_out"], 105 - shown("runs"));
        assert!(shown("nodes") > 30 && shown("runs") > 30);
        assert!(
            many["runs"].as_array().unwrap()[..5]
                .iter()
                .all(|r| r["state"] == "running")
        );
        let text = whole_lines("a line\n".repeat(10_000));
        assert!(
            text.len() <= LIMIT && text.contains("a line\n[cx: the rest"),
            "{}",
            text.len()
        );
    }
}
