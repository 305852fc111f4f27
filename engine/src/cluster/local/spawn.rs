//! Starts one child: its own process group, its own listening socket, and a kernel that kills it when the parent dies.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::{Local, Seat, Secret, VARIABLE};
use crate::cluster::ClusterError;
use crate::orphan::die_with;

/// Listening sockets on free ports of the loopback, and who gets which.
pub(super) fn seats(processes: usize, restarts: u32) -> Result<Vec<(Seat, TcpListener)>, ClusterError> {
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
            secret: secret.clone(),
            listener: listener.as_raw_fd(),
            parent: std::process::id(),
        };
        (seat, listener)
    });
    Ok(seats.collect())
}

pub(super) fn child(local: &Local, seat: &Seat, listener: &TcpListener) -> io::Result<Child> {
    let (socket, parent) = (listener.as_raw_fd(), std::process::id());
    let mut command = Command::new(&local.program);
    command
        .args(&local.args)
        .env(VARIABLE, serde_json::to_string(seat)?)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    if seat.index > 0 {
        // Process 0 keeps the terminal: its progress bar and its result. What the others say is forwarded line by line.
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    // SAFETY: between fork and exec only async-signal-safe calls: `fcntl` and those of `die_with`.
    unsafe {
        command.pre_exec(move || {
            if libc::fcntl(socket, libc::F_SETFD, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            die_with(parent)
        });
    }
    command.spawn()
}
