//! Which node: the one policy function of all doors.
//!
//! Pure and total: everything it needs to know comes in [`RouteInput`], and strange input ends in "run it locally, because ...".

use super::learned::{Runtimes, seconds};
use super::{Class, Platform, PlatformTie, Verdict};
use crate::config::valid_node_name;
use crate::proto::{Facts, Load};

/// Seconds of work that a heavy command is taken for while nothing is known of its runtime.
const USUAL_S: f64 = 20.0;

/// Seconds that a first sync and cold caches cost, as far as can be guessed.
const COLD_S: f64 = 10.0;

/// Seconds that an overloaded node counts as later: behind every other one.
const OVERLOADED_S: f64 = 300.0;

/// Past this age (seconds) two candidates drawn at random compete instead of all: going to the apparently least loaded by an old
/// table makes herds (Mitzenmacher, "How Useful Is Old Information?", 2000).
const OLD_S: f64 = 15.0;
/// Seconds for which a full disk is believed to be full: nobody clears one up between two commands.
const FULL_S: f64 = 300.0;

/// Everything a decision hangs on.
#[derive(Clone, Debug)]
pub struct RouteInput<'a> {
    /// The judgement on the command.
    pub verdict: &'a Verdict,
    /// What the caller demands.
    pub demands: Wishes<'a>,
    /// A person typed `cx` in front of the command.
    pub typed: bool,
    /// A command that no rule knows may leave this machine unasked when it is busy.
    pub unknown_may_move: bool,
    /// `auto_route`.
    pub auto_route: bool,
    /// Per cent of CPU past which this machine is busy.
    pub busy_cpu: f32,
    /// Overloaded nodes take runs all the same.
    pub allow_overload: bool,
    /// Why everything stays here, if it does (`CX_LOCAL`, `cx off`, a sandbox).
    pub off: Option<String>,
    /// Why this command can only run here, as far as this machine can tell.
    pub must_be_local: Option<String>,
    /// The node that made the ignored directories which the command reads.
    pub owner: Option<String>,
    /// This machine.
    pub local: LocalView,
    /// The nodes, in the user's order.
    pub nodes: Vec<NodeView>,
    /// What was learned of the command's times.
    pub runtimes: Runtimes,
    /// Breaks ties, and says when what was learned is tried again.
    pub seed: u64,
}

/// The caller's demands, as far as they concern the place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// A node's name.
    pub on: Option<&'a str>,
    /// An operating system.
    pub os: Option<&'a str>,
    /// An architecture.
    pub arch: Option<&'a str>,
    /// To be spread over the nodes with others: no lightness keeps it here.
    pub spread: bool,
}

/// This machine at the moment of the decision.
#[derive(Clone, Debug, Default)]
pub struct LocalView {
    /// Platform.
    pub platform: Platform,
    /// Cores.
    pub cores: u32,
    /// CPU in use, per cent.
    pub cpu: f32,
}

/// One node at the moment of the decision.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Overrides of what it says of itself.
    pub os: Option<String>,
    /// Overrides of what it says of itself.
    pub arch: Option<String>,
    /// Configured slots.
    pub slots: Option<u32>,
    /// What it is; `None` before the first contact.
    pub facts: Option<Facts>,
    /// How busy it was `age_s` ago.
    pub load: Option<Load>,
    /// Age of that, seconds.
    pub age_s: f64,
    /// Why it can't be used now (breaker), if so.
    pub unusable: Option<String>,
    /// Why it is too busy, as far as known.
    pub overloaded: Option<String>,
    /// Why its disk is too full for a run, by that load.
    pub full: Option<String>,
    /// Runs of ours that are on their way or running there.
    pub in_flight: u32,
    /// A mirror of this workspace is there.
    pub mirror: bool,
    /// Milliseconds from question to answer.
    pub rtt_ms: Option<u32>,
}

impl NodeView {
    /// Its operating system, if that is known.
    pub fn os(&self) -> Option<&str> {
        let told = self.facts.as_ref().map(|f| f.platform.os.as_str());
        self.os.as_deref().or(told)
    }

    /// Its architecture, if that is known.
    pub fn arch(&self) -> Option<&str> {
        let told = self.facts.as_ref().map(|f| f.platform.arch.as_str());
        self.arch.as_deref().or(told)
    }

    /// Whether it is known to run another operating system than `here`, or on another architecture.
    pub fn is_foreign_to(&self, here: &Platform) -> bool {
        self.os().is_some_and(|os| os != here.os) || self.arch().is_some_and(|arch| arch != here.arch)
    }
}

/// A node that may take the command.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The node's name.
    pub name: String,
    /// Estimated seconds until the command is finished there.
    pub finish_s: f64,
    /// Why this place in the order, one clause.
    pub reason: String,
}

/// A node that was not eligible, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The node's name.
    pub name: String,
    /// One clause.
    pub reason: String,
}

/// The decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// Try these, best first.
    Nodes {
        /// At least one.
        candidates: Vec<Candidate>,
        /// The others.
        rejected: Vec<Rejected>,
        /// Why it leaves this machine.
        reason: String,
    },
    /// Run here.
    Local {
        /// Why.
        reason: String,
        /// Nodes that were looked at, if it came to that.
        rejected: Vec<Rejected>,
    },
    /// The caller's demands can't be met, and they forbid running here.
    Impossible {
        /// Why.
        reason: String,
        /// Nodes that were looked at.
        rejected: Vec<Rejected>,
    },
}

impl Route {
    /// Why, in one clause.
    pub fn reason(&self) -> &str {
        match self {
            Route::Nodes { reason, .. } | Route::Local { reason, .. } | Route::Impossible { reason, .. } => {
                reason
            }
        }
    }
}

/// Names that are told where another was meant; of more only their number.
const MOST_NAMES: usize = 8;

/// That no node is called so, and what the caller may have meant: the names there are, the closest first. To add one is proposed
/// only for what can be a node's name, and is one word to whoever types it into a shell.
fn no_such_node(name: &str, nodes: &[NodeView]) -> String {
    let mut known: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    known.sort_by_cached_key(|k| {
        (
            strsim::damerau_levenshtein(&k.to_lowercase(), &name.to_lowercase()),
            *k,
        )
    });
    let more = known.len().saturating_sub(MOST_NAMES);
    known.truncate(MOST_NAMES);
    let mut hints = match known[..] {
        [] => "there are none".to_owned(),
        _ => format!("those are {}", known.join(", ")),
    };
    if more > 0 {
        hints.push_str(&format!(" and {more} more"));
    }
    let is_word = |c: char| c.is_alphanumeric() || "._-@:".contains(c);
    if valid_node_name(name).is_ok() && name.chars().all(is_word) {
        hints.push_str(&format!("; `cx nodes add {name}` adds it"));
    }
    format!("`{name}` is not a configured node ({hints})")
}

/// Decides where a command runs.
pub fn route(input: &RouteInput) -> Route {
    let local = |reason: String| Route::Local {
        reason,
        rejected: Vec::new(),
    };
    let wishes = input.demands;
    let pinned = wishes.on.is_some() || wishes.os.is_some() || wishes.arch.is_some();
    if let Some(why) = &input.off {
        return if pinned {
            Route::Impossible {
                reason: format!("{why}, yet a node was asked for"),
                rejected: Vec::new(),
            }
        } else {
            local(why.clone())
        };
    }
    if let Some(name) = wishes.on
        && !input.nodes.iter().any(|n| n.name == name)
    {
        return Route::Impossible {
            reason: no_such_node(name, &input.nodes),
            rejected: Vec::new(),
        };
    }
    if !pinned && let Some(reason) = stays(input) {
        return local(reason);
    }
    if input.nodes.is_empty() {
        let reason = "no nodes are configured (`cx nodes add ALIAS` adds one)".to_owned();
        return if pinned {
            Route::Impossible {
                reason,
                rejected: Vec::new(),
            }
        } else {
            local(reason)
        };
    }
    let mut candidates = Vec::new();
    let mut rejected = Vec::new();
    let mut cheapest_s = f64::INFINITY;
    for node in input
        .nodes
        .iter()
        .filter(|n| wishes.on.is_none_or(|on| n.name == on))
    {
        match ineligible(input, node, pinned) {
            Some(reason) => rejected.push(Rejected {
                name: node.name.clone(),
                reason,
            }),
            None => {
                let (mut c, trip_s) = estimate(input, node);
                if node.facts.is_some() {
                    cheapest_s = cheapest_s.min(trip_s);
                }
                if is_overloaded(input, node) {
                    c.finish_s += OVERLOADED_S;
                }
                candidates.push((node, c));
            }
        }
    }
    if candidates.is_empty() {
        let whys: Vec<String> = rejected
            .iter()
            .map(|r| format!("{}: {}", r.name, r.reason))
            .collect();
        let reason = format!("no node can take it ({})", whys.join("; "));
        return if pinned {
            Route::Impossible { reason, rejected }
        } else {
            Route::Local { reason, rejected }
        };
    }
    // Below the cheapest trip no node can win, however fast it is.
    if !pinned && cheapest_s.is_finite() {
        let trip_ms = (cheapest_s * 1000.0).clamp(0.0, f64::from(u32::MAX)) as u32;
        if let Some(reason) = input.runtimes.too_short(trip_ms, input.seed) {
            return Route::Local { reason, rejected };
        }
    }
    // Nothing is won by moving from an idle machine to overloaded ones.
    if !pinned && input.local.cpu <= input.busy_cpu && candidates.iter().all(|(n, _)| is_overloaded(input, n))
    {
        let whys: Vec<String> = candidates
            .iter()
            .map(|(n, _)| format!("{}: {}", n.name, n.overloaded.as_deref().unwrap_or_default()))
            .collect();
        return Route::Local {
            reason: format!("every node is overloaded ({})", whys.join("; ")),
            rejected,
        };
    }
    let candidates = order(candidates, input.seed);
    let reason = why_it_leaves(input, pinned);
    Route::Nodes {
        candidates,
        rejected,
        reason,
    }
}

/// Why a command that nobody pinned stays here, before any node is looked at.
fn stays(input: &RouteInput) -> Option<String> {
    let v = input.verdict;
    match v.class {
        _ if input.demands.spread => {}
        Class::Light => return Some(v.reason.clone()),
        Class::Unknown if !input.typed && (!input.unknown_may_move || input.local.cpu <= input.busy_cpu) => {
            return Some(v.reason.clone());
        }
        _ => {}
    }
    if !input.auto_route {
        return Some("auto_route is off in the config".into());
    }
    input.must_be_local.clone()
}

fn why_it_leaves(input: &RouteInput, pinned: bool) -> String {
    match (pinned, input.verdict.class) {
        (true, _) => "the caller asked for it".into(),
        _ if input.demands.spread => "the caller asked for it to run beside others".into(),
        (_, Class::Unknown) if input.typed => {
            format!("{}, and a person typed cx in front of it", input.verdict.reason)
        }
        (_, Class::Unknown) => format!(
            "{}, but this machine is busy (cpu {:.0} %)",
            input.verdict.reason, input.local.cpu
        ),
        _ => input.verdict.reason.clone(),
    }
}

fn ineligible(input: &RouteInput, node: &NodeView, pinned: bool) -> Option<String> {
    let work = &input.verdict.workload;
    // Who names a node wants it tried, whatever the table says.
    if input.demands.on.is_none()
        && let Some(why) = &node.unusable
    {
        return Some(why.clone());
    }
    let (os, arch) = (node.os(), node.arch());
    for (what, wanted, is) in [("os", input.demands.os, os), ("arch", input.demands.arch, arch)] {
        if let Some(wanted) = wanted
            && is != Some(wanted)
        {
            return Some(format!("needs {what} {wanted}, is {}", is.unwrap_or("unknown")));
        }
    }
    if let Some(tag) = work.tags.iter().find(|t| !node.tags.contains(t)) {
        return Some(format!("has no tag {tag}"));
    }
    if pinned {
        return None;
    }
    if node.age_s <= FULL_S
        && let Some(why) = &node.full
    {
        return Some(why.clone());
    }
    if let Some(owner) = &input.owner
        && *owner != node.name
    {
        return Some(format!("what it reads was made on {owner}"));
    }
    if let Some(why) = foreign(input, work.platform, node) {
        return Some(why);
    }
    if let Some(facts) = &node.facts
        && !facts.tools.is_empty()
        && let Some(need) = work.needs.iter().find(|n| lacks_tool(facts, &n.program))
    {
        return Some(format!("no `{}`", need.program));
    }
    None
}

/// Whether the table says, freshly, that a node is overloaded.
fn is_overloaded(input: &RouteInput, node: &NodeView) -> bool {
    !input.allow_overload && node.age_s <= OLD_S && node.overloaded.is_some()
}

/// Whether the probe of a node looks for `program`, so that its silence means that it is not there.
pub fn is_probed(program: &str) -> bool {
    PROBED.contains(&program)
}

/// Tools that every probe looks for.
const PROBED: &[&str] = &[
    "make", "cmake", "ninja", "meson", "ctest", "cargo", "rustc", "go", "gcc", "g++", "clang", "python3",
    "pytest", "tox", "nox", "uv", "poetry", "node", "npm", "pnpm", "yarn", "bun", "java", "mvn", "gradle",
    "bazel", "dotnet", "docker", "podman", "swift", "zig", "ruby", "just",
];

/// Whether the node has told that it lacks `program`.
fn lacks_tool(facts: &Facts, program: &str) -> bool {
    is_probed(program) && !facts.tools.iter().any(|(t, _)| t == program)
}

/// Why the node's platform does not fit. A command whose result is a verdict or text is tied to the system and architecture too
/// until the user says otherwise for the workspace; one whose programs come back needs a libc that is no newer than here.
fn foreign(input: &RouteInput, tie: PlatformTie, node: &NodeView) -> Option<String> {
    let here = &input.local.platform;
    let (os, arch) = (node.os()?, node.arch()?);
    if node.is_foreign_to(here) {
        return Some(format!("is {os} {arch}, here is {} {}", here.os, here.arch));
    }
    let there = &node.facts.as_ref()?.platform.libc;
    if tie == PlatformTie::Same
        && !there.is_empty()
        && !here.libc.is_empty()
        && !libc_runs_here(there, &here.libc)
    {
        return Some(format!(
            "its {there} is not fit for programs that are to run on {}",
            here.libc
        ));
    }
    None
}

/// Whether a program linked against `there` runs on `here`.
fn libc_runs_here(there: &str, here: &str) -> bool {
    let split = |s: &str| -> Option<(String, Vec<u32>)> {
        let (name, version) = s.split_once(' ')?;
        Some((
            name.to_owned(),
            version.split('.').map_while(|p| p.parse().ok()).collect(),
        ))
    };
    match (split(there), split(here)) {
        (Some((a, va)), Some((b, vb))) => a == b && va <= vb,
        _ => there == here,
    }
}

/// finish = queue wait + sync + cold-start penalty + runtime / speed, in seconds; and that without the runtime.
fn estimate(input: &RouteInput, node: &NodeView) -> (Candidate, f64) {
    let cores = f64::from(node.facts.as_ref().map_or(4, |f| f.cores).max(1));
    let load = node.load.clone().unwrap_or_default();
    let slots = node
        .slots
        .or(node.facts.as_ref().map(|f| f.slots))
        .unwrap_or(1)
        .max(1);
    let running = load.running.max(node.in_flight);
    let queue = if running >= slots {
        USUAL_S * f64::from(running - slots + 1) / f64::from(slots)
    } else {
        0.0
    };
    let busy = f64::from(load.cpu / 100.0).clamp(0.0, 1.0) * cores;
    let ours = f64::from(running) * (cores / f64::from(slots)).min(cores) / 2.0;
    let free = (cores - busy.max(ours)).max(0.5);
    let speed = speed_of(free);
    let cold = if node.mirror { 0.0 } else { COLD_S };
    let known = &input.runtimes;
    let trip = known.trip(&node.name).map_or_else(
        || f64::from(node.rtt_ms.unwrap_or(100)) * 3.0 / 1000.0,
        |ms| f64::from(ms) / 1000.0,
    );
    let run_s = match (known.on(&node.name), known.here_ms) {
        (Some(ms), _) => f64::from(ms) / 1000.0,
        (None, Some(ms)) => f64::from(ms) / 1000.0 * speed_of(f64::from(input.local.cores.max(1))) / speed,
        (None, None) => USUAL_S / speed,
    };
    let mut reason = if node.facts.is_none() {
        "never reached yet".to_owned()
    } else {
        format!(
            "{} of {slots} slots free, {cores} cores, cpu {:.0} %",
            slots.saturating_sub(running),
            load.cpu
        )
    };
    if node.mirror {
        reason.push_str(", has a mirror");
    }
    if let Some(ms) = known.on(&node.name) {
        reason.push_str(&format!(", usually {} s there", seconds(ms)));
    }
    let candidate = Candidate {
        name: node.name.clone(),
        finish_s: queue + trip + cold + run_s,
        reason,
    };
    // The first sync is paid once: it tells nothing of the next trip.
    (candidate, queue + trip)
}

/// What so many free cores are worth. What runs on more of them is rarely faster in proportion; eight are four times one.
fn speed_of(cores: f64) -> f64 {
    cores.powf(0.67)
}

/// Best first; what is as good as equal goes in random order, and so does all of an old table past its best of two.
fn order(mut list: Vec<(&NodeView, Candidate)>, seed: u64) -> Vec<Candidate> {
    let mut random = seed | 1;
    let mut draw = move || {
        // xorshift64: enough to spread ties, and a pure function of the seed.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for i in (1..list.len()).rev() {
        let j = (draw() % (i as u64 + 1)) as usize;
        list.swap(i, j);
    }
    let old = list.iter().any(|(n, _)| n.age_s > OLD_S);
    // Half a second is below what these estimates can tell apart; a stable sort keeps the drawn order within it.
    let rank = |c: &Candidate| (c.finish_s * 2.0).round() as i64;
    if old && list.len() > 2 {
        // The first two were drawn at random; the better one leads, the rest follow by rank.
        if rank(&list[1].1) < rank(&list[0].1) {
            list.swap(0, 1);
        }
        list[1..].sort_by_key(|(_, c)| rank(c));
    } else {
        list.sort_by_key(|(_, c)| rank(c));
    }
    list.into_iter().map(|(_, c)| c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Need, Workload};
    use proptest::prelude::*;

    fn verdict(class: Class) -> Verdict {
        Verdict {
            class,
            rule: "r".into(),
            reason: "because".into(),
            workload: Workload::default(),
        }
    }

    fn node(name: &str) -> NodeView {
        NodeView {
            name: name.into(),
            facts: Some(Facts {
                cores: 8,
                slots: 4,
                platform: Platform {
                    os: "linux".into(),
                    arch: "x86_64".into(),
                    libc: "glibc 2.36".into(),
                },
                tools: vec![("make".into(), String::new())],
                ..Facts::default()
            }),
            load: Some(Load {
                slots: 4,
                ..Load::default()
            }),
            ..NodeView::default()
        }
    }

    fn input(v: &Verdict, nodes: Vec<NodeView>) -> RouteInput<'_> {
        RouteInput {
            verdict: v,
            demands: Wishes::default(),
            typed: false,
            unknown_may_move: true,
            auto_route: true,
            busy_cpu: 40.0,
            allow_overload: false,
            off: None,
            must_be_local: None,
            owner: None,
            local: LocalView {
                platform: Platform {
                    os: "linux".into(),
                    arch: "x86_64".into(),
                    libc: "glibc 2.36".into(),
                },
                cores: 4,
                cpu: 5.0,
            },
            nodes,
            runtimes: Runtimes::default(),
            seed: 7,
        }
    }

    /// The first node's name, or `local: why` or `impossible: why`.
    fn ask(i: &RouteInput) -> String {
        match route(i) {
            Route::Nodes { candidates, .. } => candidates[0].name.clone(),
            Route::Local { reason, .. } => format!("local: {reason}"),
            Route::Impossible { reason, .. } => format!("impossible: {reason}"),
        }
    }

    #[test]
    fn classes() {
        let (light, unknown, heavy) = (
            verdict(Class::Light),
            verdict(Class::Unknown),
            verdict(Class::Heavy),
        );
        let nodes = || vec![node("a")];
        assert_eq!(ask(&input(&light, nodes())), "local: because");
        assert_eq!(ask(&input(&unknown, nodes())), "local: because");
        assert_eq!(ask(&input(&heavy, nodes())), "a");
        let mut i = input(&unknown, nodes());
        i.typed = true;
        assert_eq!(ask(&i), "a");
        i.typed = false;
        i.local.cpu = 41.0;
        assert_eq!(ask(&i), "a");
        i.unknown_may_move = false;
        assert_eq!(ask(&i), "local: because");
        let mut i = input(&light, nodes());
        i.demands.on = Some("a");
        assert_eq!(ask(&i), "a");
        i.demands.on = Some("b");
        assert!(ask(&i).starts_with("impossible: `b` is not a configured node"));
        let mut i = input(&heavy, ["tower", "mini", "n1"].map(node).to_vec());
        for (name, told) in [
            ("towr", "(those are tower, mini, n1; `cx nodes add towr` adds it)"),
            ("MINI", "(those are mini, n1, tower; `cx nodes add MINI` adds it)"),
            // What is no node's name, or more than a word to a shell, is nothing to add.
            ("-oProxyCommand=id", "(those are mini, n1, tower)"),
            ("a b", "(those are n1, mini, tower)"),
            ("n2;id", "(those are mini, n1, tower)"),
            ("local", "(those are tower, mini, n1)"),
        ] {
            i.demands.on = Some(name);
            assert_eq!(
                ask(&i),
                format!("impossible: `{name}` is not a configured node {told}")
            );
        }
        let names: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
        let mut i = input(&heavy, names.iter().map(|n| node(n)).collect());
        i.demands.on = Some("n399");
        let told = ask(&i);
        assert!(
            told.contains("(those are n39, ") && told.contains(" and 32 more; "),
            "{told}"
        );
        let mut i = input(&heavy, vec![]);
        i.demands.on = Some("b");
        assert_eq!(
            ask(&i),
            "impossible: `b` is not a configured node (there are none; `cx nodes add b` adds it)"
        );
        assert!(ask(&input(&heavy, vec![])).starts_with("local: no nodes are configured"));
    }

    #[test]
    fn what_keeps_a_heavy_command_here() {
        let mut v = verdict(Class::Heavy);
        let with = |f: &dyn Fn(&mut RouteInput)| {
            let mut i = input(&v, vec![node("a")]);
            f(&mut i);
            ask(&i)
        };
        assert!(with(&|i| i.auto_route = false).contains("auto_route"));
        assert!(with(&|i| i.off = Some("CX_LOCAL is set".into())).contains("CX_LOCAL"));
        assert!(with(&|i| i.must_be_local = Some("/x lies outside".into())).contains("/x lies outside"));
        assert!(with(&|i| i.owner = Some("b".into())).contains("made on b"));
        assert!(with(&|i| i.nodes[0].unusable = Some("refused".into())).contains("a: refused"));
        assert!(
            with(&|i| i.nodes[0].full = Some("3 MB of disk left".into())).contains("a: 3 MB of disk left")
        );
        assert_eq!(
            with(&|i| (i.nodes[0].full, i.nodes[0].age_s) = (Some("3 MB of disk left".into()), 900.0)),
            "a"
        );
        assert!(with(&|i| i.nodes[0].overloaded = Some("cpu 99 %".into())).contains("overloaded"));
        assert_eq!(
            with(&|i| (i.nodes[0].overloaded, i.local.cpu) = (Some("cpu 99 %".into()), 80.0)),
            "a"
        );
        assert_eq!(
            with(&|i| (i.nodes[0].overloaded, i.allow_overload) = (Some("cpu".into()), true)),
            "a"
        );
        assert!(
            with(&|i| i.local.platform.arch = "arm64".into())
                .contains("is linux x86_64, here is linux arm64")
        );
        let mut i = input(&v, vec![node("a")]);
        i.off = Some("CX_LOCAL is set".into());
        i.demands.on = Some("a");
        assert!(ask(&i).starts_with("impossible"));

        v.workload.needs = vec![Need {
            program: "cargo".into(),
            module: None,
            same_version: false,
        }];
        assert!(ask(&input(&v, vec![node("a")])).contains("no `cargo`"));
        v.workload.needs[0].program = "make".into();
        assert_eq!(ask(&input(&v, vec![node("a")])), "a");
        v.workload.tags = vec!["gpu".into()];
        assert!(ask(&input(&v, vec![node("a")])).contains("no tag gpu"));
    }

    #[test]
    fn programs_come_back_only_from_a_libc_that_is_no_newer() {
        let mut v = verdict(Class::Heavy);
        v.workload.platform = PlatformTie::Same;
        for (there, ok) in [
            ("glibc 2.36", true),
            ("glibc 2.31", true),
            ("glibc 2.39", false),
            ("musl", false),
            ("", true),
            ("glibc 2.4", true),
        ] {
            let mut n = node("a");
            n.facts.as_mut().unwrap().platform.libc = there.into();
            assert_eq!(ask(&input(&v, vec![n.clone()])) == "a", ok, "{there}");
            v.workload.platform = PlatformTie::Free;
            assert_eq!(ask(&input(&v, vec![n])), "a");
            v.workload.platform = PlatformTie::Same;
        }
    }

    #[test]
    fn requirements_choose_the_platform_and_never_fall_back() {
        let v = verdict(Class::Light);
        let mut mac = node("mac");
        mac.facts.as_mut().unwrap().platform = Platform {
            os: "darwin".into(),
            arch: "arm64".into(),
            libc: String::new(),
        };
        let mut i = input(&v, vec![node("a"), mac]);
        i.demands.os = Some("darwin");
        assert_eq!(ask(&i), "mac");
        i.demands.arch = Some("x86_64");
        assert!(ask(&i).starts_with("impossible"));
    }

    #[test]
    fn the_free_and_warm_node_is_first() {
        let v = verdict(Class::Heavy);
        let mut full = node("full");
        full.load.as_mut().unwrap().running = 4;
        let mut busy = node("busy");
        busy.load.as_mut().unwrap().cpu = 80.0;
        let mut warm = node("warm");
        warm.mirror = true;
        assert_eq!(
            ask(&input(&v, vec![full.clone(), busy.clone(), node("free")])),
            "free"
        );
        assert_eq!(ask(&input(&v, vec![node("free"), warm.clone()])), "warm");
        // A warm mirror is not worth waiting for all its slots.
        warm.in_flight = 8;
        assert_eq!(ask(&input(&v, vec![warm, node("free")])), "free");
    }

    #[test]
    fn ties_spread() {
        let v = verdict(Class::Heavy);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut i = input(&v, vec![node("a"), node("b"), node("c")]);
            i.seed = seed * 7919;
            seen.insert(ask(&i));
        }
        assert_eq!(seen.len(), 3);
    }

    proptest! {
        #[test]
        fn total_and_never_an_ineligible_node(
            n in 0usize..6, class in 0u8..3, pin in any::<bool>(), seed in any::<u64>(),
            cpu in proptest::num::f32::ANY, broken in any::<u8>(), age in proptest::num::f64::ANY,
        ) {
            let v = verdict([Class::Light, Class::Unknown, Class::Heavy][class as usize]);
            let nodes: Vec<NodeView> = (0..n)
                .map(|k| {
                    let mut x = node(&format!("n{k}"));
                    x.unusable = (broken >> k & 1 == 1).then(|| "broken".into());
                    x.load.as_mut().unwrap().cpu = cpu;
                    x.age_s = age;
                    x
                })
                .collect();
            let mut i = input(&v, nodes);
            i.seed = seed;
            i.local.cpu = cpu;
            if pin { i.demands.os = Some("linux"); }
            match route(&i) {
                Route::Nodes { candidates, .. } => {
                    prop_assert!(!candidates.is_empty());
                    for c in candidates {
                        let k: usize = c.name[1..].parse().unwrap();
                        prop_assert!(broken >> k & 1 == 0);
                    }
                }
                Route::Local { reason, .. } => prop_assert!(!pin && !reason.is_empty()),
                Route::Impossible { reason, .. } => prop_assert!(pin && !reason.is_empty()),
            }
        }
    }

    #[test]
    fn what_is_short_here_stays_here_with_the_figures() {
        let v = verdict(Class::Heavy);
        let learned = |times: &[(&str, u32)]| {
            let mut learned = crate::plan::learned::Learned::default();
            for (place, ms) in times {
                let (key, place) = place.strip_prefix("trip:").map_or((1, *place), |p| (2, p));
                for _ in 0..3 {
                    learned.note(key, place, *ms, 5);
                }
            }
            learned.runtimes(Some(1), 2, 6)
        };
        let with = |times: &[(&str, u32)], seed: u64, on: Option<&'static str>| {
            route(&RouteInput {
                runtimes: learned(times),
                seed,
                demands: Wishes {
                    on,
                    ..Wishes::default()
                },
                ..input(
                    &v,
                    vec![NodeView {
                        mirror: true,
                        ..node("a")
                    }],
                )
            })
        };
        let short = with(&[("local", 300), ("trip:a", 500)], 1, None);
        assert_eq!(short.reason(), "usually 0.3 s here, a trip costs 0.5 s");
        assert!(matches!(short, Route::Local { .. }));
        // Without a trip that was seen, the round trips are what it costs at least.
        assert!(matches!(with(&[("local", 200)], 1, None), Route::Local { .. }));
        for other in [
            with(&[("local", 300), ("trip:a", 200)], 1, None),
            with(&[("local", 300), ("trip:a", 500)], 16, None),
            with(&[("local", 300), ("trip:a", 500)], 1, Some("a")),
            with(&[], 1, None),
        ] {
            assert!(matches!(other, Route::Nodes { .. }), "{other:?}");
        }
        let Route::Nodes { candidates, .. } = with(&[("a", 4000), ("trip:a", 500)], 1, None) else {
            panic!("it is worth the trip");
        };
        assert!((candidates[0].finish_s - 4.5).abs() < 0.01, "{candidates:?}");
        assert!(
            candidates[0].reason.ends_with("usually 4.0 s there"),
            "{candidates:?}"
        );
    }
}
