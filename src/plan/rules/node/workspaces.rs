//! Runners over the packages of a repository: turbo, lerna, nx.

use super::NODE;
use crate::plan::rules::args::{At, operand, operands, value};
use crate::plan::rules::native::by_target;
use crate::plan::rules::targets::Target;
use crate::plan::rules::{Call, Shape, light, unknown};
use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, Class, Verdict};

/// `turbo run build test`, `lerna run test`.
pub(super) fn workspace_runner(call: &Call, sub: &str) -> Verdict {
    const VALUED: &[&str] = &[
        "--filter",
        "--scope",
        "--concurrency",
        "-F",
        "--cwd",
        "--cache-dir",
        "--ignore",
    ];
    let from = match (call.base, operand(call.args, 0, VALUED)) {
        (_, At::Word(at, "run")) => at + 1,
        ("turbo" | "lage", At::Word(at, _)) => at,
        (_, At::Dynamic) => return unknown("turbo", "what it runs is known only to the shell"),
        _ => return light("turbo", &format!("`{}` belongs to this machine", call.says(sub))),
    };
    let shape = Shape {
        rule: "turbo",
        leaves: &[".turbo"],
        ignored: true,
        local_if: &["--watch"],
        ..NODE
    };
    let names = operands(call.args, from, VALUED);
    let mut v = by_target(call, names, &shape);
    if v.class == Class::Heavy && v.reason.ends_with(Target::Lint.does()) {
        v.workload.brings = Brings::Synced;
    }
    v
}

/// `nx test app`, `nx run app:test`, `nx run-many -t build test`, `nx affected -t lint`.
pub(super) fn nx(call: &Call) -> Verdict {
    let shape = Shape {
        rule: "nx",
        leaves: &[".nx"],
        ignored: true,
        local_if: &["--watch"],
        ..NODE
    };
    let names: Option<Vec<&str>> = match operand(call.args, 0, &[]) {
        At::Word(at, "run") => match operand(call.args, at + 1, &[]) {
            At::Word(_, spec) => spec.split(':').nth(1).map(|t| vec![t]),
            _ => None,
        },
        At::Word(at, "run-many" | "affected") => {
            let rest = &call.args[at + 1..];
            let given: Vec<&str> = rest
                .iter()
                .position(|w| matches!(w.text(), Some("-t" | "--target" | "--targets")))
                .map(|i| {
                    rest[i + 1..]
                        .iter()
                        .map_while(Word::text)
                        .take_while(|w| !w.starts_with('-'))
                        .collect()
                })
                .or_else(|| {
                    value(rest, "--target")
                        .or_else(|| value(rest, "--targets"))
                        .map(|t| t.split(',').collect())
                })
                .unwrap_or_default();
            if given.is_empty() { None } else { Some(given) }
        }
        At::Word(_, name) => Some(vec![name]),
        _ => None,
    };
    if names.is_none() && operand(call.args, 0, &[]) == At::End {
        return light("nx", "`nx` alone only prints");
    }
    by_target(call, names, &shape)
}
