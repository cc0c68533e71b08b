//! Where a head ends, found while it arrives: each byte is looked at once, and what can be no head is known at once.

use crate::request::fields::without_end;
use bytes::{Buf, BytesMut};

/// Empty lines before a request that are read over (RFC 9112 §2.2).
const EMPTY_LINES: usize = 4;

/// It cannot become a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHead;

/// How far the input was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Whether a line may end in a line feed alone.
    lenient: bool,
    /// Where the line begins that has not ended yet.
    line: usize,
    looked: usize,
    empty_lines: usize,
}

impl Scan {
    /// For the head of an app.
    pub fn of_app() -> Self {
        Self {
            lenient: true,
            ..Self::default()
        }
    }

    /// The length of the head at the beginning of `input`, once it is all there. Input is only ever added to, between calls.
    ///
    /// # Errors
    /// When a line ends in a line feed alone, or begins as none can.
    pub fn end(&mut self, input: &mut BytesMut) -> Result<Option<usize>, NoHead> {
        while let Some(found) = memchr::memchr(b'\n', &input[self.looked..]) {
            let end = self.looked + found;
            let line = without_end(&input[self.line..end], self.lenient).ok_or(NoHead)?;
            let (is_empty, is_first) = (line.is_empty(), self.line == 0);
            if is_empty && !is_first {
                return Ok(Some(end + 1));
            }
            if is_empty {
                self.read_over(input, end + 1)?;
            } else {
                (self.line, self.looked) = (end + 1, end + 1);
            }
        }
        self.looked = input.len();
        match input.first() {
            Some(first) if first.is_ascii_control() && *first != b'\r' => Err(NoHead),
            _ => Ok(None),
        }
    }

    /// Takes an empty line out that comes before the head.
    fn read_over(&mut self, input: &mut BytesMut, length: usize) -> Result<(), NoHead> {
        self.empty_lines += 1;
        if self.empty_lines > EMPTY_LINES {
            return Err(NoHead);
        }
        input.advance(length);
        (self.line, self.looked) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in steps of `step` bytes; the head it finds.
    fn scan(text: &[u8], step: usize) -> Result<Option<Vec<u8>>, NoHead> {
        let (mut scan, mut input) = (Scan::default(), BytesMut::new());
        for chunk in text.chunks(step) {
            input.extend_from_slice(chunk);
            if let Some(end) = scan.end(&mut input)? {
                return Ok(Some(input[..end].to_vec()));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_is_found_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let text = [b"\r\n\r\n".as_slice(), head, b"GET"].concat();
        for step in 1..=text.len() {
            assert_eq!(scan(&text, step), Ok(Some(head.to_vec())), "{step}");
            assert_eq!(scan(&head[..head.len() - 1], step), Ok(None), "{step}");
        }
    }

    #[test]
    fn f17_what_can_be_no_head_is_known_at_once() {
        for text in [
            &b"GET / HTTP/1.1\n"[..],
            b"\n",
            b"\x16\x03\x01",
            b"\0",
            b"GET / HTTP/1.1\r\nHost: a\n",
        ] {
            for step in 1..=text.len() {
                assert_eq!(scan(text, step), Err(NoHead), "{}", text.escape_ascii());
            }
        }
        assert_eq!(scan(&b"\r\n".repeat(EMPTY_LINES + 1), 2), Err(NoHead));
    }
}
