//! What a refusal looks like on the wire: one code, what was wrong, what to do next.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Why a request was refused. The text form is stable and part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is wrong; sending it again will not help.
    InvalidRequest,
    /// A field of the request has a bad value.
    InvalidValue,
    /// An `app.toml` was refused.
    InvalidConfig,
    NotFound,
    /// A short id fits several things.
    Ambiguous,
    Conflict,
    /// A newer deploy of the same app was installed first.
    Superseded,
    /// The body is larger than the server takes.
    TooLarge,
    Forbidden,
    /// Recovery is still running; reads already answer.
    Starting,
    /// The node takes no new work.
    Draining,
    /// The node takes no new placements; what it runs goes on.
    Cordoned,
    /// No sandbox became ready; the message says why the last one failed.
    BootFailed,
    /// The pool waits after repeated crashes.
    Cooldown,
    /// The pool is at its largest size and full.
    AtCapacity,
    /// The version is unknown, or no longer routable.
    NoSuchVersion,
    /// Nothing became ready within the time the caller allowed.
    WaitTimeout,
    /// The node lacks what a sandbox needs, which is no fault of the app; the message says what.
    NodeFault,
    Internal,
    /// A code of a newer server.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The HTTP status that carries this code.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::InvalidValue | Self::InvalidConfig => 400,
            Self::Forbidden => 403,
            Self::NotFound | Self::NoSuchVersion => 404,
            Self::Ambiguous | Self::Conflict | Self::Superseded => 409,
            Self::TooLarge => 413,
            Self::Starting | Self::Draining | Self::Cordoned | Self::WaitTimeout | Self::NodeFault => 503,
            Self::BootFailed | Self::Cooldown | Self::AtCapacity => 503,
            Self::Internal | Self::Unknown => 500,
        }
    }

    /// The text form, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidValue => "invalid_value",
            Self::InvalidConfig => "invalid_config",
            Self::NotFound => "not_found",
            Self::Ambiguous => "ambiguous",
            Self::Conflict => "conflict",
            Self::Superseded => "superseded",
            Self::TooLarge => "too_large",
            Self::Forbidden => "forbidden",
            Self::Starting => "starting",
            Self::Draining => "draining",
            Self::Cordoned => "cordoned",
            Self::BootFailed => "boot_failed",
            Self::Cooldown => "cooldown",
            Self::AtCapacity => "at_capacity",
            Self::NoSuchVersion => "no_such_version",
            Self::WaitTimeout => "wait_timeout",
            Self::NodeFault => "node_fault",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A refusal: the body of every non-2xx answer of the API, as `{"error": …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: ErrorCode,
    /// What was being done, to which thing, and why not.
    pub message: String,
    /// What to do next; empty when there is nothing to do but report it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds after which trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            remedy: String::new(),
            field: None,
            retry_after: None,
        }
    }

    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

/// `{"error": …}`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ApiError,
}

/// An error and what caused it on one line, outermost first. A cause that the text before it tells already is left out.
pub fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let told = inner.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_tells_each_cause_once() {
        let inner = std::io::Error::other("permission denied");
        let outer = ClientLike {
            why: "opening the table: permission denied".into(),
            source: inner,
        };
        assert_eq!(one_line(&outer), "opening the table: permission denied");
        let quiet = ClientLike {
            why: "opening the table".into(),
            source: std::io::Error::other("permission denied"),
        };
        assert_eq!(one_line(&quiet), "opening the table: permission denied");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{why}")]
    struct ClientLike {
        why: String,
        source: std::io::Error,
    }

    #[test]
    fn codes_have_one_text_form_and_newer_ones_are_tolerated() {
        for code in [ErrorCode::BootFailed, ErrorCode::Superseded, ErrorCode::NoSuchVersion] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        assert_eq!(
            serde_json::from_str::<ErrorCode>("\"from_the_future\"").unwrap(),
            ErrorCode::Unknown
        );
    }
}
