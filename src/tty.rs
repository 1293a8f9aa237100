//! What both sides say of a terminal: its size and its modes, in a form that does not hang on either system's numbers.

use rustix::termios::{InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios, Winsize};
use serde::{Deserialize, Serialize};

/// The terminal that a run gets on the node, after the one of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Which of the three descriptors are terminals here and become one there.
    pub stdin: bool,
    /// As `stdin`.
    pub stdout: bool,
    /// As `stdin`.
    pub stderr: bool,
    /// The window.
    pub size: Size,
    /// How it treats what is typed and printed.
    pub modes: Modes,
}

/// A window's size in rows, columns and pixels (0 where unknown).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
    /// Pixels across and down.
    pub pixels: (u16, u16),
}

impl From<Winsize> for Size {
    fn from(w: Winsize) -> Size {
        Size {
            rows: w.ws_row,
            columns: w.ws_col,
            pixels: (w.ws_xpixel, w.ws_ypixel),
        }
    }
}

impl From<Size> for Winsize {
    fn from(s: Size) -> Winsize {
        Winsize {
            ws_row: s.rows,
            ws_col: s.columns,
            ws_xpixel: s.pixels.0,
            ws_ypixel: s.pixels.1,
        }
    }
}

/// The modes that programs and people notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// One bit for each of the tables below, in their order.
    flags: u32,
    /// The characters of [`CHARS`].
    chars: [u8; 9],
}

const INPUT: [InputModes; 7] = [
    InputModes::ICRNL,
    InputModes::INLCR,
    InputModes::IGNCR,
    InputModes::IXON,
    InputModes::IXOFF,
    InputModes::IXANY,
    InputModes::IMAXBEL,
];
const OUTPUT: [OutputModes; 2] = [OutputModes::OPOST, OutputModes::ONLCR];
const LOCAL: [LocalModes; 9] = [
    LocalModes::ISIG,
    LocalModes::ICANON,
    LocalModes::ECHO,
    LocalModes::ECHOE,
    LocalModes::ECHOK,
    LocalModes::ECHONL,
    LocalModes::ECHOCTL,
    LocalModes::ECHOKE,
    LocalModes::IEXTEN,
];
/// The bit of UTF-8 input, which not every system knows.
const UTF8: u32 = 1 << 31;

const CHARS: [SpecialCodeIndex; 9] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VWERASE,
];

impl Modes {
    /// Those of `t`.
    pub fn of(t: &Termios) -> Modes {
        let bits = INPUT
            .iter()
            .map(|f| t.input_modes.contains(*f))
            .chain(OUTPUT.iter().map(|f| t.output_modes.contains(*f)))
            .chain(LOCAL.iter().map(|f| t.local_modes.contains(*f)));
        let mut flags = bits.enumerate().fold(0, |all, (i, on)| all | u32::from(on) << i);
        if has_utf8(t) {
            flags |= UTF8;
        }
        Modes {
            flags,
            chars: CHARS.map(|c| t.special_codes[c]),
        }
    }

    /// Sets them in `t`.
    pub fn apply(&self, t: &mut Termios) {
        let mut bit = 0;
        let mut next = || {
            bit += 1;
            self.flags & (1 << (bit - 1)) != 0
        };
        for f in INPUT {
            t.input_modes.set(f, next());
        }
        for f in OUTPUT {
            t.output_modes.set(f, next());
        }
        for f in LOCAL {
            t.local_modes.set(f, next());
        }
        set_utf8(t, self.flags & UTF8 != 0);
        for (index, c) in CHARS.iter().zip(self.chars) {
            t.special_codes[*index] = c;
        }
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn has_utf8(t: &Termios) -> bool {
    t.input_modes.contains(InputModes::IUTF8)
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn set_utf8(t: &mut Termios, on: bool) {
    t.input_modes.set(InputModes::IUTF8, on);
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn has_utf8(_: &Termios) -> bool {
    false
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn set_utf8(_: &mut Termios, _: bool) {}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::tcgetattr;

    #[test]
    fn modes_survive_the_journey() {
        let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let mut t = tcgetattr(&pty).unwrap();
        let plain = Modes::of(&t);
        t.local_modes.remove(LocalModes::ECHO);
        t.output_modes.remove(OutputModes::ONLCR);
        t.special_codes[SpecialCodeIndex::VERASE] = 8;
        let changed = Modes::of(&t);
        assert_ne!(changed, plain);
        let mut other = tcgetattr(&pty).unwrap();
        changed.apply(&mut other);
        assert_eq!(Modes::of(&other), changed);
        assert!(!other.local_modes.contains(LocalModes::ECHO));
        plain.apply(&mut other);
        assert_eq!(Modes::of(&other), plain);
    }
}
