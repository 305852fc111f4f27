//! `phi_text`: flags text on screen that looks like a patient's name, date of birth or id.
//!
//! Why: recordings of scanners and operating rooms have such lines burnt into the picture, and a dataset must not publish them. Only how many
//! findings of each kind a row has leaves the step: never the text, also not in a message. What can go wrong: this reads what OCR read, so a line
//! that was not read is not found, and a lecture that says "Name: Insulin" is found; it is a net with known holes for people to look behind, not a
//! proof. The column that it reads holds the text in clear: leave it out of the sink.

use std::sync::Arc;

use arrow::array::builder::ListBuilder;
use arrow::array::{Array, ArrayRef, AsArray, Int32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Problem, Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod dates;
pub mod find;

use find::{Finding, findings};

/// Counts what looks like a patient's name, date of birth, other date or id in the text on screen, and can drop such rows. The text itself is never
/// written.
///
/// Reads `text_on_screen` of `subtitles` (the first 1000 characters of all frames that were read; a line that stands in several frames counts
/// once). Kinds:
///
/// * `birth_date`: a date behind a label such as DOB, born, geb., né(e) le, in its line or in the line before;
/// * `date`: any other full date (day, month, year), also eight digits as DICOM writes them;
/// * `id`: a number behind a label such as MRN, ID, PID, ACC, SSN, NHS; a social security number (3-2-4 digits); an NHS number (10 digits with a
///   valid check digit); a run of 7 or more digits that is no date;
/// * `name`: words behind a label such as Name, Patient, Pat.; `FAMILY^GIVEN`, `FAMILY, GIVEN` in capitals; a word behind Mr, Mrs, Ms, Herr, Frau,
///   Mme.
///
/// Nothing is dropped unless `max_findings` is set. Whatever happens, `text_on_screen` stays in the row: name it in `exclude` of the sink, as the
/// example does in its comment, or what was found is published by the very column that it was found in.
///
/// Reject code: `phi_on_screen`. Unmeasured code: `no_text` (the column is null: `subtitles` could not read the frames; a row without any text has
/// no findings).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhiText {
    /// Text column that is read, a line each.
    #[serde(default = "text_on_screen")]
    pub column: String,
    /// Drop rows with more findings than this, kinds of `kinds` alone (0 to 1000). Not set: nothing is dropped.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_findings: Option<usize>,
    /// The kinds that count for `max_findings`: `name`, `birth_date`, `date`, `id`. All are reported.
    #[serde(default = "all_kinds")]
    pub kinds: Vec<Finding>,
}

fn text_on_screen() -> String {
    "text_on_screen".into()
}
fn all_kinds() -> Vec<Finding> {
    Finding::ALL.to_vec()
}

impl Operator for PhiText {
    const NAME: &'static str = "phi_text";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"
# In the sink: exclude = ["text_on_screen"]
[step.phi]
type = "phi_text"
inputs = ["subtitles"]
max_findings = 0
kinds = ["name", "birth_date", "id"]
"#;

    fn columns(&self) -> Columns {
        let kinds = DataType::new_list(DataType::Utf8, true);
        Columns::none()
            .need(&self.column, &[DataType::Utf8])
            .add("phi_names", DataType::Int32, "texts that look like a person's name")
            .add("phi_birth_dates", DataType::Int32, "dates with a label of birth")
            .add("phi_dates", DataType::Int32, "other full dates")
            .add("phi_ids", DataType::Int32, "texts that look like an id of a person or examination")
            .add("phi_kinds", kinds, "the kinds that were found: name, birth_date, date, id")
    }

    fn rows_per_task(&self) -> usize {
        512
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.kinds.is_empty() && self.max_findings.is_some() {
            let help = Some("leave the key out to count all kinds".to_string());
            check.error(Some("kinds"), Code::Contradiction, "with no kind nothing can be above `max_findings`".into(), help);
        }
    }

    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(self.clone())))
    }
}

/// Findings of a row, in the order of [`Finding::ALL`].
type Counts = [usize; 4];

impl PhiText {
    fn counts(text: &str) -> Counts {
        let found = findings(text);
        Finding::ALL.map(|kind| found.iter().filter(|(k, _)| *k == kind).count())
    }

    fn judge(&self, counts: &Counts) -> Verdict {
        let Some(most) = self.max_findings else { return Verdict::Pass };
        let counted = Finding::ALL.iter().zip(counts).filter(|(kind, n)| self.kinds.contains(kind) && **n > 0);
        let counted: Vec<(Finding, usize)> = counted.map(|(kind, n)| (*kind, *n)).collect();
        let sum: usize = counted.iter().map(|(_, n)| n).sum();
        if sum <= most {
            return Verdict::Pass;
        }
        let told: Vec<String> = counted.iter().map(|(kind, n)| format!("{n} {}", kind.name())).collect();
        Verdict::fail("phi_on_screen", sum as f64, most as f64, format!("text on screen looks personal: {}", told.join(", ")))
    }
}

impl Transform for PhiText {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let texts = rows.column_by_name(&self.column).and_then(|c| c.as_string_opt::<i32>());
        let texts = texts
            .ok_or_else(|| OperatorError::new(format!("step {}: column `{}` is missing or no text", task.step, self.column)))?;
        let mut numbers: [Int32Builder; 4] = Default::default();
        let mut kinds = ListBuilder::new(StringBuilder::new());
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let found = (texts.is_valid(row) && !task.is_cancelled()).then(|| PhiText::counts(texts.value(row)));
            for (at, builder) in numbers.iter_mut().enumerate() {
                builder.append_option(found.map(|counts| i32::try_from(counts[at]).unwrap_or(i32::MAX)));
            }
            for (kind, n) in Finding::ALL.iter().zip(found.unwrap_or_default()) {
                if n > 0 {
                    kinds.values().append_value(kind.name());
                }
            }
            kinds.append(found.is_some());
            verdicts.push(match &found {
                Some(counts) => self.judge(counts),
                None => {
                    Verdict::Unmeasured(Problem::new("no_text", format!("`{}` is null; see what `subtitles` said", self.column)))
                }
            });
        }
        let mut columns: Vec<ArrayRef> = numbers.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef).collect();
        columns.push(Arc::new(kinds.finish()));
        Ok(Processed::rows(verdicts, columns))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use arrow::datatypes::Int32Type;

    use super::*;
    use crate::testing;

    const SECRET: &str = "PATIENT: DOE^JOHN\nDOB 12/03/1956\nMRN 00471123\nName: Jane Roe";

    fn run(toml: &str, texts: &[Option<&str>]) -> Processed {
        let column: ArrayRef = Arc::new(texts.iter().copied().collect::<StringArray>());
        testing::run(toml, &RecordBatch::try_from_iter([("text_on_screen", column)]).unwrap())
    }

    #[test]
    fn counts_and_kinds_leave_the_step_and_no_letter_of_the_text() {
        let done = run("type = 'phi_text'\nmax_findings = 2", &[Some(SECRET), Some("The left ventricle, 12 mm"), Some(""), None]);
        assert_eq!(testing::codes(&done), ["phi_on_screen", "pass", "pass", "unmeasured no_text"]);
        let row = |at: usize| (0..4).map(|c| done.columns[c].as_primitive::<Int32Type>().value(at)).collect::<Vec<_>>();
        assert_eq!((row(0), row(1), row(2)), (vec![2, 1, 0, 1], vec![0; 4], vec![0; 4]));
        assert!((0..5).all(|c| done.columns[c].is_null(3)));
        let kinds = done.columns[4].as_list::<i32>().value(0);
        assert_eq!(kinds.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["name", "birth_date", "id"]);
        let Verdict::Fail(reject) = &done.verdicts[0] else { panic!() };
        assert_eq!((reject.measured, reject.threshold), (Some(4.0), Some(2.0)));
        assert_eq!(reject.message, "text on screen looks personal: 2 name, 1 birth_date, 1 id");
        let all = format!("{:?} {:?}", done.verdicts, done.columns);
        for word in ["DOE", "JOHN", "Jane", "Roe", "1956", "00471123"] {
            assert!(!all.contains(word), "{word} is in clear: {all}");
        }
    }

    #[test]
    fn only_the_wanted_kinds_decide() {
        for (kinds, code) in [("['date']", "pass"), ("['id']", "phi_on_screen"), ("['birth_date', 'date']", "phi_on_screen")] {
            let done = run(&format!("type = 'phi_text'\nmax_findings = 0\nkinds = {kinds}"), &[Some(SECRET)]);
            assert_eq!(testing::codes(&done), [code], "{kinds}");
        }
        assert_eq!(testing::codes(&run("type = 'phi_text'", &[Some(SECRET)])), ["pass"]);
        assert_eq!(
            testing::mistakes("type = 'phi_text'\nmax_findings = 1\nkinds = []", &[]),
            ["kinds E-Contradiction: with no kind nothing can be above `max_findings`"]
        );
    }
}
