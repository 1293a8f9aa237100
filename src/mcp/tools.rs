//! What the server declares: the four tools, their schemas and the instructions; and the arguments of a call, held to exactly that.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

/// The declarations as they go out, but for blanks.
const DECLARED: &str = include_str!("tools.json");

/// What a model is told of the whole server; clients that defer tools show it in their place.
pub const INSTRUCTIONS: &str = "cx runs commands on a cluster of machines over ssh, in synced copies of the current project; \
changed files come back. Use cluster_bash instead of Bash for builds, test suites and other heavy commands: same command, same \
output and exit status. Use parallel_execute for several independent commands, offload_to for one named machine, cluster_status \
for what there is. A non-zero exit is the command's own result. Each result ends with [machine exit STATUS SECONDS].";

/// Default of `timeout`, seconds.
const TIMEOUT: u64 = 600;

/// The longest command, bytes.
const MAX_COMMAND: usize = 65536;

/// The longest name of a node, and the longest path, characters: what a host's name and Linux's `PATH_MAX` come to.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4096;

/// The tools; with output schemas for programs that want structured content.
pub fn declared(structured: bool) -> Vec<Tool> {
    let mut tools: Vec<Tool> = serde_json::from_str(DECLARED).unwrap_or_default();
    if structured {
        for tool in &mut tools {
            tool.output_schema = output_schema(&tool.name).as_object().cloned().map(Arc::new);
        }
    }
    tools
}

/// The schema of a tool's structured content.
fn output_schema(tool: &str) -> Value {
    let run = json!({
        "type": "object",
        "properties": {
            "node_id": {"type": "string"},
            "state": {"type": "string", "enum": ["exited", "signaled", "timed_out", "cancelled", "detached", "waiting", "lost", "not_run"]},
            "exit_code": {"type": "integer"},
            "duration_ms": {"type": "integer"},
            "truncated": {"type": "boolean"},
            "log_path": {"type": "string"},
            "auto_routed": {"type": "boolean"},
            "reason": {"type": "string"},
            "run_id": {"type": "string"},
            "output": {"type": "string"}
        },
        "required": ["node_id", "state", "duration_ms", "truncated", "auto_routed", "reason", "run_id", "output"]
    });
    match tool {
        "cluster_status" => json!({
            "type": "object",
            "properties": {
                "nodes": {"type": "array", "items": {"type": "object"}},
                "runs": {"type": "array", "items": {"type": "object"}},
                "nodes_left_out": {"type": "integer"},
                "runs_left_out": {"type": "integer"}
            },
            "required": ["nodes", "runs"]
        }),
        "parallel_execute" => json!({
            "type": "object",
            "properties": {"summary": {"type": "string"}, "runs": {"type": "array", "items": run}},
            "required": ["summary", "runs"]
        }),
        _ => run,
    }
}

/// A call as it may be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `cluster_bash`
    Bash {
        /// The text.
        command: String,
        /// `linux` or `darwin`.
        os: Option<String>,
        /// `x86_64` or `arm64`.
        arch: Option<String>,
        /// Whether parts may leave this machine unasked.
        auto_route: bool,
        /// Where, and for how long.
        common: Common,
    },
    /// `cluster_status`
    Status,
    /// `offload_to`
    Offload {
        /// The node.
        node: String,
        /// The text.
        command: String,
        /// Where, and for how long.
        common: Common,
    },
    /// `parallel_execute`
    Parallel {
        /// The texts.
        commands: Vec<String>,
        /// Where, and for how long each.
        common: Common,
    },
}

/// What all calls that run something have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The directory, where one was given.
    pub cwd: Option<String>,
    /// Seconds.
    pub timeout: u64,
}

/// Why a call can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// There is no such tool.
    Tool,
    /// An argument is not what was declared; what is wrong and what would be right.
    Argument(String),
}

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// For whatever the declaration does not allow.
    pub fn read(tool: &str, arguments: JsonObject) -> Result<Call, Bad> {
        let mut args = Args {
            left: arguments,
            known: Vec::new(),
        };
        let call = match tool {
            "cluster_bash" => Call::Bash {
                command: args.command("command")?,
                os: args.one_of("requires_os", &["linux", "darwin"], |s| match s {
                    "macos" | "osx" | "mac" => "darwin".into(),
                    s => s.into(),
                })?,
                arch: args.one_of("requires_arch", &["x86_64", "arm64"], |s| match s {
                    "amd64" | "x64" | "x86-64" => "x86_64".into(),
                    "aarch64" => "arm64".into(),
                    s => s.into(),
                })?,
                auto_route: args.boolean("auto_route", true)?,
                common: args.common()?,
            },
            "cluster_status" => Call::Status,
            "offload_to" => Call::Offload {
                node: args
                    .text("node_id", MAX_NAME)?
                    .ok_or_else(|| missing("node_id"))?,
                command: args.command("command")?,
                common: args.common()?,
            },
            "parallel_execute" => Call::Parallel {
                commands: args.commands()?,
                common: args.common()?,
            },
            _ => return Err(Bad::Tool),
        };
        if let Call::Bash {
            os,
            arch,
            auto_route: false,
            ..
        } = &call
            && let Some(name) = os
                .as_ref()
                .map(|_| "requires_os")
                .or(arch.as_ref().map(|_| "requires_arch"))
        {
            return Err(bad(format!(
                "`auto_route`: false keeps the command on this machine, and `{name}` has cx choose one: give one of the two"
            )));
        }
        match args.left.keys().next() {
            None => Ok(call),
            Some(key) => Err(bad(format!(
                "there is no argument `{}`; {tool} takes {}",
                crate::node::printable(key, 60),
                if args.known.is_empty() {
                    "none".into()
                } else {
                    args.known.join(", ")
                }
            ))),
        }
    }
}

fn bad(text: String) -> Bad {
    Bad::Argument(text)
}

fn missing(name: &str) -> Bad {
    bad(format!("`{name}` is required"))
}

struct Args {
    left: JsonObject,
    known: Vec<&'static str>,
}

impl Args {
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name)
    }

    fn string(&mut self, name: &'static str) -> Result<Option<String>, Bad> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => Err(bad(format!("`{name}` must be a string, not {}", kind(&other)))),
        }
    }

    /// A string of one to `max` characters.
    fn text(&mut self, name: &'static str, max: usize) -> Result<Option<String>, Bad> {
        let text = self.string(name)?;
        match text.as_ref().map(|t| t.chars().count()) {
            Some(0) => Err(bad(format!("`{name}` must not be empty"))),
            Some(n) if n > max => Err(bad(format!(
                "`{name}` must have at most {max} characters, not {n}"
            ))),
            _ => Ok(text),
        }
    }

    fn command(&mut self, name: &'static str) -> Result<String, Bad> {
        checked(
            self.string(name)?.ok_or_else(|| missing(name))?,
            &format!("`{name}`"),
        )
    }

    fn commands(&mut self) -> Result<Vec<String>, Bad> {
        let name = "commands";
        let list = match self.take(name) {
            None => return Err(missing(name)),
            Some(Value::Array(list)) => list,
            Some(other) => {
                return Err(bad(format!(
                    "`{name}` must be an array of strings, not {}",
                    kind(&other)
                )));
            }
        };
        if list.is_empty() || list.len() > 32 {
            return Err(bad(format!(
                "`{name}` must have 1 to 32 entries, not {}",
                list.len()
            )));
        }
        list.into_iter()
            .map(|v| match v {
                Value::String(s) => checked(s, "each of `commands`"),
                other => Err(bad(format!("`{name}` must hold strings, not {}", kind(&other)))),
            })
            .collect()
    }

    fn one_of(
        &mut self,
        name: &'static str,
        allowed: &[&str],
        alias: impl Fn(&str) -> String,
    ) -> Result<Option<String>, Bad> {
        let Some(given) = self.string(name)? else {
            return Ok(None);
        };
        let value = alias(&given.to_ascii_lowercase());
        if allowed.contains(&value.as_str()) {
            Ok(Some(value))
        } else {
            Err(bad(format!(
                "`{name}` must be one of {}, not {:?}",
                allowed.join(", "),
                crate::node::printable(&given, 40)
            )))
        }
    }

    fn boolean(&mut self, name: &'static str, default: bool) -> Result<bool, Bad> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(b),
            Some(other) => Err(bad(format!(
                "`{name}` must be true or false, not {}",
                kind(&other)
            ))),
        }
    }

    fn common(&mut self) -> Result<Common, Bad> {
        let cwd = self.text("cwd", MAX_PATH)?;
        let timeout = match self.take("timeout") {
            None => TIMEOUT,
            // JSON has one kind of number: 60.0 is 60.
            Some(Value::Number(n)) => n
                .as_u64()
                .or_else(|| {
                    n.as_f64()
                        .filter(|f| f.fract() == 0.0 && *f > 0.0 && *f < 1e9)
                        .map(|f| f as u64)
                })
                .filter(|n| (1..=86400).contains(n))
                .ok_or_else(|| {
                    bad(format!(
                        "`timeout` must be a whole number of seconds, 1 to 86400, not {n}"
                    ))
                })?,
            Some(other) => {
                return Err(bad(format!(
                    "`timeout` must be a whole number of seconds, not {}",
                    kind(&other)
                )));
            }
        };
        Ok(Common { cwd, timeout })
    }
}

fn checked(command: String, name: &str) -> Result<String, Bad> {
    if command.trim().is_empty() {
        Err(bad(format!("{name} must not be empty")))
    } else if command.chars().count() > MAX_COMMAND {
        Err(bad(format!(
            "{name} is longer than {MAX_COMMAND} characters; put it into a file"
        )))
    } else if command.contains('\0') {
        Err(bad(format!("{name} holds a NUL, which no shell takes")))
    } else {
        Ok(command)
    }
}

fn kind(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tool: &str, args: Value) -> Result<Call, Bad> {
        Call::read(tool, args.as_object().unwrap().clone())
    }

    #[test]
    fn the_declaration_is_small_and_plain() {
        let tools = declared(false);
        let names: Vec<&str> = tools.iter().map(|t| &*t.name).collect();
        assert_eq!(
            names,
            ["cluster_bash", "cluster_status", "offload_to", "parallel_execute"]
        );
        let text = serde_json::to_string(&json!({ "tools": tools })).unwrap();
        assert!(text.len() < 3000, "{} bytes", text.len());
        assert!(INSTRUCTIONS.len() < 600, "{} bytes", INSTRUCTIONS.len());
        assert!(!text.contains("$ref") && !text.contains("null"));
        for tool in &tools {
            assert_eq!(tool.input_schema["additionalProperties"], false);
            let read_only = tool.annotations.as_ref().unwrap().read_only_hint;
            assert_eq!(read_only, Some(tool.name == "cluster_status"));
        }
        assert!(declared(true).iter().all(|t| t.output_schema.is_some()));
    }

    #[test]
    fn what_is_declared_is_enforced() {
        for (tool, args) in [
            ("cluster_bash", json!({})),
            ("cluster_bash", json!({"command": null})),
            ("cluster_bash", json!({"command": 1})),
            ("cluster_bash", json!({"command": ""})),
            ("cluster_bash", json!({"command": "  \n"})),
            ("cluster_bash", json!({"command": "a\0b"})),
            ("cluster_bash", json!({"command": "x".repeat(MAX_COMMAND + 1)})),
            ("cluster_bash", json!({"command": "ls", "node_id": "a"})),
            ("cluster_bash", json!({"command": "ls", "requires_os": "windows"})),
            ("cluster_bash", json!({"command": "ls", "requires_os": null})),
            ("cluster_bash", json!({"command": "ls", "requires_arch": "mips"})),
            ("cluster_bash", json!({"command": "ls", "auto_route": "yes"})),
            ("cluster_bash", json!({"command": "ls", "timeout": 0})),
            ("cluster_bash", json!({"command": "ls", "timeout": 86401})),
            ("cluster_bash", json!({"command": "ls", "timeout": 1.5})),
            ("cluster_bash", json!({"command": "ls", "timeout": -1})),
            ("cluster_bash", json!({"command": "ls", "timeout": "5"})),
            ("cluster_bash", json!({"command": "ls", "timeout": 1e300})),
            ("cluster_bash", json!({"command": "ls", "cwd": 3})),
            ("cluster_status", json!({"refresh": true})),
            ("offload_to", json!({"command": "ls"})),
            ("offload_to", json!({"node_id": "", "command": "ls"})),
            ("offload_to", json!({"node_id": "a"})),
            (
                "offload_to",
                json!({"node_id": "a".repeat(MAX_NAME + 1), "command": "ls"}),
            ),
            ("cluster_bash", json!({"command": "ls", "cwd": ""})),
            (
                "cluster_bash",
                json!({"command": "ls", "cwd": "a".repeat(MAX_PATH + 1)}),
            ),
            ("parallel_execute", json!({"commands": []})),
            ("parallel_execute", json!({"commands": vec!["ls"; 33]})),
            ("parallel_execute", json!({"commands": "ls"})),
            ("parallel_execute", json!({"commands": ["ls", 1]})),
            ("parallel_execute", json!({"commands": ["ls", ""]})),
        ] {
            assert!(
                matches!(read(tool, args.clone()), Err(Bad::Argument(_))),
                "{tool} {args}"
            );
        }
        assert_eq!(read("nothing", json!({})), Err(Bad::Tool));
    }

    #[test]
    fn defaults_and_aliases() {
        let common = Common {
            cwd: None,
            timeout: 600,
        };
        assert_eq!(
            read(
                "cluster_bash",
                json!({"command": "ls", "requires_os": "macOS", "requires_arch": "aarch64"})
            ),
            Ok(Call::Bash {
                command: "ls".into(),
                os: Some("darwin".into()),
                arch: Some("arm64".into()),
                auto_route: true,
                common: common.clone(),
            })
        );
        assert_eq!(
            read(
                "parallel_execute",
                json!({"commands": ["a", "b"], "timeout": 60.0})
            ),
            Ok(Call::Parallel {
                commands: vec!["a".into(), "b".into()],
                common: Common {
                    timeout: 60,
                    ..common
                },
            })
        );
        assert_eq!(read("cluster_status", json!({})), Ok(Call::Status));
    }
}
