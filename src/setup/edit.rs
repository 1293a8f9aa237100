//! Puts cx's hooks into the text of an agent's settings (Claude Code's `settings.json` and files of the same shape), and takes them
//! out, leaving every other byte.
//!
//! Nothing here is parsed and printed again: an edit finds the place in the text and splices. What is inserted
//! takes over the file's indentation, its line ends, and whether it is written on one line.

use std::fmt::Write;
use std::ops::Range;

use serde_json::{Value, json};

use super::json::{self, Broken, Node};
use crate::hook::program;

/// One hook that cx wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The agent's event.
    pub event: &'static str,
    /// Which tools it is about; `None` where the event knows no tools.
    pub matcher: Option<&'static str>,
    /// What follows the program.
    pub args: &'static [&'static str],
}

/// All hooks for one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kit {
    /// The hooks.
    pub entries: &'static [Entry],
    /// How the agent wants the command.
    pub form: Form,
    /// How long it waits for the hook, in its own unit.
    pub timeout: u32,
}

/// How an agent wants a hook's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The program and its arguments, with no shell between.
    Exec,
    /// A line of shell.
    Shell,
}

/// Why a settings file cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not JSON.
    #[error("it is not valid JSON: {0}")]
    Broken(#[from] Broken),
    /// It is JSON of another shape than the client reads.
    #[error("`{path}` is not {wanted}")]
    Shape {
        /// Path of the value, `hooks.PreToolUse`.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A key that decides is there twice, so that what the client sees is uncertain.
    #[error("the key `{0}` is there twice")]
    Twice(String),
}

/// `text` with the hooks of `kit`, which run `program`; the same text if they are all there. Where only another cx is named, the name
/// changes; hooks of cx's of another kind go. Empty text counts as no settings at all.
///
/// # Errors
/// If `text` is not JSON, or `hooks` has another shape than the client reads.
pub fn add(text: &str, program: &str, kit: &Kit) -> Result<String, EditError> {
    let mut text = text.to_owned();
    if is_blank(&text) {
        text.push_str("{}");
        text = add(&text, program, kit)?;
        text.push('\n');
        return Ok(text);
    }
    let own = own_hooks(&text)?;
    let same = own.len() == kit.entries.len()
        && kit.entries.iter().all(|e| {
            own.iter().any(|o| {
                o.event == e.event
                    && o.matcher.as_deref() == e.matcher
                    && o.form == kit.form
                    && o.args == e.args
            })
        });
    if same {
        // Back to front, so that the places in front stay true.
        for (o, args) in own.iter().rev().map(|o| (o, &o.args)) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            if o.program != program {
                text.replace_range(o.span.clone(), &quoted(&command(program, &args, kit.form)));
            }
        }
        return Ok(text);
    }
    if !own.is_empty() {
        text = remove(&text)?;
    }
    for entry in kit.entries {
        text = add_entry(&text, entry, program, kit)?;
    }
    Ok(text)
}

fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim().is_empty()
}

/// The programs that cx's own entries in `text` name, in the order of the text.
///
/// # Errors
/// As for [`add`].
pub fn programs(text: &str) -> Result<Vec<String>, EditError> {
    Ok(own_hooks(text)?.into_iter().map(|o| o.program).collect())
}

/// A hook of cx's in a text.
struct Own {
    event: String,
    matcher: Option<String>,
    form: Form,
    program: String,
    args: Vec<String>,
    /// Where the command stands.
    span: Range<usize>,
}

fn own_hooks(text: &str) -> Result<Vec<Own>, EditError> {
    if is_blank(text) {
        return Ok(Vec::new());
    }
    let root = json::parse(text)?;
    let mut found = Vec::new();
    let Some(hooks) = hooks_of(&root)? else {
        return Ok(found);
    };
    for event in hooks.members().unwrap_or_default() {
        for group in event.value.elements().unwrap_or_default() {
            let matcher = group.get("matcher").and_then(Node::as_str);
            for hook in group.get("hooks").and_then(Node::elements).unwrap_or_default() {
                if let (Some((form, program, args)), Some(command)) = (read_own(hook), hook.get("command")) {
                    found.push(Own {
                        event: event.name.clone(),
                        matcher: matcher.map(str::to_owned),
                        form,
                        program,
                        args,
                        span: command.span.clone(),
                    });
                }
            }
        }
    }
    Ok(found)
}

/// `text` without cx's own entries, and without what is empty once they are gone.
///
/// # Errors
/// As for [`add`].
pub fn remove(text: &str) -> Result<String, EditError> {
    let mut text = text.to_owned();
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Ok(text);
    }
    while let Some(less) = remove_one(&text)? {
        text = less;
    }
    Ok(text)
}

/// What a hook of ours starts: `{"command": ".../cx", "args": ["hook"]}`, or, as a person may have written it,
/// `{"command": ".../cx hook"}`. `None` for anybody else's.
fn read_own(hook: &Node) -> Option<(Form, String, Vec<String>)> {
    if hook.get("type").and_then(Node::as_str) != Some("command") {
        return None;
    }
    let command = hook.get("command").and_then(Node::as_str)?;
    let (form, program, args) = match hook.get("args") {
        Some(args) => {
            let args = args.elements()?.iter().map(|a| a.as_str().map(str::to_owned));
            (Form::Exec, command.to_owned(), args.collect::<Option<Vec<_>>>()?)
        }
        None => {
            let (front, args) = command.trim().rsplit_once(" hook")?;
            let args = format!("hook{args}");
            (
                Form::Shell,
                unquoted(front.trim())?,
                args.split_whitespace().map(str::to_owned).collect(),
            )
        }
    };
    let known = |a: &String| matches!(a.as_str(), "--shims" | "--codex" | "--gemini");
    let ours = args.first().is_some_and(|a| a == "hook") && args[1..].iter().all(known);
    (ours && program.rsplit('/').next() == Some("cx")).then_some((form, program, args))
}

/// A program as it stands in a line of shell, if it is one word.
fn unquoted(word: &str) -> Option<String> {
    let inner = |q: char| word.strip_prefix(q).and_then(|w| w.strip_suffix(q));
    let bare = match inner('\'') {
        Some(text) => text.replace(r"'\''", "'"),
        None => inner('"').unwrap_or(word).to_owned(),
    };
    let one = inner('\'').is_some() || inner('"').is_some() || !bare.contains(char::is_whitespace);
    let plain =
        inner('\'').is_some() || !bare.contains(['|', '&', ';', '(', ')', '<', '>', '`', '\'', '"', '\n']);
    (one && plain).then_some(bare)
}

fn command(program: &str, args: &[&str], form: Form) -> String {
    match form {
        Form::Exec => program.to_owned(),
        Form::Shell => format!("{} {}", program::quote(program), args.join(" ")),
    }
}

fn group(entry: &Entry, program: &str, kit: &Kit) -> Value {
    let command = command(program, entry.args, kit.form);
    let hook = match kit.form {
        Form::Exec => {
            json!({"type": "command", "command": command, "args": entry.args, "timeout": kit.timeout})
        }
        Form::Shell => json!({"type": "command", "command": command, "timeout": kit.timeout}),
    };
    match entry.matcher {
        Some(matcher) => json!({"matcher": matcher, "hooks": [hook]}),
        None => json!({"hooks": [hook]}),
    }
}

/// The only member of that name.
fn only<'a>(object: &'a Node, name: &str, path: &str) -> Result<Option<&'a Node>, EditError> {
    let mut found = object
        .members()
        .unwrap_or_default()
        .iter()
        .filter(|m| m.name == name);
    let first = found.next();
    if found.next().is_some() {
        return Err(EditError::Twice(path.to_owned()));
    }
    Ok(first.map(|m| &m.value))
}

/// The `hooks` object, if there is one.
fn hooks_of(root: &Node) -> Result<Option<&Node>, EditError> {
    if root.members().is_none() {
        return Err(EditError::Shape {
            path: "(the whole file)".to_owned(),
            wanted: "an object",
        });
    }
    let hooks = only(root, "hooks", "hooks")?;
    if hooks.is_some_and(|h| h.members().is_none()) {
        return Err(EditError::Shape {
            path: "hooks".to_owned(),
            wanted: "an object",
        });
    }
    Ok(hooks)
}

fn add_entry(text: &str, entry: &Entry, program: &str, kit: &Kit) -> Result<String, EditError> {
    let root = json::parse(text)?;
    let style = Style::of(text, &root);
    let event = entry.event;
    let value = group(entry, program, kit);
    let Some(hooks) = hooks_of(&root)? else {
        return Ok(insert(
            text,
            &root,
            Some("hooks"),
            &json!({ event: [value] }),
            &style,
        ));
    };
    let path = format!("hooks.{event}");
    let Some(groups) = only(hooks, event, &path)? else {
        return Ok(insert(text, hooks, Some(event), &json!([value]), &style));
    };
    if groups.elements().is_none() {
        return Err(EditError::Shape {
            path,
            wanted: "an array",
        });
    }
    Ok(insert(text, groups, None, &value, &style))
}

/// `text` with the first of our own entries taken out, or `None` if there is none.
fn remove_one(text: &str) -> Result<Option<String>, EditError> {
    let root = json::parse(text)?;
    let Some(hooks) = hooks_of(&root)? else {
        return Ok(None);
    };
    for (e, event) in hooks.members().unwrap_or_default().iter().enumerate() {
        for (g, group) in event.value.elements().unwrap_or_default().iter().enumerate() {
            let Some(list) = group.get("hooks") else { continue };
            let Some(h) = list
                .elements()
                .unwrap_or_default()
                .iter()
                .position(|h| read_own(h).is_some())
            else {
                continue;
            };
            // What would be left empty goes with the entry, from the inside out.
            let bare = group
                .members()
                .unwrap_or_default()
                .iter()
                .all(|m| m.name == "matcher" || m.name == "hooks");
            let mut path = vec![(list, h)];
            if bare {
                let at = root
                    .members()
                    .unwrap_or_default()
                    .iter()
                    .position(|m| m.name == "hooks")
                    .unwrap_or(0);
                path.extend([(&event.value, g), (hooks, e), (&root, at)]);
            }
            let (parent, index) = *path
                .iter()
                .find(|(parent, _)| parent.child_spans().len() > 1)
                .unwrap_or(&path[path.len() - 1]);
            return Ok(Some(delete(text, parent, index)));
        }
    }
    Ok(None)
}

/// `text` with `mcpServers.cx`, which runs `program mcp`. `None` if a server of that name is there that is not ours.
///
/// # Errors
/// If `text` is not JSON, or of another shape than the client reads.
pub fn add_server(text: &str, program: &str) -> Result<Option<String>, EditError> {
    if is_blank(text) {
        return Ok(add_server("{}", program)?.map(|t| t + "\n"));
    }
    let root = json::parse(text)?;
    let style = Style::of(text, &root);
    let value = json!({"type": "stdio", "command": program, "args": ["mcp"], "env": {}});
    let Some(servers) = servers_of(&root)? else {
        return Ok(Some(insert(
            text,
            &root,
            Some("mcpServers"),
            &json!({ "cx": value }),
            &style,
        )));
    };
    let Some(server) = only(servers, "cx", "mcpServers.cx")? else {
        return Ok(Some(insert(text, servers, Some("cx"), &value, &style)));
    };
    Ok(
        own_server(server).map(|command| match command.as_str() == Some(program) {
            true => text.to_owned(),
            false => spliced(text, command.span.clone(), &quoted(program)),
        }),
    )
}

/// The program of our own server in `text`.
///
/// # Errors
/// As for [`add_server`].
pub fn server(text: &str) -> Result<Option<String>, EditError> {
    if is_blank(text) {
        return Ok(None);
    }
    let root = json::parse(text)?;
    let server = match servers_of(&root)? {
        Some(servers) => only(servers, "cx", "mcpServers.cx")?,
        None => None,
    };
    Ok(server
        .and_then(own_server)
        .and_then(Node::as_str)
        .map(str::to_owned))
}

/// `text` without our own server, and without what is empty once it is gone.
///
/// # Errors
/// As for [`add_server`].
pub fn remove_server(text: &str) -> Result<String, EditError> {
    if server(text)?.is_none() {
        return Ok(text.to_owned());
    }
    let root = json::parse(text)?;
    let place = |node: &Node, name: &str| {
        node.members()
            .unwrap_or_default()
            .iter()
            .position(|m| m.name == name)
    };
    let Some((servers, at)) = servers_of(&root)?.and_then(|s| Some((s, place(s, "cx")?))) else {
        return Ok(text.to_owned());
    };
    match (servers.child_spans().len(), place(&root, "mcpServers")) {
        (1, Some(at)) => Ok(delete(text, &root, at)),
        _ => Ok(delete(text, servers, at)),
    }
}

fn servers_of(root: &Node) -> Result<Option<&Node>, EditError> {
    let shape = |path: &str| EditError::Shape {
        path: path.to_owned(),
        wanted: "an object",
    };
    if root.members().is_none() {
        return Err(shape("(the whole file)"));
    }
    let servers = only(root, "mcpServers", "mcpServers")?;
    if servers.is_some_and(|s| s.members().is_none()) {
        return Err(shape("mcpServers"));
    }
    Ok(servers)
}

/// The command of a server that is ours.
fn own_server(server: &Node) -> Option<&Node> {
    let command = server.get("command")?;
    let args = server.get("args").and_then(Node::elements)?;
    let ours = command.as_str()?.rsplit('/').next() == Some("cx")
        && args.len() == 1
        && args[0].as_str() == Some("mcp");
    ours.then_some(command)
}

/// Without child `index` of `parent`, and the comma and white space that belong to it.
fn delete(text: &str, parent: &Node, index: usize) -> String {
    let spans = parent.child_spans();
    let range = match (index, spans.len()) {
        (0, 1) => parent.span.start + 1..parent.span.end - 1,
        (0, _) => spans[0].start..spans[1].start,
        (i, _) => spans[i - 1].end..spans[i].end,
    };
    spliced(text, range, "")
}

fn spliced(text: &str, range: Range<usize>, new: &str) -> String {
    let mut out = text.to_owned();
    out.replace_range(range, new);
    out
}

/// How the file is written.
struct Style<'a> {
    newline: &'a str,
    unit: String,
    /// `": "` or `":"` between key and value, where it is written on one line.
    colon: &'a str,
    /// The whole document stands on one line.
    inline: bool,
}

impl<'a> Style<'a> {
    fn of(text: &str, root: &Node) -> Style<'a> {
        let newline = match text.find('\n') {
            Some(i) if text[..i].ends_with('\r') => "\r\n",
            _ => "\n",
        };
        let first = root.members().unwrap_or_default().first();
        let unit = first
            .and_then(|m| indent_before(text, root, m.key.start))
            .unwrap_or("  ");
        let tight = first.is_some_and(|m| text[m.key.end..m.value.span.start] == *":");
        Style {
            newline,
            unit: if unit.is_empty() {
                "  ".to_owned()
            } else {
                unit.to_owned()
            },
            colon: if tight { ":" } else { ": " },
            inline: first.is_some_and(|m| !text[root.span.start..m.key.start].contains('\n')),
        }
    }
}

/// The white space in front of a container's first child on its own line, or `None` if it shares the line with the
/// opening bracket.
fn indent_before<'t>(text: &'t str, container: &Node, child: usize) -> Option<&'t str> {
    let gap = &text[container.span.start + 1..child];
    gap.rfind('\n').map(|i| &gap[i + 1..])
}

/// Appends a child to `container`.
fn insert(text: &str, container: &Node, key: Option<&str>, value: &Value, style: &Style<'_>) -> String {
    let spans = container.child_spans();
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        let inner = container.span.start + 1..container.span.end - 1;
        if style.inline {
            return spliced(text, inner, &rendered(key, value, None, style));
        }
        let line = text[..container.span.start].rfind('\n').map_or(0, |i| i + 1);
        let base: String = text[line..]
            .chars()
            .take_while(|c| matches!(c, ' ' | '\t'))
            .collect();
        let deeper = format!("{base}{}", style.unit);
        let child = rendered(key, value, Some(&deeper), style);
        let nl = style.newline;
        return spliced(text, inner, &format!("{nl}{deeper}{child}{nl}{base}"));
    };
    let new = match indent_before(text, container, first.start) {
        Some(indent) => {
            format!(
                ",{}{indent}{}",
                style.newline,
                rendered(key, value, Some(indent), style)
            )
        }
        None => {
            let space = if style.colon == ":" { "" } else { " " };
            format!(",{space}{}", rendered(key, value, None, style))
        }
    };
    spliced(text, last.end..last.end, &new)
}

/// The text of a child: over several lines below `indent`, or on one.
fn rendered(key: Option<&str>, value: &Value, indent: Option<&str>, style: &Style<'_>) -> String {
    let mut out = String::new();
    if let Some(key) = key {
        let colon = if indent.is_some() { ": " } else { style.colon };
        let _ = write!(out, "{}{colon}", quoted(key));
    }
    render(&mut out, value, indent, style);
    out
}

fn render(out: &mut String, value: &Value, indent: Option<&str>, style: &Style<'_>) {
    let (open, close, children): (_, _, Vec<(Option<&str>, &Value)>) = match value {
        Value::Object(map) => ('{', '}', map.iter().map(|(k, v)| (Some(k.as_str()), v)).collect()),
        Value::Array(list) => ('[', ']', list.iter().map(|v| (None, v)).collect()),
        other => {
            let _ = write!(out, "{other}");
            return;
        }
    };
    // A list of plain words stays on one line, as people write `args`.
    let nested = children.iter().any(|(_, v)| v.is_object() || v.is_array());
    let deeper = indent
        .filter(|_| nested || value.is_object())
        .map(|i| format!("{i}{}", style.unit));
    out.push(open);
    for (i, (key, child)) in children.iter().enumerate() {
        match &deeper {
            Some(deeper) => {
                let _ = write!(out, "{}{}{deeper}", if i > 0 { "," } else { "" }, style.newline);
            }
            None if i > 0 => out.push_str(if style.colon == ":" { "," } else { ", " }),
            None => {}
        }
        out.push_str(&rendered(*key, child, deeper.as_deref(), style));
    }
    if deeper.is_some() {
        let _ = write!(out, "{}{}", style.newline, indent.unwrap_or_default());
    }
    out.push(close);
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CX: &str = "/opt/bin/cx";

    const fn entry(event: &'static str) -> Entry {
        Entry {
            event,
            matcher: Some("Bash"),
            args: &["hook"],
        }
    }

    const KIT: Kit = Kit {
        entries: &[
            entry("PreToolUse"),
            entry("PostToolUse"),
            entry("PostToolUseFailure"),
        ],
        form: Form::Exec,
        timeout: 10,
    };

    const OTHER: Kit = Kit {
        entries: &[
            Entry {
                event: "SessionStart",
                matcher: None,
                args: &["hook", "--shims"],
            },
            entry("PostToolUse"),
        ],
        form: Form::Shell,
        timeout: 10,
    };

    fn add(text: &str, program: &str) -> Result<String, EditError> {
        super::add(text, program, &KIT)
    }

    /// What `hooks` must hold afterwards, by value.
    fn check_added(before: &str, after: &str) {
        let before: Value = serde_json::from_str(before.trim_start_matches('\u{feff}')).unwrap_or(json!({}));
        let mut after: Value = serde_json::from_str(after.trim_start_matches('\u{feff}')).unwrap();
        for entry in KIT.entries {
            let event = entry.event;
            let list = after["hooks"][event].as_array_mut().unwrap();
            assert_eq!(list.pop().unwrap(), group(entry, CX, &KIT));
            if list.is_empty() && before["hooks"].get(event).is_none() {
                after["hooks"].as_object_mut().unwrap().shift_remove(event);
            }
        }
        if before.get("hooks").is_none() {
            assert_eq!(
                after.as_object_mut().unwrap().shift_remove("hooks"),
                Some(json!({}))
            );
        }
        assert_eq!(before, after);
    }

    #[test]
    fn into_a_usual_file() {
        let text = "{\n    \"model\": \"opus\",\n    \"permissions\": {\"allow\": [ \"Bash(ls:*)\" ]}\n}\n";
        let added = add(text, CX).unwrap();
        insta::assert_snapshot!(added, @r#"
        {
            "model": "opus",
            "permissions": {"allow": [ "Bash(ls:*)" ]},
            "hooks": {
                "PreToolUse": [
                    {
                        "matcher": "Bash",
                        "hooks": [
                            {
                                "type": "command",
                                "command": "/opt/bin/cx",
                                "args": ["hook"],
                                "timeout": 10
                            }
                        ]
                    }
                ],
                "PostToolUse": [
                    {
                        "matcher": "Bash",
                        "hooks": [
                            {
                                "type": "command",
                                "command": "/opt/bin/cx",
                                "args": ["hook"],
                                "timeout": 10
                            }
                        ]
                    }
                ],
                "PostToolUseFailure": [
                    {
                        "matcher": "Bash",
                        "hooks": [
                            {
                                "type": "command",
                                "command": "/opt/bin/cx",
                                "args": ["hook"],
                                "timeout": 10
                            }
                        ]
                    }
                ]
            }
        }
        "#);
        assert_eq!(remove(&added).unwrap(), text);
    }

    #[test]
    fn add_then_remove_gives_the_bytes_back() {
        let own_group = r#"{"matcher":"Bash","hooks":[{"type":"command","command":"x"}]}"#;
        for text in [
            "{\"a\":1}".to_owned(),
            "{ \"a\" : 1 }".to_owned(),
            "{\"a\": 1}\n".to_owned(),
            "\u{feff}{\r\n\t\"a\": 1.50e+40,\r\n\t\"b\": 12345678901234567890123\r\n}\r\n".to_owned(),
            "{\n\"a\": 1\n}".to_owned(),
            "{\n  \"a\": 1, \"a\": 2 }".to_owned(),
            format!("{{\"hooks\":{{\"PreToolUse\":[{own_group}]}}}}"),
            format!(
                "{{\n  \"hooks\": {{\n    \"PreToolUse\": [\n      {own_group}\n    ],\n    \"Stop\": []\n  }}\n}}\n"
            ),
            format!(
                "{{ \"hooks\": {{ \"PostToolUse\": [ {own_group} , {own_group} ] }}, \"z\": \"\\u00e9\\/\" }}"
            ),
            "{\n  \"hooks\": {\n    \"Stop\": []\n  },\n  \"z\": null\n}".to_owned(),
        ] {
            let added = add(&text, CX).unwrap();
            check_added(&text, &added);
            assert_eq!(add(&added, CX).unwrap(), added, "adding twice");
            assert_eq!(programs(&added).unwrap(), [CX; 3]);
            assert_eq!(remove(&added).unwrap(), text);
            assert_eq!(remove(&text).unwrap(), text, "nothing of ours, nothing removed");
        }
    }

    #[test]
    fn into_nothing_and_into_what_is_empty() {
        for text in [
            "",
            "\n",
            "{}",
            "{ }",
            "{\n}\n",
            "{\"hooks\":{}}",
            "{\"hooks\": {\"PreToolUse\": []}}",
        ] {
            let added = add(text, CX).unwrap();
            check_added(text, &added);
            assert_eq!(programs(&remove(&added).unwrap()).unwrap(), [""; 0]);
        }
        assert!(add("", CX).unwrap().ends_with("\n}\n"));
    }

    #[test]
    fn another_cx_is_replaced_in_place() {
        let text = add("{\"a\": 1}", "/old/cx").unwrap();
        assert_eq!(add(&text, CX).unwrap(), text.replace("/old/cx", CX));
    }

    #[test]
    fn only_ours_goes() {
        let text = r#"{"hooks":{"PreToolUse":[{"matcher":"Bash","hooks":[
            {"type":"command","command":"/a/cx","args":["hook"]},
            {"type":"command","command":"/a/cx","args":["hook","more"]},
            {"type":"command","command":"/a/cx hook"},
            {"type":"command","command":"'/a b/cx' hook --shims"},
            {"type":"command","command":"\"$HOME/bin/cx\" hook"},
            {"type":"command","command":"true; cx hook"},
            {"type":"command","command":"cx hook | tee log"},
            {"type":"command","command":"/a/cxx","args":["hook"]}]},
            {"matcher":"Edit","note":1,"hooks":[{"type":"command","command":"cx","args":["hook"]}]}]}}"#;
        let left = remove(text).unwrap();
        let value: Value = serde_json::from_str(&left).unwrap();
        let groups = value["hooks"]["PreToolUse"].as_array().unwrap();
        let left: Vec<_> = groups[0]["hooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|h| h["command"].as_str().unwrap())
            .collect();
        assert_eq!(left, ["/a/cx", "true; cx hook", "cx hook | tee log", "/a/cxx"]);
        assert_eq!(groups[1], json!({"matcher": "Edit", "note": 1, "hooks": []}));
    }

    #[test]
    fn a_switch_leaves_nothing_of_the_other_kind() {
        let text = "{\n  \"a\": 1\n}\n";
        for (from, to) in [(&KIT, &OTHER), (&OTHER, &KIT)] {
            let first = super::add(text, "/a b/cx", from).unwrap();
            let second = super::add(&first, CX, to).unwrap();
            assert_eq!(second, super::add(text, CX, to).unwrap());
            assert_eq!(super::add(&second, CX, to).unwrap(), second);
            assert_eq!(remove(&second).unwrap(), text);
        }
        // What a person wrote by hand becomes ours as a whole.
        let hand = r#"{"hooks":{"PreToolUse":[{"matcher":"Bash","hooks":[{"type":"command","command":"cx hook"}]}]}}"#;
        assert_eq!(programs(hand).unwrap(), ["cx"]);
        assert_eq!(programs(&add(hand, CX).unwrap()).unwrap(), [CX; 3]);
    }

    #[test]
    fn a_server_goes_in_and_out() {
        for text in [
            "{\"a\":1}",
            "{\n  \"a\": 1\n}\n",
            "{\n  \"mcpServers\": {\n    \"x\": {}\n  }\n}",
            "{\"mcpServers\": {\"x\": {\"command\": \"cx\", \"args\": [\"mcp\"]}}, \"b\": 2}",
        ] {
            let added = add_server(text, CX).unwrap().unwrap();
            let value: Value = serde_json::from_str(&added).unwrap();
            assert_eq!(value["mcpServers"]["cx"]["command"], CX);
            assert_eq!(server(&added).unwrap().as_deref(), Some(CX));
            assert_eq!(add_server(&added, CX).unwrap().unwrap(), added);
            assert_eq!(
                add_server(&added, "/b/cx").unwrap().unwrap(),
                added.replace(CX, "/b/cx")
            );
            assert_eq!(remove_server(&added).unwrap(), text);
            assert_eq!(remove_server(text).unwrap(), text);
        }
        let foreign = "{\"mcpServers\": {\"cx\": {\"command\": \"other\", \"args\": [\"mcp\"]}}}";
        assert_eq!(add_server(foreign, CX).unwrap(), None);
        assert_eq!(remove_server(foreign).unwrap(), foreign);
        assert!(add_server("", CX).unwrap().unwrap().ends_with("}\n"));
        for broken in [
            "[]",
            "{\"mcpServers\": []}",
            "{\"mcpServers\": {}, \"mcpServers\": {}}",
            "{,}",
        ] {
            assert!(
                add_server(broken, CX).is_err() && server(broken).is_err(),
                "{broken}"
            );
        }
    }

    #[test]
    fn strange_files_are_refused() {
        for (text, why) in [
            ("[]", "`(the whole file)` is not an object"),
            ("{\"hooks\": []}", "`hooks` is not an object"),
            (
                "{\"hooks\": {\"PreToolUse\": {}}}",
                "`hooks.PreToolUse` is not an array",
            ),
            ("{\"hooks\": {}, \"hooks\": {}}", "the key `hooks` is there twice"),
            (
                "{\n  \"a\": 1,\n}",
                "it is not valid JSON: line 3, column 1: expected a key in double quotes",
            ),
        ] {
            assert_eq!(add(text, CX).unwrap_err().to_string(), why);
        }
    }

    /// JSON of odd shapes and odd formatting, always an object, now and then with hooks in it; no container that
    /// an added hook goes into is empty (giving those back takes the backup).
    fn document() -> impl Strategy<Value = String> {
        let space = || "[ \t]{0,2}(\r?\n[ \t]{0,5})?";
        let scalar = prop_oneof![
            Just("null".to_owned()),
            Just("-0.50e+3".to_owned()),
            Just("123456789012345678901234567890".to_owned()),
            "\"[a-z{}\\[\\],:é ]{0,5}(\\\\u00e9|\\\\n|\\\\\")?\"",
        ];
        let value = scalar.prop_recursive(3, 12, 3, move |inner| {
            let pad = (space(), space(), space(), space());
            (
                proptest::collection::vec((inner, "\"[a-z]{0,3}\""), 0..4),
                pad,
                any::<bool>(),
            )
                .prop_map(|(items, (a, b, c, d), object)| {
                    let items = items
                        .into_iter()
                        .map(|(v, k)| if object { format!("{k}{a}:{b}{v}") } else { v });
                    let body = items.collect::<Vec<_>>().join(&format!("{c},{d}"));
                    if object {
                        format!("{{{a}{body}{b}}}")
                    } else {
                        format!("[{a}{body}{b}]")
                    }
                })
        });
        let pad = (space(), space(), space(), space());
        let other = r#"{"matcher":"Edit","hooks":[{"type":"command","command":"x"}]}"#;
        (
            proptest::collection::vec(value, 1..4),
            pad,
            0..4usize,
            any::<bool>(),
        )
            .prop_map(move |(values, (a, b, c, d), hooks, bom)| {
                let mut members: Vec<_> = values
                    .into_iter()
                    .enumerate()
                    .map(|(i, v)| format!("\"k{i}\"{a}:{b}{v}"))
                    .collect();
                let inner = match hooks {
                    1 => format!("{{{c}\"Stop\"{d}:[]{a}}}"),
                    2 => format!("{{{c}\"PreToolUse\":{b}[{d}{other}{a},{c}{other}]}}"),
                    3 => format!("{{\"PostToolUse\":[{b}{other}{c}]{d},{a}\"PreToolUse\":[{other}]}}"),
                    _ => String::new(),
                };
                if !inner.is_empty() {
                    members.insert(members.len() / 2, format!("\"hooks\"{c}:{d}{inner}"));
                }
                let body = members.join(&format!("{d},{c}"));
                format!("{}{a}{{{b}{body}{c}}}{d}", if bom { "\u{feff}" } else { "" })
            })
    }

    proptest! {
        #[test]
        fn add_and_remove_are_inverse(text in document()) {
            let added = add(&text, CX).unwrap();
            check_added(&text, &added);
            prop_assert_eq!(&add(&added, CX).unwrap(), &added);
            prop_assert_eq!(remove(&added).unwrap(), text);
        }
    }
}
