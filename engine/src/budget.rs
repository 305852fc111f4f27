//! One limit on the memory of a process, divided among those who take it. Pure.
//!
//! Why a division: what a run holds is decided in many places (rows between steps, decoded frames, packet times, blocks of remote files, shards in
//! the making, sessions of models, decoders at work), each with a limit of its own. `[engine] memory_limit_bytes` sets them together; a key that
//! names one of them wins. How many decoders work at once follows from what is left.
//!
//! What can go wrong: a decoder that takes more than [`DECODER_BYTES`] (pictures beyond 1080p), or a library that keeps what it should free. So the
//! process also looks at what it really takes: near the limit it behaves as if the rows in flight were too many, and opens no new split until it
//! takes less (see [`crate::pool`]).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The program, its libraries, its threads and what the allocator keeps: 130 to 190 MiB were measured.
pub const BASE_BYTES: u64 = 192 << 20;
/// One decoder or encoder at work with its pictures, up to 1080p: 100 to 245 MiB were measured.
pub const DECODER_BYTES: u64 = 256 << 20;
/// A decoder process by itself.
pub const DECODER_PROCESS_BYTES: u64 = 128 << 20;
/// Frames that are kept for the next step, at most.
pub const MOST_FRAME_BYTES: u64 = 256 << 20;
/// Packet times that are kept, at most.
pub const MOST_PACKET_BYTES: u64 = 64 << 20;
/// Blocks of remote files that are kept, at most.
pub const MOST_BLOCK_BYTES: u64 = 256 << 20;
/// Rows in flight without a limit on memory.
pub const DEFAULT_ROW_BYTES: u64 = 1 << 30;

/// Shares of what base and sinks leave, in 32nds.
const ROWS: u64 = 8;
const MODELS: u64 = 8;
const FRAMES: u64 = 4;
const PACKETS: u64 = 1;
const BLOCKS: u64 = 2;
const WHOLE: u64 = 32;

/// Who takes memory in a run of this pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// The limit.
    pub limit_bytes: u64,
    /// Shards in the making, of all sinks.
    pub sink_bytes: u64,
    /// Rows in flight, if a key names them.
    pub row_bytes: Option<u64>,
    /// Threads that decode, if nothing held them back; 0: nothing decodes.
    pub decode_threads: usize,
    /// A key names that number.
    pub decode_threads_given: bool,
    /// Decoding happens in processes of its own.
    pub decoder_processes: bool,
    /// Models are opened.
    pub models: bool,
}

/// What each may take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryShares {
    /// The whole.
    pub limit: u64,
    /// Program and libraries.
    pub base: u64,
    /// Shards in the making.
    pub sinks: u64,
    /// Rows between source and commit.
    pub rows: u64,
    /// Decoded frames for the next step.
    pub frames: u64,
    /// Packet times.
    pub packets: u64,
    /// Blocks of remote files.
    pub blocks: u64,
    /// Sessions of models.
    pub models: u64,
    /// Decoders at work.
    pub decoding: u64,
    /// How many of these at once.
    pub decode_threads: usize,
}

/// The limit of this process, as operators find it among the shared things; `None`: there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit(pub Option<MemoryShares>);

/// A limit that is too small for a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSmall {
    /// As given.
    pub limit: u64,
    /// The least that would do.
    pub least: u64,
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory_limit_bytes = {} ({}) is too small for this pipeline", self.limit, mib(self.limit))
    }
}

impl TooSmall {
    /// What to do.
    pub fn help(&self) -> String {
        format!(
            "it needs at least {} ({}): {} for the program, and room for shards (row_group_mib of the sinks), rows and one decoder",
            self.least,
            mib(self.least),
            mib(BASE_BYTES)
        )
    }
}

/// Divides the limit.
pub fn divide(needs: &Needs) -> Result<MemoryShares, TooSmall> {
    let limit = needs.limit_bytes;
    let decoder = DECODER_BYTES + if needs.decoder_processes { DECODER_PROCESS_BYTES } else { 0 };
    let one_decoder = if needs.decode_threads > 0 { decoder } else { 0 };
    let shared = |rest: u64, parts: u64| rest / WHOLE * parts;
    let models = if needs.models { MODELS } else { 0 };
    // What the others take of 32 parts at most; rows that a key names come off before.
    let parts = models + FRAMES + PACKETS + BLOCKS + if needs.row_bytes.is_some() { 0 } else { ROWS };
    let taken = BASE_BYTES + needs.sink_bytes + needs.row_bytes.unwrap_or_default();
    let least = taken + (one_decoder.max(WHOLE << 20)).div_ceil(WHOLE - parts) * WHOLE + WHOLE;
    let rest = match limit.checked_sub(taken) {
        Some(rest) if limit >= least => rest,
        _ => return Err(TooSmall { limit, least }),
    };
    let rows = needs.row_bytes.unwrap_or(shared(rest, ROWS));
    let frames = shared(rest, FRAMES).min(MOST_FRAME_BYTES);
    let packets = shared(rest, PACKETS).min(MOST_PACKET_BYTES);
    let blocks = shared(rest, BLOCKS).min(MOST_BLOCK_BYTES);
    let models = shared(rest, models);
    let decoding = limit - taken - (rows - needs.row_bytes.unwrap_or_default()) - frames - packets - blocks - models;
    let fit = usize::try_from(decoding / decoder).unwrap_or(usize::MAX);
    let decode_threads = match needs.decode_threads {
        given if needs.decode_threads_given => given,
        wanted => wanted.min(fit),
    };
    Ok(MemoryShares {
        limit,
        base: BASE_BYTES,
        sinks: needs.sink_bytes,
        rows,
        frames,
        packets,
        blocks,
        models,
        decoding,
        decode_threads,
    })
}

impl MemoryShares {
    /// What a decoder process may keep when there are as many as threads that decode.
    pub fn of_decoder_process(mut self) -> MemoryShares {
        let processes = self.decode_threads.max(1) as u64;
        for share in [&mut self.frames, &mut self.packets, &mut self.blocks, &mut self.models] {
            *share /= processes;
        }
        self
    }
}

impl fmt::Display for MemoryShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryShares { limit, base, sinks, rows, frames, packets, blocks, models, decoding, decode_threads } = *self;
        write!(
            f,
            "{} for this process: program {}, shards {}, rows in flight {}, frames {}, packet times {}, remote blocks {}, models {}, \
             decoding {} ({decode_threads} at once)",
            mib(limit),
            mib(base),
            mib(sinks),
            mib(rows),
            mib(frames),
            mib(packets),
            mib(blocks),
            mib(models),
            mib(decoding)
        )
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn video(limit_bytes: u64) -> Needs {
        Needs { limit_bytes, sink_bytes: 176 << 20, decode_threads: 16, ..Needs::default() }
    }

    #[test]
    fn four_gib_are_divided() {
        insta::assert_snapshot!(divide(&video(4 * GIB)).unwrap(), @"4096 MiB for this process: program 192 MiB, shards 176 MiB, rows in flight 932 MiB, frames 256 MiB, packet times 64 MiB, remote blocks 233 MiB, models 0 MiB, decoding 2243 MiB (8 at once)");
        let contained = divide(&Needs { decoder_processes: true, models: true, ..video(4 * GIB) }).unwrap();
        assert_eq!((contained.decode_threads, contained.models), (3, 932 << 20));
        assert_eq!(contained.of_decoder_process().frames, contained.frames / 3);
    }

    #[test]
    fn keys_that_name_a_share_win() {
        let rows = divide(&Needs { row_bytes: Some(GIB / 2), ..video(4 * GIB) }).unwrap();
        assert_eq!(rows.rows, GIB / 2);
        let threads = divide(&Needs { decode_threads_given: true, ..video(GIB) }).unwrap();
        assert_eq!(threads.decode_threads, 16);
    }

    #[test]
    fn too_little_says_how_much_would_do() {
        let e = divide(&video(GIB / 2)).unwrap_err();
        insta::assert_snapshot!(e, @"memory_limit_bytes = 536870912 (512 MiB) is too small for this pipeline");
        insta::assert_snapshot!(e.help(), @"it needs at least 891166272 (849 MiB): 192 MiB for the program, and room for shards (row_group_mib of the sinks), rows and one decoder");
        let enough = divide(&video(e.least)).unwrap();
        assert_eq!(enough.decode_threads, 1);
        assert!(divide(&video(e.least - (2 << 20))).is_err());
    }

    proptest! {
        #[test]
        fn the_shares_never_sum_up_to_more_than_the_limit(
            limit_bytes in 0u64..(64 << 30), sink_bytes in 0u64..(1 << 30), row_bytes in proptest::option::of(0u64..(2 << 30)),
            decode_threads in 0usize..64, decoder_processes: bool, models: bool,
        ) {
            let decode_threads_given = false;
            let needs = Needs { limit_bytes, sink_bytes, row_bytes, decode_threads, decode_threads_given, decoder_processes, models };
            match divide(&needs) {
                Ok(s) => {
                    let sum = s.base + s.sinks + s.rows + s.frames + s.packets + s.blocks + s.models + s.decoding;
                    prop_assert_eq!(sum, limit_bytes);
                    let each = DECODER_BYTES + if decoder_processes { DECODER_PROCESS_BYTES } else { 0 };
                    prop_assert!(s.decode_threads as u64 * each <= s.decoding && s.decode_threads <= decode_threads);
                    prop_assert!(decode_threads == 0 || s.decode_threads > 0);
                }
                Err(e) => {
                    prop_assert!(e.least > limit_bytes);
                    prop_assert!(divide(&Needs { limit_bytes: e.least, ..needs }).is_ok());
                }
            }
        }
    }
}
