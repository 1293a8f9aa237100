//! Where a command leaves what it makes, by its options and by the variables that its tool goes by: outside of what goes along, it would
//! stay on the node.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::is_within;
use crate::paths::normal;
use crate::plan::{Brings, Verdict, Workload};

/// A variable that says where a tool leaves what it makes.
struct Redirection {
    name: &'static str,
    /// The rule of the tool.
    rule: &'static str,
    /// The place that the rule names for where the variable is not set; the cache directory that it names first, if empty.
    instead_of: &'static str,
    /// The option that counts more.
    option: Option<&'static str>,
}

/// From the documentation of cargo (which looks at them in this order) and of coverage.py.
const REDIRECTIONS: [Redirection; 3] = [
    Redirection {
        name: "CARGO_TARGET_DIR",
        rule: "cargo",
        instead_of: "",
        option: Some("--target-dir"),
    },
    Redirection {
        name: "CARGO_BUILD_TARGET_DIR",
        rule: "cargo",
        instead_of: "",
        option: Some("--target-dir"),
    },
    Redirection {
        name: "COVERAGE_FILE",
        rule: "pytest",
        instead_of: ".coverage",
        option: None,
    },
];

/// Has the workload of `verdict` name the places that the variables say, which `var` gives the values of.
pub fn redirect(verdict: &mut Verdict, argv: &[OsString], var: &dyn Fn(&str) -> Option<OsString>) {
    let given = |option: &str| argv.iter().any(|a| a.to_string_lossy().starts_with(option));
    let set = |r: &&Redirection| r.rule == verdict.rule && !r.option.is_some_and(given);
    let found = REDIRECTIONS.iter().filter(set).find_map(|r| {
        let value = var(r.name)?.into_string().ok().filter(|v| !v.is_empty())?;
        Some((r, value))
    });
    let Some((redirection, to)) = found else { return };
    let to = to.trim_end_matches('/');
    let work = &mut verdict.workload;
    let from = match redirection.instead_of {
        "" => work.leaves.first().cloned().unwrap_or_default(),
        named => named.to_owned(),
    };
    let moved = |place: &mut String| {
        if let Some(rest) = place.strip_prefix(&from)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            *place = format!("{to}{rest}");
        }
    };
    work.leaves.iter_mut().for_each(moved);
    if let Brings::Outputs(globs) = &mut work.brings {
        globs.iter_mut().for_each(moved);
    }
}

/// Variables of the kind that [`redirect`] goes by, and whether each leads out of `roots`.
pub fn redirecting(cwd: &Path, roots: &[PathBuf]) -> Vec<(&'static str, bool)> {
    let value = |r: &Redirection| Some((r.name, std::env::var_os(r.name).filter(|v| !v.is_empty())?));
    let set = REDIRECTIONS.iter().filter_map(value);
    set.map(|(name, value)| (name, !is_within(&normal(&cwd.join(value)), roots)))
        .collect()
}

/// Why what a command makes would stay on a node, if so.
pub(super) fn stay(work: &Workload, cwd: &Path, roots: &[PathBuf]) -> Option<String> {
    let Brings::Outputs(globs) = &work.brings else {
        return None;
    };
    globs.iter().find_map(|glob| {
        let fixed = glob.split(['*', '?', '[']).next().unwrap_or(glob);
        let full = normal(&cwd.join(fixed));
        // What goes to a device is kept by nobody.
        let kept = !["/dev", "/proc"].iter().any(|s| full.starts_with(s));
        (kept && !is_within(&full, roots)).then(|| {
            let place = fixed.trim_end_matches('/');
            format!(
                "{} would be written outside the workspace",
                crate::node::printable(place, 80)
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::classify::{Context, classify};
    use crate::plan::shell::Word;

    /// The workload of a command whose first words may be assignments.
    fn work(text: &str) -> Workload {
        let words: Vec<&str> = text.split(' ').collect();
        let set = words
            .iter()
            .take_while(|w| !w.starts_with('-') && w.contains('='))
            .count();
        let (set, argv) = words.split_at(set);
        let typed: Vec<Word> = argv.iter().map(|w| Word::from(*w)).collect();
        let mut verdict = classify(&typed, &Context::default());
        let var = |name: &str| {
            let found = set.iter().find_map(|s| s.strip_prefix(name)?.strip_prefix('='));
            found.map(OsString::from)
        };
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        redirect(&mut verdict, &argv, &var);
        verdict.workload
    }

    #[test]
    fn variables_say_where_outputs_go() {
        let rows = [
            ("cargo build", "target | target/debug/*"),
            ("CARGO_TARGET_DIR=t/ci/ cargo build -r", "t/ci | t/ci/release/*"),
            ("CARGO_BUILD_TARGET_DIR=t cargo doc", "t | t/doc/**"),
            (
                "CARGO_TARGET_DIR=t cargo build --manifest-path sub/Cargo.toml",
                "t | t/debug/*",
            ),
            ("CARGO_TARGET_DIR=t cargo build --target-dir u", "u | u/debug/*"),
            (
                "CARGO_TARGET_DIR=/x/t cargo build --artifact-dir o",
                "/x/t | /x/t/debug/* o/*",
            ),
            ("CARGO_TARGET_DIR= cargo build", "target | target/debug/*"),
            ("CARGO_TARGET_DIR=t make", " | "),
            (
                "COVERAGE_FILE=cov/data pytest",
                ".pytest_cache .hypothesis | cov/data coverage.xml htmlcov/**",
            ),
        ];
        for (text, want) in rows {
            let work = work(text);
            let out = match &work.brings {
                Brings::Outputs(out) => out.join(" "),
                _ => String::new(),
            };
            assert_eq!(format!("{} | {out}", work.leaves.join(" ")), want, "{text}");
        }
    }

    #[test]
    fn what_is_written_outside_would_stay_there() {
        let roots = [PathBuf::from("/home/me/ws")];
        let said = |text: &str| stay(&work(text), Path::new("/home/me/ws/sub"), &roots);
        for (text, place) in [
            ("go build -o /usr/local/bin/x", "/usr/local/bin/x"),
            ("gcc -o /usr/local/bin/x a.c", "/usr/local/bin/x"),
            ("gcc -o../../x a.c", "../../x"),
            ("rustc a.rs --out-dir /opt/none/x", "/opt/none/x"),
            ("cargo build --target-dir=/tmp/none/a/b", "/tmp/none/a/b/debug"),
            ("cargo build --artifact-dir /tmp/none/o", "/tmp/none/o"),
            ("CARGO_TARGET_DIR=/tmp/none/t cargo build", "/tmp/none/t/debug"),
            ("CARGO_TARGET_DIR=../../t cargo doc", "../../t/doc"),
            ("pytest --junitxml=/tmp/none/o.xml", "/tmp/none/o.xml"),
            ("pytest --cov-report xml:/tmp/c.xml", "/tmp/c.xml"),
            ("COVERAGE_FILE=/tmp/c pytest", "/tmp/c"),
            ("go test -coverprofile=/tmp/c.out ./...", "/tmp/c.out"),
            ("cmake -S . -B /opt/build", "/opt/build"),
            ("javac -d /usr/share/x A.java", "/usr/share/x"),
        ] {
            let want = format!("{place} would be written outside the workspace");
            assert_eq!(said(text).as_deref(), Some(want.as_str()), "{text}");
        }
        for text in [
            "go build -o ../bin/x",
            "go build -o /dev/null ./...",
            "gcc -o /home/me/ws/x a.c",
            "gcc -c -o /dev/stdout a.c",
            "cargo build",
            // Its cache alone lies elsewhere.
            "CARGO_TARGET_DIR=/tmp/none/t cargo test",
            "make PREFIX=/usr",
            "pytest",
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }
}
