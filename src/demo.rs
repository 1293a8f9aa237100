//! `cx demo`: a throw-away node on this machine, a real project, and what cx does with them, told step by step.

pub mod processes;
pub mod sshd;
