//! Where frames of a WebSocket end (RFC 6455 §5.2), so that a word of the proxy's own can stand between two of them.
//!
//! Only headers are looked at: what a frame carries is skipped by its length.

/// A close frame of a server: 1012, the service restarts, and why in words (RFC 6455 §5.5.1, §7.4).
pub const GOODBYE: &[u8] = b"\x88\x11\x03\xf4service restart";

/// Operation code of a close frame; the rest of the first byte says nothing here.
const CLOSE: u8 = 0x8;

/// Where in its stream of frames one direction is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    part: Part,
    /// Whether a close frame has begun: nothing may follow it.
    closes: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum Part {
    /// A frame.
    #[default]
    First,
    /// The byte with its short length.
    Second,
    /// So many bytes of its long length, after those that made this.
    Length { left: u8, length: u64, masked: bool },
    /// So many bytes of its mask and what it carries.
    Body { left: u64 },
}

impl Frames {
    /// These bytes went by.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(count) = self.step(bytes) {
            bytes = &bytes[count..];
        }
    }

    /// How many of the next bytes are the rest of a frame that has begun: all of them if it does not end there.
    pub fn rest(mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while !self.is_between()
            && let Some(count) = self.step(&bytes[at..])
        {
            at += count;
        }
        at
    }

    /// Whether no frame has begun that has not ended.
    pub fn is_between(&self) -> bool {
        matches!(self.part, Part::First)
    }

    /// Whether this side has begun to say that it goes.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Takes in what belongs to one part: how many bytes that were; none at the end of `bytes`.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        let first = *bytes.first()?;
        let (part, count) = match self.part {
            Part::First => {
                self.closes |= first & 0x0f == CLOSE;
                (Part::Second, 1)
            }
            Part::Second => (Part::behind(first), 1),
            Part::Length { left, length, masked } => {
                let length = length << 8 | u64::from(first);
                let part = match left {
                    1 => Part::body(length, masked),
                    _ => Part::Length {
                        left: left - 1,
                        length,
                        masked,
                    },
                };
                (part, 1)
            }
            Part::Body { left } => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                (Part::left(left - count as u64), count)
            }
        };
        self.part = part;
        Some(count)
    }
}

impl Part {
    /// What comes behind the second byte.
    fn behind(second: u8) -> Self {
        let masked = second & 0x80 != 0;
        let long = |left| Self::Length {
            left,
            length: 0,
            masked,
        };
        match second & 0x7f {
            126 => long(2),
            127 => long(8),
            length => Self::body(length.into(), masked),
        }
    }

    fn body(length: u64, masked: bool) -> Self {
        Self::left(length.saturating_add(if masked { 4 } else { 0 }))
    }

    fn left(left: u64) -> Self {
        match left {
            0 => Self::First,
            left => Self::Body { left },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of so many bytes.
    fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(mask | length as u8),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([0x88; 4]);
        }
        // What it carries looks like close frames.
        bytes.extend(std::iter::repeat_n(0x88, length));
        bytes
    }

    fn followed(bytes: &[u8], step: usize) -> Frames {
        let mut frames = Frames::default();
        bytes.chunks(step).for_each(|piece| frames.follow(piece));
        frames
    }

    #[test]
    fn every_end_of_a_frame_is_found_however_its_bytes_come_apart() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            for (first, masked) in [(0x82, false), (0x01, true), (0xc1, false), (0x89, false), (0x00, true)] {
                let bytes = frame(first, length, masked);
                for step in [1, 2, 3, 7, 16_384, bytes.len()] {
                    assert!(followed(&bytes, step).is_between(), "{length} {masked} by {step}");
                }
                for cut in [1, 2, bytes.len() / 2, bytes.len() - 1] {
                    let frames = followed(&bytes[..cut.max(1)], 5);
                    let is_whole = cut >= bytes.len();
                    assert_eq!(frames.is_between(), is_whole, "{length} cut at {cut}");
                    let behind = [&bytes[cut.max(1)..], &[0x88, 0x00]].concat();
                    assert_eq!(frames.rest(&behind), bytes.len() - cut.max(1), "{length} cut at {cut}");
                }
                assert!(!followed(&bytes, 3).closes(), "what a frame carries is no frame");
            }
        }
    }

    #[test]
    fn a_close_frame_is_seen_with_its_first_byte_and_stays_seen() {
        assert!(!followed(&frame(0x82, 300, false), 9).closes());
        assert!(followed(&[0x88], 1).closes());
        assert!(!followed(&[0x88], 1).is_between());
        let both = [frame(0x82, 300, false), frame(0x88, 2, true)].concat();
        let frames = followed(&both, 11);
        assert!(frames.closes() && frames.is_between());
    }

    #[test]
    fn the_goodbye_is_one_whole_close_frame_of_1012() {
        let frames = followed(GOODBYE, 1);
        assert!(frames.closes() && frames.is_between());
        assert_eq!(u16::from_be_bytes([GOODBYE[2], GOODBYE[3]]), 1012);
        assert_eq!(GOODBYE[1] as usize, GOODBYE.len() - 2);
    }

    #[test]
    fn a_length_beyond_all_measure_is_a_frame_without_end() {
        let mut frames = Frames::default();
        frames.follow(&[0x82, 0xff]);
        frames.follow(&[0xff; 8]);
        frames.follow(&[0; 4096]);
        assert!(!frames.is_between());
        assert_eq!(frames.rest(&[0; 100]), 100);
    }
}
