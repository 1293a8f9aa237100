//! Hostile texts, and more of what a part tells.

use proptest::prelude::*;

use super::{SNIPPETS, free_sites, innermost, parts, set, shell, stripped};
use crate::plan::shell::{Dialect, MAX_TEXT, StdinFrom, Word, insert, parse, rewrite};

/// The same for what a node has not, and for what gives names a meaning.
const MORE_SNIPPETS: &[&str] = &[
    // What only this machine's descriptors hold.
    "X=<(§a) make; §b",
    "§make '<(a)' && §a < <(§b)",
    "make -f <(§a) 2>&1 | §tail",
    "make 3>&1 4<in | §head",
    "{ make; a | b; } 3>&1; §c",
    "(a) 9> lock; §b 3>&- 4<&-",
    "while read -r x <&3; do make $x; done 3< list",
    "f() { make; }; f 3>&1; §a",
    "f() { make; } 3>&1; §a",
    "exec 3>&1; f() { make; }; a",
    "§exec 2>&1; §make",
    // Programs in front.
    "setsid §make",
    "setsid -w -- §make",
    "§setsid -f make",
    "chrt -i 0 nice §make",
    "§chrt -i make",
    "§chrt -p 1",
    "unbuffer §make | §cat",
    "§unbuffer -p make",
    // Shell text that is not known before it runs.
    "§a; eval \"$x\"; make",
    "for i in 1 2; do make; eval $i; done",
    "eval 'x() { y; }; alias make=x'; make; §a",
    "eval 'x=1; make'; §make",
    "eval x=\"$(§a)\"; make",
    "eval \"$(§ssh-agent -s)\" && §make",
    "eval \"$(§/opt/conda/bin/conda shell.bash hook)\" && §make",
    "eval \"$(§conda info; §a)\" && make",
    "source \"$X\"; make",
    "source <(§a); make",
    "§make && . $x; a",
    "source \"$(§a)/bin/activate\" && §make",
    "§[ -s \"$NVM_DIR/nvm.sh\" ] && . \"$NVM_DIR/nvm.sh\"; §make",
    "source $(§a)/etc/profile.d/conda.sh && §make",
    "eval $(§poetry env activate) && §make",
    ". ~/env.sh; source \"$HOME/x y\"; . ${HOME}/z; §make",
    "source defs.sh; §make",
    "BASH_ALIASES[make]=x; make; §a",
    "BASH_CMDS[make]=x; make; §a",
    "BASH_ALIASES[$x]=y; make",
    // Limits that only this machine would keep.
    "(ulimit -v 500000; make)",
    "ulimit -n $N && make",
    "§ulimit -c 0; §make",
    "§ulimit -a; §ulimit -n; §make",
];

#[test]
fn what_a_node_has_not_and_what_may_mean_anything_stays() {
    for snippet in MORE_SNIPPETS {
        let text = stripped(snippet);
        let script = parse(&text, Dialect::Bash).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(insert(&text, &free_sites(&script.parts), "§"), *snippet);
    }
}

/// zsh is asked as bash is, for those texts that its dialect understands.
#[test]
fn zsh_sees_a_command_word_at_each_site() {
    let mut script = String::from("setopt aliases\nalias MARK='MARKED '\n");
    let mut asked = Vec::new();
    for snippet in SNIPPETS {
        let text = stripped(snippet);
        // Of bash only.
        if ["! !", ";;&", "coproc N", "coproc P"]
            .iter()
            .any(|s| text.contains(s))
        {
            continue;
        }
        let Ok(parsed) = parse(&text, Dialect::Zsh) else {
            continue;
        };
        for part in parsed.parts {
            if part.left_alone.is_some() || part.argv.is_empty() || !part.wrappers.is_empty() {
                continue;
            }
            let (text, at) = innermost(&text, part.site);
            for (kind, word) in [("alias", "MARK "), ("plain", "MARKED ")] {
                let n = asked.len();
                // Each in a text of its own: one that zsh refuses must not spoil the others.
                let body = format!("f() {{\n{}\n}}\n", insert(&text, &[at], word)).replace('\'', "'\\''");
                script += &format!("unset -f f 2>/dev/null; eval '{body}'\necho @@@{kind}{n}\nfunctions f\n");
            }
            asked.push((text, at));
        }
    }
    script += "echo @@@end\n";
    let Some((_, out)) = shell("zsh", &["-f"], &script) else {
        return;
    };
    assert!(asked.len() > 200, "only {} sites", asked.len());
    let mut wrong = Vec::new();
    for (n, (text, at)) in asked.iter().enumerate() {
        let shown = |kind: &str| {
            let head = format!("@@@{kind}{n}\n");
            Some(out.split_once(&head)?.1.split_once("@@@")?.0.to_owned())
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

#[test]
fn what_a_part_tells() {
    let rows: &[(&str, usize, StdinFrom)] = &[
        ("a", 0, StdinFrom::Inherited),
        ("a | b", 1, StdinFrom::Pipe),
        ("a |& b", 1, StdinFrom::Pipe),
        ("a | b && c", 2, StdinFrom::Inherited),
        ("a | { b; c; }", 2, StdinFrom::Pipe),
        ("a | while read x; do b; done", 2, StdinFrom::Pipe),
        ("while read x; do b; done < f", 1, StdinFrom::File),
        ("for x in y; do b; done <<< z", 0, StdinFrom::Heredoc),
        ("a | b < f", 1, StdinFrom::File),
        ("b 3< f", 0, StdinFrom::Inherited),
        ("b 0<&3", 0, StdinFrom::File),
        ("b <<E\nx\nE", 0, StdinFrom::Heredoc),
        ("a > >(b)", 1, StdinFrom::Pipe),
        ("a < <(b)", 0, StdinFrom::File),
        ("a | b \"$(c)\"", 2, StdinFrom::Pipe),
        ("time a | b", 1, StdinFrom::Pipe),
    ];
    for (text, i, want) in rows {
        assert_eq!(parts(text)[*i].stdin, *want, "{text}");
    }
    let one = |text: &str| parts(text).swap_remove(0);
    let p = one("A=1 env B=2 timeout 5 nice make -j$(nproc) x > log 2>&1");
    assert_eq!(set(&p), "A=1 B=2");
    let of_kinds = one("A='x y' B=$b C+=1 D=(1) E[0]=1 F=/tmp/\"t\" G= env \"H=h i\" I=\"$i\" J=j make");
    assert_eq!(set(&of_kinds), "A=x y B=? C=? D=? E=? F=/tmp/t G= H=h i I=? J=j");
    assert_eq!(p.wrappers, ["env", "timeout", "nice"]);
    assert_eq!(
        p.argv,
        [Word::from("make"), Word::Flag("-j".into()), Word::from("x")]
    );
    assert!(p.redirects[0].writes && p.redirects[0].target == Word::from("log") && !p.redirects[1].writes);
    assert!(one("a >& log").redirects[0].writes && one("a &> log").redirects[0].writes);
    assert!(!one("a >&2").redirects[0].writes && !one("a < f").redirects[0].writes);
    assert!(one("a &").background && one("(a; b) &").background && !one("a; b &").background);
    assert_eq!(
        parts("(a; $(b))").iter().map(|p| p.depth).collect::<Vec<_>>(),
        [1, 1, 2]
    );
    for (text, plain) in [
        ("a && b | c; d > f", true),
        ("A=1 timeout 5 a \"$x\"", true),
        ("time a", true),
        ("a &", false),
        ("(a)", false),
        ("if a; then b; fi", false),
        ("f() { a; }", false),
        ("a $(b)", false),
        ("a ${x:-y}", false),
        ("a <(b)", false),
        ("[[ a ]]", false),
    ] {
        assert_eq!(parse(text, Dialect::Bash).unwrap().plain, plain, "{text}");
    }
    for (text, branching, grouped) in [
        ("a && b | c; d", true, false),
        ("if a; then b; elif c; then d; fi | e", true, false),
        ("for i in 1 2; do while a; do b; done; done", true, false),
        ("until a; do b; done", true, false),
        ("for i in 1; do a; done > f", false, false),
        ("a $(b)", false, false),
        ("a $( (b) )", false, true),
        ("a `{ b; }`", false, true),
        ("a &", false, true),
        ("if a; then (b); fi", false, true),
        ("case a in b) c;; esac", false, true),
        ("f() { a; }", false, true),
        ("for ((i=0;i<3;i++)); do a; done", false, true),
    ] {
        let script = parse(text, Dialect::Bash).unwrap();
        assert_eq!((script.branching, script.grouped), (branching, grouped), "{text}");
    }
}

#[test]
fn reasons_for_leaving_alone() {
    for (text, i, says) in [
        ("$X a", 0, "not a static word"),
        ("xargs make", 0, "`xargs` starts its commands itself"),
        ("find . -exec make {} +", 0, "`find` starts its commands itself"),
        ("bash -c make", 0, "`bash` is a shell of its own"),
        ("/bin/sh x", 0, "`sh` is a shell of its own"),
        ("eval make", 0, "`eval` runs shell text"),
        ("sudo -E make", 0, "`sudo` changes the user"),
        ("exec make", 0, "`exec` replaces the shell"),
        ("env -i make", 0, "`env -i` empties the environment"),
        (
            "echo \"`a \\\"b\\\"`\"",
            1,
            "inside backticks with escaped quotes",
        ),
        ("set -x; make", 1, "traces its commands"),
        ("set -v; make", 1, "prints its input"),
        ("trap 'echo $BASH_COMMAND' ERR; make", 1, "BASH_COMMAND"),
        ("f() { make; }; declare -f f", 0, "show or hand on the function"),
        ("make & jobs", 0, "lists its jobs"),
        ("make; type make", 0, "asks what `make` is"),
        ("export -n PATH; make", 1, "takes PATH away"),
        ("unset PATH; make", 1, "takes PATH away"),
        ("make; hash", 0, "remembers (`hash`)"),
        ("command_not_found_handle() { x; }; make", 1, "not found"),
        ("make() { x; }; make", 1, "defines `make` as a function or alias"),
        ("alias make=x\nmake", 1, "defines `make` as a function or alias"),
        ("alias $x\nmake", 1, "unknown names"),
        ("timeout() { x; }; timeout 5 make", 1, "defines `timeout`"),
        ("A=1", 0, "no program"),
        ("export A=1", 0, "of the shell"),
        ("make -f <(x)", 0, "process substitution"),
        ("make 3>&1", 0, "a descriptor above 2"),
        ("eval \"$x\"; make", 1, "`eval` of a text that is not known"),
        (". \"$x\"; make", 1, "`.` of a file that is not known"),
        ("ulimit -t 5; make", 1, "sets limits (`ulimit`)"),
    ] {
        let reason = parts(text)[i].left_alone.clone().unwrap_or_default();
        assert!(reason.contains(says), "{text}: {reason}");
    }
}

#[test]
fn zsh_has_more_ways_to_give_a_name_a_meaning() {
    for (text, alone) in [
        ("gcc =(x)", true),
        ("gcc a=(x)", false),
        ("make test2() { x; }; make", true),
        ("functions[make]='x'; make", true),
        ("functions[build]='x'; make", false),
        ("aliases[make]=x; make", true),
        ("galiases[$x]=y; make", true),
        ("commands[make]=/x; make", true),
        ("aliases+=(make x); make", true),
        ("hash make=/x; make", true),
        ("hash -r; make", false),
        ("autoload -Uz make; make", true),
        ("functions -c a make; make", true),
        ("limit cputime 5; make", true),
        ("limit; make", false),
    ] {
        let stays = match parse(text, Dialect::Zsh) {
            Ok(script) => script.parts.last().unwrap().left_alone.is_some(),
            Err(_) => true,
        };
        assert_eq!(stays, alone, "{text}: {:?}", parse(text, Dialect::Zsh));
    }
}

#[test]
fn files_that_the_text_reads_are_named() {
    let text = ". ./a.sh; source ~/b; . \"$HOME/c d\"; . ${HOME}/e; . \"$X\"; source \"$V/bin/activate\"; source .venv/bin/activate x";
    assert_eq!(
        parse(text, Dialect::Bash).unwrap().sources,
        ["./a.sh", "~/b", "~/c d", "~/e", ".venv/bin/activate"]
    );
}

#[test]
fn texts_that_are_left_alone_as_a_whole() {
    let long = format!("make {}", "x".repeat(MAX_TEXT));
    for (text, says) in [
        (long.as_str(), "over 64 KB"),
        ("make && (", "does not parse"),
        ("if make; then", "does not parse"),
        ("echo 'x", "does not parse"),
        ("make\r\nmake", "the character"),
        ("make\u{a0}all", "the character"),
        ("make \u{200b}-x", "the character"),
        ("make\0", "the character"),
        ("shopt -s expand_aliases; make", "aliases"),
        (&"${x:-$(".repeat(40), "nests too deep"),
        // Each is looked for to the end of the text.
        (&"[".repeat(60_000), "opens too much"),
        (&format!("make; {} x", "[".repeat(60_000)), "opens too much"),
        (&"(".repeat(60_000), "opens too much"),
        (&"<<E ".repeat(15_000), "opens too much"),
        (&"{".repeat(60_000), "opens too much"),
        (&format!("make; {} x", "{".repeat(15_000)), "opens too much"),
        (&format!("make; {} x", "{a,".repeat(10_000)), "opens too much"),
        // For each the parser goes over the text.
        (
            &format!("cat <<E\n{}E\nmake", "a $(b)\n".repeat(2_000)),
            "opens too much",
        ),
        (
            &format!("cat <<- E\n{}E\nmake", "a `b`\n".repeat(2_000)),
            "opens too much",
        ),
        (&format!("make {}", "''".repeat(30_000)), "opens too much"),
        (&format!("make {}", "\"\"".repeat(30_000)), "opens too much"),
        (&"${x:-a} ".repeat(7_000), "opens too much"),
        // Nobody means so many commands.
        (&"x\n".repeat(30_000), "too many words"),
        (&"$(a) ".repeat(12_000), "too many words"),
        (&"(a); ".repeat(12_000), "too many words"),
        (&"2>&1 ".repeat(12_000), "too many words"),
        (&("> a ".repeat(4_000) + "make"), "too many words"),
        (&("env X=1 ".repeat(2_000) + "make"), "too many words"),
        (&format!("make {}", "a ".repeat(4_000)), "too many words"),
        // In quotes with a substitution they are counted when the parser has told them apart.
        (&format!("make \"$(b {})\"", "a ".repeat(4_000)), "too many words"),
    ] {
        let reason = parse(text, Dialect::Bash).unwrap_err().reason;
        assert!(reason.contains(says), "{:?}: {reason}", text.get(..20));
    }
    assert_eq!(parse("", Dialect::Bash).unwrap().parts, []);
    assert_eq!(parse("# only a comment", Dialect::Bash).unwrap().parts, []);
    assert!(parse(&"echo ${x} ".repeat(500), Dialect::Bash).is_ok());
    assert!(parse(&format!("rm {}; make", "a/b.o ".repeat(2_500)), Dialect::Bash).is_ok());
    assert!(
        parse(
            &format!("cat > x <<'E'\n{}\nE\nmake", "a ".repeat(30_000)),
            Dialect::Bash
        )
        .is_ok()
    );
    // What prints colours, and long data, are none of that.
    assert!(parse(&"printf '\\e[1m%s\\e[0m' x\n".repeat(150), Dialect::Bash).is_ok());
    let lines = ["[[1, 2], [3, 4]],\n", "{\"a\": {\"b\": 1}}\n", "x=$(y `z`)\n"];
    for line in lines {
        let data = format!("tee x <<'E'\n{}\nE\nmake", line.repeat(3_000));
        assert!(parse(&data, Dialect::Bash).is_ok(), "{line}");
    }
    let some = format!(
        "cat <<E\n{}E\nmake",
        "a $(b) text of the usual length, `c` and ${d}\n".repeat(100)
    );
    assert_eq!(
        parse(&some, Dialect::Bash).unwrap().parts.last().unwrap().argv,
        ["make".into()]
    );
    // Every command of a long script is seen.
    let script = "if grep -q a b; then make c > d 2>&1; fi\n".repeat(300);
    assert_eq!(parse(&script, Dialect::Bash).unwrap().parts.len(), 600);
}

#[test]
fn hostile_texts_end() {
    let units = [
        "(",
        "((",
        "{ ",
        "$(",
        "$((",
        "`",
        "\"$(",
        "${x:-",
        "${x:-$(",
        "[[ ",
        "[[ ( ",
        "if ",
        "while ",
        "case x in x) ",
        "! ",
        "a && ",
        "a | ",
        "a; ",
        "<(",
        "<<E\n",
        "<<-E\n$(",
        "f() { ",
        "a=(",
        "$[",
        "\\\n",
        "'",
        "\"",
        "a[",
        "a[$(",
        "(( (",
        "time ",
        "coproc ",
        "${x//",
        "${a[",
        "do ",
        "for ((",
        "&& ",
        "{a,",
        "?(",
        "!(a|",
        "timeout 5 ",
        "env A=1 ",
        "${x:-\"",
        "a && (",
        "a | (",
        "{ a; } && ",
    ];
    for unit in units {
        // Longer chains of what does not nest.
        let long = if unit.starts_with(['a', '{']) { 2 } else { 0 };
        for n in [1, 7, 50, 99, 300]
            .into_iter()
            .chain([999, 1001].into_iter().take(long))
        {
            let open = unit.repeat(n);
            for text in [format!("{open}make"), format!("{open}make{}", ")".repeat(n))] {
                for dialect in [Dialect::Bash, Dialect::Zsh] {
                    if let Ok(script) = parse(&text, dialect) {
                        let sites = free_sites(&script.parts);
                        drop(rewrite(&text, dialect, &script, &sites, "cx "));
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_site_may_be_given(text in any::<String>(), sites in prop::collection::vec(0usize..100, 0..8)) {
        let new = insert(&text, &sites, "\u{1}");
        prop_assert_eq!(new.replace('\u{1}', ""), text.replace('\u{1}', ""));
    }
}
