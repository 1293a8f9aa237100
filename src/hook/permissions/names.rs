//! Variables that may be set in front of a command without the client asking.

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
