//! Decides what an app holds of its node: a permit for each thing that was let in, until it is over or called off.

use super::Task;
use crate::app::state::AppState;
use crate::drain::{Admission, Start, Work};
use miren_api::deploy::DeployStatus;
use miren_api::id::SandboxId;
use miren_api::{ApiError, ErrorCode};
use miren_gate::Permit;
use std::collections::BTreeMap;

/// Why something ends that was under way when the drain of the node was forced.
const CALLED_OFF: &str = "the drain of the node was forced before this had switched traffic";

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
}

impl Task {
    /// Ends what has not switched traffic. What has switched goes on where it is once the node takes work again, or in the next
    /// daemon: nothing is waited for any more.
    pub(super) fn call_off(&mut self) {
        let early = self.state.deploys.values().filter(|record| record.generation.is_none());
        for seq in early.map(|record| record.deploy.seq).collect::<Vec<_>>() {
            self.end(seq, DeployStatus::Failed, Some(CALLED_OFF.to_owned()));
        }
        for seq in self.making.seqs() {
            self.fail_preview(seq, ApiError::new(ErrorCode::Draining, CALLED_OFF));
        }
        self.held.work.clear();
    }
}
