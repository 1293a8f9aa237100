//! [`Project`]: a tree that commands run in.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CX, Output, Running, TestEnv, write_file};

/// The arguments with which cx runs a line of shell on a node.
pub fn on<'a>(node: &'a str, line: &'a str) -> [&'a str; 7] {
    ["run", "--on", node, "--", "sh", "-c", line]
}

/// A tree that commands run in.
pub struct Project<'a> {
    pub(super) env: &'a TestEnv,
    /// Its top directory.
    pub dir: PathBuf,
}

impl Project<'_> {
    /// Runs cx here.
    pub fn cx<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.env.run(&mut self.cx_command(args), b"")
    }

    /// Runs a line of shell on a node.
    #[track_caller]
    pub fn on(&self, node: &str, line: &str) -> Output {
        self.cx(&on(node, line))
    }

    /// Runs cx here with this on its standard input.
    pub fn cx_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        self.env.run(&mut self.cx_command(args), input)
    }

    /// Starts cx here.
    pub fn start_cx(&self, args: &[&str]) -> Running {
        Running::start(&mut self.cx_command(args), b"")
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
