//! A strict JSON reader that keeps where everything stands, so that a file can be edited without touching a byte
//! of the rest.

use std::fmt;
use std::ops::Range;

/// Nesting past which a document is refused rather than risking the stack.
const MAX_DEPTH: usize = 200;

/// One value and its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Byte range of the value, without surrounding white space.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`, in the order of the text, duplicates included.
    Object(Vec<Member>),
    /// `[...]`.
    Array(Vec<Node>),
    /// A string, unescaped. Lone surrogates become U+FFFD.
    String(String),
    /// A number, `true`, `false` or `null`.
    Other,
}

/// One `"key": value` of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Byte range of the key with its quotes.
    pub key: Range<usize>,
    /// The key, unescaped.
    pub name: String,
    /// The value.
    pub value: Node,
}

/// Where and why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// What was expected or found.
    pub what: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for Broken {}

impl Node {
    /// The members, if this is an object.
    pub fn members(&self) -> Option<&[Member]> {
        match &self.kind {
            Kind::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The elements, if this is an array.
    pub fn elements(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(s) => Some(s),
            _ => None,
        }
    }

    /// The last member of that name, which is the one that counts for JavaScript.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.members()?
            .iter()
            .rev()
            .find(|m| m.name == name)
            .map(|m| &m.value)
    }

    /// Where the children stand: whole members of an object, elements of an array.
    pub fn child_spans(&self) -> Vec<Range<usize>> {
        match &self.kind {
            Kind::Object(members) => members.iter().map(|m| m.key.start..m.value.span.end).collect(),
            Kind::Array(elements) => elements.iter().map(|e| e.span.clone()).collect(),
            _ => Vec::new(),
        }
    }
}

/// Reads a whole document. A byte order mark in front is allowed.
///
/// # Errors
/// The first place at which `text` is not strict JSON.
pub fn parse(text: &str) -> Result<Node, Broken> {
    let mut scan = Scan {
        text,
        bytes: text.as_bytes(),
        at: if text.starts_with('\u{feff}') { 3 } else { 0 },
    };
    scan.space();
    let node = scan.value(0)?;
    scan.space();
    if scan.at < scan.bytes.len() {
        return Err(scan.broken("expected the end of the file"));
    }
    Ok(node)
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn broken(&self, what: &'static str) -> Broken {
        let mut at = self.at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Broken {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            what,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Broken> {
        if depth > MAX_DEPTH {
            return Err(self.broken("nested too deeply"));
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Kind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            Some(b'/') => return Err(self.broken("expected a value (JSON has no comments)")),
            _ => return Err(self.broken("expected a value")),
        };
        Ok(Node {
            span: start..self.at,
            kind,
        })
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Broken> {
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Kind::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.broken("expected a key in double quotes"));
            }
            let key_start = self.at;
            let name = self.string()?;
            let key = key_start..self.at;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.broken("expected `:`"));
            }
            self.at += 1;
            self.space();
            let value = self.value(depth + 1)?;
            members.push(Member { key, name, value });
            if self.more(b'}', "expected `,` or `}`")? {
                return Ok(Kind::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind, Broken> {
        self.at += 1;
        let mut elements = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::Array(elements));
        }
        loop {
            self.space();
            elements.push(self.value(depth + 1)?);
            if self.more(b']', "expected `,` or `]`")? {
                return Ok(Kind::Array(elements));
            }
        }
    }

    /// Takes `,` (then false) or the closing bracket (then true).
    fn more(&mut self, close: u8, what: &'static str) -> Result<bool, Broken> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(c) if c == close => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.broken(what)),
        }
    }

    fn string(&mut self) -> Result<String, Broken> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(self.broken("a control character in a string must be escaped")),
                None => return Err(self.broken("a string without its end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Broken> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.broken("an unknown escape in a string")),
        };
        self.at += 1;
        Ok(c)
    }

    /// At the `u`; leaves `at` behind the escape.
    fn unicode(&mut self) -> Result<char, Broken> {
        let high = self.hex4()?;
        if (0xd800..0xdc00).contains(&high) && self.bytes.get(self.at..self.at + 2) == Some(b"\\u") {
            let back = self.at;
            self.at += 1;
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, Broken> {
        let digits = self.bytes.get(self.at + 1..self.at + 5).unwrap_or(b"");
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.broken("`\\u` needs four hexadecimal digits"));
        }
        let n = digits
            .iter()
            .fold(0, |n, d| n * 16 + (*d as char).to_digit(16).unwrap_or(0));
        self.at += 5;
        Ok(n)
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.broken("expected a digit"))
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Result<Kind, Broken> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Other)
    }

    fn word(&mut self, word: &str) -> Result<Kind, Broken> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.broken("expected a value"));
        }
        self.at += word.len();
        Ok(Kind::Other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_those_of_the_text() {
        let text = "\u{feff} { \"a\\u00e9\\ud83d\\ude00\" : [1, \"x\" ,{ }] }\n";
        let node = parse(text).unwrap();
        let member = &node.members().unwrap()[0];
        assert_eq!(member.name, "aé😀");
        assert_eq!(&text[member.value.span.clone()], "[1, \"x\" ,{ }]");
        let spans: Vec<_> = member.value.child_spans().into_iter().map(|s| &text[s]).collect();
        assert_eq!(spans, ["1", "\"x\"", "{ }"]);
    }

    #[test]
    fn an_error_says_where() {
        for (text, line, column) in [
            ("", 1, 1),
            ("{\n  \"a\": 1,\n}", 3, 1),
            ("{\n  // note\n}", 2, 3),
            ("{\"é\": }", 1, 7),
            ("[1 2]", 1, 4),
            ("{} x", 1, 4),
            ("\"a", 1, 3),
            ("[\"\n\"]", 1, 3),
            ("[01]", 1, 3),
            ("[1.]", 1, 4),
            ("[tru]", 1, 2),
            ("[\"\\x\"]", 1, 4),
        ] {
            let e = parse(text).unwrap_err();
            assert_eq!((e.line, e.column), (line, column), "{text:?}: {e}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        assert!(parse(&"[".repeat(1_000_000)).is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_what_is_json(text in r#"[\[\]{}:,"\\ \n0-9a-fu.eE+tr-]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            // serde_json refuses lone surrogates and numbers out of range; we only look at places.
            if let Ok(value) = theirs {
                let ours = parse(&text);
                prop_assert!(ours.is_ok(), "{ours:?} for {value}");
            } else if let Err(e) = &theirs && !e.to_string().contains("surrogate") && !e.to_string().contains("range")
                && !e.to_string().contains("hex escape") {
                prop_assert!(parse(&text).is_err(), "{e}");
            }
        }
    }
}
