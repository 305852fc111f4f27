//! The secret that the members of a cluster share: from a file or an environment variable, never from the command line, which everybody can read.
//!
//! What can go wrong: a secret that can be guessed. Who has listened to one handshake can try guesses at home, so short ones are refused.

use std::fmt;
use std::io::Read;
use std::path::Path;

use super::ClusterError;

/// Fewer characters can be guessed.
pub const MIN_SECRET_CHARACTERS: usize = 16;

/// More are no secret but a wrong file.
const MAX_SECRET_BYTES: u64 = 4096;

/// How to make one.
const HOW: &str = "make one with `openssl rand -hex 32`";

/// A shared secret. Never printed.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret, whatever it is.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Takes a secret that somebody chose; `from` says in messages where it stands. White space around it does not count.
    pub fn parse(text: &str, from: &str) -> Result<Secret, ClusterError> {
        let text = text.trim();
        match text.chars().count() {
            0 => Err(ClusterError::BadMembers(format!("the secret in {from} is empty; {HOW}"))),
            n if n < MIN_SECRET_CHARACTERS => Err(ClusterError::BadMembers(format!(
                "the secret in {from} has {n} characters and could be guessed; it must have at least {MIN_SECRET_CHARACTERS}, {HOW}"
            ))),
            _ => Ok(Secret(text.to_owned())),
        }
    }

    /// Reads a file that holds a secret and nothing else.
    pub fn from_file(file: &Path) -> Result<Secret, ClusterError> {
        let bad = |why: String| ClusterError::BadMembers(format!("the secret cannot be read from {}: {why}", file.display()));
        let open = std::fs::File::open(file).map_err(|e| bad(e.to_string()))?;
        let mut text = String::new();
        open.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
        if text.len() as u64 > MAX_SECRET_BYTES {
            return Err(bad(format!("it has more than {MAX_SECRET_BYTES} bytes; is it the right file?")));
        }
        Secret::parse(&text, &file.display().to_string())
    }

    /// 256 bits from the operating system.
    pub(super) fn random() -> std::io::Result<Secret> {
        let mut bytes = [0u8; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Secret(blake3::Hash::from_bytes(bytes).to_hex().to_string()))
    }

    pub(super) fn key(&self) -> [u8; 32] {
        blake3::derive_key("curette cluster handshake 1", self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*********")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_a_secret_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Secret::from_file(&file).map_err(|e| e.to_string().replace(&file.display().to_string(), "FILE"))
        };
        assert_eq!(read("  0123456789abcdef\n").unwrap(), Secret::new("0123456789abcdef"));
        insta::assert_snapshot!(read("\n").unwrap_err(), @"the description of the cluster is wrong: the secret in FILE is empty; make one with `openssl rand -hex 32`");
        let short = read("hunter2").unwrap_err();
        insta::assert_snapshot!(short, @"the description of the cluster is wrong: the secret in FILE has 7 characters and could be guessed; it must have at least 16, make one with `openssl rand -hex 32`");
        assert!(read(&"x".repeat(5000)).unwrap_err().contains("it has more than 4096 bytes"));
        std::fs::remove_file(&file).unwrap();
        assert!(Secret::from_file(&file).unwrap_err().to_string().contains("No such file"));
    }
}
