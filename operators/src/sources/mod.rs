//! Where rows begin.

pub mod files;
pub mod info_json;
pub mod listing;
pub mod manifest;
pub mod metadata;
pub mod sidecars;
pub mod videos;
