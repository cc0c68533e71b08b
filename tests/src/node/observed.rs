//! What the daemons of a node say of themselves to whoever watches them.

use std::net::SocketAddr;

use super::Node;
use crate::http::{self, Response};

impl Node {
    /// What control counts. Its address is a new one with each process of it.
    #[track_caller]
    pub fn control_metrics(&self) -> String {
        admin(self.metrics.control, "/metrics").text()
    }

    /// What the proxy counts. Its address is a new one with each process of it.
    #[track_caller]
    pub fn proxy_metrics(&self) -> String {
        admin(self.metrics.proxy, "/metrics").text()
    }

    /// One number that the proxy counts, without labels.
    #[track_caller]
    pub fn proxy_metric(&self, name: &str) -> u64 {
        let page = self.proxy_metrics();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no {name} in {page}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is {value}"))
    }

    /// Whether the proxy says that it can serve.
    #[track_caller]
    pub fn proxy_is_ready(&self) -> bool {
        admin(self.metrics.proxy, "/readyz").status == 200
    }
}

#[track_caller]
fn admin(address: SocketAddr, path: &str) -> Response {
    http::get(address, "localhost", path).unwrap_or_else(|error| panic!("{path} of {address}: {error}"))
}
