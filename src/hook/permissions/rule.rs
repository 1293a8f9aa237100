//! One permission rule of the client, taken apart.

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// It names a tool that is not Bash.
    OtherTool,
    /// All of Bash.
    AnyBash,
    /// Commands that match a pattern.
    Bash(Pattern<'a>),
    /// Not understood: it may mean anything.
    Unclear,
}

/// A pattern over a command's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern<'a> {
    /// `npm test`: this text and no other.
    Exact(&'a str),
    /// `npm test:*`, `npm test *`: these words, and any after them.
    Prefix(&'a str),
    /// With `*` elsewhere: any text in its place.
    Glob(&'a str),
}

/// Takes a rule apart as the client does.
pub fn parse(rule: &str) -> Rule<'_> {
    let rule = rule.trim();
    let (tool, content) = match rule.split_once('(') {
        Some((tool, rest)) => (tool.trim(), Some(rest)),
        None => (rule, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if tool.is_empty() || !tool.chars().all(plain) {
        return Rule::Unclear;
    }
    if tool != "Bash" {
        let close = tool.eq_ignore_ascii_case("bash");
        return if close { Rule::Unclear } else { Rule::OtherTool };
    }
    let Some(content) = content else {
        return Rule::AnyBash;
    };
    let Some(content) = content.strip_suffix(')') else {
        return Rule::Unclear;
    };
    match content {
        "*" => Rule::AnyBash,
        "" | ":*" => Rule::Unclear,
        // Escapes; and forms by which the client matches nothing: blanks at the ends, a `:*` behind another `*`.
        c if c.contains('\\') => Rule::Unclear,
        c if c.starts_with(' ') || c.ends_with(" :*") => Rule::Unclear,
        c if c.ends_with(":*") && c.matches('*').count() > 1 => Rule::Unclear,
        c => Rule::Bash(pattern(c)),
    }
}

fn pattern(content: &str) -> Pattern<'_> {
    if let Some(words) = content.strip_suffix(":*").filter(|w| !w.contains('*')) {
        return Pattern::Prefix(words);
    }
    if let Some(words) = content.strip_suffix(" *").filter(|w| !w.contains('*')) {
        return Pattern::Prefix(words);
    }
    if content.contains('*') {
        Pattern::Glob(content)
    } else {
        Pattern::Exact(content)
    }
}

impl Pattern<'_> {
    /// Whether the pattern matches `words`, joined by single blanks.
    pub fn matches(&self, words: &[&str]) -> bool {
        let starts = |list: &[&str]| words.len() >= list.len() && words[..list.len()] == *list;
        match self {
            Pattern::Exact(text) => words.join(" ") == *text,
            Pattern::Prefix(text) => {
                let list: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
                !list.is_empty() && starts(&list)
            }
            Pattern::Glob(text) => glob(text, &words.join(" ")),
        }
    }

    /// The pattern's text, without what stands for anything at its end.
    pub fn text(&self) -> &str {
        match self {
            Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Glob(text) => text,
        }
    }
}

/// Whether `text` as a whole matches `pattern`, in which `*` stands for any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(first) = pieces.next() else { return false };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else {
        return rest.is_empty();
    };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_taken_apart() {
        for (rule, want) in [
            ("Bash", Rule::AnyBash),
            ("Bash(*)", Rule::AnyBash),
            ("Bash(npm test)", Rule::Bash(Pattern::Exact("npm test"))),
            ("Bash(npm test:*)", Rule::Bash(Pattern::Prefix("npm test"))),
            ("Bash(npm test *)", Rule::Bash(Pattern::Prefix("npm test"))),
            ("Bash(npm * test)", Rule::Bash(Pattern::Glob("npm * test"))),
            ("Bash(npm run*)", Rule::Bash(Pattern::Glob("npm run*"))),
            ("Bash()", Rule::Unclear),
            ("Bash(:*)", Rule::Unclear),
            ("Bash(npm r*:*)", Rule::Unclear),
            ("Bash(npm", Rule::Unclear),
            ("Bash(a\\*b)", Rule::Unclear),
            ("bash(npm:*)", Rule::Unclear),
            ("*", Rule::Unclear),
            ("Read(./x)", Rule::OtherTool),
            ("mcp__a__b", Rule::OtherTool),
        ] {
            assert_eq!(parse(rule), want, "{rule}");
        }
    }

    #[test]
    fn patterns_match_whole_words() {
        let matches = |rule: &str, text: &str| {
            let Rule::Bash(pattern) = parse(rule) else {
                panic!("{rule}")
            };
            pattern.matches(&text.split(' ').collect::<Vec<_>>())
        };
        for (rule, text, want) in [
            ("Bash(npm test)", "npm test", true),
            ("Bash(npm test)", "npm test x", false),
            ("Bash(npm test:*)", "npm test", true),
            ("Bash(npm test:*)", "npm test -x y", true),
            ("Bash(npm test:*)", "npm test:unit", false),
            ("Bash(npm test:*)", "npm tests", false),
            ("Bash(npm test *)", "npm test", true),
            ("Bash(npm *)", "npmx test", false),
            ("Bash(npm run*)", "npm running", true),
            ("Bash(npm * test)", "npm run test", true),
            ("Bash(npm * test)", "npm test", false),
            ("Bash(* test)", "npm run test", true),
            ("Bash(a*b*c)", "axxbyyc", true),
            ("Bash(a*b*c)", "axxc", false),
            ("Bash(ab*ba)", "aba", false),
        ] {
            assert_eq!(matches(rule, text), want, "{rule} / {text}");
        }
    }
}
