
# The functions for bash. In its POSIX mode it takes none named `g++`.
case :${SHELLOPTS-}: in
    *:posix:*) ;;
    *)
        # One question about all of them, and the definitions as they are: asking and defining one by one takes
        # several times as long, in every shell that starts.
        if \builtin test -z "$(\builtin typeset -f @TOOLS@ timeout nice nohup env)"; then
            @FUNCTIONS@
            function timeout { __cx_front timeout "$@"; }
            function nice { __cx_front nice "$@"; }
            function nohup { __cx_front nohup "$@"; }
            function env { __cx_front env "$@"; }
        else
            # shellcheck disable=SC2043 # a list, once it is filled in
            for __cx_name in @TOOLS@; do
                \builtin typeset -f "$__cx_name" ||
                    \builtin eval "function $__cx_name { __cx_tool $__cx_name \"\$@\"; }"
            done >/dev/null
            for __cx_name in timeout nice nohup env; do
                \builtin typeset -f "$__cx_name" ||
                    \builtin eval "function $__cx_name { __cx_front $__cx_name \"\$@\"; }"
            done >/dev/null
            \builtin unset __cx_name
        fi
        ;;
esac
