//! What the head of an HTTP/1 request means (RFC 9112 §3, §6, §9): read once, strictly; everything after asks the result.

use super::authority::is_authority;
use super::fields::{Fields, Malformed, Name};
use super::framing::{self, Framing};
use super::refusal::Reason;
use super::target::Target;
use bytes::Bytes;
use http::Method;

/// A request that was understood.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: Method,
    /// As the app gets it.
    pub target: Bytes,
    /// Which host it is for, as it was written; empty for an HTTP/1.0 request that names none.
    pub host: Bytes,
    pub fields: Fields,
    /// Of all of it.
    pub bytes: u64,
    /// HTTP/1.1 or a later 1.x; else 1.0.
    pub is_http_11: bool,
    pub body: Framing,
    /// Whether the client would use the connection again.
    pub keeps: bool,
    /// Whether it asks for a WebSocket.
    pub upgrade: bool,
    /// Whether it waits for a word before it sends its body.
    pub expects_continue: bool,
}

impl Head {
    /// Reads a whole head, up to and including its empty line.
    ///
    /// # Errors
    /// When it must not be passed on.
    pub fn parse(text: Bytes) -> Result<Self, Reason> {
        let end = memchr::memchr(b'\n', &text).ok_or(Reason::BadRequest)?;
        let line = Line::parse(&text, end)?;
        let fields = Fields::parse(text.slice(end + 1..)).map_err(|malformed| match malformed {
            Malformed::Grammar => Reason::BadRequest,
            Malformed::TooMany => Reason::HeaderTooLarge,
        })?;
        if fields.nominates_too_many() {
            return Err(Reason::BadRequest);
        }
        if line.method == Method::CONNECT {
            return Err(Reason::MethodNotAllowed);
        }
        let target = Target::parse(&line.target, line.method == Method::OPTIONS).ok_or(Reason::BadRequest)?;
        let named = host(&text, &fields, line.is_http_11)?;
        let body = framing::of_request(&fields, line.is_http_11).map_err(|_| Reason::BadRequest)?;
        let upgrade = line.is_http_11
            && line.method == Method::GET
            && body == Framing::None
            && fields.lists(Name::Connection, b"upgrade")
            && fields.lists(Name::Upgrade, b"websocket");
        Ok(Self {
            keeps: keeps(&fields, line.is_http_11),
            expects_continue: expects_continue(&fields, line.is_http_11, body)?,
            bytes: text.len() as u64,
            method: line.method,
            target: target.origin,
            // RFC 9112 §3.2.2: the authority of the target is what counts.
            host: target.authority.unwrap_or(named),
            fields,
            is_http_11: line.is_http_11,
            body,
            upgrade,
        })
    }

    /// Whether it may be asked of another sandbox while the first may still act on it: it only reads, and there is no body to have
    /// again.
    pub fn is_hedged(&self) -> bool {
        let reads = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
        reads && self.body == Framing::None && !self.upgrade
    }

    /// For a route lookup; it was checked to be ASCII.
    pub fn host_text(&self) -> &str {
        std::str::from_utf8(&self.host).unwrap_or_default()
    }
}

/// The request line.
struct Line {
    method: Method,
    target: Bytes,
    is_http_11: bool,
}

impl Line {
    /// `end` is where its line feed is.
    fn parse(text: &Bytes, end: usize) -> Result<Self, Reason> {
        let line = text[..end].strip_suffix(b"\r").ok_or(Reason::BadRequest)?;
        let method_end = memchr::memchr(b' ', line).ok_or(Reason::BadRequest)?;
        let version_begin = memchr::memrchr(b' ', line).ok_or(Reason::BadRequest)? + 1;
        let target = text.get(method_end + 1..version_begin - 1).ok_or(Reason::BadRequest)?;
        let method = Method::from_bytes(&line[..method_end]).map_err(|_| Reason::BadRequest)?;
        Ok(Self {
            method,
            target: text.slice_ref(target),
            is_http_11: is_http_11(&line[version_begin..])?,
        })
    }
}

/// A later minor version is one of ours too (RFC 9110 §2.5).
fn is_http_11(version: &[u8]) -> Result<bool, Reason> {
    match version {
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Ok(true),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Reason::VersionNotSupported),
        _ => Err(Reason::BadRequest),
    }
}

/// What `Host` says: exactly one, which could be one; HTTP/1.0 needs none.
fn host(text: &Bytes, fields: &Fields, is_http_11: bool) -> Result<Bytes, Reason> {
    match (fields.only(Name::Host), fields.all(Name::Host).next()) {
        (Some(only), _) if is_authority(only) => Ok(text.slice_ref(only)),
        (None, None) if !is_http_11 => Ok(Bytes::new()),
        _ => Err(Reason::BadRequest),
    }
}

/// RFC 9112 §9.3.
fn keeps(fields: &Fields, is_http_11: bool) -> bool {
    !fields.lists(Name::Connection, b"close") && (is_http_11 || fields.lists(Name::Connection, b"keep-alive"))
}

/// RFC 9110 §10.1.1: another expectation cannot be met; one without a body is none.
fn expects_continue(fields: &Fields, is_http_11: bool, body: Framing) -> Result<bool, Reason> {
    let mut expected = fields.all(Name::Expect);
    match (expected.next(), expected.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => Ok(is_http_11 && body != Framing::None),
        _ => Err(Reason::ExpectationFailed),
    }
}

#[cfg(test)]
mod tests;
