//! Which of several rows stays: decided by sets, so that neither order nor cut nor worker count can matter. Pure.
//!
//! First, of rows with one id the one that sorts first as a whole stays (their ids tie). Then, of those with one content the one with the smallest id
//! stays. A row without a content key has no equal.
//!
//! What can go wrong: memory, about the ids and 40 bytes for each row; callers limit the rows.

use std::collections::HashMap;

/// A row as it takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// A number of its content; `None`: unknown.
    pub content: Option<u128>,
    /// The row as a whole, in a form that sorts; only asked among rows with one id, and may be empty for others.
    pub whole: Vec<u8>,
}

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It stays.
    Stays,
    /// Another row has its id and sorts first, or is the very same row: this one is the n-th of those that go, from 1.
    SameId(usize),
    /// The row with this smaller id has its content.
    SameContent(String),
}

/// The number of a content key.
pub fn content_number(text: &str) -> u128 {
    let hash = blake3::hash(text.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(first)
}

/// Decides for each row, in the order of `rows`. Among rows that are equal in everything the first stays: which of them it is cannot be told.
pub fn decide(rows: &[Row]) -> Vec<Fate> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| {
        let key = |i: usize| (&rows[i].id, &rows[i].whole, i);
        key(a).cmp(&key(b))
    });
    let mut fates = vec![Fate::Stays; rows.len()];
    let mut first_of: HashMap<u128, usize> = HashMap::new();
    let mut at = 0;
    while at < order.len() {
        let winner = order[at];
        let same = order[at..].iter().take_while(|&&i| rows[i].id == rows[winner].id).count();
        for (n, &loser) in order[at + 1..at + same].iter().enumerate() {
            fates[loser] = Fate::SameId(n + 1);
        }
        // Ids ascend here, so whoever came first has the smallest.
        if let Some(content) = rows[winner].content {
            match first_of.get(&content) {
                Some(&first) => fates[winner] = Fate::SameContent(rows[first].id.clone()),
                None => drop(first_of.insert(content, winner)),
            }
        }
        at += same;
    }
    fates
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Parts = (String, Option<u128>, Vec<u8>);

    /// Equal rows under one id are equal in their content, too.
    fn any_row() -> impl Strategy<Value = Row> {
        (0u8..8, prop::option::of(0u8..5), 0u8..3).prop_map(|(id, content, whole)| Row {
            id: format!("v{id}"),
            content: content.map(u128::from),
            whole: vec![whole, content.unwrap_or(9)],
        })
    }

    /// Slow and obvious: each row looks at all others.
    fn oracle(rows: &[Row]) -> BTreeSet<Parts> {
        let first_of_its_id = |i: usize| {
            let before = |j: usize| (&rows[j].whole, j) < (&rows[i].whole, i);
            !(0..rows.len()).any(|j| rows[j].id == rows[i].id && before(j))
        };
        let left: Vec<&Row> = (0..rows.len()).filter(|&i| first_of_its_id(i)).map(|i| &rows[i]).collect();
        let stays = |row: &&&Row| row.content.is_none() || left.iter().all(|o| o.content != row.content || o.id >= row.id);
        left.iter().filter(stays).map(|r| (r.id.clone(), r.content, r.whole.clone())).collect()
    }

    fn staying(rows: &[Row]) -> BTreeSet<Parts> {
        let fates = decide(rows);
        let stay = rows.iter().zip(&fates).filter(|(_, f)| **f == Fate::Stays);
        let list: Vec<_> = stay.map(|(r, _)| (r.id.clone(), r.content, r.whole.clone())).collect();
        let set: BTreeSet<_> = list.iter().cloned().collect();
        assert_eq!(set.len(), list.len(), "no row stays twice");
        set
    }

    proptest! {
        #[test]
        fn it_is_what_looking_at_all_pairs_says(rows in prop::collection::vec(any_row(), 0..40), seed in any::<u64>()) {
            let want = oracle(&rows);
            prop_assert_eq!(&staying(&rows), &want);
            let mut shuffled = rows;
            shuffled.sort_by_key(|r| crate::ids::number(&format!("{seed} {r:?}")));
            prop_assert_eq!(&staying(&shuffled), &want, "the order does not matter");
        }
    }

    #[test]
    fn the_smallest_id_stays_and_the_others_name_it() {
        let row = |id: &str, content| Row { id: id.into(), content, whole: Vec::new() };
        let rows = [row("c", Some(1)), row("a", Some(1)), row("b", None), row("d", None), row("b", Some(1))];
        let fates = decide(&rows);
        assert_eq!(fates[0], Fate::SameContent("a".into()));
        assert_eq!(fates[1..4], [Fate::Stays, Fate::Stays, Fate::Stays]);
        assert_eq!(fates[4], Fate::SameId(1));
    }
}
