//! The rule table.

/// A rule of the user's own, from `[[rule]]` in the config.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserRule {
    /// Its name.
    pub name: String,
}
