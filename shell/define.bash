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
            # What makes one is defined only after this question.
            # shellcheck disable=SC2034 # the text that follows reads it
            __cx_each=yes
        fi
        ;;
esac
