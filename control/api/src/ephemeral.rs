//! Previews: versions that are reached under a label of their app until they expire.

use crate::deploy::DeployRequest;
use crate::id::{AppName, Label, PoolId, VersionId};
use crate::settings::{parse_duration, show_duration};
use crate::{ApiError, ErrorCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;

/// Shortest life of a preview: less would be over before anybody can look.
pub const TTL_MIN: Duration = Duration::from_secs(1);

/// Asks for a preview: a new version, or a clone of one there is, under a label. The active version is not touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EphemeralRequest {
    /// As people write it: `feature/My_Branch` is `feature-my-branch`. The preview that has it now is replaced.
    pub label: String,
    /// How long it lives from when it can be reached, as `24h` or `1h 30m`; the server's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// As in a deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// As in a deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The version that is cloned. Not together with `artifact` or `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// Variables for every service, over those of the active version, or of the cloned one; null takes one away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Option<String>>,
    /// The same for single services.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_env: BTreeMap<String, BTreeMap<String, Option<String>>>,
}

impl EphemeralRequest {
    /// What it brings, as a deploy would.
    pub fn content(&self) -> DeployRequest {
        DeployRequest {
            artifact: self.artifact.clone(),
            image: self.image.clone(),
            version: self.version.clone(),
            env: self.env.clone(),
            service_env: self.service_env.clone(),
        }
    }
}

/// Gives a preview more time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// From now on, as `24h`.
    pub ttl: String,
}

/// A version that is reached under a label until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ephemeral {
    pub app: AppName,
    pub label: Label,
    pub version: VersionId,
    /// From this moment on it is unroutable.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Where it can be reached.
    pub urls: Vec<String>,
    /// The version it is a clone of.
    #[serde(default)]
    pub source: Option<VersionId>,
    /// Pools of its services that have been asked for.
    pub pools: Vec<PoolId>,
    /// RUNNING sandboxes. There are none before the first request, and none when it has been idle for a while.
    pub ready: u32,
}

/// What a request for a preview led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EphemeralDeployed {
    #[serde(flatten)]
    pub ephemeral: Ephemeral,
    /// The version that had the label before.
    #[serde(default)]
    pub replaced: Option<VersionId>,
    /// Labels that had to go, since an app has only so many.
    #[serde(default)]
    pub evicted: Vec<Label>,
    /// Whether it has the sandboxes of the version before, because it runs the same.
    #[serde(default)]
    pub reused: bool,
}

/// Reads a label from a request.
///
/// # Errors
/// `invalid_value` that says what is wrong with it, and which label is near.
pub fn parse_label(text: &str) -> Result<Label, ApiError> {
    Label::parse(text).map_err(|why| {
        let error = ApiError::new(ErrorCode::InvalidValue, format!("label {text:?} {why}")).field("label");
        let form = "1 to 63 lower-case letters, digits and inner '-'";
        match Label::near(text) {
            Some(near) => error.remedy(format!("use {form}; for example {near}")),
            None => error.remedy(format!("use {form}")),
        }
    })
}

/// Reads how long a preview lives.
///
/// # Errors
/// `invalid_value` for what is no duration, shorter than [`TTL_MIN`] or longer than `longest`.
pub fn parse_ttl(text: &str, longest: Duration) -> Result<Duration, ApiError> {
    let refused = |why: String| {
        let error = ApiError::new(ErrorCode::InvalidValue, format!("ttl {why}")).field("ttl");
        error.remedy(format!("write it like \"24h\", at most {}", show_duration(longest)))
    };
    let ttl = parse_duration(text).map_err(refused)?;
    if ttl < TTL_MIN {
        return Err(refused(format!("{text:?} is less than {}", show_duration(TTL_MIN))));
    }
    if ttl > longest {
        return Err(refused(format!("{text:?} is more than {}", show_duration(longest))));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    #[test]
    fn e5_what_is_no_label_is_refused_with_one_that_is_near() {
        let error = parse_label("release/1.2").unwrap_err();
        assert_eq!(
            (error.code, error.field.as_deref()),
            (ErrorCode::InvalidValue, Some("label"))
        );
        assert!(error.message.contains("'.'"), "{error}");
        assert!(error.remedy.ends_with("for example release-1-2"), "{}", error.remedy);
        assert!(parse_label("*").unwrap_err().remedy.ends_with("inner '-'"));
    }

    #[test]
    fn e5_a_life_must_be_one_and_within_bounds() {
        for text in ["0", "0s", "-1h", "1ns", "999ms", "10 years", "31d", "soon", "", "24"] {
            let error = parse_ttl(text, MONTH).unwrap_err();
            assert_eq!(
                (error.code, error.field.as_deref()),
                (ErrorCode::InvalidValue, Some("ttl")),
                "{text:?}"
            );
            assert!(error.message.contains(&format!("{text:?}")), "{error}");
            assert!(!error.remedy.is_empty(), "{text:?}");
        }
        assert_eq!(parse_ttl("1h 30m", MONTH), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_ttl("1s", MONTH), Ok(TTL_MIN));
        assert_eq!(parse_ttl("30d", MONTH), Ok(MONTH));
    }
}
