//! Nobody outlives a killed supervisor. It must be a process of its own to be killed, so this test starts itself again as one.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::{World, conduct, lives, within};
use curette_trainer::Job;
use curette_trainer::supervise::train;
use serde_json::json;

/// Folder of the job that the child supervises.
const VARIABLE: &str = "CURETTE_TEST_ORPHANS_OF";
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_supervisor() {
    let Ok(folder) = std::env::var(VARIABLE) else { return };
    let folder = Path::new(&folder);
    let job = Job::read(&folder.join("given.json")).unwrap();
    train(&job, &folder.join("job"), &folder.join("published"), &conduct(), &AtomicBool::new(false), &mut |_| {}).unwrap();
}

#[test]
fn when_the_supervisor_is_killed_ranks_and_their_helpers_go_too() {
    let mut world = World::new(json!({"step_ms": 20, "helper": true}));
    world.job.settings.steps = 100_000;
    world.job.write(&world.path("given.json")).unwrap();
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_supervisor"])
        .env(VARIABLE, world.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let helper_file = world.path("job/run/helper.pid");
    within(LIMIT, "the helper runs", || helper_file.exists() && world.path("job/run/ckpt-000010").exists());
    let helper: u32 = std::fs::read_to_string(&helper_file).unwrap().parse().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{helper}/stat")).unwrap();
    let rank: u32 = status.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(lives(rank) && lives(helper));
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    within(LIMIT, "the rank is gone", || !lives(rank));
    within(LIMIT, "the rank's helper is gone", || !lives(helper));
    // And the lock is free: the next supervisor goes on from the last checkpoint.
    world.job.settings.steps = 100_000;
    let from = curette_trainer::supervise::newest_checkpoint(&world.job.out).unwrap().unwrap().0;
    assert!(from >= 10);
    world.run_until(Some(from + 1));
    assert_eq!(world.events("resumed").last().unwrap()["step"], json!(from));
}
