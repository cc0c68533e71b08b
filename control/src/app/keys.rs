//! Decides which idempotency keys of deploys are known: those of the newest records, so that a restart knows them too.

use crate::clock::since;
use crate::record::{Asked, DeployRecord};
use jiff::Timestamp;
use miren_api::id::DeployId;
use miren_api::{ApiError, ErrorCode};
use std::collections::VecDeque;
use std::time::Duration;

/// Keys known of one app.
const KEYS: usize = 100;
/// How long a key is known. Who does not know after this long what became of a request looks first.
const KEY_AGE: Duration = Duration::from_secs(24 * 3600);

/// Keys of an app's deploys, newest first.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    of: VecDeque<Used>,
}

#[derive(Clone, Debug)]
struct Used {
    asked: Asked,
    at: Timestamp,
    deploy: DeployId,
}

impl Keys {
    /// The keys in an app's records.
    pub fn in_records(records: &[DeployRecord]) -> Self {
        let mut with_key: Vec<&DeployRecord> = records.iter().filter(|record| record.asked.is_some()).collect();
        with_key.sort_by_key(|record| record.deploy.seq);
        let mut keys = Self::default();
        with_key.into_iter().for_each(|record| keys.remember(record));
        keys
    }

    /// Takes in the newest record.
    pub fn remember(&mut self, record: &DeployRecord) {
        if let Some(asked) = record.asked.clone() {
            self.of.truncate(KEYS - 1);
            self.of.push_front(Used {
                asked,
                at: record.deploy.started_at,
                deploy: record.deploy.id.clone(),
            });
        }
    }

    /// When each was used.
    pub fn times(&mut self) -> impl Iterator<Item = &mut Timestamp> {
        self.of.iter_mut().map(|used| &mut used.at)
    }

    /// The deploy that the same key asked for.
    ///
    /// # Errors
    /// `conflict` when the key asked for something else.
    pub fn find(&self, asked: &Asked, now: Timestamp) -> Result<Option<&DeployId>, ApiError> {
        let mut young = self.of.iter().filter(|used| since(now, used.at) < KEY_AGE);
        let Some(used) = young.find(|used| used.asked.key == asked.key) else {
            return Ok(None);
        };
        if used.asked.digest != asked.digest {
            let message = "this Idempotency-Key was used for another deploy of the app";
            return Err(ApiError::new(ErrorCode::Conflict, message).remedy("send a new key"));
        }
        Ok(Some(&used.deploy))
    }
}
