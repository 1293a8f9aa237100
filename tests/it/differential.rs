//! The same scripts as they are and rewritten, with a `cx` on PATH that just runs its arguments: output, exit status and files
//! must be the same, under bash and under zsh.
//!
//! What is rewritten is decided by the very functions that the hook uses. The tools are made up: they print what they
//! were given (arguments, a variable, their input), leave a file and end as told.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use cx::plan::classify::{Context, classify_script};
use cx::plan::shell::{self, Dialect};

/// What stands around a command, `@`. One a line; `\n` stands for a newline.
const FRAMES: &str = r#"
@
@; echo "rc=$?"
@ && echo yes || echo no
! @; echo $?
@ | cat -n
@ 2>&1 | sort; echo "${PIPESTATUS[@]}"
set -o pipefail; @ | cat; echo $?
set -e; @; echo still here
set -eu; if @; then echo a; else echo b; fi
(@) > out 2> err; echo $?; cat out err
{ @; @; } 2>&1 | wc -l
x=$(@ 2>&1); echo "[$x] $?"
x=`@ 2>/dev/null`; echo "[$x]"
echo "a $(@) b" "$(echo "$(@)")"
echo `echo \`@\``
echo $(( $(@ | wc -c) + 1 ))
(( $(@ | wc -l) > 0 )) && echo counted
echo "${UNSET:-$(@)}" "${UNSET:+$(@)}"
for i in 1 2; do @; done
for i in $(@ | wc -l); do echo "i=$i"; done
for ((i = 0; i < $(@ | wc -l); i++)); do echo $i; done
i=0; while [ $i -lt 2 ]; do i=$((i+1)); @; done
until @; do echo again; break; done
printf 'l1\nl2\n' | while read -r l; do echo "got $l"; @ < /dev/null; done
case $(@ | wc -l) in *1*) @;; *) echo other;; esac
case x in (x) @ ;& y) echo fell;; esac
[[ -n $(@) ]] && echo some
[[ "$(@ 2>&1)" == *$(echo e)* ]] && echo matched
f() { @; }; f; echo $?
f() { local r; @; r=$?; return $r; }; f && echo ok || echo bad $?
f() ( @ ); f | cat
function g { if @; then echo t; fi; }; g
f() { @ "$@"; }; f 'a b' "c"
f() { @; }; export -f f 2>/dev/null; bash -c 'f 2>/dev/null; echo $?'
f() { @; }; type f | head -3; f
f() { @; }; declare -f f
pytest() { echo mine "$@"; }; cargo() { echo mine "$@"; }; @
shopt -s expand_aliases 2>/dev/null\nalias pytest='echo aliased' make='echo aliased'\n@
FOO=1 @
FOO="a b" BAR=$(echo x) @
export FOO=$(@ | wc -l | tr -d ' '); echo "$FOO"
FOO=1; @; echo "$FOO"
A=(1 "2 3"); @ "${A[@]}"
timeout 20 @
env FOO=2 @
nice -n 1 @
command @
time @ 2>/dev/null > /dev/null
exec 3> three; @ >&3; cat three
exec 2>&1; @
@ > out; cat out
> out @ ; cat out
@ &> both; sort both
@ >> log; @ >> log; cat log
@ 2> >(cat > perr); sleep 0.2; cat perr
diff <(@ 2>/dev/null) <(@ 2>/dev/null) && echo same
cat <(@)
@ < /dev/null
@ <<< "here string"
@ <<EOF\nbody $(@)\nEOF
cat <<EOF\nit's "$(@)" and `@` ${UNSET:-$(@)}\n\tEOF $((1 + $(@ | wc -l)))\nEOF
cat <<-EOF\n\t$(@)\n\tEOF
cat <<'EOF'\n$(@)\nEOF
cat <<A; cat <<"B"\n$(@)\nA\n$(@)\nB
echo stdin | @
@ & wait $!; echo $?
@ & jobs > /dev/null; wait
{ @ & }; wait; echo done
trap 'echo exit $?' EXIT; @
trap 'echo "err $?"' ERR; @; true
trap 'echo "err $BASH_COMMAND"' ERR; @; true
trap 'echo "dbg"' DEBUG; @
set -x; @
set -v; @
@; echo "$_"
echo arg; @; echo "$_"
hash -r; @; echo $?
@; hash 2>/dev/null | wc -l
type pytest > /dev/null && @
command -v pytest make | sed 's,.*/,,'; @
@; type pytest make | sed 's, .*/, ,'
coproc @; wait; echo $?
coproc P { @; }; cat <&"${P[0]}"; wait
select x in a; do @; break; done < /dev/null
cd sub && @ && cd .. && @
(cd sub; @); ls
pushd sub > /dev/null; @; popd > /dev/null
@ # a comment with make and $(make)
# make\n@
@ \\n  --flag \\n  other
\\n@
  @  ;  @  
@ "$(echo 'x y')" '$(make)' \$x "it's" é 🦀
if ! @; then echo failed; fi; echo "$?"
@ || exit 7; echo after
@ || { echo e; exit 3; }
eval '@'; eval "@"
bash -c '@; echo $?'
sh -c "@"
find . -maxdepth 1 -name sub -exec pytest {} \;
echo a b | xargs -n1 pytest
readonly R=1; @; echo $R
set -- 1 2; @ "$@" $#; shift; echo $1
IFS=:; x=a:b; @ $x
set -f; @ *
@ *.none
ulimit -c 0; @
umask 077; @; ls -l made-* 2>/dev/null | cut -c1-10
let n=$(@ | wc -l)+1; echo $n
printf '%s\n' "$(@)" | tr a-z A-Z
[ "$(@ | wc -l)" -ge 1 ] && @ || echo none
@ | @ | cat
@ |& cat | sort
! @ | cat; echo $?
time -p @ > /dev/null 2>&1
"#;

/// Commands that go into the frames.
const COMMANDS: &[&str] = &[
    "pytest -x",
    "make test",
    "cargo build --release",
    "pytest fail3",
    "\\make all",
    "python3 -m pytest 'a b'",
    "ls sub",
    "npm run build",
];

/// Whole scripts, as agents write them and worse.
const SCRIPTS: &[&str] = &[
    "cd sub && FOO=1 timeout 30 pytest -x 2>&1 | tail -20; echo $?",
    "set -euo pipefail\nfor d in sub .; do\n  ( cd \"$d\"; make -j2 all ) || echo \"failed in $d\"\ndone\n",
    "run() {\n  echo \"+ $*\"\n  \"$@\"\n}\nrun make test\nrun pytest fail2 || true\n",
    "build() { make -j\"$(nproc)\" all > log 2>&1 || { tail -5 log; return 1; }; }\nbuild && echo built && pytest",
    "retry() { local n=0; until \"$@\"; do n=$((n+1)); [ $n -ge 2 ] && return 1; done; }; retry pytest fail1; echo $?",
    "if out=$(pytest fail4 2>&1); then echo ok; else rc=$?; printf '%s\\n' \"$out\" | head -1; exit $rc; fi",
    "python3 - <<'PY' | cat\nprint('make $(make) test')\nPY\nmake test",
    "git init -q . 2>/dev/null; git add -A; git -c user.name=x -c user.email=x@x commit -qm \"$(cat <<'EOF'\nfix: `make` it (work)\n\n$(pytest)\nEOF\n)\" && git log -1 --format=%B && pytest",
    "make test > >(sed 's/^/out: /') 2> >(sed 's/^/err: /' >&2); sleep 0.3",
    "while IFS= read -r line; do case \"$line\" in (*x*) make all ;; (*) pytest \"$line\" ;; esac; done <<E\nax\nb\nE",
    "declare -A m=([a]=1 [b]=\"$(make all)\"); echo \"${m[b]}\"",
    "a[$(make all | wc -l)]=x; echo \"${!a[@]}\"",
    "x='$(make)'; echo \"$x\" ${x//make/$(pytest | wc -l | tr -d ' ')}",
    "make() { command make -s \"$@\"; }; make all; \\make all; command make all",
    "alias m=make; m all 2>/dev/null; make all",
    "exec make all",
    "(exec pytest fail5); echo $?",
    "{ make all; pytest; } > >(cat) 2>/dev/null; wait; echo $?",
    "time (make all; pytest) 2>/dev/null",
    "TIMEFORMAT=; time make all",
    "make all&&pytest;make test||true;(make all)|cat",
    "echo 'make test'; echo \"make; $(echo pytest)\"; : make; true # make",
    "export -n PATH; make all; env -i /bin/echo x",
    "PATH=$PWD/own:$PATH pytest; PATH=$PWD/own:$PATH; pytest",
    "unset -f make; unalias -a; make all",
    "(trap '' INT; make all); kill -0 $$ && pytest",
    "make all; rc=$?; exit $((rc + 3))",
    "pytest fail256; echo $?; pytest fail255; echo $?",
    "printf 'a\\nb\\n' > list; while read -r t; do pytest \"$t\"; done < list; cat list",
    "printf 'a\\nb\\n' | { read -r first; pytest \"$first\"; cat; }",
    "exec < list.txt; make all; cat",
    "{ cat; make all; } < list.txt",
    "f() { make all; cat; }; f < list.txt",
    "make -f - < list.txt; cat list.txt | make -f -",
    "yes | head -2 | pytest; echo \"${PIPESTATUS[*]}\"",
    "pytest <<'A' <<B\none\nA\ntwo $(make all)\nB",
    "diff -u <(make all 2>/dev/null) <(pytest) | sed -n '3,$p'",
    "test -z \"$(make all)\" || echo \"not $(pytest fail1 || echo empty)\"",
    "for t in 'a b' c; do pytest -k \"$t\" && touch \"done-$t\"; done; ls",
    // In a group: zsh would copy the output to both, in any order.
    "{ make all 3>&1 1>&2 2>&3; } | cat",
    "{ { make all 2>&1 1>&3; } | sed s/^/E:/; } 3>&1",
    "LC_ALL=C make all; LC_ALL=C sort <(pytest)",
    "function a.b { make all; }; a.b",
    "f() { g() { pytest \"$1\"; }; g \"$@\"; }; f x; g y",
    "set -o errtrace; trap 'echo E' ERR; f() { pytest fail1; }; f; true",
    "n=$(( $(make all | wc -l) * 2 )); echo $n; echo $[ 1 + $(make all | wc -l) ]",
    "echo \"$(case x in x) make all;; esac)\"",
    "echo \"$( (make all) )\" \"$( { pytest; } )\"",
    "x=\"$(make all)\"; y=${x:0:$(make all | wc -l)}; echo \"$y\"",
    "echo `echo \\`make all\\` \\\"x\\\"` \"`echo \\\"$(pytest)\\\"`\"",
    "if make all && ! pytest fail1 && [[ $(pytest) == *pytest* ]]; then echo three; fi",
    "cat <<EOF > script.sh\n#!/bin/sh\nmake all # $(pytest | wc -l)\nEOF\nsh script.sh",
    "bash <<'EOF'\nmake all\nEOF\nbash <<EOF\n$(echo make all)\nEOF",
    "ssh() { cat; }; ssh host <<EOF\n$(make all)\nEOF",
    "sudo() { \"$@\"; }; sudo make all; xvfb-run() { \"$@\"; }; xvfb-run pytest",
    "watch() { :; }; make --version; pytest --help; make -n all; cargo --version",
    "nohup make all > n.log 2>&1 & wait; cat n.log",
    "stdbuf -oL make all | cat; ionice -c3 pytest 2>/dev/null; nice make all",
    "make \\\n  all \\\n  # not a comment\n",
    "make all;; echo never",
    "make all && (",
    "if make; then",
    "make\r\npytest\r\n",
    "make 'unclosed",
    "make all\n\n\n# end\n",
];

/// Of zsh only.
const ZSH: &[&str] = &[
    "setopt pipefail; pytest fail2 | cat; echo $? $pipestatus",
    "for f (a b) { pytest $f }",
    "repeat 2 make all",
    "{ make all } always { echo always }",
    "() { pytest $1 } arg",
    "noglob pytest *",
    "make all &! wait",
    "x=(${(f)\"$(make all)\"}); echo $#x",
    "cat =(make all)",
    "if [[ -n $(make all) ]] { echo short }",
    "echo ${${:-$(make all)}:u}",
    "foreach f (a b); pytest $f; end",
    "pytest *(N)",
    "make all |& cat; : ${X:=$(pytest)}; echo $X",
    "alias -g ALL='echo changed'; make ALL",
    "setopt xtrace; make all",
    "which make > /dev/null; make all; whence pytest | sed 's,.*/,,'",
];

const TOOL: &str = r#"#!/bin/sh
# Who reads its output may be gone already, or not yet: that must make no difference.
trap '' PIPE
exec 3>&2 2>/dev/null
printf '%s' "${0##*/}"
for a; do printf ' <%s>' "$a"; done
printf ' FOO=%s here=%s in=' "$FOO" "${PWD##*/}"
case " $* " in *' -f - '*) cat ;; *) echo ;; esac
echo "e ${0##*/}" >&3
echo made > "made-${0##*/}"
for a; do case $a in fail*) exit "$((${a#fail} % 256))" ;; esac; done
"#;

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What a script did: exit status, output, and the files it left.
#[derive(Debug, PartialEq)]
struct Seen {
    status: Option<i32>,
    out: String,
    err: String,
    files: BTreeMap<String, String>,
}

fn run(shell: &str, script: &str, bin: &Path) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    // The same path for both, as scripts may print it.
    let work = dir.path().join("w");
    fs::create_dir_all(work.join("sub")).unwrap();
    fs::create_dir_all(work.join("own")).unwrap();
    fs::write(work.join("list.txt"), "one\ntwo\n").unwrap();
    program(&work.join("own/pytest"), "#!/bin/sh\necho own pytest \"$@\"\n");
    let args: &[&str] = if shell == "zsh" {
        &["-f", "-c"]
    } else {
        &["--norc", "-c"]
    };
    let out = Command::new("timeout")
        .args(["60", shell])
        .args(args)
        .arg(script)
        .current_dir(&work)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", &work)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).replace(&dir.path().display().to_string(), "DIR");
        // Process numbers, and times as `time` prints them.
        let steady = text.lines().filter(|l| {
            !["real", "user", "sys", "["].iter().any(|p| l.starts_with(p)) && !l.ends_with(" total")
        });
        steady.collect::<Vec<_>>().join("\n")
    };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&work)
        .unwrap()
        .flatten()
        .chain(fs::read_dir(work.join("sub")).unwrap().flatten())
    {
        if entry.path().is_file() {
            let name = entry.path().strip_prefix(&work).unwrap().display().to_string();
            files.insert(name, text(&fs::read(entry.path()).unwrap()));
        }
    }
    Seen {
        status: out.status.code(),
        out: text(&out.stdout),
        err: text(&out.stderr),
        files,
    }
}

/// The text as the hook would give it back, with every heavy command marked.
fn rewritten(text: &str, dialect: Dialect) -> Option<String> {
    let judged = classify_script(text, dialect, &Context::default()).ok()?;
    let sites: Vec<usize> = judged.iter().filter(|j| j.moves()).map(|j| j.part.site).collect();
    if sites.is_empty() {
        return None;
    }
    let script = shell::parse(text, dialect).ok()?;
    shell::rewrite(text, dialect, &script, &sites, "cx ").ok()
}

fn scripts(own: &[&str]) -> Vec<String> {
    let frames = FRAMES.lines().filter(|l| !l.is_empty());
    let framed = frames.enumerate().flat_map(|(n, frame)| {
        let commands = [n % COMMANDS.len(), (n + 3) % COMMANDS.len()];
        commands.map(|c| {
            frame
                .replace("\\n", "\n")
                .replace("\\t", "\t")
                .replace('@', COMMANDS[c])
        })
    });
    let whole = SCRIPTS.iter().chain(own).map(|s| (*s).to_owned());
    framed.chain(whole).collect()
}

fn same_under(shell_name: &str, dialect: Dialect, own: &[&str], least: usize) {
    if Command::new(shell_name).arg("-c").arg(":").status().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path();
    for tool in ["pytest", "make", "cargo", "npm", "python3"] {
        program(&bin.join(tool), TOOL);
    }
    program(&bin.join("cx"), "#!/bin/sh\nexec \"$@\"\n");
    let scripts = scripts(own);
    let next = AtomicUsize::new(0);
    let changed = AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    let work = || {
        while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(new) = rewritten(script, dialect) else {
                continue;
            };
            changed.fetch_add(1, Ordering::Relaxed);
            assert_eq!(new.replace("cx ", ""), script.replace("cx ", ""));
            let (plain, with) = (run(shell_name, script, bin), run(shell_name, &new, bin));
            if plain != with {
                wrong.lock().unwrap().push(format!("{new}\n{plain:?}\n{with:?}"));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} scripts differ:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
    // Left alone is always the same: most must have been rewritten for this to say anything.
    let changed = changed.into_inner();
    assert!(
        changed >= least,
        "only {changed} of {} scripts were rewritten",
        scripts.len()
    );
}

#[test]
fn rewritten_scripts_do_the_same_under_bash() {
    same_under("bash", Dialect::Bash, &[], 180);
}

#[test]
fn rewritten_scripts_do_the_same_under_zsh() {
    same_under("zsh", Dialect::Zsh, ZSH, 150);
}
