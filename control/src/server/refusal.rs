//! Decides how a refusal becomes an HTTP answer: the one place that maps errors to statuses.

use axum::Json;
use axum::extract::Request;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use miren_api::error::ErrorBody;
use miren_api::{ApiError, ErrorCode};

/// An [`ApiError`] on its way out.
#[derive(Debug)]
pub struct Refusal(pub ApiError);

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error) = self;
        if error.code == ErrorCode::Internal {
            tracing::error!(message = error.message, "a request failed");
        }
        let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = error.retry_after;
        let mut response = (status, Json(ErrorBody { error })).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A fault of ours that one request meets is that request's end, and nobody else's.
pub async fn unless_panicked(request: Request, next: Next) -> Response {
    let name = format!("{} {}", request.method(), request.uri().path());
    match miren_log::caught(name, next.run(request)).await {
        Ok(response) => response,
        Err(panicked) => Refusal(ApiError::new(ErrorCode::Internal, panicked.to_string())).into_response(),
    }
}

/// Shorthand for "there is no such thing".
pub fn not_found(what: &str, id: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no {what} {id:?}"))
        .remedy(format!("list them with `miren {what} list`"))
}

pub async fn no_such_endpoint(uri: Uri) -> Refusal {
    ApiError::new(ErrorCode::NotFound, format!("there is no {}", uri.path()))
        .remedy("see /v1/openapi.json for what there is")
        .into()
}

pub async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    ApiError::new(
        ErrorCode::InvalidRequest,
        format!("{} does not take {method}", uri.path()),
    )
    .remedy("see /v1/openapi.json for what it takes")
    .into()
}
