//! Which candidates are shown to a human: a pure decision.
//!
//! Stratified: the groups take turns, so a channel of a thousand videos is seen as often as one of ten. Within a group, and among groups, the order is that of
//! a hash of seed and name, which is random enough to be fair and the same on every machine. More candidates asked for later extend the choice, they
//! do not change it.

use std::collections::BTreeMap;

/// Something that can be labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Tells it from all others.
    pub id: String,
    /// What it must stay together with.
    pub group: String,
}

/// Indexes of the first `count` in turn.
pub fn choose(candidates: &[Candidate], count: usize, seed: u64) -> Vec<usize> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    candidates.iter().enumerate().for_each(|(i, c)| groups.entry(&c.group).or_default().push(i));
    let mut groups: Vec<(&str, Vec<usize>)> = groups.into_iter().collect();
    groups.sort_by_cached_key(|(name, _)| key(seed, name));
    for (_, members) in &mut groups {
        members.sort_by_cached_key(|&i| key(seed, &candidates[i].id));
    }
    let longest = groups.iter().map(|(_, members)| members.len()).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| groups.iter().filter_map(move |(_, members)| members.get(turn)));
    turns.copied().take(count).collect()
}

fn key(seed: u64, name: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(groups: &[usize]) -> Vec<Candidate> {
        let of = |(i, g): (usize, &usize)| Candidate { id: format!("c{i}"), group: format!("g{g}") };
        groups.iter().enumerate().map(of).collect()
    }

    proptest! {
        #[test]
        fn groups_take_turns_and_more_only_extends(
            groups in proptest::collection::vec(0usize..6, 0..60), count in 0usize..70, seed in 0u64..4,
        ) {
            let all = candidates(&groups);
            let chosen = choose(&all, count, seed);
            prop_assert_eq!(chosen.len(), count.min(all.len()));
            let longer = choose(&all, count + 5, seed);
            prop_assert_eq!(&longer[..chosen.len()], &chosen[..]);
            let of = |g: usize| chosen.iter().filter(|&&i| groups[i] == g).count();
            for g in 0..6 {
                let size = groups.iter().filter(|&&x| x == g).count();
                let most = (0..6).map(of).max().unwrap();
                prop_assert!(of(g) + 1 >= most.min(size), "group {} has {} of {}, another {}", g, of(g), size, most);
            }
            let mut distinct = chosen.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), chosen.len());
        }
    }
}
