//! The Claude Code plugin: what can be told without the client (`claude plugin validate --strict` is in tests/claude).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn json(path: &str) -> Value {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_marketplace_leads_to_the_plugin_of_this_version() {
    let market = json(".claude-plugin/marketplace.json");
    let source = market["plugins"][0]["source"].as_str().unwrap();
    assert!(source.starts_with("./"), "{source}");
    let plugin = json(&format!("{source}/.claude-plugin/plugin.json"));
    assert_eq!(plugin["name"], market["plugins"][0]["name"]);
    assert_eq!(plugin["version"], env!("CARGO_PKG_VERSION"));
    // A file that the client finds by itself, named a second time, makes the plugin fail to load.
    assert!(plugin.get("hooks").is_none() && plugin.get("mcpServers").is_none());
}

#[test]
fn the_plugin_calls_what_the_settings_would_and_says_that_it_is_the_plugin() {
    let hooks = json("hooks/claude/hooks/hooks.json");
    let events: Vec<_> = hooks["hooks"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(events, ["PreToolUse", "PostToolUse", "PostToolUseFailure"]);
    for event in events {
        let group = &hooks["hooks"][&event][0];
        assert!(group["matcher"].as_str().unwrap().starts_with("Bash"), "{group}");
        let hook = &group["hooks"][0];
        assert_eq!(
            (hook["command"].as_str(), hook["type"].as_str()),
            (Some("cx"), Some("command"))
        );
        assert_eq!(hook["args"], serde_json::json!(["hook", "--plugin"]));
        assert!(
            hook["timeout"].as_u64().is_some_and(|t| t <= 10),
            "seconds that a command may wait: {hook}"
        );
    }
    let server = json("hooks/claude/.mcp.json");
    assert_eq!(server["mcpServers"]["cx"]["command"], "cx");
    assert_eq!(server["mcpServers"]["cx"]["args"], serde_json::json!(["mcp"]));
}

#[test]
fn the_skill_names_the_tools_that_there_are() {
    let text = fs::read_to_string(root().join("hooks/claude/skills/cx/SKILL.md")).unwrap();
    let (front, body) = text.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    assert!(front.starts_with("name: cx\ndescription: "), "{front}");
    let tools = json("src/mcp/tools.json").to_string();
    for tool in ["cluster_bash", "cluster_status", "offload_to", "parallel_execute"] {
        assert!(body.contains(tool) && tools.contains(tool), "{tool}");
    }
}
