//! Decides what an app holds of its node: a permit for each thing that was let in, until it is over or called off.

use crate::app::state::AppState;
use crate::drain::{Admission, Start, Work};
use miren_api::id::SandboxId;
use miren_gate::Permit;
use std::collections::BTreeMap;

/// The permits of one app.
#[derive(Default)]
pub(super) struct Held {
    /// Of deploys and previews, by their number.
    work: BTreeMap<u64, Permit<Work>>,
    /// Of sandboxes that are being started.
    starts: BTreeMap<SandboxId, Permit<Start>>,
}

impl Held {
    /// With what an earlier daemon had let in and not ended.
    pub(super) fn resume(admission: &Admission, state: &AppState) -> Self {
        let deploys = state.deploys.keys();
        let work = deploys.filter_map(|seq| Some((*seq, admission.resume(Work::Deploy)?)));
        Self {
            work: work.collect(),
            ..Self::default()
        }
    }

    pub(super) fn begin(&mut self, seq: u64, permit: Permit<Work>) {
        self.work.insert(seq, permit);
    }

    pub(super) fn end(&mut self, seq: u64) {
        self.work.remove(&seq);
    }

    pub(super) fn starts(&mut self, id: SandboxId, permit: Permit<Start>) {
        self.starts.insert(id, permit);
    }

    /// It is RUNNING, has ended, or was not started after all.
    pub(super) fn started(&mut self, id: &SandboxId) {
        self.starts.remove(id);
    }

    /// No work is waited for any more.
    pub(super) fn call_off(&mut self) {
        self.work.clear();
    }
}
