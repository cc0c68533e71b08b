//! The one form in which host names are compared: lower case, no port, no trailing dot, letters beyond ASCII as clients send them.

use std::borrow::Cow;

/// A host name is at most 253 characters (RFC 1035 §3.1, in text form).
pub const HOST_MAX: usize = 253;

/// Why text is not a host a route can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("is empty")]
    Empty,
    #[error("has more than {HOST_MAX} characters")]
    TooLong,
    #[error("has a label that {0}")]
    Label(#[from] crate::id::LabelError),
    #[error("has '*' elsewhere than as its whole first label")]
    Wildcard,
    #[error("has characters that no host name can have")]
    Unspeakable,
}

/// Cuts a port and a trailing dot off the value of a `Host` header or a URI's authority; borrows, allocates nothing.
///
/// IPv6 literals keep their brackets. The result still has the case the client sent.
pub fn without_port(host: &str) -> &str {
    let bare = match host.strip_prefix('[') {
        Some(rest) => match rest.find(']') {
            Some(end) => &host[..end + 2],
            None => host,
        },
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    bare.strip_suffix('.').unwrap_or(bare)
}

/// The normal form of a host, for keys of a routing table.
pub fn normalise(host: &str) -> String {
    without_port(host.trim()).to_ascii_lowercase()
}

/// Normalises and checks the host of a route: DNS labels, or `*.` before them for a wildcard. Letters beyond ASCII become what
/// clients send in their place (`bücher` is `xn--bcher-kva`).
pub fn parse_route_host(text: &str) -> Result<String, HostError> {
    let text = text.trim();
    let (star, name) = text.strip_prefix("*.").map_or(("", text), |name| ("*.", name));
    if name.contains('*') {
        return Err(HostError::Wildcard);
    }
    let name = in_ascii(name)?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if star.len() + name.len() > HOST_MAX {
        return Err(HostError::TooLong);
    }
    for label in name.split('.') {
        crate::id::check_label(label)?;
    }
    Ok(format!("{star}{name}"))
}

/// In lower case, and as DNS has it (UTS 46).
fn in_ascii(name: &str) -> Result<Cow<'_, str>, HostError> {
    if name.is_ascii() {
        return Ok(name.to_ascii_lowercase().into());
    }
    idna::domain_to_ascii_cow(name.as_bytes(), idna::AsciiDenyList::URL).map_err(|_| HostError::Unspeakable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_trailing_dots_and_case_do_not_matter() {
        for raw in [
            "shop.example.com",
            "SHOP.Example.com",
            "shop.example.com.",
            "shop.example.com:8080",
            "shop.example.com.:80",
        ] {
            assert_eq!(normalise(raw), "shop.example.com", "{raw}");
        }
        assert_eq!(normalise("[::1]:8080"), "[::1]");
        assert_eq!(normalise("127.0.0.1:80"), "127.0.0.1");
    }

    #[test]
    fn e2_letters_beyond_ascii_are_kept_as_clients_send_them() {
        for (written, sent) in [
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.BÜCHER.example.", "*.xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("пример。рф", "xn--e1afmkfd.xn--p1ai"),
        ] {
            assert_eq!(parse_route_host(written), Ok(sent.to_owned()), "{written}");
        }
        assert_eq!(
            parse_route_host("a\u{200b}\u{fffd}.example"),
            Err(HostError::Unspeakable)
        );
        let long = format!("{}.example", "ü".repeat(80));
        assert!(
            parse_route_host(&long).is_err(),
            "its label has more than 63 characters in ASCII"
        );
    }

    #[test]
    fn bad_route_hosts_are_named() {
        assert_eq!(parse_route_host("Shop.example.com."), Ok("shop.example.com".into()));
        assert_eq!(parse_route_host("*.example.com"), Ok("*.example.com".into()));
        assert_eq!(parse_route_host(" "), Err(HostError::Empty));
        assert_eq!(parse_route_host("*."), Err(HostError::Empty));
        assert_eq!(parse_route_host("a.*.com"), Err(HostError::Wildcard));
        assert!(matches!(parse_route_host("under_score.com"), Err(HostError::Label(_))));
        assert!(matches!(parse_route_host("a..b"), Err(HostError::Label(_))));
        assert!(matches!(parse_route_host("example.com:80"), Err(HostError::Label(_))));
    }
}
