//! The funnel: what came in, what was kept and what was dropped why, for each step; and beside it what came out of the same steps elsewhere.

use std::fmt::Write;

use serde::Serialize;

use crate::dataflow::ledger::Counts;
use crate::graph::{Graph, Reference};

/// Counts by step, in the order of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Funnel {
    /// One for each step.
    pub stages: Vec<Stage>,
    /// Where the counts in [`Stage::reference_out`] are from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Its name.
    pub step: String,
    /// Its operator.
    pub operator: String,
    /// What it did.
    #[serde(flatten)]
    pub counts: Counts,
    /// Rows that came out of it in the run that this one is shown beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_out: Option<u64>,
}

impl Funnel {
    /// The funnel of a graph.
    pub fn new(graph: &Graph, counts: Vec<Counts>) -> Self {
        let stages = graph.steps.iter().zip(counts);
        let stage = |(s, counts): (&crate::graph::Step, Counts)| Stage {
            step: s.name.clone(),
            operator: s.operator.name().into(),
            counts,
            reference_out: None,
        };
        Funnel { stages: stages.map(stage).collect(), reference: None }.beside(graph.pipeline.reference.as_ref())
    }

    /// The same beside the counts of another run.
    pub fn beside(mut self, reference: Option<&Reference>) -> Self {
        let Some(reference) = reference else { return self };
        for stage in &mut self.stages {
            stage.reference_out = reference.rows_out.get(&stage.step).copied();
        }
        self.reference = Some(reference.source.clone());
        self
    }

    /// A table for people.
    pub fn text(&self) -> String {
        let width = self.stages.iter().map(|s| s.step.len()).max().unwrap_or(4).max(4);
        let mut out = String::new();
        let beside = self.stages.iter().any(|s| s.reference_out.is_some());
        let mut line = |step: &str, cells: [String; 5], reference: String, why: &str| {
            let [a, b, c, d, e] = cells;
            let reference = if beside { format!("  {reference:>9}") } else { String::new() };
            let text = format!("{step:<width$}  {a:>9}  {b:>9}  {c:>9}{reference}  {d:>9}  {e:>9}  {why}");
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}", text.trim_end());
        };
        line("step", ["in", "kept", "out", "rejected", "errors"].map(String::from), "reference".into(), "why");
        for stage in &self.stages {
            let c = &stage.counts;
            let share = |map: &std::collections::BTreeMap<String, u64>, note: &'static str| {
                map.iter().map(move |(code, n)| (*n, format!("{code} {n}{note}"))).collect::<Vec<_>>()
            };
            let mut why = share(&c.rejected, "");
            why.extend(share(&c.errors, " (error)"));
            why.extend(share(&c.kept_errors, " (error, kept)"));
            why.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let why: Vec<String> = why.into_iter().map(|(_, text)| text).collect();
            let cells = [c.rows_in, c.passed, c.rows_out, c.rejected_total(), c.errors_total()].map(|n| n.to_string());
            let reference = stage.reference_out.map_or_else(|| "-".into(), |n| n.to_string());
            line(&stage.step, cells, reference, &why.join(", "));
        }
        if let (true, Some(source)) = (beside, &self.reference) {
            let _ = writeln!(out, "reference: rows out of these steps in {source}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_reads_from_top_to_bottom() {
        let stage = |step: &str, counts: Counts| Stage { step: step.into(), operator: step.into(), counts, reference_out: None };
        let map = |items: &[(&str, u64)]| items.iter().map(|(c, n)| (c.to_string(), *n)).collect::<BTreeMap<_, _>>();
        let funnel = Funnel {
            reference: None,
            stages: vec![
                stage("videos", Counts { rows_in: 22, passed: 22, rows_out: 22, ..Counts::default() }),
                stage(
                    "probe",
                    Counts {
                        rows_in: 22,
                        passed: 18,
                        rows_out: 18,
                        errors: map(&[("empty_file", 1), ("not_a_video", 3)]),
                        ..Counts::default()
                    },
                ),
                stage(
                    "split",
                    Counts {
                        rows_in: 18,
                        passed: 10,
                        rows_out: 25,
                        rejected: map(&[("no_run_long_enough", 8)]),
                        kept_errors: map(&[("odd", 1)]),
                        ..Counts::default()
                    },
                ),
            ],
        };
        insta::assert_snapshot!(funnel.text(), @r"
        step           in       kept        out   rejected     errors  why
        videos         22         22         22          0          0
        probe          22         18         18          0          4  not_a_video 3 (error), empty_file 1 (error)
        split          18         10         25          8          0  no_run_long_enough 8, odd 1 (error, kept)
        ");
        let reference = Reference { source: "the paper, Figure 4".into(), rows_out: [("probe".to_owned(), 37_000)].into() };
        insta::assert_snapshot!(funnel.beside(Some(&reference)).text(), @r"
        step           in       kept        out  reference   rejected     errors  why
        videos         22         22         22          -          0          0
        probe          22         18         18      37000          0          4  not_a_video 3 (error), empty_file 1 (error)
        split          18         10         25          -          8          0  no_run_long_enough 8, odd 1 (error, kept)
        reference: rows out of these steps in the paper, Figure 4
        ");
    }
}
