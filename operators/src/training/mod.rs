//! From tables of clips to trainers: what the sink `lora_trainer` and the verb `export` share.
//!
//! | file | does |
//! |---|---|
//! | `rows` | reads a table of clips, one clip's bytes at a time |
//! | `export` | clips and spools in the forms of other trainers |

pub mod export;
pub mod rows;
