//! What follows from the deaths of an attempt. Pure.
//!
//! Why the victim matters: when one process dies, all others die of lost connections a moment later. A message that blames those sends people to
//! the wrong log.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::exit::Exit;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Code(i32),
    Signal(i32),
    /// By the parent, because of another's death.
    Killed,
}

impl How {
    pub fn of(status: ExitStatus, killed: bool) -> How {
        match (status.code(), status.signal()) {
            (Some(code), _) => How::Code(code),
            (None, Some(libc::SIGKILL)) if killed => How::Killed,
            (None, signal) => How::Signal(signal.unwrap_or(libc::SIGKILL)),
        }
    }

    /// As a shell would put it.
    fn code(self) -> u8 {
        match self {
            How::Code(code) => u8::try_from(code).unwrap_or(Exit::Failed.code()),
            How::Signal(signal) => code_of_signal(signal),
            How::Killed => code_of_signal(libc::SIGKILL),
        }
    }

    fn is_success(self) -> bool {
        self == How::Code(0)
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Code(code) => match Exit::from_code(*code) {
                Some(Exit::Internal) => write!(f, "stopped because of a panic (exit code {code})"),
                Some(Exit::PeerLost) => write!(f, "lost its connection to another process (exit code {code})"),
                _ => write!(f, "ended with exit code {code}"),
            },
            How::Signal(libc::SIGKILL) => write!(f, "was killed by signal 9; if nobody did that, the machine ran out of memory"),
            How::Signal(signal) => write!(f, "was killed by signal {signal}"),
            How::Killed => write!(f, "was killed by its parent"),
        }
    }
}

/// A child and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Death {
    pub index: usize,
    pub how: How,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process {} {}", self.index, self.how)
    }
}

/// What the parent does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It ends with this code.
    End(u8),
    /// It starts all again.
    Restart { victim: Death },
    /// It would, but has done so too often.
    GiveUp { victim: Death, code: u8 },
}

/// Decides by the deaths in the order in which they happened.
pub(super) fn next(deaths: &[Death], stopped: Option<i32>, restarts_left: u32) -> Next {
    let first = deaths.iter().find(|d| d.index == 0).map(|d| d.how);
    if let Some(signal) = stopped {
        return Next::End(match first {
            Some(How::Code(_)) | None => first.map_or(code_of_signal(signal), How::code),
            Some(How::Signal(_) | How::Killed) => code_of_signal(signal),
        });
    }
    match victim(deaths) {
        None => Next::End(first.map_or(Exit::Failed.code(), How::code)),
        // Process 0 was done and this one merely lingered.
        Some(Death { how: How::Killed, .. }) if first == Some(How::Code(0)) => Next::End(0),
        Some(victim) => match victim.how {
            How::Code(code) if Exit::from_code(code).is_some_and(|exit| !exit.worth_restarting()) => Next::End(victim.how.code()),
            _ if restarts_left == 0 => Next::GiveUp { victim, code: victim.how.code() },
            _ => Next::Restart { victim },
        },
    }
}

/// Whom to blame: somebody with a reason of its own before somebody who lost a peer, before somebody whom the parent killed; of equals the
/// first.
fn victim(deaths: &[Death]) -> Option<Death> {
    let rank = |how: How| match how {
        How::Code(code) if Exit::from_code(code).is_some_and(|exit| !exit.worth_restarting()) => 0,
        How::Code(code) if Exit::from_code(code) == Some(Exit::PeerLost) => 2,
        How::Code(_) | How::Signal(_) => 1,
        How::Killed => 3,
    };
    deaths.iter().filter(|d| !d.how.is_success()).min_by_key(|d| rank(d.how)).copied()
}

/// 128 + signal, as shells do.
pub(super) fn code_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(Exit::Failed.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deaths(hows: &[(usize, How)]) -> Vec<Death> {
        hows.iter().map(|(index, how)| Death { index: *index, how: *how }).collect()
    }

    #[test]
    fn all_well_is_the_end() {
        assert_eq!(next(&deaths(&[(1, How::Code(0)), (0, How::Code(0))]), None, 3), Next::End(0));
    }

    #[test]
    fn the_one_that_crashed_is_blamed_and_not_those_that_lost_it() {
        let all = deaths(&[(0, How::Code(75)), (2, How::Code(70)), (1, How::Killed)]);
        assert_eq!(next(&all, None, 1), Next::Restart { victim: all[1] });
        assert_eq!(next(&all, None, 0), Next::GiveUp { victim: all[1], code: 70 });
        let killed = deaths(&[(1, How::Signal(9)), (0, How::Code(75))]);
        assert_eq!(next(&killed, None, 0), Next::GiveUp { victim: killed[0], code: 137 });
    }

    #[test]
    fn mistakes_are_final_whoever_made_them() {
        for code in [2, 3, 4, 5] {
            let all = deaths(&[(0, How::Code(75)), (1, How::Code(code))]);
            assert_eq!(next(&all, None, 9), Next::End(u8::try_from(code).unwrap()));
        }
    }

    #[test]
    fn a_crash_after_process_0_was_done_still_counts() {
        let all = deaths(&[(0, How::Code(0)), (1, How::Signal(11))]);
        assert_eq!(next(&all, None, 1), Next::Restart { victim: all[1] });
    }

    #[test]
    fn lingering_after_process_0_was_done_does_not() {
        assert_eq!(next(&deaths(&[(0, How::Code(0)), (1, How::Killed)]), None, 1), Next::End(0));
    }

    #[test]
    fn a_stop_is_never_restarted() {
        assert_eq!(next(&deaths(&[(0, How::Signal(2)), (1, How::Signal(2))]), Some(2), 5), Next::End(130));
        assert_eq!(next(&deaths(&[(1, How::Code(1)), (0, How::Code(0))]), Some(15), 5), Next::End(0));
        assert_eq!(next(&deaths(&[(0, How::Killed), (1, How::Killed)]), Some(15), 5), Next::End(143));
    }
}
