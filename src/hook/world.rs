//! The hook's outside world in a real process.

use std::ffi::OsString;
use std::path::PathBuf;

use super::decide::{View, World};
use super::settings;

impl<'a> World<'a> {
    /// Of this process, with `var` for its environment.
    pub fn of_process(var: &'a dyn Fn(&str) -> Option<OsString>) -> World<'a> {
        let home = || var("HOME").map(PathBuf::from);
        let state = var("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(home()?.join(".local/state")));
        World {
            var,
            state: state.map(|s| s.join("cx")),
            managed: settings::managed_dir(),
            view: &view,
        }
    }
}

fn view() -> View {
    View {
        usable: true,
        auto_route: true,
        ..View::default()
    }
}
