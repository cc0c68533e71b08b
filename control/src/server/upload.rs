//! Decides how an upload gets from a connection to a thread that reads it: streamed, never held in memory.

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the rest of a body that is not taken may be in coming before its sender is cut off.
pub(super) const REST_OF_BODY: Duration = Duration::from_secs(30);
/// Chunks between the socket and the disk.
const CHUNKS: usize = 16;

/// Reads on a thread what arrives in a task.
pub(super) struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

/// The two ends of an upload: one is read on a thread, the other is driven by the task that has the connection.
pub(super) fn pipe(body: Body) -> (Chunks, impl Future<Output = ()>) {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let reader = Chunks {
        chunks,
        rest: Bytes::new(),
    };
    (reader, feed(body, sender))
}

async fn feed(body: Body, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| io::Error::new(io::ErrorKind::UnexpectedEof, error));
        let broke_off = chunk.is_err();
        if sender.send(chunk).await.is_err() {
            // A refusal ends the reader early; whoever is cut off in the middle of a body cannot read why.
            let _ = tokio::time::timeout(REST_OF_BODY, discard(chunks)).await;
            break;
        }
        if broke_off {
            break;
        }
    }
}

/// Reads a body to its end, or to where it breaks off, and keeps nothing of it.
pub(super) async fn discard(mut body: BodyDataStream) {
    while let Some(Ok(_)) = body.next().await {}
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
