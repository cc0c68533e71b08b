//! The one form in which host names are compared: lower case, no port, no trailing dot.

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

/// Normalises and checks the host of a route: DNS labels, or `*.` before them for a wildcard.
pub fn parse_route_host(text: &str) -> Result<String, HostError> {
    let host = text.trim().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    if host.is_empty() {
        return Err(HostError::Empty);
    }
    if host.len() > HOST_MAX {
        return Err(HostError::TooLong);
    }
    let rest = host.strip_prefix("*.").unwrap_or(host);
    if rest.contains('*') {
        return Err(HostError::Wildcard);
    }
    for label in rest.split('.') {
        crate::id::check_label(label)?;
    }
    Ok(host.to_owned())
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
    fn bad_route_hosts_are_named() {
        assert_eq!(parse_route_host("Shop.example.com."), Ok("shop.example.com".into()));
        assert_eq!(parse_route_host("*.example.com"), Ok("*.example.com".into()));
        assert_eq!(parse_route_host(" "), Err(HostError::Empty));
        assert_eq!(parse_route_host("a.*.com"), Err(HostError::Wildcard));
        assert!(matches!(parse_route_host("under_score.com"), Err(HostError::Label(_))));
        assert!(matches!(parse_route_host("a..b"), Err(HostError::Label(_))));
        assert!(matches!(parse_route_host("example.com:80"), Err(HostError::Label(_))));
    }
}
