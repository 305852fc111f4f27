//! What follows from how an attempt ended: publish, restart, or give up.
//!
//! Pure: state in, state out, so that each row of the table and each limit is a test without a process. What can go wrong is that something goes on
//! for ever; so every kind of restart has a budget of its own: crashes in a row without a new checkpoint, batches that are skipped, samples that are
//! bad, and one change of the batch's form.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::Verdict;

/// Batches that may be skipped because of a loss that is not finite.
pub const MAX_SKIPPED_BATCHES: usize = 2;
/// The pause before the first restart; it doubles with each one in a row.
pub const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause before a restart.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The limits of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Restarts in a row without a new checkpoint.
    pub max_restarts: u32,
    /// Bad samples, as a share of all.
    pub max_bad_fraction: f64,
    /// Samples in the spool.
    pub samples: u64,
    /// See [`FIRST_PAUSE`]; shorter in tests.
    pub first_pause: Duration,
}

/// What the next attempt is told, and what is counted. Saved beside the job, so that it outlives the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Samples of one forward pass on one rank.
    pub micro_batch: u32,
    /// Forward passes of one step.
    pub accumulation: u32,
    /// Samples that are left out.
    #[serde(default)]
    pub quarantined: BTreeSet<String>,
    /// Batches that are left out, by the cursor at which they start.
    #[serde(default)]
    pub skip_cursors: BTreeSet<u64>,
    /// Batches that were to be skipped, also those whose place is not known.
    #[serde(default)]
    pub skipped: usize,
    /// The batch has been given another form already.
    #[serde(default)]
    pub reshaped: bool,
    /// The next attempt goes on from the checkpoint before the newest one.
    #[serde(default)]
    pub previous_checkpoint: bool,
    /// Restarts since the last new checkpoint.
    #[serde(default)]
    pub restarts: u32,
    /// The newest step of a checkpoint.
    #[serde(default)]
    pub checkpoint_step: Option<u64>,
}

impl State {
    /// Before the first attempt.
    pub fn new(micro_batch: u32, accumulation: u32) -> State {
        State {
            micro_batch,
            accumulation,
            quarantined: BTreeSet::new(),
            skip_cursors: BTreeSet::new(),
            skipped: 0,
            reshaped: false,
            previous_checkpoint: false,
            restarts: 0,
            checkpoint_step: None,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Let the adapter pass the gates.
    Accept,
    /// End; a later run goes on from the checkpoint.
    Resumable,
    /// Start again after a pause.
    Restart {
        /// How long.
        pause: Duration,
        /// Why, for the log.
        why: String,
    },
    /// Give up.
    Fail(String),
}

/// Decides. `checkpoint` is the newest step of which the attempt has saved a checkpoint.
pub fn decide(state: &State, limits: &Limits, verdict: &Verdict, checkpoint: Option<u64>) -> (State, Action) {
    let mut next = State { previous_checkpoint: false, ..state.clone() };
    if checkpoint > state.checkpoint_step {
        next.checkpoint_step = checkpoint;
        next.restarts = 0;
    }
    let action = match verdict {
        Verdict::Finished => Action::Accept,
        Verdict::Stopped => Action::Resumable,
        Verdict::Hopeless(why) => Action::Fail(why.clone()),
        Verdict::BadSample(sample) => quarantine(&mut next, limits, sample),
        Verdict::NotFinite(cursor) => skip(&mut next, *cursor),
        Verdict::Resources(why) => reshape(&mut next, why),
        Verdict::Crashed(why) => restart(&mut next, limits, why),
    };
    (next, action)
}

fn at_once(why: String) -> Action {
    Action::Restart { pause: Duration::ZERO, why }
}

fn quarantine(next: &mut State, limits: &Limits, sample: &str) -> Action {
    if !next.quarantined.insert(sample.to_owned()) {
        return Action::Fail(format!("the trainer calls sample `{sample}` bad although it was told to leave it out"));
    }
    let bad = next.quarantined.len() as f64;
    let allowed = limits.max_bad_fraction * limits.samples as f64;
    if bad > allowed {
        let (count, all, share) = (next.quarantined.len(), limits.samples, limits.max_bad_fraction);
        return Action::Fail(format!(
            "{count} of {all} samples are bad, the last one `{sample}`: more than max_bad_fraction = {share} allows; \
             mend the spool (remove it and prepare again) or allow more"
        ));
    }
    at_once(format!("sample `{sample}` is bad and is left out from now on"))
}

fn skip(next: &mut State, cursor: Option<u64>) -> Action {
    next.skipped += 1;
    if next.skipped > MAX_SKIPPED_BATCHES {
        return Action::Fail(format!(
            "the loss was not finite for the {}rd time, after {MAX_SKIPPED_BATCHES} batches had been skipped; \
             lower the learning rate, or look for bad latents",
            next.skipped
        ));
    }
    next.previous_checkpoint = true;
    next.skip_cursors.extend(cursor);
    let place = cursor.map_or_else(|| "at an unknown place".to_owned(), |c| format!("at cursor {c}"));
    at_once(format!("the loss was not finite {place}: going on from the checkpoint before the newest one, without that batch"))
}

/// Keeps samples per step, and with it the meaning of the job, exactly.
fn reshape(next: &mut State, why: &str) -> Action {
    let divisor = (2..=next.micro_batch).find(|d| next.micro_batch.is_multiple_of(*d));
    match divisor {
        _ if next.reshaped => Action::Fail(format!("{why}; micro_batch was made smaller once already, to {}", next.micro_batch)),
        None => {
            Action::Fail(format!("{why}; micro_batch is 1 already: use FSDP, fewer frames, smaller pictures or a larger device"))
        }
        Some(divisor) => match next.accumulation.checked_mul(divisor) {
            None => Action::Fail(format!("{why}; accumulation cannot grow any more")),
            Some(accumulation) => {
                next.reshaped = true;
                next.micro_batch /= divisor;
                next.accumulation = accumulation;
                at_once(format!("{why}: micro_batch is {} and accumulation {accumulation} from now on", next.micro_batch))
            }
        },
    }
}

fn restart(next: &mut State, limits: &Limits, why: &str) -> Action {
    if next.restarts >= limits.max_restarts {
        return Action::Fail(format!("{why}; it was restarted {} times without a new checkpoint (max_restarts)", next.restarts));
    }
    let doubled = limits.first_pause.saturating_mul(2_u32.saturating_pow(next.restarts));
    next.restarts += 1;
    Action::Restart { pause: doubled.min(LONGEST_PAUSE), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_restarts: 3, max_bad_fraction: 0.1, samples: 20, first_pause: FIRST_PAUSE };

    fn crashed() -> Verdict {
        Verdict::Crashed("boom".into())
    }

    #[test]
    fn pauses_double_and_a_new_checkpoint_makes_the_slate_clean() {
        let mut state = State::new(2, 1);
        let mut pauses = Vec::new();
        for (verdict, checkpoint) in [(crashed(), None), (crashed(), None), (crashed(), Some(10)), (crashed(), Some(10))] {
            let (next, action) = decide(&state, &LIMITS, &verdict, checkpoint);
            let Action::Restart { pause, .. } = action else { panic!("{action:?}") };
            pauses.push(pause.as_secs());
            state = next;
        }
        assert_eq!(pauses, [5, 10, 5, 10]);
        state.restarts = 3;
        assert!(
            matches!(decide(&state, &LIMITS, &crashed(), Some(10)).1, Action::Fail(why) if why.starts_with("boom; it was restarted 3 times"))
        );
        let patient = Limits { max_restarts: 99, ..LIMITS };
        state.restarts = 40;
        assert!(matches!(decide(&state, &patient, &crashed(), None).1, Action::Restart { pause, .. } if pause == LONGEST_PAUSE));
    }

    #[test]
    fn bad_samples_are_left_out_up_to_the_limit() {
        let bad = |id: &str| Verdict::BadSample(id.into());
        let (state, action) = decide(&State::new(1, 1), &LIMITS, &bad("a"), None);
        assert!(matches!(action, Action::Restart { pause: Duration::ZERO, .. }));
        assert!(matches!(decide(&state, &LIMITS, &bad("a"), None).1, Action::Fail(why) if why.contains("told to leave it out")));
        let (state, action) = decide(&state, &LIMITS, &bad("b"), None);
        assert!(matches!(action, Action::Restart { .. }));
        assert!(matches!(decide(&state, &LIMITS, &bad("c"), None).1, Action::Fail(why) if why.starts_with("3 of 20 samples")));
    }

    #[test]
    fn two_batches_are_skipped_and_the_third_ends_it() {
        let (state, action) = decide(&State::new(1, 1), &LIMITS, &Verdict::NotFinite(Some(32)), Some(5));
        assert!(matches!(action, Action::Restart { .. }) && state.previous_checkpoint && state.skip_cursors.contains(&32));
        let (state, _) = decide(&state, &LIMITS, &Verdict::NotFinite(None), Some(5));
        assert!(
            matches!(decide(&state, &LIMITS, &Verdict::NotFinite(Some(64)), Some(5)).1, Action::Fail(why) if why.contains("3rd time"))
        );
        // What follows goes on from the newest checkpoint again.
        assert!(!decide(&state, &LIMITS, &crashed(), Some(5)).0.previous_checkpoint);
    }

    #[test]
    fn memory_is_saved_once_without_changing_the_samples_per_step() {
        let tight = Verdict::Resources("memory: 80 GiB".into());
        let (state, _) = decide(&State::new(4, 2), &LIMITS, &tight, None);
        assert_eq!((state.micro_batch, state.accumulation), (2, 4));
        assert!(matches!(decide(&state, &LIMITS, &tight, None).1, Action::Fail(why) if why.contains("once already")));
        let (odd, _) = decide(&State::new(9, 1), &LIMITS, &tight, None);
        assert_eq!((odd.micro_batch, odd.accumulation), (3, 3));
        assert!(matches!(decide(&State::new(1, 8), &LIMITS, &tight, None).1, Action::Fail(why) if why.contains("is 1 already")));
    }

    #[test]
    fn the_end_is_the_end() {
        let state = State::new(1, 1);
        assert_eq!(decide(&state, &LIMITS, &Verdict::Finished, Some(9)).1, Action::Accept);
        assert_eq!(decide(&state, &LIMITS, &Verdict::Stopped, Some(9)).1, Action::Resumable);
        assert_eq!(decide(&state, &LIMITS, &Verdict::Hopeless("no".into()), None).1, Action::Fail("no".into()));
    }

    fn any_verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            (0_u8..40).prop_map(|n| Verdict::BadSample(n.to_string())),
            proptest::option::of(0_u64..9).prop_map(Verdict::NotFinite),
            Just(Verdict::Resources("tight".into())),
            Just(crashed()),
        ]
    }

    proptest! {
        /// Without new checkpoints every chain of failures ends, after no more restarts than the limits add up to.
        #[test]
        fn no_chain_of_failures_goes_on_for_ever(verdicts in proptest::collection::vec(any_verdict(), 60), micro in 1_u32..9) {
            let mut state = State::new(micro, 2);
            let mut restarts = 0;
            for verdict in verdicts {
                let (next, action) = decide(&state, &LIMITS, &verdict, None);
                prop_assert_eq!(next.micro_batch * next.accumulation, micro * 2);
                match action {
                    Action::Restart { .. } => restarts += 1,
                    _ => break,
                }
                state = next;
            }
            prop_assert!(restarts <= 3 + MAX_SKIPPED_BATCHES + 1 + 2, "{}", restarts);
        }
    }
}
