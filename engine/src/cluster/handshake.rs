//! What two processes tell each other before they trust a connection.
//!
//! ```text
//! dialer                         listener
//! hello(index, run, plan..) -->
//!                           <--  hello(index, run, plan..)
//! proof                     -->
//!                           <--  proof | refused
//! welcome                   -->
//! ready (when connected with all) <-> ready
//! ```
//!
//! Why both hellos always travel: each side compares them by itself and can say in its own log in what they differ. Why a last word from
//! the dialer: the listener counts a peer as there only when the peer does so too. Why `ready`: nobody sends data to a process that still waits
//! for a third one. Who has another plan or is another build proves the secret all the same before it hangs up, so that the listener can end, too; with a secret
//! no stranger can make it, without one any process that reaches the port can. With a shared secret both prove that they know it, over both hellos and fresh nonces, so a replay proves nothing.

use serde::{Deserialize, Serialize};

use super::Members;
use super::frame::{FrameError, Talk};

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub index: usize,
    pub processes: usize,
    pub threads: usize,
    pub run_id: String,
    pub plan_hash: String,
    pub build: String,
    /// Whether proofs are asked for.
    pub secret: bool,
    /// Whether TLS follows.
    pub tls: bool,
    nonce: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
enum Message {
    Hello(Hello),
    Proof { mac: String },
    Refused { why: Refused },
    Welcome,
    Ready,
}

/// Why a listener turns away a process that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refused {
    /// Another connection has that place.
    Duplicate,
    /// The proof is wrong.
    Secret,
}

/// In what two processes differ that should be members of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// They belong to different runs.
    #[error("they belong to different runs ({ours} here, {theirs} there); is one left over from an earlier run?")]
    Run {
        /// Here.
        ours: String,
        /// There.
        theirs: String,
    },
    /// They do not have the same plan.
    #[error(
        "their plans differ ({ours} here, {theirs} there); give every process the same pipeline file, variables, models and build, and see that the inputs do not change while the run starts"
    )]
    Plan {
        /// Here.
        ours: String,
        /// There.
        theirs: String,
    },
    /// They are different builds.
    #[error("they are different builds ({ours} here, {theirs} there); run the same executable everywhere")]
    Build {
        /// Here.
        ours: String,
        /// There.
        theirs: String,
    },
    /// They count different numbers of processes.
    #[error("{ours} processes are listed here and {theirs} there; give every process the same hosts file")]
    Processes {
        /// Here.
        ours: usize,
        /// There.
        theirs: usize,
    },
    /// They have different numbers of worker threads.
    #[error("{ours} worker threads here and {theirs} there; give every process the same -w")]
    Threads {
        /// Here.
        ours: usize,
        /// There.
        theirs: usize,
    },
    /// The wrong process answered or called.
    #[error(
        "the other side says that it is process {theirs}; give every process the same hosts file in the same order and its own --process"
    )]
    Index {
        /// There.
        theirs: usize,
    },
    /// Only one of them has a secret, or they have different ones.
    #[error("they do not share the same cluster secret; set it alike for all processes, or for none")]
    Secret,
    /// Only one of them secures its connections.
    #[error("TLS is {} here and {} there; give the three --tls options to every process, or to none", on(*ours), on(*theirs))]
    Tls {
        /// Here.
        ours: bool,
        /// There.
        theirs: bool,
    },
    /// They speak different versions of the protocol.
    #[error("it speaks version {theirs} of the protocol, this process version {ours}; run the same build everywhere")]
    Version {
        /// Here.
        ours: u16,
        /// There.
        theirs: u16,
    },
}

fn on(tls: bool) -> &'static str {
    if tls { "on" } else { "off" }
}

impl Mismatch {
    /// Whether the other process may go away by itself and leave its place to the right one.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Mismatch::Run { .. })
    }

    /// Whether the other process should hear of it from one that has proved to know the secret, and end, too.
    fn ends_both(&self) -> bool {
        matches!(self, Mismatch::Plan { .. } | Mismatch::Build { .. } | Mismatch::Tls { .. })
    }
}

/// Why a connection did not become a member's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("{0}")]
    Frame(FrameError),
    #[error("{0}")]
    Mismatch(Mismatch),
    #[error("it says that process {0} is connected already; was the same --process given twice?")]
    TheySayDuplicate(usize),
    /// A member of this very run, by its run id and the secret, that is about to do something else.
    #[error("{mismatch}")]
    OtherPlan { peer: usize, mismatch: Mismatch },
    #[error("process {0} is connected already; was the same --process given twice?")]
    Duplicate(usize),
    #[error("it said something unexpected")]
    OutOfTurn,
}

impl From<std::io::Error> for Rejected {
    fn from(e: std::io::Error) -> Self {
        Rejected::Frame(FrameError::Io(e))
    }
}

impl From<FrameError> for Rejected {
    fn from(e: FrameError) -> Self {
        match e {
            FrameError::Version { theirs } => Rejected::Mismatch(Mismatch::Version { ours: super::frame::VERSION, theirs }),
            other => Rejected::Frame(other),
        }
    }
}

/// Compares two hellos. `expected` is the index that the other must have, or whether an index is acceptable.
fn compare(ours: &Hello, theirs: &Hello, expected: impl Fn(usize) -> bool) -> Result<(), Mismatch> {
    if ours.run_id != theirs.run_id {
        return Err(Mismatch::Run { ours: ours.run_id.clone(), theirs: theirs.run_id.clone() });
    }
    if ours.secret != theirs.secret {
        return Err(Mismatch::Secret);
    }
    if ours.tls != theirs.tls {
        return Err(Mismatch::Tls { ours: ours.tls, theirs: theirs.tls });
    }
    if ours.build != theirs.build {
        return Err(Mismatch::Build { ours: ours.build.clone(), theirs: theirs.build.clone() });
    }
    if ours.plan_hash != theirs.plan_hash {
        return Err(Mismatch::Plan { ours: ours.plan_hash.clone(), theirs: theirs.plan_hash.clone() });
    }
    if ours.processes != theirs.processes {
        return Err(Mismatch::Processes { ours: ours.processes, theirs: theirs.processes });
    }
    if ours.threads != theirs.threads {
        return Err(Mismatch::Threads { ours: ours.threads, theirs: theirs.threads });
    }
    if expected(theirs.index) { Ok(()) } else { Err(Mismatch::Index { theirs: theirs.index }) }
}

/// Dials: the whole exchange from this side. On success the listener counts on us.
pub(super) fn dial(talk: &mut Talk<'_>, members: &Members, peer: usize) -> Result<(), Rejected> {
    let ours = hello(members);
    let our_bytes = talk.send(&Message::Hello(ours.clone()))?;
    let (theirs, their_bytes) = receive_hello(talk)?;
    let compared = compare(&ours, &theirs, |index| index == peer);
    if compared.as_ref().map_or_else(Mismatch::ends_both, |()| true) {
        let sent = talk.send(&Message::Proof { mac: prove(members, b"dial", &our_bytes, &their_bytes) });
        compared.map_err(Rejected::Mismatch)?;
        sent?;
    } else {
        compared.map_err(Rejected::Mismatch)?;
    }
    match talk.receive::<Message>()?.0 {
        Message::Proof { mac } if agrees(&mac, &prove(members, b"listen", &our_bytes, &their_bytes)) => {}
        Message::Proof { .. } | Message::Refused { why: Refused::Secret } => return Err(Rejected::Mismatch(Mismatch::Secret)),
        Message::Refused { why: Refused::Duplicate } => return Err(Rejected::TheySayDuplicate(members.index)),
        Message::Hello(_) | Message::Welcome | Message::Ready => return Err(Rejected::OutOfTurn),
    }
    talk.send(&Message::Welcome)?;
    Ok(())
}

/// Answers a call: the whole exchange from this side. `claim` reserves the caller's place, or says that it is taken. On failure the caller of
/// this function gives a reserved place back.
pub(super) fn answer(talk: &mut Talk<'_>, members: &Members, claim: impl FnOnce(usize) -> bool) -> Result<usize, Rejected> {
    let ours = hello(members);
    let (theirs, their_bytes) = match receive_hello(talk) {
        Err(Rejected::Mismatch(version)) => {
            // The header of our hello carries our version, so that the caller can report it too.
            let _ = talk.send(&Message::Hello(ours));
            return Err(Rejected::Mismatch(version));
        }
        other => other?,
    };
    let our_bytes = talk.send(&Message::Hello(ours.clone()))?;
    let is_caller = |index| index > ours.index && index < ours.processes;
    let other_plan = match compare(&ours, &theirs, is_caller) {
        Ok(()) => None,
        Err(mismatch) if mismatch.ends_both() && is_caller(theirs.index) => Some(mismatch),
        Err(mismatch) => return Err(Rejected::Mismatch(mismatch)),
    };
    let Message::Proof { mac } = talk.receive::<Message>()?.0 else { return Err(Rejected::OutOfTurn) };
    if !agrees(&mac, &prove(members, b"dial", &their_bytes, &our_bytes)) {
        talk.send(&Message::Refused { why: Refused::Secret })?;
        return Err(Rejected::Mismatch(Mismatch::Secret));
    }
    if let Some(mismatch) = other_plan {
        return Err(Rejected::OtherPlan { peer: theirs.index, mismatch });
    }
    if !claim(theirs.index) {
        talk.send(&Message::Refused { why: Refused::Duplicate })?;
        return Err(Rejected::Duplicate(theirs.index));
    }
    talk.send(&Message::Proof { mac: prove(members, b"listen", &their_bytes, &our_bytes) })?;
    match talk.receive::<Message>()?.0 {
        Message::Welcome => Ok(theirs.index),
        _ => Err(Rejected::OutOfTurn),
    }
}

/// Tells a peer that this process is connected with all.
pub(super) fn say_ready(talk: &mut Talk<'_>) -> Result<(), FrameError> {
    talk.send(&Message::Ready).map(drop)
}

/// Waits until a peer is connected with all.
pub(super) fn await_ready(talk: &mut Talk<'_>) -> Result<(), Rejected> {
    match talk.receive::<Message>()?.0 {
        Message::Ready => Ok(()),
        _ => Err(Rejected::OutOfTurn),
    }
}

fn receive_hello(talk: &mut Talk<'_>) -> Result<(Hello, Vec<u8>), Rejected> {
    match talk.receive()? {
        (Message::Hello(hello), bytes) => Ok((hello, bytes)),
        _ => Err(Rejected::OutOfTurn),
    }
}

fn hello(members: &Members) -> Hello {
    Hello {
        index: members.index,
        processes: members.addresses.len(),
        threads: members.threads,
        run_id: members.run_id.clone(),
        plan_hash: members.plan_hash.clone(),
        build: members.build.clone(),
        secret: members.secret.is_some(),
        tls: members.tls.is_some(),
        // Eighty random bits beside the time: never the same twice.
        nonce: ulid::Ulid::generate().to_string(),
    }
}

/// Proof of the secret over both hellos; empty without a secret. The side goes in, so that a proof cannot be sent back as one's own.
fn prove(members: &Members, side: &[u8], dialer: &[u8], listener: &[u8]) -> String {
    let Some(secret) = &members.secret else { return String::new() };
    let mut hasher = blake3::Hasher::new_keyed(&secret.key());
    for part in [side, dialer, listener] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// Compares in constant time where there is a secret.
fn agrees(theirs: &str, ours: &str) -> bool {
    match (blake3::Hash::from_hex(theirs), blake3::Hash::from_hex(ours)) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => theirs.is_empty() && ours.is_empty(),
    }
}
