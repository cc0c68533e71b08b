//! Header fields as they came: in their order and letter case, without a copy; and the grammar that lets them in.
//!
//! RFC 9110 §5, RFC 9112 §5. A line ends in CR LF and in nothing else, a name is a token with its colon right behind it, and a
//! value has no control characters but tabs. What is not so is an error: two readers could take it for two things.

use bytes::Bytes;
use std::ops::Range;

/// Fields of one head. A stranger could otherwise make each byte cost several.
pub const MOST_FIELDS: usize = 256;

/// Options of a connection.
const MOST_NOMINATED: usize = 64;

/// Why text is not the fields of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It breaks the grammar.
    Grammar,
    /// It has more than [`MOST_FIELDS`].
    TooMany,
}

/// The names that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Upgrade,
    Expect,
    Accept,
    Trailer,
    RequestId,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    /// Says who a client is, or what it asks for, in the place of what is seen: believed of trusted peers only.
    Identity,
    /// Belongs to one connection (RFC 9110 §7.6.1), or misleads whoever gets it.
    Hop,
}

#[derive(Clone, Debug)]
struct At {
    name: Name,
    key: Range<u32>,
    value: Range<u32>,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'f> {
    pub name: Name,
    /// The name as it was written.
    pub key: &'f [u8],
    /// Without the blanks around it.
    pub value: &'f [u8],
}

/// All fields of a head.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    text: Bytes,
    at: Vec<At>,
}

impl Fields {
    /// Reads the lines of `text`, up to and including the empty one that ends it.
    ///
    /// # Errors
    /// When a line is no field.
    pub fn parse(text: Bytes) -> Result<Self, Malformed> {
        Self::read(text, false)
    }

    /// As [`Fields::parse`], of an app: a line may end in a line feed alone, and a name in blanks. Nobody is misled, since what
    /// is passed on has neither (RFC 9112 §2.2, §5.1).
    ///
    /// # Errors
    /// When a line is no field.
    pub fn parse_of_app(text: Bytes) -> Result<Self, Malformed> {
        Self::read(text, true)
    }

    fn read(text: Bytes, lenient: bool) -> Result<Self, Malformed> {
        let mut at = Vec::with_capacity(16);
        let mut begin = 0;
        loop {
            let rest = text.get(begin..).unwrap_or_default();
            let length = memchr::memchr(b'\n', rest).ok_or(Malformed::Grammar)?;
            let line = without_end(&rest[..length], lenient).ok_or(Malformed::Grammar)?;
            if line.is_empty() {
                return Ok(Self { text, at });
            }
            if at.len() == MOST_FIELDS {
                return Err(Malformed::TooMany);
            }
            at.push(parse_line(line, begin, lenient).ok_or(Malformed::Grammar)?);
            begin += length + 1;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.at.iter().map(|at| Field {
            name: at.name,
            key: &self.text[to_usize(&at.key)],
            value: &self.text[to_usize(&at.value)],
        })
    }

    /// The values of all fields of a name that means something here.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter(move |field| field.name == name)
            .map(|field| field.value)
    }

    /// The only value of a name; none where there are several.
    pub fn only(&self, name: Name) -> Option<&[u8]> {
        let mut all = self.all(name);
        let first = all.next();
        if all.next().is_some() { None } else { first }
    }

    /// Whether a list-valued field has `token`, in any letter case.
    pub fn lists(&self, name: Name, token: &[u8]) -> bool {
        self.all(name)
            .flat_map(tokens)
            .any(|listed| listed.eq_ignore_ascii_case(token))
    }

    /// Whether `Connection` names more fields than anybody means: each is looked for among all fields.
    pub fn nominates_too_many(&self) -> bool {
        self.all(Name::Connection)
            .flat_map(tokens)
            .nth(MOST_NOMINATED)
            .is_some()
    }

    /// The names that `Connection` says belong to the connection alone.
    pub fn nominated(&self) -> Nominated<'_> {
        let listed = self.all(Name::Connection).flat_map(tokens);
        let plain = [&b"close"[..], b"keep-alive", b"upgrade"];
        let names = listed.filter(|listed| !plain.iter().any(|known| listed.eq_ignore_ascii_case(known)));
        Nominated(names.collect())
    }
}

/// Names that `Connection` has nominated. Hardly any head has one.
#[derive(Debug)]
pub struct Nominated<'f>(Vec<&'f [u8]>);

impl Nominated<'_> {
    pub fn has(&self, key: &[u8]) -> bool {
        self.0.iter().any(|name| name.eq_ignore_ascii_case(key))
    }
}

/// The elements of a comma-separated list.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(trim)
        .filter(|token| !token.is_empty())
}

/// Without blanks and tabs around it.
pub fn trim(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(first) = text.iter().position(is_text) else {
        return &[];
    };
    let last = text.iter().rposition(is_text).unwrap_or(first);
    &text[first..=last]
}

/// `tchar` of RFC 9110 §5.6.2.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A line that ended in a line feed, without the carriage return before it, which only an app may leave out.
pub fn without_end(line: &[u8], lenient: bool) -> Option<&[u8]> {
    line.strip_suffix(b"\r").or(lenient.then_some(line))
}

/// `begin` is where the line begins in the text.
fn parse_line(line: &[u8], begin: usize, lenient: bool) -> Option<At> {
    let colon = memchr::memchr(b':', line)?;
    let key = match lenient {
        true => line[..colon].trim_ascii_end(),
        false => &line[..colon],
    };
    if key.is_empty() || !key.iter().all(|byte| is_token_byte(*byte)) {
        return None;
    }
    let behind = &line[colon + 1..];
    if behind.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return None;
    }
    let value = trim(behind);
    let value_begin = match value.is_empty() {
        true => colon + 1,
        false => colon + 1 + behind.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?,
    };
    let range = |from: usize, length: usize| -> Option<Range<u32>> {
        let from = u32::try_from(begin + from).ok()?;
        Some(from..from + u32::try_from(length).ok()?)
    };
    Some(At {
        name: name_of(key),
        key: range(0, key.len())?,
        value: range(value_begin, value.len())?,
    })
}

fn to_usize(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Names that mean something, by their length, so that most are told apart by one look.
const KNOWN: [&[(&str, Name)]; 26] = [
    &[],
    &[],
    &[("te", Name::Te)],
    &[],
    &[("host", Name::Host)],
    &[("proxy", Name::Hop)],
    &[
        ("expect", Name::Expect),
        ("accept", Name::Accept),
        ("x-host", Name::Identity),
    ],
    &[("upgrade", Name::Upgrade), ("trailer", Name::Trailer)],
    &[("x-scheme", Name::Identity)],
    &[
        ("forwarded", Name::Identity),
        ("x-real-ip", Name::Identity),
        ("client-ip", Name::Identity),
    ],
    &[("connection", Name::Connection), ("keep-alive", Name::Hop)],
    &[
        ("x-client-ip", Name::Identity),
        ("x-remote-ip", Name::Identity),
        ("x-forwarded", Name::Identity),
        ("remote-user", Name::Identity),
    ],
    &[("x-request-id", Name::RequestId), ("x-url-scheme", Name::Identity)],
    &[
        ("x-rewrite-url", Name::Identity),
        ("forwarded-for", Name::Identity),
        ("fly-client-ip", Name::Identity),
        ("x-remote-addr", Name::Identity),
        ("x-remote-user", Name::Identity),
    ],
    &[
        ("content-length", Name::ContentLength),
        ("true-client-ip", Name::Identity),
        ("x-original-url", Name::Identity),
        ("x-proxyuser-ip", Name::Identity),
        ("http2-settings", Name::Hop),
    ],
    &[
        ("x-forwarded-for", Name::ForwardedFor),
        ("proxy-client-ip", Name::Identity),
        ("x-original-host", Name::Identity),
        ("ali-cdn-real-ip", Name::Identity),
        ("front-end-https", Name::Identity),
    ],
    &[
        ("proxy-connection", Name::Hop),
        ("x-forwarded-host", Name::ForwardedHost),
        ("cf-connecting-ip", Name::Identity),
        ("do-connecting-ip", Name::Identity),
        ("fastly-client-ip", Name::Identity),
        ("x-originating-ip", Name::Identity),
        ("x-azure-clientip", Name::Identity),
        ("x-azure-socketip", Name::Identity),
    ],
    &[
        ("transfer-encoding", Name::TransferEncoding),
        ("x-forwarded-proto", Name::ForwardedProto),
        ("x-sucuri-clientip", Name::Identity),
    ],
    &[
        ("proxy-authenticate", Name::Hop),
        ("cf-connecting-ipv6", Name::Identity),
        ("wl-proxy-client-ip", Name::Identity),
    ],
    &[
        ("proxy-authorization", Name::Hop),
        ("x-cluster-client-ip", Name::Identity),
        ("x-appengine-user-ip", Name::Identity),
    ],
    &[("x-http-host-override", Name::Identity)],
    &[],
    &[("x-vercel-forwarded-for", Name::Identity)],
    &[],
    &[
        ("x-original-forwarded-for", Name::Identity),
        ("x-envoy-external-address", Name::Identity),
    ],
    &[("x-nf-client-connection-ip", Name::Identity)],
];

fn name_of(key: &[u8]) -> Name {
    let candidates = KNOWN.get(key.len()).copied().unwrap_or_default();
    let known = candidates
        .iter()
        .find(|(text, _)| key.eq_ignore_ascii_case(text.as_bytes()));
    match known {
        Some((_, name)) => *name,
        // Servers that hand names on as environment variables (CGI, WSGI, Rack, PHP) cannot tell `-` from `_`.
        None if key.contains(&b'_') => Name::Identity,
        None if key.len() > 12 && key[..12].eq_ignore_ascii_case(b"x-forwarded-") => Name::Identity,
        None => Name::Other,
    }
}

#[cfg(test)]
mod tests;
