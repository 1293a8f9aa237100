//! The answer to a call: a text for a model, and fields for programs.

use std::time::Duration;

use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde_json::{Value, json};

use super::ran::{Block, LIMIT, Ran, shares};
use super::text;
use super::tools::Call;
use super::{batch, live};

/// The answer to a call that took so long and whose commands ended like this, with structured content where that is wanted. The work
/// grows with the output that was kept.
pub fn of(call: &Call, ran: &[Ran], took: Duration, structured: bool) -> CallToolResult {
    let (text, fields, content) = match (call, ran) {
        (Call::Parallel { commands, .. }, ran) => several(commands, ran, took, structured),
        (_, [one]) => {
            let block = Block::of(one);
            let (text, cut) = block.text(LIMIT);
            let content = structured.then(|| with_outputs(ran, &[block], 0).remove(0));
            (text, one.fields(cut), content)
        }
        _ => return refused("the call ended without a result"),
    };
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.is_error = Some(!ran.is_empty() && ran.iter().all(Ran::is_error));
    let mut meta = MetaObject::default();
    meta.0.insert("cx/result".into(), fields);
    result.meta = Some(meta);
    result.structured_content = content;
    result
}

/// The answer to a call that is not carried out.
pub fn refused(why: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text::clip(why, LIMIT))])
}

/// The fields of each with its output among them, for programs that take nothing else: all of them within the limit, of which `taken`
/// bytes are spoken for.
fn with_outputs(ran: &[Ran], blocks: &[Block], taken: usize) -> Vec<Value> {
    let mut fields: Vec<Value> = ran.iter().map(|r| r.fields(false)).collect();
    // What there is not is not there: a schema that allows for null is more than some programs take.
    for one in fields.iter_mut().filter_map(Value::as_object_mut) {
        one.retain(|_, value| !value.is_null());
    }
    // The names that come to it, and a comma.
    let rest: usize = fields.iter().map(|f| f.to_string().len() + 13).sum();
    let sizes: Vec<usize> = blocks.iter().map(Block::in_json).collect();
    let shares = shares(&sizes, LIMIT.saturating_sub(taken + rest));
    let full = fields
        .into_iter()
        .zip(blocks)
        .zip(shares)
        .map(|((mut fields, block), share)| {
            let (output, cut) = block.output(share);
            fields["output"] = output.into();
            fields["truncated"] = cut.into();
            fields
        });
    full.collect()
}

/// The text, `_meta` and structured content of several results: one line of summary, then a block each, in the order given.
fn several(
    commands: &[String],
    ran: &[Ran],
    took: Duration,
    structured: bool,
) -> (String, Value, Option<Value>) {
    let summary = batch::summary(ran, took);
    let heads: Vec<String> = commands
        .iter()
        .enumerate()
        .map(|(i, c)| format!("\n\n== {}: {}\n", i + 1, live::shown(c)))
        .collect();
    let fixed = summary.len() + heads.iter().map(String::len).sum::<usize>();
    let blocks: Vec<Block> = ran.iter().map(Block::of).collect();
    let sizes: Vec<usize> = blocks.iter().map(Block::size).collect();
    let shares = shares(&sizes, LIMIT.saturating_sub(fixed));
    let mut text = summary.clone();
    let mut fields = Vec::new();
    for (((one, block), head), share) in ran.iter().zip(&blocks).zip(&heads).zip(shares) {
        let (shown, cut) = block.text(share);
        text.push_str(head);
        text.push_str(&shown);
        fields.push(one.fields(cut));
    }
    let content = structured.then(|| {
        let empty = json!({ "summary": &summary, "runs": [] }).to_string().len();
        json!({ "summary": &summary, "runs": with_outputs(ran, &blocks, empty) })
    });
    (text, json!({ "runs": fields }), content)
}
