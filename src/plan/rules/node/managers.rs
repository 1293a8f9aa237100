//! Package managers: the scripts of package.json, and programs of packages that they start.

use super::{NODE, TEST_OUTPUTS};
use crate::plan::rules::args::{self, At, before_dashes, operand, tidy, value};
use crate::plan::rules::targets::{Target, target};
use crate::plan::rules::{Call, MAX_NESTING, Shape, heavy_rule, light, need, unknown};
use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, Class, Need, Verdict};

pub(super) fn npm(call: &Call) -> Verdict {
    const VALUED: &[&str] = &[
        "-w",
        "--workspace",
        "--prefix",
        "-C",
        "--loglevel",
        "--script-shell",
        "--registry",
    ];
    let (at, sub) = match operand(call.args, 0, VALUED) {
        At::Word(at, sub) => (at, sub),
        At::Dynamic => return unknown("npm", "the subcommand of `npm` is known only to the shell"),
        At::End => return light("npm", "`npm` alone only prints"),
    };
    let rest = &call.args[at + 1..];
    let dir = value(call.args, "--prefix").or_else(|| value(call.args, "-C"));
    match sub {
        "test" | "t" | "tst" => below(dir, script(call, "npm", "test", rest)),
        "run" | "run-script" | "rum" | "urn" => match operand(rest, 0, VALUED) {
            At::Word(i, name) => below(dir, script(call, "npm", name, &rest[i + 1..])),
            At::Dynamic => unknown("npm", "the script of `npm run` is known only to the shell"),
            At::End => light("npm", "`npm run` alone lists the scripts"),
        },
        "exec" | "x" => package(call, at + 1),
        _ => light("npm", &format!("`npm {sub}` belongs to this machine")),
    }
}

pub(super) fn pnpm(call: &Call) -> Verdict {
    const VALUED: &[&str] = &[
        "-C",
        "--dir",
        "-F",
        "--filter",
        "--filter-prod",
        "--workspace-concurrency",
        "--reporter",
        "--loglevel",
    ];
    let (at, sub) = match operand(call.args, 0, VALUED) {
        At::Word(at, sub) => (at, sub),
        At::Dynamic => return unknown("pnpm", "the subcommand of `pnpm` is known only to the shell"),
        At::End => return light("pnpm", "`pnpm` alone only prints"),
    };
    let rest = &call.args[at + 1..];
    let dir = value(call.args, "-C").or_else(|| value(call.args, "--dir"));
    match sub {
        "test" | "t" => below(dir, script(call, "pnpm", "test", rest)),
        "run" | "run-script" => match operand(rest, 0, VALUED) {
            At::Word(i, name) => below(dir, script(call, "pnpm", name, &rest[i + 1..])),
            At::Dynamic => unknown("pnpm", "the script of `pnpm run` is known only to the shell"),
            At::End => light("pnpm", "`pnpm run` alone lists the scripts"),
        },
        "exec" => below(dir, package(call, at + 1)),
        "dlx" => package(call, at + 1),
        "install" | "i" | "add" | "remove" | "rm" | "un" | "uninstall" | "update" | "up" | "upgrade"
        | "link" | "ln" | "unlink" | "import" | "rebuild" | "rb" | "prune" | "fetch" | "patch"
        | "patch-commit" | "audit" | "list" | "ls" | "ll" | "outdated" | "why" | "start" | "publish"
        | "pack" | "store" | "root" | "bin" | "setup" | "init" | "deploy" | "env" | "server" | "create"
        | "config" | "dedupe" | "licenses" | "self-update" | "approve-builds" | "cache" | "doctor"
        | "login" | "help" | "install-test" | "it" => {
            light("pnpm", &format!("`pnpm {sub}` belongs to this machine"))
        }
        _ => below(dir, script_or_package(call, "pnpm", at, sub)),
    }
}

pub(super) fn yarn(call: &Call) -> Verdict {
    const VALUED: &[&str] = &["--cwd", "--include", "--exclude", "--from", "-j", "--jobs"];
    let mut from = 0;
    loop {
        let (at, sub) = match operand(call.args, from, VALUED) {
            At::Word(at, sub) => (at, sub),
            At::Dynamic => return unknown("yarn", "the subcommand of `yarn` is known only to the shell"),
            At::End => return light("yarn", "`yarn` alone installs"),
        };
        let rest = &call.args[at + 1..];
        let dir = value(call.args, "--cwd");
        return match sub {
            // `yarn workspace NAME ...`, `yarn workspaces foreach [options] ...`
            "workspace" if from <= at && rest.len() > 1 => {
                from = at + 2;
                continue;
            }
            "workspaces" => match operand(rest, 0, VALUED) {
                At::Word(i, "foreach" | "run") => {
                    from = at + 1 + i + 1;
                    continue;
                }
                _ => light("yarn", "`yarn workspaces` in this form only looks"),
            },
            "run" => match operand(rest, 0, VALUED) {
                At::Word(i, name) => below(dir, script_or_package(call, "yarn", at + 1 + i, name)),
                At::Dynamic => unknown("yarn", "the script of `yarn run` is known only to the shell"),
                At::End => light("yarn", "`yarn run` alone lists the scripts"),
            },
            "dlx" | "exec" => package(call, at + 1),
            "add"
            | "install"
            | "remove"
            | "up"
            | "upgrade"
            | "upgrade-interactive"
            | "cache"
            | "config"
            | "info"
            | "why"
            | "link"
            | "unlink"
            | "login"
            | "logout"
            | "publish"
            | "pack"
            | "version"
            | "versions"
            | "init"
            | "set"
            | "plugin"
            | "npm"
            | "audit"
            | "create"
            | "global"
            | "import"
            | "licenses"
            | "list"
            | "outdated"
            | "owner"
            | "policies"
            | "tag"
            | "team"
            | "bin"
            | "constraints"
            | "dedupe"
            | "explain"
            | "patch"
            | "patch-commit"
            | "rebuild"
            | "search"
            | "stage"
            | "unplug"
            | "start"
            | "help"
            | "node"
            | "autoclean"
            | "check" => light("yarn", &format!("`yarn {sub}` belongs to this machine")),
            _ => below(dir, script_or_package(call, "yarn", at, sub)),
        };
    }
}

pub(super) fn bun(call: &Call) -> Verdict {
    let (at, sub) = match operand(call.args, 0, &["--cwd", "--filter", "-F", "--config", "-c"]) {
        At::Word(at, sub) => (at, sub),
        At::Dynamic => return unknown("bun", "the subcommand of `bun` is known only to the shell"),
        At::End => return light("bun", "`bun` alone only prints"),
    };
    let rest = &call.args[at + 1..];
    let dir = value(call.args, "--cwd");
    match sub {
        "test" => {
            let local_if = &["--watch", "--hot", "--inspect", "--inspect-brk"];
            let shape = Shape {
                rule: "bun",
                does: "runs tests",
                outputs: TEST_OUTPUTS,
                local_if,
                ..NODE
            };
            below(dir, shape.verdict(call, "test"))
        }
        "run" => match operand(rest, 0, &[]) {
            At::Word(i, name) => below(dir, script_or_package(call, "bun", at + 1 + i, name)),
            At::Dynamic => unknown("bun", "the script of `bun run` is known only to the shell"),
            At::End => light("bun", "`bun run` alone lists the scripts"),
        },
        "x" => package(call, at + 1),
        "build" | "install" | "i" | "add" | "a" | "remove" | "rm" | "update" | "link" | "unlink" | "pm"
        | "init" | "create" | "upgrade" | "repl" | "exec" | "outdated" | "publish" | "patch" | "audit"
        | "why" | "info" => light("bun", &format!("`bun {sub}` is short or belongs to this machine")),
        _ => below(dir, script_or_package(call, "bun", at, sub)),
    }
}

/// Words in a script's arguments that make it stay.
const STAY: &[&str] = &[
    "--watch",
    "--watchAll",
    "--ui",
    "--debug",
    "--headed",
    "--open",
    "--inspect-brk",
    "--inspect",
];

/// A script of package.json.
fn script(call: &Call, runner: &'static str, name: &str, rest: &[Word]) -> Verdict {
    let says = if name == "test" {
        format!("{} test", call.base)
    } else {
        format!("{} run {name}", call.base)
    };
    let t = target(name);
    // What the script itself gets stands after `--` with npm, and anywhere with the others.
    let stays = rest.iter().filter_map(Word::text).find(|w| STAY.contains(w));
    if let Some(flag) = stays {
        return light(
            runner,
            &format!("`{says}` with `{flag}` is interactive or watches"),
        );
    }
    let shape = Shape {
        rule: runner,
        versioned: false,
        ..NODE
    };
    let mut v = match t {
        Target::Acts | Target::Clean => return light(runner, &format!("`{says}` {}", t.does())),
        Target::Unknown => return unknown(runner, &format!("`{says}` {}", t.does())),
        Target::Build => Shape {
            outputs: &[
                "dist/**",
                "build/**",
                "out/**",
                "lib/**",
                ".next/**",
                ".output/**",
                "storybook-static/**",
                "public/build/**",
            ],
            ..shape
        }
        .verdict(call, ""),
        Target::Test => Shape {
            outputs: &[
                "coverage/**",
                "test-results/**",
                "junit.xml",
                "playwright-report/**",
            ],
            ..shape
        }
        .verdict(call, ""),
        Target::Lint => shape.verdict(call, ""),
    };
    v.reason = format!("`{says}` {}", t.does());
    if call.base != "bun" {
        v.workload.needs.push(Need {
            same_version: true,
            ..need("node")
        });
    }
    v
}

/// Puts the directory of a package in front of what is relative to it.
fn below(dir: Option<&str>, mut v: Verdict) -> Verdict {
    let Some(dir) = dir.map(tidy).filter(|d| *d != ".") else {
        return v;
    };
    let moved = |list: &mut Vec<String>| list.iter_mut().for_each(|p| *p = args::join(dir, p));
    moved(&mut v.workload.reads);
    moved(&mut v.workload.leaves);
    if let Brings::Outputs(out) = &mut v.workload.brings {
        moved(out);
    }
    v
}

/// `yarn X`, `pnpm X`, `bun X`: a script of that name, else a program of a package. Which it is only package.json
/// tells; a name that is known as either will do.
fn script_or_package(call: &Call, runner: &'static str, at: usize, name: &str) -> Verdict {
    let as_package = package(call, at);
    if as_package.rule.is_empty() {
        script(call, runner, name, &call.args[at + 1..])
    } else {
        as_package
    }
}

/// A program of a package, started by `npx` and its like.
pub(super) fn package(call: &Call, from: usize) -> Verdict {
    const VALUED: &[&str] = &["-p", "--package", "-w", "--workspace", "--filter", "-F"];
    let found = operand(call.args, from, VALUED);
    // What follows the package's name is for its program; only npm itself reads on.
    let to = match found {
        At::Word(at, _) if call.base != "npm" => at,
        _ => call.args.len(),
    };
    if before_dashes(call.args.get(from..to).unwrap_or_default()).any(|w| w == "-c" || w == "--call") {
        return unknown("", &format!("`{} -c` runs shell text", call.base));
    }
    let (at, name) = match found {
        At::Word(at, name) => (at, name),
        At::Dynamic => {
            return unknown(
                "",
                &format!("what `{}` runs is known only to the shell", call.base),
            );
        }
        At::End => return light("", &format!("`{}` is given nothing to run", call.base)),
    };
    // `jest@29`, `@playwright/test`
    let bare = name
        .get(1..)
        .and_then(|rest| rest.find('@'))
        .map_or(name, |i| &name[..i + 1]);
    let bare = match bare {
        "@playwright/test" => "playwright",
        "@angular/cli" => "ng",
        "@biomejs/biome" => "biome",
        "typescript" => "tsc",
        other => other,
    };
    if bare.contains('/') {
        return unknown("", &format!("no rule knows the package `{bare}`"));
    }
    let inner = Call {
        base: bare,
        program: bare,
        args: &call.args[at + 1..],
        depth: call.depth + 1,
        ..*call
    };
    if inner.depth > MAX_NESTING {
        return unknown("", "too many runners inside one another");
    }
    let mine: Vec<Word> = std::iter::once(Word::from(bare))
        .chain(inner.args.iter().cloned())
        .collect();
    let by_user = call
        .scope
        .user
        .iter()
        .find(|r| r.applies(&mine))
        .map(|r| r.verdict(bare));
    match by_user.or_else(|| heavy_rule(&inner)) {
        Some(mut v) if v.class == Class::Heavy => {
            v.reason = format!("{}, by `{}`", v.reason, call.base);
            if !v.rule.starts_with("user:") {
                v.workload.needs = vec![need(call.program)];
                if !matches!(call.base, "bunx" | "bun") {
                    v.workload.needs.push(Need {
                        same_version: true,
                        ..need("node")
                    });
                }
            }
            v
        }
        Some(v) => v,
        None => unknown("", &format!("no rule knows `{bare}`")),
    }
}
