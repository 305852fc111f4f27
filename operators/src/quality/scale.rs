//! What the `[score]` table of a manifest says of a limit: whether it lies on the scale, and on the side where it drops the worse.
//!
//! Why: papers quote limits without naming the scale, and 0.5 on a scale of 1 to 10 keeps everything without a word. What can go wrong: a scale whose name says no
//! numbers (`raw`, `z`); a limit on it cannot be checked unless the manifest has a `range`.

use curette_models::manifest::{Direction, Score};

/// Smallest and largest value of a scale, as far as the manifest tells: its `range`, else a name such as `1-10` or `sigmoid`.
pub fn range(score: &Score) -> Option<[f64; 2]> {
    if score.range.is_some() {
        return score.range;
    }
    if score.scale == "sigmoid" {
        return Some([0.0, 1.0]);
    }
    let (low, high) = score.scale.split_once('-')?;
    let range = [low.trim().parse().ok()?, high.trim().parse().ok()?];
    (range[0] < range[1]).then_some(range)
}

/// Why a limit decides nothing, if so: it lies outside of what can come out.
pub fn outside(limit: f64, scale: &str, [low, high]: [f64; 2]) -> Option<String> {
    (!(low..=high).contains(&limit)).then(|| format!("{limit} is not on the scale `{scale}`, which goes from {low} to {high}"))
}

/// Why a lower limit is wrong for such scores, if so.
pub fn against(minimum: f64, score: &Score) -> Option<String> {
    if score.direction == Direction::LowerIsBetter {
        return Some(format!(
            "at least {minimum} is kept, but on the scale `{}` lower is better: it would keep the worse",
            score.scale
        ));
    }
    range(score).and_then(|range| outside(minimum, &score.scale, range))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(scale: &str, direction: Direction, range: Option<[f64; 2]>) -> Score {
        Score { scale: scale.into(), direction, range, constants: Default::default() }
    }

    #[test]
    fn a_limit_is_held_against_scale_and_direction() {
        let up = |scale: &str, range| score(scale, Direction::HigherIsBetter, range);
        assert_eq!(range(&up("1-10", None)), Some([1.0, 10.0]));
        assert_eq!(range(&up("0.5-2", None)), Some([0.5, 2.0]));
        assert_eq!(range(&up("sigmoid", None)), Some([0.0, 1.0]));
        assert_eq!(range(&up("raw", Some([-1.0, 1.0]))), Some([-1.0, 1.0]));
        for scale in ["raw", "z", "10-1", "a-b", "-"] {
            assert_eq!(range(&up(scale, None)), None, "{scale}");
        }
        assert_eq!(against(3.0, &up("1-10", None)), None);
        assert_eq!(against(-7.0, &up("raw", None)), None);
        assert_eq!(against(0.5, &up("1-10", None)).unwrap(), "0.5 is not on the scale `1-10`, which goes from 1 to 10");
        let down = score("1-10", Direction::LowerIsBetter, None);
        assert!(against(3.0, &down).unwrap().ends_with("lower is better: it would keep the worse"));
    }
}
