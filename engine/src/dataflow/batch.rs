//! Arrow record batches as timely containers, and how they travel between workers.
//!
//! A batch knows its split and, at the sinks, which sink it is for. Between threads it moves as it is; between processes as Arrow IPC, decoded
//! without a copy into the received buffer.
//!
//! What can go wrong: timely drops containers with no rows, so an empty batch carries nothing and must not be used as a signal; and
//! timely's decoder has no way to report an error, so bytes that do not decode are a bug of the network layer and end the process.

use std::cell::OnceCell;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

/// Split and sink before the IPC bytes.
const HEADER_BYTES: usize = 8;

/// Rows of one split on one edge.
#[derive(Default, Clone)]
pub struct Batch {
    rows: Option<RecordBatch>,
    split: u32,
    sink: u32,
    wire: OnceCell<Vec<u8>>,
}

impl Batch {
    /// Rows of a split.
    pub fn new(rows: RecordBatch, split: u32) -> Self {
        Batch { rows: Some(rows), split, sink: 0, wire: OnceCell::new() }
    }

    /// The same rows, addressed to a sink.
    pub fn for_sink(rows: RecordBatch, split: u32, sink: u32) -> Self {
        Batch { rows: Some(rows), split, sink, wire: OnceCell::new() }
    }

    /// Split, sink and rows; `None` for the empty container that timely leaves behind.
    pub fn into_parts(self) -> Option<(u32, u32, RecordBatch)> {
        self.rows.map(|rows| (self.split, self.sink, rows))
    }

    fn encoded(&self) -> &[u8] {
        self.wire.get_or_init(|| {
            let mut out = Vec::with_capacity(HEADER_BYTES);
            out.extend_from_slice(&self.split.to_le_bytes());
            out.extend_from_slice(&self.sink.to_le_bytes());
            if let Some(rows) = &self.rows {
                out = encode(rows, out).unwrap_or_else(|e| panic!("cannot encode a record batch for the wire: {e}"));
            }
            out.resize(out.len().next_multiple_of(8), 0);
            out
        })
    }
}

fn encode(rows: &RecordBatch, out: Vec<u8>) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let mut writer = StreamWriter::try_new(out, &rows.schema())?;
    writer.write(rows)?;
    writer.into_inner()
}

fn decode(bytes: bytes::Bytes) -> Result<Option<RecordBatch>, arrow::error::ArrowError> {
    let mut buffer = Buffer::from(bytes);
    StreamDecoder::new().decode(&mut buffer)
}

impl Accountable for Batch {
    fn record_count(&self) -> i64 {
        self.rows.as_ref().map_or(0, |rows| rows.num_rows() as i64)
    }
}

impl ContainerBytes for Batch {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        struct Owner(timely::bytes::arc::Bytes);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let (Some(split), Some(sink)) = (word(0), word(4)) else {
            panic!("a message of {} bytes is too short for a batch", bytes.len());
        };
        let body = bytes::Bytes::from_owner(Owner(bytes)).slice(HEADER_BYTES..);
        let rows = if body.is_empty() {
            None
        } else {
            decode(body).unwrap_or_else(|e| panic!("a record batch from another worker cannot be decoded: {e}"))
        };
        Batch { rows, split, sink, wire: OnceCell::new() }
    }

    fn length_in_bytes(&self) -> usize {
        self.encoded().len()
    }

    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        if let Err(e) = writer.write_all(self.encoded()) {
            panic!("timely communication error: cannot write a batch: {e}");
        }
    }
}

/// Sends rows to workers: by a hash of the row id, or whole batches by their split.
pub enum Route {
    /// By a hash of this column's text.
    ByRow(String),
    /// To the owner of the split.
    BySplit,
}

impl Distributor<Batch> for Route {
    fn partition<T: Clone, P: Push<Message<T, Batch>>>(&mut self, batch: &mut Batch, stamp: &Stamp<T>, pushers: &mut [P]) {
        let peers = pushers.len();
        match self {
            Route::BySplit => {
                let target = owner(batch.split, peers);
                Message::push_at(batch, stamp.clone(), &mut pushers[target]);
            }
            Route::ByRow(column) => {
                let Some((split, sink, rows)) = std::mem::take(batch).into_parts() else { return };
                let mut targets: Vec<Vec<u32>> = vec![Vec::new(); peers];
                let ids = rows.column_by_name(column).and_then(|c| c.as_string_opt::<i32>());
                let Some(ids) = ids else { panic!("the id column `{column}` is missing or not text") };
                for row in 0..ids.len() {
                    targets[(stable_hash(ids.value(row).as_bytes()) % peers as u64) as usize].push(row as u32);
                }
                for (target, indices) in targets.into_iter().enumerate() {
                    if indices.is_empty() {
                        continue;
                    }
                    let part = if indices.len() == rows.num_rows() {
                        rows.clone()
                    } else {
                        arrow::compute::take_record_batch(&rows, &UInt32Array::from(indices))
                            .unwrap_or_else(|e| panic!("cannot take rows of a batch: {e}"))
                    };
                    Message::push_at(&mut Batch::for_sink(part, split, sink), stamp.clone(), &mut pushers[target]);
                }
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Batch>>>(&mut self, _stamp: &Stamp<T>, _pushers: &mut [P]) {}
}

/// The worker that collects a split's results.
pub fn owner(split: u32, peers: usize) -> usize {
    (stable_hash(&split.to_le_bytes()) % peers as u64) as usize
}

/// FNV-1a with a final mix: the same on every machine and in every version, unlike the standard library's.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut h = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    h ^= h >> 32;
    h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ (h >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;

    fn rows() -> RecordBatch {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        RecordBatch::try_from_iter([
            ("id", Arc::new(StringArray::from(vec!["a", "b", "c"])) as Arc<dyn Array>),
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
            ("bytes", Arc::new(BinaryArray::from(vec![&b"xy"[..], b"", b"z"]))),
            ("list", Arc::new(lists)),
        ])
        .unwrap()
    }

    #[test]
    fn a_batch_survives_the_wire() {
        let batch = Batch::for_sink(rows(), 7, 3);
        let mut bytes = Vec::new();
        batch.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), batch.length_in_bytes());
        assert_eq!(bytes.len() % 8, 0);
        let mut slab = timely::bytes::arc::BytesMut::from(bytes).freeze();
        let len = slab.len();
        let back = Batch::from_bytes(slab.extract_to(len));
        assert_eq!(back.into_parts().unwrap(), (7, 3, rows()));
        assert_eq!(Batch::default().record_count(), 0);
    }

    #[test]
    fn the_hash_spreads_counters() {
        for peers in [2, 3, 4, 7, 8] {
            let mut seen = vec![0; peers];
            for split in 0..1000 {
                seen[owner(split, peers)] += 1;
            }
            assert!(seen.iter().all(|n| *n > 700 / peers), "{peers}: {seen:?}");
        }
    }
}
