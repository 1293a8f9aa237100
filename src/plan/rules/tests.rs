//! Users' own rules, and properties that hold for all rules.

use super::*;

#[test]
fn names_of_rules_are_sorted_out() {
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), NAMES.len(), "a name stands twice");
}

/// Arguments with which some form of a tool is heavy, or at least known.
const FORMS: &[&[&str]] = &[
    &[],
    &["build"],
    &["test"],
    &["run"],
    &["exec", "pytest"],
    &["--build", "b"],
    &["-c", "a.c"],
    &["a.c"],
    &["check"],
    &["lint"],
    &["run", "build"],
    &["-m", "unittest"],
    &["-m", "pytest"],
    &["compile"],
    &["run", "pytest"],
    &["--", "make"],
    &["make"],
    &["artisan", "test"],
    &["CMD", "check"],
    &["exec", "--", "make"],
    &["exec", ".", "make"],
    &["exec", "jest"],
    &["install"],
    &["vendor/bin/phpunit"],
    &["manage.py", "test"],
    &["run", "-n", "x", "pytest"],
    &["jest"],
    &["tool", "run", "pytest"],
    &["--test"],
    &["build", "x"],
    &["run", "stable", "cargo", "test"],
    &["-a", "make"],
    &["x", "--", "make"],
    &["--run", "all"],
    &["run", "test"],
    &["run", "-p", "x", "pytest"],
    &["run-many", "-t", "build"],
    &["run", "-m", "pytest"],
    &["start", "--single-run"],
    &["-M:test"],
    &["test/runtests.jl"],
    &["-e", "devtools::test()"],
];

#[test]
fn every_program_with_a_shim_can_be_heavy_and_every_rule_has_one() {
    let judged = |program: &str| -> Vec<Verdict> {
        let argv = |form: &&[&str]| -> Vec<Word> {
            std::iter::once(&program)
                .chain(form.iter())
                .map(|w| Word::Static((*w).to_owned()))
                .collect()
        };
        FORMS
            .iter()
            .map(|form| judge(&argv(form), Scope::default()))
            .collect()
    };
    let mut sorted = PROGRAMS.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, PROGRAMS, "not in order, or a name stands twice");
    let mut rules: Vec<String> = Vec::new();
    let mut never: Vec<&str> = Vec::new();
    for program in PROGRAMS {
        let verdicts = judged(program);
        // Containers leave by the user's own word only.
        let opted = verdicts.iter().any(|v| v.rule == "docker");
        if !opted && !verdicts.iter().any(|v| v.class == Class::Heavy) {
            never.push(program);
        }
        rules.extend(verdicts.into_iter().map(|v| v.rule));
    }
    assert!(never.is_empty(), "shims that would never act: {never:?}");
    let missing: Vec<_> = NAMES
        .iter()
        .filter(|n| **n != "earthly" && !rules.iter().any(|r| r == *n))
        .collect();
    assert!(missing.is_empty(), "rules that no shim leads to: {missing:?}");
}
