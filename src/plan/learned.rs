//! What was learned of runtimes: how long a command took, here and on each node, and what the trip to a node costs.
//!
//! It is kept as lines of text, so that the hook can look one command up without reading the rest:
//!
//!     cx-learned 1
//!     <key> <place> <time of the last, s> <ms>,<ms>,...
//!
//! A key stands for a command in a directory of a workspace ([`key`]), or for a workspace's trips ([`trips`]). A line that cannot be
//! read is as good as absent. The number of lines is bounded; the oldest go first.

use std::fmt::Write as _;

use super::shell::Word;

/// First line of the file.
const HEAD: &str = "cx-learned 1";

/// More entries are not kept.
const MAX_ENTRIES: usize = 2000;

/// Times kept of one command at one place.
const KEPT: usize = 7;

/// Fewer times than this tell nothing.
const ENOUGH: usize = 3;

/// After this long without a new time (seconds) a command is tried again.
const STALE_S: u64 = 7 * 24 * 3600;

/// One decision in so many goes against what was learned, to find out whether it still holds.
const EXPLORE: u64 = 16;

/// What usually takes this long (milliseconds) or longer is worth moving though no rule knows it.
const LONG_MS: u32 = 10_000;

/// The name of this machine among places.
pub const HERE: &str = "local";

/// What identifies a command in a directory of a workspace; `None` where a word is known only to the shell. `workspace` is its
/// key, `dir` the directory relative to its root. Words that only change what is printed do not count.
pub fn key(workspace: &str, dir: &[u8], argv: &[Word]) -> Option<u64> {
    let program = argv.first()?.text()?;
    let mut hash = Fnv::new(workspace.as_bytes());
    hash.add(dir);
    hash.add(program.rsplit('/').next().unwrap_or(program).as_bytes());
    for word in &argv[1..] {
        let text = word.text()?;
        let only_prints = matches!(
            text,
            "-v" | "-vv" | "-q" | "-qq" | "--verbose" | "--quiet" | "--silent" | "--no-color" | "--nocapture"
        ) || text.starts_with("--color");
        if !only_prints {
            hash.add(text.as_bytes());
        }
    }
    Some(hash.0)
}

/// The key of a workspace's trips.
pub fn trips(workspace: &str) -> u64 {
    let mut hash = Fnv::new(workspace.as_bytes());
    hash.add(b"\0trips");
    hash.0
}

/// FNV-1a over pieces: short inputs, no adversary (a user's own commands and paths).
pub(crate) struct Fnv(pub(crate) u64);

impl Fnv {
    pub(crate) fn new(first: &[u8]) -> Fnv {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.add(first);
        hash
    }

    fn add(&mut self, piece: &[u8]) {
        for b in piece.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Times of one key at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    key: u64,
    place: String,
    last_s: u64,
    times_ms: Vec<u32>,
}

impl Entry {
    fn read(line: &str) -> Option<Entry> {
        let mut fields = line.split(' ');
        let key = u64::from_str_radix(fields.next()?, 16).ok()?;
        let place = fields.next().filter(|p| !p.is_empty())?.to_owned();
        let last_s = fields.next()?.parse().ok()?;
        let times_ms = fields
            .next()?
            .split(',')
            .map(|t| t.parse().ok())
            .collect::<Option<Vec<u32>>>()?;
        (fields.next().is_none() && times_ms.len() <= KEPT).then_some(Entry {
            key,
            place,
            last_s,
            times_ms,
        })
    }

    /// The median, milliseconds.
    fn median(&self) -> u32 {
        let mut times = self.times_ms.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }
}

/// All that was learned, or the part of it that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    entries: Vec<Entry>,
}

impl Learned {
    /// Reads a file; anything of another version, and anything that is none, is empty.
    pub fn read(text: &str) -> Learned {
        Learned::select(text, |_| true)
    }

    /// Reads what stands under one of `keys`.
    pub fn read_only(text: &str, keys: &[u64]) -> Learned {
        let keys: Vec<String> = keys.iter().map(|k| format!("{k:016x} ")).collect();
        Learned::select(text, |line| keys.iter().any(|k| line.starts_with(k.as_str())))
    }

    fn select(text: &str, wanted: impl Fn(&str) -> bool) -> Learned {
        let Some(lines) = text.strip_prefix(HEAD).and_then(|t| t.strip_prefix('\n')) else {
            return Learned::default();
        };
        let entries = lines
            .lines()
            .filter(|l| wanted(l))
            .filter_map(Entry::read)
            .take(MAX_ENTRIES);
        Learned {
            entries: entries.collect(),
        }
    }

    /// The file's text.
    pub fn write(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for e in &self.entries {
            let times: Vec<String> = e.times_ms.iter().map(u32::to_string).collect();
            let _ = writeln!(
                text,
                "{:016x} {} {} {}",
                e.key,
                e.place,
                e.last_s,
                times.join(",")
            );
        }
        text
    }

    /// Takes in one more time. A place whose name cannot stand in the file is not noted.
    pub fn note(&mut self, key: u64, place: &str, ms: u32, now_s: u64) {
        if place.is_empty() || place.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return;
        }
        let found = self.entries.iter().position(|e| e.key == key && e.place == place);
        // The newest stands last: what is dropped is what was not seen for longest.
        let mut entry = match found {
            Some(i) => self.entries.remove(i),
            None => Entry {
                key,
                place: place.to_owned(),
                last_s: now_s,
                times_ms: Vec::new(),
            },
        };
        entry.last_s = now_s;
        entry.times_ms.push(ms);
        if entry.times_ms.len() > KEPT {
            entry.times_ms.remove(0);
        }
        self.entries.push(entry);
        if self.entries.len() > MAX_ENTRIES {
            let over = self.entries.len() - MAX_ENTRIES;
            self.entries.drain(..over);
        }
    }

    fn find(&self, key: u64, place: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key && e.place == place)
    }

    /// The median in milliseconds of what `key` took at `place`.
    pub fn usual_ms(&self, key: u64, place: &str) -> Option<u32> {
        self.find(key, place).map(Entry::median)
    }

    /// What is known of the command `key` in the workspace whose trips are `trips`.
    pub fn runtimes(&self, key: Option<u64>, trips: u64, now_s: u64) -> Runtimes {
        let of = |wanted: u64| self.entries.iter().filter(move |e| e.key == wanted);
        let fresh = |e: &&Entry| now_s.saturating_sub(e.last_s) < STALE_S;
        let sure = |e: &&Entry| e.times_ms.len() >= ENOUGH;
        let pair = |e: &Entry| (e.place.clone(), e.median());
        let mut known = Runtimes {
            trips: of(trips).filter(fresh).filter(sure).map(pair).collect(),
            ..Runtimes::default()
        };
        for e in key.into_iter().flat_map(of).filter(fresh) {
            if e.place == HERE {
                known.here_ms = Some(e.median());
                known.here_sure = sure(&e);
            } else {
                known.nodes.push(pair(e));
            }
        }
        known
    }
}

/// What is known of one command's times, all of it fresh enough to count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtimes {
    /// Here: the median, milliseconds.
    pub here_ms: Option<u32>,
    /// Whether that rests on enough runs.
    here_sure: bool,
    /// On nodes: name and median, milliseconds.
    pub nodes: Vec<(String, u32)>,
    /// Of each node: what a run cost there besides the command's own time, milliseconds; where enough runs tell, so that a first sync
    /// does not count.
    pub trips: Vec<(String, u32)>,
}

impl Runtimes {
    /// The median on `node`, milliseconds.
    pub fn on(&self, node: &str) -> Option<u32> {
        self.nodes.iter().find(|(n, _)| n == node).map(|(_, ms)| *ms)
    }

    /// Whether the command was run by cx before, and took long.
    pub fn usually_long(&self) -> bool {
        let places = self.nodes.iter().map(|(_, ms)| *ms).chain(self.here_ms);
        places.max().is_some_and(|ms| ms >= LONG_MS)
    }

    /// What a trip to `node` usually costs in this workspace, milliseconds.
    pub fn trip(&self, node: &str) -> Option<u32> {
        self.trips.iter().find(|(n, _)| n == node).map(|(_, ms)| *ms)
    }

    /// The cheapest trip that is known, milliseconds.
    pub fn cheapest_trip(&self) -> Option<u32> {
        self.trips.iter().map(|(_, ms)| *ms).min()
    }

    /// Why the command is not worth a trip of `trip_ms`, if it is not. One in sixteen `seed`s says nothing, so that what was learned
    /// is tried again now and then.
    pub fn too_short(&self, trip_ms: u32, seed: u64) -> Option<String> {
        if seed.is_multiple_of(EXPLORE) {
            return None;
        }
        let ms = self.here_ms.filter(|ms| self.here_sure && *ms < trip_ms)?;
        Some(format!(
            "usually {} s here, a trip costs {} s",
            seconds(ms),
            seconds(trip_ms)
        ))
    }
}

/// Milliseconds as seconds: `0.3`, `0.02`, `12`.
pub fn seconds(ms: u32) -> String {
    let s = f64::from(ms) / 1000.0;
    match ms {
        0..100 => format!("{s:.2}"),
        100..10_000 => format!("{s:.1}"),
        _ => format!("{s:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn argv(text: &str) -> Vec<Word> {
        text.split(' ')
            .map(|w| if w == "$" { Word::Dynamic } else { w.into() })
            .collect()
    }

    fn of(times: &[(&str, u32)]) -> Runtimes {
        let mut learned = Learned::default();
        for (place, ms) in times {
            let (key, place) = place.strip_prefix("trip:").map_or((1, *place), |p| (2, p));
            learned.note(key, place, *ms, 100);
        }
        learned.runtimes(Some(1), 2, 200)
    }

    #[test]
    fn a_shape_is_its_words_but_for_how_much_it_prints() {
        let k = |dir: &str, text: &str| key("ws", dir.as_bytes(), &argv(text));
        assert_eq!(k("", "pytest -x a"), k("", "/v/bin/pytest -q -x --color=yes a"));
        for other in ["pytest a", "pytest -x b", "pytest -xa", "make -x a"] {
            assert_ne!(k("", "pytest -x a"), k("", other), "{other}");
        }
        assert_ne!(k("", "make"), k("sub", "make"));
        assert_ne!(key("a", b"", &argv("make")), key("b", b"", &argv("make")));
        assert_eq!(k("", "pytest $"), None);
        assert_ne!(Some(trips("ws")), k("", "make"));
    }

    #[test]
    fn too_short_for_a_trip() {
        type Row<'a> = (&'a [(&'a str, u32)], u32, Option<&'a str>);
        let rows: &[Row<'_>] = &[
            (&[], 500, None),
            (&[("local", 300), ("local", 300)], 500, None),
            (
                &[("local", 300), ("local", 9000), ("local", 310)],
                500,
                Some("usually 0.3 s here, a trip costs 0.5 s"),
            ),
            (&[("local", 600), ("local", 600), ("local", 600)], 500, None),
            (&[("local", 500), ("local", 500), ("local", 500)], 500, None),
            // What it takes elsewhere says nothing sure of this machine.
            (&[("a", 20), ("a", 20), ("a", 20), ("local", 20)], 500, None),
        ];
        for (times, trip, want) in rows {
            assert_eq!(of(times).too_short(*trip, 1).as_deref(), *want, "{times:?}");
            assert_eq!(of(times).too_short(*trip, 32), None, "tried again: {times:?}");
        }
        let tried = (0..1600)
            .filter(|seed| of(rows[2].0).too_short(500, *seed).is_none())
            .count();
        assert_eq!(tried, 100);
    }

    #[test]
    fn what_is_old_or_strange_does_not_count() {
        let mut learned = Learned::default();
        for _ in 0..3 {
            learned.note(1, HERE, 10, 100);
            learned.note(2, "n1", 500, 100);
        }
        assert!(learned.runtimes(Some(1), 2, 200).too_short(500, 1).is_some());
        assert_eq!(learned.runtimes(Some(1), 2, 100 + STALE_S), Runtimes::default());
        assert_eq!(learned.runtimes(Some(1), 2, 200).cheapest_trip(), Some(500));
        assert_eq!(learned.runtimes(None, 2, 200).here_ms, None);
        learned.note(1, "a b", 5, 100);
        learned.note(1, "", 5, 100);
        assert_eq!(learned.entries.len(), 2);
        for text in [
            "",
            "cx-learned 2\n0000000000000001 local 1 5\n",
            "{}",
            "cx-learned 1",
        ] {
            assert_eq!(Learned::read(text), Learned::default(), "{text}");
        }
        let odd = "cx-learned 1\nx\n1 a\n1 a b c\n0000000000000001 local 1 5,x\n0000000000000001 n 1 5\n";
        assert_eq!(Learned::read(odd).usual_ms(1, "n"), Some(5));
        assert_eq!(Learned::read(odd).entries.len(), 1);
    }

    #[test]
    fn the_file_is_bounded() {
        let mut learned = Learned::default();
        for i in 0..5000u64 {
            learned.note(i, HERE, 1, i);
            learned.note(7, HERE, i as u32, i);
        }
        assert_eq!(learned.entries.len(), MAX_ENTRIES);
        assert_eq!(
            learned.find(7, HERE).unwrap().times_ms,
            (4993..5000).collect::<Vec<u32>>()
        );
        assert!(learned.write().len() < 300_000);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            notes in prop::collection::vec((0u64..5, "[a-z0-9._@-]{1,12}", any::<u32>(), any::<u64>()), 0..60),
            noise in any::<String>()
        ) {
            let mut learned = Learned::default();
            for (key, place, ms, now) in &notes {
                learned.note(*key, place, *ms, *now);
            }
            let text = learned.write();
            prop_assert_eq!(&Learned::read(&text), &learned);
            let some = Learned::read_only(&text, &[3]);
            prop_assert!(some.entries.iter().all(|e| e.key == 3));
            prop_assert_eq!(some.runtimes(Some(3), 9, 0), learned.runtimes(Some(3), 9, 0));
            drop(Learned::read(&format!("{HEAD}\n{noise}")));
        }
    }
}
