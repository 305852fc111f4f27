//! What a step does with a video that does not decode whole, so that nothing is short in silence: one policy, one pair of codes, for every step that decodes a
//! video from its first frame to its last.
//!
//! Damage is a fact of the decoding pass ([`GridStats`]): it ended before the end that the file promises, or the decoder reported more errors than are allowed.
//! Decoders conceal errors with plausible pixels, and what they conceal spreads to later frames; so the part that decoded whole ends before the first error.

use curette_engine::verdict::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::media::{GridStats, shown};

/// What becomes of a damaged video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DamagedVideos {
    /// The part before the damage goes on: of a file that ends early all that decoded, of one with more errors than are allowed every frame that the decoder gave
    /// before the first. `truncated` and the decoded duration say so.
    KeepWholePart,
    /// The row is rejected, with code `truncated` or `damaged`, what was measured and what it was held against.
    Reject,
    /// The row is unmeasured, with code `truncated` or `damaged`.
    #[default]
    Error,
}

/// What is wrong with a video.
#[derive(Debug, Clone, PartialEq)]
struct Damage {
    code: &'static str,
    measured: f64,
    threshold: f64,
    message: String,
}

/// What may be used of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usable {
    /// Frames at or after this time are not.
    pub until_us: i64,
    /// What the columns say.
    pub decoded_duration_us: i64,
    /// See `decoded_duration_us`.
    pub truncated: bool,
}

/// The policy of a step.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// See [`DamagedVideos`].
    pub damaged: DamagedVideos,
    /// More errors per decoded frame than this are damage.
    pub max_errors_per_frame: f64,
}

impl Policy {
    /// What may be used, or the verdict.
    pub fn judge(&self, uri: &str, stats: &GridStats) -> Result<Usable, Verdict> {
        let whole = Usable { until_us: i64::MAX, decoded_duration_us: stats.decoded_duration_us, truncated: stats.truncated };
        let Some(damage) = self.damage(uri, stats) else { return Ok(whole) };
        match self.damaged {
            DamagedVideos::Error => Err(Verdict::unmeasured(damage.code, damage.message)),
            DamagedVideos::Reject => Err(Verdict::fail(damage.code, damage.measured, damage.threshold, damage.message)),
            // Errors are within the limit, or they would be the damage: what is there counts as whole.
            DamagedVideos::KeepWholePart if damage.code == "truncated" => Ok(whole),
            DamagedVideos::KeepWholePart if stats.whole_duration_us <= 0 => {
                let message =
                    format!("{}: the decoder reported errors before its first frame; no part of it decoded whole", shown(uri));
                Err(Verdict::unmeasured("damaged", message))
            }
            DamagedVideos::KeepWholePart => {
                Ok(Usable { until_us: stats.whole_duration_us, decoded_duration_us: stats.whole_duration_us, truncated: true })
            }
        }
    }

    fn damage(&self, uri: &str, stats: &GridStats) -> Option<Damage> {
        let seconds = |us: i64| us as f64 / 1e6;
        let (errors, frames, most) = (stats.decode_errors as f64, stats.frames_decoded as f64, self.max_errors_per_frame);
        let remedy = "fetch it again, or set damaged_videos = \"keep_whole_part\"";
        if errors > most * frames {
            return Some(Damage {
                code: "damaged",
                measured: errors / frames.max(1.0),
                threshold: most,
                message: format!(
                    "{}: the decoder reported {errors} errors in {frames} frames, the first one after {:.3} s; max_errors_per_frame is {most}; {remedy}",
                    shown(uri),
                    seconds(stats.whole_duration_us),
                ),
            });
        }
        if !stats.truncated {
            return None;
        }
        let why = stats.ended_by.as_ref().map_or(String::new(), |why| format!(" ({why})"));
        Some(Damage {
            code: "truncated",
            measured: seconds(stats.decoded_duration_us),
            threshold: seconds(stats.promised_duration_us),
            message: format!(
                "{}: decoding ended at {:.3} s of {:.3} s{why}; {remedy}",
                shown(uri),
                seconds(stats.decoded_duration_us),
                seconds(stats.promised_duration_us),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: GridStats = GridStats {
        frames_decoded: 100,
        frames_picked: 4,
        decoded_duration_us: 4_000_000,
        promised_duration_us: 4_000_000,
        truncated: false,
        whole_duration_us: 4_000_000,
        decode_errors: 0,
        ended_by: None,
    };

    fn judge(damaged: DamagedVideos, stats: &GridStats) -> Result<Usable, String> {
        Policy { damaged, max_errors_per_frame: 0.1 }.judge("v.mp4", stats).map_err(|verdict| match verdict {
            Verdict::Fail(r) => format!("reject {} {:?} {:?}: {}", r.code, r.measured, r.threshold, r.message),
            Verdict::Unmeasured(p) => format!("error {}: {}", p.code, p.message),
            Verdict::Pass => "pass".into(),
        })
    }

    #[test]
    fn a_sound_video_and_a_few_concealed_errors_pass_under_every_policy() {
        let few = GridStats { decode_errors: 10, whole_duration_us: 1_000_000, ..SOUND };
        for policy in [DamagedVideos::Error, DamagedVideos::Reject, DamagedVideos::KeepWholePart] {
            for stats in [&SOUND, &few] {
                let usable = judge(policy, stats).unwrap();
                assert_eq!(usable, Usable { until_us: i64::MAX, decoded_duration_us: 4_000_000, truncated: false });
            }
        }
    }

    #[test]
    fn damage_is_kept_up_to_its_first_error_rejected_or_an_error() {
        let bits = GridStats { decode_errors: 11, whole_duration_us: 1_000_000, ..SOUND };
        let kept = Usable { until_us: 1_000_000, decoded_duration_us: 1_000_000, truncated: true };
        assert_eq!(judge(DamagedVideos::KeepWholePart, &bits), Ok(kept));
        let nothing = GridStats { whole_duration_us: 0, ..bits.clone() };
        let short =
            GridStats { promised_duration_us: 9_000_000, truncated: true, ended_by: Some("damaged: no more".into()), ..SOUND };
        assert_eq!(judge(DamagedVideos::KeepWholePart, &short).map(|u| (u.until_us, u.truncated)), Ok((i64::MAX, true)));
        let said: Vec<String> = [
            (DamagedVideos::Reject, &bits),
            (DamagedVideos::Error, &bits),
            (DamagedVideos::KeepWholePart, &nothing),
            (DamagedVideos::Reject, &short),
            (DamagedVideos::Error, &short),
        ]
        .map(|(policy, stats)| judge(policy, stats).unwrap_err())
        .into();
        let told =
            "v.mp4: the decoder reported 11 errors in 100 frames, the first one after 1.000 s; max_errors_per_frame is 0.1";
        let ended = "v.mp4: decoding ended at 4.000 s of 9.000 s (damaged: no more)";
        let remedy = "fetch it again, or set damaged_videos = \"keep_whole_part\"";
        let want = [
            format!("reject damaged Some(0.11) Some(0.1): {told}; {remedy}"),
            format!("error damaged: {told}; {remedy}"),
            "error damaged: v.mp4: the decoder reported errors before its first frame; no part of it decoded whole".into(),
            format!("reject truncated Some(4.0) Some(9.0): {ended}; {remedy}"),
            format!("error truncated: {ended}; {remedy}"),
        ];
        assert_eq!(said, want);
    }
}
