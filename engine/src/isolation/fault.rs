//! For tests of containment: `CURETTE_DECODER_FAULT=PART=FAULT` makes a process `segv`, `abort` or `hang` that decodes a row whose `video_uri`
//! contains `PART`: a decoder process, or the process of the run where it decodes itself.

use arrow::array::{Array, AsArray, RecordBatch};

use crate::operator::{OperatorError, Task, Transform};
use crate::verdict::Processed;

/// See the module's documentation.
const VARIABLE: &str = "CURETTE_DECODER_FAULT";

/// A step that decodes in the process of the run, and can be poisoned.
pub(crate) struct Poisonable(Box<dyn Transform>);

impl Poisonable {
    /// The step itself, unless a fault is asked for.
    pub fn wrap(step: Box<dyn Transform>) -> Box<dyn Transform> {
        match std::env::var_os(VARIABLE) {
            Some(_) => Box::new(Poisonable(step)),
            None => step,
        }
    }
}

impl Transform for Poisonable {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        strike(rows);
        self.0.process(rows, task)
    }
}

/// Does what the variable asks for, if one of the rows is meant.
pub(super) fn strike(rows: &RecordBatch) {
    let Ok(wanted) = std::env::var(VARIABLE) else { return };
    let Some((part, fault)) = wanted.split_once('=') else { return };
    let Some(uris) = rows.column_by_name("video_uri").and_then(|c| c.as_string_opt::<i32>()) else { return };
    if !(0..uris.len()).any(|i| uris.is_valid(i) && uris.value(i).contains(part)) {
        return;
    }
    match fault {
        "abort" => std::process::abort(),
        "hang" => loop {
            std::thread::park();
        },
        // SAFETY: gives a signal its default action and raises it in this process. Rust's own handler would return from a raised one.
        _ => unsafe {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::raise(libc::SIGSEGV);
        },
    }
}
