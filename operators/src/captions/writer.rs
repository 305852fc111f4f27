//! The captioner at work: rows in, columns out, and the check that each caption is in the row of its own clip.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Builder, Int64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use curette_engine::operator::{OperatorError, Task, Transform};
use curette_engine::verdict::{Problem, Processed, Verdict};

use super::binding::seal;
use super::clip::{Clip, clips};
use super::describe::{Captions, Describer, Eyes};
use super::template;
use crate::remote::call::Failure;
use crate::remote::http::Http;
use crate::remote::purse::Prices;

/// See the module's documentation.
pub struct Writer {
    /// Absent for the backend that asks nobody.
    pub(super) describer: Option<Describer>,
    pub(super) id_column: String,
    pub(super) prices: Option<Prices>,
    pub(super) stop_when_down: bool,
}

/// What is known about one row.
enum Written {
    Template(String, String),
    Model(Box<Captions>),
}

impl Writer {
    /// Looks at clips in another way than by decoding them: for measurements and for tests.
    pub fn with_eyes(mut self, eyes: Arc<Eyes>) -> Writer {
        if let Some(describer) = &mut self.describer {
            describer.eyes = eyes;
        }
        self
    }

    fn captions(&self, clip: &Clip, task: &Task) -> Result<Written, Failure> {
        let Some(describer) = &self.describer else {
            let (detailed, brief) = template::captions(clip);
            return Ok(Written::Template(detailed, brief));
        };
        let http = task.resources.get(Http::start);
        let no_client = |e: &String| Failure::Problem(Problem::new("caption_service_error", format!("no HTTP client: {e}")));
        let captions = describer.describe(clip, http.as_ref().as_ref().map_err(no_client)?, task)?;
        captions.bond.check(&captions.detailed).map_err(Failure::Problem)?;
        Ok(Written::Model(Box::new(captions)))
    }
}

impl Transform for Writer {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let prompt = self.describer.as_ref().map(|d| d.meaning.blake3());
        let ids = rows.column_by_name(&self.id_column).and_then(|c| c.as_string_opt::<i32>());
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let mut columns = ColumnsOf::default();
        for (row, clip) in clips(rows).into_iter().enumerate() {
            let answer = match task.is_cancelled() {
                true => Err(Failure::Problem(Problem::new("cancelled", "the run is being stopped"))),
                false => self.captions(&clip, task),
            };
            match answer {
                Ok(written) => {
                    columns.push(&written, id_of(ids, row), prompt.as_deref(), clip.transcript, self.prices);
                    verdicts.push(Verdict::Pass);
                }
                Err(Failure::Down(p)) if self.stop_when_down => {
                    return Err(OperatorError::new(format!("{}: {}", p.code, p.message)).help(
                        "nothing is lost: the same command goes on from what is committed, and what was answered is in the cache",
                    ));
                }
                Err(Failure::Problem(problem) | Failure::Down(problem)) => {
                    columns.push_null();
                    verdicts.push(Verdict::Unmeasured(problem));
                }
            }
        }
        let columns = columns.finish();
        check_seals(&columns, ids)?;
        Ok(Processed::rows(verdicts, columns))
    }
}

fn id_of(ids: Option<&StringArray>, row: usize) -> &str {
    ids.filter(|ids| ids.is_valid(row)).map_or("", |ids| ids.value(row))
}

/// The new columns in the order in which they are declared.
#[derive(Default)]
struct ColumnsOf {
    detailed: StringBuilder,
    brief: StringBuilder,
    model: StringBuilder,
    prompt: StringBuilder,
    frames_us: ListBuilder<Int64Builder>,
    transcript: StringBuilder,
    frames: StringBuilder,
    binding: StringBuilder,
    prompt_tokens: Int64Builder,
    completion_tokens: Int64Builder,
    cost_usd: Float64Builder,
}

impl ColumnsOf {
    fn push(&mut self, written: &Written, id: &str, prompt: Option<&str>, transcript: Option<String>, prices: Option<Prices>) {
        self.transcript.append_option(transcript);
        match (written, prompt) {
            (Written::Model(c), Some(prompt)) => {
                self.detailed.append_value(&c.detailed);
                self.brief.append_value(&c.brief);
                self.model.append_value(&c.model);
                self.prompt.append_value(prompt);
                self.frames_us.values().append_slice(&c.frames_us);
                self.frames_us.append(true);
                self.frames.append_value(&c.bond.frames);
                self.binding.append_value(seal(id, [&c.bond.frames, prompt, &c.model, &c.detailed, &c.brief]));
                let tokens = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                self.prompt_tokens.append_option(c.usage.map(|u| tokens(u.prompt_tokens)));
                self.completion_tokens.append_option(c.usage.map(|u| tokens(u.completion_tokens)));
                self.cost_usd.append_option(prices.zip(c.usage).map(|(prices, usage)| prices.nano_usd(usage) as f64 / 1e9));
            }
            (Written::Model(c), None) => self.push_template(&c.detailed, &c.brief),
            (Written::Template(detailed, brief), _) => self.push_template(detailed, brief),
        }
    }

    fn push_template(&mut self, detailed: &str, brief: &str) {
        self.detailed.append_value(detailed);
        self.brief.append_value(brief);
        self.model.append_value(template::MODEL);
        self.no_model();
    }

    fn push_null(&mut self) {
        for text in [&mut self.detailed, &mut self.brief, &mut self.model, &mut self.transcript] {
            text.append_null();
        }
        self.no_model();
    }

    fn no_model(&mut self) {
        for hash in [&mut self.prompt, &mut self.frames, &mut self.binding] {
            hash.append_null();
        }
        self.frames_us.append(false);
        self.prompt_tokens.append_null();
        self.completion_tokens.append_null();
        self.cost_usd.append_null();
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.detailed.finish()),
            Arc::new(self.brief.finish()),
            Arc::new(self.model.finish()),
            Arc::new(self.prompt.finish()),
            Arc::new(self.frames_us.finish()),
            Arc::new(self.transcript.finish()),
            Arc::new(self.frames.finish()),
            Arc::new(self.binding.finish()),
            Arc::new(self.prompt_tokens.finish()),
            Arc::new(self.completion_tokens.finish()),
            Arc::new(self.cost_usd.finish()),
        ]
    }
}

/// The finished columns against the seals that were made before they were put together: a value in another row is a bug, and ends the run.
fn check_seals(columns: &[ArrayRef], ids: Option<&StringArray>) -> Result<(), OperatorError> {
    let at = |column: usize, row: usize| columns[column].as_string::<i32>().value(row);
    let seals = columns[7].as_string::<i32>();
    for row in (0..seals.len()).filter(|&row| seals.is_valid(row)) {
        let again = seal(id_of(ids, row), [at(6, row), at(3, row), at(2, row), at(0, row), at(1, row)]);
        if again != seals.value(row) {
            let message = format!("caption_misbound: row {row} of a batch got the caption of another row; please report this");
            return Err(OperatorError::new(message));
        }
    }
    Ok(())
}
