//! The edge: where client connections come in and requests go out. The only code that knows Pingora.

use crate::config::{Config, Limits, Network, Timeouts};
use crate::gate::Gate;
use crate::lease::Leases;
use crate::metrics::Metrics;
use crate::routing::Routing;
use parking_lot::Mutex;
use pingora_core::server::Fds;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod answer;
mod client;
mod hangup;
mod head;
mod ingress;
mod listener;
mod upstream;

/// Attempts when nothing was sent, since no sandbox accepted the connection: each is on another lease, or waits for one.
const CONNECTS: usize = 8;

/// What serving requests needs.
#[derive(Clone, Debug)]
pub struct Parts {
    pub routing: Arc<Routing>,
    pub leases: Leases,
    pub gate: Arc<Gate>,
    pub metrics: Arc<Metrics>,
}

/// The settings that requests depend on.
#[derive(Clone, Debug)]
struct Rules {
    timeouts: Timeouts,
    limits: Limits,
    trusted: Vec<Network>,
}

/// Serves the listeners until `stop` becomes true; then the task ends once no new request can come in.
///
/// Must be called within the runtime that shall serve.
///
/// # Errors
/// When a listener has no address or cannot be made non-blocking.
pub fn serve(
    config: &Config,
    parts: Parts,
    listeners: Vec<TcpListener>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let rules = Rules {
        timeouts: config.timeouts,
        limits: config.limits,
        trusted: config.trusted.clone(),
    };
    let conf = Arc::new(ServerConf {
        threads: config.threads,
        max_retries: CONNECTS,
        // Pingora multiplies this by the number of threads.
        upstream_keepalive_pool_size: config.limits.upstream_idle.div_ceil(config.threads),
        ..ServerConf::default()
    });
    let mut service = Service::new("edge".to_owned(), listener::Edge::new(&conf, parts, rules));
    let mut inherited = Fds::new();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        service.add_tcp(&address);
        inherited.add(address, listener.into_raw_fd());
    }
    let inherited = Arc::new(Mutex::new(inherited));
    Ok(miren_log::spawn("the listeners", async move {
        let told = stop.clone();
        service.start_service(Some(inherited), stop, 1).await;
        let is_asked = *told.borrow() || told.has_changed().is_err();
        assert!(is_asked, "they ended although nothing asked them to");
    }))
}
