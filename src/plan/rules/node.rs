//! JavaScript and TypeScript: package scripts, test runners, bundlers, checkers.

use super::args::{At, before_dashes, has, operand, tidy, value};
use super::targets::{Target, target};
use super::{Call, Shape, heavy_rule, light, need, shape, unknown};
use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, Class, Need, Verdict};

/// The rules of this file.
pub(super) fn rule(call: &Call) -> Option<Verdict> {
    Some(match call.base {
        "npm" => npm(call),
        "pnpm" => pnpm(call),
        "yarn" | "yarnpkg" => yarn(call),
        "bun" => bun(call),
        "npx" | "bunx" | "pnpx" => package(call, 0),
        "node" | "nodejs" => node(call),
        "deno" => deno(call),
        _ => tool(call)?,
    })
}

const NODE: Shape = Shape {
    reads: &["node_modules"],
    ..shape("node", "runs")
};

const TEST_OUTPUTS: &[&str] = &["coverage/**", "test-results/**", "junit.xml"];

/// Programs of packages. What they read is `node_modules`.
fn tool(call: &Call) -> Option<Verdict> {
    let sub = operand(call.args, 0, &["-c", "--config", "--root", "-r", "--project"])
        .word()
        .unwrap_or_default();
    let test = |rule, local_if| Shape {
        rule,
        does: "runs tests",
        outputs: TEST_OUTPUTS,
        local_if,
        ..NODE
    };
    let lint = |rule, does, local_if| Shape {
        rule,
        does,
        local_if,
        ..NODE
    };
    let build = |rule, outputs, local_if| Shape {
        rule,
        does: "builds",
        outputs,
        local_if,
        ..NODE
    };
    // Shapes of tools that know subcommands name the one that is heavy; any other is light.
    let only = |shape: Shape, subs: &[&str]| -> Verdict {
        if subs.contains(&sub) {
            shape.verdict(call, sub)
        } else {
            light(
                shape.rule,
                &format!(
                    "`{}` is interactive, runs until stopped or acts here",
                    call.says(sub)
                ),
            )
        }
    };
    Some(match call.base {
        "jest" => Shape {
            files: &["--outputFile"],
            ..test("jest", &["--watch", "--watchAll", "--init", "--showConfig"])
        }
        .verdict(call, ""),
        "vitest" => {
            let shape = Shape {
                files: &["--outputFile"],
                ..test(
                    "vitest",
                    &[
                        "--watch",
                        "-w",
                        "--ui",
                        "--browser.headless=false",
                        "--inspect",
                        "--inspect-brk",
                    ],
                )
            };
            if sub == "run" || has(call.args, &["--run", "--watch=false", "--no-watch"]) {
                return Some(
                    Shape {
                        local_if: &["--ui", "--inspect-brk"],
                        ..shape
                    }
                    .verdict(call, sub),
                );
            }
            match sub {
                "related" | "typecheck" if has(call.args, &["--run"]) => shape.verdict(call, sub),
                _ => light("vitest", "`vitest` watches unless it is `vitest run`"),
            }
        }
        "mocha" | "_mocha" => Shape {
            files: &["--output"],
            ..test("mocha", &["--watch", "-w", "--inspect", "--inspect-brk"])
        }
        .verdict(call, ""),
        "c8" | "nyc" => {
            let At::Word(at, first) = operand(call.args, 0, &["-r", "--reporter", "--include", "--exclude"])
            else {
                return Some(unknown(
                    "node",
                    &format!("what `{}` runs is not known", call.base),
                ));
            };
            if matches!(first, "report" | "check-coverage" | "merge" | "instrument") {
                return Some(light("node", &format!("`{} {first}` only reports", call.base)));
            }
            let mut v = call.wraps(at);
            if v.class == Class::Heavy && v.workload.brings == Brings::Synced {
                v.workload.brings = Brings::Outputs(vec!["coverage/**".into()]);
            }
            v
        }
        "ava" | "tap" | "jasmine" | "qunit" | "tape" => {
            test("mocha", &["--watch", "-w", "debug"]).verdict(call, "")
        }
        "karma" => only(
            test("karma", &["--auto-watch"]),
            if has(call.args, &["--single-run"]) {
                &["start"]
            } else {
                &[]
            },
        ),
        "playwright" => only(
            Shape {
                outputs: &["test-results/**", "playwright-report/**", "blob-report/**"],
                dirs: &["--output"],
                ..test("playwright", &["--ui", "--debug", "--headed"])
            },
            &["test"],
        ),
        "cypress" => only(
            Shape {
                outputs: &["cypress/screenshots/**", "cypress/videos/**"],
                ..test("cypress", &["--headed", "--no-exit"])
            },
            &["run"],
        ),
        "eslint" => {
            let mut v = Shape {
                files: &["-o", "--output-file"],
                ..lint("eslint", "checks the sources", &["--init"])
            }
            .verdict(call, "");
            v.workload.stdin = v.class == Class::Heavy && has(call.args, &["--stdin"]);
            v
        }
        "stylelint" | "oxlint" | "xo" | "standard" | "tslint" => {
            lint("eslint", "checks the sources", &["--watch"]).verdict(call, "")
        }
        "svelte-check" | "vue-tsc" | "tsd" => {
            lint("tsc", "type-checks the sources", &["--watch", "-w"]).verdict(call, "")
        }
        "tsc" => tsc(call),
        "webpack" | "webpack-cli" => {
            if matches!(sub, "serve" | "watch" | "init" | "info") {
                return Some(light(
                    "webpack",
                    &format!("`webpack {sub}` runs until stopped or acts here"),
                ));
            }
            Shape {
                dirs: &["--output-path", "-o"],
                ..build("webpack", &["dist/**", "build/**"], &["--watch", "-w"])
            }
            .verdict(call, sub)
        }
        "rollup" => Shape {
            dirs: &["-d", "--dir"],
            files: &["-o", "--file"],
            ..build("rollup", &["dist/**", "build/**"], &["-w", "--watch"])
        }
        .verdict(call, ""),
        "vite" => only(
            Shape {
                dirs: &["--outDir"],
                ..build("vite", &["dist/**", "build/**"], &["--watch", "-w"])
            },
            &["build"],
        ),
        "parcel" => only(
            Shape {
                dirs: &["--dist-dir"],
                ..build("parcel", &["dist/**"], &["--watch"])
            },
            &["build"],
        ),
        "next" => match sub {
            "lint" => lint("next", "checks the sources", &[]).verdict(call, sub),
            _ => only(build("next", &[".next/**", "out/**"], &[]), &["build"]),
        },
        "nuxt" | "nuxi" => only(
            build("nuxt", &[".output/**", ".nuxt/**", "dist/**"], &[]),
            &["build", "generate", "typecheck"],
        ),
        "astro" => only(build("astro", &["dist/**"], &["--watch"]), &["build", "check"]),
        "gatsby" => only(build("gatsby", &["public/**"], &[]), &["build"]),
        "remix" | "react-router" | "svelte-kit" | "vinxi" => only(
            build("remix", &["build/**", "dist/**"], &[]),
            &["build", "typecheck"],
        ),
        "ng" => match sub {
            "test" | "t" if !has(call.args, &["--watch=false", "--no-watch"]) => {
                light("ng", "`ng test` watches unless it has `--watch=false`")
            }
            "test" | "t" => test("ng", &[]).verdict(call, sub),
            "lint" => lint("ng", "checks the sources", &[]).verdict(call, sub),
            _ => only(build("ng", &["dist/**"], &["--watch"]), &["build", "b"]),
        },
        "react-scripts" | "craco" | "vue-cli-service" => match sub {
            "test"
                if !has(
                    call.args,
                    &["--watchAll=false", "--ci", "--watch=false", "--no-watch"],
                ) =>
            {
                light(
                    "react-scripts",
                    "`test` watches here unless it has `--watchAll=false`",
                )
            }
            "test" | "test:unit" => test("react-scripts", &[]).verdict(call, sub),
            _ => only(
                build("react-scripts", &["build/**", "dist/**"], &["--watch"]),
                &["build"],
            ),
        },
        "tsup" | "unbuild" | "tsdown" | "ncc" | "microbundle" => {
            build("bundler", &["dist/**", "build/**", "lib/**"], &["--watch", "-w"]).verdict(call, sub)
        }
        "storybook" | "build-storybook" => {
            only(build("storybook", &["storybook-static/**"], &[]), &["build"])
        }
        "hardhat" => only(test("hardhat", &[]), &["test", "compile", "coverage"]),
        "turbo" | "lerna" | "wireit" | "lage" => workspace_runner(call, sub),
        "nx" => nx(call),
        "esbuild" | "swc" | "prettier" | "biome" | "dprint" | "rome" | "webpack-dev-server" | "nodemon"
        | "ts-node-dev" | "concurrently" | "http-server" | "serve" | "live-server" | "pm2" | "wrangler"
        | "vercel" | "netlify" | "firebase" | "husky" | "lint-staged" | "depcheck" | "npm-check-updates"
        | "ncu" | "create-react-app" | "degit" | "semantic-release" | "changeset" | "commitlint"
        | "prisma" | "drizzle-kit" | "sequelize" | "typeorm" | "knex" | "json-server" => light(
            &format!("light:{}", call.base),
            &format!("`{}` is short, watches or acts on other things", call.base),
        ),
        _ => return None,
    })
}

fn tsc(call: &Call) -> Verdict {
    let args = call.args;
    if has(args, &["--init", "--showConfig", "--listFilesOnly", "--clean"]) {
        return light("tsc", "`tsc` in this form compiles nothing");
    }
    let shape = Shape {
        rule: "tsc",
        does: "compiles the sources",
        local_if: &["--watch", "-w"],
        dirs: &["--outDir", "--declarationDir"],
        files: &["--outFile", "--tsBuildInfoFile"],
        ..NODE
    };
    if has(args, &["--noEmit"]) {
        return Shape {
            does: "type-checks the sources",
            ..shape
        }
        .verdict(call, "");
    }
    let mut v = shape.verdict(call, "");
    if v.class == Class::Heavy && v.workload.brings == Brings::Synced {
        v.workload.brings = Brings::Ignored;
    }
    v
}

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
            match tool(&inner) {
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
    let moved = |list: &mut Vec<String>| list.iter_mut().for_each(|p| *p = super::args::join(dir, p));
    moved(&mut v.workload.reads);
    moved(&mut v.workload.leaves);
    if let Brings::Outputs(out) = &mut v.workload.brings {
        moved(out);
    }
    v
}

fn npm(call: &Call) -> Verdict {
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

fn pnpm(call: &Call) -> Verdict {
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

fn yarn(call: &Call) -> Verdict {
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

fn bun(call: &Call) -> Verdict {
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
fn package(call: &Call, from: usize) -> Verdict {
    const VALUED: &[&str] = &["-p", "--package", "-w", "--workspace", "--filter", "-F"];
    if before_dashes(&call.args[from.min(call.args.len())..])
        .take(3)
        .any(|w| w == "-c" || w == "--call")
    {
        return unknown("", &format!("`{} -c` runs shell text", call.base));
    }
    let (at, name) = match operand(call.args, from, VALUED) {
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
    if inner.depth > super::MAX_NESTING {
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

/// `turbo run build test`, `lerna run test`.
fn workspace_runner(call: &Call, sub: &str) -> Verdict {
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
    let names = super::args::operands(call.args, from, VALUED);
    let mut v = super::native::by_target(call, names, &shape);
    if v.class == Class::Heavy && v.reason.ends_with(Target::Lint.does()) {
        v.workload.brings = Brings::Synced;
    }
    v
}

/// `nx test app`, `nx run app:test`, `nx run-many -t build test`, `nx affected -t lint`.
fn nx(call: &Call) -> Verdict {
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
    super::native::by_target(call, names, &shape)
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
