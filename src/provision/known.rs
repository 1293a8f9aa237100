//! Lock files whose environment cx knows how to make.

use std::path::{Path, PathBuf};

use super::Step;

/// What an environment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    JavaScript,
    Python,
    Ruby,
    Php,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::JavaScript, Kind::Python, Kind::Ruby, Kind::Php];

    /// Whether a command of this program may use such an environment: those of one language use their own, build tools of others
    /// none, and what starts other programs (make, scripts) any.
    pub fn serves(self, program: &str) -> bool {
        match language(program) {
            Language::One(kind) => kind == self,
            Language::Any => true,
            Language::None => false,
        }
    }
}

enum Language {
    One(Kind),
    Any,
    None,
}

fn language(program: &str) -> Language {
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    match name {
        "npm" | "npx" | "pnpm" | "pnpx" | "yarn" | "yarnpkg" | "bun" | "bunx" | "node" | "nodejs" | "tsc"
        | "jest" | "vitest" | "mocha" | "eslint" | "webpack" | "vite" | "rollup" | "esbuild" | "turbo"
        | "nx" | "prettier" => Language::One(Kind::JavaScript),
        "python" | "pytest" | "py.test" | "tox" | "nox" | "mypy" | "ruff" | "flake" | "pylint"
        | "pyright" | "basedpyright" | "sphinx-build" | "mkdocs" | "coverage" | "uv" | "uvx" | "poetry"
        | "pdm" | "pipenv" | "hatch" | "manage.py" | "behave" | "bandit" => Language::One(Kind::Python),
        "bundle" | "bundler" | "rake" | "rspec" | "rails" | "rubocop" | "ruby" => Language::One(Kind::Ruby),
        "composer" | "phpunit" | "phpstan" | "php" | "pest" => Language::One(Kind::Php),
        "cargo" | "rustc" | "go" | "gcc" | "g++" | "cc" | "c++" | "clang" | "clang++" | "cmake" | "ctest"
        | "ninja" | "meson" | "bazel" | "gradle" | "gradlew" | "mvn" | "mvnw" | "ant" | "sbt" | "swift"
        | "zig" | "dotnet" | "cabal" | "stack" | "ghc" | "dune" | "mix" | "latexmk" | "javac" => {
            Language::None
        }
        _ => Language::Any,
    }
}

/// The steps for the environments nearest to each of `dirs`, upwards to `root`, of the kinds that are `wanted`. Only those whose
/// environment exists here: what was never installed here is not wanted there.
pub fn near<'a>(
    dirs: impl Iterator<Item = &'a Path>,
    root: &Path,
    wanted: impl Fn(Kind) -> bool,
) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for dir in dirs.filter(|d| d.starts_with(root)) {
        for kind in Kind::ALL.into_iter().filter(|k| wanted(*k)) {
            let mut up = dir.ancestors().take_while(|d| d.starts_with(root));
            let found = up.find_map(|d| at(kind, d, root));
            if let Some(step) = found.filter(|s| !steps.contains(s)) {
                steps.push(step);
            }
        }
    }
    steps
}

fn at(kind: Kind, dir: &Path, root: &Path) -> Option<Step> {
    match kind {
        Kind::JavaScript => javascript(dir, root),
        Kind::Python => python(dir, root),
        Kind::Ruby => ruby(dir, root),
        Kind::Php => php(dir, root),
    }
}

/// A step in `dir` that depends on `files` there and makes `makes` there.
fn step(
    dir: &Path,
    root: &Path,
    run: &str,
    needs: &'static str,
    files: &[&str],
    makes: &str,
) -> Option<Step> {
    let dir = dir.strip_prefix(root).ok()?.to_owned();
    Some(Step {
        name: run.to_owned(),
        run: run.to_owned(),
        files: files.iter().map(|f| dir.join(f)).collect(),
        makes: Some(dir.join(makes)),
        needs: Some(needs),
        dir,
    })
}

fn javascript(dir: &Path, root: &Path) -> Option<Step> {
    if !dir.join("node_modules").is_dir() {
        return None;
    }
    let has = |f: &str| dir.join(f).is_file();
    let (run, needs, lock) = if has("pnpm-lock.yaml") {
        ("pnpm install --frozen-lockfile", "pnpm", "pnpm-lock.yaml")
    } else if has("yarn.lock") && has(".yarnrc.yml") {
        ("yarn install --immutable", "yarn", "yarn.lock")
    } else if has("yarn.lock") {
        ("yarn install --frozen-lockfile", "yarn", "yarn.lock")
    } else if has("bun.lock") {
        ("bun install --frozen-lockfile", "bun", "bun.lock")
    } else if has("bun.lockb") {
        ("bun install --frozen-lockfile", "bun", "bun.lockb")
    } else if has("package-lock.json") {
        ("npm ci --no-audit --no-fund", "npm", "package-lock.json")
    } else if has("npm-shrinkwrap.json") {
        ("npm ci --no-audit --no-fund", "npm", "npm-shrinkwrap.json")
    } else {
        return None;
    };
    step(dir, root, run, needs, &[lock], "node_modules")
}

fn python(dir: &Path, root: &Path) -> Option<Step> {
    let is_env = |name: &&&str| dir.join(name).join("pyvenv.cfg").is_file();
    let env = [".venv", "venv", "env"].iter().find(is_env).copied()?;
    let has = |f: &str| dir.join(f).is_file();
    if env == ".venv" {
        for (lock, run, needs) in [
            ("uv.lock", "uv sync --frozen", "uv"),
            (
                "poetry.lock",
                "POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-interaction",
                "poetry",
            ),
            ("pdm.lock", "pdm sync", "pdm"),
            (
                "Pipfile.lock",
                "PIPENV_VENV_IN_PROJECT=1 pipenv sync --dev",
                "pipenv",
            ),
        ] {
            if has(lock) {
                let mut made = step(dir, root, run, needs, &[lock], env)?;
                // A program that the command names may have come alone; these tools want a whole environment there, or none.
                made.run = format!("test -e {env}/pyvenv.cfg || rm -rf {env}; {run}");
                return Some(made);
            }
        }
    }
    let lists: Vec<&str> = [
        "requirements.txt",
        "requirements-dev.txt",
        "dev-requirements.txt",
        "requirements_dev.txt",
        "requirements-test.txt",
        "test-requirements.txt",
    ]
    .into_iter()
    .filter(|f| has(f))
    .collect();
    if lists.is_empty() {
        return None;
    }
    let options: Vec<String> = lists.iter().map(|f| format!("-r {f}")).collect();
    let install = format!("{env}/bin/python -m pip install {}", options.join(" "));
    let mut made = step(dir, root, &install, "python3", &lists, env)?;
    made.name = format!("pip install {}", options.join(" "));
    made.run = format!("{}{install}", fresh_env(env, &version(&dir.join(env))));
    Some(made)
}

/// The major.minor that the environment here was made with, as its `pyvenv.cfg` says; empty where it does not.
fn version(env: &Path) -> String {
    let text = std::fs::read_to_string(env.join("pyvenv.cfg")).unwrap_or_default();
    let said = text.lines().find_map(|l| {
        let (key, value) = l.split_once('=')?;
        matches!(key.trim(), "version" | "version_info").then(|| value.trim().to_owned())
    });
    let said = said.unwrap_or_default();
    let numbers: Vec<&str> = said.split('.').take(2).collect();
    let plain = numbers.len() == 2
        && numbers
            .iter()
            .all(|n| !n.is_empty() && n.len() < 4 && n.bytes().all(|b| b.is_ascii_digit()));
    if plain { numbers.join(".") } else { String::new() }
}

/// The beginning of a line of shell: an environment made anew by a Python of this version.
fn fresh_env(env: &str, version: &str) -> String {
    if version.is_empty() {
        return format!("python3 -m venv --clear {env} && ");
    }
    let tuple = version.replace('.', ", ");
    format!(
        "p=; for c in python{version} python3 python; do \
         if \"$c\" -c 'import sys; sys.exit(sys.version_info[:2] != ({tuple}))' 2>/dev/null; then p=$c; break; fi; done; \
         if [ -z \"$p\" ]; then echo 'there is no Python {version} here' >&2; exit 1; fi; \
         \"$p\" -m venv --clear {env} && "
    )
}

fn ruby(dir: &Path, root: &Path) -> Option<Step> {
    let has = dir.join("Gemfile.lock").is_file() && dir.join("vendor/bundle").is_dir();
    let run = "BUNDLE_PATH=vendor/bundle BUNDLE_FROZEN=true bundle install";
    has.then(|| step(dir, root, run, "bundle", &["Gemfile.lock"], "vendor/bundle"))?
}

fn php(dir: &Path, root: &Path) -> Option<Step> {
    let has = dir.join("composer.lock").is_file() && dir.join("vendor/autoload.php").is_file();
    let run = "composer install --no-interaction";
    has.then(|| step(dir, root, run, "composer", &["composer.lock"], "vendor"))?
}

/// Files that [`near`] looks for, so that people can be told.
pub fn found_below(root: &Path) -> Vec<PathBuf> {
    let mut dirs = vec![(root.to_owned(), 0)];
    let mut found = Vec::new();
    while let Some((dir, depth)) = dirs.pop() {
        if Kind::ALL.iter().any(|k| at(*k, &dir, root).is_some()) {
            found.push(dir.clone());
        }
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        for entry in entries.filter(|_| depth < 3 && found.len() < 20) {
            let name = entry.file_name();
            let skip = name.as_encoded_bytes().starts_with(b".")
                || ["node_modules", "target", "vendor", "venv", "env"]
                    .iter()
                    .any(|s| name == *s);
            if !skip && entry.file_type().is_ok_and(|t| t.is_dir()) && dirs.len() < 500 {
                dirs.push((entry.path(), depth + 1));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for f in files {
            let path = dir.path().join(f);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = if f.ends_with("pyvenv.cfg") {
                "version = 3.11.2\n"
            } else {
                ""
            };
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn lock_files_are_known_where_their_environment_exists() {
        for (files, runs) in [
            (&["package-lock.json"][..], &[][..]),
            (
                &["package-lock.json", "node_modules/x"],
                &["npm ci --no-audit --no-fund"],
            ),
            (
                &["pnpm-lock.yaml", "package-lock.json", "node_modules/x"],
                &["pnpm install --frozen-lockfile"],
            ),
            (
                &["yarn.lock", ".yarnrc.yml", "node_modules/x"],
                &["yarn install --immutable"],
            ),
            (
                &["yarn.lock", "node_modules/x"],
                &["yarn install --frozen-lockfile"],
            ),
            (&["uv.lock", "requirements.txt"], &[]),
            (
                &["uv.lock", "requirements.txt", ".venv/pyvenv.cfg"],
                &["uv sync --frozen"],
            ),
            (
                &["requirements.txt", "requirements-dev.txt", "venv/pyvenv.cfg"],
                &["pip install -r requirements.txt -r requirements-dev.txt"],
            ),
            (
                &["Gemfile.lock", "vendor/bundle/x"],
                &["BUNDLE_PATH=vendor/bundle BUNDLE_FROZEN=true bundle install"],
            ),
        ] {
            let dir = tree(files);
            let steps = near([dir.path()].into_iter(), dir.path(), |_| true);
            let names: Vec<&str> = steps.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(names, runs, "{files:?}");
        }
    }

    #[test]
    fn what_came_of_an_environment_without_the_rest_is_in_nobodys_way() {
        let here = tree(&["uv.lock", ".venv/pyvenv.cfg"]);
        let run = near([here.path()].into_iter(), here.path(), |_| true)[0]
            .run
            .clone();
        for (there, stays) in [(".venv/bin/pytest", false), (".venv/pyvenv.cfg", true)] {
            let node = tree(&[there]);
            let mut sh = std::process::Command::new("sh");
            // What stands there when the tool is started is what counts, not the tool.
            sh.args(["-c", &format!("uv() {{ test -e .venv; }}\n{run}")]);
            let found = sh.current_dir(node.path()).status().unwrap();
            assert_eq!(found.success(), stays, "{there}: {run}");
        }
    }

    #[test]
    fn the_nearest_environment_counts_and_each_but_once() {
        let dir = tree(&[
            "package-lock.json",
            "node_modules/x",
            "web/package-lock.json",
            "web/node_modules/x",
            "web/src/a",
        ]);
        let src = dir.path().join("web/src");
        let web = dir.path().join("web");
        let steps = near(
            [src.as_path(), web.as_path(), dir.path()].into_iter(),
            dir.path(),
            |_| true,
        );
        let dirs: Vec<_> = steps.iter().map(|s| s.dir.to_str().unwrap()).collect();
        assert_eq!(dirs, ["web", ""]);
        assert_eq!(steps[0].makes.as_deref(), Some(Path::new("web/node_modules")));
        assert_eq!(found_below(dir.path()), [dir.path().to_owned(), web]);
        let outside = near([Path::new("/")].into_iter(), dir.path(), |_| true);
        assert!(outside.is_empty());
    }

    #[test]
    fn programs_use_the_environments_of_their_language() {
        for (program, kind, serves) in [
            ("npm", Kind::JavaScript, true),
            ("npm", Kind::Python, false),
            ("pytest-3", Kind::Python, true),
            ("python3.11", Kind::Python, true),
            ("cargo", Kind::Python, false),
            ("g++-13", Kind::JavaScript, false),
            ("make", Kind::Python, true),
            ("run.sh", Kind::JavaScript, true),
        ] {
            assert_eq!(kind.serves(program), serves, "{program} {kind:?}");
        }
    }

    #[test]
    fn the_environment_is_made_by_the_python_of_the_one_here() {
        let dir = tree(&["requirements.txt", ".venv/pyvenv.cfg"]);
        let steps = near([dir.path()].into_iter(), dir.path(), |_| true);
        assert!(
            steps[0].run.contains("for c in python3.11 python3 python"),
            "{}",
            steps[0].run
        );
        assert!(steps[0].run.contains("!= (3, 11)"));
        std::fs::write(dir.path().join(".venv/pyvenv.cfg"), "version = $(x).1\n").unwrap();
        let steps = near([dir.path()].into_iter(), dir.path(), |_| true);
        assert!(steps[0].run.starts_with("python3 -m venv --clear .venv && "));
    }
}
