//! Clients that are unusual, and right or nearly so, before an app in a sandbox that tells what it was asked: it gets what was sent,
//! and they get what it said.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use miren_blackbox::http::{Connection, Response};
use miren_blackbox::{AppFolder, Node, wait_until};

pub const HOST: &str = "mirror.example.com";

/// A node before an app that answers with the request as it came, head and body.
#[track_caller]
pub fn mirror() -> Node {
    let node = Node::start();
    let app = AppFolder::empty("mirror").command("python3 mirror.py").fixed(1);
    fs::write(app.path().join("mirror.py"), include_str!("mirror.py")).expect("writing the server");
    node.deploy_at(&app, HOST);
    node
}

/// A connection on which these bytes were sent.
#[track_caller]
pub fn after(address: SocketAddr, bytes: &[u8]) -> Connection {
    let mut connection = Connection::open(address).expect("a connection");
    connection.send(bytes).expect("a request can be sent");
    connection
}

/// The answer to these bytes.
#[track_caller]
fn exchange(address: SocketAddr, bytes: &[u8]) -> Response {
    let shown = bytes.escape_ascii();
    let answer = after(address, bytes).response();
    answer.unwrap_or_else(|error| panic!("{shown}: {error}"))
}

fn get(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n")
}

#[test]
fn g8_what_clients_and_bots_write_in_targets_reaches_the_app_byte_for_byte() {
    let node = mirror();
    let targets: [&[u8]; 10] = [
        b"/?f={\"a\":1}",
        b"/<b>`x`</b>",
        b"/a|b^c\\d[]",
        b"//other.example.net/../x",
        b"/%zz%00%2F",
        b"/a#fragment",
        "/caf\u{e9}?q=\u{2603}".as_bytes(),
        b"/\x80\xff",
        b"/?",
        b"/?a=b?c=d&&;",
    ];
    for target in targets {
        let sent = [b"GET ", target, b" HTTP/1.1\r\nHost: ", HOST.as_bytes(), b"\r\n\r\n"].concat();
        let answer = exchange(node.http, &sent);
        let line = [b"GET ", target, b" HTTP/1.1\r\n"].concat();
        let arrived = answer.body.starts_with(&line);
        assert!(
            answer.status == 200 && arrived,
            "{}: {}",
            target.escape_ascii(),
            answer.text()
        );
    }
    for target in ["/a b", "/a\tb", "/a\u{1}", "/a\u{7f}"] {
        let answer = exchange(node.http, get(target, "").as_bytes());
        assert_eq!((answer.status, answer.code()), (400, "bad_request"), "{target:?}");
    }
    node.stop();
}

/// Uses one connection for as long as its server lets it, as programs do that know nothing of this one.
const HTTP_CLIENT: &str = r#"
import http.client, sys
port, host = int(sys.argv[1]), sys.argv[2]
client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
made = 0
connect = client.connect
def counted():
    global made
    made += 1
    connect()
client.connect = counted
for number in range(50):
    for method, path, body, chunked in [
        ("GET", "/length", None, False),
        ("GET", "/chunked", None, False),
        ("HEAD", "/chunked", None, False),
        ("GET", "/end", None, False),
        ("POST", "/chunked", [b"one", b"two"], True),
        ("PUT", "/length", b"x" * 200000, False),
    ]:
        client.request(method, path, body, {"Host": host}, encode_chunked=chunked)
        answer = client.getresponse()
        told = answer.read()
        whole = b"".join(body) if chunked else body or b""
        begins = ("%s %s HTTP/1.1\r\n" % (method, path)).encode()
        right = not told if method == "HEAD" else told.startswith(begins) and told.endswith(b"\r\n\r\n" + whole)
        assert answer.status == 200 and right, (number, method, path, answer.status, told[:500])
assert made == 1, "%d connections were made" % made
"#;

#[test]
fn g9_http_client_of_python_is_answered_on_one_connection_whatever_its_app_ends_with() {
    let node = mirror();
    let mut command = Command::new("python3");
    command.args(["-c", HTTP_CLIENT, &node.http.port().to_string(), HOST]);
    let output = command.output().expect("starting python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    node.stop();
}

#[test]
fn g9_clients_of_http_1_0_get_no_chunks_no_interim_answers_and_an_end() {
    let node = mirror();
    for path in ["/length", "/chunked", "/end", "/early"] {
        let sent = format!("GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n");
        let mut client = after(node.http, sent.as_bytes());
        let head = client.head().expect("an answer");
        assert_eq!((head.status, head.header("transfer-encoding")), (200, None), "{path}");
        let told = client.rest().expect("an end");
        let told = String::from_utf8_lossy(&told);
        let whole = told.starts_with(&format!("GET {path} HTTP/1.1\r\n")) && told.ends_with("\r\n\r\n");
        assert!(whole, "{path}: {told}");
    }
    for (path, kept) in [("/length", true), ("/early", true), ("/chunked", false)] {
        let url = format!("http://{}{path}", node.http);
        let host = format!("Host: {HOST}");
        let mut command = Command::new("ab");
        command.args(["-k", "-q", "-n", "200", "-c", "4", "-H", &host, &url]);
        let output = command.output().expect("ab is of the package apache2-utils");
        let told = String::from_utf8_lossy(&output.stdout);
        let figure = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let counted = ["Complete requests:", "Failed requests:", "Non-2xx responses:"].map(figure);
        assert_eq!(counted, [Some("200"), Some("0"), None], "{path}: {told}");
        let keeps = figure("Keep-Alive requests:") == Some("200");
        assert_eq!(keeps, kept, "{path}: {told}");
    }
    node.stop();
}

#[test]
fn g10_a_target_in_absolute_form_says_whom_it_is_for_and_the_app_gets_its_path() {
    let node = mirror();
    // What is not for this host leads nowhere.
    node.unset_default();
    for (line, host, arrives) in [
        (format!("GET http://{HOST}/x?y HTTP/1.1"), HOST, "GET /x?y HTTP/1.1"),
        (format!("GET HTTP://{HOST}:80/x HTTP/1.1"), HOST, "GET /x HTTP/1.1"),
        (
            format!("GET http://{HOST}/x HTTP/1.1"),
            "other.example.net",
            "GET /x HTTP/1.1",
        ),
        (
            format!("GET http://{HOST}?y HTTP/1.0"),
            "other.example.net",
            "GET /?y HTTP/1.1",
        ),
        (format!("OPTIONS http://{HOST} HTTP/1.1"), HOST, "OPTIONS * HTTP/1.1"),
        (
            "GET /x HTTP/1.1".to_owned(),
            "MIRROR.example.com:8080",
            "GET /x HTTP/1.1",
        ),
    ] {
        let answer = exchange(node.http, format!("{line}\r\nHost: {host}\r\n\r\n").as_bytes());
        let told = answer.text();
        assert_eq!((answer.status, told.lines().next()), (200, Some(arrives)), "{line}");
        let told_host = told.lines().find_map(|line| line.strip_prefix("Host: "));
        let for_us = told_host.is_some_and(|host| host.to_ascii_lowercase().starts_with(HOST));
        assert!(for_us, "{line}: {told}");
    }
    let astray = exchange(node.http, get("http://other.example.net/x", "").as_bytes());
    assert_eq!((astray.status, astray.code()), (404, "no_route"), "the target wins");
    for target in [
        "https://mirror.example.com/",
        "http://a@mirror.example.com/",
        "http:///x",
        "http://a:99999/",
    ] {
        assert_eq!(exchange(node.http, get(target, "").as_bytes()).status, 400, "{target}");
    }
    node.stop();
}

#[test]
fn g11_whoever_has_sent_all_it_will_is_answered_also_when_its_app_thinks() {
    let node = mirror();
    let posted = format!("POST /b HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    for (sent, ends) in [(get("/a", ""), "\r\n\r\n"), (posted, "\r\n\r\nbody")] {
        let mut client = after(node.http, sent.as_bytes());
        client.finish().expect("its side can be ended");
        let answer = client.response().expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(answer.text().ends_with(ends), "{}", answer.text());
        assert_eq!(client.rest().expect("an end"), b"");
    }
    let mut client = after(node.http, get("/think", "").as_bytes());
    wait_until("the app to think", Duration::from_secs(60), || {
        let asked = node.get(HOST, "/asked").text();
        if asked.lines().any(|line| line == "/think") {
            Ok(())
        } else {
            Err(asked)
        }
    });
    client.finish().expect("its side can be ended");
    assert_eq!(node.get(HOST, "/go").status, 200);
    let answer = client.response().expect("an answer");
    assert!(
        answer.status == 200 && answer.text().starts_with("GET /think "),
        "{}",
        answer.text()
    );
    node.stop();
}

#[test]
fn g12_requests_sent_at_once_are_answered_in_order_and_none_after_the_last() {
    let node = mirror();
    let posted = format!("POST /2 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    let chunks =
        format!("PUT /chunked HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
    let all = [
        get("/1", "Connection: keep-alive\r\n"),
        posted,
        chunks,
        get("/end", ""),
        get("/5", ""),
    ]
    .concat();
    let lines = ["GET /1 ", "POST /2 ", "PUT /chunked ", "GET /end ", "GET /5 "];
    let mut client = after(node.http, all.as_bytes());
    for line in lines {
        let answer = client.response().unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(
            answer.status == 200 && answer.text().starts_with(line),
            "{line}: {}",
            answer.text()
        );
    }
    let last = [get("/6", "Connection: close\r\n"), get("/7", "")].concat();
    client.send(last.as_bytes()).expect("the connection goes on");
    let answer = client.response().expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(client.rest().expect("an end"), b"", "nothing is answered after it");
    assert!(!node.get(HOST, "/asked").text().contains("/7"));
    node.stop();
}

#[test]
fn g13_an_answer_has_one_length_or_is_none() {
    let node = mirror();
    for path in ["/twice", "/identity"] {
        let answer = exchange(node.http, get(path, "").as_bytes());
        let lengths = answer.headers.iter().filter(|(name, _)| name == "content-length");
        assert_eq!((answer.status, lengths.count()), (200, 1), "{path}");
        assert_eq!(answer.header("transfer-encoding"), None, "{path}");
        assert!(answer.text().starts_with(&format!("GET {path} ")), "{}", answer.text());
    }
    let answer = exchange(node.http, get("/differ", "").as_bytes());
    assert_eq!((answer.status, answer.code()), (502, "upstream_invalid"));
    assert_eq!(node.get(HOST, "/length").status, 200);
    node.stop();
}
