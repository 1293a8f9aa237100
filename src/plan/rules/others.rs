//! The other languages and runners: Go, Swift, Zig, Haskell, Ruby, PHP, Elixir, just, task, bazel, LaTeX, ...

use super::args::{At, has, join, operand, operands, tidy, value};
use super::native::by_target;
use super::{Call, Shape, light, shape, unknown};
use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, PlatformTie, Verdict};

/// Calls by which R code tests or checks a package.
const TESTS_R: &[&str] = &[
    "devtools::test(",
    "devtools::check(",
    "testthat::test_",
    "rcmdcheck(",
];

/// The rules of this file.
pub(super) fn rule(call: &Call) -> Option<Verdict> {
    let sub = operand(
        call.args,
        0,
        &[
            "-C",
            "--manifest-path",
            "--project",
            "--package-path",
            "--scratch-path",
            "-c",
        ],
    );
    let says = sub.word().unwrap_or_default();
    // Heavy in these subcommands, light in all others; unknown where the shell decides.
    let subcommands = |shape: Shape, heavy: &[&str]| -> Verdict {
        match sub {
            At::Word(_, s) if heavy.contains(&s) => shape.verdict(call, s),
            At::Word(_, s) => light(
                shape.rule,
                &format!("`{} {s}` acts here, is short or runs until stopped", call.base),
            ),
            At::Dynamic => unknown(
                shape.rule,
                &format!("the subcommand of `{}` is known only to the shell", call.base),
            ),
            At::End => light(shape.rule, &format!("`{}` alone builds nothing", call.base)),
        }
    };
    let builds = |rule| Shape {
        ignored: true,
        same_platform: true,
        ..shape(rule, "builds or tests")
    };
    Some(match call.base {
        "go" => go(call),
        "golangci-lint" => subcommands(shape("golangci-lint", "checks the sources"), &["run"]),
        "staticcheck" | "revive" | "errcheck" | "gosec" => {
            shape("golangci-lint", "checks the sources").verdict(call, "")
        }
        "gotestsum" => Shape {
            files: &["--junitfile", "--jsonfile"],
            local_if: &["--watch"],
            ..shape("go", "runs tests")
        }
        .verdict(call, ""),
        "ginkgo" => match says {
            "watch" | "bootstrap" | "generate" | "version" => {
                light("go", &format!("`ginkgo {says}` runs no tests once"))
            }
            _ => Shape {
                files: &["--junit-report"],
                ..shape("go", "runs tests")
            }
            .verdict(call, ""),
        },
        "just" | "task" | "go-task" | "mage" | "mask" | "invoke" | "inv" | "moon" => runner(call),
        "rake" => {
            let names = operands(call.args, 0, &["-f", "-C", "-I", "-r"]).map(|n| {
                n.into_iter()
                    .filter(|w| !w.contains('='))
                    .map(|w| if w == "spec" { "test" } else { w })
                    .collect()
            });
            by_target(
                call,
                names,
                &Shape {
                    ignored: true,
                    ..shape("rake", "builds")
                },
            )
        }
        "bazel" | "bazelisk" | "bazelw" if says == "build" => light(
            "bazel",
            "what `bazel build` makes lies outside the project, from where nothing comes back",
        ),
        "bazel" | "bazelisk" | "bazelw" => {
            subcommands(shape("bazel", "builds or tests"), &["test", "coverage"])
        }
        "buck" | "buck2" => subcommands(builds("buck"), &["build", "test"]),
        "pants" => subcommands(
            Shape {
                outputs: &["dist/**"],
                ..shape("pants", "builds or tests")
            },
            &["test", "lint", "check", "package"],
        ),
        "docker" | "podman" | "nerdctl" | "buildah" | "docker-compose" => docker(call),
        "swift" => swift(call),
        "xcodebuild" => {
            if has(
                call.args,
                &[
                    "-list",
                    "-showsdks",
                    "-showBuildSettings",
                    "-version",
                    "-exportArchive",
                    "-showdestinations",
                ],
            ) {
                return Some(light("xcodebuild", "`xcodebuild` only prints here"));
            }
            Shape {
                dirs: &["-derivedDataPath", "-resultBundlePath", "-archivePath"],
                same_platform: true,
                ..shape("xcodebuild", "builds or tests")
            }
            .verdict(call, "")
        }
        "zig" => match says {
            "build"
                if operands(call.args, 1, &[]).is_some_and(|o| {
                    o.iter()
                        .any(|s| super::targets::target(s) == super::targets::Target::Acts)
                }) =>
            {
                light("zig", "this step of `zig build` acts here")
            }
            _ => subcommands(
                Shape {
                    leaves: &[".zig-cache", "zig-cache"],
                    outputs: &["zig-out/**"],
                    same_platform: true,
                    ..shape("zig", "builds or tests")
                },
                &[
                    "build",
                    "test",
                    "build-exe",
                    "build-lib",
                    "build-obj",
                    "cc",
                    "c++",
                ],
            ),
        },
        "ghc" => {
            if call.args.is_empty() || has(call.args, &["--interactive", "-e", "--info", "--print-libdir"]) {
                return Some(light("ghc", "`ghc` in this form compiles nothing"));
            }
            builds("ghc").verdict(call, "")
        }
        "cabal" => subcommands(
            Shape {
                leaves: &["dist-newstyle"],
                // `cabal list-bin`: PLATFORM/COMPILER/PACKAGE/[KIND/NAME/]build/NAME/NAME
                outputs: &[
                    "dist-newstyle/build/*/*/*/build/*/*",
                    "dist-newstyle/build/*/*/*/*/*/build/*/*",
                ],
                same_platform: true,
                ..shape("cabal", "builds or tests")
            },
            &["build", "v2-build", "test", "v2-test", "check", "haddock"],
        ),
        "stack" => subcommands(
            Shape {
                leaves: &[".stack-work"],
                outputs: &[".stack-work/install/*/*/*/bin/*"],
                same_platform: true,
                local_if: &["--file-watch", "--exec"],
                ..shape("stack", "builds or tests")
            },
            &["build", "test", "haddock"],
        ),
        "hlint" => shape("ghc", "checks the sources").verdict(call, ""),
        "dune" => subcommands(
            Shape {
                leaves: &["_build"],
                same_platform: true,
                local_if: &["-w", "--watch"],
                ..shape("dune", "builds or tests")
            },
            &["build", "test", "runtest"],
        ),
        "mix" => subcommands(
            Shape {
                leaves: &["_build"],
                reads: &["deps"],
                local_if: &["--trace-watch", "--stale-watch"],
                ..shape("elixir", "builds or tests")
            },
            &[
                "test",
                "compile",
                "dialyzer",
                "credo",
                "docs",
                "coveralls",
                "coveralls.html",
            ],
        ),
        "rebar3" => subcommands(
            Shape {
                leaves: &["_build"],
                ..shape("rebar3", "builds or tests")
            },
            &["compile", "ct", "eunit", "dialyzer", "proper"],
        ),
        "gleam" => subcommands(
            Shape {
                leaves: &["build"],
                ..shape("gleam", "builds or tests")
            },
            &["build", "test", "check"],
        ),
        "bundle" | "bundler" => match sub {
            At::Word(at, "exec") => call.runs(at + 1),
            _ => light("bundle", "installs belong to this machine"),
        },
        "rspec" => Shape {
            files: &["-o", "--out"],
            outputs: &["coverage/**"],
            local_if: &["--init", "--bisect"],
            ..shape("rspec", "runs tests")
        }
        .verdict(call, ""),
        "rubocop" | "standardrb" | "sorbet" | "srb" | "steep" => Shape {
            local_if: &["--lsp", "--server", "--auto-gen-config"],
            ..shape("rubocop", "checks the sources")
        }
        .verdict(call, ""),
        "minitest" | "cucumber" | "parallel_rspec" | "parallel_test" | "parallel_tests" | "turbo_tests" => {
            Shape {
                outputs: &["coverage/**"],
                ..shape("rspec", "runs tests")
            }
            .verdict(call, "")
        }
        "rails" => match says {
            "test" | "test:all" | "test:system" | "zeitwerk:check" | "t" | "spec" => Shape {
                outputs: &["coverage/**"],
                leaves: &["tmp/cache"],
                ..shape("rails", "runs tests")
            }
            .verdict(call, says),
            _ => light(
                "rails",
                &format!("`rails {says}` acts here or runs until stopped"),
            ),
        },
        "phpunit" | "paratest" | "pest" | "codecept" | "behat" => Shape {
            leaves: &[".phpunit.cache"],
            files: &["--log-junit", "--coverage-clover", "--testdox-html"],
            dirs: &["--coverage-html", "--coverage-xml"],
            ..shape("phpunit", "runs tests")
        }
        .verdict(call, ""),
        "phpstan" | "psalm" | "phpcs" | "phan" | "phpmd" => Shape {
            local_if: &["--init", "--language-server"],
            ..shape("phpstan", "checks the sources")
        }
        .verdict(call, ""),
        "php" => match sub {
            At::Word(at, "artisan") => match operand(call.args, at + 1, &[]) {
                At::Word(_, "test") => shape("phpunit", "runs tests").verdict(call, "artisan test"),
                _ => light("php", "`php artisan` acts here"),
            },
            // `php vendor/bin/phpunit`
            At::Word(at, path) if path.contains("vendor/bin/") => call.runs(at),
            _ => unknown("php", "what `php` runs may do anything"),
        },
        "composer" => composer(call, sub),
        "bats" => Shape {
            dirs: &["-o", "--output", "--report-dir", "--gather-test-outputs-in"],
            local_if: &["--count", "-c"],
            ..shape("bats", "runs tests")
        }
        .verdict(call, ""),
        "julia" => julia(call),
        "Rscript" => match value(call.args, "-e") {
            Some(code) if TESTS_R.iter().any(|t| code.contains(t)) => Shape {
                ignored: true,
                ..shape("R", "tests or checks the package")
            }
            .verdict(call, ""),
            _ => unknown("R", "what `Rscript` runs may do anything"),
        },
        "trunk" => subcommands(
            Shape {
                leaves: &["target"],
                outputs: &["dist/**"],
                dirs: &["-d", "--dist"],
                ..shape("trunk", "builds")
            },
            &["build"],
        ),
        "prove" => Shape {
            local_if: &["--state"],
            ..shape("perl", "runs tests")
        }
        .verdict(call, ""),
        "dart" => subcommands(
            Shape {
                leaves: &[".dart_tool"],
                ..shape("dart", "builds or tests")
            },
            &["test", "analyze", "compile"],
        ),
        "flutter" => subcommands(
            Shape {
                leaves: &[".dart_tool"],
                outputs: &["build/app/outputs/**", "build/web/**", "coverage/**"],
                local_if: &["--start-paused"],
                ..shape("flutter", "builds or tests")
            },
            &["test", "analyze", "build"],
        ),
        "elm" => subcommands(
            Shape {
                leaves: &["elm-stuff"],
                files: &["--output"],
                ..shape("elm", "compiles")
            },
            &["make"],
        ),
        "elm-test" => shape("elm", "runs tests").verdict(call, ""),
        "forge" => subcommands(
            Shape {
                leaves: &["cache"],
                outputs: &["out/**"],
                local_if: &["--watch", "-w", "--debug"],
                ..shape("forge", "builds or tests")
            },
            &["build", "test", "coverage"],
        ),
        "earthly" => unknown("earthly", "a target of `earthly` may push"),
        "R" => match says {
            "CMD" => match operand(call.args, 1, &[]).word() {
                Some(s @ ("check" | "build")) => Shape {
                    ignored: true,
                    ..shape("R", "builds or checks the package")
                }
                .verdict(call, &format!("CMD {s}")),
                _ => light("R", "`R CMD` in this form installs"),
            },
            _ => light("R", "`R` is interactive"),
        },
        "latexmk" | "pdflatex" | "xelatex" | "lualatex" | "latex" | "tectonic" => latex(call),
        "mkdocs" => subcommands(
            Shape {
                outputs: &["site/**"],
                dirs: &["-d", "--site-dir"],
                ..shape("mkdocs", "builds the documentation")
            },
            &["build"],
        ),
        "jekyll" => subcommands(
            Shape {
                outputs: &["_site/**"],
                dirs: &["-d", "--destination"],
                local_if: &["--watch", "-w"],
                ..shape("jekyll", "builds the site")
            },
            &["build", "b"],
        ),
        "doxygen" => {
            if has(call.args, &["-g", "-w", "-l", "-u"]) {
                return Some(light("doxygen", "`doxygen` in this form writes a template"));
            }
            Shape {
                ignored: true,
                ..shape("doxygen", "builds the documentation")
            }
            .verdict(call, "")
        }
        "nim" => subcommands(builds("nim"), &["c", "compile", "cpp", "js", "check", "doc"]),
        "crystal" => subcommands(builds("crystal"), &["build", "spec", "docs"]),
        "mise" | "rtx" | "asdf" => match sub {
            At::Word(at, "exec" | "x") => match call.args.iter().position(|w| w.text() == Some("--")) {
                Some(dashes) if dashes >= at => call.runs(dashes + 1),
                _ => unknown("mise", "what it runs is not clear without `--`"),
            },
            At::Word(at, "run" | "r") => {
                let names = operand(call.args, at + 1, &[]).word().map(|n| vec![n]);
                by_target(
                    call,
                    names,
                    &Shape {
                        ignored: true,
                        ..shape("task", "runs a task")
                    },
                )
            }
            _ => light("mise", "installs belong to this machine"),
        },
        "direnv" => match sub {
            // `direnv exec DIR COMMAND`
            At::Word(at, "exec") if call.args.len() > at + 2 => call.runs(at + 2),
            _ => light("direnv", "`direnv` belongs to the shell here"),
        },
        _ => return None,
    })
}

fn runner(call: &Call) -> Verdict {
    const VALUED: &[&str] = &[
        "-f",
        "--justfile",
        "-d",
        "--working-directory",
        "--set",
        "--dir",
        "--taskfile",
        "-t",
        "-C",
        "--shell",
        "--color",
        "-c",
        "--search-root",
        "--root",
        "-j",
        "--parallel",
    ];
    let rule = match call.base {
        "just" => "just",
        "task" | "go-task" => "task",
        _ => "task",
    };
    if has(
        call.args,
        &[
            "--list",
            "-l",
            "--summary",
            "--dry-run",
            "-n",
            "--show",
            "-s",
            "--choose",
            "--edit",
            "-e",
            "--evaluate",
            "--dump",
            "--fmt",
            "--watch",
            "-w",
            "--list-all",
            "-a",
            "--init",
        ],
    ) {
        return light(
            rule,
            &format!("`{}` in this form looks, asks or watches", call.base),
        );
    }
    // What a recipe is given as arguments looks like further recipes: the first decides, the others must not act.
    match operand(call.args, 0, VALUED) {
        At::Dynamic => by_target(call, None, &shape(rule, "")),
        At::End if call.base != "just" && call.base != "task" && call.base != "go-task" => {
            light(rule, &format!("`{}` alone lists", call.base))
        }
        At::End => by_target(
            call,
            Some(Vec::new()),
            &Shape {
                ignored: true,
                same_platform: true,
                ..shape(rule, "builds")
            },
        ),
        At::Word(_, name) => {
            let shape = Shape {
                ignored: true,
                same_platform: true,
                ..shape(rule, "builds")
            };
            by_target(call, Some(vec![name]), &shape)
        }
    }
}

fn go(call: &Call) -> Verdict {
    let (at, sub) = match operand(call.args, 0, &["-C"]) {
        At::Word(at, sub) => (at, sub),
        At::Dynamic => return unknown("go", "the subcommand of `go` is known only to the shell"),
        At::End => return light("go", "`go` alone only prints"),
    };
    let rest = &call.args[at + 1..];
    let go = Shape {
        versioned: true,
        ..shape("go", "")
    };
    match sub {
        "build" => {
            let mut v = Shape {
                does: "compiles",
                files: &["-o"],
                same_platform: true,
                ..go
            }
            .verdict(call, sub);
            if v.workload.brings == Brings::Synced {
                // Several packages at once leave nothing behind; one leaves a program of its name.
                v.workload.brings = Brings::Ignored;
            } else if let (Brings::Outputs(out), Some(file)) = (&mut v.workload.brings, value(rest, "-o"))
                && (file.ends_with('/') || matches!(tidy(file), "bin" | "build" | "dist" | "out"))
            {
                // A directory, or a file that is called like one.
                out.push(join(file, "*"));
            }
            v
        }
        "vet" => Shape {
            does: "checks the sources",
            ..go
        }
        .verdict(call, sub),
        "test" => {
            if has(rest, &["-bench", "--bench"])
                || rest
                    .iter()
                    .filter_map(Word::text)
                    .any(|w| w.starts_with("-bench="))
            {
                return light("go", "`go test -bench` measures this machine");
            }
            let files = &[
                "-coverprofile",
                "-cpuprofile",
                "-memprofile",
                "-blockprofile",
                "-mutexprofile",
                "-trace",
                "-o",
            ];
            let mut v = Shape {
                does: "compiles and runs tests",
                ..go
            }
            .verdict(call, sub);
            let mut out = Vec::new();
            for flag in files {
                out.extend(values_go(rest, flag));
            }
            if has(rest, &["-c"]) {
                v.workload.platform = PlatformTie::Same;
                out.push("*.test".into());
            }
            if !out.is_empty() {
                v.workload.brings = Brings::Outputs(out);
            }
            v
        }
        "generate" => unknown("go", "`go generate` runs any program"),
        _ => light(
            "go",
            &format!("`go {sub}` runs a program here, is short, or belongs to this machine"),
        ),
    }
}

/// Go spells long options with one dash: `-o=f`, `-o f`.
fn values_go(args: &[Word], flag: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (i, word) in args.iter().enumerate() {
        let Some(text) = word.text() else { continue };
        let value = if text == flag {
            args.get(i + 1).and_then(Word::text)
        } else {
            text.strip_prefix(flag).and_then(|rest| rest.strip_prefix('='))
        };
        out.extend(value.map(|v| tidy(v).to_owned()));
    }
    out
}

/// Images and containers belong to the machine whose daemon has them. So these commands leave by the user's own word only: a rule
/// of his, or a `cx` in front; and then they follow one another.
fn docker(call: &Call) -> Verdict {
    let sub = operand(call.args, 0, &["-H", "--host", "--context", "--config", "-l"])
        .word()
        .unwrap_or_default();
    if matches!(sub, "login" | "logout" | "push" | "context") {
        return light(
            "docker",
            &format!(
                "`{}` acts on other machines with what is kept here",
                call.says(sub)
            ),
        );
    }
    unknown(
        "docker",
        &format!(
            "`{}` works on the images and containers of this machine, unless `cx` stands in front or a rule of yours moves it",
            call.says(sub)
        ),
    )
}

fn swift(call: &Call) -> Verdict {
    let shape = Shape {
        leaves: &[".build"],
        same_platform: true,
        ..shape("swift", "compiles")
    };
    match operand(call.args, 0, &["--package-path", "-c"]) {
        At::Word(_, "build") => {
            let profile = match value(call.args, "-c").or_else(|| value(call.args, "--configuration")) {
                Some("release") => "release",
                _ => "debug",
            };
            let mut v = shape.verdict(call, "build");
            v.workload.brings = Brings::Outputs(vec![
                format!(".build/{profile}/*"),
                format!(".build/*/{profile}/*"),
            ]);
            v
        }
        At::Word(_, "test") => {
            let shape = Shape {
                does: "compiles and runs tests",
                same_platform: false,
                files: &["--xunit-output"],
                ..shape
            };
            shape.verdict(call, "test")
        }
        At::Dynamic => unknown("swift", "the subcommand of `swift` is known only to the shell"),
        _ => light(
            "swift",
            "`swift` in this form runs a program here or is interactive",
        ),
    }
}

fn composer(call: &Call, sub: At) -> Verdict {
    let name = match sub {
        At::Word(at, "run" | "run-script" | "exec") => {
            match operand(call.args, at + 1, &["--working-dir", "-d"]) {
                At::Word(i, name) => {
                    if call.args.get(at).and_then(Word::text) == Some("exec") {
                        return call.runs(i);
                    }
                    name
                }
                _ => return unknown("composer", "the script of `composer` is not known"),
            }
        }
        At::Word(_, name) => name,
        At::Dynamic => {
            return unknown(
                "composer",
                "the subcommand of `composer` is known only to the shell",
            );
        }
        At::End => return light("composer", "`composer` alone only prints"),
    };
    let known = matches!(name, "check-platform-reqs" | "validate" | "check");
    if known || super::targets::target(name) == super::targets::Target::Unknown {
        return light("composer", &format!("`composer {name}` belongs to this machine"));
    }
    by_target(
        call,
        Some(vec![name]),
        &Shape {
            reads: &["vendor"],
            ..shape("composer", "runs a script")
        },
    )
}

fn latex(call: &Call) -> Verdict {
    let args = call.args;
    if has(args, &["-pvc", "-pv", "-c", "-C", "--pvc"]) || args.is_empty() {
        return light(
            "latex",
            &format!("`{}` in this form watches, cleans or asks", call.base),
        );
    }
    let dir = [
        "-output-directory",
        "--output-directory",
        "-outdir",
        "--outdir",
        "-auxdir",
        "-o",
    ]
    .iter()
    .find_map(|flag| values_go(args, flag).pop());
    let mut v = shape("latex", "typesets").verdict(call, "");
    v.workload.brings = Brings::Outputs(match dir {
        Some(dir) => vec![join(&dir, "**")],
        None => [
            "*.pdf",
            "*.dvi",
            "*.aux",
            "*.log",
            "*.toc",
            "*.bbl",
            "*.out",
            "*.fls",
            "*.fdb_latexmk",
            "*.synctex.gz",
        ]
        .iter()
        .map(|s| (*s).to_owned())
        .collect(),
    });
    v
}

/// Julia: the tests of a package, by its package manager or by their usual file.
fn julia(call: &Call) -> Verdict {
    let tests = || shape("julia", "runs tests").verdict(call, "");
    if let Some(code) = value(call.args, "-e").or_else(|| value(call.args, "--eval")) {
        return if code.contains("Pkg.test(") {
            tests()
        } else {
            unknown("julia", "what `julia` runs may do anything")
        };
    }
    match operand(call.args, 0, &[]) {
        At::Word(_, file) if file.ends_with("runtests.jl") => tests(),
        At::End => light("julia", "`julia` alone is interactive"),
        _ => unknown("julia", "what `julia` runs may do anything"),
    }
}
