//! What a simulated machine does not get rid of, and what was done about it.

use super::Machine;
use miren_api::id::SandboxId;
use std::collections::BTreeMap;

impl Machine {
    /// The clean-ups of sandboxes whose command is `command` hang from now on.
    pub fn litter(&self, command: &str) {
        self.tables.lock().unwrap().littering.insert(command.into());
    }

    /// Clean-ups work again, also those that hung.
    pub fn clear_away(&self) {
        let mut tables = self.tables.lock().unwrap();
        tables.littering.clear();
        tables.unclean.clear();
    }

    /// How often each sandbox was killed, and how often clean-ups were hurried.
    pub fn forced(&self) -> (BTreeMap<SandboxId, usize>, usize) {
        let tables = self.tables.lock().unwrap();
        (tables.kills.clone(), tables.hurried)
    }
}
