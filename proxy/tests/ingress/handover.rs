//! A proxy in the place of another: at every moment somebody serves, and a successor that fails has changed nothing.

use crate::app::App;
use crate::client::{ask, get};
use crate::protocol::websocket;
use crate::stage::{HOST, Stage, becomes, pause, snapshot};
use miren_proxy::replace::Until;
use miren_proxy::{Ended, Stop};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Somebody who speaks to the proxy that runs as its successor would.
struct Stranger(OwnedFd);

impl Stranger {
    async fn of(stage: &Stage) -> Self {
        stage.may_be_upgraded().await;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(socket.as_raw_fd(), &UnixAddr::new(&stage.upgrade_socket()).unwrap()).unwrap();
        Self(socket)
    }

    fn says(&self, text: &str) {
        send(self.0.as_raw_fd(), text.as_bytes(), MsgFlags::MSG_NOSIGNAL).unwrap();
    }

    /// What is said to it; nothing at the end. What comes along is closed by the kernel.
    async fn hears(&self) -> String {
        let socket = self.0.try_clone().unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            let mut bytes = [0; 4096];
            let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        });
        tokio::time::timeout(crate::client::PATIENCE, heard)
            .await
            .expect("nothing is said")
            .unwrap()
    }
}

const HELLO: &str = r#"{"say":"hello","protocol":1,"version":"0.0.0","pid":1}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_serves_at_the_same_addresses_and_the_old_one_finishes() {
    let mut stage = Stage::new("drain.upgrade_tunnel_timeout = \"1h\"\ndrain.tunnel_timeout = \"1ms\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    stage.may_be_upgraded().await;
    let mut tunnel = websocket(&stage).await;
    let mut held = stage.client().await;
    held.send(&get(HOST, "/hold")).await;
    becomes("requests", 2, || app.requests()).await;
    let before = stage.proxy.addresses.clone();

    let old = stage.upgrade().await;
    assert_eq!(stage.proxy.addresses, before);
    assert_eq!(stage.get("/").await.body, "app");
    assert_eq!(
        stage.metric("miren_proxy_tunnels").await,
        0.0,
        "the metrics are the successor's"
    );
    assert_eq!(ask(before.admin, &get("localhost", "/readyz")).await.status, 200);

    app.state.release.add_permits(1);
    let answer = held.response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    tunnel.send("hello").await;
    assert!(tunnel.read_past("hello").await, "it lives on");
    assert!(!old.task.is_finished());
    drop(tunnel);
    assert_eq!(old.ended().await, Ended::Finished);
    assert_eq!(stage.get("/").await.body, "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_successor_after_the_other_and_none_loses_a_connection() {
    let mut stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let address = stage.address();
    let (end, ends) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let ends = ends.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while !*ends.borrow() {
                    // A connection each: one that is taken by nobody is reset.
                    assert_eq!(ask(address, &get(HOST, "/")).await.body, "app");
                    count += 1;
                }
                count
            })
        })
        .collect();
    for _ in 0..3 {
        stage.may_be_upgraded().await;
        let old = upgrade_when_it_can(&mut stage).await;
        assert_eq!(old.ended().await, Ended::Finished);
    }
    end.send_replace(true);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

/// The successor has the folder a moment after it serves.
async fn upgrade_when_it_can(stage: &mut Stage) -> crate::proxy::Proxy {
    let begun = Instant::now();
    loop {
        match stage.successor().await {
            Ok(mut successor) => {
                successor.wait_until_ready().await;
                return std::mem::replace(&mut stage.proxy, successor);
            }
            Err(error) => assert!(begun.elapsed() < crate::client::PATIENCE, "{error}"),
        }
        pause().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_of_another_protocol_is_told_so_and_nothing_changes() {
    let mut stage = Stage::new("").await;
    for (said, told) in [
        (
            HELLO.replace("\"protocol\":1", "\"protocol\":2"),
            "speaks protocol 2 of upgrades, this one 1",
        ),
        ("{\"say\":\"yours\"}".to_owned(), "it said"),
        ("?".to_owned(), "refused"),
    ] {
        let stranger = Stranger::of(&stage).await;
        stranger.says(&said);
        let answer = stranger.hears().await;
        assert!(answer.contains("refused") && answer.contains(told), "{answer}");
    }
    assert_eq!(
        ask(stage.proxy.addresses.admin, &get("localhost", "/readyz"))
            .await
            .status,
        200
    );
    stage.upgrade().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_ends_before_it_serves_has_changed_nothing() {
    let mut stage = Stage::new("").await;
    for _ in 0..3 {
        let stranger = Stranger::of(&stage).await;
        stranger.says(HELLO);
        let answer = stranger.hears().await;
        assert!(
            answer.contains("\"sockets\"") && answer.contains(&stage.address().to_string()),
            "{answer}"
        );
        drop(stranger);
        let answer = ask(stage.address(), &get("nowhere.net", "/")).await;
        assert_eq!(answer.status, 404, "by the one that runs");
    }
    let old = upgrade_when_it_can(&mut stage).await;
    assert_eq!(old.ended().await, Ended::Finished);
}

/// Whoever looks whether it is ready, and what it does, is answered by one process and not by either.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_the_successors_where_the_process_before_it_was_told_to_stop_meanwhile() {
    let stage = Stage::new("drain.request_timeout = \"10m\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut held = stage.client().await;
    held.send(&get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    let stranger = Stranger::of(&stage).await;
    stranger.says(HELLO);
    assert!(stranger.hears().await.contains("\"sockets\""));
    stage.proxy.stop.send_replace(Stop::Finish);
    stage.metric_becomes("miren_proxy_phase{phase=\"draining\"}", 1.0).await;
    let admin = stage.proxy.addresses.admin;
    stranger.says(&format!("{{\"say\":\"serving\",\"addresses\":[\"{admin}\"]}}"));
    assert!(stranger.hears().await.contains("yours"));
    // Nothing of the sockets is left, of which the other process here has none.
    becomes("pages of the one that stops", false, || {
        std::net::TcpStream::connect(admin).is_ok()
    })
    .await;
    app.state.release.add_permits(1);
    assert_eq!(held.response().await.body, "app");
    assert_eq!(stage.proxy.ended().await, Ended::Finished);
}

/// Who started it ends it then, and would end the only one that accepts.
#[tokio::test(flavor = "multi_thread")]
async fn i9_a_successor_whose_time_is_over_does_not_offer_to_serve() {
    let mut stage = Stage::new("").await;
    stage.may_be_upgraded().await;
    let late = stage.successor_until(Some(Until::after(Duration::ZERO))).await.unwrap();
    let ended = tokio::time::timeout(crate::client::PATIENCE, late.task).await;
    let error = ended.expect("it waits").unwrap().unwrap_err();
    assert!(
        error.to_string().contains("did not come to serve in its time"),
        "{error}"
    );
    assert_eq!(ask(stage.address(), &get("nowhere.net", "/")).await.status, 404);
    assert!(!stage.proxy.task.is_finished());
    let old = upgrade_when_it_can(&mut stage).await;
    assert_eq!(old.ended().await, Ended::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_successors_at_once_the_second_is_told_to_wait() {
    let stage = Stage::new("").await;
    let first = Stranger::of(&stage).await;
    first.says(HELLO);
    assert!(first.hears().await.contains("\"sockets\""));
    // It need not say anything for that.
    let answer = Stranger::of(&stage).await.hears().await;
    assert!(answer.contains("another upgrade is under way"), "{answer}");
    let refused = stage.successor().await.err().expect("it is refused, too").to_string();
    assert!(refused.contains("another upgrade is under way"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_knows_no_less_of_routing_and_writes_only_when_the_old_one_does_not() {
    let mut stage = Stage::new("").await;
    stage.serve(&snapshot(7, "shop-v7")).await;
    stage.keeps("routing", "shop-v7").await;
    stage.may_be_upgraded().await;
    // It has to do with what is kept.
    let socket = stage.socket();
    stage.control.kill(&socket);
    let old = stage.upgrade().await;
    let app = App::start("app").await;
    stage.grant("shop-v7", &app, 1);
    assert_eq!(old.ended().await, Ended::Finished);
    stage.control.start(&socket);
    stage.serve(&snapshot(8, "shop-v7")).await;
    stage.keeps("routing", "\"generation\":8").await;
    assert_eq!(stage.get("/").await.body, "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_stops_gives_nothing_to_a_successor() {
    let stage = Stage::new("drain.request_timeout = \"1h\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut held = stage.client().await;
    held.send(&get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    stage.may_be_upgraded().await;
    stage.proxy.stop.send_replace(Stop::Finish);
    stage.metric_becomes("miren_proxy_phase{phase=\"draining\"}", 1.0).await;
    let refused = stage.successor().await.err().expect("it is refused").to_string();
    assert!(refused.contains("it is on its way out already"), "{refused}");
    app.state.release.add_permits(1);
    assert_eq!(held.response().await.status, 200);
    assert_eq!(stage.proxy.ended().await, Ended::Finished);
}

/// Longer than a process that is waited for gives to connections without a request.
const LONGER: Duration = Duration::from_millis(2500);

/// Nobody waits for a process that has a successor: it ends no connection under a client that may be sending a request.
#[tokio::test(flavor = "multi_thread")]
async fn i9_connections_without_a_request_are_served_once_more_behind_a_successor_and_told_then() {
    let times = "drain.request_timeout = \"10m\"\ntimeouts.header = \"10m\"\ntimeouts.idle = \"10m\"";
    let mut stage = Stage::new(times).await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    stage.may_be_upgraded().await;
    let (fresh, mut kept, mut half) = (stage.client().await, stage.client().await, stage.client().await);
    assert_eq!(kept.ask(&get(HOST, "/")).await.header("connection"), None);
    let whole = get(HOST, "/");
    half.send(&whole[..9]).await;
    stage.metric_becomes("miren_proxy_open_connections", 3.0).await;
    let old = stage.upgrade().await;
    let mut clients = [(fresh, &*whole), (kept, &*whole), (half, &whole[9..])];
    let ends = futures_util::future::select_all(clients.iter().map(|(client, _)| Box::pin(client.stream.readable())));
    let ended = tokio::time::timeout(LONGER, ends).await.is_ok();
    assert!(!ended, "a connection was ended without a word");
    for (client, request) in &mut clients {
        let answer = client.ask(request).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        client.closed().await;
    }
    assert_eq!(old.ended().await, Ended::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_has_a_successor_and_is_told_to_stop_waits_for_no_next_request() {
    let times = "drain.request_timeout = \"10m\"\ntimeouts.header = \"10m\"\ntimeouts.idle = \"10m\"";
    let mut stage = Stage::new(times).await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    stage.may_be_upgraded().await;
    let mut kept = stage.client().await;
    assert_eq!(kept.ask(&get(HOST, "/")).await.status, 200);
    let mut fresh = stage.client().await;
    stage.metric_becomes("miren_proxy_open_connections", 2.0).await;
    let old = stage.upgrade().await;
    old.stop.send_replace(Stop::Finish);
    kept.closed().await;
    fresh.closed().await;
    assert_eq!(old.ended().await, Ended::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_request_last_no_longer_than_requests_may() {
    let mut stage = Stage::new("drain.request_timeout = \"1s\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    stage.may_be_upgraded().await;
    let mut kept = stage.client().await;
    assert_eq!(kept.ask(&get(HOST, "/")).await.status, 200);
    let old = stage.upgrade().await;
    kept.closed().await;
    assert_eq!(old.ended().await, Ended::Finished, "nothing was cut");
}
