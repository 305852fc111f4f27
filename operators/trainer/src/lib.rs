//! LoRA training from committed clips: what a sink needs to drive trainers that are separate programs.
//!
//! Why programs of their own: trainers are Python and CUDA, crash, hang and run out of memory; none of that may touch the engine. They speak one
//! protocol (JSON lines on stdout, exit codes), so any trainer fits that has the three commands `prepare`, `train` and `verify`.
//!
//! | file | does |
//! |---|---|
//! | `event` | what a trainer says, line by line |
//! | `outcome`, `policy`, `watch` | what an ending means, what follows, when a running one is stopped or killed: pure |
//! | `ranks`, `attempt` | processes, and one attempt of them |
//! | `supervise` | a job from its first attempt to its published adapter |
//! | `gates`, `publish` | what an adapter must pass, and how it appears |
//! | `job`, `preset`, `architecture` | `job.json`, settings, what is known of the models |
//! | `rules`, `estimate`, `preflight` | what is looked at before hours are spent |
//! | `spool`, `prepare`, `command_encoder` | encoded clips |
//! | `export` | clips and spools in the forms of other trainers |
//! | `disk`, `rotating` | files as a whole, logs of limited size |

pub mod architecture;
pub mod attempt;
pub mod command_encoder;
pub mod disk;
pub mod estimate;
pub mod event;
pub mod export;
pub mod gates;
pub mod job;
pub mod outcome;
pub mod policy;
pub mod preflight;
pub mod prepare;
pub mod preset;
pub mod publish;
pub mod ranks;
pub mod rotating;
pub mod rules;
pub mod spool;
pub mod supervise;
pub mod watch;

pub use architecture::Architecture;
pub use disk::TrainerError;
pub use job::Job;
pub use preset::Preset;
