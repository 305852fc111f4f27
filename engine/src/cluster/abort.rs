//! Makes a panic end the process.
//!
//! Why: when one worker thread of timely panics, the others wait for its capabilities for ever and the process hangs. So a panic is reported
//! and the process ends at once, without unwinding; what is committed stays, and whoever supervises starts again. A peer's death arrives as a
//! panic of timely's network threads; it is no bug of this process, so it gets one quiet line and its own exit code.
//!
//! What can go wrong: the panic happened while the thread held a lock that logging needs. A watchdog ends the process then.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::exit::Exit;

/// How timely's network threads begin their panics.
const PEER_LOST: &str = "timely communication error:";

/// The longest that reporting a panic may take.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// Set by the first thread that panics. Later ones wait for the end: what they have to say follows from the first.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Installs the panic hook of a program that runs a dataflow. Call it once, before the workers start.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        if ENDING.swap(true, Ordering::SeqCst) {
            loop {
                std::thread::park();
            }
        }
        let message = message(info);
        let exit = if message.starts_with(PEER_LOST) { Exit::PeerLost } else { Exit::Internal };
        let watchdog = std::thread::Builder::new().name("panic-watchdog".into()).spawn(move || {
            std::thread::sleep(REPORT_LIMIT);
            end(exit)
        });
        // Without a watchdog (no more threads) a report could hang: end silently rather than never.
        if watchdog.is_ok() {
            match exit {
                Exit::PeerLost => {
                    say(tracing::Level::WARN, &format!("Another process of the cluster is gone; this one stops too: {message}"))
                }
                _ => say(tracing::Level::ERROR, &describe(&message, info)),
            }
        }
        end(exit)
    }));
}

fn describe(message: &str, info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map(ToString::to_string).unwrap_or_else(|| "an unknown place".into());
    let current = std::thread::current();
    let thread = current.name().unwrap_or("without a name");
    let trace = Backtrace::capture();
    let trace = match trace.status() {
        BacktraceStatus::Captured => format!("\n{trace}"),
        _ => " (set RUST_BACKTRACE=1 to see how it came to this)".to_string(),
    };
    format!("Panic at {place} in thread {thread}, which is a bug; the process stops: {message}{trace}")
}

/// Through the logs where there are any, so that JSON stays JSON.
fn say(level: tracing::Level, text: &str) {
    if !tracing::dispatcher::has_been_set() {
        // Nothing is left to do if even stderr is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    } else if level == tracing::Level::ERROR {
        tracing::error!("{text}");
    } else {
        tracing::warn!("{text}");
    }
}

fn message(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_string(),
    }
}

/// Ends the process now: no destructors, no `atexit` handlers, which could wait for threads that will never answer.
fn end(exit: Exit) -> ! {
    // SAFETY: `_exit` takes no pointers and does not return.
    unsafe { libc::_exit(i32::from(exit.code())) }
}
