//! Ends the process when going on would be wrong: lost rows, a broken operator, a commit that failed, too many errors.
//!
//! Why end instead of unwinding: threads hold capabilities, decoders and half-written shards; nothing of that is true before it is committed, so
//! the cheapest correct clean-up is none, and the next run continues from what is committed.

use std::io::Write;

use crate::exit::Exit;
use crate::operator::OperatorError;

/// Ends the process with a reason.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stop;

impl Stop {
    /// Says why and ends the process. Committed splits stay committed.
    pub fn end(self, exit: Exit, why: &str) -> ! {
        if tracing::dispatcher::has_been_set() {
            tracing::error!("{why}");
        } else {
            // Nothing is left to do if even stderr is closed.
            drop(writeln!(std::io::stderr(), "{why}"));
        }
        drop(std::io::stdout().flush());
        // SAFETY: `_exit` takes no pointers and does not return.
        unsafe { libc::_exit(i32::from(exit.code())) }
    }

    /// An operator broke in a way that is not a row's fault.
    pub fn operator_failed(self, e: &OperatorError) -> ! {
        self.end(
            Exit::Failed,
            &format!("The run stops: {e}. Finished splits are committed; run the same command again to continue"),
        )
    }

    /// The sums of a split do not add up.
    pub fn rows_lost(self, split: u32, what: &str) -> ! {
        self.end(
            Exit::Internal,
            &format!(
                "The run stops without committing split {split}, because rows were lost or invented, which is a bug: {what}"
            ),
        )
    }

    /// Shards or the log could not be written.
    pub fn commit_failed(self, e: &dyn std::fmt::Display) -> ! {
        self.end(
            Exit::Failed,
            &format!("The run stops: {e}. Finished splits are committed; run the same command again to continue"),
        )
    }

    /// Gives the value or ends the process.
    pub fn or_die<T, E: std::fmt::Display>(self, action: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|e| self.end(Exit::Failed, &format!("cannot {action}: {e}")))
    }
}
