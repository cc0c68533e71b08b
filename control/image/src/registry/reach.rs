//! Decides where the requests of a pull may go: the registry, and each place that it sends to, is of the world or named by the operator.
//!
//! Names are judged by what they are written as, and again by the addresses that they lead to when a connection is made.

use crate::registries::{Authority, Registries, Unnamed, is_of_the_world};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt, Policy};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Most places that one request is sent on to.
const REDIRECTS: usize = 5;
/// Where the environment names proxies, which are the operator's.
const PROXIES: [&str; 6] = [
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// What may be reached.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    registries: Arc<Registries>,
    proxies: Arc<HashSet<String>>,
}

impl Reach {
    pub(super) fn new(registries: &Registries) -> Self {
        let proxies = PROXIES.iter().filter_map(|name| std::env::var(name).ok());
        Self {
            registries: Arc::new(registries.clone()),
            proxies: Arc::new(proxies.filter_map(|proxy| host_of_proxy(&proxy)).collect()),
        }
    }

    /// Whether a request may be made, before a name in it is looked up.
    pub(super) fn check(&self, url: &Url) -> Result<(), Unnamed> {
        let host = url.host_str().unwrap_or_default();
        let place = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let in_full = url
            .port_or_known_default()
            .map_or(place.clone(), |port| format!("{host}:{port}"));
        if self.registries.is_named(&place) || self.registries.is_named(&in_full) {
            return Ok(());
        }
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let is_own = address.is_some_and(|address| own().contains(&address));
        match self.registries.admits(&place) && !is_own {
            true => Ok(()),
            false => Err(Unnamed(place)),
        }
    }

    /// Registries send to where their blobs are kept, but not from TLS to where there is none.
    pub(super) fn redirects(&self) -> Policy {
        let reach = self.clone();
        Policy::custom(move |attempt| reach.follow(attempt))
    }

    fn follow(&self, attempt: Attempt<'_>) -> Action {
        let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if was_secure && attempt.url().scheme() != "https" {
            return attempt.error("the registry sends from https to http");
        }
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("the registry sends from one place to the next without end");
        }
        match self.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(unnamed) => attempt.error(unnamed),
        }
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let is_trusted = self.registries.knows(&host) || self.proxies.contains(&host);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let own = own();
            let may_be_asked = |at: &SocketAddr| is_trusted || (is_of_the_world(at.ip()) && !own.contains(&at.ip()));
            let admitted: Vec<SocketAddr> = found.iter().copied().filter(may_be_asked).collect();
            if admitted.is_empty() && !found.is_empty() {
                return Err(Unnamed(host).into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

/// The addresses of this machine. What listens there may be for nobody outside. A machine that does not tell has none.
fn own() -> HashSet<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let address = |one: nix::ifaddrs::InterfaceAddress| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    all.filter_map(address).collect()
}

/// Of `http://user:secret@proxy.example:3128`, with any part but the host left out.
fn host_of_proxy(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let place = rest.split('/').next()?;
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let host = Authority(place).host();
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(named: &[&str]) -> Reach {
        Reach {
            registries: Arc::new(Registries::new(named.iter().map(|name| (*name).to_owned()).collect())),
            proxies: Arc::default(),
        }
    }

    fn check(named: &[&str], url: &str) -> bool {
        reach(named).check(&url.parse().expect(url)).is_ok()
    }

    #[test]
    fn f1_a_url_is_judged_by_its_host_however_that_is_written() {
        for near in [
            "http://127.0.0.1:5000/v2/",
            "http://0x7f000001/latest",
            "http://2130706433/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::ffff:169.254.169.254]/",
            "http://[2606:4700::1111]/",
            "http://user:secret@localhost/",
            "https://registry/",
        ] {
            assert!(!check(&[], near), "{near}");
        }
        assert!(check(&[], "https://auth.docker.io/token"));
        assert!(check(&["r.example.com:443"], "https://r.example.com/v2/"));
        assert!(check(&["127.0.0.1"], "http://127.0.0.1:5000/v2/"));
        assert!(!check(&["127.0.0.1:5000"], "http://127.0.0.1:5001/v2/"));
    }

    #[tokio::test]
    async fn f1_a_name_is_judged_by_where_it_leads() {
        let resolve = |named: &[&str]| reach(named).resolve("localhost".parse().expect("a name"));
        let refused = resolve(&[]).await.err().expect("it leads to this machine");
        assert!(refused.downcast_ref::<Unnamed>().is_some(), "{refused}");
        let found = resolve(&["localhost:5000"]).await;
        assert!(found.is_ok_and(|mut found| found.next().is_some()));
    }

    #[test]
    fn f1_the_addresses_of_this_machine_are_its_own() {
        assert!(own().contains(&IpAddr::from([127, 0, 0, 1])), "{:?}", own());
    }

    #[test]
    fn the_host_of_a_proxy_is_found() {
        for (text, host) in [
            ("http://proxy.lan:3128", Some("proxy.lan")),
            ("user:secret@Proxy.Example:3128/", Some("proxy.example")),
            ("http://10.0.0.1", Some("10.0.0.1")),
            ("", None),
        ] {
            assert_eq!(host_of_proxy(text).as_deref(), host, "{text}");
        }
    }
}
