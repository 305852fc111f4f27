//! One message of the handshake as bytes: magic, version, length, JSON.
//!
//! Why JSON: it is read once per connection, and a dump of it explains itself. What can go wrong: anything, because anybody may connect. So a
//! frame has a size limit that is checked before memory is taken, the whole exchange has a deadline that dripping bytes do not extend, and not
//! one byte beyond the frame is read, because what follows belongs to timely.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How every frame begins. The zero byte ends the hopes of text protocols early.
const MAGIC: &[u8; 8] = b"curette\0";

/// Version of the handshake and of what processes send each other afterwards.
pub(super) const VERSION: u16 = 2;

/// Most bytes of one message.
pub(super) const MAX_BODY: usize = 4096;

const HEADER: usize = 12;

/// How often a waiting read looks at the stop flag.
const GLANCE: Duration = Duration::from_millis(100);

/// Why no message could be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("it does not speak curette's protocol: it began with {0:?}")]
    NotCurette(String),
    #[error("it speaks version {theirs} of the protocol, this process version {VERSION}; run the same build everywhere")]
    Version { theirs: u16 },
    #[error("a message of {0} bytes is above the limit of {MAX_BODY}")]
    TooLong(usize),
    #[error("a message that cannot be read: {0}")]
    Garbled(#[from] serde_json::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it did not answer in time")]
    TooSlow,
    #[error("this process stopped waiting")]
    Stopped,
    #[error("{0}")]
    Io(io::Error),
}

/// A connection with a deadline for everything that is said over it.
pub(super) struct Talk<'a> {
    pub stream: &'a TcpStream,
    pub until: Instant,
    pub stop: &'a AtomicBool,
}

impl Talk<'_> {
    /// Sends a message, and gives the bytes of its body.
    pub fn send(&mut self, message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
        let body = serde_json::to_vec(message)?;
        let length =
            u16::try_from(body.len()).ok().filter(|l| usize::from(*l) <= MAX_BODY).ok_or(FrameError::TooLong(body.len()))?;
        let mut frame = Vec::with_capacity(HEADER + body.len());
        frame.extend_from_slice(MAGIC);
        frame.extend_from_slice(&VERSION.to_be_bytes());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&body);
        // A frame fits into an empty send buffer: one timeout for the whole is enough.
        self.stream.set_write_timeout(Some(self.left()?)).map_err(FrameError::Io)?;
        self.stream.write_all(&frame).map_err(|e| if is_timeout(&e) { FrameError::TooSlow } else { closed_or(e) })?;
        Ok(body)
    }

    /// Receives a message, and the bytes of its body.
    pub fn receive<M: DeserializeOwned>(&mut self) -> Result<(M, Vec<u8>), FrameError> {
        let mut header = [0; HEADER];
        // Judge the first bytes alone: a stranger may send fewer than a header and wait.
        self.fill(&mut header[..MAGIC.len()])?;
        if &header[..MAGIC.len()] != MAGIC {
            return Err(FrameError::NotCurette(String::from_utf8_lossy(&header[..MAGIC.len()]).into_owned()));
        }
        self.fill(&mut header[MAGIC.len()..])?;
        let theirs = u16::from_be_bytes([header[8], header[9]]);
        if theirs != VERSION {
            return Err(FrameError::Version { theirs });
        }
        let length = usize::from(u16::from_be_bytes([header[10], header[11]]));
        if length > MAX_BODY {
            return Err(FrameError::TooLong(length));
        }
        let mut body = vec![0; length];
        self.fill(&mut body)?;
        Ok((serde_json::from_slice(&body)?, body))
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), FrameError> {
        while !buffer.is_empty() {
            self.stream.set_read_timeout(Some(self.left()?.min(GLANCE))).map_err(FrameError::Io)?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(n) => buffer = &mut buffer[n..],
                Err(e) if is_timeout(&e) || e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(closed_or(e)),
            }
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration, FrameError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(FrameError::Stopped);
        }
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(FrameError::TooSlow) } else { Ok(left) }
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn closed_or(e: io::Error) -> FrameError {
    match e.kind() {
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => FrameError::Closed,
        _ => FrameError::Io(e),
    }
}
