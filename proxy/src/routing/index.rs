//! How a host leads to a version: exact route, then wildcard, then a label before one of these, then one below the cluster's own
//! host, then default.

use super::Served;
use super::hosts::{Hashed, HostTable};
use super::serving::{Led, Route, Serving};
use imbl::{HashMap, OrdMap, OrdSet};
use jiff::Timestamp;
use miren_api::host;
use miren_api::routing::{AppRouting, RouteDestination, RouteRule, RoutingDelta, RoutingSnapshot};
use miren_api::{AppName, VersionId};
use smol_str::SmolStr;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The service that labels of an app below the cluster's own host lead to.
const WEB: &str = "web";

/// What a request is for: one service of one version. Leases are kept per target, so versions never mix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub app: AppName,
    pub version: VersionId,
    pub service: String,
}

/// What a host leads to, and how long that may take to begin an answer if its route says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<T> {
    pub target: T,
    pub timeout: Option<Duration>,
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
    /// The route turns requests away, and tells them to come back after so many seconds.
    Maintenance(u64),
}

/// A routing snapshot in the form that answers fast. A clone shares all it has with the original, so that the next generation
/// costs what changed: the routes and apps that a delta names, and the hosts of these apps.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    served: Served,
    exact: HostTable<Route>,
    /// Keyed by what follows `*.`: one label may stand in its place.
    wildcard: HostTable<Route>,
    default: Option<Route>,
    cluster_host: Option<String>,
    apps: OrdMap<AppName, AppRouting>,
    /// What routes lead to, the default's included.
    led: HashMap<AppName, Arc<Vec<Led>>>,
    /// The hosts of each app, as its routes have them.
    hosts: OrdSet<(AppName, SmolStr)>,
    /// Apps with labels, by name, as they are reached below the cluster's own host; empty without one.
    previews: HostTable<Arc<Serving>>,
}

impl RouteTable {
    pub fn new(snapshot: &RoutingSnapshot) -> Self {
        let mut table = Self {
            served: Served::of(snapshot),
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
        if Served::before(delta) != self.served {
            return None;
        }
        let mut next = Self {
            served: Served::after(delta),
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
        let route = self.lead(&rule.to);
        let (table, key) = self.place(&name);
        let before = table.insert(Hashed::new(key), route);
        if let Some(before) = before {
            self.gone(&name, &before);
        }
        self.hosts.insert((rule.to.app.clone(), name.into()));
    }

    fn remove(&mut self, host: &str) {
        let (table, key) = self.place(host);
        if let Some(before) = table.remove(Hashed::new(key)) {
            self.gone(host, &before);
        }
    }

    fn gone(&mut self, host: &str, before: &Route) {
        let to = before.destination();
        self.lead_no_more(&to);
        self.hosts.remove(&(to.app, host.into()));
    }

    fn set_default(&mut self, to: Option<&RouteDestination>) {
        let before = self.default.as_ref().map(Route::destination);
        if before.as_ref() == to {
            return;
        }
        self.default = to.map(|to| self.lead(to));
        if let Some(before) = before {
            self.lead_no_more(&before);
        }
    }

    fn set_cluster_host(&mut self, host: Option<&str>) {
        let host = host.map(host::normalise).filter(|host| !host.is_empty());
        if self.cluster_host == host {
            return;
        }
        self.cluster_host = host;
        self.previews = HostTable::default();
        let apps: Vec<AppName> = self.apps.keys().cloned().collect();
        apps.iter().for_each(|app| self.renew_preview(app));
    }

    /// One more route leads there.
    fn lead(&mut self, to: &RouteDestination) -> Route {
        let routing = self.apps.get(&to.app);
        let services = Arc::make_mut(self.led.entry(to.app.clone()).or_default());
        let serving = match services.iter_mut().find(|led| led.serving.is(&to.app, &to.service)) {
            Some(led) => {
                led.routes += 1;
                Arc::clone(&led.serving)
            }
            None => {
                let serving = Arc::new(Serving::of(&to.app, &to.service, routing));
                services.push(Led {
                    routes: 1,
                    serving: Arc::clone(&serving),
                });
                serving
            }
        };
        Route::new(to, serving)
    }

    fn lead_no_more(&mut self, to: &RouteDestination) {
        let Some(services) = self.led.get_mut(&to.app).map(Arc::make_mut) else {
            return;
        };
        for led in services.iter_mut().filter(|led| led.serving.is(&to.app, &to.service)) {
            led.routes -= 1;
        }
        services.retain(|led| led.routes > 0);
        if services.is_empty() {
            self.led.remove(&to.app);
        }
    }

    /// What `app` serves has changed, and each of its routes has to know.
    fn renew(&mut self, app: &AppName) {
        let routing = self.apps.get(app);
        if let Some(services) = self.led.get_mut(app) {
            for led in Arc::make_mut(services) {
                led.serving = Arc::new(Serving::of(app, led.serving.service(), routing));
            }
            let services = Arc::clone(services);
            self.renew_routes(app, &services);
        }
        self.renew_preview(app);
    }

    fn renew_routes(&mut self, app: &AppName, services: &[Led]) {
        let renew = |route: &mut Route| {
            let led = services.iter().find(|led| led.serving.is(app, route.serving.service()));
            if let Some(led) = led {
                route.serving = Arc::clone(&led.serving);
            }
        };
        let hosts = self.hosts.clone();
        let from = (app.clone(), SmolStr::default());
        for (_, host) in hosts.range(from..).take_while(|(of, _)| of == app) {
            let (table, key) = self.place(host);
            if let Some(route) = table.get_mut(Hashed::new(key)) {
                renew(route);
            }
        }
        if let Some(default) = self.default.as_mut().filter(|default| default.leads_to(app)) {
            renew(default);
        }
    }

    fn renew_preview(&mut self, app: &AppName) {
        let routing = self.apps.get(app).filter(|routing| !routing.ephemeral.is_empty());
        let name = Hashed::new(app.as_str());
        match routing.filter(|_| self.cluster_host.is_some()) {
            Some(routing) => {
                let serving = Serving::of(app, WEB, Some(routing)).without_active();
                self.previews.insert(name, Arc::new(serving));
            }
            None => drop(self.previews.remove(name)),
        }
    }

    /// Where a host is kept, and under what name.
    fn place<'a>(&mut self, name: &'a str) -> (&mut HostTable<Route>, &'a str) {
        match name.strip_prefix("*.") {
            Some(suffix) => (&mut self.wildcard, suffix),
            None => (&mut self.exact, name),
        }
    }

    /// As it came from control.
    pub fn snapshot(&self) -> RoutingSnapshot {
        let rule = |host: String, route: &Route| RouteRule {
            host,
            to: route.destination(),
        };
        let exact = self.exact.iter().map(|(host, route)| rule(host.to_string(), route));
        let wildcard = self.wildcard.iter();
        let wildcard = wildcard.map(|(suffix, route)| rule(format!("*.{suffix}"), route));
        let mut routes: Vec<RouteRule> = exact.chain(wildcard).collect();
        routes.sort_by(|a, b| a.host.cmp(&b.host));
        let apps = self.apps.iter();
        RoutingSnapshot {
            generation: self.served.generation,
            lineage: self.served.lineage.to_string(),
            routes,
            default: self.default.as_ref().map(Route::destination),
            cluster_host: self.cluster_host.clone(),
            apps: apps.map(|(app, routing)| (app.clone(), routing.clone())).collect(),
        }
    }

    pub fn generation(&self) -> u64 {
        self.served.generation
    }

    /// What it is.
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// Finds the target of the value of a `Host` header. Allocates only when it has upper-case letters.
    ///
    /// A host that a route matches is never read as a label, and a label before a host that a route matches is that of the
    /// route's app or nothing: it leads neither to the app itself nor to the default.
    pub fn resolve(&self, host: &str, now: Timestamp) -> Result<Found<&Arc<Target>>, Miss> {
        let host = lower_case(host::without_port(host));
        if let Some(route) = self.exact.get(Hashed::new(&host)) {
            return route.active();
        }
        let labelled = host.split_once('.').filter(|(label, _)| !label.is_empty());
        if let Some((label, rest)) = labelled {
            let above = Hashed::new(rest);
            if let Some(route) = self.wildcard.get(above) {
                return route.active();
            }
            if let Some(route) = self.exact.get(above).or_else(|| self.under_wildcard(rest)) {
                return route.labelled(label, now);
            }
            if let Some(found) = self.below_cluster_host(label, rest, now) {
                return found;
            }
        }
        self.default.as_ref().map_or(Err(Miss::Host), Route::active)
    }

    fn under_wildcard(&self, host: &str) -> Option<&Route> {
        let (label, suffix) = host.split_once('.')?;
        self.wildcard.get(Hashed::new(suffix)).filter(|_| !label.is_empty())
    }

    /// A label of the app that `host` names below the cluster's own host, if it has any; or of the default route where `host` is
    /// the cluster's own, if it has this one.
    fn below_cluster_host(&self, label: &str, host: &str, now: Timestamp) -> Option<Result<Found<&Arc<Target>>, Miss>> {
        let own = self.cluster_host.as_deref()?;
        if host == own {
            let found = self.default.as_ref()?.labelled(label, now);
            return Some(found).filter(|found| *found != Err(Miss::Label));
        }
        let (app, above) = host.split_once('.')?;
        if above != own {
            return None;
        }
        let found = self.previews.get(Hashed::new(app))?.labelled(label, now);
        Some(found.map(|target| Found { target, timeout: None }))
    }

    /// Whether any host leads to `app`.
    pub fn leads_to(&self, app: &AppName) -> bool {
        self.led.contains_key(app) || self.preview(app).is_some()
    }

    fn preview(&self, app: &AppName) -> Option<&Arc<Serving>> {
        self.previews.get(Hashed::new(app.as_str()))
    }

    /// Whether a request can have this target.
    pub fn has(&self, target: &Target) -> bool {
        let services = self
            .led
            .get(&target.app)
            .into_iter()
            .flat_map(|services| services.iter());
        let led = services.map(|led| &led.serving);
        let mut serving = led.chain(self.preview(&target.app));
        serving.any(|serving| serving.targets().any(|known| **known == *target))
    }

    /// Every target a request can have; one may come twice.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        let led = self.led.values().flat_map(|services| services.iter());
        let previews = self.previews.iter().map(|(_, serving)| serving);
        let serving = led.map(|led| &led.serving).chain(previews);
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
