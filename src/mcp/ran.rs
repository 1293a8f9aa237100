//! What came of one command, and how it is told: to a model as text, to programs as fields.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::capture::Capture;
use super::text::{self, Text};
use crate::client::kept;
use crate::report::{DETACHED, LOST};
use crate::request::{Ending, Outcome};

/// The longest text of a result, bytes.
pub const LIMIT: usize = 30_000;

/// The longest reason among the fields, bytes: those of all commands of a call fit a result.
const MAX_REASON: usize = 400;

/// How it stands with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It ended by itself.
    Ended(Ending),
    /// It ended by itself, and what it changed did not come back.
    NotBack(Ending),
    /// Its time was up, and it was ended.
    TimedOut(u64),
    /// Its time was up, and its node could not be told to end it.
    Untold(u64),
    /// Its time was up before it had started anywhere.
    NotStarted(u64),
    /// The caller wanted no more of it.
    Cancelled,
    /// It goes on, and the call does not wait for it.
    Detached,
    /// It has not started yet, and the call does not wait for it.
    Waiting,
    /// The node was lost after the start.
    Lost,
    /// Nothing was started.
    NotRun,
}

/// One command's result.
#[derive(Clone)]
pub struct Ran {
    /// The node's name, `local`, or `none`.
    pub place: String,
    /// How it ended.
    pub state: State,
    /// How long it took, all in all.
    pub took: Duration,
    /// Why there, or why not.
    pub reason: String,
    /// The reason is what one would expect of such a command: nothing to tell a model.
    pub is_plain: bool,
    /// What the caller should know besides.
    pub notes: Vec<String>,
    /// cx moved it, or parts of it, to a node by its own judgement.
    pub auto_routed: bool,
    /// The run's id.
    pub id: String,
    /// Its output.
    pub capture: Capture,
}

impl Ran {
    /// That nothing was run, and why.
    pub fn not_run(reason: impl Into<String>, id: String, capture: Capture) -> Ran {
        Ran {
            place: "none".into(),
            state: State::NotRun,
            took: Duration::ZERO,
            reason: reason.into(),
            is_plain: false,
            notes: Vec::new(),
            auto_routed: false,
            id,
            capture,
        }
    }

    /// Of what the pipeline says.
    pub fn of(outcome: Outcome, notes: Vec<String>, took: Duration, id: String, capture: Capture) -> Ran {
        let state = match outcome.ending {
            Some(ending) => State::Ended(ending),
            None if outcome.own_status == LOST => outcome.not_back.map_or(State::Lost, State::NotBack),
            // A status of its own only for what was to go on, and does.
            None if outcome.own_status == DETACHED || !outcome.run_id.is_empty() => State::Detached,
            None => State::NotRun,
        };
        // By this name every later cx knows it.
        let id = match &state {
            State::Detached | State::Lost | State::NotBack(_) if !outcome.run_id.is_empty() => {
                kept::short(&outcome.run_id).to_owned()
            }
            _ => id,
        };
        let mut told = Vec::new();
        if outcome.back.0 > 0 {
            let s = if outcome.back.0 == 1 { "" } else { "s" };
            told.push(format!("{} file{s} back", outcome.back.0));
        }
        told.extend(outcome.notes);
        // What was told on the way, but for the reason itself once more.
        let is_reason = |n: &str| n.contains(&outcome.reason);
        // Nor what was tried to find a run again that is lost all the same.
        let run = Some(outcome.run_id.as_str()).filter(|id| state == State::Lost && !id.is_empty());
        let is_past = |n: &str| run.is_some_and(|id| n.contains(id));
        told.extend(notes.into_iter().filter(|n| !is_reason(n) && !is_past(n)));
        Ran {
            place: outcome.place,
            state,
            took,
            reason: outcome.reason,
            is_plain: false,
            notes: told,
            auto_routed: false,
            id,
            capture,
        }
    }

    /// Whether it is an error of the call; that a command fails is none.
    pub fn is_error(&self) -> bool {
        matches!(
            self.state,
            State::NotBack(_)
                | State::TimedOut(_)
                | State::Untold(_)
                | State::NotStarted(_)
                | State::Lost
                | State::NotRun
        )
    }

    /// Whether it says that what was known of the nodes may not hold any more.
    pub fn is_doubtful(&self) -> bool {
        let is_known = matches!(
            self.state,
            State::Ended(_) | State::NotBack(_) | State::Detached | State::Waiting
        );
        !is_known && self.place != "local"
    }

    /// The last line of a result: `[tower exit 3 12.4s]`, and what there is to know besides.
    pub fn last_line(&self) -> String {
        let took = text::seconds(self.took);
        let place = text::line(&self.place);
        let mut line = match &self.state {
            State::Ended(ending) | State::NotBack(ending) => format!("[{place} {ending} {took}]"),
            State::TimedOut(_) | State::Untold(_) | State::NotStarted(_) => {
                format!("[{place} timed out {took}]")
            }
            State::Cancelled => format!("[{place} cancelled {took}]"),
            State::Detached => format!("[{place} running {took}]"),
            State::Waiting => format!("[waiting {took}]"),
            State::Lost => format!("[{place} lost {took}]"),
            State::NotRun => "[not run]".into(),
        };
        let here = self.place == "local" && !self.reason.is_empty() && !self.is_plain;
        let mut more = self.notes.clone();
        match &self.state {
            State::NotRun | State::Lost | State::NotBack(_) => more.insert(0, self.reason.clone()),
            State::TimedOut(limit) => more.insert(
                0,
                format!("ended after its timeout of {limit} s; the output so far is above"),
            ),
            State::Untold(limit) => more.insert(
                0,
                format!(
                    "its timeout of {limit} s is over, and the node could not be told to end it; it is told once it answers, while this server lives; the output so far is above"
                ),
            ),
            State::NotStarted(limit) => {
                more.insert(0, format!("its timeout of {limit} s was over before it ran; {}", self.reason));
            }
            State::Detached => more.insert(
                0,
                format!("it goes on as run {}; cluster_status shows how it ends", self.id),
            ),
            State::Waiting => more.insert(
                0,
                format!("run {} starts when a slot is free, unless this server ends before; cluster_status shows it", self.id),
            ),
            _ if here => more.insert(0, self.reason.clone()),
            _ => {}
        }
        if !more.is_empty() {
            line.push(' ');
            line.push_str(&text::line(&more.join(" · ")));
        }
        if matches!(self.state, State::Detached)
            && let Some(path) = self.capture.path()
        {
            line.push_str(&format!(" · log: {}", path.display()));
        }
        line
    }

    /// What a caller can do about an error.
    pub fn options(&self) -> Option<&'static str> {
        match self.state {
            State::TimedOut(_) | State::Untold(_) | State::NotStarted(_) => {
                Some("Options: a longer `timeout` (up to 86400), or smaller commands.")
            }
            State::Lost => Some(
                "Options: cluster_status asks the machine again and shows the run's end once it is known; look at the tree before you run it again.",
            ),
            State::NotBack(_) => {
                Some("Options: do as said above; it has ended, so do not run it again for its changes.")
            }
            State::NotRun => Some(
                "Options: cluster_status shows the machines and what is wrong with each; cluster_bash without requirements runs it wherever it can be run.",
            ),
            _ => None,
        }
    }

    /// The word for its state.
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Ended(Ending::Code(_)) | State::NotBack(Ending::Code(_)) => "exited",
            State::Ended(Ending::Signal(_)) | State::NotBack(Ending::Signal(_)) => "signaled",
            State::TimedOut(_) | State::Untold(_) | State::NotStarted(_) => "timed_out",
            State::Cancelled => "cancelled",
            State::Detached => "detached",
            State::Waiting => "waiting",
            State::Lost => "lost",
            State::NotRun => "not_run",
        }
    }

    /// The fields for programs.
    pub fn fields(&self, truncated: bool) -> Value {
        let exit_code = match self.state {
            State::Ended(ending) | State::NotBack(ending) => Some(ending.shell_status()),
            _ => None,
        };
        json!({
            "node_id": text::line(&self.place),
            "state": self.state(),
            "exit_code": exit_code,
            "duration_ms": self.took.as_millis() as u64,
            "truncated": truncated,
            "log_path": self.capture.path().map(|p| text::clean(p.display().to_string().as_bytes())),
            "auto_routed": self.auto_routed,
            "reason": text::clip(&text::line(&self.reason), MAX_REASON),
            "run_id": self.id,
        })
    }
}

/// One command's result as a model sees it: its output, made into text once, and the last line.
pub struct Block {
    text: Text,
    end: String,
    log: Option<PathBuf>,
}

impl Block {
    /// Of a command's result. The work grows with the output that was kept: nothing for the threads that serve.
    pub fn of(ran: &Ran) -> Block {
        let mut end = ran.last_line();
        if let Some(options) = ran.options() {
            end.push('\n');
            end.push_str(options);
        }
        Block {
            text: Text::of(ran.capture.raw()),
            end,
            log: ran.capture.path(),
        }
    }

    /// Its size if nothing is left out, bytes.
    pub fn size(&self) -> usize {
        self.text.len() + 1 + self.end.len()
    }

    /// All of it within `limit` bytes, and whether output was left out.
    pub fn text(&self, limit: usize) -> (String, bool) {
        let end = &self.end[..self.end.floor_char_boundary(self.end.len().min(limit / 2))];
        let room = limit.saturating_sub(end.len() + 1);
        let (output, cut) = self.text.fit(room, self.log.as_deref());
        let mut text = output.into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(end);
        (text, cut)
    }

    /// How many bytes all of its output is in JSON.
    pub fn in_json(&self) -> usize {
        json_len(&self.text.fit(usize::MAX, None).0)
    }

    /// Only the output, within `limit` bytes of JSON, and whether some was left out.
    pub fn output(&self, limit: usize) -> (String, bool) {
        let mut room = limit;
        loop {
            let (output, cut) = self.text.fit(room, self.log.as_deref());
            let len = json_len(&output);
            if len <= limit || room == 0 {
                return (output.into_owned(), cut);
            }
            // What has to be escaped is spread evenly, or nearly.
            room = (room.min(output.len()) * limit / len).min(room - 1);
        }
    }
}

/// Bytes of a text in a JSON string, without the quotes.
fn json_len(text: &str) -> usize {
    serde_json::to_string(text).map_or(0, |s| s.len() - 2)
}

/// Shares `room` among texts of these sizes, so that short ones leave what they do not need to long ones.
pub fn shares(sizes: &[usize], room: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| sizes[i]);
    let mut left = room;
    let mut shares = vec![0; sizes.len()];
    for (done, &i) in order.iter().enumerate() {
        let share = left / (sizes.len() - done);
        shares[i] = share;
        left -= share.min(sizes[i]);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(state: State) -> Ran {
        let dir = tempfile::tempdir().unwrap();
        let capture = Capture::new(dir.path(), "x");
        capture.add(b"out\nput");
        Ran {
            place: "tower".into(),
            state,
            took: Duration::from_millis(12_400),
            reason: "because".into(),
            is_plain: false,
            notes: Vec::new(),
            auto_routed: false,
            id: "1-2".into(),
            capture,
        }
    }

    #[test]
    fn the_last_line_says_where_and_how() {
        let text = |state| Block::of(&ran(state)).text(LIMIT).0;
        assert_eq!(
            text(State::Ended(Ending::Code(3))),
            "out\nput\n[tower exit 3 12.4s]"
        );
        assert_eq!(
            text(State::Ended(Ending::Signal(9))),
            "out\nput\n[tower signal 9 12.4s]"
        );
        assert!(text(State::TimedOut(5)).contains("[tower timed out 12.4s] ended after its timeout of 5 s"));
        assert!(text(State::NotRun).contains("[not run] because\nOptions: "));
        let mut here = ran(State::Ended(Ending::Code(0)));
        here.place = "local".into();
        here.notes = vec!["\u{1b}[31mnote\nx".into()];
        assert_eq!(here.last_line(), "[local exit 0 12.4s] because · note x");
        here.is_plain = true;
        assert_eq!(here.last_line(), "[local exit 0 12.4s] note x");
        assert_eq!(here.fields(false)["exit_code"], 0);
        assert!(!here.is_error() && ran(State::Lost).is_error());
        here.reason = format!("no \u{1b}[31m\tnode ghp_\u{1b}[0m{}\n", "a1".repeat(18));
        here.place = "a\u{1b}[1mb".into();
        let fields = here.fields(false);
        assert_eq!(fields["reason"], "no  node [redacted by cx] ");
        assert_eq!(fields["node_id"], "ab");
    }

    #[test]
    fn a_lost_run_is_told_once() {
        let lost = |reason: &str, not_back: Option<Ending>| {
            let mut outcome = Outcome::own("tower", reason, LOST);
            outcome.not_back = not_back;
            outcome.run_id = "19ab-1-cafe".into();
            let notes = vec![
                "the tree is large".to_owned(),
                "tower: broken; attaching to run 19ab-1-cafe again".to_owned(),
                reason.to_owned(),
            ];
            let capture = ran(State::Lost).capture;
            Ran::of(outcome, notes, Duration::from_secs(3), "m1".into(), capture)
        };
        let one = lost("tower: run 19ab-1-cafe was lost", None);
        let line = one.last_line();
        assert_eq!(
            line,
            "[tower lost 3.0s] tower: run 19ab-1-cafe was lost · the tree is large"
        );
        // The name that every later cx knows it by.
        assert_eq!(one.fields(false)["run_id"], "cafe");
        // A run that ended, and whose changes are what was lost.
        let why = "tower: the command ended with 0, but what it changed did not come back: full";
        let one = lost(why, Some(Ending::Code(0)));
        assert_eq!(
            one.last_line(),
            format!(
                "[tower exit 0 3.0s] {why} · the tree is large · tower: broken; attaching to run 19ab-1-cafe again"
            )
        );
        assert!(one.is_error() && one.fields(false)["exit_code"] == 0);
    }

    #[test]
    fn what_short_texts_leave_goes_to_long_ones() {
        assert_eq!(shares(&[10, 10], 100), [50, 90]);
        assert_eq!(shares(&[1000, 10, 1000], 110), [50, 36, 50]);
        assert_eq!(shares(&[], 100), Vec::<usize>::new());
    }
}
