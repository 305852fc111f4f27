//! What the exit code of a process says, and who may act on it.
//!
//! Why one table: the command line returns these codes, the supervisor of a local cluster decides by them whether a restart can help, and
//! systemd or Kubernetes may be told to do the same. What can go wrong: a code that is not in the table (a C library called `exit`, a signal);
//! it counts as an accident, so a restart is tried.

/// Why a process of curette ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 0: everything asked for is done and committed.
    Done,
    /// 1: the run failed for a reason that may pass: disk full, store unreachable, counts that do not add up.
    Failed,
    /// 2: the pipeline, the command line or the hosts file is wrong; nothing was run.
    Mistake,
    /// 3: the output was made by another plan, or the members of a cluster do not have the same plan.
    PlanChanged,
    /// 4: more rows ended in error than `max_error_rate` allows.
    ErrorRate,
    /// 5: everything before a gate is done and committed; rows wait there until people have looked at a sample (`curette audit status`).
    Held,
    /// 70: a panic, that is a bug in curette or in an operator.
    Internal,
    /// 75: another process of the cluster was lost, or did not appear in time.
    PeerLost,
    /// 130: stopped by Ctrl-C (128 + SIGINT).
    Interrupted,
    /// 143: stopped by SIGTERM (128 + SIGTERM).
    Terminated,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Exit; 10] = [
        Exit::Done,
        Exit::Failed,
        Exit::Mistake,
        Exit::PlanChanged,
        Exit::ErrorRate,
        Exit::Held,
        Exit::Internal,
        Exit::PeerLost,
        Exit::Interrupted,
        Exit::Terminated,
    ];

    /// The code that the operating system sees.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Mistake => 2,
            Exit::PlanChanged => 3,
            Exit::ErrorRate => 4,
            Exit::Held => 5,
            Exit::Internal => 70,
            Exit::PeerLost => 75,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }

    /// The reason behind a code, if it is one of ours.
    pub fn from_code(code: i32) -> Option<Exit> {
        Exit::ALL.into_iter().find(|e| i32::from(e.code()) == code)
    }

    /// Whether starting the same command again can end differently. Nobody restarts what would fail in the same way, nor what a person stopped.
    pub const fn worth_restarting(self) -> bool {
        match self {
            Exit::Failed | Exit::Internal | Exit::PeerLost => true,
            Exit::Done
            | Exit::Mistake
            | Exit::PlanChanged
            | Exit::ErrorRate
            | Exit::Held
            | Exit::Interrupted
            | Exit::Terminated => false,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(i32::from(exit.code())), Some(exit));
        }
        assert_eq!(Exit::from_code(77), None);
    }
}
