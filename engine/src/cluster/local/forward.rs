//! Passes on what the children other than the first say, line by line, with their number.
//!
//! Why not let them share the terminal: lines of several processes would mix in the middle, and would be drawn over the progress bar of process
//! 0. What can go wrong: a line without end; it is cut into pieces. JSON lines stay JSON.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

/// Longest line that is passed on in one piece.
const MAX_LINE: u64 = 64 * 1024;

/// What was written but not read when a child died is passed on for at most this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// The readers of one attempt.
#[derive(Default)]
pub(super) struct Output {
    readers: JoinSet<()>,
}

impl Output {
    /// Reads whatever of the child's output is piped.
    pub fn forward(&mut self, index: usize, child: &mut Child) {
        if let Some(stdout) = child.stdout.take() {
            self.readers.spawn(lines(index, stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            self.readers.spawn(lines(index, stderr));
        }
    }

    /// Waits for the last lines. A grandchild that keeps the pipe open does not hold us.
    pub async fn shut(&mut self) {
        let _ = tokio::time::timeout(DRAIN_LIMIT, async { while self.readers.join_next().await.is_some() {} }).await;
        self.readers.abort_all();
    }
}

async fn lines(index: usize, from: impl AsyncRead + Unpin) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = label(index, &line, std::io::stderr().is_terminal());
                // Nothing is left to do if stderr is closed.
                let _ = std::io::stderr().lock().write_all(&text);
            }
        }
    }
}

/// On a terminal the line first wipes the progress bar, which its owner draws again below.
fn label(index: usize, line: &[u8], terminal: bool) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut text = Vec::with_capacity(line.len() + 24);
    if terminal {
        text.extend_from_slice(b"\r\x1b[2K");
    }
    match line.strip_prefix(b"{") {
        Some(rest) if rest.first() == Some(&b'"') => {
            text.extend_from_slice(format!("{{\"process\":{index},").as_bytes());
            text.extend_from_slice(rest);
        }
        _ => {
            text.extend_from_slice(format!("[{index}] ").as_bytes());
            text.extend_from_slice(line);
        }
    }
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_get_a_number_and_json_stays_json() {
        assert_eq!(label(2, b"hello\n", false), b"[2] hello\n");
        assert_eq!(label(2, b"cut", false), b"[2] cut\n");
        assert_eq!(label(1, b"{\"level\":\"INFO\"}\n", false), b"{\"process\":1,\"level\":\"INFO\"}\n");
        assert_eq!(label(1, b"{}\n", false), b"[1] {}\n");
        assert_eq!(label(1, b"x\n", true), b"\r\x1b[2K[1] x\n");
    }
}
