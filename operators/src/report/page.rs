//! The page: sections from top to bottom, all of it HTML without scripts. Pure.
//!
//! A content security policy forbids whatever is not the page's own style and `data:` pictures, so that a text that got through [`super::escape`]
//! after all could still do nothing.

use std::fmt::Write;

use super::Report;
use super::charts::{Bar, Segment, bars, count, histogram, number, percent};
use super::distributions::{Distribution, PAPER_CATEGORIES, Shape};
use super::escape::html;
use super::pictures::Picture;
use super::samples::{Example, Group};
use super::utc;
use crate::stats::Spread;

const STYLE: &str = include_str!("style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";
const SECTIONS: [(&str, &str); 6] = [
    ("funnel", "Funnel"),
    ("distributions", "Distributions"),
    ("reasons", "Measured of dropped rows"),
    ("examples", "Examples"),
    ("provenance", "Provenance"),
    ("cost", "Cost and time"),
];

/// The page.
pub fn page(report: &Report) -> String {
    let title = html(&report.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
    );
    let state = &report.subject.state;
    let made = report.subject.history.editions.last().and_then(|e| e.committed_ms).map(|ms| format!(", committed {}", utc(ms)));
    let plan = state.plan_hash.as_deref().unwrap_or_default();
    add(
        &mut out,
        format_args!(
            "<p>Table <code>{}</code>: {} rows, generation {}, version {}{}.</p>\n<p class=\"dim\">Plan <code>{}</code></p>\n<nav>",
            html(report.subject.name()),
            count(report.rows),
            state.generation,
            state.version,
            made.unwrap_or_default(),
            html(plan)
        ),
    );
    for (id, name) in SECTIONS {
        add(&mut out, format_args!("<a href=\"#{id}\">{name}</a>"));
    }
    out += "</nav>\n</header>\n";
    for ((id, name), body) in SECTIONS.iter().zip([
        funnel(report),
        spreads(report),
        reasons(&report.stats.histograms),
        examples(report),
        provenance(report),
        cost(report),
    ]) {
        add(&mut out, format_args!("<section id=\"{id}\">\n<h2>{name}</h2>\n{body}</section>\n"));
    }
    out + "</body>\n</html>\n"
}

fn add(out: &mut String, words: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(words);
}

/// A table: heads, of which those that begin with `#` are of numbers, and cells that are HTML already.
fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let class = |head: &str| if head.starts_with('#') { " class=\"n\"" } else { "" };
    let mut out = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    heads.iter().for_each(|head| add(&mut out, format_args!("<th{}>{}</th>", class(head), html(head.trim_start_matches('#')))));
    out += "</tr></thead>\n<tbody>\n";
    for row in rows {
        out += "<tr>";
        row.iter().zip(heads).for_each(|(cell, head)| add(&mut out, format_args!("<td{}>{cell}</td>", class(head))));
        out += "</tr>\n";
    }
    out + "</tbody></table></div>\n"
}

fn figure(picture: &str, caption: &str) -> String {
    format!("<figure>\n{picture}<figcaption>{}</figcaption>\n</figure>\n", html(caption))
}

fn funnel(report: &Report) -> String {
    let funnel = &report.stats.funnel;
    let beside = funnel.stages.iter().any(|s| s.reference_out.is_some());
    let bar = |stage: &curette_engine::run::funnel::Stage| {
        let c = &stage.counts;
        let parts = [("kept", c.passed), ("rejected", c.rejected_total()), ("errors", c.errors_total())];
        let segment = |(class, n): (&'static str, u64)| Segment { class, value: n as f64, title: format!("{class}: {n}") };
        Bar {
            label: stage.step.clone(),
            segments: parts.map(segment).into(),
            note: format!("{} in, {} kept", c.rows_in, c.passed),
        }
    };
    let all: Vec<Bar> = funnel.stages.iter().map(bar).collect();
    let mut out = figure(&bars("Rows that entered each step", &all), "Rows that entered each step, and what became of them.");
    let key = |name: &str| format!("<span class=\"key {name}\"></span>{name}");
    add(&mut out, format_args!("<p class=\"dim\">{}</p>\n", ["kept", "rejected", "errors"].map(key).concat()));
    let mut heads = vec!["step", "operator", "#in", "#kept", "#out", "#rejected", "#errors", "#share kept", "why"];
    if beside {
        drop(heads.splice(8..8, ["#out there", "#share there"]));
    }
    let mut before: Option<u64> = None;
    let rows = funnel.stages.iter().map(|stage| {
        let c = &stage.counts;
        let mut cells = vec![html(&stage.step), html(&stage.operator)];
        cells.extend([c.rows_in, c.passed, c.rows_out, c.rejected_total(), c.errors_total()].map(count));
        cells.push(percent(c.passed, c.rows_in));
        if beside {
            cells.push(stage.reference_out.map_or_else(|| "–".into(), count));
            cells.push(match (stage.reference_out, before) {
                (Some(now), Some(last)) if now <= last => percent(now, last),
                _ => "–".into(),
            });
            before = stage.reference_out.or(before);
        }
        let why = [(&c.rejected, ""), (&c.errors, " (error)"), (&c.kept_errors, " (error, kept)")];
        let why = why.iter().flat_map(|(map, note)| map.iter().map(move |(code, n)| format!("{code} {n}{note}")));
        cells.push(html(&why.collect::<Vec<_>>().join(", ")));
        cells
    });
    out += &table(&heads, rows);
    if let (true, Some(source)) = (beside, &funnel.reference) {
        out += &shares(report);
        let said = format!("There: {source}. A share there is of the step before it that is counted there.");
        add(&mut out, format_args!("<p class=\"dim\">{}</p>\n", html(&said)));
    }
    out
}

/// What is left of the first step that both count, here and there.
fn shares(report: &Report) -> String {
    let both = report.stats.funnel.stages.iter().filter_map(|s| Some((s, s.reference_out?)));
    let both: Vec<_> = both.filter(|(s, _)| s.counts.rows_in > 0).collect();
    // Clips are not videos: what is counted starts where the most rows come out.
    let Some(first) = both.iter().position(|(s, _)| both.iter().all(|(other, _)| other.counts.rows_out <= s.counts.rows_out))
    else {
        return String::new();
    };
    let (ours, theirs) = (both[first].0.counts.rows_out, both[first].1);
    let mut all = Vec::new();
    for (stage, there) in &both[first..] {
        for (class, part, whole, who) in [("kept", stage.counts.rows_out, ours, "here"), ("reference", *there, theirs, "there")] {
            let share = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
            let label = if who == "here" { stage.step.clone() } else { String::new() };
            let segment = Segment { class, value: share, title: format!("{who}: {part} of {whole}") };
            all.push(Bar { label, segments: vec![segment], note: format!("{} {who}", percent(part, whole)) });
        }
    }
    let caption = format!("What is left of the rows that came out of {}, here and there.", both[first].0.step);
    figure(&bars("What is left, here and there", &all), &caption)
}

fn spreads(report: &Report) -> String {
    let mut out: String = report.distributions.iter().map(spread).collect();
    if !report.absent.is_empty() {
        let told = report.absent.iter().map(|a| format!("{} (columns of {})", a.title.to_lowercase(), a.made_by));
        let told = format!("The table says nothing of: {}.", told.collect::<Vec<_>>().join(", "));
        add(&mut out, format_args!("<p class=\"dim\">{}</p>\n", html(&told)));
    }
    out
}

fn spread(d: &Distribution) -> String {
    let unit = if d.unit.is_empty() { String::new() } else { format!(", {}", d.unit) };
    let missing = if d.missing > 0 { format!("; {} rows without a value", d.missing) } else { String::new() };
    let columns = d.columns.join(", ");
    let picture = match &d.shape {
        Shape::Bins(h) => {
            let mean = h.mean.map(|m| format!("; mean {}", number(m))).unwrap_or_default();
            let caption = format!("{} values of {columns}{unit}{mean}{missing}", h.values);
            figure(&histogram(d.title, "plain", h, None), &caption)
        }
        Shape::Counts(counts, others) => {
            let total = counts.iter().map(|(_, n)| n).sum::<u64>() + others;
            let known = |name: &str| PAPER_CATEGORIES.iter().find(|(paper, _)| *paper == name).map(|(_, share)| *share);
            let of_the_paper =
                d.title == "Category" && !counts.is_empty() && counts.iter().all(|(name, _)| known(name).is_some());
            let bar = |(name, n): &(String, u64)| {
                let there =
                    known(name).filter(|_| of_the_paper).map(|share| format!("; {share} % in the paper")).unwrap_or_default();
                let segment = Segment { class: "plain", value: *n as f64, title: format!("{name}: {n}") };
                Bar { label: name.clone(), segments: vec![segment], note: format!("{n} ({}){there}", percent(*n, total)) }
            };
            let rest = (*others > 0).then(|| ("others".to_owned(), *others));
            let all: Vec<Bar> = counts.iter().chain(&rest).map(bar).collect();
            figure(&bars(d.title, &all), &format!("{total} values of {columns}{unit}{missing}"))
        }
    };
    format!("<h3>{}</h3>\n{picture}", html(d.title))
}

fn reasons(histograms: &[Spread]) -> String {
    if histograms.is_empty() {
        return "<p class=\"dim\">No reject has a measured number.</p>\n".into();
    }
    let one = |spread: &Spread| {
        let title = format!("{}: {}", spread.of, spread.what);
        let not_finite = match spread.histogram.not_finite {
            0 => String::new(),
            n => format!("; {n} are no finite numbers"),
        };
        let limit = spread.threshold.map(|t| format!("; threshold {}", number(t))).unwrap_or_default();
        let caption = format!("{} values of dropped rows{limit}{not_finite}", spread.histogram.values);
        let picture = histogram(&title, "rejected", &spread.histogram, spread.threshold);
        format!("<h3>{}</h3>\n{}", html(&title), figure(&picture, &caption))
    };
    histograms.iter().map(one).collect()
}

fn examples(report: &Report) -> String {
    let mut out = String::new();
    for note in &report.left_out {
        add(&mut out, format_args!("<p class=\"dim\">{}</p>\n", html(note)));
    }
    for (group, pictures) in report.groups.iter().zip(&report.pictures) {
        out += &grid(group, pictures);
    }
    out
}

fn grid(group: &Group, pictures: &[Picture]) -> String {
    let head = match &group.reason {
        None => format!("Kept ({} rows)", count(group.rows)),
        Some((step, code)) => format!("Dropped by {step}: {code} ({} rows)", count(group.rows)),
    };
    let mut out = format!("<h3>{}</h3>\n", html(&head));
    if group.examples.is_empty() {
        return out + "<p class=\"dim\">No examples.</p>\n";
    }
    out += "<div class=\"grid\">\n";
    group.examples.iter().zip(pictures).for_each(|(example, picture)| out += &cell(example, picture));
    out + "</div>\n"
}

fn cell(example: &Example, picture: &Picture) -> String {
    let mut out = String::from("<div class=\"example\">");
    match picture {
        Ok(address) => add(
            &mut out,
            format_args!("<img alt=\"frames of {}\" loading=\"lazy\" src=\"{}\">", html(&example.id), html(address)),
        ),
        Err(why) => add(&mut out, format_args!("<div class=\"nothing\">{}</div>", html(why))),
    }
    if let Some(title) = &example.title {
        add(&mut out, format_args!("<div><b><bdi>{}</bdi></b></div>", html(title)));
    }
    if let Some(text) = &example.text {
        add(&mut out, format_args!("<div><bdi>{}</bdi></div>", html(text)));
    }
    let facts: Vec<String> = example.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !facts.is_empty() {
        add(&mut out, format_args!("<div class=\"dim\">{}</div>", html(&facts.join(" · "))));
    }
    add(&mut out, format_args!("<div class=\"id\">{}</div></div>\n", html(&example.id)));
    out
}

fn provenance(report: &Report) -> String {
    let p = &report.provenance;
    let mut out = String::new();
    if p.steps.is_empty() {
        out += "<p class=\"dim\">The stored plan could not be read, so steps and models are not known.</p>\n";
    } else {
        let lines = |all: &[String]| all.iter().map(|line| html(line)).collect::<Vec<_>>().join("<br>");
        out += "<h3>Steps</h3>\n";
        out += &table(
            &["step", "operator/version", "settings", "files"],
            p.steps.iter().map(|s| vec![html(&s.name), html(&s.operator), lines(&s.settings), lines(&s.files)]),
        );
    }
    if !p.models.is_empty() {
        out += "<h3>Models and their licences</h3>\n";
        let row =
            |m: &super::provenance::ModelLine| [&m.place, &m.name, &m.title, &m.licence, &m.source].map(|t| html(t)).to_vec();
        out += &table(&["step.key", "model", "what it is", "licence", "source"], p.models.iter().map(row));
    }
    for prompt in &p.prompts {
        add(&mut out, format_args!("<h3>Prompt of {}</h3>\n<pre>{}</pre>\n", html(&prompt.place), html(&prompt.text)));
    }
    if !p.named.is_empty() {
        out += "<h3>What the rows name</h3>\n";
        let rows = p.named.iter().flat_map(|named| {
            let mut all: Vec<(String, u64)> = named.values.clone();
            all.extend((named.others > 0).then(|| ("(others)".to_owned(), named.others)));
            all.extend((named.missing > 0).then(|| ("(nothing)".to_owned(), named.missing)));
            all.into_iter().map(|(value, rows)| vec![html(&named.column), html(&value), count(rows)])
        });
        out += &table(&["column", "value", "#rows"], rows);
    }
    out += "<h3>Versions</h3>\n";
    let row = |e: &curette_engine::commit::Edition| {
        let plan = e.state.plan_hash.as_deref().unwrap_or_default();
        let when = e.committed_ms.map_or_else(|| "–".into(), utc);
        vec![e.state.generation.to_string(), e.state.version.to_string(), count(e.state.done.len()), html(plan), when]
    };
    let history = &report.subject.history;
    out += &table(&["#generation", "#last version", "#splits", "plan", "committed"], history.editions.iter().rev().map(row));
    if let Some(why) = &history.unreadable {
        add(&mut out, format_args!("<p class=\"dim\">Older ones: {}</p>\n", html(why)));
    }
    out
}

fn cost(report: &Report) -> String {
    let mut out = String::new();
    match &report.effort {
        None => out += "<p class=\"dim\">How long steps worked was not kept for this generation.</p>\n",
        Some(effort) => {
            let all: f64 = effort.steps.values().map(|s| s.task_seconds).sum();
            let told = format!(
                "{} runs that came to an end took {} s in all, in which threads worked {} s; killed runs are not counted.",
                effort.runs,
                number(effort.wall_seconds),
                number(all)
            );
            add(&mut out, format_args!("<p>{}</p>\n", html(&told)));
            let order = report.stats.funnel.stages.iter().filter_map(|s| Some((&s.step, effort.steps.get(&s.step)?)));
            let rows = order.map(|(step, e)| {
                let worked = e.rows.saturating_sub(e.reused);
                let each =
                    if worked == 0 { "–".into() } else { format!("{} ms", number(1000.0 * e.task_seconds / worked as f64)) };
                vec![html(step), number(e.task_seconds), count(e.rows), count(e.reused), each]
            });
            out += &table(&["step", "#seconds of threads", "#rows", "#answers kept", "#per row worked"], rows);
        }
    }
    if report.provenance.totals.is_empty() {
        out += "<p class=\"dim\">No column of the table holds money or tokens.</p>\n";
    } else {
        out += "<h3>Money and tokens of the rows in the table</h3>\n";
        let row = |t: &super::provenance::Total| vec![html(&t.column), number(t.sum), count(t.rows)];
        out += &table(&["column", "#sum", "#rows with a value"], report.provenance.totals.iter().map(row));
        out += "<p class=\"dim\">Questions about rows that were dropped later, and answers that were thrown away, are not in these sums.</p>\n";
    }
    out
}
