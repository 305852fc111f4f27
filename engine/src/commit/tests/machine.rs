//! The decisions of the commit protocol against a model: random processes, faults, kills and late writes over a log that is nothing but a list.
//!
//! The log takes an entry only at its end, as a store with conditional put does. What must hold after every step is said in [`World::check`].

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::commit::TableState;
use crate::commit::decide::{Beginning, Decision, Fate, begin, decide, fate};
use crate::commit::record::{DOMAIN, Record, state};

const PROCESSES: usize = 3;
const SPLITS: u32 = 6;

/// What becomes of a put.
#[derive(Debug, Clone, Copy)]
enum Put {
    Answered,
    /// It lands; the answer is lost.
    Lost,
    /// It does not land; an error or a conflict without a cause is answered.
    Failed,
    /// It seems to fail, and lands when the next put of anybody is made.
    Late,
}

#[derive(Debug, Clone)]
enum Action {
    Commit(usize, BTreeSet<u32>),
    /// Begins the generation after the newest that the process knows, of this plan.
    Begin(usize, u8),
    /// The process reads the log, or puts what it decided by what it has read.
    Step(usize, Put),
    /// The process dies; a new one of the newest plan takes its place.
    Kill(usize),
}

struct Entry {
    record: Record,
    /// Splits that it adds; `None`: it begins a generation.
    adds: Option<SplitSet>,
}

impl Entry {
    fn text(&self) -> String {
        let line =
            serde_json::json!({"domainMetadata": {"domain": DOMAIN, "configuration": self.record.to_json(), "removed": false}});
        format!("{{\"commitInfo\":{{}}}}\n{line}\n")
    }
}

struct Call {
    id: String,
    splits: Option<SplitSet>,
    /// What the process has read; `None`: it must read first.
    view: Option<TableState>,
}

struct Process {
    stamp: PlanStamp,
    call: Option<Call>,
}

struct World {
    log: Vec<Entry>,
    processes: Vec<Process>,
    /// Puts that land later: the place that they are for.
    late: Vec<(usize, Entry)>,
    haunted: BTreeSet<String>,
    ended: BTreeMap<String, bool>,
    calls: u32,
}

impl World {
    fn new() -> World {
        let fresh = || Process { stamp: stamp("a", 1), call: None };
        let processes = std::iter::repeat_with(fresh).take(PROCESSES).collect();
        World { log: Vec::new(), processes, late: Vec::new(), haunted: BTreeSet::new(), ended: BTreeMap::new(), calls: 0 }
    }

    fn now(&self) -> TableState {
        state(self.log.len() as u64, self.log.last().map(|entry| entry.record.clone()))
    }

    fn begin_call(&mut self, who: usize, splits: Option<SplitSet>) {
        self.calls += 1;
        let call = Call { id: format!("call-{}", self.calls), splits, view: None };
        self.processes[who].call.get_or_insert(call);
    }

    /// Only the end of the log takes an entry.
    fn put(&mut self, at: usize, entry: Entry) -> bool {
        let lands = self.log.len() == at;
        if lands {
            self.log.push(entry);
        }
        lands
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Commit(who, splits) => self.begin_call(who, Some(splits.into_iter().collect())),
            Action::Begin(who, plan) if self.processes[who].call.is_none() => {
                let generation = self.processes[who].stamp.generation + 1;
                self.processes[who].stamp = stamp(&format!("plan-{plan}"), generation);
                self.begin_call(who, None);
            }
            Action::Begin(..) => {}
            Action::Kill(who) => {
                let now = self.now();
                let stamp = now.plan_hash.map_or(stamp("a", 1), |plan| stamp(&plan, now.generation));
                self.processes[who] = Process { stamp, call: None };
            }
            Action::Step(who, how) => self.step(who, how),
        }
    }

    fn step(&mut self, who: usize, how: Put) {
        let now = self.now();
        let Process { stamp, call } = &mut self.processes[who];
        let (stamp, Some(open)) = (stamp.clone(), call) else { return };
        let Some(view) = open.view.take() else {
            open.view = Some(now);
            return;
        };
        let id = open.id.clone();
        let (record, adds) = match &open.splits {
            Some(splits) => match decide(&view, &stamp, splits, &id) {
                Decision::Create(done) => (Record::new(&stamp, done, &id), Some(splits.clone())),
                Decision::AlreadyDone { mine } => {
                    assert!(mine || view.done.is_superset(splits));
                    return self.end(who, mine);
                }
                Decision::PartlyDone(_) | Decision::Refuse => return self.end(who, false),
            },
            None => match begin(&view, &stamp) {
                Beginning::Create => (Record::new(&stamp, SplitSet::new(), &id), None),
                Beginning::AlreadyBegun => return self.end(who, view.commit.as_deref() == Some(&id)),
                Beginning::Refuse => return self.end(who, false),
            },
        };
        let at = view.version as usize;
        // Whatever was late lands now, if its place is still free.
        for (place, entry) in std::mem::take(&mut self.late) {
            self.put(place, entry);
        }
        let entry = Entry { record, adds };
        let confirmed = match how {
            Put::Answered => self.put(at, entry),
            Put::Lost => {
                self.put(at, entry);
                false
            }
            Put::Failed => false,
            Put::Late => {
                self.haunted.insert(id.clone());
                self.late.push((at, entry));
                false
            }
        };
        let there = self.log.get(at).map(Entry::text);
        match (confirmed, fate(there.as_deref(), &id)) {
            (true, _) | (false, Fate::Mine) => self.end(who, true),
            // Read again and decide anew.
            (false, Fate::LostTo(_) | Fate::Retry) => {}
        }
    }

    fn end(&mut self, who: usize, committed: bool) {
        if let Some(call) = self.processes[who].call.take() {
            self.ended.insert(call.id, committed);
        }
    }

    fn check(&self) {
        let (mut done, mut stamp) = (SplitSet::new(), None);
        for entry in &self.log {
            let mine = (entry.record.plan_hash.clone(), entry.record.generation);
            match &entry.adds {
                None => (done, stamp) = (SplitSet::new(), Some(mine)),
                Some(splits) => {
                    assert!(done.intersection(splits).is_empty(), "rows of {splits} are there twice");
                    assert_eq!(*stamp.get_or_insert_with(|| mine.clone()), mine, "rows of two plans are mixed");
                    done = done.union(splits);
                }
            }
            assert_eq!(entry.record.done, done, "what is said to be done is what is there");
        }
        for (id, committed) in &self.ended {
            let times = self.log.iter().filter(|entry| entry.record.commit == *id).count();
            assert!(times <= 1, "{id} landed {times} times");
            if *committed {
                assert_eq!(times, 1, "{id} was told that it landed");
            } else if !self.haunted.contains(id) {
                assert_eq!(times, 0, "{id} was told that it did not land");
            }
        }
    }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let who = 0..PROCESSES;
    let how = prop_oneof![4 => Just(Put::Answered), 2 => Just(Put::Lost), 2 => Just(Put::Failed), 1 => Just(Put::Late)];
    let splits = prop::collection::btree_set(0..SPLITS, 1..4);
    prop::collection::vec(
        prop_oneof![
            4 => (who.clone(), splits).prop_map(|(who, splits)| Action::Commit(who, splits)),
            1 => (who.clone(), 0u8..2).prop_map(|(who, plan)| Action::Begin(who, plan)),
            9 => (who.clone(), how).prop_map(|(who, how)| Action::Step(who, how)),
            1 => who.prop_map(Action::Kill),
        ],
        0..80,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_loses_or_doubles_a_split(actions in actions()) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
            world.check();
        }
        // A quiet end: whoever is open gets his answer.
        for who in (0..PROCESSES).cycle().take(PROCESSES * 8) {
            world.act(Action::Step(who, Put::Answered));
        }
        world.check();
        prop_assert!(world.processes.iter().all(|process| process.call.is_none()));
    }
}
