//! How a host leads to a version: exact route, then wildcard, then ephemeral label, then default.

use imbl::{HashMap, OrdMap, OrdSet};
use jiff::Timestamp;
use miren_api::host;
use miren_api::routing::{AppRouting, RouteDestination, RouteRule, RoutingDelta, RoutingSnapshot};
use miren_api::{AppName, VersionId};
use std::borrow::Cow;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// What a request is for: one service of one version. Leases are kept per target, so versions never mix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub app: AppName,
    pub version: VersionId,
    pub service: String,
}

/// Why a host leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No route matches.
    Host,
    /// The app has no active version.
    Version,
    /// The app has no live version under this label.
    Label,
}

/// What one route leads to.
#[derive(Debug)]
struct Destination {
    to: RouteDestination,
    active: Option<Arc<Target>>,
    ephemeral: Vec<Ephemeral>,
}

#[derive(Debug)]
struct Ephemeral {
    label: String,
    expires_at: Timestamp,
    target: Arc<Target>,
}

/// A routing snapshot in the form that answers fast. A clone shares all it has with the original, so that the next generation
/// costs what changed.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    generation: u64,
    exact: HashMap<String, Arc<Destination>>,
    /// Keyed by what follows `*.`: one label may stand in its place.
    wildcard: HashMap<String, Arc<Destination>>,
    default: Option<Arc<Destination>>,
    apps: OrdMap<AppName, AppRouting>,
    /// Hosts by the app they lead to, a wildcard with its `*.`, the default left out.
    hosts: OrdMap<AppName, OrdSet<String>>,
}

impl RouteTable {
    pub fn new(snapshot: &RoutingSnapshot) -> Self {
        let mut table = Self {
            generation: snapshot.generation,
            apps: snapshot.apps.clone().into(),
            ..Self::default()
        };
        snapshot.routes.iter().for_each(|rule| table.set(rule));
        table.set_default(snapshot.default.as_ref());
        table
    }

    /// The table of a later generation; none when `delta` does not begin at this one.
    pub fn after(&self, delta: &RoutingDelta) -> Option<Self> {
        if delta.from != self.generation {
            return None;
        }
        let mut next = Self {
            generation: delta.generation,
            ..self.clone()
        };
        delta.removed_routes.iter().for_each(|host| next.remove(host));
        for app in &delta.removed_apps {
            next.apps.remove(app);
            next.renew(app);
        }
        for (app, routing) in &delta.apps {
            next.apps.insert(app.clone(), routing.clone());
            next.renew(app);
        }
        delta.routes.iter().for_each(|rule| next.set(rule));
        next.set_default(delta.default.as_ref());
        Some(next)
    }

    fn set(&mut self, rule: &RouteRule) {
        let name = host::normalise(&rule.host);
        self.remove(&name);
        let to = self.destination(&rule.to);
        let (table, key) = self.place(&name);
        table.insert(key.to_owned(), to);
        self.hosts.entry(rule.to.app.clone()).or_default().insert(name);
    }

    fn remove(&mut self, host: &str) {
        let (table, key) = self.place(host);
        let Some(before) = table.remove(key) else {
            return;
        };
        if let Some(hosts) = self.hosts.get_mut(&before.to.app) {
            hosts.remove(host);
            if hosts.is_empty() {
                self.hosts.remove(&before.to.app);
            }
        }
    }

    fn set_default(&mut self, to: Option<&RouteDestination>) {
        self.default = to.map(|to| self.destination(to));
    }

    /// What `app` serves has changed: its hosts lead there.
    fn renew(&mut self, app: &AppName) {
        for name in self.hosts.get(app).cloned().unwrap_or_default() {
            if let Some(to) = self.found(&name).map(|before| self.destination(&before.to)) {
                let (table, key) = self.place(&name);
                table.insert(key.to_owned(), to);
            }
        }
    }

    /// Where a host is kept, and under what name.
    fn place<'a>(&mut self, name: &'a str) -> (&mut HashMap<String, Arc<Destination>>, &'a str) {
        match name.strip_prefix("*.") {
            Some(suffix) => (&mut self.wildcard, suffix),
            None => (&mut self.exact, name),
        }
    }

    fn found(&self, name: &str) -> Option<&Arc<Destination>> {
        match name.strip_prefix("*.") {
            Some(suffix) => self.wildcard.get(suffix),
            None => self.exact.get(name),
        }
    }

    fn destination(&self, to: &RouteDestination) -> Arc<Destination> {
        let target = |version: &VersionId| {
            Arc::new(Target {
                app: to.app.clone(),
                version: version.clone(),
                service: to.service.clone(),
            })
        };
        let app = self.apps.get(&to.app);
        let labels = app.map_or(&[][..], |app| &app.ephemeral).iter();
        let ephemeral = labels.map(|route| Ephemeral {
            label: route.label.to_ascii_lowercase(),
            expires_at: route.expires_at,
            target: target(&route.version),
        });
        Arc::new(Destination {
            to: to.clone(),
            active: app.and_then(|app| app.active.as_ref()).map(target),
            ephemeral: ephemeral.collect(),
        })
    }

    /// As it came from control.
    pub fn snapshot(&self) -> RoutingSnapshot {
        let names = self.hosts.values().flatten();
        let rule = |name: &String| {
            let to = self.found(name)?.to.clone();
            Some(RouteRule { host: name.clone(), to })
        };
        let mut routes: Vec<RouteRule> = names.filter_map(rule).collect();
        routes.sort_by(|a, b| a.host.cmp(&b.host));
        RoutingSnapshot {
            generation: self.generation,
            routes,
            default: self.default.as_ref().map(|default| default.to.clone()),
            apps: self
                .apps
                .iter()
                .map(|(app, routing)| (app.clone(), routing.clone()))
                .collect(),
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Finds the target of the value of a `Host` header. Allocates only when it has upper-case letters.
    pub fn resolve(&self, host: &str, now: Timestamp) -> Result<&Arc<Target>, Miss> {
        let host = lower_case(host::without_port(host));
        if let Some(to) = self.exact.get(&*host) {
            return to.active();
        }
        if let Some((label, rest)) = host.split_once('.') {
            if let Some(to) = self.wildcard.get(rest) {
                return to.active();
            }
            if let Some(to) = self.exact.get(rest) {
                return to.ephemeral(label, now);
            }
        }
        match &self.default {
            Some(to) => to.active(),
            None => Err(Miss::Host),
        }
    }

    /// Whether any host leads to `app`.
    pub fn leads_to(&self, app: &AppName) -> bool {
        let is_default = self.default.as_ref().is_some_and(|to| to.to.app == *app);
        is_default || self.hosts.contains_key(app)
    }

    /// Whether a request can have this target.
    pub fn has(&self, target: &Target) -> bool {
        let names = self.hosts.get(&target.app).into_iter().flatten();
        let mut destinations = names.filter_map(|name| self.found(name)).chain(&self.default);
        destinations.any(|to| to.targets().any(|known| **known == *target))
    }

    /// Every target a request can have.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        let routes = self.exact.values().chain(self.wildcard.values()).chain(&self.default);
        routes.flat_map(|to| to.targets())
    }
}

impl Destination {
    fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        let labels = self.ephemeral.iter().map(|label| &label.target);
        self.active.iter().chain(labels)
    }

    fn active(&self) -> Result<&Arc<Target>, Miss> {
        self.active.as_ref().ok_or(Miss::Version)
    }

    /// An expired label is as good as none, and never hides a live one of the same name.
    fn ephemeral(&self, label: &str, now: Timestamp) -> Result<&Arc<Target>, Miss> {
        let live = self
            .ephemeral
            .iter()
            .filter(|route| route.label == label && now < route.expires_at);
        live.max_by_key(|route| route.expires_at)
            .map(|route| &route.target)
            .ok_or(Miss::Label)
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}
