//! C, C++ and the tools that build with them: make, ninja, cmake, ctest, meson, scons, compilers.

use super::args::{At, has, join, operand, operands, tidy, value, values};
use super::targets::{Target, targets};
use super::{Call, Shape, light, shape, unknown};
use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, Class, PlatformTie, Verdict};

/// The rules of this file.
pub(super) fn rule(call: &Call) -> Option<Verdict> {
    Some(match call.base {
        "make" | "gmake" | "bmake" | "remake" => make(call),
        "ninja" | "samu" | "ninja-build" => ninja(call),
        "cmake" => cmake(call),
        "ctest" => ctest(call),
        "meson" => meson(call),
        "scons" | "waf" | "b2" | "bjam" | "xmake" => scons(call),
        "gcc" | "g++" | "cc" | "c++" | "clang" | "clang++" | "gfortran" | "nvcc" | "emcc" | "em++"
        | "icx" | "icpx" => compiler(call),
        "ccache" | "sccache" | "distcc" => compiler_cache(call),
        "bear" | "scan-build" | "xvfb-run" | "intercept-build" => in_front(call),
        "clang-tidy" | "run-clang-tidy" | "cppcheck" => {
            let mut v = shape("clang-tidy", "checks the sources").verdict(call, "");
            v.workload
                .reads
                .extend(value(call.args, "-p").map(|d| tidy(d).to_owned()));
            v
        }
        _ => return None,
    })
}

/// A runner's verdict by its targets.
pub(super) fn by_target(call: &Call, names: Option<Vec<&str>>, shape: &Shape) -> Verdict {
    let Some(names) = names else {
        return unknown(
            shape.rule,
            &format!("the target of `{}` is known only to the shell", call.base),
        );
    };
    let (target, name) = targets(names);
    let says = call.says(name.unwrap_or_default());
    match target {
        Target::Acts | Target::Clean => light(shape.rule, &format!("`{says}` {}", target.does())),
        Target::Unknown => unknown(shape.rule, &format!("`{says}` {}", target.does())),
        Target::Build | Target::Test | Target::Lint => {
            let mut v = shape.verdict(call, name.unwrap_or_default());
            if v.class == Class::Heavy {
                v.reason = format!("`{says}` {}", target.does());
            }
            if target != Target::Build {
                v.workload.platform = PlatformTie::Free;
            }
            v
        }
    }
}

const MAKE: Shape = Shape {
    ignored: true,
    same_platform: true,
    ..shape("make", "builds")
};

const MAKE_VALUED: &[&str] = &[
    "-C",
    "-f",
    "-I",
    "-o",
    "-W",
    "--directory",
    "--file",
    "--makefile",
    "--include-dir",
    "--old-file",
    "--what-if",
    "--new-file",
    "--assume-old",
    "--assume-new",
    "--eval",
    "--output-sync",
    "--debug-file",
];

fn make(call: &Call) -> Verdict {
    let mut names = Vec::new();
    let mut dirs = Vec::new();
    let mut i = 0;
    let mut dynamic = false;
    while let Some(word) = call.args.get(i) {
        i += 1;
        let Some(text) = word.text() else {
            dynamic |= !word.is_flag();
            continue;
        };
        match text {
            "-j" | "-l" | "--jobs" | "--load-average" | "--max-load" => {
                // The number may stand apart, and may be `$(nproc)`.
                match call.args.get(i) {
                    Some(Word::Static(n)) if n.bytes().all(|b| b.is_ascii_digit() || b == b'.') => i += 1,
                    Some(Word::Dynamic) => i += 1,
                    _ => {}
                }
            }
            "-C" | "--directory" => {
                dirs.push(call.args.get(i).and_then(Word::text));
                i += 1;
            }
            "--dry-run" | "--just-print" | "--recon" | "--question" | "--touch" | "--print-data-base" => {
                return light("make", &format!("`make {text}` builds nothing"));
            }
            _ if MAKE_VALUED.contains(&text) => i += 1,
            _ if text.starts_with("--directory=") => dirs.push(text.split_once('=').map(|(_, d)| d)),
            _ if text.starts_with("--") => {}
            _ if text.starts_with("-C") => dirs.push(Some(&text[2..])),
            _ if text.starts_with('-') && text.len() > 1 => {
                let value_at = text
                    .find(['C', 'f', 'I', 'o', 'W', 'O', 'j', 'l'])
                    .unwrap_or(text.len());
                if text[..value_at].contains(['n', 'q', 't', 'p']) {
                    return light("make", &format!("`make {text}` builds nothing"));
                }
                if text.ends_with(['C', 'f', 'I', 'o', 'W']) && value_at == text.len() - 1 {
                    if text.ends_with('C') {
                        dirs.push(call.args.get(i).and_then(Word::text));
                    }
                    i += 1;
                }
            }
            _ if text.contains('=') => {}
            _ => names.push(text),
        }
    }
    let mut v = by_target(call, (!dynamic).then_some(names), &MAKE);
    if v.class == Class::Heavy {
        v.workload.reads.extend(
            dirs.into_iter()
                .flatten()
                .map(|d| tidy(d).to_owned())
                .filter(|d| d != "."),
        );
    }
    v
}

const NINJA: Shape = Shape {
    ignored: true,
    same_platform: true,
    ..shape("ninja", "builds")
};

fn ninja(call: &Call) -> Verdict {
    const VALUED: &[&str] = &["-C", "-f", "-j", "-k", "-l", "-d", "-w", "-t"];
    if let Some(tool) = value(call.args, "-t") {
        return light("ninja", &format!("`ninja -t {tool}` only looks or cleans"));
    }
    if has(call.args, &["-n"]) {
        return light("ninja", "`ninja -n` builds nothing");
    }
    // Targets are files, mostly; names that act are few and known.
    let Some(names) = operands(call.args, 0, VALUED) else {
        return unknown("ninja", "a target of `ninja` is known only to the shell");
    };
    let mut v = match targets(names.iter().copied()) {
        (t @ (Target::Acts | Target::Clean), Some(name)) => {
            return light("ninja", &format!("`ninja {name}` {}", t.does()));
        }
        (t @ (Target::Test | Target::Lint), Some(name)) => {
            let mut v = NINJA.verdict(call, name);
            v.reason = format!("`ninja {name}` {}", t.does());
            v.workload.platform = PlatformTie::Free;
            v
        }
        (Target::Unknown, Some(name)) if !name.contains(['/', '.']) => {
            return unknown("ninja", &format!("`ninja {name}` {}", Target::Unknown.does()));
        }
        _ => NINJA.verdict(call, ""),
    };
    v.workload
        .reads
        .push(tidy(value(call.args, "-C").unwrap_or(".")).to_owned());
    v
}

fn cmake(call: &Call) -> Verdict {
    let args = call.args;
    let Some(first) = args.first() else {
        return light("cmake", "`cmake` alone prints its usage");
    };
    let Some(first) = first.text() else {
        return unknown("cmake", "what `cmake` does here is known only to the shell");
    };
    match first {
        "--build" => {
            let Some(dir) = args.get(1).and_then(Word::text) else {
                let mut v = NINJA.verdict(call, "--build");
                v.rule = "cmake".into();
                return v;
            };
            let names: Vec<&str> = args
                .iter()
                .enumerate()
                .filter(|(_, w)| matches!(w.text(), Some("-t" | "--target")))
                .flat_map(|(i, _)| {
                    args[i + 1..]
                        .iter()
                        .map_while(Word::text)
                        .take_while(|w| !w.starts_with('-'))
                })
                .chain(values(args, "--target").into_iter().flatten())
                .collect();
            let shape = Shape {
                rule: "cmake",
                ..NINJA
            };
            let mut v = match targets(names.iter().copied()) {
                (t @ (Target::Acts | Target::Clean), Some(name)) => {
                    return light("cmake", &format!("`cmake --build` of `{name}` {}", t.does()));
                }
                _ => shape.verdict(call, "--build"),
            };
            v.workload.reads.push(tidy(dir).to_owned());
            v
        }
        "--install"
        | "--open"
        | "-E"
        | "-P"
        | "--find-package"
        | "--system-information"
        | "--help-command" => light("cmake", &format!("`cmake {first}` is no build")),
        "--workflow" => {
            let shape = Shape {
                ignored: true,
                same_platform: true,
                ..shape("cmake", "configures and builds")
            };
            let mut v = shape.verdict(call, "--workflow");
            v.workload.same_paths = true;
            v
        }
        _ if first.starts_with("--list-presets") => light("cmake", "`cmake --list-presets` only looks"),
        _ => {
            // Configuring: what it makes is one directory, where the build then happens.
            let dir = value(args, "-B").or_else(|| {
                match operand(
                    args,
                    0,
                    &[
                        "-S",
                        "-G",
                        "-D",
                        "-A",
                        "-T",
                        "-C",
                        "-U",
                        "--preset",
                        "--toolchain",
                    ],
                ) {
                    At::Word(_, source) if tidy(source) != "." => Some("."),
                    _ => None,
                }
            });
            let mut v = shape("cmake", "configures the build").verdict(call, "");
            v.workload.platform = PlatformTie::Same;
            v.workload.same_paths = true;
            match dir.map(tidy) {
                // `cd build && cmake ..`: the run's own directory is the build directory.
                Some(".") | None => {
                    v.workload.brings = Brings::Ignored;
                    if dir.is_some() {
                        v.workload.reads.push(".".into());
                    }
                }
                Some(dir) => {
                    v.workload.reads.push(dir.to_owned());
                    v.workload.leaves.push(dir.to_owned());
                    // Half a build directory here would be of use to nobody.
                    v.workload.brings = Brings::Outputs(vec![join(dir, "**")]);
                }
            }
            v
        }
    }
}

fn ctest(call: &Call) -> Verdict {
    const CTEST: Shape = Shape {
        files: &["--output-junit", "--output-log", "-O"],
        local_if: &["-N", "--show-only", "--print-labels", "--interactive-debug-mode"],
        ..shape("ctest", "runs tests")
    };
    let mut v = CTEST.verdict(call, "");
    if v.class == Class::Heavy {
        let dir = value(call.args, "--test-dir").unwrap_or(".");
        v.workload.reads.push(tidy(dir).to_owned());
        if let Brings::Outputs(out) = &mut v.workload.brings {
            out.push(join(dir, "Testing/**"));
        } else {
            v.workload.brings = Brings::Outputs(vec![join(dir, "Testing/**")]);
        }
    }
    v
}

fn meson(call: &Call) -> Verdict {
    let At::Word(at, sub) = operand(call.args, 0, &[]) else {
        return unknown("meson", "what `meson` does here is not said");
    };
    let rest = &call.args[at + 1..];
    match sub {
        "compile" | "test" => {
            let shape = if sub == "compile" {
                Shape {
                    ignored: true,
                    same_platform: true,
                    ..shape("meson", "builds")
                }
            } else {
                Shape {
                    local_if: &["--gdb", "--interactive", "-i"],
                    ..shape("meson", "builds and runs tests")
                }
            };
            let mut v = shape.verdict(call, sub);
            if v.class == Class::Light || has(rest, &["--benchmark", "--list"]) {
                return light(
                    "meson",
                    &format!("`meson {sub}` in this form belongs to this machine"),
                );
            }
            if has(rest, &["--clean"]) {
                return light("meson", "`meson compile --clean` cleans");
            }
            let dir = tidy(value(rest, "-C").unwrap_or("."));
            v.workload.reads.push(dir.to_owned());
            if sub == "test" {
                v.workload.brings = Brings::Outputs(vec![join(dir, "meson-logs/**")]);
            }
            v
        }
        "setup" | "configure" if sub == "setup" => {
            let mut v = shape("meson", "configures the build").verdict(call, sub);
            v.workload.platform = PlatformTie::Same;
            v.workload.same_paths = true;
            if let Some(dir) = operand(
                rest,
                0,
                &["--prefix", "--buildtype", "--native-file", "--cross-file", "-D"],
            )
            .word()
            {
                let dir = tidy(dir);
                v.workload.reads.push(dir.to_owned());
                v.workload.leaves.push(dir.to_owned());
                v.workload.brings = Brings::Outputs(vec![join(dir, "compile_commands.json")]);
            } else {
                v.workload.brings = Brings::Ignored;
            }
            v
        }
        "install" | "dist" | "init" | "introspect" | "configure" | "devenv" | "wrap" | "rewrite"
        | "format" | "env2mfile" => light("meson", &format!("`meson {sub}` is no build")),
        _ => unknown("meson", &format!("no rule knows `meson {sub}`")),
    }
}

fn scons(call: &Call) -> Verdict {
    if has(
        call.args,
        &[
            "-c",
            "--clean",
            "-n",
            "--dry-run",
            "-q",
            "install",
            "--interactive",
        ],
    ) {
        return light("scons", &format!("`{}` in this form is no build", call.base));
    }
    let names = operands(call.args, 0, &["-C", "-f", "-j", "-u"]);
    let names = names.map(|n| n.into_iter().filter(|w| !w.contains('=')).collect());
    by_target(
        call,
        names,
        &Shape {
            rule: "scons",
            leaves: &[".sconf_temp"],
            ..MAKE
        },
    )
}

const COMPILER: Shape = Shape {
    same_platform: true,
    ..shape("gcc", "compiles")
};

fn compiler(call: &Call) -> Verdict {
    let args = call.args;
    let mut sources = false;
    let mut outputs = Some(Vec::new());
    let (mut object, mut stdin) = (None, false);
    let mut i = 0;
    while let Some(word) = args.get(i) {
        i += 1;
        let Some(text) = word.text() else {
            sources = true;
            continue;
        };
        match text {
            "-o" | "-MF" | "-dumpdir" => {
                match (args.get(i).and_then(Word::text), &mut outputs) {
                    (Some(file), Some(outputs)) => outputs.push(tidy(file).to_owned()),
                    _ => outputs = None,
                }
                i += 1;
            }
            "-c" => object = Some("*.o"),
            "-S" => object = Some("*.s"),
            "-E" | "-fsyntax-only" | "-M" | "-MM" => object = Some(""),
            "-" => (sources, stdin) = (true, true),
            "-I" | "-L" | "-l" | "-D" | "-U" | "-x" | "-include" | "-isystem" | "-iquote" | "-idirafter"
            | "-arch" | "-Xlinker" | "-Xclang" | "-Xcompiler" | "-target" | "-framework" | "-MT" | "-MQ"
            | "-T" | "-u" | "-z" | "-isysroot" | "-imacros" => i += 1,
            _ if text.starts_with("-print") || text.starts_with("-dump") || text == "-###" => {
                return light("gcc", &format!("`{} {text}` only prints", call.base));
            }
            _ if text.starts_with("-o") && text.len() > 2 && !text.starts_with("-obj") => {
                if let Some(outputs) = &mut outputs {
                    outputs.push(tidy(&text[2..]).to_owned());
                }
            }
            _ if text.starts_with('-') => {}
            _ => sources = true,
        }
    }
    if !sources {
        return light("gcc", &format!("`{}` is given nothing to compile", call.base));
    }
    let mut v = COMPILER.verdict(call, "");
    v.workload.stdin = stdin;
    v.workload.brings = match outputs {
        None => Brings::Ignored,
        Some(mut out) => {
            if has(args, &["-MD", "-MMD"]) && !has(args, &["-MF"]) {
                out.push(out.first().map_or("*.d".into(), |o| {
                    let stem = o.rsplit_once('.').map_or(o.as_str(), |(stem, _)| stem);
                    format!("{stem}.d")
                }));
            }
            if !has(args, &["-o"]) && !args.iter().filter_map(Word::text).any(|t| t.starts_with("-o")) {
                match object {
                    Some("") => {}
                    Some(glob) => out.push(glob.into()),
                    None => out.push("a.out".into()),
                }
            }
            out.retain(|o| o != "/dev/null" && o != "-");
            if out.is_empty() {
                Brings::Synced
            } else {
                Brings::Outputs(out)
            }
        }
    };
    v
}

fn compiler_cache(call: &Call) -> Verdict {
    match call.args.first().and_then(Word::text) {
        Some(w) if !w.starts_with('-') => {
            let v = call.wraps(0);
            if v.class == Class::Light {
                v
            } else {
                Verdict {
                    reason: format!("{}, {}", v.reason, call.base),
                    ..v
                }
            }
        }
        _ => light("gcc", &format!("`{}` is asked about itself", call.base)),
    }
}

fn in_front(call: &Call) -> Verdict {
    const VALUED: &[&str] = &[
        "--output",
        "-o",
        "--config",
        "-n",
        "-s",
        "-e",
        "-f",
        "-w",
        "--server-args",
        "--server-num",
        "--auth-file",
    ];
    let at = match call.args.iter().position(|w| w.text() == Some("--")) {
        Some(dashes) if call.base != "scan-build" => dashes + 1,
        _ => match operand(call.args, 0, VALUED) {
            At::Word(at, _) => at,
            _ => {
                return unknown(
                    "",
                    &format!("what `{}` starts is known only to the shell", call.base),
                );
            }
        },
    };
    let mut v = call.wraps(at);
    if v.class == Class::Heavy && call.base == "bear" {
        v.workload.brings = Brings::Ignored;
    }
    v
}
