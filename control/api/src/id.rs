//! Identifiers as types: what each looks like, and how a new one is made.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

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
    fn generated_ids_carry_their_prefix_and_differ() {
        let app = AppName::parse("shop").unwrap();
        assert!(VersionId::generate(&app).as_str().starts_with("shop-v"));
        assert_ne!(SandboxId::generate(), SandboxId::generate());
    }
}
