//! Lines along the columns of an edge picture: the Hough transform for the single angle of 0 degrees, then the longest segment of each line.
//!
//! This is what OpenCV's `HoughLinesP(edges, 1, pi, votes, min_length, max_gap)` finds (an angle step of pi leaves one angle). OpenCV draws pixels at random
//! and stops to count once a line has its votes; here all pixels are counted first. Results agree, except that OpenCV can miss a line that has hardly
//! more pixels than `votes` when the last ones that it draws belong to another segment of the same column.
//!
//! Source: J. Matas, C. Galambos, J. Kittler, "Robust detection of lines using the progressive probabilistic Hough transform", CVIU 78(1), 2000.

/// A segment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Which column.
    pub at: usize,
    /// First row.
    pub from: usize,
    /// Last row.
    pub to: usize,
}

/// What makes a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Edge pixels in the column, at least.
    pub votes: usize,
    /// From the first to the last pixel of the segment, at least.
    pub min_length: usize,
    /// Missing pixels in a row that a segment bridges, at most.
    pub max_gap: usize,
}

/// The segments of all columns, by column and row. `edges` has rows of `width`.
pub fn columns(edges: &[bool], width: usize, rule: Rule) -> Vec<Line> {
    (0..width).flat_map(|x| segments(edges.iter().skip(x).step_by(width).copied(), x, rule)).collect()
}

fn segments(column: impl Iterator<Item = bool>, at: usize, rule: Rule) -> Vec<Line> {
    let (mut votes, mut found) = (0, Vec::<Line>::new());
    for (y, _) in column.enumerate().filter(|(_, edge)| *edge) {
        votes += 1;
        match found.last_mut() {
            Some(line) if y - line.to - 1 <= rule.max_gap => line.to = y,
            _ => found.push(Line { at, from: y, to: y }),
        }
    }
    found.retain(|line| votes >= rule.votes && line.to - line.from >= rule.min_length);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: a segment starts and ends at an edge pixel, has no longer gap inside, and cannot be longer at either end.
    fn oracle(column: &[bool], rule: Rule) -> Vec<(usize, usize)> {
        let holds = |from: usize, to: usize| {
            column[from]
                && column[to]
                && !(from..=to).any(|s| s + rule.max_gap <= to && column[s..=s + rule.max_gap].iter().all(|e| !e))
        };
        let n = column.len();
        let all: Vec<(usize, usize)> = (0..n).flat_map(|a| (a..n).map(move |b| (a, b))).filter(|&(a, b)| holds(a, b)).collect();
        let largest = |&(a, b): &(usize, usize)| !all.iter().any(|&(c, d)| (c, d) != (a, b) && c <= a && b <= d);
        let votes = column.iter().filter(|e| **e).count();
        all.iter().copied().filter(largest).filter(|&(a, b)| votes >= rule.votes && b - a >= rule.min_length).collect()
    }

    proptest! {
        #[test]
        fn segments_are_those_of_the_definition(
            column in prop::collection::vec(prop::bool::weighted(0.6), 1..40), votes in 0usize..20, min_length in 0usize..20, max_gap in 0usize..4,
        ) {
            let rule = Rule { votes, min_length, max_gap };
            let got: Vec<_> = columns(&column, 1, rule).iter().map(|l| (l.from, l.to)).collect();
            prop_assert_eq!(got, oracle(&column, rule));
        }
    }
}
