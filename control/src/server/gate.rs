//! Decides who may ask what, and when: by the peer's user, and by the phase of the daemon.

use super::refusal::Refusal;
use super::upload::{REST_OF_BODY, discard};
use super::{Door, Server};
use crate::config::ProxyUser;
use crate::control::{Asked, Phase};
use crate::drain::Work;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::IncomingStream;
use miren_api::{ApiError, ErrorCode};
use miren_gate::Permit;
use nix::unistd::{Uid, User};

/// The user at the other end, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        let uid = stream.io().peer_cred().ok().map(|peer| peer.uid());
        Self { uid }
    }
}

/// Which users may do what.
#[derive(Clone, Copy, Debug)]
pub struct Peers {
    own: u32,
    proxy: Option<u32>,
}

impl Peers {
    /// Everything for root and for this process's user; the endpoints for proxies for `proxy`.
    pub fn new(proxy: &ProxyUser) -> Self {
        let proxy = match proxy {
            ProxyUser::Uid(uid) => Some(*uid),
            ProxyUser::Name(name) => match User::from_name(name) {
                Ok(Some(user)) => Some(user.uid.as_raw()),
                Ok(None) | Err(_) => {
                    tracing::info!(
                        user = name,
                        "the proxy's user does not exist: only root can use its endpoints"
                    );
                    None
                }
            },
        };
        Self {
            own: Uid::effective().as_raw(),
            proxy,
        }
    }

    fn allow(self, peer: Peer, path: &str) -> bool {
        match peer.uid {
            Some(uid) if uid == 0 || uid == self.own => true,
            Some(uid) if Some(uid) == self.proxy => is_for_proxies(path) || is_health(path),
            _ => false,
        }
    }
}

fn is_for_proxies(path: &str) -> bool {
    path.starts_with("/v1/proxy/") || path.starts_with("/v1/leases/")
}

fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// Lets a request through, or says why not.
pub async fn admit(
    State(server): State<Server>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let path = request.uri().path();
    if !server.peers.allow(peer, path) {
        let who = peer
            .uid
            .map_or("an unknown user".to_owned(), |uid| format!("user {uid}"));
        let message = format!("{who} may not use {path}");
        let remedy = "run it as root, or as the user that control runs as";
        return Err(ApiError::new(ErrorCode::Forbidden, message).remedy(remedy).into());
    }
    match enter(&server, request.method(), path) {
        Ok(_entered) => Ok(next.run(request).await),
        Err(refusal) => {
            // Whoever is cut off in the middle of a body cannot read why.
            let _ = tokio::time::timeout(REST_OF_BODY, discard(request.into_body().into_data_stream())).await;
            Err(refusal)
        }
    }
}

/// What counts a request while it is answered: that it is one, and what it is to the node.
type Entered = (Option<Permit<Asked>>, Option<Permit<Work>>);

fn enter(server: &Server, method: &Method, path: &str) -> Result<Entered, Refusal> {
    let starting = *server.control.phase.borrow() == Phase::Starting;
    if starting && changes_something(method) {
        return Err(not_now(ErrorCode::Starting, "control is still taking over what runs"));
    }
    let asked = begins_something(method, path).then(|| server.control.asked.enter(Asked::Change));
    let asked = asked
        .transpose()
        .map_err(|_| not_now(ErrorCode::Draining, "control is stopping"))?;
    let work = work_of(method, path).map(|work| server.admission.admit(work));
    Ok((asked, work.transpose()?))
}

fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Proxies may finish what they do: give leases back, renew those with requests in flight.
fn begins_something(method: &Method, path: &str) -> bool {
    changes_something(method) && (path == "/v1/leases/acquire" || !is_for_proxies(path))
}

/// What a request is to a node that may be draining: none for one that ends something, and for one that is looked at where it is
/// known what it leads to. A deploy that was let in is found again by its key, whatever the node does by then.
fn work_of(method: &Method, path: &str) -> Option<Work> {
    let ends = *method == Method::DELETE
        || path.ends_with("/cancel")
        || path.ends_with("/stop")
        || path.ends_with("/maintenance");
    let decides_itself = path.ends_with("/deploys")
        || path.ends_with("/rollback")
        || path.ends_with("/restart")
        || path.ends_with("/ephemeral")
        || path.ends_with("/runs")
        || path.starts_with("/v1/node/");
    match path {
        _ if !changes_something(method) || ends || decides_itself || is_for_proxies(path) => None,
        "/v1/artifacts" | "/v1/images" => Some(Work::Upload),
        _ => Some(Work::Change),
    }
}

fn not_now(code: ErrorCode, why: &str) -> Refusal {
    ApiError::new(code, why)
        .remedy("try again in a moment")
        .retry_after(1)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxys_user_reaches_only_what_is_for_proxies() {
        let peers = Peers {
            own: 10,
            proxy: Some(20),
        };
        let allowed = |uid, path| peers.allow(Peer { uid }, path);
        assert!(allowed(Some(0), "/v1/apps") && allowed(Some(10), "/v1/apps"));
        assert!(allowed(Some(20), "/v1/leases/acquire") && allowed(Some(20), "/v1/proxy/stream"));
        assert!(allowed(Some(20), "/readyz"));
        assert!(!allowed(Some(20), "/v1/apps") && !allowed(Some(20), "/v1/logs"));
        assert!(!allowed(Some(30), "/v1/leases/acquire") && !allowed(None, "/healthz"));
    }

    #[test]
    fn d1_a_node_that_drains_takes_what_ends_something_and_refuses_what_begins_something() {
        for (method, path, work) in [
            (Method::POST, "/v1/artifacts", Some(Work::Upload)),
            (Method::POST, "/v1/images", Some(Work::Upload)),
            (Method::POST, "/v1/sandboxes/sb-1/exec", Some(Work::Change)),
            (Method::PUT, "/v1/routes/example.com", Some(Work::Change)),
            (Method::POST, "/v1/disks/shop/data/grow", Some(Work::Change)),
            (Method::POST, "/v1/apps/shop/deploys", None),
            (Method::POST, "/v1/apps/shop/ephemeral", None),
            (Method::POST, "/v1/apps/shop/runs", None),
            (Method::POST, "/v1/deploys/dep-1/cancel", None),
            (Method::POST, "/v1/sandboxes/sb-1/stop", None),
            (Method::DELETE, "/v1/apps/shop", None),
            (Method::PUT, "/v1/routes/example.com/maintenance", None),
            (Method::POST, "/v1/node/drain", None),
            (Method::POST, "/v1/node/undrain", None),
            (Method::POST, "/v1/leases/acquire", None),
            (Method::POST, "/v1/proxy/ack", None),
            (Method::GET, "/v1/apps", None),
        ] {
            assert_eq!(work_of(&method, path), work, "{method} {path}");
        }
    }

    #[test]
    fn d1_while_stopping_proxies_finish_and_nothing_begins() {
        assert!(begins_something(&Method::POST, "/v1/apps/a/deploys"));
        assert!(begins_something(&Method::POST, "/v1/leases/acquire"));
        assert!(!begins_something(&Method::POST, "/v1/leases/release"));
        assert!(!begins_something(&Method::GET, "/v1/apps"));
    }
}
