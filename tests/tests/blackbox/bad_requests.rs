//! Requests that no well-behaved client sends: answered with a status or cut, in bounded time, and nobody else notices.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use miren_bench::load::{Load, Options};
use miren_blackbox::http::{self, Connection};
use miren_blackbox::{AppFolder, Node, process, wait_until};

const HOST: &str = "steady.example.com";

/// Sends bytes and returns the status; 0 when the connection was closed without an answer.
fn status(address: SocketAddr, bytes: &str) -> u16 {
    match http::raw(address, bytes.as_bytes()) {
        Ok(response) => response.status,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("neither answered nor closed: {error}")
        }
        Err(_) => 0,
    }
}

#[test]
fn malformed_requests_get_a_clear_status_while_others_are_served() {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("steady").fixed(1), HOST);
    node.unset_default();
    let mut options = Options::get(&format!("http://{}/info", node.http), 100.0).unwrap();
    options.host = Some(HOST.to_owned());
    let load = Load::start(options).unwrap();

    let at = node.http;
    assert_eq!(status(at, "GET / HTTP/1.1\r\n\r\n"), 400, "without Host");
    assert_eq!(
        status(at, &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: {HOST}\r\n\r\n")),
        400,
        "two Hosts"
    );
    assert_eq!(
        status(at, &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: other\r\n\r\n")),
        400,
        "two other Hosts"
    );
    assert_eq!(
        status(at, &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nno colon\r\n\r\n")),
        400,
        "not a header"
    );
    assert_eq!(
        status(at, "GET / HTTP/1.1\r\nHost: not a host\r\n\r\n"),
        400,
        "not a host"
    );
    let both = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1, 2\r\n\r\nxx");
    assert!([400, 0].contains(&status(at, &both)), "two lengths");
    assert_eq!(
        status(at, "GET / HTTP/1.1\r\nHost: nobody.example.com\r\n\r\n"),
        404,
        "no such host"
    );
    too_many_headers(at);
    half_a_request(at);

    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{report}");
    node.stop();
}

/// Two megabytes of headers: refused long before they are read whole.
fn too_many_headers(address: SocketAddr) {
    let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", line.repeat(2000));
    let status = status(address, &request);
    assert!(
        [400, 413, 431, 0].contains(&status),
        "2 MB of headers were answered with {status}"
    );
    let one = format!(
        "GET /info HTTP/1.1\r\nHost: {HOST}\r\nX-Filler: {}\r\n\r\n",
        "x".repeat(2_000_000)
    );
    let status = self::status(address, &one);
    assert!(
        [400, 413, 431, 0].contains(&status),
        "one header of 2 MB was answered with {status}"
    );
}

/// Half a head: the connection ends when the time for heads (10 s by default) is up, answered or not.
fn half_a_request(address: SocketAddr) {
    let mut connection = Connection::open(address).unwrap();
    connection
        .send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Half").as_bytes())
        .unwrap();
    // A reset ends it as well as a close does; a timeout of the client's would not.
    let ended = connection
        .rest()
        .map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
    assert!(ended, "half a request is held for longer than {:?}", http::PATIENCE);
}

#[test]
fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("steady").fixed(1), HOST);
    let proxy = node.proxy_pid();
    let descriptors = || process::descriptors(proxy);
    let before = descriptors();
    // Who only closes is found out by the first answer that is sent to it; before one there is only the reset.
    for (path, resets) in [
        ("/sleep?ms=60000", true),
        ("/sse?n=1000&gap_ms=50", false),
        ("/big?bytes=100000000", false),
    ] {
        for _ in 0..20 {
            let mut connection = Connection::open(node.http).unwrap();
            connection.request("GET", HOST, path, "").unwrap();
            if resets {
                connection.reset().unwrap();
            }
        }
    }
    assert_eq!(node.get(HOST, "/info").status, 200);
    // Each left one connection to the client and one to the app; a few stay for reuse.
    wait_until(
        "the proxy to close what its clients left",
        Duration::from_secs(30),
        || {
            let now = descriptors();
            if now <= before + 20 {
                Ok(())
            } else {
                Err(format!("{now} descriptors after {before}"))
            }
        },
    );
    node.stop();
}
