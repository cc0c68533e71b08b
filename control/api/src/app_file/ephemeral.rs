//! `[ephemeral]`: how many sandboxes a preview of the app may have, and how long they stay without requests.

use super::limits;
use super::service::{Concurrency, FIXED_CAPACITY};
use crate::settings::Table;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most sandboxes of one service of a preview.
pub const MOST_SANDBOXES: u32 = 100;

/// How previews run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previews {
    pub max_instances: u32,
    pub scale_down_delay: Duration,
}

impl Default for Previews {
    fn default() -> Self {
        Self {
            max_instances: 1,
            scale_down_delay: Duration::from_secs(300),
        }
    }
}

impl Previews {
    /// A service of a preview starts with its first request, whatever it does as part of the app itself.
    pub fn concurrency(&self, of_service: &Concurrency) -> Concurrency {
        let requests_per_instance = match *of_service {
            Concurrency::Auto {
                requests_per_instance, ..
            } => requests_per_instance,
            Concurrency::Fixed { .. } => FIXED_CAPACITY,
        };
        Concurrency::Auto {
            requests_per_instance,
            scale_down_delay: self.scale_down_delay,
            min: 0,
            max: self.max_instances,
        }
    }
}

pub(super) fn declare(table: &mut Table<'_, '_, '_>) -> Previews {
    let doc = "Most sandboxes of one service of a preview.";
    let most = table.integer("max_instances", 1, 1..=i64::from(MOST_SANDBOXES), doc);
    let doc = "How long a preview's sandboxes stay without requests.";
    Previews {
        max_instances: u32::try_from(most).unwrap_or(1),
        scale_down_delay: table.parsed("scale_down_delay", "5m", doc, limits::bounded),
    }
}
