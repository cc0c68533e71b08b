//! What the proxy's own answers look like: status, code, and a body in the form the client prefers.

use super::answer::persist;
use super::fields::{Fields, Name, tokens, trim};
use super::forward::{display, field, number};
use super::id::{REQUEST_ID, RequestId};
use super::refusal::{Reason, Refusal};
use http::StatusCode;

/// Field that tells why the proxy answered itself.
const ERROR: &str = "X-Miren-Error";

/// Whom an answer is for.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'r> {
    pub id: &'r RequestId,
    /// What was asked with; none where no head was understood.
    pub fields: Option<&'r Fields>,
    pub is_http_11: bool,
    /// It asked for the head alone.
    pub head_only: bool,
    /// Whether the connection stays open.
    pub keeps: bool,
}

/// Writes an answer in the place of an app.
pub fn refuse(out: &mut Vec<u8>, refusal: &Refusal, reader: &Reader<'_>) {
    let form = reader.fields.map_or(Form::Text, Form::preferred);
    begin(out, refusal.reason.status());
    field(out, ERROR.as_bytes(), refusal.reason.code().as_bytes());
    if refusal.reason == Reason::MethodNotAllowed {
        field(out, b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    if let Some(seconds) = refusal.retry_after {
        number(out, b"Retry-After", seconds);
    }
    end(out, form, &form.body(refusal, reader.id), reader);
}

/// Writes a plain text of our own.
pub fn text(out: &mut Vec<u8>, body: &str, reader: &Reader<'_>) {
    begin(out, 200);
    end(out, Form::Text, body, reader);
}

fn begin(out: &mut Vec<u8>, status: u16) {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    out.extend_from_slice(b"HTTP/1.1 ");
    display(out, status);
    out.extend_from_slice(b"\r\n");
}

fn end(out: &mut Vec<u8>, form: Form, body: &str, reader: &Reader<'_>) {
    field(out, REQUEST_ID.as_bytes(), reader.id.as_bytes());
    field(out, b"Content-Type", form.content_type().as_bytes());
    number(out, b"Content-Length", body.len() as u64);
    field(out, b"Cache-Control", b"no-store");
    persist(out, reader.is_http_11, reader.keeps);
    out.extend_from_slice(b"\r\n");
    if !reader.head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

/// In which form a client wants to read why it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Html,
    Text,
}

impl Form {
    fn preferred(fields: &Fields) -> Self {
        for range in fields.all(Name::Accept).flat_map(tokens) {
            match trim(range.split(|byte| *byte == b';').next().unwrap_or_default()) {
                b"application/json" | b"application/problem+json" => return Self::Json,
                b"text/html" | b"application/xhtml+xml" => return Self::Html,
                b"text/plain" => return Self::Text,
                _ => {}
            }
        }
        Self::Text
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    /// An id needs no escaping in any form.
    fn body(self, refusal: &Refusal, id: &RequestId) -> String {
        let (code, text) = (refusal.reason.code(), refusal.text());
        match self {
            Self::Json => {
                let error =
                    serde_json::json!({ "error": { "code": code, "message": text, "request_id": id.as_str() } });
                format!("{error}\n")
            }
            Self::Html => format!(
                "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{status}</title></head>\n\
                 <body><h1>{text}</h1><p>{code} · {id}</p></body>\n</html>\n",
                status = refusal.reason.status(),
            ),
            Self::Text => format!("{text} ({code})\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::refusal::Reason;
    use bytes::Bytes;

    fn preferred(accept: &str) -> Form {
        Form::preferred(&Fields::parse(Bytes::from(format!("Accept: {accept}\r\n\r\n"))).unwrap())
    }

    #[test]
    fn the_body_has_the_form_the_client_named_first() {
        assert_eq!(preferred("application/json, text/html"), Form::Json);
        assert_eq!(preferred("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"), Form::Html);
        assert_eq!(preferred("text/html; q=0.5"), Form::Html);
        assert_eq!(preferred("*/*"), Form::Text);
        assert_eq!(Form::preferred(&Fields::default()), Form::Text);
    }

    #[test]
    fn every_answer_says_why_and_who_and_how_long_it_is() {
        let id = RequestId::new();
        let mut reader = Reader {
            id: &id,
            fields: None,
            is_http_11: true,
            head_only: false,
            keeps: false,
        };
        let mut out = Vec::new();
        refuse(&mut out, &Reason::AtCapacity.into(), &reader);
        let answer = String::from_utf8(out).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let begins = format!(
            "HTTP/1.1 503 Service Unavailable\r\nX-Miren-Error: at_capacity\r\nRetry-After: 1\r\nX-Request-Id: {id}\r\n"
        );
        assert!(head.starts_with(&begins), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(head.ends_with("\r\nConnection: close"), "{head}");
        reader.head_only = true;
        let mut out = Vec::new();
        refuse(&mut out, &Reason::AtCapacity.into(), &reader);
        assert!(out.ends_with(b"\r\n\r\n"), "no body");
    }
}
