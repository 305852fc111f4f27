//! Reads a video back independently of the code under test: uridecodebin3 to the end, small grey pictures kept.

use std::path::Path;
use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

/// What came out of a video.
pub struct Decoded {
    pub width: u32,
    pub height: u32,
    pub times_us: Vec<i64>,
    pub duration_us: i64,
    pub has_audio: bool,
    /// Luma of each frame, as displayed.
    planes: Vec<Vec<u8>>,
}

impl Decoded {
    /// Mean absolute difference of luma.
    pub fn difference(&self, a: usize, b: usize) -> f64 {
        let (a, b) = (&self.planes[a], &self.planes[b]);
        a.iter().zip(b).map(|(x, y)| f64::from(x.abs_diff(*y))).sum::<f64>() / a.len() as f64
    }

    /// Rows and columns from each side (left, right, top, bottom) whose mean luma is dark in every frame.
    pub fn dark_border(&self) -> [u32; 4] {
        let (w, h) = (self.width as usize, self.height as usize);
        let dark = |values: &mut dyn Iterator<Item = u8>| {
            let (sum, n) = values.fold((0u64, 0u64), |(s, n), v| (s + u64::from(v), n + 1));
            sum <= 24 * n
        };
        let column = |x: usize| self.planes.iter().all(|p| dark(&mut (0..h).map(|y| p[y * w + x])));
        let row = |y: usize| self.planes.iter().all(|p| dark(&mut (0..w).map(|x| p[y * w + x])));
        let count = |mut all: Box<dyn Iterator<Item = bool> + '_>| all.by_ref().take_while(|d| *d).count() as u32;
        [
            count(Box::new((0..w).map(column))),
            count(Box::new((0..w).rev().map(column))),
            count(Box::new((0..h).map(row))),
            count(Box::new((0..h).rev().map(row))),
        ]
    }
}

/// Decodes all frames of a file; an error text when GStreamer gives one.
pub fn decode(path: &Path) -> Result<Decoded, String> {
    let text = "uridecodebin name=d videoflip video-direction=auto name=flip ! videoconvert ! video/x-raw,format=GRAY8 ! appsink name=v sync=false \
                fakesink name=a sync=false async=false";
    let pipeline = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
    let uri = gst::glib::filename_to_uri(path, None).unwrap();
    let source = pipeline.by_name("d").unwrap();
    source.set_property("uri", uri.as_str());
    let (flip, sound) = (pipeline.by_name("flip").unwrap(), pipeline.by_name("a").unwrap());
    let kinds = Arc::new(Mutex::new((false, false)));
    let seen = kinds.clone();
    source.connect_pad_added(move |_, pad| {
        let name = pad.current_caps().and_then(|c| c.structure(0).map(|s| s.name().to_string())).unwrap_or_default();
        let mut seen = seen.lock().unwrap();
        let target = if name.starts_with("video/") {
            seen.0 = true;
            flip.static_pad("sink").unwrap()
        } else {
            seen.1 = true;
            sound.static_pad("sink").unwrap()
        };
        pad.link(&target).unwrap();
    });
    let pads = seen_when_no_more(&source);
    let sink = pipeline.by_name("v").unwrap().downcast::<AppSink>().unwrap();
    let mut out = Decoded { width: 0, height: 0, times_us: Vec::new(), duration_us: 0, has_audio: false, planes: Vec::new() };
    pipeline.set_state(gst::State::Playing).map_err(|e| e.to_string())?;
    let bus = pipeline.bus().unwrap();
    let started = std::time::Instant::now();
    let result = loop {
        if let Some(m) = bus.pop_filtered(&[gst::MessageType::Error])
            && let gst::MessageView::Error(e) = m.view()
        {
            break Err(e.error().to_string());
        }
        if *pads.lock().unwrap() && !kinds.lock().unwrap().0 {
            break Ok(());
        }
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(50)) {
            keep(&mut out, &sample);
        } else if sink.is_eos() {
            break Ok(());
        }
        if started.elapsed().as_secs() > 60 {
            break Err("no end within 60 s".to_owned());
        }
    };
    out.duration_us = pipeline.query_duration::<gst::ClockTime>().map_or(0, |d| d.useconds() as i64);
    out.has_audio = kinds.lock().unwrap().1;
    pipeline.set_state(gst::State::Null).unwrap();
    result.map(|()| out)
}

fn seen_when_no_more(source: &gst::Element) -> Arc<Mutex<bool>> {
    let done = Arc::new(Mutex::new(false));
    let flag = done.clone();
    source.connect("no-more-pads", false, move |_| {
        *flag.lock().unwrap() = true;
        None
    });
    done
}

fn keep(out: &mut Decoded, sample: &gst::Sample) {
    let shape = sample.caps().unwrap().structure(0).unwrap();
    let (w, h) = (shape.get::<i32>("width").unwrap() as usize, shape.get::<i32>("height").unwrap() as usize);
    let buffer = sample.buffer().unwrap();
    let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
    let time = segment.to_stream_time(buffer.pts().unwrap()).unwrap();
    let map = buffer.map_readable().unwrap();
    let stride = w.next_multiple_of(4);
    out.planes.push((0..h).flat_map(|y| map[y * stride..y * stride + w].iter().copied()).collect());
    (out.width, out.height) = (w as u32, h as u32);
    out.times_us.push(time.useconds() as i64);
}
