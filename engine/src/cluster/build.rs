//! Which build of curette a process is. Members of one cluster must be the same: timely matches channels by the order in which they were made.

use std::fs::File;
use std::sync::OnceLock;

/// Digits of the hash that are told: enough to tell builds apart.
const DIGITS: usize = 16;

/// The version, and a hash of the executable where it can be read.
pub fn this_build() -> &'static str {
    static BUILD: OnceLock<String> = OnceLock::new();
    BUILD.get_or_init(|| {
        let version = env!("CARGO_PKG_VERSION");
        let Some(hash) = executable().and_then(|file| hash(&file)) else { return version.to_owned() };
        format!("{version} {}", &hash[..DIGITS])
    })
}

/// The file that this process was started from, also when another one stands in its place by now.
fn executable() -> Option<File> {
    File::open("/proc/self/exe").ok().or_else(|| File::open(std::env::current_exe().ok()?).ok())
}

fn hash(file: &File) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).ok()?;
    Some(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_a_version_and_a_hash() {
        let (version, hash) = this_build().split_once(' ').unwrap();
        assert_eq!((version, hash.len()), (env!("CARGO_PKG_VERSION"), DIGITS));
        assert_eq!(this_build(), this_build());
    }
}
