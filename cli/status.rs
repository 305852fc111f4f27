//! The verb `status`: who runs, how far it is, the last commit, the time left; from a running process's metrics or from an output.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use curette_engine::exit::Exit;
use curette_engine::run::presence::Life;
use curette_engine::run::status::{Status, status};
use curette_engine::telemetry::{names, now_ms};
use serde_json::json;

use crate::{Format, complain, place, print};

/// Longest wait for a process to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

#[derive(Args)]
pub(crate) struct StatusArgs {
    /// The output folder or URL of a pipeline; or the address of a running process's metrics, as http://127.0.0.1:9464.
    place: String,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn show(args: &StatusArgs) -> Exit {
    let shown = match args.place.strip_prefix("http://") {
        Some(address) => scraped(address).map(|seen| match args.format {
            Format::Json => json!(seen).to_string(),
            Format::Text => of_metrics(&seen),
        }),
        None => place::absolute(&args.place).map_err(|e| (Exit::Mistake, e)).and_then(|output| {
            let found = status(&output).map_err(|e| (Exit::Mistake, e.to_string()))?;
            Ok(match args.format {
                Format::Json => json!(found).to_string(),
                Format::Text => of_output(&output, &found, now_ms()),
            })
        }),
    };
    match shown {
        Ok(text) => print(&text),
        Err((exit, why)) => {
            complain(&why);
            exit
        }
    }
}

/// Values of a running process, by name; of a metric with labels their sum.
fn scraped(address: &str) -> Result<BTreeMap<String, f64>, (Exit, String)> {
    let host = address.split('/').next().unwrap_or(address);
    let away = |e: std::io::Error| {
        (Exit::Failed, format!("http://{host}/metrics does not answer: {e}; is the run over, and is `metrics_address` set?"))
    };
    let bad = |why: &str| (Exit::Mistake, format!("http://{host}: {why}"));
    let socket = host.to_socket_addrs().map_err(|e| bad(&format!("{e}; write it as http://HOST:PORT")))?.next();
    let socket = socket.ok_or_else(|| bad("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&socket, ANSWER_LIMIT).map_err(away)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).and_then(|()| stream.set_write_timeout(Some(ANSWER_LIMIT))).map_err(away)?;
    // The old version of the protocol has no pieces to put together.
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n").map_err(away)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).map_err(away)?;
    let body = answer.split_once("\r\n\r\n").filter(|(head, _)| head.contains(" 200")).map(|(_, body)| body);
    let seen = parse(body.ok_or_else(|| bad("it has no page /metrics"))?);
    match seen.contains_key(names::SPLITS_TOTAL) {
        true => Ok(seen),
        false => Err(bad("its metrics are not those of a run of curette")),
    }
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series).to_owned();
        if let Ok(value) = value.parse::<f64>() {
            *seen.entry(name).or_insert(0.0) += value;
        }
    }
    seen
}

fn of_metrics(seen: &BTreeMap<String, f64>) -> String {
    let get = |name: &str| seen.get(name).copied();
    let now = now_ms() as f64 / 1000.0;
    let (done, all) = (get(names::SPLITS_DONE).unwrap_or(0.0), get(names::SPLITS_TOTAL).unwrap_or(0.0));
    let mut out = format!("done     {done} of {all} splits are committed");
    // Writing to a string cannot fail.
    if let Some(last) = get(names::LAST_COMMIT) {
        let _ = write!(out, ", the last {} ago", human(now - last));
    }
    if let (Some(started), before) = (get(names::STARTED), get(names::SPLITS_AT_START).unwrap_or(0.0)) {
        let _ = write!(out, "\nrunning  for {}", human(now - started));
        if done > before {
            let _ = write!(out, "; about {} left", human((now - started) * (all - done) / (done - before)));
        }
    }
    if let Some(bytes) = get(names::RESIDENT_BYTES) {
        let _ = write!(out, "\nmemory   {:.0} MiB", bytes / f64::from(1 << 20));
    }
    let _ = write!(out, "\nerrors   {} rows", get(names::ROWS_ERRORS).unwrap_or(0.0));
    out
}

fn of_output(output: &str, found: &Status, now_ms: u64) -> String {
    let mut out = format!("output   {output}\n");
    // Writing to a string cannot fail.
    match &found.plan_hash {
        Some(hash) => drop(writeln!(out, "plan     {} (generation {})", &hash[..hash.len().min(12)], found.generation)),
        None => out.push_str("plan     nothing is committed yet\n"),
    }
    let all = found.splits.map_or("an unknown number of".to_owned(), |all| all.to_string());
    let _ = write!(out, "done     {} of {all} splits are committed (version {} of `stages`", found.splits_done, found.version);
    if let Some(last) = found.last_commit_ms {
        let _ = write!(out, ", {} ago", human((now_ms as f64 - last as f64) / 1000.0));
    }
    out.push_str(")\n");
    for process in &found.processes {
        let record = &process.record;
        let since = human(now_ms.saturating_sub(record.started_ms) as f64 / 1000.0);
        let beat = human(now_ms.saturating_sub(record.beat_ms) as f64 / 1000.0);
        let life = match process.life {
            Life::Alive => format!("running  for {since}"),
            Life::Silent => format!("silent   for {beat}"),
            Life::Gone => format!("killed   up to {beat} ago"),
        };
        let _ = write!(out, "{life}: process {} of {} ({} on {})", record.process + 1, record.processes, record.pid, record.host);
        if record.process == 0 {
            let _ = write!(out, ", {} splits committed", record.splits_committed);
        }
        if !record.metrics_address.is_empty() {
            let _ = write!(out, ", metrics http://{}", record.metrics_address);
        }
        out.push('\n');
    }
    if !found.processes.iter().any(|process| process.life == Life::Alive) {
        out.push_str("nobody runs\n");
    }
    if let Some(left) = found.seconds_left {
        let _ = writeln!(out, "left     about {}", human(left as f64));
    }
    out
}

fn human(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6_000.0 => format!("{:.0} min", s / 60.0),
        s if s < 360_000.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_become_sentences() {
        let started = now_ms() as f64 / 1000.0 - 600.0;
        let page = format!(
            "# HELP curette_splits Splits.\ncurette_splits 100\ncurette_splits_done 40\ncurette_splits_done_at_start 20\n\
             process_start_time_seconds {started}\ncurette_step_rows_errors_total{{step=\"a\",code=\"x\"}} 3\n\
             curette_step_rows_errors_total{{step=\"b c\",code=\"y\"}} 4\nprocess_resident_memory_bytes 104857600\n"
        );
        let text = of_metrics(&parse(&page));
        insta::assert_snapshot!(text, @r"
        done     40 of 100 splits are committed
        running  for 10 min; about 30 min left
        memory   100 MiB
        errors   7 rows
        ");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!([3.4, 99.0, 150.0, 7200.0, 900_000.0].map(human), ["3 s", "99 s", "2 min", "2.0 h", "10.4 days"]);
    }
}
