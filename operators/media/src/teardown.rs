//! Taking pipelines down, without waiting for ever.
//!
//! Why a thread: going to NULL joins the pipeline's threads, and a decoder in an endless loop or a read from a dead network disk never ends. The
//! caller's thread waits for [`TEARDOWN_WAIT`]; then the pipeline is left behind, counted, and with [`MAX_STUCK`] of them no new ones are started.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;

use super::MediaError;
use super::limits::{MAX_STUCK, TEARDOWN_WAIT};

/// Pipelines that were left behind and have not ended since.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// Refuses to start another pipeline when too many hang.
pub(crate) fn check() -> Result<(), MediaError> {
    refuse_from(STUCK.load(Ordering::Relaxed))
}

fn refuse_from(stuck: usize) -> Result<(), MediaError> {
    match stuck {
        n if n < MAX_STUCK => Ok(()),
        n => {
            let message = format!(
                "{n} decoders of this process hang and cannot be stopped; restart it, and look at the disk and the videos in its log"
            );
            Err(MediaError::new("decoder_stuck", message))
        }
    }
}

/// Stops a pipeline and frees what it holds.
pub(crate) fn take_down(pipeline: &gst::Pipeline, what: &str) {
    let owned = pipeline.clone();
    let ended = within(TEARDOWN_WAIT, &STUCK, move || {
        let _ = owned.set_state(gst::State::Null);
    });
    if !ended {
        metrics::counter!("curette_media_stuck_pipelines_total").increment(1);
        let waited = TEARDOWN_WAIT.as_secs();
        tracing::error!(file = what, "A decoder did not stop within {waited} s; it is left behind");
    }
}

/// Runs `work` on a thread of its own. False, and one more in `stuck` for as long as it goes on, if it takes longer than `limit`.
fn within(limit: Duration, stuck: &'static AtomicUsize, work: impl FnOnce() + Send + 'static) -> bool {
    let (done, wait) = mpsc::sync_channel(0);
    let (taken, take) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let reaper = std::thread::Builder::new().name("media-reaper".into()).spawn(move || {
        let Ok(work) = take.recv() else { return };
        work();
        // Nobody listens: the caller has given up and counted this one.
        if done.send(()).is_err() {
            stuck.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    match reaper {
        Ok(_) => {
            let _ = taken.send(work);
        }
        Err(_) => {
            work(); // no thread to be had: as well as one can
            return true;
        }
    }
    if wait.recv_timeout(limit).is_ok() {
        return true;
    }
    stuck.fetch_add(1, Ordering::Relaxed);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_left_behind_and_counted_until_it_ends() {
        static HERE: AtomicUsize = AtomicUsize::new(0);
        assert!(within(Duration::from_secs(60), &HERE, || ()));
        let (go_on, wait) = mpsc::channel::<()>();
        let begun = std::time::Instant::now();
        assert!(!within(Duration::from_millis(50), &HERE, move || {
            let _ = wait.recv();
        }));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(HERE.load(Ordering::Relaxed), 1);
        drop(go_on);
        while HERE.load(Ordering::Relaxed) > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    }

    #[test]
    fn too_many_stuck_decoders_refuse_new_work() {
        assert_eq!(refuse_from(MAX_STUCK - 1), Ok(()));
        assert_eq!(refuse_from(MAX_STUCK).map_err(|e| e.code), Err("decoder_stuck"));
    }
}
