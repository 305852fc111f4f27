//! Reading order: lines from top to bottom, boxes of a line from left to right.
//!
//! Two boxes are in one line when the centre of one lies within the middle half of the other's height. Decided against the first box of
//! the line, so that a staircase of boxes does not become one line.

/// What the order needs to know of a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Left edge.
    pub left: f64,
    /// Centre row.
    pub middle: f64,
    /// Height.
    pub height: f64,
}

/// The indexes of the places in reading order; each once, whatever numbers they hold.
pub fn reading_order(places: &[Place]) -> Vec<usize> {
    let mut open: Vec<usize> = (0..places.len()).collect();
    open.sort_by(|&a, &b| places[a].middle.total_cmp(&places[b].middle).then(a.cmp(&b)));
    let mut out = Vec::with_capacity(places.len());
    while let Some(&first) = open.first() {
        let head = places[first];
        let same = |i: usize| i == first || (places[i].middle - head.middle).abs() < 0.5 * places[i].height.min(head.height);
        let (mut line, rest): (Vec<usize>, Vec<usize>) = open.into_iter().partition(|&i| same(i));
        line.sort_by(|&a, &b| places[a].left.total_cmp(&places[b].left).then(a.cmp(&b)));
        out.extend(line);
        open = rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(left: f64, middle: f64, height: f64) -> Place {
        Place { left, middle, height }
    }

    #[test]
    fn two_columns_of_two_lines_are_read_line_by_line() {
        let places = [place(300.0, 52.0, 20.0), place(10.0, 80.0, 20.0), place(12.0, 50.0, 22.0), place(310.0, 79.0, 18.0)];
        assert_eq!(reading_order(&places), [2, 0, 1, 3]);
    }

    #[test]
    fn a_staircase_does_not_become_one_line() {
        let places = [place(0.0, 10.0, 20.0), place(50.0, 18.0, 20.0), place(20.0, 26.0, 20.0), place(80.0, 34.0, 20.0)];
        assert_eq!(reading_order(&places), [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn each_box_comes_once(values in prop::collection::vec((any::<f64>(), any::<f64>(), any::<f64>()), 0..30)) {
            let places: Vec<Place> = values.iter().map(|&(l, m, h)| place(l, m, h)).collect();
            let mut order = reading_order(&places);
            order.sort_unstable();
            prop_assert_eq!(order, (0..places.len()).collect::<Vec<_>>());
        }
    }
}
