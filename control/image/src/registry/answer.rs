//! Decides what a registry's answer, or its silence, means.

use crate::error::Fault;
use crate::registries::Unnamed;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use std::error::Error;
use std::time::Duration;

/// Longest explanation of a refusal that is read.
const REFUSAL_MAX: u64 = 16 << 10;

/// The answer, if it is a success.
pub(super) async fn check(response: Response) -> Result<Response, Fault> {
    let status = response.status();
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Ok(response);
    }
    // No explanation is no reason to fail in another way.
    let body = read(response, "an explanation", REFUSAL_MAX, Duration::ZERO).await;
    let why = explanation(&body.unwrap_or_default());
    let said = format!("the registry answers {status}{why}");
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fault::Unauthorized(said),
        StatusCode::NOT_FOUND => Fault::NotFound(said),
        StatusCode::TOO_MANY_REQUESTS => Fault::Unreachable(said),
        status if status.is_server_error() => Fault::Unreachable(said),
        _ => Fault::Unsupported(said),
    })
}

/// The whole body, up to a bound.
pub(super) async fn read(
    mut response: Response,
    what: &'static str,
    max: u64,
    idle: Duration,
) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error, idle))? {
        if (body.len() + chunk.len()) as u64 > max {
            return Err(Fault::TooLarge { what, max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why there is no answer, or not all of it.
pub(super) fn failed(error: &reqwest::Error, idle: Duration) -> Fault {
    if error.is_timeout() {
        let what = "an answer of the registry";
        return Fault::TimedOut { what, limit: idle };
    }
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        if let Some(unnamed) = deeper.downcast_ref::<Unnamed>() {
            return Fault::Unauthorized(format!("the way leads to {unnamed}"));
        }
        why = format!("{why}: {deeper}");
        cause = deeper.source();
    }
    Fault::Unreachable(why)
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn explanation(body: &[u8]) -> String {
    let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
    let reason = refusal.and_then(|refusal| refusal.errors.into_iter().next());
    reason.map_or_else(String::new, |reason| {
        let text = format!("{} {}", reason.code, reason.message);
        let text: String = text.chars().filter(|letter| !letter.is_control()).take(300).collect();
        format!(": {}", text.trim())
    })
}
