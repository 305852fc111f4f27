//! The `jsonl` sink: one JSON Lines file per split, for people and small tools.

use arrow::datatypes::SchemaRef;
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Runtime, SinkFormat, SinkSpec, StepCheck};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes rows as JSON Lines: one file per split, replaced as a whole, so that a restart never leaves half a file or a row twice.
///
/// Bytes have no form in JSON: exclude columns that hold them. For anything large use `parquet`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jsonl {
    /// Folder or URL; relative ones are below the pipeline's `output`. Default: the step's name.
    #[serde(default)]
    pub location: Option<String>,
    /// Columns to write, in this order. Default: all.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// Columns to leave out.
    #[serde(default)]
    pub exclude: Vec<String>,
}

impl Operator for Jsonl {
    const NAME: &'static str = "jsonl";
    const KIND: Kind = Kind::Sink;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str =
        "[step.preview]\ntype = \"jsonl\"\ninputs = [\"captions\"]\ncolumns = [\"clip_id\", \"caption\"]\n";

    fn columns(&self) -> Columns {
        Columns::none()
    }
    fn validate(&self, check: &mut dyn StepCheck) {
        super::validate_columns(self.columns.as_deref(), &self.exclude, check);
    }
    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        super::check_columns(self.columns.as_deref(), &self.exclude, input, check);
        for field in input.fields() {
            let name = field.name();
            let written = self.columns.as_ref().is_none_or(|c| c.contains(name)) && !self.exclude.contains(name);
            if written && super::has_bytes(field.data_type()) {
                check.error(
                    self.columns.as_ref().map(|_| "columns"),
                    Code::WrongColumnType,
                    format!("column `{name}` holds bytes, which JSON has no form for"),
                    Some(format!("add `exclude = [\"{name}\"]`, or use a `parquet` sink")),
                );
            }
        }
    }
    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Sink(SinkSpec {
            location: self.location.clone(),
            columns: self.columns.clone(),
            exclude: self.exclude.clone(),
            format: SinkFormat::Jsonl,
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Fields};

    use super::*;
    use crate::testing;

    #[test]
    fn bytes_are_refused_also_inside_structs() {
        let clip = DataType::Struct(Fields::from(vec![Field::new("bytes", DataType::Binary, true)]));
        let input = [("id", DataType::Utf8), ("clip", clip)];
        assert_eq!(
            testing::mistakes("type = 'jsonl'", &input),
            ["- E-WrongColumnType: column `clip` holds bytes, which JSON has no form for"]
        );
        assert_eq!(testing::mistakes("type = 'jsonl'\nexclude = ['clip']", &input), Vec::<String>::new());
        assert_eq!(testing::mistakes("type = 'jsonl'\ncolumns = ['id']", &input), Vec::<String>::new());
        let Runtime::Sink(spec) = testing::build("type = 'jsonl'\nlocation = 'x'").unwrap() else { panic!() };
        assert_eq!((spec.format, spec.location.as_deref()), (SinkFormat::Jsonl, Some("x")));
    }
}
