# Where the user has functions with tools' names, ours are made one by one, and those stay.
case ${__cx_each-} in
    yes)
        # shellcheck disable=SC2043 # a list, once it is filled in
        for __cx_name in @PRESENT@; do
            \builtin declare -F "$__cx_name" || __cx_define "$__cx_name"
        done >/dev/null
        \builtin unset __cx_each __cx_name
        ;;
esac
