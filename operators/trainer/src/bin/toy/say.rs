//! Events on stdout. A reader that went away means: stop and save.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

/// Somebody wants us to stop.
pub static STOP: AtomicBool = AtomicBool::new(false);
/// No heartbeat any more.
pub static SILENT: AtomicBool = AtomicBool::new(false);
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Writes an event.
pub fn say(what: &str, fields: Value) {
    let mut line = json!({"v": 1, "seq": SEQUENCE.fetch_add(1, Ordering::Relaxed) + 1, "t": what});
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
    }
    raw(&format!("{line}\n"));
}

/// Writes whatever.
pub fn raw(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        STOP.store(true, Ordering::Relaxed);
    }
}
