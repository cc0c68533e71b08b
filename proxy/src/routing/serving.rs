//! What a route leads to: which version a service of an app serves, which ones under a label and until when, and what the route
//! says of its own.

use super::index::{Found, Miss, Target};
use jiff::Timestamp;
use miren_api::resource::Maintenance;
use miren_api::routing::{AppRouting, RouteDestination};
use miren_api::{AppName, VersionId};
use smol_str::SmolStr;
use std::sync::Arc;
use std::time::Duration;

/// A service that routes lead to.
#[derive(Clone, Debug)]
pub(super) struct Led {
    /// How many do.
    pub(super) routes: usize,
    pub(super) serving: Arc<Serving>,
}

/// What one service of an app serves; one for all the routes that lead there.
#[derive(Debug)]
pub(super) struct Serving {
    app: AppName,
    service: String,
    active: Option<Arc<Target>>,
    /// By label, and those of one label by their expiry.
    labelled: Box<[Labelled]>,
}

#[derive(Debug)]
struct Labelled {
    label: SmolStr,
    expires_at: Timestamp,
    target: Arc<Target>,
}

impl Serving {
    pub(super) fn of(app: &AppName, service: &str, routing: Option<&AppRouting>) -> Self {
        let target = |version: &VersionId| {
            Arc::new(Target {
                app: app.clone(),
                version: version.clone(),
                service: service.to_owned(),
            })
        };
        let labels = routing.map_or(&[][..], |routing| &routing.ephemeral).iter();
        let mut labelled: Vec<Labelled> = labels
            .map(|route| Labelled {
                label: route.label.to_ascii_lowercase().into(),
                expires_at: route.expires_at,
                target: target(&route.version),
            })
            .collect();
        labelled.sort_by(|a, b| (&a.label, a.expires_at).cmp(&(&b.label, b.expires_at)));
        Self {
            app: app.clone(),
            service: service.to_owned(),
            active: routing.and_then(|routing| routing.active.as_ref()).map(target),
            labelled: labelled.into(),
        }
    }

    /// Reachable by its labels alone.
    pub(super) fn without_active(self) -> Self {
        Self { active: None, ..self }
    }

    pub(super) fn is(&self, app: &AppName, service: &str) -> bool {
        self.app == *app && self.service == service
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// The version under a label. From the instant of its expiry on it is as good as none, and it never hides a live one of
    /// the same label.
    pub(super) fn labelled(&self, label: &str, now: Timestamp) -> Result<&Arc<Target>, Miss> {
        let after = self.labelled.partition_point(|one| one.label.as_str() <= label);
        let last = self.labelled[..after].last().filter(|one| one.label == label);
        let last = last.ok_or(Miss::Label)?;
        if now < last.expires_at {
            Ok(&last.target)
        } else {
            Err(Miss::Expired(last.expires_at))
        }
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.active.iter().chain(self.labelled.iter().map(|one| &one.target))
    }
}

/// One route: what it leads to is kept with it, so that a lookup ends here.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) serving: Arc<Serving>,
    timeout_ms: Option<u64>,
    maintenance: Option<Maintenance>,
}

impl Route {
    /// As `to` says; `serving` is what its service serves.
    pub(super) fn new(to: &RouteDestination, serving: Arc<Serving>) -> Self {
        Self {
            serving,
            timeout_ms: to.timeout_ms,
            maintenance: to.maintenance,
        }
    }

    /// As it came from control.
    pub(super) fn destination(&self) -> RouteDestination {
        RouteDestination {
            app: self.serving.app.clone(),
            service: self.serving.service.clone(),
            timeout_ms: self.timeout_ms,
            maintenance: self.maintenance,
        }
    }

    pub(super) fn leads_to(&self, app: &AppName) -> bool {
        self.serving.app == *app
    }

    /// What requests reach that the route itself matches.
    pub(super) fn active(&self) -> Result<Found<&Arc<Target>>, Miss> {
        if let Some(maintenance) = &self.maintenance {
            return Err(Miss::Maintenance(maintenance.retry_after));
        }
        self.serving.active.as_ref().map(self.found()).ok_or(Miss::Version)
    }

    /// What requests reach that have a label before the route's host, in maintenance or not.
    pub(super) fn labelled(&self, label: &str, now: Timestamp) -> Result<Found<&Arc<Target>>, Miss> {
        self.serving.labelled(label, now).map(self.found())
    }

    fn found<'t>(&self) -> impl Fn(&'t Arc<Target>) -> Found<&'t Arc<Target>> + use<'t> {
        let timeout = self.timeout_ms.map(Duration::from_millis);
        move |target| Found { target, timeout }
    }
}
