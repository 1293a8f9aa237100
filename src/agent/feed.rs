//! What streams into a run: the command's standard input, and the pack before it.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver, Sender};

use super::log::{Event, Log};
use crate::proto::{Down, Up};

/// Feeds the command's standard input without ever holding up the supervisor.
pub struct Stdin {
    to: Sender<Vec<u8>>,
    /// What a terminal takes for the end of input; a pipe is closed instead.
    end: Option<u8>,
    /// Whether the last byte ended a line.
    fresh: bool,
}

impl Stdin {
    /// Starts the thread that writes to `file`; `log` tells the client what was taken. `end` is a terminal's end of input.
    pub fn new(mut file: File, log: Log, end: Option<u8>) -> Stdin {
        let (tx, rx) = mpsc::channel::<Vec<u8>>();
        std::thread::spawn(move || {
            while let Ok(data) = rx.recv() {
                // A command that closed its input has had enough; the rest is taken and dropped.
                let _ = file.write_all(&data);
                log.say(&Down::Took(data.len() as u32));
            }
        });
        Stdin {
            to: tx,
            end,
            fresh: true,
        }
    }

    /// Hands a piece on.
    pub fn write(&mut self, data: Vec<u8>) {
        self.fresh = data.last().is_none_or(|b| *b == b'\n');
        let _ = self.to.send(data);
    }

    /// Nothing more will come.
    pub fn finish(self) {
        if let Some(end) = self.end {
            // In the middle of a line the first one only sends what was typed of it.
            let _ = self.to.send(vec![end; if self.fresh { 1 } else { 2 }]);
        }
    }
}

/// The pack as it arrives, as a reader.
pub struct PackInput<'a> {
    events: &'a Receiver<Event>,
    piece: Vec<u8>,
    at: usize,
    /// The client is gone or took the run back.
    pub quit: bool,
    ended: bool,
}

impl PackInput<'_> {
    /// From what the client sends.
    pub fn new(events: &Receiver<Event>) -> PackInput<'_> {
        PackInput {
            events,
            piece: Vec::new(),
            at: 0,
            quit: false,
            ended: false,
        }
    }

    /// Reads to the end of the pack: nothing of it may be taken for a later message.
    pub fn drain(&mut self) {
        let mut rest = [0; 4096];
        while matches!(self.read(&mut rest), Ok(n) if n > 0) {}
    }
}

impl Read for PackInput<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.piece.len() {
            if self.ended {
                return Ok(0);
            }
            match self.events.recv() {
                Ok(Event::Up(Up::Pack(data))) => (self.piece, self.at) = (data, 0),
                Ok(Event::Up(Up::PackEnd)) => self.ended = true,
                Ok(Event::Up(Up::Beat)) => {}
                _ => {
                    self.quit = true;
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
        let n = buf.len().min(self.piece.len() - self.at);
        buf[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
