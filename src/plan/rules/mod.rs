//! The rule table.

use serde::Deserialize;

/// A rule of the user's own, from `[[rule]]` in the config.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRule {
    /// Its name.
    pub name: String,
}
