//! A unified diff of two small texts, for showing a change before it is made.

use std::fmt::Write;

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

/// Table cells past which the changed region is shown as one block instead of being aligned.
const MAX_CELLS: usize = 4_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Keep,
    Del,
    Add,
}

/// The unified diff from `old` to `new`, with `name` in its head; empty if they are equal.
pub fn unified(old: &str, new: &str, name: &str) -> String {
    if old == new {
        return String::new();
    }
    let a: Vec<&str> = old.split_inclusive('\n').collect();
    let b: Vec<&str> = new.split_inclusive('\n').collect();
    let ops = align(&a, &b);

    let mut out = String::new();
    let from = if old.is_empty() { "/dev/null" } else { name };
    let to = if new.is_empty() { "/dev/null" } else { name };
    let _ = writeln!(out, "--- {from}\n+++ {to}");
    let changed: Vec<usize> = (0..ops.len()).filter(|i| ops[*i] != Op::Keep).collect();
    let mut next = 0;
    while next < changed.len() {
        let start = changed[next].saturating_sub(CONTEXT);
        let mut last = changed[next];
        while next < changed.len() && changed[next] <= last + 2 * CONTEXT + 1 {
            last = changed[next];
            next += 1;
        }
        let end = (last + CONTEXT + 1).min(ops.len());
        hunk(&mut out, &a, &b, &ops, start, end);
    }
    out
}

fn hunk(out: &mut String, a: &[&str], b: &[&str], ops: &[Op], start: usize, end: usize) {
    let count = |range: &[Op], other: Op| range.iter().filter(|op| **op != other).count();
    let (mut i, mut j) = (count(&ops[..start], Op::Add), count(&ops[..start], Op::Del));
    let (n, m) = (count(&ops[start..end], Op::Add), count(&ops[start..end], Op::Del));
    // A side without lines is numbered by the line before it.
    let first = |at: usize, len: usize| if len == 0 { at } else { at + 1 };
    let _ = writeln!(out, "@@ -{},{n} +{},{m} @@", first(i, n), first(j, m));
    for op in &ops[start..end] {
        let (sign, line) = match op {
            Op::Keep => (' ', a[i]),
            Op::Del => ('-', a[i]),
            Op::Add => ('+', b[j]),
        };
        i += usize::from(*op != Op::Add);
        j += usize::from(*op != Op::Del);
        let shown = line.trim_end_matches(['\r', '\n']);
        let _ = writeln!(out, "{sign}{}", shown.escape_debug_controls());
        if !line.ends_with('\n') {
            out.push_str("\\ No newline at end of file\n");
        }
    }
}

/// Control characters of a file must not reach a terminal.
trait EscapeControls {
    fn escape_debug_controls(&self) -> String;
}

impl EscapeControls for str {
    fn escape_debug_controls(&self) -> String {
        self.chars()
            .map(|c| {
                if c.is_control() && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect()
    }
}

/// Longest common subsequence, after taking off what both share at the ends.
fn align(a: &[&str], b: &[&str]) -> Vec<Op> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (ra, rb) = (&a[head..], &b[head..]);
    let tail = ra
        .iter()
        .rev()
        .zip(rb.iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    let (ra, rb) = (&ra[..ra.len() - tail], &rb[..rb.len() - tail]);

    let mut ops = vec![Op::Keep; head];
    if ra.len().saturating_mul(rb.len()) > MAX_CELLS {
        ops.extend(std::iter::repeat_n(Op::Del, ra.len()));
        ops.extend(std::iter::repeat_n(Op::Add, rb.len()));
    } else {
        let width = rb.len() + 1;
        let mut len = vec![0u32; (ra.len() + 1) * width];
        for i in (0..ra.len()).rev() {
            for j in (0..rb.len()).rev() {
                len[i * width + j] = if ra[i] == rb[j] {
                    len[(i + 1) * width + j + 1] + 1
                } else {
                    len[(i + 1) * width + j].max(len[i * width + j + 1])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < ra.len() || j < rb.len() {
            if i < ra.len() && j < rb.len() && ra[i] == rb[j] {
                ops.push(Op::Keep);
                i += 1;
                j += 1;
            } else if j == rb.len() || (i < ra.len() && len[(i + 1) * width + j] >= len[i * width + j + 1]) {
                ops.push(Op::Del);
                i += 1;
            } else {
                ops.push(Op::Add);
                j += 1;
            }
        }
    }
    ops.extend(std::iter::repeat_n(Op::Keep, tail));
    ops
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_change_in_the_middle() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\nten";
        insta::assert_snapshot!(unified(old, new, "f"), @r"
        --- f
        +++ f
        @@ -2,8 +2,9 @@
         2
         3
         4
        -5
        +five
         6
         7
         8
         9
        +ten
        \ No newline at end of file
        ");
    }

    #[test]
    fn two_hunks_and_a_new_file() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n", "two\n").replace("19\n", "");
        let diff = unified(&old, &new, "f");
        assert_eq!(diff.matches("@@ -").count(), 2, "{diff}");
        assert!(unified("", "a\n", "f").starts_with("--- /dev/null\n+++ f\n@@ -0,0 +1,1 @@\n+a\n"));
    }

    proptest! {
        #[test]
        fn the_plus_and_minus_lines_account_for_both_texts(a in "[ab\n]{0,30}", b in "[ab\n]{0,30}") {
            let (la, lb): (Vec<_>, Vec<_>) = (a.split_inclusive('\n').collect(), b.split_inclusive('\n').collect());
            let ops = align(&la, &lb);
            let (mut i, mut j) = (0, 0);
            for op in ops {
                match op {
                    Op::Keep => { prop_assert_eq!(la[i], lb[j]); i += 1; j += 1; }
                    Op::Del => i += 1,
                    Op::Add => j += 1,
                }
            }
            prop_assert_eq!((i, j), (la.len(), lb.len()));
        }
    }
}
