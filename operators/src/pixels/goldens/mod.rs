//! Golden vectors: what the reference libraries say of the same pixels. Made by `scripts/goldens/*.py`, kept in `operators/tests/goldens`.

pub mod borders;
pub mod measures;
pub mod synthetic;

/// A golden file as JSON.
pub fn read(name: &str) -> serde_json::Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// The CRC-32 of zlib and PNG, bit by bit.
pub fn crc32(bytes: &[u8]) -> u64 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    u64::from(!bytes.iter().fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), step)))
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}
