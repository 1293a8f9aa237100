# For the commands of an agent, bash or zsh: tools that were not on PATH when the session began. They lie in directories that
# came to PATH since then, or in a Python environment that a command's own text may activate before it starts them.
__cx_more=${VIRTUAL_ENV:-.venv}/bin:.venv/bin:venv/bin:$PATH:
while \builtin test -n "$__cx_more"; do
    __cx_dir=${__cx_more%%:*}
    __cx_more=${__cx_more#*:}
    # shellcheck disable=SC2194 # a word, once it is filled in
    case @KNOWN@ in
        *":$__cx_dir:"*) ;;
        *)
            if \builtin test -d "$__cx_dir"; then
                # shellcheck disable=SC2043 # a list, once it is filled in
                for __cx_name in @TOOLS@; do
                    if \builtin test -x "$__cx_dir/$__cx_name"; then
                        \builtin typeset -f "$__cx_name" || __cx_define "$__cx_name"
                    fi
                done >/dev/null
            fi
            ;;
    esac
done
\builtin unset __cx_dir __cx_more __cx_name
