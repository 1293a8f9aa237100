//! Output in bulk: many pieces as one LZ4 block.
//!
//! A command that says more than its stream takes away is held back by what lies between: ssh's encryption and some copies at
//! each end, or a slow network. Logs, like source, shrink to a fraction at a small part of that cost. What is said in
//! small pieces goes as it is, and so does what does not shrink.

use std::borrow::Cow;
use std::io;

use lz4_flex::block;

/// Fewer bytes than this go as they are.
const LEAST: usize = 16 << 10;

/// As many bytes make one block at most.
pub const MOST: usize = 256 << 10;

/// So many blocks go as they are after one that did not shrink.
const PAUSE: u32 = 31;

/// Makes blocks.
#[derive(Default)]
pub struct Squeezer {
    /// Blocks that are not tried, since one before them did not shrink.
    pause: u32,
}

impl Squeezer {
    /// The block of all `parts`, one behind the other; `None` where that is not worth it.
    pub fn squeeze(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if !(LEAST..=MOST).contains(&len) {
            return None;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let data = match parts {
            [one] => Cow::Borrowed(*one),
            _ => Cow::Owned(parts.concat()),
        };
        let mut out = vec![0; block::get_maximum_output_size(len)];
        let squeezed = block::compress_into(&data, &mut out).ok()?;
        if squeezed > len / 8 * 7 {
            self.pause = PAUSE;
            return None;
        }
        out.truncate(squeezed);
        Some(out)
    }
}

/// The bytes that `data` is the block of, if these are as many as `pieces` say.
///
/// # Errors
/// `InvalidData` for anything else, and for more than [`MOST`].
pub fn unfold(pieces: &[(u8, u32)], data: &[u8]) -> io::Result<Vec<u8>> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let len: u64 = pieces.iter().map(|(_, n)| u64::from(*n)).sum();
    if len > MOST as u64 {
        return Err(bad(format!("a block of {len} bytes")));
    }
    let mut out = vec![0; len as usize];
    match block::decompress_into(data, &mut out) {
        Ok(n) if n == out.len() => Ok(out),
        Ok(n) => Err(bad(format!("a block of {n} bytes that was to hold {len}"))),
        Err(e) => Err(bad(format!("a damaged block: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_comes_back_whole_and_what_does_not_is_left_alone() {
        let text = b"test result: ok. 12 passed; 0 failed\n".repeat(2000);
        let mut squeezer = Squeezer::default();
        let block = squeezer.squeeze(&[&text]).unwrap();
        assert!(block.len() < text.len() / 10);
        let pieces = [(1, 1000), (2, text.len() as u32 - 1000)];
        assert_eq!(unfold(&pieces, &block).unwrap(), text);

        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(LEAST)
        .collect();
        assert!(squeezer.squeeze(&[&noise]).is_none());
        // The next ones are not even tried, for a while.
        let until = (0..100).position(|_| squeezer.squeeze(&[&text]).is_some());
        assert_eq!(until, Some(PAUSE as usize));
        assert!(squeezer.squeeze(&[&text[..LEAST - 1]]).is_none());
    }

    #[test]
    fn a_block_that_lies_is_refused() {
        let text = vec![b'x'; LEAST];
        let block = Squeezer::default().squeeze(&[&text]).unwrap();
        let len = text.len() as u32;
        assert_eq!(unfold(&[(1, len)], &block).unwrap(), text);
        for pieces in [&[(1, len - 1)][..], &[(1, len), (2, 1)], &[(1, u32::MAX)], &[]] {
            assert!(unfold(pieces, &block).is_err(), "{pieces:?}");
        }
        for cut in 0..block.len() {
            assert!(unfold(&[(1, len)], &block[..cut]).is_err());
        }
    }
}
