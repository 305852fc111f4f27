//! Heads as ONNX files, in both directions.
//!
//! Why: others score with ONNX Runtime, and heads trained elsewhere come as ONNX. What is written is a chain of a few standard operators; what is read is
//! such a chain and nothing more, because a head is scored without a runtime. [`messages`] has the parts of the format that heads need.

pub mod export;
pub mod import;
pub mod messages;

#[cfg(test)]
mod tests;
