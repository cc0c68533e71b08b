//! Decides what a snapshot contains, from routes and from what serves each app, and what changed between two tables.

use super::names::Names;
use crate::record::{ActiveRecord, LabelRecord, RouteRecord};
use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use miren_api::id::AppName;
use miren_api::resource::Route;
use miren_api::routing::{AppRouting, EphemeralRoute, RouteDestination, RouteRule, RoutingDelta, RoutingSnapshot};
use std::collections::BTreeSet;

#[cfg(test)]
mod tests;

/// Host of the default route in lists.
pub const DEFAULT_HOST: &str = "(default)";

/// Every route, every active version and every label. A clone shares all it has with the original: what a change costs, and what finding
/// the difference of two tables costs, depends on the change alone.
#[derive(Clone, Debug, Default)]
pub struct Table {
    routes: OrdMap<String, Route>,
    /// Hosts by the app they lead to, the default route's included.
    hosts: OrdMap<AppName, OrdSet<String>>,
    active: OrdMap<AppName, ActiveRecord>,
    /// By app and label; no app without one.
    labels: OrdMap<AppName, OrdMap<String, EphemeralRoute>>,
    names: Names,
    /// By host, the routes that apps have by their name: of each that serves, where nobody has set another.
    derived: OrdMap<String, Route>,
}

impl Table {
    pub fn new(routes: Vec<RouteRecord>, active: Vec<ActiveRecord>, labels: Vec<LabelRecord>) -> Self {
        let mut table = Self::default();
        routes.into_iter().for_each(|RouteRecord(route)| table.set(route));
        active.into_iter().for_each(|active| table.install(active));
        labels
            .into_iter()
            .for_each(|label| table.label(&label.app, label.route));
        table
    }

    /// Below an ingress of these names.
    pub fn under(mut self, names: Names) -> Self {
        self.names = names;
        self.derived = OrdMap::new();
        let apps: BTreeSet<AppName> = self.active.keys().chain(self.labels.keys()).cloned().collect();
        apps.iter().for_each(|app| self.derive(app));
        self
    }

    /// Settles whether `app` has the host of its name.
    fn derive(&mut self, app: &AppName) {
        let Some(host) = self.names.host_of(app) else {
            return;
        };
        let serves = self.active.get(app).is_some_and(|active| active.web) || self.labels.contains_key(app);
        match serves && !self.routes.contains_key(&host) {
            false => drop(self.derived.remove(&host)),
            // What is the same stays the same, so that it is no difference.
            true if self.derived.contains_key(&host) => {}
            true => self.derived.extend(self.names.route_of(app).map(|route| (host, route))),
        }
    }

    /// Settles what a host leads to that lost its route or got one.
    fn derive_at(&mut self, host: &str) {
        if let Some(app) = self.names.app_at(host) {
            self.derive(&app);
        }
    }

    /// No host leads anywhere, and nothing serves.
    pub fn is_untouched(&self) -> bool {
        self.routes.is_empty() && self.active.is_empty()
    }

    pub fn set(&mut self, route: Route) {
        self.take(&route.host);
        self.hosts
            .entry(route.app.clone())
            .or_default()
            .insert(route.host.clone());
        let host = route.host.clone();
        self.routes.insert(host.clone(), route);
        self.derive_at(&host);
    }

    /// Takes away what somebody has set for a host. An app that has it by its name has it again.
    pub fn remove(&mut self, host: &str) {
        self.take(host);
        self.derive_at(host);
    }

    fn take(&mut self, host: &str) {
        let Some(route) = self.routes.remove(host) else {
            return;
        };
        if let Some(hosts) = self.hosts.get_mut(&route.app) {
            hosts.remove(host);
            if hosts.is_empty() {
                self.hosts.remove(&route.app);
            }
        }
    }

    /// The version takes the app's traffic.
    pub fn install(&mut self, active: ActiveRecord) {
        let app = active.app.clone();
        self.active.insert(app.clone(), active);
        self.derive(&app);
    }

    /// A version is reached under a label, in place of the one that was.
    pub fn label(&mut self, app: &AppName, route: EphemeralRoute) {
        let labels = self.labels.entry(app.clone()).or_default();
        labels.insert(route.label.clone(), route);
        self.derive(app);
    }

    pub fn remove_label(&mut self, app: &AppName, label: &str) {
        if let Some(labels) = self.labels.get_mut(app) {
            labels.remove(label);
            if labels.is_empty() {
                self.labels.remove(app);
            }
        }
        self.derive(app);
    }

    /// What is reached under the labels of an app, by label.
    pub fn labels_of(&self, app: &AppName) -> impl Iterator<Item = &EphemeralRoute> {
        self.labels.get(app).into_iter().flat_map(OrdMap::values)
    }

    pub fn label_of(&self, app: &AppName, label: &str) -> Option<&EphemeralRoute> {
        self.labels.get(app)?.get(label)
    }

    /// Removes an app with its labels; returns the hosts that somebody had led to it.
    pub fn remove_app(&mut self, app: &AppName) -> Vec<String> {
        self.active.remove(app);
        self.labels.remove(app);
        let hosts: Vec<String> = self.hosts_of(app).map(str::to_owned).collect();
        for host in &hosts {
            self.remove(host);
        }
        self.derive(app);
        hosts
    }

    /// The route of a host, whether somebody has set it or an app has it by its name.
    pub fn get(&self, host: &str) -> Option<&Route> {
        self.routes.get(host).or_else(|| self.derived.get(host))
    }

    /// The route that somebody has set for a host.
    pub fn settled(&self, host: &str) -> Option<&Route> {
        self.routes.get(host)
    }

    /// All of them, by host.
    pub fn routes(&self) -> Vec<&Route> {
        let mut routes: Vec<&Route> = self.routes.values().chain(self.derived.values()).collect();
        routes.sort_by(|a, b| a.host.cmp(&b.host));
        routes
    }

    /// What serves `app`, and by which deploy.
    pub fn active(&self, app: &AppName) -> Option<&ActiveRecord> {
        self.active.get(app)
    }

    /// The route that `app` has by its name.
    pub fn derived_of(&self, app: &AppName) -> Option<&Route> {
        self.derived.get(&self.names.host_of(app)?)
    }

    /// Hosts that somebody has led to `app`, the default route's included.
    pub fn hosts_of(&self, app: &AppName) -> impl Iterator<Item = &str> {
        self.hosts.get(app).into_iter().flatten().map(String::as_str)
    }

    /// The app that answers for hosts without a route.
    pub fn default_app(&self) -> Option<&AppName> {
        Some(&self.routes.get(DEFAULT_HOST)?.app)
    }

    fn default_route(&self) -> Option<RouteDestination> {
        self.routes.get(DEFAULT_HOST).map(destination)
    }

    fn cluster_host(&self) -> Option<String> {
        self.names.cluster_host.as_deref().map(str::to_owned)
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// What `app` serves; nothing when it has neither an active version nor a label.
    fn serves(&self, app: &AppName) -> Option<AppRouting> {
        let (active, labels) = (self.active.get(app), self.labels.get(app));
        (active.is_some() || labels.is_some()).then(|| AppRouting {
            active: active.map(|active| active.version.clone()),
            ephemeral: labels.into_iter().flat_map(OrdMap::values).cloned().collect(),
        })
    }

    /// All of it, as generation `generation` of no lineage yet.
    pub fn snapshot(&self, generation: u64) -> RoutingSnapshot {
        let apps: BTreeSet<&AppName> = self.active.keys().chain(self.labels.keys()).collect();
        let serves = |app: &AppName| Some((app.clone(), self.serves(app)?));
        let routes = self.routes().into_iter().filter(|route| !route.default);
        RoutingSnapshot {
            generation,
            lineage: String::new(),
            routes: routes.map(rule).collect(),
            default: self.default_route(),
            cluster_host: self.cluster_host(),
            apps: apps.into_iter().filter_map(serves).collect(),
        }
    }

    /// What turns the snapshot of `before` into this one's; none when they say the same. Numbers are left to the caller.
    pub fn delta(&self, before: &Self) -> Option<RoutingDelta> {
        let mut delta = RoutingDelta {
            default: self.default_route(),
            cluster_host: self.cluster_host(),
            ..RoutingDelta::default()
        };
        let set = before.routes.diff(&self.routes).map(|item| sides(item).0);
        let derived = before.derived.diff(&self.derived).map(|item| sides(item).0);
        for host in set.chain(derived).collect::<BTreeSet<_>>() {
            let now = self.get(host);
            match now {
                _ if host == DEFAULT_HOST || before.get(host).map(destination) == now.map(destination) => {}
                Some(route) => delta.routes.push(rule(route)),
                None => delta.removed_routes.push(host.clone()),
            }
        }
        let active = before.active.diff(&self.active).map(|item| sides(item).0);
        let labels = before.labels.diff(&self.labels).map(|item| sides(item).0);
        for app in active.chain(labels).collect::<BTreeSet<_>>() {
            match self.serves(app) {
                now if now == before.serves(app) => {}
                Some(serves) => drop(delta.apps.insert(app.clone(), serves)),
                None => delta.removed_apps.push(app.clone()),
            }
        }
        let same = RoutingDelta {
            default: before.default_route(),
            cluster_host: before.cluster_host(),
            ..RoutingDelta::default()
        };
        (delta != same).then_some(delta)
    }
}

fn rule(route: &Route) -> RouteRule {
    RouteRule {
        host: route.host.clone(),
        to: destination(route),
    }
}

fn destination(route: &Route) -> RouteDestination {
    RouteDestination {
        timeout_ms: route.timeout_ms,
        maintenance: route.maintenance,
        ..RouteDestination::new(route.app.clone(), &*route.service)
    }
}

/// A key with its value before and after.
fn sides<'a, K, V>(item: DiffItem<'a, 'a, K, V>) -> (&'a K, Option<&'a V>, Option<&'a V>) {
    match item {
        DiffItem::Add(key, now) => (key, None, Some(now)),
        DiffItem::Update { old, new } => (new.0, Some(old.1), Some(new.1)),
        DiffItem::Remove(key, before) => (key, Some(before), None),
    }
}
