//! Every operator, one line each.

use curette_engine::operator::{Entry, entry};

use crate::{captions, clips, filters, frames, metadata, quality, rounds, sinks, sources, speech, video};

/// All operators, in the order of `curette ops`.
pub const ALL: &[Entry] = &[
    // sources
    entry::<sources::videos::Videos>(),
    entry::<rounds::channel_expansion::ChannelExpansion>(),
    entry::<rounds::dedup::Dedup>(),
    entry::<sources::records::MetadataRecords>(),
    // metadata
    entry::<metadata::keyword_filter::KeywordFilter>(),
    entry::<metadata::text_classifier::TextClassifier>(),
    // video
    entry::<video::probe::Probe>(),
    // frames
    entry::<frames::frame_embed::FrameEmbed>(),
    entry::<frames::frame_classifier::FrameClassifier>(),
    entry::<frames::category::Category>(),
    // clips
    entry::<clips::shot_split::ShotSplit>(),
    entry::<clips::temporal_split::TemporalSplit>(),
    entry::<clips::clip_cut::ClipCut>(),
    // filters
    entry::<filters::resolution_filter::ResolutionFilter>(),
    entry::<filters::black_border::BlackBorder>(),
    entry::<filters::subtitles::Subtitles>(),
    entry::<filters::phi_text::PhiText>(),
    entry::<filters::filter::Filter>(),
    // quality
    entry::<quality::sharpness::Sharpness>(),
    entry::<quality::exposure::Exposure>(),
    entry::<quality::blockiness::Blockiness>(),
    entry::<quality::freeze::Freeze>(),
    entry::<quality::jitter::Jitter>(),
    entry::<quality::camera_motion::CameraMotion>(),
    entry::<quality::aesthetic::Aesthetic>(),
    entry::<quality::technical::Technical>(),
    // speech
    entry::<speech::transcript::Transcript>(),
    // captions
    entry::<captions::captioner::Captioner>(),
    // sinks
    entry::<sinks::parquet::Parquet>(),
    entry::<sinks::jsonl::Jsonl>(),
];
