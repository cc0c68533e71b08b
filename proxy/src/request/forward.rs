//! What an app is sent in the place of the head its client sent: who asked is told by the proxy, what belongs to the client's
//! connection stays with it, and all else is passed on as it came.

use super::fields::{Field, Fields, Name, Nominated};
use super::framing::Framing;
use super::head::Head;
use super::id::{REQUEST_ID, RequestId};
use std::io::Write as _;
use std::net::IpAddr;

/// Who sends a request, as far as the proxy knows.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'r> {
    pub address: IpAddr,
    /// Whether it is believed what it says about others.
    pub trusted: bool,
    pub id: &'r RequestId,
}

/// Writes the head of `request` as the app gets it.
pub fn write_head(out: &mut Vec<u8>, request: &Head, sender: &Sender<'_>) {
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&request.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // An HTTP/1.0 client may have named none; an HTTP/1.1 server must get one (RFC 9112 §3.2).
    field(out, b"Host", &request.host);
    let nominated = request.fields.nominated();
    for passed in request.fields.iter().filter(|field| passes(field, sender, &nominated)) {
        field(out, passed.key, passed.value);
    }
    frame(out, request);
    identify(out, request, sender);
    if request.upgrade {
        field(out, b"Connection", b"upgrade");
        field(out, b"Upgrade", b"websocket");
    } else if request.fields.lists(Name::Te, b"trailers") {
        field(out, b"Connection", b"te");
        field(out, b"TE", b"trailers");
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a field goes on to the app as it came.
fn passes(field: &Field<'_>, sender: &Sender<'_>, nominated: &Nominated<'_>) -> bool {
    match field.name {
        Name::Other | Name::Accept | Name::Trailer => !nominated.has(field.key),
        Name::Identity => sender.trusted && !nominated.has(field.key),
        // Written anew, or of this connection.
        Name::Host
        | Name::Connection
        | Name::ContentLength
        | Name::TransferEncoding
        | Name::Te
        | Name::Upgrade
        | Name::Expect
        | Name::RequestId
        | Name::ForwardedFor
        | Name::ForwardedProto
        | Name::ForwardedHost
        | Name::Hop => false,
    }
}

/// One framing, in one form.
fn frame(out: &mut Vec<u8>, request: &Head) {
    match request.body {
        Framing::Length(length) => number(out, b"Content-Length", length),
        Framing::Chunked | Framing::UntilClose => field(out, b"Transfer-Encoding", b"chunked"),
        // `Content-Length: 0` says that an empty body was meant.
        Framing::None if request.fields.only(Name::ContentLength).is_some() => number(out, b"Content-Length", 0),
        Framing::None => {}
    }
}

/// Tells the app who asked for what. What a client says about that itself is replaced, unless it is trusted.
fn identify(out: &mut Vec<u8>, request: &Head, sender: &Sender<'_>) {
    field(out, REQUEST_ID.as_bytes(), sender.id.as_bytes());
    out.extend_from_slice(b"X-Forwarded-For: ");
    if sender.trusted {
        for before in request.fields.all(Name::ForwardedFor).filter(|value| !value.is_empty()) {
            out.extend_from_slice(before);
            out.extend_from_slice(b", ");
        }
    }
    display(out, sender.address.to_canonical());
    out.extend_from_slice(b"\r\n");
    told_or(
        out,
        (&request.fields, Name::ForwardedProto),
        b"X-Forwarded-Proto",
        sender,
        b"http",
    );
    told_or(
        out,
        (&request.fields, Name::ForwardedHost),
        b"X-Forwarded-Host",
        sender,
        &request.host,
    );
}

/// What a trusted sender says, else what is seen.
fn told_or(out: &mut Vec<u8>, (fields, name): (&Fields, Name), key: &[u8], sender: &Sender<'_>, seen: &[u8]) {
    let told = fields.all(name).next().filter(|_| sender.trusted);
    let told = told.unwrap_or(seen);
    // An HTTP/1.0 client may have named no host.
    if !told.is_empty() {
        field(out, key, told);
    }
}

/// Writes one field.
pub fn field(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.reserve(key.len() + value.len() + 4);
    out.extend_from_slice(key);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes one field with a number.
pub fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    out.extend_from_slice(b": ");
    display(out, value);
    out.extend_from_slice(b"\r\n");
}

pub fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // A vector takes everything.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn forwarded(text: &str, trusted: bool) -> String {
        let request = Head::parse(Bytes::from(text.to_owned())).unwrap();
        let sender = Sender {
            address: "::ffff:192.0.2.7".parse().unwrap(),
            trusted,
            id: &RequestId::Taken(Bytes::from_static(b"id")),
        };
        let mut out = Vec::new();
        write_head(&mut out, &request, &sender);
        String::from_utf8(out).unwrap()
    }

    /// What an app gets from a stranger for these lines, without what every request has.
    fn passed(lines: &str) -> String {
        let all = forwarded(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), false);
        let rest = all.strip_prefix("GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
        let told =
            "X-Request-Id: id\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n";
        rest.replacen(told, "", 1)
    }

    #[test]
    fn what_a_client_sends_arrives_in_its_order_and_letter_case() {
        let lines = "cookie: a=1\r\nX-ONE: 1\r\nAccept: x, y\r\nCookie: b=2\r\n";
        assert_eq!(passed(lines), format!("{lines}\r\n"));
        let text = forwarded("GET http://b.test?q HTTP/1.0\r\n\r\n", false);
        assert!(text.starts_with("GET /?q HTTP/1.1\r\nHost: b.test\r\n"), "{text}");
    }

    #[test]
    fn f17_what_belongs_to_the_connection_stays_with_it() {
        let lines = "Connection: x-mine, host, x-forwarded-for, content-length\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
            Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTE: gzip\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n\
            HTTP2-Settings: x\r\n";
        assert_eq!(passed(lines), "\r\n");
        assert_eq!(
            passed("TE: trailers, deflate\r\n"),
            "Connection: te\r\nTE: trailers\r\n\r\n"
        );
        let upgrade = "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n";
        assert_eq!(passed(upgrade), "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(passed("Upgrade: websocket\r\n"), "\r\n");
    }

    #[test]
    fn f17_what_a_stranger_says_about_who_it_is_does_not_arrive() {
        let lines = "X_Forwarded_For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\nTrue-Client-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n\
            X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /x\r\n\
            X-Request-Id: mine\r\nX-Original-URL: /admin\r\n";
        assert_eq!(passed(lines), "\r\n");
        assert_eq!(passed("Proxy: evil\r\n"), "\r\n");
        let trusted = forwarded(
            &format!("GET / HTTP/1.1\r\nHost: a\r\nProxy: evil\r\n{lines}\r\n"),
            true,
        );
        for line in [
            "X-Forwarded-For: 10.0.0.1, 192.0.2.7\r\n",
            "X-Forwarded-Proto: https\r\n",
            "X-Forwarded-Host: evil\r\n",
            "X-Real-IP: 10.0.0.1\r\n",
            "Forwarded: for=10.0.0.1\r\n",
            "X_Forwarded_For: 10.0.0.1\r\n",
        ] {
            assert!(trusted.contains(line), "{line} in {trusted}");
        }
        assert!(
            !trusted.contains("Proxy: "),
            "a CGI script would take it for HTTP_PROXY: {trusted}"
        );
    }

    #[test]
    fn f17_a_body_has_one_framing() {
        for (line, framing) in [
            ("content-length: 007\r\n", "Content-Length: 7\r\n\r\n"),
            ("Content-Length: 0\r\n", "Content-Length: 0\r\n\r\n"),
            ("transfer-encoding: CHUNKED\r\n", "Transfer-Encoding: chunked\r\n\r\n"),
        ] {
            assert_eq!(passed(line), framing);
        }
    }
}
