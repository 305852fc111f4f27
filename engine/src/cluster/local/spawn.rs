//! Starts one child: its own process group, its own listening socket if it is of a local cluster, and a kernel that kills it when the parent dies.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::{Local, Seat, Secret, VARIABLE, WATCHED_VARIABLE, Watched};
use crate::cluster::ClusterError;

/// What a child is told.
pub(super) enum Place {
    /// A place in a cluster on this machine, and the socket to listen on.
    Seat(Box<Seat>, TcpListener),
    /// That it is watched; the rest it knows from its arguments.
    Watched(Watched),
}

/// Listening sockets on free ports of the loopback, and who gets which.
pub(super) fn seats(processes: usize, restarts: u32, contain: bool) -> Result<Vec<Place>, ClusterError> {
    let listeners: Vec<TcpListener> = (0..processes)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<_>>()
        .map_err(ClusterError::system("listen on a free port of 127.0.0.1"))?;
    let addresses: Vec<String> = listeners
        .iter()
        .map(|l| l.local_addr().map(|a| a.to_string()))
        .collect::<io::Result<_>>()
        .map_err(ClusterError::system("look up a port"))?;
    // Other users of this machine can connect to the loopback, too.
    let secret = Secret::random().map_err(ClusterError::system("make a random secret"))?;
    let run_id = ulid::Ulid::generate().to_string();
    let seats = listeners.into_iter().enumerate().map(|(index, listener)| {
        let seat = Seat {
            index,
            addresses: addresses.clone(),
            run_id: run_id.clone(),
            restarts,
            contain,
            secret: secret.clone(),
            listener: listener.as_raw_fd(),
            parent: std::process::id(),
        };
        Place::Seat(Box::new(seat), listener)
    });
    Ok(seats.collect())
}

pub(super) fn child(local: &Local, place: &Place) -> io::Result<Child> {
    let parent = std::process::id();
    let (variable, value, socket, first) = match place {
        Place::Seat(seat, listener) => (VARIABLE, serde_json::to_string(seat)?, Some(listener.as_raw_fd()), seat.index == 0),
        Place::Watched(watched) => (WATCHED_VARIABLE, serde_json::to_string(watched)?, None, true),
    };
    let mut command = Command::new(&local.program);
    command.args(&local.args).env(variable, value).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    if !first {
        // Process 0, or the only one here, keeps the terminal: its progress bar and its result. What the others say is forwarded line by line.
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    // SAFETY: between fork and exec only async-signal-safe calls: `fcntl`, `prctl`, `getppid`, `_exit`.
    unsafe {
        command.pre_exec(move || {
            if socket.is_some_and(|socket| libc::fcntl(socket, libc::F_SETFD, 0) != 0) {
                return Err(io::Error::last_os_error());
            }
            #[cfg(target_os = "linux")]
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    command.spawn()
}
