//! `cx demo`: a throw-away node on this machine, a real project, and what cx does with them, told step by step.
//!
//! The user's own configuration, nodes and settings are neither read nor changed. Every claim in the text is checked
//! before it is made: a demo that shows something else than it says fails.

pub mod processes;
pub mod sshd;

mod sample;
mod stage;

use std::io::Write;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use sample::Sample;
use stage::{Node, Shown, Stage};

/// Runs the demo and tells it to `out`; 0 if all went as told, else 1.
///
/// # Errors
/// When `out` cannot be written, or a part of the stage cannot be set up: no cache directory, no free port.
pub fn run(out: &mut dyn Write) -> Result<i32> {
    let mut stage = Stage::set_up()?;
    // Told apart from a failure to set up: here cx itself did something else than it should.
    let told = tell(out, &mut stage);
    stage.take_down();
    match told {
        Ok(()) => {
            writeln!(
                out,
                "\nThe node, its processes and its files are gone again; your own configuration was not touched."
            )?;
            writeln!(out, "\nNext, with a machine that `ssh ALIAS` reaches:\n")?;
            writeln!(out, "    cx nodes add ALIAS     let cx use it")?;
            writeln!(out, "    cx make test           run something there")?;
            writeln!(
                out,
                "    cx setup claude        let Claude Code's heavy commands go there by themselves"
            )?;
            Ok(0)
        }
        Err(e) => {
            writeln!(out, "\nThe demo stops here: {e:#}.")?;
            writeln!(out, "The node, its processes and its files are gone again.")?;
            Ok(1)
        }
    }
}

fn tell(out: &mut dyn Write, stage: &mut Stage) -> Result<()> {
    say(
        out,
        "cx runs heavy commands on machines that ssh reaches, as if they had run here.",
    )?;

    heading(out, 1, "A node")?;
    node(out, stage)?;

    heading(out, 2, "A project")?;
    let sample = Sample::choose();
    let git = stage.write_project(&sample)?;
    say(out, &format!("{}:", sample.what))?;
    for (path, _) in sample.files {
        say(out, &format!("    {path}"))?;
    }
    if !git {
        say(
            out,
            "git is not installed here; its Makefile or the like tells cx where the project begins.",
        )?;
    }

    heading(out, 3, "Its tests, through the wrapper")?;
    let mut argv: Vec<&str> = sample.command.split(' ').collect();
    if !sample.heavy {
        // No rule calls a shell script heavy, and there is nothing else to run here.
        argv.splice(0..0, ["run", "--on", "demo", "--"]);
    }
    wrapper(out, stage, &sample, &argv)?;

    heading(out, 4, "Again after an edit, through the hook")?;
    say(
        out,
        &format!("One line of {} is changed, and now it is wrong.", sample.edit.0),
    )?;
    stage.edit(&sample)?;
    if sample.heavy {
        hook(out, stage, &sample)
    } else {
        say(
            out,
            "With neither make nor python3 here, there is no command that the hook would know as heavy:",
        )?;
        say(out, "the wrapper again.")?;
        let shown = show_cx(out, stage, &argv)?;
        failed_there(out, stage, &shown)
    }
}

fn node(out: &mut dyn Write, stage: &mut Stage) -> Result<()> {
    match stage.start_node()? {
        Node::Sshd { port } => {
            say(
                out,
                &format!(
                    "A throw-away sshd listens on 127.0.0.1, port {port}. It runs as you, accepts one key that was"
                ),
            )?;
            say(
                out,
                "made for it just now, and whoever logs in gets a home directory of its own:",
            )?;
            say(out, &format!("    {}", stage.node_home().display()))?;
            say(
                out,
                "So it is the same machine, but cx reaches it through ssh and finds nothing of yours there.",
            )?;
            let shown = show_cx(out, stage, &["nodes", "add", "--yes", "demo"])?;
            if shown.status != 0 {
                bail!("`cx nodes add` failed with exit status {}", shown.status);
            }
            say(
                out,
                "cx logged in, put its agent (itself) there, asked what the machine is, and noted it as a node.",
            )
        }
        Node::Embedded => {
            say(
                out,
                "There is no sshd here to start, so this node is an embedded one: cx starts its agent over a pipe instead of",
            )?;
            say(
                out,
                "through ssh, with a home directory of its own. All else is as on a real node.",
            )?;
            say(out, &format!("    {}", stage.node_home().display()))
        }
    }
}

fn wrapper(out: &mut dyn Write, stage: &mut Stage, sample: &Sample, argv: &[&str]) -> Result<()> {
    let shown = show_cx(out, stage, argv)?;
    if shown.status != 0 {
        bail!("the tests should have passed, and exited with {}", shown.status);
    }
    say(out, "What happened:")?;
    if !shown.text.contains(&*stage.node_home().to_string_lossy()) {
        bail!("the tests ran here and not on the node");
    }
    point(
        out,
        "it ran on the node: the home directory that the tests printed is the node's",
    )?;
    if let Some(line) = shown.report() {
        point(
            out,
            &format!("cx's one line says so too, with what it cost: {line}"),
        )?;
    }
    point(
        out,
        "the exit status, 0, is that of the command; output came as it was written",
    )?;
    if !stage.has(sample.report) {
        bail!("{} did not come back", sample.report);
    }
    point(
        out,
        &format!(
            "{}, which the tests wrote, came back: it lies in the project here",
            sample.report
        ),
    )
}

fn hook(out: &mut dyn Write, stage: &mut Stage, sample: &Sample) -> Result<()> {
    let command = format!("{} 2>&1 | tail -n 9", sample.command);
    say(
        out,
        "Before Claude Code runs a command, it shows it to `cx hook`, as JSON on its standard input:",
    )?;
    let request = json!({
        "session_id": "demo", "transcript_path": "", "cwd": stage.project(), "permission_mode": "default",
        "hook_event_name": "PreToolUse", "tool_name": "Bash",
        "tool_input": { "command": command, "description": "Run the tests" }, "tool_use_id": "demo",
    });
    say(
        out,
        &format!("    $ cx hook <<< '{{... \"command\": {:?} ...}}'", command),
    )?;
    let answer = stage.hook(&request.to_string())?;
    for line in answer.lines() {
        say(out, &format!("    | {line}"))?;
    }
    let answer: Value =
        serde_json::from_str(&answer).context("the hook should have answered with a rewritten command")?;
    let new = answer["hookSpecificOutput"]["updatedInput"]["command"]
        .as_str()
        .context("the hook's answer has no command")?;
    say(out, "What happened:")?;
    point(
        out,
        "the command is heavy, so the hook put `cx` in front of it, and changed no other byte",
    )?;
    point(
        out,
        "the pipe and `tail` stay with the shell here; what the hook does not understand, it leaves alone",
    )?;
    say(out, "Claude Code then runs the new text:")?;
    let shown = stage.shell(new)?;
    show(out, new, &shown)?;
    failed_there(out, stage, &shown)?;
    point(
        out,
        "the exit status of the line is that of `tail`, as it would be without cx",
    )
}

fn failed_there(out: &mut dyn Write, stage: &Stage, shown: &Shown) -> Result<()> {
    if !shown.text.contains(&*stage.node_home().to_string_lossy()) {
        bail!("the tests ran here and not on the node");
    }
    if !shown.text.contains("FAIL") {
        bail!("the edit did not reach the node: no test failed there");
    }
    say(out, "What happened:")?;
    point(
        out,
        "only the edited file went to the node; the rest was there already",
    )?;
    point(
        out,
        "a test fails there as it would here: a failing command is no failure of the node",
    )
}

fn heading(out: &mut dyn Write, number: u32, text: &str) -> Result<()> {
    Ok(writeln!(out, "\n{number}. {text}\n")?)
}

fn say(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn point(out: &mut dyn Write, text: &str) -> Result<()> {
    say(out, &format!("  - {text}"))
}

fn show_cx(out: &mut dyn Write, stage: &Stage, args: &[&str]) -> Result<Shown> {
    let shown = stage.cx(args)?;
    show(out, &format!("cx {}", args.join(" ")), &shown)?;
    Ok(shown)
}

fn show(out: &mut dyn Write, command: &str, shown: &Shown) -> Result<()> {
    say(out, &format!("\n    $ {command}"))?;
    for line in shown.text.lines() {
        say(out, &format!("    | {line}"))?;
    }
    say(out, "")
}
