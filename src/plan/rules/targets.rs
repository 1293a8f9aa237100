//! Targets of runners that can do anything: `make X`, `npm run X`, `just X`. Only names that by custom build or test
//! something are heavy; any other may deploy.

/// What a target's name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// It makes something.
    Build,
    /// It runs tests.
    Test,
    /// It looks at sources.
    Lint,
    /// It removes what was made; says nothing about its neighbours.
    Clean,
    /// It acts on this machine or on others, or runs until stopped.
    Acts,
    /// Nothing is known of it.
    Unknown,
}

impl Target {
    /// What it does, for a reason.
    pub fn does(self) -> &'static str {
        match self {
            Target::Build => "builds",
            Target::Test => "runs tests",
            Target::Lint => "checks the sources",
            Target::Clean => "cleans",
            Target::Acts => "acts on this machine or runs until stopped",
            Target::Unknown => "may do anything, deploy too",
        }
    }
}

/// Judges one target's name.
pub(super) fn target(name: &str) -> Target {
    let separators = [':', '-', '_', '.', '/'];
    let builds = name
        .split(separators)
        .next()
        .is_some_and(|p| matches!(p, "build" | "compile"));
    // `build:prod` builds for that place, and does nothing there.
    let is_kind = |piece: &str| builds && matches!(piece, "prod" | "production" | "staging" | "debug");
    if name.split(separators).any(|p| acts(p) && !is_kind(p)) {
        return Target::Acts;
    }
    let whole = match name {
        "" | "all" | "default" | "build" | "builds" | "compile" | "dist" | "docs" | "doc" | "html"
        | "bundle" => Target::Build,
        "test" | "tests" | "check" | "checks" | "coverage" | "cov" | "unit" | "unittest" | "unittests"
        | "testall" | "e2e" | "verify" => Target::Test,
        "lint" | "typecheck" | "type-check" | "types" | "type" => Target::Lint,
        // The name of the tool that it starts.
        "pytest" | "jest" | "vitest" | "mocha" | "rspec" | "phpunit" | "nextest" | "tox" => Target::Test,
        "mypy" | "pyright" | "pylint" | "flake8" | "ruff" | "eslint" | "tsc" | "clippy" | "rubocop"
        | "phpstan" => Target::Lint,
        "clean" | "distclean" => Target::Clean,
        _ => Target::Unknown,
    };
    if whole != Target::Unknown {
        return whole;
    }
    match name.split_once([':', '-', '_']).map(|(first, _)| first) {
        Some("test" | "tests" | "check" | "coverage") => return Target::Test,
        Some("build" | "compile" | "docs") => return Target::Build,
        Some("lint" | "typecheck") => return Target::Lint,
        Some("clean") => return Target::Clean,
        _ => {}
    }
    // `unit-test`, `types:check`, `web-build`
    match name.rsplit(separators).next() {
        Some("test" | "tests" | "check" | "checks" | "coverage") => Target::Test,
        Some("build" | "compile") => Target::Build,
        Some("lint" | "typecheck") => Target::Lint,
        _ => Target::Unknown,
    }
}

/// Judges several targets of one command: the most careful answer.
pub(super) fn targets<'a>(names: impl IntoIterator<Item = &'a str>) -> (Target, Option<&'a str>) {
    let mut best: Option<(Target, &str)> = None;
    for name in names {
        let t = target(name);
        let better = match (best.map(|b| b.0), t) {
            (None, _) => true,
            (Some(Target::Acts), _) => false,
            (_, Target::Acts) => true,
            (Some(Target::Unknown), _) => false,
            (_, Target::Unknown) => true,
            (Some(Target::Clean), _) => true,
            (Some(Target::Build), _) => false,
            (_, Target::Build) => true,
            _ => false,
        };
        if better {
            best = Some((t, name));
        }
    }
    best.map_or((Target::Build, None), |(t, name)| (t, Some(name)))
}

/// Whether a piece of a name says that the target does more than make or look at something.
fn acts(piece: &str) -> bool {
    matches!(
        piece,
        "install"
            | "uninstall"
            | "reinstall"
            | "run"
            | "deploy"
            | "publish"
            | "release"
            | "push"
            | "upload"
            | "start"
            | "stop"
            | "restart"
            | "dev"
            | "develop"
            | "serve"
            | "server"
            | "preview"
            | "watch"
            | "open"
            | "debug"
            | "ui"
            | "headed"
            | "interactive"
            | "shell"
            | "console"
            | "repl"
            | "docker"
            | "podman"
            | "image"
            | "images"
            | "container"
            | "containers"
            | "up"
            | "down"
            | "migrate"
            | "migration"
            | "migrations"
            | "seed"
            | "login"
            | "bench"
            | "benchmark"
            | "benchmarks"
            | "perf"
            | "load"
            | "stress"
            | "health"
            | "setup"
            | "bootstrap"
            | "init"
            | "format"
            | "fmt"
            | "help"
            | "version"
            | "list"
            | "tag"
            | "bump"
            | "sign"
            | "ship"
            | "rollback"
            | "provision"
            | "apply"
            | "destroy"
            | "kill"
            | "logs"
            | "flash"
            | "burn"
            | "menuconfig"
            | "prod"
            | "production"
            | "staging"
            | "live"
            | "send"
            | "deps"
            | "sync"
            | "update"
            | "upgrade"
            | "db"
            | "data"
            | "k8s"
            | "helm"
            | "terraform"
            | "cloud"
            | "remote"
            | "aws"
            | "gcp"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_with_care() {
        use Target::*;
        let rows = [
            ("all", Build),
            ("build", Build),
            ("build-wheel", Build),
            ("build:css", Build),
            ("docs", Build),
            ("test", Test),
            ("test:unit", Test),
            ("test-integration", Test),
            ("test_unit", Test),
            // It only looks, but the piece `format` is one that acts, and care wins.
            ("check-format", Acts),
            ("check-style", Test),
            ("coverage", Test),
            ("lint", Lint),
            ("lint:fix", Lint),
            ("type-check", Lint),
            ("clean", Clean),
            ("test:watch", Acts),
            ("test-docker", Acts),
            ("build:image", Acts),
            ("build-and-push", Acts),
            ("build:prod", Build),
            ("build-staging", Build),
            ("build_debug", Build),
            ("test:prod", Acts),
            ("prod", Acts),
            ("prod:build", Acts),
            ("build:prod:push", Acts),
            ("build:dev", Acts),
            ("build:release", Acts),
            ("deploy", Acts),
            ("run", Acts),
            ("dev", Acts),
            ("frobnicate", Unknown),
            ("build/x.o", Unknown),
            ("testing", Unknown),
        ];
        for (name, want) in rows {
            assert_eq!(target(name), want, "{name}");
        }
        assert_eq!(targets(["clean", "all"]).0, Build);
        assert_eq!(targets(["all", "deploy"]).0, Acts);
        assert_eq!(targets(["all", "x"]), (Unknown, Some("x")));
        assert_eq!(targets(["clean"]).0, Clean);
        assert_eq!(targets([]), (Build, None));
    }
}
