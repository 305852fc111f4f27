//! The audio of a clip: as samples to encode, or as AAC packets to copy.
//!
//! Audio that cannot be read gives a clip without audio, and the log says so. Copied packets begin one packet before the clip's first frame: AAC
//! decoders need it to build the first sound, and an edit list leaves it out.

use gstreamer as gst;

use super::MediaError;
use super::cut::{CutSettings, Source};
use super::encode::{Audio, AudioBlock};
use super::encode_packets::encode_audio;
use super::mux::{AudioPacket, AudioTrack};
use super::reader::Decoded;
use super::track::Track;
use super::uniform::open_track_at;

/// The audio of `[from, until)` as samples.
pub(crate) fn decoded_audio(source: &Source, from_ns: i64, until_ns: i64) -> Result<Option<Audio>, MediaError> {
    or_none(source, read_samples(source, from_ns, until_ns))
}

/// The audio of `[from, until)` as AAC packets: copied where it is AAC, else encoded.
pub(crate) fn audio_track(
    source: &Source,
    from_ns: i64,
    until_ns: i64,
    settings: &CutSettings,
) -> Result<Option<AudioTrack>, MediaError> {
    if !settings.audio || !source.packets.has_audio {
        return Ok(None);
    }
    match copied_packets(source, from_ns, until_ns) {
        Ok(Some(track)) => return Ok(Some(track).filter(|t| !t.packets.is_empty())),
        Ok(None) => {}
        Err(e) if e.is_final() => return Err(e),
        Err(e) => tracing::debug!(file = %source.input.display(), error = %e, "Audio packets cannot be copied; decoding them"),
    }
    match decoded_audio(source, from_ns, until_ns)? {
        Some(audio) => encode_audio(audio, source.deadline, source.context),
        None => Ok(None),
    }
}

fn or_none<T>(source: &Source, result: Result<Option<T>, MediaError>) -> Result<Option<T>, MediaError> {
    match result {
        Err(e) if !e.is_final() => {
            tracing::warn!(file = %source.input.display(), error = %e, "Audio cannot be decoded; the clip has none");
            Ok(None)
        }
        other => other,
    }
}

fn read_samples(source: &Source, from_ns: i64, until_ns: i64) -> Result<Option<Audio>, MediaError> {
    let mut reader = open_track_at(source.input, Track::Audio, source.kind, from_ns, source.deadline, source.context)?;
    let mut audio: Option<Audio> = None;
    while let Some(block) = reader.next()? {
        if block.pts_ns >= until_ns {
            break;
        }
        let Some(caps) = block.sample.caps_owned() else { continue };
        if audio.as_ref().is_some_and(|a| a.caps != caps) {
            tracing::warn!(file = %source.input.display(), at_us = block.pts_ns / 1000, "The format of the audio changes; the clip has what came before");
            break;
        }
        if let Some(trimmed) = trim(&block, &caps, from_ns, until_ns) {
            audio.get_or_insert_with(|| Audio { caps, blocks: Vec::new() }).blocks.push(trimmed);
        }
    }
    // Audio that ends in the middle would be short in silence.
    reader.ended_by.take().map_or(Ok(audio), Err)
}

/// `None` if the audio is not AAC as an mp4 holds it.
fn copied_packets(source: &Source, from_ns: i64, until_ns: i64) -> Result<Option<AudioTrack>, MediaError> {
    let mut reader = open_track_at(source.input, Track::AudioPackets, source.kind, from_ns, source.deadline, source.context)?;
    let mut track: Option<(AudioTrack, gst::Caps)> = None;
    let mut before: Option<AudioPacket> = None;
    while let Some(packet) = reader.next()? {
        if packet.pts_ns >= until_ns {
            break;
        }
        let (Some(caps), Some(buffer)) = (packet.sample.caps_owned(), packet.sample.buffer()) else { continue };
        let Some(duration_ns) = packet.duration_ns else { return Ok(None) };
        let (track, known) = match &mut track {
            Some(track) => (&mut track.0, &track.1),
            None => match aac_track(&caps) {
                Some(empty) => {
                    let track = track.insert((empty, caps.clone()));
                    (&mut track.0, &track.1)
                }
                None => return Ok(None),
            },
        };
        if *known != caps {
            return Ok(None); // the format changes
        }
        let data = buffer.map_readable().map(|d| d.to_vec()).map_err(|_| MediaError::new("damaged", "an unreadable packet"))?;
        let this = AudioPacket { data, pts_ns: packet.pts_ns - from_ns, duration_ns };
        if packet.pts_ns + duration_ns > from_ns {
            let abuts = |b: &AudioPacket| b.pts_ns + b.duration_ns + duration_ns > this.pts_ns;
            track.packets.extend(before.take().filter(abuts));
            track.packets.push(this);
        } else {
            before = Some(this);
        }
    }
    reader.ended_by.take().map_or(Ok(track.map(|t| t.0)), Err)
}

/// A track without packets for this stream, if it is AAC.
pub(crate) fn aac_track(caps: &gst::Caps) -> Option<AudioTrack> {
    let s = caps.structure(0)?;
    let is_aac = s.name() == "audio/mpeg"
        && matches!(s.get::<i32>("mpegversion"), Ok(2 | 4))
        && s.get::<&str>("stream-format").is_ok_and(|f| f == "raw");
    let config = s.get::<gst::Buffer>("codec_data").ok()?.map_readable().ok()?.to_vec();
    // What fits into the descriptor; a real one has 2 to 20 bytes.
    const LONGEST_CONFIG: usize = 64;
    (is_aac && config.len() <= LONGEST_CONFIG).then_some(())?;
    let rate = u32::try_from(s.get::<i32>("rate").ok()?).ok().filter(|r| *r > 0)?;
    Some(AudioTrack { rate, channels: s.get::<i32>("channels").ok()? as u16, config, packets: Vec::new() })
}

/// The samples of a block that lie in `[from, to)`, at their time after `from`.
fn trim(block: &Decoded, caps: &gst::Caps, from_ns: i64, to_ns: i64) -> Option<AudioBlock> {
    let s = caps.structure(0)?;
    let (rate, channels) = (i128::from(s.get::<i32>("rate").ok()?), s.get::<i32>("channels").ok()? as usize);
    let data = block.sample.buffer()?.map_readable().ok()?;
    let width = channels * 2;
    let samples = (data.len() / width) as i128;
    let index = |ns: i64| ((i128::from(ns - block.pts_ns) * rate + 500_000_000) / 1_000_000_000).clamp(0, samples);
    let (first, last) = (index(from_ns), index(to_ns));
    let time = |samples: i128| (samples * 1_000_000_000 / rate) as i64;
    (last > first).then(|| AudioBlock {
        pts_ns: (block.pts_ns - from_ns + time(first)).max(0),
        duration_ns: time(last - first),
        samples: data[first as usize * width..last as usize * width].to_vec(),
    })
}
