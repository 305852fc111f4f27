//! Heads: small models on top of embeddings. Nothing here knows of videos, tables or Arrow.
//!
//! | module | what |
//! |---|---|
//! | [`head`], [`format`](mod@format) | what a head is, how it scores; the safetensors file |
//! | [`encoder`] | which encoder a head belongs to |
//! | [`train`], [`report`] | from labelled embeddings to a head and what it came to |
//! | [`samples`], [`split`] | the labelled embeddings; which groups train, validate and test |
//! | [`logistic`], [`lbfgs`] | the fit |
//! | [`platt`], [`threshold`], [`metrics`] | calibration, the decision, how good it is |
//! | [`onnx`], [`laion`] | heads of others, and ours for others |
//!
//! Why a crate of its own: it is plain numbers, so it builds in seconds and is measured without the rest.

pub mod encoder;
pub mod format;
pub mod head;
pub mod laion;
pub mod lbfgs;
pub mod logistic;
pub mod metrics;
pub mod onnx;
pub mod platt;
pub mod report;
pub mod samples;
pub mod split;
#[doc(hidden)]
pub mod synthetic;
pub mod threshold;
pub mod train;

pub use encoder::Encoder;
pub use head::Head;
