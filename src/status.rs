//! `cx status`: how every node is, as far as the load table knows.

use std::io::Write;

use serde_json::{Value, json};

use crate::agent::now_ms;
use crate::config::{Config, NodeConfig};
use crate::inflight::Inflight;
use crate::node::{hold, printable};
use crate::paths::Paths;
use crate::table::{self, NodeState, Table};

/// Prints the table for people, or with `as_json` for programs.
///
/// # Errors
/// When the config can't be read or nothing can be written.
pub fn print(as_json: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let config = Config::load(&paths)?;
    config.check_trusted(None)?;
    let mut table = Table::load(&paths).0;
    crate::pipeline::look_at_local(&paths, &mut table);
    let names: Vec<&str> = config.nodes.iter().map(|n| n.name.as_str()).collect();
    let under_way = Inflight::count(&paths, &names);
    let now = now_ms();
    let rows: Vec<Row> = std::iter::once(Row::new("local", None, &table.local, 0, now))
        .chain(config.nodes.iter().map(|n| {
            let state = table.nodes.get(&n.name).cloned().unwrap_or_default();
            let mut row = Row::new(
                &n.name,
                Some(n),
                &state,
                under_way.get(&n.name).copied().unwrap_or(0),
                now,
            );
            row.json["streams_kept"] = hold::count(n, &config, &paths).into();
            row
        }))
        .collect();
    if as_json {
        let all =
            json!({ "version": 1, "now_ms": now, "nodes": rows.iter().map(|r| &r.json).collect::<Vec<_>>() });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        let head = [
            "NODE",
            "STATE",
            "PLATFORM",
            "CORES",
            "CPU",
            "LOAD",
            "MEMORY FREE",
            "DISK FREE",
            "SLOTS",
            "SEEN",
            "NOTE",
        ];
        write_columns(
            out,
            &head.map(str::to_owned),
            &rows.iter().map(|r| r.cells.clone()).collect::<Vec<_>>(),
        )?;
        if config.nodes.is_empty() {
            writeln!(out, "no nodes are configured; `cx nodes add ALIAS` adds one")?;
        }
    }
    Ok(0)
}

struct Row {
    cells: Vec<String>,
    json: Value,
}

impl Row {
    fn new(name: &str, config: Option<&NodeConfig>, s: &NodeState, under_way: u32, now: u64) -> Row {
        let age = (s.seen_ms > 0).then(|| now.saturating_sub(s.seen_ms));
        let overload = s
            .load
            .as_ref()
            .zip(s.facts.as_ref())
            .and_then(|(l, f)| table::overloaded(l, f));
        // This machine's own may be as full as it likes.
        let full = config.and(s.load.as_ref()).and_then(table::full);
        let unusable = s.usable(now).err();
        let state = match (&unusable, &overload, age) {
            (Some(_), ..) => "unreachable",
            // An answer clears the error.
            _ if s.error.is_some() => "unreachable",
            (None, _, None) => "unknown",
            _ if full.is_some() => "full",
            (None, Some(_), _) => "overloaded",
            (None, None, _) => "healthy",
        };
        let facts = s.facts.as_ref();
        let load = s.load.as_ref();
        let os = config
            .and_then(|c| c.os.clone())
            .or(facts.map(|f| printable(&f.platform.os, 20)));
        let arch = config
            .and_then(|c| c.arch.clone())
            .or(facts.map(|f| printable(&f.platform.arch, 20)));
        let slots = config.and_then(|c| c.slots).or(facts.map(|f| f.slots));
        let running = load.map_or(0, |l| l.running).max(under_way);
        let free = slots.map(|n| n.saturating_sub(running));
        let note = unusable.clone().or(full).or_else(|| overload.clone());
        let note = note
            .or_else(|| s.error.as_ref().map(|e| e.what.clone()))
            .map(|n| printable(&n, 200));
        let dash = || "-".to_owned();
        let cells = vec![
            name.to_owned(),
            state.to_owned(),
            os.as_ref()
                .zip(arch.as_ref())
                .map_or_else(dash, |(o, a)| format!("{o} {a}")),
            facts.map_or_else(dash, |f| f.cores.to_string()),
            load.map_or_else(dash, |l| format!("{:.0} %", l.cpu)),
            load.map_or_else(dash, |l| format!("{:.2}", l.load1)),
            load.map_or_else(dash, |l| gigabytes(l.memory_free)),
            load.map_or_else(dash, |l| gigabytes(l.disk_free)),
            slots.map_or_else(dash, |n| format!("{running}/{n}")),
            age.map_or_else(|| "never".to_owned(), ago),
            note.clone().unwrap_or_default(),
        ];
        let json = json!({
            "name": name,
            "state": state,
            "reachable": unusable.is_none() && s.error.is_none() && age.is_some(),
            "os": os,
            "arch": arch,
            "libc": facts.map(|f| printable(&f.platform.libc, 40)).filter(|l| !l.is_empty()),
            "hostname": facts.map(|f| printable(&f.hostname, 255)),
            "cores": facts.map(|f| f.cores),
            "cpu_percent": load.map(|l| (f64::from(l.cpu) * 10.0).round() / 10.0),
            "load1": load.map(|l| (f64::from(l.load1) * 100.0).round() / 100.0),
            "memory_total_bytes": facts.map(|f| f.memory),
            "memory_free_bytes": load.map(|l| l.memory_free),
            "disk_free_bytes": load.map(|l| l.disk_free),
            "slots": slots,
            "slots_running": running,
            "slots_free": free,
            "tools": facts.map(|f| f.tools.iter().map(|(t, _)| printable(t, 40)).collect::<Vec<_>>()),
            "tags": config.map(|c| c.tags.clone()).unwrap_or_default(),
            "rtt_ms": s.rtt_ms,
            "last_seen_ms": age.map(|_| s.seen_ms),
            "age_ms": age,
            "last_error": s.error.as_ref().map(|e| printable(&e.what, 300)),
            "last_error_ms": s.error.as_ref().map(|e| e.at_ms),
            "overloaded": overload.is_some(),
            "reason": note,
        });
        Row { cells, json }
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / (1u64 << 30) as f64)
}

fn ago(ms: u64) -> String {
    match ms / 1000 {
        0..=1 => "now".into(),
        s @ 2..=119 => format!("{s} s ago"),
        s @ 120..=7199 => format!("{} min ago", s / 60),
        s => format!("{} h ago", s / 3600),
    }
}

/// Writes rows under a head, each column as wide as its widest cell.
pub(crate) fn write_columns(
    out: &mut dyn Write,
    head: &[String],
    rows: &[Vec<String>],
) -> std::io::Result<()> {
    let width = |i: usize| {
        rows.iter()
            .chain([&head.to_vec()])
            .map(|r| r[i].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in std::iter::once(head).chain(rows.iter().map(Vec::as_slice)) {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(c, w)| format!("{c:<w$}", w = *w))
            .collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Facts, Load};

    #[test]
    fn every_state_has_its_word() {
        let now = 100_000;
        let facts = Facts {
            cores: 4,
            slots: 2,
            memory: 8 << 30,
            ..Facts::default()
        };
        let mut s = NodeState::default();
        let state = |s: &NodeState| {
            Row::new("n", None, s, 0, now).json["state"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(state(&s), "unknown");
        s.facts = Some(facts);
        s.load = Some(Load {
            memory_free: 4 << 30,
            disk_free: 4 << 30,
            running: 1,
            ..Load::default()
        });
        s.seen_ms = now - 5000;
        assert_eq!(state(&s), "healthy");
        let row = Row::new("n", None, &s, 0, now);
        assert_eq!(row.json["slots_free"], 1);
        assert_eq!(row.cells[9], "5 s ago");
        s.load.as_mut().unwrap().disk_free = 3 << 20;
        assert_eq!(state(&s), "healthy", "here that stops nothing");
        let config = NodeConfig::default();
        let row = Row::new("n", Some(&config), &s, 0, now);
        assert_eq!(row.json["state"], "full");
        assert!(row.cells[10].starts_with("3 MB of disk left"), "{:?}", row.cells);
        s.load.as_mut().unwrap().cpu = 99.0;
        assert_eq!(state(&s), "overloaded");
        s.failed("connection refused", now);
        assert_eq!(state(&s), "unreachable");
        assert!(
            Row::new("n", None, &s, 0, now).json["reason"]
                .as_str()
                .unwrap()
                .contains("refused")
        );
    }
}
