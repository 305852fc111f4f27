//! A table that has an embedding, a label and a group in each row: what `text_classifier` with `keep_embedding` and others write, with labels joined to it.
//!
//! Columns: the embedding as a list of numbers (`embedding`), the label, the group, and, where the writer says so, `EMBEDDING_model` or `embedding_model`. A row without a
//! label is left out and counted: labels that were joined to a table are there for a part of it. What can go wrong: two encoders in one table, an embedding with a null or a NaN
//! in it, a labelled row without a group; each names the row.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::{Array, AsArray, ListArray, RecordBatch};
use arrow::datatypes::Float32Type;
use curette_heads::Encoder;
use curette_heads::samples::Samples;

use super::TrainError;
use super::labels::class_of;
use crate::tables::cast::{cell, need_text, text, vectors};
use crate::tables::{BATCH_ROWS, OpenTable};

/// Where what is.
#[derive(Debug, Clone)]
pub struct FlatTable {
    /// A table as [`OpenTable`] reads it.
    pub path: PathBuf,
    /// Column of embeddings.
    pub embedding: String,
    /// Column of labels.
    pub label: String,
    /// Column of groups; without it each row is a group.
    pub group: Option<String>,
}

/// What a table came to.
#[derive(Debug, Default)]
pub struct Read {
    /// The labelled rows.
    pub samples: Samples,
    /// The encoder that they name.
    pub encoder: Option<Encoder>,
    /// Rows without a label.
    pub unlabelled: usize,
    groups: BTreeMap<String, usize>,
    rows: usize,
}

impl FlatTable {
    /// All labelled rows, and the encoder that they name.
    pub fn read(&self, classes: &[String; 2]) -> Result<Read, TrainError> {
        let err = |what: String| TrainError::Embeddings(format!("embeddings {}: {what}", self.path.display()));
        let table = OpenTable::open(&self.path).map_err(err)?;
        let group = self.group.as_deref();
        [self.embedding.as_str(), &self.label].into_iter().chain(group).try_for_each(|c| table.need(c)).map_err(err)?;
        // `text_classifier` writes `text_embedding` and `text_embedding_model`.
        let own = format!("{}_model", self.embedding);
        let model = [own.as_str(), "embedding_model"].into_iter().find(|name| table.has(name));
        let columns: Vec<&str> = [self.embedding.as_str(), &self.label].into_iter().chain(group).chain(model).collect();
        let mut read = Read::default();
        for batch in table.batches(&columns, BATCH_ROWS).map_err(err)? {
            self.add(&batch.map_err(err)?, classes, model, &mut read).map_err(err)?;
        }
        match (read.samples.is_empty(), read.unlabelled) {
            (true, 0) => Err(err("has no rows".into())),
            (true, rows) => Err(err(format!("none of its {rows} rows has a `{}`", self.label))),
            _ => Ok(read),
        }
    }

    fn add(&self, batch: &RecordBatch, classes: &[String; 2], model: Option<&str>, read: &mut Read) -> Result<(), String> {
        let column = batch.column_by_name(&self.embedding).ok_or_else(|| format!("needs a column `{}`", self.embedding))?;
        let wrong = || format!("`{}` is {}, expected a list of numbers without nulls", self.embedding, column.data_type());
        let lists = vectors(column);
        let labels = need_text(batch, &self.label)?;
        let groups = self.group.as_deref().map(|name| need_text(batch, name)).transpose()?;
        let models = model.map(|name| text(batch, name)).transpose()?.flatten();
        for at in 0..batch.num_rows() {
            read.rows += 1;
            let row = read.rows;
            let err = |what: String| format!("row {row}: {what}");
            let Some(label) = cell(&labels, at) else {
                read.unlabelled += 1;
                continue;
            };
            if let Some(model) = models.as_ref().and_then(|models| cell(models, at)) {
                read.agree(model).map_err(err)?;
            }
            let positive = class_of(label, classes)
                .ok_or_else(|| err(format!("`{}` = `{label}`, expected `{}` or `{}`", self.label, classes[1], classes[0])))?;
            let group = match &groups {
                None => format!("row {row}"),
                Some(column) => cell(column, at)
                    .ok_or_else(|| err(format!("`{}` is empty", self.group.as_deref().unwrap_or_default())))?
                    .to_owned(),
            };
            let vector = lists.as_ref().and_then(|lists| vector(lists, at)).ok_or_else(|| err(wrong()))?;
            let next = read.groups.len();
            let samples = &mut read.samples;
            let group = *read.groups.entry(group).or_insert_with_key(|name| {
                samples.groups.push(name.clone());
                next
            });
            samples.push(&vector, positive, group).map_err(|e| err(format!("the embedding {e}")))?;
        }
        Ok(())
    }
}

impl Read {
    fn agree(&mut self, model: &str) -> Result<(), String> {
        let model: Encoder = model.parse()?;
        match &self.encoder {
            Some(before) if *before != model => {
                Err(format!("is an embedding of `{model}`, rows before are of `{before}`; a head reads one"))
            }
            _ => {
                self.encoder = Some(model);
                Ok(())
            }
        }
    }
}

/// The vector of a row; `None` where it is null or has a null in it.
pub(super) fn vector(lists: &ListArray, row: usize) -> Option<Vec<f32>> {
    let values = lists.is_valid(row).then(|| lists.value(row))?;
    let values = values.as_primitive_opt::<Float32Type>()?;
    (values.null_count() == 0).then(|| values.values().to_vec())
}
