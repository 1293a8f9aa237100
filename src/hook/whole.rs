//! Where an event ends that comes through a pipe.

/// Finds the end of a JSON object in bytes that come in pieces. It asks only which braces belong together: what is broken in between
/// is for those to refuse who read it.
#[derive(Debug, Default)]
pub(super) struct End {
    /// How many bytes were looked at.
    seen: usize,
    /// Braces that are open.
    open: usize,
    /// In a string.
    quoted: bool,
    /// Right behind a backslash.
    escaped: bool,
}

impl End {
    /// Whether `input`, of which each call sees more, is one object and nothing behind it. Looks only where the last byte allows it, and
    /// at each byte once.
    pub(super) fn reached(&mut self, input: &[u8]) -> bool {
        if !input.trim_ascii_end().ends_with(b"}") || !input.trim_ascii_start().starts_with(b"{") {
            return false;
        }
        let ends_at = input.trim_ascii_end().len();
        let new = input.get(self.seen..ends_at).unwrap_or_default();
        for (i, b) in new.iter().enumerate() {
            match b {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.quoted,
                b'"' => self.quoted = !self.quoted,
                _ if self.quoted => {}
                b'{' => self.open += 1,
                b'}' => {
                    self.open = self.open.saturating_sub(1);
                    if self.open == 0 {
                        return self.seen + i + 1 == ends_at;
                    }
                }
                _ => {}
            }
        }
        self.seen = ends_at;
        false
    }
}
