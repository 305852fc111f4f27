//! Is a shared library as long as its own header says?
//!
//! Why: the system's loader maps the parts that the header names. If the file is cut short behind them, the first touch ends the process with a bus error,
//! which nothing can catch. What can go wrong: only 64-bit little-endian ELF is understood; everything else is left to the loader.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Length of an ELF header.
const HEADER: usize = 64;
/// Length of a program header.
const ENTRY: usize = 56;
/// A program header of this type is mapped.
const LOAD: u32 = 1;
/// Program headers stand right behind the header; a file whose headers do not fit in here is left to the loader.
const MAX_HEAD: u64 = 64 << 10;

/// Why the file cannot be loaded, if it is cut short.
pub fn cut_short(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.take(MAX_HEAD).read_to_end(&mut head).ok()?;
    let needs = mapped_bytes(&head)?;
    (needs > length).then(|| format!("the file is cut short: it has {length} bytes and needs {needs}"))
}

/// The end of the last mapped part, from the start of a file. `None` if it is not such a file.
fn mapped_bytes(head: &[u8]) -> Option<u64> {
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let part = head.get(at..at.checked_add(bytes)?)?;
        Some(part.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    // Magic, 64 bit, little-endian.
    if head.len() < HEADER || head[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let (start, size, count) = (usize::try_from(number(0x20, 8)?).ok()?, number(0x36, 2)?, number(0x38, 2)?);
    if size != ENTRY as u64 {
        return None;
    }
    let mut end = 0;
    for i in 0..count as usize {
        let at = start.checked_add(i * ENTRY)?;
        if number(at, 4)? == u64::from(LOAD) {
            end = end.max(number(at + 8, 8)?.checked_add(number(at + 0x20, 8)?)?);
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_whole_and_its_half_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let me = std::env::current_exe().unwrap();
        assert_eq!(cut_short(&me), None);
        let bytes = std::fs::read(&me).unwrap();
        let half = folder.path().join("half");
        std::fs::write(&half, &bytes[..bytes.len() / 16]).unwrap();
        if cfg!(target_os = "linux") {
            assert!(cut_short(&half).unwrap().starts_with("the file is cut short"));
        }
    }

    #[test]
    fn other_bytes_are_left_to_the_loader() {
        for head in [&b""[..], b"\x7fELF", &[0; 64], b"hello, this is a text of more than sixty-four bytes, is it not? yes"] {
            assert_eq!(mapped_bytes(head), None);
        }
        let mut odd = vec![0xff; 200];
        odd[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        assert_eq!(mapped_bytes(&odd), None);
    }
}
