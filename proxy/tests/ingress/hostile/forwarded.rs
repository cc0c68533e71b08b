//! Who a request comes from is what the proxy says: what a stranger says about that does not reach the app.

use super::BOUNDED;
use crate::client::ask;
use crate::raw::{RawApp, Request};
use crate::stage::{HOST, Stage};

/// What a stranger pretends; nothing else in a request has it.
const LIE: &str = "6.6.6.6";

/// Headers in which servers and frameworks look for the address of a client, or for what it asked for.
const CLAIMS: [&str; 46] = [
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Ssl",
    "X-Forwarded-By",
    "X-Forwarded-Path",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Forwarded",
    "Forwarded-For",
    "Forwarded",
    "X-Real-IP",
    "X-Real-Ip",
    "X-REAL-IP",
    "x-real-ip",
    "True-Client-IP",
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "X-Client-IP",
    "Client-IP",
    "X-Cluster-Client-IP",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "X-Originating-IP",
    "X-Remote-IP",
    "X-Remote-Addr",
    "X-ProxyUser-Ip",
    "WL-Proxy-Client-IP",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Original-Forwarded-For",
    "X-Request-Id",
    "Proxy",
    "proxy",
    "PROXY",
    // A server that makes variables of headers takes these for the ones with a dash.
    "X_Forwarded_For",
    "X_Real_IP",
    "X_Forwarded-For",
    "x_request_id",
    "HTTP_PROXY",
    "Content_Length",
    "_",
];

/// What the app was sent.
async fn sent(stage: &Stage, app: &RawApp, lines: &str) -> Request {
    let request = format!("GET /case HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n");
    let answer = ask(stage.address(), &request).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "/case"), "{lines}");
    app.seen().pop().expect("the app was asked")
}

async fn stage(settings: &str) -> (Stage, RawApp) {
    let stage = Stage::new(&format!("{BOUNDED}\n{settings}")).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 100);
    (stage, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_what_strangers_say_about_clients_does_not_reach_the_app() {
    let (stage, app) = stage("").await;
    let mut passed = Vec::new();
    for name in CLAIMS {
        for lines in [
            format!("{name}: {LIE}\r\n"),
            format!("{name}: 1\r\n{name}: {LIE}\r\n"),
            format!("{}:{LIE}\r\n", name.to_ascii_lowercase()),
        ] {
            let request = sent(&stage, &app, &lines).await;
            if request.head.contains(LIE) {
                passed.push(lines);
            }
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
    let request = sent(&stage, &app, "").await;
    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.all("x-forwarded-host"), [HOST]);
    assert_eq!(request.all("x-request-id").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_trusted_peers_may_say_who_the_client_is_but_name_no_proxy() {
    let (stage, app) = stage("trust.proxies = [\"127.0.0.0/8\"]").await;
    let mut lost = Vec::new();
    for name in CLAIMS {
        let request = sent(&stage, &app, &format!("{name}: {LIE}\r\n")).await;
        let is_told = request.head.contains(LIE);
        // `Proxy` becomes HTTP_PROXY in a CGI, and is the client's to set nowhere; a length is framing.
        let is_never = ["proxy", "http_proxy", "content_length"].contains(&name.to_ascii_lowercase().as_str());
        if !is_never && !is_told || name.eq_ignore_ascii_case("proxy") && is_told {
            lost.push((name, request.head));
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

/// Only what is about clients and connections is touched.
#[tokio::test(flavor = "multi_thread")]
async fn f17_other_headers_reach_the_app_as_they_are() {
    let (stage, app) = stage("").await;
    for (name, value) in [
        ("Accept", "*/*"),
        ("Authorization", "Basic YTpi"),
        ("Cookie", "a=1; b=\"2\"; c=3=4"),
        ("User-Agent", "curl/8 (\u{e9})"),
        ("X-Custom", "a, b,  c"),
        ("X-Forward", "1"),
        ("Forward-For", "1"),
        ("X-Proxy", "1"),
        ("X-Ip", "1"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", "W/\"1\""),
        ("Via", "1.1 somebody"),
        ("X-Empty", ""),
        ("Content-Type", "text/plain"),
    ] {
        let request = sent(&stage, &app, &format!("{name}: {value}\r\n")).await;
        assert_eq!(request.all(name), [value], "{}", request.head);
    }
    let request = sent(&stage, &app, "X-Twice: 1\r\nX-Other: 2\r\nX-Twice: 3\r\n").await;
    assert_eq!(request.all("x-twice"), ["1", "3"], "{}", request.head);
}
