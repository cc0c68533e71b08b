//! What a client gets through the ingress: the right app for a host, and streams as they flow.

use miren_blackbox::http::{Connection, WebSocket};
use miren_blackbox::{AppFolder, Node, process};
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// Between two events of a stream: whoever waits for the second to hand the first on is seen, however slow the machine.
const GAP_MS: u64 = 20_000;
/// A 500 MB answer may raise the proxy's memory by this much: buffers of one connection, with room for the allocator.
const MEMORY_GROWTH: u64 = 32 << 20;

const WEBSOCKETS: usize = 100;

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock can be read");
    u64::try_from(now.tv_sec() * 1_000_000_000 + now.tv_nsec()).expect("time since boot is positive")
}

#[test]
fn three_apps_are_told_apart_by_host_whatever_its_case_port_or_trailing_dot() {
    let node = Node::start();
    let apps = [
        AppFolder::rust("crab"),
        AppFolder::python("snake"),
        AppFolder::node("tortoise"),
    ];
    for app in &apps {
        node.deploy_at(app, &format!("{}.example.com", app.name));
    }
    for app in &apps {
        let name = &app.name;
        let upper = name.to_uppercase();
        for host in [
            format!("{name}.example.com"),
            format!("{upper}.Example.COM"),
            format!("{name}.example.com:8080"),
            format!("{name}.example.com."),
            format!("{upper}.example.com.:80"),
        ] {
            let response = node.get(&host, "/info");
            assert_eq!(
                (response.status, response.field("app").as_str()),
                (200, name.as_str()),
                "{host}: {response:?}"
            );
            assert!(response.header("x-request-id").is_some(), "{host}: {response:?}");
        }
        let sandboxes: Vec<String> = node
            .running(name)
            .iter()
            .map(|sandbox| sandbox.id.to_string())
            .collect();
        assert!(!sandboxes.is_empty());
    }
    let elsewhere = node.get("nobody.example.com", "/info");
    assert_eq!(elsewhere.status, 200, "the first app is the default: {elsewhere:?}");
    node.unset_default();
    node.stop();
}

#[test]
fn bodies_and_websockets_pass_in_both_directions() {
    let node = Node::start();
    for app in [
        AppFolder::rust("crab"),
        AppFolder::python("snake"),
        AppFolder::node("tortoise"),
    ] {
        node.deploy_at(&app, &app.name);
        let host = &app.name;
        let mut connection = Connection::open(node.http).unwrap();
        let length = format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello");
        connection.send(length.as_bytes()).unwrap();
        assert_eq!(connection.response().unwrap().text(), "hello", "{host}");
        let chunked = format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.send(chunked.as_bytes()).unwrap();
        connection.send(b"4\r\nwiki\r\n").unwrap();
        connection.send(b"6\r\npedia \r\n0\r\n\r\n").unwrap();
        assert_eq!(connection.response().unwrap().text(), "wikipedia ", "{host}");

        // Many, since the moment in which a connection becomes a tunnel is short.
        for round in 0..WEBSOCKETS {
            let mut socket = WebSocket::open(node.http, host, "/ws").unwrap();
            for text in ["one", &"long ".repeat(1000)] {
                let back = socket
                    .echo(text)
                    .unwrap_or_else(|error| panic!("{host}, WebSocket {round}: {error}"));
                assert_eq!(back, text, "{host}");
            }
            socket.close().unwrap();
        }
    }
    node.stop();
}

#[test]
fn an_event_of_a_stream_arrives_before_the_next_one_is_written() {
    let node = Node::start();
    for app in [
        AppFolder::rust("crab"),
        AppFolder::python("snake"),
        AppFolder::node("tortoise"),
    ] {
        node.deploy_at(&app, &app.name);
        let mut connection = Connection::open(node.http).unwrap();
        let path = format!("/sse?n=2&gap_ms={GAP_MS}");
        connection
            .request("GET", &app.name, &path, "Accept: text/event-stream\r\n")
            .unwrap();
        let head = connection.head().unwrap();
        assert_eq!(head.status, 200);
        let (mut text, mut delay) = (String::new(), None);
        connection
            .body(&head, |piece| {
                text.push_str(&String::from_utf8_lossy(piece));
                delay = text.split_once("\n\n").map(|(event, _)| {
                    let event: Value =
                        serde_json::from_str(event.trim_start_matches("data: ")).expect("an event is JSON");
                    monotonic_ns() - event["at_ns"].as_u64().expect("an event has its time")
                });
                delay.is_none()
            })
            .unwrap();
        let delay = delay.unwrap_or_else(|| panic!("{}: no event in {text:?}", app.name));
        println!("{}: {delay} ns", app.name);
        assert!(delay < GAP_MS * 1_000_000, "{}: {delay} ns", app.name);
    }
    node.stop();
}

#[test]
fn a_response_of_500_mb_streams_without_filling_the_proxy() {
    const BYTES: u64 = 500_000_000;
    let node = Node::start();
    let app = AppFolder::rust("crab");
    node.deploy_at(&app, "big.example.com");
    node.get("big.example.com", "/big?bytes=1000000");
    let proxy = node.proxy_pid();
    let before = process::resident(proxy);
    let mut connection = Connection::open(node.http).unwrap();
    connection
        .request("GET", "big.example.com", &format!("/big?bytes={BYTES}"), "")
        .unwrap();
    let head = connection.head().unwrap();
    let (mut received, mut peak) = (0u64, before);
    connection
        .body(&head, |piece| {
            let megabytes = received >> 24;
            received += piece.len() as u64;
            if received >> 24 != megabytes {
                peak = peak.max(process::resident(proxy));
            }
            true
        })
        .unwrap();
    assert_eq!(received, BYTES);
    assert!(
        peak - before < MEMORY_GROWTH,
        "the proxy grew from {before} to {peak} bytes"
    );
    node.stop();
}

#[test]
fn a_client_that_does_not_read_does_not_fill_the_proxy() {
    let node = Node::start();
    let app = AppFolder::rust("crab");
    node.deploy_at(&app, "big.example.com");
    let proxy = node.proxy_pid();
    let before = process::resident(proxy);
    let mut connections = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(node.http).unwrap();
        connection
            .request("GET", "big.example.com", "/big?bytes=100000000", "")
            .unwrap();
        assert_eq!(connection.head().unwrap().status, 200);
        connections.push(connection);
    }
    // Others are served all the while, which also gives the four streams the time to fill what they can.
    let mut peak = before;
    for _ in 0..200 {
        assert_eq!(node.get("big.example.com", "/sleep?ms=2").status, 200);
        peak = peak.max(process::resident(proxy));
    }
    assert!(
        peak - before < MEMORY_GROWTH,
        "the proxy grew from {before} to {peak} bytes"
    );
    drop(connections);
    node.stop();
}
