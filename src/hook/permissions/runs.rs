//! Whether a command may run what stands among its arguments, so that a word there may be a command of its own.
//!
//! More is in here than the client looks through: a rule that denies `pytest` is hardly meant to let `uv run pytest` pass at a door where
//! nobody is asked.

use crate::plan::shell::{Part, Word};

/// Programs that run what they are given, or take a script.
const ALWAYS: &str = "- . alias ash at batch bash bind builtin bunx busybox bwrap caffeinate chroot chrt command compgen complete \
concurrently coproc coverage crontab csh cx dash deno doas dotenv enable entr env eval exec expect faketime fakeroot firejail fish flock \
foreman gdb gmake gtimeout hash honcho invoke ionice just ksh ltrace make mapfile nice nix-shell nocorrect node nodemon noglob nohup nox \
npx nsenter numactl osascript overmind parallel perf perl php pkexec pnpx proot pypy python readarray rlwrap rr ruby runuser screen script \
setpriv setsid sh source ssh stdbuf strace su sudo systemd-run taskset tcsh time timeout tmux tox trap tsx unbuffer unshare uvx valgrind watch \
winpty xargs xvfb-run zsh";

/// Programs that do so where one of their arguments says so.
const IF_TOLD: &str = "asdf buildah bun bundle cargo conda direnv docker fd fdfind find git go hatch kubectl mamba micromamba mise nix npm \
pdm pipenv pixi pnpm podman poetry rustup rye uv yarn";

/// What says so.
const TELLING: &str = "-- --command --exec --exec-batch --run -X -c -exec -execdir -ok -okdir -x bisect dlx exec foreach run shell tool x";

/// The name by which a program's is known: without its directory and version, in lower case.
pub fn name(program: &str) -> String {
    let base = program.rsplit('/').next().unwrap_or(program);
    // In zsh, `=sh` is the path of `sh`.
    base.trim_start_matches('=').to_ascii_lowercase()
}

/// Whether `part`, whose program's [`name`] is `program`, may run words among its arguments.
pub fn its_arguments(program: &str, part: &Part) -> bool {
    let versionless = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let in_list = |list: &str| list.split(' ').any(|p| p == program || p == versionless);
    let tells = |word: &Word| {
        word.text().is_none_or(|w| {
            let option = w.split('=').next().unwrap_or(w);
            TELLING.split(' ').any(|t| t == option)
        })
    };
    in_list(ALWAYS) || in_list(IF_TOLD) && part.argv.iter().skip(1).any(tells)
}
