//! `cx gc`: what cx keeps on the nodes and here, by age and size, and how it is collected.
//!
//! Mirrors in use are never touched. Whatever goes can be made again, but for the files of conflicts, which are only collected
//! when a person says so.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::client::reach;
use crate::config::Config;
use crate::hook::note;
use crate::node::link::Install;
use crate::node::printable;
use crate::paths::Paths;
use crate::proto::{Down, GcAsk, Lying, Up};
use crate::status::write_columns;

/// A node that is not heard for this long is not waited for any more. What it was asked for may take longer: it walks through all its
/// mirrors.
pub const SILENCE: Duration = Duration::from_secs(20);

/// What `cx gc` was told.
#[derive(Debug, Default)]
pub struct GcArgs {
    /// Nodes to look at; all, with this machine, where none is named.
    pub nodes: Vec<String>,
    /// Collects what was not used for longer, milliseconds.
    pub older_ms: Option<u64>,
    /// Collects the oldest until each machine holds no more, bytes.
    pub max_bytes: Option<u64>,
    /// Only says what would go.
    pub dry: bool,
    /// Prints JSON.
    pub json: bool,
}

/// Marks what goes: what is older than `older_ms`, then the oldest until at most `max_bytes` are left. Nothing in use.
pub fn choose(lying: &mut [Lying], older_ms: Option<u64>, max_bytes: Option<u64>) {
    for l in lying.iter_mut().filter(|l| !l.in_use) {
        l.removed = older_ms.is_some_and(|o| l.age_ms > o);
    }
    let Some(max) = max_bytes else { return };
    let mut left: u64 = lying.iter().filter(|l| !l.removed).map(|l| l.bytes).sum();
    let mut oldest: Vec<&mut Lying> = lying.iter_mut().filter(|l| !l.in_use && !l.removed).collect();
    oldest.sort_by_key(|l| std::cmp::Reverse(l.age_ms));
    for l in oldest {
        if left <= max {
            break;
        }
        left -= l.bytes;
        l.removed = true;
    }
}

/// Shows, and with a limit collects. The status is 1 if a node could not be asked.
///
/// # Errors
/// When the config can't be read or nothing can be printed.
pub fn run(args: &GcArgs, out: &mut dyn Write) -> anyhow::Result<i32> {
    let paths = Arc::new(Paths::from_env()?);
    let config = Config::load(&paths)?;
    config.check_trusted(None)?;
    if let Some(bad) = args
        .nodes
        .iter()
        .find(|n| !config.nodes.iter().any(|c| c.name == **n))
    {
        anyhow::bail!("`{bad}` is not a configured node; `cx nodes list` shows them");
    }
    let wanted = |name: &str| args.nodes.is_empty() || args.nodes.iter().any(|n| n == name);
    let nodes: Vec<_> = config.nodes.iter().filter(|n| wanted(&n.name)).cloned().collect();
    let mut found: Vec<(String, Lying)> = Vec::new();
    let mut failed: Vec<(String, String)> = Vec::new();
    if args.nodes.is_empty() {
        found.extend(here(&paths, args).into_iter().map(|l| ("local".to_owned(), l)));
    }
    let ask = Up::Gc(GcAsk {
        client: paths.client_key()?,
        older_ms: args.older_ms,
        max_bytes: args.max_bytes,
        dry: args.dry,
    });
    let config = Arc::new(config);
    let runtime = crate::pipeline::runtime()?;
    runtime.block_on(async {
        let links = reach::all(&nodes, &config, &paths, Duration::from_secs(10), Install::Quietly).await;
        for (node, link) in nodes.iter().zip(links) {
            let answer = match &link {
                Ok(link) => link.ask_patiently(&ask, SILENCE).await.map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            match answer {
                Ok(Down::Gc(lying)) => found.extend(lying.into_iter().map(|l| (node.name.clone(), l))),
                Ok(_) => failed.push((node.name.clone(), "it gave another answer".into())),
                Err(e) => failed.push((node.name.clone(), e)),
            }
        }
    });
    runtime.shutdown_background();
    if args.json {
        print_json(args, &found, &failed, out)?;
    } else {
        print(args, &found, &failed, out)?;
    }
    Ok(i32::from(!failed.is_empty()))
}

fn print_json(
    args: &GcArgs,
    found: &[(String, Lying)],
    failed: &[(String, String)],
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let rows: Vec<_> = found
        .iter()
        .map(|(node, l)| {
            json!({
                "node": node, "what": printable(&l.what, 20), "name": name_of(l), "bytes": l.bytes, "age_ms": l.age_ms,
                "in_use": l.in_use, "removed": l.removed && !args.dry, "would_remove": l.removed && args.dry,
            })
        })
        .collect();
    let failed: Vec<_> = failed
        .iter()
        .map(|(n, why)| json!({ "node": n, "reason": why }))
        .collect();
    let all = json!({ "version": 1, "lying": rows, "failed": failed });
    writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    Ok(())
}

fn print(
    args: &GcArgs,
    found: &[(String, Lying)],
    failed: &[(String, String)],
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut rows = summed(found);
    rows.sort_by_key(|(node, l)| (node.clone(), std::cmp::Reverse(l.age_ms)));
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(node, l)| {
            let state = match (l.in_use, l.removed, args.dry) {
                (true, ..) => "in use",
                (_, true, true) => "would go",
                (_, true, false) => "removed",
                _ => "",
            };
            vec![
                node.clone(),
                printable(&l.what, 20),
                megabytes(l.bytes),
                age(l.age_ms),
                state.to_owned(),
                name_of(l),
            ]
        })
        .collect();
    let head = ["NODE", "WHAT", "SIZE", "UNUSED FOR", "STATE", "NAME"];
    write_columns(out, &head.map(str::to_owned), &cells)?;
    let gone: u64 = rows.iter().filter(|(_, l)| l.removed).map(|(_, l)| l.bytes).sum();
    if args.older_ms.is_some() || args.max_bytes.is_some() {
        let what = if args.dry { "would free" } else { "freed" };
        writeln!(out, "{what} {}", megabytes(gone))?;
    }
    for (node, why) in failed {
        writeln!(std::io::stderr(), "{node}: not asked: {}", printable(why, 200))?;
    }
    Ok(())
}

/// With the many small files about trees as one row for each kind and fate.
fn summed(found: &[(String, Lying)]) -> Vec<(String, Lying)> {
    let mut rows: Vec<(String, Lying)> = Vec::new();
    let mut sums: Vec<(Lying, usize)> = Vec::new();
    for (node, l) in found {
        if !matches!(l.what.as_str(), "index" | "record") {
            rows.push((node.clone(), l.clone()));
            continue;
        }
        match sums
            .iter_mut()
            .find(|(s, _)| s.what == l.what && s.removed == l.removed)
        {
            Some((sum, n)) => {
                sum.bytes += l.bytes;
                sum.age_ms = sum.age_ms.max(l.age_ms);
                *n += 1;
            }
            None => sums.push((l.clone(), 1)),
        }
    }
    rows.extend(sums.into_iter().map(|(mut sum, n)| {
        let path = String::from_utf8_lossy(&sum.name).into_owned();
        let dir = Path::new(&path)
            .parent()
            .unwrap_or(Path::new(""))
            .display()
            .to_string();
        sum.name = format!("{n} files in {dir}").into_bytes();
        ("local".to_owned(), sum)
    }));
    rows
}

fn name_of(l: &Lying) -> String {
    printable(&String::from_utf8_lossy(&l.name), 200)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn age(ms: u64) -> String {
    match ms / 60_000 {
        m @ 0..=119 => format!("{m} min"),
        m @ 120..=2879 => format!("{} h", m / 60),
        m => format!("{} d", m / 1440),
    }
}

/// What lies on this machine, and collects what was asked for.
fn here(paths: &Paths, args: &GcArgs) -> Vec<Lying> {
    let mut found = Vec::new();
    for (what, dir) in places(paths) {
        for (path, bytes, age_ms) in entries(&dir) {
            found.push((
                path.clone(),
                Lying {
                    what: what.to_owned(),
                    name: path.as_os_str().as_encoded_bytes().to_vec(),
                    bytes,
                    age_ms,
                    in_use: false,
                    removed: false,
                },
            ));
        }
    }
    let mut lying: Vec<Lying> = found.iter().map(|(_, l)| l.clone()).collect();
    choose(&mut lying, args.older_ms, args.max_bytes);
    for ((path, _), l) in found.iter().zip(&mut lying) {
        if l.removed && !args.dry {
            l.removed = remove(path);
        }
    }
    if !args.dry && (args.older_ms.is_some() || args.max_bytes.is_some()) {
        note::clear_old(&paths.state);
    }
    lying
}

/// Directories here whose entries can be collected one by one, and what they hold.
fn places(paths: &Paths) -> [(&'static str, PathBuf); 3] {
    [
        ("conflict", paths.state.join("conflicts")),
        ("index", paths.cache.join("index")),
        ("record", paths.cache.join("mirrors")),
    ]
}

fn entries(dir: &Path) -> Vec<(PathBuf, u64, u64)> {
    let listed = std::fs::read_dir(dir).into_iter().flatten().flatten();
    listed
        .filter_map(|e| {
            let meta = e.metadata().ok()?;
            let age = SystemTime::now()
                .duration_since(meta.modified().ok()?)
                .unwrap_or_default();
            let bytes = if meta.is_dir() {
                crate::sync::disk_use(&e.path())
            } else {
                meta.len()
            };
            Some((e.path(), bytes, age.as_millis() as u64))
        })
        .collect()
}

fn remove(path: &Path) -> bool {
    let is_dir = path.symlink_metadata().is_ok_and(|m| m.is_dir());
    let done = if is_dir {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    done.is_ok()
}

/// Clears away here, once a day, what has long been of no use: notes of old sessions, and what is remembered of trees that nothing
/// was run in for `older_ms`. For a process that nobody waits for.
pub fn by_itself(paths: &Paths, older_ms: u64) {
    let stamp = paths.cache.join("gc");
    if !is_due(&stamp) {
        return;
    }
    note::clear_old(&paths.state);
    for (_, dir) in places(paths).iter().filter(|(what, _)| *what != "conflict") {
        for (path, _, age_ms) in entries(dir) {
            if age_ms > older_ms {
                remove(&path);
            }
        }
    }
}

/// Whether a day has passed since this was last asked for `stamp`.
pub fn is_due(stamp: &Path) -> bool {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let age = std::fs::metadata(stamp)
        .and_then(|m| m.modified())
        .ok()
        .and_then(|t| t.elapsed().ok());
    if age.is_some_and(|a| a < DAY) {
        return false;
    }
    crate::paths::write_atomic(stamp, b"", 0o600).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lying(age_ms: u64, bytes: u64, in_use: bool) -> Lying {
        Lying {
            what: "mirror".into(),
            name: Vec::new(),
            bytes,
            age_ms,
            in_use,
            removed: false,
        }
    }

    #[test]
    fn the_oldest_go_and_nothing_in_use() {
        let all = [
            lying(10, 5, false),
            lying(30, 5, false),
            lying(20, 5, false),
            lying(99, 5, true),
        ];
        let gone = |older, max| {
            let mut l = all.to_vec();
            choose(&mut l, older, max);
            l.iter().map(|l| l.removed).collect::<Vec<_>>()
        };
        assert_eq!(gone(None, None), [false; 4]);
        assert_eq!(gone(Some(15), None), [false, true, true, false]);
        assert_eq!(gone(None, Some(15)), [false, true, false, false]);
        assert_eq!(gone(Some(25), Some(10)), [false, true, true, false]);
        assert_eq!(gone(None, Some(0)), [true, true, true, false]);
    }

    #[test]
    fn what_is_old_here_goes_by_itself_once_a_day_but_for_conflicts() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let make = |p: PathBuf| {
            crate::paths::write_atomic(&p, b"x", 0o600).unwrap();
            p
        };
        let index = make(paths.cache.join("index/k"));
        let conflict = make(paths.state.join("conflicts/r/f"));
        std::thread::sleep(Duration::from_millis(5));
        by_itself(&paths, 0);
        assert!(!index.exists() && conflict.exists());
        let index = make(index);
        std::thread::sleep(Duration::from_millis(5));
        by_itself(&paths, 0);
        assert!(index.exists(), "not twice a day");
        let args = GcArgs {
            older_ms: Some(0),
            dry: true,
            ..GcArgs::default()
        };
        assert_eq!(here(&paths, &args).iter().filter(|l| l.removed).count(), 2);
        assert!(conflict.exists());
        here(&paths, &GcArgs { dry: false, ..args });
        assert!(!conflict.exists() && !index.exists());
    }
}
