//! What is looked at before hours are spent: rules, sizes, disk, memory and days, in seconds.
//!
//! Everything that is wrong is told at once, with what to do. Nothing is encoded and no process is started here.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::estimate::{Device, Estimate, estimate};
use crate::job::{Model, Shape};
use crate::preset::{Preset, Settings};
use crate::rules;

/// Up to this share of a device's memory each device holds a model of its own; beyond, the model is dealt out.
const DDP_SHARE: f64 = 0.85;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Note,
    /// It runs, but perhaps not as meant.
    Warning,
    /// It will not run.
    Error,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The key that it is about.
    pub key: Option<&'static str>,
    /// What.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// How the model lies on the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// A model on each.
    Ddp,
    /// Dealt out block by block.
    Fsdp2,
}

/// All that is looked at.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Which settings were named.
    pub preset: Preset,
    /// What came of them.
    pub settings: &'a Settings,
    /// The model.
    pub model: &'a Model,
    /// Size of the clips.
    pub shape: &'a Shape,
    /// Clips; `None`: not known yet, since they are still to be made.
    pub samples: Option<u64>,
    /// The machine.
    pub device: Device,
    /// Longest time, in hours.
    pub max_hours: f64,
    /// Largest spool, in bytes.
    pub spool_max_bytes: u64,
    /// The folder of spool and checkpoints, for messages.
    pub disk: &'a Path,
    /// Bytes that are free there (`disk::free_bytes`), or why that is not known.
    pub free_bytes: Result<u64, String>,
    /// Bytes of the spool that are there already.
    pub spool_there_bytes: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preflight {
    /// The arithmetic.
    pub estimate: Estimate,
    /// Clips, as far as they are known.
    pub samples: Option<u64>,
    /// What follows from the memory.
    pub strategy: Strategy,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

/// Looks at all of it.
pub fn preflight(plan: &Plan<'_>) -> Preflight {
    let architecture = plan.model.architecture;
    let estimate = estimate(architecture, plan.shape, plan.settings, plan.samples.unwrap_or(0), &plan.device);
    let mut found = Found(Vec::new());
    for (key, message) in plan.settings.mistakes() {
        found.add(Level::Error, Some(key), message, None);
    }
    for (key, message, help) in rules::check_shape(architecture, plan.shape) {
        found.add(Level::Error, Some(key), message, Some(help));
    }
    if let Err(why) = plan.settings.accumulation(plan.device.count) {
        let help = "change `global_batch`, `micro_batch` or `ranks`";
        found.add(Level::Error, Some("global_batch"), why, Some(help.into()));
    }
    if plan.samples == Some(0) {
        found.add(Level::Error, None, "there are no clips to train on".into(), None);
    }
    let strategy = memory(plan, &estimate, &mut found);
    time(plan, &estimate, &mut found);
    disk_space(plan, &estimate, &mut found);
    for sentence in plan.preset.inert() {
        found.add(Level::Note, Some("preset"), format!("paper_code: {sentence}"), None);
    }
    found.0.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Preflight { estimate, samples: plan.samples, strategy, findings: found.0 }
}

struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, level: Level, key: Option<&'static str>, message: String, help: Option<String>) {
        self.0.push(Finding { level, key, message, help });
    }
}

fn memory(plan: &Plan<'_>, estimate: &Estimate, found: &mut Found) -> Strategy {
    let has = plan.device.memory_gb;
    if estimate.memory_gb <= DDP_SHARE * has {
        return Strategy::Ddp;
    }
    if estimate.memory_sharded_gb > has {
        let message = format!(
            "about {:.0} GB of memory are needed on each device, with the model dealt out over {}; it has {has:.0} GB",
            estimate.memory_sharded_gb, plan.device.count
        );
        let help = "use fewer frames, smaller pictures, micro_batch = 1 or more devices".into();
        found.add(Level::Error, Some("device_memory_gb"), message, Some(help));
    }
    Strategy::Fsdp2
}

fn time(plan: &Plan<'_>, estimate: &Estimate, found: &mut Found) {
    let hours = estimate.days * 24.0;
    if hours > plan.max_hours {
        let message = format!(
            "about {hours:.0} hours ({:.1} days) are needed on {} devices of {} TFLOPS at {:.0} % of their peak; max_hours is {}",
            estimate.days,
            plan.device.count,
            plan.device.tflops,
            plan.device.mfu * 100.0,
            plan.max_hours
        );
        let help = "use fewer steps, fewer frames or smaller pictures, or raise `max_hours`".into();
        found.add(Level::Error, Some("max_hours"), message, Some(help));
    }
}

fn disk_space(plan: &Plan<'_>, estimate: &Estimate, found: &mut Found) {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    if estimate.spool_bytes > plan.spool_max_bytes {
        let message = format!(
            "the spool will take about {:.1} GB, spool_max_gb is {:.1}",
            gb(estimate.spool_bytes),
            gb(plan.spool_max_bytes)
        );
        found.add(Level::Error, Some("spool_max_gb"), message, Some("raise it, or take fewer or smaller clips".into()));
    }
    let needed = estimate.spool_bytes.saturating_sub(plan.spool_there_bytes).saturating_add(estimate.checkpoint_bytes);
    match &plan.free_bytes {
        Ok(free) if *free < needed => {
            let message = format!(
                "about {:.1} GB are needed on the disk of {} (spool {:.1}, checkpoints {:.1}), {:.1} GB are free",
                gb(needed),
                plan.disk.display(),
                gb(estimate.spool_bytes.saturating_sub(plan.spool_there_bytes)),
                gb(estimate.checkpoint_bytes),
                gb(*free)
            );
            let help = "make room, name a folder on another disk, or keep fewer checkpoints (`keep_every`)".into();
            found.add(Level::Error, Some("output"), message, Some(help));
        }
        Ok(_) => {}
        Err(e) => found.add(Level::Warning, Some("output"), format!("the free space is not known: {e}"), None),
    }
}

impl Preflight {
    /// Something will not run.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|f| f.level == Level::Error)
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.estimate;
        writeln!(f, "tokens of a sample      {}", e.tokens)?;
        writeln!(f, "operations of a sample  {:.2} PFLOP", e.flop_per_sample / 1e15)?;
        writeln!(f, "all operations          {:.2e}", e.flop)?;
        writeln!(f, "time                    {:.1} hours ({:.1} days)", e.days * 24.0, e.days)?;
        match self.samples {
            Some(samples) => writeln!(f, "passes over the clips   {:.1} (clips: {samples})", e.epochs)?,
            None => writeln!(f, "passes over the clips   not known yet")?,
        }
        let strategy = match self.strategy {
            Strategy::Ddp => "a model on each device (DDP)",
            Strategy::Fsdp2 => "the model dealt out (FSDP2)",
        };
        writeln!(f, "memory of a device      {:.1} GB, dealt out {:.1} GB: {strategy}", e.memory_gb, e.memory_sharded_gb)?;
        let spool = match self.samples {
            Some(_) => format!("spool {:.1} GB, ", e.spool_bytes as f64 / 1e9),
            None => String::new(),
        };
        writeln!(f, "disk                    {spool}checkpoints {:.1} GB", e.checkpoint_bytes as f64 / 1e9)?;
        for finding in &self.findings {
            let level = match finding.level {
                Level::Error => "error",
                Level::Warning => "warning",
                Level::Note => "note",
            };
            let key = finding.key.map(|key| format!("{key}: ")).unwrap_or_default();
            let help = finding.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            writeln!(f, "{level}: {key}{}{help}", finding.message)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;

    const DEVICE: Device = Device { tflops: 312.0, mfu: 0.45, memory_gb: 80.0, count: 8 };

    fn plan(preset: Preset, architecture: Architecture, change: impl FnOnce(&mut Plan<'_>)) -> Preflight {
        let settings = preset.settings();
        let model = Model { architecture, weights: "w".into(), revision: String::new() };
        let shape = Shape { frames: 93, height: 480, width: 848, fps: 24.0 };
        let mut plan = Plan {
            preset,
            settings: &settings,
            model: &model,
            shape: &shape,
            samples: Some(100),
            device: DEVICE,
            max_hours: 5000.0,
            spool_max_bytes: 1 << 40,
            disk: Path::new("/data"),
            free_bytes: Ok(1 << 40),
            spool_there_bytes: 0,
        };
        change(&mut plan);
        preflight(&plan)
    }

    fn of(change: impl FnOnce(&mut Plan<'_>)) -> Preflight {
        plan(Preset::PaperCode, Architecture::Hunyuan, change)
    }

    #[test]
    fn the_papers_setting_is_told_its_price_and_what_is_inert() {
        let papers = of(|plan| plan.max_hours = 72.0);
        assert!(papers.has_errors());
        insta::assert_snapshot!(papers);
    }

    #[test]
    fn each_limit_is_an_error_of_its_own() {
        let errors = |p: &Preflight| p.findings.iter().filter(|f| f.level == Level::Error).map(|f| f.key).collect::<Vec<_>>();
        assert_eq!(errors(&of(|_| {})), []);
        assert_eq!(errors(&of(|plan| plan.samples = Some(0))), [None]);
        assert_eq!(errors(&of(|plan| plan.spool_max_bytes = 1 << 20)), [Some("spool_max_gb")]);
        assert_eq!(errors(&of(|plan| plan.device.count = 3)), [Some("global_batch"), Some("max_hours")]);
        assert_eq!(errors(&of(|plan| plan.device.memory_gb = 12.0)), [Some("device_memory_gb")]);
        let wide = of(|plan| plan.device.memory_gb = 40.0);
        assert_eq!((errors(&wide), wide.strategy), (vec![], Strategy::Fsdp2));
        let crowded = of(|plan| plan.free_bytes = Ok(10 << 30));
        assert_eq!(errors(&crowded), [Some("output")]);
        let unknown = of(|plan| plan.free_bytes = Err("no such folder".into()));
        assert!(!unknown.has_errors() && unknown.findings[0].level == Level::Warning, "{unknown}");
        let settings = Settings { keep_every: 0, rank: u32::MAX, ..Preset::PaperCode.settings() };
        let unknown = of(|plan| plan.samples = None);
        assert!(!unknown.has_errors() && unknown.to_string().contains("passes over the clips   not known yet"), "{unknown}");
        let absurd = of(|plan| {
            plan.settings = Box::leak(Box::new(settings));
            plan.shape = Box::leak(Box::new(Shape { frames: u64::MAX, height: u64::MAX, width: u64::MAX, fps: 0.0 }));
        });
        assert!(absurd.has_errors(), "and no panic");
        let dropped = plan(Preset::Custom, Architecture::Mochi, |_| {});
        assert_eq!(errors(&dropped), [Some("frames")]);
    }
}
