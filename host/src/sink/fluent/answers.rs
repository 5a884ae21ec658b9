//! What a forward server says, one value after the other.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::msgpack::{self, Value};
use crate::sink::peers::stalled;

/// No answer is longer: the largest has a reason for people.
const MOST_BYTES: usize = 64 << 10;

/// Reads answers of one connection.
pub(super) struct Answers {
    bytes: Vec<u8>,
    patience: Duration,
}

impl Answers {
    /// Waits so long at most for each.
    pub fn new(patience: Duration) -> Self {
        Self {
            bytes: Vec::new(),
            patience,
        }
    }

    /// How long it waits.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The next answer.
    pub async fn next(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Value> {
        loop {
            let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
            match msgpack::read(&self.bytes) {
                Ok(Some((value, length))) => {
                    self.bytes.drain(..length);
                    return Ok(value);
                }
                Ok(None) if self.bytes.len() < MOST_BYTES => {}
                _ => return Err(invalid("it answers something else than MessagePack")),
            }
            let read = timeout(self.patience, reader.read_buf(&mut self.bytes)).await;
            if read.map_err(|_| stalled(self.patience))?? == 0 {
                let what = "the server closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
        }
    }
}
