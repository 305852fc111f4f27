//! What a trainer says: one JSON object a line on its standard output.
//!
//! Why lines: they survive a killed writer, need no library on the other side, and a person can read them. What can go wrong: a line that is no event
//! (a stray print, a half line of a killed process). It is [`Garbage`], which is counted and never ends the reading. Types that this version does not
//! know are [`Body::Unknown`] and are ignored, so a trainer may say more than we understand.

use std::io::{BufRead, ErrorKind};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of the protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;
/// A longer line is garbage, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// So much of a garbage line is shown, in characters.
const SHOWN_CHARACTERS: usize = 120;

/// One line of a trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Number of the line, from 1 in each attempt.
    #[serde(default)]
    pub seq: u64,
    /// Seconds since 1970 by the trainer's clock.
    #[serde(default)]
    pub ts: f64,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Body {
    /// The first event: the trainer lives and speaks this version of the protocol.
    Hello {
        /// See [`PROTOCOL`].
        proto: u32,
    },
    /// Versions of what it runs on; they enter the provenance of the adapter.
    Env {
        /// Name to version.
        #[serde(flatten)]
        versions: Map<String, Value>,
    },
    /// What it is about to train.
    Plan {
        /// Tensors of the adapter, which the published file must have.
        tensors: u64,
        /// Numbers in them.
        #[serde(default)]
        params: u64,
    },
    /// It has taken over a shard of the spool.
    ShardAccepted {
        /// File name.
        shard: String,
    },
    /// It waits for samples. Said once, not while it waits.
    Starved {
        /// Samples consumed so far.
        #[serde(default)]
        cursor: u64,
    },
    /// It goes on after [`Body::Starved`].
    Fed {
        /// Samples consumed so far.
        #[serde(default)]
        cursor: u64,
    },
    /// An optimiser step is done.
    Step {
        /// Its number, from 1. Steps are said again after a crash; the last attempt counts.
        step: u64,
        /// Mean loss; `null` when it is not a finite number, which JSON has no form for.
        loss: Option<f64>,
        /// Samples consumed so far.
        #[serde(default)]
        cursor: u64,
        /// Milliseconds that it took.
        #[serde(default)]
        ms: f64,
    },
    /// The loss on a fixed grid of noise levels and noise, with the adapter and without.
    Eval {
        /// After this step.
        step: u64,
        /// With the adapter.
        loss: f64,
        /// Without it.
        base_loss: f64,
    },
    /// A checkpoint is on the disk, synced.
    Checkpoint {
        /// After this step.
        step: u64,
        /// Folder name below the job's `out`.
        dir: String,
    },
    /// It goes on from a checkpoint.
    Resumed {
        /// After this step.
        step: u64,
    },
    /// It lives.
    Heartbeat {},
    /// Something that a person should read.
    Warning {
        /// What.
        message: String,
    },
    /// Why it is about to end with a code other than 0.
    Error {
        /// `data`, `nan`, `memory`, `device`, `job` (trying again cannot help), or a word of the trainer's own.
        kind: String,
        /// The sample that is bad.
        #[serde(default)]
        sample: Option<String>,
        /// The cursor at which the batch in question starts.
        #[serde(default)]
        cursor: Option<u64>,
        /// Details.
        #[serde(default)]
        message: String,
    },
    /// One clip could not be encoded (`prepare`).
    Refused {
        /// The clip.
        sample: String,
        /// A word for the reason.
        code: String,
        /// Details.
        #[serde(default)]
        message: String,
    },
    /// The adapter was loaded in a fresh process (`verify`).
    Verified {
        /// The largest change of the model's output by the adapter.
        max_change: f64,
    },
    /// It stopped on request, after a checkpoint.
    Stopped {
        /// After this step.
        step: u64,
    },
    /// All is done.
    Done {
        /// After this step.
        #[serde(default)]
        step: u64,
    },
    /// Something newer than this version.
    #[serde(other)]
    Unknown,
}

/// A line that is no event: why, and how it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage(pub String);

/// Reads one line, without its end.
pub fn parse(line: &[u8]) -> Result<Event, Garbage> {
    serde_json::from_slice(line).map_err(|e| {
        let shown: String = String::from_utf8_lossy(line).chars().take(SHOWN_CHARACTERS).collect();
        Garbage(format!("{e}: {shown}"))
    })
}

/// Reads lines until the end; of a line longer than [`MAX_LINE_BYTES`] the rest is skipped, so memory is bounded whatever comes. `each` returns false
/// to end the reading. A read error ends it like the end of the stream: the process is gone, and its exit tells why.
pub fn read_lines(mut from: impl BufRead, mut each: impl FnMut(Result<Event, Garbage>) -> bool) {
    let mut line = Vec::new();
    let mut skipping = false;
    loop {
        let (taken, ended) = match from.fill_buf() {
            Ok([]) => break,
            Ok(there) => {
                let (part, ended) = match there.iter().position(|b| *b == b'\n') {
                    Some(end) => (&there[..end], true),
                    None => (there, false),
                };
                let room = (MAX_LINE_BYTES + 1).saturating_sub(line.len());
                line.extend_from_slice(&part[..part.len().min(room)]);
                (part.len() + usize::from(ended), ended)
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        from.consume(taken);
        skipping |= line.len() > MAX_LINE_BYTES;
        if ended {
            let blank = line.iter().all(u8::is_ascii_whitespace);
            let event = if skipping { Err(Garbage(format!("a line of more than {MAX_LINE_BYTES} bytes"))) } else { parse(&line) };
            if (skipping || !blank) && !each(event) {
                return;
            }
            line.clear();
            skipping = false;
        }
    }
    if !line.is_empty() {
        let shown: String = String::from_utf8_lossy(&line).chars().take(SHOWN_CHARACTERS).collect();
        each(Err(Garbage(format!("a line without an end: {shown}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bodies(text: &[u8]) -> Vec<Result<Body, String>> {
        let mut out = Vec::new();
        read_lines(text, |event| {
            out.push(event.map(|e| e.body).map_err(|g| g.0));
            true
        });
        out
    }

    #[test]
    fn events_garbage_and_the_unknown_are_told_apart() {
        let text = b"{\"v\":1,\"seq\":1,\"t\":\"hello\",\"proto\":1,\"pid\":7}\nLoading weights\n\n\
            {\"t\":\"step\",\"step\":3,\"loss\":0.5,\"lr\":1e-4}\n\
            {\"t\":\"weather\",\"sun\":true}\n{\"t\":\"step\",\"loss\":NaN}\n{\"t\":\"step\",\"step\":4,\"loss\":null}\n{\"t\":\"do";
        let got = bodies(text);
        assert_eq!(got.len(), 7);
        assert_eq!(got[0], Ok(Body::Hello { proto: 1 }));
        assert!(got[1].as_ref().is_err_and(|e| e.ends_with("Loading weights")));
        assert_eq!(got[2], Ok(Body::Step { step: 3, loss: Some(0.5), cursor: 0, ms: 0.0 }));
        assert_eq!(got[3], Ok(Body::Unknown));
        assert!(got[4].is_err());
        assert_eq!(got[5], Ok(Body::Step { step: 4, loss: None, cursor: 0, ms: 0.0 }));
        assert!(got[6].as_ref().is_err_and(|e| e.contains("without an end")));
    }

    #[test]
    fn an_endless_line_takes_bounded_memory_and_the_next_one_is_read() {
        let mut text = vec![b'x'; 3 * MAX_LINE_BYTES];
        text.extend_from_slice(b"\n{\"t\":\"heartbeat\"}\n");
        let got = bodies(&text);
        assert!(got[0].as_ref().is_err_and(|e| e.contains("more than 1048576 bytes")), "{got:?}");
        assert_eq!(got[1..], [Ok(Body::Heartbeat {})]);
    }

    proptest! {
        /// Whatever comes, and in whatever pieces: each line gives one answer, and nothing panics.
        #[test]
        fn any_bytes_are_read_line_by_line(text in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..9) {
            let mut got = 0;
            read_lines(std::io::BufReader::with_capacity(piece, &text[..]), |_| { got += 1; true });
            let whole = text.iter().filter(|b| **b == b'\n').count();
            let blank = text.split(|b| *b == b'\n').take(whole).filter(|l| l.iter().all(u8::is_ascii_whitespace)).count();
            let tail = usize::from(text.last().is_some_and(|b| *b != b'\n'));
            prop_assert_eq!(got, whole - blank + tail);
        }
    }
}
