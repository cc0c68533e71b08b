//! What is believed of a request's head, and what is told to the app about who sent it.

use super::Rules;
use super::answer::REQUEST_ID;
use crate::refusal::Reason;
use http::{HeaderValue, Method, Version, header};
use miren_api::host;
use pingora::http::RequestHeader;
use pingora_core::Result;
use std::net::IpAddr;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED: &str = "forwarded";
/// Longest request id that is taken over from a trusted peer.
const REQUEST_ID_MAX: usize = 128;
/// A port and its colon.
const PORT_MAX: usize = 6;

/// The host a request is for: what its `Host` header says. Empty for an HTTP/1.0 request without one.
pub(super) fn host(head: &RequestHeader) -> Result<HeaderValue, Reason> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(only), None) if is_host(only.as_bytes()) => Ok(only.clone()),
        (None, None) if head.version < Version::HTTP_11 => Ok(HeaderValue::from_static("")),
        _ => Err(Reason::BadRequest),
    }
}

/// Letters, digits and what names, addresses and ports need; no more can lead to a route.
fn is_host(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= host::HOST_MAX + PORT_MAX && text.iter().all(allowed)
}

/// Whether a request asks for the one upgrade that is passed on.
pub(super) fn is_websocket(head: &RequestHeader) -> bool {
    head.headers
        .get(header::UPGRADE)
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Whether a request may be asked of another sandbox while the first may still act on it: it only reads, and there is no body to
/// have again.
pub(super) fn is_hedged(head: &RequestHeader) -> bool {
    let has_body = head.headers.contains_key(header::TRANSFER_ENCODING)
        || head
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) && !has_body && !is_websocket(head)
}

/// The id of a request: its own if the peer is trusted, else a new one.
pub(super) fn request_id(head: &RequestHeader, trusted: bool) -> HeaderValue {
    let own = head
        .headers
        .get(REQUEST_ID)
        .filter(|id| trusted && is_request_id(id.as_bytes()));
    own.cloned().unwrap_or_else(|| {
        HeaderValue::try_from(new_request_id())
            .unwrap_or_else(|error| unreachable!("digits are a header value: {error}"))
    })
}

fn is_request_id(text: &[u8]) -> bool {
    let allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/' | b'=' | b'+');
    (1..=REQUEST_ID_MAX).contains(&text.len()) && text.iter().all(allowed)
}

/// 128 random bits in hexadecimal.
pub(super) fn new_request_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub(super) fn is_trusted(peer: Option<IpAddr>, rules: &Rules) -> bool {
    !rules.trusted.is_empty() && peer.is_some_and(|peer| rules.trusted.iter().any(|network| network.contains(peer)))
}

/// Who sends a request, as far as the proxy knows.
pub(super) struct Sender<'r> {
    pub(super) address: Option<IpAddr>,
    pub(super) trusted: bool,
    pub(super) host: &'r HeaderValue,
    pub(super) request_id: &'r HeaderValue,
}

/// Tells the app who asked for what. What a client says about that itself is replaced, unless it is trusted.
pub(super) fn forward(head: &mut RequestHeader, sender: &Sender<'_>) -> Result<()> {
    head.insert_header(REQUEST_ID, sender.request_id)?;
    let address = sender
        .address
        .map(|address| address.to_canonical().to_string())
        .unwrap_or_default();
    if !sender.trusted {
        head.remove_header(FORWARDED);
        head.insert_header(FORWARDED_FOR, address)?;
        head.insert_header(FORWARDED_PROTO, "http")?;
        return head.insert_header(FORWARDED_HOST, sender.host);
    }
    let before: Vec<&str> = head
        .headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
        .collect();
    let chain = if before.is_empty() {
        address
    } else {
        format!("{}, {address}", before.join(", "))
    };
    head.insert_header(FORWARDED_FOR, chain)?;
    if !head.headers.contains_key(FORWARDED_PROTO) {
        head.insert_header(FORWARDED_PROTO, "http")?;
    }
    if !head.headers.contains_key(FORWARDED_HOST) {
        head.insert_header(FORWARDED_HOST, sender.host)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, hosts: &[&'static str]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        head.set_version(version);
        for host in hosts {
            head.append_header("host", *host).unwrap();
        }
        head
    }

    #[test]
    fn a_request_has_exactly_one_host_that_could_be_one() {
        assert_eq!(
            host(&head(Version::HTTP_11, &["shop.example.com:8080"])).unwrap(),
            "shop.example.com:8080"
        );
        assert_eq!(host(&head(Version::HTTP_10, &[])).unwrap(), "");
        for hosts in [
            &[][..],
            &["a", "b"],
            &["a", "a"],
            &[""],
            &["a b"],
            &["user@a"],
            &["a/b"],
            &["a\u{e9}"],
        ] {
            assert_eq!(
                host(&head(Version::HTTP_11, hosts)),
                Err(Reason::BadRequest),
                "{hosts:?}"
            );
        }
    }

    #[test]
    fn a_request_id_is_taken_over_from_trusted_peers_only() {
        let mut head = head(Version::HTTP_11, &["a"]);
        head.insert_header(REQUEST_ID, "theirs-1").unwrap();
        assert_eq!(request_id(&head, true), "theirs-1");
        assert_ne!(request_id(&head, false), "theirs-1");
        head.insert_header(REQUEST_ID, "<script>").unwrap();
        assert_ne!(request_id(&head, true), "<script>");
    }

    #[test]
    fn what_a_stranger_says_about_itself_is_replaced() {
        let host = HeaderValue::from_static("a");
        for (trusted, chain, proto) in [(false, "192.0.2.7", "http"), (true, "10.0.0.1, 192.0.2.7", "https")] {
            let mut head = head(Version::HTTP_11, &["a"]);
            head.insert_header(FORWARDED_FOR, "10.0.0.1").unwrap();
            head.insert_header(FORWARDED_PROTO, "https").unwrap();
            let address = Some("::ffff:192.0.2.7".parse().unwrap());
            forward(
                &mut head,
                &Sender {
                    address,
                    trusted,
                    host: &host,
                    request_id: &host,
                },
            )
            .unwrap();
            assert_eq!(
                (&head.headers[FORWARDED_FOR], &head.headers[FORWARDED_PROTO]),
                (&HeaderValue::from_static(chain), &HeaderValue::from_static(proto))
            );
            assert_eq!(head.headers[FORWARDED_HOST], "a");
        }
    }
}
