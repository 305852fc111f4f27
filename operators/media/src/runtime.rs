//! GStreamer in this process: started once, software decoders only, decode errors counted.
//!
//! Why no hardware decoders: the frames must not depend on the machine. Why a log function: libavcodec conceals damage, and GStreamer's decoders leave out what
//! they cannot decode; both report it nowhere but in their log. Counting those lines per decoding thread is the only way to know.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use gst::prelude::*;
use gstreamer as gst;

use super::{MediaError, teardown};

/// Starts GStreamer on first use.
pub(crate) fn start() -> Result<(), MediaError> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            gst::init().map_err(|e| e.to_string())?;
            prefer_software();
            count_decode_errors();
            Ok(())
        })
        .clone()
        .map_err(|e| MediaError::new("unsupported_codec", format!("GStreamer does not start: {e}")))?;
    teardown::check()
}

/// Decoders of VP8 and VP9 with a layer of opacity. They decode the two layers side by side and wait for both, for ever if one packet cannot be decoded. The plain
/// decoders give the same colours; opacity is of no use here.
const BLOCKING: [&str; 2] = ["vp8alphadecodebin", "vp9alphadecodebin"];

fn prefer_software() {
    let factories = gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DECODER, gst::Rank::MARGINAL);
    for factory in factories {
        let hardware = factory.metadata("klass").is_some_and(|klass| klass.contains("Hardware"));
        if hardware || BLOCKING.contains(&factory.name().as_str()) {
            factory.set_rank(gst::Rank::NONE);
        }
    }
}

thread_local! {
    /// The error counter of the pipeline that this streaming thread decodes for, and whose log lines are counted.
    static COUNTER: RefCell<Option<(Arc<AtomicU64>, Teller)>> = const { RefCell::new(None) };
}

/// Who tells of a decoder's errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Teller {
    /// libavcodec itself, one line per error and more of them than of frames.
    Libav,
    /// The base class of GStreamer's own decoders, for each packet that could not be decoded.
    BaseClass,
}

/// Counts what is logged as errors in the thread that runs `decoder` (single-threaded by [`single_thread`]) into `errors`.
pub(crate) fn count_errors_of(decoder: &gst::Element, errors: &Arc<AtomicU64>) {
    let Some(pad) = decoder.static_pad("sink") else { return };
    let libav = decoder.factory().is_some_and(|f| f.name().starts_with("avdec_"));
    let teller = if libav { Teller::Libav } else { Teller::BaseClass };
    let errors = Arc::clone(errors);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        COUNTER.with_borrow_mut(|slot| {
            if !slot.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, &errors)) {
                *slot = Some((Arc::clone(&errors), teller));
            }
        });
        gst::PadProbeReturn::Ok
    });
}

fn count_decode_errors() {
    // Someone who debugs GStreamer wants its log on stderr; the count must not depend on that.
    if std::env::var_os("GST_DEBUG").is_none() {
        gst::log::remove_default_log_function();
    }
    gst::log::add_log_function(|category, level, _, _, _, _, message| {
        COUNTER.with_borrow(|slot| {
            if let Some((counter, teller)) = slot
                && is_decode_error(*teller, category.name(), level, || message.get().map(|m| m.to_string()).unwrap_or_default())
            {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    gst::log::set_active(true);
    gst::log::set_threshold_for_name("libav", gst::DebugLevel::Error);
    gst::log::set_threshold_for_name(BASE_CLASS, gst::DebugLevel::Warning);
}

/// The log category of GStreamer's base class for decoders.
const BASE_CLASS: &str = "videodecoder";

/// Every other line may be there because of `GST_DEBUG`, on which no result may depend.
fn is_decode_error(teller: Teller, category: &str, level: gst::DebugLevel, message: impl FnOnce() -> String) -> bool {
    match teller {
        Teller::Libav => category == "libav" && level == gst::DebugLevel::Error,
        // `GST_VIDEO_DECODER_ERROR` logs what it is told with this in front of it.
        Teller::BaseClass => category == BASE_CLASS && level == gst::DebugLevel::Warning && message().starts_with("error: "),
    }
}

/// One thread per decoder: files are decoded in parallel instead, which costs less in sum.
pub(crate) fn single_thread(element: &gst::Element) {
    for name in ["max-threads", "threads"] {
        if element.find_property(name).is_some() {
            element.set_property_from_str(name, "1");
        }
    }
}

/// Something that is not installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// GStreamer element.
    pub element: &'static str,
    /// Debian and Ubuntu package that holds it.
    pub package: &'static str,
}

/// The elements that reading needs and this machine lacks.
pub fn missing_software() -> Vec<Missing> {
    const NEEDED: &[(&str, &str)] = &[
        ("filesrc", "libgstreamer1.0-0"),
        ("decodebin3", "gstreamer1.0-plugins-base"),
        ("appsink", "gstreamer1.0-plugins-base"),
        ("qtdemux", "gstreamer1.0-plugins-good"),
        ("matroskademux", "gstreamer1.0-plugins-good"),
        ("h264parse", "gstreamer1.0-plugins-bad"),
        ("avdec_h264", "gstreamer1.0-libav"),
    ];
    if start().is_err() {
        return vec![Missing { element: "gstreamer", package: "libgstreamer1.0-0" }];
    }
    NEEDED
        .iter()
        .filter(|(element, _)| gst::ElementFactory::find(element).is_none())
        .map(|&(element, package)| Missing { element, package })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_decoder_s_own_errors_count() {
        let says = |teller, category, level, text: &str| is_decode_error(teller, category, level, || text.to_owned());
        assert!(says(Teller::Libav, "libav", gst::DebugLevel::Error, "concealing 3 MBs"));
        assert!(!says(Teller::Libav, "libav", gst::DebugLevel::Warning, "deprecated"));
        assert!(!says(Teller::Libav, BASE_CLASS, gst::DebugLevel::Warning, "error: Decoding error"), "libav has told already");
        assert!(says(Teller::BaseClass, BASE_CLASS, gst::DebugLevel::Warning, "error: Failed to decode frame"));
        assert!(!says(Teller::BaseClass, BASE_CLASS, gst::DebugLevel::Warning, "decreasing timestamp"));
        assert!(!says(Teller::BaseClass, "default", gst::DebugLevel::Error, "error: anything"));
    }
}
