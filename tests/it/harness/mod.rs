//! [`TestEnv`]: a world of its own for one test.
//!
//! It has its own HOME, a cleared environment, its own git configuration and as many nodes as the test asks for: real
//! sshds on loopback, each with its own home. Everything that was started in it ends with it, also when the test
//! panics. Set `CX_IT_KEEP=1` to keep the directory of a failed test; its path is printed.

mod node;
mod process;
mod project;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cx::demo::processes;
use cx::demo::sshd::{Sshd, find, keygen};

pub use node::Node;
pub use process::{Output, Running, wait_for};
pub use project::{Project, on};

/// The program under test.
pub const CX: &str = env!("CARGO_BIN_EXE_cx");

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin:/usr/sbin:/sbin";

/// One test's world.
pub struct TestEnv {
    nodes: Vec<Node>,
    known_hosts: String,
    ssh_config: String,
    vars: BTreeMap<OsString, OsString>,
    // Last, so that it goes when all that uses it has ended.
    root: Root,
}

/// The directory of a test: removed at the end unless it is wanted.
struct Root(Option<tempfile::TempDir>);

impl Root {
    fn path(&self) -> &Path {
        self.0.as_ref().expect("taken in drop only").path()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let wanted = std::thread::panicking() && std::env::var_os("CX_IT_KEEP").is_some();
        if let Some(dir) = self.0.take().filter(|_| wanted) {
            tell(&format!("kept {}", dir.keep().display()));
        }
    }
}

impl TestEnv {
    /// A world without nodes; cx has no configuration there.
    pub fn new() -> TestEnv {
        // Control sockets have short paths only, so not below target/.
        let dir = tempfile::Builder::new()
            .prefix("cx-it.")
            .tempdir()
            .expect("a temporary directory");
        let root = dir.path().canonicalize().expect("it exists");
        let mut env = TestEnv {
            nodes: Vec::new(),
            known_hosts: String::new(),
            ssh_config: String::new(),
            vars: BTreeMap::new(),
            root: Root(Some(dir)),
        };
        let home = root.join("home");
        for dir in ["", "bin", "work", "run", ".config/cx", ".cache", ".local/state"] {
            fs::create_dir_all(home.join(dir)).unwrap();
            fs::set_permissions(home.join(dir), Permissions::from_mode(0o700)).unwrap();
        }
        for (name, value) in [
            ("HOME", home.clone()),
            ("PATH", PATH.into()),
            ("LANG", "C.UTF-8".into()),
            ("SHELL", "/bin/sh".into()),
            ("XDG_CONFIG_HOME", home.join(".config")),
            ("XDG_CACHE_HOME", home.join(".cache")),
            ("XDG_STATE_HOME", home.join(".local/state")),
            ("XDG_RUNTIME_DIR", home.join("run")),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ] {
            env.vars.insert(name.into(), value.into());
        }
        let gitconfig = "[user]\n name = A Tester\n email = tester@example.com\n[init]\n defaultBranch = main\n\
                         [commit]\n gpgsign = false\n";
        fs::write(home.join(".gitconfig"), gitconfig).unwrap();
        env
    }

    /// A world whose nodes run and are known to cx by `cx nodes add`.
    pub fn with_nodes(names: &[&str]) -> TestEnv {
        let mut env = TestEnv::new();
        for name in names {
            env.start_node(name);
        }
        env.add_nodes(names);
        env
    }

    /// Starts an sshd that ssh knows as `name`, without telling cx.
    pub fn start_node(&mut self, name: &str) {
        assert!(
            find().is_some(),
            "these tests need an sshd: apt-get install openssh-server (it is not run as a service)"
        );
        let key = self.root.path().join("client_key");
        if !key.exists() {
            keygen(&key).unwrap();
        }
        let dir = self.root.path().join(name);
        fs::create_dir(&dir).unwrap();
        let sshd = Sshd::start(
            &dir,
            &self.next_address(),
            &key.with_extension("pub"),
            &[("TEST_NODE", name)],
        )
        .unwrap_or_else(|e| panic!("{name}: {e:#}"));
        self.known_hosts.push_str(&sshd.known_host().unwrap());
        self.ssh_config
            .push_str(&sshd.ssh_config(name, &key, &self.known_hosts_path()));
        self.nodes.push(Node {
            name: name.into(),
            sshd,
        });
        self.write_ssh_files();
    }

    /// Lets ssh know `name` as a machine that refuses connections.
    pub fn start_refusing(&mut self, name: &str) {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        self.ssh_config
            .push_str(&format!("Host {name}\n  HostName 127.0.0.1\n  Port {port}\n\n"));
        self.write_ssh_files();
    }

    /// `cx nodes add --yes` for each, which must work.
    pub fn add_nodes(&self, names: &[&str]) {
        for name in names {
            self.cx(&["nodes", "add", "--yes", name]).ok();
        }
    }

    /// Linux answers on all of 127/8; elsewhere only 127.0.0.1 is up, and the ports differ.
    fn next_address(&self) -> String {
        if cfg!(target_os = "linux") {
            format!("127.0.0.{}", self.nodes.len() + 2)
        } else {
            "127.0.0.1".into()
        }
    }

    /// The known_hosts file that ssh is told to use.
    pub fn known_hosts_path(&self) -> PathBuf {
        self.root.path().join("known_hosts")
    }

    /// The ssh_config file that cx is told to use.
    pub fn ssh_config_path(&self) -> PathBuf {
        self.root.path().join("ssh_config")
    }

    fn write_ssh_files(&self) {
        private(&self.known_hosts_path(), &self.known_hosts);
        private(&self.ssh_config_path(), &self.ssh_config);
        if !self.config_path().exists() {
            self.write_config("");
        }
    }

    /// cx's configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.home().join(".config/cx/config.toml")
    }

    /// Replaces cx's configuration but for its nodes: where ssh's is, then `more`.
    pub fn write_config(&self, more: &str) {
        let old = fs::read_to_string(self.config_path()).unwrap_or_default();
        let nodes = old
            .lines()
            .find(|l| l.starts_with("nodes"))
            .unwrap_or("nodes = []");
        let ssh = self.ssh_config_path();
        let text = format!("{nodes}\n[ssh]\nconfig = \"{}\"\n\n{more}", ssh.display());
        self.put_config(&text);
    }

    /// Tests run side by side on every core: a node that is this machine must not refuse for that.
    fn put_config(&self, text: &str) {
        const ALLOW: &str = "[policy]\nallow_overload = true\n";
        let text = match text.contains("allow_overload") {
            true => text.to_owned(),
            false if text.contains("[policy]\n") => text.replacen("[policy]\n", ALLOW, 1),
            false => format!("{text}\n{ALLOW}"),
        };
        private(&self.config_path(), &text);
    }

    /// Adds to cx's configuration.
    pub fn append_config(&self, more: &str) {
        let old = fs::read_to_string(self.config_path()).unwrap_or_default();
        // A table may stand in a file only once.
        let old = if more.contains("[policy]") {
            old.replace("[policy]\nallow_overload = true\n", "")
        } else {
            old
        };
        self.put_config(&format!("{old}\n{more}"));
    }

    /// The user's home here.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// cx's files that may be lost: load table, indexes, locks.
    pub fn cache(&self) -> PathBuf {
        self.home().join(".cache/cx")
    }

    /// A running node.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|n| n.name == name)
            .unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The same, to stop or freeze it.
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|n| n.name == name)
            .unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The node whose home is the first line of `output`, or `local` for the home here.
    pub fn place(&self, output: &str) -> String {
        let home = output.lines().next().unwrap_or_default();
        let node = self.nodes.iter().find(|n| n.home() == Path::new(home));
        match node {
            Some(n) => n.name.clone(),
            None if Path::new(home) == self.home() => "local".into(),
            None => format!("neither a node nor local: {output:?}"),
        }
    }

    /// Sets a variable for all commands from now on.
    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.vars.insert(name.into(), value.as_ref().into());
    }

    /// Puts an executable script first on PATH.
    pub fn program(&mut self, name: &str, script: &str) {
        let bin = self.home().join("bin");
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), Permissions::from_mode(0o755)).unwrap();
        self.set("PATH", format!("{}:{PATH}", bin.display()));
    }

    /// A directory with these files, which is no git repository.
    pub fn plain_project(&self, name: &str, files: &[(&str, &str)]) -> Project<'_> {
        let dir = self.home().join("work").join(name);
        fs::create_dir_all(&dir).unwrap();
        let project = Project { env: self, dir };
        files.iter().for_each(|(path, text)| project.write(path, text));
        project
    }

    /// A git repository called `app` with these files committed.
    pub fn project(&self, files: &[(&str, &str)]) -> Project<'_> {
        self.named_project("app", files)
    }

    /// The same, with another name.
    pub fn named_project(&self, name: &str, files: &[(&str, &str)]) -> Project<'_> {
        let project = self.plain_project(name, files);
        for args in [
            &["init", "-q"][..],
            &["add", "-A"],
            &["commit", "-q", "--allow-empty", "-m", "first"],
        ] {
            project.git(args);
        }
        project
    }

    /// Runs cx in the home directory.
    pub fn cx<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.run(self.command(CX, &self.home()).args(args), b"")
    }

    /// What runs here in this world, besides the nodes: `pid command line` each.
    pub fn processes(&self) -> Vec<String> {
        node::described(processes::with_home(&self.home()))
    }

    /// Ends all that cx left running here, master connections above all.
    pub fn end_clients(&self) {
        processes::end_with_home(&self.home());
    }

    /// A command with this world's environment and nothing else.
    pub fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.vars).current_dir(dir);
        command
    }

    /// Runs a script where file systems of its own can be mounted; `None` where such namespaces are forbidden.
    #[cfg(target_os = "linux")]
    pub fn apart(&self, script: &str) -> Option<Output> {
        let inside = |script: &str| {
            let mut command = self.command("unshare", &self.home());
            self.run(command.args(["-Urm", "sh", "-ec", script]), b"")
        };
        (inside("mount -t tmpfs none /mnt").status() == 0).then(|| inside(script))
    }

    /// Runs a command to its end, feeding it `input`.
    pub fn run(&self, command: &mut Command, input: &[u8]) -> Output {
        Running::start(command, input).wait()
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let log = node.sshd.log();
                let tail: Vec<_> = log.lines().rev().take(15).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                tell(&format!(
                    "--- last lines of the sshd of {}:\n{}",
                    node.name,
                    tail.join("\n")
                ));
            }
        }
        // Clients first: the masters and whatever else cx left here have this HOME.
        self.end_clients();
        self.nodes.clear();
    }
}

fn write_file(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    if text.starts_with("#!") {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn tell(text: &str) {
    // Through the test's own capture, unlike writing to the file descriptor.
    #[expect(clippy::print_stderr, reason = "the reader of a failed test needs it")]
    {
        eprintln!("{text}");
    }
}
