# The functions for zsh, one by one: many of them in one text take it several times as long.
for __cx_name in @PRESENT@; do
    \builtin typeset -f "$__cx_name" || __cx_define "$__cx_name"
done >/dev/null
\builtin unset __cx_name
