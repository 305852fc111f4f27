//! The packets of a remote mp4 from its index and a few samples behind each key frame, instead of from all of its bytes.
//!
//! Why: where packets lie, when they are shown and which are key frames is in the index; which of them others refer to is only in the packets. So the
//! first `lead` samples of each group are read, and the rest are taken for packets that nothing refers to: the most hopeful guess. A plan over that
//! guess picks the same pictures as one that knows all, if each pick and everything before it in its group was looked at ([`is_certain`]): for what
//! was looked at the cost of a picture is the true one, for the rest it is at most the true one and still was not the least.
//!
//! What can go wrong: a key frame that the index does not name is not seen as one, so that a nearer one may be missed; the picture is then still
//! within the tolerance.

use std::sync::Arc;
use std::time::Instant;

use super::input::Input;
use super::limits::MAX_FRAMES;
use super::mp4_index::Index;
use super::packets::{Packets, packets, scan};
use super::plan::{Plan, Unit};
use super::sniff::Kind;
use super::{MediaContext, MediaError};

/// How many samples of each group are read, one after the other until a plan is certain.
pub(crate) const LEADS: [usize; 3] = [1, 4, 32];

/// Times, ends and key frames of a file: all that need not look into packets.
pub(crate) fn timed_packets(
    input: &Input,
    identity: &str,
    kind: Kind,
    deadline: Instant,
    context: &MediaContext,
) -> Result<Arc<Packets>, MediaError> {
    if kind == Kind::Mp4
        && context.plane.packets.get(identity).is_none()
        && let Some(index) = Index::of(input, deadline, context)?
        && let Some(packets) = outline(input, identity, &index, LEADS[0], deadline, context)?
    {
        return Ok(packets);
    }
    packets(input, identity, deadline, context)
}

/// The packets with `lead` samples of each group looked at; `None` if that is not much less than all, or the demuxer sees another file than the
/// index.
pub(crate) fn outline(
    input: &Input,
    identity: &str,
    index: &Index,
    lead: usize,
    deadline: Instant,
    context: &MediaContext,
) -> Result<Option<Arc<Packets>>, MediaError> {
    let Some(remote) = input.remote().filter(|_| index.samples.len() <= MAX_FRAMES) else { return Ok(None) };
    let mut since = usize::MAX;
    let keep: Vec<bool> = (index.samples.iter())
        .map(|sample| {
            since = if sample.sync { 0 } else { since.saturating_add(1) };
            since < lead
        })
        .collect();
    let holes = index.holes(|i| keep[i]);
    if holes.real_bytes() > remote.len / 2 {
        return Ok(None);
    }
    let key = format!("{identity}|outline {lead}");
    if let Some(known) = context.plane.packets.get(&key) {
        return Ok(Some(known));
    }
    let sparse = Input::Remote { remote: Arc::clone(remote), holes: Some(Arc::new(holes)) };
    let packets = match scan(&sparse, deadline, context) {
        Err(e) if !e.is_final() => {
            tracing::debug!(file = %input.display(), error = %e, "The index alone is not enough: reading the whole file");
            return Ok(None);
        }
        packets => Arc::new(packets?),
    };
    let same = packets.units.len() == index.samples.len() && packets.looked_at.len() == keep.len();
    let same = same && packets.looked_at.iter().zip(&keep).all(|(looked_at, keep)| *looked_at || !keep);
    if !same {
        tracing::debug!(file = %input.display(), "The demuxer sees other packets than the index: reading the whole file");
        return Ok(None);
    }
    context.plane.packets.put(&key, Arc::clone(&packets), packets.bytes());
    Ok(Some(packets))
}

/// Whether the plan is the same as one over all packets: see the module's documentation.
pub(crate) fn is_certain(plan: &Plan, units: &[Unit], looked_at: &[bool]) -> bool {
    let seen = |i: usize| looked_at.get(i).copied().unwrap_or(true);
    let picked = |unit: &Unit| unit.time_ns.is_some_and(|t| plan.picks_ns.binary_search(&t).is_ok());
    let mut unbroken = true;
    units.iter().enumerate().all(|(i, unit)| {
        unbroken = seen(i) && (unbroken || unit.sync);
        let kept = !plan.keep.get(i).copied().unwrap_or(true) || seen(i);
        kept && (!picked(unit) || unbroken || (unit.alone && seen(i)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::grid::WHOLE_NS;
    use super::super::plan::{Sampling, plan};
    use super::*;

    const PERIOD_NS: i64 = 40_000_000;

    /// Groups of references and others, shown in their order.
    fn units(groups: &[Vec<bool>]) -> Vec<Unit> {
        let of = |(i, (sync, reference)): (usize, (bool, bool))| Unit {
            time_ns: Some(i as i64 * PERIOD_NS),
            raw_pts: None,
            size: 1,
            key: sync,
            alone: sync,
            sync,
            reference: sync || reference,
        };
        groups.iter().flat_map(|group| group.iter().enumerate().map(|(k, r)| (k == 0, *r))).enumerate().map(of).collect()
    }

    fn guessed(units: &[Unit], lead: usize) -> (Vec<Unit>, Vec<bool>) {
        let mut since = 0;
        let guess = |unit: &Unit| {
            since = if unit.sync { 0 } else { since + 1 };
            (Unit { reference: unit.reference && since < lead, ..*unit }, since < lead)
        };
        units.iter().map(guess).unzip()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_certain_plan_is_the_one_that_knows_all(
            groups in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..40), 1..8),
            lead in 1usize..12, tolerance in 0i64..40, fps in 0.5f64..6.0, keyframes in any::<bool>(),
        ) {
            let truth = units(&groups);
            let (guess, looked_at) = guessed(&truth, lead);
            let sampling = if keyframes { Sampling::Keyframes } else { Sampling::Within(tolerance * PERIOD_NS) };
            let of = |units: &[Unit]| plan(units, WHOLE_NS, fps, PERIOD_NS, sampling).unwrap();
            let hopeful = of(&guess);
            if is_certain(&hopeful, &guess, &looked_at) {
                prop_assert_eq!(hopeful, of(&truth));
            } else {
                prop_assert!(!keyframes, "key frames are always looked at");
            }
        }
    }

    #[test]
    fn some_plans_are_certain_and_some_are_not() {
        let truth = units(&vec![vec![true; 25]; 10]);
        let certain = |lead, tolerance_ns| {
            let (guess, looked_at) = guessed(&truth, lead);
            let plan = plan(&guess, WHOLE_NS, 1.0, PERIOD_NS, Sampling::Within(tolerance_ns)).unwrap();
            is_certain(&plan, &guess, &looked_at)
        };
        assert!(certain(1, 500_000_000));
        let truth_long = units(&vec![vec![true; 100]; 3]);
        let (guess, looked_at) = guessed(&truth_long, 1);
        let far = plan(&guess, WHOLE_NS, 1.0, PERIOD_NS, Sampling::Within(100_000_000)).unwrap();
        assert!(!is_certain(&far, &guess, &looked_at));
    }
}
