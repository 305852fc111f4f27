//! How long a service wants to be left alone.
//!
//! `retry-after-ms` (OpenAI, Azure) before `retry-after`, which holds seconds or a date. A date is held against the `date` of the same answer: both
//! are of one clock, which need not be ours. What can go wrong: a date without `date` says nothing, and is passed over.

use std::time::Duration;

use reqwest::header::HeaderMap;

/// No wait is longer than a day, whatever a service says.
const MAX_SECONDS: f64 = 86_400.0;

/// The wait that the headers of an answer ask for.
pub fn wanted(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(ms) = text("retry-after-ms").and_then(number) {
        return Some(Duration::from_secs_f64((ms / 1000.0).min(MAX_SECONDS)));
    }
    let after = text("retry-after")?;
    if let Some(seconds) = number(after) {
        return Some(Duration::from_secs_f64(seconds.min(MAX_SECONDS)));
    }
    let date = |text: &str| httpdate::parse_http_date(text.trim()).ok();
    let wait = date(after)?.duration_since(date(text("date")?)?).unwrap_or(Duration::ZERO);
    Some(wait.min(Duration::from_secs_f64(MAX_SECONDS)))
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        wanted(&pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect())
    }

    #[test]
    fn seconds_milliseconds_and_dates_are_understood() {
        assert_eq!(of(&[("retry-after", " 2 ")]), Some(Duration::from_secs(2)));
        assert_eq!(of(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(of(&[("retry-after", "1e300")]), Some(Duration::from_secs(86_400)));
        assert_eq!(of(&[("retry-after", "9"), ("retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        let now = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(of(&[now, ("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(of(&[now, ("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT")]), Some(Duration::ZERO));
    }

    #[test]
    fn nonsense_asks_for_nothing() {
        for text in ["-1", "NaN", "soon", "", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(of(&[("retry-after", text)]), None, "{text}");
        }
        assert_eq!(of(&[]), None);
    }
}
