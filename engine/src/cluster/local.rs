//! The parent that starts processes on this machine, watches them, and starts them again when one dies: a whole cluster (`--processes N`), or this
//! machine's process of a larger one (`--hosts`).
//!
//! Why a parent: membership of a dataflow is fixed for its life, so the death of one process ends all; somebody must be left to start over.
//! On several machines each has a parent: a process that dies takes the connections of all others with it, all parents start theirs again,
//! and these meet anew. Why the children of a local cluster inherit sockets that listen already: a port that is merely looked up may be gone
//! when the child binds it.
//! Why a crash changes the next start: what crashed a decoder once will do so again, so from then on decoding is contained in processes of its
//! own, where it costs one row.
//!
//! What can go wrong: the parent itself is killed; then the kernel kills the children. A crash that comes back every time ends at `max_restarts`.

mod decide;
mod forward;
mod spawn;

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{ClusterError, Listen, MAX_PROCESSES, Members, Secret};
use decide::{Death, How, Next, next};

/// Environment variable that tells a child its place, as JSON of a [`Seat`].
pub const VARIABLE: &str = "CURETTE_CLUSTER";

/// Environment variable that tells the child of a process of several machines that it is watched, as JSON of a [`Watched`].
const WATCHED_VARIABLE: &str = "CURETTE_WATCHED";

/// After the first death the others get this long to end by themselves and say why, before they are killed.
const GRACE: Duration = Duration::from_secs(1);

/// After Ctrl-C or SIGTERM the children get this long to end; a second signal ends the wait.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// When process 0 has ended well the others get this long to end, too.
const LINGER_LIMIT: Duration = Duration::from_secs(60);

/// Longest pause before a restart, unless the first is longer.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// After an attempt that lasted so long the next pause is the first one again.
const STEADY: Duration = Duration::from_secs(300);

/// What to run and how stubbornly.
#[derive(Debug, Clone)]
pub struct Local {
    /// The executable of every child: usually `std::env::current_exe()`.
    pub program: PathBuf,
    /// Its arguments: the same for all.
    pub args: Vec<OsString>,
    /// How many children, if they are a cluster by themselves.
    pub processes: usize,
    /// The only child is this process of a cluster over several machines.
    pub member: Option<usize>,
    /// How often the whole cluster is started again before giving up.
    pub max_restarts: u32,
    /// Pause before the first restart; it doubles up to half a minute with each further one, until an attempt lasts.
    pub first_pause: Duration,
    /// After a crash the children are told to decode in processes of their own.
    pub contain: bool,
}

impl Local {
    /// Who died, and how; a child of several machines under its number there.
    fn named(&self, death: Death) -> Death {
        Death { index: self.member.unwrap_or(death.index), ..death }
    }
}

/// How a supervised run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code that the parent should end with.
    pub code: u8,
    /// How often the cluster was started again.
    pub restarts: u32,
}

/// A child's place in its cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seat {
    /// Which process this is; only process 0 should show progress.
    pub index: usize,
    /// Addresses of all.
    pub addresses: Vec<String>,
    /// Same for all processes of one attempt.
    pub run_id: String,
    /// How often the cluster was started before.
    pub restarts: u32,
    /// A crash came before: decode in processes of their own.
    #[serde(default)]
    pub contain: bool,
    secret: Secret,
    listener: RawFd,
    parent: u32,
}

/// What the parent of a process of several machines tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Watched {
    /// How often it was started before.
    pub restarts: u32,
    /// A crash came before: decode in processes of its own.
    pub contain: bool,
    parent: u32,
}

impl Watched {
    /// What the parent of this process says; `None` if nobody watches it.
    pub fn from_environment() -> Result<Option<Watched>, ClusterError> {
        let Some(text) = std::env::var_os(WATCHED_VARIABLE) else { return Ok(None) };
        let watched: Watched = serde_json::from_str(&text.to_string_lossy()).map_err(|e| {
            ClusterError::BadMembers(format!("the variable {WATCHED_VARIABLE} is for child processes only, do not set it: {e}"))
        })?;
        // A program that a child started inherits the variable, and is watched by nobody.
        Ok((watched.parent == std::os::unix::process::parent_id()).then_some(watched))
    }
}

/// A seat is taken once: it owns an open socket.
static SEATED: AtomicBool = AtomicBool::new(false);

impl Seat {
    /// The place that the parent gave this process; `None` if it was not started by [`supervise`]. Gives it once.
    pub fn from_environment() -> Result<Option<(Seat, TcpListener)>, ClusterError> {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let bad = |why: String| {
            ClusterError::BadMembers(format!("the variable {VARIABLE} is for child processes only, do not set it: {why}"))
        };
        let seat: Seat = serde_json::from_str(&text.to_string_lossy()).map_err(|e| bad(e.to_string()))?;
        // A program that a child started inherits the variable, but not the place.
        if seat.parent != std::os::unix::process::parent_id() || SEATED.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        // SAFETY: `fcntl` takes no pointers; it tells whether the descriptor is open, and keeps it from this process's own children.
        if unsafe { libc::fcntl(seat.listener, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(bad(format!("descriptor {}: {}", seat.listener, io::Error::last_os_error())));
        }
        // SAFETY: the descriptor is open, was made for this process by its parent, and `SEATED` keeps a second owner away.
        let listener = unsafe { TcpListener::from_raw_fd(seat.listener) };
        listener.local_addr().map_err(|e| bad(e.to_string()))?;
        Ok(Some((seat, listener)))
    }

    /// This process's view of the cluster.
    pub fn members(self, listener: TcpListener, threads: usize, plan_hash: String, silence: Duration) -> Members {
        Members {
            index: self.index,
            addresses: self.addresses,
            threads,
            run_id: self.run_id,
            plan_hash,
            build: super::this_build().to_owned(),
            silence,
            secret: Some(self.secret),
            // The loopback is heard by nobody.
            tls: None,
            listen: Listen::Ready(listener),
        }
    }
}

/// Runs a cluster of children to its end and blocks until all of them are gone. Call it from a thread that lives as long as the process, best
/// `main`: the kernel kills the children when the thread that started them ends.
pub fn supervise(local: &Local) -> Result<Outcome, ClusterError> {
    if !(1..=MAX_PROCESSES).contains(&local.processes) {
        return Err(ClusterError::BadMembers(format!("--processes {} is not from 1 to {MAX_PROCESSES}", local.processes)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ClusterError::system("start the runtime that watches the processes"))?;
    runtime.block_on(watch(local))
}

async fn watch(local: &Local) -> Result<Outcome, ClusterError> {
    let mut signals = Signals::new().map_err(ClusterError::system("listen for signals"))?;
    let (mut restarts, mut in_a_row, mut contain) = (0, 0, false);
    loop {
        let begun = Instant::now();
        let deaths = attempt(local, restarts, contain, &mut signals).await?;
        if begun.elapsed() >= STEADY {
            in_a_row = 0;
        }
        match next(&deaths, signals.stopped, local.max_restarts - restarts) {
            Next::End(code) => return Ok(Outcome { code, restarts }),
            Next::GiveUp { victim, code } => {
                let victim = local.named(victim);
                tracing::error!(
                    "{victim}; gave up after {restarts} restarts. What is committed stays; the same command continues from there"
                );
                return Ok(Outcome { code, restarts });
            }
            Next::Restart { victim } => {
                let pause = local.first_pause.saturating_mul(1 << in_a_row.min(16)).min(MAX_PAUSE.max(local.first_pause));
                (restarts, in_a_row) = (restarts + 1, in_a_row + 1);
                contain |= local.contain && victim.how.is_crash();
                let victim = local.named(victim);
                tracing::warn!(
                    "{victim}; restart {restarts} of at most {} of the whole cluster in {:.1} s{}",
                    local.max_restarts,
                    pause.as_secs_f64(),
                    if contain { ", with decoding in processes of its own (contain_after_crash)" } else { "" }
                );
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    stop = signals.next() => return Ok(Outcome { code: decide::code_of_signal(stop), restarts }),
                }
            }
        }
    }
}

/// The signals that stop a run. Handlers are installed once, so that none is missed between attempts.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The first that came.
    stopped: Option<i32>,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, stopped: None })
    }

    async fn next(&mut self) -> i32 {
        let signal = tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
        };
        *self.stopped.get_or_insert(signal)
    }
}

/// Starts all children once and waits until the last is gone.
async fn attempt(local: &Local, restarts: u32, contain: bool, signals: &mut Signals) -> Result<Vec<Death>, ClusterError> {
    let mut group = Group::start(local, restarts, contain)?;
    let mut deaths: Vec<Death> = Vec::new();
    let mut kill_at: Option<Instant> = None;
    while !group.waits.is_empty() {
        tokio::select! {
            Some(ended) = group.waits.join_next() => {
                let Ok((index, how)) = ended else { continue };
                group.pids[index] = None;
                tracing::debug!("Process {index} ended: {how}");
                deaths.push(Death { index, how });
                let limit = match how {
                    How::Code(0) if index == 0 => Some(LINGER_LIMIT),
                    How::Code(0) => None,
                    How::Code(_) | How::Signal(_) => Some(GRACE),
                    How::Killed => None,
                };
                // Who is asked to stop keeps the time that it was given.
                if let Some(limit) = limit.filter(|_| !group.told) {
                    let at = Instant::now() + limit;
                    kill_at = Some(kill_at.map_or(at, |earlier| earlier.min(at)));
                }
            }
            signal = signals.next() => {
                if group.told {
                    kill_at = Some(Instant::now());
                } else {
                    tracing::info!("Stopping {} processes; a second Ctrl-C kills them", group.waits.len());
                    group.tell(signal);
                    kill_at = Some(Instant::now() + STOP_LIMIT);
                }
            }
            () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                group.kill();
                kill_at = None;
            }
        }
    }
    group.output.shut().await;
    Ok(deaths)
}

/// The children of one attempt. Dropping it kills whoever is left.
struct Group {
    waits: JoinSet<(usize, How)>,
    /// Process ids, which are also those of their process groups, of the living.
    pids: Vec<Option<i32>>,
    output: forward::Output,
    killed: Arc<AtomicBool>,
    told: bool,
}

impl Group {
    fn start(local: &Local, restarts: u32, contain: bool) -> Result<Group, ClusterError> {
        let places = match local.member {
            None => spawn::seats(local.processes, restarts, contain)?,
            Some(_) => vec![spawn::Place::Watched(Watched { restarts, contain, parent: std::process::id() })],
        };
        let mut group = Group {
            waits: JoinSet::new(),
            pids: vec![None; places.len()],
            output: forward::Output::default(),
            killed: Arc::default(),
            told: false,
        };
        for (index, place) in places.iter().enumerate() {
            let mut child = spawn::child(local, place).map_err(ClusterError::system(format!(
                "start process {} of the cluster ({})",
                local.member.unwrap_or(index),
                local.program.display()
            )))?;
            group.pids[index] = child.id().and_then(|id| i32::try_from(id).ok());
            group.output.forward(index, &mut child);
            group.waits.spawn(wait(index, child, Arc::clone(&group.killed)));
        }
        // The parent's copies of the sockets close here: the port of a dead child must refuse calls.
        Ok(group)
    }

    fn tell(&mut self, signal: i32) {
        self.told = true;
        for pid in self.pids.iter().flatten() {
            // SAFETY: `kill` takes no pointers. The child is not reaped yet, so its id is not anybody else's.
            unsafe { libc::kill(-pid, signal) };
        }
    }

    fn kill(&mut self) {
        self.killed.store(true, Ordering::SeqCst);
        self.tell(libc::SIGKILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn wait(index: usize, mut child: Child, killed: Arc<AtomicBool>) -> (usize, How) {
    let how = match child.wait().await {
        Ok(status) => How::of(status, killed.load(Ordering::SeqCst)),
        // Cannot happen to a child of ours; if it does, it is no success.
        Err(_) => How::Signal(libc::SIGKILL),
    };
    (index, how)
}
