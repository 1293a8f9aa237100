//! The agent's binary: which one a node needs, where it comes from, and how it gets there.
//!
//! An agent is cx itself. For a node of this machine's platform it is the running binary; for another platform one that lies
//! in `~/.local/share/cx/agents/OS-ARCH/cx` and whose hash this build or this user's own build record knows; or one that the
//! node builds with its own `cargo` from the source that cx carries.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::ssh::Ssh;
use super::{LinkError, printable};
use crate::paths::Paths;

/// What the start line prints where the agent is missing, before `uname`'s words.
pub const MISSING: &str = "\ncx-agent-missing ";

/// The source of this build, `tar.gz`, for building the agent on another platform.
const SOURCE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/source.tar.gz"));

/// Hashes of this build's agents for other platforms, `OS-ARCH=HASH`, comma-separated; set by who makes a release.
const KNOWN: Option<&str> = option_env!("CX_AGENT_HASHES");

/// The agent's directory on a node, as a shell expression.
const DIR: &str = "${XDG_CACHE_HOME:-$HOME/.cache}/cx/agents";

/// Which build this is.
#[derive(Clone, Debug)]
pub struct Build {
    /// Hash of the running binary: the name of its agent on nodes of the same platform.
    pub hash: String,
}

impl Build {
    /// This one.
    ///
    /// # Errors
    /// When the running binary can't be read.
    pub fn own() -> Result<Build, LinkError> {
        Ok(Build {
            hash: own_hash_cached().map_err(|e| LinkError::Here(format!("{e:#}")))?,
        })
    }

    /// The name of this build's agent on every node: what platform it is for is the node's affair.
    fn file(&self) -> String {
        format!("cx-{}", &self.hash[..32])
    }
}

/// The hash of the running binary, kept beside the load table by size and time of change: hashing takes some milliseconds.
fn own_hash_cached() -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let exe = std::env::current_exe()?;
    let m = std::fs::metadata(&exe)?;
    let stamp = format!(
        "{}:{}:{}:{}:{}",
        m.dev(),
        m.ino(),
        m.size(),
        m.mtime(),
        m.mtime_nsec()
    );
    let file = Paths::from_env()?.cache.join("own-hash");
    if let Ok(text) = std::fs::read_to_string(&file)
        && let Some((was, hash)) = text.split_once(' ')
        && was == stamp
        && hash.len() == 64
    {
        return Ok(hash.to_owned());
    }
    let hash = crate::agent::own_hash()?;
    let _ = crate::paths::write_atomic(&file, format!("{stamp} {hash}").as_bytes(), 0o600);
    Ok(hash)
}

/// The line for the node's login shell that starts the agent, or says that it is missing. It must mean the same to sh, csh
/// and fish: one line, one pair of single quotes, and inside no quote, backslash or exclamation mark.
pub fn start_command(build: &Build) -> String {
    let file = build.file();
    format!(
        "exec sh -c 'D=\"{DIR}\"; if [ -x \"$D/{file}\" ]; then exec \"$D/{file}\" agent; fi; echo; echo; \
         echo cx-agent-missing $(uname -s) $(uname -m)'"
    )
}

/// An agent's binary, ready to be sent.
pub struct Agent {
    bytes: Vec<u8>,
    hash: String,
    file: String,
}

/// Splits `uname -s -m` into cx's own names.
pub fn platform_of(uname: &str) -> (String, String) {
    let mut words = uname.split_whitespace();
    let os = words.next().unwrap_or("unknown").to_lowercase();
    let arch = match words.next().unwrap_or("unknown") {
        "aarch64" | "arm64" => "arm64",
        "x86_64" | "amd64" => "x86_64",
        other => other,
    };
    (os, arch.to_owned())
}

/// This machine's platform, as [`platform_of`] names it.
fn own_platform() -> (String, String) {
    let os = if cfg!(target_os = "macos") {
        "darwin"
    } else {
        std::env::consts::OS
    };
    let arch = if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        std::env::consts::ARCH
    };
    (os.to_owned(), arch.to_owned())
}

/// Where an agent for another platform is looked for.
pub fn foreign_path(os: &str, arch: &str, paths: &Paths) -> PathBuf {
    paths.data.join("agents").join(format!("{os}-{arch}")).join("cx")
}

/// Whether `hash` is one that this build, or the user's own record of builds, knows for this platform.
fn is_known(os: &str, arch: &str, hash: &str, build: &Build, paths: &Paths) -> bool {
    let wanted = format!("{os}-{arch}={hash}");
    if KNOWN.unwrap_or("").split(',').any(|k| k.trim() == wanted) {
        return true;
    }
    let record = std::fs::read_to_string(record_path(paths)).unwrap_or_default();
    record.lines().any(|l| l == format!("{} {wanted}", build.hash))
}

fn record_path(paths: &Paths) -> PathBuf {
    paths.state.join("agents-built")
}

/// The agent for a node on which `uname -s -m` said `uname`.
///
/// # Errors
/// [`LinkError::Agent`] where there is none for that platform, with what can be done.
pub fn find(uname: &str, build: &Build, paths: &Paths) -> Result<Agent, LinkError> {
    let (os, arch) = platform_of(uname);
    let file = build.file();
    if (os.clone(), arch.clone()) == own_platform() {
        let exe = std::env::current_exe().and_then(std::fs::read);
        let bytes = exe.map_err(|e| LinkError::Here(format!("failed to read this program's file: {e}")))?;
        return Ok(Agent {
            bytes,
            hash: build.hash.clone(),
            file,
        });
    }
    let path = foreign_path(&os, &arch, paths);
    let Ok(bytes) = std::fs::read(&path) else {
        return Err(LinkError::Agent(format!(
            "no agent for {os}-{arch}: put this version's binary at {} or let `cx nodes add` build it there",
            path.display()
        )));
    };
    let hash = blake3::hash(&bytes).to_hex().to_string();
    if !is_known(&os, &arch, &hash, build, paths) {
        return Err(LinkError::Agent(format!(
            "{} is not an agent that this build of cx knows (hash {}…); remove it, or let `cx nodes add` build one",
            path.display(),
            &hash[..12]
        )));
    }
    Ok(Agent { bytes, hash, file })
}

/// Sends the agent and has the node check it: the uploaded file must run and report the hash it was sent with.
///
/// # Errors
/// [`LinkError::Agent`] when the file does not arrive whole, does not run there, or there is no room.
pub async fn upload(ssh: &Ssh, agent: &Agent) -> Result<(), LinkError> {
    let (file, hash) = (&agent.file, &agent.hash);
    let line = format!(
        "exec sh -c 'umask 077; D=\"{DIR}\"; T=\"$D/.up-$$\"; mkdir -p \"$D\" && cat >\"$T\" && chmod 700 \"$T\" && \
         H=$(\"$T\" agent --hash) && [ \"$H\" = {hash} ] && mv -f \"$T\" \"$D/{file}\" && echo cx-uploaded; \
         S=$?; rm -f \"$T\"; find \"$D\" -type f -name \"cx-*\" -mtime +30 -exec rm -f {{}} + 2>/dev/null; exit $S'"
    );
    // A megabyte a second is the slowest link worth having.
    let limit = Duration::from_secs(30 + (agent.bytes.len() >> 20) as u64);
    let said = talk(ssh, &line, &agent.bytes, limit).await?;
    if said.0.contains("cx-uploaded") {
        return Ok(());
    }
    let why = printable(&said.1, 200);
    let why = if why.is_empty() {
        "the uploaded file does not run there".to_owned()
    } else {
        why
    };
    Err(LinkError::Agent(format!("the agent can't be installed: {why}")))
}

/// Runs `line` on the node with `input`, and returns what it printed on stdout and stderr; more than 1 MB of either is an error.
async fn talk(ssh: &Ssh, line: &str, input: &[u8], limit: Duration) -> Result<(String, String), LinkError> {
    let mut pipes = ssh.open(line, Instant::now() + Duration::from_secs(15)).await?;
    let work = async {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let send = async {
            let _ = pipes.stdin.write_all(input).await;
            let _ = pipes.stdin.shutdown().await;
            drop(pipes.stdin);
            Ok(())
        };
        // Who prints without end is not waited for.
        tokio::try_join!(
            read_all(&mut pipes.stdout, &mut out),
            read_all(&mut pipes.stderr, &mut err),
            send
        )
        .map(|_| (out, err))
    };
    match timeout(limit, work).await {
        Ok(Ok((out, err))) => Ok((
            String::from_utf8_lossy(&out).into(),
            String::from_utf8_lossy(&err).into(),
        )),
        Ok(Err(e)) => Err(LinkError::Unreachable(format!("the connection broke: {e}"))),
        Err(_) => Err(LinkError::Unreachable(format!(
            "no end after {} s",
            limit.as_secs()
        ))),
    }
}

/// Reads a megabyte at most.
async fn read_all(from: impl AsyncRead + Unpin, to: &mut Vec<u8>) -> std::io::Result<()> {
    const MOST: usize = 1 << 20;
    match from.take(MOST as u64).read_to_end(to).await? {
        MOST => Err(std::io::Error::other("it prints too much")),
        _ => Ok(()),
    }
}

/// Asks the node for `uname -s -m`, past whatever its rc files print.
///
/// # Errors
/// When it can't be reached or says nothing of the kind.
pub async fn uname(ssh: &Ssh) -> Result<String, LinkError> {
    let (out, err) = talk(
        ssh,
        "exec sh -c 'echo; echo cx-uname $(uname -s) $(uname -m)'",
        b"",
        Duration::from_secs(15),
    )
    .await?;
    out.lines()
        .find_map(|l| l.strip_prefix("cx-uname "))
        .map(str::to_owned)
        .ok_or_else(|| LinkError::Agent(format!("no POSIX sh answers there: {}", printable(&err, 200))))
}

/// Builds the agent on the node from the source that cx carries, takes a copy home and notes its hash.
///
/// # Errors
/// When there is no cargo there, or the build fails; the end of what it said is in the text.
pub async fn build_there(ssh: &Ssh, uname: &str, build: &Build, paths: &Paths) -> Result<(), LinkError> {
    let (os, arch) = platform_of(uname);
    let line = "exec sh -c 'umask 077; B=\"${XDG_CACHE_HOME:-$HOME/.cache}/cx/build-$$\"; mkdir -p \"$B\" && cd \"$B\" && \
                gzip -dc | tar xf - && PATH=\"$PATH:$HOME/.cargo/bin\" cargo build --release --locked 1>&2 && \
                echo cx-built && cat target/release/cx; S=$?; cd /; rm -rf \"$B\"; exit $S'";
    let mut pipes = ssh.open(line, Instant::now() + Duration::from_secs(15)).await?;
    let work = async {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let send = async {
            let _ = pipes.stdin.write_all(SOURCE).await;
            let _ = pipes.stdin.shutdown().await;
            drop(pipes.stdin);
        };
        let mut stdout = (&mut pipes.stdout).take(256 << 20);
        let mut stderr = (&mut pipes.stderr).take(16 << 20);
        let (_, a, b) = tokio::join!(send, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
        a.and(b).map(|_| (out, err))
    };
    let (out, err) = match timeout(Duration::from_secs(3600), work).await {
        Ok(Ok(both)) => both,
        _ => return Err(LinkError::Agent("the build there did not end".into())),
    };
    const MARK: &[u8] = b"cx-built\n";
    let Some(at) = out.windows(MARK.len()).position(|w| w == MARK) else {
        let said = String::from_utf8_lossy(&err);
        let tail: Vec<&str> = said.lines().rev().take(5).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join(" / ");
        return Err(LinkError::Agent(format!(
            "the agent can't be built there: {}",
            printable(&tail, 400)
        )));
    };
    let bytes = &out[at + MARK.len()..];
    let hash = blake3::hash(bytes).to_hex().to_string();
    let here = |e: anyhow::Error| LinkError::Here(format!("failed to keep the built agent: {e:#}"));
    let path = foreign_path(&os, &arch, paths);
    if let Some(dir) = path.parent() {
        crate::agent::private_dir(dir).map_err(|e| here(e.into()))?;
    }
    crate::paths::write_atomic(&path, bytes, 0o700).map_err(|e| here(e.into()))?;
    let mut record = std::fs::read_to_string(record_path(paths)).unwrap_or_default();
    record.push_str(&format!("{} {os}-{arch}={hash}\n", build.hash));
    crate::agent::private_dir(&paths.state).map_err(|e| here(e.into()))?;
    crate::paths::write_atomic(&record_path(paths), record.as_bytes(), 0o600).map_err(|e| here(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_get_one_name() {
        assert_eq!(platform_of("Linux aarch64"), ("linux".into(), "arm64".into()));
        assert_eq!(platform_of("Darwin arm64\n"), ("darwin".into(), "arm64".into()));
        assert_eq!(platform_of("FreeBSD amd64"), ("freebsd".into(), "x86_64".into()));
        assert_eq!(platform_of(""), ("unknown".into(), "unknown".into()));
    }
}
