//! Steps of the pool `decode` in child processes, so that a crash or a hang of a decoder library costs one row and not the run.
//!
//! Why processes: a library that writes where it must not, or never returns, cannot be contained by a thread. A child is this same program with a
//! hidden verb; it serves any step, one task at a time, and lives until the run ends, it dies, or it is killed because it does not answer.
//!
//! | module | what |
//! |---|---|
//! | [`wire`] | how rows and answers cross a pipe |
//! | [`child`] | the child's side: builds operators, answers |
//! | [`running`] | one child as its parent sees it: asked with a deadline, killed and reaped |
//! | [`transform`] | the operator that asks a child instead; what becomes of the rows of a lost one |
//! | [`fault`] | poison for tests: a row that crashes or hangs whoever works on it |
//!
//! What can go wrong: models are loaded once per child, and frames are shared within a child only, so that this costs memory and some decoding.

pub mod child;
mod fault;
mod running;
mod transform;
mod wire;

pub(crate) use fault::Poisonable;
pub(crate) use transform::{Children, Isolated};
