//! What the proxy asks of control, and how long it waits between attempts.

use crate::routing::Served;
use futures_util::Stream;
use miren_api::client::Event;
use miren_api::lease::{
    AcquireRequest, AcquireResponse, Demand, HeldLease, LeaseKey, PoolDemand, ReleaseRequest, ReleasedLease,
    RenewRequest, RenewResponse,
};
use miren_api::routing::ProxyAck;
use miren_api::{Client, ClientError, Server};
use serde::de::IgnoredAny;
use std::time::Duration;

/// Added to the wait a request asks for, before control counts as unreachable.
const ANSWER: Duration = Duration::from_secs(5);

/// The client side of control's proxy API, under this proxy's id.
#[derive(Clone, Debug)]
pub struct Control {
    client: Client,
    proxy: String,
}

/// What to ask leases for.
#[derive(Debug)]
pub struct Acquire<'a> {
    pub version: &'a miren_api::VersionId,
    pub service: &'a str,
    pub demand: Demand,
    /// How long control may wait for a first sandbox.
    pub wait: Duration,
    /// Leases found to be of no use.
    pub dropped: Vec<LeaseKey>,
}

impl Control {
    /// A new proxy: its id is new at each start.
    pub fn new(server: &Server) -> Result<Self, ClientError> {
        Ok(Self {
            client: Client::new(server)?,
            proxy: format!("proxy-{:016x}", rand::random::<u64>()),
        })
    }

    pub async fn acquire(&self, ask: Acquire<'_>) -> Result<AcquireResponse, ClientError> {
        let request = AcquireRequest {
            proxy: self.proxy.clone(),
            version: ask.version.clone(),
            service: ask.service.to_owned(),
            demand: ask.demand,
            wait_ms: u64::try_from(ask.wait.as_millis()).unwrap_or(u64::MAX),
            dropped: ask.dropped,
        };
        within(ask.wait + ANSWER, self.client.post("/v1/leases/acquire", &request)).await
    }

    pub async fn renew(&self, held: Vec<HeldLease>, demand: Vec<PoolDemand>) -> Result<RenewResponse, ClientError> {
        let request = RenewRequest {
            proxy: self.proxy.clone(),
            held,
            demand,
        };
        within(ANSWER, self.client.post("/v1/leases/renew", &request)).await
    }

    pub async fn release(&self, leases: Vec<ReleasedLease>) -> Result<(), ClientError> {
        let request = ReleaseRequest {
            proxy: self.proxy.clone(),
            leases,
        };
        within(ANSWER, self.client.post("/v1/leases/release", &request))
            .await
            .map(|_: IgnoredAny| ())
    }

    /// Says that requests are routed by this from now on.
    pub async fn acknowledge(&self, served: &Served) -> Result<(), ClientError> {
        let request = ProxyAck {
            proxy: self.proxy.clone(),
            generation: served.generation,
            lineage: served.lineage.to_string(),
        };
        within(ANSWER, self.client.post("/v1/proxy/ack", &request))
            .await
            .map(|_: IgnoredAny| ())
    }

    /// Snapshots and hints, from after `last`.
    pub async fn stream(
        &self,
        last: Option<u64>,
    ) -> Result<impl Stream<Item = Result<Event, ClientError>> + Send + use<>, ClientError> {
        let last = last.map(|generation| generation.to_string());
        let path = format!("/v1/proxy/stream?proxy={}", self.proxy);
        within(ANSWER, self.client.events(&path, last.as_deref())).await
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        // Not a refusal: it said nothing.
        Err(_) => Err(ClientError::Broken {
            what: "asking miren-control".into(),
            why: format!("it did not answer within {limit:?}"),
            lost: true,
        }),
    }
}

/// Pauses between attempts: doubling, with jitter, up to a longest one.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The next pause: between half of it and all of it, so that many proxies do not come at once.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(self.longest);
        pause
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn e3_a_control_that_says_nothing_has_refused_nothing() {
        let result = within(Duration::ZERO, std::future::pending::<Result<(), ClientError>>()).await;
        assert!(matches!(result, Err(ClientError::Broken { .. })), "{result:?}");
    }
}
