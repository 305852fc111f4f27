//! The files that examples name: a corpus, a head, a video.

use std::path::Path;

use curette_engine::operator::{DynOperator, Kind, Paths};
use curette_heads::{Encoder, Head};

/// Width of the embeddings in `rows.rs`.
pub const WIDTH: usize = 4;
/// Their name.
pub const EMBEDDING: &str = "contract/1";

/// Makes what an operator's example needs below `folder`.
pub fn fill(folder: &Path, operator: &dyn DynOperator) {
    let corpus = folder.join("corpus");
    std::fs::create_dir_all(&corpus).unwrap();
    std::fs::write(corpus.join("text.mp4"), "this is no video\n").unwrap();
    std::fs::write(corpus.join("empty.mp4"), "").unwrap();
    if operator.kind() == Kind::Source {
        std::fs::write(corpus.join("empty.info.json"), r#"{"id": "abc", "title": "Heart", "tags": ["a", null]}"#).unwrap();
        std::fs::write(corpus.join("text.info.json"), "{broken").unwrap();
        std::fs::write(corpus.join("empty.en.vtt"), "WEBVTT\n\n00:00.000 --> 00:02.000\nthe heart\n").unwrap();
    }
    for file in operator.files(&Paths { base: folder.to_path_buf() }) {
        match (operator.name(), file.key) {
            ("frame_classifier", "head") => std::fs::write(&file.path, head().to_bytes()).unwrap(),
            (name, key) => panic!("the example of {name} names a file in `{key}`: make one in tests/contract/world.rs"),
        }
    }
    if operator.columns().needs.iter().any(|need| need.name == "video_uri") {
        video(&folder.join("video.mp4"));
    }
}

/// Removes all inputs of sources.
pub fn empty(folder: &Path) {
    std::fs::remove_dir_all(folder.join("corpus")).unwrap();
}

fn head() -> Head {
    Head::linear(vec![2.0; WIDTH], -1.0, Encoder::built_in(EMBEDDING), ["no".into(), "yes".into()])
}

/// Eight seconds at 854x480 of a picture that fills its frame (noise: `ball` would be a ball between black borders).
fn video(path: &Path) {
    use gstreamer::prelude::*;
    gstreamer::init().expect("GStreamer; run scripts/bootstrap");
    let text = format!(
        "videotestsrc pattern=snow num-buffers=80 ! video/x-raw,width=854,height=480,framerate=10/1 ! \
         x264enc speed-preset=ultrafast key-int-max=20 ! mp4mux ! filesink location=\"{}\"",
        path.display()
    );
    let pipeline = gstreamer::parse::launch(&text).expect("GStreamer with x264enc and mp4mux; run scripts/bootstrap");
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let end = bus.timed_pop_filtered(
        gstreamer::ClockTime::from_seconds(60),
        &[gstreamer::MessageType::Eos, gstreamer::MessageType::Error],
    );
    assert!(end.is_some_and(|m| m.type_() == gstreamer::MessageType::Eos), "the test video could not be made");
    pipeline.set_state(gstreamer::State::Null).unwrap();
}
