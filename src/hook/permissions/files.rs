//! Rules about files: the client holds `Read(...)` and `Edit(...)` rules against the files that well-known commands and redirections of
//! a Bash text name (`cat secret.txt`, `echo a > noedit.txt`), as observed with 2.1.330.

use super::rule::glob;
use super::runs;
use crate::plan::shell::{Part, Script, Word};

/// Tools whose rules name files.
const TOOLS: [&str; 7] = [
    "Read",
    "Edit",
    "Write",
    "MultiEdit",
    "NotebookEdit",
    "Grep",
    "Glob",
];

/// Commands of which all arguments may name files that they read or write themselves. More than the client looks at: which those are
/// differs between its versions.
const COMMANDS: &str = " awk base64 bat cat cd chgrp chmod chown cksum cmp column comm cp cut dd diff du egrep expand fgrep file find fmt \
    fold gawk grep gunzip gzip head hexdump iconv install jq join less ln ls md5sum mkdir more mv nl od paste patch pr pushd readlink \
    realpath rev rg rm rmdir rsync sed sha1sum sha256sum shred shuf sort split stat strings tac tail tar tee touch tr truncate uniq \
    unlink unzip wc xxd xz yq zcat zip zstd ";

/// A rule that concerns a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Concern<'r> {
    /// The text names the file.
    Names(&'r str),
    /// It may: a word in it is known only to the shell.
    May(&'r str),
}

/// What of a path every file has that a rule means: its last part that is not everything. `None` for rules about no files; empty for
/// one about all.
fn meant(rule: &str) -> Option<&str> {
    let (tool, content) = rule.trim().split_once('(')?;
    let content = content.strip_suffix(')')?;
    let mut parts = content
        .split('/')
        .filter(|p| !matches!(*p, "" | "." | ".." | "~" | "*" | "**"));
    TOOLS
        .contains(&tool.trim())
        .then(|| parts.next_back().unwrap_or_default())
}

/// The first of `rules` that concerns a file named in `text`, which is `script` if it is understood.
pub fn concerned<'r>(rules: &'r [String], text: &str, script: Option<&Script>) -> Option<Concern<'r>> {
    let mut about = rules
        .iter()
        .filter_map(|r| Some((r.as_str(), meant(r)?)))
        .peekable();
    about.peek()?;
    let Some(script) = script else {
        let names = |part: &str| {
            let mut fixed = part.split('*').filter(|f| !f.is_empty());
            fixed.all(|f| text.contains(f))
        };
        return about
            .find(|(_, part)| names(part))
            .map(|(rule, _)| Concern::May(rule));
    };
    let words: Vec<&Word> = script.parts.iter().flat_map(files).collect();
    if words.is_empty() {
        return None;
    }
    about.find_map(|(rule, part)| {
        let names = |word: &&Word| word.text().is_some_and(|w| names(w, part));
        let hides = |word: &&Word| {
            let text = word.text();
            text.is_none_or(|w| w.contains(['*', '?', '[', '{', '$', '`']))
        };
        match () {
            () if words.iter().any(names) => Some(Concern::Names(rule)),
            () if words.iter().any(hides) => Some(Concern::May(rule)),
            () => None,
        }
    })
}

/// Whether a word names a path one of whose components is `part`.
fn names(word: &str, part: &str) -> bool {
    let separates = |c: char| c.is_whitespace() || "/=:,;|&()<>\"'".contains(c);
    let mut components = word.split(separates).filter(|c| !c.is_empty());
    components.any(|component| part.is_empty() || glob(part, component))
}

/// The words of `part` that may name files which it reads or writes.
fn files(part: &Part) -> Vec<&Word> {
    let redirected = part
        .redirects
        .iter()
        .filter(|r| !is_number(&r.target))
        .map(|r| &r.target);
    let mut words: Vec<&Word> = redirected.collect();
    let is_one = |word: &Word| {
        let name = word.text().map(runs::name);
        name.is_none_or(|n| n.split_whitespace().any(|n| COMMANDS.contains(&format!(" {n} "))))
    };
    let Some((first, rest)) = part.argv.split_first() else {
        return words;
    };
    let runs = || {
        let name = first.text().map(runs::name);
        name.is_some_and(|n| runs::its_arguments(&n, part)) && rest.iter().any(is_one)
    };
    if is_one(first) || runs() {
        words.extend(rest);
    }
    words
}

/// Whether a redirection's target is a descriptor.
fn is_number(target: &Word) -> bool {
    target
        .text()
        .is_some_and(|t| t == "-" || t.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shell::{Dialect, parse};

    #[test]
    fn rules_about_files_concern_the_commands_that_name_them() {
        let rules: Vec<String> = [
            "Read(./secret.txt)",
            "Edit(./noedit.txt)",
            "Read(./keys/**)",
            "Read(**/*.pem)",
        ]
        .map(str::to_owned)
        .into();
        let of = |text: &str| concerned(&rules, text, parse(text, Dialect::Bash).ok().as_ref());
        for text in [
            "cat secret.txt",
            "make; head -3 ./secret.txt | wc",
            "cat < secret.txt",
            "sed -n 1p \"secret.txt\"",
            "cp secret.txt /tmp/x",
            "echo a > noedit.txt",
            "echo a | tee -a noedit.txt",
            "cp Makefile noedit.txt",
            "if true; then rm noedit.txt; fi",
            "cat keys/a/b",
            "cd keys && cat b",
            "grep x certs/server.pem",
            "bash -c 'cat secret.txt'",
            "xargs cat secret.txt",
            "dd if=secret.txt",
        ] {
            assert!(
                matches!(of(text), Some(Concern::Names(_))),
                "{text}: {:?}",
                of(text)
            );
        }
        for text in ["cat s*", "cat \"$F\"", "cat $Y", "cat secret.txt ("] {
            assert!(
                matches!(of(text), Some(Concern::May(_))),
                "{text}: {:?}",
                of(text)
            );
        }
        for text in [
            "make test",
            "cat other.txt 2>&1 >/dev/null",
            "pytest secret.txt",
            "echo secret.txt",
            "make F=noedit.txt",
            "cat xsecret.txt",
            "ls src",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        for rule in ["Read", "Bash(cat:*)", "WebFetch(secret.txt)", "Read(secret.txt"] {
            let text = "cat secret.txt";
            let script = parse(text, Dialect::Bash).unwrap();
            assert_eq!(concerned(&[rule.to_owned()], text, Some(&script)), None, "{rule}");
        }
        let script = parse("cat x", Dialect::Bash).unwrap();
        assert!(concerned(&["Read(~/**)".to_owned()], "cat x", Some(&script)).is_some());
    }
}
