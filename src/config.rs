//! The user's configuration, `~/.config/cx/config.toml` (`CX_CONFIG` names another file).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::paths::{self, Paths};
use crate::plan::rules::{NAMES, UserRule};
use crate::proto::PathsWish;

/// All that the user configured, with defaults filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The file it came from (also where there is none yet).
    pub path: PathBuf,
    /// The nodes, in the user's order.
    pub nodes: Vec<NodeConfig>,
    /// `[ssh] config = "PATH"`: given to `ssh -F`.
    pub ssh_config: Option<PathBuf>,
    /// `[policy]`.
    pub policy: Policy,
    /// `[gc]`: what is kept.
    pub gc: Keep,
    /// `forward = [5432]`: ports of localhost here that a node's localhost leads to during a run.
    pub forward: Vec<u16>,
    /// `shared = ["/net/proj"]`: directories on file systems that nodes share with this machine, at the same path.
    pub shared: Vec<PathBuf>,
    /// `include = [".env.test"]`: untracked secrets that go along all the same: names, or with a slash paths from a workspace's top.
    pub include: Vec<String>,
    /// `[[rule]]`: the user's own rules, first match first.
    pub rules: Vec<UserRule>,
    /// `[env] pass = ["NAME", "PREFIX_*"]`: variables that go along.
    pub env_pass: Vec<String>,
}

/// `[node.NAME]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeConfig {
    /// The alias that ssh resolves.
    pub name: String,
    /// Runs at once; default: half the cores, at least one.
    pub slots: Option<u32>,
    /// Tags that rules and requirements can name.
    pub tags: Vec<String>,
    /// Overrides what the probe says.
    pub os: Option<String>,
    /// Overrides what the probe says.
    pub arch: Option<String>,
    /// What comes back from this node.
    pub write_back: WriteBack,
    /// How a tree is shown at its own path there.
    pub paths: PathsWish,
    /// Not a machine but the agent over a pipe on this one, with a home of its own in this directory (`cx demo`).
    pub embedded: Option<PathBuf>,
}

/// `write_back`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteBack {
    /// Nothing.
    None,
    /// What the rule names as outputs.
    Outputs,
    /// All that the command changed.
    #[default]
    All,
}

/// `[policy]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `auto_route = false`: everything local unless a node is named.
    pub auto_route: bool,
    /// `busy_cpu`: per cent of local CPU use past which commands that no rule knows, and that took long under cx, move too.
    pub busy_cpu: f32,
    /// `when_full`: what happens when every node is full.
    pub when_full: WhenFull,
    /// `link_grace`: seconds a run lives on after its link went silent.
    pub link_grace: u32,
    /// `hold`: seconds that the stream to a node's agent is kept for the next run; 0: not at all.
    pub hold: u32,
    /// `back_limit`: bytes that come back from one run at most (`"256MB"`).
    pub back_limit: u64,
    /// `ignored_limit`: bytes of ignored files that go along at most (`"32MB"`).
    pub ignored_limit: u64,
    /// `off = ["cargo"]`: built-in rules switched off.
    pub off: Vec<String>,
    /// `detach_at`: when a run goes on without its caller.
    pub detach_at: DetachAt,
    /// `suggest_after`: seconds past which the agent's model is told that a heavy command ran here; `None`: never.
    pub suggest_after: Option<u32>,
    /// `allow_overload`: nodes take runs however busy they are, as long as a slot is free.
    pub allow_overload: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            auto_route: true,
            busy_cpu: 40.0,
            when_full: WhenFull::Auto,
            link_grace: 600,
            hold: 300,
            back_limit: 256 << 20,
            ignored_limit: 32 << 20,
            off: Vec::new(),
            detach_at: DetachAt::Never,
            suggest_after: None,
            allow_overload: false,
        }
    }
}

/// `[gc]`: what is kept on each node, and of what is remembered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// `older`: what was not used for longer goes by itself, milliseconds (`"30d"`).
    pub older_ms: u64,
    /// `max_size`: past this, the oldest on a node go by themselves, bytes.
    pub max_bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Keep {
            older_ms: 30 * 24 * 3600 * 1000,
            max_bytes: 50 << 30,
        }
    }
}

/// `detach_at`: a number of seconds, or `"deadline"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub enum DetachAt {
    /// Never by itself.
    #[default]
    Never,
    /// So long after cx began.
    Seconds(u32),
    /// Shortly before the agent's shell would end the call, as far as the hook knows that.
    Deadline,
}

impl TryFrom<toml::Value> for DetachAt {
    type Error = String;
    fn try_from(v: toml::Value) -> Result<Self, String> {
        match &v {
            toml::Value::Integer(n) if *n > 0 => u32::try_from(*n)
                .map(DetachAt::Seconds)
                .map_err(|e| e.to_string()),
            toml::Value::String(s) if s == "deadline" => Ok(DetachAt::Deadline),
            _ => Err(format!(
                "detach_at is a number of seconds or \"deadline\", not {v}"
            )),
        }
    }
}

/// `when_full`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// Local while this machine is not busy, else wait.
    #[default]
    Auto,
    /// Wait for a slot.
    Wait,
    /// Run locally.
    Local,
}

/// The largest config that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// The file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    nodes: Vec<String>,
    node: BTreeMap<String, NodeTable>,
    ssh: SshTable,
    policy: PolicyTable,
    env: EnvTable,
    gc: GcTable,
    forward: Vec<u16>,
    shared: Vec<PathBuf>,
    include: Vec<String>,
    rule: Vec<UserRule>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GcTable {
    older: Option<Age>,
    max_size: Option<Size>,
}

/// `"30d"`, `"12h"`, `"90m"`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Age(u64);

impl TryFrom<String> for Age {
    type Error = String;
    fn try_from(v: String) -> Result<Self, String> {
        parse_age(&v).map(Age)
    }
}

/// Milliseconds of an age like `14d`, `12h`, `90m`.
///
/// # Errors
/// When it is none.
pub fn parse_age(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let at = text.len().saturating_sub(1);
    let minutes = match text.get(at..) {
        Some("d") => 24 * 60,
        Some("h") => 60,
        Some("m") => 1,
        _ => 0,
    };
    let n = text.get(..at).and_then(|n| n.parse::<u32>().ok());
    n.filter(|_| minutes > 0)
        .map(|n| u64::from(n) * minutes * 60_000)
        .ok_or_else(|| format!("{text:?} is not an age; write, say, \"14d\", \"12h\" or \"90m\""))
}

/// Bytes of a size like `10GB` or `5000`.
///
/// # Errors
/// When it is none.
pub fn parse_size(text: &str) -> Result<u64, String> {
    Size::try_from(toml::Value::String(text.to_owned())).map(|s| s.0)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NodeTable {
    slots: Option<u32>,
    tags: Vec<String>,
    os: Option<String>,
    arch: Option<String>,
    write_back: WriteBack,
    paths: PathsWish,
    embedded: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SshTable {
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EnvTable {
    pass: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyTable {
    auto_route: Option<bool>,
    busy_cpu: Option<f32>,
    when_full: WhenFull,
    link_grace: Option<u32>,
    hold: Option<u32>,
    back_limit: Option<Size>,
    ignored_limit: Option<Size>,
    off: Vec<String>,
    detach_at: DetachAt,
    suggest_after: Option<u32>,
    allow_overload: bool,
}

/// `"256MB"` or a number of bytes.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "toml::Value")]
struct Size(u64);

impl TryFrom<toml::Value> for Size {
    type Error = String;
    fn try_from(v: toml::Value) -> Result<Self, String> {
        let bad = || format!("{v} is not a size; write a number of bytes or, say, \"256MB\"");
        match &v {
            toml::Value::Integer(n) => u64::try_from(*n).map(Size).map_err(|_| bad()),
            toml::Value::String(s) => {
                let s = s.trim();
                let at = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
                let n: u64 = s[..at].parse().map_err(|_| bad())?;
                let shift = match s[at..]
                    .trim()
                    .to_ascii_uppercase()
                    .trim_end_matches("IB")
                    .trim_end_matches('B')
                {
                    "" => 0,
                    "K" => 10,
                    "M" => 20,
                    "G" => 30,
                    _ => return Err(bad()),
                };
                n.checked_shl(shift)
                    .filter(|r| r >> shift == n)
                    .map(Size)
                    .ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

impl Config {
    /// Reads the config. A file that does not exist is an empty config.
    ///
    /// # Errors
    /// When the file can't be read or says something that cx does not understand: the place, what, and what to do.
    pub fn load(paths: &Paths) -> anyhow::Result<Config> {
        let path = &paths.config_file;
        if let Ok(meta) = std::fs::metadata(path) {
            if !meta.is_file() {
                bail!("{} is not a file", path.display());
            }
            if meta.len() > MAX_FILE {
                bail!(
                    "{} is larger than a megabyte; that is no configuration of cx",
                    path.display()
                );
            }
        }
        let text = match std::fs::read_to_string(path) {
            Ok(t) => t,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).with_context(|| format!("failed to read {}", path.display())),
        };
        Config::parse(&text, paths).with_context(|| format!("in {}", path.display()))
    }

    /// Reads a config's text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, paths: &Paths) -> anyhow::Result<Config> {
        let file: File = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start);
            let line = text[..at.min(text.len())].matches('\n').count() + 1;
            anyhow::anyhow!("line {line}: {}", e.message().replace('\n', "; "))
        })?;
        let mut tables = file.node;
        let mut nodes = Vec::new();
        for name in file.nodes {
            valid_node_name(&name).map_err(anyhow::Error::msg)?;
            if nodes.iter().any(|n: &NodeConfig| n.name == name) {
                bail!("nodes names {name:?} twice; remove one");
            }
            let t = tables.remove(&name).unwrap_or_default();
            if t.slots == Some(0) {
                bail!(
                    "[node.{name}] slots = 0 would never run anything; take the node out of `nodes` instead"
                );
            }
            let lower = |s: String| s.to_lowercase();
            let embedded = t.embedded.map(|p| expand(&p, paths));
            let node = NodeConfig {
                slots: t.slots,
                tags: t.tags,
                os: t.os.map(lower),
                arch: t.arch.map(lower),
                write_back: t.write_back,
                paths: t.paths,
                embedded,
                name,
            };
            nodes.push(node);
        }
        if let Some(name) = tables.keys().next() {
            bail!(
                "[node.{name}] is about a node that `nodes` does not name; add {name:?} there or remove the table"
            );
        }
        let mut shared = Vec::new();
        for dir in file.shared {
            if !(dir.is_absolute() || dir.starts_with("~")) || dir == Path::new("/") {
                bail!("shared: {dir:?} is no directory by its full path below /, or below ~");
            }
            shared.push(expand(&dir, paths));
        }
        let p = file.policy;
        let d = Policy::default();
        let policy = Policy {
            auto_route: p.auto_route.unwrap_or(d.auto_route),
            busy_cpu: p.busy_cpu.unwrap_or(d.busy_cpu),
            when_full: p.when_full,
            link_grace: p.link_grace.unwrap_or(d.link_grace),
            hold: p.hold.unwrap_or(d.hold),
            back_limit: p.back_limit.map_or(d.back_limit, |s| s.0),
            ignored_limit: p.ignored_limit.map_or(d.ignored_limit, |s| s.0),
            off: p.off,
            detach_at: p.detach_at,
            suggest_after: p.suggest_after,
            allow_overload: p.allow_overload,
        };
        Ok(Config {
            path: paths.config_file.clone(),
            nodes,
            ssh_config: file.ssh.config.map(|c| expand(&c, paths)),
            policy,
            gc: Keep {
                older_ms: file.gc.older.map_or(Keep::default().older_ms, |a| a.0),
                max_bytes: file.gc.max_size.map_or(Keep::default().max_bytes, |s| s.0),
            },
            forward: file.forward,
            shared,
            include: file.include,
            rules: file.rule,
            env_pass: file.env.pass,
        })
    }

    /// What in it will never act, each as one line: a rule whose `regex` does not compile, a name in `off` that no rule has.
    pub fn doubts(&self) -> Vec<String> {
        let rules = self.rules.iter().filter_map(|r| r.validate().err());
        let rules = rules.map(|why| format!("{}; until it does, the rule never applies", one_line(&why)));
        let known = |name: &&String| !NAMES.contains(&name.as_str());
        let off = self.policy.off.iter().filter(known);
        let off = off.map(|name| format!("`off` names {name:?}, and no built-in rule is called so"));
        rules.chain(off).collect()
    }

    /// Refuses files that somebody else, or the workspace's own content, may have written.
    ///
    /// # Errors
    /// Which file, why, and what to do.
    pub fn check_trusted(&self, workspace: Option<&Path>) -> anyhow::Result<()> {
        for file in std::iter::once(&self.path).chain(self.ssh_config.as_ref()) {
            if let Some(why) = paths::untrusted(file, workspace) {
                bail!("{why}");
            }
        }
        Ok(())
    }
}

/// `~/x`, or a path relative to the config, made absolute.
fn expand(path: &Path, paths: &Paths) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => paths.home.join(rest),
        Err(_) => paths.config_file.parent().unwrap_or(&paths.home).join(path),
    }
}

/// Whether a name can be a node's.
///
/// # Errors
/// What is wrong with it.
pub fn valid_node_name(name: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("{name:?} can't be a node's name: {why}"));
    if name.is_empty() || name.len() > 255 {
        return bad("it must have 1 to 255 bytes");
    }
    if name == "local" {
        return bad("this machine is called that");
    }
    if name.starts_with('-') || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return bad("ssh would not take it for a host");
    }
    Ok(())
}

/// Adds a node to `nodes` in the file, keeping everything else as it is. Makes the file if there is none.
///
/// # Errors
/// When the file can't be understood or written.
pub fn add_node(paths: &Paths, name: &str) -> anyhow::Result<()> {
    edit(paths, |doc| {
        let nodes = doc
            .entry("nodes")
            .or_insert(toml_edit::value(toml_edit::Array::new()));
        let nodes = nodes.as_array_mut().context("`nodes` is not a list")?;
        if !nodes.iter().any(|v| v.as_str() == Some(name)) {
            nodes.push(name);
        }
        Ok(())
    })
}

/// Takes a node, and its own table, out of the file, keeping everything else as it is.
///
/// # Errors
/// As [`add_node`].
pub fn remove_node(paths: &Paths, name: &str) -> anyhow::Result<()> {
    edit(paths, |doc| {
        if let Some(nodes) = doc.get_mut("nodes").and_then(|n| n.as_array_mut()) {
            nodes.retain(|v| v.as_str() != Some(name));
        }
        if let Some(tables) = doc.get_mut("node").and_then(|n| n.as_table_like_mut()) {
            tables.remove(name);
        }
        Ok(())
    })
}

fn edit(
    paths: &Paths,
    change: impl FnOnce(&mut toml_edit::DocumentMut) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // A symlinked config (dotfiles) stays one.
    let path = std::fs::canonicalize(&paths.config_file).unwrap_or_else(|_| paths.config_file.clone());
    let text = match std::fs::read_to_string(&path) {
        Ok(t) => t,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("failed to read {}", path.display())),
    };
    let mut doc: toml_edit::DocumentMut = text
        .parse()
        .with_context(|| format!("{} is not valid TOML; it was left as it is", path.display()))?;
    change(&mut doc)?;
    paths::write_atomic(&path, doc.to_string().as_bytes(), 0o600)
        .with_context(|| format!("failed to write {}", path.display()))
}

/// The first and the last line of what a parser shows over several.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{} {last}", first.trim_end_matches(':')),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, &Paths::under(Path::new("/home/me"))).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn what_never_acts_is_told() {
        let paths = Paths::under(Path::new("/home/me"));
        let doubts = |text: &str| Config::parse(text, &paths).unwrap().doubts();
        let rule = |regex: &str| format!("[[rule]]\nname = 'b'\nregex = '{regex}'\nclass = 'heavy'\n");
        assert_eq!(doubts(&rule("^foo (bar|baz)$")), [""; 0]);
        let told = doubts(&rule("(["));
        assert!(
            told.len() == 1 && told[0].contains("rule `b`") && told[0].contains("unclosed character class"),
            "{told:?}"
        );
        assert!(!told[0].contains('\n'));
        assert_eq!(doubts("[policy]\noff = ['cargo', 'make']"), [""; 0]);
        assert_eq!(
            doubts("[policy]\noff = ['crago']"),
            ["`off` names \"crago\", and no built-in rule is called so"]
        );
    }

    #[test]
    fn a_full_config_is_understood() {
        let c = parse(
            "nodes = ['mini', 'tower']\n[node.tower]\nslots = 4\ntags = ['big']\nos = 'Linux'\nwrite_back = 'outputs'\n\
             [ssh]\nconfig = '~/.ssh/other'\n[policy]\nbusy_cpu = 60\nwhen_full = 'wait'\nback_limit = '1GB'\noff = ['cargo']\n\
             [env]\npass = ['FOO_*']\n",
        )
        .unwrap();
        assert_eq!(c.nodes.len(), 2);
        assert_eq!(c.nodes[1].slots, Some(4));
        assert_eq!(c.nodes[1].os.as_deref(), Some("linux"));
        assert_eq!(c.nodes[1].write_back, WriteBack::Outputs);
        assert_eq!(c.ssh_config.unwrap(), Path::new("/home/me/.ssh/other"));
        assert_eq!(c.policy.back_limit, 1 << 30);
        assert_eq!(c.policy.when_full, WhenFull::Wait);
        assert_eq!(parse("").unwrap().policy, Policy::default());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, says) in [
            ("nodes = [\n", "line"),
            ("x = 1\n", "unknown field `x`"),
            ("nodes = ['a', 'a']", "twice"),
            ("nodes = ['-oProxyCommand=x']", "ssh would not take it"),
            ("nodes = ['local']", "this machine"),
            ("[node.b]\nslots = 1", "does not name"),
            ("nodes = ['a']\n[node.a]\nslots = 0", "never run anything"),
            ("nodes = ['a']\n[node.a]\nslotz = 1", "line 3"),
            ("[policy]\nback_limit = '1XB'", "is not a size"),
            ("[gc]\nolder = '30 days'", "is not an age"),
            ("forward = [70000]", "70000"),
            ("shared = ['net']", "full path"),
            ("shared = ['/']", "below /"),
            ("[policy]\nwhen_full = 'never'", "unknown variant"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.contains(says), "{text:?}: {e}");
        }
    }

    #[test]
    fn editing_keeps_comments_and_tables() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        add_node(&paths, "a").unwrap();
        let text =
            "# mine\nnodes = [\"a\"] # these\n\n[node.a]\nslots = 2\n\n[policy]\nbusy_cpu = 50 # half\n";
        std::fs::write(&paths.config_file, text).unwrap();
        add_node(&paths, "b").unwrap();
        add_node(&paths, "b").unwrap();
        let got = std::fs::read_to_string(&paths.config_file).unwrap();
        assert_eq!(got, text.replace("[\"a\"]", "[\"a\", \"b\"]"));
        remove_node(&paths, "a").unwrap();
        let c = Config::load(&paths).unwrap();
        assert_eq!(c.nodes.len(), 1);
        assert!(
            std::fs::read_to_string(&paths.config_file)
                .unwrap()
                .contains("# half")
        );
        std::fs::write(&paths.config_file, "nodes = [").unwrap();
        assert!(format!("{:#}", add_node(&paths, "c").unwrap_err()).contains("left as it is"));
    }
}
