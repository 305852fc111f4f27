//! `doctor URL`: can tables live at this folder or URL?

use std::fmt::Write;

use curette_engine::commit::doctor::{StoreReport, Verdict, examine};
use curette_engine::exit::Exit;

use crate::place::absolute;
use crate::{Format, complain, print};

pub(crate) fn store(place: &str, format: Format) -> Exit {
    let report = match absolute(place).and_then(|place| examine(&place).map_err(|e| e.to_string())) {
        Ok(report) => report,
        Err(e) => {
            complain(&e);
            return Exit::Mistake;
        }
    };
    let verdict = report.verdict();
    let printed = print(&match format {
        Format::Json => {
            serde_json::json!({"location": report.location, "verdict": verdict, "findings": report.findings}).to_string()
        }
        Format::Text => text(&report, verdict),
    });
    match verdict {
        Verdict::Fine | Verdict::Warning => printed,
        Verdict::Failed => Exit::Failed,
        Verdict::Refused => Exit::Mistake,
    }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "fine",
        Verdict::Warning => "WARNING",
        Verdict::Failed => "FAILED",
        Verdict::Refused => "REFUSED",
    }
}

fn text(report: &StoreReport, verdict: Verdict) -> String {
    let mut out = format!("{}\n", report.location);
    for finding in &report.findings {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {:<8} {:<17} {}", name(finding.verdict), finding.check, finding.said);
    }
    out + match verdict {
        Verdict::Fine | Verdict::Warning => "tables can live here",
        Verdict::Failed => "tables cannot be written here now",
        Verdict::Refused => "tables must not live here: runs refuse this store",
    }
}
