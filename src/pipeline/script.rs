//! Judges a whole shell text that is to run in one shell on a node.

use std::ffi::OsString;
use std::path::Path;

use crate::client::eligible::{self, Fit};
use crate::config::Config;
use crate::paths::Paths;
use crate::plan::classify::{self, Context as RuleContext, Judged};
use crate::plan::shell::{Dialect, Word};
use crate::plan::{Brings, Class, Verdict, Workload};
use crate::sync::Workspace;

/// Judges `text` as one command: the one heavy command in it if there is just one, otherwise something that may leave anything.
pub(super) fn verdict(text: &str, context: &RuleContext) -> (Verdict, Vec<Judged>) {
    let unknown = |reason: String| Verdict {
        class: Class::Unknown,
        rule: String::new(),
        reason,
        workload: Workload {
            brings: Brings::Ignored,
            ..Workload::default()
        },
    };
    let judged = match classify::classify_script(text, Dialect::Bash, context) {
        Ok(judged) => judged,
        Err(e) => return (unknown(format!("the text is not understood: {e}")), Vec::new()),
    };
    let mut weighty = judged.iter().filter(|j| j.verdict.class != Class::Light);
    let verdict = match (weighty.next(), weighty.next()) {
        (None, _) => judged.first().map_or_else(
            || unknown("there is no command in the text".into()),
            |j| j.verdict.clone(),
        ),
        (Some(one), None) if !moves_about(&judged) && one.part.left_alone.is_none() => one.verdict.clone(),
        (Some(one), _) => {
            let mut all = unknown(one.verdict.reason.clone());
            all.class = one.verdict.class;
            all.workload.same_paths = judged.iter().any(|j| j.verdict.workload.same_paths);
            all
        }
    };
    (verdict, judged)
}

/// Whether the text changes its directory, so that what is relative to the run's directory can't be told.
fn moves_about(judged: &[Judged]) -> bool {
    judged.iter().any(|j| {
        matches!(
            j.part.argv.first().and_then(Word::text),
            Some("cd" | "pushd" | "popd" | "source" | "." | "eval")
        )
    })
}

/// What only this machine can tell about each command of a text, put together.
pub(super) fn look(
    judged: &[Judged],
    cwd: &Path,
    ws: Option<&Workspace>,
    paths: &Paths,
    config: &Config,
) -> Fit {
    let still = !moves_about(judged);
    let mut all = Fit::default();
    for j in judged {
        let words: Option<Vec<OsString>> = j.part.argv.iter().map(|w| w.text().map(OsString::from)).collect();
        let Some(words) = words.filter(|w| !w.is_empty()) else {
            continue;
        };
        let fit = eligible::look(&words, &j.verdict.workload, cwd, ws, paths, config);
        all.identity = all.identity.or(fit.identity);
        all.must_be_local = all.must_be_local.or(fit.must_be_local);
        all.owner = all.owner.or(fit.owner);
        all.setup.join(fit.setup);
        all.shared = fit.shared;
        all.also = fit.also;
        all.unless_shared = all.unless_shared.or(fit.unless_shared);
        all.path_prefix = fit.path_prefix;
        // A program by its path means another file in another directory.
        let needs = fit
            .needs
            .into_iter()
            .filter(|n| still || !n.need.program.contains('/'));
        for need in needs {
            if !all.needs.contains(&need) {
                all.needs.push(need);
            }
        }
        all.needs_paths.extend(fit.needs_paths);
        if still {
            all.needs_dirs.extend(fit.needs_dirs);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Verdict {
        verdict(text, &RuleContext::default()).0
    }

    #[test]
    fn a_text_weighs_what_its_heavy_command_weighs() {
        assert_eq!(of("cargo test --workspace | tail -3").rule, "cargo");
        assert_eq!(of("cargo build && cargo test").workload.brings, Brings::Ignored);
        assert_eq!(of("cargo build && cargo test").class, Class::Heavy);
        assert_eq!(of("cd x && cargo build").workload.brings, Brings::Ignored);
        assert_eq!(of("ls; echo x").class, Class::Light);
        assert_eq!(of("frobnicate").class, Class::Unknown);
        assert_eq!(of("if then").class, Class::Unknown);
        assert_eq!(of("").class, Class::Unknown);
    }
}
