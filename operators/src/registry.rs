//! Every operator, one line each.

use curette_engine::operator::Entry;

/// All operators, in the order of `curette ops`.
pub const ALL: &[Entry] = &[
    // sources
    // metadata
    // video
    // text
    // frames
    // clips
    // filters
    // captions
    // sinks
];
