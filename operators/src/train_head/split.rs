//! Which videos train and which validate.
//!
//! Videos with mostly positive and with mostly negative labels are split separately, each group ordered by a hash of the name: no random number, and one
//! more video moves few others. A group of one video trains.

use super::samples::Samples;

/// A split of videos.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    validation: Vec<bool>,
    labelled: Vec<bool>,
}

impl Parts {
    /// Whether a video validates.
    pub fn is_validation(&self, video: usize) -> bool {
        self.validation[video]
    }
    /// Labelled videos that train.
    pub fn training(&self) -> usize {
        self.labelled.iter().zip(&self.validation).filter(|(labelled, validation)| **labelled && !**validation).count()
    }
    /// Labelled videos that validate.
    pub fn validation(&self) -> usize {
        self.labelled.iter().zip(&self.validation).filter(|(labelled, validation)| **labelled && **validation).count()
    }
}

/// Splits by video; `share` of each group validates, rounded, at least one video where the group has two and the share is not 0.
pub fn by_video(samples: &Samples, share: f64) -> Parts {
    let mut counts = vec![(0usize, 0usize); samples.videos.len()];
    for (video, positive) in samples.video_of.iter().zip(&samples.positive) {
        counts[*video].0 += usize::from(*positive);
        counts[*video].1 += 1;
    }
    let mut validation = vec![false; samples.videos.len()];
    for mostly_positive in [false, true] {
        let mut group: Vec<usize> =
            (0..counts.len()).filter(|&v| counts[v].1 > 0 && (2 * counts[v].0 > counts[v].1) == mostly_positive).collect();
        group.sort_by_key(|&v| *blake3::hash(samples.videos[v].as_bytes()).as_bytes());
        let wanted = (group.len() as f64 * share).round() as usize;
        let least = usize::from(share > 0.0 && group.len() > 1);
        for &video in group.iter().take(wanted.max(least).min(group.len().saturating_sub(1))) {
            validation[video] = true;
        }
    }
    Parts { validation, labelled: counts.iter().map(|c| c.1 > 0).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(positive: &[bool]) -> Samples {
        Samples {
            positive: positive.to_vec(),
            video_of: (0..positive.len()).collect(),
            videos: (0..positive.len()).map(|i| format!("v{i}")).collect(),
            ..Samples::default()
        }
    }

    #[test]
    fn both_classes_are_on_both_sides() {
        let positive: Vec<bool> = (0..20).map(|i| i % 4 == 0).collect();
        let parts = by_video(&samples(&positive), 0.25);
        assert_eq!((parts.training(), parts.validation()), (15, 5));
        assert_eq!((0..20).filter(|&v| parts.is_validation(v) && positive[v]).count(), 1);
        assert_eq!(parts, by_video(&samples(&positive), 0.25));
    }

    #[test]
    fn a_lone_video_of_its_kind_trains() {
        let parts = by_video(&samples(&[true, false, false]), 0.9);
        assert!(!parts.is_validation(0));
        assert_eq!((parts.training(), parts.validation()), (2, 1));
        assert_eq!(by_video(&samples(&[true, true, false, false]), 0.0).validation(), 0);
    }
}
