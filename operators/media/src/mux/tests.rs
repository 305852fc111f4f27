//! Files as a reader finds them: every packet where the index says, every time as it was given.

use proptest::prelude::*;

use super::*;

/// The content of a box by its path; the first of its name at each step.
fn find<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let Some((name, rest)) = path.split_first() else { return Some(bytes) };
    all(bytes, name).into_iter().next().and_then(|inner| find(inner, rest))
}

fn all<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Vec<&'a [u8]> {
    let (mut at, mut found) = (0, Vec::new());
    while at + 8 <= bytes.len() {
        let size = number(bytes, at) as usize;
        if &bytes[at + 4..at + 8] == name {
            found.push(&bytes[at + 8..at + size]);
        }
        at += size;
    }
    found
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The numbers of a table behind version, flags and count.
fn table(bytes: &[u8], skip: usize) -> Vec<u32> {
    (8 + skip..bytes.len()).step_by(4).map(|at| number(bytes, at)).collect()
}

fn unrolled(pairs: &[u32]) -> Vec<u32> {
    pairs.chunks(2).flat_map(|p| std::iter::repeat_n(p[1], p[0] as usize)).collect()
}

/// Data, time of showing in ticks of the track, and whether decoding can begin there.
fn read(file: &[u8], track: usize) -> Vec<(Vec<u8>, i64, bool)> {
    let trak = all(find(file, &[b"moov"]).unwrap(), b"trak")[track];
    let stbl = find(trak, &[b"mdia", b"minf", b"stbl"]).unwrap();
    let get = |name: &[u8; 4]| find(stbl, &[name]);
    let durations = unrolled(&table(get(b"stts").unwrap(), 0));
    let offsets = get(b"ctts").map_or(vec![0; durations.len()], |b| unrolled(&table(b, 0)));
    let sync: Option<Vec<u32>> = get(b"stss").map(|b| table(b, 0));
    let sizes = table(get(b"stsz").unwrap(), 4);
    let places = table(get(b"stco").unwrap(), 0);
    let runs = table(get(b"stsc").unwrap(), 0);
    let edit = find(trak, &[b"edts", b"elst"]).map(|b| table(b, 0));
    let skip = edit.map_or(0, |e| i64::from(e[e.len() - 2]));
    let (mut out, mut decoded, mut k) = (Vec::new(), 0i64, 0);
    for (chunk, place) in (1u32..).zip(&places) {
        let run = runs.chunks(3).rev().find(|r| r[0] <= chunk).unwrap();
        let mut at = *place as usize;
        for _ in 0..run[1] {
            let data = file[at..at + sizes[k] as usize].to_vec();
            let number = k as u32 + 1;
            out.push((data, decoded + i64::from(offsets[k]) - skip, sync.as_ref().is_none_or(|s| s.contains(&number))));
            decoded += i64::from(durations[k]);
            at += sizes[k] as usize;
            k += 1;
        }
    }
    assert_eq!(k, sizes.len());
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        frames in prop::collection::vec((1i64..400_000_000, any::<bool>(), 0usize..40), 1..60),
        swaps in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        sounds in prop::collection::vec(0usize..30, 0..80),
        audio_from in -40_000_000i64..300_000_000,
    ) {
        let mut at = 0;
        let mut packets: Vec<VideoPacket> = frames.iter().enumerate().map(|(i, (gap, sync, size))| {
            let packet = VideoPacket { data: vec![i as u8; *size], pts_ns: at, sync: *sync };
            at += gap;
            packet
        }).collect();
        for swap in swaps {
            let i = swap.index(packets.len());
            packets.swap(i, (i + 2).min(frames.len() - 1));
        }
        let video = VideoTrack { size: (640, 360), avcc: vec![1, 2, 3], colour: Some((1, 1, 1, true)), packets, end_ns: at };
        let packets = (0i64..).zip(&sounds).map(|(i, size)| AudioPacket {
            data: vec![0xA0; *size],
            pts_ns: audio_from + i * 1024 * 1_000_000_000 / 48_000,
            duration_ns: 1024 * 1_000_000_000 / 48_000,
        });
        let audio = AudioTrack { rate: 48_000, channels: 2, config: vec![0x11, 0x90], packets: packets.collect() };
        let file = write(&video, Some(&audio));
        let written: Vec<_> = video.packets.iter().map(|p| (p.data.clone(), ticks(p.pts_ns, TIMESCALE), p.sync)).collect();
        prop_assert_eq!(read(&file, 0), written);
        if !sounds.is_empty() {
            let heard = read(&file, 1);
            prop_assert_eq!(heard.len(), sounds.len());
            let zero = audio_from.min(0);
            for (k, (_, time, _)) in heard.iter().enumerate() {
                let wanted = ticks(zero + k as i64 * 1024 * 1_000_000_000 / 48_000, 48_000);
                prop_assert!((time - wanted).abs() <= 1, "{time} for {wanted}");
            }
        }
        let moov = file.windows(4).position(|w| w == b"moov").unwrap();
        prop_assert!(moov < file.windows(4).position(|w| w == b"mdat").unwrap(), "the index comes first");
        prop_assert_eq!(write(&video, Some(&audio)), file);
    }
}
