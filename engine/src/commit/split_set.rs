//! A set of split numbers, kept as ranges: a table with a million finished splits says so in a dozen bytes.
//!
//! Its text form is `0-41,43`: ascending, ranges that neither touch nor overlap, so equal sets have equal texts. The empty set is the
//! empty text. What can go wrong: only text that somebody else wrote; parsing accepts any order and overlaps, and refuses the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of split numbers.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct SplitSet {
    /// First number of each range -> its last number. Ranges are disjoint and never touch.
    ranges: BTreeMap<u32, u32>,
}

/// Text that is not a split set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a set of splits: `{part}` is neither a number nor a range such as `3-7`")]
pub struct SplitSetError {
    text: String,
    part: String,
}

impl SplitSet {
    /// The empty set.
    pub fn new() -> Self {
        SplitSet::default()
    }

    /// All splits below `count`.
    pub fn below(count: u32) -> Self {
        let mut set = SplitSet::new();
        if let Some(last) = count.checked_sub(1) {
            set.insert_range(0, last);
        }
        set
    }

    /// Adds one split; true if it was not there.
    pub fn insert(&mut self, split: u32) -> bool {
        let new = !self.contains(split);
        if new {
            self.insert_range(split, split);
        }
        new
    }

    /// Adds all splits from `first` to `last`, both included; nothing if `first > last`.
    pub fn insert_range(&mut self, first: u32, last: u32) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        // Swallow every range that overlaps or touches, from the right; the last such range decides how far it reaches.
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.ranges.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
    }

    /// True if the split is in the set.
    pub fn contains(&self, split: u32) -> bool {
        self.ranges.range(..=split).next_back().is_some_and(|(_, &end)| split <= end)
    }

    /// The splits that are in either set.
    pub fn union(&self, other: &SplitSet) -> SplitSet {
        let mut all = self.clone();
        for (&first, &last) in &other.ranges {
            all.insert_range(first, last);
        }
        all
    }

    /// The splits that are in both sets.
    pub fn intersection(&self, other: &SplitSet) -> SplitSet {
        let mut both = SplitSet::new();
        for (&first, &last) in &self.ranges {
            let before = other.ranges.range(..first).next_back();
            for (&start, &end) in before.into_iter().chain(other.ranges.range(first..=last)) {
                both.insert_range(first.max(start), last.min(end));
            }
        }
        both
    }

    /// The splits that are in this set and not in the other.
    pub fn difference(&self, other: &SplitSet) -> SplitSet {
        let mut rest = SplitSet::new();
        for (&first, &last) in &self.ranges {
            let mut next = Some(first);
            let before = other.ranges.range(..first).next_back();
            for (&start, &end) in before.into_iter().chain(other.ranges.range(first..=last)) {
                let Some(from) = next else { break };
                if end < from {
                    continue;
                }
                if let Some(gap) = start.checked_sub(1) {
                    rest.insert_range(from, gap.min(last));
                }
                next = end.checked_add(1);
            }
            if let Some(from) = next {
                rest.insert_range(from, last);
            }
        }
        rest
    }

    /// True if every split of the other set is in this one.
    pub fn is_superset(&self, other: &SplitSet) -> bool {
        other.ranges.iter().all(|(first, &last)| self.ranges.range(..=first).next_back().is_some_and(|(_, &end)| last <= end))
    }

    /// How many splits.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(&first, &last)| u64::from(last - first) + 1).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The splits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(&first, &last)| first..=last)
    }
}

impl FromIterator<u32> for SplitSet {
    fn from_iter<I: IntoIterator<Item = u32>>(splits: I) -> Self {
        let mut set = SplitSet::new();
        set.extend(splits);
        set
    }
}

impl Extend<u32> for SplitSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, splits: I) {
        for split in splits {
            self.insert(split);
        }
    }
}

impl fmt::Display for SplitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SplitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl FromStr for SplitSet {
    type Err = SplitSetError;

    fn from_str(text: &str) -> Result<Self, SplitSetError> {
        let mut set = SplitSet::new();
        if text.is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.parse::<u32>(), last.parse::<u32>()) {
                (Ok(first), Ok(last)) if first <= last => set.insert_range(first, last),
                _ => return Err(SplitSetError { text: text.to_owned(), part: part.to_owned() }),
            }
        }
        Ok(set)
    }
}

impl Serialize for SplitSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SplitSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_form() {
        let set: SplitSet = [43, 0, 1, 2].into_iter().collect();
        assert_eq!(set.to_string(), "0-2,43");
        assert_eq!("43,2,0-1".parse::<SplitSet>(), Ok(set.clone()));
        assert_eq!(serde_json::to_string(&set).unwrap(), r#""0-2,43""#);
        assert_eq!(serde_json::from_str::<SplitSet>(r#""0-2,43""#).unwrap(), set);
        assert_eq!("".parse::<SplitSet>(), Ok(SplitSet::new()));
        assert_eq!(SplitSet::below(3).to_string(), "0-2");
        assert!(SplitSet::below(0).is_empty());
    }

    #[test]
    fn the_whole_range_fits() {
        let mut set: SplitSet = "0-4294967294".parse().unwrap();
        assert!(set.insert(u32::MAX));
        assert_eq!(set.to_string(), "0-4294967295");
        assert_eq!(set.len(), 1 << 32);
        assert!(set.difference(&set).is_empty());
    }

    #[test]
    fn text_that_is_no_set_is_refused() {
        for bad in ["1-", "-1", "a", "1,,2", "7-3", "4294967296", " 1"] {
            assert!(bad.parse::<SplitSet>().is_err(), "{bad:?}");
        }
        let error = "1,x".parse::<SplitSet>().unwrap_err().to_string();
        assert_eq!(error, "`1,x` is not a set of splits: `x` is neither a number nor a range such as `3-7`");
    }

    fn numbers() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![0u32..40, u32::MAX - 5..=u32::MAX], 0..40)
    }

    proptest! {
        #[test]
        fn equals_a_plain_set(a in numbers(), b in numbers(), range in (0u32..40, 0u32..40)) {
            let (sa, sb): (SplitSet, SplitSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (oa, ob): (BTreeSet<u32>, BTreeSet<u32>) = (a.into_iter().collect(), b.into_iter().collect());
            let plain = |set: &SplitSet| set.iter().collect::<BTreeSet<u32>>();
            prop_assert_eq!(plain(&sa), oa.clone());
            prop_assert_eq!(sa.len(), oa.len() as u64);
            prop_assert_eq!(plain(&sa.union(&sb)), oa.union(&ob).copied().collect::<BTreeSet<u32>>());
            prop_assert_eq!(plain(&sa.intersection(&sb)), oa.intersection(&ob).copied().collect::<BTreeSet<u32>>());
            prop_assert_eq!(plain(&sa.difference(&sb)), oa.difference(&ob).copied().collect::<BTreeSet<u32>>());
            prop_assert_eq!(sa.is_superset(&sb), oa.is_superset(&ob));
            for split in 0..42 {
                prop_assert_eq!(sa.contains(split), oa.contains(&split));
            }
            prop_assert_eq!(sa.to_string().parse::<SplitSet>(), Ok(sa.clone()));
            let mut grown = sa.clone();
            grown.insert_range(range.0, range.1);
            prop_assert_eq!(plain(&grown), oa.into_iter().chain(range.0..=range.1).collect::<BTreeSet<u32>>());
        }
    }
}
