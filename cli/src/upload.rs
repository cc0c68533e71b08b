//! Sends a folder as a stream while it is being packed: nothing is kept whole, neither in memory nor on disk.

use crate::archive::{ArchiveError, Listing};
use crate::console::{Console, Notes};
use crate::failure::Failure;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use miren_api::deploy::{Artifact, SentImage};
use miren_api::{Client, ClientError};
use std::io::{self, Write};
use std::path::Path;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

/// Bytes of one piece on its way.
const PIECE: usize = 256 * 1024;
/// Pieces packed ahead of the network.
const AHEAD: usize = 8;

/// Packs and uploads what `listing` names, showing progress on a terminal.
pub async fn send(client: &Client, listing: Listing, console: &Console) -> Result<Artifact, Failure> {
    let progress = Sending::of(console, listing.bytes());
    let (pieces, incoming) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let shown = progress.clone();
    let packing = tokio::task::spawn_blocking(move || pack(&listing, pieces, shown));
    let body = stream::unfold(incoming, |mut incoming| async {
        Some((incoming.recv().await?, incoming))
    });
    let sent = client.upload(reqwest::Body::wrap_stream(body)).await;
    progress.end();
    let packed = packing
        .await
        .map_err(|error| Failure::failed(format!("packing: {error}")))?;
    outcome(sent, packed)
}

/// Sends an archive of an image as it is, showing progress on a terminal.
pub async fn send_image(client: &Client, file: &Path, console: &Console) -> Result<SentImage, Failure> {
    let unreadable = |error: io::Error| Failure::failed(format!("reading {}: {error}", file.display()));
    let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let progress = Sending::of(console, opened.metadata().await.map_err(unreadable)?.len());
    let shown = progress.clone();
    let pieces = ReaderStream::with_capacity(opened, PIECE).inspect_ok(move |piece| shown.add(piece.len() as u64));
    let sent = client.upload_image(reqwest::Body::wrap_stream(pieces)).await;
    progress.end();
    Ok(sent?)
}

/// A folder that could not be packed explains a broken upload, but not the other way round.
fn outcome(sent: Result<Artifact, ClientError>, packed: Result<(), ArchiveError>) -> Result<Artifact, Failure> {
    match (sent, packed) {
        (Ok(artifact), Ok(())) => Ok(artifact),
        (Err(error), Ok(()) | Err(ArchiveError::Output(_))) => Err(error.into()),
        (_, Err(error)) => Err(Failure::failed(error.to_string())),
    }
}

fn pack(listing: &Listing, pieces: mpsc::Sender<io::Result<Bytes>>, progress: Sending) -> Result<(), ArchiveError> {
    let mut output = Pieces {
        buffer: Vec::with_capacity(PIECE),
        pieces,
        progress,
    };
    let packed = listing
        .write(&mut output)
        .and_then(|()| output.flush().map_err(ArchiveError::Output));
    if let Err(error) = &packed {
        // Makes the server see a broken stream, not a short but whole one.
        let _ = output.pieces.blocking_send(Err(io::Error::other(error.to_string())));
    }
    packed
}

/// Collects what is written into pieces and hands them over, waiting while the network is slower.
struct Pieces {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    progress: Sending,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.progress.add(piece.len() as u64);
        self.pieces
            .blocking_send(Ok(piece.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// How much has been sent, shown where it can be: on the line that moves, or as a bar of its own.
#[derive(Clone)]
struct Sending {
    bar: ProgressBar,
    notes: Option<Notes>,
}

impl Sending {
    fn of(console: &Console, bytes: u64) -> Self {
        if console.is_moving() || !console.progress {
            let bar = ProgressBar::hidden();
            bar.set_length(bytes);
            let notes = console.is_moving().then(|| console.notes());
            return Self { bar, notes };
        }
        let template = "uploading {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";
        let bar = ProgressBar::new(bytes);
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => ProgressBar::hidden(),
        };
        Self { bar, notes: None }
    }

    fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
        if let Some(notes) = &self.notes {
            let all = self.bar.length().unwrap_or_default();
            let sent = self.bar.position().min(all);
            notes.detail(&format!("{} of {}", BinaryBytes(sent), BinaryBytes(all)));
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn unreachable() -> ClientError {
        ClientError::Unreachable {
            server: "unix:/x".into(),
            why: "gone".into(),
        }
    }

    #[test]
    fn the_first_cause_is_reported() {
        let broken_pipe = || Err(ArchiveError::Output(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(
            outcome(Err(unreachable()), broken_pipe()).unwrap_err().exit,
            Exit::Unreachable
        );
        assert_eq!(outcome(Err(unreachable()), Ok(())).unwrap_err().exit, Exit::Unreachable);
        let changed = Err(ArchiveError::Changed("data".into()));
        let failure = outcome(Err(unreachable()), changed).unwrap_err();
        assert!(failure.message.starts_with("data changed"), "{}", failure.message);
    }
}
