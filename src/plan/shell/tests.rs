//! Where `cx ` may go in hard texts, checked against bash and zsh themselves.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn parts(text: &str) -> Vec<Part> {
    parse(text, Dialect::Bash)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .parts
}

/// Texts with `§` wherever `cx ` may be inserted, and nowhere else.
const SNIPPETS: &[&str] = &[
    "§pytest",
    "§cd app && FOO=1 timeout 300 §pytest -x 2>&1 | §tail -20; §echo $?",
    "§make -j$(§nproc) 2>&1 | §tee log",
    "§a|§b|&§c||§d&&§e;§f&",
    "§a & §b & wait_for=1 §wait",
    "(§a; §b) && { §c; §d; }",
    "if §a; then §b; elif §c; then §d; else §e; fi",
    "if ! §a; then §b; fi",
    "! §a",
    "! ! a | §b",
    "while §read -r l; do §pytest \"$l\"; done < list",
    "until §a; do §b; done",
    "for f in a b; do §pytest $f; done",
    "for f in $(§ls); do §pytest $f; done",
    "for ((i=0;i<3;i++)); do §a; done",
    "for f; do §a; done",
    "case $x in a) §b;; c|d) §e;& (f) §g;;& *) ;; esac",
    "case x in\n  x)\n    §a\n    ;;\nesac",
    "select x in a b; do §c; done",
    "[[ -f x ]] && §make",
    "[[ $(§a) == b && ! -f c ]] || §d",
    "(( x > 1 )) && §make",
    "§echo $((1 + 2)) && §make",
    "§[ -f x ] && §make",
    "f() { §pytest; }; §g",
    "function f { §pytest; }\n§make",
    "function f() (\n §pytest\n)",
    "pytest() { command pytest \"$@\"; }; pytest -x",
    "§alias make='make -j8'; make; §ninja",
    "x=$(§make) §y",
    "x=$(§make)",
    "x=`§make`",
    "§echo `§make`",
    "§echo `§make \\`§date\\``",
    "§echo \"$(§make)\" '$(make)' \"`§date`\"",
    "§echo \"a $(§b \"$(§c \"d $(§e)\")\")\"",
    "diff <(§a) <(§b | §c)",
    "§a > >(§tee log) 2>&1",
    "§a 2> >(§tee log >&2)",
    "A=1 B='x y' C=\"$z\" §pytest",
    "A=(1 2 3) §b",
    "a[1]=2 §b",
    "A+=1 §b",
    "> out §make",
    "2>&1 §make > out",
    "§make > out 2>&1 < /dev/null",
    "§make &> out",
    "§make >| out",
    "§make 2>/dev/null 1>&2",
    "§make <<< 'some text'",
    "exec 3< in; make <&3",
    "make {fd}> out",
    "§cat <<EOF\nmake all\n$(§make)\nEOF\n§pytest",
    "§cat <<'EOF' | §grep x\nmake all $(make)\nEOF",
    "§cat <<-EOF\n\tmake\n\tEOF\n§pytest",
    "§cat <<A <<B\nmake\nA\nmake\nB\n§pytest",
    "§cat <<EOF && §make\nx\nEOF",
    "§cat <<\"E F\"\nmake\nE F\n§make",
    "§cat > f.py <<'PY'\nimport os; os.system(\"make\")\nPY\n§python f.py",
    "§git commit -m \"$(§cat <<'EOF'\nfix: make it (work)\n\nCo-authored: x's `pytest`\nEOF\n)\" && §pytest",
    "time §make",
    "time -p §make",
    "time §a | §b",
    "time { §a; §b; }",
    "time (§a)",
    "/usr/bin/time -v §make",
    "/usr/bin/time -f '%e' -o t §make",
    "command time §make",
    "timeout 5 §make",
    "timeout -k 5 -s KILL 10m §make",
    "timeout --signal=INT --kill-after 5 10 §make",
    "timeout \"$T\" §make",
    "§timeout $T make",
    "§timeout --help",
    "§timeout 5",
    "nice §make",
    "nice -n 10 §make",
    "nice -10 §make",
    "nice --adjustment=5 §make",
    "ionice -c 3 nice -n19 §make",
    "nohup §make > log 2>&1 &",
    "stdbuf -oL -eL §pytest | §cat",
    "env §make",
    "env A=1 B=\"$c\" §make",
    "env \"A=b c\" §make",
    "env -u HOME -- §make",
    "§env A=$(§x) make",
    "env -i make",
    "env -C sub §make",
    "env --chdir=sub -C \"$d\" §make",
    "§env -C $d make",
    "§env -S 'make all'",
    "§env",
    "command §make",
    "§command -v make",
    "command -p make",
    "exec make",
    "A=1 env B=2 timeout 5 nice §make",
    "builtin echo x",
    "eval 'make all'",
    "eval make",
    "source .venv/bin/activate && §pytest",
    ". ./env.sh; §make",
    "bash -c 'make all'",
    "sh -c \"make $x\"",
    "bash build.sh",
    "sudo make install",
    "xargs -n1 make < list",
    "§ls | xargs make",
    "find . -name Makefile -exec make \\;",
    "§find . -name '*.py' | §head",
    "$MAKE all",
    "\"$PYTHON\" -m pytest",
    "${CC:-gcc} -c a.c",
    "~/bin/make",
    "./ma*e",
    "{a,b} c",
    "§\\make all",
    "§'make' all",
    "§\"make\" all",
    "§m\\ake all",
    "§./gradlew test",
    "§make # and then make install",
    "# make\n§make",
    "§make \\\n  all \\\n  -j4",
    "FOO=1 \\\n§make",
    "\\\n§make",
    "§a && \\\n  §b",
    "§a &&\n\n# why\n  §b",
    "§a |\n§b",
    "\n\n  §a  ;  §b  \n",
    "§a;§b",
    "{ §a;}",
    "(§a)",
    "((§a); §b)",
    "§echo a\\;b 'c;d' \"e;f\"",
    "§echo {a,b} [x] ~ * ?",
    "§echo \"make; $(( 1 + (2) ))\" ';' make",
    "§echo ${x:-$(§make)} ${#y} ${z//a/b} \"${w%.*}\"",
    "§printf '%s\\n' \"it's\" | §grep \"\\\"\"",
    "§set -euo pipefail; §make",
    "coproc §cat",
    "coproc N { §cat; }",
    "trap 'make clean' EXIT; §make",
    "export A=$(§b) C=d; §make",
    "local x=1",
    "declare -a a=(1 2)",
    "return 1",
    "x=1 exit $(§y)",
    "§a || { §echo failed; exit 1; }",
    "§a && §b || §c",
    "for i in 1 2; do (§cd $i && §make) & done; §wait",
    "while §:; do §make && break; done",
    "if [[ \"$x\" =~ ^(a|b)$ ]]; then §make; fi",
    "§test -z \"$(§git status --porcelain)\" && §make",
    "§npm run build -- --x='a b' && §npx jest \"a b\"",
    "§ssh host 'cd x && make'",
    "§python - <<'EOF'\nprint(1)\nEOF",
    "§python3 -c \"import sys; print('make')\"",
    "§awk '{print $1}' f | §sort | §uniq -c",
    "§echo é — ü && §make",
    "§echo '🦀' && §make",
    "§jq '.[] | select(.a)' f && §make",
    "a=b",
    "! time §make",
    "time ! §make",
    "A=1 time §make",
    "then=1 §make",
    "§echo then; §make",
    "§echo if then fi; §make",
    "if (§a); then §b; fi > log",
    "{ §a; } < in | §b",
    "while §read x; do §b; done <<EOF\nmake\nEOF",
    "x() { §a; }",
    "§make all;# make",
    "§make all&& §b",
    "§cd \"$(§dirname \"$0\")\"; §make",
    "§make -C \"$DIR\" X=\"$(§git rev-parse HEAD)\"",
    "a <(§b) >(§c) $(§d)",
    "a=(b) §c",
    "A=$(§b) C=$(§d) §e",
    "if §a; then\n  §b\nfi\n§c",
    "§a; # b\n§c",
    "case $(§a) in x) §b ;; esac",
    "case x in (a) §b;; b) if §c; then §d; fi;; esac",
    "f() { §a; }; f; §b",
    "§a \"${x[@]}\" \"${!y}\" && §b",
    "§a $'it\\'s' && §b",
    "§a $\"loc\" && §b",
    "§a \"\\\"\" && §b",
    "§a '\\' && §b",
    "§a >&2; §b >&- 2>&1",
    "§a >& log; §b",
    "§a |& §b",
    "§a<in>out&& §b",
    "3>f a",
    "[[ a < b && c > d ]] && §e",
    "[[ -n $x || ( -z $y ) ]] && §e",
    "(( a = 1 | 2, b << 3 )); §c",
    "§let x=1 || §a",
    "§echo ${x//\\//_}; §make",
    "§echo \"${x:-\"a b\"}\"; §make",
    "§echo \"${x#\"$y\"}\" && §make",
    "§echo ${#a[@]} && §make # $(x",
    "§echo a#b && §make",
    "§cat << EOF > out\n`§make`\nEOF\n§make",
    "§cat <<EOF\n$(§x\n)\nEOF\n§make",
    "( §a ) 2>&1 | §tee -a x",
    "§a &> /dev/null & §b",
    "nohup timeout 5 §make & §disown",
    "env -u A -u B C=1 nice -n 5 stdbuf -o0 §make",
    // In places that the parser reads twice.
    "§echo $(( $(§a) + `§b` ))",
    "§echo \"$(( $(§a \"x\") ))\" && §b",
    "§echo $(( x[$(§a)] + ( $(§b) ) ))",
    "(( $(§a) > 1 )) && §b",
    "for ((i = $(§a); i < $(§b); i++)); do §c; done",
    "a[$(§x)]=1 §y",
    "case $x in $(§a)) §b;; \"`§c`\") §d;; esac",
    "[[ $x == $(§a)* && -n \"$(§b)\" ]] && §c",
    "[[ $(§a) =~ ^$(§b)$ ]]",
    "§echo \"${x:-$(§a)}\" ${y:+`§b`} ${z/$(§c)/$(§d)}",
    "§echo ${x:-\"$(§a)\"} ${y:-'$(b)'} \"${z:-'$(§c)'}\"",
    "§echo ${x:-${y:-$(§a)}}",
    "§echo ${x:$(§a):$(§b)} ${y[$(§c)]}",
    "§echo `§a \\`§b \\\\\\`§c\\\\\\`\\``",
    "§echo \"`§a \\`§b\\``\" `§c '\\\\'`",
    "§echo \"`a \\\"b\\\"`\" && §c",
    "§cat <<-EOF\n\t$(§a | §b)\n\t`§c` ${x:-$(§d)} $(( $(§e) ))\n\tEOF\n§f",
    "§cat <<EOF\nit's $(§a) \\$(b) '$(§c)'\nEOF",
    "§cat <<A; §cat <<'B'\n$(§a)\nA\n$(b)\nB",
    "x=$(§cat <<EOF\n$(§a)\nEOF\n) §b",
    "§cat <<EOF | §a\n$(b <<'X'\n$(c)\nX\n)\nEOF",
    "§echo $(§a $(( $(§b) )) \"$(§c)\")",
    "{ §a; } <<EOF\n$(§b)\nEOF",
    "§a <<< \"$(§b)\"",
    // Functions.
    "f() { §a && §b | §c; } && f",
    "function f { if §a; then §b; fi; }; f | §c",
    "f() for x in 1; do §a; done",
    "f() { g() { §a; }; g; }; f",
    "f() { local x=$(§a); §b \"$@\"; }",
    "make() { §ninja; }; make; §b",
    "f() { a; }; declare -f f",
    "f() { a; }; typeset -f | §b",
    "f() { a; }; §type f; §b",
    "f() { a; }; export -f f; §b",
    "f() { a; }; §ssh h \"$(declare -f f); f\"",
    "f() { §a; }; declare -i x=1; declare -p x",
    // What shows the text's own commands.
    "set -x; make",
    "set -euxo pipefail\nmake",
    "set -o xtrace && make",
    "§set -euo pipefail; §set +x; §make",
    "set -v; make",
    "trap 'echo \"$BASH_COMMAND\"' ERR; make",
    "trap 'echo failed' ERR; §make",
    "make & §jobs; §b",
    "§make & §jobs -p; §b",
    "make; §type make",
    "§type make && §make",
    "for i in 1 2; do make; §type make; done",
    "§make; §type -t make",
    "§make; §command -v make",
    "make; hash",
    "§hash -r; §make",
    "command_not_found_handle() { x; }; make",
    "§make; §echo $_ ${PIPESTATUS[@]} $!",
    "coproc §make",
    "coproc P { §make; }; §cat <&\"${P[0]}\"",
];

/// What zsh says, hostile texts, and what parts tell.
mod more;

fn stripped(snippet: &str) -> String {
    snippet.replace('§', "")
}

fn free_sites(parts: &[Part]) -> Vec<usize> {
    parts
        .iter()
        .filter(|p| p.left_alone.is_none())
        .map(|p| p.site)
        .collect()
}

#[test]
fn sites_are_where_they_should_be() {
    let mut wrong = Vec::new();
    for snippet in SNIPPETS {
        let text = stripped(snippet);
        match parse(&text, Dialect::Bash) {
            Ok(script) => {
                let got = insert(&text, &free_sites(&script.parts), "§");
                if got != *snippet {
                    wrong.push(format!("want {snippet:?}\n got {got:?}"));
                }
            }
            Err(e) => wrong.push(format!("{text:?}: {e}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn checked_rewriting_agrees_with_insertion() {
    for snippet in SNIPPETS {
        let text = stripped(snippet);
        let script = parse(&text, Dialect::Bash).unwrap();
        let sites = free_sites(&script.parts);
        let want = snippet.replace('§', "cx ");
        assert_eq!(
            rewrite(&text, Dialect::Bash, &script, &sites, "cx "),
            Ok(want),
            "{text}"
        );
        for site in sites {
            let new = rewrite(&text, Dialect::Bash, &script, &[site], "'/a b/cx' ").unwrap();
            assert_eq!(new.replacen("'/a b/cx' ", "", 1), text);
        }
        for part in script.parts.iter().filter(|p| p.left_alone.is_some()) {
            if script
                .parts
                .iter()
                .all(|p| p.site != part.site || p.left_alone.is_some())
            {
                assert!(
                    rewrite(&text, Dialect::Bash, &script, &[part.site], "cx ").is_err(),
                    "{text}"
                );
            }
        }
    }
}

/// Gives `script` to `shell` and returns whether it liked it, and what it printed.
fn shell(program: &str, args: &[&str], script: &str) -> Option<(bool, String)> {
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => panic!("{program}: {e}"),
    };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let all = [out.stdout, out.stderr].concat();
    Some((out.status.success(), String::from_utf8_lossy(&all).into_owned()))
}

/// bash itself is asked whether each site is the place of a command word: an alias expands only there. The text is
/// made a function, so that nothing runs, and `declare -f` shows how bash understood it.
#[test]
fn bash_sees_a_command_word_at_each_site() {
    let mut script = String::from("shopt -s expand_aliases\nalias MARK='MARKED '\n");
    let mut asked = Vec::new();
    for snippet in SNIPPETS {
        let text = stripped(snippet);
        for part in parse(&text, Dialect::Bash).unwrap().parts {
            // bash does not look for aliases after a wrapper; there the wrapper is what counts, and it is checked below.
            if part.left_alone.is_some() || part.argv.is_empty() {
                continue;
            }
            let own = part.wrappers.iter().any(|w| w != "time")
                || text[part.span.start..part.site].contains("time");
            let at = if own { part.span.start } else { part.site };
            if own && part.span.start == part.site {
                continue;
            }
            // Assignments and redirections may stand in front of an alias.
            let at = if own {
                first_word_after_assignments(&text, &part).unwrap_or(at)
            } else {
                at
            };
            let (text, at) = innermost(&text, at);
            for (kind, word) in [("alias", "MARK "), ("plain", "MARKED ")] {
                let n = asked.len();
                script += &format!(
                    "{kind}{n}() {{\n{}\n}}\necho @@@{kind}{n}\n",
                    insert(&text, &[at], word)
                );
                script += &format!("declare -f {kind}{n}\n");
            }
            asked.push((text.clone(), at));
        }
    }
    script += "echo @@@end\n";
    let Some((_, out)) = shell("bash", &["--norc", "--noprofile"], &script) else {
        return;
    };
    assert!(asked.len() > 250, "only {} sites", asked.len());
    let mut wrong = Vec::new();
    for (n, (text, at)) in asked.iter().enumerate() {
        let shown = |kind: &str| {
            let head = format!("@@@{kind}{n}\n");
            let body = out.split_once(&head)?.1;
            let body = body.split_once("@@@")?.0;
            Some(body.replacen(&format!("{kind}{n} "), "f ", 1))
        };
        match (shown("alias"), shown("plain")) {
            (Some(alias), Some(plain)) if alias.contains("MARKED") && alias == plain => {}
            (alias, plain) => wrong.push(format!("{text:?} at {at}\n  {alias:?}\n  {plain:?}")),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} sites:\n{}",
        wrong.len(),
        asked.len(),
        wrong.join("\n")
    );
}

/// bash keeps the text of a substitution as it is, so a site in one is asked about with that text alone.
fn innermost(text: &str, at: usize) -> (String, usize) {
    let openers = ["$(", "<(", ">(", "`"];
    let mut starts: Vec<usize> = openers
        .iter()
        .flat_map(|o| text[..at].match_indices(o).map(|(i, o)| i + o.len()))
        .filter(|i| text[..*i].ends_with('(') || text[*i..at].matches('`').count() == 0)
        .collect();
    starts.sort_unstable();
    for start in starts.into_iter().rev() {
        let closer = if text[..start].ends_with('`') { '`' } else { ')' };
        for (end, _) in text[at..].rmatch_indices(closer) {
            let inner = &text[start..at + end];
            let found = parse(inner, Dialect::Bash).is_ok_and(|s| !s.parts.is_empty());
            if found {
                return (inner.to_owned(), at - start);
            }
        }
    }
    (text.to_owned(), at)
}

/// Where the wrapper of `part` starts.
fn first_word_after_assignments(text: &str, part: &Part) -> Option<usize> {
    let wrapper = part
        .wrappers
        .iter()
        .find(|w| *w != "time" || part.wrappers.len() == 1)?;
    let found = text[part.span.start..part.site].find(wrapper.as_str())?;
    let word = text[..part.span.start + found]
        .rfind([' ', '\n', '(', ';'])
        .map_or(0, |i| i + 1);
    Some(word.max(part.span.start))
}

#[test]
fn bash_parses_every_snippet_before_and_after() {
    let mut script = String::new();
    for (n, snippet) in SNIPPETS.iter().enumerate() {
        script += &format!(
            "a{n}() {{\n{}\n}}\nb{n}() {{\n{}\n}}\n",
            stripped(snippet),
            snippet.replace('§', "cx ")
        );
    }
    script += "echo fine\n";
    let Some((ok, out)) = shell("bash", &["--norc", "--noprofile", "-n"], &script) else {
        return;
    };
    assert!(ok && out.is_empty(), "{out}");
}

/// What a part assigns, `?` for what only the shell knows.
fn set(part: &Part) -> String {
    let one = |a: &Assignment| format!("{}={}", a.name, a.value.text().unwrap_or("?"));
    part.assignments.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn assignments_wrappers_and_input_are_told() {
    let of = |text: &str, i: usize| parts(text).swap_remove(i);
    let p = of("FOO=1 BAR=2 timeout -k 5 300 nice -n 5 pytest -x < in", 0);
    assert_eq!(set(&p), "FOO=1 BAR=2");
    assert_eq!(p.wrappers, ["timeout", "nice"]);
    assert_eq!(p.stdin, StdinFrom::File);
    assert_eq!(p.argv, [Word::from("pytest"), Word::from("-x")]);
    assert_eq!(of("a | make", 1).stdin, StdinFrom::Pipe);
    assert_eq!(of("make <<X\nx\nX", 0).stdin, StdinFrom::Heredoc);
    assert_eq!(of("make", 0).stdin, StdinFrom::Inherited);
}

/// Pieces from which shell texts of all kinds are strung together.
const PIECES: &[&str] = &[
    "make",
    "pytest -x",
    " ",
    "&&",
    "||",
    "|",
    ";",
    "\n",
    "(",
    ")",
    "{ ",
    " }",
    "if ",
    "; then ",
    "; fi",
    "for f in ",
    "; do ",
    "; done",
    "$(",
    "`",
    "\"",
    "'",
    "\\",
    "<<E\n",
    "\nE\n",
    "> f",
    "2>&1",
    "A=1 ",
    "timeout 5 ",
    "$x",
    "case x in a) ",
    ";; esac",
    "# c",
    "é",
    "\r",
    "\0",
    "[[ ",
    " ]]",
    "((",
    "))",
    "<(",
    "!",
    "&",
    "time ",
    "function f ",
    "() ",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        proptest::collection::vec(proptest::sample::select(PIECES), 0..24).prop_map(|p| p.concat()),
        (
            proptest::sample::select(SNIPPETS),
            any::<proptest::sample::Index>(),
            proptest::sample::select(PIECES)
        )
            .prop_map(|(snippet, at, piece)| {
                let mut s = snippet.replace('§', "");
                let cuts: Vec<usize> = s.char_indices().map(|(i, _)| i).collect();
                if !cuts.is_empty() {
                    s.insert_str(cuts[at.index(cuts.len())], piece);
                }
                s
            }),
    ]
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser_and_what_goes_in_comes_out(text in text()) {
        for dialect in [Dialect::Bash, Dialect::Zsh] {
            let Ok(script) = parse(&text, dialect) else { continue };
            let sites: Vec<usize> =
                script.parts.iter().filter(|p| p.left_alone.is_none() && !p.argv.is_empty()).map(|p| p.site).collect();
            for part in &script.parts {
                prop_assert!(part.span.end <= text.len() && text.is_char_boundary(part.site));
            }
            let mark = "cx ";
            let with = insert(&text, &sites, mark);
            prop_assert_eq!(with.len(), text.len() + sites.len() * mark.len());
            let mut back = String::new();
            let (mut from, mut shift) = (0, 0);
            let mut sorted = sites.clone();
            sorted.sort_unstable();
            for site in sorted {
                prop_assert_eq!(&with[site + shift..site + shift + mark.len()], mark);
                back.push_str(&with[from..site + shift]);
                shift += mark.len();
                from = site + shift;
            }
            back.push_str(&with[from..]);
            prop_assert_eq!(&back, &text);
            if let Ok(rewritten) = rewrite(&text, dialect, &script, &sites, mark) {
                let again = parse(&rewritten, dialect);
                prop_assert!(again.is_ok_and(|s| s.parts.len() == script.parts.len()), "{:?}", rewritten);
            }
        }
    }
}

/// Texts that are one slip away from `text`: a token left out, doubled, or swapped with the next.
fn slips(text: &str) -> Vec<String> {
    let joins = |c: char| c.is_alphanumeric() || "_-./=".contains(c);
    let mut tokens: Vec<&str> = Vec::new();
    let mut from = 0;
    for (at, c) in text.char_indices() {
        let before = text[..at].chars().next_back();
        if at > from && !(joins(c) && before.is_some_and(joins)) {
            tokens.push(&text[from..at]);
            from = at;
        }
    }
    tokens.push(&text[from..]);
    let mut all = Vec::new();
    for i in 0..tokens.len() {
        let with = |middle: &[&str], rest: usize| [&tokens[..i], middle, &tokens[rest..]].concat().concat();
        all.push(with(&[], i + 1));
        all.push(with(&[tokens[i], tokens[i]], i + 1));
        if let Some(next) = tokens.get(i + 1) {
            all.push(with(&[next, tokens[i]], i + 2));
        }
    }
    all
}

/// What bash does not take is not understood here either.
#[test]
fn what_bash_rejects_is_left_as_it_is() {
    let mut texts: Vec<String> = SNIPPETS.iter().flat_map(|s| slips(&stripped(s))).collect();
    texts.sort_unstable();
    texts.dedup();
    texts.retain(|t| parse(t, Dialect::Bash).is_ok_and(|s| !free_sites(&s.parts).is_empty()));
    let mut wrong = Vec::new();
    for text in &texts {
        let bash = Command::new("bash")
            .args(["--norc", "-n", "-c", text])
            .stdin(Stdio::null())
            .output();
        let Ok(out) = bash else { return };
        if !out.status.success() {
            wrong.push(format!("{text:?}: {}", String::from_utf8_lossy(&out.stderr)));
        }
    }
    // The parser is more lenient in expansions, patterns and here-documents; what is left of that is rare.
    assert!(
        wrong.len() * 100 < texts.len(),
        "{} of {}\n{}",
        wrong.len(),
        texts.len(),
        wrong.join("")
    );
    for text in [
        "pytest ${x case",
        "pytest ; ;",
        "; pytest",
        "{ a; } pytest",
        "f() { a; } pytest",
        "for i in 1; do pytest; done wait",
        "if ; then pytest; fi",
        "pytest; }",
        "pytest; done",
        "make -j($nproc)",
        "echo $(make",
        "{pytest; }",
        "{ pytest}",
        "a=(b)) pytest",
        "pytest > ; make",
        "pytest 2>&&1",
        "case x in a|) pytest;; esac",
        "[[ -f x]] && make",
        "((( x > 1 )) && make",
    ] {
        assert!(parse(text, Dialect::Bash).is_err(), "{text}");
    }
    // bash takes these, and runs make.
    for text in [
        "time -- make",
        "time -p -- make",
        "! time -- A=1 make",
        "time time -- timeout 5 make",
    ] {
        assert!(parse(text, Dialect::Bash).is_err(), "{text}");
    }
    for text in [
        "case x in a) pytest; ;; esac",
        "echo }; pytest",
        "a \\\n&& pytest;\n\nb",
        "a # b\npytest",
        "a & # b\npytest",
        "shopt -s extglob\nls !(a)",
        "echo a\\(b",
        "pytest {fd}> log 2>&1 <&- >| a &>> b > >(tee c)",
        "{ pytest;}",
        "{ (pytest) }",
        "[[ (-f x)]] && make",
        "a=(b) \\\n c=d pytest \\; '|' a\\ b",
    ] {
        assert!(parse(text, Dialect::Bash).is_ok(), "{text}");
    }
}

/// Lines that the parser may take for the end of a here-document and a shell does not, or the other way round.
#[test]
fn a_line_that_is_almost_the_end_of_a_here_document_leaves_the_text_alone() {
    for text in [
        "cat <<EOF\nEOF \n'\nEOF\ncx touch m0 #'",
        "cat <<EOF\nEOF\t\n'\nEOF\nmake #'",
        "cat <<'EOF'\nEOF \nEOF\nmake",
        "cat <<\"E\"OF\n EOF\nEOF\nmake",
        "cat << \\EOF\n\tEOF\nEOF\nmake",
        "cat <<-EOF\n\tEOF \n\tEOF\nmake",
        "cat <<-EOF\n\t EOF\n\tEOF\nmake",
        "cat <<EOF\nRUN a \\\nEOF\nEOF\nmake",
        "cat <<-EOF\n\ta \\\n\tEOF\n\tEOF\nmake",
        "cat <<EOF\nEO\\\nF\nmake\nEOF\n",
        "cat <<EOF\n\\\n\\\nEOF\nmake\nEOF\n",
        "cat <\\\n<EOF\nEOF \nEOF\nmake",
        "cat <<E\\\nOF\nEOF \nEOF\nmake",
        "x=$(cat <<EOF\nEOF \nEOF\n) make",
        "echo \"$(cat <<'E F'\nE F\t\nE F\n)\"",
        "echo `cat <<\\\\EOF\nEOF \nEOF\n`",
        "cat <<EOF\n$(cat <<X\nX \nX\n)\nEOF\nmake",
        "cat <<A <<B\nA\nB \nB\nmake",
        "cat <<''\n \n\nmake",
        "echo $(cat <<EOF\nEOF x)\nmake\nEOF\n)",
        "echo \"$(cat <<-EOF\n\tEOF)\"\nmake\nEOF\n)\"",
    ] {
        for dialect in [Dialect::Bash, Dialect::Zsh] {
            assert!(parse(text, dialect).is_err(), "{text}");
        }
    }
    for text in [
        "cat <<EOF\nRUN a \\\n  b\nEOF\nmake",
        "cat <<EOF\na \\\\\nEOF\nmake",
        "cat \\\n  > f <<EOF\nx EOF\nEOFs\nEOF\nmake",
        "cat <<-'EOF'\n\ta\n\t\tEOF\nmake",
        "cat <<EOF\nEOF x)\nEOF\nmake",
        "echo \"$(cat <<'EOF'\nfix (EOF)\nEOF\n)\" && make",
        "make <<< EOF\necho \\\n  EOF x",
        "(( x = 1 << 3 )); make \\\n  -j 3",
    ] {
        assert!(parse(text, Dialect::Bash).is_ok(), "{text}");
    }
}
