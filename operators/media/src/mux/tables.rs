//! The index of one track: its times, sizes and places.

use super::boxes::{Boxes, UNTURNED, descriptor, full};
use super::{AudioTrack, VideoTrack};

/// When the packets of a track are decoded and shown.
pub(super) struct Timeline {
    /// Ticks per second of `durations`, `offsets` and `skip`.
    pub scale: u32,
    /// Decoding times in ticks of the clip.
    pub starts: Vec<i64>,
    pub durations: Vec<u32>,
    /// From decoding to showing; empty if all are shown at once.
    pub offsets: Vec<u32>,
    /// Ticks of the clip before the track begins.
    pub empty: i64,
    /// Where the clip's time begins in the track.
    pub skip: i64,
    /// Ticks of the clip that are played of the track.
    pub length: i64,
}

/// A track ready to be written.
pub(super) struct Track<'a> {
    timeline: &'a Timeline,
    /// Packets of each chunk.
    counts: Vec<u32>,
    /// Where each chunk lies in the file.
    places: &'a [u32],
    sizes: Vec<u32>,
    /// Numbers of the packets where decoding can begin, from 1; `None`: all.
    sync: Option<Vec<u32>>,
    /// Pixels; none for audio.
    size: Option<(u32, u32)>,
    description: Boxes,
}

impl<'a> Track<'a> {
    pub fn video(video: &VideoTrack, timeline: &'a Timeline, counts: Vec<u32>, places: &'a [u32]) -> Self {
        let mut description = Boxes::default();
        let (width, height) = video.size;
        let mut fields = vec![0, 0, 0, 0, 0, 0, 0, 1]; // reserved, data reference
        fields.extend([0; 16]);
        fields.extend([width as u16, height as u16].iter().flat_map(|v| v.to_be_bytes()));
        fields.extend([0, 0x48, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0, 0, 1]); // 72 dots per inch, reserved, frames per packet
        fields.extend([0; 32]);
        fields.extend([0, 0x18, 0xFF, 0xFF]);
        description.after(b"avc1", &fields, |entry| {
            entry.leaf(b"avcC", &video.avcc);
            if let Some((primaries, transfer, matrix, full_range)) = video.colour {
                let values = [primaries, transfer, matrix].iter().flat_map(|v| v.to_be_bytes()).collect::<Vec<u8>>();
                entry.leaf(b"colr", &[b"nclx", &values[..], &[u8::from(full_range) << 7]].concat());
            }
            entry.leaf(b"pasp", &[0, 0, 0, 1, 0, 0, 0, 1]);
        });
        let sync = (1..).zip(&video.packets).filter(|(_, p)| p.sync).map(|(n, _)| n).collect();
        let sizes = video.packets.iter().map(|p| p.data.len() as u32).collect();
        Track { timeline, counts, places, sizes, sync: Some(sync), size: Some(video.size), description }
    }

    pub fn audio(audio: &AudioTrack, timeline: &'a Timeline, counts: Vec<u32>, places: &'a [u32]) -> Self {
        let mut description = Boxes::default();
        let mut fields = vec![0, 0, 0, 0, 0, 0, 0, 1];
        fields.extend([0; 8]);
        fields.extend(audio.channels.to_be_bytes());
        fields.extend([0, 16, 0, 0, 0, 0]); // bits per sample, reserved
        fields.extend((audio.rate.min(0xFFFF) << 16).to_be_bytes());
        description.after(b"mp4a", &fields, |entry| {
            const AAC: u8 = 0x40;
            const AUDIO: u8 = 0x15;
            let mut decoder = vec![AAC, AUDIO];
            decoder.extend([0; 11]); // buffer size, largest and mean rate: not stated
            decoder.extend(descriptor(5, &audio.config));
            let body = [&[0, 0, 0][..], &descriptor(4, &decoder), &descriptor(6, &[2])].concat();
            entry.leaf(b"esds", &full(0, 0, &descriptor(3, &body)));
        });
        let sizes = audio.packets.iter().map(|p| p.data.len() as u32).collect();
        Track { timeline, counts, places, sizes, sync: None, size: None, description }
    }

    pub fn write(&self, moov: &mut Boxes, number: u32) {
        let t = self.timeline;
        moov.nested(b"trak", |trak| {
            let duration = (t.empty + t.length).max(0) as u32;
            let mut body: Vec<u8> = [0u32, 0, number, 0, duration, 0, 0].iter().flat_map(|n| n.to_be_bytes()).collect();
            let volume = if self.size.is_none() { [1, 0] } else { [0, 0] };
            body.extend([0; 4]); // layer, group
            body.extend(volume);
            body.extend([0; 2]);
            body.extend(UNTURNED);
            let (width, height) = self.size.unwrap_or((0, 0));
            body.extend([width << 16, height << 16].iter().flat_map(|v| v.to_be_bytes()));
            trak.leaf(b"tkhd", &full(0, 3, &body)); // enabled, in the movie
            if t.empty > 0 || t.skip > 0 {
                trak.nested(b"edts", |edts| edts.leaf(b"elst", &self.edits()));
            }
            trak.nested(b"mdia", |mdia| self.media(mdia));
        });
    }

    fn edits(&self) -> Vec<u8> {
        const NOTHING: u32 = u32::MAX;
        const NORMAL_SPEED: u32 = 0x0001_0000;
        let t = self.timeline;
        let mut edits = Vec::new();
        if t.empty > 0 {
            edits.push([t.empty as u32, NOTHING, NORMAL_SPEED]);
        }
        edits.push([t.length as u32, t.skip as u32, NORMAL_SPEED]);
        full(0, 0, &counted(edits.len(), edits.iter().flatten().copied()))
    }

    fn media(&self, mdia: &mut Boxes) {
        let t = self.timeline;
        let duration: u64 = t.durations.iter().map(|d| u64::from(*d)).sum();
        let mut body: Vec<u8> = [0u32, 0, t.scale, duration as u32].iter().flat_map(|n| n.to_be_bytes()).collect();
        body.extend([0x55, 0xC4, 0, 0]); // no language
        mdia.leaf(b"mdhd", &full(0, 0, &body));
        let (kind, name): (&[u8; 4], &[u8]) =
            if self.size.is_some() { (b"vide", b"VideoHandler\0") } else { (b"soun", b"SoundHandler\0") };
        mdia.leaf(b"hdlr", &full(0, 0, &[&[0; 4], &kind[..], &[0; 12], name].concat()));
        mdia.nested(b"minf", |minf| {
            match self.size {
                Some(_) => minf.leaf(b"vmhd", &full(0, 1, &[0; 8])),
                None => minf.leaf(b"smhd", &full(0, 0, &[0; 4])),
            }
            minf.nested(b"dinf", |dinf| {
                // The data are in this file.
                dinf.after(b"dref", &full(0, 0, &[0, 0, 0, 1]), |dref| dref.leaf(b"url ", &full(0, 1, &[])));
            });
            minf.nested(b"stbl", |stbl| self.index(stbl));
        });
    }

    fn index(&self, stbl: &mut Boxes) {
        let t = self.timeline;
        stbl.leaf(b"stsd", &full(0, 0, &[&[0, 0, 0, 1], &self.description.bytes[..]].concat()));
        stbl.leaf(b"stts", &full(0, 0, &repeated(&t.durations)));
        if t.offsets.iter().any(|o| *o > 0) {
            stbl.leaf(b"ctts", &full(0, 0, &repeated(&t.offsets)));
        }
        if let Some(sync) = &self.sync {
            stbl.leaf(b"stss", &full(0, 0, &counted(sync.len(), sync.iter().copied())));
        }
        let mut runs: Vec<[u32; 3]> = Vec::new();
        for (chunk, count) in (1..).zip(&self.counts) {
            if runs.last().is_none_or(|r| r[1] != *count) {
                runs.push([chunk, *count, 1]);
            }
        }
        stbl.leaf(b"stsc", &full(0, 0, &counted(runs.len(), runs.iter().flatten().copied())));
        let sizes = counted(self.sizes.len(), self.sizes.iter().copied());
        stbl.leaf(b"stsz", &full(0, 0, &[&[0; 4], &sizes[..]].concat()));
        stbl.leaf(b"stco", &full(0, 0, &counted(self.places.len(), self.places.iter().copied())));
    }
}

fn counted(count: usize, values: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut out = (count as u32).to_be_bytes().to_vec();
    out.extend(values.flat_map(u32::to_be_bytes));
    out
}

/// Pairs of how often and what.
fn repeated(values: &[u32]) -> Vec<u8> {
    let mut runs: Vec<[u32; 2]> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some(run) if run[1] == *value => run[0] += 1,
            _ => runs.push([1, *value]),
        }
    }
    counted(runs.len(), runs.iter().flatten().copied())
}
