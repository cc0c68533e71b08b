//! Decides how a command in a sandbox is asked for, and how its pipes share the one connection that is left to it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the connection becomes once the command runs.
pub const PROTOCOL: &str = "miren-exec";
/// Bytes of one frame's content; more is refused.
pub const FRAME_MAX: usize = 64 << 10;
/// A frame begins with its kind and the length of its content, big-endian.
const HEAD: usize = 5;

/// A command to be run in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The command and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// Whether it reads what is sent to it; else it reads nothing.
    #[serde(default)]
    pub stdin: bool,
    /// It has a terminal of this size, which is also what it reads. Left out where it has none: a server that knows of no terminals
    /// refuses it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
}

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// What is said over the connection: the first two and the last by the client, the others by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Input(Vec<u8>),
    InputEnd,
    /// Empty ones are sent now and then, to find out whether the client is there.
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// It has ended, as shells count: 128 + the signal if a signal ended it. The last frame.
    Exit(u8),
    /// Nobody can tell how it ended. The last frame.
    Failed(String),
    /// The terminal of the client has another size. Sent by the client.
    Resize(TerminalSize),
}

impl Frame {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let size = match self {
            Self::Resize(TerminalSize { rows, columns }) => [rows.to_be_bytes(), columns.to_be_bytes()].concat(),
            _ => Vec::new(),
        };
        let (kind, content): (u8, &[u8]) = match self {
            Self::Input(content) => (0, content),
            Self::InputEnd => (1, &[]),
            Self::Stdout(content) => (2, content),
            Self::Stderr(content) => (3, content),
            Self::Exit(status) => (4, std::slice::from_ref(status)),
            Self::Failed(why) => (5, why.as_bytes()),
            Self::Resize(_) => (6, size.as_slice()),
        };
        let mut bytes = Vec::with_capacity(HEAD + content.len());
        bytes.push(kind);
        bytes.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn decode(kind: u8, content: &[u8]) -> Option<Self> {
        Some(match (kind, content) {
            (0, content) => Self::Input(content.to_vec()),
            (1, []) => Self::InputEnd,
            (2, content) => Self::Stdout(content.to_vec()),
            (3, content) => Self::Stderr(content.to_vec()),
            (4, [status]) => Self::Exit(*status),
            (5, why) => Self::Failed(String::from_utf8_lossy(why).into_owned()),
            (6, &[a, b, c, d]) => Self::Resize(TerminalSize {
                rows: u16::from_be_bytes([a, b]),
                columns: u16::from_be_bytes([c, d]),
            }),
            _ => return None,
        })
    }
}

/// Something was received that is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what was received is not in the form of {PROTOCOL}")]
pub struct NoFrame;

/// Puts frames together from bytes as they arrive.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// The next whole frame, if it has arrived.
    ///
    /// # Errors
    /// When no frame begins like this. Nothing that comes later can be understood.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, NoFrame> {
        let Some((&[kind, a, b, c, d], rest)) = self.0.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > FRAME_MAX {
            return Err(NoFrame);
        }
        let Some(content) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame::decode(kind, content).ok_or(NoFrame)?;
        self.0.drain(..HEAD + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let sent = [
            Frame::Input(vec![0, 1, 255]),
            Frame::InputEnd,
            Frame::Stdout(Vec::new()),
            Frame::Stderr(b"oops".to_vec()),
            Frame::Exit(137),
            Frame::Failed("why".into()),
            Frame::Resize(TerminalSize { rows: 50, columns: 300 }),
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(Frame::encode).collect();
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut received = Vec::new();
            for part in bytes.chunks(size) {
                frames.push(part);
                while let Some(frame) = frames.next_frame().expect("a frame") {
                    received.push(frame);
                }
            }
            assert_eq!(received, sent, "in parts of {size}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [[9, 0, 0, 0, 0], [1, 0, 0, 0, 1], [2, 255, 0, 0, 0]] {
            let mut frames = Frames::default();
            frames.push(&bytes);
            frames.push(&[0]);
            assert_eq!(frames.next_frame(), Err(NoFrame), "{bytes:?}");
        }
    }
}
