//! Makes of a command's output a text that a model reads well: no escape sequences, no overwritten lines, no known shapes of
//! secrets, and not too long.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use super::capture::Raw;

/// Strips escape sequences and control characters, folds what carriage returns and backspaces overwrite, and replaces what is not
/// UTF-8.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut line = String::new();
    let mut chars = text.chars().peekable();
    // A carriage return takes effect with what follows it: at the end of a line it is nothing.
    let mut returned = false;
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                out.push_str(line.trim_end_matches(' '));
                out.push('\n');
                line.clear();
                returned = false;
            }
            '\r' => returned = true,
            '\u{8}' => {
                line.pop();
            }
            '\u{1b}' | '\u{9b}' => skip_escape(c, &mut chars),
            '\t' => line.push(c),
            // Direction marks and their like could show a text other than it is.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => {}
            c if c.is_control() => {}
            c => {
                if std::mem::take(&mut returned) {
                    line.clear();
                }
                line.push(c);
            }
        }
    }
    out.push_str(&line);
    out
}

/// Reads on to the end of an escape sequence (ECMA-48): CSI, OSC and other strings, or two characters.
fn skip_escape(first: char, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let kind = if first == '\u{9b}' {
        '['
    } else {
        match chars.peek() {
            Some(&c) if !c.is_control() => {
                chars.next();
                c
            }
            _ => return,
        }
    };
    match kind {
        '[' => {
            while let Some(&c) = chars.peek() {
                if !(' '..='~').contains(&c) {
                    return;
                }
                chars.next();
                if ('@'..='~').contains(&c) {
                    return;
                }
            }
        }
        ']' | 'P' | 'X' | '^' | '_' => {
            // Ends at BEL or ST. One that does not end within reason swallows no output.
            let mut ahead = chars.clone();
            for _ in 0..4096 {
                match ahead.next() {
                    Some('\u{7}' | '\u{9c}') => {
                        *chars = ahead;
                        return;
                    }
                    Some('\u{1b}') if ahead.peek() == Some(&'\\') => {
                        ahead.next();
                        *chars = ahead;
                        return;
                    }
                    Some('\n') | None => return,
                    Some(_) => {}
                }
            }
        }
        '(' | ')' | '*' | '+' | '#' | '%' | ' ' => {
            chars.next();
        }
        _ => {}
    }
}

/// Known shapes of tokens and keys. What has no shape (a password) can't be found.
const SHAPES: &str = r"(?x)
    -----BEGIN\ [A-Z0-9\ ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z0-9\ ]*PRIVATE\ KEY-----|\z)
  | \b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{30,255}\b
  | \bgithub_pat_[A-Za-z0-9_]{30,255}\b
  | \bglpat-[A-Za-z0-9_-]{20,}
  | \bsk-(?:ant-|proj-|live-|or-)?[A-Za-z0-9_-]{20,}
  | \b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}\b
  | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
  | \bAIza[A-Za-z0-9_-]{35}
  | \bya29\.[A-Za-z0-9_-]{20,}
  | \bxox[abposr]-[A-Za-z0-9-]{10,}
  | \bhf_[A-Za-z0-9]{30,}\b
  | \bnpm_[A-Za-z0-9]{36}\b
  | \bpypi-[A-Za-z0-9_-]{50,}
  | \bdop_v1_[a-f0-9]{64}\b
  | \beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}
";

static TOKENS: LazyLock<Option<Regex>> = LazyLock::new(|| RegexBuilder::new(SHAPES).build().ok());
static CREDENTIALS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b([a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,100}):[^\s/@]{1,200}@").ok());

/// Takes out what has the shape of a known token. Incomplete by nature.
pub fn redact(text: &str) -> Cow<'_, str> {
    // The common text has none of the letters to look for: then no expression is compiled.
    const HINTS: [&str; 16] = [
        "-----BEGIN",
        "gh",
        "glpat-",
        "sk-",
        "k_live_",
        "k_test_",
        "AKIA",
        "ASIA",
        "AIza",
        "ya29.",
        "xox",
        "hf_",
        "npm_",
        "pypi-",
        "dop_v1_",
        "eyJ",
    ];
    let mut out = Cow::Borrowed(text);
    if HINTS.iter().any(|h| text.contains(h))
        && let Some(tokens) = &*TOKENS
        && let Cow::Owned(s) = tokens.replace_all(&out, "[redacted by cx]")
    {
        out = Cow::Owned(s);
    }
    if out.contains("://")
        && let Some(credentials) = &*CREDENTIALS
        && let Cow::Owned(s) = credentials.replace_all(&out, "$1:[redacted by cx]@")
    {
        out = Cow::Owned(s);
    }
    out
}

/// A run's output as text of at most `limit` bytes, and whether something was left out: a third from its head, the rest from its
/// end, and between them where all of it lies.
pub fn fit(raw: &Raw, limit: usize, log: Option<&Path>) -> (String, bool) {
    if raw.gap == 0 {
        let mut all = raw.head.clone();
        all.extend_from_slice(&raw.tail);
        let text = clean(&all);
        let text = redact(&text).into_owned();
        if text.len() <= limit {
            return (text, false);
        }
        let (head, tail) = (&text, &text);
        return (cut(head, tail, text.len() as u64, limit, log), true);
    }
    let head = clean(&raw.head);
    let tail = clean(&raw.tail);
    let (head, tail) = (redact(&head), redact(&tail));
    let total = raw.head.len() as u64 + raw.gap + raw.tail.len() as u64;
    (cut(&head, &tail, total, limit, log), true)
}

fn cut(head: &str, tail: &str, total: u64, limit: usize, log: Option<&Path>) -> String {
    let at = log.map_or_else(
        || "the log could not be kept".to_owned(),
        |p| format!("full log: {}", p.display()),
    );
    let note = |left: u64| format!("\n[cx: {left} of {total} bytes left out; {at}]\n");
    let room = limit.saturating_sub(note(total).len());
    let (first, last) = (room / 3, room - room / 3);
    // Whole lines where there are any near.
    let mut end = head.floor_char_boundary(first.min(head.len()));
    if let Some(nl) = head[..end].rfind('\n')
        && end - nl < 400
    {
        end = nl;
    }
    let mut start = tail.ceil_char_boundary(tail.len().saturating_sub(last));
    if let Some(nl) = tail[start..].find('\n')
        && nl < 400
    {
        start += nl + 1;
    }
    let shown = (end + tail.len() - start) as u64;
    format!(
        "{}{}{}",
        &head[..end],
        note(total.saturating_sub(shown)),
        &tail[start..]
    )
}

/// Seconds, for the last line of a result.
pub fn seconds(d: std::time::Duration) -> String {
    format!("{:.1}s", d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_show_last() {
        for (raw, want) in [
            ("plain\ntext", "plain\ntext"),
            ("\u{1b}[1;31mred\u{1b}[0m\n", "red\n"),
            ("10%\r50%\r100%\n", "100%\n"),
            ("dos\r\nends\r\n", "dos\nends\n"),
            ("a\u{8}b", "b"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}(Bx", "x"),
            ("\u{1b}]never ends\nbut this stays", "never ends\nbut this stays"),
            ("bell\u{7} nul\0", "bell nul"),
            ("tab\there", "tab\there"),
            ("a\u{202e}b", "ab"),
            ("progress\r\u{1b}[Kdone\n", "done\n"),
        ] {
            assert_eq!(clean(raw.as_bytes()), want, "{raw:?}");
        }
        assert_eq!(clean(b"\xff\xfea"), "\u{fffd}\u{fffd}a");
    }

    #[test]
    fn known_shapes_are_taken_out() {
        let token = format!("ghp_{}", "a1".repeat(18));
        for (text, want) in [
            (format!("token {token}."), "token [redacted by cx].".to_owned()),
            (
                format!("sk-ant-api03-{}", "x".repeat(40)),
                "[redacted by cx]".into(),
            ),
            ("AKIAIOSFODNN7EXAMPLE".into(), "[redacted by cx]".into()),
            (
                "postgres://u:secret@db/x".into(),
                "postgres://u:[redacted by cx]@db/x".into(),
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nafter".into(),
                "[redacted by cx]\nafter".into(),
            ),
            (
                "nothing: task-force sk-1 ghp_short https://x/y@z".into(),
                "nothing: task-force sk-1 ghp_short https://x/y@z".into(),
            ),
        ] {
            assert_eq!(redact(&text), want);
        }
        assert!(TOKENS.is_some() && CREDENTIALS.is_some());
    }

    #[test]
    fn a_long_text_keeps_a_third_of_its_head_and_its_end() {
        let text: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let raw = Raw {
            head: text.clone().into_bytes(),
            gap: 0,
            tail: Vec::new(),
        };
        let (short, cut) = fit(&raw, 30_000, Some(Path::new("/x/y.log")));
        assert!(cut && short.len() <= 30_000, "{}", short.len());
        assert!(short.starts_with("line 0\n") && short.ends_with("line 9999\n"));
        let at = short.find("[cx: ").unwrap();
        assert!((9_000..=10_000).contains(&at), "{at}");
        assert!(short.contains("full log: /x/y.log]"));
        let (all, cut) = fit(&raw, 1 << 20, None);
        assert!(!cut && all == text);
    }

    proptest! {
        #[test]
        fn never_too_long_and_never_a_control_character(bytes in proptest::collection::vec(any::<u8>(), 0..3000),
                                                       gap in 0u64..2, limit in 200usize..2000) {
            let raw = Raw { head: bytes.clone(), gap, tail: bytes };
            let (text, _) = fit(&raw, limit, Some(Path::new("/log")));
            prop_assert!(text.len() <= limit);
            prop_assert!(text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }
}
