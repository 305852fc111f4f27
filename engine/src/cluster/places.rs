//! Who of a cluster is connected already: shared by the threads that dial and those that listen.
//!
//! Why a place can be claimed before it is taken: of two callers with one index only one may come through, and a claim whose handshake fails
//! must be given back. What can go wrong: a connection dies while others are still missing; [`State::sweep`] finds it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::frame::Talk;
use super::handshake::Rejected;
use super::sockets::{ACCEPT_EVERY, HANDSHAKE_LIMIT};
use super::{ClusterError, Members};

/// Most refusals that an error lists; the log has all.
const MAX_REFUSED: usize = 5;

/// A process's place in the cluster.
pub(super) enum Place {
    Own,
    Open,
    /// A handshake that has got far enough to exclude others.
    Claimed,
    Taken(TcpStream),
}

pub(super) struct Seen {
    places: Vec<Place>,
    /// The last thing that went wrong with each lower process.
    pub last: Vec<Option<String>>,
    refused: Vec<String>,
    fatal: Option<ClusterError>,
}

pub(super) struct State<'m> {
    pub members: &'m Members,
    pub until: Instant,
    /// Set when everybody is there, or never will be.
    stop: AtomicBool,
    /// How many callers are being listened to.
    pub callers: AtomicUsize,
    seen: Mutex<Seen>,
}

impl<'m> State<'m> {
    pub fn new(members: &'m Members, until: Instant) -> State<'m> {
        let processes = members.addresses.len();
        let places = (0..processes).map(|i| if i == members.index { Place::Own } else { Place::Open }).collect();
        let seen = Seen { places, last: vec![None; processes], refused: Vec::new(), fatal: None };
        State { members, until, stop: AtomicBool::new(false), callers: AtomicUsize::new(0), seen: Mutex::new(seen) }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.until
    }

    pub fn talk<'a>(&'a self, stream: &'a TcpStream) -> Talk<'a> {
        Talk { stream, until: (Instant::now() + HANDSHAKE_LIMIT).min(self.until), stop: &self.stop }
    }

    /// Reserves a place. One whose connection has died meanwhile is free again: that process was restarted.
    pub fn claim(&self, index: usize) -> bool {
        let place = &mut self.seen().places[index];
        let free = match place {
            Place::Open => true,
            Place::Taken(stream) => is_dead(stream),
            Place::Own | Place::Claimed => false,
        };
        if free {
            *place = Place::Claimed;
        }
        free
    }

    pub fn release(&self, index: usize) {
        self.seen().places[index] = Place::Open;
    }

    pub fn take(&self, index: usize, stream: TcpStream) {
        let mut seen = self.seen();
        seen.places[index] = Place::Taken(stream);
        self.sweep(&mut seen);
        if seen.places.iter().all(|p| matches!(p, Place::Own | Place::Taken(_))) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Looks for connections that died while others are still waited for. A caller will be started again and call again; whom this process
    /// dialled is lost, because it no longer knows this process.
    pub fn sweep(&self, seen: &mut Seen) {
        let own = self.members.index;
        for (peer, place) in seen.places.iter_mut().enumerate() {
            match place {
                Place::Taken(stream) if is_dead(stream) && peer > own => *place = Place::Open,
                Place::Taken(stream) if is_dead(stream) => {
                    let (address, why) = (self.members.addresses[peer].clone(), "it closed the connection".to_string());
                    seen.fatal.get_or_insert(ClusterError::LostAtStart { peer, address, why });
                    self.stop.store(true, Ordering::Relaxed);
                }
                Place::Taken(_) | Place::Own | Place::Open | Place::Claimed => {}
            }
        }
    }

    pub fn refuse(&self, from: SocketAddr, why: &Rejected) {
        tracing::warn!(%from, "Refused a connection: {why}");
        let mut seen = self.seen();
        if seen.refused.len() == MAX_REFUSED {
            seen.refused.remove(0);
        }
        seen.refused.push(format!("{from}: {why}"));
    }

    pub fn fail(&self, error: ClusterError) {
        self.seen().fatal.get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn pause(&self, how_long: Duration) {
        let end = Instant::now() + how_long;
        while !self.over() && Instant::now() < end {
            std::thread::sleep(ACCEPT_EVERY.min(end.saturating_duration_since(Instant::now())));
        }
    }

    pub fn finish(self, limit: Duration) -> Result<Vec<Option<TcpStream>>, ClusterError> {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = seen.fatal {
            return Err(error);
        }
        let mut sockets = Vec::new();
        let mut missing = Vec::new();
        for (peer, place) in seen.places.into_iter().enumerate() {
            match place {
                Place::Own => sockets.push(None),
                Place::Taken(stream) => sockets.push(Some(stream)),
                Place::Open | Place::Claimed => {
                    let why = match (&seen.last[peer], peer < self.members.index) {
                        (Some(why), _) => why.as_str(),
                        (None, true) => "not reached",
                        (None, false) => "has not called",
                    };
                    missing.push(format!("process {peer} at {} is missing ({why})", self.members.addresses[peer]));
                }
            }
        }
        if missing.is_empty() {
            Ok(sockets)
        } else {
            Err(ClusterError::Deadline { index: self.members.index, limit, missing, refused: seen.refused })
        }
    }
}

/// Whether the other side has closed. Never blocks, never takes a byte.
fn is_dead(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut byte));
    let blocking = stream.set_nonblocking(false);
    match peeked {
        Ok(0) => true,
        Ok(_) => false,
        Err(e) => e.kind() != ErrorKind::WouldBlock || blocking.is_err(),
    }
}
