//! Tests of the loop of `prepare`, with an encoder that counts.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::*;
use crate::spool::{OwnedTensor, SampleInfo, Spool, tests::header};

/// Latents of a number that depends on the id; `broken...` is refused, `nan...` gives NaN, `small...` another size.
#[derive(Default)]
struct Fake {
    encoded: Vec<String>,
    cancel_after: Option<usize>,
}

impl Encoder for Fake {
    fn identity(&self) -> String {
        "test".into()
    }
    fn encode(&mut self, clips: &[Clip], cancel: &AtomicBool) -> Result<Vec<Encoded>> {
        let answer = |clip: &Clip| {
            if clip.id.starts_with("broken") {
                return Err(Refusal { id: clip.id.clone(), code: "not_a_video".into(), message: "nothing in it".into() });
            }
            let (frames, value) =
                (if clip.id.starts_with("small") { 1 } else { 2 }, if clip.id.starts_with("nan") { 0x7fc0_u16 } else { 0x3f80 });
            let tensor = |shape: &[usize]| OwnedTensor {
                dtype: Dtype::BF16,
                shape: shape.to_vec(),
                bytes: (0..shape.iter().product()).flat_map(|_| value.to_le_bytes()).collect(),
            };
            let tensors = BTreeMap::from([
                ("latent".to_owned(), tensor(&[16, frames, 2, 4])),
                ("embed".to_owned(), tensor(&[3, 8])),
                ("mask".to_owned(), tensor(&[4])),
            ]);
            let shape = header().shape;
            let (height, width, fps) = (shape.height, shape.width, shape.fps);
            let info = SampleInfo { id: clip.id.clone(), caption: clip.caption.clone(), frames: 5, height, width, fps };
            Ok(Sample { info, tensors })
        };
        self.encoded.extend(clips.iter().map(|c| c.id.clone()));
        cancel.store(self.cancel_after.is_some_and(|n| self.encoded.len() >= n), Ordering::Relaxed);
        Ok(clips.iter().map(answer).collect())
    }
}

fn clips(ids: &[&str]) -> Vec<Result<Clip>> {
    let facts = ClipFacts { frames: Some(7), height: Some(16), width: Some(32), fps: Some(24.0) };
    ids.iter().map(|id| Ok(Clip { id: (*id).into(), path: "x.mp4".into(), caption: "a hand".into(), facts })).collect()
}

const LIMITS: PrepareLimits = PrepareLimits { samples_per_shard: 2, max_bad_fraction: 0.5, max_bytes: 1 << 20 };

fn run(folder: &Path, fake: &mut Fake, ids: &[&str], limits: &PrepareLimits) -> Result<Prepared> {
    prepare(clips(ids).into_iter(), fake, folder, &header(), limits, &AtomicBool::new(false))
}

#[test]
fn a_stopped_run_goes_on_and_a_finished_one_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ids = ["a", "broken", "nan", "b", "small", "c", "d"];
    let mut first = Fake { cancel_after: Some(4), ..Fake::default() };
    let stopped = run(folder.path(), &mut first, &ids, &LIMITS).unwrap();
    assert_eq!(stopped, Prepared { samples: 1, encoded: 1, refused: 1, cancelled: true });
    assert!(!Spool::open(folder.path()).unwrap().manifest.sealed);
    let mut second = Fake::default();
    let done = run(folder.path(), &mut second, &ids, &LIMITS).unwrap();
    assert_eq!(second.encoded, ["nan", "b", "small", "c", "d"]);
    assert_eq!(done, Prepared { samples: 4, encoded: 3, refused: 3, cancelled: false });
    let mut third = Fake::default();
    assert_eq!(run(folder.path(), &mut third, &ids, &LIMITS).unwrap().encoded, 0);
    assert!(third.encoded.is_empty());
    let spool = Spool::open(folder.path()).unwrap();
    assert!(spool.manifest.sealed);
    let ids_there: Vec<&String> = spool.manifest.shards.iter().flat_map(|s| &s.ids).collect();
    assert_eq!(ids_there, ["a", "b", "c", "d"]);
    let text = std::fs::read_to_string(folder.path().join(REFUSED)).unwrap();
    for code in ["not_a_video", "not_finite", "latent_shape"] {
        assert!(text.contains(code), "{text}");
    }
    let more = run(folder.path(), &mut third, &["a", "new"], &LIMITS);
    assert!(more.is_err_and(|e| e.0.contains("sealed and does not know clip `new`")));
}

#[test]
fn too_many_refusals_too_many_bytes_and_doubles_end_it() {
    let fails = |ids: &[&str], limits: &PrepareLimits| {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &mut Fake::default(), ids, limits).unwrap_err().0
    };
    let strict = PrepareLimits { max_bad_fraction: 0.3, ..LIMITS };
    assert!(
        fails(&["a", "broken1", "broken2"], &strict).starts_with("2 of 3 clips were refused, more than max_bad_fraction = 0.3")
    );
    assert!(fails(&["a", "b"], &PrepareLimits { max_bytes: 10, ..LIMITS }).contains("spool_max_gb"));
    assert!(fails(&["a", "a"], &LIMITS).starts_with("two clips of the table are called `a`"));
}

#[test]
fn refusals_of_before_count_when_their_clips_come_by() {
    let folder = tempfile::tempdir().unwrap();
    let name = |kind: &str, n: usize| (0..n).map(|i| format!("{kind}{i:03}")).collect::<Vec<_>>();
    let (broken, fine, new) = (name("broken", 70), name("fine", 230), name("new", 210));
    let of = |parts: [&[String]; 2], cancel_after| {
        let ids: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        let limits = PrepareLimits { max_bad_fraction: 0.25, samples_per_shard: 10, ..LIMITS };
        run(folder.path(), &mut Fake { cancel_after, ..Fake::default() }, &ids, &limits)
    };
    // The first run is stopped in its last shard, so the spool is open.
    assert!(of([&fine, &broken], Some(300)).unwrap().cancelled);
    // Now the new ones come first: the 60 of before are none of the first 210.
    let done = of([&new, &fine], None).unwrap();
    assert_eq!((done.cancelled, done.refused), (false, 60));
}

#[test]
fn clips_that_break_a_rule_are_not_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let mut short = clips(&["short", "fine"]);
    if let Ok(clip) = &mut short[0] {
        clip.facts.frames = Some(4);
    }
    let mut fake = Fake::default();
    let done = prepare(short.into_iter(), &mut fake, folder.path(), &header(), &LIMITS, &AtomicBool::new(false)).unwrap();
    assert_eq!((fake.encoded, done.refused), (vec!["fine".to_owned()], 1));
}
