//! Channel expansion by plain sets: slow, obvious, and what the dataflow is held against.

use std::collections::{BTreeMap, BTreeSet};

use crate::expand::{Outcome, Qualified, Record};
use crate::rule::{Counts, Rule};

/// What each round adds. A round is judged as a whole when all of it is there.
pub fn expand(rule: Rule, latched: &[u64], rounds: &[Vec<Record>]) -> Vec<Outcome> {
    let mut pairs: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut medical: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut good: BTreeSet<u64> = latched.iter().copied().collect();
    let mut listed: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut out = Vec::new();
    for round in rounds {
        for record in round {
            pairs.entry(record.channel).or_default().insert(record.video);
            if record.medical {
                medical.entry(record.channel).or_default().insert(record.video);
            }
        }
        let mut outcome = Outcome::default();
        for (channel, videos) in &medical {
            let all = if rule.counts_all() { pairs[channel].len() as u64 } else { 0 };
            let counts = Counts { medical: videos.len() as u64, all };
            if rule.qualifies(counts) && good.insert(*channel) {
                outcome.channels.push(Qualified { channel: *channel, counts });
            }
        }
        for channel in &good {
            for video in pairs.get(channel).into_iter().flatten() {
                if listed.insert((*channel, *video)) {
                    outcome.videos.push((*channel, *video));
                }
            }
        }
        outcome.videos.sort_unstable();
        out.push(outcome);
    }
    out
}
