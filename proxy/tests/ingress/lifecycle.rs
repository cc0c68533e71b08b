//! How a proxy ends: at once when idle, after its requests when not, and at the second order in any case.

use crate::app::App;
use crate::client::{PATIENCE, ask, get};
use crate::stage::{HOST, Stage, becomes};
use miren_proxy::{Ended, Stop};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_proxy_ends_at_once() {
    let (idle, kept) = (Stage::new("").await, Stage::new("").await);
    // It is owed a second in which its next request may come: who has no connection need not wait that long.
    let mut client = kept.client().await;
    assert_eq!(client.ask(&get("nowhere.net", "/")).await.status, 404);
    kept.proxy.stop.send_replace(Stop::Finish);
    idle.proxy.stop.send_replace(Stop::Finish);
    tokio::select! {
        biased;
        ended = idle.proxy.ended() => assert_eq!(ended, Ended::Finished),
        _ = kept.proxy.ended() => panic!("it waits although there is nobody to wait for"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_finished_and_new_connections_are_not_taken() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut client = stage.client().await;
    client.send(&get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    let address = stage.address();
    stage.proxy.stop.send_replace(Stop::Finish);
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "still takes connections");
        crate::stage::pause().await;
    }
    assert!(!stage.proxy.task.is_finished());
    app.state.release.add_permits(1);
    let response = client.response().await;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert_eq!(stage.proxy.ended().await, Ended::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_request_timeout_is_cut_and_said() {
    let stage = Stage::new("drain.request_timeout = \"300ms\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut client = stage.client().await;
    client.send(&get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    stage.proxy.stop.send_replace(Stop::Finish);
    assert_eq!(stage.proxy.ended().await, Ended::Cut, "not everything was finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_order_ends_it_at_once() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut client = stage.client().await;
    client.send(&get(HOST, "/hold")).await;
    becomes("requests", 1, || app.requests()).await;
    stage.proxy.stop.send_replace(Stop::Finish);
    stage.proxy.stop.send_replace(Stop::Now);
    assert_eq!(stage.proxy.ended().await, Ended::Cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_may_still_send_a_request_when_the_proxy_stops() {
    let stage = Stage::new("").await;
    let mut client = stage.client().await;
    assert_eq!(client.ask(&get("nowhere.net", "/")).await.status, 404);
    stage.proxy.stop.send_replace(Stop::Finish);
    let begun = Instant::now();
    while ask(stage.proxy.addresses.admin, &get("localhost", "/readyz"))
        .await
        .status
        == 200
    {
        assert!(begun.elapsed() < PATIENCE, "still ready");
    }
    let response = client.ask(&get("nowhere.net", "/")).await;
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
    assert_eq!(stage.proxy.ended().await, Ended::Finished);
}
