//! The media plane as operators see it: everything of [`curette_media`], the plane of this process, and its errors as problems of a row.

use std::sync::Arc;

use curette_engine::budget::MemoryLimit;
use curette_engine::operator::Task;
use curette_engine::resources::Resources;
use curette_engine::verdict::Problem;

pub use curette_media::*;

/// The plane of this process.
pub fn plane(resources: &Resources) -> Arc<MediaPlane> {
    // The engine put the limit there before any operator was built; `get` must not be called inside `get`.
    let MemoryLimit(shares) = *resources.get(MemoryLimit::default);
    let bytes = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
    resources.get(|| match shares {
        Some(shares) => MediaPlane::of_bytes(bytes(shares.frames), bytes(shares.packets), bytes(shares.blocks)),
        None => MediaPlane::default(),
    })
}

/// The plane for the rows of a task.
pub fn plane_of(task: &Task) -> Arc<MediaPlane> {
    plane(task.resources)
}

/// An error of the plane as the problem of a row: same code, same message.
pub fn problem(e: MediaError) -> Problem {
    Problem::new(e.code, e.message)
}

#[cfg(test)]
pub(crate) mod tests;
