//! Every operator, one line each.

use curette_engine::operator::{Entry, entry};

/// All operators, in the order of `curette ops`.
pub const ALL: &[Entry] = &[
    // sources
    // metadata
    // video
    entry::<crate::video::probe::Probe>(),
    // text
    // frames
    entry::<crate::frames::frame_embed::FrameEmbed>(),
    // clips
    entry::<crate::clips::clip_cut::ClipCut>(),
    // filters
    entry::<crate::filters::black_border::BlackBorder>(),
    // captions
    // sinks
];
