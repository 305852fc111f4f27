//! What one attempt costs: taken from the purse before it is sent, settled when it is answered, and counted either way.
//!
//! Money that others have only reserved is waited for: most of it comes back, because estimates are high. When what is left is too little even so,
//! no request has a chance any more ([`Failure::Down`]). What can go wrong: services that say nothing of what they charged; then the estimate counts
//! wherever they may have charged at all. A killed process leaves money reserved; when the purse's own time for that is over
//! ([`Spent::reserved_until`]: the longest that any request which took from it may last, of whatever step or process), nobody waits for it any more.

use std::time::{Duration, Instant};

use curette_engine::telemetry::names::{REMOTE_COST, REMOTE_TOKENS};
use curette_engine::verdict::Problem;

use super::attempt::Fate;
use super::call::{Failure, Request, Service};
use super::outcome::Judged;
use super::purse::{Purse, PurseError, Spent, Usage, now_seconds};

/// How often one who waits for money looks into the purse.
pub const RESERVED_POLL: Duration = Duration::from_millis(100);
/// Money that is still reserved so long after its request must have ended is that of a killed process.
pub const RESERVED_GRACE: Duration = Duration::from_secs(5);
/// Nobody waits longer for money that others have reserved, and nobody says that his request takes longer.
pub const MAX_RESERVED_WAIT: Duration = Duration::from_secs(3600);

/// What one attempt may cost, taken from the purse until it is known.
pub struct Bill<'a> {
    service: &'a Service,
    request: &'a Request,
    taken: (u64, u64),
    closed: bool,
}

/// Says so if no request of this size can be paid any more; money that is only reserved does not count as spent. Waits for nothing.
pub fn affordable(service: &Service, request: &Request) -> Result<(), Failure> {
    match &service.purse {
        Some(purse) => reserved(purse, service, request).map(drop),
        None => Ok(()),
    }
}

/// Waits until a request could be paid, if it ever can.
pub async fn money(service: &Service, request: &Request) -> Result<(), Failure> {
    let Some(purse) = &service.purse else { return Ok(()) };
    let (began, began_at) = (Instant::now(), now_seconds());
    while let Some((why, spent)) = reserved(purse, service, request)? {
        if began.elapsed() > MAX_RESERVED_WAIT || now_seconds() > waits_until(&spent, began_at, service.timeout) {
            purse.waited_in_vain(spent);
            return Err(spent_for_good(service, &why));
        }
        tokio::time::sleep(RESERVED_POLL).await;
    }
    Ok(())
}

/// How long whoever has reserved something can take, in seconds since 1970. Earlier versions wrote no such time: then as long as one's own request.
fn waits_until(spent: &Spent, began_at: u64, own_timeout: Duration) -> u64 {
    let until = if spent.reserved_until == 0 { began_at.saturating_add(own_timeout.as_secs()) } else { spent.reserved_until };
    until.saturating_add(RESERVED_GRACE.as_secs())
}

/// Nothing if a request can be paid, else why it must wait for what others have reserved, and how the purse is.
fn reserved(purse: &Purse, service: &Service, request: &Request) -> Result<Option<(String, Spent)>, Failure> {
    let (tokens, nano_usd) = cost(service, request.estimate, request.fee_nano_usd);
    match purse.check(tokens, nano_usd) {
        (Ok(()), _) => Ok(None),
        (Err(PurseError::Reserved(why)), spent) if !purse.is_in_vain(spent) => Ok(Some((why, spent))),
        (Err(e), _) => Err(spent_for_good(service, &e.to_string())),
    }
}

fn spent_for_good(service: &Service, why: &str) -> Failure {
    Failure::Down(Problem::new(service.codes.budget_spent, format!("no more requests are sent: {why}")))
}

impl<'a> Bill<'a> {
    /// Takes what a request may cost; `None` when others have reserved too much at the moment.
    pub fn open(service: &'a Service, request: &'a Request) -> Result<Option<Bill<'a>>, Failure> {
        let taken = cost(service, request.estimate, request.fee_nano_usd);
        match service.purse.as_ref().map_or(Ok(()), |purse: &Purse| purse.take(taken, service.timeout.min(MAX_RESERVED_WAIT))) {
            Ok(()) => Ok(Some(Bill { service, request, taken, closed: false })),
            Err(PurseError::Reserved(_)) => Ok(None),
            Err(e) => Err(spent_for_good(service, &e.to_string())),
        }
    }

    /// Puts back what it did not cost.
    pub fn close<T>(mut self, judged: &Judged<T>, fate: Fate) {
        let (charged, fee) = match (judged.usage, fate) {
            (Some(usage), _) => (usage, self.request.fee_nano_usd),
            // Refused at the door, or never there.
            (None, Fate::Unsent | Fate::Replied(300..=499 | 503)) => (Usage::default(), 0),
            // Whoever worked and does not count, or broke off, is taken to have charged what was estimated.
            (None, Fate::Lost | Fate::Replied(_)) => (self.request.estimate, self.request.fee_nano_usd),
        };
        self.settle(charged, fee);
    }

    fn settle(&mut self, charged: Usage, fee_nano_usd: u64) {
        self.closed = true;
        let step = || self.service.step.clone();
        metrics::counter!(REMOTE_TOKENS, "step" => step(), "direction" => "in").increment(charged.prompt_tokens);
        metrics::counter!(REMOTE_TOKENS, "step" => step(), "direction" => "out").increment(charged.completion_tokens);
        let cost = cost(self.service, charged, fee_nano_usd);
        metrics::gauge!(REMOTE_COST, "step" => step()).increment(cost.1 as f64 / 1e9);
        if let Some(Err(e)) = self.service.purse.as_ref().map(|purse| purse.settle(self.taken, cost)) {
            tracing::warn!(step = %self.service.step, error = %e, "What was spent cannot be recorded");
        }
    }
}

impl Drop for Bill<'_> {
    /// A request that was given up on its way may have been charged.
    fn drop(&mut self) {
        if !self.closed {
            self.settle(self.request.estimate, self.request.fee_nano_usd);
        }
    }
}

/// Tokens and billionths of a dollar.
fn cost(service: &Service, usage: Usage, fee_nano_usd: u64) -> (u64, u64) {
    let nano_usd = service.prices.map_or(0, |prices| prices.nano_usd(usage));
    (usage.total(), nano_usd.saturating_add(fee_nano_usd))
}
