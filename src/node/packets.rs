//! The packets that come on a stream, from one buffer: whoever stops reading between two of them can hand on the rest.

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::proto;

/// What is read from.
pub(super) type Reading = Pin<Box<dyn AsyncRead + Send>>;

/// Bytes read at once.
const READ: usize = 256 << 10;

/// The reading end of a stream.
pub(super) struct Packets {
    from: Reading,
    buf: Vec<u8>,
    /// What of `buf` was taken already.
    at: usize,
}

impl Packets {
    /// Those that come from `from`, `rest` before it.
    pub(super) fn new(from: Reading, rest: Vec<u8>) -> Packets {
        Packets {
            from,
            buf: rest,
            at: 0,
        }
    }

    /// The next one's run and body. Nothing is lost if this is dropped before it is ready.
    ///
    /// # Errors
    /// Those of reading; `InvalidData` for a packet that is too large; `UnexpectedEof` at the end.
    pub(super) async fn next(&mut self) -> io::Result<(u32, &[u8])> {
        let (run, body) = loop {
            let have = &self.buf[self.at..];
            let mut need = 8;
            if let Some(head) = have.first_chunk::<8>() {
                let (len, run) = proto::split_head(head);
                proto::check_len(len)?;
                need += len;
                if have.len() >= need {
                    let begin = self.at + 8;
                    self.at = begin + len;
                    break (run, begin..begin + len);
                }
            }
            if self.fill(need).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        Ok((run, &self.buf[body]))
    }

    /// The next byte; `None` at the end. For what comes before the first packet.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) async fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.at == self.buf.len() && self.fill(1).await? == 0 {
            return Ok(None);
        }
        self.at += 1;
        Ok(self.buf.get(self.at - 1).copied())
    }

    /// What was read and not taken.
    fn rest(&self) -> &[u8] {
        &self.buf[self.at..]
    }

    /// Forgets what was read and not taken: another reader goes on with it.
    pub(super) fn hand_on(&mut self) -> Vec<u8> {
        let rest = self.rest().to_vec();
        self.at = self.buf.len();
        rest
    }

    /// Reads more, into a buffer that has room for `need` bytes that were not taken; how many came.
    async fn fill(&mut self, need: usize) -> io::Result<usize> {
        self.buf.drain(..self.at);
        self.at = 0;
        if self.buf.is_empty() && self.buf.capacity() > 8 * READ {
            // One large packet was an exception.
            self.buf = Vec::new();
        }
        self.buf.reserve(need.max(READ).saturating_sub(self.buf.len()));
        self.from.read_buf(&mut self.buf).await
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::proto::{Up, encode};

    fn reading(stream: &UnixStream) -> Reading {
        let stream = stream.try_clone().unwrap();
        stream.set_nonblocking(true).unwrap();
        Box::pin(tokio::net::UnixStream::from_std(stream).unwrap())
    }

    #[tokio::test]
    async fn another_reader_goes_on_where_one_stopped() {
        let large = encode(2, &Up::Stdin(vec![7; 300_000]));
        let stream = [&encode(1, &Up::Done)[..], &large, &encode(3, &Up::Gone)].concat();
        for cut in [0, 1, 7, 9, 12, 40, 200_000, stream.len() - 1] {
            let (mut to, from) = UnixStream::pair().unwrap();
            let mut one = Packets::new(reading(&from), Vec::new());
            to.write_all(&stream[..cut.min(8)]).unwrap();
            let none = one.next();
            // Given up in the middle of a packet.
            assert!(
                tokio::time::timeout(std::time::Duration::from_millis(5), none)
                    .await
                    .is_err()
            );
            let rest = stream[cut.min(8)..].to_vec();
            let writer = std::thread::spawn(move || to.write_all(&rest));
            if cut > 8 {
                assert_eq!(one.next().await.unwrap(), (1, &encode(1, &Up::Done)[8..]));
            }
            let mut other = Packets::new(reading(&from), one.hand_on());
            assert!(one.rest().is_empty());
            if cut <= 8 {
                assert_eq!(other.next().await.unwrap().0, 1);
            }
            let (run, body) = other.next().await.unwrap();
            assert!(run == 2 && body == &large[8..]);
            assert_eq!(other.next().await.unwrap().0, 3);
            assert!(other.next().await.is_err(), "the end");
            writer.join().unwrap().unwrap();
        }
    }
}
