//! Runs one closure on every worker of this process and gathers what each returns.
//!
//! Why an enum of three: `Threads` passes values between workers as they are; `Binary` serialises everything although it stays in one
//! process, which is how tests find what would break over a network; `Cluster` serialises between processes only. What can go wrong: a worker
//! that panics under `Threads` leaves its peers waiting for ever, so call [`super::abort_on_panic`] first in every program.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::{Hooks, WorkerGuards};
use timely::worker::Worker;
use timely::{CommunicationConfig, WorkerConfig};

use super::{ClusterError, Wire};

/// The workers of this process, and how they reach the others.
#[derive(Debug)]
pub enum Workers {
    /// This many threads of one process.
    Threads(usize),
    /// The same, with every exchanged value serialised: for tests.
    Binary(usize),
    /// Some threads of one process among several.
    Cluster {
        /// One connection per process as [`super::secure`] gives them; `None` at this process's own place, and only there.
        sockets: Vec<Option<Wire>>,
        /// Worker threads of each process: the same number everywhere.
        threads: usize,
    },
}

type Network = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

impl Workers {
    fn build(self) -> Result<Network, ClusterError> {
        match self {
            Workers::Threads(0) | Workers::Binary(0) | Workers::Cluster { threads: 0, .. } => {
                Err(ClusterError::Start("at least one worker thread is needed; give -w 1 or more".into()))
            }
            Workers::Threads(1) => CommunicationConfig::Thread.try_build().map_err(ClusterError::Start),
            Workers::Threads(n) => CommunicationConfig::Process(n).try_build().map_err(ClusterError::Start),
            Workers::Binary(n) => CommunicationConfig::ProcessBinary(n).try_build().map_err(ClusterError::Start),
            Workers::Cluster { sockets, threads } => cluster(sockets, threads),
        }
    }
}

fn cluster(sockets: Vec<Option<Wire>>, threads: usize) -> Result<Network, ClusterError> {
    let mut own = sockets.iter().enumerate().filter(|(_, s)| s.is_none()).map(|(i, _)| i);
    let (Some(index), None) = (own.next(), own.next()) else {
        return Err(ClusterError::Start("exactly one process of the cluster must be this one".into()));
    };
    let hooks = Hooks::default();
    let local = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) = initialize_networking_from_sockets(local, sockets, index, threads, hooks)
        .map_err(|e| ClusterError::Start(format!("cannot hand the sockets to the workers: {e}")))?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}

/// Runs `logic` on every worker of this process and blocks until all of them, and their dataflows, are finished. Gives one result per local
/// worker, in the order of their indices. In a cluster every process must build the same dataflows in the same order.
pub fn workers<T, F>(kind: Workers, config: WorkerConfig, logic: F) -> Result<Vec<T>, ClusterError>
where
    T: Send + 'static,
    F: Fn(&mut Worker) -> T + Send + Sync + 'static,
{
    let (builders, others) = kind.build()?;
    let guards = timely::execute::execute_from(builders, others, config, logic).map_err(ClusterError::Start)?;
    join(guards)
}

/// Joining drops the network threads' handles, and timely panics there when one of them has panicked.
fn join<T: Send + 'static>(guards: WorkerGuards<T>) -> Result<Vec<T>, ClusterError> {
    let joined = catch_unwind(AssertUnwindSafe(|| guards.join())).map_err(|_| ClusterError::PeerLost)?;
    joined
        .into_iter()
        .enumerate()
        .map(|(worker, result)| result.map_err(|message| ClusterError::WorkerPanicked { worker, message }))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use timely::dataflow::InputHandle;
    use timely::dataflow::operators::vec::Map;
    use timely::dataflow::operators::{Capture, Exchange, Input, Probe, capture::Extract};

    use super::*;

    /// Every worker sends 0..10, rows meet the worker that their value names; each returns what it saw.
    fn exchange(worker: &mut Worker) -> (usize, usize, Vec<u64>) {
        let mut input = InputHandle::<u64, timely::container::CapacityContainerBuilder<Vec<u64>>>::new();
        let (probe, seen) = worker.dataflow(|scope| {
            let stream = scope.input_from(&mut input).exchange(|x| *x).map(|x: u64| x);
            let (probe, stream) = stream.probe();
            (probe, stream.capture())
        });
        (0..10).for_each(|x| input.send(x));
        input.close();
        while !probe.done() {
            worker.step_or_park(None);
        }
        let mut rows: Vec<u64> = seen.extract().into_iter().flat_map(|(_, rows)| rows).collect();
        rows.sort_unstable();
        (worker.index(), worker.peers(), rows)
    }

    fn expected(index: u64, peers: u64) -> Vec<u64> {
        let mut rows: Vec<u64> = (0..peers).flat_map(|_| (0..10).filter(|x| x % peers == index)).collect();
        rows.sort_unstable();
        rows
    }

    fn assert_complete(results: Vec<(usize, usize, Vec<u64>)>, peers: usize) {
        for (index, p, rows) in results {
            assert_eq!(p, peers);
            assert_eq!(rows, expected(index as u64, peers as u64));
        }
    }

    #[test]
    fn one_thread() {
        assert_complete(workers(Workers::Threads(1), WorkerConfig::default(), exchange).unwrap(), 1);
    }

    #[test]
    fn two_threads() {
        let results = workers(Workers::Threads(2), WorkerConfig::default(), exchange).unwrap();
        assert_eq!(results.len(), 2);
        assert_complete(results, 2);
    }

    #[test]
    fn two_threads_that_serialise() {
        let results = workers(Workers::Binary(2), WorkerConfig::default(), exchange).unwrap();
        assert_eq!(results.len(), 2);
        assert_complete(results, 2);
    }

    #[test]
    fn two_processes_of_two_threads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (here, _) = listener.accept().unwrap();
        let first = std::thread::spawn(move || {
            workers(
                Workers::Cluster { sockets: vec![None, Some(Wire::Plain(here))], threads: 2 },
                WorkerConfig::default(),
                exchange,
            )
        });
        let second = workers(
            Workers::Cluster { sockets: vec![Some(Wire::Plain(there)), None], threads: 2 },
            WorkerConfig::default(),
            exchange,
        )
        .unwrap();
        assert_complete(first.join().unwrap().unwrap(), 4);
        assert_complete(second, 4);
    }

    #[test]
    fn no_worker_is_an_error_and_not_a_hang() {
        let e = workers(Workers::Threads(0), WorkerConfig::default(), |_| ()).unwrap_err();
        insta::assert_snapshot!(e, @"cannot start the workers: at least one worker thread is needed; give -w 1 or more");
    }
}
