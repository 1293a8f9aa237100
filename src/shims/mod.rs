//! Shell functions and PATH shims: the door for terminals (`cx init SHELL`), and the second one for Claude Code.
//!
//! The shell code lies in `shell/` as real files. Here its places are filled in, and a directory is kept with the
//! shims and the functions, named by its content: a shell that was started with an older one goes on with that.

mod start;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};

use crate::agent::private_dir;
use crate::cli::AGENT_VARIABLES;
use crate::config::Config;
use crate::hook::program;
use crate::paths::{self, Paths};
use crate::plan::rules::{PROGRAMS, UserClass, UserRule};
use crate::plan::shell::{Word, is_the_shells};
use crate::probe;

pub use start::main as start;

// The tools come first: once our own functions are there, it no longer shows at a glance whether the user has any.
const BASH: &str = concat!(
    include_str!("../../shell/define.bash"),
    include_str!("../../shell/functions.bash"),
    include_str!("../../shell/each.bash")
);
const ZSH: &str = concat!(
    include_str!("../../shell/functions.bash"),
    include_str!("../../shell/each.bash")
);
/// What a shell at which a person sits has besides.
const PROMPT: &str = include_str!("../../shell/prompt.bash");
/// What the commands of an agent have besides.
const LATER: &str = include_str!("../../shell/later.bash");
const FISH: &str = include_str!("../../shell/functions.fish");
const SHIM: &str = include_str!("../../shell/shim.sh");

/// Directories of other contents than today's are cleared away when nobody made them for this long.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What starts another command, which may be a tool.
const FRONTS: [&str; 4] = ["timeout", "nice", "nohup", "env"];

/// A shell that has functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Runs `cx init SHELL`: prints what the shell is to evaluate. The text does nothing where an agent started the shell: agents have
/// doors of their own, and one copies the functions of the rc files into every command.
///
/// # Errors
/// If this program cannot be named in text, or nobody reads.
pub fn init(shell: Shell, out: &mut dyn Write) -> anyhow::Result<()> {
    let paths = Paths::from_env()?;
    let program = own_program()?;
    let tools = tools(&paths);
    let dir = match keep(&paths, &program, &tools) {
        Ok(dir) => dir,
        // Without it the functions do what they can.
        Err(_) => place(&paths, &program, &tools),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let text = functions(shell, &program, &dir.join("bin"), &tools, &present(&tools, &path))?;
    let prompt = match shell {
        Shell::Fish => String::new(),
        _ => filled(PROMPT, &tools, &[]),
    };
    let agents: String = AGENT_VARIABLES
        .iter()
        .map(|v| match shell {
            Shell::Fish => format!("${v}"),
            _ => format!("${{{v}-}}"),
        })
        .collect();
    match shell {
        Shell::Fish => write!(out, "if builtin test -z \"{agents}\"\n{text}end\n")?,
        _ => write!(out, "if \\builtin test -z \"{agents}\"; then\n{text}{prompt}fi\n")?,
    }
    Ok(())
}

/// The text for the file that Claude Code puts in front of every command of a session, in bash and in zsh. Whatever is missing or
/// wrong when it runs, it is silent and succeeds. What is on `path` is looked for now: to look for every tool in every directory
/// before every command would cost each of them some milliseconds.
///
/// # Errors
/// If the functions cannot be written, or a path is no text.
pub fn for_claude(paths: &Paths, path: &OsStr) -> anyhow::Result<String> {
    let program = own_program()?;
    let dir = keep_for_claude(paths, &program, path)?;
    let dir = program::quote(dir.to_str().context("the path of cx's data is not UTF-8")?);
    Ok(format!(
        "# cx: heavy commands go to nodes (cx setup claude --mode shims)\n\
         case ${{ZSH_VERSION:+zsh}} in zsh) __cx_file={dir}/functions.zsh ;; *) __cx_file={dir}/functions.bash ;; esac\n\
         \\builtin test -n \"${{SANDBOX_RUNTIME-}}\" || \\builtin test ! -x {} || \\builtin test ! -r \"$__cx_file\" || \
         \\builtin . \"$__cx_file\" 2>/dev/null || \\builtin true\n",
        program::quote(&program),
    ))
}

/// Asks bash and zsh, where they are, whether they can read what [`for_claude`] gives them: an error in it would break every command
/// of a session.
///
/// # Errors
/// If one cannot, or the text cannot be made.
pub fn check_for_claude(paths: &Paths) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let text = for_claude(paths, &path)?;
    let dir = keep_for_claude(paths, &own_program()?, &path)?;
    for shell in ["bash", "zsh"] {
        let file = fs::read_to_string(dir.join(format!("functions.{shell}")))?;
        let check = Command::new(shell)
            .arg("-n")
            .arg("-c")
            .arg(text.clone() + &file)
            .output();
        if let Ok(found) = check {
            ensure!(
                found.status.success(),
                "{shell} cannot read the functions: {}",
                String::from_utf8_lossy(&found.stderr).trim()
            );
        }
    }
    Ok(())
}

fn own_program() -> anyhow::Result<String> {
    let path = program::lasting_path().context("cannot find out where this program lies")?;
    path.into_os_string()
        .into_string()
        .ok()
        .context("the path of this program is not UTF-8")
}

/// What gets a shim: what built-in rules know, and the programs of the user's own rules.
fn tools(paths: &Paths) -> Vec<String> {
    let rules = Config::load(paths).map(|c| c.rules).unwrap_or_default();
    let mut tools: Vec<String> = PROGRAMS.iter().map(|p| (*p).to_owned()).collect();
    tools.extend(rules.iter().flat_map(own_tools));
    tools.sort_unstable();
    tools.dedup();
    tools
}

fn own_tools(rule: &UserRule) -> Vec<String> {
    /// A function of this name would break a shell or our own.
    const NEVER: [&str; 8] = ["cx", "env", "kill", "print", "printf", "sh", "test", "timeout"];
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+.-".contains(&b);
    let fits = |name: &&String| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(plain)
            && !NEVER.contains(&name.as_str())
            && !is_the_shells(&[Word::from(name.as_str())])
    };
    if rule.class != UserClass::Heavy {
        return Vec::new();
    }
    rule.matches
        .iter()
        .filter_map(|m| m.first())
        .filter(fits)
        .cloned()
        .collect()
}

/// The functions for a shell on whose PATH those of the tools are that are `present`.
fn functions(
    shell: Shell,
    program: &str,
    shims: &Path,
    tools: &[String],
    present: &[&str],
) -> anyhow::Result<String> {
    let shims = shims.to_str().context("the path of cx's data is not UTF-8")?;
    let (text, quote): (_, fn(&str) -> String) = match shell {
        Shell::Bash => (BASH, program::quote),
        Shell::Zsh => (ZSH, program::quote),
        Shell::Fish => (FISH, quote_for_fish),
    };
    Ok(filled(text, tools, present)
        .replace("@SHIMS@", &quote(shims))
        .replace("@PROGRAM@", &quote(program)))
}

/// Puts the names of all tools, and of those that are there, into their places.
fn filled(text: &str, tools: &[String], present: &[&str]) -> String {
    let each = |name: &&str| {
        let way = if FRONTS.contains(name) { "front" } else { "tool" };
        format!("function {name} {{ \"${{__cx_{way}-command}}\" {name} \"$@\"; }}\n")
    };
    let all: Vec<&str> = tools.iter().map(String::as_str).chain(FRONTS).collect();
    text.replace(
        "            @FUNCTIONS@\n",
        &present.iter().map(each).collect::<String>(),
    )
    .replace("@TOOLS@", &all.join(" "))
    .replace("@PRESENT@", &present.join(" "))
}

/// The tools that are on `path`, and what starts tools. Each directory is read once: to look for every tool in every one of them
/// would take several times as long.
fn present<'a>(tools: &'a [String], path: &OsStr) -> Vec<&'a str> {
    let mut missing: BTreeSet<&str> = tools.iter().map(String::as_str).chain(FRONTS).collect();
    let mut found = BTreeSet::new();
    for dir in std::env::split_paths(path).filter(|d| d.is_absolute()) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some(name) = name.to_str().and_then(|n| missing.get(n)).copied()
                && probe::is_program(&entry.path())
            {
                missing.remove(name);
                found.insert(name);
            }
        }
    }
    found.into_iter().collect()
}

fn quote_for_fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

fn shim(program: &str) -> String {
    SHIM.replace("@PROGRAM@", &program::quote(program))
}

/// Where the directory for this program and these tools lies: a change of either, or of the shell code, makes another.
fn place(paths: &Paths, program: &str, tools: &[String]) -> PathBuf {
    let mut hash = blake3::Hasher::new();
    for part in [BASH, ZSH, LATER, SHIM, program]
        .into_iter()
        .chain(tools.iter().map(String::as_str))
    {
        hash.update(part.as_bytes());
        hash.update(b"\0");
    }
    paths.data.join("shims").join(&hash.finalize().to_hex()[..12])
}

/// The directory, made if it is not there: `bin/` with a link for each tool.
fn keep(paths: &Paths, program: &str, tools: &[String]) -> anyhow::Result<PathBuf> {
    let dir = place(paths, program, tools);
    if dir.join("bin").is_dir() {
        return Ok(dir);
    }
    let above = paths.data.join("shims");
    let fresh = above.join(format!(".new.{}.{:x}", std::process::id(), paths::nonce()));
    let made = make(&fresh, program, tools).and_then(|()| {
        match fs::rename(&fresh, &dir) {
            // Another cx was faster.
            Err(_) if dir.join("bin").is_dir() => fs::remove_dir_all(&fresh),
            done => done,
        }
        .map_err(Into::into)
    });
    if let Err(e) = made {
        let _ = fs::remove_dir_all(&fresh);
        return Err(e.context(format!("failed to make {}", dir.display())));
    }
    clear_old(&above, &dir, "");
    Ok(dir)
}

fn make(fresh: &Path, program: &str, tools: &[String]) -> anyhow::Result<()> {
    let bin = fresh.join("bin");
    private_dir(&bin)?;
    paths::write_atomic(&fresh.join("shim"), shim(program).as_bytes(), 0o700)?;
    for tool in tools {
        symlink("../shim", bin.join(tool))?;
    }
    Ok(())
}

/// The directory in the one of [`keep`] that has the functions for a `path`, named by it and by which of the tools are on it.
fn keep_for_claude(paths: &Paths, program: &str, path: &OsStr) -> anyhow::Result<PathBuf> {
    let tools = tools(paths);
    let above = keep(paths, program, &tools)?;
    let path_text = path.to_str().unwrap_or_default();
    let present = present(&tools, path);
    let key = blake3::hash(format!("{path_text}\n{present:?}").as_bytes()).to_hex();
    let dir = above.join(format!("on-{}", &key[..12]));
    let texts = [(Shell::Bash, "functions.bash"), (Shell::Zsh, "functions.zsh")];
    if texts.iter().all(|(_, name)| dir.join(name).is_file()) {
        return Ok(dir);
    }
    private_dir(&dir)?;
    for (shell, name) in texts {
        let later = filled(LATER, &tools, &[]).replace("@KNOWN@", &program::quote(&format!(":{path_text}:")));
        let text = functions(shell, program, &above.join("bin"), &tools, &present)? + &later;
        paths::write_atomic(&dir.join(name), text.as_bytes(), 0o600)?;
    }
    clear_old(&above, &dir, "on-");
    Ok(dir)
}

/// Removes the directories in `above` whose name begins with `start`, but for the current one and the young.
fn clear_old(above: &Path, current: &Path, start: &str) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(start.as_bytes()) {
            continue;
        }
        let made = entry.metadata().and_then(|m| m.modified()).ok();
        let age = made.and_then(|m| SystemTime::now().duration_since(m).ok());
        if entry.path() != current && age.is_some_and(|a| a > MAX_AGE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_directory_is_private_complete_and_made_once() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::under(home.path());
        let tools = ["make".to_owned(), "g++".to_owned()];
        let dir = keep(&paths, "/opt/it's/cx", &tools).unwrap();
        for d in [&dir, &dir.join("bin"), &paths.data.join("shims")] {
            assert_eq!(
                fs::metadata(d).unwrap().permissions().mode() & 0o777,
                0o700,
                "{}",
                d.display()
            );
        }
        assert_eq!(names(&dir), ["bin", "shim"]);
        assert_eq!(names(&dir.join("bin")), ["g++", "make"]);
        let made = fs::metadata(&dir).unwrap().modified().unwrap();
        assert_eq!(keep(&paths, "/opt/it's/cx", &tools).unwrap(), dir);
        assert_eq!(fs::metadata(&dir).unwrap().modified().unwrap(), made);
        let other = keep(&paths, "/opt/cx", &tools).unwrap();
        assert_ne!(other, dir);
        assert_eq!(
            names(&paths.data.join("shims")).len(),
            2,
            "the older one may be in use"
        );
    }

    #[test]
    fn a_place_that_cannot_be_made_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::under(home.path());
        fs::create_dir_all(&paths.data).unwrap();
        fs::write(paths.data.join("shims"), "").unwrap();
        assert!(keep(&paths, "/opt/cx", &["make".into()]).is_err());
        assert_eq!(names(&paths.data), ["shims"]);
    }

    #[test]
    fn every_text_is_one_that_the_shell_can_read() {
        let tools = tools(&Paths::under(Path::new("/nowhere")));
        for program in ["/opt/cx", "/a b/it's/\\$x`/cx"] {
            let shims = Path::new("/s h/'i'\\ms/bin");
            let path = std::env::var_os("PATH").unwrap();
            let more = filled(PROMPT, &tools, &[]) + &filled(LATER, &tools, &[]).replace("@KNOWN@", "':'");
            let present = present(&tools, &path);
            let of = |shell| functions(shell, program, shims, &tools, &present).unwrap();
            for (shell, text) in [
                ("bash", &(of(Shell::Bash) + &more)),
                ("zsh", &(of(Shell::Zsh) + &more)),
                ("fish", &of(Shell::Fish)),
                ("sh", &shim(program)),
            ] {
                for place in ["@PROGRAM@", "@TOOLS@", "@PRESENT@", "@FUNCTIONS@", "@SHIMS@"] {
                    assert!(!text.contains(place), "{shell}: {place}");
                }
                let out = Command::new(shell).args(["-n", "-c", text]).output();
                let out = out.unwrap_or_else(|e| panic!("{shell}: {e}; tests/run.sh --needs installs it"));
                assert!(out.status.success() && out.stderr.is_empty(), "{shell}: {out:?}");
            }
        }
    }

    #[test]
    fn the_functions_for_claude_follow_what_is_on_path() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::under(home.path());
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let text = || {
            let dir = keep_for_claude(&paths, "/opt/cx", bin.as_os_str()).unwrap();
            let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
            (read("functions.bash"), read("functions.zsh"))
        };
        let before = text();
        assert!(!before.0.contains("function pnpm"));
        fs::write(bin.join("pnpm"), "").unwrap();
        assert_eq!(text(), before, "it is no program");
        fs::set_permissions(bin.join("pnpm"), fs::Permissions::from_mode(0o755)).unwrap();
        let after = text();
        assert!(after.0.contains("function pnpm {"), "{}", after.0);
        assert_ne!(after.1, before.1);
        fs::remove_file(bin.join("pnpm")).unwrap();
        assert_eq!(text(), before);
    }

    #[test]
    fn programs_of_own_heavy_rules_are_tools_too() {
        let rule = |class, name: &str| UserRule {
            class,
            matches: vec![vec![name.to_owned(), "x".to_owned()]],
            ..UserRule::default()
        };
        assert_eq!(own_tools(&rule(UserClass::Heavy, "codegen")), ["codegen"]);
        for name in [
            "a b", "", "-x", "$(x)", "test", "cx", "./x", "cd", "unset", "printf",
        ] {
            assert_eq!(own_tools(&rule(UserClass::Heavy, name)), [""; 0], "{name}");
        }
        assert_eq!(own_tools(&rule(UserClass::Light, "codegen")), [""; 0]);
    }
}
