//! The processes of an attempt: one for each rank, each leading a group of its own.
//!
//! Why no launcher such as torchrun: it puts its workers into sessions of their own, loses their exit codes and leaves them alive when it is killed.
//! Nobody survives us: a rank gets SIGKILL when the thread that started it ends (so that thread must outlive it: it is the one that supervises), and
//! its helpers are killed by a guard, a shell that waits for the end of our pipe and then kills the groups that it was told of. What can go wrong: a
//! helper that leaves its group on purpose is out of reach.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::SyncSender;
use std::thread;

use crate::event::{Event, Garbage, read_lines};
use crate::outcome::RankExit;
use crate::rotating::RotatingLog;

/// Bytes of stderr that are taken at once.
const LOG_PIECE_BYTES: usize = 8 << 10;
/// The guard: collects group ids line by line, and kills them when the pipe ends.
const GUARD: &str = "all=; while read -r group; do all=\"$all $group\"; done; for group in $all; do kill -s KILL -- \"-$group\" 2>/dev/null; done";

/// How the processes are started.
#[derive(Debug, Clone)]
pub struct Start {
    /// Program and arguments, the same for all ranks.
    pub command: Vec<String>,
    /// Further variables.
    pub env: Vec<(String, String)>,
    /// How many.
    pub ranks: usize,
    /// Where they run.
    pub dir: PathBuf,
    /// Where stderr goes: `rank-N.log` in this folder.
    pub logs: PathBuf,
    /// Size of a log file.
    pub log_max_bytes: u64,
    /// Log files of a rank.
    pub log_files: u32,
}

/// What a rank's stdout brings.
pub type Said = (usize, Result<Event, Garbage>);

/// Running processes. Dropping it kills them.
pub struct Ranks {
    children: Vec<(Child, Option<RankExit>)>,
    /// All have ended and their groups were killed after that: from here on the numbers may belong to others.
    buried: bool,
    guard: Guard,
}

impl Ranks {
    /// Starts all of them, or none. What they say goes to `said`; a full channel makes them wait.
    pub fn start(start: &Start, said: &SyncSender<Said>) -> io::Result<Ranks> {
        std::fs::create_dir_all(&start.logs)?;
        // Another process may take the port before rank 0 does; that is a crash like others, and the next attempt has another port.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut ranks = Ranks { children: Vec::new(), buried: false, guard: Guard::start()? };
        for rank in 0..start.ranks {
            let mut child = command(start, rank, port)?.spawn()?;
            let taken = (child.stdout.take(), child.stderr.take());
            ranks.guard.watch(child.id())?;
            ranks.children.push((child, None));
            let (Some(out), Some(err)) = taken else { return Err(io::Error::other("a pipe is missing")) };
            let said = said.clone();
            // Both threads end with their pipe. They are not joined: a process that left the group may hold the pipe for ever.
            thread::Builder::new()
                .name(format!("rank-{rank}-events"))
                .spawn(move || read_lines(io::BufReader::new(out), |event| said.send((rank, event)).is_ok()))?;
            let mut log = RotatingLog::new(&start.logs.join(format!("rank-{rank}.log")), start.log_max_bytes, start.log_files);
            thread::Builder::new().name(format!("rank-{rank}-log")).spawn(move || copy(err, &mut log))?;
        }
        Ok(ranks)
    }

    /// Ranks that have ended since the last call.
    pub fn ended(&mut self) -> io::Result<Vec<(usize, RankExit)>> {
        let mut out = Vec::new();
        for (rank, (child, exit)) in self.children.iter_mut().enumerate().filter(|(_, (_, exit))| exit.is_none()) {
            if let Some(status) = child.try_wait()? {
                let ended = exit_of(status);
                *exit = Some(ended);
                out.push((rank, ended));
            }
        }
        Ok(out)
    }

    /// Asks every rank that still runs to stop. Only the ranks: their helpers are theirs to stop.
    pub fn stop(&self) {
        for (child, _) in self.children.iter().filter(|(_, exit)| exit.is_none()) {
            signal(child.id(), libc::SIGTERM, false);
        }
    }

    /// Kills every group, also of ranks that have ended: their helpers may be there still.
    pub fn kill(&mut self) {
        if self.buried {
            return;
        }
        for (child, _) in &self.children {
            signal(child.id(), libc::SIGKILL, true);
        }
        self.buried = self.children.iter().all(|(_, exit)| exit.is_some());
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        self.kill();
        for (child, exit) in self.children.iter_mut().filter(|(_, exit)| exit.is_none()) {
            *exit = child.wait().ok().map(exit_of);
        }
    }
}

fn command(start: &Start, rank: usize, port: u16) -> io::Result<Command> {
    let (program, arguments) = start.command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut command = Command::new(program);
    let number = |n: usize| n.to_string();
    command
        .args(arguments)
        .current_dir(&start.dir)
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .env("RANK", number(rank))
        .env("LOCAL_RANK", number(rank))
        .env("WORLD_SIZE", number(start.ranks))
        .env("LOCAL_WORLD_SIZE", number(start.ranks))
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let parent = std::process::id();
    // SAFETY: between fork and exec only prctl and getppid are called, which are async-signal-safe and touch no memory.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if libc::getppid() as u32 != parent { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
        });
    }
    Ok(command)
}

fn exit_of(status: ExitStatus) -> RankExit {
    match status.signal() {
        Some(signal) => RankExit::Signal(signal),
        None => RankExit::Code(status.code().unwrap_or(-1)),
    }
}

/// A process that is gone already is no error.
fn signal(pid: u32, signal: i32, group: bool) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // SAFETY: kill takes no pointers.
    unsafe { libc::kill(if group { -pid } else { pid }, signal) };
}

fn copy(mut from: impl Read, log: &mut RotatingLog) {
    let mut piece = [0_u8; LOG_PIECE_BYTES];
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => log.write(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if log.dropped_bytes() > 0 {
        tracing::warn!(bytes = log.dropped_bytes(), "A part of the trainer's log could not be written");
    }
}

/// Kills groups when this process is gone, however it went.
struct Guard {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    fn start() -> io::Result<Guard> {
        // A group of its own, so that Ctrl-C at the terminal does not take the guard away first.
        let mut child = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Guard { child, pipe })
    }

    fn watch(&mut self, group: u32) -> io::Result<()> {
        let pipe = self.pipe.as_mut().ok_or_else(|| io::Error::other("the guard has no pipe"))?;
        writeln!(pipe, "{group}")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Before its pipe ends: the groups are dead already, and their numbers may soon belong to others.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
