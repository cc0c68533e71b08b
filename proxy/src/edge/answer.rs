//! What the proxy's own answers look like: status, code, and a body in the form the client prefers.

use crate::refusal::{Reason, Refusal};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pingora::http::ResponseHeader;
use pingora_core::Result;
use pingora_proxy::Session;

pub(super) const REQUEST_ID: &str = "x-request-id";
const ERROR: &str = "x-miren-error";

/// Answers a request in the place of an app.
pub(super) async fn refuse(session: &mut Session, refusal: Refusal, request_id: &HeaderValue) -> Result<()> {
    let form = Form::preferred(&session.req_header().headers);
    let mut head = ResponseHeader::build(refusal.reason.status(), Some(8))?;
    head.insert_header(ERROR, refusal.reason.code())?;
    if let Some(seconds) = refusal.retry_after {
        head.insert_header(header::RETRY_AFTER, seconds)?;
    }
    let id = request_id.to_str().unwrap_or_default();
    send(session, head, form.content_type(), form.body(&refusal, id), request_id).await
}

/// Answers with a plain text of our own.
pub(super) async fn text(session: &mut Session, body: &'static str, request_id: &HeaderValue) -> Result<()> {
    let head = ResponseHeader::build(200, Some(6))?;
    send(session, head, Form::Text.content_type(), body.to_owned(), request_id).await
}

async fn send(
    session: &mut Session,
    mut head: ResponseHeader,
    content_type: &'static str,
    body: String,
    request_id: &HeaderValue,
) -> Result<()> {
    head.insert_header(REQUEST_ID, request_id)?;
    head.insert_header(header::CONTENT_TYPE, content_type)?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    let without_body = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), without_body).await?;
    if without_body {
        return Ok(());
    }
    session.write_response_body(Some(Bytes::from(body)), true).await
}

/// A whole answer to a request whose head could not be read; the connection closes after it.
pub(super) fn raw(reason: Reason) -> Vec<u8> {
    let body = Form::Text.body(&reason.into(), "");
    let status = http::StatusCode::from_u16(reason.status()).unwrap_or(http::StatusCode::BAD_REQUEST);
    format!(
        "HTTP/1.1 {status}\r\nX-Miren-Error: {code}\r\nX-Request-Id: {id}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
        code = reason.code(),
        id = super::head::new_request_id(),
        kind = Form::Text.content_type(),
        length = body.len(),
    )
    .into_bytes()
}

/// In which form a client wants to read why it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Html,
    Text,
}

impl Form {
    fn preferred(headers: &HeaderMap) -> Self {
        let accepts = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        for range in accepts.flat_map(|value| value.split(',')) {
            match range.split(';').next().unwrap_or_default().trim() {
                "application/json" | "application/problem+json" => return Self::Json,
                "text/html" | "application/xhtml+xml" => return Self::Html,
                "text/plain" => return Self::Text,
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

    /// `id` is a valid header value that this proxy made or checked; it needs no escaping in any form.
    fn body(self, refusal: &Refusal, id: &str) -> String {
        let (code, text) = (refusal.reason.code(), refusal.text());
        match self {
            Self::Json => {
                let error = serde_json::json!({ "error": { "code": code, "message": text, "request_id": id } });
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

    fn preferred(accept: &str) -> Form {
        Form::preferred(&[(header::ACCEPT, accept.parse().unwrap())].into_iter().collect())
    }

    #[test]
    fn the_body_has_the_form_the_client_named_first() {
        assert_eq!(preferred("application/json, text/html"), Form::Json);
        assert_eq!(preferred("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"), Form::Html);
        assert_eq!(preferred("*/*"), Form::Text);
        assert_eq!(Form::preferred(&HeaderMap::new()), Form::Text);
    }

    #[test]
    fn a_raw_answer_carries_what_every_answer_carries() {
        let answer = String::from_utf8(raw(Reason::BadRequest)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 400 Bad Request\r\nX-Miren-Error: bad_request\r\nX-Request-Id: "),
            "{head}"
        );
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    }
}
