//! Shell patterns over bytes, with the meaning they have in git's ignore files.

/// Whether `text` matches `pattern`.
///
/// `*` and `?` and brackets do not match `/`; `**` between slashes matches any number of directories. Both are
/// relative paths. Never backtracks over more than one star at a time within a component, so that no pattern is slow.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Position to go on from after a `**/` (pattern after it, text where the next try starts).
    let mut p = pattern;
    let mut t = text;
    let mut any_dirs: Option<(&[u8], &[u8])> = None;
    let mut at_start = true;
    loop {
        if at_start && let Some(rest) = strip_double_star(p) {
            if rest.is_empty() {
                return true;
            }
            any_dirs = Some((rest, t));
            p = rest;
            continue;
        }
        let (pc, pr) = split(p);
        let (tc, tr) = split(t);
        let fits = component(pc, tc);
        match (fits, pr, tr) {
            (true, None, None) => return true,
            (true, Some(pn), Some(tn)) => {
                p = pn;
                t = tn;
                at_start = true;
                continue;
            }
            // `a/**` needs something after the slash, and so does any other rest.
            _ => {}
        }
        let Some((rest, from)) = any_dirs else {
            return false;
        };
        let (_, Some(next)) = split(from) else {
            return false;
        };
        any_dirs = Some((rest, next));
        p = rest;
        t = next;
        // The rest was already looked at as the start of a component.
        at_start = false;
    }
}

/// Expands `{a,b}` groups; other braces stay as they are. At most 256 patterns come out.
pub(crate) fn braces(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut todo = vec![pattern.to_owned()];
    while let Some(p) = todo.pop() {
        let group = p
            .find('{')
            .and_then(|open| Some((open, open + p[open..].find('}')?)));
        match group {
            Some((open, close)) if p[open..close].contains(',') && todo.len() + done.len() < 256 => {
                for part in p[open + 1..close].rsplit(',') {
                    todo.push(format!("{}{part}{}", &p[..open], &p[close + 1..]));
                }
            }
            _ => done.push(p),
        }
    }
    done
}

/// What follows a leading `**/`, or nothing where the pattern is just `**`. More stars mean the same.
fn strip_double_star(p: &[u8]) -> Option<&[u8]> {
    let mut rest = p.strip_prefix(b"**")?;
    while let [b'*', more @ ..] = rest {
        rest = more;
    }
    match rest {
        [] => Some(rest),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

fn split(s: &[u8]) -> (&[u8], Option<&[u8]>) {
    match s.iter().position(|b| *b == b'/') {
        Some(i) => (&s[..i], Some(&s[i + 1..])),
        None => (s, None),
    }
}

/// Whether one component matches one component's pattern.
fn component(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if p < pattern.len()
            && t < text.len()
            && let Some(next) = one(pattern, p, text[t])
        {
            p = next;
            t += 1;
            continue;
        }
        match star {
            Some((sp, st)) if st < text.len() => {
                star = Some((sp, st + 1));
                p = sp;
                t = st + 1;
            }
            _ => return false,
        }
    }
}

/// Matches one pattern element at `p` against `c`; the position after it.
fn one(pattern: &[u8], p: usize, c: u8) -> Option<usize> {
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => bracket(pattern, p, c),
        // A backslash at the end matches nothing.
        b'\\' => (*pattern.get(p + 1)? == c).then_some(p + 2),
        x => (x == c).then_some(p + 1),
    }
}

fn bracket(pattern: &[u8], start: usize, c: u8) -> Option<usize> {
    let mut p = start + 1;
    let negated = matches!(pattern.get(p), Some(b'!' | b'^'));
    p += usize::from(negated);
    let first = p;
    let mut hit = false;
    loop {
        let x = *pattern.get(p)?;
        if x == b']' && p > first {
            return (hit != negated).then_some(p + 1);
        }
        if x == b'['
            && pattern.get(p + 1) == Some(&b':')
            && let Some(len) = pattern[p + 2..].windows(2).position(|w| w == b":]")
        {
            hit |= class(&pattern[p + 2..p + 2 + len], c)?;
            p += len + 4;
            continue;
        }
        let (low, next) = literal(pattern, p)?;
        p = next;
        if pattern.get(p) == Some(&b'-') && pattern.get(p + 1).is_some_and(|b| *b != b']') {
            let (high, next) = literal(pattern, p + 1)?;
            p = next;
            hit |= (low..=high).contains(&c);
        } else {
            hit |= low == c;
        }
    }
}

fn literal(pattern: &[u8], p: usize) -> Option<(u8, usize)> {
    match pattern.get(p)? {
        b'\\' => Some((*pattern.get(p + 1)?, p + 2)),
        x => Some((*x, p + 1)),
    }
}

fn class(name: &[u8], c: u8) -> Option<bool> {
    Some(match name {
        b"alnum" => c.is_ascii_alphanumeric(),
        b"alpha" => c.is_ascii_alphabetic(),
        b"blank" => c == b' ' || c == b'\t',
        b"cntrl" => c.is_ascii_control(),
        b"digit" => c.is_ascii_digit(),
        b"graph" => c.is_ascii_graphic(),
        b"lower" => c.is_ascii_lowercase(),
        b"print" => c.is_ascii_graphic() || c == b' ',
        b"punct" => c.is_ascii_punctuation(),
        b"space" => c.is_ascii_whitespace() || c == 0x0b,
        b"upper" => c.is_ascii_uppercase(),
        b"xdigit" => c.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_git() {
        for (pattern, text, want) in [
            ("foo", "foo", true),
            ("foo", "fooo", false),
            ("*.o", "a.o", true),
            ("*.o", "d/a.o", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("**/foo", "foo", true),
            ("**/foo", "a/b/foo", true),
            ("**/foo", "a/bfoo", false),
            ("foo/**", "foo/a/b", true),
            ("foo/**", "foo", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/x/y/c", false),
            ("a/**/b/**/c", "a/1/b/2/c", true),
            ("a/**/b/*/c", "a/b/b/2/c", true),
            ("a**b", "axxb", true),
            ("a**b", "ax/b", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[[:digit:]]z", "7z", true),
            ("[a", "[a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("**", "a/b", true),
            ("***", "a/b", true),
            ("a/***/b", "a/x/y/b", true),
            ("*", "", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                want,
                "{pattern} against {text}"
            );
        }
    }

    #[test]
    fn braces_expand() {
        assert_eq!(
            braces("t/{debug,release}/{a,b}"),
            ["t/debug/a", "t/debug/b", "t/release/a", "t/release/b"]
        );
        assert_eq!(braces("a{b}c{"), ["a{b}c{"]);
    }
}
