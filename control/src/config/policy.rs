//! Decides which keys settle how apps are addressed, how long previews live and what is kept of versions.

use crate::policy::{DrainPolicy, Policy, PreviewPolicy, Retention, Urls};
use miren_api::ephemeral::TTL_MIN;
use miren_api::host::{HOST_MAX, parse_route_host};
use miren_api::id::LABEL_MAX;
use miren_api::settings::{Table, parse_duration};
use std::time::Duration;

/// Longest life that can be allowed: a year.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Longest domain of apps: before it there are a name and a label, each with its dot.
const APPS_DOMAIN_MAX: usize = HOST_MAX - 2 * (LABEL_MAX + 1);

pub(super) fn declare(root: &mut Table<'_, '_, '_>) -> Policy {
    Policy {
        urls: root.table("ingress", ingress),
        previews: root.table("ephemeral", previews),
        retention: root.table("versions", versions),
        drain: DrainPolicy::default(),
    }
}

fn ingress(table: &mut Table<'_, '_, '_>) -> Urls {
    let scheme = table.choice(
        "scheme",
        "http",
        "What URLs of apps begin with.",
        &[("http", "http"), ("https", "https")],
    );
    let doc = "Port that clients reach the ingress at; the usual one of the scheme unless set.";
    let port = table.optional_integer("port", 1..=65_535, doc);
    let doc = "Name of the ingress itself. The default app is there, `LABEL.<cluster_host>` are its previews, and \
               `LABEL.APP.<cluster_host>` those of every app. DNS has to lead `*.<cluster_host>` and `*.*.<cluster_host>` here.";
    let cluster_host = table.optional("cluster_host", doc, own);
    let doc = "Domain below which each app that has a `web` service is `NAME.<apps_domain>` and its previews are \
               `LABEL.NAME.<apps_domain>`, without a route; one that is set for such a host wins. DNS has to lead `*.<apps_domain>` \
               and `*.*.<apps_domain>` here.";
    let apps_domain = table.optional("apps_domain", doc, |text| match domain(text)? {
        host if host.len() > APPS_DOMAIN_MAX => Err(format!(
            "{text:?} has more than {APPS_DOMAIN_MAX} characters: there is no room before it for an app and a label"
        )),
        host => Ok(host),
    });
    Urls {
        scheme: scheme.to_owned(),
        port: port.and_then(|port| u16::try_from(port).ok()),
        cluster_host,
        apps_domain,
    }
}

/// The name of the ingress, or its address.
fn own(text: &str) -> Result<String, String> {
    match parse_route_host(text) {
        Ok(host) if host.starts_with("*.") => Err(format!("{text:?} is a wildcard; write it without \"*.\"")),
        Ok(host) => Ok(host),
        Err(why) => Err(format!("{text:?} {why}")),
    }
}

/// A name that others are below.
fn domain(text: &str) -> Result<String, String> {
    let host = own(text)?;
    let last = host.rsplit('.').next().unwrap_or_default();
    // Clients take a name that ends in a number for an address (WHATWG URL, "ends in a number").
    match last.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Err(format!(
            "{text:?} is an address, and nothing can be below one; write a name"
        )),
        false => Ok(host),
    }
}

fn previews(table: &mut Table<'_, '_, '_>) -> PreviewPolicy {
    let doc = "Most previews of one app; a further one takes the place of the one that expires first.";
    let per_app = table.integer("per_app", 10, 1..=1_000, doc);
    let ttl = table.parsed(
        "ttl",
        "24h",
        "How long a preview lives that nobody set a time for.",
        life,
    );
    let longest_ttl = table.parsed("longest_ttl", "30d", "Longest life that may be asked for.", life);
    if ttl > longest_ttl {
        table.refuse("ttl", "is more than ephemeral.longest_ttl");
    }
    PreviewPolicy {
        per_app: usize::try_from(per_app).unwrap_or(1),
        ttl,
        longest_ttl,
    }
}

fn versions(table: &mut Table<'_, '_, '_>) -> Retention {
    let doc = "Newest versions of an app that stay, with their folders and images, whatever their age.";
    let versions = table.integer("keep", 25, 1..=10_000, doc);
    let doc = "Versions younger than this stay too.";
    Retention {
        versions: usize::try_from(versions).unwrap_or(1),
        age: table.parsed("keep_for", "30d", doc, bounded),
    }
}

fn bounded(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        duration if duration <= YEAR => Ok(duration),
        _ => Err(format!("{text:?} is longer than a year")),
    }
}

fn life(text: &str) -> Result<Duration, String> {
    match bounded(text)? {
        duration if duration >= TTL_MIN => Ok(duration),
        _ => Err(format!("{text:?} is shorter than a second")),
    }
}
