//! Decides what ends before its time: what is not kept, what belongs to an app that goes, what the drain of the node cannot wait for.

use super::Task;
use super::retaining::Retaining;
use miren_api::deploy::DeployStatus;
use miren_api::resource::App;
use miren_api::{ApiError, ErrorCode};
use tokio::sync::oneshot;

/// Why something ends that was under way when the drain of the node was forced.
const CALLED_OFF: &str = "the drain of the node was forced before this had switched traffic";

impl Task {
    /// Removes versions, deploys and labels that are not kept.
    pub(super) async fn collect(&mut self) {
        if !self.book.exists || self.book.state.app.deleting {
            return;
        }
        self.previews().forget_labels().await;
        let mut retaining = Retaining {
            book: &mut self.book,
            publishing: &self.publishing,
            policy: &self.retention,
        };
        retaining.collect().await;
    }

    /// Begins to delete the app: nothing of it that is under way goes on.
    pub(super) async fn delete(&mut self, keep_disks: bool, reply: oneshot::Sender<Result<App, ApiError>>) {
        if !self.book.exists {
            let why = format!("there is no app {}", self.book.name());
            return drop(reply.send(Err(ApiError::new(ErrorCode::NotFound, why))));
        }
        let app = &mut self.book.state.app;
        app.deleting = true;
        app.keep_disks |= keep_disks;
        self.book.ledger.put(&self.book.state.app);
        let in_flight: Vec<u64> = self.book.state.deploys.keys().copied().collect();
        for seq in in_flight {
            self.deploys()
                .end(seq, DeployStatus::Failed, Some("the app was deleted".into()));
        }
        for seq in self.making.seqs() {
            self.previews()
                .fail(seq, ApiError::new(ErrorCode::Conflict, "the app was deleted"));
        }
        self.leaving.answer(reply);
    }

    /// Ends what has not switched traffic. What has switched goes on where it is once the node takes work again, or in the next
    /// daemon: nothing is waited for any more.
    pub(super) fn call_off(&mut self) {
        let deploys = self.book.state.deploys.values();
        let early = deploys.filter(|record| record.generation.is_none());
        for seq in early.map(|record| record.deploy.seq).collect::<Vec<_>>() {
            self.deploys()
                .end(seq, DeployStatus::Failed, Some(CALLED_OFF.to_owned()));
        }
        for seq in self.making.seqs() {
            self.previews()
                .fail(seq, ApiError::new(ErrorCode::Draining, CALLED_OFF));
        }
        self.book.held.call_off();
    }
}
