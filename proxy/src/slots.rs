//! The proxy's one question to the slot table: is this generation RUNNING now?

use crate::config;
use miren_api::lease::LeaseKey;
use miren_loader::{OpenError, ProxyEvents, SlotReader, SlotSource, State};
use std::path::Path;

/// Where `auto` looks first.
const PINS: &str = "/sys/fs/bpf/miren";
/// Where `auto` looks when there are no pins.
const TABLE_FILE: &str = "/run/miren/slots";

/// The mapped slot table, and the hints that go with it. Opened before privileges are dropped.
#[derive(Debug)]
pub struct Slots {
    reader: SlotReader,
}

impl Slots {
    /// Maps the table. The second part is `None` where the kernel keeps no table.
    pub fn open(source: &SlotSource) -> Result<(Self, Option<ProxyEvents>), OpenError> {
        let reader = SlotReader::open(source)?;
        Ok((Self { reader }, ProxyEvents::open(source)?))
    }

    /// Whether a request may be sent to this generation: one load.
    #[inline]
    pub fn is_running(&self, key: LeaseKey) -> bool {
        self.reader.is_running(key.slot, key.generation)
    }

    /// Where this generation is; `None` when the slot belongs to another one.
    pub fn state(&self, key: LeaseKey) -> Option<State> {
        self.reader.state(key.slot, key.generation)
    }
}

/// The table the settings mean, at this moment.
pub fn source(setting: &config::Slots) -> SlotSource {
    match setting {
        config::Slots::Named(source) => source.clone(),
        config::Slots::Auto if Path::new(PINS).is_dir() => SlotSource::Pinned(PINS.into()),
        config::Slots::Auto => SlotSource::File(TABLE_FILE.into()),
    }
}
