//! What happens to a client connection before and after its requests: limits, accounting, the end.

use super::client::{ClientConn, ClientStream};
use super::ingress::Ingress;
use super::{Parts, Rules};
use crate::gate::{Class, Gate};
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a connection is owed that was accepted but has not sent its first request when the proxy stops.
const FRESH_GRACE: Duration = Duration::from_secs(2);
/// How long a kept connection stays open then: a request may be on its way on it.
const KEPT_GRACE: Duration = Duration::from_secs(1);

/// Takes client connections.
pub(super) struct Edge {
    proxy: Arc<HttpProxy<Ingress>>,
    parts: Parts,
    rules: Arc<Rules>,
    /// Open connections by client address; only kept where they are limited.
    per_address: Arc<PerAddress>,
}

impl Edge {
    pub(super) fn new(conf: &Arc<ServerConf>, parts: Parts, rules: Rules) -> Self {
        let rules = Arc::new(rules);
        let ingress = Ingress::new(parts.clone(), Arc::clone(&rules));
        Self {
            proxy: Arc::new(http_proxy(conf, ingress)),
            parts,
            rules,
            per_address: Arc::default(),
        }
    }

    fn accept(&self, stream: Stream) -> Option<ClientStream> {
        let address = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr()?.as_inet().map(|peer| peer.ip()));
        let metrics = &self.parts.metrics;
        let share = match (address, self.rules.limits.connections_per_ip) {
            (Some(address), limit) if limit > 0 => match self.per_address.take(address, limit) {
                Some(share) => Some(share),
                None => {
                    metrics.connections_refused.inc();
                    return None;
                }
            },
            _ => None,
        };
        metrics.connections.inc();
        let conn = ClientConn::new(&self.parts.gate, Arc::clone(metrics), share, stream.id());
        Some(ClientStream::new(stream, Arc::new(conn), self.rules.timeouts))
    }
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let stream = self.accept(stream)?;
        ServerApp::process_new(&self.proxy, Box::new(stream), shutdown).await
    }

    /// Runs once no further connection is accepted.
    async fn cleanup(&self) {
        settle(&self.parts.gate).await;
        HttpServerApp::http_cleanup(&*self.proxy).await;
    }
}

/// Gives connections without a request their moment; returns at once when there are none.
async fn settle(gate: &Gate) {
    let kept = async {
        tokio::time::sleep(KEPT_GRACE).await;
        gate.empty(Class::Fresh).await;
    };
    let fresh = tokio::time::timeout(FRESH_GRACE, kept);
    tokio::select! {
        () = gate.empty(Class::Connection) => {}
        _ = fresh => {}
    }
}

#[derive(Debug, Default)]
pub(super) struct PerAddress(Mutex<HashMap<IpAddr, u32>>);

/// One connection of an address.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<PerAddress>,
    address: IpAddr,
}

impl PerAddress {
    fn take(self: &Arc<Self>, address: IpAddr, limit: u32) -> Option<Share> {
        let mut open = self.0.lock();
        let count = open.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Share {
            all: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.all.0.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}
