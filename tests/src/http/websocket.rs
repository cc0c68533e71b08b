//! The client's side of a WebSocket, as far as an echo needs it (RFC 6455).

use std::io;
use std::net::SocketAddr;

use super::Connection;

/// Key and answer of the example in RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const MASK: [u8; 4] = [7, 77, 177, 27];

/// An open WebSocket.
pub struct WebSocket {
    connection: Connection,
}

impl WebSocket {
    pub fn open(address: SocketAddr, host: &str, path: &str) -> io::Result<Self> {
        let mut connection = Connection::open(address)?;
        let headers = format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        );
        connection.request("GET", host, path, &headers)?;
        let head = connection.head()?;
        if head.status != 101 || head.header("sec-websocket-accept") != Some(ACCEPT) {
            return Err(super::invalid(format!("the handshake was answered with {head:?}")));
        }
        Ok(Self { connection })
    }

    /// Sends a text and returns what comes back.
    pub fn echo(&mut self, text: &str) -> io::Result<String> {
        self.frame(TEXT, text.as_bytes())?;
        let (kind, payload) = self.read()?;
        if kind != TEXT {
            return Err(super::invalid(format!("a frame of kind {kind:#x} came back")));
        }
        String::from_utf8(payload).map_err(|error| super::invalid(error.to_string()))
    }

    /// The closing handshake; both sides must agree.
    pub fn close(mut self) -> io::Result<()> {
        self.frame(CLOSE, &1000u16.to_be_bytes())?;
        match self.read()? {
            (CLOSE, _) => Ok(()),
            (kind, _) => Err(super::invalid(format!("a frame of kind {kind:#x} answered the close"))),
        }
    }

    /// Waits until the other side says that it goes, agrees, and sees the connection closed: the code and the words it gave.
    pub fn told_to_go(mut self) -> io::Result<(u16, String)> {
        let (kind, payload) = self.read()?;
        let [high, low, words @ ..] = payload.as_slice() else {
            return Err(super::invalid(format!("a frame of kind {kind:#x} without a code")));
        };
        if kind != CLOSE {
            return Err(super::invalid(format!("a frame of kind {kind:#x} came, not a close")));
        }
        self.frame(CLOSE, &[*high, *low])?;
        let rest = self.connection.rest()?;
        if !rest.is_empty() {
            return Err(super::invalid(format!("{} bytes came behind the close", rest.len())));
        }
        let words = String::from_utf8_lossy(words).into_owned();
        Ok((u16::from_be_bytes([*high, *low]), words))
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut bytes = vec![kind];
        match u8::try_from(payload.len()) {
            Ok(short @ 0..=125) => bytes.push(128 | short),
            _ => {
                let length = u16::try_from(payload.len()).map_err(|_| super::invalid("too long for a test".into()))?;
                bytes.push(128 | 126);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.connection.send(&bytes)
    }

    fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let [kind, length] = self.bytes::<2>()?;
        let length = if length == 126 {
            u16::from_be_bytes(self.bytes()?)
        } else {
            u16::from(length)
        };
        let mut payload = vec![0; usize::from(length)];
        io::Read::read_exact(&mut self.connection.reader, &mut payload)?;
        Ok((kind, payload))
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        io::Read::read_exact(&mut self.connection.reader, &mut bytes)?;
        Ok(bytes)
    }
}
