//! Throws made-up shell texts at the grammar and asks bash whether it sees the same.
//!
//! usage: cargo run --release --example fuzz-shell -- [MINUTES] [SEED]
//!
//! Of each text: parsing ends, quickly and without a panic; what is inserted can be taken out again; the rewritten text
//! parses into the same parts; bash takes both or neither, and prints the same function for both once the inserted
//! word is taken out; where that word is an alias and stands in no substitution, bash expands it, which it does for
//! words in the place of a command alone. A text for which one of these fails is printed, and the exit status is 1.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cx::plan::shell::{Dialect, Part, insert, parse, rewrite};

/// What texts are strung together from.
const PIECES: &[&str] = &[
    "make",
    "pytest -x",
    "a",
    "b c",
    " ",
    " ",
    " ",
    "&&",
    "||",
    "|",
    "|&",
    ";",
    "\n",
    "\n",
    "&",
    "(",
    ")",
    "{ ",
    "; }",
    "if ",
    "; then ",
    "; elif ",
    "; else ",
    "; fi",
    "for f in ",
    "; do ",
    "; done",
    "while ",
    "until ",
    "case x in ",
    "a) ",
    ";; ",
    ";& ",
    "esac",
    "select x in ",
    "$(",
    "`",
    "\\`",
    "\"",
    "'",
    "$'",
    "\\",
    "\\\n",
    "<<E\n",
    "<<-E\n",
    "<<'E'\n",
    "\nE\n",
    "<<< x",
    "> f",
    "2>&1",
    "< f",
    ">& ",
    "{fd}> f",
    "A=1 ",
    "A=(1 2) ",
    "A[$(x)]=2 ",
    "timeout 5 ",
    "nice ",
    "env B=2 ",
    "command ",
    "exec ",
    "$x",
    "${x}",
    "${x:-",
    "}",
    "${x//",
    "$((",
    "))",
    "((",
    "[[ ",
    " ]]",
    " =~ ",
    "<(",
    ">(",
    "!",
    " ! ",
    "time ",
    "coproc ",
    "function f ",
    "f() ",
    "# c",
    "é",
    "🦀",
    "*",
    "?",
    "[a]",
    "{a,b}",
    "~",
    "=",
    "-",
    "--",
    "do ",
    "in ",
    "\t",
    "$",
    "$[",
    "]",
    "set -e;",
    "alias a=b\n",
    "echo ",
    "trap 'x' EXIT; ",
    "1",
    "@(",
    "for ((i=0;i<1;i++)) ",
    "declare x=1 ",
    "export A=$(",
    "return",
    "break",
];

/// Texts to start from, as real as they get.
const SEEDS: &str = include_str!("seeds.txt");

/// A small generator of random numbers: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    fn piece(&mut self) -> &'static str {
        PIECES[self.roll(PIECES.len())]
    }

    fn text(&mut self, seeds: &[&str]) -> String {
        if self.roll(4) == 0 {
            let n = 1 + self.roll(20);
            return (0..n).map(|_| self.piece()).collect();
        }
        let mut text = seeds[self.roll(seeds.len())].to_owned();
        for _ in 0..1 + self.roll(3) {
            let cut = |dice: &mut Dice, text: &str| {
                let cuts: Vec<usize> = (0..=text.len()).filter(|i| text.is_char_boundary(*i)).collect();
                cuts[dice.roll(cuts.len())]
            };
            let (a, b) = (cut(self, &text), cut(self, &text));
            let (from, to) = (a.min(b), a.max(b));
            match self.roll(6) {
                0 | 1 => text.insert_str(a, self.piece()),
                2 if to - from < 12 => text.replace_range(from..to, ""),
                3 => {
                    let other = seeds[self.roll(seeds.len())];
                    text.insert_str(a, other);
                }
                4 => {
                    let again = text[from..to].to_owned();
                    text.insert_str(a, &again);
                }
                _ => {
                    let other = seeds[self.roll(seeds.len())];
                    text = format!("{text}{}{other}", ["\n", " | ", " && ", "; "][self.roll(4)]);
                }
            }
        }
        text.truncate(
            (0..=2000.min(text.len()))
                .rev()
                .find(|i| text.is_char_boundary(*i))
                .unwrap_or(0),
        );
        text
    }
}

/// A word that no seed holds.
const WORD: &str = "qzx9q ";

/// One text with all its sites.
struct Case {
    text: String,
    rewritten: String,
    /// How many of the inserted words must be where bash expands an alias.
    aliases: usize,
}

/// The processor time of this thread: a busy machine lets a process wait for longer than any text takes.
fn used() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec as u32)
}

/// What is wrong with a text by cx's own lights; else the case for bash, if there is a site in it.
fn check(text: &str) -> Result<Option<Case>, String> {
    let began = used();
    let parsed = parse(text, Dialect::Bash);
    if used() - began > Duration::from_secs(2) {
        return Err("parsing took over 2 s".into());
    }
    let Ok(script) = parsed else {
        return Ok(None);
    };
    // Words of the shell about itself change what is said of the others when one stands in front of them; no rule moves them.
    let of_shell = |p: &Part| {
        let of = [
            "alias",
            "type",
            "jobs",
            "fg",
            "bg",
            "set",
            "setopt",
            "shopt",
            "hash",
            "which",
            "where",
            "whence",
            "functions",
            "command",
            "declare",
            "typeset",
            "export",
        ];
        p.argv
            .first()
            .and_then(|w| w.text())
            .is_some_and(|w| of.contains(&w))
    };
    let free = |p: &&Part| p.left_alone.is_none() && !p.argv.is_empty() && !of_shell(p);
    let mut sites: Vec<usize> = script.parts.iter().filter(free).map(|p| p.site).collect();
    sites.sort_unstable();
    let before = sites.len();
    sites.dedup();
    if sites.len() != before {
        return Err("two parts share a site".into());
    }
    if sites.is_empty() {
        return Ok(None);
    }
    let with = insert(text, &sites, WORD);
    if with.replace(WORD, "") != text {
        return Err("taking the word out does not give the text".into());
    }
    let Ok(rewritten) = rewrite(text, Dialect::Bash, &script, &sites, WORD) else {
        return Ok(None);
    };
    let again = parse(&rewritten, Dialect::Bash).map_err(|e| format!("does not parse again: {e}"))?;
    let marked =
        |p: &&Part| p.left_alone.is_none() && p.argv.first().and_then(|w| w.text()) == Some(WORD.trim_end());
    let count = again.parts.iter().filter(marked).count();
    if count != sites.len() {
        return Err(format!("{} sites became {count}", sites.len()));
    }
    let substitutes = ["$(", "`", "<(", ">("].iter().any(|s| text.contains(s));
    let plain = |p: &&Part| {
        p.wrappers.is_empty()
            // After a redirection bash 5.2 looks for no alias.
            && !text[p.span.start..p.site].contains(['<', '>'])
    };
    let aliases = if substitutes {
        0
    } else {
        script.parts.iter().filter(free).filter(plain).count()
    };
    Ok(Some(Case {
        text: text.to_owned(),
        rewritten,
        aliases,
    }))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Asks one bash about many cases; the findings.
fn ask_bash(cases: &[Case]) -> Vec<String> {
    // Nothing of a text is meant to run. Where bash disagrees about where a function ends, something may try: there is
    // no program on PATH, and a restricted shell writes no file.
    let mut script = String::from(
        "PATH=/nonexistent\nenable -n kill suspend exec exit trap ulimit logout\nshopt -s expand_aliases\nset -r\n",
    );
    for (n, case) in cases.iter().enumerate() {
        let function = |text: &str| quoted(&format!("f() {{\n{text}\n}}"));
        for (kind, text, alias) in [
            ("o", &case.text, false),
            ("w", &case.rewritten, false),
            ("a", &case.rewritten, true),
        ] {
            let set = if alias {
                "alias qzx9q='qzxalias '"
            } else {
                "unalias -a"
            };
            script += &format!(
                "unset -f f 2>/dev/null\n{set} 2>/dev/null\neval {} < /dev/null > /dev/null 2>&1\necho @@{kind}{n}\ndeclare -f f\n",
                function(text)
            );
        }
    }
    script += "echo @@end\n";
    let mut child = Command::new("timeout")
        .args(["20", "bash", "--norc", "--noprofile"])
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash and timeout are there");
    let mut stdin = child.stdin.take().expect("it was asked for");
    let feeder = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let mut out = Vec::new();
    let _ = child
        .stdout
        .take()
        .expect("it was asked for")
        .read_to_end(&mut out);
    let _ = child.wait();
    let _ = feeder.join();
    let out = String::from_utf8_lossy(&out).into_owned();
    let shown = |kind: &str, n: usize| {
        let after = out.split_once(&format!("@@{kind}{n}\n"))?.1;
        after.split_once("@@").map(|(body, _)| body)
    };
    let mut findings = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let (Some(o), Some(w), Some(a)) = (shown("o", n), shown("w", n), shown("a", n)) else {
            // A text before it stopped the shell; these are few.
            continue;
        };
        // What bash does not take it will not run either, as long as that holds for both.
        if o.is_empty() && w.is_empty() {
            continue;
        }
        let why = if o.is_empty() != w.is_empty() {
            "bash takes one and not the other"
        } else if w.replace(WORD, "") != o {
            "bash sees two functions"
        } else if a.matches("qzxalias").count() < case.aliases {
            "bash sees a word that is no command"
        } else {
            continue;
        };
        findings.push(format!(
            "{why}:\n{:?}\n{:?}\n{o}\n{w}\n{a}",
            case.text, case.rewritten
        ));
    }
    findings
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let minutes: f64 = args.next().and_then(|m| m.parse().ok()).unwrap_or(1.0);
    let seed: u64 = args.next().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let seeds: Vec<&str> = SEEDS.split("\n%%\n").collect();
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    std::panic::set_hook(Box::new(|_| {}));
    let (mut texts, mut asked, mut found) = (0u64, 0u64, 0u64);
    let mut out = std::io::stdout().lock();
    while Instant::now() < until && found < 20 {
        let mut cases = Vec::new();
        while cases.len() < 300 && Instant::now() < until {
            let text = dice.text(&seeds);
            texts += 1;
            match std::panic::catch_unwind(|| check(&text)) {
                Ok(Ok(case)) => cases.extend(case),
                Ok(Err(why)) => {
                    found += 1;
                    let _ = writeln!(out, "{why}: {text:?}\n");
                }
                Err(_) => {
                    found += 1;
                    let _ = writeln!(out, "a panic: {text:?}\n");
                }
            }
        }
        asked += cases.len() as u64;
        for finding in ask_bash(&cases) {
            found += 1;
            let _ = writeln!(out, "{finding}\n");
        }
    }
    let _ = writeln!(
        out,
        "seed {seed}: {texts} texts, {asked} rewritten and shown to bash, {found} findings"
    );
    ExitCode::from(u8::from(found > 0))
}
