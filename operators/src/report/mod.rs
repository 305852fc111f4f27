//! The verb `report`: all that the tables of an output say of one of them, as one page that needs nothing else, and as a dataset card.
//!
//! Why one page: it is sent to people who have neither the tables nor curette. It has no script and loads nothing; pictures are inside. Everything
//! in it comes from committed tables and the stored plan, but for the licences of models (manifests of this machine) and the pictures (the videos
//! themselves). What can go wrong: see the files; a report of tables without videos is a report without pictures.
//!
//! | file | does |
//! |---|---|
//! | `subject` | which output, which table |
//! | `distributions` | how the rows are spread |
//! | `samples`, `pictures` | examples of kept and dropped rows, and their frames |
//! | `provenance` | steps, models, prompts, licences, costs |
//! | `page`, `charts`, `escape` | the HTML page, its pictures, hostile texts |
//! | `card`, `features`, `croissant` | `README.md` of Hugging Face, `croissant.json` |

pub mod card;
pub mod charts;
mod croissant;
pub mod distributions;
pub mod escape;
mod features;
mod page;
mod pictures;
pub mod provenance;
pub mod samples;
pub mod subject;

use curette_engine::run::effort::{Effort, Efforts};

use self::distributions::{Absent, Distribution};
use self::pictures::Picture;
use self::provenance::Provenance;
use self::samples::Group;
use self::subject::Subject;
use crate::stats::{Stats, stats};

/// Most examples of one kind.
pub const MAX_EXAMPLES: usize = 60;

/// What is asked of a report.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its title; that of the output without one.
    pub title: Option<String>,
    /// Examples of kept rows, and of each reason.
    pub examples: usize,
    /// Which examples.
    pub seed: u64,
    /// Whether videos are looked at.
    pub pictures: bool,
}

/// What a page and a card are made of.
pub struct Report {
    /// Its title.
    pub title: String,
    /// What it is about.
    pub subject: Subject,
    /// Rows of the table.
    pub rows: u64,
    /// Counts, and what was measured of dropped rows.
    pub stats: Stats,
    /// How the rows are spread.
    pub distributions: Vec<Distribution>,
    /// What the table says nothing of.
    pub absent: Vec<Absent>,
    /// Examples: kept rows first.
    pub groups: Vec<Group>,
    pictures: Vec<Vec<Picture>>,
    /// What limits left out, a sentence each.
    pub left_out: Vec<String>,
    /// Where the rows come from.
    pub provenance: Provenance,
    /// How long the steps worked, as far as it is known.
    pub effort: Option<Effort>,
}

/// Gathers a report of an output folder or URL, or of one of its tables.
pub fn report(given: &str, options: &Options) -> Result<Report, String> {
    let subject = Subject::open(given)?;
    let stats = stats(&subject.output)?;
    let (distributions, absent) = distributions::distributions(&subject.table)?;
    let examples = options.examples.min(MAX_EXAMPLES);
    let (dropped, reasons_left_out) = samples::dropped(&subject, &stats.funnel, examples, options.seed)?;
    let mut groups = vec![samples::kept(&subject.table, examples, options.seed)?];
    groups.extend(dropped);
    let mut left_out = Vec::new();
    if reasons_left_out > 0 {
        left_out
            .push(format!("{reasons_left_out} reasons with few rows have no examples: a page shows {}", samples::MAX_REASONS));
    }
    let pictures = match options.pictures {
        true => {
            let (pictures, why) = pictures::take(&groups);
            left_out.extend(why);
            pictures
        }
        false => groups.iter().map(|g| vec![Err("pictures were not asked for".to_owned()); g.examples.len()]).collect(),
    };
    let provenance = provenance::provenance(&subject)?;
    let effort = Efforts::of(subject.folder.clone()).read(subject.state.generation).map_err(|e| e.to_string())?;
    let rows = groups.first().map_or(0, |g| g.rows);
    let title = options.title.clone().unwrap_or_else(|| subject.output_name().to_owned());
    Ok(Report { title, subject, rows, stats, distributions, absent, groups, pictures, left_out, provenance, effort })
}

impl Report {
    /// As a page.
    pub fn html(&self) -> String {
        page::page(self)
    }
}

/// A time of the log, in milliseconds since 1970, as `2026-11-28 08:30 UTC`.
pub fn utc(ms: i64) -> String {
    let (days, minutes) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 60_000);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Days since 1970 as year, month and day of the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_counting() {
        let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
        let length = |y: i64, m: i64| match m {
            2 => 28 + i64::from(leap(y)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut y, mut m, mut d) = (1970, 1, 1);
        for days in 0..60_000 {
            assert_eq!(civil(days), (y, m, d));
            d += 1;
            if d > length(y, m) {
                (m, d) = (m + 1, 1);
            }
            if m > 12 {
                (y, m) = (y + 1, 1);
            }
        }
        assert_eq!((utc(0).as_str(), utc(1_795_854_600_000).as_str()), ("1970-01-01 00:00 UTC", "2026-11-28 08:30 UTC"));
    }
}
