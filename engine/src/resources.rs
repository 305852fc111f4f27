//! Things that all operators of one process share: the frame store, an HTTP client, a model session.
//!
//! Why a map by type: the engine knows nothing of video, yet operators of different steps must find the same frame store. What can
//! go wrong: two types with the same meaning give two stores; keep the type in one module and export it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the run's tables are, for operators that keep something per output, such as what was spent on it. Empty outside a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputPlace(pub String);

/// A map from type to its one shared value in this process.
#[derive(Default)]
pub struct Resources {
    map: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Resources {
    /// The shared value of type `T`, made by `init` on first use. `init` runs under the lock: keep it short, and never call `get` in it.
    pub fn get<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> Arc<T> {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = map.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(init()));
        match Arc::clone(slot).downcast::<T>() {
            Ok(value) => value,
            Err(_) => unreachable!("keyed by its own type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_per_type() {
        let r = Resources::default();
        assert_eq!(*r.get(|| 5u32), 5);
        assert_eq!(*r.get(|| 6u32), 5);
        assert_eq!(*r.get(|| "a"), "a");
    }
}
