//! Variables that may be set in front of a command, or before it, without the client asking.

/// Those that the client passes over in front of a command.
pub const HARMLESS: [&str; 19] = [
    "NODE_ENV",
    "CI",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD",
    "LC_ALL",
    "LANG",
    "TZ",
    "TERM",
    "COLUMNS",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CGO_ENABLED",
    "GOOS",
    "GOARCH",
    "GO111MODULE",
];

/// Names that shells give a meaning to, though they look like anybody's.
const OF_THE_SHELL: [&str; 22] = [
    "aliases",
    "argv",
    "builtins",
    "commands",
    "fignore",
    "functions",
    "history",
    "ifs",
    "jobdirs",
    "jobstates",
    "jobtexts",
    "keymaps",
    "nameddirs",
    "options",
    "parameters",
    "patchars",
    "pipestatus",
    "prompt",
    "psvar",
    "signals",
    "status",
    "widgets",
];

/// Whether a variable of this name is the text's own, and means nothing to a shell or a program.
pub fn is_harmless_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
        && !name.ends_with("path")
        && !OF_THE_SHELL.contains(&name)
}
