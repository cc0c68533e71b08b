//! How a host leads to a version: exact route, then wildcard, then a label before one of these, then default.

use super::serving::{Led, Serving};
use imbl::{HashMap, OrdMap};
use jiff::Timestamp;
use miren_api::host;
use miren_api::routing::{AppRouting, RouteDestination, RouteRule, RoutingDelta, RoutingSnapshot};
use miren_api::{AppName, VersionId};
use std::borrow::Cow;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// The service that labels below the cluster's own host lead to.
const WEB: &str = "web";

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
    /// The app has no version under this label.
    Label,
    /// It had one until then.
    Expired(Timestamp),
}

/// A routing snapshot in the form that answers fast. A clone shares all it has with the original, so that the next generation
/// costs what changed: a host names an app's service, and what that serves is kept once, however many hosts name it.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    generation: u64,
    exact: HashMap<String, Arc<RouteDestination>>,
    /// Keyed by what follows `*.`: one label may stand in its place.
    wildcard: HashMap<String, Arc<RouteDestination>>,
    default: Option<Arc<RouteDestination>>,
    cluster_host: Option<String>,
    apps: OrdMap<AppName, AppRouting>,
    /// What routes lead to, the default's included.
    led: HashMap<AppName, Arc<Vec<Led>>>,
    /// Apps with labels, by name, as they are reached below the cluster's own host; empty without one.
    previews: HashMap<String, Arc<Serving>>,
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
        table.set_cluster_host(snapshot.cluster_host.as_deref());
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
        next.set_cluster_host(delta.cluster_host.as_deref());
        Some(next)
    }

    fn set(&mut self, rule: &RouteRule) {
        let name = host::normalise(&rule.host);
        self.remove(&name);
        self.lead(&rule.to);
        let (table, key) = self.place(&name);
        table.insert(key.to_owned(), Arc::new(rule.to.clone()));
    }

    fn remove(&mut self, host: &str) {
        let (table, key) = self.place(host);
        if let Some(before) = table.remove(key) {
            self.lead_no_more(&before);
        }
    }

    fn set_default(&mut self, to: Option<&RouteDestination>) {
        if self.default.as_deref() == to {
            return;
        }
        if let Some(before) = self.default.take() {
            self.lead_no_more(&before);
        }
        if let Some(to) = to {
            self.lead(to);
            self.default = Some(Arc::new(to.clone()));
        }
    }

    fn set_cluster_host(&mut self, host: Option<&str>) {
        let host = host.map(host::normalise).filter(|host| !host.is_empty());
        if self.cluster_host == host {
            return;
        }
        self.cluster_host = host;
        self.previews = HashMap::new();
        let apps: Vec<AppName> = self.apps.keys().cloned().collect();
        apps.iter().for_each(|app| self.renew_preview(app));
    }

    /// One more route leads there.
    fn lead(&mut self, to: &RouteDestination) {
        let routing = self.apps.get(&to.app);
        let services = Arc::make_mut(self.led.entry(to.app.clone()).or_default());
        match services.iter_mut().find(|led| led.service == to.service) {
            Some(led) => led.routes += 1,
            None => services.push(Led {
                service: to.service.clone(),
                routes: 1,
                serving: Arc::new(Serving::of(&to.app, &to.service, routing)),
            }),
        }
    }

    fn lead_no_more(&mut self, to: &RouteDestination) {
        let Some(services) = self.led.get_mut(&to.app).map(Arc::make_mut) else {
            return;
        };
        for led in services.iter_mut().filter(|led| led.service == to.service) {
            led.routes -= 1;
        }
        services.retain(|led| led.routes > 0);
        if services.is_empty() {
            self.led.remove(&to.app);
        }
    }

    /// What `app` serves has changed.
    fn renew(&mut self, app: &AppName) {
        let routing = self.apps.get(app);
        if let Some(services) = self.led.get_mut(app) {
            for led in Arc::make_mut(services) {
                led.serving = Arc::new(Serving::of(app, &led.service, routing));
            }
        }
        self.renew_preview(app);
    }

    fn renew_preview(&mut self, app: &AppName) {
        let routing = self.apps.get(app).filter(|routing| !routing.ephemeral.is_empty());
        match routing.filter(|_| self.cluster_host.is_some()) {
            Some(routing) => {
                let serving = Serving::of(app, WEB, Some(routing)).without_active();
                self.previews.insert(app.to_string(), Arc::new(serving));
            }
            None => drop(self.previews.remove(app.as_str())),
        }
    }

    /// Where a host is kept, and under what name.
    fn place<'a>(&mut self, name: &'a str) -> (&mut HashMap<String, Arc<RouteDestination>>, &'a str) {
        match name.strip_prefix("*.") {
            Some(suffix) => (&mut self.wildcard, suffix),
            None => (&mut self.exact, name),
        }
    }

    /// As it came from control.
    pub fn snapshot(&self) -> RoutingSnapshot {
        let rule = |host: String, to: &Arc<RouteDestination>| RouteRule {
            host,
            to: RouteDestination::clone(to),
        };
        let exact = self.exact.iter().map(|(host, to)| rule(host.clone(), to));
        let wildcard = self.wildcard.iter().map(|(suffix, to)| rule(format!("*.{suffix}"), to));
        let mut routes: Vec<RouteRule> = exact.chain(wildcard).collect();
        routes.sort_by(|a, b| a.host.cmp(&b.host));
        let apps = self.apps.iter();
        RoutingSnapshot {
            generation: self.generation,
            routes,
            default: self.default.as_deref().cloned(),
            cluster_host: self.cluster_host.clone(),
            apps: apps.map(|(app, routing)| (app.clone(), routing.clone())).collect(),
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Finds the target of the value of a `Host` header. Allocates only when it has upper-case letters.
    ///
    /// A host that a route matches is never read as a label, and a label before a host that a route matches is that of the
    /// route's app or nothing: it leads neither to the app itself nor to the default.
    pub fn resolve(&self, host: &str, now: Timestamp) -> Result<&Arc<Target>, Miss> {
        let host = lower_case(host::without_port(host));
        if let Some(to) = self.exact.get(&*host) {
            return self.serving(to).and_then(Serving::active);
        }
        let labelled = host.split_once('.').filter(|(label, _)| !label.is_empty());
        if let Some((label, rest)) = labelled {
            if let Some(to) = self.wildcard.get(rest) {
                return self.serving(to).and_then(Serving::active);
            }
            if let Some(to) = self.exact.get(rest).or_else(|| self.under_wildcard(rest)) {
                return self.serving(to)?.labelled(label, now);
            }
            if let Some(serving) = self.under_cluster_host(rest) {
                return serving.labelled(label, now);
            }
        }
        match &self.default {
            Some(to) => self.serving(to).and_then(Serving::active),
            None => Err(Miss::Host),
        }
    }

    fn under_wildcard(&self, host: &str) -> Option<&Arc<RouteDestination>> {
        let (label, suffix) = host.split_once('.')?;
        self.wildcard.get(suffix).filter(|_| !label.is_empty())
    }

    /// The app that `host` names below the cluster's own host, if it has labels.
    fn under_cluster_host(&self, host: &str) -> Option<&Serving> {
        let (app, rest) = host.split_once('.')?;
        if self.cluster_host.as_deref() != Some(rest) {
            return None;
        }
        self.previews.get(app).map(|serving| &**serving)
    }

    fn serving(&self, to: &RouteDestination) -> Result<&Serving, Miss> {
        let services = self.led.get(&to.app).ok_or(Miss::Version)?;
        let led = services.iter().find(|led| led.service == to.service);
        led.map(|led| &*led.serving).ok_or(Miss::Version)
    }

    /// Whether any host leads to `app`.
    pub fn leads_to(&self, app: &AppName) -> bool {
        self.led.contains_key(app) || self.previews.contains_key(app.as_str())
    }

    /// Whether a request can have this target.
    pub fn has(&self, target: &Target) -> bool {
        let services = self
            .led
            .get(&target.app)
            .into_iter()
            .flat_map(|services| services.iter());
        let led = services.map(|led| &led.serving);
        let mut serving = led.chain(self.previews.get(target.app.as_str()));
        serving.any(|serving| serving.targets().any(|known| **known == *target))
    }

    /// Every target a request can have; one may come twice.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        let led = self.led.values().flat_map(|services| services.iter());
        let serving = led.map(|led| &led.serving).chain(self.previews.values());
        serving.flat_map(|serving| serving.targets())
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}
