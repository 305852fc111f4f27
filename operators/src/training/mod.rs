//! From tables of clips to trainers: what the sink `lora_trainer` and the verb `export` share.
//!
//! | file | does |
//! |---|---|
//! | `rows` | reads a table of clips, one clip's bytes at a time |
//! | `export` | clips and spools in the forms of other trainers |
//! | `settings` | keys of the pipeline to a job, and what is wrong with them |
//! | `feed` | clips of a table to the trainer's `prepare` |
//! | `work` | what is done after the last commit: prepare, train, publish |

pub mod export;
pub mod feed;
pub mod rows;
pub mod settings;
pub mod work;
