//! Models are data: manifests, the store of their files, and inference on an ONNX Runtime that is loaded at run time.
//!
//! | module | does |
//! |---|---|
//! | [`manifest`] | what a model is: files, hashes, licence, contract, preprocessing, score scale and direction |
//! | [`store`] | where its files are: content-addressed blobs, the lock file, downloads (never during a run) |
//! | [`library`] | finds and loads ONNX Runtime's shared library; every failure is a message |
//! | [`session`] | one session, checked against the manifest's contract |
//! | [`service`] | [`Models`] opens models; [`Model`] runs tensors on a bounded pool of sessions |
//! | [`batches`] | which rows go into one batch: pure |
//! | [`text`], [`image`] | text and image embeddings on top of it |
//! | [`doctor`] | what this machine has, as data |
//!
//! An operator needs four lines: [`ModelRef::parse`] of its TOML string, [`Models::find`] in `check` (no library needed),
//! [`Models::text_encoder`] or [`Models::image_encoder`] or [`Models::open`] in `build`, and `embed` or `run` for its rows.
//!
//! What can go wrong: everything here returns a [`ModelError`] that says what, where and what to do. `run` never downloads.

pub mod batches;
pub mod doctor;
pub mod error;
pub mod image;
mod lend;
pub mod library;
pub mod manifest;
pub mod reference;
pub mod service;
pub mod session;
pub mod settings;
pub mod store;
pub mod tensor;
pub mod text;

pub use error::{ErrorKind, ModelError};
pub use image::ClipImageEncoder;
pub use manifest::Manifest;
pub use reference::ModelRef;
pub use service::{Model, ModelIdentity, Models};
pub use settings::{Provider, RunSettings, Settings};
pub use store::{FileRole, Located};
pub use tensor::Tensor;
pub use text::TextEncoder;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;
