//! Decides how what an app changes in routing is published, and how it learns that every live proxy serves it.

use crate::app::{Event, World};
use crate::lease::Desk;
use crate::policy::Urls;
use crate::routing::{Change, Routed, Routing, RoutingError};
use miren_api::deploy::Deploy;
use miren_api::id::AppName;
use miren_fault::Point;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;

/// The way from an app to the proxies.
pub(super) struct Publishing {
    routing: Routing,
    desk: Desk,
    pub urls: Urls,
    /// To the task itself, for what it waits for outside.
    events: mpsc::UnboundedSender<Event>,
    /// Numbers of deploys and previews whose snapshot every live proxy serves.
    acknowledged: BTreeSet<u64>,
}

impl Publishing {
    pub fn new(world: &World, events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            routing: world.routing.clone(),
            desk: world.desk.clone(),
            urls: world.policy.urls.clone(),
            events,
            acknowledged: BTreeSet::new(),
        }
    }

    /// What is published now.
    pub fn now(&self) -> Routed {
        self.routing.now()
    }

    /// Publishes a change; the generation of the snapshot that has it.
    ///
    /// # Errors
    /// When it is not published, and why.
    pub async fn submit(&self, change: Change) -> Result<u64, RoutingError> {
        self.routing.submit(change).await
    }

    /// Sends the task `then` when every live proxy serves `generation`; after `grace`, in which proxies may come back.
    pub fn when_acknowledged(&self, generation: u64, grace: Duration, then: Event) {
        let (desk, events) = (self.desk.clone(), self.events.clone());
        miren_log::spawn("an acknowledgement", async move {
            tokio::time::sleep(grace).await;
            desk.acknowledged(generation).await;
            miren_fault::pass(Point::RouteAcknowledge);
            // The task may have ended meanwhile: then nobody needs to know.
            let _ = events.send(then);
        });
    }

    /// Every live proxy serves the snapshot of this deploy or preview.
    pub fn acknowledged(&mut self, seq: u64) {
        self.acknowledged.insert(seq);
    }

    pub fn is_acknowledged(&self, seq: u64) -> bool {
        self.acknowledged.contains(&seq)
    }

    pub fn forget(&mut self, seq: u64) {
        self.acknowledged.remove(&seq);
    }

    /// Number of the deploy whose version serves the app; 0 before the first.
    pub fn installed(&self, app: &AppName) -> u64 {
        self.now().installed(app)
    }

    /// A deploy with where its app can be reached now.
    pub fn addressed(&self, deploy: Deploy) -> Deploy {
        let table = self.now().table;
        Deploy {
            urls: self.urls.of_app(&table, &deploy.app),
            default_route: table.default_app() == Some(&deploy.app),
            ..deploy
        }
    }
}
