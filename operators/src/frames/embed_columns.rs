//! The columns of `frame_embed`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, FixedSizeListBuilder, Float32Builder, Int64Builder, ListBuilder, StringBuilder};

use super::frame_embed::Described;
use crate::media::PTS_TIMESCALE;

/// The column of vectors, of either layout.
enum VectorColumn {
    Fixed(ListBuilder<FixedSizeListBuilder<Float32Builder>>),
    Open(ListBuilder<ListBuilder<Float32Builder>>),
}

impl VectorColumn {
    fn add(&mut self, vector: &[f32]) {
        match self {
            VectorColumn::Fixed(b) => {
                b.values().values().append_slice(vector);
                b.values().append(true);
            }
            VectorColumn::Open(b) => {
                b.values().values().append_slice(vector);
                b.values().append(true);
            }
        }
    }

    fn end_row(&mut self, valid: bool) {
        match self {
            VectorColumn::Fixed(b) => b.append(valid),
            VectorColumn::Open(b) => b.append(valid),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            VectorColumn::Fixed(b) => Arc::new(b.finish()),
            VectorColumn::Open(b) => Arc::new(b.finish()),
        }
    }
}

/// The columns, row by row.
pub(super) struct Builders {
    times: ListBuilder<Int64Builder>,
    pts: ListBuilder<Int64Builder>,
    timescale: Int64Builder,
    vectors: VectorColumn,
    name: String,
    width: usize,
    model: StringBuilder,
    decoded: Int64Builder,
    truncated: BooleanBuilder,
    errors: Int64Builder,
}

impl Builders {
    /// `open`: vectors of any width.
    pub fn new(name: &str, width: usize, open: bool) -> Self {
        let vectors = match open {
            true => VectorColumn::Open(ListBuilder::default()),
            false => VectorColumn::Fixed(ListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), width as i32))),
        };
        Builders {
            times: ListBuilder::default(),
            pts: ListBuilder::default(),
            timescale: Int64Builder::default(),
            vectors,
            name: name.to_owned(),
            width,
            model: StringBuilder::default(),
            decoded: Int64Builder::default(),
            truncated: BooleanBuilder::default(),
            errors: Int64Builder::default(),
        }
    }

    /// One more row; none where there is no description.
    pub fn append(&mut self, found: Option<&Described>) {
        if let Some(d) = found {
            for &t in &d.times_ns {
                self.times.values().append_value(t / 1000);
                self.pts.values().append_value(t);
            }
            d.vectors.chunks_exact(self.width).for_each(|vector| self.vectors.add(vector));
        }
        self.times.append(found.is_some());
        self.pts.append(found.is_some());
        self.vectors.end_row(found.is_some());
        self.timescale.append_option(found.map(|_| PTS_TIMESCALE));
        self.model.append_option(found.map(|_| &self.name));
        self.decoded.append_option(found.map(|d| d.usable.decoded_duration_us));
        self.truncated.append_option(found.map(|d| d.usable.truncated));
        self.errors.append_option(found.map(|d| d.decode_errors as i64));
    }

    /// In the order in which they are declared.
    pub fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.times.finish()),
            Arc::new(self.pts.finish()),
            Arc::new(self.timescale.finish()),
            self.vectors.finish(),
            Arc::new(self.model.finish()),
            Arc::new(self.decoded.finish()),
            Arc::new(self.truncated.finish()),
            Arc::new(self.errors.finish()),
        ]
    }
}
