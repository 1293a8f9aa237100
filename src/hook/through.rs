//! `cx X` that the model typed itself: the client's rules do not see X there, so the hook asks them.

use std::ops::ControlFlow;
use std::path::Path;

use super::decide::{Guard, Shell, World, may_allow};
use super::permissions::{self, Judgement, Typed, Unwrapped};
use super::wire::{self, BashInput, Decision, Event};
use super::{program, search_path};
use crate::plan::Class;
use crate::plan::classify::{Context, classify};
use crate::plan::shell::{self, Word};
use crate::table;

/// The mode in which the client asks nothing.
const BYPASS: &str = "bypassPermissions";

/// The mode in which the client refuses what it would ask about; a hook's question it asks all the same.
pub(super) const NO_QUESTIONS: &str = "dontAsk";

/// More of `cx` in one text than this are not told apart.
const MANY: usize = 200;

/// Answers for a `cx` that the model typed, in every mode; goes on where there is none.
pub fn typed(
    event: &Event<'_>,
    input: &BashInput<'_>,
    world: &World<'_>,
    shell: &Shell,
) -> ControlFlow<Option<String>> {
    let text = input.command.as_str();
    if !permissions::names_cx(text) {
        return ControlFlow::Continue(());
    }
    let view = world.paths.as_ref().map(table::hook_view).unwrap_or_default();
    let context = Context {
        user_rules: &view.rules,
        off: &view.off,
        aliases: &[],
    };
    // Each of them is unwrapped on its own, with the rest of the text behind it.
    let many = text.matches("cx").count() > MANY;
    let script = shell::parse(text, shell.dialect).unwrap_or_default();
    let defined = world.defined(event, shell.name, &script, &["cx"]);
    // What has another meaning in the user's shell would have that without cx in front.
    let light = |argv: &[Word]| {
        let is_own = argv.first().and_then(Word::text).is_some_and(|n| defined.has(n));
        !is_own && classify(argv, &context).class == Class::Light
    };
    let unwrapped = match many {
        true => Typed::Unclear,
        false => permissions::unwrap(text, shell.dialect, &light),
    };
    match unwrapped {
        Typed::No => ControlFlow::Continue(()),
        Typed::Found(found) => {
            let plain = !defined.path && !search_path::may_be_set(text, shell.dialect);
            let is_ours = !defined.has("cx") && is_ours(&found.called, text, plain, event, world);
            ControlFlow::Break(understood(&found, is_ours, event, input, world, shell))
        }
        Typed::Unclear => {
            let guard = world.guard(Path::new(&event.cwd), &[]);
            match hidden(text, &event.mode, &guard) {
                Some(rule) => ControlFlow::Break(Some(ask(
                    event,
                    &format!(
                        "cx would run this where your permission rules do not see it, and this one may concern it: {rule}"
                    ),
                ))),
                None => ControlFlow::Continue(()),
            }
        }
    }
}

/// A rule that may matter to a text which may start cx without showing it.
fn hidden<'g>(text: &str, mode: &str, guard: &'g Guard) -> Option<&'g str> {
    let rules = &guard.rules;
    let expands = text.contains(['$', '`']);
    rules
        .might_restrict(&permissions::without_cx(text))
        .or_else(|| expands.then(|| rules.any_for_bash()).flatten())
        .or_else(|| {
            let asked_otherwise = mode != BYPASS && !rules.allows_all();
            asked_otherwise.then(|| rules.allow_about_cx()).flatten()
        })
}

/// Whether everything that is `called` in `text` is this very program, as far as can be told: a project may have a `cx` of its own, and a
/// text may define one. `plain`: PATH is the client's where the text runs.
fn is_ours(called: &[String], text: &str, plain: bool, event: &Event<'_>, world: &World<'_>) -> bool {
    // A command by its bare name may be a function, too.
    let defines = ["()", "( )", "function "].iter().any(|d| text.contains(d));
    let moves = ["cd", "pushd", "popd", "chdir", "source", ".", "eval"];
    let is_blank = |c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '/' | '-'));
    let moves = text.split(is_blank).any(|word| moves.contains(&word));
    let cwd = Some(Path::new(&event.cwd)).filter(|_| !moves);
    let path = (world.var)("PATH");
    !defines
        && called
            .iter()
            .all(|name| program::is_this(name, path.as_deref(), plain, cwd))
}

fn understood(
    found: &Unwrapped,
    is_ours: bool,
    event: &Event<'_>,
    input: &BashInput<'_>,
    world: &World<'_>,
    shell: &Shell,
) -> Option<String> {
    if let Some(verb) = found.opaque {
        return Some(ask(
            event,
            &format!("`cx {verb}` is for a person to decide about"),
        ));
    }
    let cwd = Path::new(&event.cwd);
    let guard = world.guard(cwd, &[]);
    // A rule about what was typed, and a sandbox that lets it out, count for what was typed.
    let is_ours = is_ours
        && !guard.rules.might_restrict_only(&input.command, &found.plain)
        && !guard.rules.might_leave_the_sandbox(&input.command);
    let lighter = found.lighter.as_deref().filter(|_| is_ours);
    if found.inner.is_empty() && is_ours {
        return lighter.map(|text| wire::answer(None, Some((input, text, None))));
    }
    let parse = |text: &str| shell::parse(text, shell.dialect).ok();
    // What is put in front of the client without its cx, the client judges.
    let judged_there: &[_] = if is_ours { &[] } else { &found.light };
    let inner = found.inner.iter().chain(judged_there);
    let worst = inner
        .map(|inner| {
            // What an expansion stands for the client may find elsewhere in the text: `A=deploy; cx make $A`.
            let text = match inner.text.contains(['$', '`']) {
                true => &found.plain,
                false => &inner.text,
            };
            permissions::restriction(text, parse(text).as_ref(), &guard.rules)
        })
        .max();
    match worst {
        Some(Judgement::Deny(why)) => return Some(wire::answer(Some((Decision::Deny, &why)), None)),
        Some(Judgement::Ask(why)) => return Some(ask(event, &why)),
        _ => {}
    }
    let changed = lighter.map(|text| (input, text, None));
    let all = guard.rules.allows_all();
    if is_ours && !all && guard.covers(&found.plain, &parse(&found.plain)?, cwd, &event.mode) {
        let allow = (Decision::Allow, "your rules allow what cx runs");
        let allow = may_allow(&event.mode).then_some(allow);
        return (allow.is_some() || changed.is_some()).then(|| wire::answer(allow, changed));
    }
    let gained = found
        .inner
        .iter()
        .chain(judged_there)
        .find_map(|inner| guard.rules.allows_only_with_cx(&inner.words, inner.at));
    if let Some(rule) = gained.filter(|_| event.mode != BYPASS && !all) {
        if event.mode == NO_QUESTIONS {
            return Some(ask(event, &by_cx_alone(rule)));
        }
        return Some(wire::answer(Some((Decision::Ask, &by_cx_alone(rule))), changed));
    }
    changed.map(|c| wire::answer(None, Some(c)))
}

/// Has the client ask the person, or refuse where it is to ask nothing.
fn ask(event: &Event<'_>, why: &str) -> String {
    if event.mode == NO_QUESTIONS {
        return wire::answer(Some((Decision::Deny, why)), None);
    }
    wire::ask(why)
}

/// Why it is asked about a command that a rule allows only for the `cx` in front of it.
pub fn by_cx_alone(rule: &str) -> String {
    format!("your rule {rule} would allow this only for the cx in front of it; `cx doctor` says more")
}
