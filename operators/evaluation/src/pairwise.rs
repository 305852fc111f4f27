//! Votes about pairs of videos become win rates.
//!
//! Several raters see two videos of one prompt and say for each dimension which is better, or that both lose. The paper counts one verdict
//! per prompt but not how three votes become one; here the vote that most raters gave counts, and where no vote has most, both lose. Counts
//! that are merged already are read, too. What can go wrong: a second vote of one rater for one prompt; that is an error.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::interval::Share;
use crate::layout::columns;
use crate::sheet::{Mistake, Sheet};

/// What a rater says of our video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Vote {
    Win,
    BothLoss,
    Loss,
}

impl Vote {
    fn of(text: &str) -> Option<Vote> {
        match text.to_lowercase().replace([' ', '-'], "_").as_str() {
            "win" => Some(Vote::Win),
            "both_loss" => Some(Vote::BothLoss),
            "loss" => Some(Vote::Loss),
            _ => None,
        }
    }

    /// The vote with most supporters; both lose where two have equally many.
    fn merged(votes: &[Vote]) -> Vote {
        let count = |vote| votes.iter().filter(|v| **v == vote).count();
        let (win, both, loss) = (count(Vote::Win), count(Vote::BothLoss), count(Vote::Loss));
        match () {
            () if win > both && win > loss => Vote::Win,
            () if loss > both && loss > win => Vote::Loss,
            () => Vote::BothLoss,
        }
    }
}

/// The verdicts about one opponent in one dimension.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// What was looked at.
    pub dimension: String,
    /// Whom we were compared with; `all`: the sum.
    pub opponent: String,
    /// Prompts that we won.
    pub win: u64,
    /// Prompts that both lost.
    pub both_loss: u64,
    /// Prompts that we lost.
    pub loss: u64,
    /// Prompts whose raters did not agree on one vote; they are part of `both_loss`. Not known of counts.
    pub undecided: Option<u64>,
    /// Won of all.
    pub win_rate: Share,
    /// Won of those that somebody won.
    pub win_rate_of_decided: Share,
}

impl Outcome {
    fn new(dimension: &str, opponent: &str, [win, both_loss, loss]: [u64; 3], undecided: Option<u64>) -> Outcome {
        Outcome {
            dimension: dimension.to_owned(),
            opponent: opponent.to_owned(),
            win,
            both_loss,
            loss,
            undecided,
            win_rate: Share::new(win, win + both_loss + loss),
            win_rate_of_decided: Share::new(win, win + loss),
        }
    }
}

/// All verdicts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcomes {
    /// The file.
    pub file: String,
    /// By dimension and opponent; of several opponents also their sum.
    pub outcomes: Vec<Outcome>,
}

/// Reads votes (`prompt`, `rater`, `vote`, maybe `dimension` and `opponent`) or counts (`win`, `both_loss`, `loss`, maybe the same two).
pub fn outcomes(sheet: &Sheet) -> Result<Outcomes, Mistake> {
    let is_counts = ["win", "both_loss", "loss"].iter().all(|c| sheet.find(c).is_some());
    let mut found = if is_counts { counts(sheet)? } else { votes(sheet)? };
    let mut sums: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
    found.iter().for_each(|o| sums.entry(o.dimension.clone()).or_default().push(o));
    let sum = |(dimension, of): (&String, &Vec<&Outcome>)| {
        let total = |f: &dyn Fn(&Outcome) -> u64| of.iter().map(|o| f(o)).sum::<u64>();
        let undecided = of.iter().map(|o| o.undecided).sum::<Option<u64>>();
        Outcome::new(dimension, "all", [total(&|o| o.win), total(&|o| o.both_loss), total(&|o| o.loss)], undecided)
    };
    let sums: Vec<Outcome> = sums.iter().filter(|(_, of)| of.len() > 1).map(sum).collect();
    found.extend(sums);
    found.sort_by(|a, b| a.dimension.cmp(&b.dimension));
    Ok(Outcomes { file: sheet.file.clone(), outcomes: found })
}

/// The value of a column that need not be there.
fn optional<'a>(sheet: &'a Sheet, row: &'a crate::sheet::Row, column: Option<usize>) -> Result<&'a str, Mistake> {
    column.map_or(Ok("-"), |column| sheet.text(row, column))
}

fn counts(sheet: &Sheet) -> Result<Vec<Outcome>, Mistake> {
    let (dimension, opponent) = (sheet.find("dimension"), sheet.find("opponent"));
    let columns = [sheet.column("win")?, sheet.column("both_loss")?, sheet.column("loss")?];
    let mut lines: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut out = Vec::new();
    for row in &sheet.rows {
        let key = (optional(sheet, row, dimension)?, optional(sheet, row, opponent)?);
        if let Some(before) = lines.insert(key, row.line) {
            return Err(sheet.at(row, format!("`{}` against `{}` is counted before, in line {before}", key.0, key.1)));
        }
        let [win, both, loss] = columns.map(|column| sheet.count(row, column));
        out.push(Outcome::new(key.0, key.1, [win?, both?, loss?], None));
    }
    Ok(out)
}

/// Dimension and opponent.
type Group<'a> = (&'a str, &'a str);
/// For each prompt the votes by rater, with their lines.
type Prompts<'a> = BTreeMap<&'a str, BTreeMap<&'a str, (Vote, u64)>>;

fn votes(sheet: &Sheet) -> Result<Vec<Outcome>, Mistake> {
    let (prompt, rater, vote) = (sheet.column("prompt")?, sheet.column("rater")?, sheet.column("vote")?);
    let (dimension, opponent) = (sheet.find("dimension"), sheet.find("opponent"));
    let mut groups: BTreeMap<Group, Prompts> = BTreeMap::new();
    for row in &sheet.rows {
        let group = (optional(sheet, row, dimension)?, optional(sheet, row, opponent)?);
        let (prompt, rater, said) = (sheet.text(row, prompt)?, sheet.text(row, rater)?, sheet.text(row, vote)?);
        let vote = Vote::of(said).ok_or_else(|| sheet.at(row, format!("the vote `{said}` is none of win, both_loss, loss")))?;
        let votes = groups.entry(group).or_default().entry(prompt).or_default();
        if let Some((_, before)) = votes.insert(rater, (vote, row.line)) {
            return Err(
                sheet.at(row, format!("`{rater}` has voted about `{prompt}` before, in line {before}; leave one of the two"))
            );
        }
    }
    let one = |((dimension, opponent), prompts): (Group, Prompts)| {
        let (mut counts, mut undecided) = ([0; 3], 0);
        for votes in prompts.values() {
            let votes: Vec<Vote> = votes.values().map(|(vote, _)| *vote).collect();
            let merged = Vote::merged(&votes);
            counts[merged as usize] += 1;
            let supporters = votes.iter().filter(|v| **v == merged).count();
            let rival = [Vote::Win, Vote::BothLoss, Vote::Loss]
                .iter()
                .any(|other| *other != merged && votes.iter().filter(|v| *v == other).count() >= supporters);
            undecided += u64::from(rival);
        }
        Outcome::new(dimension, opponent, counts, Some(undecided))
    };
    Ok(groups.into_iter().map(one).collect())
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |s: &Share| match (s.share, s.low, s.high) {
            (Some(p), Some(low), Some(high)) => format!("{:.1} % [{:.1}, {:.1}]", 100.0 * p, 100.0 * low, 100.0 * high),
            _ => "-".to_owned(),
        };
        let cells = |o: &Outcome| {
            let undecided = o.undecided.map_or_else(|| "-".to_owned(), |n| n.to_string());
            vec![
                format!("{}, {}", o.dimension, o.opponent),
                o.win.to_string(),
                o.both_loss.to_string(),
                o.loss.to_string(),
                undecided,
                percent(&o.win_rate),
                percent(&o.win_rate_of_decided),
            ]
        };
        let rows: Vec<Vec<String>> = self.outcomes.iter().map(cells).collect();
        let header = ["dimension, opponent", "win", "both loss", "loss", "undecided", "win rate", "without both loss"];
        write!(f, "{}\n\n{}", self.file, columns(&header, &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Outcomes, Mistake> {
        outcomes(&Sheet::parse("v.csv", text.as_bytes()).unwrap())
    }

    #[test]
    fn most_votes_win_and_without_most_both_lose() {
        let ask = |votes: &[Vote]| Vote::merged(votes);
        use Vote::{BothLoss, Loss, Win};
        assert_eq!(ask(&[Win, Win, Loss]), Win);
        assert_eq!(ask(&[Win, BothLoss, Loss]), BothLoss);
        assert_eq!(ask(&[Win, Loss]), BothLoss);
        assert_eq!(ask(&[Loss, Loss, BothLoss]), Loss);
        assert_eq!(ask(&[Win, Win, BothLoss, BothLoss]), BothLoss);
        let text = "prompt,rater,vote\np1,A,win\np1,B,Win\np1,C,loss\n\
                    p2,A,win\np2,B,Both Loss\np2,C,loss\np3,A,both-loss\np3,B,both_loss\np3,C,loss\n";
        let found = read(text).unwrap().outcomes.remove(0);
        assert_eq!((found.win, found.both_loss, found.loss, found.undecided), (1, 2, 0, Some(1)));
        assert_eq!((found.win_rate.of, found.win_rate_of_decided.share), (3, Some(1.0)));
    }

    #[test]
    fn mistakes_are_told() {
        let all = [
            read("prompt,rater,vote\np,A,draw\n"),
            read("prompt,rater,vote\np,A,win\np,A,loss\n"),
            read("prompt,vote\np,win\n"),
            read("dimension,win,both_loss,loss\nx,1,2,3\nx,1,2,3\n"),
            read("win,both_loss,loss\n1,2,-3\n"),
        ];
        insta::assert_snapshot!(all.map(|r| r.unwrap_err().to_string()).join("\n"));
    }
}
