//! x
/// x
pub fn main()->std::process::ExitCode{todo!()}
/// x
pub mod note { 
/// x
pub struct Note { /// x
pub variables: Vec<String> }
/// x
pub fn read(_:&str)->Option<Note>{todo!()} /// x
pub fn append_report(_:&str,_:&str)->bool{todo!()} }
