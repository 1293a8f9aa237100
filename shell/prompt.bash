# For a shell that a person types in, bash or zsh: the functions follow the tools. Before a prompt PATH is compared with what it
# was, and where it changed (an environment was activated, or left), and now and then without that (something was
# installed), the tools are looked for again. So `command -v` says yes for what is there, and no for what is not.

__cx_path=$PATH
__cx_prompts=0

function __cx_look {
    \builtin local name=''
    \builtin set -- type -P
    if \builtin test -n "${ZSH_VERSION-}"; then
        \builtin set -- whence -p
    fi
    __cx_path=$PATH
    __cx_prompts=0
    # shellcheck disable=SC2043 # a list, once it is filled in
    for name in @TOOLS@; do
        if \builtin "$@" "$name"; then
            \builtin typeset -f "$name" || __cx_define "$name"
        elif \builtin typeset -f "$name"; then
            # One of the user's own stays.
            case $(\builtin typeset -f "$name") in
                *__cx_tool* | *__cx_front*) \builtin unset -f "$name" ;;
            esac
        fi
    done >/dev/null 2>&1
}

# Leaves `$?` as it was, for whatever else wants to show it; only not where that would end the shell.
function __cx_prompt {
    \builtin local was=$?
    __cx_prompts=$((${__cx_prompts:-0} + 1))
    if \builtin test "$PATH" != "${__cx_path-}" || \builtin test "$__cx_prompts" -ge 20; then
        __cx_look
    fi
    case $- in
        *e*) \builtin return 0 ;;
    esac
    \builtin return "$was"
}

case $- in
    *i*)
        if \builtin test -n "${ZSH_VERSION-}"; then
            case " ${precmd_functions[*]-} " in
                *' __cx_prompt '*) ;;
                *) precmd_functions+=(__cx_prompt) ;;
            esac
        else
            case "${PROMPT_COMMAND[*]-}" in
                *__cx_prompt*) ;;
                # A line of its own: what is there may end in a semicolon.
                *) PROMPT_COMMAND=${PROMPT_COMMAND:+$PROMPT_COMMAND$'\n'}__cx_prompt ;;
            esac
        fi
        ;;
esac
