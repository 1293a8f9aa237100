//! Users' own rules, and properties that hold for all rules.

use super::*;

#[test]
fn names_of_rules_are_sorted_out() {
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), NAMES.len(), "a name stands twice");
}
