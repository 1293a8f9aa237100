//! TODO
/// entry
pub fn main() -> std::process::ExitCode {
    // Before anything else: the hook must not wait for an argument parser.
    if std::env::args_os().nth(1).is_some_and(|a| a == "hook") {
        return crate::hook::main();
    }
    std::process::ExitCode::SUCCESS
}
