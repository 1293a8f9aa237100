//! JavaScript and TypeScript: the runtimes themselves, package managers, the programs of packages.

mod managers;
mod tools;
mod workspaces;

use super::args::{At, has, operand};
use super::{Call, Shape, light, need, shape, unknown};
use crate::plan::verdict::{Class, Need, Verdict};

/// The rules of this file.
pub(super) fn rule(call: &Call) -> Option<Verdict> {
    Some(match call.base {
        "npm" => managers::npm(call),
        "pnpm" => managers::pnpm(call),
        "yarn" | "yarnpkg" => managers::yarn(call),
        "bun" => managers::bun(call),
        "npx" | "bunx" | "pnpx" => managers::package(call, 0),
        "node" | "nodejs" => node(call),
        "deno" => deno(call),
        _ => tools::tool(call)?,
    })
}

const NODE: Shape = Shape {
    reads: &["node_modules"],
    ..shape("node", "runs")
};

const TEST_OUTPUTS: &[&str] = &["coverage/**", "test-results/**", "junit.xml"];

fn node(call: &Call) -> Verdict {
    let args = call.args;
    if args.is_empty()
        || has(
            args,
            &["-i", "--interactive", "--inspect", "--inspect-brk", "inspect"],
        )
    {
        return light("node", "`node` in this form is interactive");
    }
    if has(args, &["--watch", "--watch-path"]) {
        return light("node", "`node --watch` runs until stopped");
    }
    if has(args, &["--test"]) {
        let shape = Shape {
            does: "runs tests",
            outputs: TEST_OUTPUTS,
            versioned: true,
            ..NODE
        };
        return shape.verdict(call, "--test");
    }
    match operand(
        args,
        0,
        &[
            "-r",
            "--require",
            "--import",
            "--loader",
            "-e",
            "--eval",
            "-p",
            "--print",
            "--env-file",
        ],
    ) {
        // `node node_modules/.bin/jest`, `node node_modules/jest/bin/jest.js`
        At::Word(at, path) if path.starts_with("node_modules/") || path.starts_with("./node_modules/") => {
            let name = path.rsplit('/').next().unwrap_or(path);
            let name = name
                .strip_suffix(".js")
                .or_else(|| name.strip_suffix(".mjs"))
                .unwrap_or(name);
            let inner = Call {
                base: name,
                args: &args[at + 1..],
                ..*call
            };
            match tools::tool(&inner) {
                Some(mut v) if v.class == Class::Heavy => {
                    v.workload.needs = vec![Need {
                        same_version: true,
                        ..need(call.program)
                    }];
                    v
                }
                Some(v) => v,
                None => unknown("node", &format!("`{path}` may do anything")),
            }
        }
        At::Word(_, path) => unknown("node", &format!("`{path}` may do anything")),
        _ => unknown("node", "what `node` runs is not known"),
    }
}

fn deno(call: &Call) -> Verdict {
    let sub = match operand(call.args, 0, &[]) {
        At::Word(_, sub) => sub,
        At::Dynamic => return unknown("deno", "the subcommand of `deno` is known only to the shell"),
        At::End => return light("deno", "`deno` alone is interactive"),
    };
    match sub {
        "test" | "check" | "lint" => Shape {
            does: "tests or checks the sources",
            dirs: &["--coverage"],
            local_if: &["--watch", "--inspect-brk"],
            ..shape("deno", "")
        }
        .verdict(call, sub),
        "compile" => Shape {
            files: &["-o", "--output"],
            same_platform: true,
            ..shape("deno", "compiles")
        }
        .verdict(call, sub),
        "task" => {
            let names = operand(call.args, 1, &["--cwd"]).word().map(|n| vec![n]);
            super::native::by_target(
                call,
                names,
                &Shape {
                    ignored: true,
                    ..shape("deno", "runs a task")
                },
            )
        }
        _ => light(
            "deno",
            &format!("`deno {sub}` is short, runs a program here, or belongs to this machine"),
        ),
    }
}
