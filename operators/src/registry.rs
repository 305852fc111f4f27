//! Every operator, one line each.

use curette_engine::operator::{Entry, entry};

use crate::{captions, clips, frames};

/// All operators, in the order of `curette ops`.
pub const ALL: &[Entry] = &[
    // sources
    // metadata
    // video
    // text
    // frames
    entry::<frames::frame_classifier::FrameClassifier>(),
    // clips
    entry::<clips::temporal_split::TemporalSplit>(),
    // filters
    // captions
    entry::<captions::captioner::Captioner>(),
    // sinks
];
