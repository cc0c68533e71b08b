//! Decides which hosts apps have by their name alone, below the ingress's domain for apps.

use super::WEB;
use crate::record::SnapshotRecord;
use miren_api::id::{AppName, check_label};
use miren_api::resource::Route;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// What the ingress is called, and below what its apps are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The ingress's own name. It is no app's, whatever that is called.
    pub cluster_host: Option<Arc<str>>,
    /// An app that serves is `NAME.<apps_domain>`; the domain itself is no app's.
    pub apps_domain: Option<Arc<str>>,
}

impl Names {
    pub fn new(cluster_host: Option<&str>, apps_domain: Option<&str>) -> Self {
        Self {
            cluster_host: cluster_host.map(Arc::from),
            apps_domain: apps_domain.map(Arc::from),
        }
    }

    /// What a snapshot was below.
    pub fn of(snapshot: &SnapshotRecord) -> Self {
        Self::new(snapshot.cluster_host.as_deref(), snapshot.apps_domain.as_deref())
    }

    /// What is kept of a snapshot that is below them.
    pub fn snapshot(&self, generation: u64, lineage: &str) -> SnapshotRecord {
        let text = |name: &Option<Arc<str>>| name.as_deref().map(str::to_owned);
        SnapshotRecord {
            generation,
            lineage: lineage.to_owned(),
            cluster_host: text(&self.cluster_host),
            apps_domain: text(&self.apps_domain),
        }
    }

    /// The host that an app has by its name.
    pub fn host_of(&self, app: &AppName) -> Option<String> {
        let host = format!("{app}.{}", self.apps_domain.as_deref()?);
        (Some(&*host) != self.cluster_host.as_deref()).then_some(host)
    }

    /// The app that would have this host by its name, whether there is one or not.
    pub fn app_at(&self, host: &str) -> Option<AppName> {
        let name = host.strip_suffix(self.apps_domain.as_deref()?)?.strip_suffix('.')?;
        check_label(name).ok().map(|()| AppName::from_text(name))
    }

    /// The route that an app has by its name.
    pub fn route_of(&self, app: &AppName) -> Option<Route> {
        Some(Route {
            host: self.host_of(app)?,
            app: app.clone(),
            service: WEB.to_owned(),
            default: false,
            wildcard: false,
            derived: true,
            timeout_ms: None,
            maintenance: None,
        })
    }
}
