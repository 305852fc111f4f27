//! Where the samples of a remote mp4 lie, from its sample tables, so that only some of them need to be fetched.
//!
//! ISO/IEC 14496-12, 8.3 to 8.8. Only files whose one video track is H.264 or H.265 with 4-byte lengths, with samples that all lie inside of the
//! file, have an [`Index`]; all others, fragmented ones too, are read whole. What can go wrong: a table that lies. Whoever uses it holds what a
//! demuxer gives against it.

use std::io::SeekFrom;
use std::ops::Range;
use std::time::Instant;

use super::holes::{Filler, Holes, LEAST_BYTES};
use super::input::{Input, ReadSeek};
use super::limits::{MAX_FRAMES, MAX_INDEX_BYTES};
use super::{MediaContext, MediaError};

/// More boxes than this at the top of a file are no index.
const MAX_TOP_BOXES: usize = 1000;
/// Samples of all tracks; audio has some forty per second.
const MAX_SAMPLES: usize = 4 * MAX_FRAMES;

/// A sample of the video track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Of its first byte in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    /// The file says that decoding can begin here.
    pub sync: bool,
}

/// See the module's documentation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// Of the video track, in decoding order.
    pub samples: Vec<Sample>,
    /// Everything that is neither a sample of the video nor one of a sound track.
    others: Vec<Range<u64>>,
    filler: Filler,
}

impl Index {
    /// Reads the index of a remote file, if it has one of use.
    pub fn of(input: &Input, deadline: Instant, context: &MediaContext) -> Result<Option<Index>, MediaError> {
        if input.remote().is_none() {
            return Ok(None);
        }
        let (mut file, length) = input.open(deadline, context)?;
        let found = top_boxes(&mut *file, length).map_err(|e| input.unreadable(e))?;
        Ok(found.and_then(|top| Index::parse(&top.moov, top.outside, length)))
    }

    fn parse(moov: &[u8], outside: Vec<Range<u64>>, length: u64) -> Option<Index> {
        let mut others = outside;
        let mut video: Option<(Vec<Sample>, Filler)> = None;
        let mut total = 0;
        for (kind, body) in boxes(moov) {
            match &kind {
                b"mvex" => return None, // fragments
                b"trak" => {
                    let media = child(body, b"mdia")?;
                    let handler = child(media, b"hdlr")?.get(8..12)?;
                    if handler == b"soun" {
                        continue;
                    }
                    let table = child(child(media, b"minf")?, b"stbl")?;
                    let samples = samples(table, MAX_SAMPLES - total)?;
                    total += samples.len();
                    if samples.iter().any(|s| s.offset.checked_add(u64::from(s.size)).is_none_or(|end| end > length)) {
                        return None; // cut off: reading it whole tells where
                    }
                    if handler != b"vide" {
                        others.extend(samples.iter().map(range_of));
                    } else if video.replace((samples, filler(table)?)).is_some() {
                        return None;
                    }
                }
                _ => {}
            }
        }
        let (samples, filler) = video?;
        let mut places: Vec<Range<u64>> = samples.iter().map(range_of).collect();
        places.sort_unstable_by_key(|r| r.start);
        let apart = places.windows(2).all(|w| w[0].end <= w[1].start);
        (apart && samples.iter().any(|s| !s.sync)).then_some(Index { samples, others, filler })
    }

    /// What is left out if only the samples that `keep` names are read. Tiny ones always are.
    pub fn holes(&self, keep: impl Fn(usize) -> bool) -> Holes {
        let (mut real, mut made_up) = (self.others.clone(), Vec::new());
        for (i, sample) in self.samples.iter().enumerate() {
            match keep(i) || sample.size < LEAST_BYTES {
                true => real.push(range_of(sample)),
                false => made_up.push((sample.offset, sample.size)),
            }
        }
        Holes::new(real, made_up, self.filler)
    }
}

fn range_of(sample: &Sample) -> Range<u64> {
    sample.offset..sample.offset + u64::from(sample.size)
}

/// What lies at the top of a file.
struct Top {
    moov: Vec<u8>,
    /// Everything but the media data.
    outside: Vec<Range<u64>>,
}

fn top_boxes(file: &mut dyn ReadSeek, length: u64) -> std::io::Result<Option<Top>> {
    let (mut at, mut moov, mut outside) = (0u64, None, Vec::new());
    for _ in 0..MAX_TOP_BOXES {
        if at == length {
            return Ok(moov.map(|moov| Top { moov, outside }));
        }
        if length - at < 8 {
            return Ok(None);
        }
        let mut header = [0u8; 16];
        let got = (length - at).min(16) as usize;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header[..got])?;
        let kind = [header[4], header[5], header[6], header[7]];
        let (body, size) = match u32::from_be_bytes([header[0], header[1], header[2], header[3]]) {
            0 => (8, length - at),
            1 if got == 16 => (16, header[8..].iter().fold(0u64, |n, b| n << 8 | u64::from(*b))),
            size => (8, u64::from(size)),
        };
        let Some(end) = at.checked_add(size).filter(|end| *end <= length && size >= body) else { return Ok(None) };
        match &kind {
            b"moof" => return Ok(None),
            b"moov" if moov.is_some() || size > MAX_INDEX_BYTES => return Ok(None),
            b"moov" => {
                file.seek(SeekFrom::Start(at + body))?;
                let mut bytes = vec![0; (size - body) as usize];
                file.read_exact(&mut bytes)?;
                moov = Some(bytes);
            }
            _ => {}
        }
        outside.push(if &kind == b"mdat" { at..at + body } else { at..end });
        at = end;
    }
    Ok(None)
}

/// The boxes of a body: kind and body. What does not add up ends the walk.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let header: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
        let kind = [header[4], header[5], header[6], header[7]];
        let (body, size) = match u32::from_be_bytes([header[0], header[1], header[2], header[3]]) {
            0 => (8, bytes.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?)).ok()?),
            size => (8, size as usize),
        };
        let inside = bytes.get(body..size)?;
        bytes = bytes.get(size..)?;
        Some((kind, inside))
    })
}

fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found == kind).map(|(_, body)| body)
}

/// The 32-bit numbers of a table behind `skip` bytes, `count` of them at most.
fn numbers(table: &[u8], skip: usize) -> impl Iterator<Item = u32> {
    table.get(skip..).unwrap_or_default().chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

/// The samples of a sample table (`stbl`), at most `most`.
fn samples(table: &[u8], most: usize) -> Option<Vec<Sample>> {
    let sizes = child(table, b"stsz")?;
    let [one_size, count] = [numbers(sizes, 4).next()?, numbers(sizes, 8).next()?];
    let count = usize::try_from(count).ok().filter(|count| *count <= most)?;
    let sizes: Vec<u32> = match one_size {
        0 => numbers(sizes, 12).take(count).collect(),
        size => vec![size; count],
    };
    let chunks: Vec<u64> = match (child(table, b"stco"), child(table, b"co64")) {
        (Some(table), _) => numbers(table, 8).take(numbers(table, 4).next()? as usize).map(u64::from).collect(),
        (None, Some(table)) => {
            let halves: Vec<u32> = numbers(table, 8).take(2 * numbers(table, 4).next()? as usize).collect();
            halves.chunks_exact(2).map(|h| u64::from(h[0]) << 32 | u64::from(h[1])).collect()
        }
        _ => return None,
    };
    let runs = child(table, b"stsc")?;
    let runs: Vec<u32> = numbers(runs, 8).take(3 * numbers(runs, 4).next()? as usize).collect();
    let mut runs = runs.chunks_exact(3).map(|run| (run[0], run[1])).peekable();
    let mut out = Vec::with_capacity(sizes.len());
    let mut per_chunk = 0;
    for (number, chunk) in (1u32..).zip(&chunks) {
        while let Some((_, samples)) = runs.next_if(|(first, _)| *first <= number) {
            per_chunk = samples as usize;
        }
        let mut offset = *chunk;
        let from = out.len();
        for size in sizes.get(from..(from.checked_add(per_chunk)?).min(sizes.len()))? {
            out.push(Sample { offset, size: *size, sync: false });
            offset = offset.checked_add(u64::from(*size))?;
        }
    }
    if out.len() != count {
        return None;
    }
    match child(table, b"stss") {
        None => out.iter_mut().for_each(|s| s.sync = true),
        Some(table) => {
            for number in numbers(table, 8).take(numbers(table, 4).next()? as usize) {
                out.get_mut((number as usize).checked_sub(1)?)?.sync = true;
            }
        }
    }
    Some(out)
}

/// Which filler the one kind of sample that the table describes has.
fn filler(table: &[u8]) -> Option<Filler> {
    const ENTRY_BYTES: usize = 78;
    let descriptions = child(table, b"stsd")?.get(8..)?;
    let mut entries = boxes(descriptions);
    let (kind, entry) = entries.next()?;
    if entries.next().is_some() {
        return None;
    }
    let settings = entry.get(ENTRY_BYTES..)?;
    let (filler, lengths) = match &kind {
        b"avc1" | b"avc3" => (Filler::H264, child(settings, b"avcC")?.get(4)?),
        b"hvc1" | b"hev1" => (Filler::Hevc, child(settings, b"hvcC")?.get(21)?),
        _ => return None,
    };
    (lengths & 3 == 3).then_some(filler)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    fn table(kind: &[u8; 4], numbers: &[u32]) -> Vec<u8> {
        let body: Vec<u8> = [0].iter().chain(numbers).flat_map(|n| n.to_be_bytes()).collect();
        boxed(kind, &body)
    }

    fn moov(tables: &[Vec<u8>]) -> Vec<u8> {
        let avcc = boxed(b"avcC", &[1, 0, 0, 0, 0xFF, 0]);
        let entry = boxed(b"avc1", &[&[0; 78][..], &avcc].concat());
        let stsd = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1][..], &entry].concat());
        let stbl = boxed(b"stbl", &[stsd, tables.concat()].concat());
        let hdlr = boxed(b"hdlr", &[&[0; 8][..], b"vide", &[0; 12]].concat());
        boxed(b"trak", &boxed(b"mdia", &[hdlr, boxed(b"minf", &stbl)].concat()))
    }

    fn tables() -> Vec<Vec<u8>> {
        vec![
            table(b"stsz", &[0, 5, 100, 30, 30, 100, 10]),
            table(b"stco", &[3, 1000, 2000, 3000]),
            table(b"stsc", &[2, 1, 2, 1, 3, 1, 1]),
            table(b"stss", &[2, 1, 4]),
        ]
    }

    #[test]
    fn samples_lie_where_the_tables_say() {
        let index = Index::parse(&moov(&tables()), vec![], 10_000).unwrap();
        let of = |offset, size, sync| Sample { offset, size, sync };
        assert_eq!(
            index.samples,
            [of(1000, 100, true), of(1100, 30, false), of(2000, 30, false), of(2030, 100, true), of(3000, 10, false)]
        );
        // Two that are wanted and the one that is too small to be made up.
        assert_eq!(index.holes(|i| index.samples[i].sync).real_bytes(), 210);
    }

    #[test]
    fn tables_that_do_not_fit_are_no_index() {
        let index = |tables: &[Vec<u8>], length| Index::parse(&moov(tables), vec![], length);
        assert_eq!(index(&tables(), 3009), None, "a sample behind the end of the file");
        for without in 0..3 {
            let mut tables = tables();
            tables.remove(without);
            assert_eq!(index(&tables, 10_000), None);
        }
        assert_eq!(index(&tables()[..3], 10_000), None, "every sample is a key frame");
        let mut overlapping = tables();
        overlapping[1] = table(b"stco", &[3, 1000, 1050, 3000]);
        assert_eq!(index(&overlapping, 10_000), None);
        let mut lying = tables();
        lying[0] = table(b"stsz", &[0, u32::MAX, 100]);
        assert_eq!(index(&lying, 10_000), None);
        lying[0] = table(b"stsz", &[7, u32::MAX]);
        assert_eq!(index(&lying, 10_000), None);
        let whole = moov(&tables());
        for cut in 0..whole.len() {
            let _ = Index::parse(&whole[..cut], vec![], 10_000); // nothing to panic about
        }
        let two = [moov(&tables()), moov(&tables())].concat();
        assert_eq!(Index::parse(&two, vec![], 10_000), None);
        let fragmented = [moov(&tables()), boxed(b"mvex", &[])].concat();
        assert_eq!(Index::parse(&fragmented, vec![], 10_000), None);
    }
}
