//! Sampling against decoding everything: the same pictures, byte for byte, at the same times, for every file of the media folder and for streams made
//! here with each structure that matters.

use std::path::Path;
use std::time::Instant;

use gst::prelude::*;
use gstreamer as gst;

use super::input::Input;
use super::packets::packets;
use super::picture::Converter;
use super::plan::plan;
use super::reader::Reader;
use super::tests::{Bench, media_folder};
use super::track::Track;
use super::*;

const SIDE: u32 = 96;

/// Decodes everything: all frames that move forward in time, and where the last one ends, in microseconds.
fn everything(uri: &str, period_ns: i64, context: &MediaContext) -> Result<(Vec<Frame>, i64), MediaError> {
    let mut reader = Reader::open(&Input::file(Path::new(uri)), Track::Video, Instant::now() + context.timeout, context)?;
    reader.play()?;
    let (mut converter, mut frames, mut end_ns) = (Converter::default(), Vec::<Frame>::new(), 0);
    while let Some(frame) = reader.next()? {
        end_ns = end_ns.max(frame.pts_ns + frame.duration_ns.unwrap_or(period_ns));
        if frames.last().is_none_or(|last| last.pts_ns < frame.pts_ns) {
            frames.push(converter.convert(&frame.sample, reader.orientation(), Some((SIDE, SIDE)), frame.pts_ns)?);
        }
    }
    Ok((frames, end_ns / 1000))
}

/// The rule as written.
fn by_the_rule(all: &[Frame], fps: f64, period_ns: i64) -> Vec<&Frame> {
    let mut picks: Vec<&Frame> = Vec::new();
    for k in 0.. {
        let due = (f64::from(k) * 1e9 / fps).round() as i64 - period_ns / 2;
        match all.iter().find(|f| f.pts_ns >= due) {
            None => break,
            Some(frame) if picks.last().is_none_or(|last| last.pts_ns != frame.pts_ns) => picks.push(frame),
            Some(_) => {}
        }
    }
    picks
}

fn sampled(uri: &str, fps: f64, sampling: Sampling, context: &MediaContext) -> Result<(Vec<Frame>, GridStats), MediaError> {
    let mut frames = Vec::new();
    let settings = GridSettings { fps, size: Some((SIDE, SIDE)), sampling, span_ns: WHOLE_NS };
    let stats = sample(uri, &settings, context, &mut |f| {
        frames.push(f);
        Ok(())
    })?;
    assert_eq!(stats.frames_picked as usize, frames.len());
    Ok((frames, stats))
}

/// How a file was treated.
#[derive(Debug)]
struct Treated {
    packets: usize,
    kept: Option<usize>,
    decoded: u64,
}

/// Holds every mode against the full decode.
fn check(uri: &str) -> Result<Treated, MediaError> {
    let bench = Bench::new();
    let context = bench.context();
    let known = packets(&Input::file(Path::new(uri)), uri, Instant::now() + context.timeout, &context)?;
    let period_ns = known.period_ns();
    let (all, end_us) = everything(uri, period_ns, &context)?;
    for fps in [1.0, 2.3] {
        let want = by_the_rule(&all, fps, period_ns);
        let (got, stats) = sampled(uri, fps, Sampling::Exact, &context)?;
        assert_eq!(
            got.iter().map(|f| f.pts_ns).collect::<Vec<_>>(),
            want.iter().map(|f| f.pts_ns).collect::<Vec<_>>(),
            "{uri} at {fps}"
        );
        assert!(got.iter().eq(want), "{uri} at {fps}: other pictures");
        // The last frame's duration is the packet's here and the decoder's there, which differ where the frame rate varies.
        assert!((stats.decoded_duration_us - end_us).abs() * 1000 < period_ns, "{uri}: {stats:?} {end_us}");
    }
    // The other modes: each picture is the one that a full decode shows at that time.
    let (exact, stats) = sampled(uri, 1.0, Sampling::Exact, &context)?;
    for sampling in [Sampling::Within(500_000_000), Sampling::Keyframes] {
        let (got, other) = sampled(uri, 1.0, sampling, &context)?;
        assert!(!got.is_empty() && got.len() <= exact.len(), "{uri} {sampling:?}");
        for frame in &got {
            assert!(all.contains(frame), "{uri} {sampling:?}: no such picture at {}", frame.pts_ns);
        }
        assert!(other.frames_decoded <= stats.frames_decoded, "{uri} {sampling:?}");
        if let Sampling::Within(tolerance) = sampling {
            let near = |t: i64| (t + tolerance) / 1_000_000_000 * 1_000_000_000 >= t - tolerance;
            let fits = |g: &Frame| near(g.pts_ns) || exact.contains(g);
            assert!(got.iter().all(fits), "{uri}");
        }
    }
    let kept = plan(&known.units, WHOLE_NS, 1.0, period_ns, Sampling::Exact).map(|p| p.keep.iter().filter(|k| **k).count());
    Ok(Treated { packets: known.times_ns.len(), kept, decoded: stats.frames_decoded })
}

#[test]
fn every_file_gives_the_pictures_of_a_full_decode() {
    let Some(folder) = media_folder() else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| !["md", ""].contains(&f.extension().map_or("", |e| e.to_str().unwrap())));
    files.sort();
    for file in files {
        let uri = file.to_string_lossy().into_owned();
        let begun = Instant::now();
        let result = check(&uri);
        eprintln!("{:36} {:5} ms {result:?}", file.file_name().unwrap().to_string_lossy(), begun.elapsed().as_millis());
        if let Err(e) = result {
            // The reason is the one that a full decode gives.
            let bench = Bench::new();
            let plain = decoded_times(&uri, &bench.context()).err();
            assert_eq!(sampled(&uri, 1.0, Sampling::Exact, &bench.context()).err().map(|e| e.code), plain.map(|e| e.code), "{e}");
        }
    }
}

/// Encodes eight seconds of a moving picture; false if this machine lacks an element.
fn make(path: &Path, caps: &str, rest: &str) -> bool {
    super::runtime::start().unwrap();
    let text = format!(
        "videotestsrc pattern=ball num-buffers=200 ! video/x-raw,width=176,height=144,framerate=25/1,{caps} ! {rest} ! filesink location={}",
        path.display()
    );
    let Ok(pipeline) = gst::parse::launch(&text) else {
        eprintln!("skipped: {rest}");
        return false;
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(120), &end);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.map(|m| m.type_()), Some(gst::MessageType::Eos), "{rest}");
    true
}

/// What must hold for the number of decoded frames of a stream made here.
enum Cost {
    /// At most this share of the frames.
    AtMost(f64),
    /// Everything: the structure is unknown.
    All,
}

#[test]
fn every_structure_gives_the_pictures_of_a_full_decode() {
    const I420: &str = "format=I420";
    let x264 = "x264enc threads=1 speed-preset=fast";
    let cases: &[(&str, &str, String, Cost)] = &[
        (
            "closed groups with a pyramid",
            I420,
            format!("{x264} key-int-max=50 bframes=3 b-pyramid=true ! mp4mux"),
            Cost::AtMost(0.7),
        ),
        ("long groups", I420, format!("{x264} key-int-max=250 bframes=3 ! mp4mux"), Cost::AtMost(0.9)),
        ("open groups", I420, format!("{x264} key-int-max=25 bframes=3 option-string=open-gop=1 ! mp4mux"), Cost::AtMost(0.9)),
        ("no B frames", I420, format!("{x264} key-int-max=30 bframes=0 ! mp4mux"), Cost::AtMost(0.95)),
        ("intra refresh", I420, format!("{x264} key-int-max=50 intra-refresh=true ! mp4mux"), Cost::AtMost(1.0)),
        (
            "interlaced",
            "format=I420,interlace-mode=interleaved,field-order=top-field-first",
            format!("{x264} interlaced=true key-int-max=50 ! matroskamux"),
            Cost::AtMost(1.0),
        ),
        ("4:4:4", "format=Y444", format!("{x264} key-int-max=50 ! mp4mux"), Cost::AtMost(0.8)),
        ("4:2:2 10-bit", "format=I422_10LE", format!("{x264} key-int-max=50 ! matroskamux"), Cost::AtMost(0.8)),
        ("transport stream", I420, format!("{x264} key-int-max=50 ! mpegtsmux"), Cost::AtMost(0.8)),
        (
            "HEVC, open groups",
            I420,
            "x265enc speed-preset=superfast key-int-max=50 ! h265parse ! mp4mux".into(),
            Cost::AtMost(0.95),
        ),
        (
            "HEVC, closed groups",
            I420,
            "x265enc speed-preset=superfast key-int-max=50 option-string=open-gop=0 ! h265parse ! matroskamux".into(),
            Cost::AtMost(0.8),
        ),
        ("VP9", I420, "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=30 ! webmmux".into(), Cost::AtMost(0.99)),
        ("VP8", I420, "vp8enc deadline=1 cpu-used=8 keyframe-max-dist=30 ! webmmux".into(), Cost::AtMost(0.99)),
        (
            "MPEG-2 with made-up times",
            I420,
            "mpeg2enc b-per-refframe=2 max-gop-size=15 ! mpegvideoparse ! mpegtsmux".into(),
            Cost::All,
        ),
        ("MPEG-4", I420, "avenc_mpeg4 gop-size=15 ! avimux".into(), Cost::AtMost(1.0)),
        ("Motion JPEG", I420, "jpegenc ! avimux".into(), Cost::All),
    ];
    for (name, caps, encoder, cost) in cases {
        let file = tempfile::NamedTempFile::new().unwrap();
        if !make(file.path(), caps, encoder) {
            continue;
        }
        let treated = check(&file.path().to_string_lossy()).unwrap();
        eprintln!("{name:30} {treated:?}");
        match cost {
            Cost::AtMost(share) => assert!(treated.decoded as f64 <= share * treated.packets as f64, "{name}: {treated:?}"),
            Cost::All => assert_eq!((treated.kept, treated.decoded as usize), (None, treated.packets), "{name}"),
        }
    }
}

#[test]
fn a_span_has_the_pictures_of_a_full_decode() {
    let Some(folder) = media_folder() else { return };
    // With sound and without, with B-frames, open groups, other codecs, other containers, uneven times, without an index.
    for (name, middle_ns) in [
        ("bunny-480p.mp4", (11_875_000_000, 15_750_000_000)),
        ("surgery-hevc-720p.mp4", (3_000_000_000, 4_000_000_000)),
        ("asl-book-480p.mkv", (2_000_000_000, 3_000_000_000)),
        ("bunny-vp9-480p.webm", (2_500_000_000, 4_000_000_000)),
        ("surgery-vfr-720p.mp4", (1_234_567_000, 7_000_000_000)),
        ("mpeg2-1080p.ts", (1_500_000_000, 2_000_000_000)),
    ] {
        let uri = folder.join(name).to_string_lossy().into_owned();
        let bench = Bench::new();
        let context = bench.context();
        let packets = packets(&Input::file(Path::new(&uri)), &uri, Instant::now() + context.timeout, &context).unwrap();
        let period_ns = packets.period_ns();
        let all = everything(&uri, period_ns, &context).unwrap().0;
        let end_ns = packets.end_ns;
        for span_ns in [(0, 600_000_000), middle_ns, (end_ns - 700_000_000, end_ns), (end_ns - 900_000_000, i64::MAX)] {
            let inside = all.iter().filter(|f| (span_ns.0..span_ns.1).contains(&f.pts_ns));
            let inside: Vec<Frame> = inside.map(|f| Frame { pts_ns: f.pts_ns - span_ns.0, ..f.clone() }).collect();
            let want = by_the_rule(&inside, 2.0, period_ns);
            let mut got = Vec::new();
            let settings = GridSettings { fps: 2.0, size: Some((SIDE, SIDE)), sampling: Sampling::Exact, span_ns };
            let stats = sample(&uri, &settings, &context, &mut |f| {
                got.push(Frame { pts_ns: f.pts_ns - span_ns.0, ..f });
                Ok(())
            });
            if stats.as_ref().is_err_and(|e| e.code == "no_frames") && inside.is_empty() {
                continue;
            }
            let stats = stats.unwrap();
            let times = || got.iter().map(|f| f.pts_ns).collect::<Vec<_>>();
            assert!(got.iter().eq(want), "{name} {span_ns:?}: {:?}", times());
            assert!(!got.is_empty() || all.iter().all(|f| f.pts_ns >= span_ns.1), "{name} {span_ns:?}");
            assert!(
                !stats.truncated && stats.decoded_duration_us * 1000 <= span_ns.1.min(end_ns) + period_ns,
                "{name}: {stats:?}"
            );
            if name == "bunny-480p.mp4" {
                // 24 frames a second, at most 10.4 s from one key frame to the next: never the 720 frames of the whole video.
                assert!(stats.frames_decoded < 350, "{span_ns:?}: {stats:?}");
            }
        }
    }
}
