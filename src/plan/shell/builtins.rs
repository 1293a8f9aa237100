//! Words that mean something to the shell itself, where a program of the same name would do something else or nothing.

use super::Word;

/// Builtins of bash and zsh that change or tell of the shell which runs them, and words of its grammar (bash 5.2, `compgen -bk`; zsh 5.9,
/// `zshbuiltins(1)`). What does the same as a program (`echo`, `test`, `pwd`) is not among them.
const OF_THE_SHELL: &str = " ! [[ ]] { } . : alias always autoload bg bind bindkey break builtin caller case cd chdir command compdef \
    compgen complete compopt continue coproc declare dirs disown do done elif else emulate enable end esac eval exec exit export fc fg \
    fi float for foreach function functions getopts hash help history if in integer jobs let limit local logout mapfile nocorrect \
    noglob popd pushd read readarray readonly rehash repeat return select set setopt shift shopt source suspend then time times trap \
    type typeset ulimit umask unalias unfunction unhash unlimit unset unsetopt until vared wait while zle zmodload zstyle ";

/// Whether a command of these words is the shell's own: no program can stand in for it.
pub fn is_the_shells(argv: &[Word]) -> bool {
    let Some(name) = argv.first().and_then(Word::text) else {
        return false;
    };
    let first_begins = |start| {
        let first = argv.get(1).and_then(Word::text);
        first.is_some_and(|a| a.starts_with(start))
    };
    match name {
        // Into a variable; of the shell's own jobs.
        "printf" | "print" => first_begins("-v"),
        "kill" => first_begins("%"),
        _ => !name.is_empty() && !name.contains(' ') && OF_THE_SHELL.contains(&format!(" {name} ")),
    }
}
