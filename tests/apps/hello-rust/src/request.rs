//! Reads HTTP/1.1 requests: the head at once, the body piece by piece.

use std::io::{self, BufRead, Read};

/// Longest head that is read; the ingress in front allows no more.
const HEAD_MAX: u64 = 128 << 10;

/// The head of one request.
pub struct Request {
    pub method: String,
    pub path_and_query: String,
    headers: Vec<(String, String)>,
}

/// How the end of a body is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
}

impl Request {
    /// The next request of a connection; none when the client has closed it.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = reader.take(HEAD_MAX);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("not a request line: {line:?}"),
            ));
        };
        let (method, path_and_query) = (method.to_owned(), path.to_owned());
        let mut headers = Vec::new();
        loop {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => {
                    return Ok(Some(Self {
                        method,
                        path_and_query,
                        headers,
                    }));
                }
            }
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.path_and_query
            .split_once('?')
            .map_or(&self.path_and_query, |(path, _)| path)
    }

    /// A number in the query, or `default`.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        let query = self.path_and_query.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(name, _)| *name == key)
            .find_map(|(_, value)| value.parse().ok())
            .unwrap_or(default)
    }

    pub fn framing(&self) -> Framing {
        if self
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            return Framing::Chunked;
        }
        Framing::Length(
            self.header("content-length")
                .and_then(|value| value.parse().ok())
                .unwrap_or(0),
        )
    }

    pub fn wants_close(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Hands every piece of the body to `each` as it arrives.
    pub fn body(&self, reader: &mut impl BufRead, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self.framing() {
            Framing::Length(length) => pieces(reader, length, &mut each),
            Framing::Chunked => loop {
                let length = chunk_length(reader)?;
                pieces(reader, length, &mut each)?;
                // After the last chunk this is the end of an empty trailer.
                reader.read_line(&mut String::new())?;
                if length == 0 {
                    return Ok(());
                }
            },
        }
    }
}

fn pieces(reader: &mut impl BufRead, mut left: u64, each: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    while left > 0 {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        each(&available[..length])?;
        reader.consume(length);
        left -= length as u64;
    }
    Ok(())
}

fn chunk_length(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("not a chunk length: {line:?}")))
}
