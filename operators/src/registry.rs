//! Every operator, one line each.

use curette_engine::operator::{Entry, entry};

use crate::{metadata, sinks, sources};

/// All operators, in the order of `curette ops`.
pub const ALL: &[Entry] = &[
    // sources
    entry::<sources::videos::Videos>(),
    // metadata
    entry::<metadata::keyword_filter::KeywordFilter>(),
    // video
    // text
    // frames
    // clips
    // filters
    // captions
    // sinks
    entry::<sinks::parquet::Parquet>(),
    entry::<sinks::jsonl::Jsonl>(),
];
