//! Identifiers as types: what each looks like, and how a new one is made.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

mod node;

pub use node::{NodeId, NodeIdError};

/// Letters and digits of generated ids: no vowels that spell words, no look-alikes.
const ALPHABET: &[u8; 32] = b"0123456789bcdfghjkmnpqrstvwxyz24";
/// Generated part of an id: 10 characters, about 50 bits.
const RANDOM_LENGTH: usize = 10;

/// A DNS label is at most 63 octets (RFC 1035 §2.3.4).
pub const LABEL_MAX: usize = 63;

fn random_part() -> String {
    let bytes: [u8; RANDOM_LENGTH] = rand::random();
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]))
        .collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String)]
        pub struct $name(String);

        impl $name {
            /// Takes text that is known to be an id of this kind: from the store, the wire or a path.
            pub fn from_text(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// Name of an App: a DNS label, chosen by its user.
    AppName
);
id!(
    /// One immutable build of an App: `<app>-v…`.
    VersionId
);
id!(
    /// One deploy: `dep-…`.
    DeployId
);
id!(
    /// One Pool: `pool-…`. A sandbox's pool id never changes.
    PoolId
);
id!(
    /// One sandbox: `sb-…`.
    SandboxId
);

id!(
    /// Name under which a preview is reached: a DNS label, put before a host of its app.
    Label
);

/// Why text is not a DNS label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("is empty")]
    Empty,
    #[error("has {0} characters, more than {LABEL_MAX}")]
    TooLong(usize),
    #[error("has {0:?}: only lower-case letters, digits and '-' are allowed")]
    Character(char),
    #[error("starts or ends with '-'")]
    Hyphen,
}

/// Checks one DNS label: lower-case letters, digits, inner hyphens, 1 to [`LABEL_MAX`] characters.
pub fn check_label(text: &str) -> Result<(), LabelError> {
    if text.is_empty() {
        return Err(LabelError::Empty);
    }
    if text.len() > LABEL_MAX {
        return Err(LabelError::TooLong(text.chars().count()));
    }
    if let Some(odd) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(LabelError::Character(odd));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(LabelError::Hyphen);
    }
    Ok(())
}

impl AppName {
    /// Parses a user's app name.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        check_label(text).map(|()| Self(text.to_owned()))
    }
}

impl Label {
    /// Reads what people call a preview, often the name of a branch: capitals become small letters, and '/', '_' and blanks
    /// become '-'. `feature/My_Branch` is `feature-my-branch`.
    ///
    /// # Errors
    /// When that is no DNS label.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let spelled = |c: char| match c {
            '/' | '_' | ' ' => '-',
            c => c.to_ascii_lowercase(),
        };
        let label: String = text.chars().map(spelled).collect();
        check_label(&label).map(|()| Self(label))
    }

    /// A label that is near to text that is none: every other character becomes '-'.
    pub fn near(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric();
        let parts = text.split(|c| !plain(c)).filter(|part| !part.is_empty());
        let joined = parts.collect::<Vec<_>>().join("-").to_ascii_lowercase();
        let cut = joined.get(..LABEL_MAX).unwrap_or(&joined).trim_end_matches('-');
        check_label(cut).ok().map(|()| Self(cut.to_owned()))
    }
}

impl VersionId {
    /// A new id for a version of `app`.
    pub fn generate(app: &AppName) -> Self {
        Self(format!("{app}-v{}", random_part()))
    }
}

impl DeployId {
    pub fn generate() -> Self {
        Self(format!("dep-{}", random_part()))
    }
}

impl PoolId {
    pub fn generate() -> Self {
        Self(format!("pool-{}", random_part()))
    }
}

impl SandboxId {
    pub fn generate() -> Self {
        Self(format!("sb-{}", random_part()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked_character_by_character() {
        assert_eq!(check_label("shop-2"), Ok(()));
        assert_eq!(check_label(""), Err(LabelError::Empty));
        assert_eq!(check_label("Shop"), Err(LabelError::Character('S')));
        assert_eq!(check_label("a.b"), Err(LabelError::Character('.')));
        assert_eq!(check_label("-a"), Err(LabelError::Hyphen));
        assert_eq!(check_label(&"a".repeat(64)), Err(LabelError::TooLong(64)));
        assert_eq!(check_label(&"a".repeat(63)), Ok(()));
    }

    #[test]
    fn e5_labels_are_normalised_and_what_is_none_has_a_label_near_it() {
        for (text, label) in [
            ("feature/My_Branch", "feature-my-branch"),
            ("PR 12", "pr-12"),
            ("pr1", "pr1"),
        ] {
            assert_eq!(Label::parse(text).as_ref().map(Label::as_str), Ok(label), "{text}");
        }
        let long = "a".repeat(64);
        for (text, near) in [
            ("", None),
            (&*long, Some(&long[..63])),
            ("-pr1", Some("pr1")),
            ("release/1.2", Some("release-1-2")),
            ("größe", Some("gr-e")),
            ("*", None),
            ("'; DROP TABLE apps; --", Some("drop-table-apps")),
            ("$(reboot)", Some("reboot")),
        ] {
            assert!(Label::parse(text).is_err(), "{text:?}");
            assert_eq!(Label::near(text).as_ref().map(Label::as_str), near, "{text:?}");
        }
    }

    #[test]
    fn generated_ids_carry_their_prefix_and_differ() {
        let app = AppName::parse("shop").unwrap();
        assert!(VersionId::generate(&app).as_str().starts_with("shop-v"));
        assert_ne!(SandboxId::generate(), SandboxId::generate());
    }
}
