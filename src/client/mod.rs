//! The client's side of a run: what goes along, which node answers first, and the run itself.

pub mod cross;
pub mod differs;
pub mod eligible;
pub mod fails_there;
pub mod forward;
pub mod kept;
pub mod named;
pub mod reach;
pub mod run;
pub mod shared;
pub mod stdio;
pub mod terminal;
pub mod tree;
