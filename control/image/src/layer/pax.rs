//! Decides what the extended headers of a tar stream say about the entry that follows them.

use crate::error::Fault;

/// Most bytes of one extended header: names of 4 KiB and several attributes of 64 KiB fit.
pub(super) const PAX_MAX: u64 = 1 << 20;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What replaces the fields of a plain header.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Seconds since 1970, and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pax {
    /// Reads `<length> <key>=<value>\n` records. Values may hold any byte, a line's end too.
    pub(super) fn parse(mut rest: &[u8]) -> Result<Self, Fault> {
        let mut pax = Self::default();
        while !rest.is_empty() && rest[0] != 0 {
            let (record, after) = split(rest).ok_or_else(|| Fault::corrupt("an extended header is broken"))?;
            let equals = record.iter().position(|byte| *byte == b'=');
            let at = equals.ok_or_else(|| Fault::corrupt("an extended header has a record without a value"))?;
            pax.set(&record[..at], &record[at + 1..])?;
            rest = after;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let number = || {
            let text = std::str::from_utf8(value).ok();
            let number = text.and_then(|text| text.parse::<u64>().ok());
            number.ok_or_else(|| Fault::corrupt("an extended header has a number that is none"))
        };
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(|| Fault::corrupt("a time is no number"))?),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(Fault::unsupported("sparse files are not supported"));
            }
            key => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// One record, without its length and its end, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &bytes[length..]))
}

/// `-1.25` is a quarter of a second before second -1, which is second -2 and 750 ms.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let mut length = key.len() + value.len() + 3;
        while length.to_string().len() + key.len() + value.len() + 3 != length {
            length = length.to_string().len() + key.len() + value.len() + 3;
        }
        [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
    }

    #[test]
    fn a_value_may_hold_a_line_end() {
        let capability = b"\x01\0\0\x02\n\0\0\0\n\0\0\0";
        let header = [
            record("SCHILY.xattr.security.capability", capability),
            record("uid", b"70000"),
        ]
        .concat();
        let pax = Pax::parse(&header).expect("a header");
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
        assert_eq!(pax.uid, Some(70_000));
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"1.-5"), None);
    }

    #[test]
    fn a_broken_header_is_refused() {
        for broken in [
            &b"9 a=b\n"[..],
            b"x a=b\n",
            b"6 path\n",
            b"99999999999999999999 a=b\n",
            b"2 a=b\n",
        ] {
            assert!(Pax::parse(broken).is_err(), "{:?}", String::from_utf8_lossy(broken));
        }
        let sparse = record("GNU.sparse.major", b"1");
        assert!(matches!(Pax::parse(&sparse), Err(Fault::Unsupported(_))));
    }
}
