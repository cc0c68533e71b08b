//! The id of a request: what logs of proxy and app are put together by.

use super::fields::{Fields, Name};
use bytes::Bytes;
use std::fmt;

/// Name of the field that carries it, to the app and to the client.
pub const REQUEST_ID: &str = "X-Request-Id";
/// Longest id that is taken over from a trusted peer.
const MOST_BYTES: usize = 128;

/// A value that needs no escaping in a header field, in HTML or in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestId {
    /// 128 random bits in hexadecimal.
    New([u8; 32]),
    /// As a trusted peer said.
    Taken(Bytes),
}

impl RequestId {
    pub fn new() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bits = rand::random::<u128>();
        let mut text = [b'0'; 32];
        for digit in &mut text {
            *digit = DIGITS[(bits & 15) as usize];
            bits >>= 4;
        }
        Self::New(text)
    }

    /// The one a request brings along if its peer is trusted and it is one; else a new one.
    pub fn of(fields: &Fields, trusted: bool) -> Self {
        let brought = fields.only(Name::RequestId).filter(|id| trusted && is_id(id));
        brought.map_or_else(Self::new, |id| Self::Taken(Bytes::copy_from_slice(id)))
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::New(text) => text,
            Self::Taken(text) => text,
        }
    }

    pub fn as_str(&self) -> &str {
        // Both kinds are ASCII.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

fn is_id(text: &[u8]) -> bool {
    let allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/' | b'=' | b'+');
    (1..=MOST_BYTES).contains(&text.len()) && text.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_from_trusted_peers_only() {
        let fields = |id: &str| Fields::parse(Bytes::from(format!("X-Request-Id: {id}\r\n\r\n"))).unwrap();
        assert_eq!(RequestId::of(&fields("theirs-1"), true).as_str(), "theirs-1");
        let new = RequestId::of(&fields("theirs-1"), false);
        assert_eq!(new.as_str().len(), 32);
        assert_ne!(new, RequestId::of(&fields("theirs-1"), false));
        assert_ne!(RequestId::of(&fields("<script>"), true).as_str(), "<script>");
    }
}
