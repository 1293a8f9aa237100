//! Python: pytest in all its spellings, checkers, tox and nox, and the tools that run something in an environment.

use super::args::{At, has, operand, tidy, values};
use super::native::by_target;
use super::targets::{Target, target};
use super::{Call, Shape, light, need, shape, unknown};
use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, Class, Need, PlatformTie, Verdict};

/// The rules of this file.
pub(super) fn rule(call: &Call) -> Option<Verdict> {
    let args = call.args;
    Some(match call.base {
        "pytest" | "py.test" => pytest(call, args),
        "python" | "pypy" | "pypy3" => python(call),
        "coverage" => coverage(call, args),
        "tox" => tox(call),
        "nox" => nox(call),
        "uv" => uv(call),
        "uvx" | "pipx" => one_off(call),
        "poetry" | "pdm" | "pipenv" | "hatch" | "rye" | "pixi" => manager(call),
        "conda" | "mamba" | "micromamba" => conda(call),
        "manage.py" | "django-admin" => django(call, args),
        _ => tool(call.base)?.verdict(call, ""),
    })
}

/// Tools of one purpose, as programs and as modules.
fn tool(name: &str) -> Option<Shape> {
    Some(match name {
        "mypy" => Shape {
            leaves: &[".mypy_cache"],
            files: &["--junit-xml"],
            dirs: &[
                "--html-report",
                "--xml-report",
                "--txt-report",
                "--cobertura-xml-report",
            ],
            local_if: &["--install-types"],
            ..shape("mypy", "type-checks the sources")
        },
        "pyright" | "basedpyright" => Shape {
            local_if: &["--watch", "-w"],
            ..shape("pyright", "type-checks the sources")
        },
        "pylint" => Shape {
            files: &["--output"],
            ..shape("pylint", "checks the sources")
        },
        "flake8" => Shape {
            files: &["--output-file"],
            ..shape("flake8", "checks the sources")
        },
        "bandit" => Shape {
            files: &["-o", "--output"],
            ..shape("bandit", "checks the sources")
        },
        "pytype" => Shape {
            leaves: &[".pytype"],
            ..shape("pytype", "type-checks the sources")
        },
        "nosetests" | "nose2" | "stestr" | "trial" => shape("unittest", "runs tests"),
        "behave" | "robot" | "pabot" => Shape {
            outputs: &["output.xml", "log.html", "report.html"],
            ..shape("behave", "runs tests")
        },
        "sphinx-build" => SPHINX,
        "pyinstaller" => Shape {
            outputs: &["dist/**"],
            leaves: &["build"],
            same_platform: true,
            ..shape("pyinstaller", "builds")
        },
        _ => return None,
    })
}

const SPHINX: Shape = Shape {
    ignored: true,
    ..shape("sphinx", "builds the documentation")
};

const PYTEST: Shape = Shape {
    leaves: &[".pytest_cache", ".hypothesis"],
    outputs: &[".coverage", "coverage.xml", "htmlcov/**"],
    files: &[
        "--junitxml",
        "--junit-xml",
        "--html",
        "--json-report-file",
        "--report-log",
        "--csv",
    ],
    dirs: &["--alluredir"],
    local_if: &[
        "--pdb",
        "--trace",
        "--looponfail",
        "-f",
        "--benchmark-only",
        "--usepdb",
    ],
    ..shape("pytest", "runs tests")
};

fn pytest(call: &Call, args: &[Word]) -> Verdict {
    let inner = Call { args, ..*call };
    if has(
        args,
        &[
            "--fixtures",
            "--markers",
            "--fixtures-per-test",
            "--collect-only",
            "--co",
            "-h",
            "-V",
        ],
    ) {
        return light("pytest", "`pytest` only prints here");
    }
    let mut v = PYTEST.verdict(&inner, "");
    if let Brings::Outputs(outputs) = &mut v.workload.brings {
        // `--cov-report=xml:FILE`, `html:DIR`, ...
        for report in values(args, "--cov-report").into_iter().flatten() {
            match report.split_once(':') {
                Some(("html" | "annotate", dir)) => outputs.push(super::args::join(dir, "**")),
                Some(("xml" | "json" | "lcov", file)) => outputs.push(tidy(file).to_owned()),
                None if report == "lcov" => outputs.push("coverage.lcov".into()),
                None if report == "json" => outputs.push("coverage.json".into()),
                _ => {}
            }
        }
    }
    v
}

fn python(call: &Call) -> Verdict {
    const VALUED: &[&str] = &["-W", "-X", "--check-hash-based-pycs"];
    let mut i = 0;
    while let Some(word) = call.args.get(i) {
        let Some(text) = word.text() else {
            return unknown("python", "what `python` runs is known only to the shell");
        };
        match text {
            "-m" => {
                let rest = call.args.get(i + 2..).unwrap_or_default();
                return match call.args.get(i + 1).and_then(Word::text) {
                    Some(name) => module(call, name, rest),
                    None => unknown(
                        "python",
                        "the module that `python` runs is known only to the shell",
                    ),
                };
            }
            "-c" => return unknown("python", "a snippet of Python may do anything"),
            "-i" => return light("python", "`python -i` is interactive"),
            "-" => {
                let mut v = unknown("python", "a program on standard input may do anything");
                v.workload.stdin = true;
                return v;
            }
            _ if VALUED.contains(&text) => i += 2,
            // Flags in one word that end in m or c: `-Im pytest`, `-uc CODE`.
            _ if text.starts_with('-')
                && !text.starts_with("--")
                && text.ends_with('m')
                && text.len() > 2 =>
            {
                let rest = call.args.get(i + 2..).unwrap_or_default();
                return match call.args.get(i + 1).and_then(Word::text) {
                    Some(name) => module(call, name, rest),
                    None => unknown(
                        "python",
                        "the module that `python` runs is known only to the shell",
                    ),
                };
            }
            // The module in the same word: `-mpytest`.
            _ if text.len() > 2 && text.starts_with("-m") => {
                return module(call, &text[2..], call.args.get(i + 1..).unwrap_or_default());
            }
            _ if text.starts_with('-') => i += 1,
            _ => return script(call, text, &call.args[i + 1..]),
        }
    }
    if call.args.is_empty() {
        return light(
            "python",
            "`python` alone is interactive, or reads a program from standard input",
        );
    }
    light("python", "`python` is given nothing to run")
}

fn script(call: &Call, path: &str, rest: &[Word]) -> Verdict {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut v = match name {
        "manage.py" => return django(call, rest),
        "setup.py" => match operand(rest, 0, &[]).word() {
            Some(sub @ ("build" | "build_ext" | "bdist_wheel" | "sdist" | "test")) => {
                let shape = Shape {
                    ignored: true,
                    same_platform: true,
                    ..shape("python", "builds the package")
                };
                shape.verdict(call, &format!("setup.py {sub}"))
            }
            _ => return light("python", "`setup.py` in this form installs or publishes"),
        },
        // A tool of an environment, started by its file: `python .venv/bin/pytest`.
        _ if path.contains("/bin/") && (name == "pytest" || tool(name).is_some()) => module(call, name, rest),
        _ => return unknown("python", &format!("`{path}` may do anything")),
    };
    if let Some(first) = v.workload.needs.first_mut() {
        first.same_version = true;
        first.module = None;
    }
    v
}

/// `python -m NAME`.
fn module(call: &Call, name: &str, rest: &[Word]) -> Verdict {
    let inner = Call {
        base: name,
        args: rest,
        ..*call
    };
    let mut v = match name {
        "pytest" | "py.test" => pytest(&inner, rest),
        "unittest" => shape("unittest", "runs tests").verdict(&inner, ""),
        "django" => django(&inner, rest),
        "coverage" => coverage(&inner, rest),
        "tox" => tox(&inner),
        "nox" => nox(&inner),
        "sphinx" => SPHINX.verdict(&inner, ""),
        "build" => Shape {
            outputs: &["dist/**"],
            ..shape("python", "builds the package")
        }
        .verdict(&inner, ""),
        "compileall" => shape("python", "compiles the sources").verdict(&inner, ""),
        "pip" | "venv" | "virtualenv" | "ensurepip" | "pipx" | "site" | "sysconfig" | "json.tool"
        | "http.server" | "pdb" | "ipdb" | "timeit" | "cProfile" | "profile" | "pyperf" | "webbrowser"
        | "this" | "zipfile" | "tarfile" | "base64" | "calendar" | "platform" | "IPython" | "jupyter"
        | "black" | "isort" | "ruff" | "twine" | "idlelib" | "pytest_watch" | "uvicorn" | "gunicorn"
        | "flask" | "pre_commit" | "py_compile" | "pydoc" => {
            return light(
                "python",
                &format!("`python -m {name}` is short, interactive or belongs to this machine"),
            );
        }
        _ => match tool(name) {
            Some(shape) => shape.verdict(&inner, ""),
            None => return unknown("python", &format!("`python -m {name}` may do anything")),
        },
    };
    if v.class == Class::Heavy {
        // One probe asks this Python for the module; where coverage runs pytest, both are its modules.
        let inside: Vec<String> = v
            .workload
            .needs
            .iter()
            .skip(1)
            .filter_map(|n| n.module.clone())
            .collect();
        v.workload.needs = std::iter::once(name.to_owned())
            .chain(inside)
            .map(|m| Need {
                program: call.program.to_owned(),
                module: Some(m),
                same_version: true,
            })
            .collect();
        v.reason = format!(
            "`python -m {name}` {}",
            v.reason.split_once("` ").map_or("is heavy", |(_, does)| does)
        );
    }
    v
}

fn coverage(call: &Call, args: &[Word]) -> Verdict {
    const VALUED: &[&str] = &[
        "--rcfile",
        "--source",
        "--omit",
        "--include",
        "--data-file",
        "--concurrency",
        "--context",
    ];
    match operand(args, 0, VALUED) {
        At::Word(at, "run") => {
            let rest = &args[at + 1..];
            let Some(m) = rest.iter().position(|w| w.text() == Some("-m")) else {
                return match operand(rest, 0, VALUED) {
                    At::Word(i, path) if path.ends_with("manage.py") => {
                        django(call, rest.get(i + 1..).unwrap_or_default())
                    }
                    _ => unknown("coverage", "the script under `coverage run` may do anything"),
                };
            };
            let Some(name) = rest.get(m + 1).and_then(Word::text) else {
                return unknown(
                    "coverage",
                    "the module under `coverage run` is known only to the shell",
                );
            };
            let mut v = module(call, name, rest.get(m + 2..).unwrap_or_default());
            if v.class == Class::Heavy {
                v.reason = format!("`coverage run -m {name}` runs it with coverage");
                v.workload.needs = vec![need(call.program)];
                if call.base == "coverage" && call.program != "coverage" && is_python(call.program) {
                    v.workload.needs.push(Need {
                        module: Some(name.into()),
                        ..need(call.program)
                    });
                }
                if let Brings::Synced = v.workload.brings {
                    v.workload.brings = Brings::Outputs(vec![".coverage".into()]);
                }
                if let Brings::Outputs(out) = &mut v.workload.brings {
                    out.push(".coverage.*".into());
                }
            }
            v
        }
        At::Dynamic => unknown(
            "coverage",
            "the subcommand of `coverage` is known only to the shell",
        ),
        _ => light("coverage", "`coverage` only reports here"),
    }
}

fn is_python(program: &str) -> bool {
    let base = program.rsplit('/').next().unwrap_or(program);
    base.starts_with("python") || base.starts_with("pypy")
}

fn django(call: &Call, args: &[Word]) -> Verdict {
    match operand(args, 0, &["--settings"]) {
        At::Word(_, "test") => {
            let shape = Shape {
                versioned: true,
                local_if: &["--pdb"],
                ..shape("django", "runs tests")
            };
            shape.verdict(&Call { args, ..*call }, "manage.py test")
        }
        At::Word(_, sub) => light("django", &format!("`manage.py {sub}` belongs to this machine")),
        _ => unknown("django", "the subcommand of `manage.py` is not known"),
    }
}

fn tox(call: &Call) -> Verdict {
    const TOX: Shape = Shape {
        leaves: &[".tox"],
        outputs: &[".coverage", "coverage.xml", "htmlcov/**"],
        local_if: &[
            "--pdb",
            "--devenv",
            "-l",
            "--listenvs",
            "-a",
            "--listenvs-all",
            "--showconfig",
        ],
        ..shape("tox", "runs tests")
    };
    if let Some(sub @ ("list" | "l" | "config" | "c" | "devenv" | "d" | "quickstart" | "exec" | "e")) =
        operand(call.args, 0, &["-e", "-c", "--workdir", "--root", "-x"]).word()
    {
        return light("tox", &format!("`tox {sub}` runs no tests"));
    }
    for envs in values(call.args, "-e")
        .into_iter()
        .chain(values(call.args, "--env"))
    {
        let Some(envs) = envs else {
            return unknown("tox", "the environment of `tox` is known only to the shell");
        };
        for env in envs.split(',') {
            match target(env) {
                Target::Acts => return light("tox", &format!("`tox -e {env}` {}", Target::Acts.does())),
                Target::Unknown if !is_python_env(env) => {
                    return unknown("tox", &format!("`tox -e {env}` {}", Target::Unknown.does()));
                }
                _ => {}
            }
        }
    }
    TOX.verdict(call, "")
}

/// `py311-django4`, `pypy3`, `3.12`, `flake8`: environments whose names say that they test or check.
fn is_python_env(env: &str) -> bool {
    let first = env.split('-').next().unwrap_or(env);
    let digits = first
        .strip_prefix("pypy")
        .or_else(|| first.strip_prefix("py"))
        .unwrap_or(first);
    digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        || matches!(
            first,
            "ALL" | "flake8" | "ruff" | "mypy" | "pylint" | "pyright" | "style" | "typing" | "unit"
        )
}

fn nox(call: &Call) -> Verdict {
    if has(call.args, &["-l", "--list", "--list-sessions"]) {
        return light("nox", "`nox --list` runs nothing");
    }
    let mut names = Vec::new();
    let mut i = 0;
    while let Some(word) = call.args.get(i) {
        i += 1;
        match word.text() {
            Some("--") => break,
            Some("-s" | "-e" | "--session" | "--sessions") => {
                while let Some(word) = call.args.get(i) {
                    match word.text() {
                        None => return unknown("nox", "the session of `nox` is known only to the shell"),
                        Some(w) if w.starts_with('-') => break,
                        Some(w) => names.push(session(w)),
                    }
                    i += 1;
                }
            }
            _ => {}
        }
    }
    let shape = Shape {
        leaves: &[".nox"],
        outputs: &[".coverage", "coverage.xml", "htmlcov/**"],
        ..shape("nox", "runs its sessions")
    };
    by_target(call, Some(names), &shape)
}

/// The name of a session of nox: `tests` for `tests-3.12` (with one Python) and for `tests(django='5.2')`.
fn session(word: &str) -> &str {
    let name = word.split_once('(').map_or(word, |(name, _)| name);
    name.rsplit_once('-')
        .filter(|(_, version)| is_python_env(version))
        .map_or(name, |(name, _)| name)
}

/// Options of `uv run` and its like that take a value.
const RUN_VALUED: &[&str] = &[
    "--with",
    "--with-editable",
    "--with-requirements",
    "--extra",
    "--group",
    "--only-group",
    "--no-group",
    "--package",
    "--project",
    "--directory",
    "--python",
    "-p",
    "--env-file",
    "--index-url",
    "--no-extra",
    "-C",
    "--index",
    "--script",
    "-P",
    "-e",
    "--environment",
    "--manifest-path",
    "--from",
    "--spec",
    "--cwd",
    "-n",
    "--name",
    "--prefix",
    "-w",
];

fn uv(call: &Call) -> Verdict {
    let At::Word(at, sub) = operand(call.args, 0, RUN_VALUED) else {
        return unknown("uv", "what `uv` does here is not known");
    };
    match sub {
        "run" => {
            let rest = &call.args[at + 1..];
            // `uv run -m pytest`
            let dashes = rest
                .iter()
                .position(|w| w.text().is_none_or(|t| !t.starts_with('-')));
            if let Some(m) = rest
                .iter()
                .position(|w| matches!(w.text(), Some("-m" | "--module")))
                && dashes.is_none_or(|d| m < d)
                && let Some(name) = rest.get(m + 1).and_then(Word::text)
            {
                let v = module(call, name, rest.get(m + 2..).unwrap_or_default());
                return managed(call, v);
            }
            in_environment(call, at + 1)
        }
        "tool" => match operand(call.args, at + 1, RUN_VALUED) {
            At::Word(at, "run") => in_environment(call, at + 1),
            _ => light("uv", "`uv tool` installs or lists"),
        },
        _ => light("uv", &format!("`uv {sub}` belongs to this machine")),
    }
}

fn one_off(call: &Call) -> Verdict {
    match (call.base, operand(call.args, 0, RUN_VALUED)) {
        ("pipx", At::Word(at, "run")) => in_environment(call, at + 1),
        ("pipx", _) => light("pipx", "installs belong to this machine"),
        _ => in_environment(call, 0),
    }
}

fn manager(call: &Call) -> Verdict {
    let At::Word(at, sub) = operand(call.args, 0, RUN_VALUED) else {
        return unknown(
            rule_of(call),
            &format!("what `{}` does here is not known", call.base),
        );
    };
    if call.base == "hatch" {
        match sub {
            "test" => return managed(call, shape("pytest", "runs tests").verdict(call, "test")),
            "build" => {
                return Shape {
                    outputs: &["dist/**"],
                    ..shape("hatch", "builds")
                }
                .verdict(call, "build");
            }
            _ => {}
        }
    }
    if call.base == "rye" && sub == "test" {
        return managed(call, shape("pytest", "runs tests").verdict(call, "test"));
    }
    // `pdm test` is `pdm run test`, as long as pdm has no such subcommand of its own.
    let script = call.base == "pdm" && matches!(target(sub), Target::Test | Target::Lint);
    let from = if script { at } else { at + 1 };
    if sub != "run" && !script {
        return light(
            rule_of(call),
            &format!("`{} {sub}` belongs to this machine", call.base),
        );
    }
    // Some also run scripts by name: `hatch run test`, `pdm run lint`; and hatch in an environment: `hatch run dev:test`.
    if let At::Word(at, typed) = operand(call.args, from, RUN_VALUED)
        && call.base != "poetry"
    {
        let name = typed
            .rsplit_once(':')
            .filter(|_| call.base == "hatch")
            .map_or(typed, |(_, script)| script);
        let argv: Vec<Word> = std::iter::once(Word::from(name))
            .chain(call.args[at + 1..].iter().cloned())
            .collect();
        let program = managed(call, call.inner(&argv));
        if program.class == Class::Heavy {
            return program;
        }
        if target(name) != Target::Unknown {
            let shape = Shape {
                ignored: true,
                ..shape(rule_of(call), "runs a script")
            };
            return by_target(call, Some(vec![name]), &shape);
        }
        return program;
    }
    in_environment(call, from)
}

fn rule_of(call: &Call) -> &'static str {
    match call.base {
        "poetry" => "poetry",
        "pdm" => "pdm",
        "pipenv" => "pipenv",
        "hatch" => "hatch",
        "rye" => "rye",
        _ => "pixi",
    }
}

fn conda(call: &Call) -> Verdict {
    match operand(call.args, 0, RUN_VALUED) {
        At::Word(at, "run") => in_environment(call, at + 1),
        _ => light("conda", "installs belong to this machine"),
    }
}

/// The command from argument `from` on, run by `call` in an environment that it keeps itself.
fn in_environment(call: &Call, from: usize) -> Verdict {
    match operand(call.args, from, RUN_VALUED) {
        At::Word(at, _) => managed(call, call.runs(at)),
        At::Dynamic => unknown(
            "",
            &format!("what `{}` runs is known only to the shell", call.base),
        ),
        At::End => light("", &format!("`{}` is given nothing to run", call.base)),
    }
}

fn managed(call: &Call, mut v: Verdict) -> Verdict {
    if v.class == Class::Heavy {
        v.workload.needs = vec![need(call.program)];
        v.reason = format!("{}, in the environment of `{}`", v.reason, call.base);
        if v.workload.platform == PlatformTie::Free && matches!(call.base, "uv" | "rye") {
            v.workload.leaves.push(".venv".into());
        }
    }
    v
}
