//! Decides what this build says about itself to whoever is about to put it in the place of another one. It changes nothing.

use crate::config::Config;
use crate::store::{self, StoreError};
use miren_api::upgrade::ControlFacts;

/// What holds under these settings, now.
///
/// # Errors
/// When this build cannot go on with the store that is there.
pub fn facts(config: &Config) -> Result<ControlFacts, StoreError> {
    let store = config.store_file();
    Ok(ControlFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir: config.data_dir.clone(),
        socket: config.socket(),
        schema: store::SCHEMA,
        schema_on_disk: store::schema_on_disk(&store)?,
        store,
        slots: miren_loader::LAYOUT,
    })
}
