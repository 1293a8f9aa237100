//! Programs of packages: test runners, bundlers, checkers.

use super::workspaces::{nx, workspace_runner};
use super::{NODE, TEST_OUTPUTS};
use crate::plan::rules::args::{At, has, operand};
use crate::plan::rules::{Call, Shape, light, unknown};
use crate::plan::verdict::{Brings, Class, Verdict};

/// Programs of packages. What they read is `node_modules`.
pub(super) fn tool(call: &Call) -> Option<Verdict> {
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
            ..test(
                "jest",
                &["--watch", "--watchAll", "--init", "--showConfig", "--listTests"],
            )
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
