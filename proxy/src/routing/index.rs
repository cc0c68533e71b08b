//! How a host leads to a version: exact route, then wildcard, then ephemeral label, then default.

use jiff::Timestamp;
use miren_api::host;
use miren_api::routing::{RouteDestination, RoutingSnapshot};
use miren_api::{AppName, VersionId};
use std::borrow::Cow;
use std::collections::HashMap;
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
    active: Option<Arc<Target>>,
    ephemeral: Vec<Ephemeral>,
}

#[derive(Debug)]
struct Ephemeral {
    label: String,
    expires_at: Timestamp,
    target: Arc<Target>,
}

/// A routing snapshot in the form that answers fast.
#[derive(Debug)]
pub struct RouteTable {
    generation: u64,
    exact: HashMap<String, Arc<Destination>>,
    /// Keyed by what follows `*.`: one label may stand in its place.
    wildcard: HashMap<String, Arc<Destination>>,
    default: Option<Arc<Destination>>,
}

impl RouteTable {
    pub fn new(snapshot: &RoutingSnapshot) -> Self {
        let mut table = Self {
            generation: snapshot.generation,
            exact: HashMap::with_capacity(snapshot.routes.len()),
            wildcard: HashMap::new(),
            default: snapshot.default.as_ref().map(|to| destination(snapshot, to)),
        };
        for rule in &snapshot.routes {
            let to = destination(snapshot, &rule.to);
            let host = host::normalise(&rule.host);
            match host.strip_prefix("*.") {
                Some(suffix) => table.wildcard.insert(suffix.to_owned(), to),
                None => table.exact.insert(host, to),
            };
        }
        table
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

    /// Every target a request can have.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        let routes = self.exact.values().chain(self.wildcard.values()).chain(&self.default);
        routes.flat_map(|to| to.active.iter().chain(to.ephemeral.iter().map(|label| &label.target)))
    }
}

impl Destination {
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

fn destination(snapshot: &RoutingSnapshot, to: &RouteDestination) -> Arc<Destination> {
    let target = |version: &VersionId| {
        Arc::new(Target {
            app: to.app.clone(),
            version: version.clone(),
            service: to.service.clone(),
        })
    };
    let Some(app) = snapshot.apps.get(&to.app) else {
        return Arc::new(Destination {
            active: None,
            ephemeral: Vec::new(),
        });
    };
    let ephemeral = app.ephemeral.iter().map(|route| Ephemeral {
        label: route.label.to_ascii_lowercase(),
        expires_at: route.expires_at,
        target: target(&route.version),
    });
    Arc::new(Destination {
        active: app.active.as_ref().map(target),
        ephemeral: ephemeral.collect(),
    })
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}
