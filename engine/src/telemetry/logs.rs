//! Logs: `tracing` events to stderr, one line each, for people or as JSON.
//!
//! Why own writer: a progress bar owns the last lines of the terminal; an event must take the bar away, write, and let it come back. What can
//! go wrong: a filter that does not parse is an error at start-up, not a silent default.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::TelemetryError;
use super::progress::bars;

/// Environment variable with a filter that wins over the level.
pub const FILTER_VARIABLE: &str = "CURETTE_LOG";

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// What to log and how.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// How an event is written.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` for curette's own code (everything else stays at `warn`), or a full filter such as
    /// `info,curette_engine::commit=debug`. Absent: the variable `CURETTE_LOG`, else `info`.
    pub filter: Option<String>,
    /// Colours, if stderr is a terminal.
    pub color: bool,
}

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// The format that logs were set up with.
pub(super) fn format() -> LogFormat {
    FORMAT.get().copied().unwrap_or_default()
}

/// Sends all events of this process to stderr. Call it once, first thing.
pub fn init_logs(options: &LogOptions) -> Result<(), TelemetryError> {
    let given = options.filter.clone().or_else(|| std::env::var(FILTER_VARIABLE).ok().filter(|f| !f.trim().is_empty()));
    let filter = parse(given.as_deref().unwrap_or("info"))?;
    let color = options.color && std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr).with_ansi(color);
    let set = match options.format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| TelemetryError::AlreadySet("logs"))?;
    // The subscriber accepts only one set-up, so this is the first.
    let _ = FORMAT.set(options.format);
    Ok(())
}

/// A bare level speaks of our own crates only: at `debug`, hyper and the object store would drown them.
fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let text = match filter.trim().parse::<tracing_subscriber::filter::LevelFilter>() {
        Ok(level) => format!("{},curette={level},curette_engine={level},curette_operators={level}", level.min_with_warn()),
        Err(_) => filter.to_string(),
    };
    // A lone word would be taken for the name of a crate, and everything else would fall silent.
    let word = filter
        .split(',')
        .map(str::trim)
        .find(|part| !part.contains(['=', '[']) && part.parse::<tracing_subscriber::filter::LevelFilter>().is_err());
    if let Some(word) = word {
        let reason =
            format!("`{word}` is no level: write error, warn, info, debug, trace or off, or `{word}=debug` for one crate");
        return Err(TelemetryError::BadFilter { filter: filter.into(), reason });
    }
    EnvFilter::builder().parse(&text).map_err(|e| TelemetryError::BadFilter { filter: filter.into(), reason: e.to_string() })
}

trait MinWithWarn {
    fn min_with_warn(self) -> Self;
}

impl MinWithWarn for tracing_subscriber::filter::LevelFilter {
    fn min_with_warn(self) -> Self {
        self.min(Self::WARN)
    }
}

/// Writes whole events to stderr with the progress bar out of the way.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        bars().suspend(|| std::io::stderr().lock().write_all(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Stderr;

    fn make_writer(&self) -> Stderr {
        Stderr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_for_our_own_code() {
        let text = parse("debug").unwrap().to_string();
        assert!(text.contains("curette_engine=debug") && text.contains("warn"), "{text}");
        let quiet = parse("error").unwrap().to_string();
        assert!(!quiet.contains("warn"), "{quiet}");
    }

    #[test]
    fn a_full_filter_is_taken_as_it_is() {
        assert_eq!(parse("curette_engine::commit=trace").unwrap().to_string(), "curette_engine::commit=trace");
    }

    #[test]
    fn a_bad_filter_is_an_error_with_an_example() {
        let e = parse("curette=loud").unwrap_err().to_string();
        assert!(e.contains("`curette=loud`") && e.contains("curette_engine=debug"), "{e}");
    }
}
