//! The stats under which the files of a mirror are known, and how a mirror's state lies on disk.

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Seen, State};
use crate::plan::manifest::{Manifest, RelPath, generation, with_generation};
use crate::sync::stat::Stat;

/// Stats of files and links by their paths, which the manifest's entries share: one sorted piece of memory, since a tree may hold
/// 100,000 files.
#[derive(Debug, Default)]
pub(super) struct Stats(Vec<(RelPath, Stat)>);

/// See [`Stats::iter`].
pub(super) type Iter<'a> = std::slice::Iter<'a, (RelPath, Stat)>;

impl Stats {
    /// In the order of their paths.
    pub(super) fn iter(&self) -> Iter<'_> {
        self.0.iter()
    }

    /// The one of a path.
    pub(super) fn get(&self, path: &RelPath) -> Option<&Stat> {
        let at = self.0.binary_search_by(|(p, _)| p.cmp(path)).ok()?;
        Some(&self.0[at].1)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes in what was learned (`None`: not to be trusted any more), and forgets the paths that are not in `manifest`.
    pub(super) fn learn(&mut self, learned: BTreeMap<RelPath, Option<Stat>>, manifest: &Manifest) {
        let mut paths = manifest.keys().peekable();
        let mut is_wanted = |path: &RelPath| {
            while paths.next_if(|p| *p < path).is_some() {}
            paths.peek() == Some(&path)
        };
        let old = std::mem::take(&mut self.0);
        let mut all = Vec::with_capacity(old.len() + learned.len());
        let mut old = old.into_iter().peekable();
        for (path, stat) in learned {
            while let Some(known) = old.next_if(|(p, _)| *p < path) {
                if is_wanted(&known.0) {
                    all.push(known);
                }
            }
            old.next_if(|(p, _)| *p == path);
            if let Some(stat) = stat
                && is_wanted(&path)
            {
                all.push((path, stat));
            }
        }
        all.extend(old.filter(|(p, _)| is_wanted(p)));
        self.0 = all;
    }
}

/// One stat, or none, for each entry of the manifest: the paths stand in that only.
struct Beside<'a>(&'a State);

impl Serialize for Beside<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut known = self.0.known.iter().peekable();
        s.collect_seq(self.0.manifest.keys().map(|path| {
            while known.next_if(|(p, _)| p < path).is_some() {}
            known.next_if(|(p, _)| p == path).map(|(_, stat)| stat)
        }))
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut stored = s.serialize_struct("State", 5)?;
        stored.serialize_field("manifest", &(generation(&self.manifest), &self.manifest))?;
        stored.serialize_field("known", &Beside(self))?;
        stored.serialize_field("seen", &self.seen)?;
        stored.serialize_field("newest_ns", &self.newest_ns)?;
        stored.serialize_field("repository", &self.repository)?;
        stored.end()
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<State, D::Error> {
        #[derive(Deserialize)]
        struct Stored {
            #[serde(with = "with_generation")]
            manifest: Manifest,
            known: Vec<Option<Stat>>,
            seen: BTreeMap<RelPath, Seen>,
            newest_ns: i64,
            repository: Option<Vec<(String, u64, i64)>>,
        }
        let stored = Stored::deserialize(d)?;
        let mut known = Vec::with_capacity(stored.known.iter().flatten().count());
        if stored.known.len() == stored.manifest.len() {
            let all = stored.manifest.keys().zip(&stored.known);
            known.extend(all.filter_map(|(path, stat)| Some((path.clone(), (*stat)?))));
        }
        Ok(State {
            manifest: stored.manifest,
            known: Stats(known),
            seen: stored.seen,
            newest_ns: stored.newest_ns,
            repository: stored.repository,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::manifest::Entry;

    fn path(name: &str) -> RelPath {
        RelPath::new(name).unwrap()
    }

    fn stat(size: u64) -> Stat {
        Stat {
            size,
            mtime_ns: -5,
            ctime_ns: 7,
            inode: 9,
            mode: 0o100644,
        }
    }

    fn sizes(stats: &Stats) -> Vec<(String, u64)> {
        stats.iter().map(|(p, s)| (p.to_string(), s.size)).collect()
    }

    fn manifest(names: &[&str]) -> Manifest {
        names
            .iter()
            .map(|n| (path(n), Entry::Dir { mode: 0o755 }))
            .collect()
    }

    #[test]
    fn what_is_learned_replaces_what_was_known_of_what_is_there() {
        let mut stats = Stats::default();
        let learn = |of: &[(&str, Option<u64>)]| {
            of.iter()
                .map(|(n, s)| (path(n), s.map(stat)))
                .collect::<BTreeMap<_, _>>()
        };
        let all = manifest(&["a", "b", "c", "d"]);
        stats.learn(learn(&[("a", Some(1)), ("c", Some(3)), ("x", Some(9))]), &all);
        assert_eq!(sizes(&stats), [("a".into(), 1), ("c".into(), 3)]);
        stats.learn(learn(&[("b", Some(2)), ("c", None), ("d", Some(4))]), &all);
        assert_eq!(sizes(&stats), [("a".into(), 1), ("b".into(), 2), ("d".into(), 4)]);
        stats.learn(learn(&[("a", Some(5))]), &manifest(&["a", "d"]));
        assert_eq!(sizes(&stats), [("a".into(), 5), ("d".into(), 4)]);
        stats.learn(BTreeMap::new(), &manifest(&["d"]));
        assert_eq!(sizes(&stats), [("d".into(), 4)]);
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let mut state = State {
            manifest: manifest(&["a", "b", "c"]),
            newest_ns: 77,
            repository: Some(vec![("HEAD".into(), 1, 2)]),
            ..State::default()
        };
        let learned = [(path("a"), Some(stat(1))), (path("c"), Some(stat(3)))];
        state.known.learn(learned.into(), &state.manifest);
        let seen = Seen {
            stat: stat(4),
            hash: Some([8; 32]),
        };
        state.seen.insert(path("o"), seen);
        let read: State = postcard::from_bytes(&postcard::to_stdvec(&state).unwrap()).unwrap();
        assert_eq!(read.manifest, state.manifest);
        assert_eq!(sizes(&read.known), sizes(&state.known));
        assert_eq!(read.seen, state.seen);
        assert_eq!(
            (read.newest_ns, read.repository),
            (state.newest_ns, state.repository)
        );
    }
}
