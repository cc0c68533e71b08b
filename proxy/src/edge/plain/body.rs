//! Where the bytes of a body end (RFC 9112 §7.1): a machine without I/O that is strict, since what it takes for the end of a body
//! is where the next message begins.

use crate::request::fields::Fields;
use crate::request::framing::Framing;
use bytes::{Buf, BytesMut};

/// Longest line of a chunk's size: 16 digits, and extensions that nobody reads.
const SIZE_LINE_MAX: usize = 1024;
/// What is put together of small chunks; larger ones are passed on where they are.
pub const JOINED_MAX: usize = 64 * 1024;
const SMALL: usize = 4 * 1024;
/// Trailers of one body.
const TRAILERS_MAX: usize = 16 * 1024;

/// The body breaks its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes at the beginning of the input are of the body. The caller takes them out.
    Data(usize),
    /// What is there is not enough to tell.
    More,
    /// All of the body was there.
    End,
}

/// How far a body was read.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    trailers: Option<Fields>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes to come.
    Length(u64),
    Size,
    /// Bytes of this chunk to come.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers,
    UntilClose,
    End,
}

impl Decoder {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: None }
    }

    /// Looks at what was read. Called again after a piece was taken out.
    ///
    /// # Errors
    /// When it cannot be told where the body ends.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Piece, Broken> {
        loop {
            let progressed = match self.state {
                State::End => return Ok(Piece::End),
                State::UntilClose | State::Length(1..) | State::Chunk(1..) => return Ok(self.data(input)),
                State::Length(0) => self.enter(State::End),
                State::Chunk(0) => self.enter(State::ChunkEnd),
                State::Size => self.size(input)?,
                State::ChunkEnd => self.chunk_end(input)?,
                State::Trailers => self.read_trailers(input)?,
            };
            if !progressed {
                return Ok(Piece::More);
            }
        }
    }

    /// The connection ended. Whether that is the end of the body too.
    pub fn closed(&mut self) -> bool {
        if self.state == State::UntilClose {
            self.state = State::End;
        }
        self.is_done()
    }

    /// How many bytes it would be good to read next, at most `most`.
    pub fn wants(&self, most: usize) -> usize {
        match self.state {
            State::Length(left) => usize::try_from(left).unwrap_or(most).min(most),
            _ => most,
        }
    }

    /// As [`Decoder::next`], with small chunks that are there put behind what is in `joined`; what is told comes behind that.
    ///
    /// # Errors
    /// When it cannot be told where the body ends.
    pub fn join(&mut self, input: &mut BytesMut, joined: &mut Vec<u8>) -> Result<Piece, Broken> {
        loop {
            match self.next(input)? {
                Piece::Data(count) if self.joins(count, input.len(), joined.len()) => {
                    joined.extend_from_slice(&input[..count]);
                    input.advance(count);
                }
                piece => return Ok(piece),
            }
        }
    }

    /// Whether a piece of `count` bytes, of those that are there, is put behind what is joined already.
    fn joins(&self, count: usize, there: usize, joined: usize) -> bool {
        let is_alone = joined == 0 && count == there;
        let is_chunk = matches!(self.state, State::Chunk(_));
        is_chunk && !is_alone && count <= SMALL && joined + count <= JOINED_MAX
    }

    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// What a chunked body said after its end.
    pub fn trailers(&self) -> Option<&Fields> {
        self.trailers.as_ref()
    }

    fn enter(&mut self, state: State) -> bool {
        self.state = state;
        true
    }

    fn data(&mut self, input: &BytesMut) -> Piece {
        let there = input.len() as u64;
        let taken = match &mut self.state {
            State::Length(left) | State::Chunk(left) => {
                let taken = there.min(*left);
                *left -= taken;
                taken
            }
            _ => there,
        };
        match usize::try_from(taken) {
            Ok(0) | Err(_) => Piece::More,
            Ok(taken) => Piece::Data(taken),
        }
    }

    fn size(&mut self, input: &mut BytesMut) -> Result<bool, Broken> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > SIZE_LINE_MAX {
                Err(Broken)
            } else {
                Ok(false)
            };
        };
        let size = parse_size(&input[..end]).ok_or(Broken)?;
        input.advance(end + 1);
        Ok(self.enter(if size == 0 { State::Trailers } else { State::Chunk(size) }))
    }

    fn chunk_end(&mut self, input: &mut BytesMut) -> Result<bool, Broken> {
        match &input[..] {
            [b'\r', b'\n', ..] => {
                input.advance(2);
                Ok(self.enter(State::Size))
            }
            [] | [b'\r'] => Ok(false),
            _ => Err(Broken),
        }
    }

    fn read_trailers(&mut self, input: &mut BytesMut) -> Result<bool, Broken> {
        if input.starts_with(b"\r\n") {
            input.advance(2);
            return Ok(self.enter(State::End));
        }
        match memchr::memmem::find(input, b"\r\n\r\n") {
            Some(end) if end < TRAILERS_MAX => {
                let text = input.split_to(end + 4).freeze();
                self.trailers = Some(Fields::parse(text).map_err(|_| Broken)?);
                Ok(self.enter(State::End))
            }
            None if input.len() < TRAILERS_MAX => Ok(false),
            _ => Err(Broken),
        }
    }
}

/// Hexadecimal digits, then perhaps extensions; without its line feed.
fn parse_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r").filter(|line| line.len() <= SIZE_LINE_MAX)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    let is_extension = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
    let extended = match extensions {
        [] => true,
        [b';', rest @ ..] => rest.iter().all(is_extension),
        _ => false,
    };
    if !(1..=16).contains(&digits) || !extended {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in steps of `step` bytes: the body, and what is left behind it.
    fn decode(framing: Framing, text: &[u8], step: usize) -> Result<(Vec<u8>, Option<Vec<u8>>), Broken> {
        let (mut decoder, mut input, mut body) = (Decoder::new(framing), BytesMut::new(), Vec::new());
        let mut chunks = text.chunks(step);
        loop {
            match decoder.next(&mut input)? {
                Piece::Data(count) => body.extend_from_slice(&input.split_to(count)),
                Piece::End => {
                    let rest = chunks.flatten().copied();
                    return Ok((body, Some(input.iter().copied().chain(rest).collect())));
                }
                Piece::More => match chunks.next() {
                    Some(chunk) => input.extend_from_slice(chunk),
                    None => return Ok((body, None)),
                },
            }
        }
    }

    #[test]
    fn g12_what_follows_a_body_is_left_however_it_is_cut() {
        let chunked = b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\nGET";
        for step in 1..chunked.len() {
            let all = decode(Framing::Chunked, chunked, step).unwrap();
            assert_eq!(all, (b"hello!".to_vec(), Some(b"GET".to_vec())), "{step}");
            let all = decode(Framing::Length(5), b"helloGET", step).unwrap();
            assert_eq!(all, (b"hello".to_vec(), Some(b"GET".to_vec())), "{step}");
        }
        assert_eq!(
            decode(Framing::None, b"GET", 3).unwrap(),
            (vec![], Some(b"GET".to_vec()))
        );
    }

    #[test]
    fn small_chunks_that_are_there_are_one_piece_and_large_ones_stay_where_they_are() {
        let large = "y".repeat(SMALL + 1);
        let text = format!(
            "1\r\na\r\n2\r\nbc\r\n{:x}\r\n{large}\r\n1\r\nd\r\n0\r\n\r\nGET",
            large.len()
        );
        let (mut decoder, mut joined) = (Decoder::new(Framing::Chunked), Vec::new());
        let mut input = BytesMut::from(text.as_bytes());
        let piece = decoder.join(&mut input, &mut joined);
        assert_eq!((piece, joined.as_slice()), (Ok(Piece::Data(large.len())), &b"abc"[..]));
        input.advance(large.len());
        joined.clear();
        assert_eq!(decoder.join(&mut input, &mut joined), Ok(Piece::End));
        assert_eq!((joined.as_slice(), &input[..]), (&b"d"[..], &b"GET"[..]));
    }

    #[test]
    fn what_is_there_alone_is_not_moved_and_what_is_joined_is_bounded() {
        let (mut decoder, mut joined) = (Decoder::new(Framing::Chunked), Vec::new());
        let mut alone = BytesMut::from(&b"5\r\nhello"[..]);
        assert_eq!(decoder.join(&mut alone, &mut joined), Ok(Piece::Data(5)));
        let (mut decoder, mut joined) = (Decoder::new(Framing::Length(5)), Vec::new());
        let mut input = BytesMut::from(&b"helloGET"[..]);
        assert_eq!(decoder.join(&mut input, &mut joined), Ok(Piece::Data(5)));
        assert!(joined.is_empty());
        let mut decoder = Decoder::new(Framing::Chunked);
        let mut many = BytesMut::from("1\r\nx\r\n".repeat(2 * JOINED_MAX).as_bytes());
        assert_eq!(decoder.join(&mut many, &mut joined), Ok(Piece::Data(1)));
        assert_eq!(joined.len(), JOINED_MAX);
    }

    #[test]
    fn f17_a_chunk_has_one_size() {
        for text in [
            "5\nhello\r\n",
            "5 \r\nhello\r\n",
            " 5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "-5\r\nhello\r\n",
            "\r\nhello\r\n",
            "g\r\n",
            "11111111111111111\r\n",
            "5\r\nhelloo\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5;\u{1}\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "0\r\nX: 1\n\r\n\r\n",
            "0\r\nContent Length: 1\r\n\r\n",
        ] {
            for step in [1, text.len()] {
                assert_eq!(decode(Framing::Chunked, text.as_bytes(), step), Err(Broken), "{text:?}");
            }
        }
    }

    #[test]
    fn what_a_chunked_body_has_around_its_data_is_bounded() {
        let line = [b"1;".as_slice(), &[b'a'; 2 * SIZE_LINE_MAX]].concat();
        assert_eq!(decode(Framing::Chunked, &line, 100), Err(Broken));
        let trailers = [b"0\r\nX: ".as_slice(), &[b'a'; 2 * TRAILERS_MAX]].concat();
        assert_eq!(decode(Framing::Chunked, &trailers, 100), Err(Broken));
    }

    #[test]
    fn only_a_body_without_a_length_ends_with_its_connection() {
        let mut decoder = Decoder::new(Framing::UntilClose);
        assert!(!decoder.is_done());
        assert!(decoder.closed());
        for framing in [Framing::Length(1), Framing::Chunked] {
            assert!(!Decoder::new(framing).closed(), "{framing:?}");
        }
    }
}
