//! TODO
/// entry
pub fn main() -> std::process::ExitCode {
    // Before anything else: the hook must not wait for an argument parser.
    if std::env::args_os().nth(1).is_some_and(|a| a == "hook") {
        return crate::hook::main();
    }
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "setup") {
        let has = |name: &str| args.iter().any(|a| a == name);
        let wanted = crate::setup::claude::SetupArgs { remove: has("--remove"), yes: has("--yes") };
        return match crate::setup::claude::run(wanted, &mut std::io::stdout()) {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(e) => {
                let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("cx: {e:#}\n"));
                std::process::ExitCode::FAILURE
            }
        };
    }
    std::process::ExitCode::SUCCESS
}
