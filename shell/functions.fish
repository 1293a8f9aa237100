# cx for fish: heavy commands go to where they finish first.
#
# Every tool that can be heavy becomes a function, and a function exists in this shell only: what a script, or a local
# `make`, starts from here never meets one. `command make` passes it by, and a function or alias of the user's own
# stays. PATH is left alone, so that no build writes down the path of a shim as its compiler; for the one call of
# `timeout`, `nice`, `nohup` or `env` that starts a tool, a directory of shims comes first on it. When cx is gone, all
# of them run the plain tool.
#
# Words in @...@ are filled in by cx.

set -g __cx_program @PROGRAM@
set -g __cx_shims @SHIMS@

function __cx_tool
    if builtin test -x "$__cx_program"
        $__cx_program shim $argv
    else
        command $argv
    end
end

function __cx_front
    set -l found
    if builtin test -x "$__cx_program"
        for word in $argv[2..-1]
            # Options, assignments, seconds, and one such command in another.
            if builtin string match -qr -- '^-|=|^[0-9]|^(timeout|nice|nohup|env)$' "$word"
                continue
            end
            if builtin string match -qr -- '^$|/' "$word"
                break
            end
            if builtin test -f "$__cx_shims/$word"
                set found yes
                break
            end
            # A signal (`-s KILL`) or a variable (`-u NAME`).
            builtin string match -qr -- '^[A-Z]' "$word"; or break
        end
    end
    if builtin test -n "$found"
        # The shim acts only right below this very shell.
        set -lx CX_SHIM_SHELL $fish_pid
        set -lx PATH $__cx_shims $PATH
        command $argv
    else
        command $argv
    end
end

for __cx_name in @TOOLS@
    functions -q $__cx_name
    or function $__cx_name --inherit-variable __cx_name
        __cx_tool $__cx_name $argv
    end
end
for __cx_name in timeout nice nohup env
    functions -q $__cx_name
    or function $__cx_name --inherit-variable __cx_name
        __cx_front $__cx_name $argv
    end
end
set -e __cx_name
