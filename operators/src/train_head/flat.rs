//! A table that has an embedding, a label and a group in each row: what `text_classifier` with `keep_embedding` and others write, with labels joined to it.
//!
//! Columns: the embedding as a list of Float32 (`embedding`), the label, the group, and, where the writer says so, `EMBEDDING_model` or `embedding_model`. What can go wrong:
//! two encoders in one table, an embedding with a null or a NaN in it, a row without label or group; each names the row.

use std::path::PathBuf;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type};
use curette_heads::Encoder;
use curette_heads::samples::Samples;

use super::TrainError;
use super::labels::{batches, class_of};
use super::table::files;

/// Where what is.
#[derive(Debug, Clone)]
pub struct FlatTable {
    /// A Parquet or JSON Lines file, or a folder of Parquet files.
    pub path: PathBuf,
    /// Column of embeddings.
    pub embedding: String,
    /// Column of labels.
    pub label: String,
    /// Column of groups; without it each row is a group.
    pub group: Option<String>,
}

impl FlatTable {
    /// All rows, and the encoder that they name.
    pub fn read(&self, classes: &[String; 2]) -> Result<(Samples, Option<Encoder>), TrainError> {
        let err = |what: String| TrainError::Embeddings(format!("embeddings {}: {what}", self.path.display()));
        let (mut samples, mut encoder) = (Samples::default(), None);
        let mut groups = std::collections::BTreeMap::new();
        let mut row = 0;
        for file in files(&self.path).map_err(|e| err(e.to_string()))? {
            for batch in batches(&file).map_err(|e| err(e.to_string()))? {
                self.add(&batch, classes, &mut row, &mut samples, &mut groups, &mut encoder).map_err(err)?;
            }
        }
        if samples.is_empty() {
            return Err(err("has no rows".into()));
        }
        Ok((samples, encoder))
    }

    fn add(
        &self,
        batch: &RecordBatch,
        classes: &[String; 2],
        row: &mut usize,
        samples: &mut Samples,
        groups: &mut std::collections::BTreeMap<String, usize>,
        encoder: &mut Option<Encoder>,
    ) -> Result<(), String> {
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("needs a column `{name}`"));
        let text = |name: &str| {
            arrow_cast::cast(column(name)?, &DataType::Utf8).map_err(|e| format!("column `{name}` is not text: {e}"))
        };
        let (vectors, labels) = (column(&self.embedding)?, text(&self.label)?);
        let group_column = self.group.as_deref().map(text).transpose()?;
        // `text_classifier` writes `text_embedding` and `text_embedding_model`.
        let own = format!("{}_model", self.embedding);
        let models = [own.as_str(), "embedding_model"].into_iter().find(|name| batch.column_by_name(name).is_some());
        let models = models.map(text).transpose()?;
        for at in 0..batch.num_rows() {
            *row += 1;
            let err = |what: String| format!("row {row}: {what}");
            let cell = |column: &ArrayRef| {
                let column = column.as_string::<i32>();
                column.is_valid(at).then(|| column.value(at).trim().to_owned()).filter(|v| !v.is_empty())
            };
            if let Some(model) = models.as_ref().and_then(cell) {
                let model: Encoder = model.parse().map_err(err)?;
                match encoder {
                    Some(before) if *before != model => {
                        return Err(err(format!(
                            "is an embedding of `{model}`, rows before are of `{before}`; a head reads one"
                        )));
                    }
                    _ => *encoder = Some(model),
                }
            }
            let label = cell(&labels).ok_or_else(|| err(format!("`{}` is empty", self.label)))?;
            let positive = class_of(&label, classes)
                .ok_or_else(|| err(format!("`{}` = `{label}`, expected `{}` or `{}`", self.label, classes[1], classes[0])))?;
            let group = match &group_column {
                None => format!("row {row}"),
                Some(column) => {
                    cell(column).ok_or_else(|| err(format!("`{}` is empty", self.group.as_deref().unwrap_or_default())))?
                }
            };
            let vector = vector(vectors, at).ok_or_else(|| {
                err(format!("`{}` is {}, expected a list of Float32 without nulls", self.embedding, vectors.data_type()))
            })?;
            let next = groups.len();
            let group = *groups.entry(group).or_insert_with_key(|name| {
                samples.groups.push(name.clone());
                next
            });
            samples.push(&vector, positive, group).map_err(|e| err(format!("the embedding {e}")))?;
        }
        Ok(())
    }
}

/// A list of numbers, of either layout and width; `None` for anything else.
pub(super) fn vector(column: &ArrayRef, row: usize) -> Option<Vec<f32>> {
    if column.is_null(row) {
        return None;
    }
    let values = match column.data_type() {
        DataType::FixedSizeList(..) => column.as_fixed_size_list_opt()?.value(row),
        DataType::List(_) => column.as_list_opt::<i32>()?.value(row),
        _ => return None,
    };
    let values = match values.data_type() {
        DataType::Float32 => values,
        DataType::Float64 => arrow_cast::cast(&values, &DataType::Float32).ok()?,
        _ => return None,
    };
    let values = values.as_primitive_opt::<Float32Type>()?;
    (values.null_count() == 0).then(|| values.values().to_vec())
}
