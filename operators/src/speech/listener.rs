//! `transcript` at work: asks its sources for each row, and cuts what they know to the row's span.
//!
//! What can go wrong: see the operator. The clips of a video follow each other, so the sidecar that was read last is remembered within a task.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use curette_engine::operator::{OperatorError, Task, Transform};
use curette_engine::verdict::{Problem, Processed, Verdict};

use super::find;
use super::transcript::{SpeechSource, Transcript};
use super::whisper::Whisper;
use crate::captions::keys::OnServiceDown;
use crate::remote::call::Failure;
use crate::sources::files::Files;
use crate::span::Spans;
use crate::text::{TimedText, clip_transcript, transcript_column};

/// See the module's documentation.
pub struct Listener {
    /// The step's keys.
    pub config: Transcript,
    /// Where sidecars are read.
    pub files: Arc<Files>,
    /// The service, if it is asked.
    pub whisper: Option<Whisper>,
}

/// What is known of a row's speech.
#[derive(Default)]
struct Known {
    items: Vec<TimedText>,
    source: &'static str,
    language: Option<String>,
    /// Why sources before this one were passed over.
    skipped: Option<String>,
}

impl Listener {
    /// `None`: nobody knows anything. Sidecars of the row before are remembered: the clips of a video follow each other.
    fn row(&self, rows: &RecordBatch, row: usize, task: &Task, last: &mut LastRead) -> Result<Option<Known>, Failure> {
        let text = |name: &str| {
            let column = rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
            column.filter(|c| c.is_valid(row)).map(|c| c.value(row)).filter(|t| !t.is_empty())
        };
        // A source that cannot be read is no reason not to ask the next one; if nobody else knows anything, it is the row's problem.
        let mut skipped: Option<Problem> = None;
        for source in &self.config.sources {
            let known = match source {
                SpeechSource::Column => find::in_row(rows, row).map(|items| Known {
                    items,
                    source: "column",
                    language: text("transcript_language").map(str::to_owned),
                    skipped: None,
                }),
                SpeechSource::Sidecar => {
                    let found = match (text("transcript_uri"), text("video_uri")) {
                        (Some(uri), _) => last.get(uri, || Ok(Some((find::read(&self.files, uri)?, find::language_of(uri))))),
                        (None, Some(uri)) => last.get(uri, || find::beside(&self.files, uri, &self.config.languages)),
                        (None, None) => Ok(None),
                    };
                    let known = |(items, language)| Known { items, source: "sidecar", language, skipped: None };
                    found.map(|found| found.map(known)).unwrap_or_else(|problem| {
                        skipped.get_or_insert(problem);
                        None
                    })
                }
                SpeechSource::Whisper => match &self.whisper {
                    Some(whisper) => Some(self.listen(whisper, rows, row, task)?),
                    None => None,
                },
            };
            if let Some(known) = known {
                return Ok(Some(Known { skipped: skipped.map(|p| format!("{}: {}", p.code, p.message)), ..known }));
            }
        }
        skipped.map_or(Ok(None), |problem| Err(Failure::Problem(problem)))
    }

    fn listen(&self, whisper: &Whisper, rows: &RecordBatch, row: usize, task: &Task) -> Result<Known, Failure> {
        let broken = |e: OperatorError| Failure::Problem(Problem::new("no_span", e.to_string()));
        let span = Spans::of(rows).map_err(broken)?.row(row).map_err(Failure::Problem)?;
        Ok(match whisper.listen(span.uri, (span.start_us, span.end_us), task)? {
            Some((items, language)) => Known { items, source: "whisper", language, skipped: None },
            None => Known { source: "no_audio", ..Known::default() },
        })
    }

    /// The part of the row's video that counts.
    fn span(rows: &RecordBatch, row: usize) -> Result<(i64, i64), Problem> {
        let number = |name: &str| rows.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        match (number("start_us"), number("end_us")) {
            (Some(start), Some(end)) => match (start.is_valid(row), end.is_valid(row)) {
                (true, true) if start.value(row) < end.value(row) => Ok((start.value(row), end.value(row))),
                _ => Err(Problem::new("no_span", "`start_us` and `end_us` are no span")),
            },
            _ => Ok((i64::MIN, i64::MAX)),
        }
    }
}

/// The sidecar that was read last in this task.
#[derive(Default)]
struct LastRead(Option<(String, Result<Option<find::Found>, Problem>)>);

impl LastRead {
    fn get(
        &mut self,
        uri: &str,
        read: impl FnOnce() -> Result<Option<find::Found>, Problem>,
    ) -> Result<Option<find::Found>, Problem> {
        match &self.0 {
            Some((last, found)) if last == uri => found.clone(),
            _ => {
                let found = read();
                self.0 = Some((uri.to_owned(), found.clone()));
                found
            }
        }
    }
}

impl Transform for Listener {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let mut known: Vec<Option<Known>> = Vec::with_capacity(rows.num_rows());
        let mut texts: Vec<Option<String>> = Vec::with_capacity(rows.num_rows());
        let mut last = LastRead::default();
        for row in 0..rows.num_rows() {
            let found = match task.is_cancelled() {
                true => Err(Failure::Problem(Problem::new("cancelled", "the run is being stopped"))),
                false => Self::span(rows, row)
                    .map_err(Failure::Problem)
                    .and_then(|span| Ok(self.row(rows, row, task, &mut last)?.map(|known| self.cut(known, span)))),
            };
            let (verdict, found) = match found {
                Ok(found) => (Verdict::Pass, found),
                Err(Failure::Down(p)) if self.config.on_service_down == OnServiceDown::Stop => {
                    return Err(OperatorError::new(format!("{}: {}", p.code, p.message))
                        .help("nothing is lost: the same command goes on from what is committed"));
                }
                Err(Failure::Problem(problem) | Failure::Down(problem)) => (Verdict::Unmeasured(problem), None),
            };
            verdicts.push(verdict);
            texts.push(
                found.as_ref().map(|k| {
                    clip_transcript(k.items.iter().map(|i| (i.start_us, i.end_us, i.text.as_str())), i64::MIN, i64::MAX)
                }),
            );
            known.push(found);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(transcript_column(known.iter().map(|k| k.as_ref().map(|k| k.items.as_slice())))),
            Arc::new(StringArray::from(texts)),
            Arc::new(StringArray::from_iter(known.iter().map(|k| k.as_ref().map(|k| k.source)))),
            Arc::new(StringArray::from_iter(known.iter().map(|k| k.as_ref().and_then(|k| k.language.as_deref())))),
            Arc::new(StringArray::from_iter(known.iter().map(|k| k.as_ref().and_then(|k| k.skipped.as_deref())))),
        ];
        Ok(Processed::rows(verdicts, columns))
    }
}

impl Listener {
    /// What of it is said in the span.
    fn cut(&self, mut known: Known, (start_us, end_us): (i64, i64)) -> Known {
        let inside = |item: &TimedText| match item.start_us == item.end_us {
            true => item.start_us >= start_us && item.start_us < end_us,
            false => item.start_us < end_us && item.end_us > start_us,
        };
        known.items.retain(|item| inside(item) && !(self.config.drop_sounds && find::is_sound(&item.text)));
        known
    }
}
