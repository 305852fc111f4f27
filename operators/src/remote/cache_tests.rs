//! The cache of answers: what is found, what is removed, and who waits for whom while the folder is looked through.

use std::sync::mpsc::{Receiver, Sender, channel};

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    key: String,
    text: String,
}

impl Keyed for Entry {
    fn key(&self) -> &str {
        &self.key
    }
}

fn entry(n: usize) -> Entry {
    let key = blake3::hash(&n.to_le_bytes()).to_hex().to_string();
    Entry { key, text: format!("{n} {}", "x".repeat(1000)) }
}

#[test]
fn an_answer_is_found_by_another_process_and_a_damaged_one_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    Cache::new(dir.path().join("c"), 1 << 20).put(&entry(1));
    let other = Cache::new(dir.path().join("c"), 1 << 20);
    assert_eq!(other.get(&entry(1).key), Some(entry(1)));
    assert_eq!(other.get::<Entry>(&entry(2).key), None);

    let path = other.path(&entry(1).key);
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"null"] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(other.get::<Entry>(&entry(1).key), None);
    }
    let renamed = other.path(&entry(3).key);
    std::fs::create_dir_all(renamed.parent().unwrap()).unwrap();
    std::fs::write(renamed, whole).unwrap();
    assert_eq!(other.get::<Entry>(&entry(3).key), None, "another key's answer");
}

fn size(cache: &Cache) -> (usize, u64) {
    let files = cache.look_through().unwrap();
    (files.len(), files.iter().map(|f| f.bytes).sum())
}

#[test]
fn the_cache_never_exceeds_its_limit_and_keeps_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().to_path_buf(), 50_000);
    for n in 0..50 {
        cache.put(&entry(n));
        let (files, bytes) = size(&cache);
        assert!(bytes <= 50_000 && files <= 12, "{files} files of a block each: the limit also bounds their number");
    }
    assert_eq!(cache.get(&entry(49).key), Some(entry(49)));
    assert_eq!(cache.get::<Entry>(&entry(0).key), None);
}

#[test]
fn what_another_process_writes_counts_too() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Cache::new(dir.path().to_path_buf(), 1 << 20), Cache::new(dir.path().to_path_buf(), 1 << 20));
    for n in 0..1000 {
        if n % 2 == 0 {
            one.put(&entry(n))
        } else {
            other.put(&entry(n))
        }
        let (_, bytes) = size(&one);
        assert!(bytes <= (1 << 20) / 100 * 112, "{bytes} after {n}: the limit and what two processes write between looks");
    }
}

#[test]
fn what_was_used_lately_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().to_path_buf(), 50_000);
    let year_ago = SystemTime::now() - Duration::from_secs(365 * 86_400);
    for n in 0..12 {
        cache.put(&entry(n));
        let file = std::fs::File::options().append(true).open(cache.path(&entry(n).key)).unwrap();
        file.set_modified(year_ago + Duration::from_secs(n as u64)).unwrap();
    }
    assert_eq!(cache.get(&entry(0).key), Some(entry(0)), "the oldest, but used");
    (12..15).for_each(|n| cache.put(&entry(n)));
    assert_eq!(cache.get(&entry(0).key), Some(entry(0)));
    assert_eq!(cache.get::<Entry>(&entry(1).key), None);
    assert!(cache.warned_of_eviction.load(Ordering::Relaxed));
}

#[test]
fn a_smaller_limit_of_another_pipeline_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let large = Cache::new(dir.path().to_path_buf(), DEFAULT_MAX_BYTES);
    (0..30).for_each(|n| large.put(&entry(n)));
    let small = Cache::new(dir.path().to_path_buf(), 50_000);
    (30..60).for_each(|n| small.put(&entry(n)));
    assert!((0..60).all(|n| small.get(&entry(n).key) == Some(entry(n))));
    assert!(!small.warned_of_eviction.load(Ordering::Relaxed));
    // Whoever really wants less says so.
    std::fs::remove_file(dir.path().join(LIMIT_FILE)).unwrap();
    Cache::new(dir.path().to_path_buf(), 50_000).put(&entry(99));
    assert!(size(&small).0 <= 12);
}

#[test]
fn a_folder_that_cannot_be_written_costs_nothing_but_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let cache = Cache::new(file, 10_000);
    cache.put(&entry(1));
    assert_eq!(cache.get::<Entry>(&entry(1).key), None);
}

/// A cache in a folder of its own whose look-through waits until something is sent, and says when it begins.
fn slow(max_bytes: u64) -> (tempfile::TempDir, Cache, Sender<()>, Receiver<()>) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().to_path_buf(), max_bytes);
    let ((go, wait), (begins, began)) = (channel(), channel());
    let wait = Mutex::new(wait);
    let look = move || {
        begins.send(()).unwrap();
        wait.lock().unwrap().recv_timeout(LONG).unwrap();
    };
    assert!(cache.while_looking.set(Box::new(look)).is_ok());
    (dir, cache, go, began)
}

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn while_one_looks_through_the_folder_the_others_write() {
    let (_dir, cache, go, began) = slow(DEFAULT_MAX_BYTES);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| cache.put(&entry(0)));
        began.recv_timeout(LONG).unwrap();
        // Would never return if they waited for the first: nothing is sent before.
        (1..100).for_each(|n| cache.put(&entry(n)));
        assert!((1..100).all(|n| cache.get(&entry(n).key) == Some(entry(n))));
        assert!(!first.is_finished() && cache.get::<Entry>(&entry(0).key).is_none());
        go.send(()).unwrap();
    });
    assert_eq!(cache.get(&entry(0).key), Some(entry(0)));
    assert!(began.try_recv().is_err(), "one looks, and once");
    let known = cache.size();
    assert!(known.found.unwrap() + known.added >= 100 * BLOCK_BYTES, "what was written meanwhile counts");
}

#[test]
fn no_more_than_a_part_of_the_limit_is_written_while_one_looks() {
    // 5 % are two blocks and a half.
    let (_dir, cache, go, began) = slow(50 * BLOCK_BYTES);
    std::thread::scope(|scope| {
        scope.spawn(|| cache.put(&entry(0)));
        began.recv_timeout(LONG).unwrap();
        (1..3).for_each(|n| cache.put(&entry(n)));
        let third = scope.spawn(|| cache.put(&entry(3)));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!third.is_finished() && cache.get::<Entry>(&entry(3).key).is_none());
        // The first look, and perhaps one of its own by whoever waited.
        (0..2).for_each(|_| go.send(()).unwrap());
    });
    assert!((0..4).all(|n| cache.get(&entry(n).key) == Some(entry(n))));
}

#[test]
fn a_folder_that_is_written_by_many_at_once_stays_near_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let max_blocks = 100;
    let cache = Cache::new(dir.path().to_path_buf(), max_blocks * BLOCK_BYTES);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let cache = &cache;
            scope.spawn(move || (0..100).for_each(|n| cache.put(&entry(thread * 100 + n))));
        }
    });
    let (files, _) = size(&cache);
    // What is counted and not yet there when somebody looks is missed: a block for each of the others.
    let most = max_blocks * (100 + WHILE_LOOKING_PERCENT) / 100 + 8;
    assert!((max_blocks / 2..=most).contains(&(files as u64)), "{files} blocks");
}
