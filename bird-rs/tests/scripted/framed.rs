//! Whole BGP messages off a connection, for the scripted speakers of several suites.

use std::io::{self, Read as _};
use std::net::TcpStream;

/// A connection, and what of a message has come in.
pub(crate) struct Framed {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Framed {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let buffer = Vec::new();
        Framed { stream, buffer }
    }

    /// The next message: its type and what follows the header.
    pub(crate) fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some(length) = self.buffer.get(16..18) {
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                if self.buffer.len() >= length {
                    let rest = self.buffer.split_off(length);
                    let message = std::mem::replace(&mut self.buffer, rest);
                    return Ok((message[18], message[19..].to_vec()));
                }
            }
            let mut chunk = [0; 65_536];
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend(&chunk[..count]);
        }
    }
}
