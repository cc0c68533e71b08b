//! Decides how an upload becomes an artifact: streamed to the disk, never held in memory.

use super::Server;
use super::refusal::Refusal;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use futures_util::StreamExt;
use miren_api::deploy::Artifact;
use miren_api::{ApiError, ErrorCode};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Chunks between the socket and the disk.
const CHUNKS: usize = 16;

/// Uploads a folder as a plain tar stream. The same content is stored once.
#[utoipa::path(post, path = "/v1/artifacts", tag = "deploys",
    request_body(content_type = "application/x-tar", description = "A plain tar archive of the app's folder."),
    responses((status = 200, body = Artifact), (status = 400, body = miren_api::error::ErrorBody),
        (status = 413, body = miren_api::error::ErrorBody)))]
pub async fn upload(State(server): State<Server>, body: Body) -> Result<Json<Artifact>, Refusal> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let artifacts = server.control.artifacts.clone();
    let storing = tokio::task::spawn_blocking(move || artifacts.store(Chunks::new(receiver)));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| io::Error::new(io::ErrorKind::UnexpectedEof, error));
        let broke_off = chunk.is_err();
        // A refusal ends the reader early; its reason is in `storing`.
        if sender.send(chunk).await.is_err() || broke_off {
            break;
        }
    }
    drop(sender);
    let stored = storing
        .await
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("storing the folder: {error}")))?;
    Ok(Json(stored?))
}

/// Reads on a thread what arrives in a task.
struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Chunks {
    fn new(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            chunks,
            rest: Bytes::new(),
        }
    }
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
