//! Other trees that a command needs (`also`): each has a mirror of its own, brought up to date before the run and collected after it,
//! on the stream that the run takes.
//!
//! The run's supervisor holds them all while it lives, so that nobody takes what the command changed there for damage. It lives until
//! this side says that it has everything, which is after the collections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Again, Applied, Caller, Job, RunError, Running, START_WINDOW, Terms, Way, early, send_run};
use crate::client::tree::{Tree, left_there};
use crate::node::link::Greeting;
use crate::node::printable;
use crate::proto::{Down, Errand, PathsWish, Up};

/// A collection that says nothing for so long is given up.
const SILENT: Duration = Duration::from_secs(60);

/// Brings the mirrors of all of the job's other trees up to date. With any, the node has greeted after it.
///
/// # Errors
/// As for a run that did not start.
pub(super) async fn sync_all(
    way: Way,
    again: &Again<'_>,
    job: &Job,
    terms: &Terms,
    orphans: &[String],
    caller: &mut Caller<'_>,
) -> Result<Way, RunError> {
    if job.also.is_empty() {
        return Ok(way);
    }
    let mut link = match way {
        Way::Greeted(link) => link,
        Way::Early(opening, _) => match opening.greeted(Instant::now() + START_WINDOW).await {
            Ok(Greeting::Here(link)) => *link,
            Ok(Greeting::Missing(_)) => return Err(RunError::NoAgent),
            Err(e) => return Err(RunError::broken(e.to_string())),
        },
        Way::Borrowed(opening) => early::answered(*opening, caller).await?,
    };
    for (n, tree) in job.also.iter().enumerate() {
        let errand = errand(job, tree, format!("{}-s{n}", job.id), Errand::Sync);
        let channel = link.channel();
        let (pack, _) = send_run(&again.node.name, &channel, None, &errand, terms, orphans).await?;
        let mut r = Running {
            pack,
            ..Running::new(link, *again, &errand, channel, caller.output)
        };
        let done = r.until_exit(caller).await;
        r.send(&Up::Done).await;
        done?;
        link = r.link;
    }
    Ok(Way::Greeted(link))
}

fn errand(of: &Job, tree: &Arc<Tree>, id: String, errand: Errand) -> Job {
    Job {
        back_limit: of.back_limit,
        keep: of.keep,
        errand,
        ..Job::without_command(id, Some(tree.clone()))
    }
}

impl Running<'_> {
    /// Takes home what the command changed in the job's other trees, and adds it to `back`. What could not be had is told there.
    pub(super) async fn take_home_beside(&self, back: &mut Applied) {
        let top = self.job.tree.as_ref().map(|t| t.ws.root.as_path());
        for (n, tree) in self.job.also.iter().enumerate() {
            let name = from(top.unwrap_or(Path::new("")), &tree.ws.root);
            let of = |what: String| format!("{}: {what}", name.display());
            match self.collect(tree, format!("{}-c{n}", self.job.id)).await {
                Ok(taken) => {
                    back.files.0 += taken.files.0;
                    back.files.1 += taken.files.1;
                    back.deleted += taken.deleted;
                    back.notes.extend(taken.notes.into_iter().map(of));
                    back.failed = back.failed.take().or(taken.failed.map(of));
                }
                Err(why) => back.failed = back.failed.take().or(Some(of(why))),
            }
        }
    }

    async fn collect(&self, tree: &Arc<Tree>, id: String) -> Result<Applied, String> {
        let errand = errand(self.job, tree, id, Errand::Collect);
        let terms = Terms {
            slots: None,
            allow_overload: true,
            insist: true,
            scope: self.scope,
            paths: PathsWish::Auto,
            first_failure: false,
        };
        let node = &self.link.node;
        // What was agreed on when it was brought up to date.
        let sent = tree.as_sent_before(node).manifest;
        let mut channel = self.link.channel();
        let asked = send_run(node, &channel, None, &errand, &terms, &[]).await;
        asked.map_err(|_| "it can't be asked for".to_owned())?;
        let mut incoming = None;
        let exit = loop {
            let next = tokio::time::timeout(SILENT, channel.rx.recv()).await;
            match next.map_err(|_| "no answer".to_owned())? {
                Some(Down::Back(piece)) => {
                    let limit = self.job.back_limit;
                    let i = incoming.get_or_insert_with(|| tree.incoming(&errand.id, limit, false));
                    i.feed(piece).await;
                }
                Some(Down::Exit(exit)) => break exit,
                Some(Down::Failed { message, .. }) => return Err(printable(&message, 200)),
                Some(Down::Refused { .. }) | None => return Err("the connection ended".into()),
                Some(_) => {}
            }
        };
        let mut taken = Applied::default();
        if let Some(incoming) = incoming {
            let clock = self.link.clock_offset();
            let applied = incoming.apply(tree.clone(), node, &exit, sent, &errand.id, clock);
            taken = applied.await?;
        }
        taken
            .notes
            .extend(left_there(&exit, &tree.ws.root, self.again.node.write_back));
        let _ = channel.send(&Up::Done).await;
        Ok(taken)
    }
}

/// How `path` is called from `top`, both absolute: `../lib`.
fn from(top: &Path, path: &Path) -> PathBuf {
    let above = top.ancestors().enumerate().find(|(_, dir)| path.starts_with(dir));
    let Some((ups, dir)) = above else {
        return path.to_owned();
    };
    let rest = path.strip_prefix(dir).unwrap_or(path);
    std::iter::repeat_n(Path::new(".."), ups).chain([rest]).collect()
}
