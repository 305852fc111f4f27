//! No child outlives the process that started it: the kernel kills it when its parent dies.
//!
//! What can go wrong: systems without such a signal; there a child that is left behind ends when its pipes close.

use std::io;

/// Makes the calling process, a child before its exec, die with its parent; `parent` is the id that the parent has.
///
/// Only async-signal-safe calls (`prctl`, `getppid`, `_exit`): made for `pre_exec`.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: plain system calls; no memory is touched.
    unsafe {
        #[cfg(target_os = "linux")]
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the line above.
        if u32::try_from(libc::getppid()) != Ok(parent) {
            libc::_exit(1);
        }
    }
    Ok(())
}
