//! The client that started the hook: the arguments it was given that decide about permissions.

/// Those arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientArgs {
    /// Values of `--settings`: a path or JSON.
    pub settings: Vec<String>,
    /// Values of `--managed-settings`: a path or JSON.
    pub managed: Vec<String>,
    /// The settings files that it reads, where `--setting-sources` names them: `user`, `project`, `local`.
    pub sources: Option<Vec<String>>,
    /// Rules of `--disallowedTools`.
    pub disallowed: Vec<String>,
    /// Rules of `--allowedTools`.
    pub allowed: Vec<String>,
    /// Directories of `--add-dir`.
    pub directories: Vec<String>,
    /// It runs without a person (`-p`), and nothing else answers its questions.
    pub headless: bool,
    /// A person sees it on a terminal.
    pub on_terminal: bool,
    /// Its process id, if it was found.
    pub pid: Option<u32>,
}

impl ClientArgs {
    /// Whether the client reads the settings of `source`.
    pub fn reads(&self, source: &str) -> bool {
        let named = |list: &Vec<String>| list.iter().any(|s| s == source);
        self.sources.as_ref().is_none_or(named)
    }
}

/// Reads an argument vector, with the program in front. An option that is not known is passed over; what might be one
/// of ours is taken for it.
pub fn parse(argv: &[String]) -> ClientArgs {
    let mut out = ClientArgs::default();
    let (mut print, mut answered, mut nobody, mut restricted) = (false, false, false, false);
    let mut args = argv.iter().skip(1).peekable();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if arg.starts_with("--") => (name, Some(value)),
            _ => (arg.as_str(), None),
        };
        match name {
            "-p" | "--print" => print = true,
            "--permission-prompt-tool" => answered = true,
            "--settings" | "--managed-settings" | "--setting-sources" | "--permission-prompts" => {
                let Some(value) = inline.map(str::to_owned).or_else(|| args.next().cloned()) else {
                    continue;
                };
                match name {
                    "--settings" => out.settings.push(value),
                    "--managed-settings" => out.managed.push(value),
                    "--permission-prompts" => nobody |= value == "none",
                    _ if restricted => {}
                    _ => out.sources = Some(value.split(',').map(|s| s.trim().to_owned()).collect()),
                }
            }
            "--restricted" => {
                restricted = true;
                out.sources = Some(Vec::new());
            }
            "--disallowedTools" | "--disallowed-tools" | "--allowedTools" | "--allowed-tools" => {
                let list = if name.starts_with("--d") {
                    &mut out.disallowed
                } else {
                    &mut out.allowed
                };
                list.extend(inline.into_iter().flat_map(rules_of));
                // Takes any number of values.
                while let Some(value) = args.next_if(|a| !a.starts_with("--")) {
                    list.extend(rules_of(value));
                }
            }
            "--add-dir" => {
                out.directories.extend(inline.map(str::to_owned));
                while let Some(value) = args.next_if(|a| !a.starts_with('-')) {
                    out.directories.push(value.clone());
                }
            }
            _ => {}
        }
    }
    out.headless = print && (!answered || nobody);
    out
}

/// The rules of one value: separated by commas or blanks, outside parentheses.
fn rules_of(value: &str) -> Vec<String> {
    let mut depth = 0;
    let rules = value.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth <= 0 && (c == ',' || c.is_whitespace())
    });
    rules.filter(|r| !r.is_empty()).map(str::to_owned).collect()
}

/// The client's arguments; `None` if they should be visible and are not. `claude_pid` is the value of `CLAUDE_PID`.
#[cfg(target_os = "linux")]
pub fn args(claude_pid: Option<u32>) -> Option<ClientArgs> {
    /// Processes between the hook and the client at most: a shell, `env`, a wrapper.
    const MAX_STEPS: usize = 6;
    if let Some(pid) = claude_pid {
        return Some(of_process(pid, &cmdline(pid)?));
    }
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..MAX_STEPS {
        if pid <= 1 {
            break;
        }
        let Some(argv) = cmdline(pid) else { break };
        if argv
            .iter()
            .take(2)
            .any(|a| a.to_ascii_lowercase().contains("claude"))
        {
            return Some(of_process(pid, &argv));
        }
        let Some(parent) = parent_of(pid) else { break };
        pid = parent;
    }
    Some(ClientArgs::default())
}

#[cfg(target_os = "linux")]
fn of_process(pid: u32, argv: &[String]) -> ClientArgs {
    let parsed = parse(argv);
    let output = std::fs::read_link(format!("/proc/{pid}/fd/1"));
    let is_terminal = output.is_ok_and(|o| o.starts_with("/dev/pts") || o.starts_with("/dev/tty"));
    let prints = argv.iter().any(|a| a == "-p" || a == "--print");
    ClientArgs {
        pid: Some(pid),
        on_terminal: is_terminal && !prints,
        ..parsed
    }
}

/// Other systems show a process's arguments to `ps` only, which would be a process of its own.
#[cfg(not(target_os = "linux"))]
pub fn args(_claude_pid: Option<u32>) -> Option<ClientArgs> {
    Some(ClientArgs::default())
}

#[cfg(target_os = "linux")]
fn cmdline(pid: u32) -> Option<Vec<String>> {
    let bytes = read(pid, "cmdline")?;
    // A process that has ended, or is just starting, shows none.
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return None;
    }
    Some(
        bytes
            .split(|b| *b == 0)
            .map(|a| String::from_utf8_lossy(a).into_owned())
            .collect(),
    )
}

/// One of a process's files. It has no size beforehand: without room for all of it, it would be read in many small pieces.
#[cfg(target_os = "linux")]
fn read(pid: u32, name: &str) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::with_capacity(4 << 10);
    let mut file = std::fs::File::open(format!("/proc/{pid}/{name}")).ok()?;
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(target_os = "linux")]
pub(super) fn parent_of(pid: u32) -> Option<u32> {
    let stat = String::from_utf8_lossy(&read(pid, "stat")?).into_owned();
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> ClientArgs {
        parse(&line.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_headless_call() {
        let got = parsed(&[
            "claude",
            "-p",
            "go",
            "--settings",
            "/x/s.json",
            "--disallowedTools",
            "Bash(git push:*)",
            "Bash(rm:*) Edit",
            "--model",
            "m",
            "--settings={\"a\":1}",
            "--allowed-tools=Bash(a b),Read",
            "Edit",
        ]);
        assert_eq!(got.settings, ["/x/s.json", "{\"a\":1}"]);
        assert_eq!(got.disallowed, ["Bash(git push:*)", "Bash(rm:*)", "Edit"]);
        assert_eq!(got.allowed, ["Bash(a b)", "Read", "Edit"]);
        assert!(got.headless);
    }

    #[test]
    fn others() {
        assert_eq!(parsed(&["claude"]), ClientArgs::default());
        assert!(!parsed(&["claude", "--print", "--permission-prompt-tool", "stdio"]).headless);
        let asks_nobody = [
            "claude",
            "-p",
            "--permission-prompt-tool=x",
            "--permission-prompts",
            "none",
        ];
        assert!(parsed(&asks_nobody).headless);
        assert_eq!(parsed(&["claude", "--settings"]).settings, [""; 0]);
        let managed = parsed(&[
            "claude",
            "--managed-settings",
            "{}",
            "--setting-sources",
            "user,local",
        ]);
        assert_eq!(managed.managed, ["{}"]);
        let read = ["user", "project", "local"].map(|s| managed.reads(s));
        assert_eq!(read, [true, false, true]);
        let restricted = parsed(&["claude", "--restricted", "--setting-sources", "user"]);
        assert!(!restricted.reads("user"));
        assert_eq!(rules_of("Bash(a, b c),,X  Y)"), ["Bash(a, b c)", "X", "Y)"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_own_process_is_readable() {
        let pid = std::process::id();
        assert_eq!(cmdline(pid).unwrap(), std::env::args().collect::<Vec<_>>());
        assert_eq!(parent_of(pid), Some(std::os::unix::process::parent_id()));
        assert_eq!(args(Some(u32::MAX)), None);
    }
}
