//! The most that a service is asked, and what holds when two steps say different things.

use std::time::Duration;

/// The most that a service is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests at once.
    pub max_in_flight: usize,
    /// Requests begun per minute.
    pub requests_per_minute: Option<f64>,
    /// Tokens per minute, asked and answered.
    pub tokens_per_minute: Option<f64>,
    /// Repeated requests per answered one.
    pub retry_share: f64,
    /// Without any answer for this long the service is down.
    pub give_up: Duration,
}

impl Limits {
    /// The smaller of each, and a list of those that differ with what they are now; nothing if none do.
    pub fn and(self, other: Limits) -> (Limits, Option<String>) {
        let smaller_rate = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::min);
        let now = Limits {
            max_in_flight: self.max_in_flight.min(other.max_in_flight),
            requests_per_minute: smaller_rate(self.requests_per_minute, other.requests_per_minute),
            tokens_per_minute: smaller_rate(self.tokens_per_minute, other.tokens_per_minute),
            retry_share: self.retry_share.min(other.retry_share),
            give_up: self.give_up.min(other.give_up),
        };
        let ((a, b), of) = ((self.shown(), other.shown()), now.shown());
        let differ =
            a.into_iter().zip(b).zip(of).filter(|((a, b), _)| a != b).map(|(_, (name, value))| format!("`{name}` {value}"));
        let differ: Vec<String> = differ.collect();
        (now, (!differ.is_empty()).then(|| differ.join(", ")))
    }

    /// By the names of the keys.
    fn shown(&self) -> [(&'static str, String); 5] {
        let rate = |rate: Option<f64>| rate.map_or("none".to_owned(), |rate| rate.to_string());
        [
            ("max_in_flight", self.max_in_flight.to_string()),
            ("requests_per_minute", rate(self.requests_per_minute)),
            ("tokens_per_minute", rate(self.tokens_per_minute)),
            ("retry_share", self.retry_share.to_string()),
            ("give_up_seconds", self.give_up.as_secs_f64().to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_each_holds_and_what_differs_is_said() {
        let give_up = Duration::from_secs(60);
        let one = Limits { max_in_flight: 8, requests_per_minute: None, tokens_per_minute: Some(9e4), retry_share: 1.0, give_up };
        assert_eq!(one.and(one), (one, None));
        let other = Limits { requests_per_minute: Some(60.0), retry_share: 0.5, give_up: Duration::from_secs(90), ..one };
        let (both, differ) = one.and(other);
        assert_eq!(both, Limits { requests_per_minute: Some(60.0), retry_share: 0.5, ..one });
        assert_eq!(differ.as_deref(), Some("`requests_per_minute` 60, `retry_share` 0.5, `give_up_seconds` 60"));
    }
}
