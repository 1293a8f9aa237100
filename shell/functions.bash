# cx for bash and zsh: heavy commands go to where they finish first.
#
# Every tool that can be heavy and is on PATH becomes a function, and a function exists in this shell and its subshells only: what a
# script, or a local `make`, starts from here never meets one. `command make` passes it by, a function of the user's
# own stays, and an alias (`alias make='make -j8'`) leads to it. PATH is left alone, so that no build writes down the
# path of a shim as its compiler; for the one call of `timeout`, `nice`, `nohup` or `env` that starts a tool, a
# directory of shims comes first on it. When cx is gone, all of them run the plain tool.
#
# Words in @...@ are filled in by cx.

__cx_program=@PROGRAM@
__cx_shims=@SHIMS@
# A subshell has the same `$$`. A script does not, to which `set -a` may have exported the functions.
__cx_shell=$$
# By these a function for a tool calls what follows. Where only that function came (`export -f make`), it runs the plain tool.
__cx_front=__cx_front
__cx_tool=__cx_tool

# A function for one tool.
function __cx_define {
    case $1 in
        timeout | nice | nohup | env) \builtin eval "function $1 { \"\${__cx_front-command}\" $1 \"\$@\"; }" ;;
        *) \builtin eval "function $1 { \"\${__cx_tool-command}\" $1 \"\$@\"; }" ;;
    esac
}

# Sets `__cx_pid` to this very process, which in a subshell is not `$$`.
function __cx_here {
    __cx_pid=${BASHPID-$$}
    if \builtin test "${ZSH_SUBSHELL-0}" != 0 && \builtin zmodload -F zsh/system p:sysparams; then
        # shellcheck disable=SC2154 # zsh has it
        __cx_pid=${sysparams[pid]}
    fi
}

function __cx_tool {
    \builtin local __cx_pid=''
    if \builtin test "$$" = "${__cx_shell-}" && \builtin test -x "${__cx_program-}"; then
        __cx_here
        if \builtin test "$__cx_pid" = "$$"; then
            "$__cx_program" shim "$@"
        else
            # `make & kill $!` means the tool, and would end nothing but this subshell.
            "$__cx_program" shim "--below=$__cx_pid" "$@"
        fi
    else
        \builtin command "$@"
    fi
}

function __cx_front {
    \builtin local __cx_word='' __cx_found='' __cx_pid=''
    if \builtin test "$$" = "${__cx_shell-}" && \builtin test -x "${__cx_program-}"; then
        for __cx_word in "${@:2}"; do
            case $__cx_word in
                # Options, assignments, seconds, and one such command in another.
                -* | *=* | [0-9]* | timeout | nice | nohup | env) \builtin continue ;;
                '' | */*) \builtin break ;;
            esac
            if \builtin test -f "${__cx_shims-}/$__cx_word"; then
                __cx_found=yes
                \builtin break
            fi
            case $__cx_word in
                # A signal (`-s KILL`) or a variable (`-u NAME`).
                [A-Z]*) ;;
                *) \builtin break ;;
            esac
        done
    fi
    if \builtin test -n "$__cx_found"; then
        __cx_here
        # The shim acts only right below this very shell.
        if \builtin test "$__cx_pid" = "$$"; then
            CX_SHIM_SHELL=$__cx_pid PATH=$__cx_shims:$PATH \builtin command "$@"
        else
            CX_SHIM_SHELL=$__cx_pid PATH=$__cx_shims:$PATH "$__cx_program" shim "--below=$__cx_pid" "$@"
        fi
    else
        \builtin command "$@"
    fi
}
