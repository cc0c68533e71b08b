//! Decides what a restart is: a deploy of the version that serves, in sandboxes of its own.

use super::Deploys;
use crate::app::DeployOrder;
use crate::record::Asked;
use miren_api::deploy::{Deploy, DeployRequest};
use miren_api::{ApiError, ErrorCode};

impl Deploys<'_> {
    /// Accepts a restart; it goes on as any deploy.
    ///
    /// # Errors
    /// `not_found` when nothing serves; `conflict` while a deploy is under way, which a restart of what served before would undo.
    pub async fn restart(&mut self, key: Option<Asked>) -> Result<Deploy, ApiError> {
        if let Some(asked) = &key
            && let Some(earlier) = self.earlier(asked).await?
        {
            return Ok(earlier);
        }
        let app = self.book.name().clone();
        let routed = self.publishing.now();
        let serving = routed.active(&app).filter(|_| !self.book.state.app.deleting);
        let version = serving.cloned().ok_or_else(|| {
            let message = format!("app {app} has no version that serves and could be restarted");
            ApiError::new(ErrorCode::NotFound, message).remedy("deploy its folder first")
        })?;
        let installed = routed.installed(&app);
        let mut deploys = self.book.state.deploys.values().map(|record| &record.deploy);
        if let Some(deploy) = deploys.find(|deploy| deploy.seq > installed) {
            let message = format!("deploy {} of {app} is under way, and would be overtaken", deploy.id);
            let remedy = format!(
                "miren deploy show {0} tells when it has ended, miren deploy cancel {0} ends it",
                deploy.id
            );
            return Err(ApiError::new(ErrorCode::Conflict, message).remedy(remedy));
        }
        let request = DeployRequest {
            version: Some(version),
            ..DeployRequest::default()
        };
        let order = DeployOrder {
            restart: true,
            ..request.into()
        };
        self.accept(order, key).await
    }
}
