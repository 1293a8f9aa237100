//! Ignore rules: lines of `.gitignore` files and their like, by directory.

use std::sync::Arc;

use super::wild;

/// What a rule says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Ignore,
    /// A line that starts with `!`.
    Keep,
}

/// The rules of one file.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    pattern: Vec<u8>,
    says: Says,
    dir_only: bool,
    /// Whether the pattern is matched against the whole path instead of the last component.
    whole: bool,
    shape: Shape,
}

/// The common patterns, matched without looking for wildcards again.
#[derive(Debug)]
enum Shape {
    Literal,
    /// `*` and then this literal.
    Suffix,
    Wild,
}

impl Rules {
    /// Reads an ignore file. `None` where it holds no rule.
    pub(crate) fn parse(text: &[u8]) -> Option<Rules> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let rules: Vec<Rule> = text.split(|b| *b == b'\n').filter_map(Rule::parse).collect();
        (!rules.is_empty()).then_some(Rules(rules))
    }

    /// What the last line that matches says. `path` is relative to the directory of the file, `name` its last
    /// component.
    pub(crate) fn judge(&self, path: &[u8], name: &[u8], is_dir: bool) -> Option<Says> {
        self.0
            .iter()
            .rev()
            .find(|r| r.matches(path, name, is_dir))
            .map(|r| r.says)
    }
}

impl Rule {
    fn parse(line: &[u8]) -> Option<Rule> {
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"#") {
            return None;
        }
        // Trailing spaces do not count unless the last is escaped.
        while line.ends_with(b" ") && !ends_escaped(&line[..line.len() - 1]) {
            line = &line[..line.len() - 1];
        }
        let says = if let Some(rest) = line.strip_prefix(b"!") {
            line = rest;
            Says::Keep
        } else {
            Says::Ignore
        };
        let dir_only = line.ends_with(b"/");
        if dir_only {
            line = &line[..line.len() - 1];
        }
        let whole = line.contains(&b'/');
        let line = line.strip_prefix(b"/").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        let is_wild = |s: &[u8]| literal(s) < s.len();
        let (shape, pattern) = match line {
            l if !is_wild(l) => (Shape::Literal, l),
            [b'*', rest @ ..] if !whole && !is_wild(rest) => (Shape::Suffix, rest),
            l => (Shape::Wild, l),
        };
        Some(Rule {
            pattern: pattern.to_vec(),
            says,
            dir_only,
            whole,
            shape,
        })
    }

    fn matches(&self, path: &[u8], name: &[u8], is_dir: bool) -> bool {
        if self.dir_only && !is_dir {
            return false;
        }
        let text = if self.whole { path } else { name };
        match self.shape {
            Shape::Literal => text == self.pattern,
            Shape::Suffix => text.ends_with(&self.pattern),
            // git compares what stands before the first wildcard apart: a `**` right after it, in the middle of a name, then
            // counts as one at the beginning, so that `/a**` matches all below `a` too (match_pathname in git's dir.c).
            Shape::Wild if self.whole => {
                let (literal, pattern) = self.pattern.split_at(literal(&self.pattern));
                text.strip_prefix(literal)
                    .is_some_and(|rest| wild::matches(pattern, rest))
            }
            Shape::Wild => wild::matches(&self.pattern, text),
        }
    }
}

/// Bytes before the first that is not simply itself.
fn literal(pattern: &[u8]) -> usize {
    let special = |b: &u8| matches!(b, b'*' | b'?' | b'[' | b'\\');
    pattern.iter().position(special).unwrap_or(pattern.len())
}

fn ends_escaped(s: &[u8]) -> bool {
    s.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

/// The rules that hold in a directory: its own files and those of the directories above.
#[derive(Debug, Default)]
pub(crate) struct Level {
    parent: Option<Arc<Level>>,
    /// Length of the directory's path with its slash.
    base: usize,
    git: Option<Rules>,
    cx: Option<Rules>,
}

impl Level {
    /// The level above the tree, from lines that lie outside it: later ones win.
    pub(crate) fn outer(lines: &[Vec<u8>]) -> Arc<Level> {
        Arc::new(Level {
            git: Rules::parse(&lines.join(&b'\n')),
            ..Level::default()
        })
    }

    /// The rules in the directory `dir` (empty for the top) with its ignore files; itself where it has none.
    pub(crate) fn enter(self: &Arc<Level>, dir: &[u8], git: Option<Rules>, cx: Option<Rules>) -> Arc<Level> {
        if git.is_none() && cx.is_none() {
            return Arc::clone(self);
        }
        let base = if dir.is_empty() { 0 } else { dir.len() + 1 };
        Arc::new(Level {
            parent: Some(Arc::clone(self)),
            base,
            git,
            cx,
        })
    }

    /// What git's rules say of the path `path` (from the top of the tree), whose parents are not ignored.
    pub(crate) fn git(&self, path: &[u8], is_dir: bool) -> Option<Says> {
        self.judge(path, is_dir, |l| l.git.as_ref())
    }

    /// What `.cxignore` files say of it.
    pub(crate) fn cx(&self, path: &[u8], is_dir: bool) -> Option<Says> {
        self.judge(path, is_dir, |l| l.cx.as_ref())
    }

    fn judge<'l>(
        &'l self,
        path: &[u8],
        is_dir: bool,
        rules: impl Fn(&'l Level) -> Option<&'l Rules>,
    ) -> Option<Says> {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        let mut level = Some(self);
        while let Some(l) = level {
            if let Some(r) = rules(l)
                && let Some(says) = r.judge(&path[l.base..], name, is_dir)
            {
                return Some(says);
            }
            level = l.parent.as_deref();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_they_mean_in_git() {
        let rules = Rules::parse(
            b"\xef\xbb\xbf*.log\n!keep.log\r\n# no\n/top\nbuild/\ndoc/*.txt\n\\#hash\n\\!bang\nsp\\ \ntail  \n**/deep/x\n",
        )
        .unwrap();
        for (path, is_dir, want) in [
            ("a.log", false, Some(Says::Ignore)),
            ("d/a.log", false, Some(Says::Ignore)),
            ("keep.log", false, Some(Says::Keep)),
            ("top", false, Some(Says::Ignore)),
            ("d/top", false, None),
            ("build", true, Some(Says::Ignore)),
            ("build", false, None),
            ("d/build", true, Some(Says::Ignore)),
            ("doc/a.txt", false, Some(Says::Ignore)),
            ("d/doc/a.txt", false, None),
            ("#hash", false, Some(Says::Ignore)),
            ("!bang", false, Some(Says::Ignore)),
            ("sp ", false, Some(Says::Ignore)),
            ("tail", false, Some(Says::Ignore)),
            ("a/deep/x", false, Some(Says::Ignore)),
            ("deep/x", false, Some(Says::Ignore)),
            ("# no", false, None),
        ] {
            let name = path.rsplit('/').next().unwrap();
            assert_eq!(
                rules.judge(path.as_bytes(), name.as_bytes(), is_dir),
                want,
                "{path}"
            );
        }
        assert!(Rules::parse(b"# only\n\n   \n/\n").is_none());
    }
}
