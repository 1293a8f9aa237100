//! A throw-away sshd on loopback, with a home of its own for whoever logs in.
//!
//! It needs no privileges and touches nothing outside its directory: own host key, own authorized key, own home. The
//! demo uses it as a node, and so do the end-to-end tests. Whatever was started on it ends with it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::processes;

/// Where sshd lies; it is seldom on an ordinary user's PATH, and it insists on being started by its absolute path.
const PLACES: [&str; 4] = [
    "/usr/sbin/sshd",
    "/usr/local/sbin/sshd",
    "/opt/homebrew/sbin/sshd",
    "/usr/local/opt/openssh/sbin/sshd",
];

/// How long the server may take to greet; a busy machine needs a second or two.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The sshd of this machine, if it has one.
pub fn find() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|p| p.exists())
}

/// Makes an ed25519 key pair without a passphrase at `path` and `path.pub`.
///
/// # Errors
/// When `ssh-keygen` is missing or fails; its own words are in the error.
pub fn keygen(path: &Path) -> Result<()> {
    let out = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "cx", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .context("failed to start ssh-keygen (install openssh-client)")?;
    if !out.status.success() {
        bail!(
            "ssh-keygen failed: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(())
}

/// A running server. Dropping it ends it and everything that was started through it.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    dir: PathBuf,
    address: String,
    port: u16,
}

impl Sshd {
    /// Starts a server on `address` and a free port and waits until it greets.
    ///
    /// Its files go to `dir`, which must exist; logins with the key `client_key` (a public key file) get `dir/home` as
    /// their HOME, and the variables `env` besides. Neither names nor values of these may hold `"` or white space
    /// other than blanks.
    ///
    /// # Errors
    /// When there is no sshd here, it rejects its configuration, or does not greet in time; with its log.
    pub fn start(dir: &Path, address: &str, client_key: &Path, env: &[(&str, &str)]) -> Result<Sshd> {
        let sshd = find().context("there is no sshd on this machine (install openssh-server)")?;
        let home = dir.join("home");
        fs::create_dir_all(&home).with_context(|| format!("failed to create {}", home.display()))?;
        fs::set_permissions(&home, Permissions::from_mode(0o700))?;
        if !dir.join("host_key").exists() {
            keygen(&dir.join("host_key"))?;
        }
        fs::copy(client_key, dir.join("authorized_keys")).context("failed to authorize the client's key")?;
        fs::set_permissions(dir.join("authorized_keys"), Permissions::from_mode(0o600))?;

        // Another process may take the port between its choice and its use: try again then.
        let mut tries = 0;
        loop {
            tries += 1;
            let port = free_port(address)?;
            let mut config = config(dir, address, port, env);
            check(&sshd, dir, &mut config)?;
            match launch(&sshd, dir, address, port) {
                Ok(child) => {
                    return Ok(Sshd {
                        child,
                        dir: dir.to_path_buf(),
                        address: address.into(),
                        port,
                    });
                }
                Err(_) if tries < 5 && log(dir).contains("Address already in use") => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the listening server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// HOME of everyone who logs in.
    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// The line for a known_hosts file.
    ///
    /// # Errors
    /// When the host key cannot be read.
    pub fn known_host(&self) -> Result<String> {
        let key = fs::read_to_string(self.dir.join("host_key.pub")).context("failed to read the host key")?;
        Ok(format!("[{}]:{} {}", self.address, self.port, key))
    }

    /// The block for an ssh_config file that lets `alias` mean this server.
    pub fn ssh_config(&self, alias: &str, client_key: &Path, known_hosts: &Path) -> String {
        format!(
            "Host {alias}\n  HostName {}\n  Port {}\n  IdentityFile \"{}\"\n  IdentitiesOnly yes\n  \
             IdentityAgent none\n  UserKnownHostsFile \"{}\"\n  GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n  ConnectTimeout 10\n\n",
            self.address,
            self.port,
            client_key.display(),
            known_hosts.display(),
        )
    }

    /// What the server and its sessions wrote to their log.
    pub fn log(&self) -> String {
        log(&self.dir)
    }

    /// The server's own processes: the listener and those that serve the sessions, and what these started and
    /// did not detach.
    pub fn tree(&self) -> Vec<u32> {
        processes::tree(self.child.id())
    }

    /// Ends the server, its sessions, and all that was started through them, and waits for it.
    pub fn stop(&mut self) {
        // Frozen processes would keep a TERM until they are thawed; KILL needs no cooperation. What a supervisor
        // detached from the tree still has the server's HOME in its environment.
        self.tree().into_iter().for_each(processes::kill);
        processes::end_with_home(&self.home());
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port(address: &str) -> Result<u16> {
    let listener =
        TcpListener::bind((address, 0)).with_context(|| format!("failed to listen on {address}"))?;
    Ok(listener.local_addr()?.port())
}

fn config(dir: &Path, address: &str, port: u16, env: &[(&str, &str)]) -> String {
    let d = dir.display();
    let mut vars = format!("\"HOME={d}/home\"");
    for (name, value) in env {
        vars.push_str(&format!(" \"{name}={value}\""));
    }
    // One SetEnv line: sshd takes the first and ignores the others.
    format!(
        "ListenAddress {address}:{port}\n\
         HostKey \"{d}/host_key\"\n\
         AuthorizedKeysFile \"{d}/authorized_keys\"\n\
         PidFile \"{d}/sshd.pid\"\n\
         SetEnv {vars}\n\
         UsePAM no\n\
         StrictModes no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PrintMotd no\n\
         PrintLastLog no\n\
         UseDNS no\n\
         MaxStartups 200\n\
         LogLevel VERBOSE\n"
    )
}

/// Writes the configuration and lets sshd check it, mending the two things that differ from machine to machine.
fn check(sshd: &Path, dir: &Path, config: &mut String) -> Result<()> {
    let path = dir.join("sshd_config");
    let test = |text: &str| -> Result<Option<String>> {
        fs::write(&path, text)?;
        let out = Command::new(sshd)
            .arg("-t")
            .arg("-f")
            .arg(&path)
            .stdin(Stdio::null())
            .output()?;
        Ok((!out.status.success()).then(|| String::from_utf8_lossy(&out.stderr).trim().to_owned()))
    };
    // From OpenSSH 9.8 on, a host that connects often without logging in is locked out; waiting for the greeting is
    // just that. Older servers do not know the option.
    let with = format!("{config}PerSourcePenalties no\n");
    let mut said = test(&with)?;
    match &said {
        Some(e) if e.contains("PerSourcePenalties") => said = test(config)?,
        _ => *config = with,
    }
    // root's sshd wants an empty directory that the init script makes, which a container never ran.
    if let Some(missing) = said
        .as_deref()
        .and_then(|e| e.split("Missing privilege separation directory: ").nth(1))
    {
        let missing = missing.lines().next().unwrap_or_default().trim();
        fs::create_dir_all(missing)
            .with_context(|| format!("failed to create {missing}, which sshd wants"))?;
        fs::set_permissions(missing, Permissions::from_mode(0o755))?;
        said = test(config)?;
    }
    match said {
        Some(e) => bail!("sshd rejects its configuration: {e}"),
        None => Ok(()),
    }
}

fn launch(sshd: &Path, dir: &Path, address: &str, port: u16) -> Result<Child> {
    let log_file = File::create(dir.join("sshd.log")).context("failed to create the log of sshd")?;
    let mut child = Command::new(sshd)
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(log_file.try_clone()?)
        .stderr(log_file)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .spawn()
        .with_context(|| format!("failed to start {}", sshd.display()))?;
    let begun = Instant::now();
    loop {
        if greets(address, port).is_ok() {
            return Ok(child);
        }
        let ended = child.try_wait()?;
        if ended.is_some() || begun.elapsed() > START_LIMIT {
            // Errors mean that it is gone already.
            let _ = child.kill();
            let _ = child.wait();
            bail!("sshd did not greet on {address}:{port}; its log:\n{}", log(dir));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Connects and reads the first bytes: accepting alone does not show that it is this server that answers.
fn greets(address: &str, port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_read_timeout(Some(START_LIMIT))?;
    let mut first = [0; 4];
    stream.read_exact(&mut first)?;
    if &first == b"SSH-" {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn log(dir: &Path) -> String {
    fs::read(dir.join("sshd.log"))
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default()
}
