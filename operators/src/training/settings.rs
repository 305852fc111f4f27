//! Keys of a `lora_trainer` step to what its job says, and what is wrong with them. Pure, but for the look at the program.
//!
//! What can go wrong: numbers that each make sense and together do not: a batch that cannot be dealt out, days that nobody has. All of it is told at
//! once, at the key that it is about.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use curette_engine::diag::Code;
use curette_engine::operator::StepCheck;
use curette_trainer::estimate::Device;
use curette_trainer::job::{Model, Shape};
use curette_trainer::policy::FIRST_PAUSE;
use curette_trainer::preflight::{Level, Plan, Preflight, preflight};
use curette_trainer::preset::{Preset, Settings};
use curette_trainer::supervise::Conduct;

use crate::sinks::lora_trainer::LoraTrainer;

/// Lines of an attempt that are no events; more, and it is no trainer that speaks the protocol.
const MAX_GARBAGE_LINES: u32 = 1000;
/// Size of a log file in bytes, and how many of a rank are kept.
const LOG_MAX_BYTES: u64 = 32 << 20;
const LOG_FILES: u32 = 4;
/// Bytes of a GB.
const GB: f64 = 1e9;

/// The settings: the preset's, changed by the keys that are given.
pub fn settings(config: &LoraTrainer) -> Settings {
    let of = config.preset.settings();
    Settings {
        rank: config.rank.unwrap_or(of.rank),
        alpha: config.alpha.unwrap_or(of.alpha),
        steps: config.steps.unwrap_or(of.steps),
        learning_rate: config.learning_rate.unwrap_or(of.learning_rate),
        weight_decay: config.weight_decay.unwrap_or(of.weight_decay),
        max_grad_norm: config.max_grad_norm.unwrap_or(of.max_grad_norm),
        global_batch: config.global_batch.unwrap_or(of.global_batch),
        micro_batch: config.micro_batch.unwrap_or(of.micro_batch),
        train_shift: config.train_shift.unwrap_or(of.train_shift),
        sample_shift: config.sample_shift.unwrap_or(of.sample_shift),
        noise_levels: config.noise_levels.unwrap_or(of.noise_levels),
        train_guidance: config.train_guidance.unwrap_or(of.train_guidance),
        caption_dropout: config.caption_dropout.unwrap_or(of.caption_dropout),
        ema: config.ema.or(of.ema),
        checkpoint_every: config.checkpoint_every.unwrap_or(of.checkpoint_every),
        keep_last: config.keep_last.unwrap_or(of.keep_last),
        keep_every: config.keep_every.unwrap_or(of.keep_every),
        seed: config.seed.unwrap_or(of.seed),
    }
}

/// Keys that are given although the paper's presets decide them.
fn decided_by_preset(config: &LoraTrainer) -> Vec<&'static str> {
    if config.preset == Preset::Custom {
        return Vec::new();
    }
    let given = [
        ("rank", config.rank.is_some()),
        ("alpha", config.alpha.is_some()),
        ("learning_rate", config.learning_rate.is_some()),
        ("weight_decay", config.weight_decay.is_some()),
        ("max_grad_norm", config.max_grad_norm.is_some()),
        ("global_batch", config.global_batch.is_some()),
        ("train_shift", config.train_shift.is_some()),
        ("sample_shift", config.sample_shift.is_some()),
        ("noise_levels", config.noise_levels.is_some()),
        ("train_guidance", config.train_guidance.is_some()),
        ("caption_dropout", config.caption_dropout.is_some()),
        ("ema", config.ema.is_some()),
    ];
    given.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
}

/// Reports everything that is wrong before there are clips.
pub fn check(config: &LoraTrainer, check: &mut dyn StepCheck) {
    let preset = if config.preset == Preset::PaperText { "paper_text" } else { "paper_code" };
    for key in decided_by_preset(config) {
        let message = format!("`{key}` is decided by preset = \"{preset}\"");
        let help = "remove it, or set preset = \"custom\" and give what else shall differ from `paper_code`";
        check.error(Some(key), Code::Contradiction, message, Some(help.into()));
    }
    if config.command.iter().any(|part| part.is_empty()) {
        check.error(Some("command"), Code::OutOfRange, "a part of `command` is empty".into(), None);
    }
    if let Some(program) = config.command.first().filter(|p| !is_path(p) && p.contains('/') && !p.starts_with('/')) {
        let help = format!("write ./{program} for a path from the pipeline file's folder");
        check.error(Some("command"), Code::OutOfRange, format!("it is not told where `{program}` starts"), Some(help));
    }
    // Ranges of single keys are in the schema, which has reported them; that of `ema` is not.
    let single: Vec<(&str, String)> = settings(config).mistakes().into_iter().filter(|(key, _)| *key != "ema").collect();
    for finding in at_check(config).findings {
        let told = finding.key.is_some_and(|key| single.contains(&(key, finding.message.clone())));
        if finding.level != Level::Error || told {
            continue;
        }
        let code = match finding.key {
            Some("frames" | "height" | "width" | "fps" | "ema") => Code::OutOfRange,
            _ => Code::Contradiction,
        };
        check.error(finding.key, code, finding.message, finding.help);
    }
}

/// The preflight of `check`: how many clips there will be, and how full the disk is when they are there, is not known.
pub fn at_check(config: &LoraTrainer) -> Preflight {
    estimate(config, None, Path::new(""), Ok(u64::MAX), 0)
}

/// The preflight.
pub fn estimate(
    config: &LoraTrainer,
    samples: Option<u64>,
    disk: &Path,
    free_bytes: Result<u64, String>,
    spool_there_bytes: u64,
) -> Preflight {
    let device =
        Device { tflops: config.device_tflops, mfu: config.device_mfu, memory_gb: config.device_memory_gb, count: config.ranks };
    preflight(&Plan {
        preset: config.preset,
        settings: &settings(config),
        model: &Model { architecture: config.architecture, weights: config.weights.clone(), revision: config.revision.clone() },
        shape: &shape(config),
        samples,
        device,
        max_hours: config.max_hours,
        spool_max_bytes: spool_max_bytes(config),
        disk,
        free_bytes,
        spool_there_bytes,
    })
}

/// Largest size of the spool.
pub fn spool_max_bytes(config: &LoraTrainer) -> u64 {
    (config.spool_max_gb * GB) as u64
}

/// Size of the clips.
pub fn shape(config: &LoraTrainer) -> Shape {
    Shape { frames: config.frames, height: config.height, width: config.width, fps: config.fps }
}

/// The model, with paths from the folder `base`.
pub fn model(config: &LoraTrainer, base: &Path) -> Model {
    Model { architecture: config.architecture, weights: full(&config.weights, base), revision: config.revision.clone() }
}

/// How the trainer is run, with paths from the folder `base`.
pub fn conduct(config: &LoraTrainer, base: &Path) -> Conduct {
    Conduct {
        command: config.command.iter().map(|part| full(part, base)).collect(),
        max_restarts: config.max_restarts,
        max_bad_fraction: config.max_bad_fraction,
        heartbeat: Duration::from_secs(config.heartbeat_seconds),
        grace: Duration::from_secs(config.grace_seconds),
        max_garbage_lines: MAX_GARBAGE_LINES,
        max_time: Some(Duration::from_secs_f64(config.max_hours * 3600.0)),
        first_pause: FIRST_PAUSE,
        log_max_bytes: LOG_MAX_BYTES,
        log_files: LOG_FILES,
    }
}

fn is_path(part: &str) -> bool {
    part.starts_with("./") || part.starts_with("../")
}

/// `./` and `../` from `base`; the rest as it is.
fn full(part: &str, base: &Path) -> String {
    if !is_path(part) {
        return part.to_owned();
    }
    let mut out = PathBuf::new();
    for piece in base.join(part).components() {
        match piece {
            std::path::Component::ParentDir => drop(out.pop()),
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

/// That the trainer's program is not on this machine, and what to do.
pub fn missing_program(config: &LoraTrainer, base: &Path) -> Option<(String, String)> {
    let base = std::path::absolute(base).ok()?;
    let program = full(config.command.first()?, &base);
    let runs = |path: &Path| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        let what = format!("there is no program {program}");
        let help = "build or install the trainer, or name it by its path from the pipeline file's folder (`./...`, `../...`)";
        return (!runs(Path::new(&program))).then(|| (what, help.into()));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).any(|folder| runs(&folder.join(&program)));
    let help = "install it, or name it by its path (`/...`, or `./...` from the pipeline file's folder)";
    (!found).then(|| (format!("no program `{program}` is on the PATH"), help.into()))
}
