//! The command line: picks the personality, parses the rest, and turns results into exit codes.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::paths::Paths;
use crate::pipeline;
use crate::provision::trust;
use crate::request::{Demands, Detach, Origin, Request};
use crate::setup::change::Wish;
use crate::shims::{self, Shell};
use crate::{agent, conflicts, demo, doctor, gc, hook, mcp, node, nodes, runs, setup, status};

const AFTER: &str = "\
Anything that is not one of these commands is run: `cx pytest -x` runs pytest where it finishes first.

Exit status: the command's own; 128+n when a signal ended it; 75 when the link was lost after the start;
76 when it had to run on a node and none could take it; 77 when it goes on without its caller, as told; 126 or 127 when it can't be started.

Environment: CX_CONFIG names another config file; CX_LOCAL=1 keeps everything on this machine.";

/// Runs heavy commands on the idle machines that ssh reaches, as if they had run here.
#[derive(Parser)]
#[command(name = "cx", version, after_help = AFTER, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(override_usage = "cx CMD [ARGS]...\n       cx COMMAND [OPTIONS]")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// cx's own verbs: a tool of such a name is called by `cx -- NAME`.
pub const VERBS: [&str; 27] = [
    "agent",
    "attach",
    "cancel",
    "completions",
    "conflicts",
    "demo",
    "doctor",
    "explain",
    "gc",
    "hold",
    "hook",
    "init",
    "logs",
    "man",
    "mcp",
    "nodes",
    "off",
    "on",
    "pull",
    "push",
    "refresh",
    "run",
    "runs",
    "setup",
    "status",
    "trust",
    "warm",
];

#[derive(Subcommand)]
enum Verb {
    /// Run a command where it finishes first, with a say in where that is.
    Run(RunArgs),
    /// List the runs that go on, or went on, without the cx that started them.
    Runs {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Print what such a run has printed.
    Logs {
        /// Go on until it ends.
        #[arg(short, long)]
        follow: bool,
        /// The run: the beginning of its id, or of the last part of it.
        id: String,
    },
    /// Wait for such a run: its output, its exit status, and what it changed. Signals (Ctrl-C) go to the command.
    Attach {
        /// The run: the beginning of its id, or of the last part of it.
        id: String,
    },
    /// End such a run.
    Cancel {
        /// The run: the beginning of its id, or of the last part of it.
        id: String,
    },
    /// Add, remove or list nodes.
    #[command(subcommand)]
    Nodes(NodesVerb),
    /// Show how every node is.
    Status(StatusArgs),
    /// Say for each part of a command line whether it would leave this machine, and why; and what Claude Code makes of it by your
    /// permission rules.
    Explain(ExplainArgs),
    /// Look for what keeps cx from working; exits with 1 if something is broken.
    Doctor {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
        /// Of the nodes, look at this one only.
        #[arg(value_name = "NODE")]
        node: Option<String>,
    },
    /// Show what cx keeps on the nodes and here, and with a limit collect it.
    Gc(GcOptions),
    /// Put cx into an agent's settings, or take it out.
    #[command(subcommand)]
    Setup(SetupVerb),
    /// Print functions for a shell to evaluate, which send its heavy commands through cx.
    Init {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Bring a node's copy of this project up to date, without a run.
    Push {
        /// The nodes; by default those that have a copy, or else all.
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Get nodes ready for this project: connection, agent, an up-to-date copy.
    Warm {
        /// The nodes; by default all.
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Fetch files or directories of this project from the node that has them, ignored ones too.
    Pull {
        /// From this node; by default from the one used last that has them.
        #[arg(long, value_name = "NODE")]
        on: Option<String>,
        /// What to fetch.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<std::path::PathBuf>,
    },
    /// List, show, take or drop what nodes changed while it was changed here too.
    Conflicts {
        #[command(subcommand)]
        verb: Option<ConflictsVerb>,
    },
    /// Print the completions of cx's own commands and options, for a shell to read.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page of cx (`cx man | man -l -`), or of one of its commands.
    Man {
        /// The command: `run`, `nodes add`.
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Show the whole thing at work on a throw-away node on this machine.
    Demo,
    /// Allow nodes to run this project's set-up steps: installs by its lock files, and what its .cx.toml names.
    Trust {
        /// List what is trusted.
        #[arg(long, conflicts_with_all = ["remove", "yes"])]
        list: bool,
        /// Take it back for this project.
        #[arg(long, conflicts_with = "yes")]
        remove: bool,
        /// Ask nothing.
        #[arg(long)]
        yes: bool,
    },
    /// Keep everything on this machine until `cx on`.
    Off,
    /// Undo `cx off`.
    On,
    /// Answer Claude Code's hooks (reads JSON on stdin).
    Hook,
    /// Serve the cluster's tools to an agent (MCP on stdin and stdout).
    Mcp(McpArgs),
    /// Ask all nodes how they are, once, for the load table.
    #[command(hide = true)]
    Refresh {
        /// Only if nobody else is at it.
        #[arg(long)]
        once: bool,
        /// In a process of its own.
        #[arg(long)]
        detach: bool,
    },
    /// Keep the stream to a node's agent for the next run (cx starts it by itself).
    #[command(hide = true)]
    Hold {
        /// The node.
        node: String,
    },
    /// Serve as the agent of a node (started over ssh).
    #[command(hide = true)]
    Agent,
    #[command(external_subcommand)]
    Command(Vec<OsString>),
}

#[derive(Subcommand)]
enum ConflictsVerb {
    /// List them all.
    List,
    /// Show how the node's version differs from what stands here.
    Show {
        /// The run, as listed.
        id: String,
    },
    /// Put the node's version in place of what stands here.
    Take {
        /// The run, as listed.
        id: String,
        /// Only these, from the top of the project.
        #[arg(value_name = "PATH")]
        paths: Vec<std::path::PathBuf>,
    },
    /// Forget the node's version.
    Drop {
        /// The run, as listed.
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// All of them.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Run on this node and nowhere else.
    #[arg(long, value_name = "NODE")]
    on: Option<String>,
    /// Run on a node with this operating system (linux, darwin).
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// Run on a node with this architecture (x86_64, arm64).
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Run here.
    #[arg(long, conflicts_with_all = ["on", "os", "arch", "require_remote"])]
    local: bool,
    /// Exit with 76 instead of running here.
    #[arg(long)]
    require_remote: bool,
    /// Let it go on without cx as soon as it has started; prints its id.
    #[arg(long, conflicts_with_all = ["local", "detach_at"])]
    detach: bool,
    /// Let it go on without cx if it takes longer than this; cx then exits with 77.
    #[arg(long, value_name = "SECS")]
    detach_at: Option<u32>,
    /// Do not say where it ran.
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

#[derive(Subcommand)]
enum NodesVerb {
    /// Check a node, install the agent there, and add it to the config.
    Add {
        /// Ask nothing.
        #[arg(long)]
        yes: bool,
        /// Names that ssh resolves.
        #[arg(required = true, value_name = "ALIAS")]
        aliases: Vec<String>,
    },
    /// Take a node out of the config.
    Remove {
        /// Free what lies on the node, too.
        #[arg(long)]
        purge: bool,
        /// The node.
        #[arg(value_name = "ALIAS")]
        alias: String,
    },
    /// List the configured nodes.
    List {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct McpArgs {
    /// Give results as structured content, with output schemas, for programs.
    #[arg(long)]
    structured: bool,
    /// Answer after this time and let the command go on, for clients that give up on a call (55 for those that do at 60 s).
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    detach_after: Option<u64>,
}

#[derive(Args)]
struct StatusArgs {
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
    /// Ask all nodes first.
    #[arg(long)]
    refresh: bool,
}

#[derive(Args)]
struct ExplainArgs {
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
    /// A command line, as it would be typed.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

#[derive(Args)]
struct GcOptions {
    /// Collect what was not used for this long (14d, 12h, 90m).
    #[arg(long, value_name = "AGE", value_parser = crate::config::parse_age)]
    older: Option<u64>,
    /// Collect the oldest until each machine holds no more (10GB).
    #[arg(long, value_name = "SIZE", value_parser = crate::config::parse_size)]
    max_size: Option<u64>,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
    /// Only these nodes.
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
}

#[derive(Subcommand)]
enum SetupVerb {
    /// The hooks for Claude Code, in the user's settings, and the MCP server.
    Claude {
        /// How the commands come to cx.
        #[arg(long, value_enum, default_value_t, conflicts_with = "remove")]
        mode: setup::claude::Mode,
        /// Leave the client's MCP servers alone.
        #[arg(long)]
        no_mcp: bool,
        #[command(flatten)]
        wish: SetupArgs,
    },
    /// The hook for Gemini CLI, in the user's settings.
    Gemini {
        #[command(flatten)]
        wish: SetupArgs,
    },
}

#[derive(Args)]
struct SetupArgs {
    /// Take it out again.
    #[arg(long)]
    remove: bool,
    /// Ask nothing.
    #[arg(long)]
    yes: bool,
}

impl SetupArgs {
    fn wish(&self) -> Wish {
        Wish {
            remove: self.remove,
            yes: self.yes,
        }
    }
}

/// Runs cx.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os();
    // The hook's start is short, and the agent's is on every run's way: neither sees clap.
    match args.nth(1) {
        Some(a) if a == "hook" => {
            let rest: Vec<OsString> = args.collect();
            if !rest.iter().any(|a| a == "--help" || a == "-h") {
                return hook::main(&rest);
            }
        }
        Some(a) if a == "shim" => return shims::start(args.collect()),
        Some(a) if a == "mcp" => {
            let rest: Vec<OsString> = args.collect();
            if rest == ["keep"] {
                return mcp::keep();
            }
            if let Some(options) = mcp::options(rest.into_iter()) {
                return served(mcp::run(options));
            }
        }
        Some(a) if a == "hold" => return node::hold::main(&args.collect::<Vec<_>>()),
        Some(a) if a == "agent" => return agent::main(&args.collect::<Vec<_>>()),
        _ => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let status = match dispatch(cli.verb) {
        Ok(status) => status,
        // Whoever read our output has had enough.
        Err(e)
            if e.downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            0
        }
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "cx: {e:#}");
            if e.is::<Usage>() { 2 } else { 1 }
        }
    };
    ExitCode::from((status & 0xff) as u8)
}

/// The end of a personality that does without the argument parser.
fn served(end: anyhow::Result<ExitCode>) -> ExitCode {
    end.unwrap_or_else(|e| {
        let _ = writeln!(std::io::stderr(), "cx: {e:#}");
        ExitCode::FAILURE
    })
}

/// Wrong usage of cx itself, exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn dispatch(verb: Verb) -> anyhow::Result<i32> {
    let out = &mut std::io::stdout();
    match verb {
        Verb::Command(argv) => pipeline::run(request(argv, Demands::default())?),
        Verb::Run(a) => {
            let demands = Demands {
                on: a.on,
                os: a.os.map(|s| s.to_lowercase()),
                arch: a
                    .arch
                    .map(|s| crate::node::agents::platform_of(&format!("x {s}")).1),
                local: a.local,
                require_remote: a.require_remote || a.detach,
                quiet: a.quiet,
                spread: false,
                name: None,
                detach: match a.detach_at {
                    _ if a.detach => Some(Detach::AtOnce),
                    Some(s) => Some(Detach::At(Instant::now() + Duration::from_secs(s.into()))),
                    None => None,
                },
            };
            pipeline::run(request(a.command, demands)?)
        }
        Verb::Runs { json } => runs::list(json, out),
        Verb::Logs { follow, id } => runs::logs(&id, follow),
        Verb::Attach { id } => runs::attach(&id),
        Verb::Cancel { id } => runs::cancel(&id, out),
        Verb::Nodes(NodesVerb::Add { yes, aliases }) => {
            refuse_under_an_agent("cx nodes add")?;
            nodes::add(&aliases, yes, out)
        }
        Verb::Nodes(NodesVerb::Remove { purge, alias }) => {
            refuse_under_an_agent("cx nodes remove")?;
            nodes::remove(&alias, purge, out)
        }
        Verb::Nodes(NodesVerb::List { json }) => nodes::list(json, out),
        Verb::Status(a) => {
            if a.refresh {
                pipeline::refresh(Duration::from_secs(5))?;
            }
            status::print(a.json, out)
        }
        Verb::Explain(a) => pipeline::explain(&a.command.join(" "), a.json, out),
        Verb::Doctor { json, node } => doctor::run(node.as_deref(), json, out),
        Verb::Setup(SetupVerb::Gemini { wish }) => {
            setup::gemini::run(wish.wish(), out)?;
            Ok(0)
        }
        Verb::Setup(SetupVerb::Claude { mode, no_mcp, wish }) => {
            let wish = wish.wish();
            setup::claude::run(setup::claude::SetupArgs { wish, mode, no_mcp }, out)?;
            Ok(0)
        }
        Verb::Init { shell } => {
            shims::init(shell, out)?;
            Ok(0)
        }
        Verb::Completions { shell } => {
            // Written at once: the generator panics where nobody reads.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cx", &mut text);
            out.write_all(&text)?;
            Ok(0)
        }
        Verb::Man { command } => {
            man(&command, out)?;
            Ok(0)
        }
        Verb::Gc(a) => {
            let args = gc::GcArgs {
                nodes: a.nodes,
                older_ms: a.older,
                max_bytes: a.max_size,
                dry: a.dry_run,
                json: a.json,
            };
            gc::run(&args, out)
        }
        Verb::Push { nodes } => pipeline::push(&nodes, false, out),
        Verb::Warm { nodes } => pipeline::push(&nodes, true, out),
        Verb::Pull { on, paths } => pipeline::pull(&paths, on.as_deref(), out),
        Verb::Conflicts { verb } => {
            let paths = Paths::from_env()?;
            match verb.unwrap_or(ConflictsVerb::List) {
                ConflictsVerb::List => conflicts::list(&paths, out),
                ConflictsVerb::Show { id } => conflicts::show(&paths, &id, out),
                ConflictsVerb::Take { id, paths: only } => conflicts::take(&paths, &id, &only, out),
                ConflictsVerb::Drop { id, .. } => conflicts::forget(&paths, id.as_deref(), out),
            }
        }
        Verb::Demo => demo::run(out),
        Verb::Trust { list: true, .. } => trust::list(out),
        Verb::Trust { remove: true, .. } => trust::take_back(out),
        Verb::Trust { yes, .. } => {
            refuse_under_an_agent("cx trust")?;
            trust::give(yes, out)
        }
        Verb::Off => switch(true, out),
        Verb::On => switch(false, out),
        Verb::Hook => {
            anyhow::bail!("cx hook takes no arguments; Claude Code starts it and gives it JSON on stdin")
        }
        Verb::Mcp(a) => {
            mcp::run(mcp::Options {
                structured: a.structured,
                detach_after: a.detach_after.map(Duration::from_secs),
            })?;
            Ok(0)
        }
        Verb::Refresh { detach: true, .. } => {
            crate::table::detach();
            Ok(0)
        }
        Verb::Refresh { once, .. } => {
            let lock = crate::table::refresh_lock(&Paths::from_env()?);
            if lock.is_some() || !once {
                // Nobody waits: time enough for a first connection to a far node.
                pipeline::refresh(Duration::from_secs(15))?;
                let paths = Paths::from_env()?;
                gc::by_itself(&paths, crate::config::Config::load(&paths)?.gc.older_ms);
            }
            Ok(0)
        }
        Verb::Hold { .. } => anyhow::bail!("cx hold is started by cx itself"),
        Verb::Agent => anyhow::bail!("cx agent is started by cx itself on a node"),
    }
}

/// Writes the page of cx or of one of its commands, as troff.
fn man(path: &[String], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut page = Cli::command();
    page.build();
    for name in path {
        let found = page.find_subcommand(name).filter(|c| !c.is_hide_set()).cloned();
        page = found.ok_or_else(|| Usage(format!("there is no command `cx {}`", path.join(" "))))?;
    }
    Ok(clap_mangen::Man::new(page).render(&mut &mut *out)?)
}

fn request(argv: Vec<OsString>, demands: Demands) -> anyhow::Result<Request> {
    if let Some(first) = argv.first()
        && (first.is_empty() || first.as_encoded_bytes().starts_with(b"-"))
    {
        let shown = crate::node::printable(&first.to_string_lossy(), 80);
        return Err(Usage(format!(
            "{shown:?} is neither an option of cx nor a program; see `cx run --help`"
        ))
        .into());
    }
    Ok(Request {
        origin: origin(),
        argv,
        script: None,
        cwd: std::env::current_dir().unwrap_or_default(),
        demands,
    })
}

/// The door of a command that was started as a process.
pub fn origin() -> Origin {
    if under_an_agent() {
        Origin::Agent
    } else {
        Origin::Shell
    }
}

/// Variables that a coding agent sets for what it starts.
pub const AGENT_VARIABLES: [&str; 5] = [
    "CLAUDECODE",
    "CLAUDE_CODE_SESSION_ID",
    "CODEX_SANDBOX",
    "GEMINI_CLI",
    "CURSOR_AGENT",
];

/// Whether a coding agent's tool started this process.
pub fn under_an_agent() -> bool {
    AGENT_VARIABLES
        .iter()
        .any(|v| std::env::var_os(v).is_some_and(|x| !x.is_empty()))
}

/// What widens where commands may run is for a person to say.
fn refuse_under_an_agent(what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        !under_an_agent(),
        "`{what}` is for a person: run it in a terminal of your own, not through an agent"
    );
    Ok(())
}

fn switch(off: bool, out: &mut impl Write) -> anyhow::Result<i32> {
    let paths = Paths::from_env()?;
    let file = paths.off_file();
    if off {
        agent::private_dir(&paths.state)?;
        crate::paths::write_atomic(&file, b"", 0o600)?;
        writeln!(out, "everything stays on this machine until `cx on`")?;
    } else {
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => writeln!(out, "commands move to nodes again")?,
        }
    }
    Ok(0)
}

/// Asks a yes-or-no question on the terminal.
///
/// # Errors
/// When there is no terminal to ask on.
pub fn confirm(question: &str, how_else: &str) -> anyhow::Result<bool> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "{question} There is no terminal to ask on; {how_else}"
    );
    write!(std::io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_verbs_are_listed() {
        let mut verbs: Vec<String> = Cli::command()
            .get_subcommands()
            .map(|c| c.get_name().to_owned())
            .collect();
        verbs.sort();
        assert_eq!(verbs, VERBS);
    }
}
