//! A byte-bounded store, least recently used first out: frames and packet times that the next operator on the same clip will ask for again.
//!
//! Eviction only costs time: whatever is gone is decoded again, to the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module's documentation.
pub(crate) struct Store<T> {
    limit: usize,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    entries: HashMap<String, (Arc<T>, usize, u64)>,
    by_age: BTreeMap<u64, String>,
    bytes: usize,
    clock: u64,
}

impl<T> Store<T> {
    /// An empty store of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let inner = Inner { entries: HashMap::new(), by_age: BTreeMap::new(), bytes: 0, clock: 0 };
        Store { limit, inner: Mutex::new(inner) }
    }

    /// The value, which becomes the youngest.
    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        inner.clock += 1;
        let (value, _, age) = inner.entries.get_mut(key)?;
        if let Some(key) = inner.by_age.remove(age) {
            *age = inner.clock;
            inner.by_age.insert(inner.clock, key);
        }
        Some(Arc::clone(value))
    }

    /// Keeps a value that takes `bytes`; one larger than half the store is not kept.
    pub fn put(&self, key: &str, value: Arc<T>, bytes: usize) {
        if bytes > self.limit / 2 {
            return;
        }
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        inner.clock += 1;
        if let Some((_, old, age)) = inner.entries.insert(key.to_owned(), (value, bytes, inner.clock)) {
            inner.bytes -= old;
            inner.by_age.remove(&age);
        }
        inner.by_age.insert(inner.clock, key.to_owned());
        inner.bytes += bytes;
        while inner.bytes > self.limit {
            let Some((_, oldest)) = inner.by_age.pop_first() else { break };
            if let Some((_, size, _)) = inner.entries.remove(&oldest) {
                inner.bytes -= size;
            }
        }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let store = Store::new(100);
        store.put("a", Arc::new(1), 40);
        store.put("b", Arc::new(2), 40);
        assert!(store.get("a").is_some());
        store.put("c", Arc::new(3), 40);
        assert!(store.get("b").is_none());
        assert_eq!((store.get("a").as_deref(), store.get("c").as_deref()), (Some(&1), Some(&3)));
        store.put("huge", Arc::new(4), 51);
        assert!(store.get("huge").is_none());
        store.put("a", Arc::new(5), 10);
        assert_eq!((store.bytes(), store.get("a").as_deref()), (50, Some(&5)));
    }
}
