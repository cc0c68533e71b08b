//! Decides how requests are read: strictly, with an error that names the field.

use super::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use miren_api::{ApiError, ErrorCode};
use serde::de::DeserializeOwned;

/// A JSON body. Unknown fields are refused by the types themselves.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let text = rejection.body_text();
            match rejection.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(ErrorCode::TooLarge, "the body is too large")
                    .remedy("send less, or raise api.body_limit in control.toml"),
                _ => ApiError::new(ErrorCode::InvalidRequest, format!("reading the body: {text}")),
            }
        })?;
        Ok(Self(parse(&bytes)?))
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut input = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner().to_string();
        let field = named_field(&path, &why);
        let message = match &field {
            Some(field) => format!("field {field:?} of the body: {why}"),
            None => format!("the body: {why}"),
        };
        let refusal = ApiError::new(ErrorCode::InvalidRequest, message).remedy("see /v1/openapi.json for its form");
        match field {
            Some(field) => refusal.field(field),
            None => refusal,
        }
    })?;
    input
        .end()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the body: {error}")))?;
    Ok(parsed)
}

/// The field an error is about: its path, or the name that serde quotes in "unknown field `x`" and "missing field `x`".
fn named_field(path: &str, why: &str) -> Option<String> {
    let quoted = why.split('`').nth(1).filter(|_| why.contains("field `"));
    match (path, quoted) {
        (".", None) => None,
        (".", Some(name)) => Some(name.to_owned()),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => Some(format!("{path}.{name}")),
        (path, _) => Some(path.to_owned()),
    }
}

/// The parameters after `?`.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => {
                let message = format!(
                    "parameters {:?}: {}",
                    parts.uri.query().unwrap_or(""),
                    rejection.body_text()
                );
                let remedy = "see /v1/openapi.json for what it takes";
                Err(ApiError::new(ErrorCode::InvalidRequest, message).remedy(remedy).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_api::deploy::DeployRequest;
    use miren_api::resource::RouteRequest;

    fn refused(body: &str) -> ApiError {
        parse::<DeployRequest>(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(refused(r#"{"artifact": 3}"#).field.as_deref(), Some("artifact"));
        assert_eq!(
            refused(r#"{"artifact": "a", "env": {"A": 1}}"#).field.as_deref(),
            Some("env.A")
        );
        assert_eq!(refused(r#"{"artefact": "a"}"#).field.as_deref(), Some("artefact"));
        assert_eq!(parse::<RouteRequest>(b"{}").unwrap_err().field.as_deref(), Some("app"));
        assert_eq!(refused("nonsense").field, None);
        assert!(refused(r#"{"artifact": "a"} more"#).message.contains("trailing"));
    }
}
