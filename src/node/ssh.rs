//! ssh sessions over masters that all cx processes of this user share.
//!
//! A master (`ssh -M`) is started by whichever cx needs it first, under a lock, and stays for some minutes after the last
//! session. Sessions are opened by speaking the multiplexing protocol to its socket (`openssh`'s native-mux), which costs
//! no process. sshd allows ten sessions a connection (MaxSessions); past that a further master is started.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use openssh::{ChildStderr, ChildStdin, ChildStdout, Session};
use rustix::fs::FlockOperation;
use tokio::time::{Instant, timeout_at};

use super::{LinkError, printable};
use crate::paths::Paths;

/// Masters per node: sshd's default of ten sessions each makes room for 160 at once.
const MAX_MASTERS: u32 = 16;

/// How long an idle master stays, in seconds.
const PERSIST: u32 = 600;

/// How long a standing connection may take to open a session: two round trips.
const STANDING: Duration = Duration::from_millis(1500);

/// One session: the three pipes of a command on the node. Dropping them ends it.
pub struct Pipes {
    /// Its standard input.
    pub stdin: ChildStdin,
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
    /// Keeps the session's place in the master.
    pub session: openssh::Child<std::sync::Arc<Session>>,
}

/// How to reach a node by ssh.
#[derive(Clone, Debug)]
pub struct Ssh {
    alias: String,
    config: Option<PathBuf>,
    ctl: PathBuf,
}

/// What came of asking one master for a session.
enum Opened {
    Yes(Box<Pipes>),
    /// No master answers at this socket.
    NoMaster,
    /// The master can't take a further session.
    Full,
}

impl Ssh {
    /// To the node `alias`, with the user's ssh configuration or the one named in the config.
    ///
    /// # Errors
    /// When there is no directory short enough for the sockets.
    pub fn new(alias: &str, config: Option<&Path>, paths: &Paths) -> Result<Ssh, LinkError> {
        let ctl = paths.ctl_dir().map_err(|e| LinkError::Here(format!("{e:#}")))?;
        Ok(Ssh {
            alias: alias.to_owned(),
            config: config.map(Path::to_owned),
            ctl,
        })
    }

    /// The socket of this node's master `n`.
    fn socket(&self, n: u32) -> PathBuf {
        self.ctl
            .join(format!("{}-{n}", &self.key().finalize().to_hex()[..16]))
    }

    /// The socket of the holder `n` of this node's standing stream to the agent of `build`.
    pub fn hold_socket(&self, build: &str, n: u32) -> PathBuf {
        let mut h = self.key();
        h.update(&[0]);
        h.update(build.as_bytes());
        self.ctl.join(format!("{}-h{n}", &h.finalize().to_hex()[..16]))
    }

    /// What tells this node, reached this way, from others.
    fn key(&self) -> blake3::Hasher {
        let mut h = blake3::Hasher::new();
        h.update(self.alias.as_bytes());
        h.update(&[0]);
        if let Some(c) = &self.config {
            h.update(c.as_os_str().as_encoded_bytes());
        }
        h
    }

    /// Opens a session that runs `command` (a line for the node's login shell).
    ///
    /// # Errors
    /// When the node can't be reached by `deadline`, the login fails, or the key is not known.
    pub async fn open(&self, command: &str, deadline: Instant) -> Result<Pipes, LinkError> {
        for n in 0..MAX_MASTERS {
            let socket = self.socket(n);
            // A master that has just been found dead is replaced once; then it is the node's fault.
            for _ in 0..3 {
                let limit = deadline.min(Instant::now() + STANDING);
                match timeout_at(limit, self.ask(&socket, command)).await {
                    Ok(Opened::Yes(pipes)) => return Ok(*pipes),
                    Ok(Opened::Full) => break,
                    Ok(Opened::NoMaster) => self.start(&socket, deadline).await?,
                    // The connection may be dead while the node is not: a laptop that slept, another network.
                    Err(_) if Instant::now() < deadline => self.forget(&socket),
                    Err(_) => {
                        self.forget(&socket);
                        return Err(LinkError::Unreachable("connection timed out".into()));
                    }
                }
            }
        }
        Err(LinkError::Unreachable(format!(
            "all {MAX_MASTERS} connections are full or break at once"
        )))
    }

    async fn ask(&self, socket: &Path, command: &str) -> Opened {
        if !socket.exists() {
            return Opened::NoMaster;
        }
        let session = std::sync::Arc::new(Session::resume_mux(socket.into(), None));
        let mut cmd = session.clone().arc_raw_command(command);
        cmd.stdin(openssh::Stdio::piped())
            .stdout(openssh::Stdio::piped())
            .stderr(openssh::Stdio::piped());
        match cmd.spawn().await {
            Ok(mut child) => {
                let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
                let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
                    return Opened::NoMaster;
                };
                // Much output wakes the two ends less often, and what waits between them still fits into a cache. The kernel may refuse.
                #[cfg(target_os = "linux")]
                let _ = rustix::pipe::fcntl_setpipe_size(&stdout, 256 << 10);
                Opened::Yes(Box::new(Pipes {
                    stdin,
                    stdout,
                    stderr,
                    session: child,
                }))
            }
            Err(e) => {
                // The mux protocol tells a refused session only in words.
                let text = format!("{e:?}");
                if text.contains("refused by peer")
                    || text.contains("RequestFailure")
                    || text.contains("PermissionDenied")
                {
                    Opened::Full
                } else {
                    Opened::NoMaster
                }
            }
        }
    }

    /// Starts the master at `socket` unless another cx process has just done so.
    async fn start(&self, socket: &Path, deadline: Instant) -> Result<(), LinkError> {
        let here = |what: &str, e: &dyn std::fmt::Display| LinkError::Here(format!("failed to {what}: {e}"));
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(socket.with_extension("lock"))
            .map_err(|e| here("open the lock of a connection", &e))?;
        let mut waited = false;
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            waited = true;
            if Instant::now() >= deadline {
                return Err(LinkError::Unreachable("connection timed out".into()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if waited && self.alive(socket, deadline).await {
            return Ok(());
        }
        if socket.exists() {
            if self.alive(socket, deadline).await {
                return Ok(());
            }
            let _ = std::fs::remove_file(socket);
        }
        let log = socket.with_extension("log");
        let stderr = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&log)
            .map_err(|e| here("open the log of a connection", &e))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let mut child = self
            .command(left)
            .args(["-M", "-N", "-f"])
            .arg("-S")
            .arg(socket)
            .args(["-o".into(), format!("ControlPersist={PERSIST}")])
            .arg("--")
            .arg(&self.alias)
            .stderr(Stdio::from(stderr))
            .spawn()
            .map_err(|e| here("start ssh (is the OpenSSH client installed?)", &e))?;
        let status = timeout_at(deadline, child.wait()).await;
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        match status {
            Ok(Ok(s)) if s.success() => Ok(()),
            Ok(_) => Err(classify(&said)),
            Err(_) => {
                let _ = child.start_kill();
                Err(LinkError::Unreachable("connection timed out".into()))
            }
        }
    }

    /// `ssh` with every option that a node's configuration must not change under us.
    fn command(&self, left: Duration) -> tokio::process::Command {
        let mut c = tokio::process::Command::new("ssh");
        if let Some(config) = &self.config {
            c.arg("-F").arg(config);
        }
        let timeout = left.as_secs().max(1);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ForwardAgent=no",
            "ForwardX11=no",
            "ClearAllForwardings=yes",
            "PermitLocalCommand=no",
            "RemoteCommand=none",
            "RequestTTY=no",
            "Tunnel=no",
            "EscapeChar=none",
            "LogLevel=ERROR",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
            "ConnectionAttempts=1",
            &format!("ConnectTimeout={timeout}"),
        ] {
            c.arg("-o").arg(option);
        }
        c.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        // A master must not hold the caller's directory, nor die with its terminal's process group.
        c.current_dir("/").process_group(0);
        c
    }

    async fn alive(&self, socket: &Path, deadline: Instant) -> bool {
        let session = Session::resume_mux(socket.into(), None);
        let limit = deadline.min(Instant::now() + Duration::from_millis(500));
        matches!(timeout_at(limit, session.check()).await, Ok(Ok(())))
    }

    /// Leaves a master that no longer answers: its socket goes, so that the next one starts afresh; ssh ends itself
    /// when its keep-alives stay unanswered.
    fn forget(&self, socket: &Path) {
        let _ = std::fs::remove_file(socket);
    }

    /// Forgets all masters of this node, after its link went silent.
    pub fn forget_all(&self) {
        for n in 0..MAX_MASTERS {
            self.forget(&self.socket(n));
        }
    }

    /// Lets port `port` of localhost on the node lead to the same port here, or takes that back, on a standing connection.
    ///
    /// # Errors
    /// What ssh says: mostly that the port is taken there, or that the node forbids it.
    pub async fn forward(&self, port: u16, open: bool) -> Result<(), LinkError> {
        let socket = (0..MAX_MASTERS)
            .map(|n| self.socket(n))
            .find(|s| s.exists())
            .ok_or_else(|| LinkError::Unreachable("there is no connection".into()))?;
        let mut command = tokio::process::Command::new("ssh");
        if let Some(config) = &self.config {
            command.arg("-F").arg(config);
        }
        let order = if open { "forward" } else { "cancel" };
        let output = command
            .args(["-o", "BatchMode=yes", "-o", "ControlMaster=no", "-S"])
            .arg(&socket)
            .args(["-O", order, "-R"])
            // The address is named: where something else listens on part of localhost, none of it is taken.
            .arg(format!("127.0.0.1:{port}:localhost:{port}"))
            .arg("--")
            .arg(&self.alias)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(10), output)
            .await
            .map_err(|_| LinkError::Unreachable("no answer in time".into()))?
            .map_err(|e| LinkError::Here(format!("failed to start ssh: {e}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(LinkError::Unreachable(
            if said.contains("forwarding failed for listen port") {
                "something else has that port there, or the node forbids forwarding".into()
            } else {
                printable(&said, 200)
            },
        ))
    }

    /// Ends all masters of this node.
    pub async fn close(&self) {
        for n in 0..MAX_MASTERS {
            let socket = self.socket(n);
            if socket.exists() {
                let session = Session::resume_mux(socket.clone().into(), None);
                let _ = tokio::time::timeout(Duration::from_secs(1), session.close()).await;
                let _ = std::fs::remove_file(&socket);
            }
        }
    }
}

/// What ssh meant by what it said.
fn classify(said: &str) -> LinkError {
    let said_lower = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| said_lower.contains(w));
    let last = said
        .lines()
        .map(str::trim)
        .rfind(|l| !l.is_empty())
        .unwrap_or("ssh said nothing");
    let last = printable(last, 200);
    if has(&["identification has changed"]) {
        LinkError::HostKey("the host key is not the one known before".into())
    } else if has(&[
        "host key verification failed",
        "host key is known for",
        "key is not known",
    ]) {
        LinkError::HostKey("the host key is not known here".into())
    } else if has(&[
        "permission denied",
        "too many authentication failures",
        "no supported authentication",
    ]) {
        LinkError::Auth(last)
    } else if has(&["could not resolve", "name or service not known"]) {
        LinkError::Unknown(last)
    } else if has(&[
        "bad configuration option",
        "can't open user config",
        "bad owner or permissions",
    ]) {
        LinkError::Here(last)
    } else if has(&["connection refused"]) {
        LinkError::Unreachable("connection refused".into())
    } else if has(&["timed out"]) {
        LinkError::Unreachable("connection timed out".into())
    } else if has(&["no route to host"]) {
        LinkError::Unreachable("no route to host".into())
    } else {
        LinkError::Unreachable(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_understood() {
        let cases = [
            ("cx@h: Permission denied (publickey).\n", "login refused"),
            ("Host key verification failed.\r\n", "not known"),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "known before",
            ),
            (
                "ssh: connect to host h port 22: Connection refused",
                "connection refused",
            ),
            (
                "ssh: Could not resolve hostname x: Name or service not known",
                "resolve hostname x",
            ),
            (
                "ssh: connect to host h port 22: Connection timed out",
                "timed out",
            ),
            ("", "ssh said nothing"),
        ];
        for (said, want) in cases {
            let got = classify(said).to_string();
            assert!(got.contains(want), "{said:?} -> {got:?}");
        }
    }
}
