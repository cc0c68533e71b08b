//! Decides what is kept of a pool's crashes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A pool's crashes in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRecord {
    pub count: u32,
    /// Early ends in a row.
    pub early: u32,
    /// When the last crash was noted: sandboxes made before it belong to the same episode.
    pub last_at: Option<Timestamp>,
    pub cooldown_until: Option<Timestamp>,
    /// What the last one died of.
    pub last_reason: Option<String>,
    /// Until when replacements that followed no crash are paid for: each puts it off by its cost.
    #[serde(default)]
    pub paid_until: Option<Timestamp>,
}
