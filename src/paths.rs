//! Where cx keeps things.
