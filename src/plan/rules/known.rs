//! What is known of the rules themselves.

/// Names of the built-in rules that can judge a command heavy, for `off` in the config and for `cx explain`.
pub const NAMES: &[&str] = &[
    "ant",
    "astro",
    "bandit",
    "bazel",
    "behave",
    "buck",
    "bun",
    "bundler",
    "cabal",
    "cargo",
    "clang-tidy",
    "cmake",
    "ctest",
    "cypress",
    "dart",
    "deno",
    "django",
    "docker",
    "dotnet",
    "doxygen",
    "dune",
    "earthly",
    "elixir",
    "elm",
    "eslint",
    "flake8",
    "flutter",
    "forge",
    "gatsby",
    "gcc",
    "ghc",
    "gleam",
    "go",
    "golangci-lint",
    "gradle",
    "hardhat",
    "hatch",
    "javac",
    "jekyll",
    "jest",
    "just",
    "karma",
    "latex",
    "lein",
    "make",
    "maturin",
    "maven",
    "meson",
    "mkdocs",
    "mocha",
    "mypy",
    "next",
    "ng",
    "ninja",
    "node",
    "nox",
    "npm",
    "nuxt",
    "nx",
    "pants",
    "parcel",
    "pdm",
    "perl",
    "phpstan",
    "phpunit",
    "pixi",
    "playwright",
    "pnpm",
    "composer",
    "pyinstaller",
    "pylint",
    "pyright",
    "pytest",
    "python",
    "pytype",
    "rails",
    "rake",
    "react-scripts",
    "rebar3",
    "remix",
    "rollup",
    "rspec",
    "rubocop",
    "rustc",
    "rye",
    "sbt",
    "scons",
    "sphinx",
    "stack",
    "storybook",
    "swift",
    "task",
    "tox",
    "tsc",
    "turbo",
    "unittest",
    "vite",
    "vitest",
    "wasm-pack",
    "webpack",
    "xcodebuild",
    "yarn",
    "zig",
    "R",
    "bats",
    "julia",
    "scala-cli",
    "trunk",
];

/// Whether `-v` alone makes the program print its version (with others it means verbose).
pub(super) fn version_is_v(base: &str) -> bool {
    matches!(
        base,
        "make"
            | "gmake"
            | "gcc"
            | "g++"
            | "cc"
            | "c++"
            | "clang"
            | "clang++"
            | "jest"
            | "tsc"
            | "eslint"
            | "vitest"
            | "gradle"
            | "gradlew"
            | "mvn"
            | "mvnw"
            | "webpack"
            | "rollup"
            | "node"
            | "npm"
            | "npx"
            | "pnpm"
            | "yarn"
            | "bun"
            | "meson"
            | "rspec"
            | "vite"
            | "next"
            | "mocha"
            | "php"
            | "perl"
            | "ruby"
            | "stylelint"
            | "prettier"
            | "ng"
    )
}
