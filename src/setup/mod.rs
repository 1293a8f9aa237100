//! x
/// x
pub mod claude {
/// x
pub fn main(_:bool,_:bool,_:&mut dyn std::io::Write)->anyhow::Result<i32>{todo!()} }
