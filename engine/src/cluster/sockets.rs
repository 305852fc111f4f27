//! Connects this process with all others: it listens for higher indices, dials lower ones, and gives up at a deadline.
//!
//! Why threads: each dial and each caller has its own small exchange with its own deadline, so that a slow stranger delays nobody. Who does not
//! pass the handshake is turned away and logged, and listening goes on. What can go wrong: a peer that can never fit ends the wait at once on the side that
//! dialled it, and if it is of this run and has another plan, on both; everything else is tried again until the deadline, and the error then says what was seen last.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use super::frame::{FrameError, Talk};
use super::handshake::{self, Rejected};
use super::places::State;
use super::{ClusterError, Listen, MAX_PROCESSES, Members};

/// The longest that one connection's handshake may take.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Most callers that are listened to at the same time; further ones are hung up on.
const MAX_CALLERS: usize = 64;

/// Pause between looks at the listening socket.
pub(super) const ACCEPT_EVERY: Duration = Duration::from_millis(20);

/// How often the connections that are there already are checked for life.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// First and longest pause between two dials of the same process.
const DIAL_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How often a process that waits says so.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// A silent connection is asked for life this often, as parts of [`Members::silence`]: first after two fifths, then every fifth.
const KEEPALIVE_PARTS: u32 = 5;

/// The kernel counts whole seconds.
const KEEPALIVE_LEAST: Duration = Duration::from_secs(1);

/// Longest run id or plan hash: both must fit into one message.
const MAX_NAME: usize = 256;

/// Connects with every other member within `limit`. Gives one socket per process, `None` at this process's own place. All sockets are past
/// their handshake, carry nothing unread, and every other process has got as far too.
pub fn connect(members: &Members, limit: Duration) -> Result<Vec<Option<TcpStream>>, ClusterError> {
    check(members)?;
    if members.addresses.len() == 1 {
        return Ok(vec![None]);
    }
    let listener = listen(members)?;
    let state = State::new(members, Instant::now() + limit);
    std::thread::scope(|scope| {
        scope.spawn(|| accept(scope, &listener, &state));
        for peer in 0..members.index {
            let state = &state;
            scope.spawn(move || dial(peer, state));
        }
    });
    let (until, sockets) = (state.until + HANDSHAKE_LIMIT, state.finish(limit)?);
    settle(members, &sockets, until, limit)?;
    tracing::debug!(process = members.index, processes = sockets.len(), "All processes are connected");
    Ok(sockets)
}

fn check(members: &Members) -> Result<(), ClusterError> {
    let processes = members.addresses.len();
    let bad = |text: String| Err(ClusterError::BadMembers(text));
    if members.index >= processes {
        return bad(format!("process {} of {processes}; the first is process 0", members.index));
    }
    if processes > MAX_PROCESSES {
        return bad(format!(
            "{processes} processes are more than the limit of {MAX_PROCESSES}; use more worker threads (-w) per process"
        ));
    }
    if members.threads == 0 {
        return bad("at least one worker thread is needed; give -w 1 or more".into());
    }
    if members.run_id.len() > MAX_NAME || members.plan_hash.len() > MAX_NAME {
        return bad(format!("run id and plan hash may have at most {MAX_NAME} bytes"));
    }
    Ok(())
}

fn listen(members: &Members) -> Result<TcpListener, ClusterError> {
    let index = members.index;
    let address = match &members.listen {
        Listen::OwnAddress => members.addresses[index].clone(),
        Listen::At(other) => other.clone(),
        Listen::Ready(listener) => listener.local_addr().map(|a| a.to_string()).unwrap_or_default(),
    };
    let bound = match &members.listen {
        Listen::Ready(listener) => listener.try_clone(),
        Listen::OwnAddress | Listen::At(_) => TcpListener::bind(&address),
    };
    let listener = bound.and_then(|l| l.set_nonblocking(true).map(|()| l));
    listener.map_err(|source| ClusterError::Bind { index, address, source })
}

fn accept<'s>(scope: &'s std::thread::Scope<'s, '_>, listener: &'s TcpListener, state: &'s State<'s>) {
    let mut swept = Instant::now();
    while !state.over() {
        if swept.elapsed() >= SWEEP_EVERY {
            state.sweep(&mut state.seen());
            swept = Instant::now();
        }
        match listener.accept() {
            Ok((stream, from)) => {
                if state.callers.fetch_add(1, Ordering::Relaxed) >= MAX_CALLERS {
                    state.callers.fetch_sub(1, Ordering::Relaxed);
                    tracing::warn!(%from, "Hung up on a caller: {MAX_CALLERS} others are being listened to");
                    continue;
                }
                let heard = std::thread::Builder::new().name("cluster-caller".into()).spawn_scoped(scope, move || {
                    hear(stream, from, state);
                    state.callers.fetch_sub(1, Ordering::Relaxed);
                });
                if let Err(error) = heard {
                    state.callers.fetch_sub(1, Ordering::Relaxed);
                    tracing::warn!(%from, %error, "Hung up on a caller: no thread to listen to it");
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(ACCEPT_EVERY),
            Err(error) => {
                // A caller that is gone again, or no more file descriptors: neither is for ever.
                tracing::warn!(%error, "Could not accept a connection; going on");
                std::thread::sleep(ACCEPT_EVERY);
            }
        }
    }
}

fn hear(stream: TcpStream, from: SocketAddr, state: &State<'_>) {
    let mut claimed = None;
    let result = prepare(&stream, state.members.silence).map_err(Rejected::from).and_then(|()| {
        handshake::answer(&mut state.talk(&stream), state.members, |index| {
            let free = state.claim(index);
            claimed = free.then_some(index);
            free
        })
    });
    match result {
        Ok(index) => state.take(index, stream),
        Err(Rejected::Frame(FrameError::Stopped)) => {}
        Err(Rejected::OtherPlan { peer, mismatch }) => {
            let (index, address) = (state.members.index, state.members.addresses[peer].clone());
            state.fail(ClusterError::Differs { index, peer, address, mismatch });
        }
        Err(why) => {
            if let Some(index) = claimed {
                state.release(index);
            }
            state.refuse(from, &why);
        }
    }
}

fn dial(peer: usize, state: &State<'_>) {
    let address = &state.members.addresses[peer];
    let mut pause = DIAL_PAUSE.0;
    let mut reminded = Instant::now();
    while !state.over() {
        let why = match call(address, state) {
            Err(error) => error.to_string(),
            Ok(stream) => match handshake::dial(&mut state.talk(&stream), state.members, peer) {
                Ok(()) => return state.take(peer, stream),
                Err(Rejected::Mismatch(mismatch)) if !mismatch.may_pass() => {
                    return state.fail(ClusterError::Differs {
                        index: state.members.index,
                        peer,
                        address: address.clone(),
                        mismatch,
                    });
                }
                Err(why) => why.to_string(),
            },
        };
        if reminded.elapsed() >= REMIND_EVERY {
            tracing::info!("Still waiting for process {peer} at {address}: {why}");
            reminded = Instant::now();
        }
        state.seen().last[peer] = Some(why);
        state.pause(pause);
        pause = (pause * 2).min(DIAL_PAUSE.1);
    }
}

fn call(address: &str, state: &State<'_>) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for resolved in address.to_socket_addrs()? {
        let left = state.until.saturating_duration_since(Instant::now()).min(HANDSHAKE_LIMIT);
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let called = TcpStream::connect_timeout(&resolved, left);
        match called.and_then(|stream| prepare(&stream, state.members.silence).map(|()| stream)) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Small messages at once, and a vanished machine noticed after `silence` instead of two hours.
fn prepare(stream: &TcpStream, silence: Duration) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let every = (silence / KEEPALIVE_PARTS).max(KEEPALIVE_LEAST);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(every * 2).with_interval(every).with_retries(3))?;
    // Ends the connection after this time without an answer, whether data or questions for life were sent.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(silence))?;
    Ok(())
}

/// Waits until every other process is connected with all, too.
fn settle(members: &Members, sockets: &[Option<TcpStream>], until: Instant, limit: Duration) -> Result<(), ClusterError> {
    let never = AtomicBool::new(false);
    let mut waiting: Vec<(usize, &TcpStream)> =
        sockets.iter().enumerate().filter_map(|(i, s)| s.as_ref().map(|s| (i, s))).collect();
    let lost = |peer: usize, why: String| ClusterError::LostAtStart { peer, address: members.addresses[peer].clone(), why };
    let talk = |stream| Talk { stream, until: Instant::now() + HANDSHAKE_LIMIT, stop: &never };
    for (peer, stream) in &waiting {
        handshake::say_ready(&mut talk(stream)).map_err(|e| lost(*peer, e.to_string()))?;
    }
    while !waiting.is_empty() {
        if Instant::now() >= until {
            let missing =
                waiting.iter().map(|(peer, _)| format!("process {peer} at {} still waits itself", members.addresses[*peer]));
            return Err(ClusterError::Deadline { index: members.index, limit, missing: missing.collect(), refused: Vec::new() });
        }
        let mut still = Vec::new();
        for (peer, stream) in waiting {
            // Looking must not take bytes: half a message that comes in time must not be lost.
            stream.set_read_timeout(Some(ACCEPT_EVERY)).map_err(|e| lost(peer, e.to_string()))?;
            match stream.peek(&mut [0]) {
                Ok(0) => return Err(lost(peer, "it closed the connection".into())),
                Ok(_) => handshake::await_ready(&mut talk(stream)).map_err(|e| lost(peer, e.to_string()))?,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => still.push((peer, stream)),
                Err(e) => return Err(lost(peer, e.to_string())),
            }
        }
        waiting = still;
    }
    for (peer, stream) in sockets.iter().enumerate().filter_map(|(i, s)| s.as_ref().map(|s| (i, s))) {
        let cleared = stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None));
        cleared.map_err(|e| lost(peer, e.to_string()))?;
    }
    Ok(())
}
