//! Each row of the table of endings, with real processes.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{World, lives, within};
use curette_trainer::gates::ADAPTER_FILE;
use curette_trainer::publish::{EMA_FILE, PROVENANCE_FILE, verify};
use curette_trainer::supervise::Outcome;
use serde_json::{Value, json};

fn bytes(folder: &std::path::Path) -> [Vec<u8>; 2] {
    [ADAPTER_FILE, EMA_FILE].map(|file| std::fs::read(folder.join(file)).unwrap())
}

#[test]
fn a_training_ends_with_a_published_adapter_that_says_where_it_is_from() {
    let world = World::new(json!({}));
    let folder = world.published();
    verify(&folder).unwrap();
    let text = std::fs::read(folder.join(PROVENANCE_FILE)).unwrap();
    let provenance: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(provenance["job"]["data"]["table_version"], 1);
    assert_eq!(provenance["job_sha256"], json!(world.job.hash().unwrap()));
    assert_eq!((&provenance["versions"]["toy"], &provenance["step"]), (&json!("1"), &json!(40)));
    let steps = world.events("step");
    let loss = |at: usize| steps[at]["loss"].as_f64().unwrap();
    assert!(steps.len() == 40 && loss(39) < 0.5 * loss(0), "it learns: {} to {}", loss(0), loss(39));
    assert_eq!(world.supervisor()["attempts"], 1);
    // Again: nothing is run.
    assert!(matches!(world.run(), Outcome::Published(p) if p.already && p.folder == folder));
    assert_eq!(world.supervisor()["attempts"], 1);
}

#[test]
fn a_folder_of_another_training_is_not_taken_over() {
    let mut world = World::new(json!({}));
    world.published();
    let supervisor = world.supervisor();
    world.job.settings.steps += 1;
    let again = curette_trainer::supervise::train(
        &world.job,
        &world.path("job"),
        &world.path("elsewhere"),
        &world.conduct,
        &world.cancel,
        &mut |_| {},
    );
    assert!(again.unwrap_err().to_string().contains("it holds another training"));
    assert_eq!(world.supervisor(), supervisor, "and nothing is changed");
}

#[test]
fn stopped_crashed_and_undisturbed_trainings_end_with_the_same_bytes() {
    let whole = World::new(json!({"step_ms": 5}));
    let undisturbed = bytes(&whole.published());
    let stopped = World::new(json!({"step_ms": 5}));
    assert_eq!(stopped.run_until(Some(13)), Outcome::Resumable(stopped.supervisor()["state"]["checkpoint_step"].as_u64()));
    let at = stopped.supervisor()["state"]["checkpoint_step"].as_u64().unwrap();
    assert!((13..=40).contains(&at), "it saved where it was: {at}");
    assert_eq!(bytes(&stopped.published()), undisturbed);
    let crashed = World::new(json!({"step_ms": 5, "crash_at": 27, "faulty_attempts": 1}));
    assert_eq!(bytes(&crashed.published()), undisturbed);
    assert_eq!(crashed.events("resumed")[0]["step"], 20, "from the last checkpoint");
    assert_eq!(crashed.supervisor()["attempts"], 2);
}

#[test]
fn a_training_that_always_crashes_is_given_up() {
    let world = World::new(json!({"crash_at": 5}));
    let why = world.failure();
    assert!(why.contains("ended by signal 6; it was restarted 3 times without a new checkpoint (max_restarts)"), "{why}");
    assert_eq!(world.supervisor()["attempts"], 4);
    let log = std::fs::read_to_string(world.path("job/logs/rank-0.log")).unwrap();
    assert_eq!(log.matches("toy trainer, attempt").count(), 4);
}

#[test]
fn a_trainer_that_hangs_is_killed_and_started_again() {
    let mut world = World::new(json!({"hang_at": 15, "faulty_attempts": 1, "helper": true}));
    world.conduct.heartbeat = Duration::from_secs(2);
    let began = Instant::now();
    world.published();
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(world.supervisor()["attempts"], 2);
}

#[test]
fn garbage_is_borne_up_to_its_limit() {
    World::new(json!({"garbage_lines": 5})).published();
    let mut world = World::new(json!({"garbage_lines": 6}));
    world.conduct.max_restarts = 0;
    let why = world.failure();
    assert!(why.contains("too many lines that are no events") && why.contains("stray print 5"), "{why}");
}

#[test]
fn a_bad_sample_is_left_out_and_too_many_end_it() {
    let world = World::new(json!({"bad_sample": "clip7"}));
    world.published();
    assert_eq!(world.supervisor()["state"]["quarantined"], json!(["clip7"]));
    let mut strict = World::new(json!({"bad_sample": "clip7"}));
    strict.conduct.max_bad_fraction = 0.01;
    let why = strict.failure();
    assert!(why.starts_with("1 of 20 samples are bad, the last one `clip7`"), "{why}");
}

#[test]
fn a_loss_that_is_not_finite_skips_the_batch_twice() {
    let once = World::new(json!({"nan_at_cursor": 100}));
    once.published();
    assert_eq!(once.supervisor()["state"]["skip_cursors"], json!([100]));
    assert_eq!(once.events("resumed")[0]["step"], 10, "from the checkpoint before the newest");
    // The fault moves on: every attempt finds another batch.
    let mut ever = World::new(json!({"nan_at_cursor": 100, "faulty_attempts": 9}));
    ever.job.trainer.insert("nan_batches".into(), json!(3));
    let why = ever.failure();
    assert!(why.starts_with("the loss was not finite for the 3rd time"), "{why}");
}

#[test]
fn memory_that_does_not_suffice_halves_the_micro_batch_once() {
    let world = World::new(json!({"memory_above": 1}));
    let folder = world.published();
    let state = &world.supervisor()["state"];
    assert_eq!((&state["micro_batch"], &state["accumulation"], &state["reshaped"]), (&json!(1), &json!(4), &json!(true)));
    let provenance: Value = serde_json::from_slice(&std::fs::read(folder.join(PROVENANCE_FILE)).unwrap()).unwrap();
    assert_eq!(provenance["state"]["reshaped"], true, "it is recorded");
    let why = World::new(json!({"memory_above": 0})).failure();
    assert!(why.starts_with("memory: no room for a micro_batch of 1; micro_batch was made smaller once already"), "{why}");
}

#[test]
fn who_is_preempted_can_be_resumed() {
    let world = World::new(json!({"preempt_at": 15, "faulty_attempts": 1}));
    assert_eq!(world.run(), Outcome::Resumable(Some(15)));
    world.published();
    assert_eq!(world.supervisor()["attempts"], 2);
}

#[test]
fn who_ignores_the_request_to_stop_is_killed_after_the_grace() {
    let mut world = World::new(json!({"ignore_term": true, "step_ms": 300, "helper": true}));
    world.conduct.grace = Duration::from_secs(1);
    let began = Instant::now();
    assert_eq!(world.run_until(Some(12)), Outcome::Resumable(Some(10)));
    assert!(began.elapsed() < Duration::from_secs(20));
    let helper: u32 = std::fs::read_to_string(world.path("job/run/helper.pid")).unwrap().parse().unwrap();
    within(Duration::from_secs(5), "the helper is gone", || !lives(helper));
}

#[test]
fn words_that_contradict_the_end_are_not_believed() {
    let mut silent = World::new(json!({"silent_end": true}));
    silent.conduct.max_restarts = 1;
    let why = silent.failure();
    assert!(why.contains("code 0 without saying that it is done"), "{why}");
    let why = World::new(json!({"protocol": 2})).failure();
    assert!(why.starts_with("the trainer speaks version 2 of the protocol"), "{why}");
}

#[test]
fn an_adapter_that_learned_nothing_is_not_published() {
    let world = World::new(json!({"zero_b": true}));
    let why = world.failure();
    for part in ["2 tensors are B matrices that are zero all over", "it did not learn", "changes the output by 0"] {
        assert!(why.contains(part), "{why}");
    }
    assert!(!world.path("published").exists());
}

#[test]
fn the_time_of_a_job_ends_it_with_a_checkpoint() {
    let mut world = World::new(json!({"step_ms": 100}));
    world.conduct.max_time = Some(Duration::from_millis(1500));
    let Outcome::TimeUp(Some(step)) = world.run() else { panic!() };
    assert!((1..40).contains(&step), "{step}");
}

#[test]
fn two_ranks_run_together_and_fall_together() {
    let mut world = World::new(json!({}));
    (world.job.ranks, world.job.settings.micro_batch) = (2, 1);
    world.published();
    let mut world = World::new(json!({"rank1_code": 3, "step_ms": 50, "steps": 1000}));
    (world.job.ranks, world.job.settings.micro_batch, world.job.settings.steps) = (2, 1, 4000);
    world.conduct.max_restarts = 0;
    let why = world.failure();
    assert!(why.contains("rank 1 ended with code 3"), "{why}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let mut world = World::new(json!({}));
    world.conduct.command = vec!["/none/trainer".into()];
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let (job, to) = (world.path("job"), world.path("published"));
    let error = curette_trainer::supervise::train(&world.job, &job, &to, &world.conduct, &cancel, &mut |_| {}).unwrap_err();
    assert!(error.0.starts_with("cannot run the trainer `/none/trainer train --job job.json"), "{error}");
}
