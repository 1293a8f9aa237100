# The functions one by one, so that one of the user's own stays: in zsh, which takes several times as long for many of them in one
# text, and in bash where there are functions with tools' names.
case ${__cx_each-}${ZSH_VERSION-} in
    ?*)
        # shellcheck disable=SC2043 # a list, once it is filled in
        for __cx_name in @PRESENT@; do
            \builtin typeset -f "$__cx_name" || __cx_define "$__cx_name"
        done >/dev/null
        \builtin unset __cx_each __cx_name
        ;;
esac
