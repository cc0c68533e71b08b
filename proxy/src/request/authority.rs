//! Which host a request is for: one strict grammar for `Host` and for the authority of a target (RFC 9110 §7.2, RFC 3986 §3.2).

use miren_api::host;

/// `[`, `]` and a port with its colon around or behind a name.
const AROUND_MAX: usize = 8;

/// Whether text names a host, with or without a port: a name of DNS labels (also with `_`), an IPv4 address, or an IPv6
/// address in brackets.
pub fn is_authority(text: &[u8]) -> bool {
    if text.len() > host::HOST_MAX + AROUND_MAX {
        return false;
    }
    match text.strip_prefix(b"[") {
        Some(rest) => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => is_ipv6(&rest[..end]) && is_port_or_nothing(&rest[end + 1..]),
            None => false,
        },
        None => {
            let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
            is_name(&text[..end]) && is_port_or_nothing(&text[end..])
        }
    }
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// A port may be empty behind its colon (RFC 3986 §3.2.3).
fn is_port_or_nothing(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

/// Labels with dots between, and perhaps one at the end.
fn is_name(text: &[u8]) -> bool {
    let text = text.strip_suffix(b".").unwrap_or(text);
    !text.is_empty() && text.len() <= host::HOST_MAX && text.split(|byte| *byte == b'.').all(is_label)
}

fn is_label(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::is_authority;

    #[test]
    fn f17_an_authority_is_a_host_with_or_without_one_port() {
        for text in [
            "a",
            "A.test",
            "a.test:80",
            "a.",
            "a.:80",
            "a:",
            "a_b.test",
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]",
            "xn--bcher-kva.de",
            "a:65535",
        ] {
            assert!(is_authority(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            ".",
            "a:80:80",
            "[a",
            "[a]",
            "a]",
            "[::1",
            "[::1]80",
            "[::1]x",
            "::1",
            "a:99999",
            "a:x",
            "a:+80",
            "a:-1",
            "x..y",
            ".a",
            "user@a",
            "a b",
            "a/b",
            "a%41",
            "a?b",
            "a#b",
            "a,b",
            "\u{e4}",
            "a..",
            ":80",
            "[::1%25eth0]",
        ] {
            assert!(!is_authority(text.as_bytes()), "{text}");
        }
        assert!(is_authority(&[b'a'; 253]) && !is_authority(&[b'a'; 254]));
    }
}
