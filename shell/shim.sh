#!/bin/sh
# A tool's name, first on PATH while a shell with cx in it runs `timeout 5 TOOL` or the like (see functions.bash).
#
# It acts only right below that shell; what is started further down runs the plain tool, and from here on nobody finds
# the shims any more. Words in @...@ are filled in by cx.
set -u

shims=${0%/*}
tool=${0##*/}
program=@PROGRAM@

rest=$PATH:
# shellcheck disable=SC2123 # the search path is meant
PATH=
while [ -n "$rest" ]; do
    entry=${rest%%:*}
    rest=${rest#*:}
    [ "$entry" = "$shims" ] || PATH=$PATH:$entry
done
PATH=${PATH#:}
export PATH

shell=${CX_SHIM_SHELL-}
unset CX_SHIM_SHELL

# Sets the name and the parent of a process.
look() {
    if [ -r "/proc/$1/stat" ]; then
        # `PID (NAME) STATE PARENT ...`, and a name may hold anything.
        IFS= read -r line <"/proc/$1/stat" || return 1
        name=${line#*\(}
        name=${name%)*}
        line=${line##*) }
        line=${line#* }
        parent=${line%% *}
    else
        name=$(ps -o comm= -p "$1") && parent=$(ps -o ppid= -p "$1") || return 1
        name=${name##*/}
        parent=$((parent))
    fi
}

below_the_shell() {
    at=$PPID
    while [ "$at" != "$shell" ]; do
        look "$at" || return 1
        case $name in
            timeout | nice | nohup | env) at=$parent ;;
            *) return 1 ;;
        esac
    done
}

if [ -n "$shell" ] && [ -x "$program" ] && below_the_shell; then
    exec "$program" shim "$tool" "$@"
fi
exec "$tool" "$@"
