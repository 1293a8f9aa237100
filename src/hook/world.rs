//! The hook's outside world in a real process.

use std::ffi::OsString;
use std::path::PathBuf;

use super::decide::{View, World};
use super::{note, settings};
use crate::paths::Paths;
use crate::{probe, table};

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

/// What the summary beside the load table says; a missing or broken config means that nothing is rewritten.
fn view() -> View {
    let Some((paths, view)) = Paths::from_env().ok().and_then(|p| table::hook_view(&p).map(|v| (p, v))) else {
        return View::default();
    };
    View {
        usable: view.nodes > 0 && note::now_ms() >= view.none_usable_until_ms,
        auto_route: view.auto_route,
        busy: probe::cpu_at_a_glance(&paths.cache.join("cpu")) > view.busy_cpu,
        rules: view.rules,
        off: view.off,
    }
}
