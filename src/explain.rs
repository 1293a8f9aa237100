//! x
/// x
pub fn render(_:&str,_:&Result<Vec<crate::plan::classify::Judged>,crate::plan::shell::Unparsed>,_:&mut dyn FnMut(&[crate::plan::shell::Word],&crate::plan::Verdict)->crate::plan::route::Route,_:bool,_:&mut dyn std::io::Write)->anyhow::Result<()>{todo!()}
