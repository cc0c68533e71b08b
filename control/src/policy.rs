//! Decides what an operator settled for all apps alike: how they are addressed, how long previews live, what is kept of versions.

use crate::routing::{DEFAULT_HOST, Names, Table};
use miren_api::id::{AppName, Label};
use miren_sandbox::Budgets;
use std::time::Duration;

/// Everything that apps' tasks go by.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub urls: Urls,
    pub previews: PreviewPolicy,
    pub retention: Retention,
    pub drain: DrainPolicy,
}

/// Times of a drain of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// What a sandbox gets at most, whatever its service says.
    pub at_most: Budgets,
    /// After which what is left is forced to end; zero: never.
    pub node_timeout: Duration,
}

/// How clients outside reach the ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    pub scheme: String,
    /// None: the usual one of the scheme.
    pub port: Option<u16>,
    /// The ingress's own name; the default app is there, and below it labels of apps that have no host of their own.
    pub cluster_host: Option<String>,
    /// Below it each app that serves is found by its name.
    pub apps_domain: Option<String>,
}

/// Limits of previews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewPolicy {
    /// Most of one app.
    pub per_app: usize,
    /// How long one lives that nobody set a time for.
    pub ttl: Duration,
    pub longest_ttl: Duration,
}

/// Which versions of an app stay although nothing needs them: the newest so many, and all that are younger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    pub versions: usize,
    pub age: Duration,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self {
            at_most: Budgets {
                requests: Duration::from_secs(30),
                tunnels: Duration::from_secs(30),
                grace: Duration::from_secs(10),
            },
            node_timeout: Duration::ZERO,
        }
    }
}

impl Default for Urls {
    fn default() -> Self {
        Self {
            scheme: "http".into(),
            port: None,
            cluster_host: None,
            apps_domain: None,
        }
    }
}

impl Default for PreviewPolicy {
    fn default() -> Self {
        Self {
            per_app: 10,
            ttl: Duration::from_secs(24 * 3600),
            longest_ttl: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            versions: 25,
            age: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl Urls {
    /// What routing is below.
    pub fn names(&self) -> Names {
        Names::new(self.cluster_host.as_deref(), self.apps_domain.as_deref())
    }

    /// Where an app can be reached: its hosts without wildcards, that of its name, and the ingress's own name for the default app.
    pub fn of_app(&self, table: &Table, app: &AppName) -> Vec<String> {
        let mut hosts: Vec<&str> = named(table, app).collect();
        if table.default_app() == Some(app) {
            let own = self.cluster_host.as_deref();
            hosts.extend(own.filter(|own| table.get(own).is_none()));
        }
        hosts.into_iter().map(|host| self.of_host(host)).collect()
    }

    /// Where a label of an app can be reached: before each of its hosts, unless a route of its own is there. The cluster's host
    /// is for apps that have none.
    pub fn of_label(&self, table: &Table, app: &AppName, label: &Label) -> Vec<String> {
        let before = |host: &str| {
            let labelled = format!("{label}.{host}");
            let is_free = table.get(&labelled).is_none() && table.get(&format!("*.{host}")).is_none();
            is_free.then_some(labelled)
        };
        let mut hosts: Vec<String> = named(table, app).filter_map(before).collect();
        if hosts.is_empty() {
            let own = self.cluster_host.iter().map(|host| (format!("{app}.{host}"), host));
            // A label before a host that a route matches is that of the route's app.
            let own = own.filter(|(host, above)| {
                let matched = table.get(host).or_else(|| table.get(&format!("*.{above}")));
                matched.is_none_or(|route| route.app == *app)
            });
            hosts.extend(own.filter_map(|(host, _)| before(&host)));
        }
        hosts.iter().map(|host| self.of_host(host)).collect()
    }

    fn of_host(&self, host: &str) -> String {
        let scheme = &self.scheme;
        match self.port {
            Some(port) if Some(port) != usual_port(scheme) => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        }
    }
}

fn named<'t>(table: &'t Table, app: &AppName) -> impl Iterator<Item = &'t str> {
    let of_name = table.derived_of(app).map(|route| route.host.as_str());
    let hosts = table.hosts_of(app).chain(of_name);
    hosts.filter(|host| *host != DEFAULT_HOST && !host.starts_with("*."))
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_api::resource::Route;

    fn route(host: &str, app: &str) -> Route {
        Route {
            host: host.into(),
            app: AppName::from_text(app),
            service: "web".into(),
            default: host == DEFAULT_HOST,
            wildcard: host.starts_with('*'),
            derived: false,
            timeout_ms: None,
            maintenance: None,
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        for (host, app) in [
            ("shop.example.com", "shop"),
            ("*.shop.example.com", "shop"),
            ("b.example.com", "shop"),
            (DEFAULT_HOST, "blog"),
        ] {
            table.set(route(host, app));
        }
        table
    }

    #[test]
    fn e13_urls_come_from_the_hosts_of_an_app_and_the_cluster_host_is_a_fallback() {
        let (mut table, label) = (table(), Label::from_text("pr1"));
        let (shop, blog) = (AppName::from_text("shop"), AppName::from_text("blog"));
        let mut urls = Urls::default();
        assert_eq!(
            urls.of_app(&table, &shop),
            ["http://b.example.com", "http://shop.example.com"]
        );
        assert_eq!(
            urls.of_label(&table, &shop, &label),
            ["http://pr1.b.example.com"],
            "the wildcard has what is below the other host"
        );
        assert!(urls.of_app(&table, &blog).is_empty() && urls.of_label(&table, &blog, &label).is_empty());
        urls.cluster_host = Some("localhost".into());
        urls.port = Some(8080);
        assert_eq!(urls.of_app(&table, &blog), ["http://localhost:8080"]);
        assert_eq!(urls.of_label(&table, &blog, &label), ["http://pr1.blog.localhost:8080"]);
        assert_eq!(urls.of_label(&table, &shop, &label), ["http://pr1.b.example.com:8080"]);
        table.set(route("pr1.b.example.com", "blog"));
        assert_eq!(urls.of_label(&table, &shop, &label), ["http://pr1.shop.localhost:8080"]);
    }

    #[test]
    fn g15_urls_by_name_are_beside_those_of_routes_and_none_is_another_apps() {
        let urls = Urls {
            cluster_host: Some("localhost".into()),
            apps_domain: Some("localhost".into()),
            ..Urls::default()
        };
        let mut table = table().under(urls.names());
        let (shop, blog, label) = (
            AppName::from_text("shop"),
            AppName::from_text("blog"),
            Label::from_text("pr1"),
        );
        for app in [&shop, &blog] {
            table.install(crate::record::ActiveRecord {
                app: app.clone(),
                version: miren_api::VersionId::from_text("v1"),
                seq: 1,
                web: true,
            });
        }
        let hosts = [
            "http://b.example.com",
            "http://shop.example.com",
            "http://shop.localhost",
        ];
        assert_eq!(urls.of_app(&table, &shop), hosts);
        assert_eq!(
            urls.of_app(&table, &blog),
            ["http://blog.localhost", "http://localhost"],
            "and the ingress's own name for the default app"
        );
        let labels = ["http://pr1.b.example.com", "http://pr1.shop.localhost"];
        assert_eq!(urls.of_label(&table, &shop, &label), labels);
        table.set(route("blog.localhost", "shop"));
        assert_eq!(
            urls.of_app(&table, &blog),
            ["http://localhost"],
            "that host is the shop's"
        );
        assert!(
            urls.of_label(&table, &blog, &label).is_empty(),
            "a label before it is one of the shop's"
        );
        table.set(route("pr1.shop.localhost", "blog"));
        assert_eq!(
            urls.of_label(&table, &shop, &label)[..2],
            ["http://pr1.b.example.com", "http://pr1.blog.localhost"]
        );
        table.set(route("localhost", "shop"));
        assert_eq!(
            urls.of_app(&table, &blog),
            ["http://pr1.shop.localhost"],
            "the ingress's own name is led elsewhere"
        );
    }

    #[test]
    fn e13_the_usual_port_is_left_out() {
        let mut urls = Urls {
            port: Some(443),
            ..Urls::default()
        };
        assert_eq!(urls.of_host("a.b"), "http://a.b:443");
        urls.scheme = "https".into();
        assert_eq!(urls.of_host("a.b"), "https://a.b");
    }
}
