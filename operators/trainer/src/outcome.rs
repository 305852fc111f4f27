//! How an attempt ended: the trainer's last word first, exit codes second.
//!
//! Why in this order: an interpreter may crash while it takes itself down after all is saved, and a launcher may lose a code; what the trainer said
//! when it knew best counts. Pure; the table of codes is the one of the protocol.

use crate::event::Body;

/// Exit code of a bad shard or sample.
pub const EXIT_DATA: i32 = 65;
/// Exit code of a loss that is not finite.
pub const EXIT_NOT_FINITE: i32 = 66;
/// Exit code of a missing device or of memory that does not suffice.
pub const EXIT_RESOURCES: i32 = 69;
/// Exit code of a trainer that stopped on request.
pub const EXIT_STOPPED: i32 = 75;
/// Exit code of a job, a model or a spool that makes no sense: the same again would end the same.
pub const EXIT_JOB: i32 = 78;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankExit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Why we killed an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Killed {
    /// No event for so long, in seconds.
    Silent(u64),
    /// More lines than allowed were no events; the first one.
    Garbage(String),
    /// It speaks another version of the protocol.
    Protocol(u32),
    /// A rank ended and the others did not.
    PeerLost(usize),
    /// It was asked to stop, or had said its last word, and did not end in time.
    Overdue,
}

/// All that is known of an attempt when its processes are gone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ending {
    /// The last `done`, `stopped` or `error` of rank 0, or of the rank that failed first.
    pub last_word: Option<Body>,
    /// In the order in which they ended.
    pub exits: Vec<(usize, RankExit)>,
    /// Why we killed it.
    pub killed: Option<Killed>,
}

/// What that means.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Finished; acceptance comes next.
    Finished,
    /// Stopped with a checkpoint: not a failure, can be resumed.
    Stopped,
    /// A sample is bad.
    BadSample(String),
    /// The loss was not finite in the batch at this cursor, if it said which.
    NotFinite(Option<u64>),
    /// No device, or out of memory.
    Resources(String),
    /// A crash or a hang: trying again may help.
    Crashed(String),
    /// Trying again cannot help.
    Hopeless(String),
}

/// Judges an ending.
pub fn judge(ending: &Ending) -> Verdict {
    if let Some(Killed::Protocol(theirs)) = ending.killed {
        let ours = crate::event::PROTOCOL;
        return Verdict::Hopeless(format!(
            "the trainer speaks version {theirs} of the protocol, this is version {ours}; install a trainer that fits"
        ));
    }
    match &ending.last_word {
        Some(Body::Done { .. }) => return Verdict::Finished,
        Some(Body::Stopped { .. }) => return Verdict::Stopped,
        Some(Body::Error { kind, sample, cursor, message }) => match (kind.as_str(), sample) {
            ("data", Some(sample)) => return Verdict::BadSample(sample.clone()),
            ("nan", _) => return Verdict::NotFinite(*cursor),
            ("memory" | "device", _) => return Verdict::Resources(format!("{kind}: {message}")),
            ("job", _) => return Verdict::Hopeless(format!("the trainer refuses the job: {message}")),
            _ => {}
        },
        _ => {}
    }
    let why = match (&ending.killed, ending.exits.iter().find(|(_, exit)| *exit != RankExit::Code(0))) {
        (Some(Killed::Silent(seconds)), _) => format!("said nothing for {seconds} s and was killed"),
        (Some(Killed::Garbage(first)), _) => {
            format!("wrote too many lines that are no events and was killed; the first: {first}")
        }
        (_, Some((_, RankExit::Code(EXIT_NOT_FINITE)))) => return Verdict::NotFinite(None),
        (_, Some((rank, RankExit::Code(EXIT_RESOURCES)))) => {
            return Verdict::Resources(format!("rank {rank} ended with code {EXIT_RESOURCES}"));
        }
        (_, Some((rank, RankExit::Code(code)))) => format!("rank {rank} ended with code {code}{}", meaning(*code)),
        (_, Some((rank, RankExit::Signal(signal)))) => format!("rank {rank} was ended by signal {signal}"),
        (_, None) => "ended with code 0 without saying that it is done".into(),
    };
    let word = match &ending.last_word {
        Some(Body::Error { kind, message, .. }) => format!(" ({kind}: {message})"),
        _ => String::new(),
    };
    Verdict::Crashed(format!("the trainer {why}{word}"))
}

/// What is odd about a code that came without its event.
fn meaning(code: i32) -> &'static str {
    match code {
        EXIT_DATA => " (bad data, but it did not say which sample)",
        EXIT_STOPPED => " (stopped, but it did not say so, nor was it asked)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: &str, sample: Option<&str>) -> Body {
        Body::Error { kind: kind.into(), sample: sample.map(Into::into), cursor: Some(8), message: "m".into() }
    }
    fn ended(last_word: Option<Body>, exit: RankExit) -> Verdict {
        judge(&Ending { last_word, exits: vec![(0, exit)], killed: None })
    }

    #[test]
    fn each_row_of_the_table() {
        use RankExit::{Code, Signal};
        assert_eq!(ended(Some(Body::Done { step: 5 }), Code(0)), Verdict::Finished);
        // Taken down badly after all was saved.
        assert_eq!(ended(Some(Body::Done { step: 5 }), Signal(11)), Verdict::Finished);
        assert_eq!(ended(Some(Body::Stopped { step: 5 }), Code(75)), Verdict::Stopped);
        assert_eq!(ended(Some(Body::Stopped { step: 5 }), Signal(9)), Verdict::Stopped);
        assert_eq!(ended(Some(error("data", Some("c1"))), Code(65)), Verdict::BadSample("c1".into()));
        assert_eq!(ended(Some(error("nan", None)), Code(66)), Verdict::NotFinite(Some(8)));
        assert_eq!(ended(None, Code(66)), Verdict::NotFinite(None));
        assert_eq!(ended(Some(error("memory", None)), Code(69)), Verdict::Resources("memory: m".into()));
        assert!(matches!(ended(None, Code(69)), Verdict::Resources(_)));
        assert_eq!(ended(Some(error("job", None)), Code(EXIT_JOB)), Verdict::Hopeless("the trainer refuses the job: m".into()));
        for (exit, said) in [
            (Code(0), "without saying that it is done"),
            (Code(1), "rank 0 ended with code 1"),
            (Code(65), "did not say which sample"),
            (Code(75), "nor was it asked"),
            (Signal(9), "by signal 9"),
        ] {
            assert!(matches!(ended(None, exit), Verdict::Crashed(why) if why.contains(said)), "{exit:?}");
        }
        let silent = Ending { killed: Some(Killed::Silent(300)), exits: vec![(0, Signal(9))], ..Ending::default() };
        assert!(matches!(judge(&silent), Verdict::Crashed(why) if why.contains("300 s")));
        let other = Ending { killed: Some(Killed::Protocol(2)), ..Ending::default() };
        assert!(matches!(judge(&other), Verdict::Hopeless(why) if why.contains("version 2")));
    }

    #[test]
    fn of_several_ranks_the_one_that_failed_first_counts() {
        let exits = vec![(1, RankExit::Code(66)), (0, RankExit::Signal(9))];
        assert_eq!(judge(&Ending { exits, killed: Some(Killed::PeerLost(1)), ..Ending::default() }), Verdict::NotFinite(None));
    }
}
