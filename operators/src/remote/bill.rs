//! What one attempt costs: taken from the purse before it is sent, settled when it is answered, and counted either way.
//!
//! What can go wrong: services that say nothing of what they charged; then the estimate counts wherever they may have charged at all.

use curette_engine::telemetry::names::{REMOTE_COST, REMOTE_TOKENS};
use curette_engine::verdict::Problem;

use super::attempt::Fate;
use super::call::{Failure, Service};
use super::outcome::Judged;
use super::purse::{PurseError, Usage};

/// What one attempt may cost, taken from the purse until it is known.
pub struct Bill<'a> {
    service: &'a Service,
    estimate: Usage,
    taken: (u64, u64),
}

impl<'a> Bill<'a> {
    /// Takes what a request may cost.
    pub fn open(service: &'a Service, estimate: Usage) -> Result<Bill<'a>, Failure> {
        let bill = Bill { service, estimate, taken: of(service, estimate) };
        match service.purse.as_ref().map_or(Ok(()), |purse| purse.take(bill.taken.0, bill.taken.1)) {
            Ok(()) => Ok(bill),
            Err(e @ PurseError::Spent(_)) => {
                Err(Failure::Problem(Problem::new(service.codes.budget_spent, format!("no more requests are sent: {e}"))))
            }
            Err(e @ PurseError::Unknown { .. }) => Err(Failure::Down(Problem::new(service.codes.budget_spent, e.to_string()))),
        }
    }

    /// Puts back what it did not.
    pub fn close<T>(self, judged: &Judged<T>, fate: Fate) {
        let charged = match (judged.usage, fate) {
            (Some(usage), _) => usage,
            // Refused at the door, or never there.
            (None, Fate::Unsent | Fate::Replied(400..=499 | 503)) => Usage::default(),
            // Whoever worked and does not count, or broke off, is taken to have charged what was estimated.
            (None, Fate::Lost | Fate::Replied(_)) => self.estimate,
        };
        let step = || self.service.step.clone();
        metrics::counter!(REMOTE_TOKENS, "step" => step(), "direction" => "in").increment(charged.prompt_tokens);
        metrics::counter!(REMOTE_TOKENS, "step" => step(), "direction" => "out").increment(charged.completion_tokens);
        let cost = of(self.service, charged);
        metrics::gauge!(REMOTE_COST, "step" => step()).increment(cost.1 as f64 / 1e9);
        if let Some(Err(e)) = self.service.purse.as_ref().map(|purse| purse.settle(self.taken, cost)) {
            tracing::warn!(step = %self.service.step, error = %e, "What was spent cannot be recorded");
        }
    }
}

/// Tokens and billionths of a dollar.
fn of(service: &Service, usage: Usage) -> (u64, u64) {
    (usage.total(), service.prices.map_or(0, |prices| prices.nano_usd(usage)))
}
