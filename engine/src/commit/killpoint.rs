//! Places where a test can kill the process or hold it up, to prove that a resumed run equals an undisturbed one.
//!
//! `CURETTE_KILL_AT=before_commit:3` kills the process (SIGKILL: no destructor, no flush) when it passes the label `before_commit` for the
//! third time; without a number, the first time. `CURETTE_PAUSE_AT=split_complete:200` waits 200 ms at each pass of that label. The labels are the
//! arguments of [`kill_point`] wherever it is called. Without the variables, a pass costs two comparisons.
//!
//! What can go wrong: a label with a typing error never kills. A value that cannot be read is reported once and ignored.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The variable that names the label and the pass.
pub const VARIABLE: &str = "CURETTE_KILL_AT";

/// The variable that names a label and the milliseconds of its pauses.
pub const PAUSE_VARIABLE: &str = "CURETTE_PAUSE_AT";

struct Target {
    label: String,
    pass: u64,
    passed: AtomicU64,
}

static TARGET: OnceLock<Option<Target>> = OnceLock::new();
static PAUSE: OnceLock<Option<(String, u64)>> = OnceLock::new();

/// Waits if [`PAUSE_VARIABLE`] names this label. Kills the process if this is the pass that [`VARIABLE`] names.
pub fn kill_point(label: &str) {
    let pause = PAUSE.get_or_init(|| parse(&std::env::var(PAUSE_VARIABLE).ok()?));
    if let Some((_, millis)) = pause.as_ref().filter(|(at, _)| at == label) {
        std::thread::sleep(Duration::from_millis(*millis));
    }
    let Some(target) = TARGET.get_or_init(from_environment) else { return };
    if target.label == label && target.passed.fetch_add(1, Ordering::SeqCst) + 1 == target.pass {
        tracing::warn!(label, pass = target.pass, "Killing this process, as {VARIABLE} asks");
        die();
    }
}

fn from_environment() -> Option<Target> {
    let text = std::env::var(VARIABLE).ok()?;
    let parsed = parse(&text);
    if parsed.is_none() {
        tracing::error!("{VARIABLE}={text} is ignored: expected LABEL or LABEL:PASS with a pass of at least 1");
    }
    parsed.map(|(label, pass)| Target { label, pass, passed: AtomicU64::new(0) })
}

fn parse(text: &str) -> Option<(String, u64)> {
    let (label, pass) = match text.split_once(':') {
        Some((label, pass)) => (label, pass.parse().ok()?),
        None => (text, 1),
    };
    (!label.is_empty() && pass >= 1).then(|| (label.to_owned(), pass))
}

#[cfg(unix)]
fn die() -> ! {
    // SAFETY: plain system calls on our own process id; nothing of Rust's memory is touched.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    // SIGKILL cannot be caught, but its delivery to this thread may take a moment.
    std::process::abort()
}

#[cfg(not(unix))]
fn die() -> ! {
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_passes_are_read() {
        assert_eq!(parse("before_commit"), Some(("before_commit".into(), 1)));
        assert_eq!(parse("after_commit:12"), Some(("after_commit".into(), 12)));
        for bad in ["", ":1", "x:0", "x:y", "x:"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_named_pass_kills_the_process() {
        use std::os::unix::process::ExitStatusExt;
        let run = |value: &str| {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "--ignored", "commit::killpoint::tests::passes_a_label_twice"]).env(VARIABLE, value);
            child.output().unwrap().status
        };
        assert_eq!(run("label:2").signal(), Some(libc::SIGKILL));
        assert!(run("label:3").success());
        assert!(run("other").success());
    }

    #[test]
    #[ignore = "run in a child process by the_named_pass_kills_the_process"]
    fn passes_a_label_twice() {
        kill_point("label");
        kill_point("label");
    }
}
