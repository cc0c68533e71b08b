//! Decides how traffic is switched to a deploy: published once, and the older ones retired when every live proxy serves it.

use super::Deploys;
use crate::app::Event;
use crate::lease::SILENCE;
use crate::record::ActiveRecord;
use crate::routing::{Change, RoutingError};
use miren_api::app_file::WEB;
use miren_api::deploy::DeployStatus;
use std::time::Duration;

impl Deploys<'_> {
    /// Goes on where an earlier process stopped: proxies that have the snapshot may not have come back yet.
    pub fn recover(&mut self) {
        let deploys = self.book.state.deploys.values();
        let switching = deploys.filter(|record| record.deploy.status == DeployStatus::Switching);
        for record in switching {
            if let Some(generation) = record.generation {
                let then = Event::Acknowledged(record.deploy.seq);
                self.publishing.when_acknowledged(generation, SILENCE, then);
            }
        }
    }

    pub(super) async fn switch(&mut self, seq: u64) {
        let Some(version) = self
            .book
            .state
            .deploys
            .get(&seq)
            .and_then(|record| record.deploy.version.clone())
        else {
            return;
        };
        let mut pools = self.book.state.pools.values();
        let web = pools.any(|pool| pool.service == WEB && pool.references.iter().any(|claim| claim.seq == seq));
        let install = Change::Install(ActiveRecord {
            app: self.book.name().clone(),
            version,
            seq,
            web,
        });
        match self.publishing.submit(install).await {
            Ok(generation) => self.switched(seq, generation),
            Err(RoutingError::Superseded { installed }) => {
                let message = format!("deploy {installed} of the same app was installed first");
                self.end(seq, DeployStatus::Superseded, Some(message));
            }
            Err(error) => {
                let message = Some(format!("publishing the new routing failed: {error}"));
                self.end(seq, DeployStatus::Failed, message);
            }
        }
    }

    fn switched(&mut self, seq: u64, generation: u64) {
        let Some(deploy) = self.book.state.deploys.get(&seq).map(|record| record.deploy.clone()) else {
            return;
        };
        let (was_default, deploy) = (deploy.default_route, self.publishing.addressed(deploy));
        let mut message = format!("published in snapshot {generation}");
        if deploy.default_route && !was_default {
            let app = &deploy.app;
            message = format!("{message}; {app} is the default route: hosts without one of their own lead to it");
        }
        if let Some(record) = self.book.state.deploys.get_mut(&seq) {
            record.generation = Some(generation);
            record.deploy = deploy;
        }
        self.note(seq, DeployStatus::Switching, message);
        let then = Event::Acknowledged(seq);
        self.publishing.when_acknowledged(generation, Duration::ZERO, then);
    }

    pub(super) fn retire(&mut self, seq: u64) {
        // Those of previews have higher numbers than any deploy.
        let changed = self.book.drop_references(|_, of| of < seq);
        let message = format!("every proxy serves it; {changed} pools changed");
        self.note(seq, DeployStatus::DrainingOld, message);
    }
}
