pytest
%%
cd app && FOO=1 timeout 300 pytest -x 2>&1 | tail -20; echo $?
%%
make -j$(nproc) 2>&1 | tee log
%%
a|b|&c||d&&e;f&
%%
a & b & wait_for=1 wait
%%
(a; b) && { c; d; }
%%
if a; then b; elif c; then d; else e; fi
%%
if ! a; then b; fi
%%
! a
%%
! ! a | b
%%
while read -r l; do pytest "$l"; done < list
%%
until a; do b; done
%%
for f in a b; do pytest $f; done
%%
for f in $(ls); do pytest $f; done
%%
for ((i=0;i<3;i++)); do a; done
%%
for f; do a; done
%%
case $x in a) b;; c|d) e;& (f) g;;& *) ;; esac
%%
case x in
  x)
    a
    ;;
esac
%%
select x in a b; do c; done
%%
[[ -f x ]] && make
%%
[[ $(a) == b && ! -f c ]] || d
%%
(( x > 1 )) && make
%%
echo $((1 + 2)) && make
%%
[ -f x ] && make
%%
f() { pytest; }; g
%%
function f { pytest; }
make
%%
function f() (
 pytest
)
%%
pytest() { command pytest "$@"; }; pytest -x
%%
alias make='make -j8'; make; ninja
%%
x=$(make) y
%%
x=$(make)
%%
x=`make`
%%
echo `make`
%%
echo `make \`date\``
%%
echo "$(make)" '$(make)' "`date`"
%%
echo "a $(b "$(c "d $(e)")")"
%%
diff <(a) <(b | c)
%%
a > >(tee log) 2>&1
%%
a 2> >(tee log >&2)
%%
A=1 B='x y' C="$z" pytest
%%
A=(1 2 3) b
%%
a[1]=2 b
%%
A+=1 b
%%
> out make
%%
2>&1 make > out
%%
make > out 2>&1 < /dev/null
%%
make &> out
%%
make >| out
%%
make 2>/dev/null 1>&2
%%
make <<< 'some text'
%%
exec 3< in; make <&3
%%
make {fd}> out
%%
cat <<EOF
make all
$(make)
EOF
pytest
%%
cat <<'EOF' | grep x
make all $(make)
EOF
%%
cat <<-EOF
	make
	EOF
pytest
%%
cat <<A <<B
make
A
make
B
pytest
%%
cat <<EOF && make
x
EOF
%%
cat <<"E F"
make
E F
make
%%
cat > f.py <<'PY'
import os; os.system("make")
PY
python f.py
%%
git commit -m "$(cat <<'EOF'
fix: make it (work)

Co-authored: x's `pytest`
EOF
)" && pytest
%%
time make
%%
time -p make
%%
time a | b
%%
time { a; b; }
%%
time (a)
%%
/usr/bin/time -v make
%%
/usr/bin/time -f '%e' -o t make
%%
command time make
%%
timeout 5 make
%%
timeout -k 5 -s KILL 10m make
%%
timeout --signal=INT --kill-after 5 10 make
%%
timeout "$T" make
%%
timeout $T make
%%
timeout --help
%%
timeout 5
%%
nice make
%%
nice -n 10 make
%%
nice -10 make
%%
nice --adjustment=5 make
%%
ionice -c 3 nice -n19 make
%%
nohup make > log 2>&1 &
%%
stdbuf -oL -eL pytest | cat
%%
env make
%%
env A=1 B="$c" make
%%
env "A=b c" make
%%
env -u HOME -- make
%%
env A=$(x) make
%%
env -i make
%%
env -C sub make
%%
env -S 'make all'
%%
env
%%
command make
%%
command -v make
%%
command -p make
%%
exec make
%%
A=1 env B=2 timeout 5 nice make
%%
builtin echo x
%%
eval 'make all'
%%
eval make
%%
source .venv/bin/activate && pytest
%%
. ./env.sh; make
%%
bash -c 'make all'
%%
sh -c "make $x"
%%
bash build.sh
%%
sudo make install
%%
xargs -n1 make < list
%%
ls | xargs make
%%
find . -name Makefile -exec make \;
%%
find . -name '*.py' | head
%%
$MAKE all
%%
"$PYTHON" -m pytest
%%
${CC:-gcc} -c a.c
%%
~/bin/make
%%
./ma*e
%%
{a,b} c
%%
\make all
%%
'make' all
%%
"make" all
%%
m\ake all
%%
./gradlew test
%%
make # and then make install
%%
# make
make
%%
make \
  all \
  -j4
%%
FOO=1 \
make
%%
\
make
%%
a && \
  b
%%
a &&

# why
  b
%%
a |
b
%%


  a  ;  b  

%%
a;b
%%
{ a;}
%%
(a)
%%
((a); b)
%%
echo a\;b 'c;d' "e;f"
%%
echo {a,b} [x] ~ * ?
%%
echo "make; $(( 1 + (2) ))" ';' make
%%
echo ${x:-$(make)} ${#y} ${z//a/b} "${w%.*}"
%%
printf '%s\n' "it's" | grep "\""
%%
set -euo pipefail; make
%%
coproc cat
%%
coproc N { cat; }
%%
trap 'make clean' EXIT; make
%%
export A=$(b) C=d; make
%%
local x=1
%%
declare -a a=(1 2)
%%
return 1
%%
x=1 exit $(y)
%%
a || { echo failed; exit 1; }
%%
a && b || c
%%
for i in 1 2; do (cd $i && make) & done; wait
%%
while :; do make && break; done
%%
if [[ "$x" =~ ^(a|b)$ ]]; then make; fi
%%
test -z "$(git status --porcelain)" && make
%%
npm run build -- --x='a b' && npx jest "a b"
%%
ssh host 'cd x && make'
%%
python - <<'EOF'
print(1)
EOF
%%
python3 -c "import sys; print('make')"
%%
awk '{print $1}' f | sort | uniq -c
%%
echo é — ü && make
%%
echo '🦀' && make
%%
jq '.[] | select(.a)' f && make
%%
a=b
%%
! time make
%%
time ! make
%%
time -- make
%%
A=1 time make
%%
then=1 make
%%
echo then; make
%%
echo if then fi; make
%%
if (a); then b; fi > log
%%
{ a; } < in | b
%%
while read x; do b; done <<EOF
make
EOF
%%
x() { a; }
%%
make all;# make
%%
make all&& b
%%
cd "$(dirname "$0")"; make
%%
make -C "$DIR" X="$(git rev-parse HEAD)"
%%
a <(b) >(c) $(d)
%%
a=(b) c
%%
A=$(b) C=$(d) e
%%
if a; then
  b
fi
c
%%
a; # b
c
%%
case $(a) in x) b ;; esac
%%
case x in (a) b;; b) if c; then d; fi;; esac
%%
f() { a; }; f; b
%%
a "${x[@]}" "${!y}" && b
%%
a $'it\'s' && b
%%
a $"loc" && b
%%
a "\"" && b
%%
a '\' && b
%%
a >&2; b >&- 2>&1
%%
a >& log; b
%%
a |& b
%%
a<in>out&& b
%%
3>f a
%%
[[ a < b && c > d ]] && e
%%
[[ -n $x || ( -z $y ) ]] && e
%%
(( a = 1 | 2, b << 3 )); c
%%
let x=1 || a
%%
echo ${x//\//_}; make
%%
echo "${x:-"a b"}"; make
%%
echo "${x#"$y"}" && make
%%
echo ${#a[@]} && make # $(x
%%
echo a#b && make
%%
cat << EOF > out
`make`
EOF
make
%%
cat <<EOF
$(x
)
EOF
make
%%
( a ) 2>&1 | tee -a x
%%
a &> /dev/null & b
%%
nohup timeout 5 make & disown
%%
env -u A -u B C=1 nice -n 5 stdbuf -o0 make
%%
echo $(( $(a) + `b` ))
%%
echo "$(( $(a "x") ))" && b
%%
echo $(( x[$(a)] + ( $(b) ) ))
%%
(( $(a) > 1 )) && b
%%
for ((i = $(a); i < $(b); i++)); do c; done
%%
a[$(x)]=1 y
%%
case $x in $(a)) b;; "`c`") d;; esac
%%
[[ $x == $(a)* && -n "$(b)" ]] && c
%%
[[ $(a) =~ ^$(b)$ ]]
%%
echo "${x:-$(a)}" ${y:+`b`} ${z/$(c)/$(d)}
%%
echo ${x:-"$(a)"} ${y:-'$(b)'} "${z:-'$(c)'}"
%%
echo ${x:-${y:-$(a)}}
%%
echo ${x:$(a):$(b)} ${y[$(c)]}
%%
echo `a \`b \\\`c\\\`\``
%%
echo "`a \`b\``" `c '\\'`
%%
echo "`a \"b\"`" && c
%%
cat <<-EOF
	$(a | b)
	`c` ${x:-$(d)} $(( $(e) ))
	EOF
f
%%
cat <<EOF
it's $(a) \$(b) '$(c)'
EOF
%%
cat <<A; cat <<'B'
$(a)
A
$(b)
B
%%
x=$(cat <<EOF
$(a)
EOF
) b
%%
cat <<EOF | a
$(b <<'X'
$(c)
X
)
EOF
%%
echo $(a $(( $(b) )) "$(c)")
%%
{ a; } <<EOF
$(b)
EOF
%%
a <<< "$(b)"
%%
f() { a && b | c; } && f
%%
function f { if a; then b; fi; }; f | c
%%
f() for x in 1; do a; done
%%
f() { g() { a; }; g; }; f
%%
f() { local x=$(a); b "$@"; }
%%
make() { ninja; }; make; b
%%
f() { a; }; declare -f f
%%
f() { a; }; typeset -f | b
%%
f() { a; }; type f; b
%%
f() { a; }; export -f f; b
%%
f() { a; }; ssh h "$(declare -f f); f"
%%
f() { a; }; declare -i x=1; declare -p x
%%
set -x; make
%%
set -euxo pipefail
make
%%
set -o xtrace && make
%%
set -euo pipefail; set +x; make
%%
set -v; make
%%
trap 'echo "$BASH_COMMAND"' ERR; make
%%
trap 'echo failed' ERR; make
%%
make & jobs; b
%%
make & jobs -p; b
%%
make; type make
%%
type make && make
%%
for i in 1 2; do make; type make; done
%%
make; type -t make
%%
make; command -v make
%%
make; hash
%%
hash -r; make
%%
command_not_found_handle() { x; }; make
%%
make; echo $_ ${PIPESTATUS[@]} $!
%%
coproc make
%%
coproc P { make; }; cat <&"${P[0]}"