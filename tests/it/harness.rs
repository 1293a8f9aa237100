//! [`TestEnv`]: a world of its own for one test.
//!
//! It has its own HOME, a cleared environment, its own git configuration and as many nodes as the test asks for: real
//! sshds on loopback, each with its own home. Everything that was started in it ends with it, also when the test
//! panics. Set `CX_IT_KEEP=1` to keep the directory of a failed test; its path is printed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cx::demo::processes;
use cx::demo::sshd::{Sshd, find, keygen};

/// A command that has not ended by then hangs: the test fails with what it printed. Far beyond what any takes.
const HANG: Duration = Duration::from_secs(120);

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

    /// Replaces cx's configuration: where ssh's is, then `more`.
    pub fn write_config(&self, more: &str) {
        let ssh = format!(
            "[ssh]\nconfig = \"{}\"\n\n{more}",
            self.ssh_config_path().display()
        );
        private(&self.config_path(), &ssh);
    }

    /// Adds to cx's configuration.
    pub fn append_config(&self, more: &str) {
        let old = fs::read_to_string(self.config_path()).unwrap_or_default();
        private(&self.config_path(), &format!("{old}\n{more}"));
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

    /// A git repository with these files committed.
    pub fn project(&self, files: &[(&str, &str)]) -> Project<'_> {
        let project = self.plain_project("app", files);
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

    /// A command with this world's environment and nothing else.
    pub fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.vars).current_dir(dir);
        command
    }

    /// Runs a command to its end, feeding it `input`.
    pub fn run(&self, command: &mut Command, input: &[u8]) -> Output {
        self.start(command, input).wait()
    }

    /// Starts a command and collects what it prints.
    pub fn start(&self, command: &mut Command, input: &[u8]) -> Running {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start {what}: {e}"));
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that does not read its input ends before all is written: no error.
        std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Running {
            what,
            child,
            out,
            err,
        }
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
        processes::with_home(&self.home())
            .into_iter()
            .for_each(processes::kill);
        self.nodes.clear();
    }
}

/// A machine that commands can go to.
pub struct Node {
    name: String,
    sshd: Sshd,
}

impl Node {
    /// HOME of what runs there.
    pub fn home(&self) -> PathBuf {
        self.sshd.home()
    }

    /// What runs there now, `pid command line` each, without sshd itself and ssh sessions that are ending.
    pub fn processes(&self) -> Vec<String> {
        processes::with_home(&self.home())
            .into_iter()
            .filter_map(|pid| Some(format!("{pid} {}", words(pid)?)))
            .collect()
    }

    /// Waits until nothing runs there; for at most `limit`, and then says what does.
    pub fn assert_empty_within(&self, limit: Duration) {
        wait_for(limit, || {
            let left = self.processes();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("left on {}: {left:#?}", self.name))
            }
        });
    }

    /// The machine goes away: sessions break, connections are refused.
    pub fn stop(&mut self) {
        self.sshd.stop();
    }

    /// All of the machine's processes stop where they are; connections are still taken by the kernel.
    pub fn freeze(&self) -> Vec<u32> {
        let mut pids = self.sshd.tree();
        pids.extend(processes::with_home(&self.home()));
        signal(&pids, "-STOP");
        pids
    }

    /// They go on.
    pub fn thaw(&self, pids: &[u32]) {
        signal(pids, "-CONT");
    }

    /// Writes a file into the machine's home.
    pub fn write(&self, path: &str, text: &str) {
        write_file(&self.home().join(path), text);
    }

    /// What sshd logged.
    pub fn log(&self) -> String {
        self.sshd.log()
    }
}

/// A tree that commands run in.
pub struct Project<'a> {
    env: &'a TestEnv,
    /// Its top directory.
    pub dir: PathBuf,
}

impl Project<'_> {
    /// Runs cx here.
    pub fn cx<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.env.run(&mut self.cx_command(args), b"")
    }

    /// Runs cx here with this on its standard input.
    pub fn cx_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        self.env.run(&mut self.cx_command(args), input)
    }

    /// Starts cx here.
    pub fn start_cx(&self, args: &[&str]) -> Running {
        self.env.start(&mut self.cx_command(args), b"")
    }

    /// cx, ready to be started here.
    pub fn cx_command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = self.env.command(CX, &self.dir);
        command.args(args);
        command
    }

    /// Runs git, which must work; its output.
    pub fn git(&self, args: &[&str]) -> String {
        self.env
            .run(self.env.command("git", &self.dir).args(args), b"")
            .ok()
            .stdout()
    }

    /// Runs a line of shell with cx on PATH.
    pub fn sh(&self, line: &str) -> Output {
        let bin = Path::new(CX).parent().unwrap();
        let mut command = self.env.command("sh", &self.dir);
        let path = self.env.vars[OsStr::new("PATH")].to_string_lossy().into_owned();
        command
            .args(["-c", line])
            .env("PATH", format!("{}:{path}", bin.display()));
        self.env.run(&mut command, b"")
    }

    /// Writes a file, and the directories above it; a `#!` makes it executable.
    pub fn write(&self, path: &str, text: &str) {
        write_file(&self.dir.join(path), text);
    }

    /// A file's text, which must be there.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.join(path))
            .unwrap_or_else(|e| panic!("{path}: {e}; there is: {:?}", self.list()))
    }

    /// Whether something stands at this path, without following it.
    pub fn has(&self, path: &str) -> bool {
        self.dir.join(path).symlink_metadata().is_ok()
    }

    /// Every file and link with its content, mode and target, `.git` left out: trees that are equal list equal.
    pub fn list(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.dir, &self.dir, &mut found);
        found.sort();
        found
    }
}

fn list(top: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let meta = path.symlink_metadata().unwrap();
        if name == ".git" {
        } else if meta.is_symlink() {
            found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else if meta.is_dir() {
            found.push(format!("{name}/"));
            list(top, &path, found);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.push(format!("{name} {:o} {text:?}", meta.permissions().mode() & 0o777));
        }
    }
}

/// A command that has been started.
pub struct Running {
    what: String,
    child: Child,
    out: JoinHandle<Vec<u8>>,
    err: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal, named as for kill(1): `-INT`.
    pub fn signal(&self, name: &str) {
        signal(&[self.pid()], name);
    }

    /// Waits for its end; a command that hangs is killed and fails the test with what it printed.
    pub fn wait(mut self) -> Output {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > HANG => {
                    processes::tree(self.pid()).into_iter().for_each(processes::kill);
                    let status = self.child.wait().unwrap();
                    let output = self.finish(status);
                    panic!("hung for {HANG:?}: {output:?}");
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        self.finish(status)
    }

    fn finish(self, status: ExitStatus) -> Output {
        // A child that holds the pipes must not hold the test: what came until then counts.
        let begun = Instant::now();
        while !(self.out.is_finished() && self.err.is_finished()) {
            assert!(
                begun.elapsed() < HANG,
                "{} ended, but something still holds its stdout or stderr",
                self.what
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Output {
            what: self.what,
            status,
            out: self.out.join().unwrap(),
            err: self.err.join().unwrap(),
        }
    }
}

/// What a command printed and how it ended.
pub struct Output {
    what: String,
    status: ExitStatus,
    /// The bytes of its standard output.
    pub out: Vec<u8>,
    /// The bytes of its standard error.
    pub err: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }

    /// The status that a shell would show: 128 + n for a death by signal n.
    pub fn status(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Output {
        self.exits(0)
    }

    /// Asserts this status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Output {
        assert_eq!(self.status(), status, "exit status of {self:?}");
        self
    }

    /// The lines that cx itself said: those that begin with `[cx]`.
    pub fn said(&self) -> Vec<String> {
        self.stderr()
            .lines()
            .filter(|l| l.starts_with("[cx]"))
            .map(String::from)
            .collect()
    }

    /// The one line that cx said.
    #[track_caller]
    pub fn line(&self) -> String {
        let said = self.said();
        assert_eq!(said.len(), 1, "one line of cx in {self:?}");
        said[0].clone()
    }

    /// Asserts that cx's own lines hold `part`.
    #[track_caller]
    pub fn says(self, part: &str) -> Output {
        assert!(
            self.said().iter().any(|l| l.contains(part)),
            "no line of cx has {part:?}: {self:?}"
        );
        self
    }

    /// Asserts that standard error holds `part`.
    #[track_caller]
    pub fn complains(self, part: &str) -> Output {
        assert!(self.stderr().contains(part), "stderr has no {part:?}: {self:?}");
        self
    }
}

impl fmt::Debug for Output {
    /// Made to be read in a failed test.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let indent = |b: &[u8]| {
            String::from_utf8_lossy(b)
                .lines()
                .map(|l| format!("\n  | {l}"))
                .collect::<String>()
        };
        write!(f, "{}\n{:?}", self.what, self.status)?;
        write!(f, "\nstdout:{}\nstderr:{}", indent(&self.out), indent(&self.err))
    }
}

/// Asks until it is so; for at most `limit`, and then fails with the last answer.
#[track_caller]
pub fn wait_for<T>(limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(value) => return value,
            Err(why) => assert!(begun.elapsed() < limit, "after {limit:?}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a file exists.
#[track_caller]
pub fn wait_for_file(path: &Path) {
    wait_for(Duration::from_secs(60), || {
        if path.exists() {
            Ok(())
        } else {
            Err(format!("{} is not there", path.display()))
        }
    });
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        all
    })
}

fn signal(pids: &[u32], name: &str) {
    for pid in pids {
        // One at a time: one that is gone must not keep the others from it.
        let _ = Command::new("kill")
            .args([name, &pid.to_string()])
            .stderr(Stdio::null())
            .status();
    }
}

/// A process's command line; `None` if it is gone.
fn words(pid: u32) -> Option<String> {
    let out = Command::new("ps")
        .args(["-o", "args=", "-p", &pid.to_string()])
        .output()
        .expect("ps runs");
    let line = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    (!line.is_empty()).then_some(line)
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
