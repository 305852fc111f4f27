//! Bounded pools of threads for everything that blocks: decoding, inference, HTTP, heavy computation.
//!
//! Why: a timely worker thread runs operators, progress and the network in one loop; one blocking call stalls everything behind it. Work goes to
//! these pools and comes back by message. The queue of a pool is bounded by its callers: each offloading operator has at most
//! [`Pools::tasks_per_worker`] tasks here at once.
//!
//! What can go wrong: a panic on a pool thread; the process's panic hook ends the process. A job that never ends; [`Pools::watch`] tells of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::graph::PoolSettings;
use crate::memory::Ceiling;
use crate::operator::Pool;
use crate::telemetry::names;

/// Threads of the `net` pool unless set, at least: they only wait.
pub const DEFAULT_NET_THREADS: usize = 64;
/// Threads of the `net` pool at most, unless set: what its steps want together is cut to this. A waiting thread takes some tens of KiB.
pub const MAX_NET_THREADS: usize = 1024;
/// Threads of the `gpu` pool unless set, where a device computes: models queue on it anyway. On the processor it has as many as cores.
pub const DEFAULT_GPU_THREADS: usize = 1;
/// Tasks queued per thread beyond those that run: enough to never starve, little to hold.
const QUEUE_PER_THREAD: usize = 1;

/// How often running jobs are looked at, at most.
const WATCH_EVERY: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// Since when each thread of a pool has worked on its job; `None` while it waits.
type Since = Arc<Vec<Mutex<Option<Instant>>>>;

struct One {
    name: &'static str,
    threads: usize,
    jobs: Sender<Job>,
    busy: Arc<AtomicUsize>,
    since: Since,
}

/// The pools of a process.
pub struct Pools {
    pools: BTreeMap<Pool, One>,
    workers: usize,
    in_flight_bytes: AtomicU64,
    max_bytes: u64,
    ceiling: Option<Ceiling>,
}

impl Pools {
    /// Starts the threads. `workers` is the number of timely workers of this process, `max_bytes` its share of the byte budget.
    pub fn start(settings: &PoolSettings, workers: usize, max_bytes: u64) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let or = |n: usize, default: usize| if n == 0 { default } else { n };
        let sizes = [
            (Pool::Decode, "decode", or(settings.decode, cores)),
            (Pool::Cpu, "cpu", or(settings.cpu, cores)),
            (Pool::Gpu, "gpu", or(settings.gpu, DEFAULT_GPU_THREADS)),
            (Pool::Net, "net", or(settings.net, DEFAULT_NET_THREADS)),
        ];
        let mut pools = BTreeMap::new();
        for (pool, name, threads) in sizes {
            let (jobs, queue): (Sender<Job>, Receiver<Job>) = unbounded();
            let busy = Arc::new(AtomicUsize::new(0));
            let since: Since = Arc::new((0..threads).map(|_| Mutex::default()).collect());
            for i in 0..threads {
                let (queue, busy, since) = (queue.clone(), Arc::clone(&busy), Arc::clone(&since));
                std::thread::Builder::new().name(format!("{name}-{i}")).spawn(move || {
                    while let Ok(job) = queue.recv() {
                        metrics::gauge!(names::POOL_ACTIVE, "pool" => name)
                            .set(busy.fetch_add(1, Ordering::Relaxed) as f64 + 1.0);
                        let set = |at: Option<Instant>| *since[i].lock().unwrap_or_else(PoisonError::into_inner) = at;
                        set(Some(Instant::now()));
                        job();
                        set(None);
                        metrics::gauge!(names::POOL_ACTIVE, "pool" => name)
                            .set(busy.fetch_sub(1, Ordering::Relaxed) as f64 - 1.0);
                    }
                })?;
            }
            metrics::gauge!(names::POOL_THREADS, "pool" => name).set(threads as f64);
            pools.insert(pool, One { name, threads, jobs, busy, since });
        }
        metrics::gauge!(names::BYTES_IN_FLIGHT_LIMIT).set(max_bytes as f64);
        Ok(Pools { pools, workers: workers.max(1), in_flight_bytes: AtomicU64::new(0), max_bytes, ceiling: None })
    }

    /// With a limit on the memory of the whole process: near it there is no room either.
    pub fn below(mut self, bytes: u64) -> Self {
        metrics::gauge!(names::MEMORY_LIMIT).set(bytes as f64);
        self.ceiling = Some(Ceiling::new(bytes));
        self
    }

    /// Calls `late` once, when a job of a pool has run for longer than `limit`.
    pub fn watch(&self, pool: Pool, limit: Duration, late: impl FnOnce(Duration) + Send + 'static) -> std::io::Result<()> {
        let Some(one) = self.pools.get(&pool) else { return Ok(()) };
        let since = Arc::clone(&one.since);
        let watching = move || {
            loop {
                std::thread::sleep((limit / 4).clamp(Duration::from_millis(10), WATCH_EVERY));
                let begun = since.iter().filter_map(|s| *s.lock().unwrap_or_else(PoisonError::into_inner)).min();
                match begun.map(|at| at.elapsed()).filter(|long| *long > limit) {
                    Some(long) => return late(long),
                    // The threads are gone, and their pool with them.
                    None if Arc::strong_count(&since) == 1 => return,
                    None => {}
                }
            }
        };
        std::thread::Builder::new().name(format!("watch-{}", one.name)).spawn(watching).map(drop)
    }

    /// Threads of a pool (the inline "pool" is the worker itself).
    pub fn threads(&self, pool: Pool) -> usize {
        self.pools.get(&pool).map_or(1, |p| p.threads)
    }

    /// How many tasks one operator on one worker may have on a pool at once.
    pub fn tasks_per_worker(&self, pool: Pool) -> usize {
        let threads = self.threads(pool);
        (threads * (1 + QUEUE_PER_THREAD)).div_ceil(self.workers).max(1)
    }

    /// Runs a job on a pool thread.
    pub fn spawn(&self, pool: Pool, job: impl FnOnce() + Send + 'static) {
        match self.pools.get(&pool) {
            // Sending fails only when all threads are gone, which a panic hook that aborts rules out.
            Some(one) => {
                drop(one.jobs.send(Box::new(job)));
                metrics::gauge!(names::POOL_QUEUED, "pool" => one.name).set(one.jobs.len() as f64);
            }
            None => job(),
        }
    }

    /// Busy threads of a pool now.
    pub fn busy(&self, pool: Pool) -> usize {
        self.pools.get(&pool).map_or(0, |p| p.busy.load(Ordering::Relaxed))
    }

    /// Rows that wait or are worked on take this many more bytes.
    pub fn hold(&self, bytes: u64) {
        let now = self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        metrics::gauge!(names::BYTES_IN_FLIGHT).set(now as f64);
    }

    /// The opposite of [`Pools::hold`].
    pub fn release(&self, bytes: u64) {
        let now = self.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        metrics::gauge!(names::BYTES_IN_FLIGHT).set(now as f64);
    }

    /// True while the rows in flight take less than the budget, and the process less than its limit.
    pub fn has_room(&self) -> bool {
        self.in_flight_bytes.load(Ordering::Relaxed) < self.max_bytes && !self.ceiling.as_ref().is_some_and(Ceiling::is_near)
    }

    /// Bytes of the rows in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_on_their_own_pool_and_the_limit_is_shared_by_the_workers() {
        let settings = PoolSettings { decode: 3, cpu: 1, gpu: 0, net: 5 };
        let pools = Pools::start(&settings, 2, 100).unwrap();
        assert_eq!(pools.threads(Pool::Decode), 3);
        assert_eq!(pools.threads(Pool::Gpu), DEFAULT_GPU_THREADS);
        assert_eq!(pools.tasks_per_worker(Pool::Decode), 3);
        assert_eq!(pools.tasks_per_worker(Pool::Cpu), 1);
        let (tx, rx) = crossbeam_channel::bounded(1);
        pools.spawn(Pool::Decode, move || drop(tx.send(std::thread::current().name().map(String::from))));
        assert!(rx.recv().unwrap().unwrap().starts_with("decode-"));
    }

    #[test]
    fn a_job_that_does_not_end_is_told_of_and_one_that_does_is_not() {
        let pools = Pools::start(&PoolSettings { decode: 2, cpu: 1, gpu: 1, net: 1 }, 1, 100).unwrap();
        let (tell, told) = crossbeam_channel::bounded(1);
        let limit = Duration::from_millis(400);
        pools.watch(Pool::Decode, limit, move |long| drop(tell.send(long))).unwrap();
        let (hold, held) = crossbeam_channel::bounded::<()>(0);
        (0..8).for_each(|_| pools.spawn(Pool::Decode, || std::thread::sleep(Duration::from_millis(5))));
        assert!(told.recv_timeout(limit * 2).is_err(), "all have ended");
        pools.spawn(Pool::Decode, move || drop(held.recv()));
        assert!(told.recv_timeout(Duration::from_secs(20)).unwrap() > limit);
        drop(hold);
    }

    #[test]
    fn the_byte_budget_closes_and_opens() {
        let pools = Pools::start(&PoolSettings { decode: 1, cpu: 1, gpu: 1, net: 1 }, 1, 100).unwrap();
        assert!(pools.has_room());
        pools.hold(100);
        assert!(!pools.has_room());
        pools.release(1);
        assert!(pools.has_room());
    }
}
