//! Makes of a command's output a text that a model reads well: no escape sequences, no overwritten lines, no known shapes of
//! secrets, and not too long.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use super::capture::Raw;
use crate::node::turns;

/// The longest string (a title, a link) within an escape sequence, characters. What seems longer has lost its end, and is text.
const MAX_STRING: usize = 4096;

/// Strips escape sequences and control characters, folds what carriage returns and backspaces overwrite, and replaces what is not
/// UTF-8.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut line = String::new();
    let mut chars = text.chars().peekable();
    // A text of nothing but beginnings of escape sequences must not be looked through once for each of them.
    let mut ahead = text.len() + MAX_STRING;
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
            '\u{1b}' | '\u{9b}' => skip_escape(c, &mut chars, &mut ahead),
            '\t' => line.push(c),
            c if c.is_control() || turns(c) => {}
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

/// Reads on to the end of an escape sequence (ECMA-48): CSI, OSC and other strings, or two characters. `budget`: how many characters
/// may yet be looked at in search of the ends of strings.
fn skip_escape(first: char, chars: &mut std::iter::Peekable<std::str::Chars<'_>>, budget: &mut usize) {
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
            for _ in 0..MAX_STRING.min(*budget) {
                *budget -= 1;
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

/// Known shapes of tokens and keys. What has no shape (a password) can't be found. Words end where ASCII does: with those of Unicode
/// the fast automaton gives up at the first letter beyond ASCII, and a long text takes twenty times as long.
const SHAPES: &str = r"(?x)
    -----BEGIN\ [A-Z0-9\ ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z0-9\ ]*PRIVATE\ KEY-----|\z)
  | (?-u:\b)(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{30,255}(?-u:\b)
  | (?-u:\b)github_pat_[A-Za-z0-9_]{30,255}(?-u:\b)
  | (?-u:\b)glpat-[A-Za-z0-9_-]{20,}
  | (?-u:\b)sk-(?:ant-|proj-|live-|or-)?[A-Za-z0-9_-]{20,}
  | (?-u:\b)(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}(?-u:\b)
  | (?-u:\b)(?:AKIA|ASIA)[A-Z0-9]{16}(?-u:\b)
  | (?-u:\b)AIza[A-Za-z0-9_-]{35}
  | (?-u:\b)ya29\.[A-Za-z0-9_-]{20,}
  | (?-u:\b)xox[abposr]-[A-Za-z0-9-]{10,}
  | (?-u:\b)hf_[A-Za-z0-9]{30,}(?-u:\b)
  | (?-u:\b)npm_[A-Za-z0-9]{36}(?-u:\b)
  | (?-u:\b)pypi-[A-Za-z0-9_-]{50,}
  | (?-u:\b)dop_v1_[a-f0-9]{64}(?-u:\b)
  | (?-u:\b)eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}
";

static TOKENS: LazyLock<Option<Regex>> = LazyLock::new(|| RegexBuilder::new(SHAPES).build().ok());
static CREDENTIALS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?-u:\b)([a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,100}):[^\s/@]{1,200}@").ok());

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

/// A run's output as text, made once and cut as often as is wanted.
pub struct Text {
    /// All of it, or the beginning where bytes are left out.
    head: String,
    /// The end, where bytes are left out before it.
    tail: Option<String>,
    /// Bytes there were in all.
    total: u64,
}

impl Text {
    /// Cleans and redacts what was kept of an output.
    pub fn of(raw: Raw) -> Text {
        let clean = |bytes: &[u8]| {
            let text = clean(bytes);
            match redact(&text) {
                Cow::Owned(redacted) => redacted,
                Cow::Borrowed(_) => text,
            }
        };
        if raw.gap > 0 {
            return Text {
                head: clean(&raw.head),
                tail: Some(clean(&raw.tail)),
                total: raw.head.len() as u64 + raw.gap + raw.tail.len() as u64,
            };
        }
        let mut all = raw.head;
        all.extend_from_slice(&raw.tail);
        let head = clean(&all);
        Text {
            total: head.len() as u64,
            head,
            tail: None,
        }
    }

    /// Its size, bytes, as far as it is kept.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.as_ref().map_or(0, String::len)
    }

    /// It in at most `limit` bytes, and whether something was left out: a third from its head, the rest from its end, and between them
    /// where all of it lies.
    pub fn fit(&self, limit: usize, log: Option<&Path>) -> (Cow<'_, str>, bool) {
        match &self.tail {
            None if self.head.len() <= limit => (Cow::Borrowed(&self.head), false),
            tail => {
                let tail = tail.as_ref().unwrap_or(&self.head);
                (Cow::Owned(cut(&self.head, tail, self.total, limit, log)), true)
            }
        }
    }
}

fn cut(head: &str, tail: &str, total: u64, limit: usize, log: Option<&Path>) -> String {
    let at = log.map_or_else(
        || "the log could not be kept".to_owned(),
        |p| format!("full log: {}", p.display()),
    );
    let note = |left: u64| format!("\n[cx: {left} of {total} bytes left out; {at}]\n");
    let Some(room) = limit.checked_sub(note(total).len()) else {
        return tail[tail.ceil_char_boundary(tail.len().saturating_sub(limit))..].to_owned();
    };
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

/// The beginning of a text, where it is longer than `limit` bytes.
pub fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    const MORE: &str = "…";
    if text.len() <= limit {
        return text.into();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(MORE.len()));
    format!("{}{MORE}", &text[..end]).into()
}

/// A text from elsewhere as part of one line: cleaned, and without what looks like a secret.
pub fn line(text: &str) -> String {
    redact(&clean(text.as_bytes())).replace(['\n', '\t'], " ")
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
        let made = Text::of(Raw {
            head: text.clone().into_bytes(),
            gap: 0,
            tail: Vec::new(),
        });
        let (short, cut) = made.fit(30_000, Some(Path::new("/x/y.log")));
        assert!(cut && short.len() <= 30_000, "{}", short.len());
        assert!(short.starts_with("line 0\n") && short.ends_with("line 9999\n"));
        let at = short.find("[cx: ").unwrap();
        assert!((9_000..=10_000).contains(&at), "{at}");
        assert!(short.contains("full log: /x/y.log]"));
        let (all, cut) = made.fit(1 << 20, None);
        assert!(!cut && all == text && made.len() == text.len());
    }

    #[test]
    fn beginnings_without_ends_are_text() {
        // Each would look through all that follows; more of them than may be looked for are text all the same.
        for start in ["\u{1b}]", "\u{1b}P", "\u{1b}]\u{1b}\u{1b}"] {
            let text = format!("{}end\n", format!("{start}x").repeat(50_000));
            let clean = clean(text.as_bytes());
            assert!(clean.ends_with("end\n") && !clean.contains('\u{1b}'), "{start:?}");
        }
        let title = format!("\u{1b}]0;{}\u{7}", "t".repeat(200));
        assert_eq!(clean(title.repeat(3000).as_bytes()), "");
    }

    #[test]
    fn shapes_are_found_among_letters_of_other_scripts() {
        let token = format!("ghp_{}", "a1".repeat(18));
        let text = format!("Größe {token} — {token}é");
        assert_eq!(redact(&text), "Größe [redacted by cx] — [redacted by cx]é");
    }

    proptest! {
        #[test]
        fn never_too_long_and_never_a_control_character(bytes in proptest::collection::vec(any::<u8>(), 0..3000),
                                                       gap in 0u64..2, limit in 0usize..2000) {
            let made = Text::of(Raw { head: bytes.clone(), gap, tail: bytes });
            let (text, _) = made.fit(limit, Some(Path::new("/log")));
            prop_assert!(text.len() <= limit);
            prop_assert!(text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }
}
