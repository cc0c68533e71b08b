//! What a request target asks for, in the form an app gets it (RFC 9112 §3.2): origin form, byte for byte as it was sent.
//!
//! Which bytes a target may have is decided by one rule: control characters and blanks are refused, since they end a request
//! line for one reader and not for another; everything else passes, since browsers, bots and webhooks send it, and nginx, Go
//! and Node take it (docs/http.md).

use super::authority::is_authority;
use bytes::Bytes;

/// A target that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Path and query, or `*`.
    pub origin: Bytes,
    /// The host of the absolute form.
    pub authority: Option<Bytes>,
}

/// Whether a byte may be part of a target.
pub fn is_target_byte(byte: u8) -> bool {
    !matches!(byte, 0..=b' ' | 0x7f)
}

impl Target {
    /// `is_options` as only `OPTIONS` may ask for `*`. None where the text is no target of a server.
    pub fn parse(text: &Bytes, is_options: bool) -> Option<Self> {
        if !text.iter().all(|byte| is_target_byte(*byte)) {
            return None;
        }
        match text.first()? {
            b'/' => Some(Self::origin(text.clone())),
            b'*' if text.len() == 1 && is_options => Some(Self::origin(text.clone())),
            _ => Self::absolute(text, is_options),
        }
    }

    fn origin(origin: Bytes) -> Self {
        Self {
            origin,
            authority: None,
        }
    }

    /// `http://` and an authority, then perhaps a path and a query. `https` is another service (RFC 9110 §4.2.2): whoever asks a
    /// plain listener for it is mistaken, or tries something.
    fn absolute(text: &Bytes, is_options: bool) -> Option<Self> {
        const SCHEME: &[u8] = b"http://";
        let begins = text.get(..SCHEME.len())?.eq_ignore_ascii_case(SCHEME);
        if !begins {
            return None;
        }
        let rest = text.slice(SCHEME.len()..);
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
            .unwrap_or(rest.len());
        let authority = rest.slice(..end);
        if !is_authority(&authority) {
            return None;
        }
        let origin = match rest.get(end) {
            Some(b'/') => rest.slice(end..),
            // RFC 9112 §3.2.4: the server as a whole is meant.
            None if is_options => Bytes::from_static(b"*"),
            None => Bytes::from_static(b"/"),
            Some(_) => [b"/", &rest[end..]].concat().into(),
        };
        Some(Self {
            origin,
            authority: Some(authority),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static [u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let target = Target::parse(&Bytes::from_static(text), false)?;
        Some((
            target.origin.to_vec(),
            target.authority.map(|authority| authority.to_vec()),
        ))
    }

    #[test]
    fn g8_every_byte_but_controls_and_blanks_passes_as_it_is() {
        for byte in 0..=255_u8 {
            let text = Bytes::from(vec![b'/', byte, b'?', byte]);
            let passes = Target::parse(&text, false).map(|target| target.origin);
            assert_eq!(passes, (byte > b' ' && byte != 0x7f).then_some(text), "{byte:#x}");
        }
    }

    #[test]
    fn g10_the_absolute_form_becomes_the_origin_form() {
        for (text, origin, authority) in [
            (&b"http://a.test/x?y"[..], &b"/x?y"[..], &b"a.test"[..]),
            (b"HTTP://A.test", b"/", b"A.test"),
            (b"http://a.test:80?x", b"/?x", b"a.test:80"),
            (b"http://[::1]:80/", b"/", b"[::1]:80"),
        ] {
            assert_eq!(parse(text), Some((origin.to_vec(), Some(authority.to_vec()))));
        }
        for text in [
            &b"http://"[..],
            b"http:///x",
            b"http://user@a.test/",
            b"http://a.test:99999/",
            b"https://a.test/",
            b"ftp://a.test/",
            b"a.test/",
            b"a.test:80",
            b"*",
            b"",
        ] {
            assert_eq!(parse(text), None, "{}", text.escape_ascii());
        }
        let all = Target::parse(&Bytes::from_static(b"*"), true).map(|target| target.origin);
        assert_eq!(all, Some(Bytes::from_static(b"*")));
    }
}
