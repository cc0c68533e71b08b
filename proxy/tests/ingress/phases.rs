//! What clients see of each phase of a proxy that was told to stop: nothing that may be finished is cut, and nothing outlives its time.

use crate::app::App;
use crate::client::{Client, ask, get};
use crate::protocol::websocket;
use crate::stage::{HOST, Stage, becomes};
use miren_proxy::{Ended, Stop};

/// No test waits for it.
const LONG: &str = "drain.request_timeout = \"1h\"\ndrain.tunnel_timeout = \"1h\"";

/// A phase lasts until the next event: what was seen once can be looked at at leisure.
async fn is_in(stage: &Stage, phase: &str) {
    let name = format!("miren_proxy_phase{{phase=\"{phase}\"}}");
    stage.metric_becomes(&name, 1.0).await;
}

async fn readiness(stage: &Stage) -> (u16, u16) {
    let admin = stage.proxy.addresses.admin;
    let of = async |path| ask(admin, &get("localhost", path)).await.status;
    (of("/healthz").await, of("/readyz").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_lives_from_boot_on_and_is_ready_while_it_serves() {
    let stage = Stage::without_snapshot("").await;
    assert_eq!(
        (
            readiness(&stage).await,
            stage.metric("miren_proxy_phase{phase=\"boot\"}").await
        ),
        ((200, 503), 1.0)
    );
    stage.control.publish(&crate::stage::snapshot(1, "shop-v1"));
    is_in(&stage, "serving").await;
    assert_eq!(readiness(&stage).await, (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_is_not_ready_and_takes_new_connections_and_leaves_kept_ones() {
    let stage = Stage::new(&format!("drain.lame_duck = \"1h\"\n{LONG}")).await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut kept = stage.client().await;
    let answer = kept.ask(&get(HOST, "/")).await;
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    stage.proxy.stop.send_replace(Stop::Finish);
    is_in(&stage, "lame_duck").await;
    assert_eq!(readiness(&stage).await, (200, 503));
    for client in [&mut stage.client().await, &mut kept] {
        let answer = client.ask(&get(HOST, "/")).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        client.closed().await;
    }
    stage.proxy.stop.send_replace(Stop::Now);
    assert_eq!(stage.proxy.ended().await, Ended::Finished, "nothing was under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_drains_when_its_time_is_over() {
    let stage = Stage::new("drain.lame_duck = \"50ms\"").await;
    stage.proxy.stop.send_replace(Stop::Finish);
    assert_eq!(stage.proxy.ended().await, Ended::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_504_comes_before_the_head_and_an_abort_after_it() {
    let stage = Stage::new("drain.request_timeout = \"1s\"\ndrain.tunnel_timeout = \"1h\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut tunnel = websocket(&stage).await;
    let [before, within, waiting, sending] = &mut [
        get(HOST, "/hold"),
        get(HOST, "/partial"),
        // Nobody grants anything to it.
        get("waits.example.com", "/"),
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\n"),
    ]
    .map(|request| (request, None::<Client>));
    let mut snapshot = crate::stage::snapshot(2, "shop-v1");
    snapshot.routes.push(miren_api::routing::RouteRule {
        host: "waits.example.com".into(),
        to: miren_api::routing::RouteDestination::new(miren_api::AppName::from_text("waits"), "web"),
    });
    let waits = miren_api::routing::AppRouting {
        active: Some(miren_api::VersionId::from_text("waits-v1")),
        ephemeral: Vec::new(),
    };
    snapshot.apps.insert(miren_api::AppName::from_text("waits"), waits);
    stage.serve(&snapshot).await;
    for (request, client) in [&mut *before, within, waiting, sending] {
        let mut connected = stage.client().await;
        connected.send(request).await;
        *client = Some(connected);
    }
    // Four, and the one that became the tunnel.
    stage.metric_becomes("miren_proxy_requests_in_flight", 5.0).await;
    let mut within = within.1.take().unwrap();
    assert!(within.read_past("half").await);
    stage.proxy.stop.send_replace(Stop::Finish);
    for (which, (_, client)) in [("before", before), ("waiting", waiting), ("sending", sending)] {
        let answer = client.as_mut().unwrap().response().await;
        let got = (answer.status, answer.error().to_owned(), answer.header("connection"));
        assert_eq!(got, (504, "drain_deadline".to_owned(), Some("close")), "{which}");
    }
    within.closed().await;
    assert_eq!(within.unread(), 0, "its rest never comes, nor anything in its place");
    stage.metric_becomes("miren_proxy_cut_requests_total", 4.0).await;
    tunnel.send("hello").await;
    assert!(tunnel.read_past("hello").await, "it has a time of its own");
    drop(tunnel);
    assert_eq!(stage.proxy.ended().await, Ended::Cut, "not everything was finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_ends_in_its_time_was_not_cut() {
    let stage = Stage::new("drain.request_timeout = \"50ms\"\ndrain.tunnel_timeout = \"1h\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut tunnel = websocket(&stage).await;
    stage.metric_becomes("miren_proxy_tunnels", 1.0).await;
    stage.proxy.stop.send_replace(Stop::Finish);
    is_in(&stage, "draining").await;
    tunnel.send("hello").await;
    assert!(tunnel.read_past("hello").await);
    drop(tunnel);
    assert_eq!(stage.proxy.ended().await, Ended::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_ended_when_its_time_is_over() {
    let stage = Stage::new("drain.request_timeout = \"1h\"\ndrain.tunnel_timeout = \"50ms\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let (mut tunnel, mut client) = (websocket(&stage).await, stage.client().await);
    client.send(&get(HOST, "/hold")).await;
    becomes("requests", 2, || app.requests()).await;
    stage.metric_becomes("miren_proxy_tunnels", 1.0).await;
    stage.proxy.stop.send_replace(Stop::Finish);
    tunnel.closed().await;
    stage.metric_becomes("miren_proxy_cut_tunnels_total", 1.0).await;
    app.state.release.add_permits(1);
    assert_eq!(client.response().await.status, 200, "a request has a time of its own");
    assert_eq!(stage.proxy.ended().await, Ended::Cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_does_not_outlive_the_time_of_requests() {
    let stage = Stage::new("drain.request_timeout = \"3s\"\ntimeouts.header = \"1h\"").await;
    let mut client = stage.client().await;
    client.send("GET / HTT").await;
    stage.metric_becomes("miren_proxy_open_connections", 1.0).await;
    stage.proxy.stop.send_replace(Stop::Finish);
    client.closed().await;
    assert_eq!(stage.proxy.ended().await, Ended::Finished, "no request was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_served_when_its_rest_comes() {
    let stage = Stage::new(LONG).await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let (mut half, mut fresh) = (stage.client().await, stage.client().await);
    half.send("GET / HTT").await;
    stage.metric_becomes("miren_proxy_open_connections", 2.0).await;
    stage.proxy.stop.send_replace(Stop::Finish);
    is_in(&stage, "draining").await;
    fresh.send(&get(HOST, "/")).await;
    half.send(&format!("P/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    for client in [&mut fresh, &mut half] {
        let answer = client.response().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    assert_eq!(stage.proxy.ended().await, Ended::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_pipelined_requests_the_last_that_is_answered_says_so() {
    let stage = Stage::new(LONG).await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut client = stage.client().await;
    client
        .send(&[get(HOST, "/hold"), get(HOST, "/"), get(HOST, "/")].concat())
        .await;
    becomes("requests", 1, || app.requests()).await;
    stage.proxy.stop.send_replace(Stop::Finish);
    is_in(&stage, "draining").await;
    app.state.release.add_permits(1);
    let answer = client.response().await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close")),
        "the others may be sent anew"
    );
    client.closed().await;
    assert_eq!(client.unread(), 0);
    assert_eq!(app.requests(), 1, "nobody has seen the others");
    assert_eq!(stage.proxy.ended().await, Ended::Finished);
}
