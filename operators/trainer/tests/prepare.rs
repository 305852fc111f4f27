//! `prepare` with the trainer's own command.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::AtomicBool;

use common::{SHAPE, conduct, toy};
use curette_trainer::Architecture;
use curette_trainer::command_encoder::CommandEncoder;
use curette_trainer::job::Model;
use curette_trainer::prepare::{Clip, Encoder, PrepareLimits, Prepared, prepare};
use curette_trainer::rules::ClipFacts;
use curette_trainer::spool::{Header, Spool};
use serde_json::{Map, json};

#[test]
fn the_trainers_command_fills_a_spool_and_a_crash_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clips: Vec<_> = (0..7)
        .map(|number| {
            let path = folder.path().join(format!("{number}.mp4"));
            std::fs::write(&path, if number == 3 { "broken".to_owned() } else { format!("video {number}") }).unwrap();
            Ok(Clip { id: format!("clip{number}"), path, caption: "two words".into(), facts: ClipFacts::default() })
        })
        .collect();
    let run = |spool: &str, trainer: Map<String, serde_json::Value>| {
        let model = Model { architecture: Architecture::Hunyuan, weights: "toy".into(), revision: "1".into() };
        let mut encoder = CommandEncoder { conduct: conduct(), model, shape: SHAPE, folder: folder.path().join("work"), trainer };
        assert_eq!(encoder.identity(), format!("{} of toy@1", toy()));
        let header = Header { architecture: Architecture::Hunyuan, encoder: encoder.identity(), shape: SHAPE };
        let limits = PrepareLimits { samples_per_shard: 3, max_bad_fraction: 0.2, max_bytes: 1 << 20 };
        let done =
            prepare(clips.iter().cloned(), &mut encoder, &folder.path().join(spool), &header, &limits, &AtomicBool::new(false));
        assert_eq!(done.unwrap(), Prepared { samples: 6, encoded: 6, refused: 1, cancelled: false });
        let spool = Spool::open(&folder.path().join(spool)).unwrap();
        spool.verify().unwrap();
        (spool.digest().unwrap(), spool.manifest.shards.len())
    };
    let marker = folder.path().join("marker").display().to_string();
    let crashing = json!({"prepare_crashes_without": marker}).as_object().unwrap().clone();
    let (digest, shards) = run("one", Map::new());
    assert_eq!(shards, 3);
    assert_eq!(run("two", crashing), (digest, shards), "the same bytes, also after a crash");
}
