//! A download that goes on where the connection broke.
//!
//! Why: the largest models have more than a gigabyte, and proxies cut long answers. The content is hashed by whoever reads, so a server that changes the file in
//! between is found out. What can go wrong: a server without ranges sends everything again; what is known already is read and thrown away.

use std::io::{Error, ErrorKind, Read, Result};
use std::time::Duration;

/// Times that one download is asked for again.
pub const MAX_RESUMES: u32 = 5;
/// First pause before asking again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What a server gives from a position on.
pub(super) struct Body {
    /// The bytes.
    pub reader: Box<dyn Read>,
    /// Where they start: the position asked for, or 0.
    pub start: u64,
}

/// Reads a body, asking again at the position reached when it breaks.
pub(super) struct Resuming<F> {
    open: F,
    body: Option<Body>,
    position: u64,
    resumes_left: u32,
    pause: Duration,
}

impl<F: FnMut(u64) -> Result<Body>> Resuming<F> {
    /// On an answer that has begun at 0; `open` asks from a position on.
    pub fn new(first: Body, open: F) -> Self {
        Resuming { open, body: Some(first), position: 0, resumes_left: MAX_RESUMES, pause: FIRST_PAUSE }
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let mut body = (self.open)(self.position)?;
                let known = self.position.checked_sub(body.start).ok_or_else(|| Error::other("the server skipped bytes"))?;
                let skipped = std::io::copy(&mut body.reader.by_ref().take(known), &mut std::io::sink())?;
                if skipped < known {
                    return Err(Error::new(ErrorKind::UnexpectedEof, "the answer is shorter than before"));
                }
                self.body.insert(body)
            }
        };
        body.reader.read(buffer)
    }
}

impl<F: FnMut(u64) -> Result<Body>> Read for Resuming<F> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.read_once(buffer) {
                Ok(n) => {
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if self.resumes_left == 0 => return Err(e),
                Err(e) => {
                    tracing::warn!(at_bytes = self.position, "A download broke ({e}); asking for the rest");
                    self.resumes_left -= 1;
                    self.body = None;
                    std::thread::sleep(self.pause);
                    self.pause *= 2;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &[u8] = b"0123456789";

    /// Gives `lengths[i]` bytes at the i-th opening and breaks then, unless that is all.
    struct Breaking(&'static [u8], usize);

    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let n = buffer.len().min(self.0.len()).min(self.1).min(3);
            if n == 0 && !self.0.is_empty() {
                return Err(Error::from(ErrorKind::ConnectionReset));
            }
            buffer[..n].copy_from_slice(&self.0[..n]);
            (self.0, self.1) = (&self.0[n..], self.1 - n);
            Ok(n)
        }
    }

    fn body(from: u64, breaks_after: usize) -> Body {
        Body { reader: Box::new(Breaking(&CONTENT[from as usize..], breaks_after)), start: from }
    }

    fn read(mut reader: Resuming<impl FnMut(u64) -> Result<Body>>) -> Result<Vec<u8>> {
        reader.pause = Duration::ZERO;
        let mut out = Vec::new();
        reader.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn a_broken_download_goes_on_where_it_broke() {
        let mut asked = Vec::new();
        let got = read(Resuming::new(body(0, 4), |from| {
            asked.push(from);
            Ok(body(from, if asked.len() < 3 { 2 } else { 99 }))
        }));
        assert_eq!(got.unwrap(), CONTENT);
        assert_eq!(asked, [4, 6, 8]);
    }

    #[test]
    fn a_server_without_ranges_is_read_again_from_the_start() {
        assert_eq!(read(Resuming::new(body(0, 7), |_| Ok(body(0, 99)))).unwrap(), CONTENT);
    }

    #[test]
    fn it_ends_after_some_tries() {
        let mut tries = 0;
        let got = read(Resuming::new(body(0, 4), |_| {
            tries += 1;
            Err(Error::from(ErrorKind::ConnectionRefused))
        }));
        assert_eq!(got.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(tries, MAX_RESUMES);
    }
}
