# The functions for bash. In its POSIX mode it takes none named `g++`.
case :${SHELLOPTS-}: in
    *:posix:*) ;;
    *)
        # In every shell that starts: no question where it has no functions yet, one about all of them where it has, and
        # the definitions as they are. Asking and defining one by one takes several times as long. (`-f` would, too.)
        if \builtin compgen -A variable SHELLOPTS >/dev/null && ! \builtin compgen -A function >/dev/null ||
            \builtin test -z "$(\builtin declare -F @PRESENT@)"; then
            @FUNCTIONS@
        else
            # shellcheck disable=SC2043 # a list, once it is filled in
            for __cx_name in @PRESENT@; do
                \builtin declare -F "$__cx_name" || __cx_define "$__cx_name"
            done >/dev/null
            \builtin unset __cx_name
        fi
        ;;
esac
