//! The one list of programs that shims stand in front of.

/// Programs that some built-in rule can judge heavy, under their usual names.
#[rustfmt::skip]
pub const PROGRAMS: &[&str] = &[
    "R", "Rscript", "_mocha", "ant", "asdf", "astro", "ava", "b2", "bandit", "basedpyright", "bats", "bazel",
    "bazelisk", "bear", "behat", "behave", "bjam", "bmake", "buck", "buck2", "build-storybook", "buildah",
    "bun", "bundle", "bundler", "bunx", "c++", "c8", "cabal", "cargo", "cargo-nextest", "cc", "ccache", "clang",
    "clang++", "clang-tidy", "clippy-driver", "clj", "clojure", "cmake", "codecept", "composer", "conda",
    "coverage", "cppcheck", "craco", "cross", "crystal", "ctest", "cucumber", "cypress", "dart", "deno",
    "direnv", "distcc", "django-admin", "docker", "docker-compose", "dotnet", "doxygen", "dune", "elm", "elm-test", "em++",
    "emcc", "errcheck", "eslint", "flake8", "flutter", "forge", "g++", "gatsby", "gcc", "gfortran", "ghc",
    "ginkgo", "gleam", "gmake", "go", "go-task", "golangci-lint", "gosec", "gotestsum", "gradle", "hardhat",
    "hatch", "hlint", "icpx", "icx", "intercept-build", "inv", "invoke", "jasmine", "javac", "jekyll", "jest",
    "julia", "just", "karma", "kotlinc", "lage", "latex", "latexmk", "lein", "lerna", "lualatex", "mage",
    "make", "mamba", "mask", "maturin", "meson", "microbundle", "micromamba", "mill", "minitest", "mise", "mix",
    "mkdocs", "mocha", "moon", "msbuild", "mvn", "mvnd", "mypy", "ncc", "nerdctl", "next", "ng", "nim", "ninja",
    "ninja-build", "node", "nodejs", "nose2", "nosetests", "nox", "npm", "npx", "nuxi", "nuxt", "nvcc", "nx",
    "nyc", "oxlint", "pabot", "pants", "parallel_rspec", "parallel_test", "parallel_tests", "paratest",
    "parcel", "pdflatex", "pdm", "pest", "phan", "php", "phpcs", "phpmd", "phpstan", "phpunit", "pipenv",
    "pipx", "pixi", "playwright", "pnpm", "pnpx", "podman", "poetry", "prove", "psalm", "py.test",
    "pyinstaller", "pylint", "pypy", "pypy3", "pyright", "pytest", "python", "python3", "pytype", "qunit",
    "rails", "rake", "react-router", "react-scripts", "rebar3", "remake", "remix", "revive", "robot", "rollup",
    "rspec", "rtx", "rubocop", "run-clang-tidy", "rustc", "rustdoc", "rustup", "rye", "samu", "sbt",
    "scala-cli", "scalac", "scan-build", "sccache", "scons", "sorbet", "sphinx-build", "srb", "stack",
    "standard", "standardrb", "staticcheck", "steep", "stestr", "storybook", "stylelint", "svelte-check",
    "svelte-kit", "swift", "tap", "tape", "task", "tectonic", "tox", "trial", "trunk", "tsc", "tsd", "tsdown",
    "tslint", "tsup", "turbo", "turbo_tests", "unbuild", "uv", "uvx", "vinxi", "vite", "vitest",
    "vue-cli-service", "vue-tsc", "waf", "wasm-pack", "webpack", "webpack-cli", "wireit", "xbuild",
    "xcodebuild", "xelatex", "xmake", "xo", "xvfb-run", "yarn", "yarnpkg", "zig",
];
