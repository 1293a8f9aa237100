//! `cx setup`: makes other programs call cx, and takes that away again.

pub mod claude;
mod diff;
mod edit;
mod json;
