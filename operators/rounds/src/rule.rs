//! When does a channel count as medical? Pure.

/// A channel qualifies when both hold. Once it has, it stays so: what was downloaded cannot be taken back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// At least so many different medical videos.
    pub min_videos: u64,
    /// At least this share of its different videos is medical, 0 to 1. With 0 the other videos are not counted at all.
    pub min_share: f64,
}

/// Different videos of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counts {
    /// Medical ones.
    pub medical: u64,
    /// All of them; 0 where the rule does not ask.
    pub all: u64,
}

impl Rule {
    /// The rule asks for all videos of a channel, not only for the medical ones.
    pub fn counts_all(&self) -> bool {
        self.min_share > 0.0
    }

    /// May the other videos of a channel with these counts come?
    pub fn qualifies(&self, counts: Counts) -> bool {
        let enough = counts.medical >= self.min_videos.max(1);
        enough && (!self.counts_all() || counts.medical as f64 >= self.min_share * counts.all as f64)
    }

    /// Names the rule: rounds of two rules must not mix.
    pub fn meaning(&self) -> String {
        format!("channels with at least {} medical videos and a share of at least {}", self.min_videos.max(1), self.min_share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_are_inclusive_and_a_channel_without_medical_videos_never_qualifies() {
        let rule = Rule { min_videos: 2, min_share: 0.5 };
        let counts = |medical, all| Counts { medical, all };
        assert!(rule.qualifies(counts(2, 4)));
        assert!(!rule.qualifies(counts(2, 5)));
        assert!(!rule.qualifies(counts(1, 1)));
        assert!(!Rule { min_videos: 0, min_share: 0.0 }.qualifies(counts(0, 9)));
        assert!(Rule { min_videos: 1, min_share: 0.0 }.qualifies(counts(1, 0)));
    }
}
