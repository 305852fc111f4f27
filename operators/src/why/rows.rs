//! Finds an item in the tables of one version.
//!
//! First by ids alone, then, where it is, its row: wide columns are read for nothing else. What can go wrong: a video with more rows than are told;
//! they are counted.

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use curette_engine::commit::Table;

use super::{Chapter, Event, Item, MAX_TOLD, Standing, schema_at};
use crate::meaning::Sink;
use crate::refilter::ID_COLUMNS;
use crate::report::charts::number;
use crate::report::escape::short;
use crate::stats::BATCH_ROWS;
use crate::tables::cast;

/// Values of a row that are told.
const MAX_VALUES: usize = 80;
/// Characters of a text that is told.
const VALUE_CHARS: usize = 100;
/// Other rows of the same video that are named.
const MAX_RELATIVES: usize = 12;

fn each(
    table: &Table,
    version: u64,
    columns: &[&str],
    f: &mut dyn FnMut(&RecordBatch) -> Result<(), String>,
) -> Result<(), String> {
    let read = table.read_batches_at(version, columns).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS);
    for batch in read {
        f(&batch.map_err(|e| e.to_string())?)?;
    }
    Ok(())
}

/// What `rejects` or `errors` say of the item, its clips, or its video.
pub(super) fn events(table: &Table, version: u64, item: &Item, chapter: &mut Chapter) -> Result<(), String> {
    let wanted = ["item_id", "root_id", "step", "operator", "code", "measured", "threshold", "message", "kept"];
    each(table, version, &wanted, &mut |batch| {
        let text = |name: &str| cast::need_text(batch, name);
        let (items, roots) = (text("item_id")?, text("root_id")?);
        let concerns = |row: &usize| {
            let (id, root) = (items.value(*row), roots.value(*row));
            id == item.id || root == item.id || item.video.as_deref() == Some(id)
        };
        let rows: Vec<usize> = (0..batch.num_rows()).filter(concerns).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let (steps, operators, codes, messages) = (text("step")?, text("operator")?, text("code")?, text("message")?);
        let (measured, threshold) = (cast::numbers(batch, "measured")?, cast::numbers(batch, "threshold")?);
        let kept = batch.column_by_name("kept").and_then(|c| c.as_any().downcast_ref::<arrow::array::BooleanArray>().cloned());
        for row in rows {
            if chapter.events.len() >= MAX_TOLD {
                chapter.untold += 1;
                continue;
            }
            let value =
                |column: &Option<arrow::array::Float64Array>| column.as_ref().filter(|c| c.is_valid(row)).map(|c| c.value(row));
            let outcome = match &kept {
                None => "rejected",
                Some(kept) if kept.is_valid(row) && kept.value(row) => "error_kept",
                Some(_) => "error",
            };
            chapter.events.push(Event {
                row: items.value(row).to_owned(),
                outcome,
                step: steps.value(row).to_owned(),
                operator: operators.value(row).to_owned(),
                code: codes.value(row).to_owned(),
                measured: value(&measured),
                threshold: value(&threshold),
                message: messages.value(row).to_owned(),
            });
        }
        Ok(())
    })
}

/// The columns by which a table names its rows.
struct Ids {
    key: &'static str,
    all: Vec<&'static str>,
}

impl Ids {
    fn of(columns: &[&str]) -> Option<Ids> {
        let all: Vec<&'static str> = ID_COLUMNS.into_iter().filter(|c| columns.contains(c)).collect();
        let key = *all.first()?;
        Some(Ids { key, all })
    }

    /// For each row whether it is the item or part of it, and whether it is of the item's video.
    fn matches(&self, batch: &RecordBatch, item: &Item) -> Result<(StringArray, Vec<bool>, Vec<bool>), String> {
        let columns = self.all.iter().map(|name| cast::need_text(batch, name)).collect::<Result<Vec<_>, _>>()?;
        let key = columns[0].clone();
        let is = |row: usize| {
            // A table of videos holds the video of a clip.
            let of_video = self.key == "video_id" && item.video.as_deref() == Some(key.value(row));
            of_video || columns.iter().any(|c| c.is_valid(row) && c.value(row) == item.id)
        };
        let related = |row: usize| columns.iter().any(|c| c.is_valid(row) && item.video.as_deref() == Some(c.value(row)));
        let rows = 0..batch.num_rows();
        Ok((key.clone(), rows.clone().map(is).collect(), rows.map(related).collect()))
    }
}

/// The rows of a table that are the item or parts of it.
pub(super) fn standings(
    table: &Table,
    version: u64,
    sink: &Sink,
    item: &Item,
    chapter: &mut Chapter,
    passed: &dyn Fn(&[(String, String)]) -> Vec<String>,
) -> Result<(), String> {
    let schema = schema_at(table, version)?;
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let Some(ids) = Ids::of(&names) else {
        chapter.notes.push(format!("the table of `{}` has none of the columns {}", sink.step, ID_COLUMNS.join(", ")));
        return Ok(());
    };
    let (mut found, mut relatives) = (0usize, Vec::new());
    each(table, version, &ids.all, &mut |batch| {
        let (key, is, related) = ids.matches(batch, item)?;
        found += is.iter().filter(|is| **is).count();
        let others = (0..batch.num_rows()).filter(|&row| related[row] && !is[row]).map(|row| key.value(row).to_owned());
        relatives.extend(others.take(MAX_RELATIVES.saturating_sub(relatives.len())));
        Ok(())
    })?;
    if found == 0 {
        for relative in relatives {
            if !chapter.relatives.contains(&relative) {
                chapter.relatives.push(relative);
            }
        }
        return Ok(());
    }
    let told = |t: &DataType| t.is_numeric() || matches!(t, DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8);
    let hidden =
        |name: &str| name.ends_with("_uri") || name.ends_with("_blake3") || name == "description" || ID_COLUMNS.contains(&name);
    let shown: Vec<&str> =
        schema.fields().iter().filter(|f| told(f.data_type()) && !hidden(f.name())).map(|f| f.name().as_str()).collect();
    let shown = &shown[..shown.len().min(MAX_VALUES)];
    let columns: Vec<&str> = ids.all.iter().chain(shown).copied().collect();
    each(table, version, &columns, &mut |batch| {
        let (key, is, _) = ids.matches(batch, item)?;
        for row in (0..batch.num_rows()).filter(|&row| is[row]) {
            if chapter.tables.len() >= MAX_TOLD {
                chapter.untold += 1;
                continue;
            }
            let values: Vec<(String, String)> =
                shown.iter().filter_map(|name| Some(((*name).to_owned(), value(batch, name, row)?))).collect();
            let passed = passed(&values);
            chapter.tables.push(Standing { row: key.value(row).to_owned(), table: sink.step.clone(), values, passed });
        }
        Ok(())
    })
}

/// What a cell says; nothing where it is null.
fn value(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(name)?;
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        t if t.is_integer() => cast::integers(batch, name).ok()?.map(|c| c.value(row).to_string()),
        t if t.is_numeric() => cast::numbers(batch, name).ok()?.map(|c| number(c.value(row))),
        _ => cast::text(batch, name).ok()?.map(|c| short(c.value(row).trim(), VALUE_CHARS).replace('\n', " ")),
    }
}
