//! Who gave which item which label.
//!
//! A sheet says it in long form (columns `item`, `rater`, `label`: a row per rating) or in wide form (a column `item` and one per rater,
//! named by the caller). Labels have an order where the caller gives one, or where all are numbers. What can go wrong: two labels of one
//! rater for one item; that is an error, since nobody knows which one is meant.

use std::collections::BTreeMap;

use crate::sheet::{Mistake, Sheet};

/// How a sheet is read.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Columns with the labels of one rater each, for the wide form.
    pub raters: Vec<String>,
    /// All labels, in their order from one end of the scale to the other.
    pub levels: Vec<String>,
    /// A column by which items are grouped.
    pub by: Option<String>,
}

/// The ratings of one group of items.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratings {
    /// What the items have in common, where they are grouped.
    pub group: Option<String>,
    /// Raters by name.
    pub raters: Vec<String>,
    /// All labels of the sheet.
    pub labels: Vec<String>,
    /// Whether the order of the labels means anything.
    pub ordered: bool,
    /// For each item its labels by rater: places in `raters` and `labels`.
    pub items: Vec<BTreeMap<usize, usize>>,
}

struct Rating<'a> {
    line: u64,
    group: &'a str,
    item: &'a str,
    rater: &'a str,
    label: &'a str,
}

/// The ratings of a sheet, a group at a time, in the order of the groups' names.
pub fn ratings(sheet: &Sheet, how: &How) -> Result<Vec<Ratings>, Mistake> {
    let found = if how.raters.is_empty() { long(sheet, how)? } else { wide(sheet, how)? };
    let (labels, ordered) = labels(sheet, &found, &how.levels)?;
    let mut groups: BTreeMap<&str, Vec<&Rating>> = BTreeMap::new();
    found.iter().for_each(|rating| groups.entry(rating.group).or_default().push(rating));
    let one = |(group, ratings): (&str, Vec<&Rating>)| -> Result<Ratings, Mistake> {
        let mut raters: Vec<String> = ratings.iter().map(|r| r.rater.to_owned()).collect();
        raters.sort();
        raters.dedup();
        if raters.len() < 2 {
            let of = if how.by.is_some() { format!(" for `{group}`") } else { String::new() };
            return Err(sheet.mistake(None, format!("has ratings of {} alone{of}; agreement needs two raters", raters.join(""))));
        }
        let mut items: BTreeMap<&str, BTreeMap<usize, usize>> = BTreeMap::new();
        let mut lines: BTreeMap<(&str, usize), u64> = BTreeMap::new();
        for rating in ratings {
            let rater = raters.partition_point(|r| r.as_str() < rating.rater);
            let label = labels.iter().position(|l| l == rating.label).unwrap_or_default();
            if let Some(before) = lines.insert((rating.item, rater), rating.line) {
                let what =
                    format!("`{}` has rated `{}` before, in line {before}; leave one of the two", rating.rater, rating.item);
                return Err(sheet.mistake(Some(rating.line), what));
            }
            items.entry(rating.item).or_default().insert(rater, label);
        }
        let group = how.by.as_ref().map(|_| group.to_owned());
        Ok(Ratings { group, raters, labels: labels.clone(), ordered, items: items.into_values().collect() })
    };
    groups.into_iter().map(one).collect()
}

fn long<'a>(sheet: &'a Sheet, how: &How) -> Result<Vec<Rating<'a>>, Mistake> {
    let wide = "; or name the columns of the raters (--raters) where each has one";
    let need = |name: &str| sheet.column(name).map_err(|e| Mistake { what: e.what + wide, ..e });
    let (item, rater, label) = (need("item")?, need("rater")?, need("label")?);
    let by = how.by.as_ref().map(|by| sheet.column(by)).transpose()?;
    let one = |row: &'a crate::sheet::Row| {
        let group = by.map_or(Ok(""), |by| sheet.text(row, by))?;
        let (item, rater, label) = (sheet.text(row, item)?, sheet.text(row, rater)?, sheet.text(row, label)?);
        Ok(Rating { line: row.line, group, item, rater, label })
    };
    sheet.rows.iter().map(one).collect()
}

/// An empty cell is an item that this rater did not rate.
fn wide<'a>(sheet: &'a Sheet, how: &How) -> Result<Vec<Rating<'a>>, Mistake> {
    let item = sheet.column("item")?;
    let by = how.by.as_ref().map(|by| sheet.column(by)).transpose()?;
    let raters = how.raters.iter().map(|r| sheet.column(r)).collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::new();
    for row in &sheet.rows {
        let group = by.map_or(Ok(""), |by| sheet.text(row, by))?;
        let item = sheet.text(row, item)?;
        for &column in raters.iter().filter(|&&column| !row.cells[column].is_empty()) {
            let (rater, label) = (sheet.columns[column].as_str(), row.cells[column].as_str());
            out.push(Rating { line: row.line, group, item, rater, label });
        }
    }
    Ok(out)
}

/// All labels, and whether they have an order.
fn labels(sheet: &Sheet, ratings: &[Rating], levels: &[String]) -> Result<(Vec<String>, bool), Mistake> {
    if !levels.is_empty() {
        let stranger = ratings.iter().find(|r| !levels.iter().any(|l| l == r.label));
        return match stranger {
            None => Ok((levels.to_vec(), true)),
            Some(r) => {
                let what = format!("the label `{}` is none of the levels {}", r.label, levels.join(", "));
                Err(sheet.mistake(Some(r.line), what))
            }
        };
    }
    let mut labels: Vec<String> = ratings.iter().map(|r| r.label.to_owned()).collect();
    labels.sort();
    labels.dedup();
    let numbers: Option<Vec<f64>> = labels.iter().map(|l| l.parse().ok().filter(|n: &f64| n.is_finite())).collect();
    let Some(numbers) = numbers else { return Ok((labels, false)) };
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    Ok((order.into_iter().map(|at| labels[at].clone()).collect(), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, how: &How) -> Result<Vec<Ratings>, Mistake> {
        ratings(&Sheet::parse("r.csv", text.as_bytes()).unwrap(), how)
    }

    #[test]
    fn long_and_wide_sheets_say_the_same() {
        let long = read("item,rater,label\nv1,B,2\nv1,A,10\nv2,A,2\nv2,B,2\nv3,A,10\n", &How::default()).unwrap();
        let how = How { raters: vec!["A".into(), "B".into()], ..How::default() };
        let wide = read("item,B,A\nv2,2,2\nv1,2,10\nv3,,10\n", &how).unwrap();
        assert_eq!(long, wide);
        assert_eq!((long[0].labels.join(" "), long[0].ordered), ("2 10".to_owned(), true), "by number, not by letter");
        let words =
            read("item,rater,label,g\nv1,B,x,1\nv1,A,y,1\nv1,A,x,2\nv1,B,x,2\n", &How { by: Some("g".into()), ..How::default() });
        let words = words.unwrap();
        assert_eq!((words.len(), words[1].group.as_deref(), words[0].ordered), (2, Some("2"), false));
    }

    #[test]
    fn mistakes_are_told() {
        let levels = How { levels: vec!["none".into(), "severe".into()], ..How::default() };
        let raters = How { raters: vec!["A".into(), "C".into()], ..How::default() };
        let all = [
            read("item,rater,label\nv1,A,x\nv1,B,x\nv1,A,y\n", &How::default()),
            read("item,rater,label\nv1,A,none\nv1,B,some\n", &levels),
            read("item,A,B\nv1,x,y\n", &How::default()),
            read("item,A,B\nv1,x,y\n", &raters),
            read("item,rater,label\nv1,A,x\n", &How::default()),
            read("item,rater,label,g\nv1,A,x,p\nv1,B,x,q\n", &How { by: Some("g".into()), ..How::default() }),
            read("item,rater,label\nv1,,x\n", &How::default()),
        ];
        insta::assert_snapshot!(all.map(|r| r.unwrap_err().to_string()).join("\n"));
    }
}
