//! Where rows begin.

pub mod files;
pub mod info_json;
pub mod listing;
pub mod manifest;
pub mod metadata;
pub mod ranged;
pub mod record_columns;
pub mod record_files;
mod record_kept;
pub mod record_lines;
pub mod record_parquet;
pub mod records;
pub mod sidecars;
pub mod videos;
