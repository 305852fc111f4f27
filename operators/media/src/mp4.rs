//! The few bytes of an mp4 that depend on when it was made: set to zero, so that the same clip is the same bytes.

/// Zeroes creation and modification times in `mvhd`, `tkhd` and `mdhd`. What does not look like an mp4 stays as it is.
pub(crate) fn erase_times(bytes: &mut [u8]) {
    walk(bytes, 0);
}

/// Deepest nesting that is looked into: moov, trak, mdia.
const MAX_DEPTH: usize = 3;

fn walk(bytes: &mut [u8], depth: usize) {
    let mut at = 0usize;
    while let Some(header) = bytes.get(at..at + 8) {
        let small = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = [header[4], header[5], header[6], header[7]];
        let (body, size) = match small {
            0 => (8, bytes.len() - at),
            1 => match bytes.get(at + 8..at + 16).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes) {
                Some(size) => (16, usize::try_from(size).unwrap_or(usize::MAX)),
                None => return,
            },
            size => (8, size),
        };
        let Some(end) = at.checked_add(size).filter(|end| *end <= bytes.len() && size >= body) else { return };
        let inside = &mut bytes[at + body..end];
        match &kind {
            b"moov" | b"trak" | b"mdia" if depth < MAX_DEPTH => walk(inside, depth + 1),
            b"mvhd" | b"tkhd" | b"mdhd" => {
                let length = if inside.first() == Some(&1) { 16 } else { 8 };
                if let Some(times) = inside.get_mut(4..4 + length) {
                    times.fill(0);
                }
            }
            _ => {}
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    #[test]
    fn only_times_change() {
        let build = |t: u8| {
            let header = [&[0, 0, 0, 0][..], &[t; 8], &[7; 4]].concat();
            let wide = [&[1, 0, 0, 0][..], &[t; 16], &[7; 4]].concat();
            let track = make_box(b"trak", &[make_box(b"tkhd", &header), make_box(b"mdia", &make_box(b"mdhd", &wide))].concat());
            [
                make_box(b"ftyp", b"isom"),
                make_box(b"moov", &[make_box(b"mvhd", &header), track].concat()),
                make_box(b"mdat", &[9; 9]),
            ]
            .concat()
        };
        let mut stamped = build(0xAB);
        erase_times(&mut stamped);
        assert_eq!(stamped, build(0));
        for cut in 0..stamped.len() {
            erase_times(&mut stamped[..cut]); // nothing to panic about
        }
    }
}
