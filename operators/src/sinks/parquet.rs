//! The `parquet` sink: a Delta table of Parquet shards that plain Parquet readers read too.

use arrow::datatypes::SchemaRef;
use curette_engine::operator::{
    BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, SinkFormat, SinkSpec, StepCheck,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes rows to a table of Parquet files that is committed as a whole: readers see finished shards only, also after a crash.
///
/// The folder is a Delta table: `deltalake`, Polars, DuckDB and Spark read it as one; after a finished run the `*.parquet` files in it are exactly the
/// table, for readers that know only Parquet, until `--new-version`: files of older versions stay beside the new ones. Text of few distinct values is stored by dictionary.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parquet {
    /// Folder or URL of the table; relative ones are below the pipeline's `output`. Default: the step's name.
    #[serde(default)]
    pub location: Option<String>,
    /// Columns to write, in this order. Default: all.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// Columns to leave out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// A shard is closed when the rows in it take about this many MiB in memory.
    #[serde(default = "shard")]
    #[schemars(range(min = 1, max = 65_536))]
    pub target_shard_mib: u64,
    /// A row group is closed at about this many MiB in memory. Larger ones compress better; readers hold one in memory.
    #[serde(default = "row_group")]
    #[schemars(range(min = 1, max = 4_096))]
    pub row_group_mib: u64,
    /// zstd level: higher is smaller and slower.
    #[serde(default = "level")]
    #[schemars(range(min = 1, max = 22))]
    pub zstd_level: i32,
}

fn shard() -> u64 {
    512
}
fn row_group() -> u64 {
    64
}
fn level() -> i32 {
    3
}

impl Operator for Parquet {
    const NAME: &'static str = "parquet";
    const KIND: Kind = Kind::Sink;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.clips]\ntype = \"parquet\"\ninputs = [\"captions\"]\nexclude = [\"description\"]\n";

    fn columns(&self) -> Columns {
        Columns::none()
    }
    fn pool(&self) -> Pool {
        Pool::Cpu
    }
    fn validate(&self, check: &mut dyn StepCheck) {
        super::validate_columns(self.columns.as_deref(), &self.exclude, check);
        if self.row_group_mib > self.target_shard_mib {
            check.error(
                Some("row_group_mib"),
                curette_engine::diag::Code::Contradiction,
                format!("a row group of {} MiB is larger than a shard of {} MiB", self.row_group_mib, self.target_shard_mib),
                Some("make `row_group_mib` at most `target_shard_mib`".into()),
            );
        }
    }
    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        super::check_columns(self.columns.as_deref(), &self.exclude, input, check);
    }
    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Sink(SinkSpec {
            location: self.location.clone(),
            columns: self.columns.clone(),
            exclude: self.exclude.clone(),
            format: SinkFormat::Parquet {
                target_shard_bytes: self.target_shard_mib << 20,
                row_group_bytes: self.row_group_mib << 20,
                zstd_level: self.zstd_level,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn sizes_have_units_and_defaults() {
        let Runtime::Sink(spec) = testing::build("type = 'parquet'\ncolumns = ['a']\nrow_group_mib = 2").unwrap() else {
            panic!()
        };
        assert_eq!(spec.format, SinkFormat::Parquet { target_shard_bytes: 512 << 20, row_group_bytes: 2 << 20, zstd_level: 3 });
        assert_eq!(spec.columns, Some(vec!["a".to_string()]));
        assert_eq!(spec.location, None);
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        let found = |toml: &str| testing::mistakes(toml, &[("a", arrow::datatypes::DataType::Int32)]);
        assert_eq!(found("type = 'parquet'"), Vec::<String>::new());
        assert_eq!(
            found("type = 'parquet'\ntarget_shard_mib = 1\nrow_group_mib = 2\ncolumns = ['b', 'b']"),
            [
                "columns E-Contradiction: column `b` is named twice",
                "row_group_mib E-Contradiction: a row group of 2 MiB is larger than a shard of 1 MiB",
            ]
        );
        assert_eq!(found("type = 'parquet'\ncolumns = ['a']\nexclude = ['a']").len(), 2);
        assert!(testing::operator("type = 'parquet'\nzstd = 3").is_err());
    }
}
