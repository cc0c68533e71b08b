//! What a client gets of an app's answer: its head read strictly, and adapted to who gets it (RFC 9110 §15, RFC 9112 §4, §6).

use super::fields::{Field, Fields, Name, without_end};
use super::forward::{field, number};
use super::framing::{self, Framing};
use super::head::Head;
use super::id::{REQUEST_ID, RequestId};
use bytes::Bytes;
use http::{Method, StatusCode};

/// The head of an answer, understood.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Behind the version, as it was written.
    line: Bytes,
    pub fields: Fields,
    is_http_11: bool,
    /// Of the body that follows.
    pub body: Framing,
}

/// It is no answer that a client could be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Answer {
    /// Reads a whole head, up to and including its empty line.
    ///
    /// # Errors
    /// When two readers could take it for two things.
    pub fn parse(text: &Bytes, asked: &Head) -> Result<Self, Unreadable> {
        let end = memchr::memchr(b'\n', text).ok_or(Unreadable)?;
        let (status, is_http_11, line) = status_line(&text[..end]).ok_or(Unreadable)?;
        let fields = Fields::parse_of_app(text.slice(end + 1..)).map_err(|_| Unreadable)?;
        if fields.nominates_too_many() {
            return Err(Unreadable);
        }
        let has_body = has_body(status, &asked.method);
        let body = framing::of_answer(&fields, is_http_11, has_body).map_err(|_| Unreadable)?;
        Ok(Self {
            status,
            line: text.slice_ref(line),
            fields,
            is_http_11,
            body,
        })
    }

    /// More will come before the answer itself (RFC 9110 §15.2).
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// Whether the connection it came on may carry another request, as far as the app says.
    pub fn keeps(&self) -> bool {
        let wishes = match self.is_http_11 {
            true => !self.fields.lists(Name::Connection, b"close"),
            false => self.fields.lists(Name::Connection, b"keep-alive"),
        };
        // Two readers could disagree about what had both.
        let is_clear = self.body != Framing::Chunked || self.fields.all(Name::ContentLength).next().is_none();
        wishes && is_clear && self.body != Framing::UntilClose && !self.announces_what_cannot_be()
    }

    /// A body where its status allows none: it may follow all the same.
    fn announces_what_cannot_be(&self) -> bool {
        let codings = self.fields.all(Name::TransferEncoding).next().is_some();
        let has_length = self.fields.all(Name::ContentLength).any(|length| length != b"0");
        match self.status {
            StatusCode::NO_CONTENT => codings || has_length,
            StatusCode::NOT_MODIFIED => codings,
            _ => false,
        }
    }

    /// Whether it says that what there is of it is to be passed on at once.
    pub fn is_stream(&self) -> bool {
        let says = |field: Field<'_>| {
            let begins = |text: &[u8]| {
                field
                    .value
                    .get(..text.len())
                    .is_some_and(|value| value.eq_ignore_ascii_case(text))
            };
            let is_events = field.key.eq_ignore_ascii_case(b"content-type") && begins(b"text/event-stream");
            is_events || (field.key.eq_ignore_ascii_case(b"x-accel-buffering") && begins(b"no"))
        };
        self.fields.iter().any(says)
    }

    /// Whether it is the upgrade that was asked for.
    pub fn switches(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS && self.fields.lists(Name::Upgrade, b"websocket")
    }

    /// How its body is delimited for the client that asked.
    pub fn framing_for(&self, asked: &Head) -> Framing {
        match self.body {
            Framing::Chunked | Framing::UntilClose if asked.is_http_11 => Framing::Chunked,
            Framing::Chunked | Framing::UntilClose => Framing::UntilClose,
            other => other,
        }
    }

    /// Writes the head as its client gets it. `keeps` says whether the client's connection stays open after it.
    pub fn write_head(&self, out: &mut Vec<u8>, asked: &Head, id: &RequestId, keeps: bool) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&self.line);
        out.extend_from_slice(b"\r\n");
        let nominated = self.fields.nominated();
        // Only chunks have trailers behind them.
        let has_trailers = self.framing_for(asked) == Framing::Chunked;
        for passed in self.fields.iter() {
            let passes = match passed.name {
                Name::Connection
                | Name::ContentLength
                | Name::TransferEncoding
                | Name::Upgrade
                | Name::Te
                | Name::RequestId
                | Name::Hop => false,
                Name::Trailer => has_trailers,
                _ => true,
            };
            if passes && !nominated.has(passed.key) {
                field(out, passed.key, passed.value);
            }
        }
        field(out, REQUEST_ID.as_bytes(), id.as_bytes());
        if self.switches() {
            field(out, b"Connection", b"upgrade");
            field(out, b"Upgrade", b"websocket");
        } else if !self.is_interim() {
            self.frame(out, asked);
            persist(out, asked.is_http_11, keeps);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn frame(&self, out: &mut Vec<u8>, asked: &Head) {
        match self.framing_for(asked) {
            Framing::Chunked => field(out, b"Transfer-Encoding", b"chunked"),
            Framing::Length(length) => number(out, b"Content-Length", length),
            Framing::UntilClose => {}
            // What a body would have had: for HEAD and 304 the app knows, and a 204 has none (RFC 9110 §8.6).
            Framing::None if self.status == StatusCode::NO_CONTENT => {}
            Framing::None => {
                if let Some(length) = self.fields.all(Name::ContentLength).next() {
                    let length = length.split(|byte| *byte == b',').next().unwrap_or_default();
                    field(out, b"Content-Length", super::fields::trim(length));
                }
            }
        }
    }
}

/// Says whether the connection stays open, where its client would not know (RFC 9112 §9.3).
pub fn persist(out: &mut Vec<u8>, is_http_11: bool, keeps: bool) {
    match (is_http_11, keeps) {
        (true, true) => {}
        (false, true) => field(out, b"Connection", b"keep-alive"),
        (_, false) => field(out, b"Connection", b"close"),
    }
}

/// RFC 9112 §6.3.
fn has_body(status: StatusCode, asked: &Method) -> bool {
    let none = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !none && *asked != Method::HEAD
}

/// Status, whether it is HTTP/1.1, and everything behind the version. A reason may be missing, also with its blank.
fn status_line(line: &[u8]) -> Option<(StatusCode, bool, &[u8])> {
    let line = without_end(line, true)?;
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [minor @ b'0'..=b'9', b' ', behind @ ..] = rest else {
        return None;
    };
    let (code, reason) = behind.split_at_checked(3)?;
    let status = StatusCode::from_bytes(code).ok()?;
    let is_reason = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
    let fits = reason.is_empty() || (reason[0] == b' ' && reason.iter().all(is_reason));
    fits.then_some((status, *minor != b'0', behind))
}

#[cfg(test)]
mod tests;
