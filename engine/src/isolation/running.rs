//! One decoder process as its parent sees it. Whatever happens to it, it is reaped: no zombies, no orphans.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::wire::{LENGTH_BYTES, MAX_MESSAGE_BYTES, length_of};
use crate::orphan::die_with;

/// The hidden verb.
pub const VERB: &str = "decoder-process";
/// How long one wait for a child takes before the deadline and the cancel flag are looked at.
const POLL: Duration = Duration::from_millis(50);
/// A child that has closed its output has this long to die by itself, so that the reason is its own.
const DYING: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The run is being stopped.
    Cancelled,
    /// It ended by itself, or someone ended it.
    Died(String),
    /// It did not answer in time, and was killed.
    Silent,
}

/// A child that waits for tasks. Killed and reaped when dropped.
pub(super) struct Running {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    pub fn start(program: &Path) -> io::Result<Running> {
        let parent = std::process::id();
        let mut command = Command::new(program);
        // A process group of its own: Ctrl-C is for the run, which lets open tasks end.
        command.arg(VERB).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls: those of `die_with`.
        unsafe {
            command.pre_exec(move || die_with(parent));
        }
        let mut process = command.spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        let running = Running { process, input, output };
        never_blocks(running.input.as_raw_fd())?;
        never_blocks(running.output.as_raw_fd())?;
        Ok(running)
    }

    /// Sends a message and waits for the body of the answer.
    pub fn ask(&mut self, message: &[u8], limit: Duration, cancelled: &AtomicBool) -> Result<Vec<u8>, Lost> {
        let until = Instant::now() + limit;
        let (mut sent, mut got) = (0, Vec::new());
        let mut block = vec![0; 1 << 16];
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Lost::Cancelled);
            }
            if Instant::now() > until {
                return Err(Lost::Silent);
            }
            let writes = sent < message.len();
            wait_for(self.output.as_raw_fd(), self.input.as_raw_fd(), writes);
            if writes {
                match self.input.write(&message[sent..]) {
                    Ok(n) => sent += n,
                    Err(e) if is_early(&e) => {}
                    Err(_) => return Err(Lost::Died(self.ended())),
                }
            }
            match self.output.read(&mut block) {
                Ok(0) => return Err(Lost::Died(self.ended())),
                Ok(n) => got.extend_from_slice(&block[..n]),
                Err(e) if is_early(&e) => {}
                Err(_) => return Err(Lost::Died(self.ended())),
            }
            if let Some(length) = got.get(..LENGTH_BYTES).map(length_of) {
                if length > MAX_MESSAGE_BYTES {
                    return Err(Lost::Died(format!("an answer of {length} bytes; the limit is {MAX_MESSAGE_BYTES}")));
                }
                if got.len() as u64 >= length + LENGTH_BYTES as u64 {
                    got.drain(..LENGTH_BYTES);
                    return Ok(got);
                }
            }
        }
    }

    /// Why it ended.
    fn ended(&mut self) -> String {
        let until = Instant::now() + DYING;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return describe(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => return "closing its output".into(),
                Err(e) => return e.to_string(),
            }
        }
    }
}

fn describe(status: ExitStatus) -> String {
    const NAMES: [(i32, &str); 11] = [
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGSYS, "SIGSYS"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGTRAP, "SIGTRAP"),
    ];
    match (status.signal(), status.code()) {
        (Some(signal), _) => match NAMES.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("signal {signal} ({name})"),
            None => format!("signal {signal}"),
        },
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => status.to_string(),
    }
}

fn is_early(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn never_blocks(fd: RawFd) -> io::Result<()> {
    // SAFETY: `fcntl` with these commands takes no pointers.
    let done = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Until there is something to read, or room to write, or for [`POLL`].
fn wait_for(output: RawFd, input: RawFd, writes: bool) {
    let of = |fd, events| libc::pollfd { fd, events, revents: 0 };
    let mut fds = [of(output, libc::POLLIN), of(input, libc::POLLOUT)];
    let count = if writes { 2 } else { 1 };
    // SAFETY: the array outlives the call and has at least `count` elements.
    unsafe {
        libc::poll(fds.as_mut_ptr(), count, POLL.as_millis() as libc::c_int);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_have_names() {
        assert_eq!(describe(ExitStatus::from_raw(11)), "signal 11 (SIGSEGV)");
        assert_eq!(describe(ExitStatus::from_raw(40)), "signal 40");
        assert_eq!(describe(ExitStatus::from_raw(101 << 8)), "exit code 101");
    }
}
