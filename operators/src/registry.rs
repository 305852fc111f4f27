//! Every operator, one line each.

use curette_engine::operator::{Entry, entry};

use crate::{captions, clips, filters, frames, metadata, sinks, sources, speech, video};

/// All operators, in the order of `curette ops`.
pub const ALL: &[Entry] = &[
    // sources
    entry::<sources::videos::Videos>(),
    // metadata
    entry::<metadata::keyword_filter::KeywordFilter>(),
    // video
    entry::<video::probe::Probe>(),
    // frames
    entry::<frames::frame_embed::FrameEmbed>(),
    entry::<frames::frame_classifier::FrameClassifier>(),
    // clips
    entry::<clips::temporal_split::TemporalSplit>(),
    entry::<clips::clip_cut::ClipCut>(),
    // filters
    entry::<filters::resolution_filter::ResolutionFilter>(),
    entry::<filters::black_border::BlackBorder>(),
    entry::<filters::filter::Filter>(),
    // speech
    entry::<speech::transcript::Transcript>(),
    // captions
    entry::<captions::captioner::Captioner>(),
    // sinks
    entry::<sinks::parquet::Parquet>(),
    entry::<sinks::jsonl::Jsonl>(),
];
