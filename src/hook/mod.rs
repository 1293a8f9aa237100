//! `cx hook`: what Claude Code calls around each Bash command.

pub mod program;
