//! `cx runs`, `logs`, `attach`, `cancel`: runs that go on without the cx that started them.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::json;

use crate::client::kept::{self, Record, here};
use crate::client::run::missing;
use crate::client::stdio::Output;
use crate::config::Config;
use crate::node::printable;
use crate::paths::{Paths, now_ms};
use crate::pipeline::{self, Door, State, detached};
use crate::proto::{Down, Seen, Up};
use crate::report;
use crate::request::{Demands, Ending, Origin, Request};

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What every verb needs.
struct World {
    paths: Arc<Paths>,
    config: Config,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> anyhow::Result<World> {
        let paths = Arc::new(Paths::from_env()?);
        Ok(World {
            config: Config::load(&paths)?,
            runtime: pipeline::runtime()?,
            paths,
        })
    }
}

/// Lists the runs that were detached, or whose link was lost.
///
/// # Errors
/// When the config can't be read or nothing can be written.
pub fn list(as_json: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    let w = World::new()?;
    let runs = w
        .runtime
        .block_on(detached::list(&w.paths, &w.config, Duration::from_secs(5)));
    if as_json {
        let runs: Vec<_> = runs.iter().map(|(r, s)| as_value(r, s)).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "runs": runs }))?)?;
        return Ok(0);
    }
    if runs.is_empty() {
        writeln!(
            out,
            "no runs go on without a cx (cx run --detach -- COMMAND starts one)"
        )?;
    }
    for (r, state) in &runs {
        let ago = now_ms().saturating_sub(r.started_ms) / 1000;
        writeln!(
            out,
            "{:<10} {:<12} {:<9} {:>5} ago  {}",
            r.short(),
            r.node,
            word(r, state),
            age(ago),
            r.line()
        )?;
        if let State::Unknown(why) = state {
            writeln!(out, "           {}", printable(why, 200))?;
        }
    }
    Ok(0)
}

fn word(r: &Record, state: &State) -> String {
    match state {
        State::Going => "running".into(),
        State::Ended(Ending::Code(c)) if !r.fetched => format!("exit {c} *"),
        State::Ended(ending) => ending.to_string(),
        State::Unknown(_) => "unknown".into(),
    }
}

fn age(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86400 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86400),
    }
}

fn as_value(r: &Record, state: &State) -> serde_json::Value {
    let (word, status, why) = match state {
        State::Going => ("running", None, None),
        State::Ended(e) => ("ended", Some(e.shell_status()), None),
        State::Unknown(why) => ("unknown", None, Some(why)),
    };
    json!({
        "id": r.id,
        "short": r.short(),
        "node": r.node,
        "workspace": r.workspace,
        "command": r.command,
        "started_ms": r.started_ms,
        "state": word,
        "status": status,
        "why": why,
        "fetched": r.fetched,
    })
}

/// Prints a run's output so far; with `follow`, until it ends.
///
/// # Errors
/// When there is no such run, or its node does not answer.
pub fn logs(id: &str, follow: bool) -> anyhow::Result<i32> {
    let w = World::new()?;
    let record = kept::find(&w.paths, id)?;
    if record.is_all_here() {
        print_log(&w.paths, &record, follow)?;
        return Ok(0);
    }
    w.runtime.block_on(async {
        let link = detached::link(&record.node, &w.config, &w.paths, ANSWER)
            .await
            .map_err(|e| anyhow!("{}: {e}", record.node))?;
        let mut channel = link.channel();
        let id = record.id.clone();
        let _ = channel.send(&Up::Read { id, follow }).await;
        let output = Output::to_own();
        loop {
            match channel.rx.recv().await.context("the connection ended")? {
                Down::Output { fd, data } => output.write(fd, data).await,
                Down::Missing(bytes) => {
                    output.flush().await;
                    report::line(&missing(&record.node, bytes));
                }
                Down::Seen(seen) => {
                    output.flush().await;
                    if matches!(seen[..], [Seen::Gone]) {
                        anyhow::bail!("{} knows nothing of run {} any more", record.node, record.id);
                    }
                    return Ok(0);
                }
                _ => {}
            }
        }
    })
}

/// Prints the output of a run on this machine; with `follow`, until it ends.
fn print_log(paths: &Paths, record: &Record, follow: bool) -> anyhow::Result<()> {
    let gone = || format!("the output of run {} is gone", record.id);
    let path = record.log.as_ref().with_context(gone)?;
    let mut log = std::fs::File::open(path).with_context(gone)?;
    let mut out = std::io::stdout().lock();
    loop {
        // Asked first: what comes before its end is in the log by then.
        let goes_on = follow && here::is_going(paths, &record.id);
        std::io::copy(&mut log, &mut out)?;
        out.flush()?;
        if !goes_on {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Goes on with a run as if it had never been left.
///
/// # Errors
/// When there is no such run.
pub fn attach(id: &str) -> anyhow::Result<i32> {
    let w = World::new()?;
    let record = kept::find(&w.paths, id)?;
    if record.is_all_here() {
        print_log(&w.paths, &record, true)?;
        return Ok(match kept::find(&w.paths, &record.id)?.ending {
            Some(Ending::Code(c)) => c,
            Some(Ending::Signal(n)) => crate::local::die_by(n),
            None => report::LOST,
        });
    }
    let request = Request {
        origin: if crate::cli::under_an_agent() {
            Origin::Agent
        } else {
            Origin::Shell
        },
        argv: Vec::new(),
        cwd: std::env::current_dir().unwrap_or_default(),
        demands: Demands::default(),
        script: None,
    };
    let outcome = w.runtime.block_on(async {
        let mut door = Door::terminal(&request)?;
        let outcome = detached::attach(
            &record,
            &w.config,
            &w.paths,
            None,
            &door.output,
            &mut door.orders,
            &mut *door.told,
        )
        .await;
        match outcome.ending {
            Some(_) if outcome.own_status == 0 => door.told.report(&report::summary(&outcome)),
            _ => door.told.line(&format!(
                "{}: run {}: {}",
                record.node,
                record.short(),
                outcome.reason
            )),
        }
        anyhow::Ok(outcome)
    })?;
    w.runtime.shutdown_background();
    Ok(match outcome.ending {
        Some(Ending::Code(c)) => c,
        Some(Ending::Signal(n)) => crate::local::die_by(n),
        None => outcome.own_status,
    })
}

/// Ends a run.
///
/// # Errors
/// When there is no such run, or its node does not answer.
pub fn cancel(id: &str, out: &mut dyn Write) -> anyhow::Result<i32> {
    let w = World::new()?;
    let record = kept::find(&w.paths, id)?;
    if record.is_all_here() {
        let told =
            here::stop(&w.paths, &record.id).with_context(|| format!("run {} can't be told", record.id))?;
        let how = if told {
            "was told to end"
        } else {
            "has ended already"
        };
        let place = match record.node.as_str() {
            here::HERE => "this machine",
            node => node,
        };
        writeln!(out, "run {} on {place} {how}", record.short())?;
        return Ok(0);
    }
    let told = w
        .runtime
        .block_on(detached::stop(&record, &w.config, &w.paths, ANSWER))
        .map_err(|e| anyhow!("{}: {e}", record.node))?;
    match told {
        true => writeln!(out, "run {} on {} was told to end", record.short(), record.node)?,
        false => writeln!(out, "run {} on {} has ended already", record.short(), record.node)?,
    }
    Ok(0)
}
