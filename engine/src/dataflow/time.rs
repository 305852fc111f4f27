//! The timestamp of the dataflow: which split a message belongs to, in a lane that only waits for itself.
//!
//! A source works on a few splits at once, its window. Each place of the window is a *lane*; the splits that pass through a lane are numbered
//! `seq`. Times of one lane are ordered, times of different lanes are not, so progress tracking says "this split is complete" for
//! each lane by itself: a six-hour video holds back its own lane and nothing else. (With plain numbers as timestamps it would hold back every later split.)
//!
//! What can go wrong: a time of a lane that nobody closes keeps the dataflow alive for ever; each lane has exactly one owner, the source that opened it.

use serde::{Deserialize, Serialize};
use timely::order::PartialOrder;
use timely::progress::timestamp::{PathSummary, Refines, Timestamp};

/// Lane 0 is below all others: where every operator starts.
const ROOT: u32 = 0;
/// The lane that keeps the dataflow alive until everything is committed.
const COMMIT: u32 = 1;
/// First lane of the sources.
const FIRST_SOURCE: u32 = 2;

/// One split's pass through a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SplitTime {
    lane: u32,
    seq: u32,
}

impl SplitTime {
    /// The time of messages about commits.
    pub const COMMIT: SplitTime = SplitTime { lane: COMMIT, seq: 0 };

    /// The first time of a source lane.
    pub fn first(lane: u32) -> Self {
        SplitTime { lane: FIRST_SOURCE + lane, seq: 0 }
    }

    /// The next split of the same lane.
    pub fn next(self) -> Self {
        SplitTime { lane: self.lane, seq: self.seq + 1 }
    }
}

impl PartialOrder for SplitTime {
    fn less_equal(&self, other: &Self) -> bool {
        self.lane == ROOT || (self.lane == other.lane && self.seq <= other.seq)
    }
}

impl Timestamp for SplitTime {
    type Summary = Unchanged;
    fn minimum() -> Self {
        SplitTime { lane: ROOT, seq: 0 }
    }
}

/// A dataflow stands by itself: from outside there is only one time.
impl Refines<()> for SplitTime {
    fn to_inner(_outer: ()) -> Self {
        SplitTime::minimum()
    }
    fn to_outer(self) {}
    fn summarize(_path: Unchanged) {}
}

/// Nothing in the dataflow moves a time: it has no loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unchanged;

impl PartialOrder for Unchanged {
    fn less_equal(&self, _other: &Self) -> bool {
        true
    }
}

impl PathSummary<SplitTime> for Unchanged {
    fn results_in(&self, time: &SplitTime) -> Option<SplitTime> {
        Some(*time)
    }
    fn followed_by(&self, _other: &Self) -> Option<Self> {
        Some(Unchanged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = SplitTime> {
        prop_oneof![
            Just(SplitTime::minimum()),
            Just(SplitTime::COMMIT),
            (0u32..4, 0u32..4).prop_map(|(lane, n)| (0..n).fold(SplitTime::first(lane), |t, _| t.next())),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_partial_order_with_a_minimum_that_agrees_with_ord(a in time(), b in time(), c in time()) {
            prop_assert!(a.less_equal(&a));
            prop_assert!(SplitTime::minimum().less_equal(&a));
            if a.less_equal(&b) && b.less_equal(&a) { prop_assert_eq!(a, b); }
            if a.less_equal(&b) && b.less_equal(&c) { prop_assert!(a.less_equal(&c)); }
            if a.less_equal(&b) { prop_assert!(a <= b); }
        }
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let (a, b) = (SplitTime::first(0), SplitTime::first(1));
        assert!(!a.less_equal(&b) && !b.less_equal(&a));
        assert!(a.less_equal(&a.next()) && !a.next().less_equal(&a));
        assert!(!SplitTime::COMMIT.less_equal(&a) && !a.less_equal(&SplitTime::COMMIT));
    }
}
