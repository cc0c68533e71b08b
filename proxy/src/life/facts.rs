//! Decides what this build says about itself to whoever is about to put it in the place of another one. It changes nothing.

use super::handover::{PROTOCOL, socket_in};
use crate::config::Config;
use miren_api::upgrade::ProxyFacts;

/// What holds under these settings.
pub fn facts(config: &Config) -> ProxyFacts {
    ProxyFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir: config.data_dir.clone(),
        socket: socket_in(&config.data_dir),
        hand_over: PROTOCOL,
        slots: miren_loader::LAYOUT,
    }
}
