//! Decides what a snapshot contains, from routes and from what serves each app.

use crate::record::{ActiveRecord, RouteRecord};
use miren_api::id::AppName;
use miren_api::resource::Route;
use miren_api::routing::{AppRouting, RouteDestination, RouteRule, RoutingSnapshot};
use std::collections::BTreeMap;

/// Host of the default route in lists.
pub const DEFAULT_HOST: &str = "(default)";

/// Every route and every active version.
#[derive(Clone, Debug, Default)]
pub struct Table {
    routes: BTreeMap<String, Route>,
    pub active: BTreeMap<AppName, ActiveRecord>,
}

impl Table {
    pub fn new(routes: Vec<RouteRecord>, active: Vec<ActiveRecord>) -> Self {
        Self {
            routes: routes
                .into_iter()
                .map(|RouteRecord(route)| (route.host.clone(), route))
                .collect(),
            active: active.into_iter().map(|active| (active.app.clone(), active)).collect(),
        }
    }

    pub fn set(&mut self, route: Route) {
        self.routes.insert(route.host.clone(), route);
    }

    pub fn remove(&mut self, host: &str) {
        self.routes.remove(host);
    }

    /// Removes an app; returns the hosts that led to it.
    pub fn remove_app(&mut self, app: &AppName) -> Vec<String> {
        self.active.remove(app);
        let hosts: Vec<String> = self.hosts_of(app).map(str::to_owned).collect();
        for host in &hosts {
            self.routes.remove(host);
        }
        hosts
    }

    pub fn get(&self, host: &str) -> Option<&Route> {
        self.routes.get(host)
    }

    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    /// Hosts that lead to `app`, the default route's included.
    pub fn hosts_of<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = &'a str> {
        let of_app = self.routes.values().filter(move |route| route.app == *app);
        of_app.map(|route| route.host.as_str())
    }

    /// Where an app can be reached: its hosts without wildcards and without the default route.
    pub fn urls_of(&self, app: &AppName) -> Vec<String> {
        let named = self
            .routes
            .values()
            .filter(|route| route.app == *app && !route.default && !route.wildcard);
        named.map(|route| format!("http://{}", route.host)).collect()
    }

    pub fn snapshot(&self, generation: u64) -> RoutingSnapshot {
        let to = |route: &Route| RouteDestination {
            app: route.app.clone(),
            service: route.service.clone(),
        };
        let (default, named): (Vec<&Route>, Vec<&Route>) = self.routes.values().partition(|route| route.default);
        let rule = |route: &Route| RouteRule {
            host: route.host.clone(),
            to: to(route),
        };
        let serves = |active: &ActiveRecord| AppRouting {
            active: Some(active.version.clone()),
            ephemeral: Vec::new(),
        };
        RoutingSnapshot {
            generation,
            routes: named.into_iter().map(rule).collect(),
            default: default.first().map(|route| to(route)),
            apps: self
                .active
                .iter()
                .map(|(app, active)| (app.clone(), serves(active)))
                .collect(),
        }
    }
}
