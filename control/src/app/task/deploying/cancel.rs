//! Decides until when a deploy can be called off: before its snapshot is published, nothing that serves has changed.

use super::Deploys;
use miren_api::deploy::{Deploy, DeployStatus};
use miren_api::id::DeployId;
use miren_api::{ApiError, ErrorCode};

/// What a cancelled deploy says.
const CANCELLED: &str = "cancelled by request";

impl Deploys<'_> {
    /// Ends a deploy as failed; its sandboxes stop, what serves goes on.
    pub async fn cancel(&mut self, id: &DeployId) -> Result<Deploy, ApiError> {
        let ended = || ApiError::new(ErrorCode::Conflict, format!("deploy {id} has ended already"));
        let under_way = self.book.state.deploys.values().find(|record| record.deploy.id == *id);
        let record = under_way.ok_or_else(ended)?;
        if record.generation.is_some() {
            let message = format!("deploy {id} has switched traffic already");
            let remedy = format!("miren rollback -a {}", record.deploy.app);
            return Err(ApiError::new(ErrorCode::Conflict, message).remedy(remedy));
        }
        let seq = record.deploy.seq;
        let cancelled = self.end(seq, DeployStatus::Failed, Some(CANCELLED.into()));
        if !self.book.commit().await {
            let message = format!("deploy {id} was cancelled, but saving that failed; it is tried again");
            return Err(ApiError::new(ErrorCode::Internal, message));
        }
        cancelled.ok_or_else(ended)
    }
}
