# cx for fish: heavy commands go to where they finish first.
#
# Every tool that can be heavy and is on PATH becomes a function, and a function exists in this shell only: what a script,
# or a local `make`, starts from here never meets one. `command make` passes it by, and a function or alias of the user's own
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

# A function for one tool.
function __cx_define -a name
    switch $name
        case timeout nice nohup env
            function $name --inherit-variable name
                __cx_front $name $argv
            end
        case '*'
            function $name --inherit-variable name
                __cx_tool $name $argv
            end
    end
end

# The functions follow the tools. Before a prompt PATH is compared with what it was, and where it changed (an environment
# was activated, or left), and now and then without that (something was installed), the tools are looked for again. So
# `command -v` says yes for what is there, and no for what is not.
function __cx_look
    set -g __cx_path "$PATH"
    set -g __cx_prompts 0
    for name in @TOOLS@
        if command -q $name
            functions -q $name
            or __cx_define $name
        else if functions -q $name
            # One of the user's own stays.
            functions $name | string match -qr '__cx_(tool|front)'
            and functions -e $name
        end
    end
end

function __cx_prompt --on-event fish_prompt
    set -g __cx_prompts (math $__cx_prompts + 1)
    if builtin test "$PATH" != "$__cx_path" -o $__cx_prompts -ge 20
        __cx_look
    end
end

set -g __cx_path "$PATH"
set -g __cx_prompts 0
for __cx_name in @PRESENT@
    functions -q $__cx_name
    or __cx_define $__cx_name
end
set -e __cx_name
