//! `cx setup`: makes other programs call cx, and takes that away again.

pub mod change;
pub mod claude;
mod diff;
pub mod edit;
pub mod gemini;
mod json;
