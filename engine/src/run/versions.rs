//! Which generation of the tables a run belongs to. Pure.
//!
//! Each `--new-version` gives all tables a new generation. A run may be killed while it begins one, so tables can stand in different
//! generations: the highest one says what was meant, and the others follow. Over a finished run of the very same plan `--new-version` begins a generation, too:
//! that is how rows with errors come again. An unfinished one is continued, and so is a finished one whose run has not come to its verdict, so a command that is
//! killed and repeated begins one generation and not many.

use crate::commit::PlanStamp;
use crate::plan::PlanHash;

/// What one table or folder of an output says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The plan that it belongs to, if any.
    pub stamp: Option<PlanStamp>,
    /// A committed table, which vouches for its rows; a folder of files does not.
    pub committed: bool,
    /// Every split of the plan in `stamp` stands in it.
    pub complete: bool,
}

/// What a run may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// Continue, or start in empty tables.
    Continue(u64),
    /// Begin this generation in every table.
    Begin(u64),
    /// Rows of another plan are committed here.
    Refuse(PlanHash),
}

/// What is asked of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// `--new-version` was given.
    pub new_version: bool,
    /// Another process of the cluster decides whether a finished plan begins again.
    pub follows: bool,
    /// The generation that was begun last and has not come to its verdict (see [`super::begun`]).
    pub begun: Option<u64>,
}

/// May a run of this plan go on, and in which generation?
pub fn decide(standings: &[Standing], plan: &PlanHash, ask: Ask) -> Version {
    let stamps = standings.iter().filter_map(|s| s.stamp.as_ref());
    let Some(newest) = stamps.max_by_key(|s| s.generation) else { return Version::Continue(0) };
    let something_is_committed = standings.iter().any(|s| s.committed && s.stamp.is_some());
    // One that was begun but did not reach every table is not.
    let newest_is_complete = standings.iter().filter(|s| s.committed).all(|s| s.complete && s.stamp.as_ref() == Some(newest));
    let may_begin_again = ask.new_version && !ask.follows && ask.begun != Some(newest.generation);
    match () {
        () if newest.plan_hash == plan.as_str() && may_begin_again && something_is_committed && newest_is_complete => {
            Version::Begin(newest.generation + 1)
        }
        // Also when older plans are there: then this plan's version was begun and the process killed before all tables knew.
        () if newest.plan_hash == plan.as_str() => Version::Continue(newest.generation),
        () if ask.new_version || !something_is_committed => Version::Begin(newest.generation + 1),
        () => Version::Refuse(PlanHash::from_hex(newest.plan_hash.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(plan: &str, generation: u64) -> Standing {
        Standing { stamp: Some(PlanStamp { plan_hash: plan.into(), generation }), committed: true, complete: false }
    }

    fn whole(plan: &str, generation: u64) -> Standing {
        Standing { complete: true, ..table(plan, generation) }
    }

    fn version(standings: &[Standing], new_version: bool) -> Version {
        decide(standings, &PlanHash::from_hex("mine"), Ask { new_version, ..Ask::default() })
    }

    #[test]
    fn a_run_goes_on_in_its_own_generation_only() {
        let empty = Standing { committed: true, ..Standing::default() };
        assert_eq!(version(&[empty.clone(), empty.clone()], false), Version::Continue(0));
        assert_eq!(version(&[table("mine", 2), empty], false), Version::Continue(2));
        assert_eq!(version(&[table("mine", 2)], true), Version::Continue(2), "it is not finished");
        assert_eq!(version(&[table("other", 2)], true), Version::Begin(3));
        assert_eq!(version(&[table("other", 2)], false), Version::Refuse(PlanHash::from_hex("other")));
    }

    #[test]
    fn a_finished_run_of_the_same_plan_is_begun_again_once() {
        let files = |generation| Standing { committed: false, ..table("mine", generation) };
        assert_eq!(version(&[whole("mine", 2), whole("mine", 2)], false), Version::Continue(2), "nobody asked");
        assert_eq!(version(&[files(2), whole("mine", 2), whole("mine", 2)], true), Version::Begin(3), "files vouch for nothing");
        // Killed at any moment of the beginning, and repeated.
        assert_eq!(version(&[files(3), whole("mine", 2), whole("mine", 2)], true), Version::Continue(3));
        assert_eq!(version(&[files(3), table("mine", 3), whole("mine", 2)], true), Version::Continue(3));
        assert_eq!(version(&[files(3), table("mine", 3), table("mine", 3)], true), Version::Continue(3));
        // Killed between the last commits of two tables.
        assert_eq!(version(&[files(3), whole("mine", 3), table("mine", 3)], true), Version::Continue(3));
        assert_eq!(version(&[files(3), whole("mine", 3), whole("mine", 3)], true), Version::Begin(4));
    }

    #[test]
    fn a_finished_run_is_not_begun_again_without_its_verdict_nor_by_a_follower() {
        let ask = |begun, follows| {
            let standings = [whole("mine", 2), whole("mine", 2)];
            decide(&standings, &PlanHash::from_hex("mine"), Ask { new_version: true, follows, begun })
        };
        assert_eq!(ask(Some(2), false), Version::Continue(2), "killed while it looked at the sums");
        assert_eq!(ask(Some(1), false), Version::Begin(3), "that one is long over");
        assert_eq!(ask(None, true), Version::Continue(2));
        // A changed plan needs other columns: a follower opens the tables for them, and the first process begins.
        let other =
            decide(&[whole("other", 2)], &PlanHash::from_hex("mine"), Ask { new_version: true, follows: true, begun: None });
        assert_eq!(other, Version::Begin(3));
    }

    #[test]
    fn the_highest_generation_says_what_was_meant() {
        // Killed while beginning mine over another.
        assert_eq!(version(&[table("mine", 1), table("other", 0)], false), Version::Continue(1));
        // Killed while beginning another over mine; going back to mine needs to be said, and is a generation of its own.
        assert_eq!(version(&[table("other", 1), table("mine", 0)], false), Version::Refuse(PlanHash::from_hex("other")));
        assert_eq!(version(&[table("other", 1), table("mine", 0)], true), Version::Begin(2));
    }

    #[test]
    fn files_that_no_commit_vouches_for_bind_nobody() {
        let files = Standing { stamp: Some(PlanStamp { plan_hash: "other".into(), generation: 0 }), ..Standing::default() };
        assert_eq!(version(std::slice::from_ref(&files), false), Version::Begin(1));
        assert_eq!(version(&[files, table("other", 0)], false), Version::Refuse(PlanHash::from_hex("other")));
    }
}
