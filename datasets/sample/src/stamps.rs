//! Takes out of a muxed file what changes from run to run: creation times (MP4), random unique ids and dates (Matroska); and marks a rotation.
//!
//! Works on the box and element structure, never by searching for byte patterns in media data.

/// Marks an MP4 so that players turn its video by 90 degrees clockwise. `coded_height` is the stored height.
pub fn mark_rotation(file: &mut [u8], coded_height: u32) {
    let fixed = |v: i32| (v << 16).to_be_bytes();
    each_box(file, 0, usize::MAX, &mut |kind, body| {
        // Track header, version 0: the matrix starts at byte 40; sound tracks have no width and stay as they are.
        if kind == *b"tkhd" && body.len() >= 84 && body[76..80] != [0; 4] {
            let matrix =
                [fixed(0), fixed(1), [0; 4], fixed(-1), fixed(0), [0; 4], fixed(coded_height as i32), fixed(0), [0x40, 0, 0, 0]];
            body[40..76].copy_from_slice(&matrix.concat());
        }
    });
}

/// Sets creation and modification times of an MP4 to zero ("unknown"). True: nothing of the run is left.
pub fn clear_mp4(file: &mut [u8]) -> bool {
    each_box(file, 0, usize::MAX, &mut |kind, body| {
        if matches!(&kind, b"mvhd" | b"tkhd" | b"mdhd") {
            let width = if body.first() == Some(&1) { 16 } else { 8 };
            if let Some(times) = body.get_mut(4..4 + width) {
                times.fill(0);
            }
        }
    });
    true
}

fn each_box(file: &mut [u8], start: usize, end: usize, visit: &mut impl FnMut([u8; 4], &mut [u8])) {
    let end = end.min(file.len());
    let mut at = start;
    while at + 8 <= end {
        let word = |at: usize| file.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
        let kind = [file[at + 4], file[at + 5], file[at + 6], file[at + 7]];
        let (header, size) = match word(at) {
            0 => (8, end - at),
            1 if at + 16 <= end => (16, (word(at + 8) << 32) | word(at + 12)),
            n => (8, n),
        };
        if size < header || size > end - at {
            return; // not a box: leave the rest alone
        }
        if matches!(&kind, b"moov" | b"trak" | b"mdia") {
            each_box(file, at + header, at + size, visit);
        } else {
            visit(kind, &mut file[at + header..at + size]);
        }
        at += size;
    }
}

const EBML_MASTERS: [u32; 8] = [
    0x1853_8067, // Segment
    0x1549_A966, // Info
    0x1654_AE6B, // Tracks
    0xAE,        // TrackEntry
    0x1254_C367, // Tags
    0x7373,      // Tag
    0x63C0,      // Targets
    0x1A45_DFA3, // EBML header
];

/// Replaces the random ids of a Matroska or WebM file by fixed ones and its date by the epoch. False: an id happened to begin with a zero byte, which is
/// not written, so that this file is shorter than others of the same content.
pub fn clear_matroska(file: &mut [u8]) -> bool {
    let mut known: Vec<Vec<u8>> = Vec::new();
    let mut full = true;
    let end = file.len();
    each_element(file, 0, end, &mut |id, body| match id {
        0x73A4 => body.iter_mut().enumerate().for_each(|(i, b)| *b = i as u8 + 1), // SegmentUID
        0x4461 => body.fill(0),                                                    // DateUTC
        // TrackUID and the tags that refer to it: numbered in the order of first sight.
        0x73C5 | 0x63C5 => {
            let number = known.iter().position(|k| k == body).unwrap_or_else(|| {
                known.push(body.to_vec());
                known.len() - 1
            });
            full &= body.len() == 8;
            body.fill(0);
            if let Some(last) = body.last_mut() {
                *last = number as u8 + 1;
            }
        }
        _ => {}
    });
    full
}

fn each_element(file: &mut [u8], start: usize, end: usize, visit: &mut impl FnMut(u32, &mut [u8])) {
    let mut at = start;
    while at < end {
        let id_length = file[at].leading_zeros() as usize + 1;
        let Some(id_bytes) = file.get(at..at + id_length).filter(|_| id_length <= 4) else { return };
        let id = id_bytes.iter().fold(0u32, |v, b| (v << 8) | u32::from(*b));
        let Some(&first) = file.get(at + id_length) else { return };
        let size_length = first.leading_zeros() as usize + 1;
        let Some(size_bytes) = file.get(at + id_length..at + id_length + size_length).filter(|_| size_length <= 8) else {
            return;
        };
        let mask = (1u64 << (7 * size_length)) - 1;
        let size = size_bytes.iter().fold(0u64, |v, b| (v << 8) | u64::from(*b)) & mask;
        let body = at + id_length + size_length;
        let stop = if size == mask { end } else { body.saturating_add(size as usize) };
        if stop > end {
            return;
        }
        if EBML_MASTERS.contains(&id) {
            each_element(file, body, stop, visit);
        } else {
            visit(id, &mut file[body..stop]);
        }
        at = stop;
    }
}

#[cfg(test)]
mod tests {
    use super::clear_matroska;

    /// A segment with one track whose id has these bytes.
    fn file(id: &[u8]) -> Vec<u8> {
        let element = |name: &[u8], body: &[u8]| [name, &[0x80 | body.len() as u8], body].concat();
        let track = element(&[0xAE], &element(&[0x73, 0xC5], id));
        element(&[0x18, 0x53, 0x80, 0x67], &element(&[0x16, 0x54, 0xAE, 0x6B], &track))
    }

    #[test]
    fn a_short_random_id_is_told_apart() {
        let (mut usual, mut other, mut short) = (file(&[9; 8]), file(&[7; 8]), file(&[9; 7]));
        assert!(clear_matroska(&mut usual) && clear_matroska(&mut other));
        assert_eq!(usual, other);
        assert!(!clear_matroska(&mut short));
    }
}
