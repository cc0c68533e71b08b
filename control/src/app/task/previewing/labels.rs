//! Decides how a label is given more time, taken away or shown, and how its version gets a pool when the first request comes.

use super::Previews;
use crate::app::preview::no_such_preview;
use crate::clock::later;
use crate::record::{Reference, Stored, VersionRecord};
use crate::routing::Change;
use miren_api::ephemeral::Ephemeral;
use miren_api::id::{Label, PoolId, VersionId};
use miren_api::routing::EphemeralRoute;
use miren_api::{ApiError, ErrorCode};
use std::time::Duration;

impl Previews<'_> {
    /// What has a label now. One whose time is over is as good as none.
    fn live(&self, label: &Label) -> Result<EphemeralRoute, ApiError> {
        let (app, now) = (self.book.name(), self.book.clock.wall());
        let routed = self.publishing.now();
        let found = routed.table.label_of(app, label.as_str());
        let live = found.filter(|route| now < route.expires_at).cloned();
        live.ok_or_else(|| no_such_preview(app, label))
    }

    /// A label as it is shown.
    pub(super) fn shown_label(&self, label: &Label) -> Result<Ephemeral, ApiError> {
        let route = self.live(label)?;
        let (view, routed) = (self.book.shown(), self.publishing.now());
        let shown = view.ephemeral(&route, &routed.table, &self.publishing.urls);
        shown.ok_or_else(|| no_such_preview(self.book.name(), label))
    }

    pub async fn extend(&mut self, label: &Label, ttl: Duration) -> Result<Ephemeral, ApiError> {
        let route = self.live(label)?;
        let expires_at = later(self.book.clock.wall(), ttl);
        if expires_at < route.expires_at {
            let message = format!(
                "preview {label} lives longer than that already, until {}",
                route.expires_at
            );
            let remedy = format!("miren ephemeral delete {label} -a {}", self.book.name());
            return Err(ApiError::new(ErrorCode::Conflict, message).field("ttl").remedy(remedy));
        }
        let change = Change::Label {
            app: self.book.name().clone(),
            route: EphemeralRoute { expires_at, ..route },
            evict: Vec::new(),
        };
        self.publishing.submit(change).await?;
        self.shown_label(label)
    }

    /// Takes a label away; its version goes with what it runs as if its time were over.
    pub async fn unlabel(&mut self, label: &Label) -> Result<Ephemeral, ApiError> {
        let (route, shown) = (self.live(label)?, self.shown_label(label)?);
        let change = Change::Unlabel {
            app: self.book.name().clone(),
            label: route.label,
            version: route.version,
        };
        self.publishing.submit(change).await?;
        Ok(shown)
    }

    /// Makes sure that a service of a preview has its pool. Whoever asks while one is made waits for his turn here, and finds it.
    ///
    /// # Errors
    /// `no_such_version` when no label leads to it; `internal` when the pool cannot be saved: then there is none.
    pub async fn open(&mut self, version: &VersionId, service: &str) -> Result<(), ApiError> {
        if self.book.state.pool_of(version, service).is_some() {
            return Ok(());
        }
        if !self.book.admission.takes_activations() {
            return Err(self.book.admission.draining());
        }
        let nothing = || {
            let message = format!("nothing runs service {service:?} of version {version}");
            ApiError::new(ErrorCode::NoSuchVersion, message)
        };
        let record = self.book.state.previews.get(version).cloned().ok_or_else(nothing)?;
        let label = record.preview.as_ref().map(|preview| preview.label.clone());
        let live = label.and_then(|label| self.live(&label).ok());
        if live.is_none_or(|route| route.version != *version)
            || self.book.state.app.deleting
            || self.book.stopping.is_some()
        {
            return Err(nothing());
        }
        let (pool, is_reused) = self.claim_preview(&record, service).ok_or_else(nothing)?;
        let mut opened = record.clone();
        opened.pools.insert(service.to_owned(), pool.clone());
        self.book.ledger.put(&opened);
        self.book.state.previews.insert(version.clone(), opened);
        if !self.book.commit().await {
            self.take_pool_back(record, &pool, is_reused);
            let message = format!("the pool of service {service:?} could not be saved");
            return Err(ApiError::new(ErrorCode::Internal, message).retry_after(1));
        }
        self.book.publish();
        Ok(())
    }

    /// Undoes what could not be saved of a pool.
    fn take_pool_back(&mut self, version: VersionRecord, pool: &PoolId, was_there: bool) {
        if was_there && let Some(pool) = self.book.state.pools.get_mut(pool) {
            let own = |claim: &Reference| claim.version == version.id;
            pool.references.retain(|claim| !own(claim));
            self.book.ledger.put(&*pool);
        } else if let Some(pool) = self.book.state.pools.remove(pool) {
            self.book.ledger.delete(pool.key());
        }
        self.book.ledger.put(&version);
        self.book.state.previews.insert(version.id.clone(), version);
    }
}
