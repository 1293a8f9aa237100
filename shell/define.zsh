
# The functions for zsh, one by one: many of them in one text take it several times as long.
for __cx_name in @TOOLS@; do
    \builtin typeset -f "$__cx_name" ||
        \builtin eval "function $__cx_name { __cx_tool $__cx_name \"\$@\"; }"
done >/dev/null
for __cx_name in timeout nice nohup env; do
    \builtin typeset -f "$__cx_name" ||
        \builtin eval "function $__cx_name { __cx_front $__cx_name \"\$@\"; }"
done >/dev/null
\builtin unset __cx_name
