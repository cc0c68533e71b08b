//! What a client can make the proxy hold is bounded.

use crate::app::App;
use crate::client::{Client, PATIENCE, ask, get};
use crate::stage::{HOST, Stage};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_431() {
    let stage = Stage::new("limits.header_bytes = \"2KiB\"").await;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Large: {}\r\n\r\n",
        "x".repeat(3000)
    );
    let response = ask(stage.address(), &request).await;
    assert_eq!((response.status, response.error()), (431, "header_too_large"));
}

/// Sends a byte now and then; returns once the proxy has closed the connection.
async fn drip(mut client: Client) {
    for _ in 0..1000 {
        tokio::select! {
            () = client.closed() => return,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        if tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"x")
            .await
            .is_err()
        {
            return;
        }
    }
    panic!("a head that never ends was waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_to_arrive_in_time_for_the_first_request_and_for_later_ones() {
    let stage = Stage::new("timeouts.header = \"3s\"").await;
    let mut first = stage.client().await;
    first.send("GET / HTTP/1.1\r\nX-Drip: ").await;
    drip(first).await;
    let mut later = stage.client().await;
    assert_eq!(later.ask(&get("nowhere.net", "/")).await.status, 404);
    later.send("GET / HTTP/1.1\r\nX-Drip: ").await;
    drip(later).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_not_a_slow_head() {
    let stage = Stage::new("timeouts.header = \"3s\"\ntimeouts.idle = \"3s\"").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 10);
    let mut client = stage.client().await;
    client.send(&get(HOST, "/hold")).await;
    // A silent connection, opened later, is closed first.
    stage.client().await.closed().await;
    app.state.release.add_permits(1);
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_closed_before_and_between_requests() {
    let stage = Stage::new("timeouts.idle = \"3s\"").await;
    stage.client().await.closed().await;
    let mut client = stage.client().await;
    assert_eq!(client.ask(&get("nowhere.net", "/")).await.status, 404);
    client.closed().await;
    stage.metric_becomes("miren_proxy_open_connections", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address_are_limited_and_count_down() {
    let stage = Stage::new("limits.connections_per_ip = 2").await;
    let (mut first, mut second) = (stage.client().await, stage.client().await);
    assert_eq!(first.ask(&get("nowhere.net", "/")).await.status, 404);
    assert_eq!(second.ask(&get("nowhere.net", "/")).await.status, 404);
    stage.client().await.closed().await;
    stage.metric_reaches("miren_proxy_connections_refused_total", 1.0).await;
    assert_eq!(second.ask(&get("nowhere.net", "/")).await.status, 404, "it stays open");
    drop(first);
    // Its place is free a moment after it is gone.
    let begun = Instant::now();
    loop {
        let mut next = stage.client().await;
        next.send(&get("nowhere.net", "/")).await;
        if next.read_past("404").await {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the place of a closed connection stays taken"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_random_hosts_make_no_metrics() {
    let stage = Stage::new("").await;
    for index in 0..50 {
        assert_eq!(
            ask(stage.address(), &get(&format!("h{index}.example.net"), "/"))
                .await
                .status,
            404
        );
    }
    // The last of them is counted a moment after it was answered.
    stage
        .metric_becomes("miren_proxy_refused_total{code=\"no_route\"}", 50.0)
        .await;
    let page = ask(stage.proxy.addresses.admin, &get("localhost", "/metrics"))
        .await
        .body;
    assert!(!page.contains("h49"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_silent_connections_to_the_admin_port_give_way() {
    let stage = Stage::new("").await;
    let admin = stage.proxy.addresses.admin;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(Client::connect(admin).await);
    }
    // One that has sent a part of a head goes the same way.
    silent[199].send("GET /metr").await;
    for _ in 0..100 {
        silent.push(Client::connect(admin).await);
    }
    for page in ["/readyz", "/metrics"] {
        assert_eq!(ask(admin, &get("localhost", page)).await.status, 200, "{page}");
    }
    for client in &mut silent[..200] {
        client.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_scraper_keeps_its_connection() {
    let stage = Stage::new("").await;
    let mut scraper = Client::connect(stage.proxy.addresses.admin).await;
    for _ in 0..3 {
        let page = scraper.ask(&get("localhost", "/metrics")).await;
        assert!(
            page.body.contains("miren_proxy_connections_evicted_total"),
            "{}",
            page.body
        );
    }
}

/// How many this process may have at most: what is left of them for clients is less.
fn descriptors() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_more_connections_than_descriptors_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "data_dir = \"{0}/data\"\nslots = \"file:{0}/slots\"\nlisten.http = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
         limits.connections = {1}",
        folder.path().display(),
        descriptors()
    );
    let config = miren_proxy::Config::parse(std::path::Path::new("proxy.toml"), &text).unwrap();
    let error = miren_proxy::Prepared::open(config).unwrap_err().to_string();
    assert!(
        error.contains(&format!("limits.connections = {}", descriptors())) && error.contains("LimitNOFILE"),
        "{error}"
    );
}
