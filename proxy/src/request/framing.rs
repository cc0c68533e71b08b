//! Where a body ends: what `Content-Length` and `Transfer-Encoding` say together, with one meaning or none.
//!
//! RFC 9112 §6. Whoever is served behind this proxy has a reader of its own; so nothing passes that another reader could take
//! for another length.

use super::fields::{Fields, Name, tokens};

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes; at least one.
    Length(u64),
    Chunked,
    /// Until the connection closes; only answers have that.
    UntilClose,
}

/// The fields contradict each other, or say what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

/// What the fields of a request say.
///
/// # Errors
/// When more than one length could be meant: the request must not be passed on.
pub fn of_request(fields: &Fields, is_http_11: bool) -> Result<Framing, Unclear> {
    let length = strict_length(fields)?;
    match (fields.only(Name::TransferEncoding), length) {
        (None, _) if fields.all(Name::TransferEncoding).next().is_some() => Err(Unclear),
        (None, None | Some(0)) => Ok(Framing::None),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (Some(coding), None) if is_http_11 && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), _) => Err(Unclear),
    }
}

/// What the fields of an answer say; `has_body` is false where its status, or the method asked with, allows none.
///
/// Repeated equal lengths count as one (RFC 9110 §8.6), and `identity`, which an earlier HTTP knew, as no coding.
///
/// # Errors
/// When its end cannot be told: the client must not be shown any of it.
pub fn of_answer(fields: &Fields, is_http_11: bool, has_body: bool) -> Result<Framing, Unclear> {
    let mut length = None;
    for text in fields
        .all(Name::ContentLength)
        .flat_map(|value| value.split(|byte| *byte == b','))
    {
        let listed = parse_length(super::fields::trim(text)).ok_or(Unclear)?;
        if length.replace(listed).is_some_and(|before| before != listed) {
            return Err(Unclear);
        }
    }
    let is_coding = |token: &&[u8]| !token.eq_ignore_ascii_case(b"identity");
    let mut codings = fields.all(Name::TransferEncoding).flat_map(tokens).filter(is_coding);
    let framing = match (codings.next(), codings.next()) {
        (None, _) => match length {
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        },
        (Some(coding), None) if is_http_11 && coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        _ => return Err(Unclear),
    };
    Ok(if has_body { framing } else { Framing::None })
}

/// Exactly one field with digits and nothing else, or none.
fn strict_length(fields: &Fields) -> Result<Option<u64>, Unclear> {
    match (fields.only(Name::ContentLength), fields.all(Name::ContentLength).next()) {
        (Some(text), _) => parse_length(text).map(Some).ok_or(Unclear),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Unclear),
    }
}

/// Digits only: a sign, a blank or a prefix is read differently by others.
fn parse_length(text: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn fields(lines: &str) -> Fields {
        Fields::parse(Bytes::from(format!("{lines}\r\n"))).unwrap()
    }

    #[test]
    fn f17_a_request_has_one_length_or_is_refused() {
        for (lines, expected) in [
            ("", Ok(Framing::None)),
            ("Content-Length: 0\r\n", Ok(Framing::None)),
            ("Content-Length: 3\r\n", Ok(Framing::Length(3))),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
            ("Content-Length: 3, 3\r\n", Err(Unclear)),
            ("Content-Length: 3\r\nContent-Length: 3\r\n", Err(Unclear)),
            ("Content-Length: +3\r\n", Err(Unclear)),
            ("Content-Length: 0x3\r\n", Err(Unclear)),
            ("Content-Length:\r\n", Err(Unclear)),
            ("Content-Length: 99999999999999999999\r\n", Err(Unclear)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", Err(Unclear)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(Unclear)),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Err(Unclear),
            ),
            ("Transfer-Encoding: identity\r\n", Err(Unclear)),
            ("Transfer-Encoding:\r\n", Err(Unclear)),
            ("Transfer-Encoding: xchunked\r\n", Err(Unclear)),
        ] {
            assert_eq!(of_request(&fields(lines), true), expected, "{lines:?}");
        }
        let chunked = fields("Transfer-Encoding: chunked\r\n");
        assert_eq!(of_request(&chunked, false), Err(Unclear), "HTTP/1.0 has no codings");
    }

    #[test]
    fn g13_an_answer_has_one_length_or_is_not_shown() {
        for (lines, expected) in [
            ("", Ok(Framing::UntilClose)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Ok(Framing::Length(5))),
            ("Content-Length: 5, 5\r\n", Ok(Framing::Length(5))),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(Unclear)),
            ("Content-Length: 5,\r\n", Err(Unclear)),
            ("Content-Length: -1\r\n", Err(Unclear)),
            (
                "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
                Ok(Framing::Length(5)),
            ),
            ("Transfer-Encoding: identity\r\n", Ok(Framing::UntilClose)),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                Ok(Framing::Chunked),
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(Unclear)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(Unclear)),
        ] {
            assert_eq!(of_answer(&fields(lines), true, true), expected, "{lines:?}");
        }
        assert_eq!(
            of_answer(&fields("Content-Length: 5\r\n"), true, false),
            Ok(Framing::None)
        );
        let chunked = fields("Transfer-Encoding: chunked\r\n");
        assert_eq!(
            of_answer(&chunked, false, true),
            Err(Unclear),
            "HTTP/1.0 has no codings (RFC 9112 §6.1)"
        );
    }
}
