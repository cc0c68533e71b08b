//! Decides what a digest is: SHA-256 over bytes, written `sha256:` and 64 hexadecimal digits.

use crate::error::Fault;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

/// The name of content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digits alone: the name of a file or folder.
    pub(crate) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if hex.len() != 64 || !hex.bytes().all(is_digit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(Fault::corrupt(format_args!("{text:?} is no digest")));
        };
        if algorithm != "sha256" {
            return Err(Fault::unsupported(format_args!(
                "digests of kind {algorithm:?} are not supported"
            )));
        }
        Self::from_hex(hex).ok_or_else(|| Fault::corrupt(format_args!("{text:?} is no digest")))
    }
}

impl TryFrom<String> for Digest {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Digests bytes on their way.
#[derive(Default)]
pub(crate) struct Hasher {
    hash: Sha256,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// Whether it was the content of this name.
    pub(crate) fn verify(self, expected: &Digest) -> Result<(), Fault> {
        let found = Digest(self.hash.finalize().into());
        if found == *expected {
            return Ok(());
        }
        Err(Fault::corrupt(format_args!(
            "the content has digest {found}, not {expected}"
        )))
    }
}

/// Digests what is read through it.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
        }
    }

    /// Reads the rest, then compares; gives back what was read from.
    pub(crate) fn verify(mut self, expected: &Digest) -> Result<R, Fault> {
        io::copy(&mut self, &mut io::sink())?;
        self.hasher.verify(expected)?;
        Ok(self.inner)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for wrong in ["", "sha256:", "sha256:../../etc", &format!("sha256:{}", "A".repeat(64))] {
            assert!(matches!(wrong.parse::<Digest>(), Err(Fault::Corrupt(_))), "{wrong}");
        }
        let other = format!("sha512:{}", "a".repeat(128));
        assert!(matches!(other.parse::<Digest>(), Err(Fault::Unsupported(_))));
    }
}
