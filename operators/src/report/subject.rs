//! What a report is about: an output, and one of its tables.
//!
//! A person names the table, or the output where the plan writes only one. What can go wrong: a folder that is neither; an output of several
//! tables; a table that nothing was committed to.

use curette_engine::commit::{Folder, History, Table, TableState};
use curette_engine::dataflow::tables::STAGES;
use curette_engine::plan::{PlanHash, PlanStore};
use serde_json::Value;

use crate::meaning;
use crate::sources::files::split_name;
use crate::stats::{open, places};

/// An output and one of its tables.
pub struct Subject {
    /// Absolute path or URL of the output.
    pub output: String,
    /// The step that writes the table, if the plan could be read.
    pub sink: Option<String>,
    /// Absolute path or URL of the table.
    pub place: String,
    /// The table.
    pub table: Table,
    /// What it says of itself.
    pub state: TableState,
    /// Its generations.
    pub history: History,
    /// What its plan means; null if that could not be read.
    pub meaning: Value,
    /// The output's small files.
    pub folder: Folder,
}

impl Subject {
    /// Of an output folder or URL, or of one of its tables.
    pub fn open(given: &str) -> Result<Subject, String> {
        let (output, named) = places(given)?;
        let stages = open(&format!("{output}/{STAGES}"))?.state().map_err(|e| e.to_string())?;
        let plan = stages.plan_hash.ok_or("nothing was committed yet: run the pipeline first")?;
        let folder = Folder::open(&output).map_err(|e| e.to_string())?;
        let meaning = PlanStore::new(folder.clone()).meaning(&PlanHash::from_hex(plan)).unwrap_or_default();
        let sinks = meaning::sinks(&meaning, &output);
        let place = match named {
            Some(place) => place,
            None => only_table(&sinks, &output)?,
        };
        let table = open(&place)?;
        let state = table.state().map_err(|e| e.to_string())?;
        let history = table.history().map_err(|e| e.to_string())?;
        let sink = sinks.into_iter().find(|sink| sink.place == place).map(|sink| sink.step);
        Ok(Subject { output, sink, place, table, state, history, meaning, folder })
    }

    /// The table's folder.
    pub fn name(&self) -> &str {
        split_name(&self.place).1
    }

    /// The output's folder.
    pub fn output_name(&self) -> &str {
        split_name(&self.output).1
    }

    /// The plans below the output.
    pub fn plans(&self) -> PlanStore {
        PlanStore::new(self.folder.clone())
    }
}

fn only_table(sinks: &[meaning::Sink], output: &str) -> Result<String, String> {
    let tables: Vec<&str> = sinks.iter().filter(|sink| !sink.is_jsonl).map(|sink| sink.place.as_str()).collect();
    match tables.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err("its plan writes no table of Parquet files; name the table".into()),
        several => {
            let names: Vec<&str> =
                several.iter().map(|place| place.strip_prefix(output).unwrap_or(place).trim_start_matches('/')).collect();
            Err(format!("its plan writes several tables; name one of them: {}", names.join(", ")))
        }
    }
}
