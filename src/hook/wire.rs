//! The JSON that Claude Code sends to a hook and what goes back, turned into our own types here.
//!
//! Fields that are unknown, missing or of another type than expected are no errors: only broken JSON yields
//! nothing. What goes back is the client's own text with the changed values spliced in, so that big numbers,
//! escapes, order and fields of later versions survive.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A longer command, bytes, is not looked at: the client gives it to a shell as one argument, and no longer one can be given
/// (`MAX_ARG_STRLEN` on Linux, `ARG_MAX` on macOS), so that it cannot run, with cx or without.
pub(super) const MAX_COMMAND: usize = if cfg!(target_os = "linux") {
    128 << 10
} else {
    1 << 20
};

/// A longer field (the working directory, a name), bytes of JSON, counts as missing: no path is longer, six bytes for each of its own.
const MAX_FIELD: usize = 6 * 4096;

/// A hook event, as far as cx looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// `hook_event_name`.
    pub name: String,
    /// `tool_name`; empty if missing.
    pub tool: String,
    /// `session_id`; empty if missing.
    pub session: String,
    /// `tool_use_id`; empty if missing.
    pub tool_use: String,
    /// `permission_mode`; empty if missing.
    pub mode: String,
    /// `cwd`; empty if missing.
    pub cwd: String,
    /// `duration_ms`, after a call: how long it took, milliseconds; 0 if missing.
    pub duration_ms: u64,
    /// `tool_input`, where it is an object with a `command`.
    pub input: Option<BashInput<'a>>,
}

/// The input of the Bash tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BashInput<'a> {
    raw: &'a str,
    /// The command.
    pub command: String,
    command_at: Range<usize>,
    /// The call's time-out in milliseconds, where one was given as a whole number.
    pub timeout_ms: Option<u64>,
    timeout_at: Range<usize>,
    /// `run_in_background`.
    pub background: bool,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    hook_event_name: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_name: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use_id: Option<&'a RawValue>,
    #[serde(borrow)]
    permission_mode: Option<&'a RawValue>,
    #[serde(borrow)]
    cwd: Option<&'a RawValue>,
    #[serde(borrow)]
    duration_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_input: Option<&'a RawValue>,
}

/// Reads an event; `None` for what is not one JSON object in UTF-8.
pub fn read(bytes: &[u8]) -> Option<Event<'_>> {
    // serde would take an array for a struct as well.
    let wire: Wire<'_> = serde_json::from_slice(bytes)
        .ok()
        .filter(|_| bytes.trim_ascii_start().starts_with(b"{"))?;
    Some(Event {
        name: text(wire.hook_event_name),
        tool: text(wire.tool_name),
        session: text(wire.session_id),
        tool_use: text(wire.tool_use_id),
        mode: text(wire.permission_mode),
        cwd: text(wire.cwd),
        duration_ms: wire.duration_ms.and_then(|d| d.get().parse().ok()).unwrap_or(0),
        input: wire.tool_input.and_then(bash_input),
    })
}

fn text(raw: Option<&RawValue>) -> String {
    raw.filter(|r| r.get().len() <= MAX_FIELD)
        .and_then(|r| serde_json::from_str(r.get()).ok())
        .unwrap_or_default()
}

fn bash_input(raw: &RawValue) -> Option<BashInput<'_>> {
    let raw = raw.get();
    let members: Members<'_> = serde_json::from_str(raw).ok()?;
    let place = |value: &RawValue| {
        let start = value.get().as_ptr() as usize - raw.as_ptr() as usize;
        start..start + value.get().len()
    };
    let command = members.command.ok()??;
    // Six bytes of JSON may stand for one of the text.
    if command.get().len() > 6 * MAX_COMMAND {
        return None;
    }
    let timeout = members.timeout.ok()?;
    let background = members.background.ok()?;
    Some(BashInput {
        raw,
        command: serde_json::from_str(command.get())
            .ok()
            .filter(|c: &String| c.len() <= MAX_COMMAND)?,
        command_at: place(command),
        timeout_ms: timeout.and_then(|t| t.get().parse().ok()),
        timeout_at: timeout.map(place).unwrap_or_default(),
        background: background.is_some_and(|b| b.get() == "true"),
    })
}

/// A member of an object. One that is there twice is an error: it means one thing to us and perhaps another to the client.
type Member<'a> = Result<Option<&'a RawValue>, ()>;

/// The members of the input that cx looks at. All others are passed over, however many they are.
struct Members<'a> {
    command: Member<'a>,
    timeout: Member<'a>,
    background: Member<'a>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Command,
    Timeout,
    RunInBackground,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Known;
        impl<'de> Visitor<'de> for Known {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members {
                    command: Ok(None),
                    timeout: Ok(None),
                    background: Ok(None),
                };
                while let Some(key) = map.next_key()? {
                    let member = match key {
                        Key::Command => &mut members.command,
                        Key::Timeout => &mut members.timeout,
                        Key::RunInBackground => &mut members.background,
                        Key::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    let value = map.next_value()?;
                    *member = match member {
                        Ok(None) => Ok(Some(value)),
                        _ => Err(()),
                    };
                }
                Ok(members)
            }
        }
        d.deserialize_map(Known)
    }
}

impl BashInput<'_> {
    /// The whole input with another command, and another time-out where one was given.
    fn updated(&self, command: &str, timeout_ms: Option<u64>) -> String {
        let mut edits = vec![(self.command_at.clone(), quoted(command))];
        if let (Some(_), Some(new)) = (self.timeout_ms, timeout_ms) {
            edits.push((self.timeout_at.clone(), new.to_string()));
        }
        // Back to front, so that the places in front stay true.
        edits.sort_by_key(|(at, _)| std::cmp::Reverse(at.start));
        let mut out = self.raw.to_owned();
        for (at, new) in edits {
            out.replace_range(at, &new);
        }
        out
    }
}

/// What the hook says about the permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The client does not ask; its own deny and ask rules still count.
    Allow,
    /// The client asks the person.
    Ask,
    /// The client refuses.
    Deny,
}

/// An answer before a call: a decision with its reason, and an input with another command, and another time-out where
/// the call gave one. Without a decision the client's own rules decide about the new command.
pub fn answer(
    decision: Option<(Decision, &str)>,
    changed: Option<(&BashInput<'_>, &str, Option<u64>)>,
) -> String {
    let mut out = String::from(r#"{"hookSpecificOutput":{"hookEventName":"PreToolUse""#);
    if let Some((decision, reason)) = decision {
        let decision = match decision {
            Decision::Allow => "allow",
            Decision::Ask => "ask",
            Decision::Deny => "deny",
        };
        out.push_str(&format!(
            r#","permissionDecision":"{decision}","permissionDecisionReason":{}"#,
            quoted(reason)
        ));
    }
    if let Some((input, command, timeout_ms)) = changed {
        out.push_str(&format!(
            r#","updatedInput":{}"#,
            input.updated(command, timeout_ms)
        ));
    }
    out.push_str("}}");
    out
}

/// The answer to Gemini CLI that replaces the command.
pub fn before_tool(input: &BashInput<'_>, command: &str) -> String {
    let updated = input.updated(command, None);
    format!(r#"{{"hookSpecificOutput":{{"hookEventName":"BeforeTool","tool_input":{updated}}}}}"#)
}

/// The answer that has the client ask the person.
pub fn ask(reason: &str) -> String {
    answer(Some((Decision::Ask, reason)), None)
}

/// The answer that keeps a call from being made.
pub fn deny(reason: &str) -> String {
    format!(
        r#"{{"hookSpecificOutput":{{"hookEventName":"PreToolUse","permissionDecision":"deny","permissionDecisionReason":{}}}}}"#,
        quoted(reason)
    )
}

/// The answer that tells the model something after a tool ran.
pub fn context(event: &str, text: &str) -> String {
    format!(
        r#"{{"hookSpecificOutput":{{"hookEventName":{},"additionalContext":{}}}}}"#,
        quoted(event),
        quoted(text)
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// As Claude Code 2.1.330 sends it.
    const REAL: &str = r#"{"session_id":"ba4e099b-80d8-4c3a-af18-ffad98695661","transcript_path":"/h/.claude/projects/-p/ba4e099b.jsonl","cwd":"/p","prompt_id":"361404dc-6c0d-450e-89b1-19c9541b0df2","permission_mode":"default","effort":{"level":"medium"},"hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"cargo test","timeout":5000,"description":"x"},"tool_use_id":"toolu_01"}"#;

    #[test]
    fn a_real_event() {
        let event = read(REAL.as_bytes()).unwrap();
        let input = event.input.as_ref().unwrap();
        assert_eq!((event.name.as_str(), event.tool.as_str()), ("PreToolUse", "Bash"));
        assert_eq!((event.mode.as_str(), event.cwd.as_str()), ("default", "/p"));
        assert_eq!((event.session.len(), event.tool_use.as_str()), (36, "toolu_01"));
        assert_eq!(
            (input.command.as_str(), input.timeout_ms, input.background),
            ("cargo test", Some(5000), false)
        );
        assert_eq!(
            answer(None, Some((input, "cx cargo test", None))),
            r#"{"hookSpecificOutput":{"hookEventName":"PreToolUse","updatedInput":{"command":"cx cargo test","timeout":5000,"description":"x"}}}"#
        );
    }

    #[test]
    fn every_cut_is_refused() {
        for end in 0..REAL.len() {
            assert_eq!(read(&REAL.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(read(b"[]"), None);
        assert_eq!(read(b"[1,2,3,4,5,6,7]"), None);
        assert_eq!(read(b"{\"cwd\": \"\xff\"}"), None);
    }

    #[test]
    fn missing_and_strange_fields_are_tolerated() {
        let event =
            read(br#"{"hook_event_name":"PreToolUse","session_id":7,"cwd":null,"new":[{}]}"#).unwrap();
        assert_eq!(
            (event.session.as_str(), event.cwd.as_str(), event.input),
            ("", "", None)
        );
        for input in [
            "null",
            "[]",
            "\"ls\"",
            "{}",
            r#"{"command":1}"#,
            r#"{"command":"a","command":"b"}"#,
            r#"{"command":"\ud800"}"#,
            r#"{"command":"a","timeout":1,"timeout":2}"#,
        ] {
            let text = format!("{{\"tool_input\":{input}}}");
            assert_eq!(read(text.as_bytes()).unwrap().input, None, "{input}");
        }
        for (timeout, want) in [
            ("5.5", None),
            ("-1", None),
            ("\"5\"", None),
            ("1e3", None),
            ("7", Some(7)),
        ] {
            let text = format!("{{\"tool_input\":{{\"timeout\":{timeout},\"command\":\"a\"}}}}");
            assert_eq!(
                read(text.as_bytes()).unwrap().input.unwrap().timeout_ms,
                want,
                "{timeout}"
            );
        }
    }

    #[test]
    fn what_is_too_long_to_be_meant_counts_as_missing() {
        let event = |field: &str, value: &str| REAL.replacen(field, &format!("{field}{value}"), 1);
        let longest = "\\u0041".repeat(4000);
        assert_eq!(
            read(event("\"cwd\":\"", &longest).as_bytes()).unwrap().cwd.len(),
            4002
        );
        let longer = "\\u0041".repeat(5000);
        let read =
            |text: String| read(text.as_bytes()).map(|e| (e.cwd.len(), e.session.len(), e.input.is_some()));
        assert_eq!(read(event("\"cwd\":\"", &longer)), Some((0, 36, true)));
        assert_eq!(read(event("\"session_id\":\"", &longer)), Some((2, 0, true)));
        assert_eq!(read(event("\"description\":\"", &longer)), Some((2, 36, true)));
    }

    #[test]
    fn all_else_comes_back_byte_for_byte() {
        let input = r#"{ "z":1.0e+400, "big" : 123456789012345678901234567890,"command"  :"a\u0020b" ,"timeout":9,
            "nested":{"command":"no","\u00e9":["\ud800",{}]},"a":null,"a":true}"#;
        let text = format!("{{\"tool_input\":{input}}}");
        let event = read(text.as_bytes()).unwrap();
        let parsed = event.input.unwrap();
        assert_eq!(parsed.command, "a b");
        let want = input.replace(r#""a\u0020b""#, r#""\"new\"\n""#);
        assert_eq!(parsed.updated("\"new\"\n", None), want);
        assert_eq!(
            parsed.updated("\"new\"\n", Some(10)),
            want.replace("\"timeout\":9", "\"timeout\":10")
        );
    }

    #[test]
    fn answers_are_json() {
        for answer in [ask("a \"b\"\n"), context("PostToolUse", "[cx] é\u{1}")] {
            let value: Value = serde_json::from_str(&answer).unwrap();
            assert!(value["hookSpecificOutput"]["hookEventName"].is_string());
        }
    }

    proptest! {
        #[test]
        fn the_command_alone_changes(command in any::<String>(), new in any::<String>(), other in any::<String>(),
                                     timeout in any::<Option<u64>>()) {
            let mut input = json!({"first": other, "command": command, "n": [1, {"command": other}]});
            if let Some(ms) = timeout { input["timeout"] = json!(ms); }
            let text = json!({"tool_input": input}).to_string();
            let event = read(text.as_bytes()).unwrap();
            let parsed = event.input.unwrap();
            prop_assert_eq!(&parsed.command, &command);
            prop_assert_eq!(parsed.timeout_ms, timeout);
            let answer: Value = serde_json::from_str(&answer(None, Some((&parsed, &new, None)))).unwrap();
            input["command"] = json!(new);
            prop_assert_eq!(&answer["hookSpecificOutput"]["updatedInput"], &input);
        }
    }
}
