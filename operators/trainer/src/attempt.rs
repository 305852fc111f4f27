//! One attempt: starts the ranks, listens, and carries out what [`Watch`] orders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::event::{Body, Event};
use crate::outcome::Ending;
use crate::ranks::{Ranks, Said, Start};
use crate::watch::{Order, Patience, Watch};

/// Events that wait to be looked at; more make the trainer wait.
const QUEUE: usize = 1024;
/// How often processes and clocks are looked at.
const TICK: Duration = Duration::from_millis(50);
/// After the last rank has ended, what is still in its pipe is waited for so long.
const DRAIN: Duration = Duration::from_millis(500);

/// What an attempt brought.
#[derive(Debug)]
pub struct Attempt {
    /// How it ended.
    pub ending: Ending,
    /// The newest step of which it saved a checkpoint, and its folder.
    pub checkpoint: Option<(u64, String)>,
    /// It was asked to stop from outside.
    pub cancelled: bool,
    /// It was asked to stop because the job's time is up.
    pub time_up: bool,
    /// Lines that were no events.
    pub garbage_lines: u32,
}

/// Runs until all ranks are gone. `cancel` asks it to stop; `each` sees the events of rank 0 in order.
pub fn run(start: &Start, patience: Patience, cancel: &AtomicBool, each: &mut dyn FnMut(&Event)) -> std::io::Result<Attempt> {
    let (said, hear) = sync_channel::<Said>(QUEUE);
    let mut ranks = Ranks::start(start, &said)?;
    drop(said);
    let (began, mut watch) = (Instant::now(), Watch::new(patience, start.ranks));
    let (mut checkpoint, mut cancelled) = (None, false);
    let mut over_since: Option<Instant> = None;
    loop {
        let mut orders = Vec::new();
        match hear.recv_timeout(TICK) {
            Ok((rank, what)) => {
                if let Err(garbage) = &what {
                    tracing::warn!(rank, line = garbage.0, "The trainer wrote a line that is no event");
                }
                orders.extend(watch.heard(rank, &what, began.elapsed()));
                if let (0, Ok(event)) = (rank, &what) {
                    if let Body::Checkpoint { step, dir } = &event.body {
                        checkpoint = Some((*step, dir.clone()));
                    }
                    each(event);
                }
            }
            // All pipes are closed; only processes are left to wait for.
            Err(RecvTimeoutError::Disconnected) if over_since.is_some() => break,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            Err(RecvTimeoutError::Timeout) => {}
        }
        for (rank, exit) in ranks.ended()? {
            watch.ended(rank, exit, began.elapsed());
        }
        if watch.is_over() {
            // What a rank's helpers hold of its pipe must not keep us.
            let since = *over_since.get_or_insert_with(Instant::now);
            ranks.kill();
            if since.elapsed() >= DRAIN {
                break;
            }
            continue;
        }
        if cancel.load(Ordering::Relaxed) && !cancelled {
            cancelled = true;
            orders.extend(watch.stop(began.elapsed()));
        }
        orders.extend(watch.tick(began.elapsed()));
        for order in orders {
            match order {
                Order::Stop => ranks.stop(),
                Order::Kill => ranks.kill(),
            }
        }
    }
    drop(ranks);
    let (time_up, garbage_lines) = (watch.is_time_up(), watch.garbage_lines());
    Ok(Attempt { ending: watch.into_ending(), checkpoint, cancelled, time_up, garbage_lines })
}
