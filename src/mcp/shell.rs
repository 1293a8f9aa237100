//! One text in one shell on this machine, as the client's own shell tool would run it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::run::Order;
use crate::request::Ending;

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked whether something is left of a group that was told to end.
const LOOK: Duration = Duration::from_millis(20);

/// After the shell's own end its output is read on for this long after the last byte: a background child that holds the pipe does
/// not hold the call.
const STRAY: Duration = Duration::from_millis(250);

/// The user's shell where it is bash or zsh, which the client's shell tool would take, else bash, else whatever sh is.
pub fn program() -> PathBuf {
    let own = std::env::var_os("SHELL").map(PathBuf::from).unwrap_or_default();
    let name = own.file_name().unwrap_or_default();
    if (name == "bash" || name == "zsh") && own.is_file() {
        return own;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    crate::probe::find_program(OsStr::new("bash"), &path).unwrap_or_else(|| "/bin/sh".into())
}

/// Agents, and those that sell models to them: what of theirs looks like a secret by its name is what an agent logs in with.
const AGENTS: [&str; 29] = [
    "AI_GATEWAY_",
    "AIDER_",
    "AMP_",
    "AZURE_OPENAI_",
    "CEREBRAS_",
    "CLAUDE",
    "CODEX_",
    "COHERE_",
    "COPILOT_",
    "CURSOR_",
    "DASHSCOPE_",
    "DEEPSEEK_",
    "FIREWORKS_",
    "GEMINI_",
    "GOOSE_",
    "GROQ_",
    "LITELLM_",
    "MCP_",
    "MISTRAL_",
    "MOONSHOT_",
    "OPENAI_",
    "OPENCODE_",
    "OPENROUTER_",
    "PERPLEXITY_",
    "QWEN_",
    "TOGETHER_",
    "VERTEX_",
    "XAI_",
    "ZAI_",
];

/// The same among the names of clouds, whose other secrets are the project's: Claude Code's for Bedrock, Gemini CLI's for Vertex, and
/// the one of the AI SDK that others are built on.
const OF_CLOUDS: [&str; 3] = [
    "AWS_BEARER_TOKEN_BEDROCK",
    "GOOGLE_API_KEY",
    "GOOGLE_GENERATIVE_AI_API_KEY",
];

/// Whether a variable is the agent's own secret, which its commands have no use for.
fn is_agents_secret(name: &str, value: &str) -> bool {
    const WORDS: [&str; 6] = ["TOKEN", "KEY", "SECRET", "AUTH", "CREDENTIAL", "PASSWORD"];
    let upper = name.to_ascii_uppercase();
    let is_agents = AGENTS.iter().any(|a| upper.starts_with(a));
    upper.starts_with("ANTHROPIC_")
        || is_agents && WORDS.iter().any(|w| upper.contains(w))
        || OF_CLOUDS.contains(&upper.as_str())
        || value.starts_with("sk-ant-")
}

/// This process's environment without the agent's secrets, and with `more`.
pub fn environment(more: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(n, v)| !is_agents_secret(&n.to_string_lossy(), &v.to_string_lossy()))
        .filter(|(n, _)| !more.iter().any(|(m, _)| m == n))
        .chain(more.iter().cloned())
        .collect()
}

/// Runs `text` in this process's environment to its end, or until an order ends it.
///
/// # Errors
/// When no shell can be started.
pub async fn run(
    text: &str,
    cwd: &Path,
    mut output_to: impl AsyncFnMut(&[u8]),
    orders: &mut mpsc::Receiver<Order>,
) -> io::Result<Ending> {
    // One pipe, so that the order of both streams holds.
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut command = tokio::process::Command::new(program());
    command
        .arg("-c")
        .arg(text)
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::from(write.try_clone()?))
        .stderr(Stdio::from(write));
    #[expect(unsafe_code, reason = "a session of its own, which ends with this process")]
    // SAFETY: between fork and exec only system calls that may be made there are made, and no memory is allocated.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            #[cfg(target_os = "linux")]
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    // The parent's copies of the writing end are in the command: without them the end of output is seen.
    drop(command);
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut guard = Group(group);
    let mut output = pipe::Receiver::from_owned_fd(read)?;
    let mut buf = vec![0; 64 << 10];
    let never = Instant::now() + Duration::from_secs(365 * 24 * 3600);
    let (mut open, mut kill_at, mut stray_at) = (true, never, never);
    let (mut told, mut ended) = (false, None);
    loop {
        tokio::select! {
            n = output.read(&mut buf), if open => match n {
                Ok(n) if n > 0 => {
                    output_to(&buf[..n]).await;
                    if ended.is_some() {
                        stray_at = Instant::now() + STRAY;
                    }
                }
                _ => open = false,
            },
            status = child.wait(), if ended.is_none() => {
                ended = Some(status?);
                stray_at = Instant::now() + STRAY;
                if !told {
                    // A command that ends by itself may leave children behind.
                    guard.0 = None;
                }
            }
            Some(order) = orders.recv() => {
                let signal = Signal::from_named_raw(order.signal()).unwrap_or(Signal::TERM);
                kill(group, signal);
                told = true;
                kill_at = kill_at.min(Instant::now() + GRACE);
            }
            () = tokio::time::sleep_until(kill_at) => {
                kill(group, Signal::KILL);
                guard.0 = None;
                kill_at = never;
            }
            // One that was told to end leaves nothing: what is left of its group has its time, too.
            () = tokio::time::sleep(LOOK), if told && ended.is_some() && guard.0.is_some() => {
                if group.is_none_or(|g| test_kill_process_group(g).is_err()) {
                    guard.0 = None;
                }
            }
            () = tokio::time::sleep_until(stray_at) => open = false,
        }
        if let Some(status) = ended.filter(|_| !open && guard.0.is_none()) {
            return Ok(status.into());
        }
    }
}

fn kill(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        let _ = kill_process_group(group, signal);
    }
}

/// The processes of a shell that is still running. Whoever lets go of it ends them.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        let Some(group) = self.0 else { return };
        kill(self.0, Signal::TERM);
        // This process is about to end, and they may take a moment: another one waits for them.
        let _ = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 2; kill -s KILL -- -$0 2>/dev/null"])
            .arg(group.as_raw_nonzero().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(text: &str, order_after: Option<u64>) -> (Ending, String) {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ending = runtime.block_on(async {
            let (tx, mut rx) = mpsc::channel(1);
            if let Some(ms) = order_after {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    let _ = tx.send(Order::Cancel).await;
                });
            }
            let to = async |data: &[u8]| output.extend_from_slice(data);
            run(text, dir.path(), to, &mut rx).await.unwrap()
        });
        (ending, String::from_utf8(output).unwrap())
    }

    #[test]
    fn it_ends_as_the_text_says() {
        assert_eq!(
            sh("echo a; echo b >&2; exit 7", None),
            (Ending::Code(7), "a\nb\n".into())
        );
        assert_eq!(sh("kill -9 $$", None).0, Ending::Signal(9));
        assert_eq!(sh("cat; echo end", None), (Ending::Code(0), "end\n".into()));
        assert_eq!(
            sh("sleep 30 & echo done", None),
            (Ending::Code(0), "done\n".into())
        );
    }

    #[test]
    fn an_order_ends_it_with_all_its_children() {
        assert_eq!(sh("sleep 30 | sleep 30", Some(50)).0, Ending::Signal(15));
        let (ending, _) = sh("trap 'echo got it' TERM; while :; do sleep 0.1; done", Some(200));
        assert_eq!(ending, Ending::Signal(9));
        // The shell heeds what its child does not.
        let text = "sh -c 'trap : TERM; echo $$; while :; do sleep 0.1; done'; true";
        let (ending, output) = sh(text, Some(300));
        assert_eq!(ending, Ending::Signal(15));
        let child = Pid::from_raw(output.lines().next().unwrap().parse().unwrap()).unwrap();
        let begun = std::time::Instant::now();
        // Killed, and gone as soon as whoever inherited it has looked.
        while rustix::process::test_kill_process(child).is_ok() {
            assert!(begun.elapsed().as_secs() < 30, "{output} still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn only_the_agents_secrets_are_kept_back() {
        for (name, value, secret) in [
            ("ANTHROPIC_API_KEY", "x", true),
            ("ANTHROPIC_BASE_URL", "x", true),
            ("CLAUDE_CODE_OAUTH_TOKEN", "x", true),
            ("OPENAI_API_KEY", "x", true),
            ("X", "sk-ant-api03-x", true),
            ("AWS_BEARER_TOKEN_BEDROCK", "x", true),
            ("GOOGLE_API_KEY", "x", true),
            ("GOOGLE_GENERATIVE_AI_API_KEY", "x", true),
            ("GEMINI_API_KEY", "x", true),
            ("VERTEX_API_KEY", "x", true),
            ("OPENROUTER_API_KEY", "x", true),
            ("AZURE_OPENAI_API_KEY", "x", true),
            ("CLAUDE_CODE_CLIENT_KEY_PASSPHRASE", "x", true),
            ("AWS_ACCESS_KEY_ID", "x", false),
            ("AWS_SECRET_ACCESS_KEY", "x", false),
            ("AWS_SESSION_TOKEN", "x", false),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/x", false),
            ("AZURE_CLIENT_SECRET", "x", false),
            ("OPENAI_BASE_URL", "x", false),
            ("HF_TOKEN", "x", false),
            ("STRIPE_API_KEY", "x", false),
            ("CLAUDECODE", "1", false),
            ("CLAUDE_PROJECT_DIR", "/p", false),
            ("GITHUB_TOKEN", "ghp_x", false),
            ("PATH", "/bin", false),
        ] {
            assert_eq!(is_agents_secret(name, value), secret, "{name}");
        }
    }
}
