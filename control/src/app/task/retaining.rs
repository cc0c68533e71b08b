//! Decides when versions and ended deploys are removed: those that nothing needs and that are neither new nor young enough.

use super::book::Book;
use super::publishing::Publishing;
use crate::app::retention::{self, Kept};
use crate::ledger::LoadError;
use crate::policy::Retention;
use crate::record::{BY_APP, DeployRecord, Stored, VersionRecord};
use crate::store::Selection;
use miren_api::id::VersionId;
use std::collections::BTreeSet;

/// Old versions and deploys of an app, over its records.
pub(super) struct Retaining<'t> {
    pub book: &'t mut Book,
    pub publishing: &'t Publishing,
    pub policy: &'t Retention,
}

impl Retaining<'_> {
    /// Removes what is not kept. What fails is tried again at the next turn.
    pub async fn collect(&mut self) {
        match self.removable().await {
            Ok(removable) if removable.is_empty() => {}
            Ok(removable) => {
                tracing::info!(app = %self.book.name(), count = removable.len(), "versions and deploys of long ago go");
                removable.into_iter().for_each(|key| self.book.ledger.delete(key));
                self.book.commit().await;
            }
            Err(error) => {
                self.book.metrics.store_errors.inc();
                tracing::warn!(app = %self.book.name(), %error, "looking for versions that nothing needs failed; trying again");
            }
        }
    }

    async fn removable(&mut self) -> Result<Vec<crate::store::Key>, LoadError> {
        let (policy, now) = (self.policy, self.book.now());
        let of_app = || Selection::Index(BY_APP, self.book.name().to_string());
        let (versions, deploys) = (of_app(), of_app());
        let versions: Vec<VersionRecord> = self.book.ledger.load(versions).await?;
        let deploys: Vec<DeployRecord> = self.book.ledger.load(deploys).await?;
        let needed = self.needed();
        let deployed = versions.iter().filter(|version| version.preview.is_none());
        let kept = |record: &VersionRecord| Kept {
            seq: record.seq,
            at: record.created_at,
            needed: needed.contains(&record.id),
        };
        let old_versions = retention::removable(deployed, kept, policy, now);
        let kept = |record: &DeployRecord| Kept {
            seq: record.deploy.seq,
            at: record.deploy.finished_at.unwrap_or(now),
            needed: !record.deploy.status.is_final(),
        };
        let old_deploys = retention::removable(deploys.iter(), kept, policy, now);
        let versions = old_versions.into_iter().map(Stored::key);
        Ok(versions.chain(old_deploys.into_iter().map(Stored::key)).collect())
    }

    /// Versions that serve, that a pool refers to, or that somebody is about to install.
    fn needed(&self) -> BTreeSet<VersionId> {
        let routed = self.publishing.now();
        let active = routed.active(self.book.name()).cloned();
        let claims = self.book.state.pools.values().flat_map(|pool| &pool.references);
        let under_way = self.book.state.deploys.values();
        let installed = under_way.flat_map(|record| [record.deploy.version.clone(), record.source().version]);
        let claimed = claims.map(|claim| claim.version.clone());
        let run = self.book.state.living_runs().map(|run| run.version.clone());
        let used = active.into_iter().chain(claimed).chain(run);
        used.chain(installed.flatten()).collect()
    }
}
