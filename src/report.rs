//! What people and programs are told: the one line of a run, errors, and the exit codes of cx's own.
//!
//! | status | meaning |
//! | --- | --- |
//! | the command's own | it ran, here or there |
//! | 128 + n | signal n ended it |
//! | 75 | the link was lost after the start; the result is not known |
//! | 76 | it must run on a node (`--on`, `--os`, `--arch`, `--require-remote`) and none could take it |
//! | 77 | the run goes on on its node without its caller, as was wanted at the deadline |
//! | 126, 127 | the program can't be started, or is not found |
//! | 2 | wrong usage of cx itself |

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::progress::Step;
use crate::request::Outcome;

/// The link was lost after the start.
pub const LOST: i32 = 75;

/// No node could take a command that must run on one.
pub const NO_NODE: i32 = 76;

/// The run goes on on its node without this cx.
pub const DETACHED: i32 = 77;

/// Who is told of a run while it goes on, and at its end. Every front end has its own; none of them decides anything.
pub trait Told: Send {
    /// Something of cx's own that cannot wait for the end.
    fn line(&mut self, text: &str);

    /// The one line of the whole run: where it ran and why.
    fn report(&mut self, text: &str);

    /// All slots of the node are taken and the run waits.
    fn waiting(&mut self, node: &str, running: u32) {
        self.line(&format!("{node}: all {running} slots are taken, waiting for one"));
    }

    /// What takes its time now; only who draws a live line cares.
    fn progress(&mut self, _step: Step) {}

    /// The command was started on a node, as the run of this id.
    fn started(&mut self, _node: &str, _id: &str) {}
}

/// Writes one line of cx's own to stderr.
pub fn line(text: &str) {
    // One write, so that the line stays whole among other output; a closed stderr is nobody's loss.
    let _ = std::io::stderr().write_all(format!("[cx] {text}\n").as_bytes());
}

/// Whether lines of cx's own are seen on a terminal.
pub fn is_on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Ends a line on the terminal that the command left unfinished, so that the next one stands by itself.
pub fn new_line() {
    let _ = std::io::stderr().write_all(b"\n");
}

/// The line that tells where a command ran and why.
///
/// ```text
/// tower · sync 12 files 0.2s · ran 18.2s · exit 1 · 2 files back
/// local: no node has `pytest`
/// ```
pub fn summary(o: &Outcome) -> String {
    if o.place == "local" {
        return format!("local: {}", o.reason);
    }
    let mut parts = vec![o.place.clone()];
    parts.push(format!("sync {} {}", files(o.sent.0), seconds(o.sync_time)));
    parts.push(format!("ran {}", seconds(o.run_time)));
    parts.push(o.ending.map_or_else(|| o.reason.clone(), |e| e.to_string()));
    if o.back.0 > 0 {
        parts.push(format!("{} back", files(o.back.0)));
    }
    parts.extend(o.notes.iter().cloned());
    parts.join(" · ")
}

fn files(n: u64) -> String {
    if n == 1 {
        "1 file".into()
    } else {
        format!("{n} files")
    }
}

fn seconds(d: Duration) -> String {
    let s = d.as_secs_f64();
    if s < 60.0 {
        format!("{s:.1}s")
    } else {
        format!("{}m{:02}s", s as u64 / 60, s as u64 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Ending;

    #[test]
    fn the_line_says_all() {
        let mut o = Outcome {
            place: "tower".into(),
            reason: String::new(),
            ending: Some(Ending::Code(1)),
            not_back: None,
            own_status: 0,
            run_id: "x".into(),
            sent: (12, 1000),
            back: (2, 10),
            sync_time: Duration::from_millis(210),
            local_time: Duration::from_millis(30),
            run_time: Duration::from_millis(18_200),
            notes: vec![],
            load: None,
        };
        assert_eq!(
            summary(&o),
            "tower · sync 12 files 0.2s · ran 18.2s · exit 1 · 2 files back"
        );
        o.sent = (1, 1);
        o.back = (0, 0);
        o.ending = Some(Ending::Signal(9));
        o.run_time = Duration::from_secs(125);
        assert_eq!(summary(&o), "tower · sync 1 file 0.2s · ran 2m05s · signal 9");
        o.place = "local".into();
        o.reason = "no node has `pytest`".into();
        assert_eq!(summary(&o), "local: no node has `pytest`");
    }
}
