//! Which version a service of an app serves, and which ones under a label and until when.

use super::index::{Miss, Target};
use jiff::Timestamp;
use miren_api::routing::AppRouting;
use miren_api::{AppName, VersionId};
use std::sync::Arc;

/// A service that routes lead to.
#[derive(Clone, Debug)]
pub(super) struct Led {
    pub(super) service: String,
    /// How many do.
    pub(super) routes: usize,
    pub(super) serving: Arc<Serving>,
}

/// What one service of an app serves.
#[derive(Debug)]
pub(super) struct Serving {
    active: Option<Arc<Target>>,
    /// By label, and those of one label by their expiry.
    labelled: Vec<Labelled>,
}

#[derive(Debug)]
struct Labelled {
    label: String,
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
                label: route.label.to_ascii_lowercase(),
                expires_at: route.expires_at,
                target: target(&route.version),
            })
            .collect();
        labelled.sort_by(|a, b| (&a.label, a.expires_at).cmp(&(&b.label, b.expires_at)));
        Self {
            active: routing.and_then(|routing| routing.active.as_ref()).map(target),
            labelled,
        }
    }

    /// Reachable by its labels alone.
    pub(super) fn without_active(self) -> Self {
        Self { active: None, ..self }
    }

    pub(super) fn active(&self) -> Result<&Arc<Target>, Miss> {
        self.active.as_ref().ok_or(Miss::Version)
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
