//! How the rows of a table are spread: the eight things that the paper plots, as far as the table has them.
//!
//! Numbers go into bins of equal width in two passes, texts are counted; both over the columns that are needed and no more. What can go wrong: a
//! text column with as many values as rows; beyond [`MAX_VALUES`] different ones the rest is counted together.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use curette_engine::commit::Table;

use crate::stats::BATCH_ROWS;
use crate::stats::histogram::{Histogram, Range};
use crate::tables::cast;

/// Different texts that are counted one by one.
const MAX_VALUES: usize = 10_000;
/// Of these, as many are shown as have the most rows.
const SHOWN_VALUES: usize = 15;

/// Where a value of a row comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// A number, times this.
    Number(&'static str, f64),
    /// The second minus the first, times this.
    Between(&'static str, &'static str, f64),
    /// Words of a text.
    Words(&'static str),
    /// Two whole numbers, as `a x b`.
    Size(&'static str, &'static str),
    /// A text.
    Text(&'static str),
}

/// What is plotted: title, unit, who makes its columns, and where it is found, the best first.
const WANTED: [(&str, &str, &str, &[Source]); 8] = [
    (
        "Duration",
        "s",
        "clip_cut, temporal_split or probe",
        &[
            Source::Number("clip_duration_us", 1e-6),
            Source::Between("start_us", "end_us", 1e-6),
            Source::Number("duration_us", 1e-6),
        ],
    ),
    ("Caption", "words", "captioner", &[Source::Words("caption")]),
    ("Aesthetic score", "", "aesthetic", &[Source::Number("aesthetic_score", 1.0)]),
    ("Technical score", "", "technical", &[Source::Number("dover_overall", 1.0), Source::Number("dover_technical", 1.0)]),
    ("Resolution", "pixels", "clip_cut or probe", &[Source::Size("clip_width", "clip_height"), Source::Size("width", "height")]),
    ("Frame rate", "frames per second", "clip_cut or probe", &[Source::Number("clip_fps", 1.0), Source::Number("fps", 1.0)]),
    ("Category", "", "category", &[Source::Text("category")]),
    ("Camera motion", "", "camera_motion", &[Source::Text("camera_motion")]),
];

/// Shares of the paper's Figure 5a, in percent, by the names that `category` gives.
pub const PAPER_CATEGORIES: [(&str, f64); 5] =
    [("teaching", 55.93), ("clinical_practice", 26.12), ("popular_science", 9.41), ("animation", 6.15), ("imaging", 2.39)];

/// The values.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Of numbers.
    Bins(Histogram),
    /// Of texts: the most frequent ones, and the rows of all others.
    Counts(Vec<(String, u64)>, u64),
}

/// How one thing is spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// What.
    pub title: &'static str,
    /// Its unit; empty where there is none.
    pub unit: &'static str,
    /// The columns that it is made of.
    pub columns: Vec<&'static str>,
    /// Rows without a value.
    pub missing: u64,
    /// The values.
    pub shape: Shape,
}

/// What the table has nothing of, and which operator would give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absent {
    /// What.
    pub title: &'static str,
    /// Who would make it.
    pub made_by: &'static str,
}

impl Source {
    fn columns(self) -> Vec<&'static str> {
        match self {
            Source::Number(a, _) | Source::Words(a) | Source::Text(a) => vec![a],
            Source::Between(a, b, _) | Source::Size(a, b) => vec![a, b],
        }
    }

    fn is_in(self, schema: &Schema) -> bool {
        let wants_text = matches!(self, Source::Words(_) | Source::Text(_));
        let fits = |t: &DataType| if wants_text { matches!(t, DataType::Utf8 | DataType::LargeUtf8) } else { t.is_numeric() };
        self.columns().iter().all(|name| schema.field_with_name(name).is_ok_and(|f| fits(f.data_type())))
    }

    /// A value for each row.
    fn values(self, batch: &RecordBatch) -> Result<Values, String> {
        let number = |name: &str| cast::numbers(batch, name)?.ok_or_else(|| format!("no column `{name}`"));
        let words = |text: &str| text.split_whitespace().count() as f64;
        Ok(match self {
            Source::Number(a, scale) => Values::Numbers(number(a)?.iter().map(|v| v.map(|v| v * scale)).collect()),
            Source::Between(a, b, scale) => {
                let (a, b) = (number(a)?, number(b)?);
                Values::Numbers(a.iter().zip(b.iter()).map(|(a, b)| Some((b? - a?) * scale)).collect())
            }
            Source::Words(a) => Values::Numbers(cast::need_text(batch, a)?.iter().map(|v| v.map(words)).collect()),
            Source::Size(a, b) => {
                let (a, b) = (number(a)?, number(b)?);
                Values::Texts(a.iter().zip(b.iter()).map(|(a, b)| Some(format!("{}x{}", a?, b?))).collect())
            }
            Source::Text(a) => Values::Texts(cast::need_text(batch, a)?.iter().map(|v| v.map(str::to_owned)).collect()),
        })
    }
}

enum Values {
    Numbers(Vec<Option<f64>>),
    Texts(Vec<Option<String>>),
}

/// What is known so far of one distribution.
#[derive(Default)]
struct Sum {
    range: Range,
    bins: Option<Histogram>,
    counts: BTreeMap<String, u64>,
    others: u64,
    missing: u64,
}

impl Sum {
    /// The first pass: all but the bins.
    fn look(&mut self, values: Values) {
        match values {
            Values::Numbers(all) => {
                self.missing += all.iter().filter(|v| v.is_none()).count() as u64;
                all.into_iter().flatten().for_each(|v| self.range.add(v));
            }
            Values::Texts(all) => {
                for value in all {
                    match value {
                        None => self.missing += 1,
                        Some(text) if self.counts.len() < MAX_VALUES || self.counts.contains_key(&text) => {
                            *self.counts.entry(text).or_default() += 1;
                        }
                        Some(_) => self.others += 1,
                    }
                }
            }
        }
    }

    fn shape(self) -> Shape {
        if let Some(bins) = self.bins {
            return Shape::Bins(bins);
        }
        let mut counts: Vec<(String, u64)> = self.counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let rest = counts.split_off(counts.len().min(SHOWN_VALUES));
        Shape::Counts(counts, self.others + rest.iter().map(|(_, n)| n).sum::<u64>())
    }
}

/// What the table has, and what it has not.
pub fn distributions(table: &Table) -> Result<(Vec<Distribution>, Vec<Absent>), String> {
    let schema = table.schema();
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for (title, unit, made_by, places) in WANTED {
        match places.iter().find(|from| from.is_in(schema)) {
            Some(from) => found.push((title, unit, *from)),
            None => absent.push(Absent { title, made_by }),
        }
    }
    let mut columns: Vec<&str> = found.iter().flat_map(|f| f.2.columns()).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut sums: Vec<Sum> = found.iter().map(|_| Sum::default()).collect();
    let mut each = |f: &mut dyn FnMut(&mut Sum, Values)| -> Result<(), String> {
        if columns.is_empty() {
            return Ok(());
        }
        let read = table.read_batches(Some(&columns)).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS);
        for batch in read {
            let batch = batch.map_err(|e| e.to_string())?;
            for ((_, _, from), sum) in found.iter().zip(&mut sums) {
                f(sum, from.values(&batch)?);
            }
        }
        Ok(())
    };
    each(&mut |sum, values| sum.look(values))?;
    each(&mut |sum, values| {
        let Values::Numbers(values) = values else { return };
        let range = sum.range;
        let bins = sum.bins.get_or_insert_with(|| Histogram::over(&range));
        values.into_iter().flatten().for_each(|v| bins.add(v));
    })?;
    let done = found.into_iter().zip(sums).map(|((title, unit, from), sum)| {
        let missing = sum.missing;
        Distribution { title, unit, columns: from.columns(), missing, shape: sum.shape() }
    });
    Ok((done.collect(), absent))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, StringArray};

    use super::*;
    use crate::tables::tests::commit;

    fn spread(columns: Vec<(&str, ArrayRef)>) -> (Vec<Distribution>, Vec<&'static str>) {
        let dir = tempfile::tempdir().unwrap();
        commit(dir.path(), &RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap(), 0);
        let table = Table::open_existing("t", dir.path().canonicalize().unwrap().to_str().unwrap()).unwrap().unwrap();
        let (found, absent) = distributions(&table).unwrap();
        (found, absent.into_iter().map(|a| a.title).collect())
    }

    #[test]
    fn what_the_table_has_is_counted_and_what_it_has_not_is_named() {
        let (found, absent) = spread(vec![
            ("clip_id", Arc::new(StringArray::from(vec!["a", "b", "c", "d"]))),
            ("start_us", Arc::new(Int64Array::from(vec![0, 1_000_000, 5, 0]))),
            ("end_us", Arc::new(Int64Array::from(vec![Some(6_000_000), Some(9_000_000), None, Some(7_000_000)]))),
            ("caption", Arc::new(StringArray::from(vec![Some("The  heart beats."), Some(""), None, Some("one")]))),
            ("aesthetic_score", Arc::new(Float32Array::from(vec![4.0, 5.0, 6.0, f32::NAN]))),
            ("width", Arc::new(Int32Array::from(vec![720, 720, 1920, 720]))),
            ("height", Arc::new(Int32Array::from(vec![Some(480), Some(480), Some(1080), None]))),
            ("fps", Arc::new(Float64Array::from(vec![25.0, 25.0, 25.0, 25.0]))),
            ("category", Arc::new(StringArray::from(vec![Some("imaging"), Some("teaching"), Some("imaging"), None]))),
            // A column of this name and another type is another thing.
            ("camera_motion", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ]);
        assert_eq!(absent, ["Technical score", "Camera motion"]);
        let told: Vec<String> = found
            .iter()
            .map(|d| match &d.shape {
                Shape::Bins(h) => {
                    format!("{} {:?}..{:?} n {} odd {} missing {}", d.title, h.min, h.max, h.values, h.not_finite, d.missing)
                }
                Shape::Counts(counts, others) => format!("{} {counts:?} others {others} missing {}", d.title, d.missing),
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        Duration Some(6.0)..Some(8.0) n 3 odd 0 missing 1
        Caption Some(0.0)..Some(3.0) n 3 odd 0 missing 1
        Aesthetic score Some(4.0)..Some(6.0) n 3 odd 1 missing 0
        Resolution [("720x480", 2), ("1920x1080", 1)] others 0 missing 1
        Frame rate Some(25.0)..Some(25.0) n 4 odd 0 missing 0
        Category [("imaging", 2), ("teaching", 1)] others 0 missing 1
        "#);
    }

    #[test]
    fn many_different_texts_are_summed_up() {
        let names: Vec<String> = (0..40).map(|i| format!("c{i:02}")).collect();
        let (found, _) = spread(vec![("category", Arc::new(StringArray::from(names)) as ArrayRef)]);
        let Shape::Counts(counts, others) = &found[0].shape else { panic!() };
        assert_eq!((counts.len(), *others), (SHOWN_VALUES, 40 - SHOWN_VALUES as u64));
    }
}
