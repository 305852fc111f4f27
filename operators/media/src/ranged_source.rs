//! A pipeline's source that reads a remote file by ranges: to demuxers the same as `filesrc`, with random access.
//!
//! Why an element of our own: GStreamer's HTTP sources know no object stores, retry without bound, and cannot leave out what the planner does not
//! need. What can go wrong: a read fails; the pipeline then hears of "a read error" only, the reason waits in [`RangedSource::broken`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use gstreamer as gst;
use gstreamer_base as gst_base;

use super::holes::Holes;
use super::input::Broken;
use super::remote::{Cursor, Remote};
use super::{MediaError, locked};

glib::wrapper! {
    /// See the module's documentation.
    pub(crate) struct RangedSource(ObjectSubclass<imp::RangedSource>) @extends gst_base::BaseSrc, gst::Element, gst::Object;
}

impl RangedSource {
    /// A source of these bytes.
    pub fn of(remote: Arc<Remote>, holes: Option<Arc<Holes>>) -> Self {
        let source: RangedSource = glib::Object::new();
        let _ = source.imp().reads.set((remote, holes)); // it is new
        source
    }

    /// Why it ended, if a read failed.
    pub fn broken(&self) -> Broken {
        Arc::clone(&self.imp().broken)
    }
}

mod imp {
    use std::sync::{Mutex, OnceLock};

    use super::*;

    #[derive(Default)]
    pub(crate) struct RangedSource {
        pub reads: OnceLock<(Arc<Remote>, Option<Arc<Holes>>)>,
        pub cursor: Mutex<Cursor>,
        pub flushing: AtomicBool,
        pub broken: Broken,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for RangedSource {
        const NAME: &'static str = "CuretteRangedSource";
        type Type = super::RangedSource;
        type ParentType = gst_base::BaseSrc;
    }

    impl ObjectImpl for RangedSource {
        fn constructed(&self) {
            self.parent_constructed();
            self.obj().set_format(gst::Format::Bytes);
        }
    }

    impl GstObjectImpl for RangedSource {}

    impl ElementImpl for RangedSource {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: std::sync::LazyLock<gst::subclass::ElementMetadata> = std::sync::LazyLock::new(|| {
                gst::subclass::ElementMetadata::new("Ranged source", "Source/Network", "Reads a remote file by ranges", "curette")
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: std::sync::LazyLock<Vec<gst::PadTemplate>> = std::sync::LazyLock::new(|| {
                let any = gst::Caps::new_any();
                let template = gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &any);
                template.into_iter().collect()
            });
            &TEMPLATES
        }
    }

    impl BaseSrcImpl for RangedSource {
        fn start(&self) -> Result<(), gst::ErrorMessage> {
            Ok(())
        }

        fn stop(&self) -> Result<(), gst::ErrorMessage> {
            Ok(())
        }

        fn is_seekable(&self) -> bool {
            true
        }

        fn size(&self) -> Option<u64> {
            self.reads.get().map(|(remote, _)| remote.len)
        }

        fn unlock(&self) -> Result<(), gst::ErrorMessage> {
            self.flushing.store(true, Ordering::Relaxed);
            Ok(())
        }

        fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
            self.flushing.store(false, Ordering::Relaxed);
            Ok(())
        }

        fn fill(&self, offset: u64, _: u32, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
            buffer.set_offset(offset);
            buffer.set_offset_end(offset + buffer.size() as u64);
            let Some((remote, holes)) = self.reads.get() else { return Err(gst::FlowError::NotSupported) };
            let mut cursor = locked(&self.cursor);
            let mut map = buffer.map_writable().map_err(|_| gst::FlowError::Error)?;
            let stopped = || self.flushing.load(Ordering::Relaxed).then(|| MediaError::new("cancelled", "the pipeline stops"));
            let mut read = |at: u64, out: &mut [u8]| remote.read_at(at, out, &mut cursor, &stopped);
            let done = match holes {
                Some(holes) => holes.read(offset, &mut map, &mut read),
                None => read(offset, &mut map),
            };
            match done {
                Ok(()) => Ok(gst::FlowSuccess::Ok),
                Err(_) if self.flushing.load(Ordering::Relaxed) => Err(gst::FlowError::Flushing),
                Err(e) => {
                    let message = e.message.clone();
                    // Before the pipeline can tell anyone.
                    locked(&self.broken).get_or_insert(e);
                    gst::element_imp_error!(self, gst::ResourceError::Read, ["{message}"]);
                    Err(gst::FlowError::Error)
                }
            }
        }
    }
}
