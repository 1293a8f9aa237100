//! Programs in front of a command that stay local: `timeout 5 pytest` becomes `timeout 5 cx pytest`.
//!
//! A wrapper is passed over only when each of its words is understood; otherwise the whole command counts as
//! the wrapper's.

use super::words::{Word, decode, is_one_argument};
use super::{Assignment, Dialect};

/// What was found in front of the command word.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Front {
    /// How many words to pass over.
    pub skip: usize,
    /// Names of the wrappers.
    pub wrappers: Vec<String>,
    /// What `env` assigns.
    pub assignments: Vec<Assignment>,
    /// Why nothing may be inserted after these wrappers.
    pub left_alone: Option<String>,
}

/// Looks through the wrappers at the start of `raws`, the source of each word.
pub(super) fn look_through(raws: &[&str], dialect: Dialect) -> Front {
    let mut front = Front::default();
    while front.skip < raws.len() {
        let words = Words {
            raws: &raws[front.skip..],
            dialect,
        };
        let Some(passed) = words.pass() else { break };
        if passed.skip >= words.raws.len() {
            break;
        }
        front.skip += passed.skip;
        front.wrappers.extend(passed.wrappers);
        front.assignments.extend(passed.assignments);
        if passed.left_alone.is_some() {
            front.left_alone = passed.left_alone;
        }
    }
    front
}

struct Words<'a> {
    raws: &'a [&'a str],
    dialect: Dialect,
}

impl Words<'_> {
    fn get(&self, i: usize) -> Option<String> {
        match decode(self.raws.get(i)?, self.dialect) {
            Word::Static(s) => Some(s),
            Word::Dynamic | Word::Flag(_) => None,
        }
    }

    /// Whether word `i` is there and is exactly one argument, known or not.
    fn is_one(&self, i: usize) -> bool {
        self.raws
            .get(i)
            .is_some_and(|raw| is_one_argument(raw) || decode(raw, self.dialect).text().is_some())
    }

    /// One wrapper, if word 0 is one.
    fn pass(&self) -> Option<Front> {
        let program = self.get(0)?;
        let base = match program.rsplit_once('/') {
            Some(("/bin" | "/usr/bin" | "/usr/local/bin" | "/opt/homebrew/bin", base)) => base,
            Some(_) => return None,
            None => program.as_str(),
        };
        let mut left_alone = None;
        let mut assignments = Vec::new();
        let skip = match base {
            "timeout" | "gtimeout" => {
                let i = self.options(
                    1,
                    &["-k", "-s", "--kill-after", "--signal"],
                    &["-v", "-f", "-p", "--foreground", "--preserve-status", "--verbose"],
                )?;
                self.is_one(i).then_some(i + 1)?
            }
            "nice" => self.nice()?,
            "ionice" => self.options(1, &["-c", "-n", "--class", "--classdata"], &["-t", "--ignore"])?,
            "nohup" => self.options(1, &[], &[])?,
            // Without `--fork`, which lets the command go on behind the back of the text.
            "setsid" => self.options(1, &[], &["-c", "-w", "--ctty", "--wait"])?,
            "unbuffer" => self.options(1, &[], &[])?,
            "chrt" => {
                let i = self.options(
                    1,
                    &[],
                    &[
                        "-b", "-f", "-i", "-o", "-r", "--batch", "--fifo", "--idle", "--other", "--rr",
                    ],
                )?;
                self.get(i)
                    .filter(|priority| is_number(priority))
                    .map(|_| i + 1)?
            }
            "stdbuf" => self.options(1, &["-i", "-o", "-e", "--input", "--output", "--error"], &[])?,
            "time" => self.options(
                1,
                &["-f", "-o", "--format", "--output"],
                &[
                    "-p",
                    "-v",
                    "-a",
                    "-l",
                    "-h",
                    "-q",
                    "--portability",
                    "--verbose",
                    "--append",
                    "--quiet",
                ],
            )?,
            "caffeinate" => {
                self.options(1, &["-t"], &["-d", "-i", "-m", "-s", "-u", "-dims", "-di", "-is"])?
            }
            "command" if program == "command" => {
                let i = self.options(1, &[], &["-p"])?;
                if i > 1 {
                    left_alone = Some("`command -p` searches another PATH".to_owned());
                }
                i
            }
            "exec" if program == "exec" => {
                left_alone = Some("`exec` replaces the shell".to_owned());
                self.options(1, &["-a"], &["-c", "-l", "-cl"])?
            }
            "env" => self.env(&mut left_alone, &mut assignments)?,
            _ => return None,
        };
        Some(Front {
            skip,
            wrappers: vec![base.to_owned()],
            assignments,
            left_alone,
        })
    }

    /// The index after the options from `i` on: those of `valued` take a value (attached, after `=`, or as the next
    /// word), those of `flags` none. `None` at any other option.
    fn options(&self, mut i: usize, valued: &[&str], flags: &[&str]) -> Option<usize> {
        loop {
            let Some(word) = self.get(i) else {
                return (i < self.raws.len()).then_some(i);
            };
            if word == "--" {
                return Some(i + 1);
            }
            if !word.starts_with('-') || word == "-" {
                return Some(i);
            }
            if flags.contains(&word.as_str()) {
                i += 1;
            } else if valued.contains(&word.as_str()) {
                if !self.is_one(i + 1) {
                    return None;
                }
                i += 2;
            } else if valued.iter().any(|v| attached(&word, v)) {
                i += 1;
            } else {
                return None;
            }
        }
    }

    fn nice(&self) -> Option<usize> {
        let i = match self.get(1) {
            Some(w) if w.strip_prefix('-').is_some_and(is_number) => 2,
            _ => 1,
        };
        self.options(i, &["-n", "--adjustment"], &[])
    }

    fn env(&self, left_alone: &mut Option<String>, assignments: &mut Vec<Assignment>) -> Option<usize> {
        let mut i = 1;
        loop {
            let raw = *self.raws.get(i)?;
            let name = raw
                .split_once('=')
                .map(|(name, _)| name)
                .filter(|name| is_name(name));
            if let Some(name) = name {
                // The value may be dynamic, as long as it stays one argument.
                let value = &raw[name.len() + 1..];
                if !self.is_one(i) && !is_one_argument(value) {
                    return None;
                }
                assignments.push(Assignment {
                    name: name.to_owned(),
                    value: decode(value, self.dialect),
                });
                i += 1;
                continue;
            }
            let word = self.get(i)?;
            match word.as_str() {
                "-i" | "-" | "--ignore-environment" => {
                    *left_alone = Some("`env -i` empties the environment".to_owned());
                    i += 1;
                }
                "-u" | "-C" | "--unset" | "--chdir" => {
                    if !self.is_one(i + 1) {
                        return None;
                    }
                    i += 2;
                }
                "-v" | "--debug" => i += 1,
                "--" => i += 1,
                w if ["-u", "-C", "--unset", "--chdir"].iter().any(|o| attached(w, o)) => i += 1,
                w if w.starts_with('-') => return None,
                // A quoted assignment: `env "A=b c" cmd`.
                w if w.split_once('=').is_some_and(|(name, _)| is_name(name)) => {
                    assignments.extend(w.split_once('=').map(|(name, value)| Assignment {
                        name: name.to_owned(),
                        value: value.into(),
                    }));
                    i += 1;
                }
                w if w.contains('=') => return None,
                _ => return Some(i),
            }
        }
    }
}

/// Whether `word` is the option `valued` with its value attached: `-oL`, `--signal=KILL`.
fn attached(word: &str, valued: &str) -> bool {
    let Some(rest) = word.strip_prefix(valued) else {
        return false;
    };
    if valued.starts_with("--") {
        rest.starts_with('=')
    } else {
        !rest.is_empty()
    }
}

fn is_number(s: &str) -> bool {
    let s = s.strip_prefix('-').unwrap_or(s);
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())
}

/// Whether `s` can be the name of a variable.
pub(super) fn is_name(s: &str) -> bool {
    s.bytes()
        .next()
        .is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && s.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
}
