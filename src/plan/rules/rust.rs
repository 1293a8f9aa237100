//! Rust: cargo, rustc, and what stands in front of them.

use super::args::{At, has, join, operand, tidy, value, values};
use super::{Call, Shape, light, shape, unknown};
use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, Class, PlatformTie, Verdict};

/// The rules of this file.
pub(super) fn rule(call: &Call) -> Option<Verdict> {
    Some(match call.base {
        "cargo" | "cargo-nextest" | "cross" => cargo(call),
        "rustc" | "rustdoc" | "clippy-driver" => rustc(call),
        "rustup" => rustup(call),
        "wasm-pack" => match operand(call.args, 0, &[]).word() {
            Some(sub @ "build") => Shape {
                leaves: &["target"],
                outputs: &["pkg/**"],
                dirs: &["--out-dir", "-d"],
                ..shape("wasm-pack", "builds")
            }
            .verdict(call, sub),
            Some(sub @ "test") => Shape {
                leaves: &["target"],
                ..shape("wasm-pack", "runs tests")
            }
            .verdict(call, sub),
            _ => light("wasm-pack", "`wasm-pack` in this form is no build"),
        },
        "maturin" => match operand(call.args, 0, &[]).word() {
            Some(sub @ "build") => Shape {
                leaves: &["target"],
                outputs: &["target/wheels/*"],
                dirs: &["--out", "-o"],
                same_platform: true,
                ..shape("maturin", "builds")
            }
            .verdict(call, sub),
            _ => light("maturin", "`maturin` in this form installs or publishes"),
        },
        _ => return None,
    })
}

/// Options of cargo whose value is the next word.
const VALUED: &[&str] = &[
    "-p",
    "--package",
    "--exclude",
    "-F",
    "--features",
    "--target",
    "--target-dir",
    "--manifest-path",
    "--profile",
    "-j",
    "--jobs",
    "--bin",
    "--example",
    "--test",
    "--bench",
    "--color",
    "--message-format",
    "--config",
    "-Z",
    "-C",
    "-E",
    "--filter-expr",
    "--partition",
    "-P",
    "--workspace-remap",
    "--lockfile-path",
    "--artifact-dir",
    "--out-dir",
    "--retries",
    "--test-threads",
    "--output-path",
    "--out",
    "-o",
];

const CHECKS: Shape = Shape {
    leaves: &["target"],
    ..shape("cargo", "checks the sources")
};
const TESTS: Shape = Shape {
    does: "compiles and runs tests",
    ..CHECKS
};
const BUILDS: Shape = Shape {
    does: "compiles",
    same_platform: true,
    ..CHECKS
};

fn cargo(call: &Call) -> Verdict {
    // `cargo +nightly test`
    let from = usize::from(
        call.args
            .first()
            .and_then(Word::text)
            .is_some_and(|w| w.starts_with('+')),
    );
    let (at, sub) = match operand(call.args, from, VALUED) {
        At::Word(at, sub) => (at, sub),
        At::Dynamic => return unknown("cargo", "the subcommand of `cargo` is known only to the shell"),
        At::End => return light("cargo", "`cargo` without a subcommand only prints"),
    };
    let rest = &call.args[at + 1..];
    let sub_of = || operand(rest, 0, VALUED).word().unwrap_or_default();
    let mut v = match sub {
        "build" | "b" | "rustc" | "zigbuild" | "auditable" => {
            let mut v = BUILDS.verdict(call, sub);
            v.workload.brings = Brings::Outputs(programs(rest));
            v
        }
        "test" | "t" => TESTS.verdict(call, sub),
        "check" | "c" | "clippy" | "fix" | "udeps" | "semver-checks" => CHECKS.verdict(call, sub),
        "doc" | "d" | "rustdoc" => {
            if has(rest, &["--open"]) {
                return light("cargo", "`cargo doc --open` opens a browser");
            }
            let mut v = Shape {
                does: "builds the documentation",
                ..CHECKS
            }
            .verdict(call, sub);
            v.workload.brings = Brings::Outputs(vec![join(&target_dir(rest), "doc/**")]);
            v
        }
        "bench" if has(rest, &["--no-run"]) => Shape {
            does: "compiles the benchmarks",
            ..CHECKS
        }
        .verdict(call, sub),
        "bench" | "criterion" => return light("cargo", "`cargo bench` measures this machine"),
        "nextest" => match sub_of() {
            "run" | "r" if has(rest, &["--debugger", "--tracer"]) => {
                return light("cargo", "`cargo nextest` with a debugger is interactive");
            }
            "run" | "r" | "list" | "archive" => {
                let mut v = Shape {
                    rule: "cargo",
                    ..TESTS
                }
                .verdict(call, "nextest");
                v.workload.brings = Brings::Outputs(vec![join(&target_dir(rest), "nextest/*/junit.xml")]);
                v
            }
            other => return light("cargo", &format!("`cargo nextest {other}` runs no tests")),
        },
        "llvm-cov" | "tarpaulin" => {
            if has(rest, &["--open"]) {
                return light("cargo", &format!("`cargo {sub} --open` opens a browser"));
            }
            if matches!(sub_of(), "clean" | "show-env") {
                return light("cargo", &format!("`cargo {sub} {}` runs no tests", sub_of()));
            }
            let shape = Shape {
                outputs: &[
                    "target/llvm-cov/**",
                    "lcov.info",
                    "cobertura.xml",
                    "tarpaulin-report.*",
                ],
                files: &["--output-path"],
                dirs: &["--output-dir"],
                ..TESTS
            };
            shape.verdict(call, sub)
        }
        "miri" => match sub_of() {
            "test" | "nextest" | "t" => TESTS.verdict(call, "miri"),
            _ => return light("cargo", "`cargo miri` in this form runs a program here"),
        },
        "insta" => match sub_of() {
            "test" if !has(rest, &["--review"]) => TESTS.verdict(call, "insta"),
            _ => return light("cargo", "`cargo insta` asks"),
        },
        "mutants" | "careful" | "hack" if !matches!(sub_of(), "run" | "install" | "publish") => Shape {
            outputs: &["mutants.out/**"],
            ..TESTS
        }
        .verdict(call, sub),
        "run" | "r" => return light("cargo", "`cargo run` starts the program here"),
        "install" | "uninstall" | "binstall" => return light("cargo", "installs belong to this machine"),
        "watch" => return light("cargo", "`cargo watch` runs until stopped"),
        "add" | "remove" | "rm" | "update" | "fmt" | "metadata" | "publish" | "clean" | "tree" | "fetch"
        | "vendor" | "new" | "init" | "search" | "login" | "logout" | "owner" | "yank" | "package"
        | "locate-project" | "pkgid" | "generate-lockfile" | "read-manifest" | "verify-project"
        | "version" | "help" | "info" | "config" | "report" | "audit" | "deny" | "outdated" | "edit"
        | "upgrade" | "set-version" | "release" | "generate" | "machete" | "flamegraph" | "instruments"
        | "bloat" | "sort" | "dist" | "msrv" | "geiger" | "license" | "about" | "cache" | "sweep"
        | "workspaces" | "readme" | "make-project" => {
            return light(
                "cargo",
                &format!("`cargo {sub}` compiles little or belongs to this machine"),
            );
        }
        _ => {
            return unknown(
                "cargo",
                &format!("no rule knows `cargo {sub}`; it may be an alias"),
            );
        }
    };
    if v.class == Class::Heavy {
        v.workload.leaves = vec![target_dir(rest)];
        if matches!(v.workload.needs.as_slice(), [_]) && call.base == "cargo" && !known_cargo_command(sub) {
            v.workload.needs.push(super::need(&format!("cargo-{sub}")));
        }
    }
    v
}

/// Whether `cargo SUB` is there wherever cargo is.
fn known_cargo_command(sub: &str) -> bool {
    matches!(
        sub,
        "build"
            | "b"
            | "rustc"
            | "test"
            | "t"
            | "check"
            | "c"
            | "clippy"
            | "fix"
            | "doc"
            | "d"
            | "rustdoc"
            | "bench"
    )
}

/// The target directory, relative to the run's, as far as the arguments tell.
fn target_dir(args: &[Word]) -> String {
    if let Some(dir) = value(args, "--target-dir") {
        return tidy(dir).to_owned();
    }
    let manifest = value(args, "--manifest-path")
        .and_then(|m| m.rsplit_once('/'))
        .map_or(".", |(dir, _)| dir);
    join(manifest, "target")
}

/// Where the programs of a build end up: `target/[TRIPLE/]PROFILE/*`.
fn programs(args: &[Word]) -> Vec<String> {
    let target = target_dir(args);
    let release = has(args, &["--release", "-r"]);
    let profile = match value(args, "--profile") {
        Some("dev" | "test") => "debug",
        Some("bench") => "release",
        Some(other) => other,
        None if release => "release",
        None => "debug",
    };
    let triples: Vec<&str> = values(args, "--target").into_iter().flatten().collect();
    let mut dirs: Vec<String> = triples
        .iter()
        .map(|t| format!("{target}/{t}/{profile}"))
        .collect();
    if dirs.is_empty() {
        dirs.push(format!("{target}/{profile}"));
    }
    let mut out: Vec<String> = dirs.iter().map(|d| format!("{d}/*")).collect();
    if has(args, &["--examples", "--example", "--all-targets"]) {
        out.extend(dirs.iter().map(|d| format!("{d}/examples/*")));
    }
    for flag in ["--artifact-dir", "--out-dir"] {
        out.extend(values(args, flag).into_iter().flatten().map(|d| join(d, "*")));
    }
    out
}

fn rustc(call: &Call) -> Verdict {
    if has(call.args, &["--print", "--explain", "-vV"]) || operand(call.args, 0, &[]) == At::End {
        return light("rustc", &format!("`{}` only prints", call.base));
    }
    let mut v = Shape {
        versioned: true,
        files: &["-o"],
        dirs: &["--out-dir"],
        ..shape("rustc", "compiles")
    }
    .verdict(call, "");
    v.workload.platform = PlatformTie::Same;
    if v.workload.brings == Brings::Synced {
        v.workload.brings = Brings::Ignored;
    }
    v
}

fn rustup(call: &Call) -> Verdict {
    // `rustup run nightly cargo test`
    match operand(call.args, 0, &[]) {
        At::Word(at, "run") => match operand(call.args, at + 1, &[]) {
            At::Word(toolchain, _) => call.wraps(toolchain + 1),
            _ => unknown("rustup", "what `rustup run` starts is known only to the shell"),
        },
        _ => light("rustup", "installs belong to this machine"),
    }
}
