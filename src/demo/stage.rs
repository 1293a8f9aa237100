//! The world that the demo plays in: one private directory with a home, a node, a project and a configuration.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::processes;
use super::sample::Sample;
use super::sshd::{self, Sshd};
use crate::request::Ending;

/// The demo's node is this very machine, and right after a build it may well be busy.
const POLICY: &str = "[policy]\nallow_overload = true\n";

/// What the node turned out to be.
pub(super) enum Node {
    /// A real sshd.
    Sshd {
        /// Where it listens.
        port: u16,
    },
    /// The agent over a pipe.
    Embedded,
}

/// What a command printed, both streams in the order of their writing, and its status as a shell shows it.
pub(super) struct Shown {
    pub text: String,
    pub status: i32,
}

impl Shown {
    /// The line in which cx told where it ran.
    pub fn report(&self) -> Option<&str> {
        self.text.lines().find(|l| l.starts_with("[cx]"))
    }
}

/// The directory and what lives in it. [`Stage::take_down`] (or a drop) ends and removes all of it.
pub(super) struct Stage {
    dir: PathBuf,
    exe: PathBuf,
    sshd: Option<Sshd>,
}

impl Stage {
    /// Makes the directory, below the user's cache directory, and clears away those of demos that were cut off.
    pub fn set_up() -> Result<Stage> {
        Stage::set_up_in(&cache_dir()?.join("cx"))
    }

    fn set_up_in(parent: &Path) -> Result<Stage> {
        let exe = env::current_exe().context("failed to find out where cx itself lies")?;
        private_dir(parent)?;
        clear_old(parent);
        // Short names: control sockets lie below, and the paths of sockets are limited to about a hundred bytes.
        let dir = parent.join(format!("demo.{}", std::process::id()));
        // One of the same process id is long dead.
        remove(&dir);
        let stage = Stage { dir, exe, sshd: None };
        private_dir(&stage.dir)?;
        for name in ["u", "r", "node", "node/home", "project"] {
            private_dir(&stage.dir.join(name))?;
        }
        Ok(stage)
    }

    /// Starts the node (`CX_DEMO_NODE=embedded`: as if there were no sshd) and writes a configuration that leads to it.
    pub fn start_node(&mut self) -> Result<Node> {
        let wanted = env::var_os("CX_DEMO_NODE").is_some_and(|v| v == "embedded");
        if wanted || sshd::find().is_none() {
            let home = self.node_home();
            self.write_private(
                "config.toml",
                &format!(
                    "nodes = [\"demo\"]\n{POLICY}[node.demo]\nembedded = {}\n",
                    quoted(&home)?
                ),
            )?;
            return Ok(Node::Embedded);
        }
        let key = self.dir.join("client_key");
        sshd::keygen(&key)?;
        // The tools of the project are where they are for the user.
        let path = env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into());
        let node = self.dir.join("node");
        let sshd = Sshd::start(&node, "127.0.0.1", &key.with_extension("pub"), &[("PATH", &path)])?;
        let known_hosts = self.dir.join("known_hosts");
        self.write_private("known_hosts", &sshd.known_host()?)?;
        self.write_private("ssh_config", &sshd.ssh_config("demo", &key, &known_hosts))?;
        let ssh_config = self.dir.join("ssh_config");
        self.write_private(
            "config.toml",
            &format!("{POLICY}[ssh]\nconfig = {}\n", quoted(&ssh_config)?),
        )?;
        let port = sshd.port();
        self.sshd = Some(sshd);
        Ok(Node::Sshd { port })
    }

    /// HOME of what runs on the node.
    pub fn node_home(&self) -> PathBuf {
        self.dir.join("node/home")
    }

    /// The project's directory.
    pub fn project(&self) -> PathBuf {
        self.dir.join("project")
    }

    /// Writes the sample's files, in a git repository if there is git; whether there is.
    pub fn write_project(&self, sample: &Sample) -> Result<bool> {
        for (path, text) in sample.files {
            let path = self.project().join(path);
            fs::create_dir_all(path.parent().context("files lie in the project")?)?;
            fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        }
        let who = ["-c", "user.name=cx demo", "-c", "user.email=demo@localhost"];
        for args in [
            &["init", "-q"][..],
            &["add", "-A"],
            &["commit", "-q", "-m", "A small project"],
        ] {
            let mut git = self.command("git");
            let Ok(out) = git.args(who).args(args).output() else {
                return Ok(false);
            };
            if !out.status.success() {
                bail!(
                    "git {} failed: {}",
                    args.join(" "),
                    String::from_utf8_lossy(&out.stderr).trim()
                );
            }
        }
        Ok(true)
    }

    /// Makes the sample's edit.
    pub fn edit(&self, sample: &Sample) -> Result<()> {
        let (path, right, wrong) = sample.edit;
        let path = self.project().join(path);
        let text = fs::read_to_string(&path)?;
        Ok(fs::write(path, text.replace(right, wrong))?)
    }

    /// Whether the project has this file here.
    pub fn has(&self, path: &str) -> bool {
        self.project().join(path).exists()
    }

    /// Runs this very cx in the project.
    pub fn cx(&self, args: &[&str]) -> Result<Shown> {
        self.show(self.command(&self.exe).args(args))
    }

    /// Runs a line of shell in the project.
    pub fn shell(&self, line: &str) -> Result<Shown> {
        self.show(self.command("sh").args(["-c", line]))
    }

    /// Asks the hook; what it prints.
    pub fn hook(&self, request: &str) -> Result<String> {
        let mut hook = self.command(&self.exe);
        let mut child = hook
            .arg("hook")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // It is told before it is asked for its answer: a few hundred bytes fit any pipe.
        child
            .stdin
            .take()
            .context("it is piped")?
            .write_all(request.as_bytes())?;
        let out = child.wait_with_output()?;
        Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
    }

    /// Ends all processes and removes all files.
    pub fn take_down(&mut self) {
        // Clients first, or they would see their node die and say so.
        processes::end_with_home(&self.dir.join("u"));
        self.sshd = None;
        processes::end_with_home(&self.node_home());
        remove(&self.dir);
        // Only if this demo was the first that needed it, and it is empty.
        let _ = self.dir.parent().map(fs::remove_dir);
    }

    /// A command in the project, with the demo's environment: nothing of the user's configuration, variables or rules.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .current_dir(self.project())
            .stdin(Stdio::null());
        for name in ["LANG", "LC_ALL", "LC_CTYPE", "SHELL", "USER", "LOGNAME", "TMPDIR"] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        // The rewritten command must find this cx first, not one that happens to be installed.
        let mut path = OsString::from(self.exe.parent().unwrap_or(Path::new("/")));
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        command
            .env("PATH", path)
            .env("HOME", self.dir.join("u"))
            .env("CX_CONFIG", self.dir.join("config.toml"))
            .env("XDG_CONFIG_HOME", self.dir.join("u"))
            .env("XDG_CACHE_HOME", self.dir.join("u"))
            .env("XDG_STATE_HOME", self.dir.join("u/s"))
            .env("XDG_RUNTIME_DIR", self.dir.join("r"));
        command
    }

    /// Runs a command with both streams into one file: whatever it leaves behind may hold that open, and a pipe's
    /// end would have to be waited for.
    fn show(&self, command: &mut Command) -> Result<Shown> {
        let path = self.dir.join("shown");
        let _ = fs::remove_file(&path);
        let file = fs::File::options().create(true).append(true).open(&path)?;
        let status = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("failed to start {:?}", command.get_program()))?;
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        Ok(Shown {
            text,
            status: Ending::from(status).shell_status(),
        })
    }

    fn write_private(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o600))?)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.take_down();
    }
}

fn cache_dir() -> Result<PathBuf> {
    let absolute = |p: &PathBuf| p.is_absolute();
    let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(absolute);
    let home = || {
        env::var_os("HOME")
            .map(PathBuf::from)
            .filter(absolute)
            .map(|h| h.join(".cache"))
    };
    named
        .or_else(home)
        .context("neither HOME nor XDG_CACHE_HOME is set: there is no place for the demo's files")
}

fn private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("failed to create {}", path.display()))
}

/// Clears away what demos that were cut off (^C, a crash) have left.
fn clear_old(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|n| n.strip_prefix("demo."))
            .and_then(|n| n.parse().ok())
        else {
            continue;
        };
        let lives = rustix::process::Pid::from_raw(pid)
            .is_some_and(|p| rustix::process::test_kill_process(p).is_ok());
        if !lives {
            remove(&entry.path());
        }
    }
}

/// Ends what has its home in a demo's directory, and removes it.
fn remove(dir: &Path) {
    for home in ["u", "node/home"] {
        processes::end_with_home(&dir.join(home));
    }
    // A process that was just killed may be writing still; once more is enough.
    if fs::remove_dir_all(dir).is_err() {
        let _ = fs::remove_dir_all(dir);
    }
}

/// A path as a TOML string.
fn quoted(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(toml::Value::String(text.into()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_has_a_node_that_ssh_reaches_and_goes_without_a_trace() {
        // Short, for the sake of control sockets.
        let top = tempfile::tempdir().unwrap();
        let parent = top.path().join("cx");
        fs::create_dir_all(parent.join("demo.2147483646/u")).unwrap();
        let mut stage = Stage::set_up_in(&parent).unwrap();
        assert!(!parent.join("demo.2147483646").exists(), "an old stage was left");
        match stage.start_node().unwrap() {
            Node::Embedded => assert!(sshd::find().is_none()),
            Node::Sshd { .. } => {
                let ssh = "ssh -F ../ssh_config demo 'echo $HOME; sleep 3000 >/dev/null 2>&1 &'; exit 7";
                let shown = stage.shell(ssh).unwrap();
                assert_eq!(shown.text, format!("{}\n", stage.node_home().display()));
                assert_eq!(shown.status, 7);
            }
        }
        assert!(stage.write_project(&Sample::choose()).is_ok());
        let home = stage.node_home();
        stage.take_down();
        assert!(processes::with_home(&home).is_empty());
        assert!(!parent.exists());
    }
}
