//! What was spent, kept on disk, and the most that may be.
//!
//! One small file per purse; every request locks it, takes what it may cost at most, and puts back the difference when it is answered. So a limit
//! holds over restarts, and over all processes that reach the file (NFS since version 4 locks too). What is taken and not settled is counted as
//! spent, and known as reserved: money that is only reserved may come back ([`PurseError::Reserved`]), so nobody is refused for good because of it.
//! A request of a killed process stays reserved at its estimate: it may have been charged. The file also says until when the last of those requests can
//! take ([`Spent::reserved_until`]): whoever waits for reserved money knows from it how long that makes sense, however patient the others' steps are.
//!
//! What can go wrong: an answer can cost more than was estimated; what was begun before that is known is charged too, at most one request per place
//! in flight. A damaged file is not taken for an empty one. Clocks of machines that share a purse differ: by that much somebody waits too long or too
//! short.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A purse file has exactly this many bytes, so that it is always replaced as a whole.
const FILE_BYTES: usize = 256;

/// Tokens of one question and its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the question, pictures included.
    pub prompt_tokens: u64,
    /// Tokens of the answer, thoughts included.
    pub completion_tokens: u64,
}

impl Usage {
    /// Both together.
    pub fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// What tokens cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// US dollars for a million tokens of questions.
    pub usd_per_million_prompt_tokens: f64,
    /// US dollars for a million tokens of answers.
    pub usd_per_million_completion_tokens: f64,
}

impl Prices {
    /// Billionths of a dollar. Whole numbers: sums do not depend on their order.
    pub fn nano_usd(&self, usage: Usage) -> u64 {
        let nano = |tokens: u64, usd_per_million: f64| (tokens as f64 * usd_per_million * 1_000.0).round() as u64;
        nano(usage.prompt_tokens, self.usd_per_million_prompt_tokens)
            .saturating_add(nano(usage.completion_tokens, self.usd_per_million_completion_tokens))
    }
}

/// What was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Requests begun.
    pub requests: u64,
    /// Tokens of questions and answers.
    pub tokens: u64,
    /// Billionths of a dollar.
    pub nano_usd: u64,
    /// Of the tokens, those of requests that are not answered yet.
    #[serde(default)]
    pub reserved_tokens: u64,
    /// Of the money, that of requests that are not answered yet.
    #[serde(default)]
    pub reserved_nano_usd: u64,
    /// Seconds since 1970: by then every request that has reserved something is answered or given up. 0: nothing is reserved, or not known.
    #[serde(default)]
    pub reserved_until: u64,
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The most that may be spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Most {
    /// Tokens of questions and answers.
    pub tokens: Option<u64>,
    /// Billionths of a dollar.
    pub nano_usd: Option<u64>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Purse {
    path: PathBuf,
    most: Most,
    /// How the purse was when somebody had waited for what is reserved as long as any request takes.
    in_vain: Mutex<Option<Spent>>,
}

/// Why nothing can be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurseError {
    /// It is spent.
    #[error("{0}")]
    Spent(String),
    /// It is not spent, but so much is reserved that it might be when all is settled.
    #[error("{0}")]
    Reserved(String),
    /// What was spent is not known.
    #[error("what was spent cannot be read from or written to {path}: {reason}; repair it, or delete it to begin at zero")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Purse {
    /// A purse in a file, which is made on first use.
    pub fn new(path: PathBuf, most: Most) -> Purse {
        Purse { path, most, in_vain: Mutex::new(None) }
    }

    /// The purse of a name in a folder of purses; what was spent from it before is logged.
    pub fn named(folder: &Path, name: &str, most: Most, step: &str) -> Result<Purse, PurseError> {
        // Not `.json`: making room in a cache must not remove it.
        let purse = Purse::new(folder.join("budgets").join(format!("{name}.purse")), most);
        let spent = purse.spent()?;
        if spent.requests > 0 {
            let usd = spent.nano_usd as f64 / 1e9;
            tracing::info!(step, spent.requests, spent.tokens, usd, "Spent from this budget before");
        }
        Ok(purse)
    }

    /// Takes what a request may cost, if that much is left; it is put back or settled within `takes`.
    pub fn take(&self, (tokens, nano_usd): (u64, u64), takes: Duration) -> Result<(), PurseError> {
        let mut refused = None;
        // A second more: the clock is cut off to whole ones.
        let until = now_seconds().saturating_add(takes.as_secs()).saturating_add(1);
        self.change(|spent| {
            match self.over(spent, (tokens, nano_usd)) {
                Some(why) => refused = Some(why),
                None => {
                    spent.requests += 1;
                    let add = |sum: &mut u64, n: u64| *sum = sum.saturating_add(n);
                    add(&mut spent.tokens, tokens);
                    add(&mut spent.nano_usd, nano_usd);
                    add(&mut spent.reserved_tokens, tokens);
                    add(&mut spent.reserved_nano_usd, nano_usd);
                    spent.reserved_until = spent.reserved_until.max(until);
                }
            };
        })?;
        refused.map_or(Ok(()), Err)
    }

    /// Could that much be taken now? Tells how the purse is.
    pub fn check(&self, tokens: u64, nano_usd: u64) -> (Result<(), PurseError>, Spent) {
        match self.spent() {
            Ok(spent) => (self.over(&spent, (tokens, nano_usd)).map_or(Ok(()), Err), spent),
            Err(e) => (Err(e), Spent::default()),
        }
    }

    /// Replaces what was taken by what it did cost.
    pub fn settle(&self, taken: (u64, u64), cost: (u64, u64)) -> Result<(), PurseError> {
        let replaced = |spent: u64, taken: u64, cost: u64| spent.saturating_sub(taken).saturating_add(cost);
        self.change(|spent| {
            spent.tokens = replaced(spent.tokens, taken.0, cost.0);
            spent.nano_usd = replaced(spent.nano_usd, taken.1, cost.1);
            spent.reserved_tokens = spent.reserved_tokens.saturating_sub(taken.0);
            spent.reserved_nano_usd = spent.reserved_nano_usd.saturating_sub(taken.1);
            if spent.reserved_tokens == 0 && spent.reserved_nano_usd == 0 {
                spent.reserved_until = 0;
            }
        })
        .map(drop)
    }

    /// Remembers that what is reserved in this purse did not come back: whoever reserved it is gone.
    pub fn waited_in_vain(&self, spent: Spent) {
        *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner) = Some(spent);
    }

    /// Was it waited for already, in a purse that has not changed since?
    pub fn is_in_vain(&self, spent: Spent) -> bool {
        *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner) == Some(spent)
    }

    /// What was spent so far, by all.
    pub fn spent(&self) -> Result<Spent, PurseError> {
        self.change(|_| ())
    }

    /// What stands against taking so much, if anything does.
    fn over(&self, spent: &Spent, (tokens, nano_usd): (u64, u64)) -> Option<PurseError> {
        // Whether it would be too much even if all that is reserved came back.
        let over = |spent: u64, reserved: u64, want: u64, most: u64| {
            let too_much = |spent: u64| spent.saturating_add(want) > most;
            too_much(spent).then(|| too_much(spent.saturating_sub(reserved)))
        };
        let usd = |nano: u64| nano as f64 / 1e9;
        let of_tokens = self.most.tokens.and_then(|most| {
            let spent_for_good = over(spent.tokens, spent.reserved_tokens, tokens, most)?;
            Some((spent_for_good, format!("{} of {most} tokens are spent or in use; raise `max_total_tokens`", spent.tokens)))
        });
        let of_money = self.most.nano_usd.and_then(|most| {
            let spent_for_good = over(spent.nano_usd, spent.reserved_nano_usd, nano_usd, most)?;
            let (used, most) = (usd(spent.nano_usd), usd(most));
            Some((spent_for_good, format!("{used:.4} of {most:.4} US dollars are spent or in use; raise `max_cost_usd`")))
        });
        // What is spent for good goes first: nobody need wait for the other.
        let (for_good, why) = [of_tokens, of_money].into_iter().flatten().max_by_key(|(for_good, _)| *for_good)?;
        Some(if for_good { PurseError::Spent(why) } else { PurseError::Reserved(why) })
    }

    /// Reads, changes and writes under the file's lock.
    fn change(&self, change: impl FnOnce(&mut Spent)) -> Result<Spent, PurseError> {
        let unknown = |reason: String| PurseError::Unknown { path: self.path.clone(), reason };
        let io = |e: std::io::Error| unknown(e.to_string());
        std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new("."))).map_err(io)?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&self.path).map_err(io)?;
        file.lock().map_err(io)?; // freed when the file is closed
        let mut text = String::new();
        Read::by_ref(&mut file).take(FILE_BYTES as u64 + 1).read_to_string(&mut text).map_err(io)?;
        let before: Spent = match text.is_empty() {
            true => Spent::default(),
            false => serde_json::from_str(text.trim_end()).map_err(|e| unknown(format!("it is damaged ({e})")))?,
        };
        let mut after = before;
        change(&mut after);
        if after != before {
            let json = serde_json::to_string(&after).map_err(|e| unknown(e.to_string()))?;
            file.write_all_at(format!("{json:<width$}\n", width = FILE_BYTES - 1).as_bytes(), 0).map_err(io)?;
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// How long the requests of these tests take.
    const TAKES: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_taken_is_never_more_than_the_limit_however_many_take() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purses/p.json");
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let (path, taken) = (&path, &taken);
                scope.spawn(move || {
                    // Its own handle, as another process would have.
                    let purse = Purse::new(path.clone(), Most { tokens: Some(1_000), nano_usd: None });
                    for k in 0..50 {
                        let want = 1 + (worker + k) % 9;
                        if purse.take((want, 0), TAKES).is_ok() {
                            taken.fetch_add(want, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let purse = Purse::new(path, Most { tokens: Some(1_000), nano_usd: None });
        assert_eq!(purse.spent().unwrap().tokens, taken.load(Ordering::Relaxed));
        assert!((992..=1_000).contains(&purse.spent().unwrap().tokens));
    }

    #[test]
    fn the_difference_between_estimate_and_cost_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let most = Most { tokens: None, nano_usd: Some(2_000_000_000) };
        let purse = Purse::new(dir.path().join("p.json"), most);
        purse.take((10, 1_500_000_000), TAKES).unwrap();
        let why = "1.5000 of 2.0000 US dollars are spent or in use; raise `max_cost_usd`".to_owned();
        assert_eq!(purse.take((10, 600_000_000), TAKES).unwrap_err(), PurseError::Reserved(why));
        assert!(matches!(purse.take((10, 2_000_000_001), TAKES), Err(PurseError::Spent(_))), "more than there ever was");
        purse.settle((10, 1_500_000_000), (7, 900_000_000)).unwrap();
        // As after a restart.
        let purse = Purse::new(dir.path().join("p.json"), most);
        purse.take((10, 600_000_000), TAKES).unwrap();
        let spent = purse.spent().unwrap();
        let reserved_until = spent.reserved_until;
        let reserved = Spent { reserved_tokens: 10, reserved_nano_usd: 600_000_000, reserved_until, ..Spent::default() };
        assert_eq!(spent, Spent { requests: 2, tokens: 17, nano_usd: 1_500_000_000, ..reserved });
        purse.settle((10, 600_000_000), (10, 600_000_000)).unwrap();
        assert!(matches!(purse.take((1, 600_000_000), TAKES), Err(PurseError::Spent(_))), "nothing is reserved any more");
    }

    #[test]
    fn the_purse_says_until_when_what_is_reserved_can_take() {
        let dir = tempfile::tempdir().unwrap();
        let purse = Purse::new(dir.path().join("p.json"), Most { tokens: Some(100), nano_usd: None });
        let (until, before) = (|| purse.spent().unwrap().reserved_until, now_seconds());
        purse.take((10, 0), Duration::from_secs(600)).unwrap();
        let long = until();
        assert!((before + 600..=now_seconds() + 601).contains(&long));
        purse.take((20, 0), Duration::from_secs(5)).unwrap();
        assert_eq!(until(), long, "the longest counts");
        purse.settle((10, 0), (10, 0)).unwrap();
        assert_eq!(until(), long);
        purse.settle((20, 0), (20, 0)).unwrap();
        assert_eq!(until(), 0, "nothing is reserved");
        // The largest numbers fit the file.
        purse.take((5, 5), Duration::from_secs(3600)).unwrap();
        let all = Spent {
            requests: u64::MAX,
            tokens: u64::MAX,
            nano_usd: u64::MAX,
            reserved_tokens: u64::MAX,
            reserved_nano_usd: u64::MAX,
            reserved_until: u64::MAX,
        };
        assert!(serde_json::to_string(&all).unwrap().len() < FILE_BYTES);
    }

    #[test]
    fn a_purse_of_an_earlier_version_has_nothing_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        std::fs::write(&path, "{\"requests\":3,\"tokens\":90,\"nano_usd\":5}").unwrap();
        let purse = Purse::new(path, Most { tokens: Some(100), nano_usd: None });
        assert!(matches!(purse.check(11, 0).0, Err(PurseError::Spent(_))));
        purse.take((10, 0), TAKES).unwrap();
        assert_eq!(purse.spent().unwrap().reserved_tokens, 10);
    }

    #[test]
    fn a_damaged_purse_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        for damage in ["{", "{\"tokens\": -1}", "[]", "\u{0}\u{0}", "{\"requests\":0,\"tokens\":0,\"nano_usd\":0,\"x\":1}"] {
            std::fs::write(&path, damage).unwrap();
            let purse = Purse::new(path.clone(), Most::default());
            assert!(matches!(purse.take((1, 1), TAKES), Err(PurseError::Unknown { .. })), "{damage:?}");
        }
    }

    #[test]
    fn prices_are_per_million_tokens() {
        let prices = Prices { usd_per_million_prompt_tokens: 2.5, usd_per_million_completion_tokens: 10.0 };
        assert_eq!(prices.nano_usd(Usage { prompt_tokens: 1_000_000, completion_tokens: 0 }), 2_500_000_000);
        assert_eq!(prices.nano_usd(Usage { prompt_tokens: 6_200, completion_tokens: 231 }), 15_500_000 + 2_310_000);
    }
}
