//! The encoders of clips and their settings.
//!
//! Never chosen by what a machine happens to have, and single-threaded, so that all machines make the same bytes of the same frames.

use gst::prelude::*;
use gstreamer as gst;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reader::make;
use super::{CutSettings, MediaError, Missing, runtime};

/// An H.264 encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// x264: `x264enc` (GPL).
    #[default]
    X264,
    /// Cisco's openh264: `openh264enc` (BSD); `speed_preset` does not apply.
    Openh264,
}

impl Encoder {
    fn element(self) -> Missing {
        match self {
            Encoder::X264 => Missing { element: "x264enc", package: "gstreamer1.0-plugins-ugly" },
            Encoder::Openh264 => Missing { element: "openh264enc", package: "gstreamer1.0-plugins-bad" },
        }
    }
}

/// AAC encoders in order of preference.
const AAC: [&str; 3] = ["avenc_aac", "fdkaacenc", "voaacenc"];
const AAC_BITS_PER_SECOND: &str = "128000";

/// What a cut needs and this machine lacks.
pub fn missing_encoders(encoder: Encoder, audio: bool) -> Vec<Missing> {
    if runtime::start().is_err() {
        return runtime::missing_software();
    }
    let here = |m: &Missing| gst::ElementFactory::find(m.element).is_some();
    let mut missing: Vec<Missing> = [
        encoder.element(),
        Missing { element: "mp4mux", package: "gstreamer1.0-plugins-good" },
        Missing { element: "videocrop", package: "gstreamer1.0-plugins-good" },
        Missing { element: "videoconvertscale", package: "gstreamer1.0-plugins-base" },
    ]
    .into_iter()
    .filter(|m| !here(m))
    .collect();
    if audio && AAC.iter().all(|name| gst::ElementFactory::find(name).is_none()) {
        missing.push(Missing { element: "avenc_aac", package: "gstreamer1.0-libav" });
    }
    missing
}

/// x264's own code paths are limited to SSE 4.2. Its AVX-512 macroblock tree reads memory that nothing wrote, so that the same frames give other
/// bytes from call to call; and the AVX paths round differently from one processor to the next, where the narrower ones do not.
const X264_OPTIONS: &str = if cfg!(target_arch = "x86_64") { "asm=SSE4.2" } else { "" };

/// `set_id` numbers x264's parameter sets. Two settings against x264enc's defaults. No buffer: it would hold constant quality down to 2048 kbit/s.
/// No B-frames: mp4mux sums up the clip's length from decoding times, and with reordering and irregular frame times that sum ends before the last
/// frame does, which players then leave out.
pub(crate) fn encoder(settings: &CutSettings, set_id: Option<u32>) -> Result<gst::Element, MediaError> {
    let encoder = make(settings.encoder.element().element)?;
    let quality = settings.quality.to_string();
    let set_id = set_id.map(|id| format!("sps-id={id}"));
    let options: Vec<&str> = [Some(X264_OPTIONS), set_id.as_deref()].into_iter().flatten().filter(|o| !o.is_empty()).collect();
    let options = options.join(":");
    let properties: Vec<(&str, &str)> = match settings.encoder {
        Encoder::X264 => {
            vec![
                ("threads", "1"),
                ("pass", "qual"),
                ("vbv-buf-capacity", "0"),
                ("bframes", "0"),
                ("option-string", &options),
                ("quantizer", &quality),
                ("speed-preset", settings.speed_preset.name()),
            ]
        }
        Encoder::Openh264 => {
            vec![("multi-thread", "1"), ("rate-control", "off"), ("qp-min", &quality), ("qp-max", &quality), ("gop-size", "250")]
        }
    };
    for (name, value) in properties {
        if encoder.find_property(name).is_some() {
            encoder.set_property_from_str(name, value);
        }
    }
    Ok(encoder)
}

/// From samples to AAC.
pub(crate) fn aac_chain() -> Result<[gst::Element; 3], MediaError> {
    let name = AAC.iter().find(|name| gst::ElementFactory::find(name).is_some());
    let aac =
        make(name.ok_or_else(|| {
            MediaError::new("encode_failed", "no AAC encoder is installed: apt-get install gstreamer1.0-libav")
        })?)?;
    if aac.find_property("bitrate").is_some() {
        aac.set_property_from_str("bitrate", AAC_BITS_PER_SECOND);
    }
    let convert = make("audioconvert")?;
    convert.set_property_from_str("dithering", "none");
    Ok([convert, make("audioresample")?, aac])
}
