//! Rewrites the mirror's path to the caller's in text output, for nodes that can't show the tree at its own path.

/// Replaces paths in a stream that arrives in pieces of any size.
#[derive(Debug)]
pub struct Rewriter {
    /// The paths to replace, the longest first, and by what.
    from: Vec<(Vec<u8>, Vec<u8>)>,
    /// The end of the last piece, where it may be the beginning of a path.
    held: Vec<u8>,
    /// A zero byte was seen: the rest passes untouched.
    binary: bool,
}

impl Rewriter {
    /// From the first of each pair (empty ones do not count) to the second.
    pub fn new(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Rewriter {
        let mut from: Vec<_> = pairs.into_iter().filter(|(f, _)| !f.is_empty()).collect();
        from.sort_by_key(|(f, _)| std::cmp::Reverse(f.len()));
        from.dedup();
        Rewriter {
            from,
            held: Vec::new(),
            binary: false,
        }
    }

    /// Whether something is held back that [`Rewriter::flush`] would give.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether what is held back may as well be the end of a prompt: it is less than half of a path. The rest of more than that comes,
    /// however long a program works between two buffers full of output.
    pub fn holds_little(&self) -> bool {
        let of = self.from.iter().filter(|(f, _)| f.starts_with(&self.held));
        self.holds()
            && of
                .map(|(f, _)| f.len())
                .min()
                .is_none_or(|len| self.held.len() * 2 < len)
    }

    /// Takes a piece; what of it, and of the pieces before, can go out.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(piece);
        self.binary = self.binary || piece.contains(&0);
        if self.binary {
            return text;
        }
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(slash) = text[at..].iter().position(|b| *b == self.first()) {
            let here = at + slash;
            let rest = &text[here..];
            if let Some((f, to)) = self.from.iter().find(|(f, _)| rest.starts_with(f)) {
                out.extend_from_slice(&text[at..here]);
                out.extend_from_slice(to);
                at = here + f.len();
            } else if self.from.iter().any(|(f, _)| f.starts_with(rest)) {
                // It may go on in the next piece.
                out.extend_from_slice(&text[at..here]);
                self.held = rest.to_vec();
                return out;
            } else {
                out.extend_from_slice(&text[at..=here]);
                at = here + 1;
            }
        }
        out.extend_from_slice(&text[at..]);
        out
    }

    /// What is held back, when nothing more comes for now.
    pub fn flush(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// The byte that all of them begin with: they are absolute.
    fn first(&self) -> u8 {
        self.from.first().map_or(b'/', |(f, _)| f[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(rewriter: &mut Rewriter, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out: Vec<u8> = pieces.iter().flat_map(|p| rewriter.push(p)).collect();
        out.extend(rewriter.flush());
        out
    }

    fn rewriter() -> Rewriter {
        let to = || b"/home/me/app".to_vec();
        Rewriter::new([
            (b"/m/tree/app".to_vec(), to()),
            (b"/real/m/tree/app".to_vec(), to()),
        ])
    }

    #[test]
    fn paths_are_rewritten_however_the_text_is_cut() {
        let text: &[u8] = b"/m/tree/app/x.py:1: /m/m/tree/app//m/tree/ap /real/m/tree/app/y \xff /m/tree/app";
        let want: &[u8] = b"/home/me/app/x.py:1: /m/home/me/app//m/tree/ap /home/me/app/y \xff /home/me/app";
        assert_eq!(all(&mut rewriter(), &[text]), want);
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(all(&mut rewriter(), &[a, b]), want, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(all(&mut rewriter(), &single), want);
    }

    #[test]
    fn what_is_held_is_never_more_than_a_path_and_comes_out() {
        let mut r = rewriter();
        assert_eq!(r.push(b"name? /m/t"), b"name? ");
        assert!(r.holds_little());
        assert_eq!(r.flush(), b"/m/t");
        assert_eq!(r.push(b"ree/app"), b"ree/app");
        assert!(!r.holds_little(), "nothing");
        assert_eq!(r.push(b"at /m/tree"), b"at ");
        assert!(r.holds() && !r.holds_little(), "its end comes");
        assert_eq!(r.push(b"/app/x"), b"/home/me/app/x");
    }

    #[test]
    fn binary_output_passes() {
        let mut r = rewriter();
        let out = all(
            &mut r,
            &[b"/m/tree/app ", b"\x7fELF\0/m/tree/app", b"/m/tree/app"],
        );
        assert_eq!(out, b"/home/me/app \x7fELF\0/m/tree/app/m/tree/app");
    }
}
