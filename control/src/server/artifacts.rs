//! Decides how an upload becomes an artifact, and a sent archive an image.

use super::Server;
use super::refusal::Refusal;
use super::upload::pipe;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use miren_api::deploy::{Artifact, SentImage};
use miren_api::{ApiError, ErrorCode};
use miren_image::{Fault, ImageError};

/// Uploads a folder as a plain tar stream. The same content is stored once.
#[utoipa::path(post, path = "/v1/artifacts", tag = "deploys",
    request_body(content_type = "application/x-tar", description = "A plain tar archive of the app's folder."),
    responses((status = 200, body = Artifact), (status = 400, body = miren_api::error::ErrorBody),
        (status = 413, body = miren_api::error::ErrorBody)))]
pub async fn upload(State(server): State<Server>, body: Body) -> Result<Json<Artifact>, Refusal> {
    let (chunks, feeding) = pipe(body);
    let artifacts = server.artifacts.clone();
    let storing = tokio::task::spawn_blocking(move || artifacts.store(chunks));
    feeding.await;
    let stored = storing
        .await
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("storing the folder: {error}")))?;
    Ok(Json(stored?))
}

/// Sends an image as an archive: an OCI layout or what `docker save` writes, compressed or not. It is kept for as long as
/// a version needs it.
#[utoipa::path(post, path = "/v1/images", tag = "deploys",
    request_body(content_type = "application/x-tar", description = "A tar archive with one image."),
    responses((status = 200, body = SentImage), (status = 400, body = miren_api::error::ErrorBody),
        (status = 413, body = miren_api::error::ErrorBody)))]
pub async fn upload_image(State(server): State<Server>, body: Body) -> Result<Json<SentImage>, Refusal> {
    let (chunks, feeding) = pipe(body);
    let images = &server.images;
    let ((), sent) = tokio::join!(feeding, images.store.import(chunks, None, &|_| {}));
    let image = sent.map_err(refused)?;
    let answer = SentImage {
        digest: image.digest.to_string(),
        reference: image.reference.as_ref().map(ToString::to_string),
        layers: image.layers.len(),
    };
    images.keep_for_a_while(image);
    Ok(Json(answer))
}

fn refused(error: ImageError) -> ApiError {
    let (code, remedy) = match &error.fault {
        Fault::NoSpace => (ErrorCode::Internal, "free space in the server's data_dir and try again"),
        Fault::Io(_) => (ErrorCode::Internal, "check the server's data_dir and its log"),
        Fault::TooLarge { .. } => (ErrorCode::TooLarge, "send a smaller image"),
        _ => (
            ErrorCode::InvalidRequest,
            "send what `docker save` writes, or an OCI layout as tar",
        ),
    };
    ApiError::new(code, error.to_string()).remedy(remedy)
}
