//! The `cx` program: picks its personality and turns a result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    cx::main()
}
