//! Connections that say nothing keep nobody from being served, nor the operator from looking.

use crate::client::{Client, ask, get};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::SocketAddr;

const SILENT: usize = 2_000;

/// So many connections have both their ends in this process, and other tests theirs.
fn make_room(connections: usize) {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = connections as u64 * 2 + 2_000;
    assert!(
        most >= needed,
        "the hard limit of descriptors is {most}, this takes {needed}"
    );
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

async fn silent(address: SocketAddr, count: usize, said: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(address).await;
        client.push(said.as_bytes()).await;
        clients.push(client);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_two_thousand_silent_connections_stop_neither_requests_nor_the_operator() {
    make_room(SILENT);
    let settings = "limits.connections_per_ip = 0\ntimeouts.idle = \"10m\"\ntimeouts.header = \"10m\"";
    for said in ["", "GET", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
        let stage = Stage::new(settings).await;
        let app = RawApp::strict().await;
        app.granted(&stage, 10);
        let clients = silent(stage.address(), SILENT, said).await;
        for _ in 0..20 {
            let answer = ask(stage.address(), &get(HOST, "/other")).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "/other"));
        }
        let admin = stage.proxy.addresses.admin;
        for (path, status) in [("/readyz", 200), ("/healthz", 200), ("/metrics", 200)] {
            assert_eq!(ask(admin, &get("localhost", path)).await.status, status, "{path}");
        }
        assert!(
            stage.metric("miren_proxy_open_connections").await >= SILENT as f64,
            "{said:?}"
        );
        drop(clients);
        // All of it is given back.
        stage.metric_becomes("miren_proxy_open_connections", 0.0).await;
    }
}
